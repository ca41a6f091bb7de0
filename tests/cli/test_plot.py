"""`lfadsrm plot`, on a collection whose runs were made up."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "results"))
from made_up_runs import SHOWN, build

from lfadsrm_hpc import RunCollection
from lfadsrm_hpc.cli.figure_names import figure_name
from lfadsrm_hpc.cli.plot import KINDS

SIGNATURES = {".png": b"\x89PNG", ".pdf": b"%PDF", ".svg": b"<?xml"}
ONE = ["--match", f"factors_dim={SHOWN}", "--match", "l2_gen_scale=10", "--match", "seed=0"]


@pytest.fixture(scope="module")
def reaching(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("made_up") / "runs").path


@pytest.fixture(scope="module")
def stitched(reaching: Path) -> str:
    run = RunCollection.open(reaching).find_run("stitched", factors_dim=SHOWN, l2_gen_scale=10, seed=0)
    return run.id


@pytest.mark.parametrize("kind", [kind for kind, about in KINDS.items() if not about.of_many])
def test_every_kind_of_one_run(call: Any, reaching: Path, stitched: str, kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"{kind}.png"
    said = call("plot", stitched, kind, "-C", reaching, "--out", path, "--dpi", 40, *named(kind))
    assert (said.code, said.out, said.err) == (0, f"{path}\n", "")
    assert path.read_bytes().startswith(SIGNATURES[".png"])


def named(kind: str) -> list[str]:
    return ["--dataset", "day2"] if KINDS[kind].takes.get("dataset") == "dataset" else []


def test_figures_of_many_runs_go_beside_the_collection(call: Any, reaching: Path) -> None:
    said = call("plot", reaching, "sweep", "--over", "factors_dim", "--spec", "stitched", "--dpi", 40)
    assert said.out == f"{reaching}/figures/sweep_stitched_over-factors_dim.png\n"
    said = call("plot", reaching, "learning-curves", "--match", "factors_dim=8", "--dpi", 40)
    assert said.out == f"{reaching}/figures/learning-curves_factors_dim=8.png\n"
    assert (reaching / "figures/learning-curves_factors_dim=8.png").is_file()


@pytest.mark.parametrize("suffix", SIGNATURES)
def test_files_are_what_their_suffix_says(call: Any, reaching: Path, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    assert call("plot", reaching, "learning-curves", *ONE, "-o", path, "--style", "transparent").code == 0
    assert path.read_bytes().startswith(SIGNATURES[suffix])


def test_a_run_by_its_folder_its_spec_or_where_it_is_alone(
    call: Any, reaching: Path, stitched: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(reaching)
    name = f"factors_{stitched.removeprefix('param_').replace('/', '_')}_day1_condition-2_factor-0.png"
    expected = reaching / "figures" / name
    options = ["factors", "--dataset", "day1", "--factor", 0, "--condition", 2, "--dpi", 40]
    for words in ([stitched], ["stitched", *ONE], [".", "--spec", "stitched", *ONE]):
        expected.unlink(missing_ok=True)
        said = call("plot", words[0], *options, *words[1:])
        assert (said.code, said.out) == (0, f"{expected}\n"), said.err
        assert expected.is_file()
    answer = call("plot", stitched, *options, "--json").json
    assert answer == {"schema_version": 1, "figure": str(expected), "kind": "factors", "runs": [stitched]}


def test_no_figure_replaces_another_one(call: Any, reaching: Path, stitched: str) -> None:
    """The name of a file says what is drawn: another neuron's figure is another file."""
    begun = ["plot", stitched, "single-trials", "-C", reaching, "--dataset", "day1", "--dpi", 30]
    made = [
        call(*begun, *more).out.strip()
        for more in ([], ["--neuron", 3], ["--neuron", 4], ["--condition", 2], ["--style", "dark"])
    ]
    assert len(set(made)) == len(made)
    assert [Path(path).name.partition("day1_")[2] for path in made[:3]] == [
        "neuron-0.png",
        "neuron-3.png",
        "neuron-4.png",
    ]
    assert call(*begun, "--neuron", 0).out.strip() == made[0], "the same figure has two names"


def test_long_names_of_figures_stay_names() -> None:
    one = figure_name("averages", "param_ab/x", {"neuron": range(100)})
    other = figure_name("averages", "param_ab/x", {"neuron": range(101)})
    assert one != other
    assert max(len(one.encode()), len(other.encode())) < 200
    odd = figure_name("factors", None, {"condition": ["a/b\n"]})
    assert odd == "factors_condition-a-b-"


def test_pictures_on_another_ground(call: Any, reaching: Path, tmp_path: Path) -> None:
    import matplotlib.image

    corner = {}
    for style in ("light", "dark", "transparent"):
        path = tmp_path / f"{style}.png"
        assert call("plot", reaching, "learning-curves", *ONE, "-o", path, "--style", style).code == 0
        corner[style] = matplotlib.image.imread(path)[0, 0].tolist()
    assert corner["light"] == [1, 1, 1, 1]
    assert max(corner["dark"][:3]) < 0.2
    assert corner["transparent"][3] == 0


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["reaching", "factors"], 2, "factors is a figure of one run, and 32 fit"),
        (["run", "factors"], 2, "has 3 datasets: day1, day2, day3"),
        (["run", "factors", "--dataset", "day9"], 2, "no dataset 'day9'"),
        (["run", "factors", "--neuron", "2"], 2, "--neuron says nothing about factors"),
        (
            ["run", "single-trials", "--dataset", "day1", "--neuron", "2", "--neuron", "3"],
            2,
            "shows one neuron",
        ),
        (["run", "averages", "--dataset", "day1", "--neuron", "99"], 2, "no neuron 99: they are 0 to 23"),
        (["run", "averages", "--dataset", "day1", "--condition", "9"], 2, "no trial has the condition '9'"),
        (["run", "raster", "--dataset", "day1", "--trial", "3", "--neuron", "2"], 2, "neither --neuron"),
        (["run", "readout", "--out", "a.gif"], 2, "end it in .png, .pdf, .svg"),
        (["run", "readout", "--spec", "stitched"], 2, "--spec selects runs of WHERE"),
        (["reaching", "sweep", "--over", "factors_dims"], 2, "did you mean 'factors_dim'"),
        (["single", "alignment"], 3, "the model has no read-in"),
        (["unfinished", "components"], 1, "is not complete"),
        (["nobody", "factors"], 2, "no run fits 'nobody'"),
    ],
)
def test_what_cannot_be_drawn_is_told(
    call: Any, reaching: Path, stitched: str, words: list[str], code: int, message: str
) -> None:
    meant = {"reaching": reaching, "run": stitched, "single": stitched.replace("stitched", "single_day1")}
    collection = RunCollection.open(reaching)
    meant["unfinished"] = collection.find_run("stitched", factors_dim=2, l2_gen_scale=10, seed=1).id
    where = ["-C", reaching] if words[0] != "reaching" else []
    said = call("plot", meant.get(words[0], words[0]), *words[1:], *where)
    assert said.code == code, said.err
    assert message in said.err
    assert said.out == ""


def test_help_lists_every_kind(call: Any) -> None:
    said = call("plot", "--help").out
    for kind, about in KINDS.items():
        assert f"  {kind} " in said
        assert about.about in said
