"""The parameters of a trained model as one named xr.Dataset.

`model_params.h5` holds them as they are trained: the gates of a network side by side in one matrix, and so
on. Here every axis has a name, and every kind of number a variable of its own.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import xarray as xr

from lfadsrm_hpc.data.formats.foreign import check_file
from lfadsrm_hpc.errors import NotFoundError, ResultsError, suggest
from lfadsrm_hpc.results.arrays.stored import stored_here

Array = npt.NDArray[Any]
Named = dict[str, tuple[tuple[str, ...], Array]]

GATES = ("r", "u", "c")


def open_model_params(path: str | os.PathLike[str]) -> xr.Dataset:
    """Read the parameters of a trained model.

    Row vectors: y = x W + b, so the first axis of a matrix is what comes in, the last what goes out.

    Parameters
    ----------
    path : path
        `model_params.h5` of a run.

    Returns
    -------
    xr.Dataset
        Networks `gen`, `con`, and, with a first axis `<net>_direction`, `ic_enc` and `ci_enc`: `<net>_W_x`
        (input, gate, unit), `<net>_W_h` (unit before, gate, unit), `<net>_b` (gate, unit), first state
        `<net>_h0`. Gates are r (reset), u (update: 1 is added to its bias) and c (candidate: it sees r*h).
        Posteriors: `ic_mean_W` and `ic_logvar_W` of encoder states (forward, then backward), `co_mean_W` and
        `co_logvar_W` of controller states, and their `_b`.
        Priors: `ic_prior_mean`, `ic_prior_variance` (if the file tells its bounds), `co_prior_tau` (bins),
        `co_prior_phi`, `co_prior_innovation_variance`, `co_prior_variance`.
        Generator: `gen_from_ic_W`, `gen_from_ic_b`; `factors_W` as trained, and as it is used, with columns
        of length 1, `factors_W_normalised`.
        Datasets: `readout_W.<dataset>` (factor, neuron.<dataset>), `readout_b.<dataset>`, and so on for
        further read-outs and `readin`; `of_dataset` gives them without the suffix.
        What the model does not have is absent. `attrs`: datasets; kind ("lve" or "latest"), epoch and step of
        the checkpoint, run_id, hyperparameters (JSON), ...

    Raises
    ------
    ResultsError
        There is no such file, or it is none of ours.
    """
    path = Path(path).absolute()
    arrays, attrs = _read(path)
    try:
        dataset = assembled(arrays, attrs)
    except (KeyError, ValueError) as error:
        raise ResultsError(f"these are no parameters of lfadsrm_hpc ({error})", where=path) from error
    dataset.attrs.update(attrs)
    return dataset


def of_dataset(params: xr.Dataset, dataset: str) -> xr.Dataset:
    """Return read-in and read-out of one dataset: `readout_W` (factor, neuron), `readout_b` (neuron), ...

    Parameters
    ----------
    params : xr.Dataset
        What `open_model_params` gives.
    dataset : str

    Raises
    ------
    NotFoundError
        The model has no such dataset.
    """
    names = list(params.attrs["datasets"])
    if dataset not in names:
        raise NotFoundError(
            f"the model has no dataset {dataset!r}, only {', '.join(names)}", hint=suggest(dataset, names)
        )
    own = {str(n): str(n).partition(".")[0] for n in params.variables if str(n).partition(".")[2] == dataset}
    found: xr.Dataset = params[list(own)].rename({**own, f"neuron.{dataset}": "neuron"})
    return found


def all_readouts(params: xr.Dataset) -> xr.Dataset:
    """Return the read-outs of all datasets side by side.

    `factors @ readout_W + readout_b` are log-rates (a bin) of every neuron, recorded in that trial or not.

    Parameters
    ----------
    params : xr.Dataset
        What `open_model_params` gives.

    Returns
    -------
    xr.Dataset
        `readout_W` (factor, neuron), `readout_b` (neuron), and what else read-outs have; coordinates
        `dataset` (neuron) and `neuron_of_dataset` (neuron).
    """
    found = []
    for name in params.attrs["datasets"]:
        own = of_dataset(params, name)
        own = own[[key for key in own.data_vars if str(key).startswith("readout")]]
        count = own.sizes["neuron"]
        labels = {"dataset": ("neuron", [name] * count), "neuron_of_dataset": ("neuron", np.arange(count))}
        found.append(own.assign_coords(labels))
    joined: xr.Dataset = xr.concat(found, dim="neuron")
    return joined


def read_origin(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return what a file of model parameters says of its origin: kind, epoch, step, run_id, versions, ...

    Raises
    ------
    ResultsError
        There is no such file, or it cannot be read.
    """
    attrs = _read(Path(path).absolute(), arrays=False)[1]
    versions = attrs.get("versions")
    return {**attrs, "versions": json.loads(versions) if isinstance(versions, str) else {}}


def _read(path: Path, *, arrays: bool = True) -> tuple[dict[str, Array], dict[str, Any]]:
    if not path.exists():
        raise ResultsError(
            "there are no model parameters here", where=path, hint="they appear when the training has ended"
        )
    found: dict[str, Array] = {}

    def keep(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = np.asarray(stored_here(item.file, item.name)[()])

    try:
        check_file(path)
        with h5py.File(path, locking=False) as file:
            if arrays:
                file.visititems(keep)
            attrs = {n: v.item() if isinstance(v, np.generic) else v for n, v in file.attrs.items()}
    except (OSError, RuntimeError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise ResultsError(f"the model parameters cannot be read ({error})", where=path) from error
    return found, attrs


def assembled(arrays: dict[str, Array], attrs: dict[str, Any]) -> xr.Dataset:
    """Return the Dataset of what a file holds, whose arrays have the names of `model_params.h5`.

    Parameters
    ----------
    arrays : dict of arrays
    attrs : dict
        `hyperparameters` (JSON) tells the bounds of the prior's variance.

    Raises
    ------
    KeyError, ValueError
        That is no model.
    """
    left = dict(arrays)  # whatever is understood is taken out
    found: Named = {}
    coords: dict[str, Sequence[Any]] = {"gate": GATES}
    for encoder in ("ic_enc", "ci_enc"):
        sides = _stack_directions(left, encoder)
        if sides:
            coords[f"{encoder}_direction"] = sides
            lead = (f"{encoder}_direction",)
            found.update(_network(left, encoder, f"{encoder}_unit", "encoder_input", lead))
    for net, words in (("con", "controller"), ("gen", "generator")):
        if f"{net}/b" in left:
            found.update(_network(left, net, f"{words}_unit", f"{words}_input"))
    found.update(_posterior(left, "ic", ("ic_code", "ic")))
    found.update(_posterior(left, "co", ("controller_unit", "controller_output")))
    found.update(_priors(left, json.loads(attrs.get("hyperparameters", "{}"))))
    for name, dims in _PLAIN.items():
        if name in left:
            found[name.replace("/", "_")] = dims, left.pop(name)
    weights = found["factors_W"][1]
    normalised = weights / np.linalg.norm(weights.astype(float), axis=0)
    found["factors_W_normalised"] = _PLAIN["factors/W"], normalised.astype(weights.dtype)
    datasets = _of_datasets(left, found)
    if left:
        raise ValueError(f"what is {sorted(left)[0]}?")
    if "gen_W_x" in found:
        coords["generator_input"] = _generator_inputs(found)
    used = {dim for dims, _ in found.values() for dim in dims}
    return xr.Dataset(
        dict(sorted(found.items())),
        {k: list(v) for k, v in coords.items() if k in used},
        {"datasets": datasets},
    )


_PLAIN = {
    "gen/from_ic/W": ("ic", "generator_unit"),
    "gen/from_ic/b": ("generator_unit",),
    "factors/W": ("generator_unit", "factor"),
}


def _stack_directions(left: dict[str, Array], encoder: str) -> list[str]:
    """Put the directions of an encoder side by side; return which there are."""
    sides = [side for side in ("fwd", "rev") if f"{encoder}/{side}/b" in left]
    for kind in ("W_x", "W_ru", "W_c", "b", "h0") if sides else ():
        left[f"{encoder}/{kind}"] = np.stack([left.pop(f"{encoder}/{side}/{kind}") for side in sides])
    return sides


def _network(left: dict[str, Array], net: str, unit: str, source: str, lead: tuple[str, ...] = ()) -> Named:
    """Return the parameters of a GRU; their columns are gates, and units in each."""
    b = left.pop(f"{net}/b")
    units = b.shape[-1] // 3
    gates, candidate = left.pop(f"{net}/W_ru"), left.pop(f"{net}/W_c")
    recurrent = [gates.reshape(*gates.shape[:-1], 2, units), candidate[..., None, :]]
    found: Named = {
        f"{net}_W_h": ((*lead, f"{unit}_before", "gate", unit), np.concatenate(recurrent, -2)),
        f"{net}_b": ((*lead, "gate", unit), b.reshape(*b.shape[:-1], 3, units)),
    }
    if f"{net}/W_x" in left:
        w = left.pop(f"{net}/W_x")
        found[f"{net}_W_x"] = (*lead, source, "gate", unit), w.reshape(*w.shape[:-1], 3, units)
    if f"{net}/h0" in left:
        found[f"{net}_h0"] = (*lead, unit), left.pop(f"{net}/h0")
    return found


def _posterior(left: dict[str, Array], name: str, dims: tuple[str, str]) -> Named:
    """Return the maps to means and log-variances, which lie side by side."""
    found: Named = {}
    if f"{name}/W" in left:
        for kind, own in (("W", dims), ("b", dims[1:])):
            parts = np.split(left.pop(f"{name}/{kind}"), 2, axis=-1)
            found.update(
                {f"{name}_{m}_{kind}": (own, v) for m, v in zip(("mean", "logvar"), parts, strict=True)}
            )
    return found


def _priors(left: dict[str, Array], hyperparameters: Mapping[str, Any]) -> Named:
    found: Named = {}
    if "ic_prior/mean" in left:
        found["ic_prior_mean"] = ("ic",), left.pop("ic_prior/mean")
        raw = found["ic_prior_logvar_as_trained"] = ("ic",), left.pop("ic_prior/logvar")
        low, high = (hyperparameters.get(f"ic_prior_var_{end}") for end in ("min", "max"))
        if low is not None and high is not None:
            bounded = low + (high - low) / (1.0 + np.exp(-raw[1]))
            found["ic_prior_variance"] = ("ic",), bounded if high > low else np.exp(raw[1])
    if "co_prior/log_tau" in left:
        tau, innovation = (np.exp(left.pop(f"co_prior/log_{name}")) for name in ("tau", "evar"))
        phi = np.exp(-1.0 / tau)
        prior = {"tau": tau, "phi": phi, "innovation_variance": innovation}
        prior["variance"] = innovation / (1.0 - phi**2)
        found.update({f"co_prior_{name}": (("controller_output",), value) for name, value in prior.items()})
    return found


def _of_datasets(left: dict[str, Array], found: Named) -> list[str]:
    """Move read-ins and read-outs from one to the other; return the datasets in the order of their names."""
    names = set()
    for key in list(left):
        group, _, rest = key.partition("/")
        dataset, _, kind = rest.rpartition("/")
        if group.startswith(("readin", "readout")) and kind in ("W", "b"):
            inner, neuron = "encoder_channel" if group == "readin" else "factor", f"neuron.{dataset}"
            dims = (neuron, inner) if group == "readin" else (inner, neuron)
            found[f"{group}_{kind}.{dataset}"] = (dims if kind == "W" else dims[1:]), left.pop(key)
            names.add(dataset)
    return sorted(names)


def _generator_inputs(found: Named) -> list[str]:
    inferred = found["co_mean_b"][1].size if "co_mean_b" in found else 0
    external = found["gen_W_x"][1].shape[0] - inferred
    return [f"inferred {k}" for k in range(inferred)] + [f"external {k}" for k in range(external)]
