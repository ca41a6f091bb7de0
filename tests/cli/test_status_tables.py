"""Tables of states as text: columns, widths, which rows where there are too many."""

from __future__ import annotations

import click
import pytest

from lfadsrm_hpc.cli.looking import Look, worth_showing
from lfadsrm_hpc.cli.state_tables import cells, text_table
from lfadsrm_hpc.collection.roster import Entry
from lfadsrm_hpc.manifest.fold import RunStatus
from lfadsrm_hpc.manifest.states import RunState


def states(*words: str) -> list[RunStatus]:
    return [RunStatus(f"param_x/{n}", RunState(word), attempt=n) for n, word in enumerate(words)]


def test_empty_columns_are_left_out() -> None:
    found = states("PREPARED", "COMPLETED")
    rows = [cells("day", "factors_dim=2", found[0]), cells("a longer name", "seed=1", found[1])]
    assert text_table(rows, found).splitlines() == [
        "run spec       params         state      try",
        "day            factors_dim=2  prepared",
        "a longer name  seed=1         completed    1",
    ]


def test_a_narrow_terminal_cuts_the_params_first() -> None:
    found = [RunStatus("r", RunState.PENDING, attempt=1, reason="Priority")]
    rows = [cells("day", "factors_dim=2 keep_prob=0.95 seed=17", found[0], "4711_3")]
    shown = click.unstyle(text_table(rows, found, width=60)).splitlines()
    assert all(len(line) <= 60 for line in shown)
    assert shown[1].split() == ["day", "factors_dim=2", "kee…", "pending", "1", "4711_3", "Priority"]
    narrow = text_table(rows, found, width=20).splitlines()
    assert narrow[1] == "day       factors_dim…  pending …", "which run it is, and its state, are not cut"


def test_states_have_colours_on_a_terminal_only() -> None:
    found = states("FAILED", "COMPLETED")
    rows = [cells("day", "x", state) for state in found]
    assert "\x1b" not in text_table(rows, found)
    shown = text_table(rows, found, width=80, coloured=True).splitlines()
    assert "\x1b[31mfailed" in shown[1]
    assert "\x1b[32mcompleted" in shown[2]


def test_wide_and_unprintable_characters() -> None:
    found = states("FAILED", "FAILED")
    rows = [cells("日本", "x", found[0]), cells("a\tb\x1b[31m", "y", found[1])]
    shown = text_table(rows, found).splitlines()
    assert shown[1].startswith("日本      x")
    assert shown[2].startswith("a b [31m  y")


def look_of(words: list[str]) -> tuple[list[Entry], Look]:
    found = {f"param_x/{n}": state for n, state in enumerate(states(*words))}
    entries = [Entry(run, run, "x") for run in found]
    return entries, Look(entries, found, found, {})


def test_what_is_worth_a_row() -> None:
    words = ["COMPLETED"] * 50 + ["FAILED"] * 30 + ["RUNNING"] * 30 + ["PENDING"] * 30 + ["HELD"] * 2
    entries, look = look_of(words)
    shown = [look.statuses[entry.id].state.value for entry in worth_showing(entries, look, 20)]
    assert shown == ["FAILED"] * 6 + ["RUNNING"] * 6 + ["PENDING"] * 6 + ["HELD"] * 2


@pytest.mark.parametrize(("words", "count"), [(["COMPLETED"] * 9, 0), (["FAILED"] * 9, 5), ([], 0)])
def test_what_is_worth_a_row_of_one_kind(words: list[str], count: int) -> None:
    entries, look = look_of(words)
    assert len(worth_showing(entries, look, 5)) == count
