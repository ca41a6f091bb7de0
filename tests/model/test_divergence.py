"""Costs that are not finite: back to good parameters with a lower rate, aloud; giving up after a few."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lfadsrm_hpc.errors import DivergedError
from lfadsrm_hpc.model.session import Session
from lfadsrm_hpc.model.training import checkpoints
from lfadsrm_hpc.model.training import loop as training
from lfadsrm_hpc.model.training.compiled import Compiled
from lfadsrm_hpc.model.training.schedule import COLUMNS

pytestmark = pytest.mark.train

Make = Callable[..., Any]
# With this rate the parameters explode within the first epoch, and the first step of the second fails.
EXPLODING = {"learning_rate_init": 3.0, "adam_epsilon": 1e-8, "keep_prob": 1.0, "max_epochs": 3}


def counts() -> Session:
    data = np.random.default_rng(0).poisson(1.0, (26, 9, 6))
    return Session("a", data[:20], data[20:])


def column(folder: Path, name: str) -> list[float]:
    rows = checkpoints.load(folder).arrays["fitlog"]
    return rows[:, COLUMNS.index(name)].tolist()  # type: ignore[no-any-return]


def test_an_epoch_that_ends_in_bad_parameters_is_done_again(small: Make, tmp_path: Path) -> None:
    said: list[str] = []
    seen: list[training.Progress] = []
    outcome = training.train(
        small(**EXPLODING), [counts()], tmp_path, on_message=said.append, on_progress=seen.append
    )
    assert said == [
        "the cost or its gradient was not finite at step 3: back to the start of epoch 1 (step 0) with a "
        "learning rate of 1.5 (1 of at most 3 times)"
    ]
    assert (outcome.reason, outcome.rollbacks, outcome.step) == ("max_epochs", 1, 9)
    assert seen[-1].rollbacks == 1
    assert column(tmp_path, "epoch") == [1, 2, 3]
    assert column(tmp_path, "step") == [3, 6, 9]
    assert column(tmp_path, "learning_rate") == [1.5] * 3
    lines = (tmp_path / "fitlog.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["epoch", "1", "2", "3"]


@pytest.mark.slow
def test_stopped_on_the_way_back_and_resumed_it_ends_alike(
    small: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hp, silent = small(**EXPLODING), lambda text: None
    training.train(hp, [counts()], tmp_path / "whole", on_message=silent)
    whole = checkpoints.load(tmp_path / "whole")
    monkeypatch.setattr(training, "SLICE_SECONDS", 0.0)
    for calls in (2, 3, 4, 5):
        asked = iter(range(1, 100))
        part, rest = tmp_path / f"part{calls}", tmp_path / f"rest{calls}"
        stopped = training.train(
            hp, [counts()], part, on_message=silent, should_stop=lambda a=asked, n=calls: next(a) >= n
        )
        assert stopped.reason == "stopped"
        training.train(hp, [counts()], rest, resume_from=part, on_message=silent)
        again = checkpoints.load(rest)
        assert again.meta == whole.meta
        for name, value in whole.arrays.items():
            np.testing.assert_array_equal(value, again.arrays[name], err_msg=f"{calls} {name}")
        assert (rest / "fitlog.csv").read_bytes() == (tmp_path / "whole" / "fitlog.csv").read_bytes()


def failing(monkeypatch: pytest.MonkeyPatch, *calls: int) -> list[int]:
    """Make the given calls of compiled training fail at their first step; return the first steps of all."""
    real, starts = Compiled.train, []

    def train(self: Compiled, state: Any, *args: Any) -> Any:
        starts.append(int(state.step))
        result = real(self, state, *args)
        return result._replace(failed=state.step) if len(starts) in calls else result

    monkeypatch.setattr(Compiled, "train", train)
    monkeypatch.setattr(training, "SLICE_SECONDS", 0.0)
    return starts


def test_an_epoch_that_fails_again_is_left_for_the_one_before(
    small: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts = failing(monkeypatch, 5, 7)
    outcome = training.train(small(max_epochs=2), [counts()], tmp_path, on_message=lambda text: None)
    #   epoch 1, epoch 2 fails in its second step, then again: epoch 1 once more, epoch 2
    assert starts == [0, 1, 2, 3, 4, 3, 4, 0, 1, 2, 3, 4, 5]
    assert outcome.rollbacks == 2
    assert column(tmp_path, "learning_rate") == [0.0025] * 2


def test_files_of_what_training_went_back_from_are_removed(
    small: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, 4)
    monkeypatch.setattr(training._Training, "_save_if_due", training._Training.save)
    asked = iter(range(1, 100))
    # asked after each slice and epoch: the fifth time is after the second step of the epoch done again
    outcome = training.train(
        small(max_epochs=5, max_ckpt_to_keep=9),
        [counts()],
        tmp_path,
        on_message=lambda text: None,
        should_stop=lambda: next(asked) >= 5,
    )
    assert (outcome.rollbacks, outcome.step) == (1, 2)
    steps = sorted(int(path.name[11:23]) for path in tmp_path.glob("checkpoint-*.npz"))
    assert steps == [1, 2]
    assert checkpoints.load(tmp_path).meta["step"] == 2


@pytest.mark.parametrize("value", [3e38, np.inf, np.nan])
@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
def test_data_that_no_rate_can_fit_are_given_up(small: Make, tmp_path: Path, value: float) -> None:
    one = counts()
    train = one.train.astype(float)
    train[3, 2, 1] = value
    said: list[str] = []
    with pytest.raises(DivergedError, match=r"(?s)step 0 \(epoch 1\).*3 times.*extreme values in the data"):
        training.train(small(), [Session("a", train, one.valid)], tmp_path, on_message=said.append)
    assert len(said) == training.MAX_ROLLBACKS


@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
def test_an_infinite_validation_cost_does_not_end_the_training(small: Make, tmp_path: Path) -> None:
    """It is taken for the parameters' fault a few times, and then for that of the validation data."""
    one = counts()
    valid = one.valid.astype(float)
    valid[0, 2, 1] = 1e39
    said: list[str] = []
    outcome = training.train(
        small(max_epochs=2, kl_increase_steps=0, l2_increase_steps=0),
        [Session("a", one.train, valid)],
        tmp_path,
        on_message=said.append,
    )
    assert [text.split(":")[0] for text in said] == ["the validation cost was not finite after step 3"] * 3
    assert (outcome.reason, outcome.rollbacks, outcome.best_epoch) == ("max_epochs", 3, None)
    assert not np.isfinite(column(tmp_path, "valid_total")).any()
