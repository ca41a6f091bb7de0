"""Files of the original LFADS, of the Matlab run manager, of AutoLFADS and the Neural Latents Benchmark."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pytest
from matlab_files import cell, save_mat

from lfadsrm_hpc.collection.params import RunParams
from lfadsrm_hpc.data import readers
from lfadsrm_hpc.data.dataset import Dataset
from lfadsrm_hpc.data.dataset_collection import DatasetCollection
from lfadsrm_hpc.data.evaluation import evaluation_params
from lfadsrm_hpc.errors import DataError, NotFoundError, UsageError

Array = npt.NDArray[Any]
REFERENCE = Path(__file__).resolve().parents[1] / "model" / "reference"
E, T, D, F = 10, 6, 4, 2
RAW = 5  # bins before binning that make one


def write(path: Path, content: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for key, value in content.items():
            file[key] = value
    return path


# ---- the original and the run manager


@pytest.fixture
def run(tmp_path: Path) -> tuple[Path, Array, Array]:
    """Return an input file of the run manager, its counts before binning, and its external inputs."""
    rng = np.random.default_rng(0)
    raw = rng.poisson(0.3, (E, T * RAW + 2, D))  # the last two do not fill a bin
    external = rng.random((E, T * RAW + 2, 1))
    valid = np.arange(0, E, 5)
    train = np.setdiff1d(np.arange(E), valid)
    binned = raw[:, : T * RAW].reshape(E, T, RAW, D).sum(axis=2)
    inputs = external[:, : T * RAW].reshape(E, T, RAW, 1).sum(axis=2)  # it sums them
    path = write(
        tmp_path / "data_AbC123" / "single_day1" / "lfads_day1.h5",
        {
            "train_data": binned[train],
            "valid_data": binned[valid],
            "train_ext_input": inputs[train][..., 0],  # it loses dimensions of size 1
            "valid_ext_input": inputs[valid][..., 0],
            "train_truth": np.full((len(train), T, D), 7.0 * RAW),  # of rates too
            "valid_truth": np.full((len(valid), T, D), 7.0 * RAW),
            "conversion_factor": [1 / RAW],
            "train_inds": train + 1.0,
            "valid_inds": valid + 1.0,
            "alignment_matrix_cxf": rng.random((D, F)),
            "alignment_bias_c": rng.random(D),
        },
    )
    return path, raw, external


def input_info(path: Path, raw: Array, version: str = "5", **changes: Any) -> Path:
    n_raw = raw.shape[1]
    content: dict[str, Any] = {
        "trainInds": np.setdiff1d(np.arange(E), np.arange(0, E, 5))[None] + 1.0,
        "validInds": np.arange(0, E, 5)[None] + 1.0,
        "paramInputDataHash": "AbC123",
        "seq_timeVector": -100 + 2.0 * np.arange(n_raw)[:, None],
        "seq_binSizeMs": np.array([[2.0]]),
        "conditionId": cell([f"c{k % 3}" for k in range(E)], (E, 1)),
        "counts": raw.transpose(2, 1, 0).astype(float),
    } | changes
    return save_mat(
        path.with_name("inputInfo_day1.mat"), {k: v for k, v in content.items() if v is not None}, version
    )


@pytest.mark.parametrize("version", ["5", "7.3"])
def test_with_the_file_beside_it(run: tuple[Path, Array, Array], version: str) -> None:
    path, raw, _ = run
    input_info(path, raw, version)
    ds = readers.read(path)
    np.testing.assert_array_equal(ds.spikes, raw[:, : T * RAW].reshape(E, T, RAW, D).sum(axis=2))
    assert ds.attrs["bin_ms"] == 10
    assert ds.time.values.tolist() == [-100 + 10 * k for k in range(T)]
    assert ds.condition.values.tolist() == [f"c{k % 3}" for k in range(E)]
    assert [k for k, part in enumerate(ds.given_split.values) if part == "valid"] == [0, 5]
    np.testing.assert_allclose(ds.truth, 7.0)
    assert ds.external_input.sizes == {"trial": E, "time": T, "input": 1}
    assert ds.alignment_matrix.dims == ("neuron", "factor")
    assert ds.alignment_bias.sizes == {"neuron": D}
    assert readers.read_info(path)["n_conditions"] == 3


def test_counts_before_binning(run: tuple[Path, Array, Array]) -> None:
    path, raw, external = run
    input_info(path, raw, externalInputs=external.transpose(2, 1, 0))
    ds = readers.read(path, raw_counts=True)
    np.testing.assert_array_equal(ds.spikes, raw)
    np.testing.assert_allclose(ds.external_input, external)
    assert ds.attrs["bin_ms"] == 2
    assert float(ds.time[0]) == -100
    assert ds.condition.values[1] == "c1"
    input_info(path, raw)  # without the inputs before binning: a share of their sum in each bin
    ds = readers.read(path, raw_counts=True)
    assert ds.sizes["time"] == T * RAW
    summed = external[:, : T * RAW].reshape(E, T, RAW, 1).sum(axis=2)
    np.testing.assert_allclose(ds.external_input.values.reshape(E, T, RAW, 1).sum(axis=2), summed)


def test_links_of_a_run_lead_to_the_file_beside(run: tuple[Path, Array, Array]) -> None:
    path, raw, _ = run
    input_info(path, raw)
    link = path.parents[2] / "param_XyZ456" / "single_day1" / "lfadsInput" / "lfads_day1.h5"
    link.parent.mkdir(parents=True)
    link.symlink_to("../../../data_AbC123/single_day1/lfads_day1.h5")
    assert "condition" in readers.read(link).coords
    moved = path.rename(path.with_name("session.h5"))
    assert "condition" in readers.read(moved, input_info="inputInfo_day1.mat").coords
    with pytest.raises(NotFoundError, match="no such inputInfo file"):
        readers.read(moved, input_info="inputInfo_day2.mat", bin_ms=10)


def test_without_the_file_beside_it(run: tuple[Path, Array, Array]) -> None:
    path, *_ = run
    with pytest.raises(DataError, match="width of the bins"):
        readers.read(path)
    assert readers.read(path, bin_ms=10).sizes["trial"] == E
    with pytest.raises(NotFoundError, match="counts before binning"):
        readers.read(path, bin_ms=10, raw_counts=True)


@pytest.mark.parametrize(("factor", "truth"), [(1 / RAW, 50.0 * RAW), (1.0, 50.0), (1.0, 0.5), (0.2, 2.5)])
def test_counts_tell_the_unit_of_true_rates(tmp_path: Path, factor: float, truth: float) -> None:
    """The run manager's spikes/s, summed over the bins that make one, and the original's counts a bin."""
    parts = {"train": 8, "valid": 2}
    counts = {f"{part}_data": np.tile([0, 1], (n, T, D // 2)) for part, n in parts.items()}
    rates = {f"{part}_truth": np.full((n, T, D), truth) for part, n in parts.items()}
    path = write(tmp_path / "lfads_a.h5", {**counts, **rates, "conversion_factor": [factor]})
    np.testing.assert_allclose(readers.read(path, bin_ms=10).truth, 50)


def test_the_examples_of_the_original(tmp_path: Path) -> None:
    """They say how wide bins are in seconds, and the conditions under names of their own."""
    content = {
        "train_data": np.ones((5, T, D)),
        "valid_data": np.ones((2, T, D)),
        "train_truth": np.full((5, T, D), 0.5),
        "valid_truth": np.full((2, T, D), 0.5),
        "conversion_factor": 2.0,
        "dt": 0.01,
        "condition_labels_train": [0, 0, 1, 1, 2],
        "condition_labels_valid": [2, 0],
    }
    path = write(tmp_path / "chaotic_rnn_dataset_N50.h5", content)
    ds = readers.read(path)
    assert ds.attrs["bin_ms"] == 10
    assert ds.condition.values.tolist() == [0, 0, 1, 1, 2, 2, 0]
    np.testing.assert_allclose(ds.truth, 100)  # 0.5 x 2 counts in 10 ms
    assert readers.read_info(path) == readers.info_of(ds)
    assert readers.read_info(path)["n_conditions"] == 3
    with pytest.raises(DataError, match="width of the bins is not known"):
        readers.read(write(tmp_path / "in_ms.h5", {**content, "dt": 10.0}))


def test_one_neuron(tmp_path: Path) -> None:
    content = {"train_data": np.ones((5, T)), "valid_data": np.zeros((2, T))}
    ds = readers.read(write(tmp_path / "lfads_a.h5", content), bin_ms=10)
    assert ds.spikes.sizes == {"trial": 7, "time": T, "neuron": 1}


@pytest.mark.parametrize("factor", [1.0, 0.5, 0.2, 0.05])
def test_factors_of_the_run_manager_are_no_widths(tmp_path: Path, factor: float) -> None:
    content = {
        "train_data": np.ones((5, T, D)),
        "valid_data": np.ones((2, T, D)),
        "conversion_factor": [factor],
    }
    with pytest.raises(DataError, match="width of the bins is not known"):
        readers.read(write(tmp_path / "lfads_a.h5", content))


def test_the_counts_decide_how_many_bins_went_into_one(tmp_path: Path) -> None:
    """25 bins make 2 of 12 or of 11, as far as times tell."""
    raw = np.random.default_rng(0).poisson(1.0, (2, 25, D))
    binned = raw[:, :22].reshape(2, 2, 11, D).sum(axis=2)
    content = {"train_data": binned[:1], "valid_data": binned[1:], "train_inds": [1.0], "valid_inds": [2.0]}
    path = write(tmp_path / "lfads_day1.h5", content)
    inds = {"trainInds": np.array([[1.0]]), "validInds": np.array([[2.0]])}
    input_info(path, raw, conditionId=np.array([[4.0], [5.0]]), **inds)
    ds = readers.read(path)
    assert ds.attrs["bin_ms"] == 22
    assert ds.condition.values.tolist() == [4, 5]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"validInds": np.array([[1.0]])}, "is about 9 trials, not the 10"),
        ({"trainInds": np.arange(8)[None] + 3.0}, "is about 10 trials, not the 10"),
        ({"conditionId": np.ones((3, 1))}, "3 conditions, too few"),
        ({"seq_timeVector": np.zeros((2, 1))}, "2 times do not fit 6 bins"),
    ],
)
def test_files_that_do_not_belong_together(
    run: tuple[Path, Array, Array], change: dict[str, Any], message: str
) -> None:
    path, raw, _ = run
    input_info(path, raw, **change)
    with pytest.raises(DataError, match=rf"{message}[\s\S]*inputInfo_day1\.mat"):
        readers.read(path)


def test_damaged_parts(run: tuple[Path, Array, Array]) -> None:
    path, raw, _ = run
    info = input_info(path, raw)
    info.write_bytes(info.read_bytes()[:300])
    with pytest.raises(DataError, match=r"cannot be read[\s\S]*lfads_day1\.h5"):
        readers.read(path)
    info.unlink()
    for change, message in (
        ({"train_inds": np.array([1.0, np.nan, *range(3, 9)])}, "train_inds and valid_inds name 7 trials"),
        ({"train_inds": np.arange(3.0)}, "unequal|name 4 trials"),
        ({"train_data": np.zeros((8, T))}, "do not go together"),
    ):
        with h5py.File(path, "r") as file:
            content = {key: file[key][()] for key in file}
        with pytest.raises(DataError, match=message):
            readers.read(write(path.with_name("bad.h5"), content | change), bin_ms=10)


@pytest.mark.parametrize("case", ["poisson_single", "controller_ext", "multisession", "gaussian"])
def test_inputs_of_the_reference_runs(case: str) -> None:
    files = sorted((REFERENCE / case).glob("lfads_*.h5"))
    assert files
    for path in files:
        ds = readers.read(path, bin_ms=10)
        with h5py.File(path) as file:
            assert ds.sizes["trial"] == len(file["train_data"]) + len(file["valid_data"])
            np.testing.assert_array_equal(ds.spikes[ds.given_split.values == "valid"], file["valid_data"][()])


def test_a_fit_with_the_split_of_the_file(run: tuple[Path, Array, Array]) -> None:
    from lfadsrm_hpc.data.inputs import make_inputs

    ds = readers.read(run[0], bin_ms=10)
    params = RunParams(split="given")
    made = make_inputs(
        ds, name="day1", bin_ms=10, train_to_test_ratio=4, split=params.split, seed=0, fingerprint="x"
    )
    assert made.valid_inds.tolist() == [0, 5]


# ---- AutoLFADS and NLB

N_IN, T_IN = 3, 4


@pytest.fixture
def nlb() -> tuple[Array, dict[str, Any]]:
    """Return all counts, and a file of them with one held-out neuron and two bins of forward prediction."""
    rng = np.random.default_rng(0)
    whole = rng.poisson(1.0, (E + 3, T, D))
    parts = {"train": np.arange(7), "valid": np.arange(7, E), "test": np.arange(E, E + 3)}
    content: dict[str, Any] = {}
    for part, rows in parts.items():
        content[f"{part}_encod_data"] = whole[rows, :T_IN, :N_IN].astype(np.float32)
        if part != "test":
            content[f"{part}_recon_data"] = whole[rows].astype(np.float16)
            content[f"{part}_behavior"] = rng.random((len(rows), T, 2))
    return whole, content


def test_held_out_neurons_and_forward_prediction(tmp_path: Path, nlb: tuple[Array, dict[str, Any]]) -> None:
    whole, content = nlb
    ds = readers.read(write(tmp_path / "mc_maze.h5", content), bin_ms=5)
    np.testing.assert_array_equal(ds.spikes, whole[:E])
    assert ds.spikes.dtype == np.int64
    assert ds.held_out.values.tolist() == [False, False, False, True]
    assert ds.attrs["forward_ms"] == 10
    assert evaluation_params(ds, 5) == {"held_out_neurons": (3,), "forward_prediction_bins": 2}
    assert evaluation_params(ds, 10) == {"held_out_neurons": (3,), "forward_prediction_bins": 1}
    with pytest.raises(DataError, match="no whole number of bins of 4 ms"):
        evaluation_params(ds, 4)
    assert ds.given_split.values.tolist() == ["train"] * 7 + ["valid"] * 3
    np.testing.assert_array_equal(ds.behavior[:7], content["train_behavior"])
    params = RunParams(spike_bin_ms=5, **evaluation_params(ds, 5))
    assert params.forward_prediction_bins == 2


def test_behaviour_that_ends_before_the_counts(tmp_path: Path, nlb: tuple[Array, dict[str, Any]]) -> None:
    _, content = nlb
    short = {key: value[:, :T_IN] for key, value in content.items() if key.endswith("behavior")}
    targets = {"train_condition": np.arange(7) % 2, "valid_condition": np.arange(3) % 2}
    path = write(
        tmp_path / "mc_maze.h5", {**content, **short, **targets, "train_lowd": np.ones((7, 2, 3, 4))}
    )
    with pytest.raises(DataError, match="train_lowd and valid_lowd do not go together"):
        readers.read(path, bin_ms=5)
    ds = readers.read(path, bin_ms=5, part="train")
    np.testing.assert_array_equal(ds.behavior[:, :T_IN], short["train_behavior"])
    assert ds.behavior.dims == ("trial", "time", "behavior_channel")
    assert bool(np.isnan(ds.behavior[:, T_IN:]).all())
    assert ds.lowd.dims == ("trial", "lowd_item")


def test_counts_that_are_not_there_are_no_zeros(tmp_path: Path, nlb: tuple[Array, dict[str, Any]]) -> None:
    _, content = nlb
    del content["valid_recon_data"]
    path = write(tmp_path / "mc_maze.h5", content)
    with pytest.raises(DataError, match="there is no valid_recon_data"):
        readers.read(path, bin_ms=5)
    assert readers.read(path, bin_ms=5, part="train").sizes["trial"] == 7


def test_behaviour_in_the_older_layout(tmp_path: Path) -> None:
    behaviour = np.random.default_rng(0).random((7, T, 2))
    content = {
        "train_data": np.ones((5, T, D)),
        "valid_data": np.ones((2, T, D)),
        "train_behavior": behaviour[[0, 2, 3, 4, 6]],
        "valid_behavior": behaviour[[1, 5]],
        "train_inds": [0, 2, 3, 4, 6],
        "valid_inds": [1, 5],
    }
    ds = readers.read(write(tmp_path / "a.h5", content), bin_ms=10)
    np.testing.assert_array_equal(ds.behavior, behaviour)


def test_a_dataset_tells_its_run_params(tmp_path: Path, nlb: tuple[Array, dict[str, Any]]) -> None:
    write(tmp_path / "mc_maze.h5", nlb[1])
    dc = DatasetCollection(tmp_path)
    assert Dataset(dc, "mc_maze.h5", bin_ms=5).evaluation_params(5) == {
        "held_out_neurons": (3,),
        "forward_prediction_bins": 2,
    }
    plain = Dataset.from_arrays(dc, "plain", np.ones((3, 4, 2)), bin_ms=5)
    assert plain.evaluation_params(5) == {}


def test_parts(tmp_path: Path, nlb: tuple[Array, dict[str, Any]]) -> None:
    whole, content = nlb
    path = write(tmp_path / "a.h5", content)
    np.testing.assert_array_equal(readers.read(path, bin_ms=5, part="valid").spikes, whole[7:E])
    test = readers.read(path, bin_ms=5, part="test")
    known = np.zeros_like(whole[E:])
    known[:, :T_IN, :N_IN] = whole[E:, :T_IN, :N_IN]
    np.testing.assert_array_equal(test.spikes, known)
    assert test.attrs["notes"] == [
        "counts of 1 held-out neurons and of the last 2 bins are not known in test trials and stand as 0"
    ]
    assert evaluation_params(test, 5) == {"held_out_neurons": (3,), "forward_prediction_bins": 2}
    bare = {key: value for key, value in content.items() if not key.startswith("test")}
    with pytest.raises(DataError, match=r"no test trials[\s\S]*train, valid"):
        readers.read(write(tmp_path / "b.h5", bare), bin_ms=5, part="test")
    with pytest.raises(UsageError, match="it can be all, train, valid, test"):
        readers.read(path, bin_ms=5, part="everything")


def test_nothing_is_held_out_where_both_are_the_same(
    tmp_path: Path, nlb: tuple[Array, dict[str, Any]]
) -> None:
    whole, _ = nlb
    content: dict[str, Any] = {"conversion_factor": np.array([0.005])}
    for part, rows in (("train", slice(0, 7)), ("valid", slice(7, E))):
        content |= {f"{part}_{kind}_data": whole[rows] for kind in ("encod", "recon")}
        content[f"{part}_inds"] = np.arange(E)[::-1][rows].astype(float)  # from 0, in another order
        content[f"{part}_truth"] = whole[rows] * 200.0
    ds = readers.read(write(tmp_path / "a.h5", content))
    np.testing.assert_array_equal(ds.spikes, whole[:E][::-1])
    np.testing.assert_allclose(ds.truth, whole[:E][::-1] * 200.0)
    assert ds.attrs["bin_ms"] == 5
    assert evaluation_params(ds, 5) == {}


def test_files_that_contradict_themselves(tmp_path: Path, nlb: tuple[Array, dict[str, Any]]) -> None:
    _, content = nlb
    other = content["train_encod_data"] + 1
    path = write(tmp_path / "a.h5", content | {"train_encod_data": other})
    with pytest.raises(DataError, match=r"are not the first bins and neurons[\s\S]*ignore_encod=true"):
        readers.read(path, bin_ms=5)
    ds = readers.read(path, bin_ms=5, ignore_encod=True)
    assert "held_out" not in ds.coords
    for change, message in (
        ({"valid_recon_data": np.zeros((3, T + 1, D))}, "do not go together|are not the first"),
        ({"train_recon_data": np.zeros((7, T))}, r"train_recon_data has the shape \(7, 6\)"),
        ({"train_recon_data": np.full((7, T, D), np.nan)}, "are not the first bins"),
        ({"test_encod_data": np.zeros((3, T, D + 1))}, "more bins or neurons than is reconstructed"),
    ):
        part = "test" if "test_encod_data" in change else "all"
        with pytest.raises(DataError, match=message):
            readers.read(write(tmp_path / "b.h5", content | change), bin_ms=5, part=part)
    with pytest.raises(DataError, match="width of the bins"):
        readers.read(write(tmp_path / "c.h5", content))
