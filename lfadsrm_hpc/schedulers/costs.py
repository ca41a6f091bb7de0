"""What a submission will cost: time, GPU hours, memory and disk, from what was measured.

Pure. Times come from runs of the collection that are complete, else from a timing of some steps, and are
carried over by the arithmetic that each run takes. Nothing is guessed where nothing was measured.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from lfadsrm_hpc.collection.words import counted
from lfadsrm_hpc.schedulers.resources import JobRequest

_MARGIN = 1.5  # walltimes are suggested so much longer than the longest estimate
_CORES_A_RUN = 4  # more make a run hardly faster: the local queue gives no more


@dataclass(frozen=True)
class RunNeeds:
    """What is known of a run before it has ever run.

    Attributes
    ----------
    epoch_work, sampling_work : float
        Multiply-adds (`collection.work`).
    least_epochs : int
        Training cannot end sooner: the learning rate must fall to its stop first.
    most_epochs : int or None
        `max_epochs`; None: no limit.
    posterior_bytes : float
        Before compression.
    """

    run_id: str
    epoch_work: float
    sampling_work: float
    least_epochs: int
    most_epochs: int | None
    posterior_bytes: float


@dataclass(frozen=True)
class Measured:
    """What was measured of one run.

    Attributes
    ----------
    needs : RunNeeds
        Of the run that was measured.
    basis : str
        "complete" or "timed".
    device : str
        "" where it is not known.
    seconds_per_epoch : float or None
    total_s : float or None
        Of a complete run: from its claim to its exit, s.
    epochs : int or None
        Of a complete run.
    peak_memory_mb : float or None
    posterior_bytes : float or None
        On disk.
    """

    needs: RunNeeds
    basis: str
    device: str = ""
    seconds_per_epoch: float | None = None
    total_s: float | None = None
    epochs: int | None = None
    start_s: float = 0.0
    sampling_s: float | None = None
    peak_memory_mb: float | None = None
    posterior_bytes: float | None = None


@dataclass(frozen=True)
class Cost:
    """What a set of runs will cost.

    Attributes
    ----------
    basis : str
        For people: what the times rest on; "" where nothing was measured.
    expected_s : dict of str to float
        By run id, where it can be told.
    least_s : dict of str to float
        By run id: it cannot take less.
    gpu_hours, gpu_hours_at_least, gpu_hours_at_most : float or None
        Expected; what the least epochs take; and if every run took its whole walltime.
    core_hours, core_hours_at_least, core_hours_at_most : float or None
    elapsed_s, elapsed_at_least_s, elapsed_at_most_s : float or None
        From the first start to the last end, with `max_parallel` at once; waiting in the queue not counted.
    walltime_s : float or None
        A walltime that would hold the longest.
    too_long : tuple of str
        Runs that cannot end, or are not expected to end, within the walltime: they checkpoint and go on.
    peak_memory_mb : float or None
        The greatest that was measured, of one run.
    at_once : int
        The most runs that share a task's memory.
    memory_fits : bool or None
        None: nothing was measured, or no memory is asked for.
    disk_bytes : float
        Of the posterior means.
    disk_basis : str
    """

    basis: str
    expected_s: Mapping[str, float]
    least_s: Mapping[str, float]
    gpu_hours: float | None
    gpu_hours_at_least: float | None
    gpu_hours_at_most: float
    core_hours: float | None
    core_hours_at_least: float | None
    core_hours_at_most: float
    elapsed_s: float | None
    elapsed_at_least_s: float | None
    elapsed_at_most_s: float
    walltime_s: float | None
    too_long: tuple[str, ...]
    peak_memory_mb: float | None
    at_once: int
    memory_fits: bool | None
    disk_bytes: float
    disk_basis: str


@dataclass(frozen=True)
class _Task:
    """One task of a job, and the runs that it does."""

    runs: tuple[str, ...]
    request: JobRequest
    slots: int | None

    @property
    def at_once(self) -> int:
        """The most runs at once. On a GPU, as many as its memory holds: that may be all."""
        most = len(self.runs) if self.request.gpus else min(len(self.runs), self.request.cpus)
        return min(most, self.slots or most)

    def ends(self, seconds: Mapping[str, float]) -> dict[str, float]:
        """Return when its runs have ended, s after its start, those whose time is known.

        Runs that share a GPU or cores take turns, or slow each other down, which is the same here.
        """
        known = {run: seconds[run] for run in self.runs if run in seconds}
        places = [0.0] * min(self.at_once, self.request.gpus or max(1, self.request.cpus // _CORES_A_RUN))
        return {run: heapq.heapreplace(places, places[0] + s) + s for run, s in known.items()}


def least_epochs(rate: float, stop: float, factor: float, compared: int, most: int | None) -> int:
    """Return the fewest epochs in which a training can end by itself.

    The learning rate falls by `factor` at most once in `compared + 1` epochs, first after `compared + 2`.

    Examples
    --------
    >>> least_epochs(0.01, 0.00001, 0.98, 6, None)
    2395
    >>> least_epochs(0.01, 0.00001, 0.98, 6, 100)
    100
    """
    if factor >= 1 or stop <= 0 or rate < stop:
        return 1 if most is None else most
    falls = math.floor(math.log(stop / rate) / math.log(factor) + 1e-9) + 1
    fewest = falls * (compared + 1) + 1
    return fewest if most is None else min(fewest, most)


def estimate(
    runs: Sequence[RunNeeds],
    requests: Mapping[str, JobRequest],
    measured: Iterable[Measured],
    *,
    max_parallel: int = 0,
    tasks: Sequence[Sequence[str]] | None = None,
    slots: int | None = None,
) -> Cost:
    """Return what these runs will cost.

    Parameters
    ----------
    runs : sequence of RunNeeds
    requests : dict of str to JobRequest
        By run id: what its task asks for, which several runs may share.
    measured : iterable of Measured
        Of the same collection, newest first.
    max_parallel : int
        So many tasks at once; 0: all.
    tasks : sequence of sequences of str, optional
        The ids of the runs that share a task; without it each run has its own.
    slots : int, optional
        At most so many runs of a task at once.
    """
    known = list(measured)
    complete = [m for m in known if m.basis == "complete" and m.total_s is not None]
    timed = [m for m in known if m.basis == "timed" and m.seconds_per_epoch is not None]
    expected, least, basis = _times(runs, complete, timed)
    shared = [_Task(tuple(ids), requests[ids[0]], slots) for ids in tasks or [(r.run_id,) for r in runs]]
    limits = [float(task.request.walltime_s) for task in shared]
    likely, fewest = (_lengths(shared, seconds) for seconds in (expected, least))
    peak = max((m.peak_memory_mb for m in known if m.peak_memory_mb), default=None)
    ends = {run: end for task in shared for run, end in task.ends({**least, **expected}).items()}
    disk, disk_basis = _disk(runs, known)
    return Cost(
        basis=basis,
        expected_s=expected,
        least_s=least,
        gpu_hours=None if likely is None else _hours(shared, likely, "gpus"),
        gpu_hours_at_least=None if fewest is None else _hours(shared, fewest, "gpus"),
        gpu_hours_at_most=_hours(shared, limits, "gpus"),
        core_hours=None if likely is None else _hours(shared, likely, "cpus"),
        core_hours_at_least=None if fewest is None else _hours(shared, fewest, "cpus"),
        core_hours_at_most=_hours(shared, limits, "cpus"),
        elapsed_s=None if likely is None else _elapsed(likely, max_parallel),
        elapsed_at_least_s=None if fewest is None else _elapsed(fewest, max_parallel),
        elapsed_at_most_s=_elapsed(limits, max_parallel),
        walltime_s=_MARGIN * max(ends.values()) if ends else None,
        too_long=tuple(r.run_id for r in runs if ends.get(r.run_id, 0.0) > requests[r.run_id].walltime_s),
        peak_memory_mb=peak,
        at_once=max((task.at_once for task in shared), default=1),
        memory_fits=_fits(shared, peak),
        disk_bytes=disk,
        disk_basis=disk_basis,
    )


def _times(
    runs: Sequence[RunNeeds], complete: Sequence[Measured], timed: Sequence[Measured]
) -> tuple[dict[str, float], dict[str, float], str]:
    """Return expected times, least times, and what they rest on."""
    if complete:
        nearest = {run.run_id: _nearest(run, complete) for run in runs}
        expected = {run.run_id: _carried(run, nearest[run.run_id]) for run in runs}
        count = f"{counted(len(complete), 'complete run')}"
        return expected, {}, f"{count}{_where(complete)}"
    if not timed:
        return {}, {}, ""
    expected, least = {}, {}
    for run in runs:
        source = _nearest(run, timed)
        epoch_s = (source.seconds_per_epoch or 0.0) * run.epoch_work / max(source.needs.epoch_work, 1.0)
        sampling_s = (source.sampling_s or 0.0) * run.sampling_work / max(source.needs.sampling_work, 1.0)
        fixed = source.start_s + sampling_s
        least[run.run_id] = fixed + run.least_epochs * epoch_s
        if run.most_epochs is not None:  # ends there at the latest; where there is no end, nobody can say
            expected[run.run_id] = fixed + run.most_epochs * epoch_s
    return expected, least, f"a timing of {timed[0].needs.run_id}{_where(timed)}"


def _where(measured: Sequence[Measured]) -> str:
    devices = sorted({m.device for m in measured if m.device})
    return f" on {', '.join(devices)}" if devices else ""


def _nearest(run: RunNeeds, measured: Sequence[Measured]) -> Measured:
    """Return the measured run whose work is nearest in ratio."""

    def distance(other: Measured) -> float:
        return abs(math.log(max(run.epoch_work, 1.0) / max(other.needs.epoch_work, 1.0)))

    return min(measured, key=distance)


def _carried(run: RunNeeds, source: Measured) -> float:
    """Return the time of a whole run, from that of another one: it is taken to need as many epochs."""
    of_source = source.needs.epoch_work * (source.epochs or 1) + source.needs.sampling_work
    of_run = run.epoch_work * (source.epochs or 1) + run.sampling_work
    return (source.total_s or 0.0) * of_run / max(of_source, 1.0)


def _lengths(tasks: Sequence[_Task], seconds: Mapping[str, float]) -> list[float] | None:
    """Return how long each task takes, s; None: of some run it is not known."""
    ends = [task.ends(seconds) for task in tasks]
    if not ends or any(len(one) < len(task.runs) for one, task in zip(ends, tasks, strict=True)):
        return None
    return [max(one.values()) for one in ends]


def _hours(tasks: Sequence[_Task], seconds: Sequence[float], what: str) -> float:
    counts: list[int] = [getattr(task.request, what) for task in tasks]
    return sum(count * s for count, s in zip(counts, seconds, strict=True)) / 3600


def _fits(tasks: Sequence[_Task], peak_mb: float | None) -> bool | None:
    """Return whether what every task asks for holds its runs; None: it cannot be told."""
    given = [(task.at_once, task.request.memory_mb) for task in tasks if task.request.memory_mb is not None]
    if peak_mb is None or not given:
        return None
    return all(at_once * peak_mb <= memory_mb for at_once, memory_mb in given)


def _elapsed(seconds: Sequence[float], max_parallel: int) -> float:
    """Return how long it takes if each starts as soon as one of so many places is free."""
    if not seconds:
        return 0.0
    places = [0.0] * min(max_parallel or len(seconds), len(seconds))
    for s in seconds:
        heapq.heapreplace(places, places[0] + s)
    return max(places)


def _disk(runs: Sequence[RunNeeds], measured: Sequence[Measured]) -> tuple[float, str]:
    """Return the size of the posterior means, scaled by how well those on disk were compressed."""
    raw = sum(run.posterior_bytes for run in runs)
    seen = [m for m in measured if m.posterior_bytes]
    before = sum(m.needs.posterior_bytes for m in seen)
    if not before:
        return raw, "uncompressed, so at most"
    share = sum(m.posterior_bytes or 0.0 for m in seen) / before
    return raw * share, f"as compressed as those of {counted(len(seen), 'complete run')}"
