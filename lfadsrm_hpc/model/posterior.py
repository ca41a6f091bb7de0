"""Posterior means of a trained model: encoders once a trial, many samples through the decoder, averaged.

The random numbers of a trial depend on the seed, the session's name, the trial and the sample alone, so that
results do not depend on how trials are batched, up to float32 rounding of the arithmetic itself.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lfadsrm_hpc.errors import DataError, NotFoundError, ParamsError, suggest
from lfadsrm_hpc.model import checkpoints, likelihoods, priors
from lfadsrm_hpc.model.architecture import Architecture
from lfadsrm_hpc.model.backend import Tensor, on_gpu, tf, with_xla
from lfadsrm_hpc.model.batches import generator
from lfadsrm_hpc.model.hyperparameters import Hyperparameters
from lfadsrm_hpc.model.lfads import Batch, Result, forward
from lfadsrm_hpc.model.objective import l2_cost, ramp_value

Arrays = dict[str, NDArray[Any]]

SAMPLE_AND_AVERAGE, PUSH_MEAN = "posterior_sample_and_average", "posterior_push_mean"
IC_NOISE, CO_NOISE = 11, 12  # uses of the seed
CPU_ROWS, GPU_ROWS = 512, 8192  # samples in flight; more do not run faster


@dataclass(frozen=True)
class Block:
    """Results of trials start..stop-1 of the data that was given.

    arrays : by name, trials first: rates (counts per bin) or, for Gaussian data, output_mean and output_var,
    (n, T, D); factors (n, T, F); generator_states (n, T, G); generator_ics (n, G); controller_outputs
    (n, T, U); post_g0_mean, post_g0_logvar, prior_g0_mean, prior_g0_logvar (n, ic_dim); costs,
    nll_bound_vae, nll_bound_iwae (n,). What the model does not have is absent.
    """

    start: int
    stop: int
    arrays: Arrays


def posterior_blocks(
    hp: Hyperparameters,
    checkpoint_dir: Path,
    session_name: str,
    data: NDArray[Any],
    ext: NDArray[Any] | None = None,
    *,
    trial_ids: NDArray[Any] | None = None,
    kind: str = SAMPLE_AND_AVERAGE,
    num_samples: int = 512,
    seed: int | None = None,
    memory_mb: float = 1000.0,
) -> Iterator[Block]:
    """Yield posterior means of trials, block by block in their order; see `Sampler`."""
    sampler = Sampler(
        hp,
        checkpoint_dir,
        session_name,
        kind=kind,
        num_samples=num_samples,
        seed=seed,
        memory_mb=memory_mb,
    )
    return sampler.blocks(data, ext, trial_ids=trial_ids)


class Sampler:
    """Posterior means of one session of a trained model.

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
    seed : int, optional
        The run's seed when not given.
    memory_mb : float
        About how much memory one compiled call may take.

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
        seed: int | None = None,
        memory_mb: float = 1000.0,
    ) -> None:
        if kind not in (SAMPLE_AND_AVERAGE, PUSH_MEAN):
            raise ParamsError(
                f"{kind!r} is not a kind of posterior mean", hint=f"{SAMPLE_AND_AVERAGE} or {PUSH_MEAN}"
            )
        if num_samples < 1:
            raise ParamsError(f"num_samples = {num_samples} is not at least 1")
        model = checkpoints.trained(Path(checkpoint_dir))
        if session_name not in model.names:
            raise NotFoundError(
                f"the model has no session {session_name!r}, only {', '.join(model.names)}",
                where=checkpoint_dir,
                hint=suggest(session_name, model.names),
            )
        self.hp, self.name = hp, session_name
        self.arch = Architecture(hp, model.names, model.neurons, model.bins, model.readin_width)
        self.index = model.names.index(session_name)
        self.neurons = model.neurons[self.index]
        self.theta = tf.constant(self.arch.pack(model.params))
        self.checkpoint = {name: model.info[name] for name in ("kind", "epoch", "step")}
        self.note = str(model.info["note"])
        self.held_out = list(model.held_out.get(session_name, []))
        self.push_mean = kind == PUSH_MEAN
        self.samples = 1 if self.push_mean else num_samples
        self.seed = hp.seed if seed is None else seed
        self.memory = memory_mb * 1e6
        self._call = tf.function(self._sums, jit_compile=with_xla(hp.use_xla), autograph=False)

    @property
    def sizes(self) -> dict[str, int]:
        hp = self.hp
        return {
            "factor": hp.factors_dim,
            "generator_unit": hp.gen_dim,
            "controller_output": hp.co_dim,
            "ic": hp.ic_dim,
        }

    # -- blocks

    def blocks(
        self, data: NDArray[Any], ext: NDArray[Any] | None = None, *, trial_ids: NDArray[Any] | None = None
    ) -> Iterator[Block]:
        """Yield the posterior means of data (E, T, D), in order.

        Parameters
        ----------
        data : (E, T, D); ext : (E, T, I), if the model has external inputs.
        trial_ids : (E,) ints that key the random numbers, e.g. original trial numbers; 0..E-1 if not given.

        Raises
        ------
        DataError
            Shapes that are not the model's.
        """
        self._check(data, ext)
        ids = np.arange(len(data)) if trial_ids is None else np.asarray(trial_ids)
        trials, samples = self._block_size(len(data))
        for start in range(0, len(data), trials):
            stop = min(len(data), start + trials)
            rows = np.minimum(
                np.arange(start, start + trials), stop - 1
            )  # the last block repeats its last trial
            arrays = self._block(data[rows], None if ext is None else ext[rows], ids[rows], samples)
            yield Block(start, stop, {name: a[: stop - start] for name, a in arrays.items()})

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

    def _block_size(self, count: int) -> tuple[int, int]:
        """Return trials a block and samples a call, within the memory bound."""
        hp, arch = self.hp, self.arch
        outputs = likelihoods.outputs_per_neuron(hp.output_dist) * arch.width
        codes = 2 * hp.ci_enc_dim if hp.co_dim else 0
        numbers = 6 * hp.gen_dim + 3 * hp.factors_dim + 5 * outputs + 8 * hp.co_dim + 2 * codes
        rows = int(self.memory / (4.0 * arch.bins * numbers))
        rows = max(1, min(rows, GPU_ROWS if on_gpu() else CPU_ROWS))
        calls = -(-self.samples // rows)
        samples = -(-self.samples // calls)
        return max(1, min(rows // samples, count)), samples

    def _block(self, data: NDArray[Any], ext: NDArray[Any] | None, ids: NDArray[Any], samples: int) -> Arrays:
        hp, count = self.hp, len(data)
        pad = self.arch.width - self.neurons
        inputs = {
            "x": tf.constant(np.pad(data, ((0, 0), (0, 0), (0, pad))), tf.float32),
            "constant": tf.constant(likelihoods.constant(hp.output_dist, data), tf.float32),
        }
        if hp.ext_input_dim:
            inputs["ext"] = tf.constant(ext, tf.float32)
        key = zlib.crc32(self.name.encode())
        streams = [
            [generator(self.seed, use, key, int(i) & (2**64 - 1)) for i in ids]
            for use in (IC_NOISE, CO_NOISE)
        ]
        sums: Any = None
        bounds, costs = [], []
        for start in range(0, self.samples, samples):
            real = min(samples, self.samples - start)
            inputs["weights"] = tf.constant((np.arange(samples) < real) / self.samples, tf.float32)
            if not self.push_mean:
                inputs.update(self._noise(streams, samples))
            part = {k: v.numpy() for k, v in self._call(self.theta, inputs, samples).items()}
            bounds.append(part.pop("bounds").reshape(count, samples)[:, :real])
            costs.append(part.pop("costs").reshape(count, samples)[:, :real])
            sums = part if sums is None else {k: sums[k] + v for k, v in part.items()}
        return self._finish(sums, np.concatenate(bounds, 1), np.concatenate(costs, 1))

    def _noise(self, streams: list[list[np.random.Generator]], samples: int) -> dict[str, Tensor]:
        """Return the next standard normal numbers of each trial, rows ordered trial by trial."""
        hp, result = self.hp, {}

        def draw(rngs: list[np.random.Generator], shape: tuple[int, ...]) -> NDArray[Any]:
            return np.concatenate([rng.standard_normal((samples, *shape), np.float32) for rng in rngs])

        if hp.ic_dim:
            result["ic_noise"] = tf.constant(draw(streams[0], (hp.ic_dim,)))
        if hp.co_dim:
            result["co_noise"] = tf.constant(draw(streams[1], (self.arch.bins, hp.co_dim)).swapaxes(0, 1))
        return result

    def _finish(self, sums: Arrays, bounds: NDArray[Any], costs: NDArray[Any]) -> Arrays:
        """Return the arrays of a block; each term of `bounds` is minus the ELBO of one sample."""
        arrays = dict(sums)
        outputs = arrays.pop("outputs")
        width = self.arch.width
        if self.hp.output_dist == "gaussian":
            arrays["output_mean"] = outputs[..., : self.neurons]
            arrays["output_var"] = outputs[..., width : width + self.neurons]
        else:
            arrays["rates"] = outputs[..., : self.neurons]
        lowest = bounds.min(1, keepdims=True)
        arrays["costs"] = costs.mean(1)
        arrays["nll_bound_vae"] = bounds.mean(1)
        arrays["nll_bound_iwae"] = lowest[:, 0] - np.log(np.exp(lowest - bounds).mean(1))
        return arrays

    # -- one compiled call

    def _sums(self, theta: Tensor, inputs: dict[str, Tensor], samples: int) -> dict[str, Tensor]:
        """Return weighted sums over samples of everything saved, and bounds and costs of each sample."""
        arch = self.arch
        params = arch.unpack(theta)
        ext = inputs.get("ext")
        held = set(self.held_out)
        batch = Batch(
            x=tf.transpose(inputs["x"], [1, 0, 2]),
            session=tf.constant(self.index),
            constant=inputs["constant"],
            observed=self._mask(lambda k: k < self.neurons and k not in held) if held else None,
            mask=None if arch.neuron_mask is None else self._mask(lambda k: k < self.neurons),
            ext=None if ext is None else tf.transpose(ext, [1, 0, 2]),
        )
        result = forward(
            params,
            arch,
            batch,
            training=False,
            samples=samples,
            ic_noise=inputs.get("ic_noise"),
            co_noise=inputs.get("co_noise"),
        )
        return {**self._averages(result, inputs["weights"], samples), **self._costs(theta, result)}

    def _mask(self, wanted: Any) -> Tensor:
        return tf.constant([float(wanted(k)) for k in range(self.arch.width)], tf.float32)

    def _averages(self, result: Result, weights: Tensor, samples: int) -> dict[str, Tensor]:
        hp, decoded = self.hp, result.decoded

        def over_time(v: Tensor) -> Tensor:  # (T, b*s, n) -> (b, T, n)
            v = tf.reshape(v, [v.shape[0], -1, samples, v.shape[2]])
            return tf.transpose(tf.reduce_sum(v * weights[:, None], 2), [1, 0, 2])

        def over_samples(v: Tensor) -> Tensor:  # (b*s, n) -> (b, n)
            return tf.reduce_sum(tf.reshape(v, [-1, samples, v.shape[1]]) * weights[:, None], 1)

        means = {
            "outputs": over_time(likelihoods.parameters(hp.output_dist, result.outputs)),
            "factors": over_time(decoded.factors),
            "generator_states": over_time(decoded.states),
            "generator_ics": over_samples(decoded.g0),
        }
        if hp.co_dim:
            means["controller_outputs"] = over_time(decoded.u)
        if hp.ic_dim:
            means["post_g0_mean"] = over_samples(result.ic_mean)
            means["post_g0_logvar"] = over_samples(result.ic_logvar)
            like = tf.zeros_like(result.ic_mean)
            means["prior_g0_mean"] = over_samples(like + result.prior_mean)
            means["prior_g0_logvar"] = over_samples(like + result.prior_logvar)
        return means

    def _costs(self, theta: Tensor, result: Result) -> dict[str, Tensor]:
        """Return the training cost, ramps as at the checkpoint, and minus the ELBO, of each sample."""
        hp, step = self.hp, int(self.checkpoint["step"])
        kl_co = result.kl_co
        if hp.co_dim and not self.push_mean:
            params = self.arch.unpack(theta)
            prior = params["co_prior/log_tau"], params["co_prior/log_evar"]
            d = result.decoded
            kl_co = priors.log_ratio_ar1(d.u, d.co_mean, d.co_logvar, *prior)
        recon = result.recon
        if hp.loss_reduction == "mean":
            recon = recon / float(self.arch.bins * self.neurons)
        kl = hp.kl_ic_weight * result.kl_ic + hp.kl_co_weight * result.kl_co
        cost = recon + ramp_value(step, hp.kl_start_step, hp.kl_increase_steps) * kl
        cost = cost + ramp_value(step, hp.l2_start_step, hp.l2_increase_steps) * l2_cost(theta, self.arch)
        cost = cost + hp.co_mean_corr_scale * result.correlation
        return {"costs": cost, "bounds": result.recon + result.kl_ic + kl_co}
