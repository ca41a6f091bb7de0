"""Whether a description of a site can be right: requests can be made from it, and its scheduler agrees."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from lfadsrm_hpc.errors import ConfigError
from lfadsrm_hpc.schedulers.sites.live import LiveQueue, LiveSite
from lfadsrm_hpc.schedulers.sites.requests import build_request, missing_options
from lfadsrm_hpc.schedulers.sites.site import Partition, Site
from lfadsrm_hpc.schedulers.units import format_memory, format_time, parse_memory, parse_time

_TRIAL_S = 3600


@dataclass(frozen=True)
class Finding:
    """One thing that a check found.

    Attributes
    ----------
    wrong : bool
        True: jobs will be refused or wait for ever; False: worth knowing.
    key : str
        The key of the site that it is about.
    what : str
    """

    wrong: bool
    key: str
    what: str


def check_requests(site: Site) -> list[Finding]:
    """Make a request for every partition as a user would, with what is required filled in."""
    if site.is_local:
        return []
    found = []
    if missing := missing_options(site, site.request.partition):
        keys = ", ".join(missing)
        found.append(Finding(False, "options.required", f"every user must still say {keys}"))
    filled = replace(site, options=replace(site.options, required=()))
    for name in site.partitions or [site.request.partition]:
        most = site.partition(name).max_walltime
        seconds = min(_TRIAL_S, parse_time(most)) if most else _TRIAL_S
        try:
            build_request(filled, partition=name, walltime=format_time(seconds))
        except ConfigError as error:
            found.append(Finding(True, f"partitions.{name}" if name else "request", error.what))
    return found


def compare(site: Site, live: LiveSite) -> list[Finding]:
    """Compare a description with what the scheduler says of itself."""
    return [*_cluster(site, live), *_arrays(site, live), *_partitions(site, live)]


def _cluster(site: Site, live: LiveSite) -> Iterator[Finding]:
    patterns = site.recognise.cluster_names
    name = live.cluster
    if name and patterns and not any(fnmatchcase(name.lower(), one.lower()) for one in patterns):
        yield Finding(True, "recognise.cluster_names", f"this cluster calls itself {name}: another one?")


def _arrays(site: Site, live: LiveSite) -> Iterator[Finding]:
    said, found = site.limits.largest_array_index, live.largest_array_index
    if found is not None and said != found:
        shown = "nothing" if said is None else said
        wrong = said is None or said > found
        yield Finding(
            wrong, "limits.largest_array_index", f"{shown} is described, the scheduler says {found}"
        )


def _partitions(site: Site, live: LiveSite) -> Iterator[Finding]:
    described = set()
    for name, partition in site.partitions.items():
        known_as = site.partition_option(name)
        described.add(known_as)
        if not known_as:
            yield Finding(False, f"partitions.{name}", "not compared: jobs name no partition there")
        elif known_as not in live.queues:
            yield Finding(True, f"partitions.{name}", f"the scheduler has no {known_as}")
        else:
            yield from _one(f"partitions.{name}", partition, live.queues[known_as])
    if rest := sorted(set(live.queues) - described):
        yield Finding(False, "partitions", f"not described: {', '.join(rest)}")


def _one(key: str, said: Partition, found: LiveQueue) -> Iterator[Finding]:
    if not found.up:
        yield Finding(False, key, "it takes no jobs now")
    walltime = parse_time(said.max_walltime) if said.max_walltime else None
    if found.max_walltime_s is not None and walltime != found.max_walltime_s:
        wrong = walltime is None or walltime > found.max_walltime_s
        yield Finding(
            wrong,
            f"{key}.max_walltime",
            f"{said.max_walltime or 'nothing'} is described, the scheduler says "
            f"{format_time(found.max_walltime_s)}",
        )
    yield from _number(f"{key}.gpus_per_node", said.gpus_per_node, found.gpus_per_node)
    yield from _number(f"{key}.cpus_per_node", said.cpus_per_node, found.cpus_per_node)
    if found.gpu_types and (unknown := sorted(set(said.gpu_types) - set(found.gpu_types))):
        has = ", ".join(found.gpu_types)
        yield Finding(True, f"{key}.gpu_types", f"no {', '.join(unknown)} there; it has {has}")
    memory = parse_memory(said.memory_per_node) if said.memory_per_node else None
    if memory is not None and found.memory_mb is not None and memory > found.memory_mb:
        yield Finding(
            False,
            f"{key}.memory_per_node",
            f"{said.memory_per_node} is described, jobs can have {format_memory(found.memory_mb)}",
        )
    if found.whole_nodes is not None and said.whole_nodes != found.whole_nodes:
        gives = "gives whole nodes" if found.whole_nodes else "shares nodes among jobs"
        yield Finding(False, f"{key}.whole_nodes", f"the scheduler {gives}")


def _number(key: str, said: int | None, found: int | None) -> Iterator[Finding]:
    if said is not None and found is not None and said != found:
        yield Finding(said > found, key, f"{said} is described, the scheduler says {found}")
