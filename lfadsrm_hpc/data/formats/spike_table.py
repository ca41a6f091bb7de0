"""Spikes in a text file, a line each: columns `time`, `neuron`, and `trial` where times count from trials.

Without `trial`, times are those of the session, and a table of trials is named by the option `trial_table`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from lfadsrm_hpc.data.formats import recording
from lfadsrm_hpc.data.formats.epochs import OPTIONS, Epochs
from lfadsrm_hpc.data.formats.recording import Recording
from lfadsrm_hpc.data.formats.registry import Reader
from lfadsrm_hpc.data.formats.trial_tables import read_table, read_trials, seconds_in
from lfadsrm_hpc.errors import DataError, UsageError

Float64 = npt.NDArray[np.float64]
_NAMES = {
    "time": ("time", "spike_time", "spike_times"),
    "neuron": ("neuron", "unit", "cluster", "spike_neuron"),
    "trial": ("trial", "spike_trial"),
}


def read(
    path: Path,
    bin_ms: float | None,
    *,
    trial_table: str | None = None,
    time_unit: str | None = None,
    **options: Any,
) -> xr.Dataset | list[xr.Dataset]:
    """Read a table of spikes.

    Neurons and, with a column `trial`, trials are those that have spikes, in order; a table of trials with a
    column `trial` says which others there are.

    Parameters
    ----------
    path : Path
    bin_ms : float
    trial_table : str, optional
        A .csv or .tsv file, relative to the folder of the spikes.
    time_unit : {"s", "ms"}
        Of all times; seconds where left out.
    **options
        See `lfadsrm_hpc.data.formats.epochs.Epochs`.

    Raises
    ------
    DataError, NotFoundError, UsageError
    """
    epochs = Epochs.of(bin_ms, options)
    return recording.read(_recording(path, epochs, trial_table, time_unit), epochs, name=path.stem)


READER = Reader(
    read, suffixes=(".csv", ".tsv"), by_name_only=True, options=(*OPTIONS, "trial_table", "time_unit")
)


def _recording(path: Path, epochs: Epochs, trial_table: str | None, time_unit: str | None) -> Recording:
    spikes = _columns(read_table(path), path)
    unit = seconds_in(time_unit)
    times = spikes["time"].to_numpy(dtype=np.float64) * unit
    trials = read_trials(trial_table, path.parent)
    events = None
    if "trial" in spikes:
        if epochs.continuous:
            raise UsageError(
                "times count from trials, since there is a column 'trial', and continuous = true takes one "
                "recording as a whole",
                where=path,
                hint="leave continuous out; chop_ms cuts trials into windows as well",
            )
        trials, events, times = _own_clocks(spikes["trial"], times, trials, epochs, unit, path)
    ids = np.unique(spikes["neuron"].to_numpy())
    codes = np.searchsorted(ids, spikes["neuron"].to_numpy())
    return Recording(
        where=path,
        neurons=pd.DataFrame({"neuron": ids}).astype(object),
        names=np.array([str(name) for name in ids]),
        spike_times=lambda row: times[codes == row],
        trials=trials,
        trial_unit=unit,
        events=events,
    )


def _columns(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    found = {}
    for name, aliases in _NAMES.items():
        there = [alias for alias in aliases if alias in table.columns]
        if there:
            found[name] = table[there[0]]
        elif name != "trial":
            raise DataError(
                f"the table of spikes has no column {name!r}",
                where=path,
                hint=f"it has: {', '.join(table.columns) or 'none'}",
            )
    spikes: pd.DataFrame = pd.DataFrame(found)
    if spikes["time"].dtype.kind not in "iuf":
        raise DataError("the column of times holds what are no numbers", where=path)
    if spikes.isna().any(axis=None):
        line = int(np.argmax(spikes.isna().any(axis=1).to_numpy())) + 2
        raise DataError(f"line {line} has an empty cell", where=path)
    return spikes


def _own_clocks(
    of_spike: pd.Series[Any],
    times: Float64,
    trials: pd.DataFrame | None,
    epochs: Epochs,
    unit: float,
    path: Path,
) -> tuple[pd.DataFrame, Float64, Float64]:
    """Lay trials that have clocks of their own behind each other, too far apart for any window to reach over.

    The spikes and the events of a trial move together. A trial starts at 0 of its own clock, whatever the
    table says of the session's.
    """
    table = pd.DataFrame({"trial": np.unique(of_spike.to_numpy())}) if trials is None else trials
    if "trial" not in table.columns or table["trial"].duplicated().any():
        raise DataError("the table of trials has no column 'trial', or a trial twice", where=path)
    unknown = set(of_spike) - set(table["trial"])
    if unknown:
        raise DataError(f"trial {sorted(unknown)[0]} of a spike is not in the table of trials", where=path)
    events = np.zeros(len(table))
    if epochs.align_to != "start_time":
        events = unit * recording.events_of(table, epochs.align_to, path)
    reach = float(np.nanmax(np.abs(np.concatenate([events, times])), initial=0.0))
    apart = 4 * reach + (abs(epochs.before_ms) + abs(epochs.after_ms or 0.0)) / 1000 + 1.0
    offsets = pd.Series(apart * np.arange(len(table)), index=table["trial"])
    return table, events + offsets.to_numpy(), times + offsets[of_spike].to_numpy()
