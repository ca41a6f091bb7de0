"""Posterior means of new trials: the same as the run's own, wherever these can be compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from lfadsrm_hpc import Dataset, DatasetCollection, RunCollection
from lfadsrm_hpc.data.readers import save_dataset
from lfadsrm_hpc.errors import DataError, MismatchError, NotFoundError, ResultsError, UsageError
from lfadsrm_hpc.manifest.deleted import can_be_sampled

pytestmark = pytest.mark.train


def same(one: xr.Dataset, other: xr.Dataset) -> None:
    assert set(one.data_vars) == set(other.data_vars)
    for name in one.data_vars:
        np.testing.assert_array_equal(one[name].values, other[name].values, err_msg=str(name))


@pytest.mark.parametrize("spec", ["alone", "both"])
def test_the_trials_of_the_training_give_its_posterior_means_bit_for_bit(
    trained: RunCollection, kit: Any, spec: str
) -> None:
    run = trained.find_run(spec)
    before = kit.everything(run.path)
    with run.infer(kit.make("day1", kit.names["day1"])) as new, run.load_posterior_means("day1") as own:
        same(new, own)
        assert set(new.split.values) == {"new"}
        np.testing.assert_array_equal(new.condition.values, own.condition.values)
        np.testing.assert_array_equal(new.time.values, own.time.values)
        assert "rates_std" in new
    after = kit.everything(run.path)
    assert {name: after[name] for name in before} == before, "the run's own files stay as they are"
    assert set(after) - set(before) == {"inferred/day1.nc"}


def test_every_form_of_the_data_gives_the_same(trained: RunCollection, kit: Any, tmp_path: Path) -> None:
    run = trained.find_run("alone")
    session = kit.make("fresh", kit.names["day1"], trials=5, seed=7)
    counts = session.spikes.values
    file = save_dataset(session, tmp_path / "fresh.nc")
    np.savez(tmp_path / "bare.npz", spikes=counts)
    dataset = Dataset.from_arrays(DatasetCollection(tmp_path), "held", counts, bin_ms=5.0)
    binned = counts.reshape(5, kit.bins // 2, 2, 5).sum(2)
    calls: dict[str, tuple[Any, dict[str, Any]]] = {
        "fresh": (session, {}),
        "renamed": (file, {"name": "renamed"}),
        "bare": (str(tmp_path / "bare.npz"), {"bin_ms": 5.0}),
        "held": (dataset, {}),
        "new_trials": (counts, {"bin_ms": 5.0}),
        "binned": (binned, {"name": "binned"}),
        "listed": (binned.tolist(), {"name": "listed"}),
    }
    results = {name: run.infer(data, **more) for name, (data, more) in calls.items()}
    for name, result in results.items():
        same(result, results["fresh"])
        assert result.attrs["dataset"] == name
        assert run.layout.inferred(name).is_file()
        result.close()


def test_one_trial_and_what_may_be_chosen(trained: RunCollection, kit: Any, tmp_path: Path) -> None:
    run = trained.find_run("alone")
    one = kit.make("one", kit.names["day1"], trials=1)
    told: list[tuple[int, int]] = []
    place = tmp_path / "elsewhere" / "x.nc"
    with run.infer(
        one, path=place, num_samples=7, seed=5, on_block=lambda done, total: told.append((done, total))
    ) as found:
        assert found.sizes["trial"] == 1
        attrs = dict(found.attrs)
        first = found.factors.values
    assert told == [(1, 1)]
    assert (attrs["num_samples"], attrs["seed"], attrs["run_id"]) == (7, 5, run.id)
    assert '"kind": "lve"' in attrs["checkpoint"]
    assert '"tensorflow"' in attrs["versions"]
    assert attrs["session"] == "day1"
    assert not run.layout.inferred_dir.exists()
    with run.infer(one, num_samples=7, seed=6) as other:
        assert not np.array_equal(other.factors.values, first)
    with run.infer(one, kind="posterior_push_mean", name="pushed") as pushed:
        assert pushed.attrs["posterior_mean_kind"] == "posterior_push_mean"
        assert "rates_std" not in pushed


def test_whose_neurons_they_are(trained: RunCollection, kit: Any) -> None:
    both, alone = trained.find_run("both"), trained.find_run("alone")
    later = kit.make("later", kit.names["day2"], trials=3)
    with pytest.raises(NotFoundError, match=r"none is called 'later': day1, day2[\s\S]*session='day1'"):
        both.infer(later)
    with pytest.raises(NotFoundError, match=r"no session 'dya2'[\s\S]*did you mean 'day2'"):
        both.infer(later, session="dya2")
    with both.infer(later, session="day2") as found:
        assert found.sizes["neuron"] == 4
        assert found.attrs["session"] == "day2"
    with pytest.raises(MismatchError, match="missing: a1, b1, c1, d1, e1; unknown: a2, b2, c2, d2"):
        alone.infer(later)


def test_other_neurons(trained: RunCollection, kit: Any) -> None:
    run = trained.find_run("alone")
    ds = kit.make("later", kit.names["day1"], trials=3)
    with pytest.raises(
        MismatchError, match=r"4 neurons; the model was trained on 5.*missing: c1[\s\S]*adapt"
    ):
        run.infer(ds.isel(neuron=[0, 1, 3, 4]))
    with pytest.raises(MismatchError, match="another order than in training: neuron 0 is 'b1', not 'a1'"):
        run.infer(ds.isel(neuron=[1, 0, 2, 3, 4]))
    swapped = kit.make("later", ["a1", "b1", "c1", "d1", "z9"], trials=3)
    with pytest.raises(MismatchError, match="missing: e1; unknown: z9"):
        run.infer(swapped)
    with pytest.raises(MismatchError, match="4 neurons; the model was trained on 5 of this session"):
        run.infer(np.zeros((2, 8, 4), int))
    with run.infer(np.zeros((2, 8, 5), int)) as found:  # without names of their own, their number counts
        assert found.neuron_name.values[0] == "n000"


def test_other_trials(trained: RunCollection, kit: Any) -> None:
    run = trained.find_run("alone")
    ds = kit.make("later", kit.names["day1"], trials=3)
    with pytest.raises(DataError, match=r"7 bins of 10 ms; the model was trained on 8[\s\S]*80 ms"):
        run.infer(ds.isel(time=slice(0, 14)))
    with pytest.raises(DataError, match="not a whole number of bins"):
        run.infer(ds.isel(time=slice(0, 15)))
    with pytest.raises(DataError, match="fractional spike count"):
        run.infer(np.full((2, 8, 5), 0.5))
    with pytest.raises(DataError, match="1 external inputs; the model was trained with 0"):
        run.infer(ds, ext_input=np.zeros((3, kit.bins, 1)))
    with pytest.raises(DataError, match="trials have unequal lengths"):
        run.infer([np.zeros((8, 5), int), np.zeros((7, 5), int)])
    with pytest.raises(UsageError, match="bin_ms is for plain counts"):
        run.infer(ds, bin_ms=5)
    with pytest.raises(UsageError, match="cannot be the name of a dataset"):
        run.infer(ds, name=".hidden")
    assert not run.layout.inferred_dir.exists()


def test_files_that_are_there(trained: RunCollection, kit: Any, tmp_path: Path) -> None:
    run = trained.find_run("alone")
    ds = kit.make("later", kit.names["day1"], trials=3)
    run.infer(ds).close()
    first = run.layout.inferred("later").read_bytes()
    with pytest.raises(UsageError, match=r"already[\s\S]*overwrite=True"):
        run.infer(ds)
    run.infer(ds, seed=3, overwrite=True).close()
    assert run.layout.inferred("later").read_bytes() != first
    for path in (run.layout.posterior_means("day1"), run.path / "new.nc", run.layout.checkpoints / "x.nc"):
        before = path.read_bytes() if path.exists() else None
        with pytest.raises(UsageError, match="results of a run are not written over"):
            run.infer(ds, path=path, overwrite=True)
        assert (path.read_bytes() if path.exists() else None) == before
    other = tmp_path / "notes.nc"
    other.write_text("mine")
    with pytest.raises(UsageError, match="no inference by this run"):
        run.infer(ds, path=other, overwrite=True)
    assert other.read_text() == "mine"
    trained.find_run("both").infer(ds, session="day1", path=tmp_path / "both.nc").close()
    with pytest.raises(UsageError, match="no inference by this run"):
        run.infer(ds, path=tmp_path / "both.nc", overwrite=True)


def test_nothing_is_left_of_a_sampling_that_ends_badly(trained: RunCollection, kit: Any) -> None:
    run = trained.find_run("alone")

    def fails(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run.infer(kit.make("later", kit.names["day1"], trials=3), on_block=fails)
    assert list(run.layout.inferred_dir.iterdir()) == []


def test_a_run_that_is_not_trained(kit: Any, tmp_path: Path) -> None:
    rc = kit.collection(tmp_path, kit.params, kit.make("day1", kit.names["day1"]))
    with pytest.raises(ResultsError, match="not trained to its end"):
        rc.runs[0].infer(np.zeros((2, 8, 5), int))


def test_a_run_whose_last_checkpoint_was_deleted(trained: RunCollection, kit: Any) -> None:
    run = trained.find_run("alone")
    assert can_be_sampled(run.layout)
    trained.clean(trained.removable([run], kinds=["last-checkpoint"]))
    assert not can_be_sampled(run.layout), "an older one may be there"
    with pytest.raises(ResultsError, match=r"last checkpoint .* deleted[\s\S]*clean --restart"):
        run.infer(kit.make("later", kit.names["day1"], trials=3))


def test_external_inputs_come_along(kit: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    given = rng.normal(size=(24, kit.bins, 2))
    session = kit.make("day1", kit.names["day1"], external_input=given)
    rc = kit.collection(
        tmp_path, kit.params.replace(ext_input_dim=2, co_dim=1, con_dim=4, ci_enc_dim=4), session
    )
    (run,) = rc.runs
    assert run.train() == 0
    bare = session.drop_vars("external_input")
    with run.load_posterior_means() as own:
        with run.infer(session) as whole:
            same(whole, own)
        with run.infer(bare, ext_input=given, name="apart") as apart:
            same(apart, own)
    with pytest.raises(DataError, match=r"0 external inputs; the model was trained with 2[\s\S]*ext_input="):
        run.infer(bare)
    with pytest.raises(UsageError, match="holds external inputs"):
        run.infer(session, ext_input=given)
    with pytest.raises(DataError, match=r"shape \(3, 16, 2\); there are 24 trials of 16 bins"):
        run.infer(bare, ext_input=given[:3])
