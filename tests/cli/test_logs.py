"""`lfadsrm logs --follow`: through all attempts of a run until it is over, and what it waits for."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lfadsrm_hpc.api import Run, RunCollection
from lfadsrm_hpc.cli import following
from lfadsrm_hpc.manifest import store
from lfadsrm_hpc.manifest.records import (
    CHECKPOINTED,
    DONE,
    EXIT_BAD_DATA,
    EXIT_CHECKPOINTED,
    FAILED,
    Claim,
    Exit,
    Identity,
    reason_of,
)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "POLL_S", 0.02)
    monkeypatch.setattr(following, "FILES_S", 0.05)
    monkeypatch.setattr(following, "ANOTHER_S", 1.5)


@pytest.fixture
def run(small: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(small)
    return RunCollection.open(small).find_run("all", factors_dim=2)


def begin(run: Run, text: str) -> Claim:
    """Let a process that lives, this one, take the run and print something."""
    claim = store.take_local(run.layout, Identity.local("", "0"))
    assert not isinstance(claim, store.AlreadyComplete)
    print_more(run, claim, text)
    return claim


def print_more(run: Run, claim: Claim, text: str) -> None:
    with run.layout.attempt(claim.attempt).log.open("a") as file:
        file.write(text)


def end(run: Run, claim: Claim, code: int, reason: str) -> None:
    store.publish_exit(run.layout, claim, Exit(code, reason))


def meanwhile(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_it_goes_on_with_the_next_attempts(call: Any, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "ANOTHER_S", 60)  # the last one is complete: nothing waits that long
    first = begin(run, "first\n")

    def work() -> None:
        claim = first
        for code, reason, text in (
            (EXIT_CHECKPOINTED, CHECKPOINTED, "second\n"),
            (1, FAILED, "third\n"),
        ):
            time.sleep(0.4)
            print_more(run, claim, "its last line\n")
            end(run, claim, code, reason)
            time.sleep(0.5)
            claim = begin(run, text)
        time.sleep(0.4)
        print_more(run, claim, "done\n")
        end(run, claim, 0, DONE)

    worker = meanwhile(work)
    said = call("logs", run.id, "-f")
    worker.join()
    assert (said.code, said.out) == (
        0, "first\nits last line\nsecond\nits last line\nthird\ndone\n",
    )  # fmt: skip
    assert [line for line in said.err.splitlines() if line.endswith("log.txt")] == [
        f"# {run.layout.attempt(number).log}" for number in (1, 2, 3)
    ]
    assert "attempt 1 has ended: preempted" in said.err


def test_it_goes_on_with_the_next_incarnation(call: Any, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster starts the same attempt again: the same log, once its scheduler has it back in its queue."""
    identity = Identity("hill", "4711", "0", "")
    store.reserve(run.layout, "")
    claim = store.claim(run.layout, 1, identity)
    print_more(run, claim, "r0\n")

    def work() -> None:
        time.sleep(0.3)
        end(run, claim, EXIT_CHECKPOINTED, CHECKPOINTED)
        time.sleep(0.5)
        again = store.claim(run.layout, 1, identity)
        assert (again.attempt, again.incarnation) == (1, 1)
        print_more(run, again, "r1\n")
        time.sleep(0.3)
        end(run, again, 0, DONE)

    worker = meanwhile(work)
    said = call("logs", run.id, "-f")
    worker.join()
    assert (said.code, said.out) == (0, "r0\nr1\n")


@pytest.mark.parametrize(("code", "waits"), [(1, True), (EXIT_BAD_DATA, False)])
def test_it_ends_where_no_attempt_follows(call: Any, run: Run, code: int, waits: bool) -> None:
    claim = begin(run, "first\n")
    worker = meanwhile(lambda: (time.sleep(0.3), end(run, claim, code, reason_of(code)))[1])
    said = call("logs", run.id, "-f")
    worker.join()
    assert (said.code, said.out) == (0, "first\n")
    assert ("is there another?" in said.err) == waits, "unusable data are never tried again"


def test_a_run_that_is_over_is_printed_and_no_more(call: Any, run: Run) -> None:
    end(run, begin(run, "first\n"), 1, FAILED)
    said = call("logs", run.id, "-f")
    assert said.out == "first\n"
    assert "is there another?" not in said.err


def test_it_waits_for_the_first_line(call: Any, run: Run) -> None:
    claim = begin(run, "")
    run.layout.attempt(claim.attempt).log.unlink()

    def work() -> None:
        time.sleep(0.4)
        print_more(run, claim, "at last\n")
        end(run, claim, 0, DONE)

    worker = meanwhile(work)
    said = call("logs", run.id, "-f")
    worker.join()
    assert (said.code, said.out) == (0, "at last\n")
    assert "has printed nothing yet; waiting" in said.err


def test_a_run_that_nobody_has_is_not_waited_for(call: Any, run: Run) -> None:
    said = call("logs", run.id, "-f")
    assert said.code == 2
    assert "has printed nothing yet" in said.err


def test_of_one_attempt_it_ends_with_that(call: Any, run: Run) -> None:
    claim = begin(run, "first\n")

    def work() -> None:
        time.sleep(0.3)
        end(run, claim, 1, FAILED)
        begin(run, "second\n")

    worker = meanwhile(work)
    said = call("logs", run.id, "-f", "--attempt", 1)
    worker.join()
    assert (said.code, said.out) == (0, "first\n")


def test_as_json(call: Any, run: Run) -> None:
    end(run, begin(run, "one\ntwo\n"), 1, FAILED)
    assert call("logs", run.id, "--json", "-n", 1).json == {
        "schema_version": 1,
        "run_id": run.id,
        "attempt": 1,
        "log": str(run.layout.attempt(1).log),
        "lines": ["two"],
    }
    assert call("logs", run.id, "--json", "-f").code == 2


def test_ctrl_c_ends_it_cleanly(shell: Any, run: Run) -> None:
    begin(run, "first\n")
    process = shell.start("logs", run.id, "-f", "-C", run.collection.path)
    assert process.stdout.readline() == "first\n"
    process.send_signal(signal.SIGINT)
    said = shell.end(process)
    assert (said.code, said.out) == (130, "")
    assert said.err.endswith("interrupted\n")
