"""What a file of posterior means holds: variables, chunks, labels and attributes."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import netCDF4
import numpy as np
import numpy.typing as npt

from lfadsrm_hpc._version import __version__
from lfadsrm_hpc.errors import UsageError

FORMAT = "lfadsrm_hpc posterior means"
FORMAT_VERSION = 2  # 2: standard deviations, where there are any
CHUNK_BYTES = 256 * 1024
COUNT_DISTS = ("poisson", "negative_binomial")
OUTPUT_DISTS = (*COUNT_DISTS, "gaussian", "gamma", "zero_inflated_gamma")


class Variable(NamedTuple):
    """What a variable of the file is."""

    dims: tuple[str, ...]
    units: str
    long_name: str


_TIME = ("trial", "time")
VARIABLES: dict[str, Variable] = {
    "rates": Variable((*_TIME, "neuron"), "spikes/s", "posterior mean firing rate"),
    "output_mean": Variable((*_TIME, "neuron"), "units of the data", "posterior mean of the expected value"),
    "output_var": Variable(
        (*_TIME, "neuron"), "units of the data squared", "posterior mean of the variance of the values"
    ),
    "factors": Variable((*_TIME, "factor"), "1", "latent factors"),
    "generator_states": Variable((*_TIME, "generator_unit"), "1", "states of the generator network"),
    "generator_ics": Variable(("trial", "generator_unit"), "1", "initial states of the generator network"),
    "controller_outputs": Variable((*_TIME, "controller_output"), "1", "inferred inputs to the generator"),
    "post_g0_mean": Variable(("trial", "ic"), "1", "mean of the posterior over the initial condition"),
    "post_g0_logvar": Variable(
        ("trial", "ic"), "1", "log variance of the posterior over the initial condition"
    ),
    "prior_g0_mean": Variable(("trial", "ic"), "1", "mean of the prior over the initial condition"),
    "prior_g0_logvar": Variable(("trial", "ic"), "1", "log variance of the prior over the initial condition"),
    "costs": Variable(("trial",), "nats", "cost of the trial (reconstruction, KL and L2 terms)"),
    "nll_bound_vae": Variable(("trial",), "nats", "variational bound on the negative log-likelihood"),
    "nll_bound_iwae": Variable(
        ("trial",), "nats", "importance-weighted bound on the negative log-likelihood"
    ),
    "spikes": Variable((*_TIME, "neuron"), "spikes per bin", "spike counts that were fitted"),
    "truth": Variable((*_TIME, "neuron"), "spikes/s", "true firing rate of synthetic data"),
    "external_input": Variable((*_TIME, "input"), "units of the data", "external input"),
}
TRIAL_LABELS: dict[str, Variable] = {
    "split": Variable(("trial",), "1", "whether the trial was trained on, held for validation, or new"),
    "condition": Variable(("trial",), "1", "condition of the trial"),
    "window_start": Variable(("trial",), "ms", "where in its recording the trial starts"),
    "recording": Variable(("trial",), "1", "recording that the trial was cut from"),
    "trial_id": Variable(("trial",), "1", "name of the trial in the file it was read from"),
}
STD = "_std"
VARIABLES.update(
    {
        name + STD: VARIABLES[name]._replace(long_name=f"posterior standard deviation: {about}")
        for name, about in (
            ("rates", "firing rate"),
            ("output_mean", "expected value"),
            ("factors", "latent factors"),
            ("generator_states", "states of the generator network"),
            ("generator_ics", "initial states of the generator network"),
            ("controller_outputs", "inferred inputs to the generator"),
        )
    }
)
OPTIONAL = ("spikes", "truth", "external_input")
# A trial whose latent quantities are not finite is a broken model; bounds may be infinite or undefined.
MAY_BE_INFINITE = ("costs", "nll_bound_vae", "nll_bound_iwae")


def chunk_shape(dims: Sequence[str], shape: Sequence[int], itemsize: int = 4) -> tuple[int, ...]:
    """Return chunks that serve "one neuron of all trials" and "all neurons of one trial" alike.

    About `CHUNK_BYTES` each, at most 1024 bins long, narrow over trials and neurons, so that either
    reading decompresses a small multiple of what it returns.

    Examples
    --------
    >>> chunk_shape(("trial", "time", "neuron"), (2000, 500, 500))
    (11, 500, 11)
    """
    size = dict(zip(dims, shape, strict=True))
    budget = max(1, CHUNK_BYTES // itemsize)
    if "time" not in size:  # small: whole rows
        per_trial = math.prod(shape[1:])
        return (min(shape[0], max(1, budget // per_trial)), *shape[1:])
    time = math.ceil(size["time"] / math.ceil(size["time"] / 1024))
    width = min(shape[2], max(1, min(16, math.isqrt(budget // time))))
    trials = min(shape[0], max(1, min(64, budget // (time * width))))
    return trials, time, width


def names_of(
    output_dist: str, size: Mapping[str, int], extra: Sequence[str], *, with_std: bool = False
) -> list[str]:
    """Return the variables that the file will have, in order."""
    if output_dist not in OUTPUT_DISTS:
        raise UsageError(
            f"there is no output_dist {output_dist!r}", hint=f"it can be {', '.join(OUTPUT_DISTS)}"
        )
    for name in extra:
        if name not in OPTIONAL:
            raise UsageError(f"`extra` names {name!r}", hint=f"it can hold {', '.join(OPTIONAL)}")
    unwanted = {"output_mean", "output_var"} if output_dist in COUNT_DISTS else {"rates"}
    unwanted |= {name for name in VARIABLES if name.endswith(STD) and not with_std}
    unwanted |= {name + STD for name in unwanted} | set(OPTIONAL) - set(extra)
    return [
        name
        for name, about in VARIABLES.items()
        if name not in unwanted and all(size.get(dim, 0) > 0 for dim in about.dims)
    ]


def rounded(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return float32 numbers rounded to 11 significant bits.

    Standard deviations are stored so: the error is below 0.05 %, that of estimating one from 512 samples is
    3 %, and the zeros at the end of each number make it take about half of the disk.

    Examples
    --------
    >>> rounded(np.array([1.0, 0.3333333, 0.0], np.float32)).tolist()
    [1.0, 0.333251953125, 0.0]
    """
    dropped = 13
    bits = np.ascontiguousarray(values).view(np.uint32) + np.uint32(1 << (dropped - 1))
    short = (bits & np.uint32((1 << 32) - (1 << dropped))).view(np.float32)
    return np.where(np.isfinite(values), short, values)


def labels_of(name: str, of_trials: Sequence[str]) -> str:
    """Return the CF attribute that ties the labels of trials and neurons to a variable."""
    labels = list(of_trials)
    if "neuron" in VARIABLES[name].dims:
        labels.append("neuron_name")
    return " ".join(labels)


def label_values(name: str, values: Sequence[object] | npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return labels as integers where they are, times as numbers, else text ("" where a trial has none).

    Whole numbers of which some are missing stay numbers, NaN where a trial has none, so that a condition is
    the same in sessions where all trials have one and in others.
    """
    array = np.asarray(values)
    if TRIAL_LABELS[name].units == "ms":
        return array.astype(np.float64)
    if array.dtype.kind in "iub":
        return array.astype(np.int64)
    missing = [value is None or (isinstance(value, float) and math.isnan(value)) for value in values]
    if array.dtype.kind == "f" and not all(missing):
        known = array[~np.array(missing)]
        if np.all(known == np.floor(known)):
            return array.astype(np.float64 if any(missing) else np.int64)
    texts = ["" if gone else str(value) for value, gone in zip(values, missing, strict=True)]
    return np.array(texts, dtype=object)


def file_attributes(
    given: Mapping[str, object], dataset: str, bin_ms: float, output_dist: str
) -> dict[str, object]:
    """Return the attributes of the file in types that netCDF has."""
    ours: dict[str, object] = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "dataset": dataset,
        "bin_ms": bin_ms,
        "output_dist": output_dist,
    }
    theirs = given.get("versions")
    ours["versions"] = {**versions(), **(theirs if isinstance(theirs, Mapping) else {})}
    return attribute_values({**given, **ours})


def versions() -> dict[str, str]:
    """Return the versions of what writes a file."""
    return {
        "lfadsrm_hpc": __version__,
        "python": ".".join(str(part) for part in sys.version_info[:3]),
        "numpy": np.__version__,
        "netCDF4": str(netCDF4.__version__),
    }


def attribute_values(given: Mapping[str, object]) -> dict[str, object]:
    """Return attributes in types that netCDF has; None is left out."""
    return {name: _attribute(value) for name, value in given.items() if value is not None}


def _attribute(value: object) -> object:
    if isinstance(value, bool | np.bool_):
        return np.int32(value)
    if isinstance(value, str | int | float | np.number):
        return value
    return json.dumps(value, sort_keys=True, default=_plain)


def _plain(value: object) -> object:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return str(value)
