"""Which site this machine is: by its variables and host name, then by what its scheduler calls itself."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from lfadsrm_hpc.command import ask
from lfadsrm_hpc.errors import CommandError
from lfadsrm_hpc.manifest.process import hostname
from lfadsrm_hpc.schedulers.sites.layers import (
    PACKAGED,
    PROJECT,
    SYSTEM,
    USER,
    Folder,
    merge,
    read_layers,
    site_folders,
    site_names,
)
from lfadsrm_hpc.schedulers.sites.site import Recognise

FULL_NAME_TIMEOUT_S = 5.0
SCHEDULER_TIMEOUT_S = 15.0


@dataclass(frozen=True)
class Detected:
    """A site that this machine looks like.

    Attributes
    ----------
    name : str
    why : str
        The sign by which it is known.
    layer : str
        The strongest layer that describes it: "packaged", "system", "user" or "project".
    """

    name: str
    why: str
    layer: str


def detect_sites(
    project: Path | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    hostnames: Callable[[], Sequence[str]] | None = None,
    cluster_names: Callable[[], Sequence[str]] | None = None,
) -> list[Detected]:
    """Return the sites that this machine looks like; an empty list where it looks like none.

    Variables and host names are looked at first, the scheduler is asked only when they say nothing. Of
    several, those of the strongest layer count: a description of one's own wins over a packaged one.

    Parameters
    ----------
    project : Path, optional
    environment, hostnames, cluster_names : optional
        Where the signs come from; unless given, this process and this machine.

    Raises
    ------
    ConfigError
        A site file is invalid.
    """
    variables = os.environ if environment is None else environment
    with site_folders(project) as folders:
        signs = {name: _signs(name, folders) for name in site_names(folders)}
        layers = {name: _strongest(name, folders) for name in signs}
    for look in (
        lambda sign: _by_environment(sign, variables),
        _by_names((hostnames or host_names), "hostnames", "its host name is"),
        _by_names((cluster_names or scheduler_names), "cluster_names", "its scheduler calls itself"),
    ):
        found = [Detected(name, why, layers[name]) for name, sign in signs.items() if (why := look(sign))]
        if found:
            rank = (PACKAGED, SYSTEM, USER, PROJECT).index
            best = max(rank(one.layer) for one in found)
            return [one for one in found if rank(one.layer) == best]
    return []


def _signs(name: str, folders: Sequence[Folder]) -> Recognise:
    content, _ = merge(read_layers(name, folders))
    return Recognise(**content.get("recognise", {}))


def _strongest(name: str, folders: Sequence[Folder]) -> str:
    return [folder.layer for folder in folders if (folder.path / f"{name}.toml").is_file()][-1]


def _by_environment(signs: Recognise, variables: Mapping[str, str]) -> str | None:
    for name, pattern in signs.environment.items():
        if name in variables and fnmatchcase(variables[name], pattern):
            return f"{name}={variables[name]}"
    return None


def _by_names(names: Callable[[], Sequence[str]], kind: str, said: str) -> Callable[[Recognise], str | None]:
    known: list[Sequence[str]] = []

    def look(signs: Recognise) -> str | None:
        patterns: Sequence[str] = getattr(signs, kind)
        if patterns and not known:
            known.append(names())
        for name in known[0] if known else ():
            if any(fnmatchcase(name.lower(), pattern.lower()) for pattern in patterns):
                return f"{said} {name}"
        return None

    return look


def has_scheduler() -> bool:
    """Return whether jobs can be handed over from here."""
    return any(shutil.which(name) for name in ("sbatch", "qsub"))


def host_names() -> list[str]:
    """Return the name of this machine, and its full name where it is another one."""
    short = hostname()
    if "." in short:
        return [short]
    try:  # a program with a time limit: the resolver of a machine without a network can take a minute
        full = ask(["hostname", "-f"], timeout_s=FULL_NAME_TIMEOUT_S).stdout.strip()
    except CommandError:
        return [short]
    return list(dict.fromkeys([short, full])) if full else [short]


def scheduler_names() -> list[str]:
    """Return what the scheduler of this machine calls itself: Slurm's ClusterName, the PBS server's name."""
    from lfadsrm_hpc.schedulers.sites.live import pbs_server, slurm_cluster

    names = []
    for look in (slurm_cluster, pbs_server):
        try:
            names.append(look(SCHEDULER_TIMEOUT_S))
        except CommandError:
            continue
    return [name for name in names if name]
