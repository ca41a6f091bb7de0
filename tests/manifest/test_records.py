from __future__ import annotations

import json
import math
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lfadsrm_hpc.errors import ManifestError
from lfadsrm_hpc.layout import OutboxName, run_key
from lfadsrm_hpc.manifest.process import Process
from lfadsrm_hpc.manifest.records import (
    Cancellation,
    Claim,
    Closed,
    Exit,
    Heartbeat,
    Identity,
    Reservation,
    from_json,
    new_ulid,
    reason_of,
    state_of,
    to_json,
    ulid_time,
)
from lfadsrm_hpc.manifest.states import RunState

PROCESS = Process("node7", "boot", "pid:[4026531836]", 4242, 99)
IDENTITY = Identity("local", "node7/boot/01J", "3", "01J")
RECORDS = [
    Reservation("01J", 12.5, PROCESS),
    Reservation("01J", 12.5),
    Claim(2, 1, IDENTITY, PROCESS, "token", 13.0, redo=True),
    Heartbeat("token", 14.0, {"epoch": 3, "valid_total": 1.5, "note": "é"}),
    Exit(137, "killed", 9, "node7", 1.0, 2.0, 512.0, "died", "token", "python"),
    Exit(0, "done"),
    Closed("lost", 15.0, "node7", "01J"),
    Cancellation("01J", {"param_a/b": 3}, 16.0, "node7"),
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda r: type(r).__name__)
def test_what_is_written_is_read(record: object) -> None:
    assert from_json(type(record), to_json(record)) == record


@pytest.mark.parametrize("record", RECORDS, ids=lambda r: type(r).__name__)
def test_unknown_keys_of_a_newer_version_are_ignored(record: object) -> None:
    value = {**json.loads(to_json(record)), "from_the_future": [1, {"a": None}]}
    assert from_json(type(record), json.dumps(value).encode()) == record


def test_a_claim_has_one_key_a_line_for_grep() -> None:
    lines = to_json(RECORDS[2]).decode().splitlines()
    assert '    "pid": 4242,' in lines
    assert '    "start": 99' in lines


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"reason": "done"}',
        b'{"code": null}',
        b'{"code": "0"}',
        b'{"code": true}',
        b"\xff",
    ],
)
def test_what_is_no_exit_record_is_an_error(data: bytes) -> None:
    with pytest.raises(ManifestError, match="Exit record cannot be read"):
        from_json(Exit, data)


def test_a_nested_record_must_be_an_object() -> None:
    with pytest.raises(ManifestError):
        from_json(Claim, b'{"attempt": 1, "incarnation": 0, "identity": "me", "process": {}, "token": "t"}')


def test_the_least_that_a_shell_may_write() -> None:
    text = b'{"code": 143, "signal": 15, "reason": "killed", "host": "n1", "ended": 1700000000}'
    assert from_json(Exit, text) == Exit(143, "killed", 15, "n1", None, 1.7e9)
    assert from_json(Exit, b'{"code": 1, "signal": 0}') == Exit(1, "failed")


def test_numbers_that_json_lacks_become_null_and_numpy_scalars_plain() -> None:
    np = pytest.importorskip("numpy")
    beat = Heartbeat(
        "t", 0.0, {"a": math.nan, "b": np.float32(0.5), "c": np.int64(3), "d": [math.inf, np.bool_(True)]}
    )
    assert from_json(Heartbeat, to_json(beat)).progress == {"a": None, "b": 0.5, "c": 3, "d": [None, 1]}


@pytest.mark.parametrize(
    ("code", "reason", "state"),
    [
        (0, "done", RunState.COMPLETED),
        (1, "failed", RunState.FAILED),
        (65, "bad_data", RunState.FAILED),
        (75, "checkpointed", RunState.PREEMPTED),
        (75, "timeout", RunState.TIMEOUT),
        (64, "lost", RunState.LOST),
        (137, "killed", RunState.FAILED),
        (1, "done", RunState.FAILED),
        (1, "a reason of a newer version", RunState.FAILED),
        (1, "out_of_memory", RunState.OUT_OF_MEMORY),
    ],
)
def test_state_of_an_exit(code: int, reason: str, state: RunState) -> None:
    assert state_of(code, reason) is state
    assert Exit(code, reason).state is state


def test_reason_of_a_code() -> None:
    assert [reason_of(c) for c in (0, 1, 2, 64, 65, 75, 137)] == [
        "done", "failed", "failed", "lost", "bad_data", "checkpointed", "killed",
    ]  # fmt: skip


@given(st.floats(0, 2**40))
def test_ulids_sort_by_time(now: float) -> None:
    one, later = new_ulid(now), new_ulid(now + 0.002)
    assert len(one) == 26
    assert one < later
    assert abs(ulid_time(one) - now) <= 0.001


def test_ulids_differ() -> None:
    assert len({new_ulid(0.0) for _ in range(1000)}) == 1000


def test_outbox_names() -> None:
    key = run_key("param_abc/single")
    name = OutboxName(key, 12, 3, "COMPLETED", 0)
    assert str(name) == f"{key}.012.r3.COMPLETED.0"
    assert OutboxName.parse(str(name)) == name
    for strange in (
        "",
        ".nfs0001",
        f"{key}.012.r3.COMPLETED",
        f"{key}.12.r3.FAILED.1",
        f"{key}.012.r3.FAILED.1.tmp",
    ):
        assert OutboxName.parse(strange) is None


def test_states() -> None:
    assert {s for s in RunState if s.is_failure} == {
        RunState.FAILED, RunState.TIMEOUT, RunState.OUT_OF_MEMORY, RunState.NODE_FAIL, RunState.PREEMPTED,
        RunState.CANCELLED, RunState.LOST,
    }  # fmt: skip
    assert RunState.COMPLETED.is_final
    assert not any(s.is_final and s.is_live for s in RunState)
    assert all(s.is_final or s.is_live for s in RunState if s not in (RunState.PREPARED, RunState.UNKNOWN))
    assert json.dumps(RunState.LOST) == '"LOST"'
    assert f"{RunState.LOST}" == "LOST"


def test_the_manifest_imports_nothing_heavy() -> None:
    code = "import sys, lfadsrm_hpc.manifest.store; print(*sorted(sys.modules))"
    names = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"numpy", "pandas", "xarray", "h5py", "tensorflow", "jinja2", "click", "rich"} & set(names)
