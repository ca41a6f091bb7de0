"""Options that the commands for clusters share: which runs, which site, what a task needs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import click

from lfadsrm_hpc.cli.completing import complete_sites, complete_states
from lfadsrm_hpc.errors import ConfigError, UsageError, suggest
from lfadsrm_hpc.manifest.states import RunState

if TYPE_CHECKING:
    from lfadsrm_hpc.cli.common import Place
    from lfadsrm_hpc.collection.experiment import Experiment

F = TypeVar("F", bound=Callable[..., Any])

_FLAGS = {
    "new": frozenset({RunState.PREPARED}),
    "failed": frozenset({RunState.FAILED}),
    "timeout": frozenset({RunState.TIMEOUT, RunState.PREEMPTED}),
    "lost": frozenset({RunState.LOST, RunState.NODE_FAIL}),
}
_NEEDS = ("walltime", "partition", "memory", "cpus", "gpus", "gpu_type")


def _all(*options: Callable[[F], F]) -> Callable[[F], F]:
    def add(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return add


state_option = click.option(
    "--state",
    "state_words",
    multiple=True,
    metavar="STATE",
    shell_complete=complete_states,
    help="Only runs in this state; may be repeated.",
)


def state_options(command: F) -> F:
    """Add the options that choose runs by what they are at."""
    return _all(
        state_option,
        click.option("--new", is_flag=True, help="Runs that were never tried (PREPARED)."),
        click.option("--failed", is_flag=True, help="Runs that failed by themselves (FAILED)."),
        click.option("--timeout", is_flag=True, help="Runs out of time or preempted (TIMEOUT, PREEMPTED)."),
        click.option("--lost", is_flag=True, help="Runs whose node or job was lost (LOST, NODE_FAIL)."),
    )(command)


def request_options(command: F) -> F:
    """Add the options that say where runs go and what a task needs."""
    return _all(
        click.option(
            "--site",
            metavar="NAME",
            shell_complete=complete_sites,
            help="The site; otherwise LFADSRM_SITE, or the one we are on.",
        ),
        click.option("--walltime", metavar="TIME", help="Of one task: 4:00:00, 90m."),
        click.option("--partition", metavar="NAME", help="Partition or queue, as the site describes it."),
        click.option("--memory", metavar="SIZE", help="Main memory of one task: 16G."),
        click.option("--cpus", type=click.IntRange(1), help="Cores of one task."),
        click.option("--gpus", type=click.IntRange(0), help="GPUs of one task."),
        click.option("--gpu-type", metavar="TYPE", help="Kind of GPU, as the site names it."),
        click.option("--account", metavar="NAME", help="Whom to charge."),
        click.option(
            "--set", "sets", multiple=True, metavar="KEY=VALUE", help="Any key of the site; may be repeated."
        ),
        click.option(
            "--max-parallel",
            type=click.IntRange(0),
            help="At most so many tasks at once; 0: as many as the site runs.",
        ),
    )(command)


def attempts_options(command: F) -> F:
    """Add the options that say how often a run is tried."""
    return _all(
        click.option(
            "--max-attempts",
            type=click.IntRange(1),
            help="Tries of a run that fails by itself (otherwise as the site says: 3).",
        ),
        click.option(
            "--max-infrastructure-attempts",
            type=click.IntRange(1),
            help="Tries of a run that nodes or the scheduler end (otherwise as the site says: 10).",
        ),
    )(command)


def chosen_states(options: Mapping[str, Any]) -> frozenset[RunState] | None:
    """Return the states that `--state`, `--new`, `--failed`, `--timeout` and `--lost` name; None: none does.

    Raises
    ------
    UsageError
        There is no such state.
    """
    chosen = frozenset[RunState]().union(*(states for flag, states in _FLAGS.items() if options.get(flag)))
    chosen |= parse_states(options.get("state_words") or ())
    return chosen or None


def parse_states(words: Iterable[str]) -> frozenset[RunState]:
    """Return the states that words name, in capitals or not.

    Raises
    ------
    UsageError
        There is no such state.
    """
    known = [state.value for state in RunState]
    found = set()
    for word in words:
        name = word.upper().replace("-", "_")
        if name not in known:
            raise UsageError(
                f"there is no state {word!r}", hint=suggest(name, known) or f"there are: {', '.join(known)}"
            )
        found.add(RunState(name))
    return frozenset(found)


def check_cluster(experiment: Experiment) -> None:
    """Refuse what the [cluster] table of an experiment says where no site could read it.

    Raises
    ------
    ConfigError
        A time, a size of memory, or a key of a site is none; the message names file, key and line.
    """
    from lfadsrm_hpc.schedulers.sites.layers import SET, set_layers
    from lfadsrm_hpc.schedulers.units import parse_memory, parse_time

    checks: dict[str, Callable[[Any], object]] = {
        "walltime": parse_time,
        "memory": parse_memory,
        "set": set_layers,
    }
    with experiment.pointing():
        for key, check in checks.items():
            if key not in experiment.cluster:
                continue
            try:
                check(experiment.cluster[key])
            except ConfigError as error:
                inside = str(error.where or "").removeprefix(SET).strip()  # the setting and its key
                where = experiment.where("cluster", key) + (f" ({inside})" if inside else "")
                raise ConfigError(error.what, where=where, hint=error.hint) from None


def order_of(place: Place, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `RunCollection.submit` and its kin take: options over the experiment's [cluster].

    What the experiment says of a task's needs holds only where no earlier request goes before it.

    Raises
    ------
    ConfigError
        See `check_cluster`.
    UntrustedError
        It sets something of the site, and the user has not trusted that.
    """
    if place.experiment is not None:
        check_cluster(place.experiment)
        place.experiment.require_trust()
    table = dict(place.experiment.cluster) if place.experiment is not None else {}
    account = options.get("account") or table.get("account")
    sets = [*table.get("set", ()), *([f"options.account={account}"] if account else []), *options["sets"]]
    most = options["max_parallel"]
    order: dict[str, Any] = {
        "site": options["site"] or table.get("site"),
        "sets": tuple(sets),
        "max_parallel": most if most is not None else table.get("max_parallel", 0),
        "defaults": {name: table[name] for name in _NEEDS if name in table},
        **{name: options[name] for name in _NEEDS if options[name] is not None},
    }
    for name in ("max_attempts", "max_infrastructure_attempts"):
        if options.get(name) is not None:
            order[name] = options[name]
    return order
