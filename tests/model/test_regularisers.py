"""Coordinated dropout, spike jitter and forward prediction, each against its definition."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lfadsrm_hpc.model.backend import tf
from lfadsrm_hpc.model.network import lfads
from lfadsrm_hpc.model.network.architecture import Architecture
from lfadsrm_hpc.model.network.noise import Noise
from lfadsrm_hpc.model.session import Session
from lfadsrm_hpc.model.training import batches
from lfadsrm_hpc.model.training import loop as training
from lfadsrm_hpc.model.training.compiled import Compiled

Make = Callable[..., Any]


def batch_of(hp: Any, session: Session) -> tuple[Architecture, Any]:
    """Return all training trials of a session as one batch."""
    arch = Architecture.of(hp, [session])
    data = batches.resident(arch, [session.train], [None])
    masks = batches.Masks.of(arch, [session])
    return arch, batches.gather(arch, data, masks, tf.range(len(session.train)), tf.constant(0))


@pytest.mark.parametrize("changes", [{}, {"sample_validation_rate": 0.2}], ids=str)
def test_coordinated_dropout_keeps_the_expected_input(
    small: Make, session: Make, changes: dict[str, Any]
) -> None:
    """Over steps, an element is input with the right chance and has its own value on average."""
    hp, steps = small(coordinated_dropout_rate=0.3, **changes), 600
    arch, batch = batch_of(hp, session())
    seen = np.zeros((steps, *batch.x.shape), np.float32)
    scored = np.zeros(seen.shape, bool)
    for step in range(steps):
        inputs, hidden = lfads._visible(arch, batch, Noise(hp.seed, tf.constant(step)))
        seen[step], scored[step] = inputs, hidden
    x = batch.x.numpy()
    free = np.ones(x.shape, bool) if batch.withheld is None else ~batch.withheld.mask.numpy()
    assert not (scored & (seen > 0)).any()
    assert (scored | (seen > 0) | (x == 0) | ~free).all()
    part = scored[:, free].mean(0)
    assert part.mean() == pytest.approx(0.3, abs=5 * np.sqrt(0.21 / part.size / steps))
    assert part.std() == pytest.approx(np.sqrt(0.21 / steps), rel=0.2)  # each step draws anew
    scale = 1.25 if changes else 1.0  # of what sample validation leaves
    spread = scale * x[free] * np.sqrt(0.3 / 0.7 / steps)
    assert (np.abs(seen[:, free].mean(0) - scale * x[free]) <= 5 * spread + 1e-4).all()


def test_nothing_is_hidden_in_validation(small: Make, session: Make) -> None:
    arch, batch = batch_of(small(coordinated_dropout_rate=0.3), session())
    seen, scored = lfads._visible(arch, batch, None)
    np.testing.assert_array_equal(seen, batch.x)
    assert scored is None


@pytest.mark.parametrize(("bins", "width"), [(12, 2), (12, 11), (3, 7), (1, 1)])
def test_jitter_leaves_a_flat_profile_flat(bins: int, width: int) -> None:
    """The chances to come to a bin add up to 1, also at the ends of the trial and for wide jitter."""
    each = 4000
    came = np.stack(
        [
            batches.jitter(
                (np.arange(bins) == start).astype(float)[None, :, None] * each,
                width,
                np.random.default_rng(start),
            )[0, :, 0]
            for start in range(bins)
        ]
    )
    np.testing.assert_array_equal(came.sum(1), each)
    chance = came / each
    error = 5 * np.sqrt(0.25 / each)
    np.testing.assert_allclose(chance.sum(0), 1, atol=error * np.sqrt(bins))
    np.testing.assert_allclose(chance, chance.T, atol=2 * error)
    near = np.abs(np.subtract.outer(np.arange(bins), np.arange(bins))) <= width
    assert (chance[~near] == 0).all()


def test_jitter_does_not_cross_the_end_of_what_encoders_see(small: Make) -> None:
    hp = small(temporal_spike_jitter_width=3, forward_prediction_bins=4)
    counts = np.zeros((50, 9, 2), int)
    counts[:, :5] = 3
    one = Session("a", counts, counts[:1])
    moved = batches.jittered(Architecture.of(hp, [one]), 0, one, epoch=0)
    assert not moved[:, 5:].any()
    assert (moved != counts).any()


@pytest.mark.train
def test_jitter_is_drawn_once_an_epoch_and_for_training_alone(
    small: Make, session: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = [session("a"), session("b", neurons=4)]
    trained: dict[int, list[Any]] = {}
    validated: list[Any] = []
    real_train, real_validate = Compiled.train, Compiled.validate

    def train(self: Compiled, state: Any, resident: Any, plan: Any, *args: Any) -> Any:
        trained.setdefault(int(state.step) // plan["sessions"].shape[0], []).append(resident["data"].numpy())
        return real_train(self, state, resident, plan, *args)

    def validate(self: Compiled, theta: Any, step: Any, sums: Any, resident: Any, *args: Any) -> Any:
        validated.append(resident["data"].numpy())
        return real_validate(self, theta, step, sums, resident, *args)

    monkeypatch.setattr(Compiled, "train", train)
    monkeypatch.setattr(Compiled, "validate", validate)
    monkeypatch.setattr(training, "SLICE_SECONDS", 0.0)
    training.train(small(temporal_spike_jitter_width=1, max_epochs=2), data, tmp_path)
    assert sorted(trained) == [0, 1]
    for slices in trained.values():
        assert len(slices) > 2
        assert all(np.array_equal(slices[0], other) for other in slices)
    first, second = trained[0][0], trained[1][0]
    assert not np.array_equal(first, second)
    counts = np.concatenate([np.pad(s.train, ((0, 0), (0, 0), (0, 6 - s.neurons))) for s in data])
    for moved in (first, second):
        assert not np.array_equal(moved, counts)
        np.testing.assert_array_equal(moved.sum(1), counts.sum(1))
    whole = np.concatenate([np.pad(s.valid, ((0, 0), (0, 0), (0, 6 - s.neurons))) for s in data])
    assert all(np.array_equal(whole, seen) for seen in validated)
