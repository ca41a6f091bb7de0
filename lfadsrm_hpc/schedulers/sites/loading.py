"""Sites: load one with all its layers, choose one, and what others need of them.

A site is described by TOML files of its name (schema: `site.py`), each laid over the one before, key by key:
packaged, system (the folders in LFADSRM_SITE_PATH), user (`~/.config/lfadsrm/site_configs`), project
(`<project>/site_configs`), `--set`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lfadsrm_hpc.errors import ConfigError, LfadsrmError
from lfadsrm_hpc.schedulers.local import LocalQueueOptions
from lfadsrm_hpc.schedulers.sites.checks import check_site, check_values
from lfadsrm_hpc.schedulers.sites.detection import Detected, detect_sites
from lfadsrm_hpc.schedulers.sites.layers import (
    PACKAGED,
    Folder,
    merge,
    read_layers,
    set_layers,
    site_folders,
    site_names,
    template_folders,
)
from lfadsrm_hpc.schedulers.sites.requests import build_request
from lfadsrm_hpc.schedulers.sites.schema import (
    check_shape,
    make_site,
    plain,
    queue_keys,
    refuse_unknown,
    without_none,
)
from lfadsrm_hpc.schedulers.sites.site import Site

__all__ = [
    "Detected",
    "LoadedSite",
    "build_request",
    "choose_site",
    "cluster_here",
    "detect_sites",
    "list_sites",
    "load_site",
    "project_of",
    "queue_options",
    "site_from_settings",
    "to_settings",
]

SITE_VARIABLE = "LFADSRM_SITE"
DEFAULT = "default"


class _NowhereError(ConfigError):
    """No site is named, and this machine looks like none."""


@dataclass(frozen=True)
class LoadedSite:
    """A site, all layers merged.

    Attributes
    ----------
    site : Site
    origins : dict of str to str
        Where each key that is said comes from ("partitions.gpu.max_walltime" -> a file or "--set").
    templates : tuple of Path
        Where templates are searched before the packaged ones: the project's folder, then the user's.
    files : tuple of Path
        The files that were read, the weakest first.
    layer : str
        Where the strongest of the site's own files lies: "packaged", "system", "user" or "project".
    """

    site: Site
    origins: Mapping[str, str]
    templates: tuple[Path, ...] = ()
    files: tuple[Path, ...] = ()
    layer: str = PACKAGED

    def origin(self, key: str) -> str:
        """Return where a key comes from; "default" for one that no layer says.

        Of a table of texts ("environment.variables") each text may come from another place: all are named.
        """
        inside = [origin for name, origin in self.origins.items() if name.startswith(f"{key}.")]
        return self.origins.get(key) or ", ".join(dict.fromkeys(inside)) or DEFAULT


def load_site(name: str, *, project: Path | None = None, sets: Sequence[str] = ()) -> LoadedSite:
    """Load a site, all layers merged and checked.

    Parameters
    ----------
    name : str
        The stem of its files.
    project : Path, optional
        The folder of the experiment, see `project_of`.
    sets : sequence of str
        `KEY=VALUE`, over all files.

    Raises
    ------
    ConfigError
        There is no such site (the nearest is suggested), or a file or `--set` says what cannot be; the
        message names the file and the key.
    """
    with site_folders(project) as folders:
        return _load(name, folders, sets, template_folders(project))


def _load(
    name: str, folders: Sequence[Folder], sets: Sequence[str] = (), templates: tuple[Path, ...] = ()
) -> LoadedSite:
    layers = [*read_layers(name, folders), *set_layers(sets)]
    content, origins = merge(layers)
    content.pop("extends", None)
    content.setdefault("site", {})["name"] = name
    site = make_site(content)
    check_site(site, origins)
    read = [(layer.path, layer.kind) for layer in layers if layer.path is not None]
    own = [kind for path, kind in read if path.stem == name]
    return LoadedSite(site, origins, templates, tuple(path for path, _ in read), own[-1])


def list_sites(project: Path | None = None) -> dict[str, LoadedSite | ConfigError]:
    """Return all sites by name; for one that is invalid, what is wrong with it."""
    found: dict[str, LoadedSite | ConfigError] = {}
    with site_folders(project) as folders:
        for name in site_names(folders):
            try:
                found[name] = _load(name, folders, (), template_folders(project))
            except ConfigError as error:
                found[name] = error
    return found


def choose_site(name: str | None, *, project: Path | None = None, sets: Sequence[str] = ()) -> LoadedSite:
    """Load the site that is named, or that LFADSRM_SITE names, or on which we are.

    Raises
    ------
    ConfigError
        It is invalid; or none is named and none or several are recognised.
    """
    chosen = name or os.environ.get(SITE_VARIABLE) or _recognised(project)
    return load_site(chosen, project=project, sets=sets)


def cluster_here(name: str | None = None, *, project: Path | None = None) -> tuple[LoadedSite | None, str]:
    """Return the cluster to which `choose_site` would send runs; None: they are trained on this machine.

    Parameters
    ----------
    name : str, optional
        Of a site, as the experiment names it.
    project : Path, optional

    Returns
    -------
    cluster : LoadedSite or None
    warning : str
        Why a site that is named or recognised cannot be used; "" where nothing is wrong.
    """
    try:
        loaded = choose_site(name, project=project)
    except _NowhereError:
        return None, ""
    except ConfigError as error:
        hint = f"; {error.hint}" if error.hint else ""
        return None, f"no site can be chosen: {error.what}{hint}"
    return (None if loaded.site.is_local else loaded), ""


def _recognised(project: Path | None) -> str:
    found = detect_sites(project)
    if len(found) == 1:
        return found[0].name
    if found:
        seen = ", ".join(f"{one.name} ({one.why})" for one in found)
        raise ConfigError(f"this machine looks like several sites: {seen}", hint=f"--site {found[0].name}")
    with site_folders(project) as folders:
        known = ", ".join(site_names(folders))
    raise _NowhereError(
        f"this machine is none of the sites that are described: {known}",
        hint="name one (--site), or describe this one: `lfadsrm site init NAME`; "
        "without a cluster: `lfadsrm run`",
    )


def project_of(collection: Path) -> Path:
    """Return the folder whose `site_configs` and `templates` belong to a run collection.

    It is the nearest one upwards with an experiment.toml or one of these; else the one that holds the
    collection.
    """
    start = collection.absolute()
    for folder in start.parents:
        if (folder / "experiment.toml").is_file() or any(
            (folder / name).is_dir() for name in ("site_configs", "templates")
        ):
            return folder
    return start.parent


def to_settings(site: Site) -> dict[str, Any]:
    """Return a site as plain values, as plan.json keeps it; `site_from_settings` reads it."""
    found = plain(site)
    assert isinstance(found, dict)
    return found


def site_from_settings(settings: Mapping[str, Any]) -> Site:
    """Return the site that `to_settings` wrote.

    Raises
    ------
    ConfigError
        It is none.
    """
    content = check_shape(without_none(settings), "the settings of a plan")
    check_values(content, "the settings of a plan")
    return make_site(content)


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
    site : str
        Name of the site.
    search : sequence of Path, optional
        Folders with further site files, over all others; the first is the strongest.
    where : object, optional
        Where `explicit` comes from, for messages.

    Raises
    ------
    ConfigError
        An option is unknown (the message suggests the nearest), or a value has the wrong type or range.
    """
    given = {name: value for name, value in (explicit or {}).items() if value is not None}
    refuse_unknown(given, queue_keys(), "option of the local queue", where)
    with site_folders(search=search) as folders:
        values = {**_load(site, folders).site.queue, **given}
    for name, value in values.items():
        if isinstance(value, list):
            values[name] = tuple(value)
    try:
        return LocalQueueOptions(**values)
    except LfadsrmError as error:
        raise ConfigError(error.what, where=where or f"site {site!r}", hint=error.hint) from error
