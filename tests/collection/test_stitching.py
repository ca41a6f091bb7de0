"""What preparing stitched runs writes and says: choices of the alignment, quality, warnings, other data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from lfadsrm_hpc.api import RunCollection
from lfadsrm_hpc.collection.alignment_table import alignment_lines
from lfadsrm_hpc.collection.experiment_file import read_experiment
from lfadsrm_hpc.collection.params import RunParams
from lfadsrm_hpc.collection.run_spec import RunSpec
from lfadsrm_hpc.data.alignment.matrices import align
from lfadsrm_hpc.data.dataset import Dataset
from lfadsrm_hpc.data.dataset_collection import DatasetCollection
from lfadsrm_hpc.data.inputs import read_inputs
from lfadsrm_hpc.data.readers import from_arrays, save_dataset
from lfadsrm_hpc.errors import (
    ConfigError,
    DataError,
    DataWarning,
    MismatchError,
    NotFoundError,
    ResultsError,
    UsageError,
)

PARAMS = RunParams(spike_bin_ms=10, co_dim=0, batch_size=4, gen_dim=8, ic_enc_dim=8, factors_dim=3)


def rates(index: int, *, n_bins: int = 12, n_neurons: int = 6) -> Any:
    """Counts a bin by condition, (4, T, D), of three latents that all datasets share."""
    latent = np.random.default_rng(9).standard_normal((4, 20, 3)).cumsum(axis=1)[:, :n_bins]
    weights = np.random.default_rng(index).standard_normal((3, n_neurons)) * 0.3
    return 4 * np.exp(latent @ weights)


def counts(index: int, **sizes: int) -> tuple[Any, Any]:
    condition = np.arange(40) % 4
    return np.random.default_rng(index).poisson(rates(index, **sizes)[condition]), condition


def collection(
    folder: Path, n_datasets: int = 3, *, bare: tuple[int, ...] = (), **changes: Any
) -> tuple[RunCollection, DatasetCollection]:
    dc = DatasetCollection(folder / "datasets")
    for index in range(n_datasets):
        spikes, condition = counts(index)
        Dataset.from_arrays(
            dc, f"day{index}", spikes, bin_ms=10, condition=None if index in bare else condition
        )
    rc = RunCollection(folder, "runs", dc)
    rc.add_params(PARAMS.replace(**changes))
    rc.add_run_spec(RunSpec("all", dc, range(n_datasets)))
    return rc, dc


def test_input_files_tell_how_they_were_aligned(tmp_path: Path) -> None:
    rc, _ = collection(tmp_path, alignment_method="ridge", alignment_weights="neurons")
    report = rc.prepare_for_lfads()
    assert report.warnings == []
    (run,) = rc.runs
    inputs = [read_inputs(path) for path in run.input_files().values()]
    expected = align(inputs, 3, method="ridge", weights="neurons")
    for row, one, a in zip(report.alignment, inputs, expected, strict=True):
        assert {**row, **one.attributes["alignment"]} == row
        assert (row["run_spec"], row["factors_dim"], row["dataset"]) == ("all", 3, one.dataset)
        assert (row["made_by"], row["conditions"], row["all_conditions"]) == ("conditions", 4, 4)
        assert (row["alignment_method"], row["alignment_weights"]) == ("ridge", "neurons")
        assert row["r2"] == pytest.approx(a.r2, abs=1e-6)
        assert row["r2_left_out"] == pytest.approx(a.r2_left_out, abs=1e-6)
        np.testing.assert_allclose(row["r2_by_factor"], a.r2_by_factor, atol=1e-6)
        np.testing.assert_array_equal(one.alignment_matrix_cxf, a.matrix)
        assert one.reconstruction is not None
        np.testing.assert_array_equal(one.reconstruction.r2_by_neuron, a.r2_by_neuron)
    again = rc.prepare_for_lfads()  # from the files that are there
    assert again.inputs_written == []
    assert again.alignment == report.alignment


def test_numbers_and_arrays_of_a_run(tmp_path: Path) -> None:
    rc, _ = collection(tmp_path)
    rc.prepare_for_lfads()
    (run,) = rc.runs
    table = run.alignment_table()
    assert table.index.tolist() == ["day0", "day1", "day2"]
    assert (table.r2 > 0.5).all()
    assert (table.r2 > table.r2_left_out).all()
    assert table.columns[-3:].tolist() == ["factor_0", "factor_1", "factor_2"]
    found = run.load_alignment("day1")
    assert dict(found.sizes) == {"condition": 4, "time": 12, "component": 3, "factor": 3, "neuron": 6}
    assert found.attrs["r2"] == table.r2["day1"]
    z, said = found.components.values, found.projection.values
    assert 1 - ((z - said) ** 2).sum() / (z**2).sum() == pytest.approx(found.attrs["r2"], abs=1e-4)
    axes = run.plot_alignment(components=2)
    assert axes.shape == (3, 2)
    with pytest.raises(NotFoundError, match="day1"):
        run.load_alignment("day11")


def test_a_sweep_over_factors_has_an_alignment_each(tmp_path: Path) -> None:
    """Files that differ in their alignment alone are copies of each other but for that."""
    rc, _ = collection(tmp_path)
    rc.add_params(PARAMS.replace(factors_dim=2))
    report = rc.prepare_for_lfads()
    assert [row["factors_dim"] for row in report.alignment] == [3, 3, 3, 2, 2, 2]
    for run in rc.runs:
        found = run.load_alignment("day2")
        assert (found.sizes["component"], found.sizes["factor"]) == (run.params.factors_dim,) * 2
        assert found.attrs["r2"] == run.alignment_table().r2["day2"]
    lines = alignment_lines(report.alignment)
    assert [line.partition(", R2")[0] for line in lines] == [
        "alignment of all (3 factors)",
        "alignment of all (2 factors)",
    ]
    many = [{**report.alignment[0], "dataset": f"d{i}", "r2": 0.1 * i} for i in range(1, 9)]
    (line,) = alignment_lines(many)
    assert "8 datasets, from d1 0.10" in line
    assert "to d8 0.80" in line


def test_no_alignment_is_asked_for(tmp_path: Path) -> None:
    rc, _ = collection(tmp_path, use_alignment_matrix=False)
    assert rc.prepare_for_lfads().alignment == []
    (run,) = rc.runs
    assert run.alignment_table().empty
    with pytest.raises(ResultsError, match="no alignment was used"):
        run.load_alignment("day0")
    with pytest.raises(ResultsError, match="no dataset of run"):
        run.plot_alignment()


def test_datasets_without_conditions(tmp_path: Path) -> None:
    """They are refused, or start unaligned, and every preparation says so."""
    rc, _ = collection(tmp_path / "refuse", bare=(1,))
    with pytest.raises(DataError, match=r"(?s)no conditions.*'day1'.*alignment_without_conditions to 'pca'"):
        rc.prepare_for_lfads()
    for choice, text in (("random", "start at random numbers"), ("pca", "own principal components")):
        rc, _ = collection(tmp_path / choice, bare=(1,), alignment_without_conditions=choice)
        for _ in range(2):
            with pytest.warns(DataWarning, match=f"dataset 'day1' in run spec 'all': .*{text}"):
                report = rc.prepare_for_lfads()
        (line,) = alignment_lines(report.alignment)
        assert "day1 not aligned" in line
        (run,) = rc.runs
        paths = run.input_files()
        one = read_inputs(paths["day1"])
        about = one.attributes["alignment"]
        assert (about["made_by"], about["r2"]) == (choice, None)
        assert text in about["note"]
        assert (one.alignment_matrix_cxf is None) == (choice == "random")
        assert read_inputs(paths["day0"]).alignment_matrix_cxf is not None
        assert run.alignment_table().made_by.tolist() == ["conditions", choice, "conditions"]
        assert np.isnan(run.alignment_table().r2["day1"])
        with pytest.raises(ResultsError, match=text):
            run.load_alignment("day1")
        assert run.plot_alignment().shape == (2, 3)


def test_one_dataset_with_a_read_in_of_its_own_components(tmp_path: Path) -> None:
    rc, _ = collection(tmp_path, 1, use_single_dataset_alignment_matrix=True)
    (row,) = rc.prepare_for_lfads().alignment
    assert row["r2"] == pytest.approx(1)
    matrix = read_inputs(rc.runs[0].input_files()["day0"]).alignment_matrix_cxf
    assert matrix is not None
    np.testing.assert_allclose(matrix.T @ matrix, np.eye(3), atol=1e-9)


def test_choices_are_part_of_the_data_hash_only_where_they_differ() -> None:
    """Hashes of inputs that were made before there was a choice stay."""
    assert RunParams().hashed_data_values(3) == {"alignment": ["least_squares", 50]}
    changed = RunParams(alignment_weights="neurons", alignment_without_conditions="pca")
    assert changed.hashed_data_values(3) == {
        "alignment": [
            "least_squares",
            50,
            "alignment_weights=neurons",
            "alignment_without_conditions=pca",
        ]
    }
    assert changed.hashed_data_values(1) == {}


# ---------------------------------------------------------------------------------------- other data


def other(index: int, *, bin_ms: float = 5.0, start_ms: float = -100.0) -> Any:
    """Data of another window of the same neurons, in bins of 5 ms: 8 of 10 ms."""
    spikes = np.random.default_rng(100 + index).poisson(rates(index, n_bins=16)[np.arange(24) % 4] / 2)
    return from_arrays(
        spikes,
        bin_ms=bin_ms,
        time=start_ms + bin_ms * np.arange(16),
        condition=np.arange(24) % 4,
        name=f"day{index}",
    )


def by_path(dataset: Dataset, index: int, folder: Path) -> None:
    dataset.align_by(save_dataset(other(index), folder / f"elsewhere/day{index}.nc"))


def by_relative_path(dataset: Dataset, index: int, folder: Path) -> None:
    save_dataset(other(index), dataset.collection.path / f"cue/day{index}.h5")
    dataset.align_by(f"cue/day{index}.h5")


def by_own_reader(dataset: Dataset, index: int, folder: Path) -> None:
    path = folder / f"day{index}.mine"
    np.savez(path.with_suffix(".npz"), spikes=other(index).spikes.values)
    path.with_suffix(".npz").rename(path)
    dataset.align_by(path, reader=lambda p: other(int(p.stem[-1])).assign(spikes=other(index).spikes))


def by_function(dataset: Dataset, index: int, folder: Path) -> None:
    dataset.align_by(lambda: other(index))


def in_memory(dataset: Dataset, index: int, folder: Path) -> None:
    dataset.align_by(other(index))


@pytest.mark.parametrize("give", [by_path, by_relative_path, by_own_reader, by_function, in_memory])
def test_other_data_for_alignment_from_anywhere(tmp_path: Path, give: Any) -> None:
    rc, dc = collection(tmp_path)
    own = dc[0].fingerprint()
    for index, dataset in enumerate(dc):
        give(dataset, index, tmp_path)
    assert dc[0].fingerprint() != own
    report = rc.prepare_for_lfads()
    assert all(row["other_data"] for row in report.alignment)
    inputs = [read_inputs(path) for path in rc.runs[0].input_files().values()]
    for one, a in zip(inputs, align(inputs, 3, data=[other(i) for i in range(3)]), strict=True):
        np.testing.assert_array_equal(one.alignment_matrix_cxf, a.matrix)
        assert one.train_data.shape[1] == 12
    found = rc.runs[0].load_alignment("day0")
    np.testing.assert_array_equal(found.time, -100 + 10.0 * np.arange(8))


def test_the_same_file_read_otherwise(tmp_path: Path) -> None:
    """By options of its reader: in Python, and from an experiment.toml."""
    (tmp_path / "datasets").mkdir()
    for index in range(3):
        spikes, condition = counts(index)
        cue = other(index)
        with h5py.File(tmp_path / f"datasets/day{index}.h5", "w") as file:
            for name, values, width in (("go", (spikes, condition), 10.0), ("cue", None, 5.0)):
                found = (cue.spikes.values, cue.condition.values) if values is None else values
                file[f"{name}/spikes"], file[f"{name}/condition"] = found
                file[f"{name}/time"] = (-100 if values is None else 0) + width * np.arange(found[0].shape[1])
    expected, memory = collection(tmp_path / "memory")
    for index, dataset in enumerate(memory):
        dataset.align_by(other(index))
    expected.prepare_for_lfads()

    dc = DatasetCollection(tmp_path / "datasets")
    for index in range(3):
        Dataset(dc, f"day{index}.h5", group="go").align_by(group="cue")
    rc = RunCollection(tmp_path, "python", dc)
    rc.add_params(PARAMS)
    rc.add_run_spec(RunSpec("all", dc, range(3)))
    text = """
    [datasets]
    options = { group = "go" }
    alignment_options = { group = "cue" }
    [params]
    spike_bin_ms = 10
    co_dim = 0
    batch_size = 4
    gen_dim = 8
    ic_enc_dim = 8
    factors_dim = 3
    [run_specs]
    singles = false
    stitched = "all"
    """
    (tmp_path / "experiment.toml").write_text(text)
    for made in (rc, read_experiment(tmp_path).build(RunCollection)):
        made.prepare_for_lfads()
        for one, two in zip(*(r.runs[0].input_files().values() for r in (made, expected)), strict=True):
            np.testing.assert_array_equal(
                read_inputs(one).alignment_matrix_cxf, read_inputs(two).alignment_matrix_cxf
            )
            assert read_inputs(one).train_data.shape[1:] == (12, 6)
    with pytest.raises(UsageError, match="has no file"):
        memory[0].align_by(group="cue")
    with pytest.raises(UsageError, match="come from memory"):
        memory[0].align_by(other(0), bin_ms=5)
    (tmp_path / "experiment.toml").write_text(text.replace('{ group = "cue" }', '{ gruop = "cue" }'))
    with pytest.raises(ConfigError, match=r"(?s)gruop.*alignment_options.*group"):
        read_experiment(tmp_path).build(RunCollection)


def test_other_data_that_change_are_noticed(tmp_path: Path) -> None:
    rc, dc = collection(tmp_path)
    for index, dataset in enumerate(dc):
        by_path(dataset, index, tmp_path)
    rc.prepare_for_lfads()
    save_dataset(other(1, start_ms=-50.0), tmp_path / "elsewhere/day0.nc")
    with pytest.raises(MismatchError, match="'day0' has changed"):
        rc.prepare_for_lfads()


def test_other_data_that_do_not_fit(tmp_path: Path) -> None:
    rc, dc = collection(tmp_path)
    dc[0].align_by(other(0))
    with pytest.raises(DataError, match=r"(?s)day0 has 8 bins, day1 has 12 bins.*all of them or to none"):
        rc.prepare_for_lfads()
    for index, dataset in enumerate(dc):
        dataset.align_by(other(index, bin_ms=3.0))
    with pytest.raises(DataError, match=r"(?s)3 ms cannot be combined to bins of 10 ms.*alignment data"):
        rc.prepare_for_lfads()
    for index, dataset in enumerate(dc):
        dataset.align_by(other(index).isel(neuron=slice(4)))
    with pytest.raises(DataError, match=r"(?s)have 4 neurons, the session 6.*'day0'"):
        rc.prepare_for_lfads()
    dc[0].align_by("nowhere.h5")
    with pytest.raises(NotFoundError, match=r"nowhere\.h5"):
        rc.prepare_for_lfads()
    for dataset in dc:
        dataset.align_by(None)
    assert not any(row["other_data"] for row in rc.prepare_for_lfads().alignment)


@pytest.mark.parametrize("form", ["npz", "mat", "h5", "text"])
def test_conditions_come_from_any_reader(tmp_path: Path, form: str) -> None:
    """The same alignment, whether conditions are Matlab doubles, plain HDF5, numpy integers or texts."""
    from scipy.io import savemat

    dc = DatasetCollection(tmp_path)
    for index in range(3):
        spikes, condition = counts(index)
        path = tmp_path / f"day{index}.{form if form != 'text' and index == 1 else 'npz'}"
        if path.suffix == ".mat":
            fields = {"spikes": spikes.transpose(0, 2, 1).astype(float), "conditionId": condition * 1.0}
            savemat(path, {**fields, "timeMs": 10.0 * np.arange(12)})
        elif path.suffix == ".h5":
            with h5py.File(path, "w") as file:
                file["spikes"], file["condition"], file["bin_ms"] = spikes, condition.astype("f4"), 10.0
        else:
            names = condition.astype(str) if form == "text" and index == 1 else condition
            np.savez(path, spikes=spikes, condition=names, bin_ms=10.0)
        Dataset(dc, path.name)
    rc = RunCollection(tmp_path, "runs", dc)
    rc.add_params(PARAMS.replace(split="periodic"))  # texts and numbers are not stratified alike
    rc.add_run_spec(RunSpec("all", dc, range(3)))
    rc.prepare_for_lfads()
    expected, _ = collection(tmp_path / "memory", split="periodic")
    expected.prepare_for_lfads()
    for one, two in zip(*(r.runs[0].input_files().values() for r in (rc, expected)), strict=True):
        np.testing.assert_allclose(
            read_inputs(one).alignment_matrix_cxf,  # type: ignore[arg-type]
            read_inputs(two).alignment_matrix_cxf,  # type: ignore[arg-type]
        )


def test_attributes_are_json_without_nan(tmp_path: Path) -> None:
    """More factors than components: there is no R2 of those that do not exist."""
    rc, _ = collection(tmp_path, factors_dim=40)
    rc.prepare_for_lfads()
    with h5py.File(next(iter(rc.runs[0].input_files().values()))) as file:
        text = file.attrs["attributes"]
    found = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
    assert found["alignment"]["r2_by_factor"][18:] == [None] * 22
