"""Preparing runs: inputs once a data hash, `params.json` a run, then the files that list them all.

Every dataset is loaded once; nothing that another process may be reading is ever rewritten.
"""

from __future__ import annotations

import sys
import warnings as warnings_module
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lfadsrm_hpc._version import __version__
from lfadsrm_hpc.collection import alignment_table, input_files, summary
from lfadsrm_hpc.collection import stored as stored_file
from lfadsrm_hpc.collection.input_checks import check
from lfadsrm_hpc.collection.params import RunParams
from lfadsrm_hpc.collection.run import Run, check_same_run, read_record
from lfadsrm_hpc.data.notes import Note, check_names, is_silenced
from lfadsrm_hpc.errors import DataWarning, MismatchError, NotFoundError, ParamsError, UsageError
from lfadsrm_hpc.layout import RunLayout
from lfadsrm_hpc.manifest.publish import publish_new, publish_replacing
from lfadsrm_hpc.model.hyperparameters import unlike

if TYPE_CHECKING:
    from lfadsrm_hpc.collection.contents import Contents
    from lfadsrm_hpc.data.dataset import Dataset

Progress = Callable[[int, int, str], None]


@dataclass
class PrepareReport:
    """What `prepare_for_lfads` did.

    Attributes
    ----------
    written, kept : list of str
        Ids of the runs that are new, and of those that were prepared before.
    inputs_written, inputs_kept : list of Path
    warnings : list of str
        What is odd about the data; those of `notes` among them.
    silenced : int
        Warnings that the user did not want.
    alignment : list of dict
        How well each dataset of each stitched run spec is aligned, for each data hash; see
        `lfadsrm_hpc.collection.alignment_table.alignment_rows`.
    """

    written: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    inputs_written: list[Path] = field(default_factory=list)
    inputs_kept: list[Path] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    silenced: int = 0
    alignment: list[dict[str, Any]] = field(default_factory=list)

    @property
    def notes(self) -> list[Note]:
        """The warnings about sessions, with names and numbers."""
        return [text for text in self.warnings if isinstance(text, Note)]

    def __str__(self) -> str:
        return (
            f"{len(self.written)} runs prepared, {len(self.kept)} kept; "
            f"{len(self.inputs_written)} input files written, {len(self.inputs_kept)} kept; "
            f"{len(self.warnings)} warnings" + (f" ({self.silenced} silenced)" if self.silenced else "")
        )


@dataclass
class _Work:
    """One call of `prepare`: what it has so far."""

    collection: Contents[Any]
    stored: dict[str, Any] | None
    report: PrepareReport
    progress: Progress | None
    total: int
    silence: tuple[str, ...] = ()
    done: int = 0
    silenced: set[str] = field(default_factory=set)
    loaded: dict[str, input_files.Loaded] = field(default_factory=dict)
    infos: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def known_datasets(self) -> list[dict[str, Any]]:
        return [] if self.stored is None else list(self.stored["datasets"]["items"])

    def warn(self, warnings: Iterable[str]) -> None:
        told = set(self.report.warnings)
        for text in dict.fromkeys(warnings):
            if is_silenced(text, self.silence):
                self.silenced.add(text)
                self.report.silenced = len(self.silenced)
            elif text not in told:
                self.report.warnings.append(text)

    def step(self, text: str) -> None:
        self.done += 1
        if self.progress is not None:
            self.progress(self.done, self.total, text)


def prepare(
    collection: Contents[Any], progress: Progress | None = None, silence: Sequence[str] = ()
) -> tuple[PrepareReport, dict[str, Any]]:
    """Do what `RunCollection.prepare_for_lfads` says; return the report and `collection.json`'s content."""
    silence = check_names(silence)
    runs = collection.runs
    stored = stored_file.read_stored(collection.layout)
    _check_plan(collection, runs, stored)
    groups = _by_inputs(runs)
    report = PrepareReport(warnings=list(dict.fromkeys(_check_starts(collection, runs))))
    n_files = sum(runs[0].n_datasets for of_spec in groups.values() for runs in of_spec.values())
    work = _Work(collection, stored, report, progress, total=n_files + len(runs), silence=silence)
    last_use = {name: spec for spec, of_spec in groups.items() for name in _first(of_spec).dataset_names}
    for spec, of_spec in groups.items():
        _prepare_spec(work, of_spec)
        for name in [name for name, last in last_use.items() if last == spec]:
            work.loaded.pop(name, None)  # memory holds only what is still needed
    document = stored_file.publish(collection.layout, _document(work, runs))
    return work.report, write_texts(collection, document)


def give_warnings(report: PrepareReport) -> None:
    """Give each warning of a report as `DataWarning`."""
    for text in report.warnings:
        warnings_module.warn(text, DataWarning, stacklevel=3)


# ---------------------------------------------------------------- the plan


def _check_plan(collection: Contents[Any], runs: Sequence[Run], stored: Mapping[str, Any] | None) -> None:
    if not runs:
        what = "run params" if not collection.params else "run specs"
        raise UsageError(
            f"collection {collection.name!r} has no {what}, so there is nothing to prepare",
            hint=f"call add_{'params' if not collection.params else 'run_spec'}(...) first",
        )
    if collection.dataset_collection is None:
        raise UsageError(
            f"collection {collection.name!r} has no datasets at hand",
            hint="open it with dataset_collection=, or prepare it with the script that made it",
        )
    specs = {spec.name: list(spec.dataset_names) for spec in collection.run_specs}
    stored_file.check_specs(stored, specs, collection.layout.collection_json)
    for run in runs:
        if run.params.feedback_factors_or_rates == "rates" and run.n_datasets > 1 and run.params.co_dim > 0:
            raise ParamsError(
                f"feedback_factors_or_rates='rates' needs one dataset, and run spec {run.name!r} has "
                f"{run.n_datasets}: their rates differ in number",
                where=run.id,
                hint="use 'factors' for stitched runs",
            )


def _check_starts(collection: Contents[Any], runs: Sequence[Run]) -> Iterator[str]:
    """Check what runs start from, as far as it can be known before that is trained; give warnings.

    Raises
    ------
    NotFoundError
        There is no such run.
    ParamsError
        Its model has other sizes.
    """
    coming = {run.layout.path: run.params for run in runs}
    for run in runs:
        params = run.params
        if params.start_from is None:
            for name in ("do_train_io_only", "do_train_encoder_only"):
                if getattr(params, name):
                    yield f"{name} without start_from: all else stays at random numbers (run {run.id})"
            continue
        source = collection.layout.run_at(params.start_from)
        there = coming.get(source.path)
        if there is None:
            there = _params_there(source, run)
        differing = unlike(params, there.values())
        if differing:
            raise ParamsError(
                f"start_from = {params.start_from!r}: that model has other sizes: {'; '.join(differing)}",
                where=run.id,
                hint="start from a run with the same sizes, or start anew",
            )
        if there.spike_bin_ms != params.spike_bin_ms:
            yield (
                f"run {run.id} has bins of {params.spike_bin_ms:g} ms and starts from a model of bins of "
                f"{there.spike_bin_ms:g} ms: its dynamics have another speed"
            )


def _params_there(source: RunLayout, run: Run) -> RunParams:
    try:
        return RunParams.from_json(read_record(source.params_json)["params"])
    except NotFoundError:
        raise NotFoundError(
            f"start_from = {run.params.start_from!r}: there is no run in this folder",
            where=source.path,
            hint=f"prepare it first, or correct start_from of run {run.id}: a run's folder, absolute or as "
            "param_<hash>/<run spec> of this collection",
        ) from None


def _by_inputs(runs: Sequence[Run]) -> dict[str, dict[str, list[Run]]]:
    """Return the runs by run spec and data hash: those of one group share their input files."""
    groups: dict[str, dict[str, list[Run]]] = {}
    for run in runs:
        groups.setdefault(run.spec.name, {}).setdefault(run.data_hash, []).append(run)
    return groups


def _first(of_spec: Mapping[str, list[Run]]) -> Run:
    return next(iter(of_spec.values()))[0]


def _prepare_spec(work: _Work, of_spec: Mapping[str, list[Run]]) -> None:
    spec = _first(of_spec).spec
    datasets = spec.datasets_in(work.collection.dataset_collection)
    loaded = [_load(work, dataset) for dataset in datasets]
    for runs in of_spec.values():
        sessions = [item.session(runs[0].params) for item in loaded]
        work.warn(check(sessions, runs))
        work.warn(_few_shared(loaded, sessions, runs[0]))
        inputs = _inputs(work, loaded, sessions, runs[0])
        aligned = alignment_table.alignment_rows(runs[0])
        work.report.alignment += aligned
        for warning in alignment_table.alignment_warnings(aligned):
            if warning not in work.report.warnings:
                work.report.warnings.append(warning)
        for run in runs:
            _publish_run(work, run, inputs)
            work.step(run.id)
        _check_inputs_stayed(work, inputs)


def _few_shared(
    loaded: Sequence[input_files.Loaded], sessions: Sequence[input_files.Session], run: Run
) -> list[Note]:
    """Return which sessions cannot be aligned by the conditions that they share."""
    if run.n_datasets < 2 or not run.params.aligned(run.n_datasets):
        return []
    from lfadsrm_hpc.data.early_warnings import few_shared

    if any(item.alignment_data is not None for item in loaded):
        return []  # their conditions are not those of the sessions
    return list(few_shared([session.inputs for session in sessions], run.params.factors_dim))


def _load(work: _Work, dataset: Dataset) -> input_files.Loaded:
    if dataset.name not in work.loaded:
        work.loaded[dataset.name] = input_files.load(dataset, work.known_datasets)
        work.infos[dataset.name] = work.loaded[dataset.name].info
        work.warn(work.loaded[dataset.name].notes)
    return work.loaded[dataset.name]


def _inputs(
    work: _Work, loaded: Sequence[input_files.Loaded], sessions: Sequence[input_files.Session], run: Run
) -> list[dict[str, Any]]:
    """Write or keep the input files of one run spec and data hash; return what `params.json` says of them."""
    entries = []
    for made in input_files.write_or_keep(loaded, sessions, run, work.known_datasets):
        (work.report.inputs_written if made.written else work.report.inputs_kept).append(made.path)
        work.warn([made.warning] if made.warning else [])
        entries.append(
            {
                "dataset": made.dataset,
                "file": made.path.relative_to(work.collection.path).as_posix(),
                "fingerprint": made.fingerprint.partition("+")[0],
                "inputs_fingerprint": made.fingerprint,
            }
        )
        work.step(f"inputs of {run.name}: {made.dataset}")
    return entries


def _check_inputs_stayed(work: _Work, inputs: Sequence[Mapping[str, Any]]) -> None:
    """Refuse inputs that `lfadsrm clean` took for unused just before the runs that need them were on disk.

    It looks at the runs after it has put inputs aside, and this looks at the inputs after the runs: one of
    the two sees the other.
    """
    for entry in inputs:
        path = work.collection.path / entry["file"]
        if not path.exists():
            raise MismatchError(
                "the input file was deleted while the runs that need it were prepared",
                where=path,
                hint="prepare again: it is written anew",
            )


# ---------------------------------------------------------------- runs and lists


def _publish_run(work: _Work, run: Run, inputs: list[dict[str, Any]]) -> None:
    path = run.layout.params_json
    record = {
        **run.identity(),
        "collection": work.collection.name,
        "param_hash": run.params.param_hash,
        "spec": run.spec.to_json(),
        "params": run.params.to_json(),
        "inputs": inputs,
        "version": __version__,
    }
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        if publish_new(path, stored_file.as_bytes(record)):
            work.report.written.append(run.id)
            return
    _check_record(path, record, run)
    work.report.kept.append(run.id)


def _check_record(path: Path, record: dict[str, Any], run: Run) -> None:
    """Refuse a `params.json` of another run; bring up to date what does not change the trained model."""
    before = read_record(path)
    check_same_run(before, run.identity(), path)
    prints = [{e["dataset"]: e["inputs_fingerprint"] for e in r["inputs"]} for r in (before, record)]
    changed = [name for name in run.dataset_names if prints[0].get(name) != prints[1][name]]
    if changed:
        raise MismatchError(
            f"dataset {changed[0]!r} has changed since run {run.id} was prepared",
            where=path,
            hint="put the old data back, or use another collection",
        )
    if before["params"] != record["params"] or before["spec"] != record["spec"]:
        publish_replacing(path, stored_file.as_bytes(record | {"version": before.get("version")}))


def _document(work: _Work, runs: Sequence[Run]) -> dict[str, Any]:
    collection = work.collection
    datasets = collection.dataset_collection
    return {
        "name": collection.name,
        "version": __version__,
        "comment": collection.comment,
        "datasets": {
            "collection": getattr(datasets, "name", ""),
            "path": str(Path(getattr(datasets, "path", "")).absolute()),
            "items": list(work.infos.values()),
        },
        "params": [{**p.to_json(), "param_hash": p.param_hash} for p in collection.params],
        "run_specs": [spec.to_json() for spec in collection.run_specs],
        "runs": [run.id for run in runs],
    }


def write_texts(collection: Contents[Any], document: Mapping[str, Any]) -> dict[str, Any]:
    """Write `summary.txt` and `launch_tensorboard.sh` for all that is on disk, not only what is in memory.

    Another process may list more runs in the meantime and be overtaken with its texts: then write them again.
    """
    from lfadsrm_hpc.rendering import render

    layout, now = collection.layout, dict(document)
    for _ in range(stored_file.MOST_ROUNDS):
        whole = type(collection).open(collection.path)
        publish_replacing(layout.summary, summary.full_text(whole).encode())
        values = {
            "collection": collection.name,
            "python": sys.executable,
            "runs": [_tensorboard_run(run, whole) for run in whole.runs],
        }
        publish_replacing(layout.tensorboard_script, render("launch_tensorboard.sh.j2", values).encode())
        before, now = now, stored_file.read_stored(layout) or now
        if now == before and whole.n_runs == len(now["runs"]):
            break
    return now


def _tensorboard_run(run: Run, whole: Contents[Any]) -> dict[str, str]:
    return {
        "name": run.id.replace("/", "__"),
        "folder": run.layout.checkpoints.relative_to(whole.path).as_posix(),
        "note": run.params.diff_text(),
    }
