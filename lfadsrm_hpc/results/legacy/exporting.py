"""Runs in the directories of the Matlab run manager, so that users of Matlab can go on with them.

Folders have the hashes that Matlab makes of the same params; hyperparameters that it does not know enter
them as properties of a subclass of LFADS.RunParams would, so that no two runs of a sweep fall together. The
folder appears under its name when all is written.

What the layout cannot hold is told, and noted in `lfadsrm_export.json`: posterior standard deviations,
learning rates, checkpoints (no training goes on from there), behaviour, outputs that are neither counts nor
Gaussian.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from lfadsrm_hpc.beside import remove_leftovers, temporary_beside
from lfadsrm_hpc.collection.params import RunParams
from lfadsrm_hpc.collection.run import Run
from lfadsrm_hpc.collection.words import value_text
from lfadsrm_hpc.data.formats.foreign import check_file
from lfadsrm_hpc.errors import ResultsError, UsageError
from lfadsrm_hpc.legacy_layout import LegacyCollectionLayout
from lfadsrm_hpc.results.arrays.split import SPLITS
from lfadsrm_hpc.results.legacy import run_files as files
from lfadsrm_hpc.results.legacy.matlab_params import OUR_NAMES, data_hash, param_hash, to_matlab
from lfadsrm_hpc.results.legacy.model_params import write_lfads_params
from lfadsrm_hpc.results.one_file import Exported, OnRun
from lfadsrm_hpc.results.posterior_means.format import COUNT_DISTS, versions
from lfadsrm_hpc.results.posterior_means.of_runs import Own

FORMAT = "lfadsrm_hpc export to the layout of the Matlab run manager"
ALWAYS = [
    "checkpoints: no training goes on from there",
    "learning rates of the fit logs",
]


def write_matlab_collection(
    path: Path,
    runs: Sequence[Exported],
    *,
    overwrite: bool = False,
    on_run: OnRun = lambda done, total, run_id: None,
) -> list[str]:
    """Write a collection of the Matlab run manager.

    Parameters
    ----------
    path : Path
        `<root>/<name>` of the new collection.
    runs : sequence of Exported
        Complete runs of this package.
    overwrite : bool
        Replace an earlier export of this name; no other folder is replaced.
    on_run : callable
        Called with runs done, all runs, and the run that is next or "" at the end.

    Returns
    -------
    list of str
        What the layout does not hold, in words.

    Raises
    ------
    UsageError
        There is such a folder; or the runs are Matlab's own.
    ResultsError
        A run cannot be read, or the disk refuses; nothing is left.
    """
    path = Path(path).absolute()
    _check(path, overwrite=overwrite)
    if not all(isinstance(run.loadable, Own) for run in runs):
        raise UsageError("this collection is in the layout of the Matlab run manager already", where=path)
    temporary = temporary_beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path)
        temporary.mkdir()
        writer = _Writer(LegacyCollectionLayout(temporary), path.name)
        for number, run in enumerate(runs):
            assert isinstance(run.loadable, Own)
            on_run(number, len(runs), run.id)
            writer.add(run.loadable, run)
        writer.finish()
        on_run(len(runs), len(runs), "")
        _put_in_place(temporary, path, overwrite=overwrite)
    except (OSError, RuntimeError, KeyError) as error:
        raise ResultsError(
            f"the collection cannot be written ({error})",
            where=path,
            hint="is the disk full, over quota, or read-only? is a run damaged?",
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return writer.notes


def _check(path: Path, *, overwrite: bool) -> None:
    if not path.exists() and not path.is_symlink():
        return
    if not LegacyCollectionLayout(path).exported.is_file():
        raise UsageError(
            "there is a file or folder of this name, which is no earlier export: it is not replaced",
            where=path,
            hint="name another folder",
        )
    if not overwrite:
        raise UsageError(
            "there is an earlier export of this name",
            where=path,
            hint="name another folder, or replace it: --overwrite (in Python overwrite=True)",
        )


def _put_in_place(temporary: Path, path: Path, *, overwrite: bool) -> None:
    _check(path, overwrite=overwrite)  # what came meanwhile is not lost
    if path.exists():
        old = temporary_beside(path)
        path.rename(old)
        temporary.rename(path)
        shutil.rmtree(old, ignore_errors=True)
    else:
        temporary.rename(path)


class _Writer:
    """Writes runs into a folder.

    Attributes
    ----------
    notes : list of str
        What the layout does not hold.
    """

    def __init__(self, layout: LegacyCollectionLayout, name: str) -> None:
        self.layout, self.name = layout, name
        self.notes = list(ALWAYS)
        self._params: dict[str, RunParams] = {}  # by Matlab's hash, in order
        self._data: dict[str, str] = {}
        self._inputs: dict[str, str] = {}  # folder -> data hash of ours
        self._specs: dict[str, tuple[str, ...]] = {}
        self._runs: list[dict[str, Any]] = []

    def add(self, own: Own, exported: Exported) -> None:
        """Write a run."""
        run = own.run
        hashed = self._hash_of(run.params)
        data = self._data_hash_of(run, hashed)
        self._specs[run.spec.name] = run.dataset_names
        target = self.layout.run(hashed, run.spec.name)
        for folder in (target.input_dir, target.output.path):
            folder.mkdir(parents=True)
        step = self._write_params(run, target.output.path / "model_params")
        bins = 0
        for dataset, source in run.input_files().items():
            bins = self._write_dataset(own, dataset, source, data, step)
        with contextlib.suppress(ResultsError):  # a run can do without
            target.output.fitlog.write_text(files.fit_log_text(exported.fit_log()))
        text = files.hyperparameters_text(
            run.params, added_of(run.params), bins=bins, n_datasets=run.n_datasets
        )
        target.output.hyperparameters(0).write_text(text)
        if run.params.output_dist not in (*COUNT_DISTS, "gaussian"):
            self._note(f"what {run.params.output_dist} outputs are: they stand as means and variances")
        target.done.touch()
        self._runs.append({"run": run.id, "matlab": f"param_{hashed}/{run.spec.name}", "token": own.token})

    def finish(self) -> None:
        """Write what is of all runs."""
        self.layout.summary.write_text(self._summary(), encoding="utf-8")
        about = {
            "format": FORMAT,
            "format_version": 1,
            "versions": versions(),
            "runs": self._runs,
            "left_out": self.notes,
        }
        self.layout.exported.write_text(json.dumps(about, indent=1) + "\n")

    # ---------------------------------------------------------------- names

    def _hash_of(self, params: RunParams) -> str:
        hashed = param_hash(to_matlab(params.values()), hashable(added_of(params)))
        known = self._params.setdefault(hashed, params)
        if known.hashed_values() != params.hashed_values():
            raise ResultsError(
                f"two different params have the hash {hashed} in Matlab: {known.diff_text(params)}",
                hint="export them into two folders",
            )
        return hashed

    def _data_hash_of(self, run: Run, hashed: str) -> str:
        """Return Matlab's hash of the inputs; inputs that differ in what it does not know get others."""
        ours = {n: v for n, v in added_of(run.params).items() if run.params.affects(n) == "data"}
        found = data_hash(to_matlab(run.params.values()), hashable(ours))
        folder = f"{found}/{run.spec.name}"
        if self._inputs.setdefault(folder, run.data_hash) != run.data_hash:
            found = data_hash(to_matlab(run.params.values()), {**hashable(ours), "inputs": run.data_hash})
            self._inputs[f"{found}/{run.spec.name}"] = run.data_hash
        self._data[hashed] = found
        return found

    # ---------------------------------------------------------------- files

    def _write_dataset(self, own: Own, dataset: str, source: Path, data: str, step: int) -> int:
        run = own.run
        target = self.layout.run(self._hash_of(run.params), run.spec.name)
        folder = self.layout.data_dir(data, run.spec.name)
        inputs = folder / target.input_link(dataset).name
        info = folder / target.info_link(dataset).name
        if not inputs.exists():
            folder.mkdir(parents=True, exist_ok=True)
            files.write_inputs(source, inputs)
            self._note(*files.write_info(source, info, data))
        for link, file in ((target.input_link(dataset), inputs), (target.info_link(dataset), info)):
            _link(link, file)
        check_file(source)
        with h5py.File(source, "r", locking=False) as stored:
            inds = {split: files.inds_of(stored, split) for split in SPLITS}
            bins = int(stored["train_data"].shape[1])
            if stored.get("extra"):
                self._note(f"further variables of dataset {dataset}: {', '.join(stored['extra'])}")
        kind = run.params.posterior_mean_kind
        targets = {split: target.output.posterior(dataset, split, kind) for split in SPLITS}
        self._note(*files.write_means(own.open(dataset, cache=False), inds, targets, step))
        return bins

    def _write_params(self, run: Run, target: Path) -> int:
        arrays: dict[str, Any] = {}

        def keep(name: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset):
                arrays[name] = np.asarray(item[()])

        check_file(run.layout.model_params)
        with h5py.File(run.layout.model_params, "r", locking=False) as file:
            file.visititems(keep)
            step = int(file.attrs.get("step", 0))
        self._note(*write_lfads_params(target, arrays, run.params.values(), step))
        return step

    def _note(self, *notes: str) -> None:
        self.notes += [note for note in notes if note not in self.notes]

    def _summary(self) -> str:
        """Return `summary.txt` as the run manager writes it."""
        count = len(self._runs)
        text = f'LFADS.RunCollection "{self.name}" ({count} runs total)\n  Written by lfadsrm_hpc\n\n'
        text += f"  {len(self._params)} parameter settings\n"
        for number, (hashed, params) in enumerate(self._params.items(), start=1):
            text += f"    [{number} param_{hashed} data_{self._data[hashed]}] LFADS.RunParams\n"
            shown = {**to_matlab(params.values()), **added_of(params), "split": params.split}
            text += "".join(f"      {name}: {_matlab_text(value)}\n" for name, value in shown.items())
        text += f"\n  {len(self._specs)} run specifications\n"
        for number, (spec, datasets) in enumerate(self._specs.items(), start=1):
            text += f'    [runSpec {number}] LFADS.RunSpec "{spec}" ({len(datasets)} datasets)\n'
            text += "".join(
                f'      [ds {place}] LFADS.Dataset "{name}"\n' for place, name in enumerate(datasets, start=1)
            )
        return text


def added_of(params: RunParams) -> dict[str, Any]:
    """Return the values that matter, are not at their defaults, and that Matlab has no property for."""
    values = params.values()
    return {name: values[name] for name in params.hashed_values() if name not in OUR_NAMES}


def hashable(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values as Matlab could have them: numbers, truth values, texts."""
    return {
        name: value if isinstance(value, bool | int | float | str) else value_text(value)
        for name, value in values.items()
    }


def _matlab_text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return "{}"
    return repr(value) if isinstance(value, float) else str(value)


def _link(link: Path, file: Path) -> None:
    """Link a run to its input, relatively; where the file system has no links it gets a copy."""
    try:
        link.symlink_to(os.path.relpath(file, link.parent))
    except OSError:
        with contextlib.suppress(FileExistsError):
            shutil.copyfile(file, link)
