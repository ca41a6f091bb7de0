"""What the values of a site must be, beyond their types: one rule a key, and rules that join keys."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from typing import Any

from lfadsrm_hpc.errors import ConfigError, LfadsrmError, suggest
from lfadsrm_hpc.schedulers.sites.schema import PARTITIONS, QUEUE
from lfadsrm_hpc.schedulers.sites.site import HISTORIES, SCHEDULERS, Site
from lfadsrm_hpc.schedulers.units import parse_memory, parse_time

Check = Callable[[Any], "str | None"]
"""Tells what is wrong with a value, as the end of the sentence "<value> ..."; None: nothing."""

REQUIRABLE = ("account", "qos", "filesystems", "partition")
SIGNALS = ("", "USR1", "USR2", "TERM")

_ADDRESS = re.compile(r"https?://\S+")
_MAIL = re.compile(r"[^\s@]+@[^\s@]+")
_OWN_VARIABLE = re.compile(r"LFADSRM_[A-Z0-9_]+")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PLACEHOLDER = re.compile(r"\{[^}]*\}?|\}")


def _one_of(known: Sequence[str]) -> Check:
    def check(value: str) -> str | None:
        if value in known:
            return None
        hint = suggest(value, known)
        return f"is none of {', '.join(repr(one) for one in known)}" + (f"; {hint}" if hint else "")

    return check


def _at_least(least: float) -> Check:
    return lambda value: None if value >= least else f"must be at least {least:g}"


def _above_zero(value: float) -> str | None:
    return None if 0 < value < float("inf") else "must be above 0"


def _line(value: str) -> str | None:
    return None if not value or value.isprintable() else "must be one line of printable characters"


def _each(check: Check) -> Check:
    def checked(values: Sequence[str]) -> str | None:
        return next((f": {one!r} {wrong}" for one in values if (wrong := check(one))), None)

    return checked


def _time(value: str) -> str | None:
    return _reads(value, parse_time)


def _memory(value: str) -> str | None:
    return _reads(value, parse_memory)


def _reads(value: str, parse: Callable[[str], int]) -> str | None:
    if not value:
        return None
    try:
        parse(value)
    except ConfigError as error:
        return f"cannot be read: {error.hint}"
    return None


def _matches(pattern: re.Pattern[str], kind: str) -> Check:
    return lambda value: None if pattern.fullmatch(value) else f"is not {kind}"


def _maybe(check: Check) -> Check:
    return lambda value: check(value) if value else None


def _day(value: str) -> str | None:
    try:
        date.fromisoformat(value)
    except ValueError:
        return "is not a day, YYYY-MM-DD"
    return None


def _directive(value: str) -> str | None:
    if value.lstrip().startswith("#"):
        return "must stand without #SBATCH or #PBS"
    if not value.lstrip().startswith("-"):
        return "must begin with a dash, as on the command line"
    return _line(value)


def _gpu_directive(value: str) -> str | None:
    unknown = [one for one in _PLACEHOLDER.findall(value) if one not in ("{gpus}", "{type}")]
    if unknown:
        return f"has {unknown[0]!r}; known are {{gpus}} and {{type}}"
    if value not in ("", "none") and "{gpus}" not in value:
        return "must say {gpus}, or be 'none' where GPUs come with the node"
    return _line(value)


def _shell(value: str) -> str | None:
    return _line(value) if value.startswith("/") else "must be a full path"


def _variables(value: Mapping[str, str]) -> str | None:
    for name in value:
        if not _VARIABLE.fullmatch(name):
            return f": {name!r} cannot be the name of a variable"
    return next((f": {name} {wrong}" for name, text in value.items() if (wrong := _line(text))), None)


_lines = _each(_line)
_patterns = _each(lambda value: _line(value) if value else "is empty and would match nothing")
_directives = _each(_directive)

CHECKS: dict[str, Check] = {
    "site.name": _line,
    "site.scheduler": _one_of(SCHEDULERS),
    "site.description": _line,
    "site.cluster": _line,
    "site.documentation": _each(_matches(_ADDRESS, "an address, https://...")),
    "site.verified": _maybe(_day),
    "recognise.hostnames": _patterns,
    "recognise.environment": _variables,
    "recognise.cluster_names": _patterns,
    "client.timeout_s": _above_zero,
    "client.history": _one_of(HISTORIES),
    "limits.largest_array_index": _at_least(0),
    "limits.array_tasks": _at_least(1),
    "limits.jobs": _at_least(1),
    "limits.submissions_per_minute": _at_least(1),
    "partitions.scheduler_name": _line,
    "partitions.gpus_per_node": _at_least(0),
    "partitions.gpu_types": _lines,
    "partitions.cpus_per_node": _at_least(1),
    "partitions.cpus_per_gpu": _at_least(1),
    "partitions.memory_per_node": _memory,
    "partitions.memory_per_gpu": _memory,
    "partitions.max_walltime": _time,
    "partitions.directives": _directives,
    "request.partition": _line,
    "request.gpus": _at_least(0),
    "request.gpu_type": _line,
    "request.cpus": _at_least(1),
    "request.memory": _memory,
    "request.walltime": _time,
    "request.gpu_directive": _gpu_directive,
    "request.directives": _directives,
    "options.account": _line,
    "options.qos": _line,
    "options.filesystems": _line,
    "options.required": _each(_one_of(REQUIRABLE)),
    "environment.shell": _shell,
    "environment.setup": _lines,
    "environment.modules": _lines,
    "environment.activation": _line,
    "environment.keep": _each(_matches(_OWN_VARIABLE, "the name of a variable LFADSRM_*")),
    "environment.variables": _variables,
    "stopping.signal": _one_of(SIGNALS),
    "stopping.warning": _time,
    "filesystem.latency_s": _at_least(0),
    "escalation.memory_factor": _at_least(1),
    "escalation.walltime_factor": _at_least(1),
    "retry.max_attempts": _at_least(1),
    "retry.max_infrastructure_attempts": _at_least(1),
    "notify.command": _line,
    "notify.mail": _maybe(_matches(_MAIL, "a mail address")),
    "packing.runs": _at_least(1),
    "packing.slots": _at_least(1),
}


def check_values(content: Mapping[str, Any], where: object) -> None:
    """Check each value of one layer; its types are right already.

    Raises
    ------
    ConfigError
        A value cannot be.
    """
    for table, keys in content.items():
        if table == PARTITIONS:
            for name, partition in keys.items():
                _check_table(table, f"[partitions.{name}]", partition, where)
        elif isinstance(keys, Mapping):
            _check_table(table, f"[{table}]", keys, where)
    if QUEUE in content:
        _check_queue(content[QUEUE], where)


def _check_table(table: str, shown: str, keys: Mapping[str, Any], where: object) -> None:
    for name, value in keys.items():
        check = CHECKS.get(f"{table}.{name}")
        if check is not None and (wrong := check(value)):
            said = f"{name}{wrong}" if wrong.startswith(":") else f"{name} = {value!r} {wrong}"
            raise ConfigError(said, where=f"{where}, {shown}")


def _check_queue(values: Mapping[str, Any], where: object) -> None:
    from lfadsrm_hpc.schedulers.local import LocalQueueOptions

    try:
        LocalQueueOptions(**values)
    except LfadsrmError as error:
        raise ConfigError(error.what, where=f"{where}, [queue]", hint=error.hint) from None


def check_site(site: Site, origins: Mapping[str, str]) -> None:
    """Check what several keys of a merged site say together.

    Raises
    ------
    ConfigError
        They contradict each other; the message names where they stand.
    """
    if "site.scheduler" not in origins:
        raise ConfigError(
            f"the site {site.name!r} does not say what its scheduler is",
            hint='extends = "generic-slurm" at the top, or [site] scheduler = "slurm"',
        )
    named = site.request.partition
    if named and site.partitions and named not in site.partitions:
        known = list(site.partitions)
        raise ConfigError(
            f"request.partition = {named!r} is not described",
            where=origins.get("request.partition"),
            hint=suggest(named, known) or f"described are: {', '.join(known)}",
        )
    if site.options.filesystems and site.scheduler == "slurm":
        raise ConfigError(
            "filesystems is an option of PBS; Slurm has no such thing",
            where=origins.get("options.filesystems"),
            hint='for licences write [request] directives = ["--licenses=..."]',
        )
    if site.client.history == "sacct" and site.scheduler != "slurm":
        raise ConfigError(f"{site.scheduler} has no sacct", where=origins.get("client.history"))
    if site.request.gpu_type and not site.names_gpu_types:
        raise ConfigError(
            f"request.gpu_type = {site.request.gpu_type!r}, and request.gpu_directive has no {{type}}",
            where=origins.get("request.gpu_type"),
            hint="choose a partition with such GPUs, or name the kind in [request] directives",
        )
    if site.request.memory and not site.request.memory_directive:
        raise ConfigError(
            f"request.memory = {site.request.memory!r}, and jobs at {site.name} ask for no memory "
            "(memory_directive = false)",
            where=origins.get("request.memory"),
            hint="leave it out: it comes with the CPUs, the GPUs or the node",
        )
    for name, partition in site.partitions.items():
        if partition.gpu_types and not partition.gpus_per_node:
            raise ConfigError(
                f"the partition {name!r} has GPU types and no GPUs",
                where=origins.get(f"partitions.{name}.gpu_types"),
                hint="gpus_per_node = ...",
            )
