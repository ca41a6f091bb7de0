"""The compiled functions: what of their arguments is data, and what would mean compiling anew."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lfadsrm_hpc.model.backend import tf
from lfadsrm_hpc.model.hyperparameters import Hyperparameters
from lfadsrm_hpc.model.network import initial
from lfadsrm_hpc.model.network.architecture import Architecture
from lfadsrm_hpc.model.network.noise import Noise
from lfadsrm_hpc.model.session import Session
from lfadsrm_hpc.model.training import batches, checkpoints
from lfadsrm_hpc.model.training import loop as training
from lfadsrm_hpc.model.training.compiled import Compiled, Kept, fresh, on_device
from lfadsrm_hpc.model.training.step_memory import CPU_BYTES, floats_a_trial, parts_of_a_batch


@pytest.mark.train
@pytest.mark.parametrize(
    "changes", [{}, {"loss_reduction": "mean"}, {"co_dim": 2}, {"sample_validation_rate": 0.2}], ids=str
)
def test_the_order_of_sessions_is_no_constant_of_the_compiled_step(
    small: Callable[..., Hyperparameters], session: Callable[..., Session], changes: dict[str, object]
) -> None:
    # XLA compiles again for every new value of a constant; the order changes with each epoch.
    hp = small(use_xla="on", **changes)
    held_out = np.arange(6) == 2
    sessions = [session("a", 6, held_out=held_out), session("b", 4)]
    arch = Architecture.of(hp, sessions)
    compiled = Compiled(arch, sessions)
    state = fresh(arch.pack(initial.initial_parameters(arch, sessions)))
    data = batches.resident(arch, [s.train for s in sessions], [None, None])
    plan = on_device(batches.training_plan([20, 20], hp.batch_size, hp.seed, 0))
    count = plan["sessions"].shape[0]
    arguments = (state, data, plan, tf.constant([0, 1]), tf.constant(0.01, tf.float32))
    text = compiled._train.experimental_get_compiler_ir(*arguments)(stage="hlo")
    entry = text[text.index("ENTRY") :]
    shapes = re.findall(r"= (\w+\[[\d,]*\])\S* parameter\(\d+\)", entry)
    assert f"s32[{count}]" in shapes, "the sessions of the batches are compiled in"
    assert f"s32[{count},{hp.batch_size}]" in shapes, "the trials of the batches are compiled in"
    assert "s32[2]" in shapes, "the span of the slice is compiled in"


@pytest.mark.train
@pytest.mark.parametrize("changes", [{}, {"co_dim": 2}, {"output_dist": "gaussian"}], ids=str)
def test_a_batch_done_in_parts_has_the_same_gradient(
    small: Callable[..., Hyperparameters],
    session: Callable[..., Session],
    changes: dict[str, object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # samples differ, since the noise of a trial depends on its place in its part
    monkeypatch.setattr(Noise, "normal", lambda self, stream, shape, dtype: tf.zeros(shape, dtype))
    hp = small(keep_prob=1.0, **changes)
    sessions = [session("a", 6), session("b", 4)]
    arch = Architecture.of(hp, sessions)
    theta = tf.constant(arch.pack(initial.initial_parameters(arch, sessions)))
    data = batches.resident(arch, [s.train for s in sessions], [None, None])
    plan = on_device(batches.training_plan([20, 20], hp.batch_size, hp.seed, 0))
    found = []
    for parts in (1, 3):
        compiled = Compiled(arch, sessions)
        assert compiled.parts == 1
        compiled.parts = parts  # 3 of 3 trials: one row is filled up
        found.append(compiled._whole_gradient(theta, tf.constant(2), data, plan, tf.constant(1)))
    (cost, gradient), (cost_parts, gradient_parts) = found
    np.testing.assert_allclose(cost_parts, cost, rtol=1e-5)
    np.testing.assert_allclose(gradient_parts, gradient, atol=1e-5 * float(np.abs(gradient).max()))


@pytest.mark.train
def test_trainings_of_one_model_are_compiled_once(
    small: Callable[..., Hyperparameters], session: Callable[..., Session], tmp_path: Path
) -> None:
    """With other starts and trials; the numbers are those of a training by itself, to the last bit."""
    hp = small(max_epochs=2)
    kept, compiled = Kept(), []
    for name in ("a", "b"):
        one = session(name, 6, held_out=np.arange(6) == 2)
        one = Session("new", one.train, one.valid, held_out=one.held_out)
        training.train(hp, [one], tmp_path / name, kept=kept)
        compiled.append(kept.compiled(Architecture.of(hp, [one]), [one]))
        training.train(hp, [one], tmp_path / f"{name} alone")
        arrays, alone = (checkpoints.load(tmp_path / folder).arrays for folder in (name, f"{name} alone"))
        for key in arrays:
            np.testing.assert_array_equal(arrays[key], alone[key], err_msg=key)
    assert compiled[0] is compiled[1]
    assert compiled[0]._train.experimental_get_tracing_count() == 1
    assert compiled[0]._validate.experimental_get_tracing_count() == 1


def test_what_is_compiled_is_not_kept_for_another_model(
    small: Callable[..., Hyperparameters], session: Callable[..., Session]
) -> None:
    def functions(kept: Kept, hp: Hyperparameters, one: Session) -> Compiled:
        return kept.compiled(Architecture.of(hp, [one]), [one])

    hp, none, held = small(), session(), np.arange(6) == 2
    others = [
        (small(seed=5), none),
        (small(kl_ic_weight=2.0), none),
        (hp, session(neurons=7)),
        (hp, session(bins=10)),
        (hp, session(held_out=held)),
    ]
    for changed, one in others:
        kept = Kept()
        first = functions(kept, hp, none)
        assert functions(kept, hp, session("a")) is first
        assert functions(kept, changed, one) is not first
    kept = Kept()
    first = functions(kept, hp, session(held_out=held))
    assert functions(kept, hp, session(held_out=held.copy())) is first
    assert functions(kept, hp, session(held_out=~held)) is not first


@pytest.mark.parametrize(
    ("size", "xla", "parts"),
    [(128, True, 2), (127, True, 2), (1, True, 1), (1000, True, 15), (128, False, 4)],
)
def test_batches_are_split_so_that_a_step_keeps_its_bound(size: int, xla: bool, parts: int) -> None:
    arch = Architecture(Hyperparameters(gen_dim=200, batch_size=size), ("a",), (100,), 1000, 0)
    assert parts_of_a_batch(arch, gpu=False, xla=xla) == parts
    assert 4 * floats_a_trial(arch) * -(-size // parts) <= CPU_BYTES
    long = Architecture(Hyperparameters(gen_dim=200, batch_size=size), ("a",), (100,), 10**6, 0)
    assert parts_of_a_batch(long, gpu=False, xla=xla) == size, "at least one trial a part"


def test_graphs_are_not_rewritten_before_they_run() -> None:
    # with it, trainings without XLA on a busy machine end with different bits
    assert tf.config.optimizer.get_experimental_options()["disable_meta_optimizer"]
