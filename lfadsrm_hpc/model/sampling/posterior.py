"""Posterior means and standard deviations of a trained model: encoders once a trial, many samples, averaged.

The random numbers of a sample depend on the seed, the session's name, the trial and the sample's number
alone, so that results do not depend on how trials and samples are batched, up to rounding in float32.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lfadsrm_hpc.errors import DataError, ParamsError
from lfadsrm_hpc.model.backend import Tensor, on_gpu, tf, with_xla
from lfadsrm_hpc.model.hyperparameters import Hyperparameters
from lfadsrm_hpc.model.network import likelihoods
from lfadsrm_hpc.model.network.lfads import initial_prior
from lfadsrm_hpc.model.sampling import averaging as sampling
from lfadsrm_hpc.model.sampling.averaging import COSTS, SQUARES, Codes
from lfadsrm_hpc.model.sampling.trained import TrainedSession
from lfadsrm_hpc.model.training.objective import l2_cost, ramp_value

Arrays = dict[str, NDArray[Any]]

SAMPLE_AND_AVERAGE, PUSH_MEAN = "posterior_sample_and_average", "posterior_push_mean"
POSTERIOR_NOISE = 11  # use of the seed
CPU_ROWS, GPU_ROWS = 1024, 8192  # samples in flight; on a CPU, twice as many run slower
ENCODED = 32  # trials that go through the encoders together, at least

_TIMED = ("outputs", "factors", "generator_states", "controller_outputs")  # these come with time first


@dataclass(frozen=True)
class Block:
    """Results of trials start..stop-1 of the data that was given.

    Attributes
    ----------
    start, stop : int
    arrays : dict of str to ndarray
        By name, trials first: rates (counts per bin) or, for continuous data, output_mean and output_var,
        (n, T, D); factors (n, T, F); generator_states (n, T, G); generator_ics (n, G); controller_outputs
        (n, T, U); post_g0_mean, post_g0_logvar, prior_g0_mean, prior_g0_logvar (n, ic_dim); costs,
        nll_bound_vae, nll_bound_iwae (n,). With standard deviations, `<name>_std` beside rates or
        output_mean, factors, generator_states, generator_ics and controller_outputs. What the model does not
        have is absent.
    """

    start: int
    stop: int
    arrays: Arrays


def by_output(arrays: Arrays, neurons: int) -> Arrays:
    """Return arrays with `outputs`, (n, T, D) or (n, T, 2D), under the names that `Block` has for them."""
    found = dict(arrays)
    outputs, std = found.pop("outputs"), found.pop("outputs_std", None)
    name = "rates" if outputs.shape[2] == neurons else "output_mean"
    found[name] = outputs[..., :neurons]
    if std is not None:
        found[f"{name}_std"] = std[..., :neurons]
    if name == "output_mean":
        found["output_var"] = outputs[..., neurons:]
    return found


class Moments:
    """Mean and sum of squared deviations of samples that come in parts.

    Parts are combined by Chan, Golub & LeVeque's formula (Stanford STAN-CS-79-773, 1979) in float64, so that
    nothing cancels, however many parts there are and however far the mean is from 0.
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean: NDArray[Any] = np.zeros(())
        self.squares: NDArray[Any] | None = None

    def add(self, count: int, mean: NDArray[Any], squares: NDArray[Any] | None) -> None:
        """Add a part of `count` samples; `squares` is None where no deviations are wanted."""
        if not self.count:
            self.count, self.mean, self.squares = count, mean, squares
            return
        total = self.count + count
        delta = mean.astype(np.float64) - self.mean
        self.mean = self.mean + delta * (count / total)
        if squares is not None and self.squares is not None:
            self.squares = self.squares + squares.astype(np.float64) + delta**2 * (self.count * count / total)
        self.count = total

    def std(self) -> NDArray[Any] | None:
        """Return the standard deviation, of n - 1 degrees of freedom; None with one sample or unwanted."""
        if self.squares is None or self.count < 2:
            return None
        return np.sqrt(self.squares / (self.count - 1))


class Sampler:
    """Posterior means, and standard deviations, of one session of a trained model.

    Parameters
    ----------
    hp : Hyperparameters
        Those that the model was trained with.
    checkpoint_dir : Path
    session_name : str
    kind : {"posterior_sample_and_average", "posterior_push_mean"}
        Average over samples, or the posterior means pushed through the decoder.
    num_samples : int
        Samples of each trial (ignored by push-mean).
    with_std : bool
        Whether blocks hold standard deviations: those of the posterior over a trial's quantities, estimated
        from its samples (n - 1 degrees of freedom). Push-mean and a single sample have none.
    seed : int, optional
        The run's seed when not given.
    memory_mb : float
        About how much memory sampling may take beyond TensorFlow (150 MB more once XLA has compiled), the
        model and the data; one sample of one trial is always taken.

    Attributes
    ----------
    checkpoint : dict
        kind ("lve" or "latest"), epoch, step.
    note : str
        Empty, or why these are not the parameters of the lowest validation cost.
    held_out : list of int
        Neurons that the encoders do not see.
    sizes : dict
        Widths of factor, generator_unit, controller_output and ic.
    with_std : bool
        Whether there are standard deviations.

    Raises
    ------
    ModelError
        There is no trained model.
    NotFoundError
        The model has no such session.
    """

    def __init__(
        self,
        hp: Hyperparameters,
        checkpoint_dir: Path,
        session_name: str,
        *,
        kind: str = SAMPLE_AND_AVERAGE,
        num_samples: int = 512,
        with_std: bool = True,
        seed: int | None = None,
        memory_mb: float = 1000.0,
    ) -> None:
        if kind not in (SAMPLE_AND_AVERAGE, PUSH_MEAN):
            raise ParamsError(
                f"{kind!r} is not a kind of posterior mean", hint=f"{SAMPLE_AND_AVERAGE} or {PUSH_MEAN}"
            )
        if num_samples < 1:
            raise ParamsError(
                f"num_samples = {num_samples} is not at least 1", hint="give num_samples of at least 1"
            )
        model = TrainedSession.load(hp, checkpoint_dir, session_name)
        self.hp, self.name, self.arch, self.neurons = hp, session_name, model.arch, model.neurons
        self.checkpoint, self.note, self.held_out = model.checkpoint, model.note, model.held_out
        self.sizes = model.sizes
        self.theta = tf.constant(self.arch.pack(model.params))
        self.push_mean = kind == PUSH_MEAN
        self.samples = 1 if self.push_mean else num_samples
        self.with_std = with_std and self.samples > 1
        self.seed = hp.seed if seed is None else seed
        self.memory = memory_mb * 1e6
        self._l2 = float(l2_cost(self.theta, self.arch))
        xla = with_xla(hp.use_xla)
        self._encode = tf.function(self._encoded, jit_compile=xla, autograph=False)
        self._sample = tf.function(self._sampled, jit_compile=xla, autograph=False)

    # -- blocks

    def blocks(
        self, data: NDArray[Any], ext: NDArray[Any] | None = None, *, trial_ids: NDArray[Any] | None = None
    ) -> Iterator[Block]:
        """Yield the results of data (E, T, D), in order.

        Parameters
        ----------
        data : ndarray, shape (E, T, D)
        ext : ndarray, shape (E, T, I), optional
            If the model has external inputs.
        trial_ids : ndarray of int, shape (E,), optional
            They key the random numbers, e.g. original trial numbers; 0..E-1 if not given.

        Raises
        ------
        DataError
            Shapes that are not the model's.
        """
        self._check(data, ext)
        ids = np.arange(len(data)) if trial_ids is None else np.asarray(trial_ids)
        encoded, trials, samples = self._sizes(len(data))
        for start in range(0, len(data), encoded):
            stop = min(len(data), start + encoded)
            # the last blocks repeat their last trial
            rows = np.minimum(np.arange(start, start + encoded), stop - 1)
            codes = self._codes(data[rows], None if ext is None else ext[rows])
            for at in range(0, stop - start, trials):
                own = rows[at : at + trials]
                arrays = self._block(codes, at, data[own], ids[own], samples)
                first, last = start + at, min(stop, start + at + trials)
                yield Block(first, last, {name: a[: last - first] for name, a in arrays.items()})

    def _check(self, data: NDArray[Any], ext: NDArray[Any] | None) -> None:
        wanted = (self.arch.bins, self.neurons)
        if data.ndim != 3 or data.shape[1:] != wanted:
            raise DataError(
                f"the data has shape {data.shape}; the model was trained on {wanted[0]} bins of "
                f"{wanted[1]} neurons",
                where=f"session {self.name}",
            )
        width = self.hp.ext_input_dim
        if width and (ext is None or ext.shape != (*data.shape[:2], width)):
            raise DataError(
                f"external input of shape {None if ext is None else ext.shape}; the model needs "
                f"{(*data.shape[:2], width)}",
                where=f"session {self.name}",
            )

    def _sizes(self, count: int) -> tuple[int, int, int]:
        """Return how many trials are encoded together, and how many trials and samples are decoded together.

        The factors of what a sample, a decoded and an encoded trial take are measured, and on the safe side
        (docs/benchmarks.md).
        """
        hp, arch = self.hp, self.arch
        outputs = likelihoods.outputs_per_neuron(hp.output_dist) * arch.width
        con, enc = hp.con_dim * bool(hp.co_dim), hp.ic_enc_dim * bool(hp.ic_dim)
        enc += hp.ci_enc_dim * bool(hp.co_dim)
        gates = 3 * con + 3 * hp.gen_dim * hp.inject_ext_input_to_gen
        sample = 10 * (hp.gen_dim + con) + 3 * hp.factors_dim + 6 * outputs + 12 * arch.bins * hp.co_dim
        saved = hp.gen_dim + hp.factors_dim + outputs + hp.co_dim
        trial = arch.bins * (4 * (1 + self.with_std) * saved + arch.width + gates)
        encoded = arch.bins * (4 * arch.encoder_width + 2 * arch.width + 8 * enc + 2 * gates)
        room, rows = 0.7 * self.memory / 4.0, GPU_ROWS if on_gpu() else CPU_ROWS
        samples = max(1, min(self.samples, rows, int((room - trial - encoded) / sample)))
        samples = -(-self.samples // -(-self.samples // samples))
        one = trial + samples * sample
        trials = max(1, min(rows // samples, count, int(room / (one + encoded))))
        groups = min(max(1, ENCODED // trials), -(-count // trials), int((room / trials - one) / encoded))
        return trials * max(1, groups), trials, samples

    # -- one block

    def _codes(self, data: NDArray[Any], ext: NDArray[Any] | None) -> Codes:
        seen = np.array(data, np.float32)
        seen[..., self.held_out] = 0.0
        seen[:, self.arch.bins - self.hp.forward_prediction_bins :] = 0.0
        inputs = {"seen": tf.constant(seen)}
        if self.hp.ext_input_dim:
            inputs["ext"] = tf.constant(ext, tf.float32)
        return self._encode(self.theta, inputs)  # type: ignore[no-any-return]

    def _block(self, codes: Codes, at: int, data: NDArray[Any], ids: NDArray[Any], samples: int) -> Arrays:
        """Return the results of the trials that stand at `at` in `codes`, `samples` of them a call."""
        inputs = {"x": tf.constant(data, tf.float32), "at": tf.constant(at + np.arange(len(data)))}
        if not self.push_mean:
            inputs["keys"] = tf.constant(self._keys(ids), tf.uint32)
        moments: dict[str, Moments] = {}
        costs: dict[str, list[NDArray[Any]]] = {name: [] for name in COSTS}
        for start in range(0, self.samples, samples):
            real = min(samples, self.samples - start)
            inputs["first"] = tf.constant(start)
            inputs["weights"] = tf.constant(np.arange(samples) < real, tf.float32)
            part = {k: v.numpy() for k, v in self._sample(self.theta, codes, inputs).items()}
            for name, values in costs.items():
                values.append(part.pop(name)[:, :real])
            for name in [name for name in part if not name.endswith(SQUARES)]:
                moments.setdefault(name, Moments()).add(real, part[name], part.get(name + SQUARES))
        terms = {name: np.concatenate(values, 1) for name, values in costs.items()}
        terms["recon"] += likelihoods.constant(self.hp.output_dist, data)[:, None]
        return {**self._named(moments), **self._initial(codes, at, len(data)), **self._costs(terms)}

    def _keys(self, ids: NDArray[Any]) -> NDArray[np.uint32]:
        """Return what the random numbers of each trial come from, (n, 2)."""
        name = zlib.crc32(self.name.encode())
        keys = [[self.seed, POSTERIOR_NOISE, name, int(i) & (2**64 - 1)] for i in ids]
        return np.array([np.random.SeedSequence(key).generate_state(2) for key in keys])

    def _named(self, moments: dict[str, Moments]) -> Arrays:
        """Return means and standard deviations, trials first, by the names of `Block`."""
        found: Arrays = {}
        for name, about in moments.items():
            for suffix, values in (("", about.mean), ("_std", about.std())):
                if values is not None:
                    values = values.swapaxes(0, 1) if name in _TIMED else values
                    found[name + suffix] = np.ascontiguousarray(values, np.float32)
        return by_output(found, self.neurons)

    def _initial(self, codes: Codes, at: int, count: int) -> Arrays:
        """Return posterior and prior of the initial conditions of `count` trials."""
        if codes.ic_mean is None or codes.ic_logvar is None:
            return {}
        prior = initial_prior(self.arch.unpack(self.theta), self.hp)
        found = {
            "post_g0_mean": codes.ic_mean.numpy()[at : at + count],
            "post_g0_logvar": codes.ic_logvar.numpy()[at : at + count],
        }
        for name, value in zip(("mean", "logvar"), prior, strict=True):
            found[f"prior_g0_{name}"] = np.tile(value.numpy(), (count, 1))
        return found

    def _costs(self, terms: Arrays) -> Arrays:
        """Return the training cost, ramps as at the checkpoint, and the bounds, from terms (n, S)."""
        hp, step = self.hp, int(self.checkpoint["step"])
        bounds = terms["recon"] + terms["kl_ic"] + terms["kl_co"]  # minus the ELBO of each sample
        recon = terms["recon"]
        if hp.loss_reduction == "mean":
            recon = recon / (self.arch.bins * self.neurons)
        kl = hp.kl_ic_weight * terms["kl_ic"] + hp.kl_co_weight * terms["kl_co"]
        cost = recon + ramp_value(step, hp.kl_start_step, hp.kl_increase_steps) * kl
        cost = cost + ramp_value(step, hp.l2_start_step, hp.l2_increase_steps) * self._l2
        cost = cost + hp.co_mean_corr_scale * terms["correlation"]
        lowest = bounds.min(1, keepdims=True)
        iwae = lowest[:, 0] - np.log(np.exp(lowest - bounds).mean(1))
        return {"costs": cost.mean(1), "nll_bound_vae": bounds.mean(1), "nll_bound_iwae": iwae}

    # -- what is compiled

    def _encoded(self, theta: Tensor, inputs: dict[str, Tensor]) -> Codes:
        time_first = {name: tf.transpose(v, [1, 0, 2]) for name, v in inputs.items()}
        return sampling.encode(self.arch.unpack(theta), self.arch, time_first["seen"], time_first.get("ext"))

    def _sampled(self, theta: Tensor, codes: Codes, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        x = tf.transpose(inputs["x"], [1, 0, 2])
        return sampling.sample(
            self.arch.unpack(theta),
            self.arch,
            codes.of_trials(inputs["at"]),
            x,
            inputs.get("keys"),
            inputs["first"],
            inputs["weights"],
            spread=self.with_std,
        )
