"""Site descriptions: TOML files that say what holds on a machine, layered under what the user says."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from lfadsrm_hpc.errors import ConfigError, LfadsrmError, suggest
from lfadsrm_hpc.rendering import packaged_folder
from lfadsrm_hpc.schedulers.local import LocalQueueOptions

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_SECTIONS = ("site", "queue")
_SITE_KEYS = ("name", "scheduler", "description")


def load_site(name: str = "local", *, search: Sequence[Path] = ()) -> dict[str, dict[str, Any]]:
    """Read a site description.

    Parameters
    ----------
    name : str
        File stem; the first folder of `search` that has `<name>.toml` wins, then the packaged ones.
    search : sequence of Path, optional
        Folders with the user's own site files.

    Returns
    -------
    dict
        The sections `site` and `queue`.

    Raises
    ------
    ConfigError
        There is no such site, the file is not TOML, or it holds an unknown section or key.
    """
    with packaged_folder("site_configs") as packaged:
        folders = [*search, packaged]
        path = next((p for folder in folders if (p := folder / f"{name}.toml").is_file()), None)
        if path is None:
            known = sorted({p.stem for folder in folders for p in folder.glob("*.toml")})
            raise ConfigError(
                f"there is no site {name!r}; the sites are: {', '.join(known)}", hint=suggest(name, known)
            )
        try:
            content = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"this site file is not valid TOML: {error}", where=path) from error
        _refuse_unknown(content, _SECTIONS, "section", path)
        for section in content:
            if not isinstance(content[section], dict):
                raise ConfigError(f"{section!r} must be a section, [{section}]", where=path)
        _refuse_unknown(content.get("site", {}), _SITE_KEYS, "key in [site]", path)
        _refuse_unknown(content.get("queue", {}), _option_names(), "key in [queue]", path)
    return {section: dict(content.get(section, {})) for section in _SECTIONS}


def queue_options(
    explicit: Mapping[str, Any] | None = None,
    *,
    site: str = "local",
    search: Sequence[Path] = (),
    where: object = None,
) -> LocalQueueOptions:
    """Return the options of a local queue: the site's, and over them those that the user gave.

    Parameters
    ----------
    explicit : mapping, optional
        Options by name; None as a value means "not said" and leaves the site's.
    site, search
        See `load_site`.
    where : object, optional
        Where `explicit` comes from, for messages.

    Raises
    ------
    ConfigError
        An option is unknown (the message suggests the nearest), or a value has the wrong type or range.
    """
    given = {name: value for name, value in (explicit or {}).items() if value is not None}
    _refuse_unknown(given, _option_names(), "option of the local queue", where)
    values = load_site(site, search=search)["queue"] | given
    for name, value in values.items():
        if isinstance(value, list):
            values[name] = tuple(value)
    try:
        return LocalQueueOptions(**values)
    except LfadsrmError as error:
        raise ConfigError(error.what, where=where or f"site {site!r}", hint=error.hint) from error


def _option_names() -> list[str]:
    return [field.name for field in fields(LocalQueueOptions)]


def _refuse_unknown(values: Mapping[str, Any], known: Sequence[str], kind: str, where: object) -> None:
    for name in values:
        if name not in known:
            hint = suggest(name, known) or f"known are: {', '.join(known)}"
            raise ConfigError(f"{name!r} is not a {kind}", where=where, hint=hint)
