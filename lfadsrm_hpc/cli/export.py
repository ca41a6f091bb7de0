"""`lfadsrm export`: runs as one netCDF file, or in the layout of the Matlab run manager."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lfadsrm_hpc.api.exporting import LAYOUTS, PARTS
from lfadsrm_hpc.cli.common import (
    Written,
    collection_option,
    json_option,
    open_collection,
    print_json,
    say,
    select_runs,
    selection_options,
)
from lfadsrm_hpc.cli.matlab_collections import find_matlab_collection
from lfadsrm_hpc.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable


@click.command()
@click.argument("target", type=Written(path_type=Path))
@collection_option
@selection_options
@click.option(
    "--layout",
    type=click.Choice(LAYOUTS),
    default=LAYOUTS[0],
    show_default=True,
    help="One netCDF-4 (HDF5) file; or the directories of the Matlab run manager.",
)
@click.option("--dataset", multiple=True, metavar="NAME", help="Only this dataset; may be repeated.")
@click.option(
    "--attach",
    multiple=True,
    metavar="NAME",
    help="Beside the posterior means: spikes, truth, external_input, behaviour, all; may be repeated.",
)
@click.option(
    "--variable",
    multiple=True,
    metavar="NAME",
    help="Only this variable of the posterior means, such as rates; may be repeated.",
)
@click.option("--split", type=click.Choice(["train", "valid"]), help="Only these trials.")
@click.option(
    "--part", multiple=True, type=click.Choice(PARTS), help="Only this part of a run; may be repeated."
)
@click.option(
    "--bin-ms",
    type=float,
    metavar="MS",
    help="Width of the bins of a collection of the Matlab run manager that does not tell it.",
)
@click.option("--overwrite", is_flag=True, help="Replace the file, or an earlier export of this name.")
@json_option
def export(
    target: Path,
    where: Path | None,
    spec: tuple[str, ...],
    match: tuple[str, ...],
    layout: str,
    dataset: tuple[str, ...],
    attach: tuple[str, ...],
    variable: tuple[str, ...],
    split: str | None,
    part: tuple[str, ...],
    bin_ms: float | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Write the results of complete runs to TARGET, for other programs and other people.

    TARGET is one netCDF-4 file, which is HDF5: `/posterior_means/<run id>/<dataset>/rates` and so on,
    `/fit_log/<run id>`, `/model_params/<run id>`. Python opens it by xr.open_datatree, Matlab by h5read. With
    --layout run-manager it is a folder in the layout of the Matlab run manager, which goes on with it; what
    that cannot hold is told. WHERE may also be a collection that the Matlab run manager made.

    \b
    Examples:
      lfadsrm export results.nc
      lfadsrm export rates.nc -C runs/example --spec all --variable rates --attach spikes
      lfadsrm export ~/matlab/runs/example --layout run-manager --match factors_dim=8
      lfadsrm export old.nc -C ~/matlab/runs/of_2018

    \b
    Exit codes: 0 written; 1 no run is complete, files are damaged, or the disk is full;
    2 TARGET is there already, or there is no such collection, run spec, dataset, variable.
    """
    collection: Any = _open(where, bin_ms)
    runs = select_runs(collection, spec, match)
    path = collection.export(
        target,
        runs,
        skip_incomplete=True,
        layout=layout,
        dataset=dataset or None,
        attach=attach,
        variables=variable or None,
        split=split,
        parts=part or PARTS,
        overwrite=overwrite,
        on_run=_told(),
    )
    done = [run.id for run in collection.complete_runs(runs)]
    others = [run.id for run in runs if run.id not in done]
    if others:
        say(f"not complete, and left out: {len(others)} of {len(runs)} runs")
    if as_json:
        print_json({"path": str(path), "layout": layout, "runs": done, "not_complete": others})
    else:
        click.echo(path)


def _open(where: Path | None, bin_ms: float | None) -> Any:
    found = find_matlab_collection(where, bin_ms)
    if found is not None:
        return found
    if bin_ms is not None:
        raise UsageError(
            "--bin-ms is for collections of the Matlab run manager: ours tell it themselves",
            hint="leave --bin-ms out",
        )
    return open_collection(where)


def _told() -> Callable[[int, int, str], None]:
    """Return what tells how far the export is, on a terminal."""
    shown = sys.stderr.isatty()

    def tell(done: int, total: int, run_id: str) -> None:
        if shown and run_id:
            say(f"[{done + 1}/{total}] {run_id}")

    return tell
