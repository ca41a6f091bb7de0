"""A look at a run: what is read of complete runs and of those that train, and how it is drawn."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lfadsrm_hpc.errors import NotFoundError, ResultsError
from lfadsrm_hpc.layout import fitlog, glimpse
from lfadsrm_hpc.model.training.schedule import COLUMNS, FitLog
from lfadsrm_hpc.results.peek import figures as text_figures
from lfadsrm_hpc.results.peek.reading import Curve, Peek, TrialLook
from lfadsrm_hpc.results.peek.text import Style, text_of

WIDTHS = (40, 57, 80, 133, 200)


def train(run: Any, *, epochs: int = 30, dataset: str = "day1", attempt: int = 1) -> Path:
    """Write what a training leaves while it goes on; return the look at it."""
    folder: Path = run.layout.checkpoint_dir(attempt, 0)
    folder.mkdir(parents=True)
    rows = [
        [n, 5 * n, 100 / n + 50, 110 / n + 55, *[0.5] * 5, 1, 1, 0.01, 0, 0] for n in range(1, epochs + 1)
    ]
    FitLog(fitlog(folder), [row[: len(COLUMNS)] for row in rows])
    path = glimpse(folder, dataset)
    path.parent.mkdir()
    meta = {"format": 1, "session": dataset, "epoch": 12, "step": 60}
    rng = np.random.default_rng(attempt)
    arrays = {"rates": rng.random((3, 20, 5), np.float32), "data": rng.poisson(0.3, (3, 20, 5))}
    np.savez(path, **arrays, trial=[4, 9, 11], meta=np.array(json.dumps(meta)))
    return path


@pytest.mark.parametrize("trial", [None, 0, 7])
def test_a_complete_run_shows_its_posterior_means(sweep: Any, trial: int | None) -> None:
    run = sweep.find_runs("single_day1")[0]
    found = run.peek(trial=trial)
    assert found.trial is not None
    assert found.curve is not None
    means = run.load_posterior_means(attach="spikes")
    if trial is None:
        assert found.trial.split == "valid"
    one = means.isel(trial=means["trial"].to_numpy().tolist().index(found.trial.trial))
    np.testing.assert_array_equal(found.trial.rates, one["rates"].to_numpy())
    np.testing.assert_array_equal(found.trial.data, one["spikes"].to_numpy())
    assert found.trial.neurons == tuple(one["neuron_name"].to_numpy().tolist())
    assert found.trial.split == str(one["split"].to_numpy())
    assert found.trial.epoch is None


def test_a_stitched_run_shows_the_dataset_that_is_asked_for(sweep: Any) -> None:
    run = sweep.find_runs("both")[0]
    assert run.peek().trial.dataset == "day1"
    assert run.peek("day2").trial.dataset == "day2"
    with pytest.raises(NotFoundError, match="day3"):
        run.peek("day3")
    with pytest.raises(NotFoundError, match="no trial 4711 to show"):
        run.peek("day2", 4711)


def test_a_run_that_never_trained_shows_nothing_and_says_so(sweep: Any) -> None:
    found = sweep.runs[-1].peek()
    assert (found.curve, found.trial) == (None, None)
    assert "no rates yet" in found.absent
    text = text_of(found, Style(60))
    assert "no learning curve yet" in text
    assert "no rates yet" in text


def test_a_run_that_trains_shows_its_newest_checkpoint(make: Callable[..., Any]) -> None:
    run = make(done=0).runs[0]
    train(run)
    train(run, attempt=2, epochs=7)
    found = run.peek()
    with np.load(glimpse(run.layout.checkpoint_dir(2, 0), "day1")) as newest:
        expected = newest["rates"][0] * 1000 / run.params.spike_bin_ms
        np.testing.assert_allclose(found.trial.rates, expected, rtol=1e-6)
        np.testing.assert_array_equal(found.trial.data, newest["data"][0])
        np.testing.assert_array_equal(run.peek(trial=11).trial.data, newest["data"][2])
    assert (found.trial.trial, found.trial.others, found.trial.epoch) == (4, (4, 9, 11), 12)
    assert found.curve.epoch.tolist() == list(range(1, 8))
    assert found.curve.lowest_valid_epoch == 7
    with pytest.raises(NotFoundError, match=r"while it trains there are: 4, 9, 11"):
        run.peek(trial=5)


def test_a_damaged_look_is_told(make: Callable[..., Any]) -> None:
    run = make(done=0).runs[0]
    path = train(run)
    whole = path.read_bytes()
    for size in (0, 100, len(whole) - 50):
        path.write_bytes(whole[:size])
        with pytest.raises(ResultsError, match="damaged"):
            run.peek()
    np.savez(path, rates=np.array([{}], dtype=object), meta=np.array(json.dumps({"format": 1})))
    with pytest.raises(ResultsError, match="damaged"):  # no pickle is ever read
        run.peek()


def test_neurons_are_found_by_name_and_by_number() -> None:
    look = look_at(5, 7)
    assert look.find_neurons(["n3", "0", "6"]) == [3, 0, 6]
    for wrong in ("7", "-1", "m3", "٣"):
        with pytest.raises(NotFoundError, match="no neuron"):
            look.find_neurons([wrong])


def test_the_liveliest_neurons_are_shown() -> None:
    rates = np.full((50, 4), 5.0)
    rates[:, 2] += 4 * np.sin(np.arange(50))
    rates[:, 1] += 2 * np.sin(np.arange(50))
    look = TrialLook("d", 0, (0,), "valid", None, 10.0, rates, None, True, ("a", "b", "c", "d"))
    assert look.liveliest(1) == [2]
    assert look.liveliest(2) == [1, 2]


# -- drawing ---------------------------------------------------------------------------------------------


def look_at(bins: int, neurons: int, *, counts: bool = True, seed: int = 0) -> TrialLook:
    rng = np.random.default_rng(seed)
    data = rng.poisson(0.4, (bins, neurons)) if counts else rng.normal(size=(bins, neurons))
    rates = rng.gamma(2.0, 20.0, (bins, neurons))
    names = tuple(f"n{k}" for k in range(neurons))
    return TrialLook("day1", 17, (17,), "valid", 42, 10.0, rates, data, counts, names)


def curve(epochs: int) -> Curve:
    epoch = np.arange(1, epochs + 1)
    return Curve(epoch, 1e5 * np.exp(-epoch / 9) + 700, 1e5 * np.exp(-epoch / 9) + 740, epochs, 740.25)


@pytest.mark.parametrize("unicode", [True, False])
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(("epochs", "bins", "counts"), [(1, 3, True), (60, 100, True), (999, 1500, False)])
def test_it_fits_every_terminal(width: int, unicode: bool, epochs: int, bins: int, counts: bool) -> None:
    found = Peek("param_x/day1", 1000, curve(epochs), look_at(bins, 9, counts=counts))
    text = text_of(found, Style(width, unicode=unicode))
    assert max(map(len, text.splitlines())) <= width
    assert text.isascii() is not unicode
    assert f"cost at epoch {epochs} of 1000" in text
    assert "lowest valid 740 at epoch" in text
    assert "validation trial 17" in text
    assert "6 of 9 neurons" in " ".join(text.split())


def test_curves_are_where_their_values_are() -> None:
    x = np.arange(8)
    rows = text_figures.curves(x, [x, 7 - x], width=8, height=8, low=0, high=7, unicode=False)
    lines = ["".join(cell.text for cell in row) for row in rows]
    assert [line.index(".") for line in lines] == [7, 6, 5, 4, 3, 2, 1, 0]
    assert lines[0][0] == "o"
    assert {(cell.text, cell.owner) for row in rows for cell in row} <= {(".", 0), ("o", 1), (" ", None)}
    rows = text_figures.curves(x, [x], width=4, height=2, low=0, high=7, unicode=True)
    dots = [sum(bin(ord(cell.text) - 0x2800).count("1") for cell in row if cell.text != " ") for row in rows]
    assert sum(dots) == 8  # a diagonal: one dot in each of the 8 columns


def test_first_epochs_that_cost_much_do_not_flatten_the_rest() -> None:
    found = Peek("param_x/day1", None, curve(60), None, "no rates yet")
    top = re.search(r"(?m)^ *([\d.]+) │", text_of(found, Style(80)))
    assert top is not None
    assert float(top[1]) < 0.8e5


def test_strips_and_spikes() -> None:
    assert text_figures.strip(np.array([0.0, 4.0, 8.0]), low=0, high=8, unicode=True) == " ▄█"
    assert text_figures.strip(np.array([0.0, 9.0, np.nan]), low=0, high=9, unicode=False) == " @ "
    assert text_figures.spikes(np.array([0, 1, 2, 9, 12]), unicode=False) == " '29+"
    assert text_figures.spikes(np.array([1, 0]), wide=3, unicode=True) == " ╵    "
    sums, size = text_figures.grouped(np.arange(7.0), 3, total=True)
    assert (sums.tolist(), size) == ([3.0, 12.0, 6.0], 3)
    means, _ = text_figures.grouped(np.arange(7.0), 3, total=False)
    assert means.tolist() == [1.0, 4.0, 6.0]


@settings(deadline=None, max_examples=60)
@given(
    costs=st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=1, max_size=40),
    rates=st.lists(st.floats(0, 1e6), min_size=1, max_size=60),
    width=st.integers(0, 300),
)
def test_whatever_the_numbers_are_there_is_a_picture(
    costs: list[float], rates: list[float], width: int
) -> None:
    values = np.array(costs)
    look = TrialLook("d", 0, (0,), "train", None, 5.0, np.array(rates)[:, None], None, True, ("one",))
    found = Peek("r", None, Curve(np.arange(len(costs)), values, -values), look)
    with np.errstate(all="ignore"):
        text = text_of(found, Style(width))
    assert "training trial 0" in text
    assert max(map(len, text.splitlines())) <= min(max(width, 40), 200)
