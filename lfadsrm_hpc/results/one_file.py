"""Many runs in one netCDF-4 file, which is HDF5: for other programs, other people, other machines.

    /posterior_means/param_<hash>/<run spec>/<dataset>   as `load_posterior_means` gives them
    /fit_log/param_<hash>/<run spec>                     a variable a column
    /model_params/param_<hash>/<run spec>                as `load_model_params` gives them

Trials are copied in blocks, so that memory stays bounded. The file appears under its name when it is
complete.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import netCDF4
import numpy as np

from lfadsrm_hpc.beside import flush, remove_leftovers, temporary_beside
from lfadsrm_hpc.errors import NotFoundError, ResultsError, UsageError, suggest
from lfadsrm_hpc.results.posterior_means.format import attribute_values, chunk_shape, versions
from lfadsrm_hpc.results.posterior_means.of_runs import Loadable, Wanted, open_one

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

FORMAT, FORMAT_VERSION = "lfadsrm_hpc export", 1
MEANS, FIT_LOG, MODEL_PARAMS = PARTS = ("posterior_means", "fit_log", "model_params")
_BLOCK_BYTES = 16 << 20

OnRun = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Exported:
    """A run that is to be exported.

    Attributes
    ----------
    loadable : Loadable
    fit_log, model_params : callable
        Load them; what raises `ResultsError` is left out.
    about : mapping
        What else is known of the run: attributes of its groups.
    """

    loadable: Loadable
    fit_log: Callable[[], pd.DataFrame]
    model_params: Callable[[], xr.Dataset]
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return self.loadable.id


def write_one_file(
    path: Path,
    runs: Sequence[Exported],
    wanted: Wanted,
    *,
    parts: Sequence[str] = PARTS,
    variables: Sequence[str] | None = None,
    about: Mapping[str, Any],
    overwrite: bool = False,
    on_run: OnRun = lambda done, total, run_id: None,
) -> Path:
    """Write runs into one file.

    Parameters
    ----------
    path : Path
    runs : sequence of Exported
        Complete ones.
    wanted : Wanted
        Which datasets and trials, and what beside the posterior means.
    parts : sequence of str
        Of `PARTS`.
    variables : sequence of str, optional
        Of the posterior means; all unless given.
    about : mapping
        Attributes of the file.
    overwrite : bool
        Replace a file of this name.
    on_run : callable
        Called with runs done, all runs, and the run that is next or "" at the end.

    Returns
    -------
    Path

    Raises
    ------
    UsageError
        There is a file already; a part or name that cannot be.
    NotFoundError
        No run has such a dataset or variable.
    ResultsError
        A run cannot be read, or the disk refuses; no file is left.
    """
    path = Path(path).absolute()
    _check(path, parts, overwrite=overwrite)
    temporary = temporary_beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path)
        with netCDF4.Dataset(str(temporary), "w", format="NETCDF4", clobber=False) as file:
            file.setncatts(
                attribute_values(
                    {"format": FORMAT, "format_version": FORMAT_VERSION, "versions": versions(), **about}
                )
            )
            there: set[str] = set()
            for number, run in enumerate(runs):
                on_run(number, len(runs), run.id)
                there |= _write_run(file, run, wanted, parts, variables)
            _refuse_absent(wanted, variables, there, runs, parts)
            file.setncattr("complete", np.int32(1))
        on_run(len(runs), len(runs), "")
        flush(temporary)
        _check(path, parts, overwrite=overwrite)  # what came meanwhile is not lost
        temporary.replace(path)
        flush(path.parent)
    except (OSError, RuntimeError) as error:
        raise ResultsError(
            f"the file cannot be written ({error})",
            where=path,
            hint="is the disk full, over quota, or read-only?",
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    return path


def _check(path: Path, parts: Sequence[str], *, overwrite: bool) -> None:
    for part in parts:
        if part not in PARTS:
            raise UsageError(
                f"there is no part {part!r} of a run to export",
                hint=suggest(part, PARTS) or f"there are: {', '.join(PARTS)}",
            )
    if path.is_dir():
        raise UsageError("this is a folder, not a file", where=path, hint="name a file: results.nc")
    if path.exists() and not overwrite:
        raise UsageError(
            "there is such a file already",
            where=path,
            hint="name another one, or replace it: --overwrite (in Python overwrite=True)",
        )


def _write_run(
    file: netCDF4.Dataset,
    run: Exported,
    wanted: Wanted,
    parts: Sequence[str],
    variables: Sequence[str] | None,
) -> set[str]:
    """Write a run; return the names of its datasets and variables."""
    found: set[str] = set()
    about = {"run_id": run.id, **run.about}
    if MEANS in parts:
        for dataset in run.loadable.dataset_names:
            if wanted.datasets and dataset not in wanted.datasets:
                continue
            means = open_one(run.loadable, dataset, wanted, strict=False, cache=False)
            found |= {dataset, *map(str, means.variables)}
            if variables is not None:
                own = run.loadable.open(dataset, cache=False).data_vars  # what is attached stays
                means = means[[n for n in means.data_vars if n in variables or n not in own]]
            _write(_group(file, f"{MEANS}/{run.id}/{dataset}"), means)
        if MEANS in file.groups and found:
            _group(file, f"{MEANS}/{run.id}").setncatts(attribute_values(about))
    for part, load in ((FIT_LOG, run.fit_log), (MODEL_PARAMS, run.model_params)):
        if part not in parts:
            continue
        try:
            loaded: Any = load()
        except ResultsError:  # a run can do without
            continue
        group = _group(file, f"{part}/{run.id}")
        _write(group, loaded.set_index("epoch").to_xarray() if part == FIT_LOG else loaded)
        group.setncatts(attribute_values(about))
        if part == FIT_LOG:
            group.setncatts(attribute_values(loaded.attrs))
    return found


def _refuse_absent(
    wanted: Wanted,
    variables: Sequence[str] | None,
    there: set[str],
    runs: Sequence[Exported],
    parts: Sequence[str],
) -> None:
    if MEANS not in parts:
        return
    from lfadsrm_hpc.results.attaching import is_there

    names = sorted({name for run in runs for name in run.loadable.dataset_names})
    for name in wanted.datasets:
        if name not in names:
            raise NotFoundError(
                f"no run that was selected has the dataset {name!r}",
                hint=suggest(name, names) or f"there are: {', '.join(names)}",
            )
    for name in variables or ():
        if name not in there:
            raise NotFoundError(
                f"no run that was selected has the variable {name!r}", hint=suggest(name, sorted(there))
            )
    for name in wanted.attached:
        if not is_there(name, there):
            raise NotFoundError(
                f"none of the datasets has {name!r}",
                hint=suggest(name, sorted(there)) or f"there are: {', '.join(sorted(there))}",
            )


# ---------------------------------------------------------------- one group


def _group(file: netCDF4.Dataset, path: str) -> netCDF4.Dataset:
    """Return a group, made where it is not there."""
    group = file
    for name in path.split("/"):
        if name not in group.groups:
            try:
                group.createGroup(name)
            except RuntimeError as error:
                raise UsageError(
                    f"{name!r} cannot be the name of a group in a netCDF file ({error})",
                    hint="leave this run out, or export it with --layout run-manager",
                ) from error
        group = group.groups[name]
    return group


def _write(group: netCDF4.Dataset, content: xr.Dataset) -> None:
    for name, size in content.sizes.items():
        group.createDimension(str(name), size)
    labels = [str(name) for name in content.coords if name not in content.dims]
    for name, variable in content.variables.items():
        own = [one for one in labels if one != name and set(content[one].dims) <= set(variable.dims)]
        _write_variable(group, str(name), variable, own if name in content.data_vars else [])
    group.setncatts(attribute_values({str(key): value for key, value in content.attrs.items()}))


def _write_variable(group: netCDF4.Dataset, name: str, variable: xr.Variable, labels: Sequence[str]) -> None:
    text = variable.dtype.kind in "OUT"
    own = np.dtype("i1") if variable.dtype.kind == "b" else variable.dtype.newbyteorder("=")
    kind: Any = str if text else own
    dims = tuple(map(str, variable.dims))
    options: dict[str, Any] = {}
    if dims and variable.size and not text:
        chunks = _chunks(dims, variable)
        options = {"zlib": True, "complevel": 1, "shuffle": True, "chunksizes": chunks}
    stored = group.createVariable(name, kind, dims, **options)
    stored.set_auto_maskandscale(False)
    attrs = {str(key): value for key, value in variable.attrs.items() if key != "coordinates"}
    stored.setncatts(attribute_values({**attrs, **({"coordinates": " ".join(labels)} if labels else {})}))
    if options:  # a row of chunks stays in memory until it is full
        row = options["chunksizes"][0] * math.prod(variable.shape[1:]) * variable.dtype.itemsize
        stored.set_var_chunk_cache(size=max(row + row // 4, 1 << 20))
    for key in _blocks(variable, options.get("chunksizes", (1,))[0]):
        block = variable[key].to_numpy()
        stored[key] = block.astype(str).astype(object) if text else block.astype(kind, copy=False)


def _chunks(dims: tuple[str, ...], variable: xr.Variable) -> tuple[int, ...]:
    """Return the chunks that the posterior means have, and the whole of what is small."""
    if len(dims) == 3 and dims[:2] == ("trial", "time"):
        return chunk_shape(dims, variable.shape, variable.dtype.itemsize)
    per_row = max(1, math.prod(variable.shape[1:]) * variable.dtype.itemsize)
    return (min(variable.shape[0], max(1, (1 << 20) // per_row)), *variable.shape[1:])


def _blocks(variable: xr.Variable, chunk: int) -> Iterator[Any]:
    """Cut the first axis into blocks of bounded size that end where chunks end, if that is possible."""
    if not variable.dims:
        yield ()
        return
    size = max(1, variable.dtype.itemsize) * max(1, math.prod(variable.shape[1:]))
    step = max(1, _BLOCK_BYTES // size)
    step = max(chunk, step // chunk * chunk) if chunk <= 4 * step else step
    for start in range(0, variable.shape[0], step):
        yield slice(start, min(start + step, variable.shape[0]))
