"""How the parameters start."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lfadsrm_hpc.model.network import likelihoods, priors
from lfadsrm_hpc.model.network.architecture import Architecture
from lfadsrm_hpc.model.session import Session
from lfadsrm_hpc.model.training.batches import generator, withheld_elements

WEIGHTS = 3  # use of the seed
MAX_READ_OUT = 5.0  # largest norm of a neuron's first read-out weights

Arrays = dict[str, NDArray[Any]]


def initial_parameters(arch: Architecture, sessions: Sequence[Session]) -> Arrays:
    """Return the parameters by name before training.

    Weights are N(0, (a/sqrt(n_in))^2) with the weight scale a, biases 0, except: the read-in starts at the
    alignment matrix A (b = -a A with the alignment bias a; if it has that width) and the read-out at A^T
    where there is one (a neuron's weights scaled down to norm 5 where they exceed it: `_bounded`); the
    read-out's bias starts at the log of the mean count (Gaussian: the mean), without the elements that sample
    validation withholds; the weights of further outputs start at 0, their biases where
    `likelihoods.first_biases` says; priors start at their hyperparameters.
    """
    hp = arch.hp
    arrays: Arrays = {name: np.zeros(shape) for name, shape in arch.shapes.items()}
    for name, shape in arch.shapes.items():
        if name.endswith(("/W", "/W_x", "/W_ru", "/W_c")):
            arrays[name] = _normal(hp.seed, name, shape) * _scale(arch, name)
    _priors(arch, arrays)
    _read_in_and_out(arch, sessions, arrays)
    return arrays


def _normal(seed: int, name: str, shape: Sequence[int]) -> NDArray[Any]:
    return generator(seed, WEIGHTS, zlib.crc32(name.encode())).standard_normal(shape)


def _scale(arch: Architecture, name: str) -> Any:
    """Return the standard deviation of the weights: a number, or one for each column."""
    hp = arch.hp
    group, kind = name.rsplit("/", 1)
    shape = arch.shapes[name]
    if kind == "W":
        return 1.0 / math.sqrt(shape[-2])
    joint = group in ("ic_enc", "ci_enc")  # inputs and state share one matrix, so one n_in
    n_in = shape[-2]
    if joint:
        n_in = arch.shapes[f"{group}/W_c"][-2] + arch.shapes[f"{group}/W_x"][-2]
    if group == "gen":
        factor = hp.gen_cell_input_weight_scale if kind == "W_x" else hp.gen_cell_rec_weight_scale
    else:
        factor = hp.cell_weight_scale
    if not joint:
        return factor / math.sqrt(n_in)
    if kind == "W_c":
        return 1.0 / math.sqrt(n_in)
    columns = np.full(shape[-1], factor / math.sqrt(n_in))
    if kind == "W_x":  # the scale is for gates only
        columns[2 * shape[-1] // 3 :] = 1.0 / math.sqrt(n_in)
    return columns


def _priors(arch: Architecture, arrays: Arrays) -> None:
    hp = arch.hp
    if hp.ic_dim:
        low, high, start = hp.ic_prior_var_min, hp.ic_prior_var_max, hp.ic_prior_var_scale
        raw = priors.raw_variance(start, low, high) if high > low else math.log(start)
        arrays["ic_prior/logvar"][:] = raw
    if hp.co_dim:
        arrays["co_prior/log_tau"][:] = math.log(hp.prior_ar_atau)
        arrays["co_prior/log_evar"][:] = math.log(hp.prior_ar_nvar)


def _bounded(matrix: NDArray[Any]) -> NDArray[Any]:
    """Return an alignment matrix (D, F) with the rows of some neurons scaled down, as a read-out.

    Regression gives a near-silent neuron weights of 30 and more, since its averages are tiny. Read out into a
    log-rate they overflow in the first steps, so that training diverges.
    """
    norm = np.linalg.norm(matrix, axis=1, keepdims=True)
    return np.asarray(matrix * np.minimum(1.0, MAX_READ_OUT / np.maximum(norm, 1e-12)))


def _read_in_and_out(arch: Architecture, sessions: Sequence[Session], arrays: Arrays) -> None:
    hp = arch.hp
    for name in arrays:
        if name.startswith("read") and name.endswith("/W"):
            arrays[name][:] = 0.0
    for k, session in enumerate(sessions):
        count = session.neurons
        matrix, key = session.alignment_matrix, f"/{k}"
        if arch.has_readin:
            start = matrix
            if start is None or start.shape[1] != arch.readin_width:
                start = _normal(hp.seed, "readin" + key, (count, arch.readin_width)) / math.sqrt(count)
            elif session.alignment_bias is not None:
                seen = np.ones(count) if session.held_out is None else ~np.asarray(session.held_out, bool)
                arrays["readin/b"][k] = -(session.alignment_bias * seen) @ start
            arrays["readin/W"][k, :count] = start
        out = _normal(hp.seed, "readout" + key, (hp.factors_dim, count)) / math.sqrt(hp.factors_dim)
        arrays["readout/W"][k, :, :count] = out if matrix is None else _bounded(matrix).T
        mask = withheld_elements(arch, session.name, session.train, "train")
        where = True if mask is None else ~mask
        for group, bias in likelihoods.first_biases(hp.output_dist, session.train, where).items():
            arrays[f"{group}/b"][k, :count] = bias
