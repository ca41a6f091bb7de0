"""What nobody uses any more: input files without a run, and unfinished files of commands that were killed."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from lfadsrm_hpc.collection.run import read_record
from lfadsrm_hpc.layout import CollectionLayout, RunLayout, is_temporary
from lfadsrm_hpc.manifest.publish import file_system_now

STALE_S = 86400.0
"""An unfinished file that nobody has written to for so long was left by a process that is gone, s."""

_NEW_S = 3600.0


def used_inputs(layout: CollectionLayout) -> set[Path]:
    """Return the folders of input files that some prepared run needs.

    Raises
    ------
    ConfigError
        The `params.json` of a run cannot be read, so it is not known what it needs.
    """
    records = (read_record(run.params_json) for run in layout.runs_on_disk())
    return {(layout.path / entry["file"]).parent for record in records for entry in record["inputs"]}


def unused_inputs(layout: CollectionLayout) -> list[Path]:
    """Return the folders of input files that no run needs; those of the last hour are left out: `prepare`
    writes inputs before the runs that need them."""
    found = layout.input_dirs()
    if not found:
        return []
    used, now = used_inputs(layout), file_system_now(layout.path)
    return [path for path in found if path not in used and now is not None and _age(path, now) > _NEW_S]


def settle_removed_inputs(layout: CollectionLayout, folder: Path) -> bool:
    """Delete a folder of input files, unless a run needs it by now; return whether it is gone.

    It is put aside first, then the runs are looked at again: `prepare` writes `params.json` first and then
    looks whether the inputs are there. So either this sees the run and puts them back, or `prepare` sees that
    they are gone.
    """
    aside = layout.removed_inputs(folder, os.urandom(8).hex())
    try:
        folder.rename(aside)
    except FileNotFoundError:
        return False
    return not _put_back(layout, aside, folder)


def _put_back(layout: CollectionLayout, aside: Path, folder: Path) -> bool:
    """Put inputs back that were put aside and are needed, else delete them; return whether they are back."""
    if folder in used_inputs(layout):
        with contextlib.suppress(OSError):  # written anew meanwhile: then the old ones are of no use
            aside.rename(folder)
            return True
    shutil.rmtree(aside, ignore_errors=True)
    return False


def settle_interrupted(layout: CollectionLayout) -> None:
    """End what a killed `clean` has begun: inputs that it had put aside are put back, or deleted."""
    for aside, folder in layout.inputs_put_aside():
        _put_back(layout, aside, folder)


def stale_files(
    layout: CollectionLayout, runs: Sequence[RunLayout], *, whole: bool
) -> Iterator[tuple[str, Path]]:
    """Yield run id ("": none) and path of unfinished files that are older than `STALE_S`.

    Parameters
    ----------
    layout : CollectionLayout
    runs : sequence of RunLayout
        Runs at which nobody works.
    whole : bool
        Look also at what belongs to no run.
    """
    now = file_system_now(layout.path)
    if now is None:
        return
    for run in runs:
        yield from ((run.run_id, path) for path in _stale_below(run.path, now))
    if whole:
        folders = [layout.state_dir, layout.figures, *(path.parent for path in layout.input_dirs())]
        for folder in dict.fromkeys(folders):
            yield from (("", path) for path in _stale_below(folder, now))
        yield from (("", path) for path in _stale_in(layout.path, os.listdir(layout.path), now))  # noqa: PTH208
        yield from (("", path) for path in layout.runs_put_aside() if _age(path, now) > STALE_S)


def _stale_below(folder: Path, now: float) -> Iterator[Path]:
    for at, folders, names in os.walk(folder):
        stale = [*_stale_in(Path(at), [*folders, *names], now)]
        folders[:] = [name for name in folders if Path(at, name) not in stale]
        yield from stale


def _stale_in(folder: Path, names: Sequence[str], now: float) -> Iterator[Path]:
    for name in sorted(names):
        if is_temporary(name) and _age(folder / name, now) > STALE_S:
            yield folder / name


def _age(path: Path, now: float) -> float:
    """Return for how long nobody has changed a file, or a folder and the files in it, s."""
    try:
        times = [path.lstat().st_mtime]
        times += [one.lstat().st_mtime for one in path.iterdir()] if path.is_dir() else []
    except FileNotFoundError:
        return 0.0
    return now - max(times)
