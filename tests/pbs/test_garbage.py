"""Whatever a client program prints: nothing is raised, and garbage is never an end."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from lfadsrm_hpc.manifest.states import RunState as S
from lfadsrm_hpc.schedulers.batch import PLAIN
from lfadsrm_hpc.schedulers.pbs.parsing import indices_of, parse_answer, tasks_of
from lfadsrm_hpc.schedulers.pbs.torque_parsing import parse_full, parse_table, parse_xml
from lfadsrm_hpc.schedulers.pbs.torque_parsing import tasks_of as torque_tasks_of

RECORDED = Path(__file__).resolve().parents[1] / "recorded"
ALIVE = {S.PENDING, S.HELD, S.RUNNING, S.UNKNOWN}
INDICES = [PLAIN, *range(10)]

RUNNING = """{
\t"timestamp":\t1795352151,
\t"pbs_server":\t"vm",
\t"Jobs":\t{
\t\t"1[].vm":\t{
\t\t\t"Job_Name":\t"arr",
\t\t\t"job_state":\t"B",
\t\t\t"array_indices_remaining":\t"1-9"
\t\t},
\t\t"1[0].vm":\t{
\t\t\t"job_state":\t"R",
\t\t\t"exec_host":\t"vm/0",
\t\t\t"Variable_List":\t{
\t\t\t\t"A":\t"x",
\t\t\t\t"B":\t7
\t\t\t},
\t\t\t"comment":\t"Job run at Sun Nov 22 at 12:55 on (vm:ncpus=1)"
\t\t}
\t}
}
"""
XML = (
    "<Data><Job><Job_Id>1[0].vm</Job_Id><Job_Name>a-0</Job_Name><job_state>R</job_state>"
    "<Resource_List><walltime>01:00:00</walltime></Resource_List><exec_host>n1/0</exec_host></Job>"
    "<Job><Job_Id>1[1].vm</Job_Id><Job_Name>a-1</Job_Name><job_state>Q</job_state></Job></Data>\n"
)


def check(text: str) -> set[S]:
    found = tasks_of(parse_answer(text), "1", INDICES, history=True)
    states = {seen.state for seen in (found or {}).values()}
    for parse in (parse_xml, parse_full, parse_table):
        torque = torque_tasks_of(parse(text), "1", INDICES)
        states |= {seen.state for seen in (torque or {}).values()}
    return states


@given(st.text())
def test_any_text(text: str) -> None:
    assert check(text) <= ALIVE
    indices_of(text[:50])


@given(st.binary(max_size=300), st.integers(0, len(RUNNING)), st.sampled_from([RUNNING, XML]))
def test_bytes_amid_an_answer(noise: bytes, where: int, text: str) -> None:
    assert check(text[:where] + noise.decode(errors="replace") + text[where:]) <= ALIVE


@given(
    st.integers(0, len(RUNNING)), st.integers(0, len(RUNNING)), st.integers(0, len(RUNNING)),
    st.sampled_from([RUNNING, XML]),
)  # fmt: skip
def test_torn_and_interleaved_answers(a: int, b: int, c: int, text: str) -> None:
    assert check(text[:a] + text[b:] + text[:c]) <= ALIVE


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["Jobs", "1.vm", "1[].vm", "1[3].vm", "job_state", "substate", "exec_host", "x"]
                ),
                inner,
                max_size=5,
            )
        ),
        max_leaves=25,
    )
)
def test_json_of_another_shape(value: object) -> None:
    import json

    content = {"timestamp": 1, "Jobs": value}
    assert check(json.dumps(content)) <= ALIVE | {S.CANCELLED}
    check(json.dumps(value))


STATUS = st.one_of(st.integers(-40, 400).map(str), st.text(max_size=5))


@given(
    word=st.one_of(st.sampled_from("BEFHMQRSTUWX"), st.text(max_size=2)),
    status=STATUS,
    substate=STATUS,
    host=st.sampled_from(["", "n1/0"]),
)
def test_only_what_ran_and_says_so_completed(word: str, status: str, substate: str, host: str) -> None:
    import json

    job = {"job_state": word, "Exit_status": status, "substate": substate, "exec_host": host}
    text = json.dumps({"timestamp": 1, "Jobs": {"1.vm": job, "1[].vm": {"job_state": "B"}, "1[0].vm": job}})
    found = tasks_of(parse_answer(text), "1", [PLAIN, 0], history=True)
    assert found is not None
    for index, seen in found.items():
        if word not in ("F", "X"):
            assert seen.state in ALIVE
        if seen.state is S.COMPLETED:
            assert seen.code == 0
            assert int(status) == 0
            assert int(substate) == 92
            assert host or index == PLAIN


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_recorded_answers_that_break_off(data: st.DataObject) -> None:
    """What half an answer says of a task is what the whole one says, or nothing."""
    name = data.draw(st.sampled_from(["pbs_array_finished_xt.json", "pbs_array_mid_t.json"]))
    text = (RECORDED / name).read_text(errors="replace")
    whole = tasks_of(parse_answer(text), "1", range(10), history=True)
    half = parse_answer(text[: data.draw(st.integers(0, len(text.rstrip()) - 1))])
    assert not half.whole
    found = tasks_of(half, "1", range(10), history=True) or {}
    assert whole is not None
    assert all(whole[index] == seen for index, seen in found.items())
