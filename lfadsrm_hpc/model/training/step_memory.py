"""How much memory a training step takes, and into how many parts a batch is split to keep that bounded.

The gradient of a batch is a sum over trials, so parts of it can be done one after the other, at the price of
smaller matrix products. The number of parts follows from sizes, the kind of device and the use of XLA alone:
the same training is always split in the same way, and so stays bit-identical.
"""

from __future__ import annotations

from lfadsrm_hpc.model.network import likelihoods
from lfadsrm_hpc.model.network.architecture import Architecture

CPU_BYTES, GPU_BYTES = 1.8e9, 8e9  # of what a step keeps for its way back
WITHOUT_XLA = 2.0  # times as much memory, measured


def floats_a_trial(arch: Architecture) -> int:
    """Return about how many float32 numbers a training step holds at once for each trial.

    What the scans save (states, gates, candidates: 4 numbers a unit and bin), their inputs, and copies of
    both that live at the same time. Peaks with XLA were at most 1.4 times that (docs/benchmarks.md).
    """
    hp = arch.hp
    outputs = likelihoods.outputs_per_neuron(hp.output_dist) * arch.width
    inputs = 2 * (arch.encoder_width + 1)
    each_bin = 6 * hp.gen_dim + 4 * hp.factors_dim + 5 * outputs
    if hp.co_dim:
        sides = 1 if hp.do_causal_controller else 2
        each_bin += sides * 4 * hp.ci_enc_dim + inputs
        each_bin += 6 * hp.con_dim + 5 * sides * hp.ci_enc_dim
    encoding = (8 * hp.ic_enc_dim + inputs) * arch.ic_steps if hp.ic_dim else 0
    return each_bin * arch.bins + encoding


def parts_of_a_batch(arch: Architecture, *, gpu: bool, xla: bool) -> int:
    """Return into how many parts a batch is split in training, 1 for most models."""
    size = arch.hp.batch_size
    bound = (GPU_BYTES if gpu else CPU_BYTES) / (1.0 if xla else WITHOUT_XLA)
    trials = max(1, int(bound / (4 * floats_a_trial(arch))))
    return -(-size // min(trials, size))
