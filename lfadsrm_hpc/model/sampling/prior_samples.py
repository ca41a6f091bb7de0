"""What a trained model makes up: samples from its priors, through its generator and a session's read-out.

z ~ N(mean, var) of the initial condition's prior; u_0 ~ N(0, e/(1 - phi^2)), u_t ~ N(phi u_{t-1}, e) with
phi = exp(-1/tau), the AR(1) prior of the inferred inputs (the original's mode `prior_sample`). A sample
depends on the seed, the session's name and its number alone, not on how samples are batched.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lfadsrm_hpc.errors import DataError, ParamsError
from lfadsrm_hpc.model.backend import Tensor, tf, with_xla
from lfadsrm_hpc.model.hyperparameters import Hyperparameters
from lfadsrm_hpc.model.network import decoder, encoder, likelihoods
from lfadsrm_hpc.model.network.architecture import Architecture, Params
from lfadsrm_hpc.model.network.gru import loop, scan, stack_of
from lfadsrm_hpc.model.network.lfads import initial_prior
from lfadsrm_hpc.model.network.noise import KeyedNoise
from lfadsrm_hpc.model.sampling.averaging import CO_NOISE, IC_NOISE
from lfadsrm_hpc.model.sampling.posterior import Arrays, Block, by_output
from lfadsrm_hpc.model.sampling.trained import TrainedSession

PRIOR_NOISE = 12  # use of the seed
MOST_ROWS = 1024  # samples in a call; more do not run faster


class PriorSampler:
    """Samples from the prior of one session of a trained model.

    Parameters
    ----------
    hp : Hyperparameters
        Those that the model was trained with.
    checkpoint_dir : Path
    session_name : str
        Whose read-out makes rates of the factors.
    seed : int, optional
        The run's seed when not given.
    memory_mb : float
        About how much memory a call may take beyond TensorFlow and the model.

    Attributes
    ----------
    model : TrainedSession
    seed : int

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
        seed: int | None = None,
        memory_mb: float = 1000.0,
    ) -> None:
        self.hp, self.model = hp, TrainedSession.load(hp, checkpoint_dir, session_name)
        self.arch = self.model.arch
        self.params = {name: tf.constant(v, tf.float32) for name, v in self.model.params.items()}
        self.inputs = hp.ext_input_dim if hp.inject_ext_input_to_gen else 0
        self.seed = hp.seed if seed is None else seed
        word = [self.seed, PRIOR_NOISE, zlib.crc32(session_name.encode())]
        self.key = np.random.SeedSequence(word).generate_state(2)[None]
        self.memory = memory_mb * 1e6
        self._call = tf.function(self._sampled, jit_compile=with_xla(hp.use_xla), autograph=False)

    def blocks(self, count: int, ext: NDArray[Any] | None = None) -> Iterator[Block]:
        """Yield samples 0..count-1, some at a time.

        Parameters
        ----------
        count : int
        ext : (count, T, I) or (T, I), for all samples the same
            External inputs, where the generator has some.

        Yields
        ------
        Block
            arrays, samples first: generator_ics (n, G), generator_states (n, T, G), factors (n, T, F), rates
            (counts per bin) or output_mean and output_var (n, T, D), and with a controller controller_outputs
            (n, T, U). The original calls them gen_ics, gen_states, factors and output_dist_params.

        Raises
        ------
        ParamsError
            `count` is below 1.
        DataError
            External inputs that the model does not have, or of another shape.
        """
        if count < 1:
            raise ParamsError(f"{count} samples are not at least 1", hint="ask for at least 1")
        self._check(count, ext)
        size = min(count, self._rows())
        for start in range(0, count, size):
            stop = min(count, start + size)
            numbers = np.minimum(np.arange(start, start + size), stop - 1)  # the last one fills up a block
            given: dict[str, Tensor] = {"numbers": tf.constant(numbers, tf.int32)}
            if ext is not None:
                own = np.broadcast_to(ext, (size, *ext.shape)) if ext.ndim == 2 else ext[numbers]
                given["ext"] = tf.constant(own.swapaxes(0, 1), tf.float32)
            arrays = by_output({k: v.numpy() for k, v in self._call(given).items()}, self.model.neurons)
            yield Block(start, stop, {name: a[: stop - start] for name, a in arrays.items()})

    def samples(self, count: int, ext: NDArray[Any] | None = None) -> Arrays:
        """Return samples 0..count-1 at once; see `blocks`.

        Parameters
        ----------
        count : int
        ext : ndarray, shape (count, T, I), optional
            External inputs, if the model has them.
        """
        blocks = list(self.blocks(count, ext))
        return {name: np.concatenate([block.arrays[name] for block in blocks]) for name in blocks[0].arrays}

    def _check(self, count: int, ext: NDArray[Any] | None) -> None:
        where = f"session {self.model.name}"
        if ext is not None and not self.inputs:
            raise DataError(
                "the generator of this model has no external inputs",
                where=where,
                hint="leave them out: encoders, which may have some, take no part in samples from the prior",
            )
        shape = (self.arch.bins, self.inputs)
        if self.inputs and (ext is None or ext.shape not in (shape, (count, *shape))):
            raise DataError(
                f"external input of shape {None if ext is None else ext.shape}; the generator needs {shape}, "
                f"the same for all samples, or {(count, *shape)}",
                where=where,
            )

    def _rows(self) -> int:
        """Return how many samples a call may take."""
        hp = self.hp
        outputs = likelihoods.outputs_per_neuron(hp.output_dist) * self.arch.width
        inputs = hp.co_dim + self.inputs
        numbers = self.arch.bins * (8 * hp.gen_dim + 4 * hp.factors_dim + 6 * outputs + 6 * inputs)
        return max(1, min(MOST_ROWS, int(self.memory / (4.0 * numbers))))

    # -- what is compiled

    def _sampled(self, given: dict[str, Tensor]) -> dict[str, Tensor]:
        params, arch, hp, numbers = self.params, self.arch, self.hp, given["numbers"]
        noise, rows = KeyedNoise.of(tf.constant(self.key), numbers), numbers.shape[0]
        z = None
        if hp.ic_dim:
            mean, logvar = initial_prior(params, hp)
            z = mean + tf.exp(0.5 * logvar) * noise.normal(IC_NOISE, tf.constant(0), hp.ic_dim, tf.float32)
        g0 = decoder.initial_state(params, arch, z, rows)
        u = ar1(params, noise, arch.bins) if hp.co_dim else None
        found = driven(params, arch, g0, u, given.get("ext"))
        if u is not None:
            found["controller_outputs"] = u
        return {"generator_ics": g0, **{name: tf.transpose(v, [1, 0, 2]) for name, v in found.items()}}


def driven(params: Params, arch: Architecture, g0: Tensor, u: Tensor | None, ext: Tensor | None) -> Params:
    """Return what the generator does from g0 (n, G), driven by u (T, n, U) and ext (T, n, I), or None.

    Returns
    -------
    dict
        generator_states (T, n, G), factors (T, n, F), outputs (T, n, D or 2D).
    """
    inputs = [v for v in (u, ext) if v is not None]
    x = tf.concat(inputs, 2) if inputs else None
    states = scan(encoder.cell_of(params, "gen"), x, g0, steps=arch.bins, clip=arch.hp.cell_clip_value)
    factors = encoder.apply(states, decoder.factor_weights(params))
    outputs = decoder.read_out(params, arch, factors, tf.constant(0))
    outputs = likelihoods.parameters(arch.hp.output_dist, outputs)
    return {"generator_states": states, "factors": factors, "outputs": outputs}


def ar1(params: Params, noise: KeyedNoise, bins: int) -> Tensor:
    """Return inferred inputs from their prior, (T, n, U), stationary from the first bin on."""
    log_tau, log_evar = params["co_prior/log_tau"], params["co_prior/log_evar"]
    phi, width = tf.exp(-tf.exp(-log_tau)), log_tau.shape[0]
    innovation = tf.exp(0.5 * log_evar)

    def normal(t: Tensor) -> Tensor:
        return noise.normal(CO_NOISE, t, width, tf.float32)

    def body(t: Tensor, before: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
        u = phi * before + innovation * normal(t + 1)
        return u, kept.write(t + 1, u)

    first = normal(tf.constant(0)) * innovation * tf.math.rsqrt(-tf.math.expm1(-2.0 * tf.exp(-log_tau)))
    kept = stack_of(bins, first, width).write(0, first)
    return loop(bins - 1, body, (first, kept))[1].stack()
