"""Files of named arrays (.mat, plain .h5, .npz): the options of their readers, and what these do.

Names that are understood without any option are listed in `lfadsrm_hpc.data.formats.fields`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import xarray as xr

from lfadsrm_hpc.data.alignment.conditions import some
from lfadsrm_hpc.data.formats import layouts, option_values
from lfadsrm_hpc.data.formats.fields import OUR_NAMES, by_our_names, from_fields, number, order_of
from lfadsrm_hpc.data.formats.further import with_further
from lfadsrm_hpc.errors import DataError, UsageError

Array = npt.NDArray[Any]
OPTIONS = (
    *("fields", "extra", "dims", "start_ms", "stop_ms", "time_unit"),
    *("align_to", "before_ms", "after_ms"),
)
ARRAYS = ("spikes", "truth", "external_input")
_MS = {"ms": 1.0, "s": 1000.0}


class Source(Protocol):
    """An open file."""

    def there(self) -> list[str]:
        """Return the names of what there is, for messages."""

    def known(self) -> dict[str, Any]:
        """Return what has a name that is understood."""

    def get(self, path: str) -> Any:
        """Return what a path names; a list where it means one thing a trial."""


@dataclass(frozen=True)
class Plain:
    """The options, checked.

    Attributes
    ----------
    fields : dict
        One of our names -> where it is in the file.
    extra : dict
        Name of a further variable -> where it is in the file.
    dims : tuple of str or None
        The order of dimensions in the file: trial (or condition and repeat), time, neuron.
    start_ms, stop_ms : float or None
        Where the first bin starts; with spike times the window.
    time_unit : {"ms", "s"}
        Of all times in the file.
    align_to : str or None
        Where in the file the time of an event of each trial is, from the start of the trial or in its own
        time: trials are cut to `-before_ms <= t < after_ms` around it.
    before_ms, after_ms : float
    """

    fields: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, str] = field(default_factory=dict)
    dims: tuple[str, ...] | None = None
    start_ms: float | None = None
    stop_ms: float | None = None
    time_unit: str = "ms"
    align_to: str | None = None
    before_ms: float = 0.0
    after_ms: float | None = None

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Plain:
        """Check options as users give them; None stands for an option that is not given.

        Raises
        ------
        UsageError
        """
        given = {name: value for name, value in options.items() if value is not None}
        found = cls(**{name: _CHECKS[name](name, value) for name, value in given.items()})
        if (found.align_to is None) != (found.after_ms is None):
            raise UsageError(
                "of align_to and after_ms, one is missing", hint="an event needs a window around it, and back"
            )
        if found.before_ms and found.align_to is None:
            raise UsageError("before_ms goes with align_to", hint="start_ms says where the first bin starts")
        return found


def _dims(name: str, value: Any) -> tuple[str, ...]:
    items = value.split(",") if isinstance(value, str) else value
    found = tuple(item.strip() for item in option_values.texts(name, items))
    if len(set(found)) < len(found):
        raise UsageError(
            f"dims names a dimension twice: {','.join(found)}",
            hint="name each once, such as trial,time,neuron",
        )
    return found


_CHECKS: dict[str, Any] = {
    "fields": lambda name, value: option_values.text_table(name, value, OUR_NAMES),
    "extra": option_values.text_table,
    "dims": _dims,
    "start_ms": option_values.number,
    "stop_ms": option_values.number,
    "time_unit": lambda name, value: option_values.choice(name, value, tuple(_MS)),
    "align_to": option_values.text,
    "before_ms": option_values.number,
    "after_ms": option_values.number,
}


def read_source(
    source: Source,
    options: Plain,
    *,
    name: str,
    bin_ms: float | None,
    dims: tuple[str, ...],
    first_index: int = 0,
) -> xr.Dataset:
    """Read what a file holds, as options say.

    Parameters
    ----------
    source : Source
    options : Plain
    name : str
        Of the dataset.
    bin_ms : float or None
    dims : tuple of str
        The usual order of the format.
    first_index : int
        What the format counts from.

    Raises
    ------
    DataError, UsageError
    """
    where = f"dataset {name!r}"
    raw, extra = _asked_for(source, options)
    if not options.fields and "train_data" in raw:
        _refuse_with_parts(options, where)
        return with_further(from_fields(raw, name=name, bin_ms=bin_ms), extra, dims, where=where)
    found = _understood(raw, source, options, where)
    order = order_of(found, dims)
    notes: list[str] = []
    if "condition" in order and "spikes" in found:
        if extra:
            raise UsageError("extra does not go with arrays by condition", where=where)
        order = _unfolded(found, order, first_index, notes, where)
    if options.align_to is not None:
        extra = _cut(found, extra, source.get(options.align_to), options, order, bin_ms, notes, where)
    elif isinstance(found.get("time"), list):
        found["time"] = _one_time(found["time"], where)
    if "time" not in found and options.start_ms is not None and "spikes" in found:
        found["start_ms"] = options.start_ms
    ds = from_fields(
        {**raw_texts(raw), **found}, name=name, bin_ms=bin_ms, dims=order, first_index=first_index
    )
    ds = with_further(ds, extra, order, where=where)
    return ds.assign_attrs(notes=notes) if notes else ds


def _asked_for(source: Source, options: Plain) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what a file holds by its names, or by ours where options say which; and further variables."""
    raw = {key: value for key, value in source.known().items() if not _replaced(key, options)}
    raw |= {ours: source.get(path) for ours, path in options.fields.items()}
    if "spike_times" in options.fields and "spikes" not in options.fields:
        raw = {key: value for key, value in raw.items() if "spikes" not in by_our_names({key: None})}
    return raw, {key: source.get(path) for key, path in options.extra.items()}


def _understood(raw: Mapping[str, Any], source: Source, options: Plain, where: str) -> dict[str, Any]:
    """Return arrays by our names, with what options say of their times and dimensions; refuse no spikes."""
    found = by_our_names(raw)
    if "spikes" not in found and "spike_times" not in found and not raw_texts(raw):
        raise DataError(
            "there are no spikes under a name that is understood",
            where=where,
            hint="say where they are: fields = { spikes = '...' } or { spike_times = '...' }; "
            f"there is: {some(source.there(), 20)}",
        )
    for key in ("start_ms", "stop_ms", "dims"):
        if getattr(options, key) is not None:
            found[key] = ",".join(options.dims or ()) if key == "dims" else getattr(options, key)
    _in_ms(found, options)
    return found


def _refuse_with_parts(options: Plain, where: str) -> None:
    for name in ("dims", "start_ms", "stop_ms", "align_to"):
        if getattr(options, name) is not None:
            raise UsageError(
                f"{name} does not go with train_data and valid_data, whose form is known", where=where
            )


def raw_texts(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return what makes a file one of the Matlab run manager, which `from_fields` refuses."""
    return {key: raw[key] for key in ("paramInputDataHash", "seq_timeVector") if key in raw}


def _replaced(key: str, options: Plain) -> bool:
    """Say whether the user has named another thing in the place of one that the file has."""
    return any(ours in by_our_names({key: None}) for ours in options.fields)


def _in_ms(found: dict[str, Any], options: Plain) -> None:
    scale = _MS[options.time_unit]
    if scale == 1.0:
        return
    for key in ("time", "spike_times", "start_ms", "stop_ms"):
        from_user = key in ("start_ms", "stop_ms") and getattr(options, key) is not None
        if key in found and not from_user:
            found[key] = _scaled(found[key], scale)


def _scaled(value: Any, scale: float) -> Any:
    if isinstance(value, list):
        return [_scaled(item, scale) for item in value]
    array = np.asarray(value)
    if array.dtype.kind != "O":
        return array * scale
    out = np.empty(array.size, dtype=object)
    out[:] = [_scaled(item, scale) for item in array.ravel()]
    return out.reshape(array.shape)


def _unfolded(
    found: dict[str, Any], order: tuple[str, ...], first: int, notes: list[str], where: str
) -> tuple[str, ...]:
    arrays: dict[str, Any] = {key: found[key] for key in ARRAYS if key in found}
    made, rest, condition, left_out = layouts.unfold(
        arrays, order, found.get("condition"), first=first, where=where
    )
    found |= made
    found |= {"condition": condition, "dims": ",".join(rest)}
    if left_out:
        notes.append(f"{left_out} repeats that hold nothing but NaN are left out")
    return rest


def _cut(
    found: dict[str, Any],
    extra: dict[str, Any],
    events: Any,
    options: Plain,
    order: tuple[str, ...],
    bin_ms: float | None,
    notes: list[str],
    where: str,
) -> dict[str, Any]:
    """Cut trials to the window around their events; return the further variables, cut as well."""
    inner = [dim for dim in order if dim != "trial"]
    axis = inner.index("time")
    trials = {key: _by_trial(found[key], order) for key in ARRAYS if key in found}
    if "spikes" not in trials:
        raise DataError(
            "align_to needs counts", where=where, hint="spike times are in the time of their trial"
        )
    times = found.pop("time", None)
    width = bin_ms if bin_ms is not None else _width(found, times, where)
    starts = _starts(times, len(trials["spikes"]), found.get("start_ms"))
    lengths = [np.shape(trial)[axis] for trial in trials["spikes"]]
    listed = {key: _trial_by_trial(value, len(lengths), order) for key, value in extra.items()}
    over_time = {key: _over_time(value, lengths, axis) for key, value in listed.items()}
    moving = {key: value for key, value in over_time.items() if value is not None}
    scale = _MS[options.time_unit]
    window = layouts.Window(
        scale * np.array([_event(e, options.align_to, where) for e in _as_list(events)]),
        options.before_ms,
        options.after_ms or 0.0,
        width,
    )
    cut, kept = layouts.cut(trials | moving, axis, starts, window, where=where)
    found |= {key: cut[key] for key in trials}
    found["time"] = -options.before_ms + width * np.arange(window.n_bins)
    found["bin_ms"] = width
    if "condition" in found:
        conditions = _as_list(found["condition"])
        if len(conditions) != len(kept):
            raise DataError(f"there are {len(conditions)} conditions for {len(kept)} trials", where=where)
        found["condition"] = [c for c, k in zip(conditions, kept, strict=True) if k]
    if not kept.all():
        notes.append(
            f"{int((~kept).sum())} trials that do not hold the window around {options.align_to} are left out"
        )
    rest = {
        key: [v for v, k in zip(value, kept, strict=True) if k] if len(value) == len(kept) else extra[key]
        for key, value in listed.items()
        if key not in moving
    }
    return {key: cut[key] for key in moving} | rest


def _by_trial(value: Any, order: tuple[str, ...]) -> list[Any]:
    array = value
    if isinstance(array, np.ndarray) and array.dtype.kind != "O":
        return list(np.moveaxis(array, order.index("trial"), 0))
    return _as_list(array)


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else list(np.asarray(value).ravel())


def _event(value: Any, name: str | None, where: str) -> float:
    try:
        values = np.asarray(value, dtype=float).ravel()
    except (TypeError, ValueError):
        raise DataError(
            f"{name} holds {value!r}, which is no time", where=where, hint="name another place in align_to"
        ) from None
    return float(values[0]) if values.size == 1 else np.nan


def _trial_by_trial(value: Any, n_trials: int, order: tuple[str, ...]) -> list[Any]:
    """Return a further variable as a list, with an entry a trial where its shape allows it."""
    if isinstance(value, list):
        return value
    array = np.asarray(value)
    if array.ndim == 3:
        array = np.moveaxis(array, order.index("trial"), 0)
    return list(array) if array.ndim and len(array) == n_trials else list(array.ravel())


def _over_time(value: list[Any], lengths: list[int], axis: int) -> list[Array] | None:
    """Return an array a trial, time where the counts have it; None for what has no value for each bin.

    Time may be on the other axis: labs keep positions either way.
    """
    arrays = [np.asarray(v) for v in value]
    if len(arrays) != len(lengths) or max(lengths) < 2:
        return None
    for turned in (arrays, [array.T for array in arrays]):
        if all(a.ndim == 2 and a.shape[axis] == n for a, n in zip(turned, lengths, strict=True)):
            return turned
    if all(a.shape == (n,) for a, n in zip(arrays, lengths, strict=True)):
        return [np.expand_dims(a, 1 - axis) for a in arrays]
    return None


def _starts(times: Any, n_trials: int, start_ms: Any) -> list[float]:
    if isinstance(times, list):
        return [float(np.asarray(t, dtype=float).ravel()[0]) for t in times]
    first = number(times) if times is not None and np.size(times) else number(start_ms)
    return [first or 0.0] * n_trials


def _width(found: Mapping[str, Any], times: Any, where: str) -> float:
    if found.get("bin_ms") is not None:
        return float(np.asarray(found["bin_ms"], dtype=float).ravel()[0])
    first = times[0] if isinstance(times, list) and times else times
    values = np.asarray(first if first is not None else [], dtype=float).ravel()
    if values.size < 2:
        raise DataError("the width of the bins is not known", where=where, hint="give bin_ms")
    return float(np.median(np.diff(values)))


def _one_time(times: list[Any], where: str) -> Any:
    first = np.asarray(times[0], dtype=float).ravel()
    if any(not np.array_equal(first, np.asarray(t, dtype=float).ravel()) for t in times):
        raise DataError(
            "trials have times of their own",
            where=where,
            hint="cut them to one window: align_to, before_ms, after_ms",
        )
    return first
