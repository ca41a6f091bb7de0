"""Pack a collection into one file, verify it, and only then, if it is asked for, delete the collection.

The file appears under its name when it was read back and every checksum was right. A collection is deleted by
giving it a hidden name first: whoever looks finds a whole collection or none. docs/cleaning.md tells users.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lfadsrm_hpc.collection import archive_file
from lfadsrm_hpc.collection.archive_file import Content, Packed
from lfadsrm_hpc.collection.run import read_record
from lfadsrm_hpc.collection.stored import as_bytes, read_stored
from lfadsrm_hpc.errors import ClaimLostError, MismatchError, UsageError
from lfadsrm_hpc.layout import CollectionLayout, RunLayout, is_temporary, unfinished, unfinished_files
from lfadsrm_hpc.manifest.holding import held
from lfadsrm_hpc.manifest.process import hostname
from lfadsrm_hpc.manifest.reading import collection_states
from lfadsrm_hpc.manifest.states import RunState

Step = Callable[[int, int], None]
_LEFT_S = 86400.0
_PASSES = 3  # measured, packed, read back


@dataclass(frozen=True)
class Archived:
    """An archive that was verified.

    Attributes
    ----------
    path : Path
    content : Content
        What it holds.
    made : bool
        False: it was there already, and holds all that is on disk.
    removed : bool
        Whether the collection was deleted.
    """

    path: Path
    content: Content
    made: bool = True
    removed: bool = False


def archive(
    layout: CollectionLayout,
    target: Path | None,
    runs: Sequence[RunLayout] | None,
    *,
    remove: bool = False,
    on_step: Step | None = None,
) -> Archived:
    """Do what `RunCollection.archive` says; `runs` None: all of the collection."""
    if remove and runs is not None:
        raise UsageError(
            "only a whole collection can be removed with its archive",
            hint="leave --remove out; `lfadsrm clean --kind posterior-means` frees the space of runs",
        )
    target = layout.default_archive if target is None else target
    archive_file.check_name_of(target)
    if layout.path.resolve() in target.absolute().resolve().parents:
        raise UsageError(
            "an archive cannot lie in its own collection", where=target, hint="name another place"
        )
    chosen = layout.runs_on_disk() if runs is None else runs
    states = _states(layout, chosen)
    with contextlib.ExitStack() as stack:
        holds = [_take(stack, run) for run in chosen] if remove else []
        members = _Members(layout, None if runs is None else chosen, holds)
        total = _PASSES * members.size
        meter = _Meter(on_step, total)
        files = [_measured(name, source, meter) for name, source in members.sources.items()]
        done = _archived(members, files, target, states, meter)
        if remove:
            _remove(members, files)
    return replace(done, removed=remove)


def settle_interrupted(layout: CollectionLayout) -> str | None:
    """End what a killed `archive --remove` has begun; return what was done, None: there was nothing."""
    aside, deleted = layout.left_aside()
    told = []
    for path in deleted:
        shutil.rmtree(path, ignore_errors=True)
        told.append("deleted what an interrupted removal had left: the collection is in its archive")
    for path in aside:
        if not layout.path.exists():
            path.rename(layout.path)
            told.append("an interrupted removal had put the collection aside: it is back")
    return "; ".join(told) or None


def _states(layout: CollectionLayout, runs: Sequence[RunLayout]) -> dict[str, str]:
    states = {run_id: status.state for run_id, status in collection_states(layout, runs).items()}
    busy = [run_id for run_id, state in states.items() if state.is_live or state is RunState.UNKNOWN]
    if busy:
        raise UsageError(
            f"{len(busy)} of the runs are at work, wait in a queue, or may do so, as {busy[0]}",
            where=layout.path,
            hint="wait for them or cancel them; nothing was packed",
        )
    return {run_id: state.value for run_id, state in states.items()}


def _take(stack: contextlib.ExitStack, run: RunLayout) -> tuple[RunLayout, int]:
    try:
        return run, stack.enter_context(held(run)).attempt
    except ClaimLostError as error:
        raise UsageError(
            error.what, where=error.where, hint="wait for the run or cancel it; nothing was packed"
        ) from None


class _Meter:
    """Counts bytes, and tells how far it is."""

    def __init__(self, on_step: Step | None, total: int) -> None:
        self._on_step, self._total, self._done = on_step, total, 0

    def __call__(self, size: int) -> None:
        self._done += size
        if self._on_step is not None:
            self._on_step(self._done, self._total)


class _Members:
    """The files of a collection that belong into its archive."""

    def __init__(
        self,
        layout: CollectionLayout,
        runs: Sequence[RunLayout] | None,
        holds: Sequence[tuple[RunLayout, int]],
    ) -> None:
        self.layout, self.runs = layout, runs
        self._left_out = {run.attempt(number).path.relative_to(layout.path) for run, number in holds}
        self.sources: dict[str, Path | bytes] = {str(path): layout.path / path for path in self.listed()}
        if runs is not None:
            self.sources[layout.collection_json.name] = _listing(layout, runs)
        self.size = sum(
            len(source) if isinstance(source, bytes) else source.stat().st_size
            for source in self.sources.values()
        )

    def listed(self, top: Path | None = None) -> Iterator[Path]:
        """Yield the files that are there now, relative; `top`: the folder, where it has another name now."""
        top = self.layout.path if top is None else top
        for at, folders, names in os.walk(top):
            here = Path(at).relative_to(top)
            folders[:] = sorted(name for name in folders if self._wanted(here / name))
            for name in folders:
                if (top / here / name).is_symlink():
                    raise UsageError(
                        "a folder in the collection is a link to another place",
                        where=top / here / name,
                        hint="put the folder itself there, or take the link away",
                    )
            yield from (here / name for name in sorted(names) if self._wanted(here / name))

    def _wanted(self, path: Path) -> bool:
        whole = self.layout.path / path
        if is_temporary(path.name) or path in self._left_out or self.layout.is_cache(whole):
            return False
        if whole == self.layout.archive_manifest:
            return False
        if self.runs is None or path.parts[0] == self.layout.state_dir.name:
            return True
        if not path.parts[0].startswith(("param_", "data_")):
            return True
        folders = self._folders
        return path in folders or any(parent in folders for parent in path.parents) or len(path.parts) == 1

    @property
    def _folders(self) -> set[Path]:
        """The folders of the chosen runs and of their inputs, relative."""
        if not hasattr(self, "_known_folders"):
            found = {run.path.relative_to(self.layout.path) for run in self.runs or ()}
            for run in self.runs or ():
                found |= {Path(entry["file"]).parent for entry in read_record(run.params_json)["inputs"]}
            self._known_folders = found
        return self._known_folders


def _listing(layout: CollectionLayout, runs: Sequence[RunLayout]) -> bytes:
    """Return a `collection.json` that lists these runs alone."""
    stored = read_stored(layout) or {}
    ids = {run.run_id for run in runs}
    hashes, specs = {run_id.split("/")[0] for run_id in ids}, {run.path.name for run in runs}
    stored["runs"] = [run_id for run_id in stored["runs"] if run_id in ids]
    stored["params"] = [one for one in stored["params"] if f"param_{one['param_hash']}" in hashes]
    stored["run_specs"] = [spec for spec in stored["run_specs"] if spec["name"] in specs]
    return as_bytes(stored)


def _archived(
    members: _Members, files: Sequence[Packed], target: Path, states: dict[str, str], meter: _Meter
) -> Archived:
    """Make the archive and verify it; or find that one is there which holds all that is on disk."""
    if target.exists():
        return Archived(target, _is_in(target, files, meter), made=False)
    content = archive_file.new_content(members.layout.name, states, files)
    _check_space(target, content.size)
    _remove_leftovers(target)
    beside = unfinished(target, f"{hostname()}.{os.getpid()}.{os.urandom(4).hex()}")
    try:
        with beside.open("xb") as stream:
            archive_file.write(stream, content, members.sources, archive_file.check_name_of(target), meter)
            stream.flush()
            os.fsync(stream.fileno())
        archive_file.check(beside, meter)
        _check_unchanged(members, files)
        _publish(beside, target)
    finally:
        beside.unlink(missing_ok=True)
    return Archived(target, content)


def _measured(name: str, source: Path | bytes, meter: _Meter) -> Packed:
    if isinstance(source, bytes):
        import io

        digest, size = archive_file.sha256(io.BytesIO(source), meter)
        return Packed(name, size, digest)
    with source.open("rb") as stream:
        changed = os.fstat(stream.fileno()).st_mtime_ns
        digest, size = archive_file.sha256(stream, meter)
    return Packed(name, size, digest, changed)


def _check_unchanged(members: _Members, files: Sequence[Packed], top: Path | None = None) -> None:
    """Refuse files that were changed, or joined by others, since they were measured."""
    top = members.layout.path if top is None else top
    strange = {str(path) for path in members.listed(top)} ^ set(members.sources)
    for file in files if not strange else ():
        if not isinstance(members.sources[file.name], bytes):
            found = (top / file.name).stat()
            if (found.st_size, found.st_mtime_ns) != (file.size, file.changed):
                strange = {file.name}
    if strange:
        raise MismatchError(
            f"files were changed while they were packed, as {min(strange)!r}",
            where=members.layout.path,
            hint="let the others end, and try again with another name (-o); nothing was removed",
        )


def _is_in(target: Path, files: Sequence[Packed], meter: _Meter) -> Content:
    """Return what an archive holds that is there already, if that is all there is on disk."""
    content = archive_file.check(target, meter)
    known = {file.name: file.sha256 for file in content.files}
    for file in files:
        if known.get(file.name) != file.sha256:
            raise UsageError(
                f"there is a file of this name, and it does not hold {file.name!r} as it is on disk",
                where=target,
                hint="name another file with -o; nothing was removed",
            )
    return content


def _check_space(target: Path, size: int) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(target.parent).free
    if free < size and target.name.endswith(".tar"):
        raise UsageError(
            f"the archive needs {size / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free",
            where=target.parent,
            hint="name a place with more room with -o, or a file ending in .tar.gz",
        )


def _remove_leftovers(target: Path) -> None:
    """Remove what writers of this file have left: killed here, or long ago."""
    for path in unfinished_files(target):
        with contextlib.suppress(FileNotFoundError):
            if _is_gone(path.name) or time.time() - path.stat().st_mtime > _LEFT_S:
                path.unlink()


def _is_gone(name: str) -> bool:
    """Return whether the writer that a hidden name tells of was on this machine, and is there no more."""
    before, _, pid = name.removesuffix(".partial").rpartition(".")[0].rpartition(".")
    if not before.endswith(f".{hostname()}") or not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except OSError:  # somebody else's
        return False
    return False


def _publish(beside: Path, target: Path) -> None:
    try:
        target.hardlink_to(beside)
    except FileExistsError:
        raise UsageError("somebody has made a file of this name meanwhile", where=target) from None
    except OSError as error:  # a file system without hard links
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
            raise
        beside.rename(target)


def _remove(members: _Members, files: Sequence[Packed]) -> None:
    """Delete the collection, if what is there is still what was packed."""
    layout, mark = members.layout, os.urandom(8).hex()
    aside = layout.put_aside(mark)
    layout.path.rename(aside)
    try:
        _check_unchanged(members, files, aside)
    except BaseException:
        aside.rename(layout.path)
        raise
    gone = layout.being_deleted(mark)
    aside.rename(gone)
    shutil.rmtree(gone)
