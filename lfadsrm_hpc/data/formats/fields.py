"""Named arrays, as they come out of a file -> the one in-memory form (`lfadsrm_hpc.data.form`).

What a file may hold, whatever its format (the first name of each row is ours, the others are those of the
Matlab run manager and its demo):

| name | meaning |
|---|---|
| `spikes`, `counts` | counts a bin, (trial, time, neuron); in `.mat` files (trial, neuron, time) |
| `truth`, `true_rates` | true rates in spikes/s, same order |
| `external_input`, `externalInputs` | as `spikes`, with inputs in the place of neurons |
| `dims` | text such as "trial,time,neuron": the order in this file, where it differs |
| `time`, `time_ms`, `timeMs`, `timeVecMs` | start of each bin, ms |
| `bin_ms`, `binMs`, `spikeBinMs` | width of a bin, ms; needed where there is no time |
| `condition`, `condition_id`, `conditionId` | a name or whole number a trial |
| `neuron_name`, `neuron_names` | a name a neuron |
| `subject`, `date`, `save_tags` or `saveTags`, `comment` | text and numbers for the info table |

A trial may also have an array of its own (a cell array in Matlab). A dimension of size 1 that got lost is put
back where time, condition and names leave no doubt about it; `dims` helps where they do.

Spike times instead of counts: `spike_times`, a cell array (trial, neuron) of times in ms; or, in every
format, three vectors of one length, `spike_times`, `spike_trial`, `spike_neuron` (0-based; 1-based in
`.mat`), with `n_trials` and `n_neurons` where condition and names do not tell them. With both: `start_ms`,
`stop_ms`, `bin_ms`.

Files of the original LFADS: `train_data` and `valid_data` (trial, time, neuron), with `train_` and `valid_`
`inds`, `truth`, `ext_input`, `condition`, `behavior`, `lowd`, and `condition_labels_train`, `_valid`;
`time_ms`, `neuron_names`, and `bin_ms`, `dt` (seconds) or `conversion_factor` (bin width in seconds, up to
0.025). Trials come back in the order of the `inds`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from lfadsrm_hpc.data.arrays import from_arrays, from_spike_times
from lfadsrm_hpc.data.form import SPIKE_DIMS, Array
from lfadsrm_hpc.data.formats.split_parts import PARTS, along, merge
from lfadsrm_hpc.errors import DataError

MATLAB_DIMS = ("trial", "neuron", "time")
_NAMES: dict[str, tuple[str, ...]] = {
    "spikes": ("spikes", "counts"),
    "truth": ("truth", "true_rates"),
    "external_input": ("external_input", "externalInputs"),
    "time": ("time", "time_ms", "timeMs", "timeVecMs"),
    "bin_ms": ("bin_ms", "binMs", "spikeBinMs"),
    "condition": ("condition", "condition_id", "conditionId"),
    "neuron_names": ("neuron_name", "neuron_names"),
    "save_tags": ("save_tags", "saveTags"),
}
DESCRIBING = ("subject", "date", "comment", *_NAMES["save_tags"])
"""Names of what is said of a session, and no part of it."""
_OWN_NAME = (
    *("subject", "date", "comment", "dims"),
    *("spike_times", "spike_trial", "spike_neuron", "start_ms", "stop_ms", "n_trials", "n_neurons"),
)
_NAMES |= {key: (key,) for key in _OWN_NAME}
OUR_NAMES = tuple(_NAMES)
_MOST_SECONDS = 0.025
_MOST_DT = 0.25  # more is no width of bins in seconds, but perhaps one in ms
_LABELS = {part: f"condition_labels_{part}" for part in PARTS}  # names of the original's own examples
_SPLIT = ("data", "inds", "truth", "ext_input", "condition", "behavior", "lowd")
_LFADS = {f"{part}_{key}" for part in ("train", "valid") for key in _SPLIT} | {"conversion_factor", "dt"}
_LFADS |= set(_LABELS.values())
_LEGACY = {"paramInputDataHash", "seq_timeVector"}
KNOWN = frozenset(name for names in _NAMES.values() for name in names) | _LFADS | _LEGACY
"""Every name that is looked for: a reader need not load others."""


def has_counts(names: Sequence[str] | Mapping[str, Any]) -> bool:
    """Say whether counts or spike times are among the names."""
    return any(name in names for name in (*_NAMES["spikes"], "spike_times", "train_data"))


def from_fields(
    fields: Mapping[str, Any],
    *,
    name: str,
    bin_ms: float | None = None,
    dims: Sequence[str] = SPIKE_DIMS,
    first_index: int = 0,
) -> xr.Dataset:
    """Make a dataset from the named arrays of a file; see the head of this module.

    Parameters
    ----------
    fields : mapping
        Arrays, texts, numbers; lists or object arrays where trials or spike times have arrays of their own.
    name : str
    bin_ms : float, optional
        Takes the place of what the file says.
    dims : sequence of str
        The order of the file format, where the field `dims` does not say otherwise.
    first_index : int
        The number of the first trial and neuron in `spike_trial` and `spike_neuron`.

    Raises
    ------
    DataError
        No counts, or ones that cannot be used.
    """
    where = f"dataset {name!r}"
    if _LEGACY & set(fields):
        raise DataError(
            "this is an inputInfo file of the Matlab run manager, not a dataset",
            where=where,
            hint="read the file that it was made from, or the lfads_*.h5 beside it",
        )
    if "train_data" in fields:
        return _from_split(fields, name, bin_ms, where)
    found = by_our_names(fields)
    vectors: dict[str, Any] = {
        key: _vector(found[key]) for key in ("time", "condition", "neuron_names") if key in found
    }
    arrays: dict[str, Any] = {key: found[key] for key in ("truth", "external_input") if key in found}
    common: dict[str, Any] = {"name": name, **described(fields), **vectors, **arrays}
    width = bin_ms if bin_ms is not None else number(found.get("bin_ms"))
    order = order_of(found, dims)
    if "spikes" in found:
        if "time" not in found and "start_ms" in found:
            common["start_ms"] = number(found["start_ms"])
        return from_arrays(found["spikes"], bin_ms=width, dims=order, **common)
    if "spike_times" in found:
        return _from_times(found, width, first_index, {"dims": order, **common}, where)
    raise DataError(
        "there are no spikes",
        where=where,
        hint="name the counts 'spikes' or the times 'spike_times'; there is: "
        + (", ".join(fields) or "nothing of what is looked for"),
    )


def described(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the subject, date, comment and save tags among the fields."""
    found = by_our_names(fields)
    texts = {key: _text(found[key]) for key in ("subject", "date", "comment") if key in found}
    return texts | ({"save_tags": _items(found["save_tags"])} if "save_tags" in found else {})


def sizes_of(shapes: Mapping[str, tuple[int, ...]], fields: Mapping[str, Any]) -> dict[str, int] | None:
    """Return the numbers of trials, bins and neurons that the shapes of arrays tell; None where they do not.

    Parameters
    ----------
    shapes : mapping
        Of the arrays under their names in the file.
    fields : mapping
        What is small: `dims`.
    """
    parts = [shapes[key] for key in ("train_data", "valid_data") if key in shapes]
    if parts:
        full = all(len(shape) == len(SPIKE_DIMS) for shape in parts)
        return dict(zip(SPIKE_DIMS, (sum(p[0] for p in parts), *parts[0][1:]), strict=True)) if full else None
    shape = next((shapes[key] for key in _NAMES["spikes"] if key in shapes), ())
    order = order_of(by_our_names(fields), SPIKE_DIMS)
    if len(shape) != len(SPIKE_DIMS) or sorted(order) != sorted(SPIKE_DIMS):
        return None
    return dict(zip(order, shape, strict=True))


def conditions_of(fields: Mapping[str, Any]) -> Array | None:
    """Return the conditions among the fields, those of training trials first; None where there are none."""
    for names in (_NAMES["condition"], ("train_condition", "valid_condition"), tuple(_LABELS.values())):
        there = [np.ravel(fields[name]) for name in names if name in fields]
        if there:
            return np.concatenate(there)
    return None


def bin_width(fields: Mapping[str, Any]) -> float | None:
    """Return the bin width in ms that the fields of a file with `train_data` tell; None where they do not.

    A `conversion_factor` of more than 0.025 is not taken for seconds: 1 is the original's "unknown", and
    the Matlab run manager writes 1/2, 1/5, 1/20, ... for so many bins that it made one of.
    """
    width = number(by_our_names(fields).get("bin_ms"))
    seconds = number(fields.get("conversion_factor"))
    dt = number(fields.get("dt"))
    if width is None and dt is not None and 0 < dt <= _MOST_DT:
        return round(1000 * dt, 6)
    if width is None and seconds is not None and 0 < seconds <= _MOST_SECONDS:
        near = round(1000 * seconds, 3)
        width = near if abs(1000 * seconds - near) < 1e-6 * near else 1000 * seconds  # it may be a float32
    return width


def by_our_names(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return what has a name that is understood, under our name for it."""
    return {key: fields[alias] for key, names in _NAMES.items() for alias in names if alias in fields}


def order_of(found: Mapping[str, Any], default: Sequence[str]) -> tuple[str, ...]:
    """Return the order of dimensions that the fields tell, or the default."""
    return tuple(d.strip() for d in _text(found["dims"]).split(",")) if "dims" in found else tuple(default)


def _from_times(
    found: Mapping[str, Any], width: float | None, first: int, common: dict[str, Any], where: str
) -> xr.Dataset:
    window = {key: number(found.get(key)) for key in ("start_ms", "stop_ms")} | {"bin_ms": width}
    missing = [key for key, value in window.items() if value is None]
    if missing:
        raise DataError(f"spike times need {', '.join(missing)}", where=where)
    times = found["spike_times"]
    if "spike_trial" in found or "spike_neuron" in found:
        nested = _nested(found, common, first, where)
    elif isinstance(times, list):
        nested = [_neurons_of(trial) for trial in times]
    elif isinstance(times, np.ndarray) and times.dtype.kind == "O" and times.ndim == 2:
        nested = [list(row) for row in times]
    else:
        raise DataError(
            "spike_times does not say which trial and neuron a spike belongs to",
            where=where,
            hint="add spike_trial and spike_neuron, or use a cell array (trial, neuron)",
        )
    return from_spike_times(nested, **window, **common)  # type: ignore[arg-type]


def _neurons_of(trial: Any) -> list[Array]:
    """Return the spike times of each neuron in a trial: a cell of a cell array each, or one neuron alone."""
    values = np.asarray(trial) if not isinstance(trial, list) else cell_of(trial)
    if values.dtype.kind == "O":
        return [np.asarray(times, dtype=float).ravel() for times in values.ravel()]
    return [values.astype(float).ravel()]


def cell_of(items: Sequence[Any]) -> Array:
    """Return an object array of items, whatever their shapes."""
    out = np.empty(len(items), dtype=object)
    for place, item in enumerate(items):
        out[place] = item
    return out


def _nested(found: Mapping[str, Any], common: Mapping[str, Any], first: int, where: str) -> list[list[Array]]:
    """Sort spikes into [trial][neuron]."""
    flat = {key: _vector(found.get(key, ())) for key in ("spike_times", "spike_trial", "spike_neuron")}
    if len({values.size for values in flat.values()}) > 1:
        text = ", ".join(f"{key} {values.size}" for key, values in flat.items())
        raise DataError(f"the vectors of spikes have unequal lengths: {text}", where=where)
    sizes = {}
    for key, vector in (("n_trials", "condition"), ("n_neurons", "neuron_names")):
        size = number(found[key]) if key in found else len(common[vector]) if vector in common else None
        if size is None:
            raise DataError(f"the spike times do not tell {key}", where=where, hint=f"add {key} or {vector}")
        sizes[key] = int(size)
    trial, neuron = (flat[key].astype(np.int64) - first for key in ("spike_trial", "spike_neuron"))
    for index, size, key in (
        (trial, sizes["n_trials"], "spike_trial"),
        (neuron, sizes["n_neurons"], "spike_neuron"),
    ):
        if index.size and (index.min() < 0 or index.max() >= size):
            raise DataError(
                f"{key} goes from {index.min() + first} to {index.max() + first}",
                where=where,
                hint=f"it must go from {first} to {first + size - 1}",
            )
    code = trial * sizes["n_neurons"] + neuron
    order = np.argsort(code, kind="stable")
    cells = np.searchsorted(code[order], np.arange(1, sizes["n_trials"] * sizes["n_neurons"]))
    parts = np.split(flat["spike_times"][order], cells)
    n = sizes["n_neurons"]
    return [parts[k * n : (k + 1) * n] for k in range(sizes["n_trials"])]


def _from_split(fields: Mapping[str, Any], name: str, bin_ms: float | None, where: str) -> xr.Dataset:
    """Merge the training and validation parts of an LFADS input file, in the order of their indices."""
    parts = {
        part: {key: _unsqueezed(key, fields[f"{part}_{key}"]) for key in _SPLIT if f"{part}_{key}" in fields}
        for part in PARTS
    }
    for part, label in _LABELS.items():
        if label in fields and "condition" not in parts[part]:
            parts[part]["condition"] = np.ravel(fields[label])
    merged, split = merge(parts, _SPLIT, where=where)
    seconds = number(fields.get("conversion_factor"))
    width = bin_ms if bin_ms is not None else bin_width(fields)
    if "truth" in merged and seconds is not None and width:
        merged["truth"] = merged["truth"] * _truth_scale(merged, seconds, width)
    vectors = {"time": "time_ms", "neuron_names": "neuron_names"}
    given: dict[str, Any] = {key: _vector(fields[alias]) for key, alias in vectors.items() if alias in fields}
    given |= described(fields)
    ds = from_arrays(
        merged["data"],
        bin_ms=width,
        name=name,
        condition=merged.get("condition"),
        truth=merged.get("truth"),
        external_input=merged.get("ext_input"),
        **given,
    )
    further: dict[str, Any] = {"given_split": ("trial", split), **along(merged, ds.sizes["time"])}
    out: xr.Dataset = ds.assign(further)
    return out


def _truth_scale(merged: Mapping[str, Array], factor: float, width: float) -> float:
    """Return what turns the true rates of a file into spikes/s.

    Their product with `conversion_factor` is counts a bin in the original, and spikes/s in the Matlab run
    manager, whose factor is one over a whole number. Where it can be either, the counts decide.
    """
    in_counts = factor * 1000 / width
    if factor <= _MOST_SECONDS or abs(1 / factor - round(1 / factor)) > 1e-3:
        return in_counts
    truth, counts = float(merged["truth"].mean()) * factor, float(merged["data"].mean())
    if truth <= 0 or counts <= 0:
        return in_counts
    near_counts, near_rates = np.log(truth / counts), np.log(truth * width / 1000 / counts)
    return in_counts if abs(near_counts) <= abs(near_rates) else factor


def _unsqueezed(key: str, values: Any) -> Any:
    """Put back the last dimension of data of one neuron or one input, which the run manager loses."""
    array = np.asarray(values)
    return array[..., None] if key in ("data", "truth", "ext_input") and array.ndim == 2 else array


def _vector(values: Any) -> Array:
    if isinstance(values, list) or np.asarray(values).dtype.kind == "O":
        # one a trial, or a cell array: a text, a number, or an array of one or no number
        items = values if isinstance(values, list) else list(np.asarray(values).ravel())
        return cell_of([_only(value) for value in items])
    return np.asarray(values).ravel()


def _only(value: Any) -> Any:
    items = np.asarray(value).ravel().tolist()
    return items[0] if len(items) == 1 else None if not items else value


def number(value: Any) -> float | None:
    """Return the first number of a value; None for nothing, an empty array too."""
    if value is None:
        return None
    values = np.asarray(value, dtype=float).ravel()
    return float(values[0]) if values.size else None


def _text(value: Any) -> str:
    values = np.asarray(value).ravel().tolist()
    return ", ".join(v.decode() if isinstance(v, bytes) else str(v) for v in values)


def _items(value: Any) -> list[Any]:
    """Return save tags as a list of numbers or texts."""
    values = np.asarray(value).ravel().tolist()
    return [int(v) if isinstance(v, float) and v.is_integer() else v for v in values]
