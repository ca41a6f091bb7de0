"""What a run was fitted to, beside what came out: counts, truth, inputs, behaviour, conditions.

They come from the input file of the run and are read when they are used. There training and validation trials
lie apart; here all trials are in the order of the dataset, as in the posterior means.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import xarray as xr

from lfadsrm_hpc.data.extra import name_of
from lfadsrm_hpc.data.formats.foreign import check_file
from lfadsrm_hpc.data.inputs import FORMAT
from lfadsrm_hpc.errors import MismatchError, NotFoundError, ResultsError, suggest
from lfadsrm_hpc.results.arrays.split import SPLITS, InOrder, Piece, Places
from lfadsrm_hpc.results.arrays.stored import Source, lazy
from lfadsrm_hpc.results.posterior_means.format import VARIABLES

Array = npt.NDArray[Any]

ALL = "all"
BEHAVIOUR = "behaviour"
_STORED = {"spikes": "data", "truth": "truth", "external_input": "ext_input", "condition": "condition"}
_OTHER_WORDS = {
    "counts": "spikes",
    "conditions": "condition",
    "external_inputs": "external_input",
    "behavior": BEHAVIOUR,
    "extra": BEHAVIOUR,
}


def attach(
    means: xr.Dataset, path: str | os.PathLike[str], names: str | Iterable[str], *, strict: bool = True
) -> xr.Dataset:
    """Return posterior means with more variables beside them, lazily.

    Parameters
    ----------
    means : xr.Dataset
        Posterior means.
    path : path
        The input file that the run was fitted to.
    names : str or iterable of str
        "spikes" (counts a bin; also "counts"), "truth" (spikes/s), "external_input", "condition"; the name of
        a further variable of the dataset, or "behaviour" for all of those; "all" for all there is.
    strict : bool
        Refuse names that are not there. Otherwise they are left out.

    Returns
    -------
    xr.Dataset
        With dimensions as in the data: trial, time, neuron, input, ...

    Raises
    ------
    NotFoundError
        The input file, or something that was asked for, is not there; the message lists what is.
    MismatchError
        The posterior means were made from other inputs.
    ResultsError
        The file is no input file, or damaged; or it holds other trials.
    """
    path = Path(path).absolute()
    inputs = Inputs.read(path)
    made_from = means.attrs.get("fingerprint")
    if made_from is not None and made_from != inputs.fingerprint:
        raise MismatchError(
            "the input file is not the one that the posterior means were made from",
            where=path,
            hint="put the old file back, or delete it and prepare again: it is written anew, "
            "where the recording is what it was",
        )
    return attach_from(means, inputs, names, strict=strict)


def attach_from(
    means: xr.Dataset, inputs: Inputs, names: str | Iterable[str], *, strict: bool = True
) -> xr.Dataset:
    """Return posterior means with more variables beside them, as `attach`, from inputs of any origin.

    Raises
    ------
    NotFoundError
        Something that was asked for is not there; the message lists what is.
    ResultsError
        The inputs are of other trials.
    """
    path = Path(inputs.source.path)
    places = _places(means, inputs, path)
    found = means
    for name in _wanted(names, inputs, path, strict=strict):
        found = _with(found, name, inputs, places)
    return found


def available(path: str | os.PathLike[str]) -> list[str]:
    """Return what an input file has for `attach`.

    Raises
    ------
    NotFoundError, ResultsError
        It is not there, or is none.
    """
    return list(Inputs.read(Path(path).absolute()).parts)


@dataclass(frozen=True)
class Counted:
    """How much data an input file holds: trials, bins, neurons."""

    train: int
    valid: int
    bins: int
    neurons: int


def counted(path: str | os.PathLike[str]) -> Counted:
    """Return how much data an input file holds, without reading them.

    Raises
    ------
    NotFoundError, ResultsError
        It is not there, or is none.
    """
    inputs = Inputs.read(Path(path).absolute())
    bins, neurons = inputs.parts["spikes"].shape
    return Counted(len(inputs.inds["train"]), len(inputs.inds["valid"]), bins, neurons)


def is_there(name: str, variables: Iterable[str]) -> bool:
    """Return whether what `attach` calls so is among variables; "all" and "behaviour" always are."""
    plain = _OTHER_WORDS.get(name, name)
    return plain in (ALL, BEHAVIOUR) or plain in set(variables)


@dataclass(frozen=True)
class Part:
    """One variable of an input file.

    Attributes
    ----------
    stored : str
        Names of the two arrays, with {} for the split.
    dims : tuple of str
    dtype : numpy dtype
    shape : tuple of int
        Without trials.
    attrs : dict
    scale : float
        What the numbers in the file are multiplied with.
    """

    stored: str
    dims: tuple[str, ...]
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    attrs: Mapping[str, Any]
    scale: float = 1.0


@dataclass(frozen=True)
class Inputs:
    """What an input file holds, without its data.

    Attributes
    ----------
    source : Source
    fingerprint : str
    inds : dict of str to array
        By split, which trials of the dataset it has.
    parts : dict of str to Part
    """

    source: Source
    fingerprint: str
    inds: Mapping[str, Array]
    parts: Mapping[str, Part]

    @classmethod
    def read(cls, path: Path) -> Inputs:
        try:
            check_file(path)
            source = Source.of(path)
            with source.opened() as file:
                if file.attrs.get("format") != FORMAT:
                    raise ResultsError("this is no input file of this version", where=path)
                inds = {split: _indices(file[f"{split}_inds"]) for split in SPLITS}
                return cls(source, str(file.attrs["fingerprint"]), inds, _parts(file))
        except FileNotFoundError:
            raise NotFoundError(
                "the input file of the run is not there",
                where=path,
                hint="`lfadsrm prepare` writes it again, if the data are still the same",
            ) from None
        except (OSError, KeyError, RuntimeError) as error:
            raise ResultsError(f"the input file cannot be read ({error})", where=path) from error


def _indices(stored: h5py.Dataset) -> Array:
    return np.asarray(np.rint(stored[...]).astype(np.int64) - int(stored.attrs["index_base"]))


def _parts(file: h5py.File) -> dict[str, Part]:
    found = {}
    for name, key in _STORED.items():
        if f"train_{key}" in file:
            dims = VARIABLES[name].dims if name in VARIABLES else ("trial",)
            found[name] = _part(file, f"{{}}_{key}", dims, _words(name, file))
    for key, group in file.get("extra", {}).items():
        about = json.loads(group.attrs.get("about", "{}"))
        found[name_of(key)] = _part(file, f"extra/{key}/{{}}", json.loads(group.attrs["dims"]), about)
    return found


def _part(file: h5py.File, stored: str, dims: Sequence[str], attrs: Mapping[str, Any]) -> Part:
    one = file[stored.format("train")]
    return Part(stored, tuple(dims), one.dtype, one.shape[1:], attrs)


def _words(name: str, file: h5py.File) -> dict[str, Any]:
    if name not in VARIABLES:
        return {"units": "1", "long_name": "condition of the trial"}
    about = VARIABLES[name]
    if name == "spikes" and file["train_data"].dtype.kind not in "iu":
        return {"units": "units of the data", "long_name": "values that were fitted"}
    return {"units": about.units, "long_name": about.long_name}


# ---------------------------------------------------------------- the order of trials


def _places(means: xr.Dataset, inputs: Inputs, path: Path) -> Places:
    try:
        return Places.of(means["trial"].to_numpy(), inputs.inds)
    except KeyError as error:
        raise ResultsError(
            f"trial {error} of the posterior means is none of those in the input file",
            where=path,
            hint="posterior means of new trials have their own data: attach those yourself",
        ) from None


# ---------------------------------------------------------------- what is wanted


def _wanted(names: str | Iterable[str], inputs: Inputs, path: Path, *, strict: bool) -> list[str]:
    """Return the variables to add."""
    found: list[str] = []
    behaviour = [name for name in inputs.parts if name not in _STORED]
    for given in _several(names):
        name = _OTHER_WORDS.get(given, given)
        if name == ALL:
            found += list(inputs.parts)
        elif name == BEHAVIOUR and BEHAVIOUR not in inputs.parts:
            found += behaviour
            if strict and not behaviour:
                raise _not_there(given, inputs, path)
        elif name in inputs.parts:
            found.append(name)
        elif strict:
            raise _not_there(given, inputs, path)
    return list(dict.fromkeys(found))


def _not_there(name: str, inputs: Inputs, path: Path) -> NotFoundError:
    there = list(inputs.parts)
    near = suggest(name, [*there, *_OTHER_WORDS, BEHAVIOUR, ALL])
    listed = f"there are: {', '.join(there)}"
    return NotFoundError(
        f"the data of this run have no {name!r}", where=path, hint=f"{near}; {listed}" if near else listed
    )


def _several(names: str | Iterable[str]) -> list[str]:
    return [names] if isinstance(names, str) else list(names)


def _with(means: xr.Dataset, name: str, inputs: Inputs, places: Places) -> xr.Dataset:
    """Add one variable; labels of trials that are there already stay as they are."""
    part = inputs.parts[name]
    if name in means.coords and part.dims == ("trial",):
        return means
    taken = name in means.variables and name not in _STORED
    key = f"data_{name}" if taken else name
    # an own dimension that results use in another size
    dims = tuple(
        d if means.sizes.get(d, n) == n else f"{key}_{d}"
        for d, n in zip(part.dims[1:], part.shape, strict=True)
    )
    attrs = {one: value for one, value in part.attrs.items() if one != "labels"}
    pieces = [Piece(inputs.source, part.stored.format(split)) for split in SPLITS]
    array = InOrder(pieces, places, part.shape, part.dtype, scale=part.scale)
    variable = xr.Variable(("trial", *dims), lazy(array), attrs, fastpath=True)
    found: xr.Dataset
    if name == "condition":
        found = means.assign_coords({key: variable.load()})
    else:
        found = means.assign({key: variable})
    labels = part.attrs.get("labels")
    if labels is not None and dims and dims[-1] not in found.coords and len(labels) == part.shape[-1]:
        found = found.assign_coords({dims[-1]: labels})
    return found
