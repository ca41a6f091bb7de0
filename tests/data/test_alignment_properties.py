"""What must not matter to an alignment: order, rotation, scale, silent neurons, sessions there twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lfadsrm_hpc.data.alignment.matrices import Alignment, align
from lfadsrm_hpc.data.inputs import SessionInputs

Array = npt.NDArray[Any]
FACTORS = 3
quick = settings(max_examples=25, deadline=None)


@st.composite
def problems(draw: st.DrawFn) -> tuple[list[SessionInputs], dict[str, str], int]:
    """Sessions with noisy averages that share three latents, with or without missing conditions; choices."""
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    n_conditions = draw(st.integers(3, 6))
    latent = rng.standard_normal((n_conditions, 12, 3)).cumsum(axis=1)
    latent = latent / latent.std(axis=(0, 1)) * [4.0, 2.0, 1.0]
    lacking = draw(st.booleans())
    sessions = []
    for index, n_neurons in enumerate(draw(st.lists(st.integers(4, 9), min_size=2, max_size=4))):
        condition = np.repeat(np.arange(n_conditions), 2)
        if lacking and index:
            condition = condition[condition != rng.integers(1, n_conditions)]  # all share the first
        rates = 10 + latent @ np.linalg.qr(rng.standard_normal((n_neurons, n_neurons)))[0][:3]
        data = rates[condition] + 0.2 * rng.standard_normal((len(condition), 12, n_neurons))
        sessions.append(session(f"s{index}", data, condition))
    choices = {
        "method": draw(st.sampled_from(["least_squares", "ridge"])),
        "weights": draw(st.sampled_from(["datasets", "neurons"])),
        "conditions": draw(st.sampled_from(["all", "shared"])),
    }
    return sessions, choices, seed


def session(name: str, data: Array, condition: Array) -> SessionInputs:
    return SessionInputs(
        dataset=name,
        train_data=data,
        valid_data=data[:1],
        train_inds=np.arange(len(data)),
        valid_inds=np.arange(1),
        time_ms=np.arange(data.shape[1]) * 10.0,
        bin_ms=10.0,
        neuron_names=np.array([f"n{i}" for i in range(data.shape[2])]),
        train_condition=condition,
        valid_condition=condition[:1],
    )


def with_data(one: SessionInputs, data: Array) -> SessionInputs:
    return replace(one, train_data=data, neuron_names=np.array([f"n{i}" for i in range(data.shape[2])]))


def components(found: Alignment) -> Array:
    assert found.reconstruction is not None
    return found.reconstruction.components.astype(float)


def projection(found: Alignment) -> Array:
    assert found.reconstruction is not None
    return found.reconstruction.projection.astype(float)


def same(one: Array, other: Array) -> None:
    """Compare (..., K) arrays up to the sign of each column; filling in converges to about 1e-5."""
    signs = np.sign((one * other).reshape(-1, one.shape[-1]).sum(axis=0))
    np.testing.assert_allclose(one, other * signs, atol=2e-3 * max(np.abs(one).max(), 1e-12))


def same_but(
    before: Sequence[Alignment], after: Sequence[Alignment], index: int, *, scale: float = 1.0
) -> None:
    """All is as before, but for the matrix of one session, whose neurons are others."""
    assert len(before) == len(after)
    for i, (one, other) in enumerate(zip(before, after, strict=True)):
        same(components(one) * scale, components(other))
        same(projection(one) * scale, projection(other))
        assert one.r2 == pytest.approx(other.r2, abs=2e-3)
        assert one.r2_left_out == pytest.approx(other.r2_left_out, abs=5e-3)
        np.testing.assert_allclose(one.r2_by_factor, other.r2_by_factor, atol=5e-3)
        if i != index:
            assert one.matrix is not None
            assert other.matrix is not None
            same(one.matrix * scale, other.matrix)
            np.testing.assert_allclose(one.r2_by_neuron, other.r2_by_neuron, atol=5e-3)


@quick
@given(problems())
def test_the_order_of_neurons(problem: tuple[list[SessionInputs], dict[str, str], int]) -> None:
    sessions, choices, seed = problem
    index = seed % len(sessions)
    order = np.random.default_rng(seed).permutation(sessions[index].train_data.shape[2])
    shuffled = list(sessions)
    shuffled[index] = with_data(sessions[index], sessions[index].train_data[..., order])
    before, after = align(sessions, FACTORS, **choices), align(shuffled, FACTORS, **choices)
    same_but(before, after, index)
    same(before[index].matrix[order], after[index].matrix)  # type: ignore[index,arg-type]
    np.testing.assert_allclose(before[index].bias[order], after[index].bias, rtol=1e-3)  # type: ignore[index,arg-type]


@pytest.mark.parametrize("method", ["least_squares", "ridge"])
@pytest.mark.parametrize("conditions", ["all", "shared"])
def test_the_order_of_trials(method: str, conditions: str) -> None:
    """More conditions than folds, so that it shows which of them are left out together."""
    rng = np.random.default_rng(0)
    condition = np.repeat(np.arange(16), 2)
    latent = 0.3 * rng.standard_normal((16, 12, 3)).cumsum(axis=1)
    sessions = []
    for index, n_neurons in enumerate((14, 9)):
        rates = latent @ rng.standard_normal((3, n_neurons))
        data = rates[condition] + 2.0 * rng.standard_normal((32, 12, n_neurons))
        sessions.append(session(f"s{index}", data, condition))
    order = rng.permutation(32)
    first = replace(sessions[0], train_data=sessions[0].train_data[order], train_condition=condition[order])
    choices: dict[str, Any] = {"method": method, "conditions": conditions}
    before = align(sessions, FACTORS, **choices)
    after = align([first, sessions[1]], FACTORS, **choices)
    for one, other in zip(before, after, strict=True):
        np.testing.assert_allclose(one.matrix, other.matrix, atol=1e-9)  # type: ignore[arg-type]
        assert one.r2_left_out == pytest.approx(other.r2_left_out)


@quick
@given(problems())
def test_a_rotation_of_neurons(problem: tuple[list[SessionInputs], dict[str, str], int]) -> None:
    sessions, choices, seed = problem
    index = seed % len(sessions)
    data = sessions[index].train_data
    rotation = np.linalg.qr(np.random.default_rng(seed).standard_normal((data.shape[2],) * 2))[0]
    rotated = list(sessions)
    rotated[index] = with_data(sessions[index], data @ rotation)
    before, after = align(sessions, FACTORS, **choices), align(rotated, FACTORS, **choices)
    same_but(before, after, index)
    same(before[index].matrix, rotation @ after[index].matrix)  # type: ignore[arg-type,operator]


@quick
@given(problems())
def test_the_order_of_sessions(problem: tuple[list[SessionInputs], dict[str, str], int]) -> None:
    sessions, choices, seed = problem
    order = np.random.default_rng(seed).permutation(len(sessions))
    before = align(sessions, FACTORS, **choices)
    after = align([sessions[i] for i in order], FACTORS, **choices)
    for place, i in enumerate(order):
        same(before[i].matrix, after[place].matrix)  # type: ignore[arg-type]
        np.testing.assert_allclose(before[i].bias, after[place].bias, rtol=1e-3)  # type: ignore[arg-type]
        assert before[i].r2 == pytest.approx(after[place].r2, abs=2e-3)


@quick
@given(problems(), st.floats(0.05, 20.0))
def test_scale(problem: tuple[list[SessionInputs], dict[str, str], int], scale: float) -> None:
    """Wider bins for all change no matrix; where sessions count alike, one that fires more counts no more."""
    sessions, choices, seed = problem
    before = align(sessions, FACTORS, **choices)
    after = align([with_data(s, s.train_data * scale) for s in sessions], FACTORS, **choices)
    for one, other in zip(before, after, strict=True):
        same(one.matrix, other.matrix)  # type: ignore[arg-type]
        same(components(one) * scale, components(other))
    index = seed % len(sessions)
    louder = list(sessions)
    louder[index] = with_data(sessions[index], sessions[index].train_data * scale)
    choices["weights"] = "datasets"
    before, after = align(sessions, FACTORS, **choices), align(louder, FACTORS, **choices)
    size = np.linalg.norm(components(after[0])) / np.linalg.norm(components(before[0]))
    same_but(before, after, index, scale=float(size))


@quick
@given(problems(), st.integers(1, 5))
def test_silent_neurons(problem: tuple[list[SessionInputs], dict[str, str], int], count: int) -> None:
    sessions, choices, seed = problem
    index = seed % len(sessions)
    data = sessions[index].train_data
    padded = list(sessions)
    padded[index] = with_data(
        sessions[index], np.concatenate([data, np.zeros((*data.shape[:2], count))], axis=2)
    )
    before, after = align(sessions, FACTORS, **choices), align(padded, FACTORS, **choices)
    same_but(before, after, index)
    there = after[index].matrix
    assert there is not None
    same(before[index].matrix, there[:-count])  # type: ignore[arg-type]
    np.testing.assert_allclose(there[-count:], 0, atol=1e-9)
    assert np.isnan(after[index].r2_by_neuron[-count:]).all()


@quick
@given(problems())
def test_sessions_that_are_there_twice(problem: tuple[list[SessionInputs], dict[str, str], int]) -> None:
    """Twice as many neurons make components larger by the root of two, and nothing else."""
    sessions, choices, _ = problem
    twice = [*sessions, *(replace(s, dataset=f"{s.dataset}-again") for s in sessions)]
    before, after = align(sessions, FACTORS, **choices), align(twice, FACTORS, **choices)
    for i, one in enumerate(before):
        first, second = after[i], after[i + len(sessions)]
        np.testing.assert_allclose(first.matrix, second.matrix, atol=1e-9)  # type: ignore[arg-type]
        assert one.r2 == pytest.approx(first.r2, abs=2e-2)
        if all(s.train_data.shape[0] == sessions[0].train_data.shape[0] for s in sessions):
            same(one.matrix * np.sqrt(2.0), first.matrix)  # type: ignore[operator,arg-type]


def test_a_session_beside_itself_is_its_own_components() -> None:
    rng = np.random.default_rng(0)
    condition = np.repeat(np.arange(4), 3)
    data = rng.standard_normal((12, 15, 5)).cumsum(axis=1)
    one = session("a", data, condition)
    for found in align([one, replace(one, dataset="b")], 5):
        assert found.r2 == pytest.approx(1)
        assert found.r2_left_out == pytest.approx(1)
        np.testing.assert_allclose(found.matrix.T @ found.matrix, 2 * np.eye(5), atol=1e-9)  # type: ignore[union-attr]
