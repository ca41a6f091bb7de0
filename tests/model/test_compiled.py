"""The compiled functions: what of their arguments is data, and what would mean compiling anew."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest

from lfadsrm_hpc.model import batches, initial
from lfadsrm_hpc.model.architecture import Architecture
from lfadsrm_hpc.model.backend import tf
from lfadsrm_hpc.model.compiled import Compiled, fresh, on_device
from lfadsrm_hpc.model.hyperparameters import Hyperparameters
from lfadsrm_hpc.model.session import Session


@pytest.mark.train
@pytest.mark.parametrize("changes", [{}, {"loss_reduction": "mean"}, {"co_dim": 2}], ids=str)
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
