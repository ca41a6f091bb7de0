"""Posterior means as netCDF-4: written block by block, chunked, compressed, renamed when complete.

One file holds one dataset of one run. Memory does not grow with the number of trials: a block goes to
disk when it is handed over, and HDF5 keeps no more than about one row of chunks a variable.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

import netCDF4
import numpy as np
import numpy.typing as npt

from lfadsrm_hpc.beside import flush, remove_leftovers, temporary_beside
from lfadsrm_hpc.errors import DataError, ResultsError, UsageError, suggest
from lfadsrm_hpc.results.posterior_means.format import (
    COUNT_DISTS,
    MAY_BE_INFINITE,
    OPTIONAL,
    STD,
    TRIAL_LABELS,
    VARIABLES,
    attribute_values,
    chunk_shape,
    file_attributes,
    label_values,
    labels_of,
    names_of,
    rounded,
)

if TYPE_CHECKING:
    import xarray as xr


class PosteriorMeansWriter:
    """Write the posterior means of one dataset of one run, block by block.

    Use it as a context manager: an exception inside leaves no file. The file appears under `path` only
    when it is complete and flushed to disk; an older file there is replaced at that moment.

    Parameters
    ----------
    path : Path
        The final file, `posterior_means/<dataset>.nc`.
    dataset : str
        Name of the dataset.
    time_ms : array_like, shape (T,)
        Start of each bin in ms.
    bin_ms : float
        Width of a bin in ms.
    trial : array_like of int, shape (E,)
        Index of each trial in the dataset as the user gave it, increasing (original order).
    split : sequence of str, shape (E,)
        ``"train"`` or ``"valid"`` for each trial, or ``"new"`` where the model never saw it.
    condition : sequence, shape (E,), optional
        Condition of each trial (str or int).
    labels : mapping, optional
        Further coordinates of the trials, each of shape (E,): `format.TRIAL_LABELS` names them.
    neuron_names : sequence of str, shape (D,)
    output_dist : {"poisson", "negative_binomial", "gaussian", "gamma", "zero_inflated_gamma"}
        The first two are for counts and give rates, the others means and variances.
    sizes : mapping
        Widths of ``factor``, ``generator_unit``, ``controller_output``, ``ic`` (and ``input``); what has
        width 0 or is not named has no variable in the file.
    attributes : mapping
        What the file says of its origin: ``run_id``, ``params``, ``checkpoint``, ``claim_token``,
        ``versions`` and whatever else. Mappings and sequences are stored as JSON.
    with_std : bool, optional
        Whether the blocks bring standard deviations, `<name>_std` (see `format.rounded`).
    extra : sequence of str, optional
        Which of ``spikes``, ``truth``, ``external_input`` the blocks also bring.
    complevel : int, optional
        Level of zlib, 0 (none) to 9.

    Raises
    ------
    UsageError
        The description contradicts itself.
    ResultsError
        The file cannot be made.
    """

    def __init__(
        self,
        path: Path,
        *,
        dataset: str,
        time_ms: npt.ArrayLike,
        bin_ms: float,
        trial: npt.ArrayLike,
        split: Sequence[str] | npt.NDArray[Any],
        condition: Sequence[object] | npt.NDArray[Any] | None = None,
        labels: Mapping[str, npt.NDArray[Any]] | None = None,
        neuron_names: Sequence[str] | npt.NDArray[Any],
        output_dist: str = "poisson",
        sizes: Mapping[str, int],
        attributes: Mapping[str, object],
        with_std: bool = False,
        extra: Sequence[str] = (),
        complevel: Literal[0, 1, 2, 3, 4, 5, 6, 7, 8, 9] = 1,
    ) -> None:
        self.path = Path(path).absolute()
        self._dataset = dataset
        self._bin_ms = float(bin_ms)
        trials = np.asarray(trial)
        time = np.asarray(time_ms, dtype=np.float64)
        self._labels = {"split": split, "condition": condition, **(labels or {})}
        self._check(trials, time, split, sizes)
        self._trial = trials.astype(np.int64)
        self._size = {
            "trial": len(trials), "time": len(time), "neuron": len(neuron_names),
            **{name: int(width) for name, width in sizes.items()},
        }  # fmt: skip
        self._names = names_of(output_dist, self._size, extra, with_std=with_std)
        self._are_counts = output_dist in COUNT_DISTS
        self._written = np.zeros(len(trials), dtype=bool)
        self._temporary = temporary_beside(self.path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            remove_leftovers(self.path)
            self._nc = netCDF4.Dataset(str(self._temporary), "w", format="NETCDF4", clobber=False)
        except (OSError, RuntimeError) as error:
            raise self._cannot_write("the file cannot be made", error) from error
        try:
            self._define(complevel)
            self._write_coordinates(time, neuron_names)
            self._nc.setncatts(file_attributes(attributes, dataset, self._bin_ms, output_dist))
        except BaseException:
            self.abort()
            raise

    def write_block(self, start: int, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Write the trials in rows `start`, `start + 1`, ... of the file.

        Parameters
        ----------
        start : int
            Row of the first trial, i.e. its position in `trial`.
        arrays : mapping
            Every variable of the file, trials first: `rates` and `rates_std` in counts per bin (stored in
            spikes/s), the rest in the units of the file. Empty arrays and, unless asked for, the extras are
            ignored.

        Raises
        ------
        UsageError
            Something is missing, unknown, misshapen, or was written before.
        ResultsError
            Values are not finite, or the disk refuses.
        """
        blocks = self._checked(start, arrays)
        count = len(next(iter(blocks.values())))
        rows = slice(start, start + count)
        try:
            for name, block in blocks.items():
                self._nc.variables[name][rows] = block
        except (OSError, RuntimeError) as error:
            raise self._cannot_write(
                f"rows {start} to {start + count - 1} cannot be written", error
            ) from error
        self._written[rows] = True

    def so_far(self) -> xr.Dataset:
        """Return what is written as a lazy dataset, to be used before the file is closed."""
        import xarray as xr

        store = xr.backends.NetCDF4DataStore(self._nc)  # type: ignore[no-untyped-call]
        written: xr.Dataset = xr.open_dataset(store, decode_times=False)
        return written

    def set_attributes(self, attributes: Mapping[str, object]) -> None:
        """Add to what the file says of itself; mappings and sequences are stored as JSON.

        Raises
        ------
        ResultsError
            The disk refuses.
        """
        try:
            self._nc.setncatts(attribute_values(attributes))
        except (OSError, RuntimeError) as error:
            raise self._cannot_write("the attributes cannot be written", error) from error

    def close(self) -> Path:
        """Complete the file, flush it to disk, rename it, and return its path.

        Raises
        ------
        ResultsError
            Trials are missing, or the disk refuses; no file is left.
        """
        missing = np.flatnonzero(~self._written)
        if missing.size:
            self.abort()
            raise ResultsError(
                f"posterior means of dataset {self._dataset!r}: {missing.size} of {self._written.size} "
                f"trials were never written, the first is trial {self._trial[missing[0]]}",
                where=self.path,
            )
        try:
            self._nc.setncattr("complete", np.int32(1))
            self._nc.close()
            flush(self._temporary)
            self._temporary.replace(self.path)
            flush(self.path.parent)
        except (OSError, RuntimeError) as error:
            self.abort()
            raise self._cannot_write("the file cannot be completed", error) from error
        return self.path

    def abort(self) -> None:
        """Drop what was written; an older complete file stays as it is."""
        with contextlib.suppress(OSError, RuntimeError):
            if self._nc.isopen():
                self._nc.close()
        with contextlib.suppress(OSError):
            self._temporary.unlink(missing_ok=True)

    def __enter__(self) -> PosteriorMeansWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    # -- the description of the file ------------------------------------------------------------------

    def _check(
        self,
        trial: npt.NDArray[Any],
        time: npt.NDArray[np.float64],
        split: Sequence[str] | npt.NDArray[Any],
        sizes: Mapping[str, int],
    ) -> None:
        where = f"posterior means of dataset {self._dataset!r}"
        if trial.ndim != 1 or trial.size == 0 or trial.dtype.kind not in "iu":
            raise UsageError("`trial` must be a list of at least one integer", where=where)
        if np.any(np.diff(trial.astype(np.int64)) <= 0):
            raise UsageError("`trial` must increase: trials are stored in their original order", where=where)
        if time.ndim != 1 or time.size == 0 or not np.all(np.isfinite(time)) or np.any(np.diff(time) <= 0):
            raise UsageError("`time_ms` must be a list of increasing times in ms", where=where)
        if not self._bin_ms > 0:
            raise UsageError(f"a bin of {self._bin_ms} ms has no width", where=where)
        for name, values in self._labels.items():
            if name not in TRIAL_LABELS:
                raise UsageError(
                    f"`labels` names {name!r}", where=where, hint=f"it can name {', '.join(TRIAL_LABELS)}"
                )
            if values is not None and len(values) != trial.size:
                raise UsageError(f"`{name}` has {len(values)} entries for {trial.size} trials", where=where)
        strange = sorted({str(kind) for kind in split} - {"train", "valid", "new"})
        if strange:
            raise UsageError(f"`split` holds {strange[0]!r}; it is 'train', 'valid' or 'new'", where=where)
        known = ("factor", "generator_unit", "controller_output", "ic", "input")
        for name in sizes:
            if name not in known:
                raise UsageError(f"`sizes` names {name!r}", where=where, hint=suggest(name, known))

    def _define(self, complevel: Literal[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]) -> None:
        for name, size in self._size.items():
            if size:
                self._nc.createDimension(name, size)
        for name in self._names:
            about = VARIABLES[name]
            shape = tuple(self._size[dim] for dim in about.dims)
            chunks = chunk_shape(about.dims, shape)
            variable = self._nc.createVariable(
                name, self._dtype(name), about.dims,
                zlib=complevel > 0, complevel=complevel, shuffle=True, chunksizes=chunks,
            )  # fmt: skip
            variable.set_auto_maskandscale(False)
            variable.setncatts({"units": self._units(name), "long_name": about.long_name})
            # Blocks need not end where chunks end: a row of chunks stays in memory until it is full.
            row = chunks[0] * math.prod(shape[1:]) * 4
            variable.set_var_chunk_cache(size=max(row + row // 4, 1 << 20))

    def _dtype(self, name: str) -> Literal["u2", "f4"]:
        return "u2" if name == "spikes" and self._are_counts else "f4"

    def _units(self, name: str) -> str:
        return "units of the data" if name == "spikes" and not self._are_counts else VARIABLES[name].units

    def _write_coordinates(
        self,
        time: npt.NDArray[np.float64],
        neuron_names: Sequence[str] | npt.NDArray[Any],
    ) -> None:
        put = self._put_coordinate
        put("trial", "trial", self._trial, "1", "index of the trial in the dataset, original order")
        put("time", "time", time, "ms", f"start of the bin of {self._bin_ms:g} ms")
        put("neuron", "neuron", np.arange(self._size["neuron"]), "1", "index of the neuron")
        names = np.array([str(name) for name in neuron_names], dtype=object)
        put("neuron_name", "neuron", names, "1", "name of the neuron")
        labels = {name: values for name, values in self._labels.items() if values is not None}
        for name, values in labels.items():
            about = TRIAL_LABELS[name]
            put(name, "trial", label_values(name, values), about.units, about.long_name)
        for name in self._names:
            self._nc.variables[name].setncattr("coordinates", labels_of(name, list(labels)))

    def _put_coordinate(
        self, name: str, dim: str, values: npt.NDArray[Any], units: str, long_name: str
    ) -> None:
        kind = str if values.dtype == object else values.dtype
        variable = self._nc.createVariable(name, kind, (dim,))
        variable.setncatts({"units": units, "long_name": long_name})
        variable[:] = values

    # -- one block ------------------------------------------------------------------------------------

    def _checked(self, start: int, arrays: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        where = f"dataset {self._dataset!r}, rows from {start}"
        for name in arrays:
            if name not in VARIABLES:
                raise UsageError(
                    f"posterior means have no {name!r}", where=where, hint=suggest(name, list(VARIABLES))
                )
            if name not in self._names and name not in OPTIONAL and np.size(arrays[name]):
                raise UsageError(f"{name!r} was not announced in `sizes` or `with_std`", where=where)
        lacking = [name for name in self._names if name not in arrays]
        if lacking:
            raise UsageError(f"the block lacks {', '.join(lacking)}", where=where)
        count = len(arrays[self._names[0]])
        if start < 0 or count == 0 or start + count > self._written.size:
            raise UsageError(f"{count} trials do not fit into {self._written.size}", where=where)
        if self._written[start : start + count].any():
            raise UsageError("some of these trials were written before", where=where)
        return {name: self._converted(name, np.asarray(arrays[name]), start, count) for name in self._names}

    def _converted(self, name: str, values: npt.NDArray[Any], start: int, count: int) -> npt.NDArray[Any]:
        shape = (count, *(self._size[dim] for dim in VARIABLES[name].dims[1:]))
        if values.shape != shape:
            raise UsageError(
                f"{name} has the shape {values.shape}, not {shape} ({', '.join(VARIABLES[name].dims)})",
                where=f"dataset {self._dataset!r}, rows from {start}",
            )
        if self._dtype(name) == "u2":
            return self._counts(values, start)
        if name in ("rates", f"rates{STD}"):
            values = values * np.float64(1000.0 / self._bin_ms)
        values = values.astype(np.float32, copy=False)
        if name.endswith(STD):  # squares of large rates may overflow
            self._require(values >= 0, name, start, "no standard deviation")
            values = rounded(values)
        elif name not in MAY_BE_INFINITE:
            self._require(np.isfinite(values), name, start, "not finite")
        return values

    def _counts(self, values: npt.NDArray[Any], start: int) -> npt.NDArray[np.uint16]:
        fits = (values >= 0) & (values <= 65535)
        if values.dtype.kind == "f":
            fits &= values == np.floor(values)
        self._require(fits, "spikes", start, "not a count from 0 to 65535", DataError)
        return values.astype(np.uint16)

    def _require(
        self,
        good: npt.NDArray[np.bool_],
        name: str,
        start: int,
        fault: str,
        kind: type[ResultsError] | type[DataError] = ResultsError,
    ) -> None:
        if good.all():
            return
        first = np.argwhere(~good)[0]
        place = [f"trial {self._trial[start + first[0]]}"]
        dims = VARIABLES[name].dims[1:]
        place += [f"{dim} {index}" for dim, index in zip(dims, first[1:], strict=True)]
        raise kind(
            f"{name} is {fault} at {', '.join(place)} of dataset {self._dataset!r}",
            where=self.path,
            hint="the data or the model behind it is broken; nothing was written"
            if kind is DataError
            else "the trained model is broken: look at its fit log for costs that are not finite",
        )

    def _cannot_write(self, what: str, error: Exception) -> ResultsError:
        return ResultsError(
            f"posterior means of dataset {self._dataset!r}: {what} ({error})",
            where=self.path,
            hint="is the disk full, over quota, or read-only?",
        )
