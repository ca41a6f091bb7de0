"""Rules for all commands: every example of every help text is executed, as it stands there, by a shell;
--json prints JSON; colours are for terminals; nothing asks or waits without one.

A new command needs examples that work in the laboratory (`laboratory.py`), or a line in the tables here.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import shutil
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import forking
import laboratory
import pytest
from every_command import Words, every_command, examples, leaves, options_of

from lfadsrm_hpc.cli.main import lfadsrm

# The words of commands that import TensorFlow; their examples train for a moment.
TRAINING = {"demo", "infer", "nlb", "task", "time"}
# Those, and another one that starts it to see whether it works.
SLOW = TRAINING | {"doctor"}
# Those that need a scheduler; each node is drained, so that jobs wait.
CLUSTER = {"cancel", "doctor", "plan", "reconcile", "retry", "run", "site", "submit", "throttle"}
# Those that make a folder to work in.
ELSEWHERE = {"demo", "init"}
# Those that somebody has to stop, and what they say when they can be.
STOPPED = {"tensorboard": "Ctrl-C ends it"}
# Examples that end otherwise than with 0.
CODES = {
    'lfadsrm status --fail && echo "nothing has failed"': 5,
    'lfadsrm check-runs --fail && echo "no run is bad"': 5,  # random numbers are
    "lfadsrm site detect": 4,  # the tests' cluster is none of them
    "lfadsrm site detect --json": 4,
    "lfadsrm retry --state OUT_OF_MEMORY --memory 64G": 4,  # no run is
    # Nobody can be asked.
    "lfadsrm archive my_experiment -o /archive/reaching.tar --remove": 2,
    "lfadsrm clean my_experiment --kind tensorboard --kind attempts": 2,
    "lfadsrm clean my_experiment --match factors_dim=8 --kind posterior-means": 2,
    "lfadsrm clean my_experiment --unnamed": 4,  # the experiment names all of its runs
    "lfadsrm submit --failed --memory 32G": 3,  # no node of the tests' cluster has that much
}
STILL = "rm -r runs/example/param_*/single_day5/attempts"  # which would be waited for
# What a run has that ended well, but not at once.
LEFT = """for run in runs/example/param_*/*; do mkdir -p "$run/checkpoints/001.r0/tensorboard"
    touch "$run/checkpoints/001.r0/tensorboard/events"; done"""
SUBMITTED = "lfadsrm submit --state prepared --state failed --state preempted"
# What comes before the examples of a command, or one example.
BEFORE = {
    **dict.fromkeys(("throttle", "reconcile"), SUBMITTED),
    "cancel": f"{STILL} && {SUBMITTED}",
    "clean": LEFT,
    "archive": STILL,
    "lfadsrm archive --check best.tar": "lfadsrm archive --match factors_dim=8 -o best.tar",
    **dict.fromkeys(("run", "lfadsrm status --watch"), STILL),
    "lfadsrm prepare my_experiment && lfadsrm run my_experiment": STILL,
    "lfadsrm infer all day9_more.npz --adapted day9 --json": (
        "lfadsrm infer all day9.npz --adapt --max-epochs 1"
    ),
    "lfadsrm nlb single_mc_maze submission.h5 --name mc_maze --evaluation mc_maze_test": (
        "lfadsrm infer single_mc_maze mc_maze_test.npz"
    ),
}
# What comes after, so that nothing is left at work.
# Whose first example is not the one for --json.
JSON = {"tensorboard": "lfadsrm tensorboard --dry-run"}
WITHOUT_JSON = {"completion", "task"}
AFTER = {
    "lfadsrm run --detach && lfadsrm status": (
        "until lfadsrm status --json | jq -e '.counts | keys - [\"COMPLETED\"] == []'; do sleep 0.2; done"
    ),
}
QUICKLY = {
    "LFADSRM_SITE": "generic-slurm",
    "LFADSRM_TIME_SECONDS": "1",
    "LFADSRM_THREADS": "1",
    "LFADSRM_DEMO_SIZE": "quick",
    "LFADSRM_DEMO_SESSIONS": "1",
    "LFADSRM_DEMO_FACTORS": "2",
    "LFADSRM_DEMO_SLOTS": "2",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "MPLBACKEND": "agg",
}
SRUN = """#!/bin/sh
while [ "${1#-}" != "$1" ]; do shift; done
exec "$@"
"""


@dataclass
class Laboratory:
    """A home folder of one's own, and a shell in it."""

    home: Path
    environment: dict[str, str]

    def place(self, words: Words, line: str) -> Path:
        """Return the folder in which such a line is typed."""
        if words[0] in ELSEWHERE:
            folder = self.home / "new"
            folder.mkdir(exist_ok=True)
            return folder
        return self.home if "my_experiment" in line else self.home / "my_experiment"

    def start(self, line: str, place: Path, **more: str) -> subprocess.Popen[str]:
        """Start a line of shell, without a terminal."""
        return subprocess.Popen(
            ["bash", "-c", f"set -o pipefail; {line}"],
            cwd=place,
            env=self.environment | more,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def execute(self, line: str, place: Path, *, timeout: float = 400, **more: str) -> tuple[int, str, str]:
        """Execute a line; return how it ended and what it printed."""
        process = self.start(line, place, **more)
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise AssertionError(f"{line}: it hangs\n{''.join(process.communicate())}") from None
        return process.returncode, out, err

    def example(self, words: Words, line: str, **more: str) -> tuple[int, str, str]:
        """Execute an example, with what comes before and after."""
        place = self.place(words, line)
        within = self.home / "my_experiment"
        line = line.replace("param_ab12cd34ef56", next(within.glob("runs/example/param_*")).name)
        for before in filter(None, (BEFORE.get(words[0]), BEFORE.get(line))):
            code, out, err = self.execute(before, within)
            assert code == 0, f"{before}:\n{out}{err}"
        if words[0] in STOPPED and "--dry-run" not in line:
            ended = self._stop(line, place, STOPPED[words[0]])
        else:
            ended = self.execute(line, place, **more)
        if line in AFTER:
            assert self.execute(AFTER[line], within)[0] == 0
        return ended

    def _stop(self, line: str, place: Path, when: str) -> tuple[int, str, str]:
        process = self.start(line, place)
        assert process.stderr is not None
        said = ""
        while when not in said:
            piece = process.stderr.readline()
            assert piece, said
            said += piece
        time.sleep(0.3)  # until it waits
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=60)
        return process.returncode, out, said + err


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with `lfadsrm`, and an srun that starts things here."""
    with forking.Forking(tmp_path_factory.mktemp("programs")) as server:
        (server.bin / "srun").write_text(SRUN)
        (server.bin / "srun").chmod(0o755)
        yield server.bin


@pytest.fixture(scope="session")
def made_up_home(fabricated: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    home = tmp_path_factory.mktemp("made_up") / "home"
    with laboratory.make(home, fabricated):  # the end closes its standard input
        yield home


@pytest.fixture(scope="session")
def trained_home(made_once: Callable[[str, Callable[[Path], None]], Path]) -> Path:
    return made_once("laboratory-trained", laboratory.make_trained)


@pytest.fixture
def drained(request: pytest.FixtureRequest) -> Iterator[None]:
    """A real Slurm on which jobs wait."""
    cluster = request.getfixturevalue("slurm")
    nodes = ",".join(cluster.nodes)
    cluster.run("scontrol", "update", f"nodename={nodes}", "state=drain", "reason=test")
    yield
    cluster.cancel_all()
    cluster.run("scontrol", "update", f"nodename={nodes}", "state=resume")


@pytest.fixture
def lab(request: pytest.FixtureRequest, tmp_path: Path, programs: Path, matlab: Any) -> Laboratory:
    """The laboratory that the command of this test needs."""
    words = request.getfixturevalue("words")
    if words[0] in CLUSTER:
        request.getfixturevalue("drained")
    source = request.getfixturevalue("trained_home" if words[0] in TRAINING else "made_up_home")
    home = tmp_path / "home"
    shutil.copytree(source, home)
    if words[0] == "export":
        matlab.Made(home / "matlab/runs/of_2018")
    foreign = ("LFADSRM_", "XDG_", "PYTEST_", "NO_COLOR", "FORCE_COLOR", "COLUMNS")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    kept["LFADSRM_TRUSTED"] = str(home)
    paths = {"PATH": f"{programs}:{kept['PATH']}", "PYTHONPATH": str(forking.ROOT), "HOME": str(home)}
    return Laboratory(home, kept | paths | QUICKLY)


def cases(slow: bool) -> list[Any]:
    """Return the commands that have examples; those of groups are examples of what is in the group."""
    return [
        pytest.param(words, id=" ".join(words)) for words in every_command() if (words[0] in SLOW) is slow
    ]


def run_examples(lab: Laboratory, words: Words, lines: list[str]) -> None:
    """Execute examples, each in a fresh copy of the laboratory."""
    fresh = lab.home.with_name("fresh")
    lab.home.rename(fresh)
    for line in lines:
        shutil.copytree(fresh, lab.home)
        code, out, err = lab.example(words, line)
        assert code == CODES.get(line, 0), f"{line}: {code}\n{out}\n{err}"
        assert "Traceback" not in out + err, line
        assert "\x1b" not in out + err, f"{line}: colours without a terminal"
        shutil.rmtree(lab.home)


def print_json(lab: Laboratory, words: Words, line: str) -> None:
    """Execute an example where LFADSRM_JSON is set: one object, and nothing else on standard output."""
    code, out, err = lab.example(words, line, LFADSRM_JSON="1")
    assert code == CODES.get(line, 0), f"{line}: {code}\n{out}\n{err}"
    found = json.loads(out)
    assert isinstance(found, dict)
    assert found.pop("schema_version") == 1
    assert found.keys() <= documented(words), "docs/command_line.md does not know these fields"


def documented(words: Words) -> set[str]:
    """Return the fields that the page lists for a command."""
    page = (forking.ROOT / "docs/command_line.md").read_text().partition("## JSON")[2]
    rows = re.findall(r"^\| (.*?) \| (.*) \|$", page, re.MULTILINE)
    fields = [
        fields for commands, fields in rows if f"`{' '.join(words)}`" in commands.replace(" --dry-run", "")
    ]
    assert fields, "it has no row"
    if "as a run of `status`" in " ".join(fields) and words != ("status",):
        return set(re.findall(r"`(\w+)`", " ".join(fields))) | documented(("status",))
    return set(re.findall(r"`(\w+)`", " ".join(fields)))


def json_example(words: Words) -> str:
    """Return the example that is executed with --json: the first that is of this command alone."""
    own = " ".join(("lfadsrm", *words))
    lines = examples(every_command()[words].help or "")
    return JSON.get(words[0]) or next(
        line for line in lines if line.startswith(own) and not any(mark in line for mark in "|>&")
    )


def on_terminal(lab: Laboratory, line: str, place: Path, columns: int, **more: str) -> tuple[int, str]:
    """Execute a line on a terminal of its own; return how it ended and all that it showed."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
    process = subprocess.Popen(
        ["bash", "-c", line],
        cwd=place,
        env=lab.environment | {"TERM": "xterm"} | more,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # the other side is closed
        while piece := os.read(ours, 65536):
            shown += piece
    os.close(ours)
    return process.wait(60), shown.decode()


@pytest.mark.parametrize("words", [pytest.param(words, id=" ".join(words)) for words in every_command()])
def test_every_command_has_examples_of_itself(words: Words) -> None:
    found = examples(every_command()[words].help or "")
    assert found, "there are no examples"
    assert any(" ".join(("lfadsrm", *words)) in line for line in found)


@pytest.mark.parametrize("words", cases(slow=False))
def test_examples(lab: Laboratory, words: Words) -> None:
    run_examples(lab, words, examples(every_command()[words].help or ""))


@pytest.mark.parametrize("words", [("lfadsrm",)])
def test_examples_of_all_together(lab: Laboratory, words: Words) -> None:
    """Those of `lfadsrm --help`, but for the one that is also the first of `lfadsrm demo`."""
    demo, *lines = examples(lfadsrm.get_help(click.Context(lfadsrm)))
    assert demo == examples(every_command()["demo",].help or "")[0]
    assert len(lines) >= 3
    for line in lines:
        run_examples(lab, (line.split()[1],), [line])
        lab.home.with_name("fresh").rename(lab.home)


@pytest.mark.slow
@pytest.mark.train
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("words", cases(slow=True))
def test_slow_examples(lab: Laboratory, words: Words) -> None:
    """The first of them prints JSON."""
    lines = examples(every_command()[words].help or "")
    if words[0] not in WITHOUT_JSON:
        print_json(lab, words, lines.pop(0))
    run_examples(lab, words, lines)


@pytest.mark.parametrize("words", [pytest.param(words, id=" ".join(words)) for words in leaves()])
def test_every_command_has_json(words: Words) -> None:
    found = any("--json" in option.opts for option in options_of(leaves()[words]))
    assert found == (words[0] not in WITHOUT_JSON)


@pytest.mark.parametrize(
    "words",
    [pytest.param(words, id=" ".join(words)) for words in leaves() if words[0] not in SLOW | WITHOUT_JSON],
)
def test_json(lab: Laboratory, words: Words) -> None:
    print_json(lab, words, json_example(words))


TELLING = {"best", "check-runs", "logs", "metrics", "plan", "show", "site", "status", "why"}


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(words, id=" ".join(words))
        for words in leaves()
        if words[0] in TELLING and words != ("site", "init")
    ],
)
def test_narrow_terminals(lab: Laboratory, words: Words) -> None:
    """Nothing that can be copied from a wide output is missing, or cut, on a narrow terminal."""
    params = next(lab.home.glob("*/runs/example/param_*")).name
    copied = re.compile(
        rf"{params}/\w+|single_\w+|/\S+/\S+|{params.removeprefix('param_')}|perlmutter|generic-\w+"
    )
    for number, line in enumerate(examples(every_command()[words].help or "")):
        if any(mark in line for mark in ("|", ">", "&", "--json", "--watch", "--script")):
            continue
        place = lab.place(words, line)
        line = line.replace("param_ab12cd34ef56", params)
        _, out, _ = lab.execute(line, place)
        for columns in (40, 60, 80) if number == 0 else (40,):
            code, shown = on_terminal(lab, line, place, columns)
            assert code == CODES.get(line, 0)
            assert "Traceback" not in shown
            plain = click.unstyle(shown)
            missing = [text for text in copied.findall(out) if text not in plain]
            assert not missing, f"{line}, {columns} columns: {missing}\n{plain}"


@pytest.mark.parametrize("words", [pytest.param(("status",), id="status")])
def test_colours(lab: Laboratory, words: Words) -> None:
    inside = lab.home / "my_experiment"
    coloured = re.compile(r"\x1b\[[0-9;]*[1-9]m")
    assert coloured.search(on_terminal(lab, "lfadsrm status", inside, 80)[1])
    for plain in ({"NO_COLOR": "1"}, {"TERM": "dumb"}, {"NO_COLOR": "1", "FORCE_COLOR": "1"}):
        for line in ("lfadsrm status", "lfadsrm best", "lfadsrm check-runs", "lfadsrm site list"):
            assert "\x1b" not in on_terminal(lab, line, inside, 80, **plain)[1], (line, plain)
    assert coloured.search(lab.execute("lfadsrm status", inside, FORCE_COLOR="1")[1])
    assert "\x1b" not in lab.execute("lfadsrm status", inside, FORCE_COLOR="0")[1]
