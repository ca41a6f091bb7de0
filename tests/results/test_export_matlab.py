"""The layout of the Matlab run manager: there and back, and as Matlab's own code reads it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from scipy.io import loadmat

from lfadsrm_hpc import Dataset, DatasetCollection, LegacyCollection, RunCollection, RunParams, RunSpec
from lfadsrm_hpc.data.formats import lfads_file
from lfadsrm_hpc.errors import LfadsrmWarning, ResultsError, UsageError
from lfadsrm_hpc.results.legacy import run_files as matlab_run_files
from lfadsrm_hpc.results.legacy.matlab_params import param_hash, to_matlab

REFERENCE = Path(__file__).resolve().parents[3] / "shared" / "reference" / "tf1"
SAMPLED = "posterior_sample_and_average"


def export(rc: Any, path: Path, **options: Any) -> Path:
    with pytest.warns(LfadsrmWarning, match="does not hold"):
        found: Path = rc.export(path, layout="run-manager", **options)
    return found


def pairs(ours: RunCollection, path: Path) -> list[tuple[Any, Any]]:
    """Return our runs with theirs, as the export notes them."""
    theirs = LegacyCollection.open(path)
    noted = json.loads((path / "lfadsrm_export.json").read_text())["runs"]
    return [(ours.run_by_id(one["run"]), theirs.run_by_id(one["matlab"])) for one in noted]


@pytest.fixture(scope="module")
def exported(sweep: RunCollection, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(sweep, tmp_path_factory.mktemp("matlab") / "made_up")


def check(mine: Any, theirs: Any) -> None:
    """Compare a run with its export, read back."""
    assert theirs.status().state == "COMPLETED"
    assert theirs.status().detail == ""
    assert theirs.dataset_names == mine.dataset_names
    assert theirs.params.diff(mine.params) == {}
    assert (theirs.known_params.notes, theirs.known_params.untranslated) == ((), {})
    for dataset in mine.dataset_names:
        one = mine.load_posterior_means(dataset, attach=("spikes", "truth", "external_input"))
        other = theirs.load_posterior_means(dataset, attach=("spikes", "truth", "external_input"))
        kept = {str(name) for name in one.data_vars if not str(name).endswith("_std")}
        assert {str(name) for name in other.data_vars} == kept
        for name in kept:
            np.testing.assert_allclose(other[name].values, one[name].values, rtol=1e-6, err_msg=name)
            assert other[name].dims == one[name].dims
        for name in ("trial", "time", "neuron"):
            np.testing.assert_array_equal(other[name].values, one[name].values)
        assert other["split"].values.tolist() == one["split"].values.tolist()
        assert [str(c) for c in other["condition"].values] == [str(c) for c in one["condition"].values]
        assert other.attrs["bin_ms"] == one.attrs["bin_ms"]
    wanted, log = mine.load_fit_log(), theirs.load_fit_log()
    for name in wanted.columns:
        if name != "learning_rate":
            np.testing.assert_array_equal(log[name].to_numpy(), wanted[name].to_numpy(), err_msg=name)
    assert log.attrs["lowest_valid_epoch"] == wanted.attrs["lowest_valid_epoch"]
    params, again = mine.load_model_params(), theirs.load_model_params()
    assert set(again.variables) == set(params.variables)
    for name in params.data_vars:
        np.testing.assert_array_equal(again[name].values, params[name].values, err_msg=str(name))


def test_there_and_back(sweep: RunCollection, exported: Path) -> None:
    found = pairs(sweep, exported)
    assert [one.id for one, _ in found] == [run.id for run in sweep.runs[:-1]]
    for mine, theirs in found:
        check(mine, theirs)


def test_runs_of_a_sweep_stay_apart(sweep: RunCollection, exported: Path) -> None:
    hashes = {theirs.param_hash for _, theirs in pairs(sweep, exported)}
    assert len(hashes) == 4
    plain = to_matlab(sweep.find_run("single_day1", factors_dim=2, seed=0).params.values())
    assert param_hash(plain) in hashes  # as Matlab names the same params
    theirs = LegacyCollection.open(exported)
    seeds = [theirs.find_run("single_day1", factors_dim=2, seed=seed) for seed in (0, 1)]
    assert len({run.load_posterior_means()["rates"].values.tobytes() for run in seeds}) == 2


def test_inputs_that_differ_in_what_matlab_does_not_know_stay_apart(
    make: Callable[..., Any], fabricated: Any, tmp_path: Path
) -> None:
    rc = make(RunParams(**fabricated.BASE).generate_sweep(split_seed=[0, 1], split=["random", "stratified"]))
    path = export(rc, tmp_path / "out")
    found = pairs(rc, path)
    assert len({theirs.input_files()["day1"].resolve() for _, theirs in found}) == 4
    for mine, theirs in found:
        check(mine, theirs)


def as_matlab_reads(run: Path, data: Path, dataset: str) -> dict[str, Any]:
    """Read posterior means as LFADS.Utils.loadPosteriorMeans does: axes reversed, indices from 1."""
    info = loadmat(data / f"inputInfo_{dataset}.mat", squeeze_me=True)
    out: dict[str, Any] = {}
    for split in ("valid", "train"):
        inds = info[f"{split}Inds"].astype(int)
        with h5py.File(run / "lfadsOutput" / f"model_runs_{dataset}.h5_{split}_{SAMPLED}") as file:
            for name in ("output_dist_params", "factors", "gen_states"):
                values = np.asarray(file[name]).T  # h5read
                whole = out.setdefault(name, np.full((*values.shape[:2], 20), np.nan))
                whole[:, :, inds - 1] = values
    return out


def test_matlab_code_reads_it(sweep: RunCollection, exported: Path) -> None:
    mine, theirs = next(pair for pair in pairs(sweep, exported) if pair[0].n_datasets == 2)
    link = theirs.path / "lfadsInput" / "lfads_day2.h5"
    assert not Path(link.readlink()).is_absolute()
    data = link.resolve().parent
    assert data.parent.parent == exported
    assert data.name == "both"
    found = as_matlab_reads(theirs.path, data, "day2")
    means = mine.load_posterior_means("day2")
    np.testing.assert_allclose(found["factors"].transpose(2, 1, 0), means["factors"].values)
    rates = found["output_dist_params"].transpose(2, 1, 0) * 1000 / 4
    np.testing.assert_allclose(rates, means["rates"].values, rtol=1e-6)
    info = loadmat(data / "inputInfo_day2.mat")
    counts = mine.load_posterior_means("day2", attach="spikes")["spikes"].values
    np.testing.assert_array_equal(info["counts"], counts.transpose(2, 1, 0))
    assert info["trainInds"].shape == (1, 16)
    assert info["seq_timeVector"].shape == (10, 1)
    assert info["conditionId"].shape == (20, 1)
    assert info["conditionId"][1, 0][0] == "reach 1"
    assert float(info["seq_binSizeMs"].squeeze()) == 4.0
    with h5py.File(data / "lfads_day2.h5") as file:
        assert file["train_data"].dtype == np.int64
        np.testing.assert_array_equal(file["train_inds"][()], info["trainInds"][0])
        assert file["conversion_factor"].shape == (1,)
        assert file["alignment_matrix_cxf"].shape == (6, 2)
    told = json.loads((theirs.path / "lfadsOutput" / "hyperparameters-0.txt").read_text())
    assert told["do_train_readin"] == "true"
    assert told["kl_increase_steps"] == 1800
    first = (theirs.path / "lfadsOutput" / "fitlog.csv").read_text().splitlines()[0].split(",")
    labels = [cell.strip() for cell in first if not cell.strip()[0].isdigit()]
    assert labels == ["epoch", "step", "total", "recon", "kl", "l2", "klweight", "l2weight"]
    assert len(first) == 19


def test_files_are_as_the_original_writes_them(sweep: RunCollection, exported: Path) -> None:
    real = REFERENCE / "poisson_single" / f"model_runs_s1_train_{SAMPLED}.h5"
    if not real.is_file():
        pytest.skip(f"the reference files are not here: {real}")
    run = pairs(sweep, exported)[0][1]
    with h5py.File(real) as wanted, h5py.File(run.posterior_files()["day1"]["train"]) as file:
        assert set(file) == set(wanted)
        for name in wanted:
            assert file[name].dtype == wanted[name].dtype
            assert file[name].ndim == wanted[name].ndim
    told = json.loads((run.path / "lfadsOutput" / "hyperparameters-0.txt").read_text())
    original = json.loads((REFERENCE / "poisson_single" / "hyperparameters.json").read_text())
    assert set(original) <= set(told)
    for name, value in original.items():
        assert isinstance(value, str) == isinstance(told[name], str), name


def test_gaussian_data(make: Callable[..., Any], fabricated: Any, tmp_path: Path) -> None:
    rc = make([RunParams(**fabricated.BASE, output_dist="gaussian")])
    path = export(rc, tmp_path / "out")
    ((mine, theirs),) = pairs(rc, path)
    check(mine, theirs)
    with h5py.File(theirs.posterior_files()["day1"]["valid"]) as file:
        assert file["output_dist_params"].shape[2] == 10


def test_data_without_conditions_and_without_names(fabricated: Any, tmp_path: Path) -> None:
    folder = tmp_path / "datasets"
    folder.mkdir()
    spikes = np.random.default_rng(0).poisson(0.5, (12, 20, 3))
    np.savez(folder / "day.npz", spikes=spikes, bin_ms=4.0)
    sessions = DatasetCollection(folder)
    Dataset(sessions, "day.npz")
    rc = RunCollection(tmp_path / "runs", "plain", sessions)
    rc.add_params(RunParams(**{**fabricated.BASE, "ext_input_dim": 0}))
    rc.add_run_spec(RunSpec("single", sessions, ["day"]))
    with fabricated.quickly():
        rc.prepare_for_lfads(warn=False)
    fabricated.complete(rc.runs[0])
    path = export(rc, tmp_path / "out")
    ((mine, theirs),) = pairs(rc, path)
    one, other = (run.load_posterior_means(attach="spikes") for run in (mine, theirs))
    assert "condition" not in other.coords
    np.testing.assert_array_equal(other["spikes"].values, spikes)
    np.testing.assert_allclose(other["rates"].values, one["rates"].values, rtol=1e-6)
    again = lfads_file.read(theirs.input_files()["day"], None)  # as a dataset to fit anew
    np.testing.assert_array_equal(again["spikes"].values, spikes)
    assert again["given_split"].values.tolist() == one["split"].values.tolist()


def test_where_there_are_no_links_there_are_copies(
    make: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("no links here")

    rc = make()
    with monkeypatch.context() as patched:
        patched.setattr(Path, "symlink_to", refuse)
        path = export(rc, tmp_path / "out")
    ((mine, theirs),) = pairs(rc, path)
    assert not theirs.layout.input_link("day1").is_symlink()
    check(mine, theirs)


def test_counts_too_large_for_matlab_are_left_out(
    make: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matlab_run_files, "_MOST_IN_MATLAB", 100)
    rc = make()
    path = export(rc, tmp_path / "out")
    left_out = json.loads((path / "lfadsrm_export.json").read_text())["left_out"]
    assert any("more than 2 GB" in note for note in left_out)
    ((mine, theirs),) = pairs(rc, path)
    check(mine, theirs)


def test_what_is_there_is_not_replaced(make: Callable[..., Any], tmp_path: Path) -> None:
    rc = make()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("text")
    for overwrite in (False, True):
        with pytest.raises(UsageError, match="no earlier export"):
            rc.export(tmp_path / "mine", layout="run-manager", overwrite=overwrite)
    path = export(rc, tmp_path / "out")
    (path / "notes.txt").write_text("text")
    with pytest.raises(UsageError, match="earlier export"):
        rc.export(path, layout="run-manager")
    assert (path / "notes.txt").exists()
    export(rc, path, overwrite=True)
    assert not (path / "notes.txt").exists()
    check(*pairs(rc, path)[0])
    assert sorted(one.name for one in tmp_path.iterdir() if "partial" in one.name) == []


def test_a_failure_leaves_nothing(make: Callable[..., Any], tmp_path: Path) -> None:
    rc = make()
    rc.runs[0].layout.model_params.write_bytes(b"damaged")
    with pytest.raises(ResultsError, match="cannot be written"):
        rc.export(tmp_path / "exported" / "out", layout="run-manager")
    assert list((tmp_path / "exported").iterdir()) == []


def test_options_that_make_no_sense(sweep: RunCollection, matlab: Any, tmp_path: Path) -> None:
    for options in ({"dataset": "day1"}, {"variables": "rates"}, {"parts": "fit_log"}, {"split": "train"}):
        with pytest.raises(UsageError, match="whole runs"):
            sweep.export(tmp_path / "out", layout="run-manager", **options)
    made = matlab.Made(tmp_path / "c")
    with pytest.raises(UsageError, match="already"):
        LegacyCollection.open(made.path).export(tmp_path / "out", layout="run-manager")
    assert not (tmp_path / "out").exists()


@pytest.mark.train
@pytest.mark.slow
@pytest.mark.parametrize("output_dist", ["poisson", "gaussian"])
def test_what_is_exported_is_a_model_of_the_original(
    fabricated: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], output_dist: str
) -> None:
    """Trained in truth: exported parameters make the exported outputs of the exported inputs."""
    from lfadsrm_hpc.model import tf1_check

    params = RunParams(
        **{**fabricated.BASE, "co_dim": 2, "ic_dim": 5},
        factors_dim=3, ci_enc_dim=6, con_dim=7, output_dist=output_dist, max_epochs=3, kl_increase_steps=1,
        l2_increase_steps=1, posterior_mean_kind="posterior_push_mean", keep_prob=1.0,
    )  # fmt: skip
    rc = fabricated.collection(tmp_path, [params], specs={"both": ["day1", "day2"]})
    assert RunCollection.open(rc.path).runs[0].train() == 0
    path = export(RunCollection.open(rc.path), tmp_path / "out")
    ((mine, theirs),) = pairs(RunCollection.open(rc.path), path)
    check(mine, theirs)
    case = tmp_path / "case"
    case.mkdir()
    for folder in (theirs.layout.output.path, theirs.layout.input_dir):
        for file in folder.iterdir():
            (case / file.name).symlink_to(file.resolve())
    assert tf1_check.main([str(case)]) == 0, capsys.readouterr().out
