"""The parameter files of the original TensorFlow 1 program, by the names of this one.

The original wrote `model_params` with one HDF5 dataset a variable, '/' in names written '_', ':0' at the end.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lfadsrm_hpc.errors import ModelError
from lfadsrm_hpc.model.architecture import Architecture

Arrays = dict[str, NDArray[Any]]


def read_model_params(path: Path, arch: Architecture, *, suffix: str = ".h5") -> Arrays:
    """Return the parameters of a model of this architecture, by our names.

    Parameters
    ----------
    path : Path
        `model_params` or `model_params.h5`.
    arch : Architecture
        The session names are the original's without `suffix`.
    suffix : str
        What the original's dataset names carry at their end.

    Raises
    ------
    ModelError
        A variable is absent or has another shape.
    """
    import h5py

    with h5py.File(path) as file:

        def read(name: str) -> NDArray[Any]:
            key = f"LFADS_{name}:0"
            if key not in file:
                raise ModelError(f"the file has no variable {key}", where=path)
            return np.asarray(file[key][()], float)

        return _translate(arch, read, path, suffix)


def _translate(arch: Architecture, read: Callable[[str], NDArray[Any]], path: Path, suffix: str) -> Arrays:
    arrays: Arrays = {}
    for name in arch.shapes:
        group = name.split("/")[0]
        if group in ("ic_enc", "ci_enc"):
            sides = ("fwd", "rev")[: arch.shapes[name][0]]
            arrays[name] = np.stack([_encoder(name, side, read, arch) for side in sides])
        elif group in _MAPS:
            parts = [read(f"{_MAPS[group]}_{part}_{name[-1]}") for part in ("mean", "logvar")]
            arrays[name] = np.concatenate(parts, 1)
        elif name in _PLAIN:
            arrays[name] = read(_PLAIN[name])
        elif group in ("readin", "readout", "readout_logvar"):
            arrays[name] = _per_session(name, read, arch, suffix)
        elif name == "ic_prior/logvar":
            arrays[name] = _prior(read, arch)
        else:
            arrays[name] = _gen_gru(name, read)
        shape = arch.shapes[name]
        if arrays[name].size != int(np.prod(shape)):
            raise ModelError(f"{name} has shape {arrays[name].shape} there, {shape} here", where=path)
        arrays[name] = arrays[name].reshape(shape)
    return arrays


_MAPS = {"ic": "z_ic_enc_2_post_g0", "co": "con_con_to_post_co"}

_PLAIN = {
    "ic_prior/mean": "z_prior_g0_mean",
    "gen/from_ic/W": "gen_g0_2_gen_ic_W",
    "gen/from_ic/b": "gen_g0_2_gen_ic_b",
    "factors/W": "gen_gen_2_fac_W",
    "con/h0": "con_c0",
    "co_prior/log_tau": "z_u_prior_ar1_logatau",
    "co_prior/log_evar": "z_u_prior_ar1_logevars",
}


def _encoder(name: str, side: str, read: Callable[[str], NDArray[Any]], arch: Architecture) -> NDArray[Any]:
    """The original multiplies [x, h] (candidate: [x, r*h]) by one matrix; ours are apart, columns r, u, c."""
    group, kind = name.split("/")
    start = f"{group}_{side}"
    if kind == "h0":
        return read(f"{start}_{group}_t0_{side}")
    gates, candidate = (f"{start}_GRU_{part}" for part in ("Gates_xh_2_ru", "Candidate_xrh_2_c"))
    if kind == "b":
        return np.concatenate([read(f"{gates}_b"), read(f"{candidate}_b")], 1)
    inputs = arch.encoder_width
    if kind == "W_x":
        return np.concatenate([read(f"{gates}_W")[:inputs], read(f"{candidate}_W")[:inputs]], 1)
    return read(f"{gates if kind == 'W_ru' else candidate}_W")[inputs:]


def _gen_gru(name: str, read: Callable[[str], NDArray[Any]]) -> NDArray[Any]:
    group, kind = name.split("/")
    start = f"{group}_GenGRU"
    if kind == "W_x":
        return np.concatenate([read(f"{start}_Gates_x_2_ru_W"), read(f"{start}_Candidate_x_2_c_W")], 1)
    gates, candidate = f"{start}_Gates_h_2_ru", f"{start}_Candidate_rh_2_c"
    if kind == "b":
        return np.concatenate([read(f"{gates}_b"), read(f"{candidate}_b")], 1)
    return read(f"{gates if kind == 'W_ru' else candidate}_W")


def _per_session(
    name: str, read: Callable[[str], NDArray[Any]], arch: Architecture, suffix: str
) -> NDArray[Any]:
    group, kind = name.split("/")
    original = {
        "readin": "x_2_infac",
        "readout": "glm_fac_2_means" if arch.hp.output_dist == "gaussian" else "glm_fac_2_logrates",
        "readout_logvar": "glm_fac_2_logvars",
    }[group]
    stacked = np.zeros(arch.shapes[name])
    for k, (session, neurons) in enumerate(zip(arch.names, arch.neurons, strict=True)):
        own = read(f"{original}_{session}{suffix}_{kind}")
        if group == "readin":
            stacked[k, : neurons if kind == "W" else None] = own
        else:
            stacked[k, ..., :neurons] = own
    return stacked


def _prior(read: Callable[[str], NDArray[Any]], arch: Architecture) -> NDArray[Any]:
    """A fixed log-variance is as it is; a trained one was log(min + (max - min) s(exp(v)))."""
    raw = read("z_prior_g0_logvar")
    return np.exp(raw) if arch.hp.ic_prior_var_max > arch.hp.ic_prior_var_min else raw
