"""Preparing: what is written, what is never rewritten, what is refused, and who may do it at one time."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lfadsrm_hpc.collection import params as params_module
from lfadsrm_hpc.collection import preparation, stored
from lfadsrm_hpc.collection.collection import RunCollection
from lfadsrm_hpc.collection.params import RunParams, param
from lfadsrm_hpc.collection.run_spec import RunSpec
from lfadsrm_hpc.data.dataset import Dataset
from lfadsrm_hpc.data.dataset_collection import DatasetCollection
from lfadsrm_hpc.data.inputs import read_fingerprint, read_inputs
from lfadsrm_hpc.errors import (
    ConfigError,
    DataError,
    DataWarning,
    MismatchError,
    NotFoundError,
    ParamsError,
    UsageError,
)

HERE = Path(__file__).parent


@dataclass(frozen=True, kw_only=True)
class MyParams(RunParams):
    area: str = param("M1", "Brain area.", kind="str", affects="data")


def snapshot(folder: Path, pattern: str) -> dict[str, tuple[int, int, bytes]]:
    """Return inode, time and content of files: equal only if nobody wrote them again."""
    return {
        str(p.relative_to(folder)): (p.stat().st_ino, p.stat().st_mtime_ns, p.read_bytes())
        for p in sorted(folder.rglob(pattern))
        if p.is_file()
    }


def other_datasets(tmp_path: Path, **changes: dict[str, Any]) -> DatasetCollection:
    """Return the datasets of the fixture, some of them changed."""
    dc = DatasetCollection(tmp_path / "datasets", name="lorenz_example")
    for i in range(3):
        name = f"dataset{i + 1:03d}"
        change = {"seed": i, "n_trials": 20, **changes.get(name, {})}
        spikes = np.random.default_rng(change["seed"]).poisson(0.5, (change["n_trials"], 10, 4 + i))
        Dataset.from_arrays(dc, name, spikes, bin_ms=2, condition=np.arange(len(spikes)) % 4)
    return dc


def again(collection: RunCollection, dc: DatasetCollection) -> RunCollection:
    """Return what the same script would build with other datasets."""
    new = RunCollection(collection.root, collection.name, dc, collection.comment)
    new.add_params(collection.params)
    new.add_run_spec([RunSpec(s.name, dc, s.dataset_names) for s in collection.run_specs])
    return new


# ---------------------------------------------------------------- the road


def test_the_script_of_the_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lfadsrm_hpc.data.readers import from_arrays, save_dataset

    monkeypatch.chdir(tmp_path)
    Path("lorenz_example/datasets").mkdir(parents=True)
    spikes = np.random.default_rng(0).poisson(0.1, (800, 12, 5))
    save_dataset(
        from_arrays(spikes, bin_ms=1, name="dataset001"), Path("lorenz_example/datasets/dataset001.h5")
    )

    dc = DatasetCollection("lorenz_example/datasets")
    Dataset(dc, "dataset001.h5")
    dc.load_info()
    rc = RunCollection("lorenz_example/runs", "example", dc)
    par = RunParams(
        spike_bin_ms=2, co_dim=0, batch_size=150, gen_dim=64, ic_enc_dim=64, learning_rate_stop=1e-3
    )
    rc.add_params(par.generate_sweep("factors_dim", [2, 4, 6, 8]))
    rc.add_run_spec(RunSpec(dc[0].single_run_name, dc, [0]))
    rc.prepare_for_lfads()

    run = rc.find_run("single_dataset001", 1)
    assert run.params.factors_dim == 4
    inputs = read_inputs(run.input_files()["dataset001"])
    assert inputs.train_data.shape == (640, 6, 5)
    assert inputs.bin_ms == 2.0
    assert sorted([*inputs.train_inds, *inputs.valid_inds]) == list(range(800))


def test_what_is_written(collection: RunCollection) -> None:
    steps: list[tuple[int, int, str]] = []
    report = collection.prepare_for_lfads(lambda done, total, text: steps.append((done, total, text)))
    # each single run shares its inputs over the params; the stitched one has matrices of its own for each
    assert len(report.inputs_written) == 2 + 2 * 3
    assert report.written == [run.id for run in collection.runs]
    assert (report.kept, report.inputs_kept) == ([], [])
    assert [s[0] for s in steps] == list(range(1, len(steps) + 1))
    assert steps[-1][0] == steps[-1][1]
    root = collection.path
    assert {p.name for p in root.iterdir() if p.is_file()} == {
        "collection.json",
        "summary.txt",
        "launch_tensorboard.sh",
    }
    assert sorted(p.relative_to(root) for p in report.inputs_written) == sorted(
        p.relative_to(root) for p in root.rglob("lfads_*.h5")
    )
    assert not [p for p in root.rglob("*") if p.name.startswith(".")]
    for run in collection.runs:
        record = run.record()
        assert RunParams.from_json(record["params"]) == run.params
        assert record["spec"]["datasets"] == list(run.dataset_names)
        assert record["data_hash"] == run.data_hash
        for entry, (name, path) in zip(record["inputs"], run.input_files().items(), strict=True):
            assert entry["dataset"] == name
            assert root / entry["file"] == path
            assert entry["fingerprint"] == collection.dataset_collection.find(name).fingerprint()  # type: ignore[union-attr]
            assert entry["inputs_fingerprint"] == read_fingerprint(path)
        run.check_inputs()
    text = collection.layout.summary.read_text()
    assert repr(collection).splitlines()[0] in text
    assert all(run.id in text for run in collection.runs)
    assert all(p.describe() in text for p in collection.params)
    assert "dataset002: 20 trials, 5 neurons, 10 bins of 2 ms" in text


def test_alignment_matrices_only_where_they_are_wanted(
    collection: RunCollection, datasets: DatasetCollection, base: RunParams
) -> None:
    collection.add_params(base.replace(use_alignment_matrix=False, factors_dim=3))
    collection.add_params(base.replace(use_single_dataset_alignment_matrix=True, factors_dim=3))
    collection.prepare_for_lfads()

    def shapes(spec: str, index: int) -> list[Any]:
        files = collection.find_run(spec, index).input_files().values()
        matrices = [read_inputs(path).alignment_matrix_cxf for path in files]
        return [None if m is None else m.shape for m in matrices]

    assert shapes("all", 0) == [(4, 2), (5, 2), (6, 2)]
    assert shapes("all", 1) == [(4, 3), (5, 3), (6, 3)]
    assert shapes("all", 2) == [None, None, None]
    assert shapes("single_dataset001", 0) == [None]
    assert shapes("single_dataset001", 3) == [(4, 3)]


def test_alignment_data_of_a_dataset_is_used(tmp_path: Path, base: RunParams) -> None:
    class Other(Dataset):
        def alignment_data(self) -> Any:
            return self.load().isel(trial=slice(0, 12)).assign_coords(trial=np.arange(12))

    plain, special = (DatasetCollection(tmp_path / name) for name in ("a", "b"))
    matrices = []
    for kind, dc in ((Dataset, plain), (Other, special)):
        for i in range(2):
            spikes = np.random.default_rng(i).poisson(0.5, (20, 10, 4))
            kind.from_arrays(dc, f"d{i}", spikes, bin_ms=2, condition=np.arange(20) % 4)
        rc = RunCollection(tmp_path / "runs", kind.__name__, dc)
        rc.add_params(base.replace(factors_dim=2))
        rc.add_run_spec(RunSpec("all", dc, [0, 1]))
        rc.prepare_for_lfads()
        matrices.append(read_inputs(rc.runs[0].input_files()["d0"]).alignment_matrix_cxf)
    assert matrices[0] is not None
    assert matrices[1] is not None
    assert not np.allclose(matrices[0], matrices[1])


def test_every_dataset_is_loaded_and_fingerprinted_once(tmp_path: Path, base: RunParams) -> None:
    from lfadsrm_hpc.data.readers import from_arrays, save_dataset

    reads: list[str] = []

    class Counting(Dataset):
        def read(self) -> Any:
            reads.append(self.name)
            return super().read()

    dc = DatasetCollection(tmp_path)
    for i in range(2):
        spikes = np.random.default_rng(i).poisson(0.5, (20, 10, 4))
        content = from_arrays(spikes, bin_ms=2, condition=np.arange(20) % 4, name=f"d{i}")
        save_dataset(content, tmp_path / f"d{i}.h5")
        Counting(dc, f"d{i}.h5")
    rc = RunCollection(tmp_path / "runs", "once", dc)
    rc.add_params(base.generate_sweep("factors_dim", [2, 3], "seed", range(5)))
    rc.add_run_spec([RunSpec("single_d0", dc, 0), RunSpec("all", dc, [0, 1]), RunSpec("single_d1", dc, 1)])
    report = rc.prepare_for_lfads()
    assert len(report.written) == 30
    assert len(report.inputs_written) == 1 + 1 + 2 * 2
    assert sorted(reads) == ["d0", "d1"]


# ---------------------------------------------------------------- again and later


def test_changing_the_folder_afterwards_does_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: RunParams
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    spikes = np.random.default_rng(0).poisson(0.5, (20, 10, 4))
    np.savez("data/day1.npz", spikes=spikes, bin_ms=base.spike_bin_ms)
    dc = DatasetCollection("data")
    Dataset(dc, "day1.npz")
    rc = RunCollection("runs", "relative", dc)
    rc.add_params(base)
    rc.add_run_spec(RunSpec("day1", dc, [0]))
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    rc.prepare_for_lfads(warn=False)
    monkeypatch.chdir(tmp_path)
    assert rc.runs[0].is_prepared
    assert rc.path == tmp_path / "runs" / "relative"
    assert list(Path("elsewhere").iterdir()) == []


def test_preparing_again_touches_nothing(collection: RunCollection) -> None:
    collection.prepare_for_lfads()
    before = snapshot(collection.path, "*.h5") | snapshot(collection.path, "*.json")
    report = collection.prepare_for_lfads()
    assert report.written == report.inputs_written == []
    assert len(report.kept) == 6
    assert snapshot(collection.path, "*.h5") | snapshot(collection.path, "*.json") == before


def test_adding_runs_later_disturbs_nothing(
    collection: RunCollection, datasets: DatasetCollection, base: RunParams
) -> None:
    collection.prepare_for_lfads()
    finished = collection.runs[0].layout
    finished.posterior_dir.mkdir()
    finished.posterior_means("dataset001").write_bytes(b"result")
    before = {p: snapshot(collection.path, p) for p in ("*.h5", "params.json", "*.nc")}

    later = RunCollection.open(collection.path, dataset_collection=datasets)
    later.add_params(base.replace(factors_dim=4))
    later.add_run_spec(RunSpec("pair", datasets, [0, 2]))
    report = later.prepare_for_lfads()
    assert (len(report.written), len(report.kept)) == (6, 6)

    for pattern, old in before.items():
        assert old.items() <= snapshot(collection.path, pattern).items()
    opened = RunCollection.open(collection.path)
    assert [run.id for run in opened.runs] == [run.id for run in later.runs]
    assert [p.factors_dim for p in opened.params] == [2, 3, 4]


def test_another_script_on_the_same_collection_keeps_the_runs_of_the_first(
    collection: RunCollection, datasets: DatasetCollection, base: RunParams
) -> None:
    collection.prepare_for_lfads()
    second = RunCollection(collection.root, collection.name, datasets)
    second.add_params(base.replace(factors_dim=7))
    second.add_run_spec(RunSpec("single_dataset003", datasets, 2))
    second.prepare_for_lfads()
    assert second.n_runs == 1
    opened = RunCollection.open(collection.path)
    # the first script's params keep their positions, and pairs that nobody asked for are no runs
    assert [run.id for run in opened.runs] == [run.id for run in collection.runs] + [second.runs[0].id]
    assert opened.n_runs == 7
    assert opened.find_run("all", 1).id == collection.find_run("all", 1).id
    assert [run.name for run in opened.find_runs(params=2)] == ["single_dataset003"]
    with pytest.raises(NotFoundError):
        opened.run_by_id(f"param_{second.params[0].param_hash}/all")


def test_reopening_needs_neither_script_nor_datasets(collection: RunCollection, tmp_path: Path) -> None:
    collection.prepare_for_lfads()
    moved = tmp_path / "elsewhere"
    shutil.move(collection.path, moved)
    shutil.rmtree(tmp_path / "datasets", ignore_errors=True)
    opened = RunCollection.open(moved)
    assert opened.params == collection.params
    assert opened.run_specs == collection.run_specs
    assert opened.comment == "for tests"
    assert opened.name == "elsewhere"
    assert opened.find_run("single_dataset001", 1).params.factors_dim == 3
    assert [item["neurons"] for item in opened.dataset_info] == [4, 5, 6]
    for run in opened.runs:
        run.check_inputs()
    assert "3 datasets: dataset001, dataset002, dataset003" in repr(opened)
    with pytest.raises(UsageError, match="no datasets at hand"):
        opened.prepare_for_lfads()


def test_reopening_with_the_class_of_the_params(tmp_path: Path, datasets: DatasetCollection) -> None:
    rc = RunCollection(tmp_path / "runs", "mine", datasets)
    rc.add_params([MyParams(area=area, batch_size=4) for area in ("M1", "PMd")])
    rc.add_run_spec(RunSpec("single_dataset001", datasets, 0))
    assert len(rc.prepare_for_lfads().inputs_written) == 2  # the area is part of the data hash
    mine = RunCollection.open(rc.path, params_class=MyParams)
    assert mine.params == rc.params
    plain = RunCollection.open(rc.path)
    assert [run.id for run in plain.runs] == [run.id for run in rc.runs]
    assert plain.find_run(area="PMd").id == rc.runs[1].id
    for run in [*plain.runs, *mine.runs]:
        run.check_inputs()


def test_opening_what_is_no_collection(tmp_path: Path, collection: RunCollection) -> None:
    with pytest.raises(NotFoundError, match="no run collection"):
        RunCollection.open(tmp_path / "nothing")
    collection.prepare_for_lfads()
    path = collection.layout.collection_json
    good = json.loads(path.read_text())
    for wrong, message in (
        ("{", "damaged"),
        (json.dumps({**good, "format": 99}), "not a run collection of this version"),
        (json.dumps({k: v for k, v in good.items() if k != "runs"}), "lacks runs"),
    ):
        path.write_text(wrong)
        with pytest.raises(ConfigError, match=message):
            RunCollection.open(collection.path)


def test_what_matters_to_no_model_can_be_changed(collection: RunCollection) -> None:
    collection.prepare_for_lfads()
    collection.add_params([p.replace(gpu_memory_mb=321, num_samples_posterior=8) for p in collection.params])
    before = snapshot(collection.path, "*.h5")
    report = collection.prepare_for_lfads()
    assert len(report.kept) == 6
    assert snapshot(collection.path, "*.h5") == before
    opened = RunCollection.open(collection.path)
    assert {p.gpu_memory_mb for p in opened.params} == {321}
    assert {run.record()["params"]["values"]["num_samples_posterior"] for run in opened.runs} == {8}


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_trials": 24}, r"dataset 'dataset002' has changed .*: trials 20 -> 24"),
        ({"seed": 99}, r"dataset 'dataset002' has changed .*: its sizes are the same, its values"),
    ],
)
def test_changed_data_is_refused(
    collection: RunCollection, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    collection.prepare_for_lfads()
    before = snapshot(collection.path, "*")
    changed = again(collection, other_datasets(tmp_path, dataset002=change))
    with pytest.raises(MismatchError, match=message):
        changed.prepare_for_lfads()
    # also for params that nobody prepared before: one collection holds one content of a dataset
    changed.clear_params()
    changed.add_params(collection.params[0].replace(spike_bin_ms=4))
    with pytest.raises(MismatchError, match=message):
        changed.prepare_for_lfads()
    assert before.items() <= snapshot(collection.path, "*").items()


def test_equal_data_from_elsewhere_is_accepted(collection: RunCollection, tmp_path: Path) -> None:
    collection.prepare_for_lfads()
    report = again(collection, other_datasets(tmp_path)).prepare_for_lfads()
    assert report.written == report.inputs_written == []


def test_changed_data_is_refused_even_if_the_lists_are_gone(
    collection: RunCollection, tmp_path: Path
) -> None:
    """As after a kill before `collection.json` was written."""
    collection.prepare_for_lfads()
    collection.layout.collection_json.unlink()
    changed = again(collection, other_datasets(tmp_path, dataset001={"seed": 99}))
    with pytest.raises(MismatchError, match="dataset 'dataset001' has changed"):
        changed.prepare_for_lfads()
    for path in collection.path.rglob("params.json"):
        path.unlink()
    with pytest.raises(MismatchError, match="dataset 'dataset001' has changed"):
        changed.prepare_for_lfads()


def test_another_membership_of_a_run_spec_is_refused(
    collection: RunCollection, datasets: DatasetCollection
) -> None:
    collection.prepare_for_lfads()
    changed = RunCollection(collection.root, collection.name, datasets)
    changed.add_params(collection.params)
    changed.add_run_spec(RunSpec("all", datasets, [0, 1]))
    with pytest.raises(MismatchError, match=r"run spec 'all' was prepared with .*dataset003, and now names"):
        changed.prepare_for_lfads()
    collection.layout.collection_json.unlink()
    with pytest.raises(MismatchError, match="other datasets beside it"):
        changed.prepare_for_lfads()
    with pytest.raises(MismatchError, match=r"'all' was prepared with"):
        changed.find_run("all", 0).check_inputs()


def test_other_params_with_the_same_hash_are_refused(
    collection: RunCollection, datasets: DatasetCollection, base: RunParams, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(params_module, "short_hash", lambda text: "a" * 12)
    collection.clear_params()
    collection.add_params(base.replace(seed=1))
    collection.prepare_for_lfads(warn=False)
    second = RunCollection(collection.root, collection.name, datasets)
    second.add_params(base.replace(seed=2))
    second.add_run_spec(collection.run_specs)
    with pytest.raises(MismatchError, match="seed is 1 on disk and 2 here"):
        second.prepare_for_lfads()
    # two data params with one hash: their input files differ
    second.clear_params()
    second.add_params(base.replace(seed=1, split_seed=5))
    with pytest.raises(MismatchError, match="other data params"):
        second.prepare_for_lfads()


def test_inputs_that_were_exchanged_are_noticed(collection: RunCollection) -> None:
    collection.prepare_for_lfads()
    first, second = collection.find_run("single_dataset001", 0), collection.find_run("single_dataset002", 0)
    shutil.copy(second.input_files()["dataset002"], first.input_files()["dataset001"])
    with pytest.raises(MismatchError, match="dataset 'dataset001': the input file is not the one"):
        first.check_inputs()
    second.check_inputs()
    second.input_files()["dataset002"].unlink()
    with pytest.raises(NotFoundError, match="no such input file"):
        second.check_inputs()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"feedback_factors_or_rates": "rates", "co_dim": 1}, "needs one dataset, and run spec 'all' has 3"),
        ({"held_out_neurons": [1, 5]}, r"neuron 5 and 2 in all; the dataset has 4"),
        ({"held_out_neurons": [0, 1, 2, 3]}, "at least one neuron must stay"),
        ({"forward_prediction_bins": 10}, "leaves none of the 10 bins"),
        ({"spike_bin_ms": 3}, "dataset001"),
        ({"ext_input_dim": 2}, "external input"),
    ],
)
def test_params_that_do_not_fit_the_data(
    collection: RunCollection, base: RunParams, values: dict[str, Any], message: str
) -> None:
    collection.clear_params()
    collection.add_params(base.replace(**values))
    with pytest.raises((ParamsError, DataError), match=message):
        collection.prepare_for_lfads()


def test_stitched_sessions_must_be_equally_long_with_and_without_alignment(
    tmp_path: Path, base: RunParams
) -> None:
    dc = DatasetCollection(tmp_path)
    for name, bins in (("a", 10), ("b", 12)):
        Dataset.from_arrays(dc, name, np.ones((6, bins, 2)), bin_ms=base.spike_bin_ms, condition=[0, 1] * 3)
    for aligned in (True, False):
        rc = RunCollection(tmp_path, f"aligned {aligned}", dc)
        rc.add_params(base.replace(use_alignment_matrix=aligned))
        rc.add_run_spec(RunSpec("both", dc, ["a", "b"]))
        with pytest.raises(DataError, match=r"12 bins, those of dataset 'a' have 10(?s:.*)'b'"):
            rc.prepare_for_lfads(warn=False)


@pytest.mark.parametrize(("neurons", "fraction"), [(1, 0.2), (5, 0.95)])
def test_not_all_neurons_can_be_held_out(
    tmp_path: Path, base: RunParams, neurons: int, fraction: float
) -> None:
    dc = DatasetCollection(tmp_path)
    Dataset.from_arrays(dc, "a", np.ones((6, 10, neurons)), bin_ms=base.spike_bin_ms)
    rc = RunCollection(tmp_path, "one", dc)
    rc.add_params(base.replace(held_out_neurons=fraction))
    rc.add_run_spec(RunSpec("a", dc, ["a"]))
    with pytest.raises(ParamsError, match=f"none of the {neurons} neurons"):
        rc.prepare_for_lfads(warn=False)


def test_rates_may_be_fed_back_in_single_runs(collection: RunCollection, base: RunParams) -> None:
    collection.clear_params()
    collection.add_params(base.replace(feedback_factors_or_rates="rates", co_dim=1))
    single = collection.filter(run_specs=lambda spec: not spec.is_stitched)
    assert len(single.prepare_for_lfads().written) == 2


def test_nothing_to_prepare(tmp_path: Path, datasets: DatasetCollection, base: RunParams) -> None:
    rc = RunCollection(tmp_path, "empty", datasets)
    with pytest.raises(UsageError, match="no run params"):
        rc.prepare_for_lfads()
    rc.add_params(base)
    with pytest.raises(UsageError, match="no run specs"):
        rc.prepare_for_lfads()
    assert not rc.path.exists()


def test_odd_data_is_a_warning_and_in_the_report(collection: RunCollection, base: RunParams) -> None:
    collection.clear_params()
    collection.add_params(base.generate_sweep("batch_size", [4, 64, 100]))
    with pytest.warns(DataWarning) as given:
        report = collection.prepare_for_lfads()
    assert any("fewer than a batch of 100" in str(one.message) for one in given)
    assert len([text for text in report.warnings if "batch of" in text]) == 3  # one a dataset
    assert [note.name for note in report.notes] == ["few_trials"] * 3 + ["few_shared_conditions"] * 3
    assert {note.numbers["factors_dim"] for note in report.notes[3:]} == {50}
    quiet = collection.prepare_for_lfads(warn=False)
    assert quiet.warnings == report.warnings
    silenced = collection.prepare_for_lfads(silence=["few_trials", "few_shared_conditions"])
    assert not silenced.notes
    assert silenced.silenced == 6
    assert "(6 silenced)" in str(silenced)
    with pytest.raises(UsageError, match="few_trial'") as refused:
        collection.prepare_for_lfads(silence=["few_trial"])
    assert refused.value.hint == "did you mean 'few_trials'?"


def test_bad_data_names_the_dataset(tmp_path: Path, base: RunParams) -> None:
    dc = DatasetCollection(tmp_path)
    spikes = np.random.default_rng(0).poisson(0.5, (10, 10, 3)).astype(float)
    spikes[2, 3, 1] = 0.5
    Dataset.from_arrays(dc, "half", spikes, bin_ms=2)
    rc = RunCollection(tmp_path / "runs", "bad", dc)
    rc.add_params(base)
    rc.add_run_spec(RunSpec("single_half", dc, 0))
    with pytest.raises(DataError, match=r"(?s)fractional.*half"):
        rc.prepare_for_lfads()
    assert not list(rc.path.rglob("*.h5"))
    rc.clear_params()
    rc.add_params(base.replace(output_dist="gaussian"))
    rc.prepare_for_lfads()
    assert read_inputs(rc.runs[0].input_files()["half"]).train_data.dtype == np.float64


# ---------------------------------------------------------------- several at a time, and kills


PREPARE = """
import sys
import time
from dataclasses import dataclass
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from conftest import add_dataset
from lfadsrm_hpc.collection.collection import RunCollection
from lfadsrm_hpc.collection.params import RunParams, param
from lfadsrm_hpc.collection.run_spec import RunSpec
from lfadsrm_hpc.data.dataset_collection import DatasetCollection
root, number = Path(sys.argv[1]), int(sys.argv[2])
dc = DatasetCollection(root / "datasets")
for i in range(2):
    add_dataset(dc, f"d{i}", seed=i)
rc = RunCollection(root / "runs", "shared", dc)
base = RunParams(batch_size=4, factors_dim=3)
rc.add_params(base.generate_sweep("seed", [*range(8), 100 + number]))
rc.add_run_spec([RunSpec("all", dc, [0, 1]), RunSpec(f"single_d{number % 2}", dc, number % 2)])
print("ready", flush=True)
sys.stdin.readline()
rc.prepare_for_lfads()
"""


def test_processes_that_prepare_at_one_time(tmp_path: Path) -> None:
    n = 3
    command = [sys.executable, "-c", PREPARE, str(tmp_path)]
    pipe = subprocess.PIPE
    workers = [
        subprocess.Popen([*command, str(i), str(HERE)], stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        for i in range(n)
    ]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    for worker in workers:
        _, errors = worker.communicate(timeout=120)
        assert worker.returncode == 0, errors
    opened = RunCollection.open(tmp_path / "runs" / "shared")
    # 8 shared seeds and one of its own each, on the stitched spec; the same on one of two single ones
    expected = {("all", seed) for seed in (*range(8), *range(100, 100 + n))}
    expected |= {(f"single_d{i % 2}", seed) for i in range(n) for seed in (*range(8), 100 + i)}
    assert {(run.name, run.params.seed) for run in opened.runs} == expected
    for run in opened.runs:
        run.check_inputs()
    assert not list(opened.path.rglob(".*"))


def test_a_listing_that_another_process_cut_short_is_completed(
    collection: RunCollection, base: RunParams, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process reads the list before ours is written, and writes it after: ours must not be lost."""
    collection.prepare_for_lfads()
    old = collection.layout.collection_json.read_bytes()
    collection.add_params(base.replace(factors_dim=9))
    real, calls = stored.publish_replacing, []

    def crossed(path: Path, data: bytes) -> None:
        real(path, data)
        calls.append(path)
        if len(calls) == 1:
            real(path, old)

    monkeypatch.setattr(stored, "publish_replacing", crossed)
    collection.prepare_for_lfads()
    assert len(calls) == 2
    assert RunCollection.open(collection.path).n_runs == 9


def test_runs_on_disk_that_no_list_names_are_found_again(collection: RunCollection) -> None:
    collection.prepare_for_lfads()
    collection.layout.collection_json.unlink()
    some = collection.filter(params=lambda p: p.factors_dim == 2)
    some.prepare_for_lfads()
    opened = RunCollection.open(collection.path)
    assert {run.id for run in opened.runs} == {run.id for run in collection.runs}


def test_texts_that_another_process_overtook_are_written_again(
    collection: RunCollection, base: RunParams, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = RunCollection(collection.root, collection.name, collection.dataset_collection)
    other.add_params(base.replace(factors_dim=9))
    other.add_run_spec(collection.run_specs)
    real = preparation.publish_replacing

    def overtaken(path: Path, data: bytes) -> None:
        """Let the other process prepare all of its own before this one's summary is written."""
        if path.name == "summary.txt" and other.n_runs:
            monkeypatch.setattr(preparation, "publish_replacing", real)
            other.prepare_for_lfads()
        real(path, data)

    monkeypatch.setattr(preparation, "publish_replacing", overtaken)
    collection.prepare_for_lfads()
    text = collection.layout.summary.read_text()
    assert all(run.id in text for run in [*collection.runs, *other.runs])


@pytest.mark.slow
def test_killed_at_any_time_and_prepared_again(tmp_path: Path) -> None:
    """kill -9 while preparing: the next call finishes it, and nothing half-written has a final name."""
    command = [sys.executable, "-c", PREPARE, str(tmp_path), "0", str(HERE)]
    killed = 0
    for moment in (0.02, 0.1, 0.2, 0.3, 0.45, 0.6):
        worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert worker.stdin is not None
        assert worker.stdout is not None
        worker.stdout.readline()
        worker.stdin.write("go\n")
        worker.stdin.flush()
        time.sleep(moment)
        killed += worker.poll() is None
        worker.kill()
        worker.communicate()
        for path in tmp_path.rglob("lfads_*.h5"):
            read_inputs(path)
        for path in [*tmp_path.rglob("params.json"), *tmp_path.rglob("collection.json")]:
            json.loads(path.read_bytes())
    assert killed > 0
    subprocess.run(command, input="go\n", text=True, check=True, capture_output=True)
    opened = RunCollection.open(tmp_path / "runs" / "shared")
    assert opened.n_runs == 18
    for run in opened.runs:
        run.check_inputs()


def test_a_file_system_without_hard_links(collection: RunCollection, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("os.link", no_links)
    assert len(collection.prepare_for_lfads().inputs_written) == 8
    for run in collection.runs:
        run.check_inputs()
    assert len(collection.prepare_for_lfads().inputs_kept) == 8


def test_inputs_that_another_process_published_first_are_kept(
    collection: RunCollection, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lfadsrm_hpc.data import inputs as data_inputs

    real = data_inputs.write_inputs
    published: dict[Path, tuple[int, int]] = {}

    def slow(path: Path, content: Any) -> None:
        """Write, and let another process publish the same file in the meantime."""
        real(path, content)
        final = path.with_name(path.name[1:].rpartition(".h5.")[0] + ".h5")
        real(final, content)
        published[final] = (final.stat().st_ino, final.stat().st_mtime_ns)

    monkeypatch.setattr(data_inputs, "write_inputs", slow)
    report = collection.prepare_for_lfads()
    assert report.inputs_written == []
    assert sorted(report.inputs_kept) == sorted(published)
    assert all((p.stat().st_ino, p.stat().st_mtime_ns) == before for p, before in published.items())


# ---------------------------------------------------------------- the merge of lists


def test_merge_keeps_places_and_takes_newer_content() -> None:
    def listing(*hashes: str, size: int) -> dict[str, Any]:
        return {
            "name": "n",
            "comment": "c",
            "datasets": {"items": [{"name": "d", "size": size}]},
            "params": [{"param_hash": h, "size": size} for h in hashes],
            "run_specs": [{"name": "s", "datasets": ["d"]}],
            "runs": [f"param_{h}/s" for h in hashes],
        }

    first = stored.merge(None, listing("a", "b", size=1))
    second = stored.merge(first, listing("c", "b", size=2))
    assert [p["param_hash"] for p in second["params"]] == ["a", "b", "c"]
    assert [p["size"] for p in second["params"]] == [1, 2, 2]
    assert second["runs"] == ["param_a/s", "param_b/s", "param_c/s"]
    assert second["datasets"]["items"] == [{"name": "d", "size": 2}]
    assert stored.merge(second, listing("c", "b", size=2)) == second
