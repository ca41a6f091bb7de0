"""What a scheduler says of itself: its partitions or queues and its limits, asked with a time limit."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from lfadsrm_hpc.command import ask
from lfadsrm_hpc.errors import CommandError, SchedulerUnreachableError

CLIENTS = {"slurm": "sinfo and scontrol", "pbspro": "qstat", "torque": "qstat"}
# One row for each kind of node of each partition, also of those that this user may not use.
_SINFO = ["sinfo", "-h", "-a", "-e", "-o", "%P|%a|%l|%D|%c|%m|%G|%h"]
_GPU = re.compile(r"gpu(?::([^:,()]+))?:(\d+)")


@dataclass(frozen=True)
class LiveQueue:
    """A partition or queue as the scheduler describes it; of several kinds of nodes, the most of each.

    Attributes
    ----------
    up : bool
        It takes jobs.
    max_walltime_s : int or None
        None: no limit, or it is not told.
    nodes : int or None
    gpus_per_node, cpus_per_node, memory_mb : int or None
        None: not told.
    gpu_types : tuple of str
    whole_nodes : bool or None
    default : bool
    """

    up: bool = True
    max_walltime_s: int | None = None
    nodes: int | None = None
    gpus_per_node: int | None = None
    gpu_types: tuple[str, ...] = ()
    cpus_per_node: int | None = None
    memory_mb: int | None = None
    whole_nodes: bool | None = None
    default: bool = False


@dataclass(frozen=True)
class LiveSite:
    """What a scheduler says.

    Attributes
    ----------
    scheduler : str
        "slurm", "pbspro" or "torque".
    cluster : str
        What it calls itself.
    version : str
    largest_array_index : int or None
    queues : dict of str to LiveQueue
    """

    scheduler: str
    cluster: str = ""
    version: str = ""
    largest_array_index: int | None = None
    queues: Mapping[str, LiveQueue] = field(default_factory=dict)


def ask_scheduler(scheduler: str, timeout_s: float) -> LiveSite:
    """Ask a scheduler for its queues and limits.

    Parameters
    ----------
    scheduler : str
        "slurm", "pbspro" or "torque".
    timeout_s : float
        Time limit of each of the two or three calls.

    Raises
    ------
    SchedulerUnreachableError
        Its client programs are missing, or it does not answer.
    """
    try:
        return _slurm(timeout_s) if scheduler == "slurm" else _pbs(scheduler, timeout_s)
    except CommandError as error:
        first = error.what.strip().splitlines()[0]
        raise SchedulerUnreachableError(
            f"{scheduler} cannot be asked: {first}",
            where=error.where,
            hint=f"run this where {CLIENTS[scheduler]} work, on a login node",
        ) from None


def find_scheduler(timeout_s: float) -> LiveSite:
    """Ask the scheduler of this machine, whichever it is.

    Raises
    ------
    SchedulerUnreachableError
        None answers.
    """
    tried = []
    for which in (lambda _: "slurm", _kind_of_pbs):
        try:
            return ask_scheduler(which(timeout_s), timeout_s)
        except SchedulerUnreachableError as error:
            tried.append(error.what)
    raise SchedulerUnreachableError(
        f"no scheduler answers here: {'; '.join(tried)}", hint="run this on a login node of the cluster"
    )


def _kind_of_pbs(timeout_s: float) -> str:
    """Tell Torque from PBS Pro, whose programs have the same names, by what `qstat --version` prints."""
    try:
        answer = ask(["qstat", "--version"], timeout_s=timeout_s, check=False)
    except CommandError:
        return "pbspro"  # asking for its queues will say what is wrong
    said = (answer.stdout + answer.stderr).lower()
    return "torque" if "version" in said and "pbs_version" not in said else "pbspro"


def slurm_config(timeout_s: float) -> dict[str, str]:
    """Return `scontrol show config`.

    Raises
    ------
    CommandError
        There is no Slurm here, or its server does not answer.
    """
    text = ask(["scontrol", "show", "config"], timeout_s=timeout_s).stdout
    return {m[1]: m[2].strip() for m in re.finditer(r"(?m)^(\w+)\s*=(.*)$", text)}


def slurm_cluster(timeout_s: float) -> str:
    """Return what Slurm calls the cluster; "" where it does not say.

    Raises
    ------
    CommandError
        There is no Slurm here, or its server does not answer.
    """
    return slurm_config(timeout_s).get("ClusterName", "")


def pbs_server(timeout_s: float) -> str:
    """Return the name of the PBS server; "" where it cannot be read.

    Raises
    ------
    CommandError
        There is no PBS here, or its server does not answer.
    """
    return next(iter(_pbs_blocks(ask(["qstat", "-B", "-f"], timeout_s=timeout_s).stdout, "Server")), "")


def _slurm(timeout_s: float) -> LiveSite:
    config = slurm_config(timeout_s)
    if not {"ClusterName", "MaxArraySize", "SLURM_VERSION"} <= config.keys():
        raise CommandError("scontrol's answer cannot be read whole", command=["scontrol", "show", "config"])
    size = config["MaxArraySize"]
    queues = read_sinfo(_whole(_SINFO, timeout_s))
    if not queues:
        raise CommandError("sinfo lists no partition", command=_SINFO)
    return LiveSite(
        "slurm",
        cluster=config["ClusterName"],
        version=config["SLURM_VERSION"],
        largest_array_index=int(size) - 1 if size.isdigit() else None,
        queues=queues,
    )


def _whole(command: list[str], timeout_s: float) -> str:
    """Return what a program prints, unless it breaks off in a line: half a list would look like all of it."""
    text = ask(command, timeout_s=timeout_s).stdout
    if text and not text.endswith("\n"):
        raise CommandError(f"the answer of {command[0]} breaks off", command=command)
    return text


def read_sinfo(text: str) -> dict[str, LiveQueue]:
    """Read `sinfo -h -e -o '%P|%a|%l|%D|%c|%m|%G|%h'`; lines that are no such rows are left out.

    The name of the default partition ends in a star.
    """
    rows: dict[str, list[list[str]]] = {}
    for line in text.splitlines():
        parts = [part.strip() for part in line.split("|")]
        if len(parts) == 8 and parts[0]:
            rows.setdefault(parts[0], []).append(parts)
    return {name.rstrip("*"): _partition(kinds, name.endswith("*")) for name, kinds in rows.items()}


def _partition(kinds: list[list[str]], default: bool) -> LiveQueue:
    gpus = [_GPU.findall(re.sub(r"\([^)]*\)", "", parts[6])) for parts in kinds]
    types = {kind for found in gpus for kind, _ in found if kind}
    return LiveQueue(
        up=kinds[0][1] == "up",
        max_walltime_s=slurm_time(kinds[0][2]),
        nodes=sum(_number(parts[3]) or 0 for parts in kinds),
        gpus_per_node=max(sum(int(count) for _, count in found) for found in gpus),
        gpu_types=tuple(sorted(types)),
        cpus_per_node=max(_number(parts[4]) or 0 for parts in kinds) or None,
        memory_mb=max(_number(parts[5]) or 0 for parts in kinds) or None,
        whole_nodes=kinds[0][7].startswith("EXCLUSIVE"),
        default=default,
    )


def _number(text: str) -> int | None:
    match = re.match(r"\d+", text)  # "64+" where nodes differ
    return int(match[0]) if match else None


def slurm_time(text: str) -> int | None:
    """Return the seconds of a time as Slurm prints it ("30:00" is half an hour); None: no limit."""
    match = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", text.strip())
    if match is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def _pbs(scheduler: str, timeout_s: float) -> LiveSite:
    servers = _pbs_blocks(_whole(["qstat", "-B", "-f"], timeout_s), "Server")
    queues = _pbs_blocks(_whole(["qstat", "-Q", "-f"], timeout_s), "Queue")
    if not servers or not queues:
        what = "queue" if servers else "server"
        raise CommandError(f"qstat lists no {what}", command=["qstat", "-Q" if servers else "-B", "-f"])
    name, server = next(iter(servers.items()))
    size = server.get("max_array_size", "")
    return LiveSite(
        scheduler,
        cluster=name,
        version=server.get("pbs_version", ""),
        largest_array_index=int(size) - 1 if size.isdigit() else None,
        queues={
            queue: _pbs_queue(values, queue == server.get("default_queue"))
            for queue, values in queues.items()
        },
    )


def _pbs_blocks(text: str, kind: str) -> dict[str, dict[str, str]]:
    """Read `qstat -Qf` or `-Bf`: "Queue: name", then "    key = value"; long values go on after a tab."""
    found: dict[str, dict[str, str]] = {}
    current: dict[str, str] = {}
    last = ""
    for line in text.splitlines():
        if match := re.fullmatch(rf"{kind}:\s*(\S+)\s*", line):
            current = found.setdefault(match[1], {})
        elif line.startswith("\t") and last in current:
            current[last] += line.strip()
        elif match := re.fullmatch(r"\s+([\w.]+) = (.*)", line):
            last = match[1]
            current[last] = match[2].strip()
    return found


def _pbs_queue(values: Mapping[str, str], default: bool) -> LiveQueue:
    walltime = values.get("resources_max.walltime", "")
    gpus = values.get("resources_max.ngpus", "")
    return LiveQueue(
        up=values.get("enabled", "True") == "True" and values.get("started", "True") == "True",
        max_walltime_s=_pbs_time(walltime),
        gpus_per_node=int(gpus) if gpus.isdigit() else None,
        default=default,
    )


def _pbs_time(text: str) -> int | None:
    match = re.fullmatch(r"(?:(?:(\d+):)?(\d+):)?(\d+)", text.strip())
    if match is None:
        return None
    hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return (hours * 60 + minutes) * 60 + seconds
