"""What the documentation adds to Sphinx: the reference, links of names, and the picture of the house."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import command_pages
import house_picture
import numpy as np
import numpy.typing as npt
import public_names
from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.typing import stringify_annotation

from lfadsrm_hpc.model.hyperparameters import Hyperparameters

# Their names stand in signatures; they are documented elsewhere, and building asks no other server.
ELSEWHERE = {
    "argparse", "click", "collections", "datetime", "enum", "matplotlib", "np", "npt", "numpy", "os",
    "pandas", "pathlib", "pd", "random", "submitit", "tensorflow", "tf", "typing", "xarray", "xr",
    "Axes", "Figure", "Path", "SubFigure",
}  # fmt: skip
# Types of ours that a signature may name and that users need not know: unions, protocols, paths on disk.
INSIDE = {
    "AdaptedLayout", "Architecture", "Array", "Chunks", "Claim", "Collection", "CollectionLayout", "Data",
    "Draft", "Extra", "Floats", "Handed", "Home", "Judged", "Kept", "LegacyCollectionLayout",
    "LegacyInputs", "LegacyRunLayout", "Names", "OnBlock", "Owner", "Packed", "Point", "Process",
    "Reconstruction",
    "RunLayout", "SentJob", "Site", "Source", "Summary", "Which", "Wish",
}  # fmt: skip
_NO_NAME = re.compile(r"(.*\.)?[A-Z]|\w+\[.*")  # a variable of types, a part of a longer annotation


# Pages that lie above this folder, and what stands for them here.
_ABOVE = {"README": "index", "CHANGELOG": "changelog"}


def fill(app: Sphinx, page: str, source: list[str]) -> None:
    """Put what the comments of a page name in their place, and keep links inside of the site."""
    for there, here in _ABOVE.items():
        source[0] = re.sub(rf"\]\((?:\.\./)+{there}\.md(?:#[\w-]+)?\)", f"](/{here}.md)", source[0])
    # What is left for readers of the source, or of the tests, would make a gap on the page.
    source[0] = re.sub(r"^<!-- (?!commands|class |names )[^\n]* -->$", "", source[0], flags=re.MULTILINE)
    if page == "index":
        source[0] = without_empty_patterns(source[0], Path(app.srcdir))
    if page.startswith("reference/"):
        source[0] = public_names.filled(source[0]).replace("<!-- commands -->", command_pages.reference())


def without_empty_patterns(text: str, folder: Path) -> str:
    """Return the first page without patterns that no further page fits; Sphinx would warn of them."""
    named = set(re.findall(r"^[\w/]+$", text, re.M))

    def is_empty(line: str) -> bool:
        if not re.fullmatch(r"[\w/]+\*", line):
            return False
        found = {path.relative_to(folder).with_suffix("").as_posix() for path in folder.glob(line)}
        return not {name for name in found if Path(folder, f"{name}.md").is_file()} - named

    return "\n".join(line for line in text.split("\n") if not is_empty(line))


def resolve(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, shown: nodes.TextElement
) -> nodes.Element | None:
    """Resolve names of Python that Sphinx does not find.

    Those between single backticks in docstrings are often no names of the reference: they are shown as code.
    A class that is shown under a shorter name than that of its module is found by it.
    """
    if node.get("refdomain") != "py":
        return None
    target: str = node["reftarget"]
    home = _HOMES.get(target)
    if home is not None:
        domain = env.domains["py"]
        return domain.resolve_xref(env, node["refdoc"], app.builder, node["reftype"], home, node, shown)
    names = {target.split(".")[0], *target.split(".")[-1:]}
    if node["reftype"] == "obj" or names & ELSEWHERE or names & INSIDE or _NO_NAME.fullmatch(target):
        return shown
    return None


def plain(app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Let types such as `callable (path, **options)`, and names that begin with a dot, be what they are."""
    for number, line in enumerate(lines):
        line = re.sub(r"(?<=[(, ])\*\*(?=\w+\))", r"\*\*", line)
        lines[number] = re.sub(r"(?<!`)`(\.\w[^`]*)`(?!`)", r"``\1``", line)


def shorter(
    app: Sphinx, what: str, name: str, thing: Any, options: Any, signature: str | None, returned: str | None
) -> tuple[str | None, str | None] | None:
    """Write types of numpy as the code does, not the unions that they stand for."""
    if signature is None:
        return None
    if what == "class" and issubclass(thing, Hyperparameters):  # they have a page of their own
        return "(**hyperparameters)", None
    signature = signature.replace(
        "<factory>", "..."
    )  # made anew for each object; it cannot be read as a value
    for long, short in _LONG.items():
        signature = signature.replace(long, short)
        returned = returned.replace(long, short) if returned else returned
    for alias, meant in _NAMES.items():
        signature = re.sub(rf"(?<![\w.]){alias}(?!\w)", meant, signature)
    return signature, returned


_TYPES = {
    "npt.ArrayLike": npt.ArrayLike,
    "npt.NDArray[Any]": npt.NDArray[Any],
    "npt.NDArray[np.float32]": npt.NDArray[np.float32],
    "npt.NDArray[np.float64]": npt.NDArray[np.float64],
    "npt.NDArray[np.int64]": npt.NDArray[np.int64],
    "npt.NDArray[np.bool_]": npt.NDArray[np.bool_],
}
# Aliases of single modules, which a reader of a signature cannot look up.
_NAMES = {
    "Chunks": "Mapping[str, int] | str | None",
    "Data": "Dataset | xr.Dataset | str | os.PathLike[str] | npt.ArrayLike",
    "Names": "str | Iterable[str]",
    "OnBlock": "Callable[[int, int], None]",
    "Which": "int | str",
}
_LONG = {stringify_annotation(what, "smart"): name for name, what in _TYPES.items()}
_HOMES: dict[str, str] = {}


def gather(app: Sphinx) -> None:
    """Learn under which names the reference shows what signatures name."""
    _HOMES.update(public_names.homes())


def draw_house(app: Sphinx, error: Exception | None) -> None:
    """Put the picture with numbers of files and lines in place of the one that is committed."""
    copied = Path(app.outdir) / "_images" / house_picture.PICTURE.name
    if error is None and copied.is_file():
        house_picture.write(copied, numbers=True)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register all this."""
    app.connect("builder-inited", gather)
    app.connect("source-read", fill)
    app.connect("autodoc-process-docstring", plain, priority=400)  # before numpydoc's own
    app.connect("autodoc-process-signature", shorter)
    app.connect("missing-reference", resolve)
    app.connect("build-finished", draw_house)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
