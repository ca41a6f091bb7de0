"""`collection.json`: what a collection holds, merged with what other scripts and processes put there."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

from lfadsrm_hpc._version import __version__
from lfadsrm_hpc.errors import ConfigError, MismatchError
from lfadsrm_hpc.layout import CollectionLayout
from lfadsrm_hpc.manifest.publish import publish_replacing
from lfadsrm_hpc.plain_files import read_json

FORMAT = 1
_KEYS = ("comment", "params", "run_specs", "runs", "datasets")

# how often listings of processes that prepare at one time may cross before we give up
MOST_ROUNDS = 100


def as_bytes(document: Mapping[str, Any]) -> bytes:
    """Return a document as the readable JSON text that is stored."""
    return (json.dumps(document, indent=1, allow_nan=False) + "\n").encode()


def read_stored(layout: CollectionLayout) -> dict[str, Any] | None:
    """Return the content of `collection.json`, None where there is none.

    Raises
    ------
    ConfigError
        It is damaged, or from a newer version.
    """
    path = layout.collection_json
    try:
        stored = read_json(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError as error:
        raise ConfigError(f"the file is damaged: {error}", where=path) from None
    if not isinstance(stored, Mapping) or stored.get("format") != FORMAT:
        raise ConfigError("not a run collection of this version", where=path, hint="update lfadsrm_hpc")
    missing = sorted(set(_KEYS) - set(stored))
    if missing:
        raise ConfigError(f"the file lacks {', '.join(missing)}", where=path)
    return dict(stored)


def check_specs(stored: Mapping[str, Any] | None, specs: Mapping[str, list[str]], where: object) -> None:
    """Refuse run specs that are stored with other datasets.

    Raises
    ------
    MismatchError
    """
    for spec in stored["run_specs"] if stored is not None else ():
        now = specs.get(spec["name"])
        if now is not None and now != spec["datasets"]:
            raise MismatchError(
                f"run spec {spec['name']!r} was prepared with the datasets {', '.join(spec['datasets'])}, "
                f"and now names {', '.join(now)}",
                where=where,
                hint="give the changed run spec another name",
            )


def publish(layout: CollectionLayout, mine: Mapping[str, Any]) -> dict[str, Any]:
    """Write `collection.json` so that it lists what it listed, what is new, and all runs on disk.

    Each process publishes the `params.json` of its runs before it comes here, and looks again after it has
    written. So the last writer has seen all of them, whatever the order of the writes was.

    Raises
    ------
    ConfigError, MismatchError
    """
    from lfadsrm_hpc.collection.run import read_record  # run params, which listing runs does without

    for _ in range(MOST_ROUNDS):
        stored = read_stored(layout)
        check_specs(stored, {s["name"]: s["datasets"] for s in mine["run_specs"]}, layout.collection_json)
        merged = merge(stored, mine)
        listed = set(merged["runs"])
        for run in layout.runs_on_disk():
            if run.run_id not in listed:
                merged = merge(merged, _listing_of(read_record(run.params_json)))
        if stored == merged:
            return merged
        publish_replacing(layout.collection_json, as_bytes(merged))
    raise ConfigError(
        "other processes keep changing the collection",
        where=layout.collection_json,
        hint="prepare it again later",
    )


def unlist(layout: CollectionLayout, run_ids: Collection[str]) -> None:
    """Write `collection.json` without some runs, until it lists none of them: others may write it meanwhile.

    Raises
    ------
    ConfigError
    """
    for _ in range(MOST_ROUNDS):
        stored = read_stored(layout)
        if stored is None or not set(run_ids) & set(stored["runs"]):
            return
        publish_replacing(layout.collection_json, as_bytes(without(stored, run_ids)))
    raise ConfigError(
        "other processes keep changing the collection", where=layout.collection_json, hint="try again later"
    )


def without(stored: Mapping[str, Any], run_ids: Collection[str]) -> dict[str, Any]:
    """Return a stored document without some runs, and without what no other run needs; pure."""
    gone = set(run_ids)
    runs = [run_id for run_id in stored["runs"] if run_id not in gone]
    folders = {run_id.partition("/")[0] for run_id in runs}
    names = {run_id.partition("/")[2] for run_id in runs}
    specs = [spec for spec in stored["run_specs"] if spec["name"] in names]
    used = {name for spec in specs for name in spec["datasets"]}
    items = [item for item in stored["datasets"]["items"] if item["name"] in used]
    return {
        **stored,
        "datasets": {**stored["datasets"], "items": items},
        "params": [one for one in stored["params"] if f"param_{one['param_hash']}" in folders],
        "run_specs": specs,
        "runs": runs,
    }


def merge(stored: Mapping[str, Any] | None, mine: Mapping[str, Any]) -> dict[str, Any]:
    """Return a stored document with what is new in another one added; pure.

    What was there keeps its place, so that positions of params stay; equal entries take the newer content.
    """
    before: Mapping[str, Any] = stored if stored is not None else {"params": [], "run_specs": [], "runs": []}
    old_data: Mapping[str, Any] = before.get("datasets", {"items": []})
    new_data: Mapping[str, Any] = mine.get("datasets", {"items": []})
    items = _by_key(old_data["items"], new_data["items"], "name")
    return {
        "format": FORMAT,
        "version": mine.get("version", before.get("version", __version__)),
        "name": mine.get("name", before.get("name", "")),
        "comment": mine.get("comment", before.get("comment", "")),
        "datasets": {**old_data, **new_data, "items": items},
        "params": _by_key(before["params"], mine["params"], "param_hash"),
        "run_specs": _by_key(before["run_specs"], mine["run_specs"], "name"),
        "runs": list(dict.fromkeys([*before["runs"], *mine["runs"]])),
    }


def _by_key(old: list[dict[str, Any]], new: list[dict[str, Any]], key: str) -> list[dict[str, Any]]:
    return list(({item[key]: item for item in old} | {item[key]: item for item in new}).values())


def _listing_of(record: Mapping[str, Any]) -> dict[str, Any]:
    params = {**record["params"], "param_hash": record["param_hash"]}
    return {"params": [params], "run_specs": [record["spec"]], "runs": [record["run_id"]]}
