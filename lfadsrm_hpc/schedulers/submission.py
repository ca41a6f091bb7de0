"""Hand runs to a scheduler so that a kill between any two steps loses nothing and submits nothing twice.

The order: ask whether the scheduler answers at all; reserve an attempt of each run; publish the plan with all
scripts; then, chunk by chunk, put on record that it is about to be sent, send it, put the receipt on record.
What a kill leaves behind is told in `manifest.submissions`; `send` goes on with it, `clearing` clears it up.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from lfadsrm_hpc._version import __version__
from lfadsrm_hpc.errors import ClaimLostError, NothingEligibleError
from lfadsrm_hpc.layout import CollectionLayout, SubmissionLayout
from lfadsrm_hpc.manifest import store
from lfadsrm_hpc.manifest.process import Process
from lfadsrm_hpc.manifest.publish import make_folder
from lfadsrm_hpc.manifest.records import SUPERSEDED, new_ulid
from lfadsrm_hpc.manifest.submissions import Plan, PlannedTask, write_plan
from lfadsrm_hpc.schedulers.handed import user_name
from lfadsrm_hpc.schedulers.planning import Arrangement, Wish, arrange
from lfadsrm_hpc.schedulers.resources import JobRequest
from lfadsrm_hpc.schedulers.sending import Sender, SentJob, Tell, give_up, unfinished
from lfadsrm_hpc.schedulers.sites import loading as sites
from lfadsrm_hpc.schedulers.sites.site import Site

__all__ = ["Draft", "Drafting", "Sender", "SentJob", "Tell", "give_up", "publish", "unfinished"]

_TOUCH_EVERY_S = 5.0
_THREADS = 8


@dataclass(frozen=True)
class Draft:
    """A submission before anything of it is on disk.

    Attributes
    ----------
    wishes : tuple of Wish
    arrangement : Arrangement
        Jobs and the tasks in them.
    scripts : dict of str to str
        Paths in the folder of the submission, and texts.
    """

    plan: Plan
    wishes: tuple[Wish, ...]
    arrangement: Arrangement
    scripts: Mapping[str, str]


@dataclass(frozen=True)
class Drafting:
    """All that is needed to plan, besides the runs.

    Attributes
    ----------
    templates : tuple of Path
        Where templates are searched before the packaged ones.
    max_parallel : int
        So many tasks at once; 0: no limit.
    task_command : tuple of str or None
        The program that does one run, where it is not this package's own.
    """

    layout: CollectionLayout
    site: Site
    templates: tuple[Path, ...] = ()
    max_parallel: int = 0
    task_command: tuple[str, ...] | None = None

    def draft(self, wishes: Sequence[Wish], ulid: str) -> Draft:
        """Return the plan for runs, and render its scripts; nothing is written.

        Raises
        ------
        TemplateError
            A template cannot be rendered, or a name not be quoted.
        """
        arrangement = arrange(
            ulid,
            wishes,
            self.site.limits,
            max_parallel=self.max_parallel,
            pack=self.site.packing.runs,
        )
        plan = Plan(
            ulid,
            self.site.scheduler,
            self.site.name,
            cluster=self.site.site.cluster,
            created=time.time(),
            user=user_name(),
            version=__version__,
            settings=sites.to_settings(self.site),
            chunks=arrangement.chunks,
            process=Process.current(),
            collection=str(self.layout.path.absolute()),
        )
        return Draft(plan, tuple(wishes), arrangement, self._scripts(plan, arrangement, wishes))

    def _scripts(self, plan: Plan, arrangement: Arrangement, wishes: Sequence[Wish]) -> dict[str, str]:
        from lfadsrm_hpc.schedulers import scripts  # with jinja2

        titles = {wish.run_id: wish.title for wish in wishes}
        memory = {wish.run_id: wish.gpu_memory_mb for wish in wishes}
        tasks: dict[int, list[PlannedTask]] = {}
        for task in arrangement.tasks:
            tasks.setdefault(task.chunk, []).append(task)
        texts: dict[str, str] = {}
        for chunk in plan.chunks:
            texts |= scripts.render_chunk(
                self.layout,
                self.layout.submission(plan.ulid),
                plan,
                chunk,
                tasks[chunk.number],
                self.site,
                JobRequest(**chunk.request),
                titles=titles,
                gpu_memory_mb=memory,
                task_command=self.task_command,
                search=self.templates,
            )
        return texts


def publish(drafting: Drafting, wishes: Sequence[Wish], tell: Tell) -> SubmissionLayout:
    """Reserve the runs and put their plan on disk; nothing is sent yet.

    A run that somebody else took in the meantime is left out.

    Raises
    ------
    NothingEligibleError
        All of them were; nothing is left of the attempt to plan.
    """
    layout = CollectionLayout(drafting.layout.path.absolute())
    drafting = replace(drafting, layout=layout)
    ulid = new_ulid()
    submission = layout.submission(ulid)
    make_folder(submission.path)
    reserved: list[Wish] = []
    try:
        _reserve(layout, submission, wishes, reserved, tell)
        if not reserved:
            raise NothingEligibleError(
                "somebody else has taken these runs", where=layout.path, hint="`lfadsrm status` shows them"
            )
        draft = drafting.draft(reserved, ulid)
        write_plan(submission, draft.plan, draft.arrangement.tasks, draft.scripts)
    except BaseException:
        give_up(layout, ((wish.run_id, wish.attempt) for wish in reserved), ulid)
        with contextlib.suppress(OSError):  # it holds something already
            submission.path.rmdir()
        raise
    return submission


def _reserve(
    layout: CollectionLayout,
    submission: SubmissionLayout,
    wishes: Sequence[Wish],
    reserved: list[Wish],
    tell: Tell,
) -> None:
    """Reserve runs; what is reserved is in `reserved` at any time, so that it can be given up again.

    By several threads: most of the time goes into waiting for the disk.
    """
    touched = time.monotonic()
    pool = ThreadPoolExecutor(min(_THREADS, 1 + len(wishes) // _THREADS))
    try:
        work = partial(_reserve_one, layout, submission.ulid, reserved)
        for done, left_out in enumerate(pool.map(work, wishes), start=1):
            if left_out:
                tell(f"left out: {left_out}")
            if time.monotonic() - touched > _TOUCH_EVERY_S:
                touched = time.monotonic()
                submission.path.touch()  # a sign of life: reservations without a plan are given up
                tell(f"reserved {done} of {len(wishes)} runs")
    finally:
        pool.shutdown(cancel_futures=True)
    place = {wish.run_id: number for number, wish in enumerate(wishes)}
    reserved.sort(key=lambda wish: place[wish.run_id])


def _reserve_one(layout: CollectionLayout, ulid: str, reserved: list[Wish], wish: Wish) -> str:
    """Reserve one run; return why it is left out, "" if it is not."""
    run = layout.run_by_id(wish.run_id)
    try:
        attempt = store.reserve(run, ulid)
    except ClaimLostError as error:
        return f"{wish.run_id}: {error.what}"
    if attempt > wish.attempt:
        # Somebody else tried the run, to its end, since it was chosen: it may need no further try.
        store.close(run, attempt, SUPERSEDED, submission=ulid)
        return f"{wish.run_id}: it was tried again in the meantime"
    reserved.append(replace(wish, attempt=attempt))
    return ""
