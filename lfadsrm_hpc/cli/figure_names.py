"""How `lfadsrm plot` names a file: by all that was asked for, so that no figure replaces another one."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

_LONGEST = 150  # bytes; file systems take 255, and there is a suffix
_BARE = ("spec", "match", "dataset")  # whose values say themselves what they are


def figure_name(
    kind: str, run_id: str | None, given: Mapping[str, Sequence[Any]], *, style: str = "light"
) -> str:
    """Return a name that figures of other runs, neurons, conditions, ... do not have.

    Parameters
    ----------
    kind : str
        Of the figure.
    run_id : str or None
        Of the only run that is shown; None: there are several.
    given : mapping of str to sequence
        The options that say what is shown, by their names; those without values are left out.
    style : str
        Named where it is not the usual one.
    """
    parts = [kind]
    if run_id is not None:
        parts.append(run_id.removeprefix("param_").replace("/", "_"))
    for option in _BARE:
        parts += [str(value) for value in given.get(option, ())]
    for option in sorted(given.keys() - set(_BARE)):  # not as they were typed: that draws the same
        parts += [f"{option}-{value}" for value in given[option]]
    parts += [style] if style != "light" else []
    name = "".join(c if c.isprintable() and c != "/" else "-" for c in "_".join(parts)).strip()
    if len(name.encode()) <= _LONGEST:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{name.encode()[:_LONGEST].decode(errors='ignore').strip()}_{digest}"
