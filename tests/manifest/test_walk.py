"""Random lives of a run: whatever happened, the quick look and the facts agree, and nothing is done twice."""

from __future__ import annotations

import itertools
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lfadsrm_hpc.errors import ClaimLostError, DataError
from lfadsrm_hpc.layout import CollectionLayout
from lfadsrm_hpc.manifest import process
from lfadsrm_hpc.manifest.process import Process
from lfadsrm_hpc.manifest.records import Claim, Exit, Identity
from lfadsrm_hpc.manifest.states import RunState
from lfadsrm_hpc.manifest.store import (
    AlreadyComplete,
    cancel,
    claim,
    close,
    collection_states,
    forget,
    heartbeat,
    is_superseded,
    publish_exit,
    reserve,
    run_status,
    take_local,
    winning_exit,
)

# Two looks may be days apart, so a state may be followed by all that can come after it, not by the next step
# only: a failure is retried, a complete run redone when somebody asks. But a run that somebody worked on is
# never merely prepared again; one that was only handed over is, when its attempt is given up unclaimed.
_ONLY_HANDED_OVER = (
    RunState.PREPARED, RunState.SUBMITTED, RunState.PENDING, RunState.HELD, RunState.CANCELLED,
    RunState.UNCERTAIN, RunState.UNKNOWN,
)  # fmt: skip
FOLLOWERS = {
    state: frozenset(RunState) - (frozenset() if state in _ONLY_HANDED_OVER else {RunState.PREPARED})
    for state in RunState
}

STEPS = st.sampled_from(
    ["take", "take", "take again", "redo", "beat", "done", "failed", "stopped", "bad", "zombie done",
     "zombie stopped", "killed", "out of time", "die", "die", "cancel", "reserve", "reserve", "requeue",
     "requeue", "close", "close oom", "close unsent", "lose outbox", "forget"]
)  # fmt: skip
EXITS = {
    "done": Exit(0, "done"),
    "failed": Exit(1, "failed"),
    "stopped": Exit(75, "checkpointed"),
    "bad": Exit(65, "bad_data"),
    "killed": Exit(137, "killed", 9),
    "out of time": Exit(75, "timeout"),
}


class Life:
    """One run, and the processes that live."""

    def __init__(self, root: Path, patch: pytest.MonkeyPatch) -> None:
        self.layout = CollectionLayout(root)
        self.run = self.layout.run("abcdefghijkl", "run")
        self.run.path.mkdir(parents=True)
        self.pids = itertools.count(1)
        self.live: list[Claim] = []
        patch.setattr(os, "fsync", lambda handle: None)
        patch.setattr(process, "is_alive", lambda pid, start: pid in {c.process.pid for c in self.live})
        real = Process.current()
        patch.setattr(
            Process,
            "current",
            lambda: Process(real.host, real.boot_id, real.pid_namespace, next(self.pids), 7),
        )

    def step(self, what: str) -> None:
        newest = self.live[-1] if self.live else None
        try:
            if what in ("take", "take again", "redo"):
                complete = run_status(self.run).state is RunState.COMPLETED
                got = take_local(
                    self.run, Identity.local("S", 1), again=what == "take again", redo=what == "redo"
                )
                if isinstance(got, Claim):
                    assert what == "redo" or not complete
                    assert not [c for c in self.live if not is_superseded(self.run, c)]
                    self.live.append(got)
                else:
                    assert isinstance(got, AlreadyComplete)
                    assert complete
            elif what == "reserve":
                reserve(self.run, "PLAN")
            elif what == "requeue" and self.run.attempts():
                job = Identity("cluster", "17", "1", "PLAN")
                self.live.append(claim(self.run, self.run.attempts()[-1].number, job))
            elif what == "beat" and newest:
                heartbeat(self.run, newest, epoch=1)
            elif what.removeprefix("zombie ") in EXITS and newest:
                ending = self.live[0] if what.startswith("zombie") else newest
                self.live.remove(ending)
                publish_exit(self.run, ending, EXITS[what.removeprefix("zombie ")])
            elif what == "die" and newest:
                self.live.remove(newest)
            elif what == "cancel":
                cancel(self.layout, [self.run])
            elif what.startswith("close") and self.run.attempts():
                reason = {"close": "lost", "close oom": "out_of_memory"}.get(what, "not_submitted")
                close(self.run, self.run.attempts()[-1].number, reason)
            elif what == "lose outbox":
                for name in self.layout.outbox_names():
                    self.layout.outbox_file(name).unlink()
            elif what == "forget":
                forget(self.run)
        except (ClaimLostError, DataError):
            pass


@settings(max_examples=80, deadline=None)
@given(st.lists(STEPS, max_size=14))
def test_any_life(steps: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        life = Life(Path(folder), patch)
        before = run_status(life.run).state
        for what in steps:
            life.step(what)
            (quick,) = collection_states(life.layout, [life.run]).values()
            (whole,) = collection_states(life.layout, [life.run], rescan=True).values()
            assert (quick.state, quick.attempt, quick.incarnation, quick.code, quick.reason) == (
                whole.state, whole.attempt, whole.incarnation, whole.code, whole.reason,
            )  # fmt: skip
            assert whole.state in {before, *FOLLOWERS[before]} or what == "forget"
            assert whole.state is not RunState.COMPLETED or winning_exit(life.run) is not None
            before = whole.state
