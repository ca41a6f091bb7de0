"""Many posterior samples of a few trials through the decoder, averaged as they come.

The same equations as `lfads.forward`, arranged for samples: what the encoders say of a trial is worked out
once for all of its samples, and of each bin nothing is kept but averages over samples, so that memory does
not grow with samples x bins. Always in float32, also where training used mixed precision.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from lfadsrm_hpc.model.backend import Tensor, tf
from lfadsrm_hpc.model.hyperparameters import COUNT_DISTS
from lfadsrm_hpc.model.network import decoder, encoder, likelihoods, priors
from lfadsrm_hpc.model.network.architecture import Architecture, Params
from lfadsrm_hpc.model.network.gru import gru_step, input_weights, loop, stack_of, with_one
from lfadsrm_hpc.model.network.lfads import initial_prior
from lfadsrm_hpc.model.network.noise import KeyedNoise

IC_NOISE, CO_NOISE = 11, 12  # streams
SQUARES = "_squares"  # what is added to a name for its squared deviations
COSTS = ("recon", "kl_ic", "kl_co", "correlation")
INPUTS = ("u", "co_mean", "co_logvar")  # an inferred input, mean and log-variance of what it is drawn from

Tensors = dict[str, Tensor]


class Codes(NamedTuple):
    """What is known of B trials before a sample is drawn.

    ic_mean, ic_logvar : (B, ic_dim) posterior of the initial condition, or None.
    con_input : (T, B, 3C) what codes and biases add to the controller's gates, or None without one.
    gen_input : (T, B, 3G) what injected external inputs and biases add to the generator's; (1, 1, 3G), the
    biases alone, without injected inputs.
    """

    ic_mean: Tensor | None
    ic_logvar: Tensor | None
    con_input: Tensor | None
    gen_input: Tensor

    def of_trials(self, index: Tensor) -> Codes:
        """Return those of some trials. (A slice would make XLA compile anew for every start.)"""
        inputs = (v if v is None or v.shape[1] == 1 else tf.gather(v, index, axis=1) for v in self[2:])
        initial = (None if v is None else tf.gather(v, index) for v in self[:2])
        return Codes(*initial, *inputs)


def encode(params: Params, arch: Architecture, seen: Tensor, ext: Tensor | None) -> Codes:
    """Run the encoders.

    Parameters
    ----------
    arch : of a single session.
    seen : (T, B, D) what the encoders may see of the data; ext : (T, B, I) or None.
    """
    hp = arch.hp
    encoded = encoder.encode(params, arch, seen, tf.constant(0), ext, None, 1.0)
    con_input = None
    if encoded.ci is not None:
        w, fed = input_weights(encoder.cell_of(params, "con")), arch.feedback_width
        width = encoded.ci.shape[2]
        con_input = encoder.apply(encoded.ci, w[:width]) + w[width + fed :]
    w = input_weights(encoder.cell_of(params, "gen"))
    if hp.inject_ext_input_to_gen and ext is not None:
        gen_input = encoder.apply(with_one(ext), w[hp.co_dim :])
    else:
        gen_input = w[None, -1:]
    return Codes(encoded.mean, encoded.logvar, con_input, gen_input)


def sample(
    params: Params,
    arch: Architecture,
    codes: Codes,
    x: Tensor,
    keys: Tensor | None,
    first: Tensor,
    weights: Tensor,
    *,
    spread: bool,
) -> Tensors:
    """Decode S samples of each of B trials.

    Parameters
    ----------
    arch : of a single session.
    x : (T, B, D) data.
    keys : (B, 2) uint32, of the trials' random numbers; None for the posterior means themselves.
    first : scalar, number of the first sample.
    weights : (S,) 1 for samples that count, 0 for the others.
    spread : whether squared deviations are wanted.

    Returns
    -------
    dict
        Means over samples: outputs (T, B, n) as `likelihoods.parameters` has them, factors (T, B, F),
        generator_states (T, B, G), generator_ics (B, G), controller_outputs (T, B, U); under
        `<name>_squares` the sums of squared deviations from them. For each sample, (B, S), `COSTS`: recon
        without its constant; kl_co is the logarithm of posterior to prior of these very inputs, as importance
        weights need it, and the closed form at the posterior means.
    """
    return _Samples(params, arch, codes, x, keys, first, weights, spread).run()


class _Samples:
    def __init__(
        self,
        params: Params,
        arch: Architecture,
        codes: Codes,
        x: Tensor,
        keys: Tensor | None,
        first: Tensor,
        weights: Tensor,
        spread: bool,
    ) -> None:
        self.params, self.arch, self.hp, self.codes, self.x = params, arch, arch.hp, codes, x
        self.steps, self.trials, self.samples = x.shape[0], x.shape[1], weights.shape[0]
        self.rows = self.trials * self.samples
        self.noise = None if keys is None else KeyedNoise.of(keys, first + tf.range(self.samples))
        self.weights, self.spread = weights[:, None], spread
        self.w_factors = decoder.factor_weights(params)

    # -- over samples

    def rows_of(self, v: Tensor) -> Tensor:
        """Return (B, n) as rows (B*S, n), the same for each sample of a trial."""
        wide = tf.broadcast_to(v[:, None], [self.trials, self.samples, v.shape[1]])
        return tf.reshape(wide, [self.rows, v.shape[1]])

    def average(self, name: str, v: Tensor) -> Tensors:
        """Return mean and squared deviations over samples of rows (..., B*S, n)."""
        v = tf.reshape(v, [*v.shape[:-2], self.trials, self.samples, v.shape[-1]])
        mean = tf.reduce_sum(v * self.weights, -2) / tf.reduce_sum(self.weights)
        if not self.spread:
            return {name: mean}
        deviations = tf.square(v - mean[..., None, :])
        return {name: mean, f"{name}{SQUARES}": tf.reduce_sum(deviations * self.weights, -2)}

    def normal(self, stream: int, position: Tensor, width: int) -> Tensor:
        dtype = self.x.dtype
        if self.noise is None:
            return tf.zeros([self.rows, width], dtype)
        return self.noise.normal(stream, position, width, dtype)

    # -- the model

    def run(self) -> Tensors:
        hp, g0, kl_ic = self.hp, *self.initial()
        recon, stacks = self.decode(g0)
        none = tf.zeros_like(recon)
        each = {"recon": recon, "kl_ic": kl_ic, "kl_co": none, "correlation": none}
        found = self.average("generator_ics", g0)
        if hp.co_dim:
            prior = self.params["co_prior/log_tau"], self.params["co_prior/log_evar"]
            u, mean, logvar = (stacks.pop(name) for name in INPUTS)
            divergence = priors.kl_ar1 if self.noise is None else priors.log_ratio_ar1
            each["kl_co"] = divergence(u, mean, logvar, *prior)
            each["correlation"] = priors.mean_correlation(mean)
            found.update(self.average("controller_outputs", u))
        found.update({k: tf.reshape(v, [self.trials, self.samples]) for k, v in each.items()})
        return {**found, **stacks}

    def initial(self) -> tuple[Tensor, Tensor]:
        """Return g_0 (B*S, gen_dim) and the divergence of the initial condition from its prior, (B*S,)."""
        hp, codes = self.hp, self.codes
        if codes.ic_mean is None or codes.ic_logvar is None:
            return decoder.initial_state(self.params, self.arch, None, self.rows), tf.zeros([self.rows])
        kl = priors.kl_gaussian(codes.ic_mean, codes.ic_logvar, *initial_prior(self.params, hp))
        noise = self.normal(IC_NOISE, tf.constant(0), hp.ic_dim)
        z = self.rows_of(codes.ic_mean) + self.rows_of(tf.exp(0.5 * codes.ic_logvar)) * noise
        g0 = decoder.initial_state(self.params, self.arch, z, self.rows)
        return g0, self.rows_of(tf.reduce_sum(kl, 1, keepdims=True))[:, 0]

    def decode(self, g0: Tensor) -> tuple[Tensor, Tensors]:
        """Return the cost of the data (B*S,), averages (T, B, n), and `INPUTS` of each row, (T, B*S, U)."""
        hp, codes = self.hp, self.codes

        def body(t: Tensor, con: Tensor, g: Tensor, fed: Tensor, recon: Tensor, kept: Tensors) -> Any:
            now: Tensors = {}
            u = None
            if codes.con_input is not None:
                con, inputs = self.controller(t, con, codes.con_input[t], fed)
                now, u = dict(zip(INPUTS, inputs, strict=True)), inputs[0]
            g = self.generator(t, g, u)
            factors, outputs = self.read_out(g)
            recon = recon + self.misfit(self.x[t], outputs)
            now.update(self.average("outputs", likelihoods.parameters(hp.output_dist, outputs)))
            now.update(self.average("factors", factors))
            now.update(self.average("generator_states", g))
            kept = {name: kept[name].write(t, value) for name, value in now.items()}
            return con, g, self.fed_back(factors, outputs), recon, kept

        saved = self.arch.width * (1 if hp.output_dist in COUNT_DISTS else 2)
        widths = {"outputs": saved, "factors": hp.factors_dim, "generator_states": hp.gen_dim}
        kept = {
            f"{name}{more}": stack_of(self.steps, self.x[0], width)
            for name, width in widths.items()
            for more in (("", SQUARES) if self.spread else ("",))
        }
        con = tf.zeros([self.rows, 0])
        if hp.co_dim:
            kept.update({name: stack_of(self.steps, g0, hp.co_dim) for name in INPUTS})
            con = tf.tile(self.params["con/h0"][None], [self.rows, 1])
        start = (con, g0, self.fed_back(*self.read_out(g0)), tf.zeros([self.rows]), kept)
        *_, recon, kept = loop(self.steps, body, start)
        return recon, {name: array.stack() for name, array in kept.items()}

    def controller(
        self, t: Tensor, con: Tensor, codes: Tensor, fed: Tensor
    ) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
        """Return the controller's new state, and `INPUTS`; codes : (B, 3C), fed : (B*S, N)."""
        p, a = self.params, self.rows_of(codes)
        if fed.shape[1]:
            a = a + tf.matmul(fed, p["con/W_x"][-fed.shape[1] :])
        con = gru_step(con, a, p["con/W_ru"], p["con/W_c"], self.hp.cell_clip_value)[0]
        mean, logvar = tf.split(tf.matmul(con, p["co/W"]) + p["co/b"], 2, axis=1)
        u = mean + self.normal(CO_NOISE, t, self.hp.co_dim) * tf.exp(0.5 * logvar)
        return con, (u, mean, logvar)

    def generator(self, t: Tensor, g: Tensor, u: Tensor | None) -> Tensor:
        p, given = self.params, self.codes.gen_input
        a = given[0] if given.shape[0] == 1 else self.rows_of(given[t])
        if u is not None:
            a = a + tf.matmul(u, p["gen/W_x"][: self.hp.co_dim])
        return gru_step(g, a, p["gen/W_ru"], p["gen/W_c"], self.hp.cell_clip_value)[0]

    def read_out(self, g: Tensor) -> tuple[Tensor, Tensor]:
        """Return factors (B*S, F) and outputs (B*S, n)."""
        factors = tf.matmul(g, self.w_factors)
        return factors, decoder.read_out(self.params, self.arch, factors[None], tf.constant(0))[0]

    def fed_back(self, factors: Tensor, outputs: Tensor) -> Tensor:
        """Return what the controller sees of this bin at the next one."""
        if not self.arch.feedback_width or not self.hp.co_dim:
            return tf.zeros([self.rows, 0])
        if self.hp.feedback_factors_or_rates == "factors":
            return factors
        means = outputs[:, : self.arch.width]
        return means if self.hp.output_dist == "gaussian" else tf.exp(means)

    def misfit(self, x: Tensor, outputs: Tensor) -> Tensor:
        """Return the cost of a bin's data, (B*S,), without its constant."""
        cost = likelihoods.cost(self.hp.output_dist, self.rows_of(x)[None], outputs[None])
        return tf.reduce_sum(cost, [0, 2])
