"""What users have -> a dataset in memory, and its check against a trained model."""

from __future__ import annotations

import os
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import xarray as xr

from lfadsrm_hpc.collection.words import listing
from lfadsrm_hpc.data import form, readers
from lfadsrm_hpc.data.dataset import Dataset
from lfadsrm_hpc.data.inputs import SessionInputs, new_inputs
from lfadsrm_hpc.data.validation import check_values
from lfadsrm_hpc.errors import DataError, MismatchError, UsageError
from lfadsrm_hpc.layout import check_name

Array = npt.NDArray[Any]
Data: TypeAlias = Dataset | xr.Dataset | str | os.PathLike[str] | npt.ArrayLike

NAME = "new_trials"  # of plain arrays without one


def take(
    dataset: Data,
    *,
    name: str | None,
    bin_ms: float | None,
    ext_input: npt.ArrayLike | None,
    model_bin_ms: float,
) -> xr.Dataset:
    """Return a dataset in its in-memory form (`lfadsrm_hpc.data.form`), checked and named.

    Parameters
    ----------
    dataset : Dataset, xr.Dataset, path, or counts (trial, time, neuron)
    name : str or None
        Takes the place of its own name.
    bin_ms : float or None
        Width of the bins of plain counts (the model's unless given), or of a file that does not say it.
    ext_input : (trial, time, input) array, or None
        External inputs, where the dataset does not hold them.
    model_bin_ms : float

    Raises
    ------
    DataError, NotFoundError, UsageError
    """
    if isinstance(dataset, Dataset | xr.Dataset) and bin_ms is not None:
        raise UsageError(
            "bin_ms is for plain counts and for files; a dataset knows its own", hint="leave it out"
        )
    extra = None if ext_input is None else np.asarray(ext_input, dtype=np.float64)
    if isinstance(dataset, Dataset):
        content = dataset.load()
    elif isinstance(dataset, xr.Dataset):
        content = dataset
    elif isinstance(dataset, str | os.PathLike):
        content = readers.read(dataset, bin_ms=bin_ms)
    else:
        return readers.from_arrays(
            dataset if isinstance(dataset, list | tuple) else np.asarray(dataset),  # lists may be ragged
            bin_ms=model_bin_ms if bin_ms is None else bin_ms,
            name=check_name(name or NAME, "dataset"),
            external_input=extra,
        )
    name = check_name(str(name or content.attrs.get("name", NAME)), "dataset")
    if extra is not None:
        if "external_input" in content:
            raise UsageError(
                "the dataset holds external inputs, and others are given", hint="leave ext_input out"
            )
        wanted = tuple(content.sizes.get(dim, 0) for dim in ("trial", "time"))
        if extra.ndim != 3 or extra.shape[:2] != wanted:
            raise DataError(
                f"ext_input has the shape {extra.shape}; there are {wanted[0]} trials of {wanted[1]} bins",
                where=f"dataset {name!r}",
                hint="it goes by (trial, time, input), in the bins of the dataset",
            )
        content = content.assign(external_input=(form.INPUT_DIMS, extra))
    return form.check(content, name=name)


def inputs_for(
    ds: xr.Dataset, *, bin_ms: float, bins: int, neuron_names: Array, ext_input_dim: int, output_dist: str
) -> SessionInputs:
    """Return a dataset as a trained model takes it: in its bins, of its neurons, with its external inputs.

    Raises
    ------
    DataError
        Bins that do not fit, another number of them, missing or other external inputs, values that the
        distribution of the model's outputs cannot produce.
    MismatchError
        Other neurons.
    """
    name = str(ds.attrs["name"])
    check_neurons(ds, neuron_names)
    inputs = new_inputs(ds, name=name, bin_ms=bin_ms, fingerprint=form.fingerprint(ds))
    where = f"dataset {name!r}"
    if len(inputs.time_ms) != bins:
        raise DataError(
            f"trials have {len(inputs.time_ms)} bins of {bin_ms:g} ms; the model was trained on {bins}",
            where=where,
            hint=f"cut trials to the window of the training, {bins * bin_ms:g} ms",
        )
    width = 0 if inputs.train_ext_input is None else inputs.train_ext_input.shape[2]
    if width != ext_input_dim:
        raise DataError(
            f"there are {width} external inputs; the model was trained with {ext_input_dim}",
            where=where,
            hint="give ext_input=..., trial x time x input"
            if width < ext_input_dim
            else "give the dataset without them: ds.drop_vars('external_input')",
        )
    check_values(inputs, output_dist=output_dist)
    return inputs


def check_neurons(ds: xr.Dataset, trained: Array) -> None:
    """Refuse other neurons than those of the training, or another order.

    Names are compared where both sides have some of their own, not only numbers ("n000", "n001", ...).

    Raises
    ------
    MismatchError
        The message names what is missing and what is not known.
    """
    names, known = ds["neuron_name"].to_numpy().astype(str).tolist(), trained.tolist()
    where = f"dataset {ds.attrs['name']!r}"
    named = not (_are_numbers(names) or _are_numbers(known))
    if names == known or (not named and len(names) == len(known)):
        return
    if named and sorted(names) == sorted(known):
        place = next(k for k, (one, other) in enumerate(zip(names, known, strict=True)) if one != other)
        raise MismatchError(
            f"the neurons are in another order than in training: neuron {place} is {names[place]!r}, "
            f"not {known[place]!r}",
            where=where,
            hint="put them into the order of the training, for example with ds.isel(neuron=...)",
        )
    parts = [f"there are {len(names)} neurons; the model was trained on {len(known)} of this session"]
    for what, one, other in (("missing", known, names), ("unknown", names, known)):
        apart = [name for name in one if name not in set(other)]
        parts += [f"{what}: {listing(apart)}"] if named and apart else []
    raise MismatchError(
        "; ".join(parts),
        where=where,
        hint="give the neurons of the training; a model is fitted to others with run.adapt(...)",
    )


def _are_numbers(names: list[str]) -> bool:
    return names == [f"n{i:03d}" for i in range(len(names))]
