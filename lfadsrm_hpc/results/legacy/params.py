"""The params of runs that other programs made, as far as they have an equivalent here.

The Matlab run manager writes the params of all runs into `summary.txt`, for people; LFADS writes what it ran
with into `hyperparameters-<step>.txt`; the script that started it names them once more. Where the first two
disagree, by more than rounding, LFADS trained with the second: the run manager passed flags on with six
decimals, so that a learning rate of 1e-7 became 0.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lfadsrm_hpc.collection.params import RunParams
from lfadsrm_hpc.errors import LfadsrmError, ResultsError
from lfadsrm_hpc.plain_files import read_bytes, read_json
from lfadsrm_hpc.results.legacy.matlab_params import ALIGNMENT, ALL_STEPS, BY_NAME, PROPERTIES, RETIRED

_PARAMS = re.compile(r"\[\d+ (?:param_)?(?P<param>\S+?)(?: data_(?P<data>\S+))?\] \S+")
_SPEC = re.compile(r'\[runSpec \d+\] \S+ "(?P<name>.*)" \(\d+ datasets?\)')
_DATASET = re.compile(r'\[ds \d+\] \S+ "(?P<name>.*)"')
_VALUE = re.compile(r"(?P<name>[A-Za-z]\w*): (?P<value>.*)")
_FLAG = re.compile(r"--(\w+)=(\S+)")
_RAMPS = tuple(f"{ramp}_{kind}" for ramp in ("kl", "l2") for kind in ("start_step", "increase_steps"))
_OURS = frozenset(RunParams().values())
_NOT_OF_THE_MODEL = re.compile(
    r"(data|lfads_save|checkpoint|output_filename|csv|ps_|tf_debug|debug_)\w*"
    r"|device|kind|num_steps|ndatasets|_clip_value"
)


@dataclass(frozen=True)
class Summary:
    """What `summary.txt` of a collection says.

    Attributes
    ----------
    specs : dict of str to list of str
        The datasets of each run spec, in order.
    params : dict of str to dict
        By hash, the values by Matlab's names.
    data : dict of str to str
        By hash of the params, that of the inputs.
    """

    specs: Mapping[str, Sequence[str]] = field(default_factory=dict)
    params: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    data: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class LegacyParams:
    """What is known of the params of a run.

    Attributes
    ----------
    params : RunParams or None
        None: nothing is.
    raw : dict
        All values, by the names of the program that wrote them.
    untranslated : dict
        Those of them that have no equivalent here.
    notes : tuple of str
        What is to be known of them.
    """

    params: RunParams | None = None
    raw: Mapping[str, Any] = field(default_factory=dict)
    untranslated: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def read_summary(path: Path) -> Summary:
    """Read `summary.txt`; empty where there is none, or where it cannot be read."""
    try:
        lines = read_bytes(path).decode(errors="replace").splitlines()
    except OSError:
        return Summary()
    specs: dict[str, list[str]] = {}
    params: dict[str, dict[str, Any]] = {}
    data: dict[str, str] = {}
    spec = values = None
    for line in map(str.strip, lines):
        if match := _SPEC.fullmatch(line):
            spec, values = specs.setdefault(match["name"], []), None
        elif (match := _DATASET.match(line)) and spec is not None:
            spec.append(match["name"])
        elif match := _PARAMS.match(line):
            values = params.setdefault(match["param"], {})
            if match["data"]:
                data[match["param"]] = match["data"]
        elif (match := _VALUE.fullmatch(line)) and values is not None and match["name"] != "Diff":
            values[match["name"]] = _value(match["value"])
    return Summary(specs, params, data)


def read_hyperparameters(path: Path) -> dict[str, Any]:
    """Read a file of hyperparameters that LFADS wrote: JSON with truth values as words.

    Raises
    ------
    ResultsError
        It cannot be read.
    """
    try:
        values = read_json(path)
    except (OSError, ValueError) as error:
        raise ResultsError(f"the hyperparameters cannot be read ({error})", where=path) from error
    if not isinstance(values, dict):
        raise ResultsError("the hyperparameters are no JSON object", where=path)
    return {str(name): _truth(value) for name, value in values.items()}


def read_flags(path: Path) -> dict[str, Any]:
    """Return what the script that trained a run passes on to LFADS; empty where there is no script."""
    try:
        text = read_bytes(path).decode(errors="replace")
    except OSError:
        return {}
    found: dict[str, Any] = {}
    for name, value in _FLAG.findall(text):  # the first call trains, the others sample
        found.setdefault(name, _value(value))
    return found


def translate(
    summary: Mapping[str, Any], used: Mapping[str, Any], *, n_datasets: int, bin_ms: float | None = None
) -> LegacyParams:
    """Return params as ours.

    Parameters
    ----------
    summary : mapping
        What the run manager says of the params, by Matlab's names; empty where it does not.
    used : mapping
        The hyperparameters that LFADS trained with, by its names; empty where they are not known.
    n_datasets : int
        Of the run: the run manager multiplies ramps with it before it passes them on.
    bin_ms : float, optional
        What the user says.
    """
    if not summary and not used:
        return LegacyParams()
    found: dict[str, Any] = {"split": "periodic" if summary else "given"}
    other: dict[str, Any] = {}
    for name, value in summary.items():
        _put(found, other, name, value)
    notes = list(_from_lfads(found, other, used, scaled=n_datasets if summary else None))
    if summary:  # what it does not name has Matlab's defaults, not ours
        found = {**_DEFAULTS, **found}
    if bin_ms is not None:
        found["spike_bin_ms"] = bin_ms
    params, refused = _made(found)
    notes += [f"{name} = {found[name]!r} is not taken: {why}" for name, why in refused.items()]
    other |= {name: found[name] for name in refused}
    return LegacyParams(params, {**used, **summary}, other, tuple(notes))


# ---------------------------------------------------------------- values


def _value(text: str) -> Any:
    """Return a value as Matlab or a shell script writes it."""
    text = text.strip()
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _truth(value: Any) -> Any:
    return {"true": True, "false": False}.get(value, value) if isinstance(value, str) else value


def _put(found: dict[str, Any], other: dict[str, Any], name: str, value: Any) -> None:
    """Put a value of the run manager under our name, or where the others are."""
    known = BY_NAME.get(name)
    if known is None:
        if name in _OURS:  # a collection that we have written
            found[name] = value
        elif name not in RETIRED and not _NOT_OF_THE_MODEL.fullmatch(name.removeprefix("c_")):
            other[name] = value
    elif known.ours is None:
        if value not in (known.default, "{}"):
            other[name] = value
    elif known.ours == "alignment_method":
        if value in ALIGNMENT:
            found[known.ours] = ALIGNMENT[value]
        else:
            other[name] = value
    else:
        found[known.ours] = _ours(known.ours, value)


def _ours(name: str, value: Any) -> Any:
    every = name == "num_steps_for_gen_ic" and isinstance(value, int) and value >= ALL_STEPS
    return None if every else value


_DEFAULTS = {
    one.ours: ALIGNMENT.get(one.default, one.default) if one.kind == "char" else _ours(one.ours, one.default)
    for one in PROPERTIES
    if one.ours is not None
}


def _from_lfads(
    found: dict[str, Any], other: dict[str, Any], used: Mapping[str, Any], *, scaled: int | None
) -> list[str]:
    """Take what LFADS trained with; return in what it differs from what the run manager was told.

    Parameters
    ----------
    scaled : int or None
        What the ramps may have been multiplied with; None: there was no run manager.
    """
    notes = []
    for name, value in used.items():
        known = BY_NAME.get(f"c_{name}")
        if known is None:
            if name in _OURS:  # JSON has types that summary.txt has not
                found[name] = tuple(value) if isinstance(value, list) else value
            elif not _NOT_OF_THE_MODEL.fullmatch(name):
                other[name] = value
            continue
        if known.ours is None:
            continue
        if name == "num_steps_for_gen_ic":
            value = None if value >= used.get("num_steps", ALL_STEPS) else value
        if name not in found:
            found[name] = value
        elif not _same(found[name], value) and not (
            name in _RAMPS and scaled and _same(found[name] * scaled, value)
        ):
            notes.append(f"{name}: LFADS trained with {value!r}, the run manager was told {found[name]!r}")
            found[name] = value
    if scaled is None:
        found |= {"scale_increase_steps_with_datasets": False, "scale_start_step_with_datasets": False}
    return notes


def _same(told: Any, used: Any) -> bool:
    """Return whether two values are one, but for the six digits that the run manager shows of each."""
    numbers = all(isinstance(one, int | float) and not isinstance(one, bool) for one in (told, used))
    return math.isclose(told, used, rel_tol=2e-5) if numbers else bool(told == used)


def _made(values: Mapping[str, Any]) -> tuple[RunParams, dict[str, str]]:
    """Return run params with as many of the values as are valid here, and why the others are not."""
    try:
        return RunParams(**values), {}
    except LfadsrmError:
        pass
    params, refused = RunParams(), {}
    for name, value in values.items():
        try:
            params = params.replace(**{name: value})
        except LfadsrmError as error:
            refused[name] = error.what
    return params, refused
