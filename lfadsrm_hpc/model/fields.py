"""What a hyperparameter is: its description, its check, and the class machinery that names wrong ones."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import math
import numbers
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from lfadsrm_hpc.errors import ParamsError, suggest

Kind = Literal["int", "float", "bool", "str", "other"]
Affects = Literal["model", "data", "nothing"]


@dataclass(frozen=True)
class FieldSpec:
    """The description of one hyperparameter, kept in the metadata of its dataclass field.

    Attributes
    ----------
    kind : str
        `int`, `float`, `bool`, `str`, or `other` (not checked here).
    doc : str
        One sentence.
    group : str
        The heading under which it is shown.
    unit : str
        Empty when it has none.
    low, high : float or None
        Bounds.
    low_open, high_open : bool
        The bound itself is not permitted.
    choices : tuple of str
        The permitted words; empty when there is no such list.
    optional : bool
        Whether None is permitted.
    affects : {"model", "data", "nothing"}
        What a change of it changes: the trained model, the input files and so the model too, or
        neither (then it does not enter any hash).
    check : callable or None
        Gets the value, returns the value to keep; raises ValueError with a reason.
    """

    kind: Kind
    doc: str
    group: str
    unit: str = ""
    low: float | None = None
    high: float | None = None
    low_open: bool = False
    high_open: bool = False
    choices: tuple[str, ...] = ()
    optional: bool = False
    affects: Affects = "model"
    check: Callable[[Any], Any] | None = None

    def range_text(self) -> str:
        """Return the permitted values as words, '' when everything is."""
        if self.choices:
            return "one of " + ", ".join(repr(choice) for choice in self.choices)
        parts = []
        if self.low is not None:
            parts.append(f"{'above' if self.low_open else 'at least'} {self.low:g}")
        if self.high is not None:
            parts.append(f"{'below' if self.high_open else 'at most'} {self.high:g}")
        return " and ".join(parts)


def param(
    default: Any, doc: str, *, kind: Kind = "other", group: str = "Added by the user", **more: Any
) -> Any:
    """Declare a hyperparameter of a dataclass; `more` are the other attributes of `FieldSpec`.

    Parameters
    ----------
    default : object
    doc : str
        What it is, in one sentence.
    kind : {"int", "float", "bool", "str", "other"}
    group : str
        The heading under which it is shown.
    **more
        `unit`, `low`, `high`, `choices`, `optional`, `affects`, `check`, ...

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> from lfadsrm_hpc.model.hyperparameters import Hyperparameters
    >>> @dataclass(frozen=True, kw_only=True)
    ... class Mine(Hyperparameters):
    ...     threshold_uv: float = param(40.0, "Spike threshold.", kind="float", unit="uV", low=0)
    >>> Mine(threshold_uv=55).threshold_uv
    55.0
    """
    return dataclasses.field(default=default, metadata={"spec": FieldSpec(kind, doc, group, **more)})


@functools.cache
def specs(cls: type) -> Mapping[str, FieldSpec]:
    """Return the description of each constructor field of a dataclass, in order of declaration."""
    plain = FieldSpec("other", "", "Added by the user")
    found = {f.name: f.metadata.get("spec", plain) for f in dataclasses.fields(cls) if f.init}
    return MappingProxyType(found)


def defaults(cls: type) -> dict[str, Any]:
    """Return the default of each constructor field of a dataclass."""
    found: dict[str, Any] = {}
    for f in dataclasses.fields(cls):
        if f.init and f.default is not dataclasses.MISSING:
            found[f.name] = f.default
        elif f.init and f.default_factory is not dataclasses.MISSING:
            found[f.name] = f.default_factory()
    return found


def coerce(name: str, value: Any, spec: FieldSpec) -> Any:
    """Return `value` as the type of its field.

    Numpy scalars become Python numbers, whole floats integers where an integer is wanted, and
    integers floats where a float is wanted.

    Raises
    ------
    ParamsError
        Wrong type, or out of range.
    """
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        value = value.item()
    if value is None and spec.optional:
        return None
    try:
        value = _of_kind(value, spec)
        if spec.check is not None:
            value = spec.check(value)
    except ValueError as error:
        meaning = f" ({spec.doc.rstrip('.')})" if spec.doc else ""
        raise ParamsError(f"{name} = {value!r}: {error}{meaning}") from None
    return value


def _of_kind(value: Any, spec: FieldSpec) -> Any:
    number = type(value) in (int, float) or (
        isinstance(value, numbers.Real) and not isinstance(value, bool)  # slower, and seldom needed
    )
    if spec.kind == "bool":
        if not isinstance(value, bool):
            raise ValueError("must be True or False")
    elif spec.kind == "str":
        if not isinstance(value, str):
            raise ValueError(f"must be a text{_and_range(spec)}")
        if spec.choices and value not in spec.choices:
            near = suggest(value, spec.choices)
            raise ValueError(f"must be {spec.range_text()}" + (f"; {near}" if near else ""))
    elif spec.kind == "int":
        if not number or not math.isfinite(value) or value != int(value):
            raise ValueError(f"must be a whole number{_and_range(spec)}")
        value = int(value)
    elif spec.kind == "float":
        if not number or not math.isfinite(value):
            raise ValueError(f"must be a finite number{_and_range(spec)}")
        value = float(value)
    if spec.kind in ("int", "float") and _outside(value, spec):
        raise ValueError(f"must be {spec.range_text()}")
    return value


def _and_range(spec: FieldSpec) -> str:
    wanted = spec.range_text()
    return f", {wanted}" if wanted else ""


def _outside(value: float, spec: FieldSpec) -> bool:
    if spec.low is not None and (value <= spec.low if spec.low_open else value < spec.low):
        return True
    if spec.high is None:
        return False
    return value >= spec.high if spec.high_open else value > spec.high


def plain_name(name: str, known: Collection[str]) -> str:
    """Return the field that `name` stands for: itself, or the one that `c_<field>` means.

    The prefix `c_` marks, in the Matlab run manager, what is passed on to the LFADS program.

    Raises
    ------
    ParamsError
        No field has that name; the message names the nearest one.
    """
    if name in known:
        return name
    bare = name[2:] if name.startswith("c_") else name
    if bare in known:
        return bare
    snake = re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", bare).lower()
    hint = f"did you mean {snake!r}?" if snake in known else suggest(snake, sorted(known))
    raise ParamsError(
        f"there is no hyperparameter {name!r}", hint=hint or "RunParams().describe() lists the names"
    )


def plain_names(values: Mapping[str, Any], known: Collection[str]) -> dict[str, Any]:
    """Return `values` under the names of the fields.

    Raises
    ------
    ParamsError
        An unknown name, or one field named twice (`c_gen_dim` and `gen_dim`).
    """
    found: dict[str, Any] = {}
    for name, value in values.items():
        plain = plain_name(name, known)
        if plain in found:
            raise ParamsError(f"{plain} is given twice", hint=f"give either {plain} or c_{plain}")
        found[plain] = value
    return found


class CheckedNames(type):
    """Metaclass by which a wrong keyword is a `ParamsError` that names the right one.

    A dataclass makes its own `__init__`, which would raise a bare TypeError, and knows no aliases.
    """

    def __call__(cls, *args: Any, **values: Any) -> Any:
        if inspect.get_annotations(cls) and "__dataclass_fields__" not in cls.__dict__:
            raise ParamsError(
                f"the class {cls.__name__} adds fields but is not a dataclass",
                hint="write @dataclass(frozen=True, kw_only=True) above it",
            )
        if args:
            raise ParamsError(
                f"{cls.__name__} takes hyperparameters by name", where=args[0], hint="write name=value"
            )
        return super().__call__(**plain_names(values, specs(cls)))
