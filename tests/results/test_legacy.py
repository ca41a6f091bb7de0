"""Collections of the Matlab run manager: found, loaded, compared; whatever their version, and as copies."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xarray as xr

from lfadsrm_hpc import LegacyCollection, RunCollection
from lfadsrm_hpc.errors import LfadsrmWarning, NotFoundError, ParamsError, ResultsError, UsageError
from lfadsrm_hpc.results.legacy.means import NAMES

REFERENCE = Path(__file__).resolve().parents[3] / "shared" / "reference" / "tf1"
LAYOUTS = [
    *[("current", links) for links in ("symlink", "dangling", "text", "copies", "none")],
    *[("flat data", links) for links in ("symlink", "dangling", "none")],
    *[("no params", links) for links in ("symlink", "dangling")],
]


@pytest.fixture(scope="module")
def made(matlab: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A collection to read from."""
    return matlab.Made(
        tmp_path_factory.mktemp("matlab") / "reaching", kinds=("posterior_push_mean", matlab.SAMPLED)
    )


@pytest.fixture(scope="module")
def opened(made: Any) -> LegacyCollection:
    return LegacyCollection.open(made.path)


def check(means: xr.Dataset, made: Any, spec: str, factors: int, dataset: str, kind: str = "") -> None:
    """Compare posterior means with what was written, trials in the order of the dataset."""
    wanted = made.means(spec, factors, dataset, kind or "posterior_sample_and_average")
    np.testing.assert_allclose(means["rates"].values, wanted["output_dist_params"] * 500, rtol=1e-12)
    for stored, name in NAMES.items():
        np.testing.assert_array_equal(means[name].values, wanted[stored], err_msg=name)
    np.testing.assert_array_equal(means["trial"].values, np.arange(len(wanted["costs"])))
    np.testing.assert_array_equal(means["time"].values, made.time_ms)
    np.testing.assert_array_equal(np.flatnonzero(means["split"].values == "valid"), [0, 5, 10])
    np.testing.assert_array_equal(means["condition"].values, made.conditions(dataset))


@pytest.mark.parametrize(("layout", "links"), LAYOUTS)
def test_every_layout_gives_the_same(matlab: Any, tmp_path: Path, layout: str, links: str) -> None:
    factors = (2,) if layout == "no params" else (2, 3)
    made = matlab.Made(tmp_path / "reaching", layout=layout, links=links, factors=factors)
    opened = LegacyCollection.open(made.path)
    assert [run.name for run in opened.runs] == [spec for spec in made.specs for _ in factors]
    for run in opened.runs:
        count = run.params.factors_dim
        assert run.path == made.run_path(run.name, count)
        assert run.dataset_names == tuple(made.specs[run.name])
        for dataset in run.dataset_names:
            means = run.load_posterior_means(dataset, attach=("spikes", "truth"))
            check(means, made, run.name, count, dataset)
            np.testing.assert_array_equal(means["spikes"].values, made.counts(dataset))
            np.testing.assert_allclose(means["truth"].values, made.truth(dataset))


def test_data_beside_a_collection_of_one_params(matlab: Any, tmp_path: Path) -> None:
    """Before version 3 each params had a collection folder of its own, and data lay beside them."""
    made = matlab.Made(tmp_path / "runs/reaching_x", layout="no params", links="text", factors=(2,))
    for folder in made.path.glob("data_*"):
        folder.rename(made.path.parent / folder.name)
    run = LegacyCollection.open(made.path).find_run("single_ds1")
    check(run.load_posterior_means(), made, "single_ds1", 2, "ds1")


def test_rates_and_units_are_as_ours(opened: LegacyCollection, sweep: RunCollection) -> None:
    theirs = opened.find_run("single_ds1", factors_dim=2).load_posterior_means()
    ours = sweep.find_run("single_day1", factors_dim=2, seed=0).load_posterior_means()
    for name in ours.data_vars:
        if str(name).endswith("_std"):
            assert name not in theirs
            continue
        assert theirs[name].dims == ours[name].dims
        assert theirs[name].attrs["units"] == ours[name].attrs["units"]
    assert set(ours.coords) == set(theirs.coords)


def test_a_part_reads_the_right_trials(made: Any, opened: LegacyCollection) -> None:
    means = opened.find_run("single_ds1", factors_dim=2).load_posterior_means()
    wanted = made.means("single_ds1", 2, "ds1")["factors"]
    for key in (slice(2, 9, 3), [9, 0, 4], 5, slice(None, None, -1), []):
        np.testing.assert_array_equal(
            means["factors"].isel(trial=key, time=[1, 4]).values, wanted[key][..., [1, 4], :]
        )


def test_kinds_and_splits(made: Any, opened: LegacyCollection, matlab: Any) -> None:
    run = opened.find_run("single_ds1", factors_dim=3)
    assert run.posterior_kinds() == [matlab.SAMPLED, matlab.PUSHED]
    check(run.load_posterior_means(), made, "single_ds1", 3, "ds1")
    check(run.load_posterior_means(kind=matlab.PUSHED), made, "single_ds1", 3, "ds1", matlab.PUSHED)
    assert run.load_posterior_means(split="valid").trial.values.tolist() == [0, 5, 10]
    with pytest.raises(NotFoundError, match="push_mean"):
        run.load_posterior_means(kind="posterior_push_means")


def test_a_tree_and_a_stack(made: Any, opened: LegacyCollection) -> None:
    tree = opened.load_posterior_means(dataset="ds1", attach="spikes")
    assert set(tree["param_Ab-_9z"].children) == {"single_ds1", "all"}
    check(tree["param_aB-_9z/all/ds1"].to_dataset(), made, "all", 3, "ds1")
    assert tree["param_aB-_9z"].attrs["factors_dim"] == 3
    with pytest.warns(LfadsrmWarning, match="factor is padded"):
        stacked = opened.load_posterior_means(spec="single_ds1", stack="factors_dim")
    check(stacked.sel(factors_dim=3), made, "single_ds1", 3, "ds1")
    wanted = made.means("single_ds1", 2, "ds1")["factors"]
    np.testing.assert_array_equal(stacked["factors"].sel(factors_dim=2).values[..., :2], wanted)
    averages = opened.runs[0].condition_averages(variables="rates")
    rates = made.means("single_ds1", 2, "ds1")["output_dist_params"] * 500
    np.testing.assert_allclose(averages["rates"].sel(condition=1).values, rates[::3].mean(axis=0))


@pytest.mark.parametrize("inputs", [True, False])
def test_gaussian_outputs_are_means_and_variances(matlab: Any, tmp_path: Path, inputs: bool) -> None:
    made = matlab.Made(tmp_path / "c", gaussian=True, factors=(2,))
    if not inputs:
        for path in made.path.glob("data_*/*/lfads_*.h5"):
            path.unlink()
    means = LegacyCollection.open(made.path).find_run("single_ds1").load_posterior_means()
    wanted = made.means("single_ds1", 2, "ds1")["output_dist_params"]
    np.testing.assert_array_equal(means["output_mean"].values, wanted[..., :4])
    np.testing.assert_array_equal(means["output_var"].isel(neuron=2).values, wanted[..., 6])
    for key in (slice(None, None, 2), [3, 1], slice(1, 3), -1, slice(None, None, -1)):
        part = means["output_var"].isel(neuron=key, trial=slice(3, 9))
        np.testing.assert_array_equal(part.values, wanted[3:9, :, 4:][..., key])
    assert "rates" not in means


def test_without_input_files_everything_but_counts_is_there(matlab: Any, tmp_path: Path) -> None:
    made = matlab.Made(tmp_path / "c", factors=(2,))
    for path in made.path.glob("data_*/*/lfads_*.h5"):
        path.unlink()
    run = LegacyCollection.open(made.path).find_run("single_ds1")
    check(run.load_posterior_means(), made, "single_ds1", 2, "ds1")
    with pytest.raises(NotFoundError, match=r"lfads_ds1\.h5"):
        run.load_posterior_means(attach="spikes")
    shutil.rmtree(next(made.path.glob("data_*")))
    with pytest.raises(ResultsError, match="nothing says which trials"):
        run.load_posterior_means()


def test_without_inputinfo_the_input_file_tells_the_order(matlab: Any, tmp_path: Path) -> None:
    made = matlab.Made(tmp_path / "c", factors=(2,), with_summary=False)
    for path in made.path.glob("data_*/*/*.mat"):
        path.unlink()
    with pytest.raises(ResultsError, match="width of the bins"):
        LegacyCollection.open(made.path).find_run("single_ds1").load_posterior_means()
    means = LegacyCollection.open(made.path, bin_ms=4).find_run("single_ds1").load_posterior_means()
    wanted = made.means("single_ds1", 2, "ds1")["output_dist_params"] * 250
    np.testing.assert_allclose(means["rates"].values, wanted)
    assert means["time"].values.tolist() == [0, 4, 8, 12, 16, 20]


def test_inputinfo_of_matlab_7_3(matlab: Any, tmp_path: Path) -> None:
    """What is larger than 2 GB is HDF5, whose axes are the other way round."""
    made = matlab.Made(tmp_path / "c", factors=(2,), specs={"single_ds1": ["ds1"]}, with_summary=False)
    path = made.data_path("single_ds1", 2) / "inputInfo_ds1.mat"
    path.unlink()
    content = {
        "trainInds": np.array([matlab.TRAIN]) + 1.0,
        "validInds": np.array([matlab.VALID]) + 1.0,
        "seq_timeVector": np.arange(13.0)[:, None] - 3,
        "seq_binSizeMs": np.array([[1.0]]),
        "conditionId": made.conditions("ds1")[:, None].astype(float),
        "counts": made.raw_counts("ds1").transpose(2, 1, 0).astype(float),
    }
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, values in content.items():
            file[name] = values.T
            file[name].attrs["MATLAB_class"] = np.bytes_("double")
    with path.open("r+b") as head:
        head.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")
    run = LegacyCollection.open(made.path).runs[0]
    means = run.load_posterior_means(attach=("spikes", "truth"))
    check(means, made, "single_ds1", 2, "ds1")
    np.testing.assert_array_equal(means["spikes"].values, made.counts("ds1"))


def test_input_files_are_not_guessed(matlab: Any, tmp_path: Path) -> None:
    made = matlab.Made(tmp_path / "c", links="none", with_summary=False)
    run = LegacyCollection.open(made.path).find_run("all", factors_dim=2)
    with pytest.raises(ResultsError, match="several lfads_ds1"):
        run.load_posterior_means("ds1")


def test_trials_of_any_split_come_back_in_order(
    matlab: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(matlab.TRIALS)  # not sorted within the splits, either
        valid, train = order[: 2 + seed].tolist(), order[2 + seed :].tolist()
        monkeypatch.setitem(matlab.INDS, "train", train)
        monkeypatch.setitem(matlab.INDS, "valid", valid)
        monkeypatch.setattr(matlab, "TRAIN", train)
        monkeypatch.setattr(matlab, "VALID", valid)
        made = matlab.Made(tmp_path / str(seed), specs={"single_ds1": ["ds1"]}, factors=(2,))
        means = LegacyCollection.open(made.path).runs[0].load_posterior_means(attach="spikes")
        wanted = made.means("single_ds1", 2, "ds1")
        np.testing.assert_array_equal(means["factors"].values, wanted["factors"])
        np.testing.assert_array_equal(means["spikes"].values, made.counts("ds1"))
        np.testing.assert_array_equal(np.flatnonzero(means["split"].values == "valid"), sorted(valid))


# ---------------------------------------------------------------- what is there, told honestly


def test_states(matlab: Any, tmp_path: Path) -> None:
    made = matlab.Made(tmp_path / "c", factors=(2,), specs={"single_ds1": ["ds1"]})
    run = LegacyCollection.open(made.path).runs[0]
    output = made.run_path("single_ds1", 2) / "lfadsOutput"
    assert str(run.status()) == "param_Ab-_9z/single_ds1: COMPLETED"
    (output.parent / "lfads.done").unlink()
    assert run.status().state == "COMPLETED"
    assert "without lfads.done" in run.status().detail
    made.means_path("single_ds1", 2, "ds1", "valid").write_bytes(b"")
    assert run.status().state == "UNKNOWN"
    assert "valid trials of ds1" in run.status().detail
    (output.parent / "lfads.done").touch()  # as after sampling that failed
    (output.parent / "lfads.out").write_text("Done\nAll tasks finished successfully\n")
    assert run.status().state == "FAILED"
    with pytest.raises(ResultsError, match="no posterior means of the valid trials of ds1"):
        run.load_posterior_means()
    with pytest.raises(ResultsError, match="none of the 1 selected runs is complete"):
        run.collection.load_posterior_means()
    (output.parent / "lfads.done").unlink()
    shutil.rmtree(output)
    assert run.status().state == "PREPARED"
    shutil.rmtree(output.parent / "lfadsInput")
    (output.parent / "lfads_train.sh").write_text("python run_lfads.py --gen_dim=30")
    (made.path / "summary.txt").unlink()
    table = LegacyCollection.open(made.path).runs_table()
    assert table["state"].tolist() == ["PREPARED"]
    assert LegacyCollection.open(made.path).runs[0].params.gen_dim == 30


def test_means_of_an_untrained_model_are_called_so(matlab: Any, tmp_path: Path) -> None:
    made = matlab.Made(tmp_path / "c", factors=(2,), specs={"single_ds1": ["ds1"]})
    for split in ("train", "valid"):
        with h5py.File(made.means_path("single_ds1", 2, "ds1", split), "r+") as file:
            file["train_steps"][...] = 0
    with pytest.warns(LfadsrmWarning, match="not trained"):
        means = LegacyCollection.open(made.path).runs[0].load_posterior_means()
    assert means.attrs["untrained"] == 1


def test_means_of_the_first_trials_alone(matlab: Any, tmp_path: Path) -> None:
    made = matlab.Made(tmp_path / "c", factors=(2,), specs={"single_ds1": ["ds1"]})
    path = made.means_path("single_ds1", 2, "ds1", "train")
    with h5py.File(path, "r") as file:
        arrays = {name: values[:5] for name, values in file.items()}
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            file[name] = values
    with pytest.warns(LfadsrmWarning, match="3 have none"):
        means = LegacyCollection.open(made.path).runs[0].load_posterior_means(attach="spikes")
    there = [0, 1, 2, 3, 4, 5, 6, 10]
    assert means["trial"].values.tolist() == there
    np.testing.assert_array_equal(means["spikes"].values, made.counts("ds1")[there])
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            file[name] = np.concatenate([values, values])
    with pytest.raises(ResultsError, match="10 train trials, and the data of the run have 8"):
        LegacyCollection.open(made.path).runs[0].load_posterior_means()


def test_nothing_is_written(matlab: Any, tmp_path: Path) -> None:
    made = matlab.Made(tmp_path / "c")
    before = {path: path.lstat().st_mtime_ns for path in sorted(made.path.rglob("*"))}
    opened = LegacyCollection.open(made.path)
    opened.load_posterior_means(attach="all").load()
    opened.runs_table()
    opened.best()
    opened.runs[0].load_model_params()
    assert {path: path.lstat().st_mtime_ns for path in sorted(made.path.rglob("*"))} == before


# ---------------------------------------------------------------- params, logs, tables


def test_params_of_summary_and_hyperparameters(opened: LegacyCollection) -> None:
    run = opened.find_run("all", params="param_aB-_9z")
    assert run.params.factors_dim == 3
    assert run.params.kl_increase_steps == 900  # the run manager multiplied by two datasets
    assert run.known_params.untranslated == {"mySetting": "left"}
    assert run.known_params.notes == ()
    assert run.values["mySetting"] == "left"
    assert run.hyperparameters()["batch_size"] == 4  # not the 512 of sampling
    assert run.hyperparameters()["do_train_readin"] is True


def test_a_flag_that_matlab_rounded_is_told(matlab: Any, tmp_path: Path) -> None:
    made = matlab.Made(tmp_path / "c", factors=(2,), specs={"single_ds1": ["ds1"]})
    path = made.run_path("single_ds1", 2) / "lfadsOutput" / "hyperparameters-0.txt"
    path.write_text(json.dumps({**json.loads(path.read_text()), "learning_rate_stop": 0.0}))
    with made.path.joinpath("summary.txt").open("r+") as file:
        text = file.read().replace("mySetting: left", "c_learning_rate_stop: 1e-07")
        file.seek(0)
        file.write(text)
        file.truncate()
    run = LegacyCollection.open(made.path).runs[0]
    assert any("learning_rate_stop" in note for note in run.known_params.notes)
    assert "learning_rate_stop" in run.collection.runs_table()["reasons"].iloc[0]


def test_fit_log(opened: LegacyCollection) -> None:
    log = opened.find_run("single_ds1", factors_dim=2).load_fit_log()
    assert log["epoch"].tolist() == [1, 2, 3, 4]
    assert log["step"].tolist() == [3, 6, 9, 12]
    assert log["valid_total"].tolist() == [9.0, 8.0, 7.2, 7.5]
    assert log["train_recon"].tolist() == [8.0, 7.0, 6.2, 6.5]
    assert log["kl_weight"].tolist() == [0.5, 1, 1, 1]
    assert log["learning_rate"].isna().all()
    assert (log.attrs["lowest_valid_epoch"], log.attrs["lowest_valid_cost"]) == (3, 7.2)


def test_a_resumed_fit_log_counts_on(matlab: Any, tmp_path: Path) -> None:
    made = matlab.Made(tmp_path / "c", factors=(2,), specs={"single_ds1": ["ds1"]})
    path = made.run_path("single_ds1", 2) / "lfadsOutput" / "fitlog.csv"
    again = matlab.fit_log([6.0, 5.0], ramp=1, start=6)  # from the checkpoint of step 6
    path.write_text(path.read_text() + again + "epoch,2, step,15, tot")  # being written
    log = LegacyCollection.open(made.path).runs[0].load_fit_log()
    assert log["epoch"].tolist() == [1, 2, 3, 4]
    assert log["valid_total"].tolist() == [9.0, 8.0, 6.0, 5.0]
    assert log.attrs["resumed"] == 1
    row = LegacyCollection.open(made.path).runs_table().iloc[0]
    assert (row["epochs"], row["valid_cost"], row["lowest_valid_cost"], row["lowest_valid_epoch"]) == (
        4,
        5,
        5,
        4,
    )
    path.write_text(path.read_text().replace("step,6", "step,six") + "\n")
    with pytest.raises(ResultsError, match=r"fitlog\.csv, line 2"):
        LegacyCollection.open(made.path).runs[0].load_fit_log()


def test_logs_of_forks_hold_more(matlab: Any, tmp_path: Path) -> None:
    made = matlab.Made(tmp_path / "c", factors=(2,), specs={"single_ds1": ["ds1"]})
    path = made.run_path("single_ds1", 2) / "lfadsOutput" / "fitlog.csv"
    plain = LegacyCollection.open(made.path).runs[0].load_fit_log()
    lines = [f"{line}, lr,{0.01 / (k + 1)}" for k, line in enumerate(path.read_text().splitlines())]
    path.write_text("\n".join(lines) + "\n")
    log = LegacyCollection.open(made.path).runs[0].load_fit_log()
    np.testing.assert_allclose(log["learning_rate"], [0.01, 0.005, 0.01 / 3, 0.0025])
    same = [name for name in plain.columns if name != "learning_rate"]
    np.testing.assert_array_equal(log[same].to_numpy(), plain[same].to_numpy())
    path.write_text("epoch,total,recon\n1,2,3\n")
    with pytest.raises(ResultsError, match=r"fitlog\.csv, line 1"):
        LegacyCollection.open(made.path).runs[0].load_fit_log()
    path.write_text("")
    assert len(LegacyCollection.open(made.path).runs[0].load_fit_log()) == 0
    assert LegacyCollection.open(made.path).runs_table()["epochs"].isna().all()


def test_model_params(made: Any, opened: LegacyCollection) -> None:
    run = opened.find_run("all", factors_dim=3)
    params = run.load_model_params()
    assert params.attrs["datasets"] == ["ds1", "ds2"]
    assert params.attrs["step"] == 786
    with h5py.File(run.layout.output.model_params) as file:
        np.testing.assert_array_equal(params["factors_W"].values, file["LFADS_gen_gen_2_fac_W:0"][()])
        bias = file["LFADS_gen_GenGRU_Gates_h_2_ru_b:0"][()].ravel()
        readout = file["LFADS_glm_fac_2_logrates_ds2.h5_W:0"][()]
    np.testing.assert_array_equal(params["gen_b"].sel(gate=["r", "u"]).values.ravel(), bias)
    own = run.load_model_params("ds2")
    np.testing.assert_array_equal(own["readout_W"].values, readout)
    with pytest.raises(NotFoundError, match="ds3"):
        run.load_model_params("ds3")


def test_tables_and_the_best_run(opened: LegacyCollection) -> None:
    table = opened.runs_table()
    assert table.loc["param_aB-_9z/all", "factors_dim"] == 3
    assert table["state"].tolist() == ["COMPLETED"] * 4
    assert table["lowest_valid_cost"].tolist() == [7.2, 7.3, 7.2, 7.3]
    assert table["epochs"].tolist() == [4] * 4
    assert opened.summary()["params"]["factors_dim"].tolist() == [2, 3, 2, 3]
    best = opened.best()["single_ds1"]
    assert (best.run.params.factors_dim, best.value) == (2, 7.2)
    assert best.run.name in str(best)
    with pytest.raises(UsageError, match="another program"):
        _ = best.script
    with pytest.raises(UsageError, match="another program"):
        _ = best.methods


def test_finding(opened: LegacyCollection) -> None:
    assert [run.id for run in opened.find_runs("all")] == ["param_Ab-_9z/all", "param_aB-_9z/all"]
    assert len(opened.find_runs(params=-1)) == 2
    assert opened.find_run("all", c_factors_dim=[3, 4]).id == "param_aB-_9z/all"
    assert len(opened.find_runs(mySetting="left")) == 4
    assert opened.run_by_id("param_aB-_9z/all").name == "all"
    with pytest.raises(NotFoundError, match="single_ds1"):
        opened.find_runs("single_ds2")
    with pytest.raises(NotFoundError, match="mean 'aB-_9z'"):
        opened.find_runs(params="param_ab-_9z")
    with pytest.raises(NotFoundError, match="2, counted from 0"):
        opened.find_runs(params=2)
    with pytest.raises(ParamsError, match="factors_dims"):
        opened.find_runs(factors_dims=3)
    with pytest.raises(NotFoundError, match="4 runs fit"):
        opened.find_run()
    with pytest.raises(NotFoundError, match="param_aB-_9z/all"):
        opened.run_by_id("param_aB-_9z/al")


def test_what_is_shown(opened: LegacyCollection) -> None:
    assert repr(opened).startswith('LegacyCollection "reaching" (4 runs, 4 complete)')
    html = opened._repr_html_()
    assert "param_aB-_9z/all" in html
    assert "4, 4 complete" in html
    assert repr(opened.runs[0]).startswith('LegacyRun "param_Ab-_9z/single_ds1" batch_size=4')


def test_figures(opened: LegacyCollection) -> None:
    import matplotlib.pyplot as plt

    run = opened.find_run("single_ds1", factors_dim=2)
    stitched = opened.find_run("all", factors_dim=2)
    assert run.plot_learning_curves().lines
    run.plot_raster(trial=3)
    run.plot_single_trial_rates(neuron=1)
    run.plot_average_rates()
    stitched.plot_inferred_inputs(dataset="ds2")
    stitched.plot_readout_weights()
    assert len(opened.plot_learning_curves().lines) >= 4
    opened.plot_sweep(runs=opened.find_runs("all"))
    plt.close("all")


# ---------------------------------------------------------------- errors


def test_opening_the_wrong_folder(
    made: Any, opened: LegacyCollection, sweep: RunCollection, tmp_path: Path
) -> None:
    with pytest.raises(NotFoundError, match="no such folder"):
        LegacyCollection.open(tmp_path / "nothing")
    with pytest.raises(NotFoundError, match="param_<HASH>"):
        LegacyCollection.open(tmp_path)
    for folder in (made.path / "data_Db-_9z2", made.path.parent):
        with pytest.raises(NotFoundError, match=f"there are some in {made.path}"):
            LegacyCollection.open(folder)
    with pytest.raises(NotFoundError, match=r"RunCollection\.open"):
        LegacyCollection.open(sweep.path)
    with pytest.raises(NotFoundError, match=r"LegacyCollection\.open"):
        RunCollection.open(made.path)


DAMAGED = [
    *[
        (f"lfadsOutput/{name}", kept)
        for name in ("model_runs_ds1.h5_train_posterior_sample_and_average", "model_params")
        for kept in (0.0, 0.05, 0.3, 0.9)
    ],
    *[("lfadsOutput/hyperparameters-0.txt", kept) for kept in (0.0, 0.3, 0.9)],
    *[("lfadsInput/lfads_ds1.h5", kept) for kept in (0.0, 0.3, 0.9)],
    # such files have no end, and what is needed stands before the counts
    *[("lfadsInput/inputInfo_ds1.mat", kept) for kept in (0.0, 0.05)],
]


@pytest.mark.parametrize(("name", "kept"), DAMAGED)
def test_damaged_files_are_named(matlab: Any, tmp_path: Path, name: str, kept: float) -> None:
    made = matlab.Made(tmp_path / "c", factors=(2,), specs={"single_ds1": ["ds1"]}, links="copies")
    shutil.rmtree(next(made.path.glob("data_*")))
    path = made.run_path("single_ds1", 2) / name
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    run = LegacyCollection.open(made.path).runs[0]
    if name.endswith(("average", ".h5", ".mat")):
        with pytest.raises(ResultsError) as caught:
            run.load_posterior_means(attach="all").load()
    else:
        with pytest.raises(ResultsError) as caught:
            run.load_model_params()
    if kept or not name.endswith("average"):  # an empty file of means is as good as none
        assert path.name in str(caught.value)
    assert len(run.collection.runs_table()) == 1


def test_files_that_do_not_belong_together(matlab: Any, tmp_path: Path) -> None:
    made = matlab.Made(tmp_path / "c", factors=(2, 3), specs={"single_ds1": ["ds1"]})
    shutil.copy(
        made.means_path("single_ds1", 3, "ds1", "valid"), made.means_path("single_ds1", 2, "ds1", "valid")
    )
    run = LegacyCollection.open(made.path).find_run(factors_dim=2)
    with pytest.raises(ResultsError, match="two models"):
        run.load_posterior_means()
    other = matlab.Made(tmp_path / "d", factors=(2,), specs={"all": ["ds2", "ds1"]})
    for split in ("train", "valid"):
        shutil.copy(other.means_path("all", 2, "ds2", split), other.means_path("all", 2, "ds1", split))
    with pytest.raises(ResultsError, match="5 outputs for 4 neurons"):
        LegacyCollection.open(other.path).runs[0].load_posterior_means("ds1")


# ---------------------------------------------------------------- real files of the original


@pytest.mark.parametrize("case", ["poisson_single", "controller_ext", "multisession", "gaussian"])
def test_real_files(case: str, matlab: Any, tmp_path: Path) -> None:
    folder = REFERENCE / case
    if not folder.is_dir():
        pytest.skip(f"the reference files are not here: {folder}")
    run, data = tmp_path / "c/param_AbCdEf/all", tmp_path / "c/data_QwErTy/all"
    for path in (run / "lfadsOutput", run / "lfadsInput", data):
        path.mkdir(parents=True)
    for path in folder.glob("model_runs_s*.h5"):
        name = path.stem.replace("_train_", ".h5_train_").replace("_valid_", ".h5_valid_")
        (run / "lfadsOutput" / name).symlink_to(path)
    (run / "lfadsOutput" / "model_params").symlink_to(folder / "model_params.h5")
    (run / "lfadsOutput" / "hyperparameters-0.txt").symlink_to(folder / "hyperparameters.json")
    counts = {}
    for path in folder.glob("lfads_s*.h5"):
        (data / path.name).symlink_to(path)
        (run / "lfadsInput" / path.name).symlink_to(f"../../../data_QwErTy/all/{path.name}")
        with h5py.File(path) as file:
            counts[path.stem.removeprefix("lfads_")] = (
                len(file["train_data"]),
                len(file["valid_data"]),
                file["train_data"].shape[1],
            )
    for dataset, (train, valid, bins) in counts.items():
        held = 1 + 5 * np.arange(valid)
        rest = np.setdiff1d(1 + np.arange(train + valid), held)
        about = {"trainInds": rest.astype(float), "validInds": held.astype(float), "seq_binSizeMs": 10.0,
                 "seq_timeVector": 10.0 * np.arange(bins)}  # fmt: skip
        matlab.savemat(data / f"inputInfo_{dataset}.mat", about)
    opened = LegacyCollection.open(tmp_path / "c")
    assert set(opened.runs[0].dataset_names) == set(counts)
    for dataset in counts:
        for kind in ("posterior_push_mean", "posterior_sample_and_average"):
            means = opened.runs[0].load_posterior_means(dataset, kind=kind, attach="spikes")
            for split in ("train", "valid"):
                mine = means.isel(trial=means["split"].values == split)
                with h5py.File(folder / f"model_runs_{dataset}_{split}_{kind}.h5") as file:
                    outputs = file["output_dist_params"][()]
                    np.testing.assert_array_equal(mine["generator_ics"].values, file["gen_ics"][()])
                    assert ("controller_outputs" in mine) == ("controller_outputs" in file)
                if case == "gaussian":
                    found = np.concatenate([mine["output_mean"].values, mine["output_var"].values], axis=2)
                else:
                    found = mine["rates"].values / 100
                np.testing.assert_allclose(found, outputs, rtol=1e-12)
                with h5py.File(folder / f"lfads_{dataset}.h5") as file:
                    np.testing.assert_array_equal(mine["spikes"].values, file[f"{split}_data"][()])
    params = opened.runs[0].load_model_params()
    assert set(params.attrs["datasets"]) == set(counts)
    assert params["factors_W"].shape == (24, 5)
    if case != "gaussian":  # rates are the exponential of what the read-out makes of the factors
        pushed = opened.runs[0].load_posterior_means(next(iter(counts)), kind="posterior_push_mean")
        own = opened.runs[0].load_model_params(next(iter(counts)))
        rates = np.exp(pushed["factors"].values @ own["readout_W"].values + own["readout_b"].values)
        np.testing.assert_allclose(pushed["rates"].values / 100, rates, rtol=1e-4)
