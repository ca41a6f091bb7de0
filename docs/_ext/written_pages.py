"""Pages that are made from the package, so that they cannot drift: hyperparameters, and the tree of errors.

python docs/_ext/written_pages.py        writes docs/reference/hyperparameters.md and errors.md again
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

from lfadsrm_hpc import errors
from lfadsrm_hpc.collection.param_groups import GROUPS, USERS
from lfadsrm_hpc.collection.params import RunParams
from lfadsrm_hpc.model.hyperparameters import FieldSpec, defaults, specs
from lfadsrm_hpc.results.legacy.matlab_params import OUR_NAMES

FOLDER = Path(__file__).resolve().parents[1] / "reference"

KINDS = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "a text", "other": ""}
HASHES = {"model": "params", "data": "params, data", "nothing": "none"}
HEAD = "<!-- written by python docs/_ext/written_pages.py: change what it reads, not this page -->"


def hyperparameters() -> str:
    """Return the page of all hyperparameters, group by group."""
    parts = [
        "# Hyperparameters",
        HEAD,
        f"All {len(specs(RunParams))} attributes of `RunParams`: keys of `[params]` in `experiment.toml` and "
        "names for `--match`. `RunParams().describe()` and `lfadsrm show --params` say the same.",
        "*Matlab* is the name in the Matlab run manager; `c_` there stands for the same name with `c_` before"
        " it, as the run manager writes what it passes on to the original LFADS program. Our names may be"
        " given with `c_` too. *Hash* tells which folder names a value is part of, where it differs from the"
        " default: `param_<hash>`, or also `data_<hash>` of the inputs.",
    ]
    known, given = specs(RunParams), defaults(RunParams)
    groups: dict[str, list[str]] = {group: [] for group in GROUPS if group != USERS}
    for name, spec in known.items():
        groups[spec.group].append(_row(name, spec, given[name]))
    for group, rows in groups.items():
        head = ["| name | default | values | meaning | Matlab | hash |", "|---|---|---|---|---|---|"]
        parts += [f"## {group}", "\n".join([*head, *rows])]
    return "\n\n".join(parts) + "\n"


def _row(name: str, spec: FieldSpec, default: Any) -> str:
    allowed = [spec.range_text() if spec.choices else f"{KINDS[spec.kind]} {spec.range_text()}".strip()]
    if spec.optional:
        allowed.append("or None")
    unit = f" ({spec.unit})" if spec.unit else ""
    matlab = OUR_NAMES.get(name)
    theirs = "" if matlab is None else "`c_`" if matlab.name == f"c_{name}" else f"`{matlab.name}`"
    values = " ".join(part for part in allowed if part).replace("'", "`")
    values = values.replace(f"{2**63 - 1:g}", "2^63 - 1")  # the largest seed
    cells = [f"`{name}`", f"`{default!r}`{unit}", values, _cell(spec.doc), theirs, HASHES[spec.affects]]
    return "| " + " | ".join(cells) + " |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*").replace("_", "\\_")


def tree_of_errors() -> str:
    """Return the page of errors and warnings: the tree with exit codes, then each with its attributes."""
    parts = [
        "# Errors and warnings",
        HEAD,
        "Every error that this package raises on purpose is a `LfadsrmError`: what is wrong, where, and what"
        " to do next. The code is what the command line exits with ([all codes](../manifest.md#exit-codes)).",
    ]
    rows = ["| error | code | meaning |", "|---|---|---|"]
    rows += [_error_row(one, depth) for one, depth in _tree(errors.LfadsrmError)]
    parts.append("\n".join(rows))
    rows = ["| warning | meaning |", "|---|---|"]
    rows += [f"| {_name(one, depth)} | {_first(one)} |" for one, depth in _tree(errors.LfadsrmWarning)]
    parts += ["\n".join(rows), "## Each of them"]
    every = [*_tree(errors.LfadsrmError), *_tree(errors.LfadsrmWarning)]
    parts.append(f"<!-- names lfadsrm_hpc.errors: {' '.join(one.__name__ for one, _ in every)} -->")
    return "\n\n".join(parts) + "\n"


def _tree(top: type[Any], depth: int = 0) -> list[tuple[type[Any], int]]:
    below = [one for one in top.__subclasses__() if one.__module__ == errors.__name__]
    return [(top, depth)] + [pair for one in below for pair in _tree(one, depth + 1)]


def _error_row(one: type[errors.LfadsrmError], depth: int) -> str:
    return f"| {_name(one, depth)} | {one.exit_code} | {_first(one)} |"


def _name(one: type, depth: int) -> str:
    also = [base.__name__ for base in one.__bases__ if base.__module__ == "builtins" and depth]
    more = f" (also a `{also[0]}`)" if also and issubclass(one, Exception) and also[0] != "Exception" else ""
    return "&ensp;" * 2 * depth + f"`{one.__name__}`{more}"


def _first(one: type) -> str:
    return _cell(re.split(r"\n\n", inspect.getdoc(one) or "")[0].replace("\n", " "))


PAGES = {"hyperparameters.md": hyperparameters, "errors.md": tree_of_errors}

if __name__ == "__main__":
    for name, page in PAGES.items():
        (FOLDER / name).write_text(page())
