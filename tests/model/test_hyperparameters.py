"""Hyperparameters: names, types, bounds, contradictions, and a light import."""

from __future__ import annotations

import copy
import pickle
import re
import subprocess
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lfadsrm_hpc.errors import ParamsError
from lfadsrm_hpc.model.hyperparameters import Hyperparameters, defaults, param, specs

DESIGN = Path(__file__).resolve().parents[3] / "shared" / "design" / "lfads-model.md"


def test_every_field_is_described() -> None:
    for name, spec in specs(Hyperparameters).items():
        assert spec.doc.endswith("."), name
        assert spec.group, name
    assert {f.name for f in fields(Hyperparameters)} == set(specs(Hyperparameters))


def test_defaults_are_those_of_the_design() -> None:
    if not DESIGN.exists():
        pytest.skip("the design documents are not beside this checkout")
    text = re.sub(r"\[[^\]]*\]", "", DESIGN.read_text().partition("## Hyperparameters")[2])
    found = defaults(Hyperparameters)
    checked = 0
    for name, value in re.findall(r"\b([a-z][a-z0-9_]+) (-?[0-9.]*[0-9](?:e-?\d+)?)\b", text):
        if name in found:
            assert float(found[name]) == float(value), name
            checked += 1
    for name, word in re.findall(r"\b([a-z][a-z0-9_]+) (yes|no)\b", text):
        if name in found:
            assert found[name] is (word == "yes"), name
            checked += 1
    assert checked > 45


def test_values_are_brought_to_their_type() -> None:
    hp = Hyperparameters(
        c_gen_dim=np.int64(64),
        keep_prob=1,
        batch_size=150.0,
        l2_gen_scale=np.float32(0.5),
        held_out_neurons=[3, 1],
        use_xla=False,
    )
    assert (hp.gen_dim, type(hp.gen_dim)) == (64, int)
    assert (hp.keep_prob, type(hp.keep_prob)) == (1.0, float)
    assert (hp.batch_size, type(hp.batch_size)) == (150, int)
    assert (hp.l2_gen_scale, type(hp.l2_gen_scale)) == (0.5, float)
    assert hp.held_out_neurons == (1, 3)
    assert hp.use_xla == "off"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"factor_dim": 3}, "did you mean 'factors_dim'"),
        ({"c_factor_dim": 3}, "did you mean 'factors_dim'"),
        ({"genDim": 3}, "did you mean 'gen_dim'"),
        ({"c_gen_dim": 3, "gen_dim": 3}, "gen_dim is given twice"),
        ({"factors_dim": 0}, "factors_dim = 0: must be at least 1"),
        ({"gen_dim": 2.5}, "must be a whole number"),
        ({"gen_dim": "64"}, "must be a whole number"),
        ({"gen_dim": True}, "must be a whole number"),
        ({"gen_dim": None}, "must be a whole number"),
        ({"learning_rate_init": float("nan")}, "must be a finite number"),
        ({"keep_prob": 0}, "above 0 and at most 1"),
        ({"keep_prob": 1.01}, "above 0 and at most 1"),
        ({"coordinated_dropout_rate": 1}, "below 1"),
        ({"do_train_readin": 1}, "must be True or False"),
        ({"output_dist": "posson"}, "did you mean 'poisson'"),
        ({"use_xla": "maybe"}, "'auto', 'on' or 'off'"),
        ({"held_out_neurons": 3}, "one neuron as a list"),
        ({"held_out_neurons": [1, 1]}, "different 0-based"),
        ({"held_out_neurons": [-1]}, "different 0-based"),
        ({"held_out_neurons": [0.5]}, "different 0-based"),
        ({"held_out_neurons": "all"}, "a fraction"),
        ({"ic_prior_var_max": 0.2, "ic_prior_var_scale": 0.3}, "outside"),
        ({"learning_rate_init": 1e-3, "learning_rate_stop": 1e-3}, "not below learning_rate_init"),
        ({"do_train_io_only": True, "do_train_encoder_only": True}, "exclude each other"),
        ({"output_dist": "gaussian", "temporal_spike_jitter_width": 1}, "gaussian"),
    ],
)
def test_wrong_values_are_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ParamsError, match=re.escape(message)):
        Hyperparameters(**values)


def test_values_must_have_names() -> None:
    with pytest.raises(ParamsError, match="by name"):
        Hyperparameters(3)  # type: ignore[misc]


@pytest.mark.parametrize(
    "values",
    [
        {"co_dim": 0},
        {"ic_dim": 0},
        {"co_dim": 0, "do_causal_controller": True, "feedback_factors_or_rates": "rates"},
        {"ic_prior_var_max": 0.01},  # max <= min: fixed at the scale
        {"held_out_neurons": 0.2, "held_out_seed": 7},
        {"held_out_neurons": 0},
        {"num_steps_for_gen_ic": 4294967295},
        {"max_epochs": None, "early_stopping_patience": 1},
        {"kl_increase_steps": 0, "learning_rate_stop": 0},
    ],
)
def test_allowed_combinations(values: dict[str, Any]) -> None:
    Hyperparameters(**values)


def test_no_neuron_held_out_has_one_form() -> None:
    for none in (None, 0, 0.0, ()):
        assert Hyperparameters(held_out_neurons=none) == Hyperparameters()


def test_immutable_and_copied() -> None:
    hp = Hyperparameters(gen_dim=64, held_out_neurons=(1, 2))
    with pytest.raises(AttributeError):
        hp.gen_dim = 3  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(hp)) == copy.deepcopy(hp) == hp
    assert hash(hp) == hash(copy.copy(hp))


def test_a_subclass_that_is_no_dataclass_is_refused() -> None:
    class Forgotten(Hyperparameters):
        area: str = "M1"

    with pytest.raises(ParamsError, match="dataclass"):
        Forgotten()

    @dataclass(frozen=True, kw_only=True)
    class Mine(Hyperparameters):
        threshold_uv: float = param(40.0, "Spike threshold.", kind="float", low=0)

    assert Mine(threshold_uv=55).threshold_uv == 55.0
    with pytest.raises(ParamsError, match="threshold_uv = -1"):
        Mine(threshold_uv=-1)


def test_a_login_node_needs_neither_numpy_nor_tensorflow() -> None:
    code = (
        "import sys, lfadsrm_hpc.model.hyperparameters as h; h.Hyperparameters();"
        "print(*sorted({m.split('.')[0] for m in sys.modules}))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"numpy", "tensorflow", "xarray", "h5py", "pandas"} & set(loaded)
