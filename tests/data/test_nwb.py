"""NWB files that pynwb wrote."""

from __future__ import annotations

import builtins
import tracemalloc
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import nwb_files
import pytest
from pynwb import TimeSeries
from pynwb.ecephys import ElectricalSeries
from pynwb.epoch import TimeIntervals

from lfadsrm_hpc.data import readers
from lfadsrm_hpc.data.dataset import Dataset
from lfadsrm_hpc.data.dataset_collection import DatasetCollection
from lfadsrm_hpc.data.evaluation import evaluation_params
from lfadsrm_hpc.errors import DataError, UsageError

GO: dict[str, Any] = {"bin_ms": 20, "align_to": "go_cue_time", "before_ms": 100, "after_ms": 300}


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> nwb_files.Session:
    return nwb_files.reaching(tmp_path_factory.mktemp("nwb") / "day1.nwb")


def counted(times: Any, start: float, n_bins: int, bin_s: float) -> Any:
    """Count with plain comparisons."""
    edges = [start + k * bin_s for k in range(n_bins + 1)]
    return [sum(1 for t in times if a <= t < b) for a, b in pairwise(edges)]


def test_trials_are_aligned_and_spikes_counted(session: nwb_files.Session) -> None:
    ds = readers.read(session.path, **GO, condition="target")
    kept = [k for k, time in enumerate(session.go) if np.isfinite(time)]
    assert dict(ds.sizes) == {"trial": 7, "time": 20, "neuron": 5}
    for row, k in enumerate(kept):
        for unit, times in enumerate(session.spikes):  # one unsorted, one without spikes
            wanted = counted(times, session.go[k] - 0.1, 20, 0.02)
            assert ds.spikes.values[row, :, unit].tolist() == wanted
    assert ds.time.values.tolist() == [-100 + 20 * k for k in range(20)]
    assert ds.condition.values.tolist() == [["left", "right"][k % 2] for k in kept]
    assert ds.trial_id.values.tolist() == kept
    assert ds.neuron_name.values.tolist() == ["unit10", "unit11", "unit12", "unit13", "unit14"]
    assert ds.attrs["notes"] == ["1 trials without go_cue_time are left out"]
    assert (ds.attrs["subject"], ds.attrs["date"]) == ("J", "2020-02-03")


def test_what_describes_a_session_is_read_without_spikes(
    session: nwb_files.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lfadsrm_hpc.data.formats.recording import Recording

    options: dict[str, Any] = {**GO, "condition": ["target"], "neurons": {"quality": "good"}}
    wanted = readers.info_of(readers.read(session.path, **options))
    monkeypatch.setattr(Recording, "sorted_spikes", lambda *_: pytest.fail("spikes were read"))
    assert readers.read_info(session.path, **options) == wanted
    assert wanted["n_neurons"] == 4


@pytest.mark.parametrize(
    ("neurons", "kept"),
    [
        ({"quality": "good"}, [10, 12, 13, 14]),
        ({"quality": ["mua", "noise"]}, [11]),
        ({"location": "PMd"}, [12, 13]),
        ({"electrode_group": "g0"}, [10, 11, 14]),
        ({"depth": {"min": 100, "max": 250}}, [11, 12]),
        ({"location": "M1", "quality": "good", "heldout": False}, [10]),
    ],
)
def test_neurons_are_chosen(session: nwb_files.Session, neurons: dict[str, Any], kept: list[int]) -> None:
    ds = readers.read(session.path, **GO, neurons=neurons)
    assert ds.neuron_name.values.tolist() == [f"unit{k}" for k in kept]
    whole = readers.read(session.path, **GO)
    np.testing.assert_array_equal(ds.spikes, whole.spikes.values[:, :, [k - 10 for k in kept]])


def test_trials_are_chosen_and_columns_kept(session: nwb_files.Session) -> None:
    ds = readers.read(
        session.path,
        **GO,
        trials={"target": "left", "reaction": {"max": 0.245}},
        condition=["target", "reaction"],
        keep=["reaction", "target_pos", "target"],
        neuron_name="quality",
    )
    assert ds.trial_id.values.tolist() == [0, 2, 4]
    assert ds.condition.values.tolist() == ["left, 0.2", "left, 0.22", "left, 0.24"]
    assert ds.target_pos.dims == ("trial", "target_pos_item")
    assert ds.target_pos.values.tolist() == [[0, -1], [2, -1], [4, -1]]
    assert ds.target.values.tolist() == ["left"] * 3
    assert ds.neuron_name.values.tolist() == ["good", "mua", "good", "good", "good"]


def test_signals_are_binned(session: nwb_files.Session) -> None:
    ds = readers.read(session.path, **GO, signals=["hand", "behavior/*/speed*", "acquisition/emg"])
    starts = np.array([1000 * t - 100 for t in session.go if np.isfinite(t)])
    middle = (starts[:, None] + 20 * np.arange(20) + 9.5) * 0.01  # the mean of 20 samples, in m
    np.testing.assert_allclose(ds.hand.values[..., 0], middle)
    np.testing.assert_allclose(ds.hand.values[..., 1], -middle)
    assert ds.hand.attrs["units"] == "m"
    assert ds.hand_channel.values.tolist() == ["x", "y"]
    # 10 Hz and bins of 20 ms: a line between samples, at the middle of the bin
    wanted = (starts[:, None] + 20 * np.arange(20) + 10) / 100
    covered = wanted <= 199
    np.testing.assert_allclose(ds.speed.values[..., 0][covered], wanted[covered])
    np.testing.assert_allclose(ds.emg.values[..., 0], middle * 100)


def test_channels_with_factors_of_their_own(tmp_path: Path) -> None:
    file = nwb_files.new_file()
    nwb_files.add_units(file)
    nwb_files.add_trials(file)
    series = ElectricalSeries(
        name="lfp",
        data=np.ones((2000, 2)),
        electrodes=file.create_electrode_table_region([0, 1], "two"),
        rate=100.0,
        conversion=0.5,
        channel_conversion=[1.0, 3.0],
    )
    file.add_acquisition(series)
    path = nwb_files.write(file, tmp_path / "a.nwb")
    ds = readers.read(path, bin_ms=20, after_ms=200, signals="lfp")
    assert np.unique(ds.lfp.values, axis=1).tolist() == [[[0.5, 1.5]]] * 8


def test_the_whole_recording(session: nwb_files.Session) -> None:
    ds = readers.read(session.path, bin_ms=50, continuous=True, signals="hand")
    first = np.floor(min(t.min() for t in session.spikes if t.size) / 0.05) * 0.05
    assert ds.sizes["trial"] == 1
    np.testing.assert_allclose(ds.time[0], 1000 * first)
    assert ds.spikes.sum(("trial", "time")).values.tolist() == [t.size for t in session.spikes]
    part = readers.read(session.path, bin_ms=50, continuous=True, start_ms=4000, stop_ms=6000)
    assert part.sizes["time"] == 40
    for unit, times in enumerate(session.spikes):
        assert part.spikes.values[0, :, unit].tolist() == counted(times, 4.0, 40, 0.05)


def test_intervals_of_any_name(tmp_path: Path) -> None:
    file = nwb_files.new_file()
    spikes = nwb_files.add_units(file)
    reaches = TimeIntervals(name="reaches", description="r")
    reaches.add_column("kind", "k")
    for k, start in enumerate((1.0, 4.0, 9.5)):
        reaches.add_row(start_time=start, stop_time=start + 1 + k, kind=k)
    file.add_time_intervals(reaches)
    path = nwb_files.write(file, tmp_path / "a.nwb")
    ds = readers.read(path, bin_ms=100, intervals="reaches", after_ms=500, condition="kind")
    assert ds.condition.values.tolist() == [0, 1, 2]
    assert ds.spikes.values[1, :, 0].tolist() == counted(spikes[0], 4.0, 5, 0.1)
    with pytest.raises(DataError, match=r"no table of trials[\s\S]*continuous = true"):
        readers.read(path, bin_ms=100, after_ms=500)
    with pytest.raises(DataError, match=r"no table of intervals 'reach'[\s\S]*did you mean 'reaches'"):
        readers.read(path, bin_ms=100, after_ms=500, intervals="reach")
    chopped = readers.read(path, bin_ms=100, intervals="reaches", continuous=True, chop_ms=500)
    assert chopped.recording.values.tolist() == ["0"] * 2 + ["1"] * 4 + ["2"] * 6
    assert chopped.window_start.values[:3].tolist() == [1000, 1500, 4000]
    with pytest.raises(UsageError, match="give chop_ms"):
        readers.read(path, bin_ms=100, intervals="reaches", continuous=True)
    some = readers.read(
        path, bin_ms=100, intervals="reaches", continuous=True, chop_ms=500, trials={"kind": [0, 2]}
    )
    assert some.recording.values.tolist() == ["0"] * 2 + ["2"] * 6
    with pytest.raises(UsageError, match="trials is about trials"):
        readers.read(path, bin_ms=100, continuous=True, trials={"kind": 0})


def test_windows_that_share_bins(tmp_path: Path) -> None:
    """Nested epochs are refused as recordings; of trials that overlap it is said."""
    file = nwb_files.new_file()
    nwb_files.add_units(file)
    for start, stop, tag in ((1.0, 2.0, "a"), (1.5, 3.0, "b"), (3.0, 4.0, "b")):
        file.add_epoch(start, stop, [tag])
    path = nwb_files.write(file, tmp_path / "a.nwb")
    options: dict[str, Any] = {"bin_ms": 100, "intervals": "epochs"}
    with pytest.raises(DataError, match=r"the intervals '0' \(1 to 2 s\) and '1' [\s\S]*overlap"):
        readers.read(path, continuous=True, chop_ms=500, **options)
    chosen = readers.read(path, continuous=True, chop_ms=500, trials={"tags": "b"}, **options)
    assert chosen.recording.values.tolist() == ["1"] * 3 + ["2"] * 2
    assert "notes" not in readers.read(path, after_ms=500, **options).attrs
    ds = readers.read(path, after_ms=600, **options)
    assert ds.sizes["trial"] == 3
    assert "windows of 1 trials begin before that of another has ended" in ds.attrs["notes"][0]


OBSERVED = [[[0, 10], [10, 20]], [[0, 20]], [[0, 20]], [[0, 20]], [[0, 7], [9, 20]]]


def test_windows_in_which_a_neuron_was_not_recorded(tmp_path: Path) -> None:
    session = nwb_files.reaching(tmp_path / "a.nwb", observed=OBSERVED)
    ds = readers.read(session.path, **GO)  # go cues at 6.5 (to 6.8), 8.5 (from 8.4)
    assert ds.trial_id.values.tolist() == [0, 1, 2, 3, 6, 7]
    assert "1 trials in which a neuron was not recorded are left out" in ds.attrs["notes"]
    neurons = readers.read(session.path, **GO, unobserved="drop_neurons")
    assert neurons.neuron_name.values.tolist() == ["unit10", "unit11", "unit12", "unit13"]
    assert neurons.sizes["trial"] == 7
    assert readers.read(session.path, **GO, unobserved="ignore").sizes == {
        "trial": 7,
        "time": 20,
        "neuron": 5,
    }
    parts = readers.read(session.path, bin_ms=100, continuous=True, chop_ms=1000)
    assert parts.recording.values.tolist() == ["0.0"] * 7 + ["0.1"] * 11
    never = nwb_files.reaching(tmp_path / "b.nwb", observed=[*OBSERVED[:4], [[30, 40]]])
    with pytest.raises(
        DataError, match=r"neuron unit14 was recorded during 0 of 7 trials[\s\S]*drop_neurons"
    ):
        readers.read(never.path, **GO)
    with pytest.raises(DataError, match="nothing of the recording is left"):
        readers.read(never.path, bin_ms=100, continuous=True)


def test_held_out_neurons(session: nwb_files.Session) -> None:
    ds = readers.read(session.path, **GO, held_out={"heldout": True})
    assert evaluation_params(ds, 20) == {"held_out_neurons": (4,)}


def test_parts_that_are_missing(tmp_path: Path) -> None:
    path = nwb_files.write(nwb_files.new_file(), tmp_path / "empty.nwb")
    with pytest.raises(DataError, match=r"no table of units[\s\S]*empty\.nwb"):
        readers.read(path, **GO)
    file = nwb_files.new_file()
    file.add_unit_column("quality", "q")
    file.add_unit(quality="good")
    path = nwb_files.write(file, tmp_path / "unsorted.nwb")
    with pytest.raises(DataError, match="no spike times in the table of units"):
        readers.read(path, **GO)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"bin_ms": None}, UsageError, "give bin_ms"),
        ({"bin_ms": 0}, UsageError, "bin_ms is 0"),
        ({"after_ms": None}, DataError, r"trials take 1500 to 1500 ms[\s\S]*go_cue_time"),
        ({"after_ms": 310}, UsageError, "from -100 to 310 ms is not a whole number of bins"),
        ({"after_ms": -100}, UsageError, "not a whole number"),
        ({"after_ms": "300"}, UsageError, "not a number"),
        ({"algin_to": "start_time"}, UsageError, r"nwb files has no option 'algin_to'[\s\S]*'align_to'"),
        ({"align_to": "go_cue"}, DataError, r"no column 'go_cue'[\s\S]*did you mean 'go_cue_time'"),
        ({"align_to": "target"}, DataError, "holds no times"),
        ({"condition": "targets"}, DataError, "did you mean 'target'"),
        ({"condition": "target_pos"}, DataError, "several values a trial"),
        ({"neurons": {"quality": "great"}}, DataError, r"no neuron has quality = 'great'[\s\S]*good, mua"),
        ({"neurons": {"qualities": "good"}}, DataError, "did you mean 'quality'"),
        ({"neurons": "good"}, UsageError, "it must be a table"),
        ({"trials": {"target": {"min": 1}}}, DataError, "no number to compare"),
        ({"trials": {"reaction": {"least": 1}}}, DataError, "write it"),
        ({"trials": {"target": "left", "reaction": {"min": 0.265}}}, DataError, "no trial has all of"),
        ({"keep": ["nothing"]}, DataError, "no column 'nothing'"),
        ({"signals": ["hnad"]}, DataError, r"no signal 'hnad'[\s\S]*did you mean 'hand'"),
        ({"unobserved": "keep"}, UsageError, "drop_trials"),
        ({"continuous": True}, UsageError, "is about trials"),
        ({"start_ms": 0}, UsageError, "goes with continuous"),
        ({"format": "nwbb"}, UsageError, "did you mean 'nwb'"),
    ],
)
def test_options_that_cannot_be(
    session: nwb_files.Session, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message) as raised:
        readers.read(session.path, **(GO | options))
    assert "day1.nwb" in str(raised.value)


def test_two_signals_of_one_name(tmp_path: Path) -> None:
    file = nwb_files.new_file()
    nwb_files.add_units(file)
    nwb_files.add_trials(file)
    nwb_files.add_signals(file)
    file.add_acquisition(TimeSeries(name="speed", data=np.ones(300), rate=10.0, unit="V"))
    file.add_acquisition(TimeSeries(name="broken", data=np.ones(3), timestamps=[0.0, 2.0, 1.0], unit="V"))
    file.add_acquisition(TimeSeries(name="words", data=["a", "b"], timestamps=[0.0, 2.0], unit="n/a"))
    path = nwb_files.write(file, tmp_path / "a.nwb")
    with pytest.raises(DataError, match=r"2 signals have the name 'speed'[\s\S]*acquisition/speed"):
        readers.read(path, **GO, signals="speed")
    ds = readers.read(path, **GO, signals="*speed")
    assert {"acquisition_speed", "processing_behavior_BehavioralTimeSeries_speed"} <= set(ds.data_vars)
    with pytest.raises(DataError, match="times of signal 'broken' do not increase"):
        readers.read(path, **GO, signals="broken")
    with pytest.raises(DataError, match="no signal 'words'"):
        readers.read(path, **GO, signals="words")


def test_times_that_cannot_be(tmp_path: Path) -> None:
    file = nwb_files.new_file()
    nwb_files.add_units(file)
    nwb_files.add_trials(file)
    file.add_unit(spike_times=[1.0, np.nan], electrodes=[0], quality="good", heldout=False)
    path = nwb_files.write(file, tmp_path / "a.nwb")
    with pytest.raises(
        DataError, match=r"spike time of neuron unit5 is not finite|neuron unit\d+ is not finite"
    ):
        readers.read(path, **GO)
    assert readers.read(path, **GO, neurons={"quality": "mua"}).sizes["neuron"] == 1
    file = nwb_files.new_file()
    nwb_files.add_units(file)
    for _ in range(3):
        file.add_trial(start_time=np.nan, stop_time=1.0)
    path = nwb_files.write(file, tmp_path / "b.nwb")
    with pytest.raises(DataError, match="no trial has a time in 'start_time'"):
        readers.read(path, bin_ms=20, after_ms=100)


def test_raw_data_of_a_large_file_are_not_read(tmp_path: Path) -> None:
    """Memory follows what is asked for: the file holds 40 MB of voltages and 8 MB of a slow signal."""
    file = nwb_files.new_file()
    nwb_files.add_units(file)
    nwb_files.add_trials(file)
    file.add_acquisition(
        TimeSeries(name="raw", data=np.zeros((500_000, 40), np.int16), rate=25000.0, unit="V")
    )
    file.add_acquisition(TimeSeries(name="eye", data=np.zeros((1_000_000,)), rate=50000.0, unit="V"))
    path = nwb_files.write(file, tmp_path / "large.nwb")
    readers.read(path, **GO)  # what is imported and cached stays out of the measure
    tracemalloc.start()
    readers.read(path, **GO, signals="eye")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6e6


def test_damaged_files(session: nwb_files.Session, tmp_path: Path) -> None:
    whole = session.path.read_bytes()
    for name, content in (("cut", whole[: len(whole) // 2]), ("empty", b""), ("garbage", b"no " * 1000)):
        path = tmp_path / f"{name}.nwb"
        path.write_bytes(content)
        with pytest.raises(DataError, match=rf"cannot be read[\s\S]*{name}\.nwb"):
            readers.read(path, **GO)
    path = tmp_path / "headless.nwb"
    path.write_bytes(whole)
    with h5py.File(path, "r+") as file:
        del file["units/spike_times_index"]
        file["units/spike_times_index"] = np.array([2**40] * 5, dtype=np.uint64)
    with pytest.raises(DataError, match=r"headless\.nwb"):
        readers.read(path, **GO)


def test_other_suffixes_are_told_by_their_content(session: nwb_files.Session, tmp_path: Path) -> None:
    path = tmp_path / "day1.h5"
    path.write_bytes(session.path.read_bytes())
    assert readers.read(path, **GO).sizes["trial"] == 7
    odd = tmp_path / "day1.data"
    odd.write_bytes(session.path.read_bytes())
    assert readers.read(odd, **GO, format="nwb").sizes["trial"] == 7


def test_without_pynwb(session: nwb_files.Session, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "pynwb":
            raise ImportError("no pynwb")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UsageError, match=r"pip install 'lfadsrm_hpc\[nwb\]'"):
        readers.read(session.path, **GO)


def test_a_dataset_with_options(session: nwb_files.Session) -> None:
    dc = DatasetCollection(session.path.parent)
    ds = Dataset(dc, "day1.nwb", **GO, condition="target")
    assert ds.load_info()["n_conditions"] == 2
    assert ds.load().sizes["trial"] == 7
    assert ds.source()["options"] == {**GO, "condition": "target"}
    other = Dataset.from_file(dc, "day1.nwb", name="wide", **(GO | {"bin_ms": 100}))
    assert other.load().sizes["time"] == 4
    with pytest.raises(UsageError, match="did you mean 'align_to'"):
        Dataset(dc, "day1.nwb", name="wrong", align="go_cue_time")
    assert dc.names == ["day1", "wide"]
