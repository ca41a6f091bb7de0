"""Reading what Slurm's client programs print: recorded outputs, damage, and words that nobody knows yet."""

from __future__ import annotations

import re
import string
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lfadsrm_hpc.manifest.states import RunState
from lfadsrm_hpc.schedulers.batch import PLAIN, Job
from lfadsrm_hpc.schedulers.slurm import parsing as parsing
from lfadsrm_hpc.schedulers.slurm.parsing import DamagedError, Row

RECORDED = Path(__file__).resolve().parents[1] / "recorded"
HEADER = "lf{ARRAY_JOB_ID|ARRAY_TASK_ID|STATE|NODELIST|END_TIME|SUBMIT_TIME|REASON|NAME}lf\n"
HISTORY = "JobID|State|ExitCode|Submit|Start|End|NodeList|Comment|JobName|\n"
FAILURES = {
    "FAILED": RunState.FAILED,
    "TIMEOUT": RunState.TIMEOUT,
    "NODE_FAIL": RunState.NODE_FAIL,
    "CANCELLED": RunState.CANCELLED,
}


def recorded(name: str) -> str:
    return (RECORDED / name).read_text()


def asked(text: str, fields: str) -> str:
    """Rewrite a recorded squeue as if it had been asked for in our way."""
    names = fields.split("|")
    lines = []
    for line in text.splitlines():
        row = dict(zip(names, line.split("|"), strict=True))
        lines.append("lf{" + "|".join(row[field] for field in parsing.QUEUE_FIELDS) + "}lf\n")
    return HEADER + "".join(lines)


MIXED = "%i|%F|%K|%t|%T|%r|%M|%l|%N|%V|%S|%e|%Q|%j|%u"
PENDING_RANGE = "%i|%F|%K|%t|%T|%r|%M|%l|%N|%V|%S|%e|%j|%u"


def job(number: str, size: int, name: str = "") -> Job:
    return Job(number, name, size, submitted=0.0)


def live(text: str, which: Job) -> dict[int, RunState]:
    rows = parsing.live_tasks(parsing.read_queue(text), which)
    return {index: row.state for index, row in rows.items()}


def ended(text: str, which: Job) -> dict[int, RunState]:
    rows = parsing.ended_tasks(parsing.read_history(text), which)
    return {index: row.state for index, row in rows.items()}


# Recorded


@pytest.mark.parametrize("name", ["squeue_r_o_mixed.txt", "squeue_o_mixed.txt"])
def test_recorded_queue(name: str) -> None:
    text = asked(recorded(name), MIXED)
    # 1 was cancelled while it ran; 5 to 7 while they waited, which made them vanish.
    assert live(text, job("17", 8, "plain")) == {
        0: RunState.RUNNING,
        1: RunState.CANCELLED,
        2: RunState.RUNNING,
        3: RunState.RUNNING,
        4: RunState.PENDING,
    }
    assert set(live(text, job("2", 8, "arr")).values()) == {RunState.COMPLETED}
    assert live(text, job("18", 4)) == {0: RunState.COMPLETED, **dict.fromkeys((1, 2, 3), RunState.FAILED)}
    plain = {str(i): live(text, job(str(i), 0)).get(PLAIN) for i in (1, 10, 11, 12, 13, 16, 19, 20, 21)}
    assert plain == {
        "1": RunState.COMPLETED,
        "10": RunState.FAILED,
        "11": RunState.RUNNING,
        "12": RunState.CANCELLED,
        "13": RunState.PENDING,  # requeued: it may begin later
        "16": RunState.PENDING,
        "19": RunState.PENDING,
        "20": RunState.HELD,
        "21": RunState.FAILED,
    }


def test_recorded_queue_details() -> None:
    rows = parsing.read_queue(asked(recorded("squeue_r_o_mixed.txt"), MIXED))
    seen = parsing.live_tasks(rows, job("21", 0))[PLAIN].seen(live=True)
    assert (seen.word, seen.reason, seen.host, seen.live) == ("FAILED", "JobLaunchFailure", "n2", True)
    assert seen.ended is not None
    running = parsing.live_tasks(rows, job("11", 0))[PLAIN].seen(live=True)
    assert running.ended is None  # the time that squeue names is the latest it can be
    assert running.reason == ""


@pytest.mark.parametrize("name", ["squeue_o_array_pending_range.txt", "squeue_r_o_array_pending_range.txt"])
def test_recorded_pending_ranges(name: str) -> None:
    text = asked(recorded(name), PENDING_RANGE)
    expected = {index: RunState.RUNNING if index < 2 else RunState.PENDING for index in range(10)}
    assert live(text, job("11", 10)) == expected
    if "_r_" not in name:
        held = live(text, job("12", 401))
        assert set(held.values()) == {RunState.HELD}
        assert list(held) == list(range(1, 401, 3))


def test_a_job_of_another_name_is_another_job() -> None:
    text = asked(recorded("squeue_r_o_mixed.txt"), MIXED)
    assert live(text, job("2", 8, "lf0123456789A")) == {}
    assert ended(recorded("sacct_final_X.txt"), job("27", 1000, "lf0123456789A")) == {}


@pytest.mark.parametrize(
    "name", ["sacct_final_X.txt", "sacct_final_parsable2.txt", "sacct_final_D_parsable2.txt"]
)
def test_recorded_history(name: str) -> None:
    text = recorded(name)
    assert ended(text, job("1", 0)) == {PLAIN: RunState.CANCELLED}
    assert ended(text, job("3", 0)) == {PLAIN: RunState.FAILED}
    array = ended(text, job("27", 1000, "wrap"))
    assert len(array) == 1000
    assert {array[index] for index in range(10)} == {RunState.COMPLETED}
    assert set(array.values()) == {RunState.COMPLETED, RunState.CANCELLED}
    rows = parsing.ended_tasks(parsing.read_history(text), job("3", 0))
    seen = rows[PLAIN].seen(live=False)
    assert (seen.code, seen.signal, seen.host, seen.live) == (3, None, "n0", False)
    shot = parsing.ended_tasks(parsing.read_history(text), job("10", 0))[PLAIN]
    assert (shot.word, shot.code, shot.signal) == ("FAILED", 0, 11)


@pytest.mark.parametrize("name", ["sacct_final_X.txt", "sacct_final_D_parsable2.txt", "sacct_mixed_X.txt"])
def test_every_recorded_end_is_what_its_own_row_says(name: str) -> None:
    """Read the file a second time in the plainest way there is."""
    newest: dict[str, str] = {}
    for line in recorded(name).splitlines()[1:]:
        fields = line.split("|")
        if "." not in fields[0] and "[" not in fields[0]:
            newest[fields[0]] = fields[3].split()[0]
    assert len(newest) > 20
    for task, word in newest.items():
        number, _, index = task.partition("_")
        got = ended(recorded(name), job(number, int(index) + 1 if index else 0))
        expected = {"COMPLETED": RunState.COMPLETED, **FAILURES}.get(word)
        assert got.get(int(index) if index else PLAIN) == expected, task


def test_recorded_history_of_live_jobs_tells_only_ends() -> None:
    text = recorded("sacct_mixed_X.txt")
    assert ended(text, job("15", 0)) == {}  # RUNNING
    assert ended(text, job("8", 0)) == {}  # PENDING
    assert ended(text, job("13", 0)) == {PLAIN: RunState.NODE_FAIL}
    assert ended(text, job("6", 8)) == {
        1: RunState.CANCELLED,
        2: RunState.NODE_FAIL,
        3: RunState.NODE_FAIL,
    }


def test_a_requeued_job_is_judged_by_its_newest_row() -> None:
    assert ended(recorded("sacct_mixed_X_D.txt"), job("2", 0)) == {}
    text = HISTORY + (
        "2|NODE_FAIL|0:0|100|101|110|n0||j|\n"
        "2|REQUEUED|0:0|120|121|130|n0||j|\n"
        "2|TIMEOUT|0:0|140|141|150|n1||j|\n"
    )
    assert ended(text, job("2", 0)) == {PLAIN: RunState.TIMEOUT}
    lines = text.splitlines(keepends=True)
    assert ended(HISTORY + "".join(reversed(lines[1:])), job("2", 0)) == {PLAIN: RunState.TIMEOUT}
    assert ended(text + "2|PENDING|0:0|160|Unknown|Unknown|None assigned||j|\n", job("2", 0)) == {}


# Rules, on rows of one's own


def row(task: str, word: str, start: str = "5", end: str = "9") -> str:
    return f"{task}|{word}|0:0|1|{start}|{end}|n0||j|\n"


def test_a_tasks_own_row_wins_over_a_stale_range() -> None:
    text = (
        HISTORY + row("7_[0-3%2]", "CANCELLED by 0", "None") + row("7_1", "COMPLETED") + row("7_2", "RUNNING")
    )
    assert ended(text, job("7", 5)) == {
        0: RunState.CANCELLED,
        1: RunState.COMPLETED,
        3: RunState.CANCELLED,
    }


@pytest.mark.parametrize(
    "word", ["FAILED", "COMPLETED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED"]
)
@pytest.mark.parametrize(("start", "end"), [("Unknown", "9"), ("5", "Unknown"), ("None", "None")])
def test_phantom_ends_are_not_known_yet(word: str, start: str, end: str) -> None:
    assert ended(HISTORY + row("7_0", word, start, end), job("7", 1)) == {}


def test_what_never_ran_can_be_cancelled() -> None:
    assert ended(HISTORY + row("7", "CANCELLED by 1000", "None"), job("7", 0)) == {PLAIN: RunState.CANCELLED}
    [deadline] = parsing.read_history(HISTORY + row("7", "DEADLINE", "None"))
    seen = deadline.seen(live=False)
    assert (seen.state, seen.curable) == (RunState.TIMEOUT, False)


def test_a_range_tells_only_of_cancelling() -> None:
    assert ended(HISTORY + row("7_[0-3]", "FAILED"), job("7", 4)) == {}


@pytest.mark.parametrize("word", sorted(parsing.STATES))
def test_every_word_in_both_programs(word: str) -> None:
    [queued] = parsing.read_queue(HEADER + f"lf{{7|0|{word}|n0|9|1|None|j}}lf\n")
    [kept] = parsing.read_history(HISTORY + row("7_0", word))
    assert queued.state is kept.state is parsing.STATES[word]


def test_an_unknown_word_is_unknown() -> None:
    [queued] = parsing.read_queue(HEADER + "lf{7|0|TELEPORTED|n0|9|1|None|j}lf\n")
    assert queued.state is RunState.UNKNOWN
    assert queued.seen(live=True).word == "TELEPORTED"
    text = HISTORY + row("7_0", "TELEPORTED") + row("7_[1-3]", "TELEPORTED")
    assert ended(text, job("7", 4)) == {0: RunState.UNKNOWN}


@pytest.mark.parametrize(
    ("reason", "state"),
    [
        ("JobHeldUser", RunState.HELD),
        ("JobHeldAdmin", RunState.HELD),
        ("JobHoldMaxRequeue", RunState.HELD),
        ("job requeued in held state", RunState.HELD),
        ("launch failed requeued held", RunState.HELD),
        ("Resources", RunState.PENDING),
        ("ReqNodeNotAvail, UnavailableNodes:n[1-3]|n7", RunState.PENDING),
    ],
)
def test_held_while_it_waits(reason: str, state: RunState) -> None:
    [queued] = parsing.read_queue(HEADER + f"lf{{7|N/A|PENDING||N/A|1|{reason}|j}}lf\n")
    assert (queued.state, queued.reason) == (state, reason)


def test_names_of_other_jobs_may_hold_anything() -> None:
    text = HEADER + "lf{3|N/A|RUNNING|n0|9|1|None|a\nb {c}lf d}lf\nlf{7|N/A|RUNNING|n0|9|1|None|mine}lf\n"
    assert live(text, job("7", 0, "mine")) == {PLAIN: RunState.RUNNING}


def test_several_clusters() -> None:
    text = f"CLUSTER: one\n{HEADER}lf{{7|0|RUNNING|n0|9|1|None|j}}lf\n\nCLUSTER: two\n{HEADER}"
    assert [found.cluster for found in parsing.read_queue(text)] == ["one"]


def test_further_parts_of_heterogeneous_jobs_are_passed_over() -> None:
    text = HISTORY + row("12+0", "COMPLETED") + row("12+1", "FAILED") + row("12.batch", "FAILED")
    assert ended(text, job("12", 0)) == {PLAIN: RunState.COMPLETED}
    [queued] = parsing.read_queue(HEADER + "lf{12+0|N/A|RUNNING|n0|9|1|None|j}lf\n")
    assert queued.job == "12"


# Damage


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        HEADER[:-1],
        HEADER + "lf{7|0|RUNNING|n0|9|1|No",
        HEADER + "lf{7|0|RUNNING|n0|9|1|None|j}lf",
        HEADER + "lf{7|0|RUNlf{7|1|RUNNING|n0|9|1|None|j}lf\n",
        HEADER + "slurm_load_jobs error: Zero Bytes were transmitted or received\n",
        "lf{7|0|RUNNING|n0|9|1|None|j}lf\n",
        HEADER + "lf{7|0|running|n0|9|1|None|j}lf\n",
        HEADER + "lf{x|0|RUNNING|n0|9|1|None|j}lf\n",
        HEADER + "lf{7|0-|RUNNING|n0|9|1|None|j}lf\n",
        HEADER + f"lf{{7|{'9' * 5000}|RUNNING|n0|9|1|None|j}}lf\n",
        "\ufffd\ufffd\x00",
    ],
)
def test_damaged_queues(text: str) -> None:
    with pytest.raises(DamagedError):
        parsing.read_queue(text)


@pytest.mark.parametrize(
    "text",
    ["", HISTORY[:-1], HISTORY + row("7", "FAILED")[:-1], HISTORY + "7|FAI", HISTORY + row("7", "failed"),
     HISTORY + row("x7", "FAILED"), HISTORY + row("7_[0-", "FAILED"), "sacct: error: x\n",
     HISTORY + row("7_0", "FAILED").replace("|\n", "|x\n")],
)  # fmt: skip
def test_damaged_histories(text: str) -> None:
    with pytest.raises(DamagedError):
        parsing.read_history(text)


WORDS = st.sampled_from([*sorted(parsing.STATES), "TELEPORTED"])
NAMES = st.text(string.ascii_letters + string.digits + " _.-", max_size=12)
QUEUED = st.builds(
    lambda number, index, word, name: f"lf{{{number}|{index}|{word}|n0|900|100|None|{name}}}lf\n",
    st.integers(1, 4),
    st.one_of(st.just("N/A"), st.integers(0, 5)),
    WORDS,
    NAMES,
)
KEPT = st.builds(
    lambda number, index, word, start: f"{number}{index}|{word}|1:0|100|{start}|900|n0||j|\n",
    st.integers(1, 4),
    st.sampled_from(["", "_0", "_1", "_2", "_[0-3%2]", ".batch", "+1"]),
    st.sampled_from([*sorted(parsing.STATES), "TELEPORTED", "CANCELLED by 0"]),
    st.sampled_from(["200", "Unknown", "None"]),
)
JOBS = [Job(str(number), "", size, 0.0) for number in range(1, 5) for size in (0, 6)]


def told(rows: list[Row], look: object = parsing.live_tasks) -> set[tuple[str, int, int, RunState]]:
    return {
        (which.id, which.size, index, found.state)
        for which in JOBS
        for index, found in look(rows, which).items()  # type: ignore[operator]
    }


@settings(deadline=None)
@given(st.lists(QUEUED, max_size=8, unique_by=lambda line: tuple(line.split("|")[:2])), st.data())
def test_a_cut_queue_is_damaged_or_tells_nothing_new(lines: list[str], data: st.DataObject) -> None:
    whole = HEADER + "".join(lines)
    cut = whole[: data.draw(st.integers(0, len(whole)))]
    try:
        rows = parsing.read_queue(cut)
    except DamagedError:
        return
    assert cut.endswith("}lf\n")  # only between two rows can a cut not be seen
    assert told(rows) <= told(parsing.read_queue(whole))


@settings(deadline=None)
@given(st.lists(KEPT, max_size=8), st.data())
def test_a_cut_history_is_damaged_or_was_cut_between_lines(lines: list[str], data: st.DataObject) -> None:
    whole = HISTORY + "".join(lines)
    cut = whole[: data.draw(st.integers(0, len(whole)))]
    try:
        rows = parsing.read_history(cut)
    except DamagedError:
        return
    assert cut.endswith("|\n")
    assert len(rows) <= len(lines)


@settings(deadline=None)
@given(st.lists(QUEUED, max_size=5), st.text(max_size=20), st.data())
def test_garbage_in_a_queue_makes_no_end(lines: list[str], garbage: str, data: st.DataObject) -> None:
    whole = HEADER + "".join(lines)
    where = data.draw(st.integers(0, len(whole)))
    damaged = whole[:where] + garbage + whole[where:]
    try:
        rows = parsing.read_queue(damaged)
    except DamagedError:
        return
    words = {found.word for found in rows}
    assert words <= {*re.findall(r"\|([A-Z][A-Z_]*)\|", damaged)}


@settings(deadline=None)
@given(st.text(), st.binary())
def test_readers_raise_nothing_else(text: str, raw: bytes) -> None:
    for some in (
        text,
        raw.decode(errors="replace"),
        HEADER + text,
        HISTORY + text,
        f"{HEADER}lf{{{text}}}lf\n",
    ):
        for read in (parsing.read_queue, parsing.read_history, parsing.read_indices):
            try:
                read(some)
            except DamagedError:
                continue
    parsing.read_receipt(text)
    parsing.read_time(text)
    parsing.read_exit_code(text)
    parsing.job_number(text)


# Ids and indices


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("123\n", ("123", "")),
        ("123;perlmutter\n", ("123", "perlmutter")),
        ("Welcome to our cluster\n\n--> all fine\n123\n", ("123", "")),
        ("123", None),  # cut: it may be 1234
        ("12", None),
        ("", None),
        ("Submitted batch job 123\n", None),
        ("1\n2\n", None),
        ("123;\n", None),
    ],
)
def test_receipts(text: str, expected: tuple[str, str] | None) -> None:
    assert parsing.read_receipt(text) == expected


@pytest.mark.parametrize("text", ["12", "12;cluster", "12_[3-9%2]", "12+0", "12_4"])
def test_job_numbers(text: str) -> None:
    assert parsing.job_number(text) == "12"


@settings(deadline=None)
@given(st.sets(st.integers(0, 300)), st.integers(20, 60))
def test_written_elements_name_what_they_should(indices: set[int], longest: int) -> None:
    words = parsing.write_elements("7", list(indices), longest=longest)
    named = [
        index
        for word in words
        for part in parsing.read_indices(word.removeprefix("7_[").removesuffix("]"))
        for index in part
    ]
    assert sorted(named) == sorted(indices)
    assert all(len(word) <= longest + 4 for word in words)


def test_throttles() -> None:
    text = recorded("scontrol_show_job_array_pending_range.txt").replace("\n   ", " ")
    text = text.partition("JobId=12")[0]
    assert parsing.shows_throttle(text, 2)
    assert not parsing.shows_throttle(text, 3)
    one = "JobId=1 ArrayTaskId=4-9%1 ArrayTaskThrottle=1 JobName=j JobState=PENDING Reason=None\n"
    assert parsing.shows_throttle(one, 1)
    assert not parsing.shows_throttle(one, 2)
    assert not parsing.shows_throttle(one, 0)
    assert parsing.shows_throttle(one.replace(" ArrayTaskThrottle=1", ""), 0)
    assert parsing.shows_throttle(one.replace("PENDING", "RUNNING"), 5)  # nothing waits
