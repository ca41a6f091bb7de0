"""`lfadsrm doctor`: is this machine ready, and what to do where it is not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lfadsrm_hpc.cli.common import find_place, json_option, print_json, where_argument
from lfadsrm_hpc.cli.terminal import terminal_width, wrapped
from lfadsrm_hpc.errors import ConfigError, NotFoundError
from lfadsrm_hpc.stopping import as_interrupt

if TYPE_CHECKING:
    from lfadsrm_hpc.doctor.checks import Result
    from lfadsrm_hpc.doctor.examining import Target

EXIT_INVALID = 3
_WIDEST, _NARROWEST = 100, 40
_WORDS = {"ok": "ok", "warning": "warning", "problem": "PROBLEM", "not applicable": "n/a"}
_COLOURS = {"ok": "green", "warning": "yellow", "problem": "red"}
_MARGIN = 9


@click.command()
@where_argument
@click.option(
    "--time-limit",
    type=click.FloatRange(min=0, min_open=True),
    default=15.0,
    show_default=True,
    metavar="SECONDS",
    help="Time limit of one call of the scheduler.",
)
@json_option
def doctor(where: Path | None, time_limit: float, as_json: bool) -> None:
    """Check this machine: Python and packages, TensorFlow and GPUs, scheduler and site, and the file system
    that WHERE is on: a run collection, an experiment, any folder, or the current one.

    Each check says what it has seen, and what to do where something is wrong. Each has a time limit: a file
    server or a scheduler that is down is a finding. Nothing is written but into a hidden folder in WHERE,
    which is removed again. Run it on a compute node too: it is another machine.

    \b
    Examples:
      lfadsrm doctor
      lfadsrm doctor ~                  the file system of another folder
      lfadsrm doctor my_experiment --json | jq '.checks[] | select(.verdict == "problem")'

    \b
    Exit codes: 0 no problem; 2 there is no such folder; 3 at least one problem; 130 interrupted.
    """
    from lfadsrm_hpc.doctor.examining import examine

    shown: list[str] = []

    def tell(result: Result) -> None:
        if not as_json:
            _show(result, new_group=result.group not in shown)
            shown.append(result.group)

    with as_interrupt():
        results = examine(tell=tell, locate=lambda: _target(where), scheduler_s=time_limit)
    counts = Counter(result.verdict.value for result in results)
    if as_json:
        print_json({"counts": dict(counts), "checks": [result.to_dict() for result in results]})
    else:
        click.echo(f"\n{_summary(counts)}")
    if counts["problem"]:
        raise SystemExit(EXIT_INVALID)


def _target(where: Path | None) -> Target:
    """Return what is examined; a folder without a collection is one for runs to come."""
    from lfadsrm_hpc.doctor.examining import Target, target_of
    from lfadsrm_hpc.schedulers.sites.loading import project_of

    try:
        place = find_place(where, prepared=False)
    except NotFoundError:
        return target_of(where)
    except ConfigError as error:
        folder = where if where is not None and where.is_dir() else (where or Path.cwd() / "x").parent
        found = target_of(folder)
        return Target(found.folder, None, found.project, error)
    collection = place.collection.absolute()
    folder = next(path for path in (collection, *collection.parents) if path.is_dir())
    return Target(folder, collection, project_of(collection))


def _show(result: Result, *, new_group: bool) -> None:
    width = min(max(terminal_width() or _WIDEST, _NARROWEST), _WIDEST)
    if new_group:
        click.echo(click.style(result.group, bold=True))
    verdict = result.verdict.value
    blank = " " * _MARGIN
    lines = wrapped(f"{result.name}: {result.evidence}", width - _MARGIN, then="  ")
    if result.fix:
        lines += wrapped(f"do: {result.fix}", width - _MARGIN, then="  ")
    mark = click.style(f"{_WORDS[verdict]:<{_MARGIN}}", fg=_COLOURS.get(verdict), dim=verdict not in _COLOURS)
    click.echo("\n".join([mark + lines[0], *(blank + line for line in lines[1:])]))


def _summary(counts: Counter[str]) -> str:
    parts: Sequence[str] = [
        f"{counts[verdict]} {verdict}" + ("s" if counts[verdict] != 1 and verdict in plural else "")
        for plural in (("problem", "warning"),)
        for verdict in ("problem", "warning", "ok", "not applicable")
        if counts[verdict]
    ]
    return ", ".join(parts)
