"""Mixed precision: products of rounded factors, in all networks and both directions; all else in 32 bits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lfadsrm_hpc.model.backend import tf
from lfadsrm_hpc.model.hyperparameters import Hyperparameters
from lfadsrm_hpc.model.network import initial
from lfadsrm_hpc.model.network.architecture import Architecture
from lfadsrm_hpc.model.network.products import mixed_precision, product
from lfadsrm_hpc.model.session import Session
from lfadsrm_hpc.model.training import batches
from lfadsrm_hpc.model.training import loop as training
from lfadsrm_hpc.model.training.checkpoints import load
from lfadsrm_hpc.model.training.compiled import Compiled, on_device


def test_a_product_rounds_its_factors_to_bfloat16() -> None:
    fine = 1.0 + 2.0**-12  # bfloat16 has 8 bits, float32 24
    a, b = tf.constant([[fine]]), tf.constant([[1.0]])
    assert product(a, b).numpy()[0, 0] == np.float32(fine)
    with mixed_precision(True):
        rounded = product(a, b)
        double = product(tf.cast(a, tf.float64), tf.cast(b, tf.float64))
    assert rounded.dtype == tf.float32
    assert rounded.numpy()[0, 0] == 1.0
    assert double.numpy()[0, 0] == np.float64(np.float32(fine)), "what is checked in 64 bits is never rounded"
    assert product(a, b).numpy()[0, 0] == np.float32(fine), "the context has ended"


def test_products_in_32_bits_are_not_rounded_on_gpus_either() -> None:
    assert not tf.config.experimental.tensor_float_32_execution_enabled()


def gradient_of(hp: Hyperparameters, sessions: list[Session]) -> tuple[np.ndarray, str]:
    arch = Architecture.of(hp, sessions)
    compiled = Compiled(arch, sessions)
    theta = tf.constant(arch.pack(initial.initial_parameters(arch, sessions)))
    data = batches.resident(arch, [s.train for s in sessions], [s.train_ext for s in sessions])
    plan = on_device(batches.training_plan([len(s.train) for s in sessions], hp.batch_size, 0, 0))

    @tf.function(autograph=False)
    def run(theta: tf.Tensor) -> tf.Tensor:
        batch = batches.gather(arch, data, compiled.masks, plan["trials"][0], plan["sessions"][0])
        return compiled.gradient(theta, tf.constant(5), batch, plan["weights"][0])[1]

    graph = run.get_concrete_function(tf.TensorSpec(theta.shape, tf.float32)).graph.as_graph_def()
    nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    kinds = {node.attr["T"].type for node in nodes if "MatMul" in node.op}
    return run(theta).numpy(), ",".join(sorted(tf.dtypes.as_dtype(kind).name for kind in kinds))


@pytest.mark.train
@pytest.mark.parametrize(
    "changes",
    [{}, {"co_dim": 2}, {"co_dim": 2, "ext_input_dim": 1, "inject_ext_input_to_gen": True}],
    ids=str,
)
def test_every_product_of_a_step_is_in_16_bits_and_the_gradient_stays_close(
    small: Callable[..., Hyperparameters], session: Callable[..., Session], changes: dict[str, object]
) -> None:
    ext = int(bool(changes.get("ext_input_dim")))
    sessions = [session("a", 6, ext=ext), session("b", 4, ext=ext)]
    whole, kinds = gradient_of(small(**changes), sessions)
    assert kinds == "float32"
    rounded, kinds = gradient_of(small(mixed_precision=True, **changes), sessions)
    assert "bfloat16" in kinds
    # what remains in 32 bits are sums that happen to be written as products (costs, one-hot choices)
    error = np.linalg.norm(rounded - whole) / np.linalg.norm(whole)
    assert 1e-6 < error < 0.03


@pytest.mark.slow
@pytest.mark.train
def test_training_in_mixed_precision_learns_as_much(
    small: Callable[..., Hyperparameters], session: Callable[..., Session], tmp_path: Path
) -> None:
    costs = []
    for mixed in (False, True):
        hp = small(
            mixed_precision=mixed, max_epochs=25, use_xla="on", learning_rate_init=0.02, l2_gen_scale=1.0
        )
        folder = tmp_path / str(mixed)
        outcome = training.train(hp, [session("a", 6, trials=32)], folder)
        costs.append(outcome.costs["train_recon"])
        latest = load(folder).group("latest")
        assert {array.dtype for array in latest.values()} == {np.dtype(np.float32)}
    start = float(
        np.genfromtxt(tmp_path / "False" / "fitlog.csv", delimiter=",", names=True)["train_recon"][0]
    )
    assert start - costs[1] > 0.8 * (start - costs[0]) > 0
