"""The programs of the scheduler, whether it answers, and which site this is."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from lfadsrm_hpc.collection.words import counted
from lfadsrm_hpc.command import ask
from lfadsrm_hpc.doctor.checks import Found, absent, ok, problem, warning
from lfadsrm_hpc.errors import CommandError
from lfadsrm_hpc.schedulers.sites.compare import check_requests
from lfadsrm_hpc.schedulers.sites.detection import detect_sites, has_scheduler
from lfadsrm_hpc.schedulers.sites.live import pbs_server, slurm_config
from lfadsrm_hpc.schedulers.sites.loading import SITE_VARIABLE, load_site

SLURM = ("sbatch", "squeue", "scancel", "sacct", "scontrol")
PBS = ("qsub", "qstat", "qdel")
_NEEDED = {"slurm": ("sbatch", "squeue", "scancel", "scontrol"), "pbs": PBS}
VERSION_S = 5.0
# Programs of a package that somebody has installed, on a machine of no cluster.
_NO_CLUSTER = re.compile(r"Could not establish a configuration source|cannot stat file .*slurm\.conf")
_SILENT = "on a login node: try again later, then ask the operators; elsewhere runs go through `lfadsrm run`"
_ELSEWHERE = "on a login node they are often there after `module load`; runs can go through `lfadsrm run`"


def clients(kind: str, timeout_s: float) -> Callable[[], Found]:
    """Return the check of the programs of "slurm" or "pbs"."""
    names = SLURM if kind == "slurm" else PBS

    def look() -> Found:
        there = [name for name in names if shutil.which(name)]
        if names[0] not in there:
            return absent(f"no {names[0]} on the PATH")
        missing = [name for name in _NEEDED[kind] if name not in there]
        said = f"{', '.join(there)}: {_version(there, min(VERSION_S, timeout_s))}"
        if missing:
            return problem(f"{said}; {', '.join(missing)} not found", f"put them on the PATH; {_ELSEWHERE}")
        return ok(said, programs={name: shutil.which(name) for name in there})

    return look


def _version(names: Sequence[str], timeout_s: float) -> str:
    """Return what the first of some programs says of its version."""
    try:
        answer = ask([names[0], "--version"], timeout_s=timeout_s, check=False)
    except CommandError as error:
        return error.what
    if answer.returncode:  # as Slurm's where no slurm.conf can be found, which the next check tells
        return "no version is told"
    lines = (answer.stdout.strip() or answer.stderr.strip()).splitlines()  # PBS says it among its errors
    return lines[-1].strip() if lines else "no version is told"


def slurm_answers(timeout_s: float) -> Callable[[], Found]:
    """Return the check whether Slurm's controller and its accounting answer."""

    def look() -> Found:
        if shutil.which("sbatch") is None:
            return absent("no sbatch on the PATH")
        try:
            config = slurm_config(timeout_s)
        except CommandError as error:
            if _is_of_no_cluster(error):
                return absent("its programs are here, and no cluster is: there is no slurm.conf")
            return problem(f"the controller does not answer: {_short(error)}", _SILENT)
        name = config.get("ClusterName", "?")
        said = f"cluster {name}, Slurm {config.get('SLURM_VERSION', '?')}"
        try:
            ask(["sacct", "-X", "-n", "-P", "-S", "now-1minute"], timeout_s=timeout_s)
        except CommandError as error:
            history = f"no accounting ({_short(error)}): how runs ended is known from their own files"
            return ok(f"{said}; {history}", cluster=name, accounting=False)
        return ok(f"{said}, with accounting", cluster=name, accounting=True)

    return look


def _is_of_no_cluster(error: CommandError) -> bool:
    """Return whether Slurm's programs know of no cluster, and nobody has said that there is one."""
    said = any(os.environ.get(name) for name in ("SLURM_CONF", SITE_VARIABLE))
    return not said and _NO_CLUSTER.search(error.stderr) is not None


def _programs_alone() -> bool:
    """Return whether all that is here of schedulers is Slurm's programs without a cluster."""
    if shutil.which("qsub") is not None:
        return False
    try:
        slurm_config(VERSION_S)
    except CommandError as error:
        return _is_of_no_cluster(error)
    return False


def pbs_answers(timeout_s: float) -> Callable[[], Found]:
    """Return the check whether the PBS server answers."""

    def look() -> Found:
        if shutil.which("qsub") is None:
            return absent("no qsub on the PATH")
        try:
            name = pbs_server(timeout_s)
        except CommandError as error:
            return problem(f"the server does not answer: {_short(error)}", _SILENT)
        return ok(f"server {name or 'without a name'}", server=name)

    return look


def _short(error: CommandError) -> str:
    return error.what.strip().splitlines()[0][:200]


def site(project: Path) -> Callable[[], Found]:
    """Return the check which site this is, and whether its description holds together."""

    def look() -> Found:
        named = os.environ.get(SITE_VARIABLE)
        found = [] if named else detect_sites(project)
        if len(found) > 1:
            names = ", ".join(f"{one.name} ({one.why})" for one in found)
            return warning(
                f"this machine looks like several: {names}", f"export {SITE_VARIABLE}={found[0].name}"
            )
        if not named and not found:
            if has_scheduler() and not _programs_alone():
                return warning(
                    "this machine is none of the sites that are described",
                    "lfadsrm site init NAME describes it",
                )
            return absent("no site is recognised, and none is needed without a scheduler")
        name, why = (named, f"{SITE_VARIABLE}={named}") if named else (found[0].name, found[0].why)
        loaded = load_site(str(name), project=project)
        wrong = [finding for finding in check_requests(loaded.site) if finding.wrong]
        said = f"{name} ({why}), described by {counted(len(loaded.files), 'file')}"
        if wrong:
            return problem(f"{said}: {wrong[0].key}: {wrong[0].what}", f"lfadsrm site check {name}")
        return ok(said, site=name, why=why, files=[str(path) for path in loaded.files])

    return look


def latency_of_site(project: Path) -> float | None:
    """Return how long the site that is named here lets a file system hide files, s; None: none is named.

    The scheduler is not asked for its name: this is looked up beside another check.
    """
    found = [] if os.environ.get(SITE_VARIABLE) else detect_sites(project, cluster_names=list)
    name = os.environ.get(SITE_VARIABLE) or (found[0].name if len(found) == 1 else None)
    return None if name is None else load_site(name, project=project).site.filesystem.latency_s
