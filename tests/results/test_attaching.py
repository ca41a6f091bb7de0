"""What runs were fitted to, beside what came out: in the original order, read when it is used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from unittest import mock

import h5py
import numpy as np
import pytest
import xarray as xr

from lfadsrm_hpc.api import Run, RunCollection
from lfadsrm_hpc.collection.params import RunParams
from lfadsrm_hpc.errors import MismatchError, NotFoundError, ResultsError
from lfadsrm_hpc.results.arrays.stored import Source
from lfadsrm_hpc.results.attaching import attach, available, counted


def original(run: Run, dataset: str) -> Any:
    """Return the file of a session, rebinned from 2 to 4 ms."""
    folder = run.collection.path.parent.parent / "datasets"
    with np.load(folder / f"{dataset}.npz", allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    pairs = {name: a.reshape(len(a), -1, 2, a.shape[2]) for name, a in arrays.items() if a.ndim == 3}
    means = {name: a.sum(2) if name == "spikes" else a.mean(2) for name, a in pairs.items()}
    return {**arrays, **means}


def add_extra(run: Run, dataset: str, extra: dict[str, tuple[tuple[str, ...], Any]], **about: Any) -> None:
    """Put further variables into an input file, as the readers do."""
    with h5py.File(run.input_files()[dataset], "a", locking=False) as file:
        inds = {part: file[f"{part}_inds"][...].astype(int) - 1 for part in ("train", "valid")}
        for name, (dims, values) in extra.items():
            group = file.create_group("extra/" + name.replace("/", "%2F"))
            group.attrs["dims"] = json.dumps(dims)
            group.attrs["about"] = json.dumps(about.get(name, {}))
            for part in ("train", "valid"):
                own = np.asarray(values)[inds[part]]
                text = own.dtype.kind in "OU"
                group.create_dataset(
                    part,
                    data=own.astype(object) if text else own,
                    dtype=h5py.string_dtype() if text else None,
                )


def test_data_lie_beside_the_means_in_their_original_order(sweep: RunCollection) -> None:
    run = sweep.runs[4]
    means = run.load_posterior_means("day2", attach=("spikes", "truth", "external_input"))
    data = original(run, "day2")
    for name in ("spikes", "truth", "external_input"):
        assert not means[name].variable._in_memory
        np.testing.assert_allclose(means[name], data[name], rtol=1e-12, err_msg=name)
    assert means.spikes.dims == means.rates.dims
    assert means.external_input.dims == ("trial", "time", "input")
    assert means.spikes.attrs["units"] == "spikes per bin"
    assert means.truth.attrs["units"] == "spikes/s"
    assert means.spikes.dtype == np.int64
    np.testing.assert_array_equal(means.spikes.sel(trial=[7, 2], neuron=3), data["spikes"][[7, 2], :, 3])
    np.testing.assert_array_equal(means.spikes.isel(trial=5, time=slice(2, 9, 3)), data["spikes"][5, 2:9:3])
    assert means.spikes.isel(trial=[], neuron=1).shape == (0, 10)


def test_continuous_data_are_not_called_counts(make: Any, fabricated: Any) -> None:
    (run,) = make([RunParams(**fabricated.BASE, output_dist="gaussian")]).runs
    with h5py.File(run.input_files()["day1"], "a", locking=False) as file:
        for key in ("train_data", "valid_data"):
            values = file[key][...] + 0.5
            del file[key]
            file[key] = values
    data = run.load_posterior_means(attach="spikes").spikes
    assert data.attrs == {"units": "units of the data", "long_name": "values that were fitted"}


def test_only_the_trials_that_are_asked_for_are_read(sweep: RunCollection) -> None:
    means = sweep.runs[0].load_posterior_means(attach="spikes", split="valid")
    names: list[str] = []
    real = Source.read
    with mock.patch.object(Source, "read", lambda s, name, key: names.append(name) or real(s, name, key)):
        found = means.spikes.to_numpy()
    assert names == ["valid_data"]
    expected = original(sweep.runs[0], "day1")["spikes"][means.trial.values]
    np.testing.assert_array_equal(found, expected)


def test_other_words_and_everything_at_once(sweep: RunCollection) -> None:
    run = sweep.runs[0]
    means = run.load_posterior_means(attach=["counts", "external_inputs", "conditions"])
    assert {"spikes", "external_input"} < set(means.data_vars)
    assert means.condition.values[3] == ""
    whole = run.load_posterior_means(attach="all")
    assert {"spikes", "truth", "external_input"} < set(whole.data_vars)
    assert available(run.input_files()["day1"]) == ["spikes", "truth", "external_input", "condition"]
    assert tuple(vars(counted(run.input_files()["day1"])).values()) == (16, 4, 10, 5)


def test_conditions_that_results_lack_come_from_the_data(make: Any, fabricated: Any) -> None:
    (run,) = make(done=0).runs
    token = fabricated.complete(run, means=False)
    fabricated.write_means(run, "day1", token, condition=None)
    assert "condition" not in run.load_posterior_means().coords
    means = run.load_posterior_means(attach="condition")
    assert means.condition.values[:5].tolist() == ["reach 0", "reach 1", "reach 2", "", "reach 0"]


def test_behaviour_and_further_variables(make: Any) -> None:
    (run,) = make().runs
    rng = np.random.default_rng(0)
    hand, target = rng.random((20, 10, 2)), np.array([f"t{k % 3}" for k in range(20)])
    reaction, factors = rng.random(20), rng.random((20, 3))
    add_extra(
        run, "day1",
        {
            "hand": (("trial", "time", "axis"), hand),
            "target/name": (("trial",), target),
            "reaction": (("trial",), reaction),
            "factors": (("trial", "factor"), factors),
        },
        hand={"units": "mm", "labels": ["x", "y"]},
    )  # fmt: skip
    means = run.load_posterior_means(attach="behaviour")
    np.testing.assert_array_equal(means.hand.sel(axis="y"), hand[..., 1])
    assert means.hand.attrs == {"units": "mm"}
    assert means["target/name"].values.tolist() == target.tolist()
    np.testing.assert_array_equal(means.reaction[::-1], reaction[::-1])
    assert means.factors.shape == (20, 10, 50), "results keep their names"
    assert means.data_factors.dims == ("trial", "data_factors_factor"), "and their sizes"
    assert "spikes" not in means
    one = run.load_posterior_means(attach="hand")
    assert ("hand" in one, "reaction" in one) == (True, False)
    averages = run.condition_averages(variables="hand", by="target/name", attach="behavior")
    np.testing.assert_allclose(averages.hand[1], hand[target == "t1"].mean(axis=0))


def test_what_is_not_there_is_named(sweep: RunCollection, make: Any) -> None:
    with pytest.raises(NotFoundError, match=r"no 'truht'(?s:.)*did you mean 'truth'.*spikes, truth, ext"):
        sweep.runs[0].load_posterior_means(attach="truht")
    with pytest.raises(NotFoundError, match="no 'behaviour'"):
        sweep.runs[0].load_posterior_means(attach="behaviour")
    with pytest.raises(NotFoundError, match="none of these datasets has 'hand'"):
        sweep.load_posterior_means(attach=("hand", "spikes"))
    with pytest.raises(NotFoundError, match="none of these datasets has 'hand'"):
        sweep.load_posterior_means(attach="hand", stack="seed", spec="single_day1", factors_dim=2)
    tree = sweep.load_posterior_means(attach=("spikes", "behaviour"), spec="both")
    assert all("spikes" in node.data_vars for node in tree.leaves)


def test_a_tree_leaves_out_what_some_datasets_lack(make: Any) -> None:
    rc = make(specs={"both": ["day1", "day2"]})
    add_extra(rc.runs[0], "day2", {"hand": (("trial",), np.arange(20))})
    tree = rc.load_posterior_means(attach="hand")
    assert ["hand" in node.data_vars for node in tree.leaves] == [False, True]


def test_other_data_are_refused(make: Any, fabricated: Any, tmp_path: Path) -> None:
    rc = make(RunParams(**fabricated.BASE).generate_sweep(split_seed=[0, 1]), specs={"a": ["day1"]})
    one, other = rc.runs
    means = one.load_posterior_means()
    with h5py.File(one.input_files()["day1"], "a", locking=False) as file:
        file.attrs["fingerprint"] = "0" * 64
    with pytest.raises(MismatchError, match="not the one that the posterior means were made from"):
        attach(means, one.input_files()["day1"], "spikes")
    with pytest.raises(NotFoundError, match="not there"):
        attach(means, tmp_path / "absent.h5", "spikes")
    xr.Dataset({"a": 1}).to_netcdf(tmp_path / "other.h5")
    with pytest.raises(ResultsError, match="no input file"):
        attach(means, tmp_path / "other.h5", "spikes")
    (tmp_path / "text.h5").write_text("no")
    with pytest.raises(ResultsError, match="cannot be read"):
        attach(means, tmp_path / "text.h5", "spikes")
    new = other.load_posterior_means().assign_coords(trial=np.arange(20) + 5)
    with pytest.raises(ResultsError, match="trial 20 of the posterior means is none of those"):
        attach(new, other.input_files()["day1"], "spikes")
