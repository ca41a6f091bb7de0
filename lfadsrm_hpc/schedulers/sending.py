"""Send the chunks of plans that are on disk, one after the other, and put on record what came of each."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from lfadsrm_hpc.collection.words import counted
from lfadsrm_hpc.errors import (
    ClaimLostError,
    LfadsrmError,
    PartlySubmittedError,
    SchedulerRefusedError,
    SchedulerUnreachableError,
    SubmissionUncertainError,
)
from lfadsrm_hpc.layout import CollectionLayout, RunLayout, SubmissionLayout
from lfadsrm_hpc.manifest import store
from lfadsrm_hpc.manifest.evidence import ChunkState
from lfadsrm_hpc.manifest.reading import look, read_record
from lfadsrm_hpc.manifest.records import NOT_SUBMITTED, Reservation
from lfadsrm_hpc.manifest.submission_reading import ChunkOnDisk, SubmissionOnDisk, read_submission
from lfadsrm_hpc.manifest.submissions import Receipt, begin_sending, is_sent, record_receipt, record_refusal
from lfadsrm_hpc.schedulers.batch import Accepted, BatchScheduler
from lfadsrm_hpc.schedulers.handed import scheduler_of, site_of

Tell = Callable[[str], None]
_GO_ON = "`lfadsrm submit` goes on"
_FOUND = "found by its name"


@dataclass(frozen=True)
class SentJob:
    """One job that the scheduler has.

    Attributes
    ----------
    tasks : int
        Array tasks; 1 for a plain job.
    runs : tuple of str
    adopted : bool
        Its answer was lost; it was found by its name.
    """

    submission: str
    job: str
    name: str
    tasks: int
    runs: tuple[str, ...]
    adopted: bool = False


def give_up(layout: CollectionLayout, attempts: Iterable[tuple[str, int]], ulid: str) -> None:
    """Close attempts that are certainly in no scheduler's hands: their runs are as before."""
    for run_id, attempt in attempts:
        run = layout.run_by_id(run_id)
        if _waits(run, attempt, ulid):
            with contextlib.suppress(ClaimLostError):  # its outputs were deleted
                store.close(run, attempt, NOT_SUBMITTED, submission=ulid)


def _waits(run: RunLayout, number: int, ulid: str) -> bool:
    """Return whether an attempt is reserved for a submission, and neither given up nor deleted since."""
    attempt = run.attempt(number)
    reservation, _ = read_record(Reservation, attempt.reserved)
    return reservation is not None and reservation.submission == ulid and not attempt.closed.exists()


@dataclass
class Sender:
    """Hands the chunks of published plans over, within what a site allows.

    Attributes
    ----------
    tell : callable
        Is told what happens.
    occupied : int
        Tasks of this user that the scheduler has already, as far as is known.
    sleep : callable
    """

    layout: CollectionLayout
    tell: Tell = lambda text: None
    occupied: int = 0
    sleep: Callable[[float], None] = time.sleep
    sent: list[SentJob] = field(default_factory=list)
    _calls: deque[float] = field(default_factory=deque)

    def send(self, submission: SubmissionLayout, scheduler: BatchScheduler | None = None) -> None:
        """Send what is not sent yet of one submission; what was is left alone.

        Raises
        ------
        SchedulerUnreachableError
            Not a single job was handed over; the attempts are given up, so nothing has changed.
        SchedulerRefusedError
            The same, and the scheduler says why.
        PartlySubmittedError
            Some were; submitting again goes on.
        SubmissionUncertainError
            The scheduler may or may not have taken one.
        """
        on_disk = read_submission(submission, look(submission.path).now)
        if on_disk is None:
            return
        scheduler = scheduler or scheduler_of(on_disk.plan)
        before = sum(chunk.state is ChunkState.SENT for chunk in on_disk.chunks)
        start = len(self.sent)
        for chunk in on_disk.chunks:
            if chunk.state is not ChunkState.UNSENT or is_void(self.layout, on_disk, chunk):
                continue
            handed = before + len(self.sent) - start
            self._heed_jobs(on_disk, chunk, handed)
            self._send_chunk(scheduler, on_disk, chunk, handed)

    def _heed_jobs(self, on_disk: SubmissionOnDisk, chunk: ChunkOnDisk, handed: int) -> None:
        most = site_of(on_disk.plan).limits.jobs
        if most is not None and self.occupied and self.occupied + tasks_in(chunk) > most:
            raise PartlySubmittedError(
                f"{handed} of {len(on_disk.chunks)} jobs are handed over: the site allows {most} tasks a "
                f"user, and {self.occupied} are in its hands",
                where=on_disk.layout.path,
                hint=f"{_GO_ON} when some have ended",
            )

    def _send_chunk(
        self, scheduler: BatchScheduler, on_disk: SubmissionOnDisk, chunk: ChunkOnDisk, handed: int
    ) -> None:
        submission, number = on_disk.layout, chunk.chunk.number
        self._heed_rate(site_of(on_disk.plan).limits.submissions_per_minute)
        sending = chunk.sendings + 1
        if not begin_sending(submission, number, sending):
            self.tell(f"{chunk.chunk.name}: another process is handing it over")
            return
        try:
            accepted = scheduler.submit(submission.script(number))
        except SubmissionUncertainError as error:
            accepted = self._look_for(scheduler, on_disk, chunk, error)
        except (SchedulerRefusedError, SchedulerUnreachableError) as error:
            record_refusal(submission, number, sending, error.what)
            self._stop(error, on_disk, handed)
        self._note(on_disk, chunk, accepted)

    def _note(self, on_disk: SubmissionOnDisk, chunk: ChunkOnDisk, accepted: Accepted) -> None:
        adopted = accepted.output == _FOUND
        receipt = Receipt(
            accepted.job, time.time(), cluster=accepted.cluster, output=accepted.output, adopted=adopted
        )
        record_receipt(on_disk.layout, chunk.chunk.number, receipt)
        runs = tuple(t.run_id for t in on_disk.tasks if t.chunk == chunk.chunk.number)
        count = tasks_in(chunk)
        self.occupied += count
        self.sent.append(
            SentJob(on_disk.plan.ulid, accepted.job, chunk.chunk.name, count, runs, adopted=adopted)
        )
        what = f"{count} tasks" if count > 1 else "1 task"
        self.tell(f"job {accepted.job}: {what}, {counted(len(runs), 'run')}")

    def _heed_rate(self, per_minute: int | None) -> None:
        now = time.monotonic()
        if per_minute is not None:
            while self._calls and now - self._calls[0] >= 60:
                self._calls.popleft()
            if len(self._calls) >= per_minute:
                wait = 60 - (now - self._calls[0])
                self.tell(f"waits {wait:.0f} s: the site allows {per_minute} submissions a minute")
                self.sleep(wait)
        self._calls.append(time.monotonic())

    def _look_for(
        self,
        scheduler: BatchScheduler,
        on_disk: SubmissionOnDisk,
        chunk: ChunkOnDisk,
        error: SubmissionUncertainError,
    ) -> Accepted:
        """Look once for a job whose answer was lost; not to find it proves nothing yet."""
        self.tell(f"{chunk.chunk.name}: {error.what}; looking for it")
        try:
            found = scheduler.find([chunk.chunk.name], on_disk.plan.created)
        except LfadsrmError:
            found = []
        ours = [one for one in found if one.submission in ("", on_disk.plan.ulid)]
        if ours:
            return Accepted(ours[0].job, ours[0].cluster, _FOUND)
        raise SubmissionUncertainError(
            f"nobody knows whether the scheduler took job {chunk.chunk.name}: {error.what}",
            where=on_disk.layout.path,
            hint="`lfadsrm reconcile` clears it up; nothing is submitted twice",
        ) from error

    def _stop(
        self,
        error: SchedulerRefusedError | SchedulerUnreachableError,
        on_disk: SubmissionOnDisk,
        handed: int,
    ) -> None:
        """Raise what a refusal means, after giving up what the same scripts would not get accepted."""
        refused = isinstance(error, SchedulerRefusedError)
        if refused or not handed:
            give_up_unsent(self.layout, on_disk)
        if not handed:
            raise error
        what = "refused the next" if refused else "could not be reached for the next"
        raise PartlySubmittedError(
            f"{handed} of {len(on_disk.chunks)} jobs are handed over; the scheduler {what}: {error.what}",
            where=on_disk.layout.path,
            hint=error.hint or _GO_ON,
        ) from error


def give_up_unsent(layout: CollectionLayout, on_disk: SubmissionOnDisk) -> list[str]:
    """Close the attempts of all chunks that are not sent, and return their runs: they are as before."""
    fresh = read_submission(on_disk.layout, look(on_disk.layout.path).now) or on_disk
    unsent = {chunk.chunk.number for chunk in fresh.chunks if chunk.state is ChunkState.UNSENT}
    tasks = [task for task in fresh.tasks if task.chunk in unsent]
    give_up(layout, ((task.run_id, task.attempt) for task in tasks), fresh.plan.ulid)
    return [task.run_id for task in tasks]


def tasks_in(chunk: ChunkOnDisk) -> int:
    """Return how many tasks the scheduler counts for a chunk."""
    return chunk.chunk.size or 1


def is_void(layout: CollectionLayout, on_disk: SubmissionOnDisk, chunk: ChunkOnDisk) -> bool:
    """Return whether every attempt of a chunk was given up or deleted: sending it would do nothing."""
    return not any(
        _waits(layout.run_by_id(task.run_id), task.attempt, on_disk.plan.ulid)
        for task in on_disk.tasks
        if task.chunk == chunk.chunk.number
    )


def unfinished(layout: CollectionLayout) -> list[SubmissionOnDisk]:
    """Return the submissions of whose plans something is still to be sent, or uncertain, oldest first."""
    now = look(layout.state_dir if layout.state_dir.is_dir() else layout.path).now
    found = []
    for submission in layout.submissions():
        if is_sent(submission):
            continue
        on_disk = read_submission(submission, now)
        if on_disk is None or on_disk.is_copy:  # the scripts of a copy belong to the original
            continue
        open_chunks = [chunk for chunk in on_disk.chunks if chunk.state is not ChunkState.SENT]
        if any(not is_void(layout, on_disk, chunk) for chunk in open_chunks):
            found.append(on_disk)
    return found
