"""A Python script that makes a run again: from the same data, with the same params, checked on the way."""

from __future__ import annotations

import pprint
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from lfadsrm_hpc._version import __version__
from lfadsrm_hpc.collection.params import RunParams
from lfadsrm_hpc.collection.run import Run
from lfadsrm_hpc.collection.stored import read_stored
from lfadsrm_hpc.errors import NotFoundError, ResultsError
from lfadsrm_hpc.results.model_params import read_origin

_DATASET_CLASS = "lfadsrm_hpc.data.dataset.Dataset"


def reproducing_script(run: Run) -> str:
    """Return a script that prepares the run anew, checks that it is the same on the same data, and trains it.

    Runs that it starts from, where they are named relative to the collection, are made before it. Sessions
    that were arrays in memory have to be added to the script by hand, and it says so.

    Parameters
    ----------
    run : Run
        Prepared; its collection need not have its datasets at hand.

    Raises
    ------
    NotFoundError, ConfigError
        The run is not prepared, or its collection is damaged.
    """
    chain = _chain(run)
    stored = read_stored(run.collection.layout)
    if stored is None:
        raise NotFoundError("there is no run collection", where=run.collection.path)
    about = stored["datasets"]
    sources = {item["name"]: item.get("source", {}) for item in about["items"]}
    used = list(dict.fromkeys(name for one in chain for name in one.dataset_names))
    values = {
        "RUN": repr(run.id),
        "TITLE": f"{run.id} of the run collection {run.collection.name!r}".replace("\\", "\\\\"),
        "VERSION": __version__,
        "MADE_WITH": _made_with(run),
        "THREADS": repr(_threads(run)),
        "FOLDER": repr(str(about.get("path", ""))),
        "DATASETS_NAME": repr(about.get("collection") or None),
        "COLLECTION": repr(run.collection.name),
        "FILES": _laid_out({n: sources[n]["path"] for n in used if _is_file(sources.get(n, {}))}),
        "IN_MEMORY": repr([name for name in used if not _is_file(sources.get(name, {}))]),
        "RUNS": _laid_out([_recipe(one) for one in chain]),
        "CLASSES": _laid_out(_classes(sources, used)),
        "OPTIONS": _laid_out(_noted(sources, used, "options")),
        "READERS": _laid_out(_noted(sources, used, "reader")),
        "ALIGNED_BY": _laid_out(_noted(sources, used, "aligned_by")),
    }
    text = _SCRIPT
    for name, value in values.items():
        text = text.replace(f"<{name}>", value)
    return text


def _chain(run: Run) -> list[Run]:
    """Return the run behind those of its collection that it starts from."""
    found = [run]
    while (start := found[0].params.start_from) is not None:
        source = run.collection.layout.run_at(start)
        if start != source.run_id:  # an absolute folder: it stays where it is
            break
        before = _run_of(run, source.run_id)
        if any(before.id == one.id for one in found):
            raise ResultsError(f"runs start from each other: {before.id}", where=run.path)
        found.insert(0, before)
    return found


def _run_of(run: Run, run_id: str) -> Run:
    found: Run = run.collection.run_by_id(run_id)
    return found


def _recipe(run: Run) -> dict[str, Any]:
    record = run.record()
    params = run.params
    plain = type(params) is RunParams and not params.extra
    return {
        "id": run.id,
        "spec": run.spec.name,
        "datasets": list(run.dataset_names),
        "params": ({"name": params.name} if params.name else {}) | params.differences() if plain else None,
        "document": None if plain else params.to_json(),
        "data": {one["dataset"]: one["inputs_fingerprint"] for one in record["inputs"]},
    }


def _made_with(run: Run) -> str:
    """Return versions, device and threads as words; "" where that is not known."""
    try:
        origin = read_origin(run.layout.model_params)
    except ResultsError:
        return "It was not trained when this was written."
    versions = origin["versions"]
    named = ", ".join(f"{name} {version}" for name, version in versions.items()) or "versions unknown"
    device = origin.get("device") or "a device that is not on record"
    return "\n".join(textwrap.wrap(f"It was made with {named}; on {device}.", 105))


def _threads(run: Run) -> int | None:
    try:
        found = read_origin(run.layout.model_params).get("threads")
    except ResultsError:
        return None
    return int(found) if isinstance(found, int) else None


def _is_file(source: Mapping[str, Any]) -> bool:
    """Return whether a script can read the session: all of it is in files, by code that can be imported."""
    aligned = source.get("aligned_by", {"path": ""})
    code = [source.get("class", _DATASET_CLASS), source.get("reader"), aligned.get("reader")]
    importable = all(_is_importable(str(name)) for name in code if name is not None)
    return source.get("kind") == "file" and importable and aligned["path"] is not None


def _is_importable(name: str) -> bool:
    return not name.startswith("__main__.") and "<" not in name


def _noted(
    sources: Mapping[str, Mapping[str, Any]], used: Sequence[str], key: str
) -> dict[str, dict[str, Any] | str]:
    """Return, by dataset, what is on record of how its file is read."""
    return {n: sources[n][key] for n in used if _is_file(sources.get(n, {})) and key in sources[n]}


def _classes(sources: Mapping[str, Mapping[str, Any]], used: Sequence[str]) -> dict[str, str]:
    """Return, by dataset, the classes of users that read it."""
    named = {name: str(sources.get(name, {}).get("class", _DATASET_CLASS)) for name in used}
    return {n: c for n, c in named.items() if c != _DATASET_CLASS and _is_file(sources.get(n, {}))}


def _laid_out(value: Any) -> str:
    return pprint.pformat(value, width=100, sort_dicts=False)


_SCRIPT = '''\
#!/usr/bin/env python3
"""Reproduce run <TITLE>.

    python THIS_FILE                     prepare it anew, and check that it is the same run on the same data
    python THIS_FILE --train             and train it here
    python THIS_FILE --datasets FOLDER   where the recordings lie, if not where they were

Written by lfadsrm_hpc <VERSION>.
<MADE_WITH>
With the same versions on the same kind of device, with as many threads, it gives the same results to the
last bit.
"""

import argparse
import importlib
import os
import sys

RUN = <RUN>
COLLECTION = <COLLECTION>
DATASETS = <FOLDER>
THREADS = <THREADS>  # None: not on record

# file of each session, relative to DATASETS
FILES = <FILES>
# classes that read some of them, where it is not lfadsrm_hpc's own
CLASSES = <CLASSES>
# options with which they are read, and functions that read them, where there are any
OPTIONS = <OPTIONS>
READERS = <READERS>
# other files that some of them are aligned by
ALIGNED_BY = <ALIGNED_BY>
# sessions that were arrays in memory, or read by code that cannot be imported: add them in `sessions`
IN_MEMORY = <IN_MEMORY>

# in the order in which they are made; the last one is RUN, those before it are what it starts from
RUNS = <RUNS>


def imported(name):
    """Return a class or function by its full name."""
    module, _, own = name.rpartition(".")
    return getattr(importlib.import_module(module), own)


def sessions(folder):
    """Return the recording sessions."""
    from lfadsrm_hpc import Dataset, DatasetCollection

    found = DatasetCollection(folder, name=<DATASETS_NAME>)
    for name, file in FILES.items():
        kind, how = imported(CLASSES.get(name, "lfadsrm_hpc.Dataset")), OPTIONS.get(name, {})
        if name in READERS:
            session = kind.from_file(found, file, imported(READERS[name]), name=name, **how)
        else:
            session = kind(found, file, name=name, **how)
        if name in ALIGNED_BY:
            other = ALIGNED_BY[name]
            reader = imported(other["reader"]) if "reader" in other else None
            session.align_by(other["path"], reader=reader, **other.get("options", {}))
    # Dataset.from_arrays(found, "name of the session", spikes, bin_ms=..., condition=...)
    absent = [name for name in IN_MEMORY if name not in found]
    if absent:
        sys.exit(f"{', '.join(absent)}: not from a file; add it in the function sessions() of {sys.argv[0]}")
    return found


def params_of(recipe):
    """Return the run params of a run."""
    from lfadsrm_hpc import RunParams, __version__

    if recipe["document"] is not None:
        params = RunParams.from_json(recipe["document"])
    else:
        params = RunParams(**recipe["params"])
    if f"param_{params.param_hash}/{recipe['spec']}" != recipe["id"]:
        sys.exit(
            f"these params have the hash {params.param_hash}, not that of {recipe['id']}: lfadsrm_hpc "
            f"{__version__} has other defaults; install version <VERSION>"
        )
    return params


def check_data(run, recipe):
    """Stop unless the run has the data that it had."""
    found = {one["dataset"]: one["inputs_fingerprint"] for one in run.record()["inputs"]}
    for name, before in recipe["data"].items():
        if found[name] != before:
            sys.exit(f"session {name!r} holds other data than it did: {found[name]}, then {before}")


def main():
    parser = argparse.ArgumentParser(description=f"Reproduce run {RUN}.")
    parser.add_argument("--datasets", default=DATASETS, help="folder of the recordings (%(default)s)")
    parser.add_argument("--root", default="reproduced", help="folder for the run collection (%(default)s)")
    parser.add_argument("--train", action="store_true", help="train it in this process")
    given = parser.parse_args()
    if THREADS is not None:  # the last bits of sums depend on their number
        os.environ["LFADSRM_THREADS"] = str(THREADS)

    from lfadsrm_hpc import RunCollection, RunSpec

    found = sessions(given.datasets)
    made = []
    for recipe in RUNS:  # each alone: run specs and params are not crossed
        collection = RunCollection(given.root, COLLECTION, found)
        collection.add_params(params_of(recipe))
        collection.add_run_spec(RunSpec(recipe["spec"], found, recipe["datasets"]))
        print(collection.prepare_for_lfads(warn=False))
        (run,) = collection.runs
        check_data(run, recipe)
        made.append(run)
    print(f"{made[-1].id}: the same run on the same data, in {made[-1].path}")
    for run in made if given.train else ():
        code = run.train()
        if code != 0:
            sys.exit(code)
    return made[-1]


if __name__ == "__main__":
    main()
'''
