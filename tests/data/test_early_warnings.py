"""Each warning about a session: data where it must be given, and data where it must not."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from lfadsrm_hpc.data.drift import blocks_of, gone, trend
from lfadsrm_hpc.data.early_warnings import few_shared, session_warnings
from lfadsrm_hpc.data.inputs import make_inputs
from lfadsrm_hpc.data.inputs.session import SessionInputs
from lfadsrm_hpc.data.notes import WARNING_NAMES, Note, check_names, is_silenced
from lfadsrm_hpc.data.readers import from_arrays
from lfadsrm_hpc.data.validation import validate
from lfadsrm_hpc.errors import UsageError

ROOT = Path(__file__).resolve().parents[2]
Array = npt.NDArray[Any]


def made(
    rates: Any,
    *,
    trials: int = 120,
    bins: int = 40,
    bin_ms: float = 10.0,
    seed: int = 0,
    condition: Any = None,
) -> SessionInputs:
    """Return inputs of Poisson counts; `rates` in spikes/s, (D,) or (E, D)."""
    rng = np.random.default_rng(seed)
    rates = np.broadcast_to(np.asarray(rates, float), (trials, np.shape(rates)[-1]))
    spikes = rng.poisson(rates[:, None, :] * bin_ms / 1000, (trials, bins, rates.shape[1]))
    names = [f"u{i}" for i in range(rates.shape[1])]
    data = from_arrays(spikes, bin_ms=bin_ms, condition=condition, neuron_names=names)
    return make_inputs(data, name="day1", bin_ms=bin_ms, train_to_test_ratio=4, split="random", seed=0)


def given(inputs: SessionInputs) -> dict[str, Note]:
    notes = list(session_warnings(inputs))
    assert len({note.name for note in notes}) == len(notes)
    return {note.name: note for note in notes}


STEADY = np.full(12, 12.0)


@pytest.mark.parametrize("seed", range(8))
def test_nothing_is_said_of_a_steady_session(seed: int) -> None:
    assert given(made(STEADY, seed=seed)) == {}


@pytest.mark.parametrize("seed", range(4))
def test_nothing_is_said_of_gains_that_differ_from_trial_to_trial(seed: int) -> None:
    gain = np.random.default_rng(100 + seed).gamma(10, 0.1, (120, 1))
    assert given(made(STEADY * gain, seed=seed)) == {}


# ---- drift


def test_a_population_that_loses_half_of_its_rate() -> None:
    line = np.linspace(1.4, 0.6, 120)[:, None]
    note = given(made(STEADY * line))["drifting_rates"]
    assert note.dataset == "day1"
    assert note.numbers["population_change"] == pytest.approx(-0.8, abs=0.1)
    shown = re.search(r"mean rate from (\S+) to (\S+) spikes/s \((\S+)%\)", note)
    assert shown is not None
    first, last, percent = map(float, shown.groups())
    assert percent == pytest.approx(100 * (last / first - 1), abs=5), "of the numbers that are shown"
    assert percent == pytest.approx(100 * (0.733 / 1.267 - 1), abs=5), "the line's means over thirds"
    assert "make two sessions" in note
    assert note.endswith("[drifting_rates]")


def test_some_neurons_that_drift_are_named_with_their_rates() -> None:
    rates = np.tile(STEADY, (240, 1))
    rates[:, [2, 7]] *= np.linspace(1.9, 0.1, 240)[:, None]
    note = given(made(rates, trials=240))["drifting_rates"]
    assert set(note.neurons) == {"u2", "u7"}
    assert "2 of 12 neurons strongly: " in note
    assert abs(note.numbers["population_change"]) < 0.3


def test_one_neuron_of_many_that_drifts_is_no_drift_of_the_session() -> None:
    rates = np.tile(np.full(30, 12.0), (240, 1))
    rates[:, 3] *= np.linspace(1.9, 0.1, 240)
    assert "drifting_rates" not in given(made(rates, trials=240))


def test_conditions_are_no_drift_in_blocks_or_mixed() -> None:
    gains = np.array([0.4, 0.8, 1.2, 1.6])
    for condition in (np.sort(np.arange(120) % 4), np.arange(120) % 4):
        inputs = made(STEADY * gains[condition][:, None], condition=condition)
        assert given(inputs) == {}
    # Without their names the blocks cannot be told from a drift.
    blocked = made(STEADY * gains[np.sort(np.arange(120) % 4)][:, None])
    assert "drifting_rates" in given(blocked)


def test_drift_is_seen_beside_conditions() -> None:
    condition = np.random.default_rng(1).permutation(np.arange(120) % 4)
    gains = np.array([0.4, 0.8, 1.2, 1.6])[condition][:, None]
    line = np.linspace(1.4, 0.6, 120)[:, None]
    assert "drifting_rates" in given(made(STEADY * gains * line, condition=condition))


def test_the_trend_of_a_line_without_noise() -> None:
    found = trend(np.column_stack([np.linspace(2, 6, 60), np.full(60, 3.0), np.zeros(60)]))
    assert found is not None
    np.testing.assert_allclose(found.change, [1.0, 0.0, 0.0], atol=1e-12)
    np.testing.assert_allclose(found.p[1:], 1.0)
    assert found.first[0] < found.last[0]
    assert trend(np.ones((20, 2))) is None


def test_probabilities_of_noise_are_what_they_say() -> None:
    """Of 4000 columns of noise about 5 % have p < 0.05 and 1 % p < 0.01; the error knows few blocks."""
    rng = np.random.default_rng(3)
    found = trend(rng.poisson(5.0, (120, 4000)))
    assert found is not None
    assert 0.02 < (found.p < 0.05).mean() < 0.08
    assert (found.p < 0.01).mean() < 0.025
    assert (found.p < 0.001).mean() < 0.005


def test_slow_fluctuations_within_blocks_are_in_the_error() -> None:
    """With a memory of three trials naive errors are too small by a factor of more than two."""
    rng = np.random.default_rng(4)
    noise = rng.normal(size=(241, 2000))
    slow = np.zeros((240, 2000))
    for i in range(1, 240):
        slow[i] = 0.7 * slow[i - 1] + noise[i]
    found = trend(slow + 100)
    assert found is not None
    assert (found.p < 0.001).mean() < 0.01


def test_blocks_cover_all_trials() -> None:
    assert blocks_of(23) is None
    for count in (24, 30, 100, 1001):
        blocks = blocks_of(count)
        assert blocks is not None
        assert blocks[0] == 0
        assert np.all(np.diff(blocks) >= 0)
        assert np.bincount(blocks).min() >= 3
        assert np.bincount(blocks).max() - np.bincount(blocks).min() <= 1


# ---- neurons


def test_neurons_that_fall_silent_or_appear_are_named_with_the_trial() -> None:
    rates = np.tile(STEADY, (120, 1))
    rates[80:, 4] = 0
    rates[:50, 9] = 0
    found = given(made(rates))
    note = found["vanishing_neurons"]
    assert note.neurons == ("u4", "u9")
    assert "u4 from trial 80 " in note
    assert "u9 before trial 50 " in note
    assert "drifting_rates" not in found  # they are told once


def test_a_neuron_of_one_condition_does_not_vanish_with_its_block() -> None:
    condition = np.sort(np.arange(120) % 2)
    rates = np.tile(STEADY, (120, 1))
    rates[condition == 1, 5] = 0
    assert "vanishing_neurons" not in given(made(rates, condition=condition))
    assert "vanishing_neurons" in given(made(rates))


def test_a_neuron_that_fires_too_little_is_not_missed() -> None:
    rates = np.tile(STEADY, (120, 1))
    rates[:, 5] = 0.5
    rates[100:, 5] = 0  # 20 trials of 0.4 s: 4 spikes expected
    assert gone(np.asarray(rates * 0.4)) == []
    assert "vanishing_neurons" not in given(made(rates))


def test_rare_neurons_are_named_with_their_spikes() -> None:
    inputs = made(STEADY)
    data = inputs.train_data.copy()
    data[:, :, 3] = 0
    data[:9, 5, 3] = 1
    note = given(replace(inputs, train_data=data))["rare_neurons"]
    assert note.neurons == ("u3",)
    assert "u3 (9)" in note
    data[9, 5, 3] = 1
    assert "rare_neurons" not in given(replace(inputs, train_data=data))


def test_a_copy_of_a_neuron_is_named() -> None:
    inputs = made(STEADY)
    data = inputs.train_data.copy()
    data[:, :, 6] = data[:, :, 1]
    (note,) = [one for one in checked(replace(inputs, train_data=data)) if one.name == "coincident_neurons"]
    assert set(note.neurons) == {"u1", "u6"}
    assert checked(inputs) == []


# ---- trials and bins


def test_trials_with_far_too_many_or_few_spikes_are_named() -> None:
    gain = np.ones((120, 1))
    gain[17], gain[60] = 8.0, 0.05
    note = given(made(STEADY * gain))["unequal_trials"]
    assert note.numbers == {"trials": 2}
    assert "17 (" in note
    assert "60 (" in note


def test_conditions_of_unequal_rates_are_no_unequal_trials() -> None:
    condition = np.arange(120) % 4
    rates = STEADY * np.array([0.2, 1.0, 2.0, 8.0])[condition][:, None]
    assert "unequal_trials" not in given(made(rates, condition=condition))


@pytest.mark.parametrize(("rate", "fires"), [(0.8, True), (1.5, False)])
def test_bins_that_are_nearly_always_empty(rate: float, fires: bool) -> None:
    found = given(made(np.full(12, rate)))
    assert ("narrow_bins" in found) is fires
    if fires:
        assert found["narrow_bins"].numbers["spikes_a_bin"] == pytest.approx(0.008, rel=0.1)
        assert "bins of 6" in found["narrow_bins"]  # 62 ms hold 0.05


@pytest.mark.parametrize(
    ("rate", "bin_ms", "fires"),
    [(900.0, 50.0, True), (500.0, 50.0, False), (12.0, 100.0, True), (12.0, 90.0, False)],
)
def test_wide_bins(rate: float, bin_ms: float, fires: bool) -> None:
    found = given(made(np.full(6, rate), bin_ms=bin_ms))
    assert ("wide_bins" in found) is fires
    if fires:
        assert "spike_bin_ms" in found["wide_bins"]


# ---- sessions together


def test_sessions_that_share_few_conditions() -> None:
    one = made(STEADY, condition=[f"a{i % 4}" for i in range(120)])
    two = replace(made(STEADY, condition=[f"a{i % 2}" for i in range(120)]), dataset="day2")
    alone = replace(made(STEADY, condition=[f"b{i % 4}" for i in range(120)]), dataset="day3")
    assert list(few_shared([one, two], 79)) == []
    notes = list(few_shared([one, two], 80))  # 2 conditions x 40 bins
    assert [note.dataset for note in notes] == ["day1", "day2"]
    assert "it shares 2 of its 4 conditions" in notes[0]
    assert notes[0].numbers == {"shared": 2, "own": 4, "bins": 40, "factors_dim": 80}
    assert [note.dataset for note in few_shared([one, two, alone], 8)] == ["day3"]
    assert next(few_shared([one, made(STEADY)], 8)).numbers["shared"] == 0  # the other has none at all


# ---- names


def checked(inputs: SessionInputs, **more: Any) -> list[Note]:
    settings = {"output_dist": "poisson", "batch_size": 8, "ext_input_dim": 0, **more}
    return validate(inputs, **settings)


def test_signals_that_are_no_counts_are_not_judged_as_counts() -> None:
    line = np.linspace(1.4, 0.6, 120)[:, None]
    inputs = made(STEADY * line)
    assert [note.name for note in checked(inputs)] == ["drifting_rates"]
    assert checked(inputs, output_dist="gaussian") == []


def test_a_note_is_a_text_with_a_name_and_numbers() -> None:
    note = Note("few_trials", "day 1", "3 trials", neurons=["a"], numbers={"trials": 3})
    assert note == "dataset 'day 1': 3 trials [few_trials]"
    assert note.to_json() == {
        "name": "few_trials",
        "dataset": "day 1",
        "neurons": ["a"],
        "numbers": {"trials": 3},
        "text": str(note),
    }
    assert is_silenced(note, ["few_trials"])
    assert not is_silenced(note, ["silent_neurons"])
    assert not is_silenced("few_trials", ["few_trials"])


def test_names_to_silence_are_checked() -> None:
    assert check_names(["wide_bins"]) == ("wide_bins",)
    assert check_names("wide_bins") == ("wide_bins",)
    with pytest.raises(UsageError, match="wide_bin'"):
        check_names(["wide_bin"])


def test_every_warning_is_documented() -> None:
    text = (ROOT / "docs/early_warnings.md").read_text()
    for name in WARNING_NAMES:
        assert f"| `{name}` |" in text
