"""An experiment as a Python script: what `experiment.toml` says, in the words of the Python interface.

Both give the same collection, file by file. The script is where all begins that the TOML file cannot say.
"""

from __future__ import annotations

import glob
import pprint
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lfadsrm_hpc.collection.experiment import Experiment
from lfadsrm_hpc.collection.experiment_file import EXPERIMENT_FILE, SCRIPT_FILE
from lfadsrm_hpc.model.hyperparameters import plain_names, specs
from lfadsrm_hpc.rendering import shell_quote

_HEAD = '''\
#!/usr/bin/env python3
"""An experiment of lfadsrm_hpc: `python <SCRIPT>` prepares the run collection, as `lfadsrm prepare` does.

Written by `lfadsrm init --python`<FROM>. It is yours to change: datasets may be arrays in memory or
of a class of your own, params may depend on each other, run specs may be chosen by what is in the data. The
same names and values give the same runs, whichever way they were made.
"""

from pathlib import Path

from lfadsrm_hpc import Dataset, DatasetCollection, RunCollection, RunParams, RunSpec

HERE = Path(__file__).resolve().parent

# Recording sessions.
sessions = DatasetCollection(<DATASETS>)
'''

_TAIL = """
if __name__ == "__main__":
    print(collection.prepare_for_lfads())
    print(collection.path)
    # Then: lfadsrm run <WHERE>; or here:
    # collection.run_local(<QUEUE>)
    # collection.submit(<CLUSTER>)
"""


def script_of(experiment: Experiment, *, found: bool) -> str:
    """Return a script that makes the collection of an experiment.

    Parameters
    ----------
    experiment : Experiment
    found : bool
        Whether its `experiment.toml` is there: the script says then that it was made from it.

    Raises
    ------
    ConfigError
        The experiment names a hyperparameter that does not exist.
    """
    here = experiment.path.absolute().parent
    lines = [
        *_head(experiment, here, found=found),
        *_sessions(experiment, here),
        *_params(experiment),
        *_collection(experiment, here),
        *_run_specs(experiment),
    ]
    text = "\n".join(lines) + "\n" + _TAIL
    values = {
        "WHERE": shell_quote(_relative(experiment.collection_path, here)),
        "QUEUE": _keywords(experiment.queue),
        "CLUSTER": _keywords(_order(experiment.cluster)),
    }
    for name, value in values.items():
        text = text.replace(f"<{name}>", value)
    return text


def _head(experiment: Experiment, here: Path, *, found: bool) -> Iterator[str]:
    text = _HEAD.replace("<SCRIPT>", SCRIPT_FILE).replace(
        "<FROM>", f" from {EXPERIMENT_FILE}" if found else ""
    )
    yield text.replace("<DATASETS>", _path(experiment.datasets, here)).rstrip("\n")


def _sessions(experiment: Experiment, here: Path) -> Iterator[str]:
    options = _more(experiment.options)
    for entry in experiment.files:
        yield f"sessions.add_all({_pattern(experiment.datasets, entry)!r}{options})"
    for name, file, own in experiment.sessions:
        more = _more(experiment.options | own)
        yield f"Dataset(sessions, {_file(experiment.datasets, file)!r}, name={name!r}{more})"
    if experiment.min_trials:
        yield "sessions.load_info()"
        yield f"sessions = sessions.filter_min_trials({experiment.min_trials})"
    if experiment.alignment is not None:
        yield "for session in sessions:  # stitched runs are aligned by other data, files of the same names"
        folder = _path(experiment.alignment, here)
        yield f"    source = next(path for path in ({folder}).iterdir() if path.stem == session.name)"
        yield f"    session.align_by(source{_more(experiment.options | experiment.alignment_options)})"
    elif experiment.alignment_options:
        yield "for session in sessions:"
        yield f"    session.align_by(None{_more(experiment.alignment_options)})"


def _params(experiment: Experiment) -> Iterator[str]:
    from lfadsrm_hpc.collection.params import RunParams

    names = specs(RunParams)
    yield ""
    yield "# Hyperparameters: what is not named keeps its default (`lfadsrm show --params`)."
    yield f"params = RunParams({_keywords(plain_names(experiment.params, names), lines=True)})"
    swept = plain_names(experiment.sweep, names)
    if swept:
        yield f"sweep = params.generate_sweep({_keywords(swept, lines=True)})  # every combination"
    else:
        yield "sweep = [params]"


def _collection(experiment: Experiment, here: Path) -> Iterator[str]:
    more = f", comment={experiment.comment!r}" if experiment.comment else ""
    root = _path(experiment.root, here)
    yield ""
    yield f"collection = RunCollection({root}, {experiment.name!r}, sessions{more})"
    yield "collection.add_params(sweep)"


def _run_specs(experiment: Experiment) -> Iterator[str]:
    if experiment.singles:
        yield "for session in sessions:  # each alone"
        yield "    collection.add_run_spec(RunSpec(session.single_run_name, sessions, [session.name]))"
    if experiment.stitched is not None:
        yield "if len(sessions) > 1:  # all of them together"
        yield f"    collection.add_run_spec(RunSpec({experiment.stitched!r}, sessions, sessions.names))"
    for name, members in experiment.specs:
        yield f"collection.add_run_spec(RunSpec({name!r}, sessions, {list(members)!r}))"


def _pattern(folder: Path, entry: str) -> str:
    """Return the pattern that means what an entry of `files` means: it may be a name without its suffix."""
    if (folder / entry).is_file():
        return glob.escape(entry)
    return entry if any(c in entry for c in "*?[") else f"{entry}.*"


def _file(folder: Path, entry: str) -> str:
    """Return the file that an entry means, if it is there."""
    found = [] if (folder / entry).is_file() else sorted(folder.glob(_pattern(folder, entry)))
    return found[0].relative_to(folder).as_posix() if found else entry


def _path(path: Path, here: Path) -> str:
    """Return a path as an expression, from the folder of the script where it lies below."""
    relative = _relative(path, here)
    if relative.is_absolute():
        return f"Path({str(relative)!r})"
    return "HERE" if relative == Path() else f"HERE / {relative.as_posix()!r}"


def _relative(path: Path, here: Path) -> Path:
    return path.relative_to(here) if path.is_relative_to(here) else path


def _order(cluster: dict[str, Any]) -> dict[str, Any]:
    """Return the [cluster] table as `RunCollection.submit` takes it."""
    order = {key: value for key, value in cluster.items() if key not in ("account", "set")}
    account = [f"options.account={cluster['account']}"] if "account" in cluster else []
    sets = [*cluster.get("set", ()), *account]
    return {**order, **({"sets": sets} if sets else {})}


def _keywords(values: dict[str, Any], *, lines: bool = False) -> str:
    if all(name.isidentifier() for name in values):
        parts = [f"{name}={pprint.pformat(value, sort_dicts=False)}" for name, value in values.items()]
    else:
        parts = [f"**{values!r}"]
    if lines and len(parts) > 2:
        return "\n    " + "\n    ".join(f"{part}," for part in parts) + "\n"
    return ", ".join(parts)


def _more(options: dict[str, Any]) -> str:
    text = _keywords(options)
    return f", {text}" if text else ""
