"""Run params: hashes that stay, differences, JSON that keeps a user's fields, display."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lfadsrm_hpc.collection import params as params_module
from lfadsrm_hpc.collection.hashing import FROZEN_DEFAULTS, SCHEMA, canonical, canonical_json, short_hash
from lfadsrm_hpc.collection.matching import matches
from lfadsrm_hpc.collection.param_groups import GROUPS
from lfadsrm_hpc.collection.params import RunParams, param
from lfadsrm_hpc.errors import ConfigError, ParamsError
from lfadsrm_hpc.model.hyperparameters import defaults, specs

SEED_SCRIPT = {
    "spike_bin_ms": 2,
    "co_dim": 0,
    "batch_size": 150,
    "gen_dim": 64,
    "ic_enc_dim": 64,
    "learning_rate_stop": 1e-3,
}
# what does not change the trained model
IRRELEVANT = {
    "name": "first_attempt",
    "use_xla": "on",
    "allow_gpu_growth": False,
    "max_ckpt_to_keep": 2,
    "max_ckpt_to_keep_lve": 2,
    "posterior_mean_kind": "posterior_push_mean",
    "num_samples_posterior": 8,
    "posterior_std": False,
    "posterior_memory_mb": 64.0,
    "gpu_memory_mb": 500,
}
# a valid value other than the default, for each field
OTHERS: dict[str, Any] = {
    "loss_reduction": "mean",
    "feedback_factors_or_rates": "rates",
    "output_dist": "gaussian",
    "split": "random",
    "alignment_method": "ridge",
    "alignment_conditions": "shared",
    "alignment_weights": "neurons",
    "alignment_without_conditions": "pca",
    "held_out_neurons": 0.2,
    "learning_rate_stop": 1e-4,
    "ic_prior_var_max": 0.2,
    "start_from": "param_abcdefghijkl/single_day1",
    **IRRELEVANT,
}


def other_value(name: str) -> Any:
    if name in OTHERS:
        return OTHERS[name]
    default = defaults(RunParams)[name]
    if isinstance(default, bool):
        return not default
    if default is None:
        return 7
    return default * 0.9 or 0.1 if isinstance(default, float) else default + 1


# ---------------------------------------------------------------- hashes


def test_frozen_defaults_are_the_defaults_of_today() -> None:
    """A default that changes needs thought: the frozen table stays, or no old run is found again."""
    hashed = {name for name, spec in specs(RunParams).items() if spec.affects != "nothing"}
    frozen = FROZEN_DEFAULTS[SCHEMA]
    assert set(frozen) == hashed
    assert {name: defaults(RunParams)[name] for name in hashed} == dict(frozen)
    assert {name: type(defaults(RunParams)[name]) for name in hashed} == {
        n: type(v) for n, v in frozen.items()
    }


@pytest.mark.parametrize(
    ("values", "param_hash", "data_hash", "stitched_data_hash"),
    [
        ({}, "c227up77u3xx", "hzvipkx4rgxz", "e5iuktpmg5cs"),
        (SEED_SCRIPT, "6runs6jcjzhy", "hzvipkx4rgxz", "e5iuktpmg5cs"),
        ({"learning_rate_stop": 1e-7, "spike_bin_ms": 0.5}, "sevfloyxhzis", "mxup5ii4brkv", "gsygth6j4ico"),
    ],
)
def test_hashes_never_change(
    values: dict[str, Any], param_hash: str, data_hash: str, stitched_data_hash: str
) -> None:
    """Folders on users' disks bear these names."""
    par = RunParams(**values)
    assert (par.param_hash, par.data_hash(1), par.data_hash(3)) == (param_hash, data_hash, stitched_data_hash)


def test_a_default_changed_by_a_later_release_renames_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    explicit = RunParams(gen_dim=64).param_hash
    monkeypatch.setitem(params_module.FROZEN_DEFAULTS, SCHEMA, {**FROZEN_DEFAULTS[SCHEMA], "brand_new": 1})
    assert RunParams(gen_dim=64).param_hash == explicit

    @dataclass(frozen=True, kw_only=True)
    class Later(RunParams):
        gen_dim: int = param(64, "Units of the generator.", kind="int", low=1)

    assert Later().param_hash == explicit
    assert Later(gen_dim=100).param_hash == RunParams().param_hash


@pytest.mark.parametrize("name", [n for n in specs(RunParams) if n not in IRRELEVANT])
def test_every_value_that_matters_enters_the_hash(name: str) -> None:
    changed = RunParams(**{name: other_value(name)})
    assert changed.param_hash != RunParams().param_hash
    assert list(changed.hashed_values()) == [name]


def test_what_does_not_matter_enters_no_hash() -> None:
    changed = RunParams(**IRRELEVANT)
    assert changed.param_hash == RunParams().param_hash
    assert changed.data_hash(3) == RunParams().data_hash(3)
    assert set(IRRELEVANT) == {n for n, s in specs(RunParams).items() if s.affects == "nothing"}


@pytest.mark.parametrize("name", list(specs(RunParams)))
def test_the_data_hash_covers_data_alone(name: str) -> None:
    changed, base = RunParams(**{name: other_value(name)}), RunParams()
    always = {"spike_bin_ms", "train_to_test_ratio", "split", "split_seed", "output_dist"}
    single = always | {"use_single_dataset_alignment_matrix"}
    stitched = always | {"use_alignment_matrix", "factors_dim"}
    stitched |= {f"alignment_{n}" for n in ("method", "conditions", "weights", "without_conditions")}
    assert (changed.data_hash(1) != base.data_hash(1)) == (name in single)
    assert (changed.data_hash(2) != base.data_hash(2)) == (name in stitched)


def test_factors_share_data_where_no_alignment_is_used() -> None:
    sweep = RunParams(use_alignment_matrix=False).generate_sweep("factors_dim", [2, 4])
    assert len({p.data_hash(3) for p in sweep}) == 1
    aligned_single = RunParams(use_single_dataset_alignment_matrix=True)
    assert len({p.data_hash(1) for p in aligned_single.generate_sweep("factors_dim", [2, 4])}) == 2


def test_hash_form() -> None:
    hashes = [p.param_hash for p in RunParams().generate_sweep("seed", range(500))]
    assert len(set(hashes)) == 500
    assert all(len(h) == 12 and set(h) <= set("abcdefghijklmnopqrstuvwxyz234567") for h in hashes)


def test_hashes_do_not_depend_on_the_process() -> None:
    code = (
        "from lfadsrm_hpc.collection.params import RunParams; print(RunParams(l2_gen_scale=1e-7).param_hash)"
    )
    for hash_seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": hash_seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == RunParams(l2_gen_scale=1e-7).param_hash


def test_canonical_numbers() -> None:
    assert canonical_json([1e-7, 1.0, -0.0, np.float32(0.5), np.int64(3), True, None]) == (
        "[1e-07,1,0,0.5,3,true,null]"
    )
    assert canonical_json({"b": (1, 2), "a": "ü"}) == '{"a":"\\u00fc","b":[1,2]}'
    assert canonical(2.0**60) == 2.0**60
    for bad in (float("nan"), float("inf"), object(), {1: 2}):
        with pytest.raises(ParamsError, match="value"):
            canonical(bad)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_canonical_floats_keep_their_value(value: float) -> None:
    assert json.loads(canonical_json(value)) == value
    assert short_hash(canonical_json(value)) == short_hash(canonical_json(json.loads(canonical_json(value))))


@given(st.floats(1e-12, 1e6), st.floats(1e-12, 1e6))
def test_two_values_have_two_hashes(a: float, b: float) -> None:
    same = RunParams(l2_gen_scale=a).param_hash == RunParams(l2_gen_scale=b).param_hash
    assert same == (a == b)


# ---------------------------------------------------------------- a user's fields


@dataclass(frozen=True, kw_only=True)
class MyParams(RunParams):
    area: str = param("M1", "Brain area.", kind="str", affects="data")
    threshold: float = 3.5
    tags: tuple[str, ...] = ()
    note: str = param("", "For people.", kind="str", affects="nothing")


def test_added_fields_at_their_defaults_change_no_hash() -> None:
    assert MyParams(gen_dim=64).param_hash == RunParams(gen_dim=64).param_hash
    assert MyParams(note="x").param_hash == RunParams().param_hash
    assert MyParams(threshold=4).param_hash != RunParams().param_hash
    assert MyParams(threshold=4).data_hash(1) == RunParams().data_hash(1)
    assert MyParams(area="PMd").data_hash(1) != RunParams().data_hash(1)
    assert MyParams(threshold=4).param_hash == MyParams(threshold=4.0).param_hash


def test_added_fields_survive_without_their_class() -> None:
    mine = MyParams(area="PMd", threshold=4, tags=("a", "b"), gen_dim=64, name="x")
    stored = json.loads(json.dumps(mine.to_json()))
    plain = RunParams.from_json(stored)
    assert type(plain) is RunParams
    assert plain.param_hash == mine.param_hash
    assert plain.data_hash(2) == mine.data_hash(2)
    assert plain.differences() == mine.differences()
    assert plain.to_json() | {"class": ""} == mine.to_json() | {"class": ""}
    assert MyParams.from_json(stored) == mine
    assert "area: PMd" in plain.describe()
    assert plain.replace(gen_dim=32).param_hash == mine.replace(gen_dim=32).param_hash
    assert plain.replace(area="M1").param_hash == mine.replace(area="M1").param_hash
    assert matches(plain, {"area": "PMd", "threshold": 4.0})
    # and back again, by way of the plain class
    assert MyParams.from_json(json.loads(json.dumps(plain.to_json()))).param_hash == mine.param_hash


def test_a_field_that_json_cannot_hold_is_named() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Odd(RunParams):
        thing: Any = None

    with pytest.raises(ParamsError, match="thing is a object"):
        _ = Odd(thing=object()).param_hash


# ---------------------------------------------------------------- values, JSON, differences


def test_json_round_trip_of_every_field() -> None:
    for name in specs(RunParams):
        changed = RunParams(**{name: other_value(name)})
        back = RunParams.from_json(json.loads(json.dumps(changed.to_json())))
        assert back == changed, name
        assert type(getattr(back, name)) is type(getattr(changed, name)), name


def test_wrong_documents_are_refused() -> None:
    good = RunParams().to_json()
    with pytest.raises(ParamsError, match="did you mean 'gen_dim'"):
        RunParams.from_json({**good, "values": {"gen_dims": 3}})
    with pytest.raises(ParamsError, match="gen_dim = 0"):
        RunParams.from_json({**good, "values": {"gen_dim": 0}})
    with pytest.raises(ConfigError, match="schema 99"):
        RunParams.from_json({**good, "schema": 99})
    with pytest.raises(ConfigError, match="no run params"):
        RunParams.from_json({})


def test_replace() -> None:
    par = RunParams(**SEED_SCRIPT)
    assert par.replace(c_gen_dim=32).gen_dim == 32
    assert par.gen_dim == 64
    with pytest.raises(ParamsError, match="did you mean 'gen_dim'"):
        par.replace(gendim=3)


def test_differences() -> None:
    par = RunParams(**SEED_SCRIPT, name="first")
    assert par.differences() == {k: v for k, v in SEED_SCRIPT.items() if k != "spike_bin_ms"}
    assert par.diff_text() == "learning_rate_stop=0.001 batch_size=150 co_dim=0 ic_enc_dim=64 gen_dim=64"
    assert RunParams().diff_text() == ""
    other = RunParams(gen_dim=64, l2_gen_scale=1e-7)
    assert RunParams(gen_dim=64, co_dim=0).diff(other) == {"l2_gen_scale": (500.0, 1e-7), "co_dim": (0, 4)}
    assert RunParams().diff_text(other) == "l2_gen_scale=500 (not 1e-07) gen_dim=100 (not 64)"
    assert repr(par).startswith("RunParams(name='first', learning_rate_stop=0.001, ")
    assert eval(repr(par)) == par


def test_ramps_are_scaled_by_the_number_of_datasets() -> None:
    par = RunParams(kl_increase_steps=10, l2_increase_steps=20, kl_start_step=3, l2_start_step=4)
    ramps = ("kl_increase_steps", "l2_increase_steps", "kl_start_step", "l2_start_step")
    assert [getattr(par.effective(3), name) for name in ramps] == [30, 60, 9, 12]
    assert par.effective(1) == par
    only_start = par.replace(scale_increase_steps_with_datasets=False)
    assert [getattr(only_start.effective(2), name) for name in ramps] == [10, 20, 6, 8]
    fixed = only_start.replace(scale_start_step_with_datasets=False)
    assert fixed.effective(2) == fixed


def test_display_shows_everything_in_the_groups_of_the_original() -> None:
    par = RunParams(**SEED_SCRIPT, name="first_attempt")
    lines = par.describe().splitlines()
    assert lines[0].startswith(f'RunParams param_{par.param_hash} "first_attempt" learning_rate_stop=0.001')
    shown = {line.strip("* ").partition(":")[0]: line for line in lines if ": " in line}
    assert set(shown) >= {f.name for f in fields(par) if f.init}
    assert [line.strip() for line in lines if line.strip() in GROUPS] == [
        group for group in GROUPS if group != "Added by the user"
    ]
    assert shown["gen_dim"].lstrip().startswith("*")
    assert not shown["factors_dim"].lstrip().startswith("*")
    assert str(par) == par.describe()
    documented = par.describe(docs=True)
    for name, spec in specs(RunParams).items():
        assert spec.doc in documented, name


def test_every_group_has_a_place() -> None:
    assert {spec.group for spec in specs(RunParams).values()} <= set(GROUPS)


def test_matching() -> None:
    par = RunParams(factors_dim=4, held_out_neurons=(1, 2))
    assert matches(par, {"factors_dim": 4.0})
    assert matches(par, {"c_factors_dim": [2, 4]})
    assert matches(par, {"factors_dim": range(3, 5), "held_out_neurons": (1, 2)})
    assert matches(par, {"factors_dim": lambda v: v > 3})
    assert not matches(par, {"factors_dim": 4, "gen_dim": 4})
    with pytest.raises(ParamsError, match="did you mean 'factors_dim'"):
        matches(par, {"factor_dim": 4})


def test_names_are_few_and_plain() -> None:
    """No field is named like another one with the prefix c_, or the aliases would be ambiguous."""
    names = list(specs(RunParams))
    assert not any(a == f"c_{b}" for a, b in itertools.permutations(names, 2))
