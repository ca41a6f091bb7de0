"""From what a user says to what a task asks for, within what the site allows; nothing is cut silently."""

from __future__ import annotations

from collections.abc import Callable

from lfadsrm_hpc.errors import ConfigError, suggest
from lfadsrm_hpc.schedulers.resources import JobRequest
from lfadsrm_hpc.schedulers.sites.site import Partition, Site
from lfadsrm_hpc.schedulers.units import format_memory, format_time, parse_memory, parse_time

DEFAULT_CPUS = 4


def build_request(
    site: Site,
    *,
    partition: str | None = None,
    walltime: str | None = None,
    cpus: int | None = None,
    gpus: int | None = None,
    gpu_type: str | None = None,
    memory: str | None = None,
) -> JobRequest:
    """Return what one task asks for: what is given, else what the site's [request] says.

    Parameters
    ----------
    site : Site
    partition : str, optional
        As in the site's [partitions].
    walltime : str, optional
        "4:00:00", "90m". It must be given here or in [request].
    cpus, gpus : int, optional
        Of one task. Without `gpus`: those of [request] if the partition has any; all of a whole node.
    gpu_type : str, optional
    memory : str, optional
        Main memory of one task, "16G".

    Raises
    ------
    ConfigError
        No walltime; more than the partition has or allows; an option is missing that the site requires; a
        partition or a kind of GPU that is not described.
    """
    if site.is_local:
        raise ConfigError(
            f"the site {site.name!r} has no scheduler to submit to",
            hint="`lfadsrm run` trains on this machine",
        )
    chosen = partition if partition is not None else site.request.partition
    _check_partition(site, chosen)
    _check_required(site, chosen)
    has = site.partition(chosen)
    n_gpus = _gpus(site, chosen, gpus)
    return JobRequest(
        walltime_s=_walltime(site, chosen, walltime),
        partition=chosen,
        gpus=n_gpus,
        gpu_type=_gpu_type(site, chosen, gpu_type) if n_gpus else _no_type(gpu_type),
        cpus=_cpus(site, chosen, has, cpus, n_gpus),
        memory_mb=_memory(site, chosen, has, memory, n_gpus),
    )


def _check_partition(site: Site, name: str) -> None:
    if name and site.partitions and name not in site.partitions:
        known = list(site.partitions)
        raise ConfigError(
            f"the site {site.name!r} does not describe a partition {name!r}; it has {', '.join(known)}",
            hint=suggest(name, known)
            or f"if there is one, say what it allows: --set partitions.{name}.max_walltime=...",
        )


def missing_options(site: Site, partition: str) -> list[str]:
    """Return the keys of what jobs at a site must name and nothing says: "options.account", ..."""
    given = {
        "account": site.options.account,
        "qos": site.options.qos,
        "filesystems": site.options.filesystems,
        "partition": partition,
    }
    tables = {"partition": "request"}
    return [f"{tables.get(name, 'options')}.{name}" for name in site.options.required if not given[name]]


def _check_required(site: Site, partition: str) -> None:
    keys = missing_options(site, partition)
    if keys:
        names = [key.partition(".")[2] for key in keys]
        shown = " and ".join(f"{'an' if name[0] in 'aeiou' else 'a'} {name}" for name in names)
        raise ConfigError(
            f"jobs at {site.name} must name {shown}",
            hint=f"{' '.join(f'--set {key}=...' for key in keys)}; for good: `lfadsrm site init {site.name}`",
        )


def _walltime(site: Site, name: str, given: str | None) -> int:
    text = given if given is not None else site.request.walltime
    has = site.partition(name)
    most = has.max_walltime
    if not text:
        limit = f"; {name} allows up to {most}" if most else ""
        raise ConfigError(
            f"no walltime is given, and there is no default for it{limit}", hint="--walltime 4:00:00"
        )
    seconds = parse_time(text, where="walltime")
    if not _allows(has, seconds):
        raise ConfigError(
            f"a walltime of {format_time(seconds)} is over the limit of {_shown(site, name)}, {most}",
            hint=_others(site, "a longer one", lambda p: _allows(p, seconds) and _alike(p, has))
            or "ask for less; runs go on from their checkpoints with `lfadsrm retry`",
        )
    return seconds


def _allows(partition: Partition, seconds: int) -> bool:
    return not partition.max_walltime or parse_time(partition.max_walltime) >= seconds


def _alike(one: Partition, other: Partition) -> bool:
    return bool(one.gpus_per_node) == bool(other.gpus_per_node)


def _gpus(site: Site, name: str, given: int | None) -> int:
    has = site.partition(name)
    described = name in site.partitions
    if given is None:
        given = site.request.gpus
        if described:
            given = has.gpus_per_node if has.whole_nodes else given * bool(has.gpus_per_node)
    if described and given > has.gpus_per_node:
        most_text = f"has {has.gpus_per_node} GPUs a node" if has.gpus_per_node else "has no GPUs"
        raise ConfigError(
            f"{given} GPUs are asked for, and {_shown(site, name)} {most_text}",
            hint=_others(site, "so many", lambda p: p.gpus_per_node >= given) or "ask for fewer",
        )
    return given


def _no_type(gpu_type: str | None) -> str:
    if gpu_type:
        raise ConfigError(f"a GPU of the kind {gpu_type!r} is asked for, and no GPU", hint="--gpus 1")
    return ""


def _gpu_type(site: Site, name: str, given: str | None) -> str:
    known = site.partition(name).gpu_types
    if given is None:
        wanted = site.request.gpu_type
        return wanted if not known or wanted in known else ""
    if given and known and given not in known:
        raise ConfigError(
            f"{_shown(site, name)} has no GPUs of the kind {given!r}; it has {', '.join(known)}",
            hint=suggest(given, known) or _others(site, "such", lambda p: given in p.gpu_types),
        )
    if given and not site.names_gpu_types:
        raise ConfigError(
            f"a GPU of the kind {given!r} is asked for, and jobs at {site.name} cannot say which kind",
            where="request.gpu_directive, which has no {type}",
            hint=_others(site, "GPUs", lambda p: p.gpus_per_node > 0)
            or "leave it out, or name it by an option: --set request.directives=...",
        )
    return given


def _cpus(site: Site, name: str, has: Partition, given: int | None, gpus: int) -> int:
    wanted = given if given is not None else site.request.cpus
    if wanted is None and has.whole_nodes:
        wanted = has.cpus_per_node
    if wanted is None and gpus and has.cpus_per_gpu:
        wanted = has.cpus_per_gpu * gpus
    if wanted is None:
        return min(DEFAULT_CPUS, has.cpus_per_node or DEFAULT_CPUS)
    if has.cpus_per_node is not None and wanted > has.cpus_per_node:
        raise ConfigError(
            f"{wanted} CPUs are asked for, and a node of {_shown(site, name)} has {has.cpus_per_node}",
            hint=_others(site, "so many", lambda p: (p.cpus_per_node or 0) >= wanted) or "ask for fewer",
        )
    return wanted


def _memory(site: Site, name: str, has: Partition, given: str | None, gpus: int) -> int | None:
    if not site.request.memory_directive:
        if given:
            raise ConfigError(
                f"memory cannot be asked for at {site.name}: it comes with the CPUs, the GPUs or the node",
                hint="leave it out",
            )
        return None
    text = given or site.request.memory
    if not text:
        return parse_memory(has.memory_per_gpu) * gpus if has.memory_per_gpu and gpus else None
    size = parse_memory(text, where="memory")
    if has.memory_per_node and size > parse_memory(has.memory_per_node):
        raise ConfigError(
            f"{format_memory(size)} of memory is asked for, and a node of {_shown(site, name)} has "
            f"{has.memory_per_node}",
            hint=_others(
                site, "so much", lambda p: bool(p.memory_per_node) and parse_memory(p.memory_per_node) >= size
            )
            or "ask for less",
        )
    return size


def _shown(site: Site, name: str) -> str:
    return f"the partition {name!r} of {site.name}" if name else f"the default partition of {site.name}"


def _others(site: Site, what: str, fits: Callable[[Partition], bool]) -> str | None:
    names = [name for name, partition in site.partitions.items() if fits(partition)]
    return f"partitions with {what}: {', '.join(names)}" if names else None
