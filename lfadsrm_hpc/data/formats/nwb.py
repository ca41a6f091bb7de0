"""NWB files (Neurodata Without Borders): units, trials and other intervals, behaviour. Needs pynwb.

Tables of units and trials are read whole, spike times unit by unit, and signals window by window; nothing
else of the file is touched, so raw voltages do no harm.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from lfadsrm_hpc.data.formats import option_values, recording
from lfadsrm_hpc.data.formats.epochs import OPTIONS, Epochs
from lfadsrm_hpc.data.formats.nwb_tables import neuron_table, plain_table
from lfadsrm_hpc.data.formats.recording import Recording
from lfadsrm_hpc.data.formats.registry import Reader
from lfadsrm_hpc.data.formats.selecting import choose
from lfadsrm_hpc.data.formats.signals import Signal
from lfadsrm_hpc.errors import DataError, UsageError, suggest

Array = npt.NDArray[Any]


def read(
    path: Path, bin_ms: float | None, *, intervals: str | None = None, **options: Any
) -> xr.Dataset | list[xr.Dataset]:
    """Read an NWB file.

    Parameters
    ----------
    path : Path
    bin_ms : float
    intervals : str, optional
        Which table of intervals has the trials; "trials" where it is left out. With `continuous`, each of its
        rows is a recording of its own.
    **options
        See `lfadsrm_hpc.data.formats.epochs.Epochs`.

    Raises
    ------
    DataError
        Something is not in the file; the message lists what is.
    UsageError
        An option cannot be.
    """
    epochs = Epochs.of(bin_ms, options)
    with _opened(path) as file:
        return recording.read(_recording(file, path, epochs, intervals), epochs, name=path.stem)


def info(
    path: Path, *, bin_ms: float | None = None, intervals: str | None = None, **options: Any
) -> dict[str, Any] | None:
    """Return sizes and attributes without reading spikes; see `read`."""
    epochs = Epochs.of(bin_ms, options)
    with _opened(path) as file:
        return recording.info(_recording(file, path, epochs, intervals), epochs)


READER = Reader(read, info, options=(*OPTIONS, "intervals"))


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a file with pynwb; what it says about old schemas is of no use to our users."""
    try:
        import pynwb
    except ImportError:
        raise UsageError(
            "NWB files need the package pynwb", where=path, hint="pip install 'lfadsrm_hpc[nwb]'"
        ) from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pynwb.NWBHDF5IO(str(path), "r", load_namespaces=True) as io:
            yield io.read()


def _recording(file: Any, path: Path, epochs: Epochs, intervals: str | None) -> Recording:
    units = file.units
    if units is None or "spike_times" not in units.colnames:
        what = "no table of units" if units is None else "no spike times in the table of units"
        raise DataError(f"there is {what}", where=path, hint="sort the spikes first, or take another file")
    name = option_values.text("intervals", intervals) if intervals is not None else None
    table = _intervals(file, name or "trials", path, needed=name is not None)
    neurons = neuron_table(units)
    return Recording(
        where=path,
        neurons=neurons,
        names=np.array([f"unit{number}" for number in units.id[:]]),
        spike_times=lambda row: np.asarray(units["spike_times"][row]),
        trials=table,
        observed=_observed(units),
        stretches=_stretches(table, epochs, path) if epochs.continuous and name is not None else None,
        signals=_signals(file),
        attrs=_attrs(file),
    )


def _observed(units: Any) -> Callable[[int], Array | None]:
    if "obs_intervals" not in units.colnames:
        return lambda row: None
    return lambda row: np.asarray(units["obs_intervals"][row], dtype=np.float64).reshape(-1, 2)


def _intervals(file: Any, name: str, path: Path, *, needed: bool) -> pd.DataFrame | None:
    """Return a table of intervals: trials, epochs, or one that the file has under `intervals`."""
    there = dict(file.intervals or {})
    there |= {
        key: found
        for key in ("trials", "epochs", "invalid_times")
        if (found := getattr(file, key)) is not None
    }
    if name in there:
        return plain_table(there[name])
    if not needed:
        return None
    hints = [suggest(name, list(there)), f"there are: {', '.join(there) or 'none'}"]
    raise DataError(
        f"there is no table of intervals {name!r}", where=path, hint="; ".join(h for h in hints if h)
    )


def _stretches(table: pd.DataFrame | None, epochs: Epochs, path: Path) -> list[tuple[str, float, float]]:
    assert table is not None
    table = table[choose(table, epochs.trials, what="trial", where=path)]
    if not {"start_time", "stop_time"} <= set(table.columns):
        raise DataError("the intervals have no start_time and stop_time", where=path)
    rows = zip(table.index, table["start_time"], table["stop_time"], strict=True)
    return [(str(row), float(start), float(stop)) for row, start, stop in rows if np.isfinite(start + stop)]


def _attrs(file: Any) -> dict[str, Any]:
    found = {"comment": file.session_description or "", "identifier": file.identifier or ""}
    if file.session_start_time is not None:
        found["date"] = file.session_start_time.date().isoformat()
    if file.subject is not None and file.subject.subject_id:
        found["subject"] = str(file.subject.subject_id)
    return found


# --- signals


def _signals(file: Any) -> dict[str, Callable[[], Signal]]:
    """Return every series of numbers of acquisition, stimulus and processing, by its path."""
    from pynwb import TimeSeries

    found: dict[str, Callable[[], Signal]] = {}

    def walk(prefix: str, item: Any) -> None:
        if isinstance(item, TimeSeries):
            if _is_signal(item):
                found[prefix] = lambda: _signal(item)
            return
        for child in getattr(item, "children", ()):
            walk(f"{prefix}/{child.name}", child)

    for module in file.processing.values():
        for name, item in module.data_interfaces.items():
            walk(f"processing/{module.name}/{name}", item)
    for place in ("acquisition", "stimulus"):
        for name, item in getattr(file, place).items():
            walk(f"{place}/{name}", item)
    return found


def _is_signal(series: Any) -> bool:
    """Say whether a series has a number, or a few, at each time; not images, annotations and intervals."""
    shape = getattr(series.data, "shape", None)
    if shape is None:
        shape = np.shape(series.data)
    kind = getattr(series.data, "dtype", np.asarray(series.data[:1] if len(shape) else []).dtype).kind
    timed = series.rate is not None or series.timestamps is not None
    return timed and len(shape) in (1, 2) and kind in "biuf" and type(series).__name__ != "IntervalSeries"


def _signal(series: Any) -> Signal:
    data, n = series.data, len(series.data)
    scale: Any = float(series.conversion or 1.0)
    offset = float(series.offset or 0.0)
    by_channel = getattr(series, "channel_conversion", None)
    if by_channel is not None:
        scale = scale * np.asarray(by_channel[:], dtype=np.float64)

    def samples(i: int, j: int) -> Array:
        values: Array = np.asarray(data[i:j], dtype=np.float64) * scale + offset
        return values

    width = int(np.prod(np.shape(data)[1:], dtype=int))
    units = "" if series.unit in (None, "unknown") else str(series.unit)
    channels = ("x", "y", "z")[:width] if type(series).__name__ == "SpatialSeries" and width <= 3 else ()
    if series.rate is not None:
        start, step = float(series.starting_time or 0.0), 1.0 / float(series.rate) if series.rate else 0.0
        return Signal(samples, n, start=start, step=step, width=width, units=units, channels=channels)
    times = np.asarray(series.timestamps[:], dtype=np.float64)
    return Signal(samples, n, times=times, width=width, units=units, channels=channels)
