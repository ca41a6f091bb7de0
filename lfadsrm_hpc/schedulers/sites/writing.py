"""Site files as text: a site as it stands, and the beginning of a description of one's own."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lfadsrm_hpc.rendering import shell_comment
from lfadsrm_hpc.schedulers.sites.live import LiveQueue, LiveSite
from lfadsrm_hpc.schedulers.sites.requests import missing_options
from lfadsrm_hpc.schedulers.sites.schema import PARTITIONS, keys_of, plain
from lfadsrm_hpc.schedulers.sites.site import SCHEMA, Site
from lfadsrm_hpc.schedulers.units import format_memory, format_time

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_COLUMN = 40

Remark = Callable[[str], str]


def toml_value(value: Any) -> str:
    """Return a value as TOML writes it."""
    if isinstance(value, Mapping):
        inside = ", ".join(f"{toml_key(key)} = {toml_value(item)}" for key, item in value.items())
        return f"{{ {inside} }}" if inside else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(toml_value(item) for item in value)}]"
    # A JSON text is a TOML text as long as no character is escaped by two halves.
    return json.dumps(value, ensure_ascii=False)


def toml_key(key: str) -> str:
    """Return a key as TOML writes it."""
    return key if _BARE.fullmatch(key) else json.dumps(key, ensure_ascii=False)


def site_text(site: Site, said: Sequence[str] | None = None, *, remark: Remark | None = None) -> str:
    """Return a site as a TOML file.

    Parameters
    ----------
    site : Site
    said : sequence of str, optional
        Only these keys ("limits.jobs", "partitions.gpu.max_walltime"); None: all that have a value.
    remark : callable, optional
        Gives the comment behind a key.
    """
    lines = [f"schema = {SCHEMA}"]
    for table, values in plain(site).items():
        if table == PARTITIONS:
            for name, keys in values.items():
                lines += _table(f"{table}.{toml_key(name)}", f"{table}.{name}", keys, said, remark)
        else:
            lines += _table(table, table, values, said, remark)
    return "\n".join(lines) + "\n"


def _table(
    shown: str, path: str, values: Mapping[str, Any], said: Sequence[str] | None, remark: Remark | None
) -> list[str]:
    lines = []
    for key, value in values.items():
        where = f"{path}.{key}"
        wanted = said is None or any(one == where or one.startswith(f"{where}.") for one in said)
        if value is None or not wanted:
            continue
        line = f"{toml_key(key)} = {toml_value(value)}"
        lines.append(f"{line:<{_COLUMN}} # {remark(where)}" if remark is not None else line)
    return ["", f"[{shown}]", *lines] if lines else []


def overlay_text(name: str, base: Site, day: str) -> str:
    """Return the beginning of a file that is laid over `base`, or that extends it under another name."""
    same = name == base.name
    about = f"What {name} says of you, laid over its description." if same else f"{name}, as {base.name}."
    lines = [
        f"# {shell_comment(about)}",
        f"# `lfadsrm site show {base.name} --origin` lists all that holds; keys that are left out keep it.",
        f"# Written on {day}.",
        "",
        f"schema = {SCHEMA}",
    ]
    if not same:
        lines += [f"extends = {toml_value(base.name)}"]
    lines += ["", "[options]", *_wanted(base), *_suggestions(base)]
    return "\n".join(lines) + "\n"


def _wanted(site: Site) -> list[str]:
    keys = [key for key in missing_options(site, "x") if key.startswith("options.")]
    if not keys:
        return ['# account = "..."']
    return [f'# {key.removeprefix("options.")} = "..."    # every job must name it' for key in keys]


def _suggestions(site: Site) -> list[str]:
    partitions = ", ".join(site.partitions) or "any"
    return [
        "",
        "[request]",
        f"# partition = {toml_value(site.request.partition)}    # {partitions}",
        f"# gpus = {site.request.gpus}",
        '# walltime = "4:00:00"    # without it, it must be given for every submission',
        *(['# memory = "16G"'] if site.request.memory_directive else []),
        "",
        "[environment]",
        '# modules = ["python"]',
        '# activation = "source ~/venv/bin/activate"    # without it: the Python that submits',
        "",
        "[packing]",
        f"# runs = {site.packing.runs}    # runs that share one job",
        "",
        "# [partitions.mine]    # a partition of your group",
        "# gpus_per_node = 4",
        "# cpus_per_gpu = 8",
        '# max_walltime = "7d"',
    ]


def live_text(name: str, live: LiveSite, host: str, day: str) -> str:
    """Return the beginning of a description of this cluster, from what its scheduler says."""
    base = f"generic-{live.scheduler}"
    lines = [
        f"# {shell_comment(name)}, from what its scheduler said on {day}"
        f"{f' ({shell_comment(live.version)})' if live.version else ''}.",
        "# Read it, and the documentation of the cluster: whom to charge, memory, what else jobs must name.",
        f"# Then: lfadsrm site check {name} --live",
        "",
        f"schema = {SCHEMA}",
        f"extends = {toml_value(base)}",
        "",
        "[site]",
        f"name = {toml_value(name)}",
        '# description = "..."',
        '# documentation = ["https://..."]',
        f"verified = {toml_value(day)}",
        "",
        "[recognise]",
        f"hostnames = [{toml_value(_pattern(host))}]    # this machine is {host}",
    ]
    if live.cluster:
        lines += [f"cluster_names = [{toml_value(live.cluster)}]"]
    if live.largest_array_index is not None:
        lines += ["", "[limits]", f"largest_array_index = {live.largest_array_index}"]
        lines += ["# jobs = 1000    # jobs a user, each array task counted"]
    default = next((queue for queue, found in live.queues.items() if found.default), "")
    with_gpus = [queue for queue, found in live.queues.items() if found.gpus_per_node and found.up]
    chosen = default if not with_gpus or default in with_gpus else with_gpus[0]
    lines += ["", "[request]", f"partition = {toml_value(chosen)}", f"gpus = {int(chosen in with_gpus)}"]
    lines += ["", "[options]", '# account = "..."', '# required = ["account"]']
    lines += ["", "[environment]", '# activation = "source ~/venv/bin/activate"']
    for queue, found in live.queues.items():
        lines += _queue(queue, found)
    return "\n".join(lines) + "\n"


def _pattern(host: str) -> str:
    """Return a pattern of the host names of all login nodes: numbers may differ."""
    first, dot, rest = host.partition(".")
    return re.sub(r"\d+$", "*", first) + dot + rest


def _queue(name: str, found: LiveQueue) -> list[str]:
    values: dict[str, Any] = {
        "gpus_per_node": found.gpus_per_node or None,
        "gpu_types": list(found.gpu_types) or None,
        "cpus_per_node": found.cpus_per_node,
        "memory_per_node": format_memory(found.memory_mb) if found.memory_mb else None,
        "max_walltime": format_time(found.max_walltime_s) if found.max_walltime_s else None,
        "whole_nodes": found.whole_nodes or None,
    }
    assert set(values) <= set(keys_of(PARTITIONS))
    lines = ["", f"[{PARTITIONS}.{toml_key(name)}]"]
    if not found.up:
        lines.append("# it took no jobs when this was written")
    lines += [f"{key} = {toml_value(value)}" for key, value in values.items() if value is not None]
    return lines
