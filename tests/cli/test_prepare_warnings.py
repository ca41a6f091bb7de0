"""`lfadsrm prepare` warns of sessions, with names and numbers, and not of what was silenced."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest


@pytest.fixture
def drifting(tmp_path: Path) -> Path:
    """An experiment of one session whose rates fall, and of which one neuron is lost."""
    folder = tmp_path / "drifting"
    (folder / "datasets").mkdir(parents=True)
    rates = np.tile(np.full(8, 0.2), (120, 1)) * np.linspace(1.6, 0.4, 120)[:, None]
    rates[60:, 3] = 0
    spikes = np.random.default_rng(0).poisson(rates[:, None, :], (120, 40, 8))
    np.savez(folder / "datasets/day1.npz", spikes=spikes, bin_ms=10.0)
    (folder / "experiment.toml").write_text(
        '[collection]\nname = "one"\n[datasets]\n[params]\nbatch_size = 8\nspike_bin_ms = 10\n'
    )
    return folder


def test_warnings_and_notes(call: Any, drifting: Path) -> None:
    said = call("prepare", drifting)
    assert said.code == 0
    assert said.err.count("warning: ") == 2
    assert "[drifting_rates]" in said.err
    assert "n3 from trial 60" in said.err or "3 from trial 60" in said.err
    told = call("prepare", drifting, "--json").json
    assert [note["name"] for note in told["notes"]] == ["vanishing_neurons", "drifting_rates"]
    assert told["warnings"] == [note["text"] for note in told["notes"]]
    assert told["notes"][1]["dataset"] == "day1"
    assert told["notes"][1]["numbers"]["population_change"] < -0.8


def test_silence(call: Any, drifting: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = call("prepare", drifting, "--silence", "drifting_rates")
    assert said.err.count("warning: ") == 1
    assert "(1 silenced)" in said.err
    monkeypatch.setenv("LFADSRM_PREPARE_SILENCE", "drifting_rates vanishing_neurons")
    assert "warning: " not in call("prepare", drifting).err
    monkeypatch.delenv("LFADSRM_PREPARE_SILENCE")
    file = drifting / "experiment.toml"
    text = file.read_text()
    file.write_text(text.replace("[datasets]", '[datasets]\nsilence = ["drifting_rates"]'))
    assert "[drifting_rates]" not in call("prepare", drifting).err
    assert call("prepare", drifting, "--json").json["notes"][0]["name"] == "vanishing_neurons"


def test_what_cannot_be_silenced(call: Any, drifting: Path) -> None:
    said = call("prepare", drifting, "--silence", "drift")
    assert said.code == 2
    assert "there is no warning 'drift' to silence" in said.err
    file = drifting / "experiment.toml"
    file.write_text(file.read_text().replace("[datasets]", '[datasets]\nsilence = "drifting_rate"'))
    said = call("prepare", drifting)
    assert said.code == 3
    assert "did you mean 'drifting_rates'?" in said.err
    assert "[datasets] silence" in said.err
