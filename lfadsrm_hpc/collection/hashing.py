"""How run params become the names of folders: canonical JSON, SHA-256, and defaults that never change.

A hash covers only the values that differ from the defaults in `FROZEN_DEFAULTS`, so that a parameter that
a later release adds, or a default that it changes, renames no run: the table of a schema stays as it is.
A new parameter is added to it with the value that means what earlier releases did.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

from lfadsrm_hpc.errors import ParamsError

SCHEMA = 1
HASH_LENGTH = 12

FROZEN_DEFAULTS: Mapping[int, Mapping[str, Any]] = {
    1: {
        # the model
        "mixed_precision": False,
        "seed": 0,
        "learning_rate_init": 0.01,
        "learning_rate_decay_factor": 0.98,
        "learning_rate_n_to_compare": 6,
        "learning_rate_stop": 1e-5,
        "max_grad_norm": 200.0,
        "batch_size": 256,
        "cell_clip_value": 5.0,
        "adam_epsilon": 0.1,
        "loss_reduction": "sum",
        "max_epochs": None,
        "early_stopping_patience": None,
        "temporal_spike_jitter_width": 0,
        "keep_prob": 0.95,
        "l2_gen_scale": 500.0,
        "l2_con_scale": 500.0,
        "co_mean_corr_scale": 0.0,
        "coordinated_dropout_rate": 0.0,
        "sample_validation_rate": 0.0,
        "held_out_neurons": None,
        "held_out_seed": 0,
        "forward_prediction_bins": 0,
        "kl_ic_weight": 1.0,
        "kl_co_weight": 1.0,
        "kl_start_step": 0,
        "kl_increase_steps": 900,
        "l2_start_step": 0,
        "l2_increase_steps": 900,
        "ext_input_dim": 0,
        "inject_ext_input_to_gen": False,
        "co_dim": 4,
        "prior_ar_atau": 10.0,
        "do_train_prior_ar_atau": True,
        "prior_ar_nvar": 0.1,
        "do_train_prior_ar_nvar": True,
        "do_causal_controller": False,
        "do_feed_factors_to_controller": True,
        "feedback_factors_or_rates": "factors",
        "controller_input_lag": 1,
        "ci_enc_dim": 128,
        "con_dim": 128,
        "num_steps_for_gen_ic": None,
        "ic_dim": 64,
        "ic_enc_dim": 128,
        "ic_prior_var_min": 0.1,
        "ic_prior_var_scale": 0.1,
        "ic_prior_var_max": 0.1,
        "ic_post_var_min": 1e-4,
        "cell_weight_scale": 1.0,
        "gen_dim": 100,
        "gen_cell_input_weight_scale": 1.0,
        "gen_cell_rec_weight_scale": 1.0,
        "factors_dim": 50,
        "output_dist": "poisson",
        "do_train_readin": True,
        "do_train_io_only": False,
        "do_train_encoder_only": False,
        "do_reset_learning_rate": False,
        "start_from": None,
        # the manager
        "spike_bin_ms": 2.0,
        "train_to_test_ratio": 4,
        "split": "stratified",
        "split_seed": 0,
        "use_alignment_matrix": True,
        "use_single_dataset_alignment_matrix": False,
        "alignment_method": "least_squares",
        "alignment_conditions": "all",
        "alignment_weights": "datasets",
        "alignment_without_conditions": "refuse",
        "scale_increase_steps_with_datasets": True,
        "scale_start_step_with_datasets": True,
    }
}


def canonical(value: Any, *, name: str = "value") -> Any:
    """Return `value` in the one form that equal values share, made of JSON's types only.

    Whole floats become integers (1.0 and 1 are one value, -0.0 is 0), tuples lists, numpy scalars numbers.

    Raises
    ------
    ParamsError
        It is not finite, or nothing that JSON can hold.
    """
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        value = value.item()
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ParamsError(f"{name} = {value} is not finite", hint="give a finite number")
        # beyond 2**53 a float is not the integer that it prints as
        return int(value) if value.is_integer() and abs(value) < 2**53 else value
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise ParamsError(f"{name} has keys that are not texts", where=value)
        return {key: canonical(value[key], name=f"{name}.{key}") for key in sorted(value)}
    if isinstance(value, (list, tuple)) or hasattr(value, "tolist"):
        return [canonical(item, name=name) for item in value]
    raise ParamsError(
        f"{name} is a {type(value).__name__}, which cannot be stored or hashed",
        hint="use numbers, texts, booleans, None, or lists and dicts of them",
    )


def canonical_json(value: Any) -> str:
    """Return the JSON text that equal values share: sorted keys, no blanks, ASCII, shortest floats."""
    return json.dumps(canonical(value), sort_keys=True, separators=(",", ":"), allow_nan=False)


def short_hash(text: str) -> str:
    """Return the first 12 characters of the lower-case base32 SHA-256 of a text (60 bits)."""
    digest = hashlib.sha256(text.encode()).digest()
    return base64.b32encode(digest).decode().lower()[:HASH_LENGTH]
