"""Checks of LFADS inputs: what cannot be fitted is an error, what may mislead a fit is a warning."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lfadsrm_hpc.data.coincidence import coincident_pairs
from lfadsrm_hpc.data.early_warnings import session_warnings
from lfadsrm_hpc.data.notes import Note, joined
from lfadsrm_hpc.errors import DataError
from lfadsrm_hpc.model.hyperparameters import COUNT_DISTS

if TYPE_CHECKING:
    from lfadsrm_hpc.data.inputs.session import SessionInputs

Array = npt.NDArray[Any]

_SPLITS = ("train", "valid")
_NAMES = {"data": "the data", "truth": "the true rates", "ext_input": "the external input"}


def validate(inputs: SessionInputs, *, output_dist: str, batch_size: int, ext_input_dim: int) -> list[Note]:
    """Check what would break or mislead a fit.

    Parameters
    ----------
    inputs : SessionInputs
    output_dist : {"poisson", "negative_binomial", "gaussian", "gamma", "zero_inflated_gamma"}
    batch_size : int
    ext_input_dim : int
        Width of the external inputs that the model expects; 0 for none.

    Returns
    -------
    list of Note
        Warnings, which are texts with a name: see docs/early_warnings.md.

    Raises
    ------
    DataError
        No training or validation trial, arrays that do not fit each other, values that are not finite,
        negative or fractional counts, values that `output_dist` cannot produce (`gamma`: 0 and less;
        `zero_inflated_gamma`: less than 0), external inputs of another width, an alignment that is not
        finite. The message names the dataset and, where it applies, the trial (its position in the dataset,
        from 0), the neuron and the bin.
    """
    _check_shapes(inputs)
    _check_ext_input_width(inputs, ext_input_dim)
    check_values(inputs, output_dist=output_dist)
    _check_alignment(inputs)
    warnings = _silent_warnings(inputs)
    if len(inputs.train_data) < batch_size:
        text = (
            f"{len(inputs.train_data)} training trials are fewer than a batch of {batch_size}; batches are "
            "filled up with repeats"
        )
        numbers = {"trials": len(inputs.train_data), "batch_size": batch_size}
        warnings.append(Note("few_trials", inputs.dataset, text, numbers=numbers))
    if output_dist in COUNT_DISTS:
        warnings += session_warnings(inputs)
        warnings += _coincidence_warnings(inputs)
    return warnings + _window_warnings(inputs)


def check_values(inputs: SessionInputs, *, output_dist: str) -> None:
    """Check that every value is finite, and one that `output_dist` can produce.

    Raises
    ------
    DataError
    """
    for key, part, values in trial_arrays(inputs):
        _check_finite(inputs, key, part, values)
        if key == "data":
            _check_range(inputs, output_dist, part, values)


def trial_arrays(inputs: SessionInputs) -> Iterator[tuple[str, str, Array]]:
    """Yield kind (data, truth, ext_input), part (train, valid) and array, for all that are there."""
    for key in ("data", "truth", "ext_input"):
        for part in _SPLITS:
            values = getattr(inputs, f"{part}_{key}")
            if values is not None:
                yield key, part, values


def _check_shapes(inputs: SessionInputs) -> None:
    where = f"dataset {inputs.dataset!r}"
    if np.ndim(inputs.train_data) != 3 or np.ndim(inputs.valid_data) != 3:
        raise DataError("the data are not (trials, time, neurons)", where=where)
    n_time, n_neurons = len(inputs.time_ms), len(inputs.neuron_names)
    for part, what in (("train", "training"), ("valid", "validation")):
        if not len(getattr(inputs, f"{part}_data")):
            raise DataError(
                f"there is no {what} trial", where=where, hint="add trials, or lower train_to_test_ratio"
            )
    if n_time == 0 or n_neurons == 0:
        raise DataError(f"{n_time} bins and {n_neurons} neurons leave nothing to fit", where=where)
    for key in ("truth", "ext_input", "condition"):
        if (getattr(inputs, f"train_{key}") is None) != (getattr(inputs, f"valid_{key}") is None):
            raise DataError(f"{key} is there for one of training and validation only", where=where)
    for part in _SPLITS:
        n_trials = len(getattr(inputs, f"{part}_data"))
        for key in ("inds", "condition"):
            values = getattr(inputs, f"{part}_{key}")
            if values is not None and np.shape(values) != (n_trials,):
                raise DataError(
                    f"{part}_{key} has shape {np.shape(values)} for {n_trials} trials", where=where
                )
    for key, part, values in trial_arrays(inputs):
        n_trials = len(getattr(inputs, f"{part}_data"))
        expected = (n_trials, n_time) if key == "ext_input" else (n_trials, n_time, n_neurons)
        if np.ndim(values) != 3 or np.shape(values)[: len(expected)] != expected:
            raise DataError(
                f"{part}_{key} has shape {np.shape(values)}; {n_trials} trials, {n_time} bins and "
                f"{n_neurons} neurons are expected",
                where=where,
                hint="all trials of a dataset, for training and validation, must be equally long",
            )
    both = np.intersect1d(inputs.train_inds, inputs.valid_inds)
    if both.size:
        raise DataError(f"trial {both[0]} is in both training and validation", where=where)


def _check_ext_input_width(inputs: SessionInputs, expected: int) -> None:
    for part in _SPLITS:
        values = getattr(inputs, f"{part}_ext_input")
        width = 0 if values is None else values.shape[2]
        if width != expected:
            raise DataError(
                f"the external input of the {part} trials has {width} channels, ext_input_dim is {expected}",
                where=f"dataset {inputs.dataset!r}",
                hint=f"set ext_input_dim to {width}, or give the dataset such inputs (none for 0)",
            )


def _check_finite(inputs: SessionInputs, key: str, part: str, values: Array) -> None:
    if values.dtype.kind not in "biuf":
        raise DataError(f"{part}_{key} has type {values.dtype}", where=f"dataset {inputs.dataset!r}")
    if values.dtype.kind != "f" or np.isfinite(values).all():
        return
    bad = ~np.isfinite(values)
    trial, time, channel = (int(i) for i in np.argwhere(bad)[0])
    what = f"{values[trial, time, channel]} in {_NAMES[key]}"
    hint = "leave the trial out, or replace the value"
    if bad[trial, time:].all():
        what += f", from bin {time} to the end of the trial"
        hint = "if trials are of unequal length, cut them to the same length first"
    raise DataError(what, where=_place(inputs, key, part, trial, time, channel), hint=hint)


def _check_range(inputs: SessionInputs, output_dist: str, part: str, values: Array) -> None:
    """Refuse values that the distribution cannot produce."""
    faults: dict[str, Array] = {}
    if output_dist in COUNT_DISTS:
        faults["a negative spike count"] = values < 0
        faults["a fractional spike count"] = values != np.floor(values)
        hint = f"{output_dist} outputs need counts; for other signals set output_dist to 'gaussian'"
    elif output_dist == "gamma":
        faults["a value that is not above 0"] = values <= 0
        hint = "gamma outputs need positive values; where there are zeros use 'zero_inflated_gamma'"
    elif output_dist == "zero_inflated_gamma":
        faults["a negative value"] = values < 0
        hint = "zero_inflated_gamma outputs need values of at least 0; for others use 'gaussian'"
    for fault, bad in faults.items():
        if bad.any():
            trial, time, neuron = (int(i) for i in np.argwhere(bad)[0])
            where = _place(inputs, "data", part, trial, time, neuron)
            raise DataError(f"{fault}, {values[trial, time, neuron]:g}", where=where, hint=hint)


def _place(inputs: SessionInputs, key: str, part: str, trial: int, time: int, channel: int) -> str:
    original = int(getattr(inputs, f"{part}_inds")[trial])
    column = f"input {channel}" if key == "ext_input" else f"neuron {str(inputs.neuron_names[channel])!r}"
    return (
        f"dataset {inputs.dataset!r}, trial {original} (from 0), {column}, "
        f"bin {time} ({inputs.time_ms[time]:g} ms)"
    )


def _check_alignment(inputs: SessionInputs) -> None:
    matrix, bias = inputs.alignment_matrix_cxf, inputs.alignment_bias_c
    where = f"alignment of dataset {inputs.dataset!r}"
    if (matrix is None) != (bias is None):
        raise DataError("of alignment matrix and bias, one is missing", where=where)
    if matrix is None or bias is None:
        return
    n_neurons = len(inputs.neuron_names)
    if matrix.ndim != 2 or len(matrix) != n_neurons or bias.shape != (n_neurons,):
        raise DataError(
            f"matrix {matrix.shape} and bias {bias.shape} do not fit {n_neurons} neurons", where=where
        )
    finite = np.isfinite(matrix).all(axis=1) & np.isfinite(bias)
    if not finite.all():
        names = inputs.neuron_names[~finite]
        raise DataError(f"not finite for neurons {joined(names)}", where=where)


def _silent_warnings(inputs: SessionInputs) -> list[Note]:
    silent = inputs.neuron_names[~np.any(inputs.train_data, axis=(0, 1))]
    if not len(silent):
        return []
    text = (
        f"{len(silent)} of {len(inputs.neuron_names)} neurons are silent in the training trials: "
        f"{joined(silent)}"
    )
    numbers = {"neurons": len(silent)}
    return [Note("silent_neurons", inputs.dataset, text, neurons=silent, numbers=numbers)]


def _coincidence_warnings(inputs: SessionInputs) -> list[Note]:
    pairs = coincident_pairs(inputs.train_data)
    if not pairs:
        return []
    names = inputs.neuron_names
    texts = [
        f"{names[p.first]} and {names[p.second]} ({p.fraction:.0%} of the rarer one's spikes, "
        f"beyond the {p.expected_fraction:.0%} expected)"
        for p in pairs
    ]
    text = (
        "spikes of these neurons fall into the same bins suspiciously often; they may be duplicates, split "
        f"units or cross-talk: {joined(texts, '; ')}"
    )
    those = [names[i] for i in dict.fromkeys(i for p in pairs for i in (p.first, p.second))]
    numbers = {"pairs": len(pairs), "most": pairs[0].fraction}
    return [Note("coincident_neurons", inputs.dataset, text, neurons=those, numbers=numbers)]


def _window_warnings(inputs: SessionInputs) -> list[Note]:
    """Say so before training, not when windows are to be merged."""
    places = inputs.extra.get("window_start")
    labels = inputs.extra.get("recording")
    if places is None or labels is None:
        return []
    starts = np.concatenate([places.train, places.valid]).astype(float)
    of_window = np.concatenate([labels.train, labels.valid]).astype(str)
    for label in np.unique(of_window):
        steps = (starts[of_window == label] - starts[of_window == label].min()) / inputs.bin_ms
        if (np.abs(steps - np.rint(steps)) > 1e-3).any():
            text = (
                f"windows of recording {label} do not start on bins of {inputs.bin_ms:g} ms, so what is "
                "inferred cannot be merged; choose a window and an overlap that are multiples of spike_bin_ms"
            )
            return [Note("window_starts", inputs.dataset, text)]
    return []
