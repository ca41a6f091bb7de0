"""Spikes of a whole session: folders of phy, tables of spikes, and the parts that all such readers share."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lfadsrm_hpc.data import readers
from lfadsrm_hpc.data.dataset_collection import DatasetCollection
from lfadsrm_hpc.data.formats import selecting, stretches
from lfadsrm_hpc.data.formats.counting import count, count_all
from lfadsrm_hpc.data.formats.signals import Signal, resample
from lfadsrm_hpc.errors import DataError, NotFoundError, UsageError

RATE = 1000.0


# ---- counting


@settings(deadline=None, max_examples=200)
@given(
    st.lists(st.integers(0, 400), max_size=60),
    st.lists(st.integers(-20, 420), min_size=1, max_size=6),
    st.integers(1, 5),
    st.integers(1, 30),
)
def test_counts_are_those_of_plain_comparisons(
    times: list[int], starts: list[int], width: int, n_bins: int
) -> None:
    """In whole ms, given in seconds: no spike on an edge goes astray."""
    found = count(
        np.sort(np.array(times, float)) / 1000, np.array(starts, float) / 1000, n_bins, width / 1000
    )
    wanted = [
        [sum(s + k * width <= t < s + (k + 1) * width for t in times) for k in range(n_bins)] for s in starts
    ]
    assert found.tolist() == wanted


def test_late_in_a_long_recording() -> None:
    start = 86400.0
    times = start + np.arange(1000) * 0.001
    assert count(times, np.array([start]), 1000, 0.001).tolist() == [[1] * 1000]


def test_more_spikes_than_small_numbers_hold() -> None:
    trains = iter([np.zeros(70_000), np.array([0.5])])
    assert count_all(trains, 2, np.array([0.0]), 2, 0.5).tolist() == [[[70_000, 0], [0, 1]]]


# ---- intervals


def test_intervals_are_joined_and_tell_what_is_covered() -> None:
    given_intervals = [[5, 7], [0, 2], [2, 3], [6, 9], [8, 8], [np.nan, 4], [4, 3]]
    assert stretches.merged(given_intervals).tolist() == [[0, 3], [5, 9]]
    starts, stops = np.array([0, 0.5, 2.5, 5, -1, 8, 9.0]), np.array([3, 2.5, 5.5, 9, 1, 9.1, 9.5])
    assert stretches.covered(given_intervals, starts, stops).tolist() == [
        True,
        True,
        False,
        True,
        *[False] * 3,
    ]
    assert stretches.covered(None, starts, stops).all()
    assert not stretches.covered(np.zeros((0, 2)), starts, stops).any()
    common = stretches.common([None, [[0, 4], [6, 10]], [[1, 7], [9, 20]]])
    assert common is not None
    assert common.tolist() == [[1, 4], [6, 7], [9, 10]]
    assert stretches.common([None, None]) is None


# ---- signals


def test_fast_signals_are_averaged_and_slow_ones_interpolated() -> None:
    samples = np.arange(100.0)
    fast = Signal(lambda i, j: samples[i:j], 100, start=0.0, step=0.001)
    assert resample(fast, [0.010], 3, 0.010)[0, :, 0].tolist() == [14.5, 24.5, 34.5]
    slow = Signal(lambda i, j: samples[i:j], 100, start=0.0, step=0.1)
    np.testing.assert_allclose(resample(slow, [0.2], 3, 0.02)[0, :, 0], [2.1, 2.3, 2.5])
    equal = Signal(lambda i, j: samples[i:j], 100, start=0.0, step=0.01)
    assert resample(equal, [0.2], 3, 0.01)[0, :, 0].tolist() == [20, 21, 22]


def test_ends_gaps_and_missing_samples() -> None:
    times = np.array([0.0, 0.1, 0.2, 0.3, 0.9, 1.0])
    values = np.array([0.0, 1, np.nan, 3, 9, 10])
    signal = Signal(lambda i, j: values[i:j], 6, times=times)
    found = resample(signal, [-0.2], 65, 0.02)[0, :, 0]
    at = -0.2 + 0.02 * (np.arange(65) + 0.5)
    inside = (at > 0) & (at < 0.1)
    np.testing.assert_allclose(found[inside], at[inside] * 10)
    assert np.isnan(found[(at > 0.1) & (at < 0.3)]).all(), "beside a sample that is missing"
    assert np.isnan(found[(at > 0.4) & (at < 0.8)]).all(), "in a gap"
    assert np.isnan(found[(at < -0.06) | (at > 1.06)]).all(), "beyond the ends"
    assert found[(at > 1.0) & (at < 1.05)].tolist() == [10, 10], "half a step further"
    dense = Signal(lambda i, j: np.array([1.0, np.nan, 3.0, 5.0])[i:j], 4, start=0.0, step=0.001)
    assert resample(dense, [0.0], 1, 0.002)[0, 0, 0] == 1.0
    none = Signal(lambda i, j: np.zeros((j - i, 2)), 0, start=0.0, step=1.0, width=2)
    assert np.isnan(resample(none, [0.0, 5.0], 2, 0.5)).all()


# ---- choosing


def test_rows_are_chosen() -> None:
    table = pd.DataFrame(
        {
            "a": [1, 2, 3, 4],
            "b": ["x", b"y", "x", None],
            "c": [(1, 2), (3,), [], (2,)],
            "d": [True, False] * 2,
        }
    )

    def rows(**wanted: Any) -> list[int]:
        return np.flatnonzero(selecting.choose(table, wanted, what="trial", where="here")).tolist()

    assert rows() == [0, 1, 2, 3]
    assert rows(a=2) == [1]
    assert rows(a=[1, 4]) == [0, 3]
    assert rows(a={"min": 2, "max": 3}) == [1, 2]
    assert rows(b="y") == [1]
    assert rows(c=2) == [0, 3]
    assert rows(d=True) == rows(d=1) == [0, 2]
    assert rows(d=True, a={"min": 2}) == [2]
    with pytest.raises(DataError, match="no trial has a = '1'"):
        rows(a="1")
    with pytest.raises(DataError, match="no trial has a = nan"):
        rows(a=float("nan"))


def test_conditions_of_columns() -> None:
    table = pd.DataFrame(
        {"side": ["l", "r", None, "l"], "angle": [0.0, 45.0, 90.0, np.nan], "gain": [0.5, 1.0, 1.0, 2.0]}
    )

    def labels(*columns: str) -> list[Any]:
        found = selecting.labels(table, columns, where="here")
        assert found is not None
        return found.tolist()

    assert labels("side") == ["l", "r", "", "l"]
    np.testing.assert_array_equal(labels("angle"), [0, 45, 90, np.nan])
    assert labels("gain") == ["0.5", "1", "1", "2"]
    assert labels("side", "angle") == ["l, 0", "r, 45", "", ""]
    assert selecting.labels(table, (), where="here") is None


# ---- phy


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder of phy: clusters 2 (good), 5 (mua), 7 (noise); 9 has no spikes."""
    rng = np.random.default_rng(0)
    made = tmp_path / "recordings" / "day1"
    made.mkdir(parents=True)
    np.save(made / "spike_times.npy", np.sort(rng.integers(0, 20_000, 500)).astype(np.uint64))
    np.save(made / "spike_clusters.npy", rng.choice([2, 5, 7], 500).astype(np.int32))
    (made / "params.py").write_text(
        f"dat_path = 'raw.dat'\nsample_rate = {RATE}  # Hz\nimport os; os._exit(3)\n"
    )
    (made / "cluster_info.tsv").write_text(
        "cluster_id\tdepth\tgroup\n2\t100\tgood\n5\t250\tmua\n7\t10\tnoise\n9\t300\tgood\n"
    )
    (made / "trials.csv").write_text(
        "start_time,stop_time,go,target\n" + "".join(f"{k},{k + 0.9},{k + 0.1},t{k % 2}\n" for k in range(10))
    )
    return made


def test_a_folder_of_phy(folder: Path) -> None:
    options: dict[str, Any] = {"bin_ms": 50, "trial_table": "trials.csv", "align_to": "go", "after_ms": 500}
    ds = readers.read(folder, **options, condition="target")
    assert ds.neuron_name.values.tolist() == ["cluster2", "cluster5"]
    times = np.load(folder / "spike_times.npy") / RATE
    clusters = np.load(folder / "spike_clusters.npy")
    for place, cluster in enumerate((2, 5)):
        for trial in range(10):
            edges = trial + 0.1 + 0.05 * np.arange(11)
            mine = times[clusters == cluster]
            wanted = [int(((mine >= a - 1e-9) & (mine < b - 1e-9)).sum()) for a, b in pairwise(edges)]
            assert ds.spikes.values[trial, :, place].tolist() == wanted
    assert ds.condition.values.tolist() == ["t0", "t1"] * 5
    assert readers.read_info(folder, **options)["n_neurons"] == 2
    good = readers.read(folder, **options, neurons={"group": ["good", "noise"], "depth": {"max": 200}})
    assert good.neuron_name.values.tolist() == ["cluster2", "cluster7"]
    whole = readers.read(folder, bin_ms=50, continuous=True, start_ms=0, stop_ms=20_000, chop_ms=1000)
    assert whole.sizes["trial"] == 20
    assert int(whole.spikes.sum()) == int((clusters != 7).sum())


def test_folders_in_a_collection(folder: Path) -> None:
    (folder.parent / "notes.txt").write_text("")
    (folder.parent / "empty").mkdir()
    dc = DatasetCollection(folder.parent)
    (ds,) = dc.add_all(bin_ms=50, trial_table="trials.csv", after_ms=500)
    assert (ds.name, ds.load().sizes["trial"]) == ("day1", 10)
    folder.rename(folder.with_name("2020.02.03"))
    (other,) = DatasetCollection(folder.parent).add_all(bin_ms=50, trial_table="trials.csv", after_ms=500)
    assert other.name == other.load().attrs["name"] == "2020.02.03"
    folder.with_name("2020.02.03").rename(folder)
    before = ds.fingerprint()
    table = folder / "trials.csv"
    table.write_text(table.read_text().replace("\n9,9.9,9.1,t1", ""))
    assert ds.load().sizes["trial"] == 9, "a changed table is noticed"
    assert ds.fingerprint() != before


def test_what_is_wrong_with_a_folder(folder: Path) -> None:
    options: dict[str, Any] = {"bin_ms": 50, "trial_table": "trials.csv", "after_ms": 500}
    with pytest.raises(NotFoundError, match=r"no such table[\s\S]*trial\.csv"):
        readers.read(folder, **(options | {"trial_table": "trial.csv"}))
    with pytest.raises(DataError, match="no table of trials"):
        readers.read(folder, bin_ms=50, after_ms=500)
    (folder / "params.py").write_text("sample_rate = rate()\n")
    with pytest.raises(DataError, match="samples a second"):
        readers.read(folder, **options)
    assert readers.read(folder, **options, sample_rate=RATE).sizes["trial"] == 10
    with pytest.raises(UsageError, match="sample_rate is 0"):
        readers.read(folder, **options, sample_rate=0)
    (folder / "cluster_info.tsv").write_text("id\tgroup\n2\tgood\n2\tgood\n")
    with pytest.raises(DataError, match="or one cluster twice"):
        readers.read(folder, **options, sample_rate=RATE)
    (folder / "cluster_info.tsv").unlink()
    assert readers.read(folder, **options, sample_rate=RATE).sizes["neuron"] == 3
    np.save(folder / "spike_clusters.npy", np.zeros(3))
    with pytest.raises(DataError, match="500 spike times and 3 clusters"):
        readers.read(folder, **options, sample_rate=RATE)
    np.save(folder / "spike_clusters.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"cannot be read[\s\S]*day1"):
        readers.read(folder, **options, sample_rate=RATE)
    (folder / "spike_clusters.npy").write_bytes(b"")
    with pytest.raises(DataError, match=r"cannot be read[\s\S]*day1"):
        readers.read(folder, **options, sample_rate=RATE)


# ---- tables of spikes


def test_a_table_of_spikes_in_trials(tmp_path: Path) -> None:
    path = tmp_path / "day1.csv"
    path.write_text("trial, unit, time\n2,b,0\n2,b,3\n1,b,12\n1,b,19\n2,a,-5\n")
    ds = readers.read(path, bin_ms=10, time_unit="ms", before_ms=10, after_ms=20)
    assert ds.neuron_name.values.tolist() == ["a", "b"]
    assert ds.spikes.values.tolist() == [[[0, 0], [0, 0], [0, 2]], [[1, 0], [0, 2], [0, 0]]]
    (tmp_path / "trials.tsv").write_text("trial\tgo\tside\n1\t10\tl\n2\t0\tr\n3\t0\tl\n")
    ds = readers.read(
        path,
        bin_ms=10,
        time_unit="ms",
        after_ms=10,
        trial_table="trials.tsv",
        align_to="go",
        condition="side",
    )
    assert ds.spikes.values[:, 0].tolist() == [[0, 2], [0, 2], [0, 0]]
    assert ds.condition.values.tolist() == ["l", "r", "l"]
    (tmp_path / "trials.tsv").write_text("trial\n1\n")
    with pytest.raises(DataError, match="trial 2 of a spike is not in the table"):
        readers.read(path, bin_ms=10, after_ms=10, trial_table="trials.tsv")


def test_trials_with_clocks_of_their_own_and_a_table_of_the_session(tmp_path: Path) -> None:
    """A trial starts at 0 of its own clock; what is kept is what the table says."""
    rows = ["trial,neuron,time", "1,a,0.005", "1,b,0.031", "2,a,0.012", "2,a,0.013"]
    (tmp_path / "day1.csv").write_text("\n".join(rows))
    (tmp_path / "trials.csv").write_text("trial,start_time,cue\n1,300,0.01\n2,310,0.02\n3,320,0.03\n")
    options: dict[str, Any] = {"bin_ms": 10, "trial_table": "trials.csv", "keep": ["start_time", "cue"]}
    ds = readers.read(tmp_path / "day1.csv", after_ms=40, **options)
    assert ds.spikes.values.tolist() == [
        [[1, 0], [0, 0], [0, 0], [0, 1]],
        [[0, 0], [2, 0], [0, 0], [0, 0]],
        [[0, 0]] * 4,
    ]
    assert ds.start_time.values.tolist() == [300, 310, 320]
    ds = readers.read(tmp_path / "day1.csv", align_to="cue", before_ms=10, after_ms=10, **options)
    assert ds.spikes.values.tolist() == [[[1, 0], [0, 0]], [[2, 0], [0, 0]], [[0, 0], [0, 0]]]
    assert ds.cue.values.tolist() == [0.01, 0.02, 0.03]
    with pytest.raises(UsageError, match="times count from trials"):
        readers.read(tmp_path / "day1.csv", bin_ms=10, continuous=True, chop_ms=20)


def test_what_is_kept_of_a_table_in_ms(folder: Path) -> None:
    table = pd.DataFrame({"start_time": [1000, 3000], "go": [1500, 3500], "off": [1800, 3800]})
    table.to_csv(folder / "ms.csv", index=False)
    table.div(1000).to_csv(folder / "s.csv", index=False)
    options: dict[str, Any] = {"bin_ms": 10, "align_to": "go", "after_ms": 500, "keep": ["go", "off"]}
    in_s = readers.read(folder, trial_table="s.csv", **options)
    in_ms = readers.read(
        folder, trial_table="ms.csv", time_unit="ms", trials={"off": {"min": 1000}}, **options
    )
    np.testing.assert_array_equal(in_ms.spikes, in_s.spikes)
    assert in_ms.go.values.tolist() == [1500, 3500]
    assert in_ms.off.values.tolist() == [1800, 3800]
    assert in_s.go.values.tolist() == [1.5, 3.5]


def test_spikes_and_trials_on_two_clocks_or_in_two_units(folder: Path) -> None:
    (folder / "ms.csv").write_text("start_time\n" + "\n".join(str(1000 * k + 30_000) for k in range(5)))
    with pytest.raises(
        DataError, match=r"no spike lies in the window of any trial: spikes go[\s\S]*time_unit"
    ):
        readers.read(folder, bin_ms=10, after_ms=500, trial_table="ms.csv")


def test_a_table_of_spikes_of_a_session(tmp_path: Path) -> None:
    path = tmp_path / "day1.csv"
    path.write_text("spike_time,neuron\n0.105,3\n1.1,3\n1.119,12\n")
    (tmp_path / "trials.csv").write_text("start_time\n0.1\n1.1\n")
    ds = readers.read(path, bin_ms=10, after_ms=20, trial_table="trials.csv")
    assert ds.neuron_name.values.tolist() == ["3", "12"]
    assert ds.spikes.values.tolist() == [[[1, 0], [0, 0]], [[1, 0], [0, 1]]]
    whole = readers.read(path, bin_ms=10, continuous=True)
    assert (whole.sizes["time"], float(whole.time[0])) == (102, 100.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot be read"),
        ("a,b\n1,2\n", r"no column 'time'[\s\S]*it has: a, b"),
        ("time\n1\n", "no column 'neuron'"),
        ("time,neuron\nx,1\n", "no numbers"),
        ("time,neuron\n1,1\n2,\n", "line 3 has an empty cell"),
        ('time,neuron\n1,"2\n', "cannot be read"),
        ("time,neuron\ninf,1\n", "is not finite"),
        ("time,neuron\n", "no numbers|no neurons"),
        ("\x00\xff", "cannot be read|no column"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "day1.csv"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(DataError, match=message) as error:
        readers.read(path, bin_ms=10, continuous=True)
    assert "day1.csv" in str(error.value)
