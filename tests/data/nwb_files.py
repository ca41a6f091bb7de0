"""NWB files, written by pynwb."""

from __future__ import annotations

import datetime
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pynwb import NWBHDF5IO, NWBFile, TimeSeries
from pynwb.behavior import BehavioralTimeSeries, Position, SpatialSeries
from pynwb.file import Subject

Array = npt.NDArray[Any]
T_STOP = 20.0


@dataclass
class Session:
    """What is in a file, so that a test knows it."""

    path: Path
    spikes: list[Array] = field(default_factory=list)
    go: list[float] = field(default_factory=list)


def new_file() -> NWBFile:
    return NWBFile(
        session_description="reaching",
        identifier="s1",
        session_start_time=datetime.datetime(2020, 2, 3, tzinfo=datetime.timezone.utc),
        subject=Subject(subject_id="J", species="Macaca mulatta", sex="M", age="P5Y"),
    )


def write(file: NWBFile, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with NWBHDF5IO(str(path), "w") as io:
            io.write(file)
    return path


def add_units(file: NWBFile, *, observed: list[Any] | None = None) -> list[Array]:
    """Add five units in two areas: unit 1 is not good, unit 2 unsorted, unit 3 has no spikes."""
    rng = np.random.default_rng(0)
    device = file.create_device("probe")
    areas = ["M1", "PMd"]
    groups = [file.create_electrode_group(f"g{i}", "d", area, device) for i, area in enumerate(areas)]
    file.add_electrode_column("depth", "um")
    for i in range(4):
        file.add_electrode(location=areas[i // 2], group=groups[i // 2], depth=100.0 * i)
    file.add_unit_column("quality", "q")
    file.add_unit_column("heldout", "h")
    spikes = []
    for unit in range(5):
        times = rng.uniform(0, T_STOP, 200) if unit != 3 else np.array([])
        times = times if unit == 2 else np.sort(times)
        spikes.append(times)
        file.add_unit(
            id=10 + unit,
            spike_times=times,
            electrodes=[unit % 4],
            quality="mua" if unit == 1 else "good",
            heldout=unit == 4,
            **({} if observed is None else {"obs_intervals": np.asarray(observed[unit], dtype=float)}),
        )
    return spikes


def add_trials(file: NWBFile) -> list[float]:
    """Add eight trials of two targets; trial 5 has no go cue."""
    for name in ("go_cue_time", "target", "reaction", "target_pos"):
        file.add_trial_column(name, name)
    go = [2.0 * k + 0.5 if k != 5 else np.nan for k in range(8)]
    for k in range(8):
        file.add_trial(
            start_time=2.0 * k,
            stop_time=2.0 * k + 1.5,
            go_cue_time=go[k],
            target=["left", "right"][k % 2],
            reaction=0.2 + 0.01 * k,
            target_pos=[float(k), -1.0],
        )
    return go


def add_signals(file: NWBFile) -> None:
    """Add a hand position at 1 kHz (x: the time in ms, stored in cm), a slow speed with times, an EMG."""
    behavior = file.create_processing_module("behavior", "b")
    samples = np.arange(int(T_STOP * 1000), dtype=float)
    hand = SpatialSeries(
        name="hand",
        data=np.stack([samples, -samples], axis=1),
        rate=1000.0,
        starting_time=0.0,
        reference_frame="room",
        unit="m",
        conversion=0.01,
    )
    behavior.add(Position(spatial_series=hand))
    speed = TimeSeries(name="speed", data=np.arange(200.0), timestamps=0.1 * np.arange(200), unit="m/s")
    behavior.add(BehavioralTimeSeries(time_series=speed))
    file.add_acquisition(TimeSeries(name="emg", data=samples.astype(np.int16), rate=1000.0, unit="V"))


def reaching(path: Path, *, observed: list[Any] | None = None) -> Session:
    """Write a session of reaches."""
    file = new_file()
    spikes = add_units(file, observed=observed)
    go = add_trials(file)
    add_signals(file)
    return Session(write(file, path), spikes, go)
