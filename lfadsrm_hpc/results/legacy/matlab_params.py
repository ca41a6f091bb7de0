"""The params of the Matlab run manager (version 20171107): names, classes, defaults, and folder names.

Its folders are named after a hash of the values that differ from the defaults: the first six characters of
the base64 MD5 of a Matlab struct (Jan Simon's DataHash, version 4, which the run manager carries, with
integers in the smallest class from 16 bits on that holds them). Here the same is computed in Python, so that
folders that we write have the names that Matlab looks for. Checked against folders that Matlab has named
(tests/results/test_matlab_params.py).
"""

from __future__ import annotations

import base64
import hashlib
import struct
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

ALL_STEPS = 2**32 - 1  # num_steps_for_gen_ic: "all of them"
HASH_LENGTH = 6


class Property(NamedTuple):
    """A property of LFADS.RunParams.

    Attributes
    ----------
    name : str
        Those that LFADS knows begin with `c_`.
    kind : {"double", "uint16", "uint32", "logical", "char", "cell"}
        Its Matlab class.
    default : object
    ours : str or None
        Our name for it; None where there is nothing like it here.
    """

    name: str
    kind: str
    default: Any
    ours: str | None


def _passed_on(kind: str, **defaults: Any) -> Iterator[Property]:
    """Yield flags of LFADS, which have the same names here."""
    for name, default in defaults.items():
        yield Property(f"c_{name}", kind, default, name)


# In the order in which Matlab shows them.
PROPERTIES: tuple[Property, ...] = (
    Property("spikeBinMs", "double", 2.0, "spike_bin_ms"),
    *_passed_on("logical", allow_gpu_growth=True),
    *_passed_on("uint16", max_ckpt_to_keep=5, max_ckpt_to_keep_lve=5),
    Property("c_device", "char", "/gpu:0", None),
    *_passed_on("double", learning_rate_init=0.01, learning_rate_decay_factor=0.98),
    *_passed_on("uint16", learning_rate_n_to_compare=6),
    *_passed_on("double", learning_rate_stop=1e-5, max_grad_norm=200.0),
    Property("trainToTestRatio", "uint16", 4, "train_to_test_ratio"),
    *_passed_on("uint16", batch_size=256),
    *_passed_on("double", cell_clip_value=5.0),
    *_passed_on("uint16", temporal_spike_jitter_width=0),
    *_passed_on("double", keep_prob=0.95, l2_gen_scale=500.0, l2_con_scale=500.0, co_mean_corr_scale=0.0),
    *_passed_on("double", kl_ic_weight=1.0, kl_co_weight=1.0),
    *_passed_on("uint32", kl_start_step=0, kl_increase_steps=900, l2_start_step=0, l2_increase_steps=900),
    Property("scaleIncreaseStepsWithDatasets", "logical", True, "scale_increase_steps_with_datasets"),
    Property("scaleStartStepWithDatasets", "logical", True, "scale_start_step_with_datasets"),
    *_passed_on("uint16", ext_input_dim=0),
    *_passed_on("logical", inject_ext_input_to_gen=False),
    *_passed_on("uint16", co_dim=4),
    *_passed_on("double", prior_ar_atau=10.0),
    *_passed_on("logical", do_train_prior_ar_atau=True),
    *_passed_on("double", prior_ar_nvar=0.1),
    *_passed_on("logical", do_train_prior_ar_nvar=True, do_causal_controller=False),
    *_passed_on("logical", do_feed_factors_to_controller=True),
    *_passed_on("char", feedback_factors_or_rates="factors"),
    *_passed_on("uint16", controller_input_lag=1, ci_enc_dim=128, con_dim=128),
    Property("c_co_prior_var_scale", "double", 0.1, None),
    *_passed_on("uint32", num_steps_for_gen_ic=ALL_STEPS),
    *_passed_on("uint16", ic_dim=64, ic_enc_dim=128),
    *_passed_on("double", ic_prior_var_min=0.1, ic_prior_var_scale=0.1, ic_prior_var_max=0.1),
    *_passed_on("double", ic_post_var_min=1e-4, cell_weight_scale=1.0),
    *_passed_on("uint16", gen_dim=100),
    *_passed_on("double", gen_cell_input_weight_scale=1.0, gen_cell_rec_weight_scale=1.0),
    *_passed_on("uint16", factors_dim=50),
    *_passed_on("char", output_dist="poisson"),
    *_passed_on("logical", do_train_readin=True),
    Property("useAlignmentMatrix", "logical", False, "use_alignment_matrix"),
    Property("useSingleDatasetAlignmentMatrix", "logical", False, "use_single_dataset_alignment_matrix"),
    Property("alignmentApproach", "char", "regressGlobalPCs", "alignment_method"),
    Property("alignmentExtraArgs", "cell", (), None),
    Property("posterior_mean_kind", "char", "posterior_sample_and_average", "posterior_mean_kind"),
    Property("num_samples_posterior", "double", 512, "num_samples_posterior"),
)
BY_NAME: Mapping[str, Property] = {one.name: one for one in PROPERTIES}
OUR_NAMES: Mapping[str, Property] = {one.ours: one for one in PROPERTIES if one.ours is not None}
ALIGNMENT: Mapping[str, str] = {"regressGlobalPCs": "least_squares", "ridgeRegressGlobalPCs": "ridge"}
RETIRED = ("c_in_factors_dim", "setInFactorsMatchDataForSingleDataset", "memoryRequired", "gpuMemoryRequired")
"""Of earlier versions."""

_IN_NO_HASH = ("posterior_mean_kind", "num_samples_posterior")
_SIZES = {"uint16": ("<H", 2**16 - 1), "uint32": ("<I", 2**32 - 1)}


def to_matlab(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return our params under the names of Matlab, in its order, values as it has them.

    Parameters
    ----------
    values : mapping
        `RunParams.values()`; what Matlab has no property for is left out.
    """
    found = {}
    for one in PROPERTIES:
        if one.ours is None or one.ours not in values:
            found[one.name] = one.default
        else:
            found[one.name] = _as(one, values[one.ours])
    return found


def _as(one: Property, value: Any) -> Any:
    if one.ours == "alignment_method":
        return next(there for there, here in ALIGNMENT.items() if here == value)
    if one.ours == "num_steps_for_gen_ic" and value is None:
        return ALL_STEPS
    if one.kind in _SIZES:  # integers of Matlab stop at their ends
        return min(max(int(value), 0), _SIZES[one.kind][1])
    return float(value) if one.kind == "double" else bool(value) if one.kind == "logical" else str(value)


def param_hash(values: Mapping[str, Any], added: Mapping[str, Any] | None = None) -> str:
    """Return the hash by which Matlab names the folder of params.

    Parameters
    ----------
    values : mapping
        By Matlab's names; see `to_matlab`.
    added : mapping, optional
        Properties of a subclass of LFADS.RunParams, where they differ from their defaults: numbers are of
        class double, truth values logical, texts char.

    Examples
    --------
    >>> param_hash({"c_factors_dim": 8, "spikeBinMs": 2.0})
    '4MaTKO'
    """
    return _hash({**_off_default(values), **_typed(added or {})})


def data_hash(values: Mapping[str, Any], added: Mapping[str, Any] | None = None) -> str:
    """Return the hash by which Matlab names the folder of inputs; see `param_hash`."""
    mine = _off_default(values)
    kept = {n: v for n, v in mine.items() if not n.startswith("c_") or n == "c_factors_dim"}
    return _hash({**kept, **_typed(added or {})})


def _off_default(values: Mapping[str, Any]) -> dict[str, tuple[str, Any]]:
    return {
        one.name: (one.kind, values[one.name])
        for one in PROPERTIES
        if one.name in values and one.name not in _IN_NO_HASH and values[one.name] != one.default
    }


def _typed(added: Mapping[str, Any]) -> dict[str, tuple[str, Any]]:
    found: dict[str, tuple[str, Any]] = {}
    for name, value in added.items():
        kind = "logical" if isinstance(value, bool) else "char" if isinstance(value, str) else "double"
        found[name] = (kind, value)
    return found


def _hash(fields: Mapping[str, tuple[str, Any]]) -> str:
    content = b"struct" + _size(1, 1)
    for name in sorted(fields):
        content += name.encode() + _content(*fields[name])
    digest = hashlib.md5(content, usedforsecurity=False).digest()
    text = base64.b64encode(digest, altchars=b"-_").decode()
    return text[:HASH_LENGTH]


def _content(kind: str, value: Any) -> bytes:
    """Return the bytes that stand for a value: its class, its size, and what it holds."""
    if kind == "char":
        return b"char" + _size(1 if value else 0, len(value)) + str(value).encode("utf-16-le")
    if kind == "logical":
        return b"logical" + _size(1, 1) + bytes([bool(value)])
    if kind in _SIZES:
        kind = "uint16" if value <= _SIZES["uint16"][1] else "uint32"
        return kind.encode() + _size(1, 1) + struct.pack(_SIZES[kind][0], value)
    numbers = np.atleast_1d(np.asarray(value, dtype="<f8"))
    return b"double" + _size(1, numbers.size) + numbers.tobytes()


def _size(rows: int, columns: int) -> bytes:
    return struct.pack("<3Q", 2, rows, columns)
