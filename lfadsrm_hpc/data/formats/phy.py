"""Folders of phy and Kilosort: spikes of a whole session by cluster, with a table of trials beside them.

spike_times.npy      samples          spike_clusters.npy    the cluster of each spike
params.py            sample_rate = 30000.0 (it is read, never run)
cluster_info.tsv, cluster_group.tsv, cluster_KSLabel.tsv     what is said of clusters: columns to choose by
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from lfadsrm_hpc.data.formats import option_values, recording
from lfadsrm_hpc.data.formats.epochs import OPTIONS, Epochs
from lfadsrm_hpc.data.formats.recording import Recording
from lfadsrm_hpc.data.formats.registry import Reader
from lfadsrm_hpc.data.formats.trial_tables import read_table, read_trials, seconds_in
from lfadsrm_hpc.errors import DataError

Array = npt.NDArray[Any]
FILES = ("spike_times.npy", "spike_clusters.npy")
_TABLES = ("cluster_info.tsv", "cluster_group.tsv", "cluster_KSLabel.tsv")
_RATE = re.compile(r"^\s*sample_rate\s*=\s*([0-9.eE+]+)\s*(?:#.*)?$", re.MULTILINE)


def read(
    path: Path,
    bin_ms: float | None,
    *,
    trial_table: str | None = None,
    time_unit: str | None = None,
    sample_rate: float | None = None,
    **options: Any,
) -> xr.Dataset | list[xr.Dataset]:
    """Read a folder of phy.

    Clusters of the group "noise" are left out, unless `neurons` says something of groups.

    Parameters
    ----------
    path : Path
    bin_ms : float
    trial_table : str, optional
        A .csv or .tsv file, relative to the folder.
    time_unit : {"s", "ms"}
        Of the times in that table; seconds where left out.
    sample_rate : float, optional
        Samples a second, where params.py does not say it.
    **options
        See `lfadsrm_hpc.data.formats.epochs.Epochs`.

    Raises
    ------
    DataError, NotFoundError
        Files that are missing or do not fit each other.
    UsageError
        An option cannot be.
    """
    epochs = Epochs.of(bin_ms, options)
    return recording.read(
        _recording(path, epochs, trial_table, time_unit, sample_rate), epochs, name=path.name
    )


def info(
    path: Path,
    *,
    bin_ms: float | None = None,
    trial_table: str | None = None,
    time_unit: str | None = None,
    sample_rate: float | None = None,
    **options: Any,
) -> dict[str, Any] | None:
    """Return sizes without counting spikes; see `read`."""
    epochs = Epochs.of(bin_ms, options)
    return recording.info(_recording(path, epochs, trial_table, time_unit, sample_rate), epochs)


READER = Reader(read, info, folder_with=FILES, options=(*OPTIONS, "trial_table", "time_unit", "sample_rate"))


def _recording(
    path: Path, epochs: Epochs, trial_table: str | None, time_unit: str | None, sample_rate: float | None
) -> Recording:
    samples, clusters = (_vector(path / file) for file in FILES)
    if samples.shape != clusters.shape:
        raise DataError(
            f"there are {samples.size} spike times and {clusters.size} clusters of spikes", where=path
        )
    rate = _rate(path) if sample_rate is None else option_values.positive("sample_rate", sample_rate)
    order = np.argsort(clusters, kind="stable")
    ids, starts = np.unique(clusters[order], return_index=True)
    rows = dict(zip(ids.tolist(), np.split(order, starts[1:]), strict=True)) if ids.size else {}
    table = _clusters(path, ids, epochs)
    numbers = table["cluster_id"].tolist()
    return Recording(
        where=path,
        neurons=table,
        names=np.array([f"cluster{number}" for number in numbers]),
        spike_times=lambda row: samples[rows.get(numbers[row], [])] / rate,
        trials=read_trials(trial_table, path),
        trial_unit=seconds_in(time_unit),
    )


def _vector(path: Path) -> Array:
    values: Array = np.load(path, mmap_mode="r", allow_pickle=False)
    if values.dtype.kind not in "iuf" or values.size != max(values.shape, default=1):
        raise DataError(f"this is no vector of numbers: {values.dtype}, shape {values.shape}", where=path)
    return values.reshape(-1)


def _rate(path: Path) -> float:
    file = path / "params.py"
    found = _RATE.search(file.read_text(errors="replace")) if file.is_file() else None
    try:
        return option_values.positive("sample_rate", float(found[1])) if found else _no_rate(path)
    except ValueError:
        return _no_rate(path)


def _no_rate(path: Path) -> float:
    raise DataError(
        "how many samples a second has is not known",
        where=path / "params.py",
        hint="give sample_rate, or put params.py of phy into the folder",
    )


def _clusters(path: Path, ids: Array, epochs: Epochs) -> pd.DataFrame:
    """Return a row for each cluster that has spikes, with all that is said of it."""
    table = pd.DataFrame({"cluster_id": ids})
    for name in _TABLES:
        if not (path / name).is_file():
            continue
        more = read_table(path / name).rename(columns={"id": "cluster_id"})
        if "cluster_id" not in more.columns or more["cluster_id"].duplicated().any():
            raise DataError("the table has no column cluster_id, or one cluster twice", where=path / name)
        new = [column for column in more.columns if column == "cluster_id" or column not in table.columns]
        table = table.merge(more[new], on="cluster_id", how="left")
    if "group" in table.columns and "group" not in epochs.neurons:
        table = table[table["group"] != "noise"].reset_index(drop=True)
    found: pd.DataFrame = table.astype(object)
    return found
