"""The parameters of a trained model under the names of the original LFADS, and under ours; both ways.

The original has one variable where we have two (inputs and states of an encoder in one matrix) and two where
we have one (gates and candidate of a network; means and log-variances). What it did not need it has no
variable of: a read-out of as many factors as neurons is the identity there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import xarray as xr

from lfadsrm_hpc.data.formats.foreign import check_file
from lfadsrm_hpc.errors import ResultsError
from lfadsrm_hpc.original_names import LOGVARS, MEANS, POSTERIORS, RATES, READIN, SAME
from lfadsrm_hpc.results.model_params import assembled

Array = npt.NDArray[Any]
Arrays = dict[str, Array]

_OF_DATASETS = {RATES: "readout", MEANS: "readout", LOGVARS: "readout_logvar", READIN: "readin"}
_LOGVAR = "z_prior_g0_logvar"
_NOT_OF_THE_MODEL = ("global_step", "learning_rate")
_DATASET = re.compile(rf"({'|'.join(_OF_DATASETS)})_(.+)_([Wb])")
_NAME = re.compile(r"LFADS_(.+):0")


def open_lfads_params(
    path: Path, hyperparameters: Mapping[str, Any], datasets: Sequence[str] = ()
) -> xr.Dataset:
    """Read `model_params` of the original LFADS.

    Parameters
    ----------
    path : Path
    hyperparameters : mapping
        What LFADS trained with, by its names; empty where it is not known.
    datasets : sequence of str
        Of the run: a file without read-outs does not name them.

    Returns
    -------
    xr.Dataset
        As `lfadsrm_hpc.results.model_params.open_model_params`. `attrs["not_understood"]` names variables of
        a changed LFADS that the original does not have.

    Raises
    ------
    ResultsError
        There is no such file, or it holds something else.
    """
    variables, step = _read(path)
    try:
        arrays, others = to_ours(variables, hyperparameters, datasets)
        bounds = {name: hyperparameters.get(name) for name in ("ic_prior_var_min", "ic_prior_var_max")}
        found = assembled(arrays, {"hyperparameters": json.dumps(bounds)})
    except (KeyError, ValueError, IndexError) as error:
        raise ResultsError(
            f"these are not the parameters of the original LFADS as it writes them ({error})", where=path
        ) from error
    if hyperparameters:
        found.attrs["hyperparameters"] = json.dumps(dict(hyperparameters))
    if step is not None:
        found.attrs["step"] = step
    if others:
        found.attrs["not_understood"] = others
    return found


def _read(path: Path) -> tuple[Arrays, int | None]:
    """Return the variables of the model by their plain names, rows as vectors; and the training step."""
    found: Arrays = {}
    step = None
    try:
        check_file(path)
        with h5py.File(path, "r", locking=False) as file:
            for key, item in file.items():
                name = _NAME.fullmatch(key)
                if name is None or not isinstance(item, h5py.Dataset) or "Adam" in key:
                    continue
                if name[1] == "global_step":
                    step = int(np.ravel(item[()])[0])
                elif name[1] not in _NOT_OF_THE_MODEL and item.dtype.kind == "f":
                    found[name[1]] = np.asarray(item[()])
    except FileNotFoundError as error:
        raise ResultsError(
            "there are no model parameters here",
            where=path,
            hint="the run's own script lfads_write_model_params.sh writes them",
        ) from error
    except OSError as error:
        raise ResultsError(f"the model parameters cannot be read ({error})", where=path) from error
    if not found:
        raise ResultsError("this file holds no variables of LFADS", where=path)
    return found, step


# ---------------------------------------------------------------- from theirs to ours


def to_ours(
    variables: Mapping[str, Array], hyperparameters: Mapping[str, Any], datasets: Sequence[str] = ()
) -> tuple[Arrays, list[str]]:
    """Return the arrays of `model_params.h5`, and the names of variables that are none of the original's.

    Parameters
    ----------
    variables : mapping
        Names without `LFADS_` and `:0`.
    hyperparameters, datasets
        See `open_lfads_params`.

    Raises
    ------
    KeyError, ValueError
        Something that belongs to what is there is missing, or has another shape.
    """
    left = dict(variables)
    found: Arrays = {}
    for ours, theirs in SAME.items():
        if theirs in left:
            found[ours] = _plain(ours, left.pop(theirs))
    for net in ("ic_enc", "ci_enc"):
        for side in ("fwd", "rev"):
            if f"{net}_{side}_GRU_Gates_xh_2_ru_W" in left:
                found |= _encoder(left, net, side)
    for net in ("con", "gen"):
        if f"{net}_GenGRU_Gates_h_2_ru_W" in left:
            found |= _generator(left, net)
    found |= _posteriors(left)
    if _LOGVAR in left:
        raw = _vector(left.pop(_LOGVAR))
        # Trained, it was log(min + (max - min) s(exp(v))); ours is s(v).
        found["ic_prior/logvar"] = np.exp(raw) if _is_trained(hyperparameters) else raw
    found |= _datasets(left)
    if len(datasets) == 1 and not any(name.startswith("readout/") for name in found):
        size = found["factors/W"].shape[1]
        found[f"readout/{datasets[0]}/W"] = np.eye(size, dtype=found["factors/W"].dtype)
        found[f"readout/{datasets[0]}/b"] = np.zeros(size, found["factors/W"].dtype)
    return found, sorted(left)


def _posteriors(left: Arrays) -> Arrays:
    """Return the maps to posteriors: ours have means and log variances side by side."""
    found: Arrays = {}
    for ours, theirs in POSTERIORS.items():
        for kind in ("W", "b"):
            if f"{theirs}_mean_{kind}" in left:
                parts = [left.pop(f"{theirs}_{part}_{kind}") for part in ("mean", "logvar")]
                found[f"{ours}/{kind}"] = _plain(kind, np.concatenate(parts, axis=-1))
    return found


def _is_trained(hyperparameters: Mapping[str, Any]) -> bool:
    low, high = (hyperparameters.get(f"ic_prior_var_{end}") for end in ("min", "max"))
    return low is not None and high is not None and high > low


def _encoder(left: Arrays, net: str, side: str) -> Arrays:
    start = f"{net}_{side}"
    gates, candidate = (
        {kind: left.pop(f"{start}_GRU_{part}_{kind}") for kind in ("W", "b")}
        for part in ("Gates_xh_2_ru", "Candidate_xrh_2_c")
    )
    units = candidate["W"].shape[1]
    inputs = len(gates["W"]) - units
    return {
        f"{net}/{side}/W_x": np.concatenate([gates["W"][:inputs], candidate["W"][:inputs]], axis=1),
        f"{net}/{side}/W_ru": gates["W"][inputs:],
        f"{net}/{side}/W_c": candidate["W"][inputs:],
        f"{net}/{side}/b": np.concatenate([_vector(gates["b"]), _vector(candidate["b"])]),
        f"{net}/{side}/h0": _vector(left.pop(f"{start}_{net}_t0_{side}")),
    }


def _generator(left: Arrays, net: str) -> Arrays:
    start = f"{net}_GenGRU"
    gates, candidate = f"{start}_Gates_h_2_ru", f"{start}_Candidate_rh_2_c"
    found = {
        f"{net}/W_ru": left.pop(f"{gates}_W"),
        f"{net}/W_c": left.pop(f"{candidate}_W"),
        f"{net}/b": np.concatenate([_vector(left.pop(f"{one}_b")) for one in (gates, candidate)]),
    }
    if f"{start}_Gates_x_2_ru_W" in left:
        inputs = [left.pop(f"{start}_{part}_W") for part in ("Gates_x_2_ru", "Candidate_x_2_c")]
        found[f"{net}/W_x"] = np.concatenate(inputs, axis=1)
    return found


def _datasets(left: Arrays) -> Arrays:
    found = {}
    for name in list(left):
        match = _DATASET.fullmatch(name)
        if match is not None:
            dataset = match[2].removesuffix(".h5")
            found[f"{_OF_DATASETS[match[1]]}/{dataset}/{match[3]}"] = _plain(match[3], left.pop(name))
    return found


def _plain(name: str, values: Array) -> Array:
    return values if name.rpartition("/")[2] == "W" else _vector(values)


def _vector(values: Array) -> Array:
    return np.asarray(values).reshape(-1)


# ---------------------------------------------------------------- from ours to theirs


def write_lfads_params(
    path: Path, arrays: Mapping[str, Array], hyperparameters: Mapping[str, Any], step: int
) -> list[str]:
    """Write `model_params` as the original LFADS does.

    Parameters
    ----------
    path : Path
    arrays : mapping
        Those of `model_params.h5`.
    hyperparameters : mapping
        `output_dist`, `ic_prior_var_min` and `ic_prior_var_max`.
    step : int

    Returns
    -------
    list of str
        What of the model the file cannot hold, in words.
    """
    variables, notes = to_theirs(arrays, hyperparameters)
    with h5py.File(path, "w") as file:
        for name, values in sorted(variables.items()):
            file[f"LFADS_{name}:0"] = values
        file["LFADS_global_step:0"] = np.int64(step)
    return notes


def to_theirs(arrays: Mapping[str, Array], hyperparameters: Mapping[str, Any]) -> tuple[Arrays, list[str]]:
    """Return the variables of the original, and what they cannot hold; the inverse of `to_ours`."""
    left = dict(arrays)
    found: Arrays = {}
    for ours, theirs in SAME.items():
        if ours in left:
            found[theirs] = _row(ours, left.pop(ours))
    for net, side in [(net, side) for net in ("ic_enc", "ci_enc") for side in ("fwd", "rev")]:
        if f"{net}/{side}/b" in left:
            found |= _their_encoder(left, net, side)
    for net in ("con", "gen"):
        if f"{net}/b" in left:
            found |= _their_generator(left, net)
    for ours, theirs in POSTERIORS.items():
        for kind in ("W", "b"):
            if f"{ours}/{kind}" in left:
                parts = np.split(left.pop(f"{ours}/{kind}"), 2, axis=-1)
                found |= {
                    f"{theirs}_{part}_{kind}": _row(kind, values)
                    for part, values in zip(("mean", "logvar"), parts, strict=True)
                }
    notes = []
    if "ic_prior/logvar" in left:
        found[_LOGVAR], note = _their_prior(left.pop("ic_prior/logvar"), hyperparameters)
        notes += note
    found |= _their_datasets(left, gaussian=hyperparameters.get("output_dist") == "gaussian")
    if left:
        groups = sorted({name.partition("/")[0] for name in left})
        notes.append(f"model_params has no place for {', '.join(groups)}")
    return found, notes


def _their_prior(values: Array, hyperparameters: Mapping[str, Any]) -> tuple[Array, list[str]]:
    """Return the variable behind the prior's variance; where it is trained only half of the range exists."""
    if not _is_trained(hyperparameters):
        return _row("b", values), []
    lowest = np.exp(-30.0)
    outside = values < lowest
    notes = ["model_params: variances of the prior below the middle of their range"] if outside.any() else []
    return _row("b", np.log(np.maximum(values, lowest))), notes


def _their_encoder(left: Arrays, net: str, side: str) -> Arrays:
    start, ours = f"{net}_{side}", f"{net}/{side}"
    inputs, gates, candidate, bias = (left.pop(f"{ours}/{kind}") for kind in ("W_x", "W_ru", "W_c", "b"))
    cut = 2 * candidate.shape[1]
    return {
        f"{start}_GRU_Gates_xh_2_ru_W": np.concatenate([inputs[:, :cut], gates]),
        f"{start}_GRU_Candidate_xrh_2_c_W": np.concatenate([inputs[:, cut:], candidate]),
        f"{start}_GRU_Gates_xh_2_ru_b": _row("b", bias[:cut]),
        f"{start}_GRU_Candidate_xrh_2_c_b": _row("b", bias[cut:]),
        f"{start}_{net}_t0_{side}": _row("b", left.pop(f"{ours}/h0")),
    }


def _their_generator(left: Arrays, net: str) -> Arrays:
    start = f"{net}_GenGRU"
    gates, candidate, bias = (left.pop(f"{net}/{kind}") for kind in ("W_ru", "W_c", "b"))
    cut = 2 * candidate.shape[1]
    found = {
        f"{start}_Gates_h_2_ru_W": gates,
        f"{start}_Candidate_rh_2_c_W": candidate,
        f"{start}_Gates_h_2_ru_b": _row("b", bias[:cut]),
        f"{start}_Candidate_rh_2_c_b": _row("b", bias[cut:]),
    }
    if f"{net}/W_x" in left:
        inputs = left.pop(f"{net}/W_x")
        found[f"{start}_Gates_x_2_ru_W"] = inputs[:, :cut]
        found[f"{start}_Candidate_x_2_c_W"] = inputs[:, cut:]
    return found


def _their_datasets(left: Arrays, *, gaussian: bool) -> Arrays:
    groups = {"readin": READIN, "readout": MEANS if gaussian else RATES}
    if gaussian:
        groups["readout_logvar"] = LOGVARS
    return dict(_named_by_dataset(left, groups))


def _named_by_dataset(left: Arrays, groups: Mapping[str, str]) -> Iterator[tuple[str, Array]]:
    for name in list(left):
        group, _, rest = name.partition("/")
        dataset, _, kind = rest.rpartition("/")
        if group in groups and kind in ("W", "b"):
            yield f"{groups[group]}_{dataset}.h5_{kind}", _row(kind, left.pop(name))


def _row(name: str, values: Array) -> Array:
    """Return biases as rows: the original has them as matrices of one row."""
    return values if name.rpartition("/")[2] == "W" else values.reshape(1, -1)
