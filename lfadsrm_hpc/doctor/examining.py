"""All checks, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from lfadsrm_hpc.doctor import collection_side, disk, mounts, python_side, scheduler_side, space
from lfadsrm_hpc.doctor.checks import Check, Found, Result, Verdict, absent, ok, perform, problem, within
from lfadsrm_hpc.errors import LfadsrmError, UsageError
from lfadsrm_hpc.layout import CollectionLayout
from lfadsrm_hpc.manifest.facts import LATENCY_S
from lfadsrm_hpc.schedulers.sites.detection import has_scheduler

PYTHON, GPU, SCHEDULER, DISK, COLLECTION = "python", "gpu", "scheduler", "run directory", "collection"
SCHEDULER_S = 15.0  # of one call of the scheduler
_QUICK_S, _DISK_S = 10.0, 30.0
_DEAD_SERVER = "the file server may be down: see whether `ls` answers there, and ask the operators"
_DEAD_SCHEDULER = "the scheduler may be down: see whether squeue or qstat answers, and ask the operators"


@dataclass(frozen=True)
class Target:
    """What is examined.

    Attributes
    ----------
    folder : Path
        Where runs are, or will be; it exists.
    collection : Path or None
        The folder of the collection, there or not.
    project : Path
        The folder whose site files count.
    broken : LfadsrmError or None
        Why the experiment cannot be read.
    """

    folder: Path
    collection: Path | None
    project: Path
    broken: LfadsrmError | None = None


Locate = Callable[[], Target]
Tell = Callable[[Result], None]


def target_of(path: Path | None) -> Target:
    """Return a folder as what is to be examined; it may be a collection.

    Raises
    ------
    UsageError
        There is no such folder.
    """
    folder = Path.cwd() if path is None else path.absolute()
    if not folder.is_dir():
        raise UsageError("there is no such folder", where=folder)
    is_collection = CollectionLayout(folder).collection_json.is_file()
    return Target(folder, folder if is_collection else None, folder)


def examine(
    path: Path | str | None = None,
    *,
    tell: Tell = lambda result: None,
    locate: Locate | None = None,
    tensorflow_s: float = python_side.TENSORFLOW_S,
    scheduler_s: float = SCHEDULER_S,
) -> list[Result]:
    """Examine this machine and a folder for runs; each check has a time limit, so this always returns.

    Nothing is written but into a hidden folder there, which is removed, also where it is interrupted.

    Parameters
    ----------
    path : path, optional
        A run collection or another folder; the current one unless given.
    tell : callable
        Is given each result as soon as it is known.
    locate : callable, optional
        Returns what is examined, in place of `path`.
    tensorflow_s, scheduler_s : float
        Time limits of the import of TensorFlow and of one call of the scheduler, s.

    Returns
    -------
    list of Result

    Raises
    ------
    UsageError
        There is no such folder.
    """
    given = None if path is None else Path(path)
    results: list[Result] = []
    # closed at once where `tell` is interrupted, so that nothing is left on the disk
    with closing(_results(locate or (lambda: target_of(given)), tensorflow_s, scheduler_s)) as found:
        for result in found:
            results.append(result)
            tell(result)
    return results


def _results(locate: Locate, tensorflow_s: float, scheduler_s: float) -> Generator[Result, None, None]:
    found, target = _located(locate)
    yield from map(perform, _machine_checks(tensorflow_s))
    yield from map(perform, _scheduler_checks(target, scheduler_s))
    yield found
    if target is None:
        return
    with disk.workbench(target.folder) as bench:
        for check in _disk_checks(target, bench):
            result = perform(check)
            yield result
            if check.name == "writable" and result.verdict is Verdict.PROBLEM:
                break
    yield from map(perform, _space_checks(target))
    yield from map(perform, _collection_checks(target))


def _located(locate: Locate) -> tuple[Result, Target | None]:
    """Find out what is examined: that may hang as well."""
    places: list[Target] = []
    refused: list[UsageError] = []

    def look() -> Found:
        try:
            places.append(locate())
        except UsageError as error:
            refused.append(error)
            raise
        return ok(str(places[0].folder), folder=str(places[0].folder))

    result = perform(Check("place", DISK, look, _QUICK_S, _DEAD_SERVER))
    if refused:
        raise refused[0]
    return result, places[0] if places and result.verdict is Verdict.OK else None


def _machine_checks(tensorflow_s: float) -> Iterator[Check]:
    tensorflow = python_side.TensorFlow(tensorflow_s)
    slow = "the file system of Python may be down or slow"
    yield Check("python", PYTHON, python_side.python, _QUICK_S, slow)
    yield Check("packages", PYTHON, python_side.packages, _DISK_S, slow)
    yield Check("limits", PYTHON, space.user_limits, _QUICK_S)
    yield Check("tensorflow", PYTHON, tensorflow.look, tensorflow_s + 5.0, slow)
    yield Check("gpus", GPU, tensorflow.gpus, 20.0, "the driver hangs: ask the operators")


def _scheduler_checks(target: Target | None, scheduler_s: float) -> Iterator[Check]:
    limit = 2 * scheduler_s + 5.0
    yield Check(
        "slurm programs", SCHEDULER, scheduler_side.clients("slurm", scheduler_s), _QUICK_S, _DEAD_SCHEDULER
    )
    yield Check("slurm", SCHEDULER, scheduler_side.slurm_answers(scheduler_s), limit, _DEAD_SCHEDULER)
    yield Check(
        "pbs programs", SCHEDULER, scheduler_side.clients("pbs", scheduler_s), _QUICK_S, _DEAD_SCHEDULER
    )
    yield Check("pbs", SCHEDULER, scheduler_side.pbs_answers(scheduler_s), limit, _DEAD_SCHEDULER)
    if target is not None:
        yield Check("site", SCHEDULER, scheduler_side.site(target.project), 45.0, _DEAD_SCHEDULER)


def _disk_checks(target: Target, bench: disk.Workbench) -> Iterator[Check]:
    looks: list[tuple[str, Callable[[], Found], float]] = [
        ("file system", lambda: _mount_found(target), _QUICK_S),
        ("writable", disk.writable(bench), _QUICK_S),
        ("exclusive create", disk.exclusive(bench), _DISK_S),
        ("hard links", disk.hard_links(bench), _QUICK_S),
        ("rename", disk.renaming(bench), _DISK_S),
        ("listing", disk.listing(bench), _DISK_S),
        ("latency", disk.latency(bench), _DISK_S),
        ("clock", disk.clock(bench), _QUICK_S),
        ("sharing", disk.sharing(target.folder), _QUICK_S),
        ("hdf5", disk.hdf5(bench), 45.0),
    ]
    for name, look, limit in looks:
        yield Check(name, DISK, look, limit, _DEAD_SERVER)


def _mount(target: Target) -> mounts.Mount | None:
    if not mounts.MOUNTS.is_file():
        return None
    text = mounts.MOUNTS.read_text(errors="replace")
    return mounts.mount_of(text, str(target.folder.resolve()))


def _mount_found(target: Target) -> Found:
    latency = LATENCY_S
    site = within(5.0, lambda: scheduler_side.latency_of_site(target.project))
    latency = site if isinstance(site, float) else latency
    return mounts.judge_mount(_mount(target), has_scheduler=has_scheduler(), latency_s=latency)


def _space_checks(target: Target) -> Iterator[Check]:
    yield Check("space", DISK, space.free(target.folder), _QUICK_S, _DEAD_SERVER)
    yield Check(
        "quota", DISK, space.quotas(lambda: _mount(target)), 35.0, "the server of quotas does not answer"
    )


def _collection_checks(target: Target) -> Iterator[Check]:
    if target.broken is not None:
        broken = target.broken
        found = problem(f"{broken.what} ({broken.where})", broken.hint or "correct it")
        yield Check("experiment", COLLECTION, lambda: found, _QUICK_S)
    elif target.collection is None:
        yield Check("collection", COLLECTION, lambda: absent("this folder is no run collection"), _QUICK_S)
    else:
        for name, look in (
            ("collection", collection_side.collection(target.collection)),
            ("versions", collection_side.versions(target.collection)),
        ):
            yield Check(name, COLLECTION, look, _DISK_S, _DEAD_SERVER)
