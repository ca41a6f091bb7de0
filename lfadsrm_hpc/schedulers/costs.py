"""What a submission will cost: time, GPU hours, memory and disk, from what was measured.

Pure. Times come from runs of the collection that are complete, else from a timing of some steps, and are
carried over by the arithmetic that each run takes. Nothing is guessed where nothing was measured.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from lfadsrm_hpc.schedulers.resources import JobRequest

_MARGIN = 1.5  # walltimes are suggested so much longer than the longest estimate


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
    gpu_hours, gpu_hours_at_most : float or None
        Expected; and if every run took its whole walltime.
    core_hours, core_hours_at_most : float or None
    elapsed_s, elapsed_at_most_s : float or None
        From the first start to the last end, with `max_parallel` at once; waiting in the queue not counted.
    walltime_s : float or None
        A walltime that would hold the longest.
    too_long : tuple of str
        Runs that cannot end, or are not expected to end, within the walltime: they checkpoint and go on.
    peak_memory_mb : float or None
        The greatest that was measured.
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
    gpu_hours_at_most: float
    core_hours: float | None
    core_hours_at_most: float
    elapsed_s: float | None
    elapsed_at_most_s: float
    walltime_s: float | None
    too_long: tuple[str, ...]
    peak_memory_mb: float | None
    memory_fits: bool | None
    disk_bytes: float
    disk_basis: str


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
) -> Cost:
    """Return what these runs will cost.

    Parameters
    ----------
    runs : sequence of RunNeeds
    requests : dict of str to JobRequest
        By run id.
    measured : iterable of Measured
        Of the same collection, newest first.
    max_parallel : int
        So many at once; 0: all.
    """
    known = list(measured)
    complete = [m for m in known if m.basis == "complete" and m.total_s is not None]
    timed = [m for m in known if m.basis == "timed" and m.seconds_per_epoch is not None]
    expected, least, basis = _times(runs, complete, timed)
    asked = {run.run_id: requests[run.run_id] for run in runs}
    limits = [float(asked[run.run_id].walltime_s) for run in runs]
    known_times = [expected[run.run_id] for run in runs] if len(expected) == len(runs) else None
    peaks = [m.peak_memory_mb for m in known if m.peak_memory_mb]
    peak = max(peaks, default=None)
    given = [r.memory_mb for r in asked.values() if r.memory_mb is not None]
    longest = max([*expected.values(), *least.values()], default=None)
    disk, disk_basis = _disk(runs, known)
    return Cost(
        basis=basis,
        expected_s=expected,
        least_s=least,
        gpu_hours=None if known_times is None else _hours(runs, asked, known_times, "gpus"),
        gpu_hours_at_most=_hours(runs, asked, limits, "gpus"),
        core_hours=None if known_times is None else _hours(runs, asked, known_times, "cpus"),
        core_hours_at_most=_hours(runs, asked, limits, "cpus"),
        elapsed_s=None if known_times is None else _elapsed(known_times, max_parallel),
        elapsed_at_most_s=_elapsed(limits, max_parallel),
        walltime_s=None if longest is None else _MARGIN * longest,
        too_long=tuple(
            run.run_id
            for run in runs
            if expected.get(run.run_id, least.get(run.run_id, 0.0)) > asked[run.run_id].walltime_s
        ),
        peak_memory_mb=peak,
        memory_fits=None if peak is None or not given else peak <= min(given),
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
        count = f"{len(complete)} complete run{'s' if len(complete) > 1 else ''}"
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


def _hours(
    runs: Sequence[RunNeeds], asked: Mapping[str, JobRequest], seconds: Sequence[float], what: str
) -> float:
    counts: list[int] = [getattr(asked[run.run_id], what) for run in runs]
    return sum(count * s for count, s in zip(counts, seconds, strict=True)) / 3600


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
    return raw * share, f"as compressed as those of {len(seen)} complete run{'s' if len(seen) > 1 else ''}"
