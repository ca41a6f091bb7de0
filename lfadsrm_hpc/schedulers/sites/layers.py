"""Where sites are described: the folders, the files in them, and how one is laid over another."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lfadsrm_hpc.errors import ConfigError, suggest
from lfadsrm_hpc.plain_files import read_bytes
from lfadsrm_hpc.rendering import packaged_folder
from lfadsrm_hpc.schedulers.sites.checks import check_values
from lfadsrm_hpc.schedulers.sites.schema import (
    PARTITIONS,
    QUEUE,
    Content,
    check_shape,
    keys_of,
    table_classes,
)
from lfadsrm_hpc.toml_lines import point
from lfadsrm_hpc.trust import require_file, user_folder

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PACKAGED, SYSTEM, USER, PROJECT = "packaged", "system", "user", "project"
SYSTEM_VARIABLE = "LFADSRM_SITE_PATH"
FOLDER = "site_configs"
SET = "--set"

# Of a site that another extends: its own name and the signs of its own machine are not handed on.
_OWN = {"name", "description", "cluster", "documentation", "verified"}


@dataclass(frozen=True)
class Folder:
    """A folder with site files.

    Attributes
    ----------
    path : Path
    layer : str
        "packaged", "system", "user" or "project".
    """

    path: Path
    layer: str


@dataclass(frozen=True)
class Layer:
    """One file of a site, or one `--set`, checked.

    Attributes
    ----------
    origin : str
        The file's path, or "--set".
    content : dict
        Tables with keys.
    path : Path or None
    kind : str
        "packaged", "system", "user", "project" or "--set".
    """

    origin: str
    content: Content
    path: Path | None = None
    kind: str = SET


@contextmanager
def site_folders(project: Path | None = None, search: Sequence[Path] = ()) -> Iterator[list[Folder]]:
    """Give the folders with site files, the weakest first; those that do not exist are left out.

    Parameters
    ----------
    project : Path or None
        The folder whose `site_configs` belong to it.
    search : sequence of Path
        Further folders, stronger than all others; the first is the strongest.
    """
    with packaged_folder(FOLDER) as packaged:
        # As in PATH, the folder that is named first wins.
        system = [Path(one) for one in os.environ.get(SYSTEM_VARIABLE, "").split(os.pathsep) if one]
        found = [
            Folder(packaged, PACKAGED),
            *(Folder(path, SYSTEM) for path in reversed(system)),
            Folder(user_folder() / FOLDER, USER),
            *([Folder(project / FOLDER, PROJECT)] if project is not None else []),
            *(Folder(path, PROJECT) for path in reversed(search)),
        ]
        # In a clone, the packaged folder may be that of the project as well: it is read once.
        seen: dict[Path, Folder] = {}
        for folder in found:
            if folder.path.is_dir():
                seen.setdefault(folder.path.resolve(), folder)
        yield list(seen.values())


def template_folders(project: Path | None = None) -> tuple[Path, ...]:
    """Return where templates are searched before the packaged ones: the project's folder, then the user's."""
    user = user_folder() / "templates"
    return (user,) if project is None else (project / "templates", user)


def site_names(folders: Sequence[Folder]) -> list[str]:
    """Return the names of all sites, sorted."""
    return sorted({path.stem for folder in folders for path in folder.path.glob("*.toml")})


def read_layers(name: str, folders: Sequence[Folder], *, trail: tuple[str, ...] = ()) -> list[Layer]:
    """Return the files of a site, the weakest first, after those of the site that it extends.

    Raises
    ------
    ConfigError
        There is no such site, a file is invalid, or sites extend each other in a circle.
    UntrustedError
        The user has not trusted a file of the project.
    """
    found = [(folder.path / f"{name}.toml", folder.layer) for folder in folders]
    layers = [Layer(str(path), _read(path, kind), path, kind) for path, kind in found if path.is_file()]
    if not layers:
        known = site_names(folders)
        hint = suggest(name, known) or "describe it: `lfadsrm site init NAME`"
        raise ConfigError(f"there is no site {name!r}; the sites are: {', '.join(known)}", hint=hint)
    base = next((layer for layer in reversed(layers) if "extends" in layer.content), None)
    if base is None:
        return layers
    extended = base.content["extends"]
    if extended in (*trail, name):
        circle = " -> ".join([*trail, name, extended])
        hint = "a file of the same name is laid over the packaged one as it is, without `extends`"
        raise ConfigError(f"this site extends itself: {circle}", where=base.origin, hint=hint)
    below = read_layers(extended, folders, trail=(*trail, name))
    return [*(_handed_on(layer) for layer in below), *layers]


def _handed_on(layer: Layer) -> Layer:
    content = {table: keys for table, keys in layer.content.items() if table != "recognise"}
    if "site" in content:
        content["site"] = {key: value for key, value in content["site"].items() if key not in _OWN}
    return replace(layer, content=content)


def _read(path: Path, kind: str) -> Content:
    try:
        return _checked(path, kind)
    except ConfigError as error:
        point(error, path)
        raise


def _checked(path: Path, kind: str) -> Content:
    content = check_shape(parse(path, project=kind == PROJECT), path)
    check_values(content, path)
    named = content.get("site", {}).get("name", path.stem)
    if named != path.stem:
        raise ConfigError(
            f"this file says that it is the site {named!r}",
            where=path,
            hint=f"a site is named by its file: call it {named}.toml, or leave the name out",
        )
    return content


def parse(path: Path, *, project: bool = False) -> dict[str, Any]:
    """Read a site file; with `project` it must be one that the user has trusted.

    Raises
    ------
    ConfigError
        It cannot be read, or is no TOML.
    UntrustedError
    """
    try:
        data = read_bytes(path)
    except OSError as error:
        raise ConfigError(f"the file cannot be read: {error.strerror}", where=path) from None
    if project:
        require_file(path, data, "a site file")
    try:
        return tomllib.loads(data.decode("utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"this site file is not valid TOML: {error}", where=path) from None
    except RecursionError:
        raise ConfigError("this site file is not valid TOML: it nests too deeply", where=path) from None


def set_layers(sets: Sequence[str]) -> list[Layer]:
    """Return what `--set KEY=VALUE` says, each as a layer of its own.

    KEY is `table.key` or `partitions.NAME.key`. VALUE is a TOML value; a bare word is a text.

    Raises
    ------
    ConfigError
        One is no `KEY=VALUE`, or names what is no key, or the value has the wrong type.
    """
    return [Layer(SET, _set_content(text)) for text in sets]


def _set_content(text: str) -> Content:
    where = f"{SET} {text}"
    name, equals, value = text.partition("=")
    path = _key_path(name.strip())
    if not equals or len(path) < 2:
        raise ConfigError(
            f"{text!r} is not KEY=VALUE",
            where=SET,
            hint="such as --set options.account=lab",
        )
    if path[:2] == ["site", "name"]:
        raise ConfigError("the name of a site cannot be set", where=where, hint="choose another site")
    content: Any = _set_value(value.strip(), _kind(path))
    for key in reversed(path):
        content = {key: content}
    checked = check_shape(content, where)
    check_values(checked, where)
    return checked


def _key_path(name: str) -> list[str]:
    """Split `table.key` as TOML does, so that a name with a dot can be quoted."""
    try:
        inner: Any = tomllib.loads(f"{name} = 0") if "\n" not in name else {}
    except tomllib.TOMLDecodeError:
        return []
    path = []
    while isinstance(inner, dict) and len(inner) == 1:
        ((key, inner),) = inner.items()
        path.append(key)
    return path


def _kind(path: Sequence[str]) -> str:
    """Return the type of a key, or "" where there is no such key."""
    table, key = path[0], path[2 if path[0] == PARTITIONS else 1 :]
    if table == QUEUE or table not in table_classes() or not key:
        return ""
    known = keys_of(table).get(key[0])
    if known is None:
        return ""
    return "str" if known.kind == "Mapping[str, str]" and len(key) == 2 else known.kind


def _set_value(text: str, kind: str) -> Any:
    try:
        value = tomllib.loads(f"value = {text}")["value"] if "\n" not in text else text
    except tomllib.TOMLDecodeError:
        value = text
    if kind.startswith("str") and not isinstance(value, str):
        return text  # an account may be a number
    return [value] if kind == "tuple[str, ...]" and isinstance(value, str) else value


def merge(layers: Sequence[Layer]) -> tuple[Content, dict[str, str]]:
    """Lay all layers over each other, key by key.

    Returns
    -------
    content : dict
        Tables with keys.
    origins : dict
        Where each key comes from: "limits.jobs", "partitions.gpu.max_walltime" -> `Layer.origin`.
    """
    content: Content = {}
    origins: dict[str, str] = {}
    for layer in layers:
        _lay_over(content, origins, layer.content, layer.origin, ())
    return content, origins


def _lay_over(
    content: Content, origins: dict[str, str], over: Mapping[str, Any], origin: str, path: tuple[str, ...]
) -> None:
    for key, value in over.items():
        here = (*path, key)
        if isinstance(value, Mapping):
            _lay_over(content.setdefault(key, {}), origins, value, origin, here)
        else:
            content[key] = value
            origins[".".join(here)] = origin
