"""Runs side by side along what was swept."""

from __future__ import annotations

import itertools
import json
from typing import Any
from unittest import mock

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from lfadsrm_hpc.api import RunCollection
from lfadsrm_hpc.collection.params import RunParams
from lfadsrm_hpc.errors import LfadsrmWarning, NotFoundError, ParamsError, ResultsError, UsageError
from lfadsrm_hpc.results.arrays.stored import Source
from lfadsrm_hpc.results.posterior_means import stacking
from lfadsrm_hpc.results.posterior_means.stacking import Member

PARAMS = ("factors_dim", "seed")


def test_equal_runs_become_one_dataset(sweep: RunCollection, fabricated: Any) -> None:
    means = sweep.load_posterior_means(spec="single_day1", factors_dim=4, stack=PARAMS)
    assert isinstance(means, xr.Dataset)
    assert means.rates.dims == ("factors_dim", "seed", "trial", "time", "neuron")
    assert dict(means.sizes) == {
        "factors_dim": 1, "seed": 2, "trial": 20, "time": 10, "neuron": 5, "factor": 4,
        "generator_unit": 8, "ic": 3,
    }  # fmt: skip
    for seed, run in enumerate(sweep.runs[2:4]):
        own = means.sel(factors_dim=4, seed=seed)
        assert own.run == run.id
        for name in means.data_vars:
            np.testing.assert_array_equal(own[name], fabricated.values(run, "day1", str(name)))
    assert (means.attrs["padded"], means.attrs["missing"]) == ("{}", "[]")
    assert json.loads(means.attrs["stack"]) == list(PARAMS)
    assert means.attrs["dataset"] == "day1"
    assert "claim_token" not in means.attrs, "it is not theirs in common"
    assert means.split.dims == ("trial",)


def test_narrower_runs_are_padded_and_that_is_said(sweep: RunCollection, fabricated: Any) -> None:
    with pytest.warns(
        LfadsrmWarning, match=r"single_day1 \(day1\): factor is padded with NaN to 4 \(least 2"
    ):
        means = sweep.load_posterior_means(spec="single_day1", stack=PARAMS)
    assert means.sizes["factor"] == 4
    assert json.loads(means.attrs["padded"]) == {"factor": [2, 4]}
    assert means.n_factor.values.tolist() == [[2, 2], [4, 4]]
    for run in sweep.runs[:4]:
        own = means.sel(factors_dim=run.params.factors_dim, seed=run.params.seed)
        width = run.params.factors_dim
        expected = fabricated.values(run, "day1", "factors")
        np.testing.assert_array_equal(own.factors[..., :width], expected)
        assert np.isnan(own.factors[..., width:]).all()
        np.testing.assert_array_equal(own.rates, fabricated.values(run, "day1", "rates"))


def test_missing_runs_are_nan_and_named(sweep: RunCollection) -> None:
    with pytest.warns(LfadsrmWarning) as said:
        tree = sweep.load_posterior_means(spec="both", stack=PARAMS)
    assert len(said) == 1, "once for both datasets"
    text = str(said[0].message)
    assert text.startswith("both (day1, day2): ")
    assert "no complete run has factors_dim=4 seed=1: NaN there" in text
    assert said[0].filename == __file__
    means = tree["both/day2"].ds
    assert np.isnan(means.rates.sel(factors_dim=4, seed=1)).all()
    assert not np.isnan(means.rates.sel(factors_dim=4, seed=0)).any()
    assert means.run.sel(factors_dim=4, seed=1) == ""
    assert json.loads(means.attrs["missing"]) == [{"factors_dim": 4, "seed": 1}]


def test_several_run_specs_and_datasets_become_a_tree(sweep: RunCollection) -> None:
    tree = sweep.load_posterior_means(factors_dim=2, stack="seed")
    assert isinstance(tree, xr.DataTree)
    assert {node.path for node in tree.leaves} == {"/single_day1/day1", "/both/day1", "/both/day2"}
    assert tree["both/day2"].ds.rates.dims == ("seed", "trial", "time", "neuron")
    one = sweep.load_posterior_means(factors_dim=2, stack="seed", spec="both", dataset="day2")
    assert isinstance(one, xr.Dataset)


def test_two_runs_in_one_place_are_an_error_that_says_what_else_differs(sweep: RunCollection) -> None:
    with pytest.raises(ResultsError) as said:
        sweep.load_posterior_means(spec="single_day1", stack="factors_dim")
    text = str(said.value)
    assert f"two runs have factors_dim=2: {sweep.runs[0].id} and {sweep.runs[1].id}" in text
    assert "they differ in seed (0, 1)" in text
    assert "stack=('factors_dim', 'seed'), or select one value: seed=0" in text
    with pytest.raises(ResultsError, match="they differ in nothing"):
        sweep.load_posterior_means([sweep.runs[0], sweep.runs[0]], stack="seed")


def test_names_are_checked(sweep: RunCollection) -> None:
    with pytest.raises(ParamsError, match="'seed'"):
        sweep.load_posterior_means(stack="seeds")
    with pytest.raises(UsageError, match="names no param"):
        sweep.load_posterior_means(stack=())
    with pytest.raises(NotFoundError, match="'day4'"):
        sweep.load_posterior_means(stack="seed", dataset="day4")


def test_only_what_is_selected_is_read(sweep: RunCollection) -> None:
    means = sweep.load_posterior_means(spec="single_day1", factors_dim=4, stack="seed")
    read: list[tuple[str, Any]] = []
    real = Source.read

    def noted(self: Source, name: str, key: Any) -> Any:
        read.append((self.path, name))
        return real(self, name, key)

    with mock.patch.object(Source, "read", noted):
        one = means.rates.sel(seed=1, neuron=2).load()
    file = str(sweep.runs[3].layout.posterior_means("day1"))
    assert [one for one in read if one[1] not in ("condition", "neuron_name")] == [(file, "rates")]
    assert one.shape == (20, 10)
    assert not means.rates.variable._in_memory


def test_what_is_attached_is_there_once(sweep: RunCollection) -> None:
    with pytest.warns(LfadsrmWarning):
        tree = sweep.load_posterior_means(
            spec="both", stack=PARAMS, attach=("spikes", "truth"), split="valid"
        )
    means = tree["both/day1"].ds
    assert means.spikes.dims == ("trial", "time", "neuron")
    own = sweep.runs[4].load_posterior_means("day1", attach="spikes", split="valid")
    np.testing.assert_array_equal(means.spikes, own.spikes)
    assert "fingerprint" not in means.attrs, "inputs of stitched runs differ in their alignment"


# ---------------------------------------------------------------- runs that are less alike


def dataset(seed: int, *, factor: int, co: int = 0, split: int = 5, std: bool = True, bins: int = 4) -> Any:
    rng = np.random.default_rng(seed)
    sizes = {"trial": 7, "time": bins, "neuron": 3, "factor": factor, "controller_output": co}
    dims = {"rates": ("trial", "time", "neuron"), "factors": ("trial", "time", "factor"), "costs": ("trial",)}
    dims |= {"controller_outputs": ("trial", "time", "controller_output")} if co else {}
    dims |= {"rates_std": dims["rates"]} if std else {}
    return xr.Dataset(
        {name: (own, rng.random([sizes[dim] for dim in own], np.float32)) for name, own in dims.items()}
        | {"spikes": (dims["rates"], rng.integers(0, 9, (7, bins, 3), np.uint16))},
        {
            "trial": np.arange(7), "time": np.arange(bins) * 10.0, "neuron": np.arange(3),
            "neuron_name": ("neuron", ["a", "b", "c"]),
            "split": ("trial", ["valid" if k % split == 0 else "train" for k in range(7)]),
        },
    )  # fmt: skip


def members(*values: dict[str, Any], **changes: Any) -> list[Member]:
    made = []
    for number, own in enumerate(values):
        about = {key: own[key] for key in ("factor", "co", "split", "std", "bins") if key in own}
        params = {key: value for key, value in own.items() if key not in about}
        means = dataset(number, **{"factor": 2, **about})
        made.append(Member(f"run{number}", params, means, frozenset({"spike_bin_ms"})))
    return made


def test_variables_that_a_run_lacks_are_nan_there() -> None:
    given_ = members({"co_dim": 2, "co": 2}, {"co_dim": 0, "std": False})
    found = stacking.stack(given_, ["co_dim"])
    assert found.padded == {"controller_output": (0, 2)}
    assert found.means.co_dim.values.tolist() == [0, 2], "numbers are sorted"
    assert np.isnan(found.means.controller_outputs.sel(co_dim=0)).all()
    np.testing.assert_array_equal(
        found.means.controller_outputs.sel(co_dim=2), given_[0].means.controller_outputs
    )
    assert np.isnan(found.means.rates_std.sel(co_dim=0)).all()
    assert found.means.spikes.dtype == np.uint16, "nothing is missing there"


def test_counts_become_floats_only_where_something_is_missing() -> None:
    found = stacking.stack(members({"a": 1, "b": 1}, {"a": 2, "b": 2}), ["a", "b"]).means
    assert found.spikes.dtype == np.float32
    assert np.isnan(found.spikes.sel(a=1, b=2)).all()


def test_runs_with_other_splits_keep_theirs() -> None:
    found = stacking.stack(members({"split_seed": 0}, {"split_seed": 1, "split": 3}), ["split_seed"]).means
    assert found.split.dims == ("split_seed", "trial")
    assert found.split.sel(split_seed=1).values.tolist() == ["valid", "train", "train"] * 2 + ["valid"]


def test_values_that_are_no_numbers_become_labels() -> None:
    given_ = members({"a": None, "b": True}, {"a": (1, 3), "b": False}, {"a": "x", "b": True})
    found = stacking.stack(given_, ["a", "b"])
    assert found.means.a.values.tolist() == ["None", "[1,3]", "x"]
    assert found.means.b.values.tolist() == [True, False]
    assert found.means.run.sel(a="x", b=True) == "run2"
    assert len(found.missing) == 3
    assert "a=[1,3] b=True" in found.remark


def test_what_else_differs_is_noted() -> None:
    found = stacking.stack(members({"a": 1, "gen_dim": 8}, {"a": 2, "gen_dim": 16}), ["a"])
    assert json.loads(found.means.attrs["also_differing"]) == ["gen_dim"]


@pytest.mark.parametrize(
    ("change", "what"),
    [({"bins": 5}, "have not the same bins"), ({}, "have not the same neurons")],
)
def test_other_bins_or_neurons_cannot_be_stacked(change: dict[str, Any], what: str) -> None:
    one, other = members({"seed": 0, "spike_bin_ms": 2.0}, {"seed": 1, "spike_bin_ms": 4.0, **change})
    if not change:
        other.means["neuron_name"] = "neuron", ["a", "b", "x"]
    with pytest.raises(ResultsError, match=rf"run0 and run1.*{what}") as said:
        stacking.stack([one, other], ["seed"])
    assert "they differ in spike_bin_ms" in str(said.value), "not in the seed, which changes no data"


def test_a_param_with_the_name_of_a_dimension_is_refused() -> None:
    with pytest.raises(UsageError, match="'time' cannot be a dimension"):
        stacking.stack(members({"time": 1}), ["time"])


WHOLE = members(
    {"a": 0, "b": 0, "factor": 2}, {"a": 1, "b": 0, "factor": 3}, {"a": 1, "b": 2, "factor": 1},
    {"a": 5, "b": 1, "factor": 3},
)  # fmt: skip


def _reference() -> Any:
    out = np.full((3, 3, 7, 4, 3), np.nan, np.float32)
    for member in WHOLE:
        place = [0, 1, 5].index(member.values["a"]), [0, 1, 2].index(member.values["b"])
        out[place][..., : member.means.sizes["factor"]] = member.means.factors
    return out


REFERENCE = _reference()


def _places(size: int) -> st.SearchStrategy[Any]:
    return st.one_of(
        st.integers(0, size - 1),
        st.slices(size).filter(lambda one: (one.step or 1) > 0),
        st.lists(st.integers(0, size - 1), max_size=5).map(lambda v: np.array(v, dtype=int)),
    )


@given(key=st.tuples(*(_places(size) for size in REFERENCE.shape)))
@settings(deadline=None, max_examples=200)
def test_any_part_of_a_stack_is_what_numpy_selects(key: Any) -> None:
    variable = stacking.stack(WHOLE, ["a", "b"]).means.factors.variable
    expected = REFERENCE
    for axis, one in reversed(list(enumerate(key))):
        expected = expected[(slice(None),) * axis + (one,)]
    assert np.array_equal(variable[key].to_numpy(), expected, equal_nan=True), key


def test_every_run_of_a_sweep_is_in_its_place(make: Any, fabricated: Any) -> None:
    params = RunParams(**fabricated.BASE).generate_sweep(keep_prob=[0.9, 0.95], seed=[3, 1], gen_dim=[8, 9])
    rc = make(params)
    with pytest.warns(LfadsrmWarning, match="generator_unit is padded with NaN to 9"):
        means = rc.load_posterior_means(stack=("seed", "gen_dim", "keep_prob"))
    for seed, units, keep in itertools.product([1, 3], [8, 9], [0.9, 0.95]):
        run = rc.find_run(seed=seed, gen_dim=units, keep_prob=keep)
        own = means.sel(seed=seed, gen_dim=units, keep_prob=keep)
        expected = fabricated.values(run, "day1", "generator_states")
        np.testing.assert_array_equal(own.generator_states[..., :units], expected)
        assert int(own.n_generator_unit) == units
