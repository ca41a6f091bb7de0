"""Whether this model computes what the original TensorFlow 1 program computed.

    python -m lfadsrm_hpc.model.tf1_check CASE_DIR

reads a folder of the original's files, pushes the posterior means through our model, and prints a line for
each session, split and tensor: the largest absolute error divided by the largest magnitude of the original's
tensor (the error itself where all of that is zero). Costs and bounds are not compared: the original's are
means over its batches, and stochastic.

CASE_DIR holds `hyperparameters.json` (or `hyperparameters-<step>.txt`, as the original has it),
`lfads_<session>.h5` with `train_data`, `valid_data` and, for models with external inputs, `train_ext_input`,
`valid_ext_input`; `model_params.h5`; and `model_runs_<session>_<split>_posterior_push_mean.h5` for each
session and split. Of the last two, the original's own names do as well: without `.h5` at the end, and with it
behind the session's name.

Exit codes: 0 all errors are at most 2e-5; 1 some are larger; 2 the comparison could not be made.

The arithmetic is in 64 bits, so that what is printed is the rounding of the original, which computed in 32
bits, and differences of the equations, if there are any.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lfadsrm_hpc.errors import LfadsrmError, ModelError
from lfadsrm_hpc.model.backend import Tensor, tf
from lfadsrm_hpc.model.hyperparameters import Hyperparameters
from lfadsrm_hpc.model.network import likelihoods
from lfadsrm_hpc.model.network.architecture import Params
from lfadsrm_hpc.model.network.lfads import Batch, forward
from lfadsrm_hpc.model.tf1_case import Arrays, Case

LIMIT = 2e-5

_NUMBERS = 2**24  # about how many numbers one call keeps for each of states, gates and candidates


class Comparison(NamedTuple):
    """One line: `error` is relative to the tensor's largest magnitude, absolute where that is zero."""

    session: str
    split: str
    tensor: str
    error: float

    @property
    def agrees(self) -> bool:
        return self.error <= LIMIT  # false for nan


def check_case(folder: Path) -> list[Comparison]:
    """Return how far this model's push-mean outputs are from the original's.

    Parameters
    ----------
    folder : Path
        Of the form that this module's description tells.

    Returns
    -------
    list of Comparison
        In the order of sessions, splits and tensors. Empty tensors are left out.

    Raises
    ------
    ModelError
        Something is missing, cannot be read, or does not fit together.
    """
    return Evaluation(Case(folder)).compare()


class Evaluation:
    """The push-mean outputs of our model for a case, in 64 bits, by the original's names.

    Parameters
    ----------
    case : Case
    """

    def __init__(self, case: Case) -> None:
        self.case = case
        arch, hp = case.arch, case.arch.hp
        units = hp.gen_dim + 2 * hp.ic_enc_dim + (2 * hp.ci_enc_dim + hp.con_dim if hp.co_dim else 0)
        most = max(len(i.data(split)) for i in case.inputs.values() for split in i.splits)
        self.rows = max(1, min(most, _NUMBERS // (arch.bins * units)))
        self._call = tf.function(self._outputs, autograph=False)

    def compare(self) -> list[Comparison]:
        """Return the comparison of each tensor with the original's, in order of sessions and splits."""
        return [
            line
            for session, inputs in self.case.inputs.items()
            for split in inputs.splits
            for line in self._compare(session, split)
        ]

    def _compare(self, session: str, split: str) -> Iterator[Comparison]:
        ours = self.outputs(session, split)
        path, theirs = self.case.outputs(session, split, "posterior_push_mean")
        for tensor in _tensors(self.case.arch.hp):
            if tensor not in theirs:
                raise ModelError(f"there is no {tensor}", where=path)
            if theirs[tensor].size:
                yield Comparison(session, split, tensor, _error(ours[tensor], theirs[tensor], tensor, path))

    def outputs(self, session: str, split: str) -> Arrays:
        """Return the tensors of one split of a session, trials first."""
        arch, inputs = self.case.arch, self.case.inputs[session]
        x = inputs.data(split)
        given = [np.pad(x, ((0, 0), (0, 0), (0, arch.width - inputs.neurons)))]
        if arch.hp.ext_input_dim:
            given.append(inputs.external(split, arch.hp.ext_input_dim))
        params = {name: tf.constant(array) for name, array in self.case.params.items()}
        index = tf.constant(arch.names.index(session))
        parts = []
        for start in range(0, len(x), self.rows):
            trials = np.minimum(np.arange(start, start + self.rows), len(x) - 1)  # the last one fills up
            result = self._call(params, index, *(tf.constant(v[trials].swapaxes(0, 1)) for v in given))
            parts.append({name: v.numpy()[: len(x) - start] for name, v in result.items()})
        arrays = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        per_neuron = arrays["output_dist_params"].reshape(*x.shape[:2], -1, arch.width)[..., : inputs.neurons]
        return {**arrays, "output_dist_params": per_neuron.reshape(*x.shape[:2], -1)}

    def _outputs(
        self, params: Params, session: Tensor, x: Tensor, ext: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return the tensors of one batch (T, B, width); those of the prior are repeated for each trial."""
        hp = self.case.arch.hp
        batch = Batch(x, session, tf.zeros([x.shape[1]], x.dtype), observed=None, mask=None, ext=ext)
        result = forward(params, self.case.arch, batch, training=False)
        decoded, like = result.decoded, tf.zeros_like(result.ic_mean)
        over_time = {
            "controller_outputs": decoded.u,
            "gen_states": decoded.states,
            "factors": decoded.factors,
            "output_dist_params": likelihoods.parameters(hp.output_dist, result.outputs),
        }
        return {
            "gen_ics": decoded.g0,
            "post_g0_mean": result.ic_mean,
            "post_g0_logvar": result.ic_logvar,
            "prior_g0_mean": like + result.prior_mean,
            "prior_g0_logvar": like + result.prior_logvar,
            **{name: tf.transpose(v, [1, 0, 2]) for name, v in over_time.items() if v is not None},
        }


def _tensors(hp: Hyperparameters) -> list[str]:
    """Return the tensors that the original writes and that are compared."""
    names = ["gen_ics", "gen_states", "factors", "output_dist_params"]
    if hp.co_dim:
        names.insert(0, "controller_outputs")
    if hp.ic_dim:
        names += ["post_g0_mean", "post_g0_logvar", "prior_g0_mean", "prior_g0_logvar"]
    return names


def _error(ours: NDArray[Any], theirs: NDArray[Any], tensor: str, path: Path) -> float:
    """Return the error of a line; the original may have written its first trials only."""
    fits = theirs.ndim == ours.ndim and theirs.shape[1:] == ours.shape[1:] and len(theirs) <= len(ours)
    if not fits or theirs.dtype.kind not in "fiu":
        raise ModelError(
            f"{tensor} is {theirs.dtype} of shape {theirs.shape}; "
            f"by hyperparameters and data it should have shape {ours.shape}",
            where=path,
        )
    error = np.abs(ours[: len(theirs)] - theirs).max()
    return float(error / (np.abs(theirs).max() or 1.0))


def _report(lines: Sequence[Comparison]) -> Iterator[str]:
    """Yield what is printed: session, split, tensor and error in columns, and a verdict."""
    widths = [max(len(str(line[k])) for line in lines) for k in range(3)]
    for line in lines:
        words = (str(word).ljust(width) for word, width in zip(line[:3], widths, strict=True))
        yield f"{'  '.join(words)}  {line.error:8.2e}" + ("" if line.agrees else f"  above {LIMIT:g}")
    wrong = sum(not line.agrees for line in lines)
    worst = max(lines, key=lambda line: math.inf if math.isnan(line.error) else line.error)
    where = f"the largest error is {worst.error:.2e}, of {' '.join(worst[:3])}"
    if wrong:
        yield f"{wrong} of {len(lines)} tensors differ by more than {LIMIT:g}; {where}"
    else:
        yield f"all {len(lines)} tensors agree within {LIMIT:g}; {where}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Check the folder that the command line names, print the report, and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m lfadsrm_hpc.model.tf1_check",
        description="Compare this model's push-mean outputs with those of the original TensorFlow 1 program.",
    )
    parser.add_argument("case", type=Path, metavar="CASE_DIR", help="folder of the original's files")
    folder = parser.parse_args(arguments).case
    try:
        lines = check_case(folder)
    except LfadsrmError as error:
        where = "" if error.where is None else f" ({error.where})"
        print(f"error: {error.what}{where}", file=sys.stderr)
        return 2
    print("\n".join(_report(lines)))
    return 0 if all(line.agrees for line in lines) else 1


if __name__ == "__main__":
    sys.exit(main())
