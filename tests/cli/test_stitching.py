"""What `prepare` and `show` say of the alignment of stitched runs, and data for it from `experiment.toml`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest


def rows_of(said: Any) -> dict[str, dict[str, Any]]:
    return {row["dataset"]: row for row in said.json["alignment"]}


def test_prepare_tells_how_well_each_session_is_aligned(call: Any, experiment: Path) -> None:
    said = call("prepare", experiment)
    lines = [line for line in said.err.splitlines() if line.startswith("alignment of all")]
    assert [line.partition(", R2")[0] for line in lines] == [
        "alignment of all (2 factors)",
        "alignment of all (3 factors)",
    ]
    told = call("prepare", experiment, "--json").json["alignment"]
    assert [(row["dataset"], row["factors_dim"]) for row in told] == [
        ("day1", 2), ("day2", 2), ("day1", 3), ("day2", 3),
    ]  # fmt: skip
    first = told[0]
    assert f"R2: day1 {first['r2']:.2f} ({first['r2_left_out']:.2f}), day2" in lines[0]
    assert lines[0].endswith("(in brackets: of conditions left out)")


def test_show_tells_it_of_a_run(call: Any, experiment: Path) -> None:
    said = call("show", experiment, "--run", "all", "--match", "factors_dim=3")
    (line,) = [line for line in said.out.splitlines() if line.startswith("  alignment day2")]
    row = rows_of(call("show", experiment, "--run", "all", "--match", "factors_dim=3", "--json"))["day2"]
    factors = " ".join(f"{value:.2f}" for value in row["r2_by_factor"])
    assert line == (
        f"  alignment day2: R2 {row['r2']:.2f} ({row['r2_left_out']:.2f}), by factor {factors}; "
        "4 of 4 conditions"
    )
    alone = call("show", experiment, "--run", "single_day1", "--match", "factors_dim=3")
    assert "alignment day1" not in alone.out


def test_a_session_without_conditions(call: Any, experiment: Path) -> None:
    """Refused with a way out, or said: when it is prepared and when it is shown."""
    spikes = np.random.default_rng(5).poisson(0.5, (40, 20, 4))
    np.savez(experiment / "datasets/day3.npz", spikes=spikes, bin_ms=10.0)
    (experiment / "runs").rename(experiment / "away")
    file = experiment / "experiment.toml"
    said = call("prepare", experiment)
    assert said.code == 3
    assert "'day3'" in said.err
    assert "alignment_without_conditions" in said.err
    text = file.read_text()
    file.write_text(text.replace("co_dim = 0", 'co_dim = 0\nalignment_without_conditions = "random"'))
    said = call("prepare", experiment)
    assert said.code == 0
    assert "warning: dataset 'day3' in run spec 'all': it has no conditions" in said.err
    assert "day3 not aligned" in said.err
    shown = call("show", experiment, "--run", "all", "--match", "factors_dim=2")
    assert "alignment day3: none; it has no conditions" in shown.out


def other_data(experiment: Path, *names: str) -> None:
    for number, name in enumerate(names):
        counts = np.random.default_rng(50 + number).poisson(0.7, (20, 6, 5 + number))
        np.savez(
            experiment / f"elsewhere/{name}.npz", spikes=counts, bin_ms=10.0, condition=np.arange(20) % 4
        )


def test_other_data_to_align_by(call: Any, experiment: Path) -> None:
    (experiment / "runs").rename(experiment / "away")
    (experiment / "elsewhere").mkdir()
    other_data(experiment, "day1", "day2")
    file = experiment / "experiment.toml"
    file.write_text(file.read_text() + '[datasets]\nalignment = "elsewhere"\n')
    said = call("prepare", experiment, "--json")
    assert said.code == 0, said.err
    assert all(row["other_data"] for row in said.json["alignment"])
    assert (
        "4 of 4 conditions, other data"
        in call("show", experiment, "--run", "all", "--match", "factors_dim=2").out
    )
    other_data(experiment, "day2")  # of 5 neurons, as in day1
    said = call("prepare", experiment)
    assert said.code == 3
    assert "day2" in said.err


@pytest.mark.parametrize(
    ("there", "value", "said"),
    [
        ([], "nowhere", ("there is no folder", "nowhere")),
        (["day1"], "elsewhere", ("matches 'day2'", "files that can be read end in")),
        (["day1", "day22"], "elsewhere", ("matches 'day2'", "did you mean")),
    ],
)
def test_other_data_that_are_not_there(
    call: Any, experiment: Path, there: list[str], value: str, said: tuple[str, ...]
) -> None:
    (experiment / "elsewhere").mkdir()
    other_data(experiment, *there)
    file = experiment / "experiment.toml"
    file.write_text(file.read_text() + f'[datasets]\nalignment = "{value}"\n')
    heard = call("prepare", experiment)
    assert heard.code == 3
    for text in (*said, "experiment.toml, line 21, [datasets] alignment"):
        assert text in heard.err
