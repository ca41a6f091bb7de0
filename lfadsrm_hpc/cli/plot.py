"""`lfadsrm plot`: a figure of a run, or of many, as a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lfadsrm_hpc.cli.common import (
    Written,
    find_one_run,
    is_place,
    json_option,
    open_collection,
    print_json,
    select_runs,
    selection_options,
    where_of,
)
from lfadsrm_hpc.cli.completing import complete_runs_and_places, complete_swept
from lfadsrm_hpc.cli.figure_names import figure_name
from lfadsrm_hpc.collection.labels import params_label, varying_names
from lfadsrm_hpc.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    from lfadsrm_hpc.api import Run, RunCollection

SUFFIXES = (".png", ".pdf", ".svg")
_MOST_LISTED = 20


@dataclass(frozen=True)
class Kind:
    """A kind of figure.

    Attributes
    ----------
    about : str
        One line of help.
    method : str
        Of `Run`, or of `RunCollection` where the figure is of many runs.
    takes : dict of str to str
        Which options it heeds, and the arguments that they become.
    of_many : bool
        Whether it is of the runs of a collection together.
    defaults : dict
        Arguments where the options are not given.
    """

    about: str
    method: str
    takes: Mapping[str, str] = field(default_factory=dict)
    of_many: bool = False
    defaults: Mapping[str, Any] = field(default_factory=dict)


_DATASET = {"dataset": "dataset", "condition": "conditions"}
_DATASETS = {"dataset": "datasets", "condition": "conditions"}
KINDS = {
    "single-trials": Kind(
        "the rate of one neuron in every trial, and means by condition",
        "plot_single_trial_rates",
        {**_DATASET, "neuron": "neuron"},
    ),
    "averages": Kind(
        "mean rates by condition, with standard errors",
        "plot_average_rates",
        {**_DATASET, "neuron": "neurons"},
    ),
    "raster": Kind(
        "spikes of one neuron in all trials, or of one trial (--trial)",
        "plot_raster",
        {**_DATASET, "neuron": "neuron", "trial": "trial"},
    ),
    "factors": Kind("factors over time", "plot_factors", {**_DATASET, "factor": "factors"}),
    "factors-3d": Kind("factors as paths in space", "plot_factors_3d", _DATASET, defaults={"legend": True}),
    "inputs": Kind("inferred inputs: every trial, and means by condition", "plot_inferred_inputs", _DATASET),
    "components": Kind("all sessions in one space, by their factors", "plot_session_components", _DATASETS),
    "alignment": Kind("all sessions in one space, by their read-ins", "plot_session_alignment", _DATASETS),
    "generator": Kind("recurrent weights of the generator", "plot_generator_weights"),
    "readout": Kind("weights of the read-outs", "plot_readout_weights", {"dataset": "datasets"}),
    "eigenvalues": Kind(
        "how the generator decays and turns at its fixed point",
        "plot_generator_eigenvalues",
        {"dataset": "dataset"},
    ),
    "learning-curves": Kind("costs by epoch, of one run or of many", "plot_learning_curves", of_many=True),
    "sweep": Kind(
        "a metric against one or two hyperparameters, with the spread over seeds",
        "plot_sweep",
        {"metric": "metric", "over": "over"},
        of_many=True,
    ),
}
# options that may be given several times, where a figure can show several
_LISTS = {"conditions", "datasets", "neurons", "factors", "over"}


_HELP = """Draw a figure of RUN, or of the runs of WHERE, into a file; print where it is.

RUN is an id, a run spec, a part of an id that no other run has, or the folder of a run; WHERE is a run
collection or an experiment. A figure of one run can also be asked of a WHERE in which one run fits.

What is drawn, and how else to draw it, is told in docs/plots.md. Without --out the file goes into the folder
`figures` of the collection, under a name that says what is drawn; the same figure drawn again replaces it.

\b
Kinds:
{kinds}

\b
Examples:
  lfadsrm plot single_day1 factors
  lfadsrm plot all averages --dataset day1 --neuron 3 --neuron 7 --out rates.pdf
  lfadsrm plot single_day1 raster --trial 12 --match factors_dim=8
  lfadsrm plot my_experiment learning-curves --spec all
  lfadsrm plot my_experiment sweep --metric co_bps --over factors_dim --over seed

\b
Exit codes: 0 drawn; 1 the run, or every run, is not complete; 2 there is no such run, neuron,
condition, ...; 3 the run has nothing of that kind (no controller, no read-in, one factor)."""


def _help() -> str:
    width = max(map(len, KINDS))
    return _HELP.format(kinds="\n".join(f"  {name:<{width}}  {kind.about}" for name, kind in KINDS.items()))


@click.command(help=_help())
@click.argument("what", metavar="RUN|WHERE", shell_complete=complete_runs_and_places)
@click.argument("kind", type=click.Choice(list(KINDS)), metavar="KIND")
@click.option(
    "-o",
    "--out",
    type=Written(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="The file: .png, .pdf or .svg.",
)
@click.option(
    "-C",
    "--collection",
    "where",
    envvar="LFADSRM_COLLECTION",
    type=click.Path(path_type=Path),
    metavar="WHERE",
    help="Where RUN is; otherwise in the collection found from here upwards.",
)
@selection_options
@click.option(
    "--dataset", multiple=True, metavar="NAME", help="Which dataset; may be repeated where all go together."
)
@click.option("--condition", multiple=True, metavar="NAME", help="Only this condition; may be repeated.")
@click.option(
    "--neuron", multiple=True, type=int, metavar="N", help="Which neuron, from 0; averages take several."
)
@click.option("--trial", multiple=True, type=int, metavar="N", help="Which trial, from 0.")
@click.option("--factor", multiple=True, type=int, metavar="N", help="Which factor, from 0; may be repeated.")
@click.option(
    "--metric", multiple=True, metavar="NAME", help="What a sweep is judged by (default: lowest_valid_cost)."
)
@click.option(
    "--over",
    multiple=True,
    metavar="NAME",
    shell_complete=complete_swept,
    help="A swept hyperparameter; one or two.",
)
@click.option(
    "--style",
    type=click.Choice(["light", "dark", "transparent"]),
    default="light",
    show_default=True,
    help="The ground; transparent suits white and black pages.",
)
@click.option("--dpi", type=click.IntRange(20, 1200), default=150, show_default=True, help="Dots per inch.")
@json_option
def plot(
    what: str,
    kind: str,
    out: Path | None,
    where: Path | None,
    spec: tuple[str, ...],
    match: tuple[str, ...],
    style: str,
    dpi: int,
    as_json: bool,
    **given: tuple[Any, ...],
) -> None:
    chosen = KINDS[kind]
    collection, runs = _runs(what, where, spec, match)
    arguments = {**chosen.defaults, **_arguments(kind, given)}
    if out is not None and out.suffix.lower() not in SUFFIXES:
        raise UsageError(f"{str(out)!r} is no kind of picture", hint=f"end it in {', '.join(SUFFIXES)}")
    if not chosen.of_many:
        runs = [_only(runs, kind)]
    if out is None:
        out = collection.layout.figure(_name(kind, runs, spec, match, given, style))
    if chosen.of_many:
        _draw(getattr(collection, chosen.method), {**arguments, "runs": runs}, out, style, dpi)
    else:
        _draw(getattr(runs[0], chosen.method), arguments, out, style, dpi)
    if as_json:
        print_json({"figure": str(out), "kind": kind, "runs": [run.id for run in runs]})
    else:
        click.echo(out)


def _runs(
    what: str, where: Path | None, spec: tuple[str, ...], match: tuple[str, ...]
) -> tuple[RunCollection, list[Run]]:
    """Return the collection, and the runs that are meant: one that is named, or those of a place."""
    path = Path(what)
    if where is None:
        where = where_of(what, None)
        if where is None and is_place(path):
            collection = open_collection(path)
            return collection, select_runs(collection, spec, match)
    if spec:
        raise UsageError(
            "--spec selects runs of WHERE, and a run is named already",
            hint="leave --spec out, or name no run",
        )
    collection = open_collection(where)
    return collection, [find_one_run(collection, what, match)]


def _only(runs: list[Run], kind: str) -> Run:
    if len(runs) == 1:
        return runs[0]
    varying = varying_names(run.params for run in runs)
    shown = [f"{run.id}  {params_label(run.params, varying)}" for run in runs[:_MOST_LISTED]]
    rest = [f"and {len(runs) - _MOST_LISTED} more"] if len(runs) > _MOST_LISTED else []
    raise NotFoundError(
        f"{kind} is a figure of one run, and {len(runs)} fit",
        hint="\n    ".join(["name one of them, or add --spec or --match", *shown, *rest]),
    )


def _arguments(kind: str, given: Mapping[str, tuple[Any, ...]]) -> dict[str, Any]:
    """Return the arguments of the method that draws, from the options that were given."""
    takes, found = KINDS[kind].takes, {}
    for option, values in given.items():
        if not values:
            continue
        if option not in takes:
            known = ", ".join(f"--{name}" for name in takes) or "none of these"
            raise UsageError(f"--{option} says nothing about {kind}", hint=f"it heeds {known}")
        name = takes[option]
        if name not in _LISTS and len(values) > 1:
            raise UsageError(
                f"{kind} shows one {option}, and {len(values)} are named",
                hint="name one, or draw them one after the other",
            )
        found[name] = list(values) if name in _LISTS else values[0]
    if kind == "raster":
        if "trial" in found and {"neuron", "conditions"} & found.keys():
            raise UsageError(
                "--trial shows all neurons of one trial: give neither --neuron nor --condition",
                hint="leave out --trial, or the others",
            )
        if "trial" not in found:
            found.setdefault("neuron", 0)
    return found


def _name(
    kind: str,
    runs: Sequence[Run],
    spec: tuple[str, ...],
    match: tuple[str, ...],
    given: Mapping[str, tuple[Any, ...]],
    style: str,
) -> str:
    """Return the name of the file where none is given; see `figure_name`."""
    shown: dict[str, Sequence[Any]] = dict(given)
    if KINDS[kind].takes.get("neuron") == "neuron" and not given["neuron"] and not given["trial"]:
        shown["neuron"] = (0,)  # as the methods have it
    if len(runs) == 1:
        return figure_name(kind, runs[0].id, shown, style=style)
    return figure_name(kind, None, {"spec": spec, "match": match, **shown}, style=style)


def _draw(method: Any, arguments: Mapping[str, Any], path: Path, style: str, dpi: int) -> None:
    import numpy as np

    from lfadsrm_hpc.beside import appearing
    from lfadsrm_hpc.results import plots

    with plots.style(style):  # type: ignore[arg-type] # one of its choices
        axes = np.ravel(np.array(method(**arguments), dtype=object))
        with appearing(path) as beside:
            axes[0].figure.savefig(beside, dpi=dpi, format=path.suffix[1:].lower() or "png")
