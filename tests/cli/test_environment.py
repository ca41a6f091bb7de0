"""Every option of every command can be set by its environment variable; which ones cannot is said here."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import click
import pytest
from every_command import Words, every_command, leaves, options_of

from lfadsrm_hpc.cli.common import Written
from lfadsrm_hpc.cli.environment import CONFIRMATIONS, long_name, variable_of
from lfadsrm_hpc.cli.main import lfadsrm

ROOT = Path(__file__).resolve().parents[2]
# All that has no variable. A new entry here is a decision: what confirms is said each time.
UNSET = {
    "archive --yes",
    "cancel --all",
    "cancel --yes",
    "clean --yes",
    "clean --restart",
    "clean --unnamed",
    "export --overwrite",
    "infer --overwrite",
    "prepare --yes",
    "retry --yes",
    "submit --yes",
}
OF_TASK = {"LFADSRM_CLUSTER", "LFADSRM_JOB", "LFADSRM_DEADLINE"}
SAMPLES: dict[type[click.ParamType], str] = {
    click.types.IntRange: "3",
    click.types.IntParamType: "3",
    click.types.FloatRange: "3.5",
    click.types.FloatParamType: "3.5",
    click.types.BoolParamType: "1",
    click.types.StringParamType: "a=1",
    click.types.Path: "somewhere",
    Written: "somewhere",
}
ALL = [
    pytest.param(words, option, id=f"{' '.join(words)} {long_name(option)}")
    for words, command in leaves().items()
    for option in options_of(command)
]


def sample(option: click.Option) -> str:
    if isinstance(option.type, click.Choice):
        return str(option.type.choices[-1])
    if option.type.name == "directory" and getattr(option.type, "exists", False):
        return str(ROOT)
    return SAMPLES[type(option.type)]


def context(words: Words) -> click.Context:
    """Parse a call without any words, as completion does, where errors are no matter."""
    return leaves()[words].make_context(words[-1], [], resilient_parsing=True)


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("LFADSRM_")]:
        monkeypatch.delenv(name)


@pytest.mark.parametrize(("words", "option"), ALL)
def test_every_option_has_a_variable(
    words: Words, option: click.Option, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = "_".join(["LFADSRM", *words, long_name(option).removeprefix("--")]).upper().replace("-", "_")
    monkeypatch.setenv(expected, sample(option))
    source = context(words).get_parameter_source(option.name or "")
    named = " ".join((*words, long_name(option)))
    if words == ("task",) or named in UNSET:
        assert source is click.core.ParameterSource.DEFAULT
    else:
        assert source is click.core.ParameterSource.ENVIRONMENT


def test_what_has_no_variable_is_what_confirms() -> None:
    found = {
        " ".join((*words, long_name(option)))
        for words, command in leaves().items()
        for option in options_of(command)
        if variable_of(option, words) is None
    }
    assert found == UNSET
    assert {name.rpartition(" ")[2] for name in found} <= {one.rpartition(" ")[2] for one in CONFIRMATIONS}


def test_no_two_options_share_a_variable_of_their_own() -> None:
    names = [
        variable_of(option, words) for words, command in leaves().items() for option in options_of(command)
    ]
    own = [name for name in names if name is not None]
    assert len(set(own)) == len(own)
    # Nor is one of them what the package reads for something else.
    text = "".join(path.read_text() for path in (ROOT / "lfadsrm_hpc").rglob("*.py"))
    read = set(re.findall(r"LFADSRM_[A-Z_]+", text)) - OF_TASK - {"LFADSRM_RUN_SPEC"}
    assert not read & set(own)


def test_jobs_heed_what_jobs_set_alone() -> None:
    task = every_command()[("task",)]
    heeded = [name for option in options_of(task) for name in (option.envvar and [option.envvar]) or []]
    assert set(heeded) == OF_TASK
    assert all(name in (task.epilog or "") for name in OF_TASK)


@pytest.mark.parametrize("words", [pytest.param(words, id=" ".join(words)) for words in leaves()])
def test_help_tells_of_them(words: Words) -> None:
    said = leaves()[words].epilog or ""
    assert ("LFADSRM_" in said) == bool(options_of(leaves()[words]))


def test_the_command_line_goes_before_the_commands_variable_before_the_shared_one(
    call: Any, experiment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LFADSRM_STATUS_SPEC", "single_day1 single_day2")
    assert len(call("status", experiment, "--json").json["runs"]) == 4
    assert len(call("status", experiment, "--json", "--spec", "all").json["runs"]) == 2
    monkeypatch.setenv("LFADSRM_JSON", "1")
    assert call("status", experiment).json["schema_version"] == 1
    monkeypatch.setenv("LFADSRM_STATUS_JSON", "0")
    assert call("status", experiment).out.startswith("run spec")


def test_what_is_wrong_with_a_variable_is_told_by_its_name(
    call: Any, experiment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LFADSRM_STATUS_STATE", "feiled")
    said = call("status", experiment)
    assert said.code == 2
    assert "variables that are set: LFADSRM_STATUS_STATE=feiled" in said.err
    monkeypatch.setenv("LFADSRM_RUN_SLOTS", "two")
    assert "LFADSRM_RUN_SLOTS=two" in call("run", experiment).err


def test_a_variable_confirms_nothing(call: Any, experiment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LFADSRM_CANCEL_ALL", "1")
    said = call("cancel", experiment)
    assert said.code == 2
    assert "it is not said which runs" in said.err


def test_the_root_has_no_settings() -> None:
    assert options_of(lfadsrm) == []
