"""What is odd about a session: a text that users read, with a name by which they can silence it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lfadsrm_hpc.errors import UsageError, suggest

if TYPE_CHECKING:
    import numpy.typing as npt

WARNING_NAMES = (
    "silent_neurons",
    "rare_neurons",
    "vanishing_neurons",
    "drifting_rates",
    "unequal_trials",
    "coincident_neurons",
    "narrow_bins",
    "wide_bins",
    "few_trials",
    "few_shared_conditions",
    "window_starts",
)
_MOST_NAMES = 20


class Note(str):
    """A warning about one session; it is the text, and knows more.

    Attributes
    ----------
    name : str
        One of `WARNING_NAMES`.
    dataset : str
    neurons : tuple of str
        Those that it is about.
    numbers : dict of str to float
        What was measured.
    """

    name: str
    dataset: str
    neurons: tuple[str, ...]
    numbers: Mapping[str, float]

    def __new__(
        cls,
        name: str,
        dataset: str,
        text: str,
        *,
        neurons: Iterable[object] = (),
        numbers: Mapping[str, float] | None = None,
    ) -> Note:
        assert name in WARNING_NAMES
        note = super().__new__(cls, f"dataset {dataset!r}: {text} [{name}]")
        note.name, note.dataset = name, dataset
        note.neurons = tuple(str(one) for one in neurons)
        note.numbers = dict(numbers or {})
        return note

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {
            "name": self.name,
            "dataset": self.dataset,
            "neurons": list(self.neurons),
            "numbers": dict(self.numbers),
            "text": str(self),
        }


def check_names(names: Sequence[str]) -> tuple[str, ...]:
    """Return names of warnings that are to be silenced, if there are such.

    Raises
    ------
    UsageError
        There is no such warning; the nearest is suggested.
    """
    if isinstance(names, str):
        names = [names]
    for name in names:
        if name not in WARNING_NAMES:
            raise UsageError(
                f"there is no warning {name!r} to silence",
                hint=suggest(name, WARNING_NAMES) or f"there are: {', '.join(WARNING_NAMES)}",
            )
    return tuple(names)


def is_silenced(text: str, silenced: Sequence[str]) -> bool:
    """Return whether a warning is one of those that the user does not want."""
    return isinstance(text, Note) and text.name in silenced


def joined(names: Sequence[object] | npt.NDArray[Any], separator: str = ", ") -> str:
    """Return the first so many of some names as a text."""
    rest = len(names) - _MOST_NAMES
    text = separator.join(str(name) for name in names[:_MOST_NAMES])
    return f"{text} and {rest} more" if rest > 0 else text
