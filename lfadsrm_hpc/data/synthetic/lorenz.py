"""Sessions whose latents follow a Lorenz system."""

from __future__ import annotations

import numpy as np
import xarray as xr

from lfadsrm_hpc.data.synthetic.sessions import (
    Floats,
    IntOrRange,
    attributes,
    check_positive,
    draw,
    made_session,
    n_bins,
)
from lfadsrm_hpc.errors import UsageError

LORENZ_SIGMA, LORENZ_RHO, LORENZ_BETA = 10.0, 28.0, 8.0 / 3.0
_MAX_LORENZ_STEP = 0.006


def lorenz_trajectories(initial: Floats, n_steps: int, dt: float) -> Floats:
    """Integrate the Lorenz equations with the classical fourth-order Runge-Kutta rule.

    `dx = sigma (y - x)`, `dy = x (rho - z) - y`, `dz = x y - beta z` with sigma 10, rho 28, beta 8/3
    (Lorenz 1963, doi 10.1175/1520-0469(1963)020<0130:DNF>2.0.CO;2).

    Parameters
    ----------
    initial : (C, 3) array
        Initial states.
    n_steps : int
        States to return; the first is `initial` itself.
    dt : float
        Lorenz time between two states; sub-divided where it exceeds 0.006.

    Returns
    -------
    (C, n_steps, 3) float64 array
    """
    substeps = max(1, int(np.ceil(dt / _MAX_LORENZ_STEP - 1e-9)))
    h = dt / substeps
    state: Floats = np.array(initial, dtype=np.float64)
    states = np.empty((len(state), n_steps, 3))
    for step in range(n_steps):
        states[:, step] = state
        for _ in range(substeps):
            state = _runge_kutta_step(state, h)
    return states


def _runge_kutta_step(state: Floats, h: float) -> Floats:
    k1 = _lorenz_derivative(state)
    k2 = _lorenz_derivative(state + 0.5 * h * k1)
    k3 = _lorenz_derivative(state + 0.5 * h * k2)
    k4 = _lorenz_derivative(state + h * k3)
    result: Floats = state + h / 6.0 * (k1 + 2.0 * k2 + 2.0 * k3 + k4)
    return result


def _lorenz_derivative(state: Floats) -> Floats:
    x, y, z = state[:, 0], state[:, 1], state[:, 2]
    return np.stack(
        [LORENZ_SIGMA * (y - x), x * (LORENZ_RHO - z) - y, x * y - LORENZ_BETA * z],
        axis=1,
    )


def lorenz_sessions(
    n_sessions: int = 3,
    *,
    n_neurons: IntOrRange = (25, 35),
    n_conditions: int = 65,
    trials_per_condition: IntOrRange = (20, 30),
    duration_ms: float = 1000.0,
    bin_ms: float = 2.0,
    mean_rate: float = 5.0,
    modulation: float = 0.8,
    rate_spread: float = 0.4,
    speed: float = 6.0,
    seed: int = 0,
) -> list[xr.Dataset]:
    """Make sessions whose neurons are driven by the same Lorenz trajectories.

    As in Sussillo et al. 2016 (arXiv 1608.06315) and Pandarinath et al. 2018: one trajectory a condition,
    from a random initial state after a burn-in; the three states, standardised over all conditions and bins,
    drive each neuron's log-rate linearly; spikes are Poisson. All sessions share the conditions; each has
    its own neurons, and its trials come in random order.

    Parameters
    ----------
    n_sessions : int
    n_neurons, trials_per_condition : int or (int, int)
        Exact, or drawn once a session from this range (ends included).
    n_conditions : int
    duration_ms, bin_ms : float
        Length of a trial and of a bin; the second must divide the first.
    mean_rate : float
        Spikes/s: the mean of `truth` over a session's neurons, trials and bins. The spikes' own mean differs
        from it by the Poisson noise.
    modulation : float
        Standard deviation of a neuron's log-rate over conditions and bins; neurons have 0.75 to 1.25 of it.
    rate_spread : float
        Standard deviation over neurons of the log of their mean rates.
    speed : float
        Lorenz time units a second. The papers' 0.006 a millisecond is 6: about 8 turns a second.
    seed : int

    Returns
    -------
    list of xr.Dataset
        Named dataset001 and so on, each with
        `spikes (trial, time, neuron)` int16 counts a bin,
        `truth (trial, time, neuron)` float32 spikes/s (the rate that drew the counts),
        `lowd (trial, time, latent)` float32 standardised Lorenz states x, y, z,
        `readout_weights (neuron, latent)` and `readout_bias (neuron)`: log(spikes/s) = lowd W^T + b,
        `condition (trial)` int from 0, `time` in ms (start of a bin), `neuron`, `neuron_name`.

    Raises
    ------
    UsageError
        For sizes that cannot be: not positive, an empty range, a bin that does not divide the trial.

    Examples
    --------
    >>> first, second = lorenz_sessions(2, n_conditions=4, trials_per_condition=3, bin_ms=10)
    >>> first.sizes["trial"], first.sizes["time"], first.attrs["name"]
    (12, 100, 'dataset001')
    """
    n_time = n_bins(duration_ms, bin_ms)
    check_positive(n_sessions=n_sessions, n_conditions=n_conditions, mean_rate=mean_rate, speed=speed)
    if modulation < 0 or rate_spread < 0:
        raise UsageError("modulation and rate_spread cannot be negative", hint="give 0 or more")
    shared, *own = np.random.SeedSequence(seed).spawn(1 + n_sessions)
    latents = _standard_lorenz(np.random.default_rng(shared), n_conditions, n_time, speed * bin_ms / 1000.0)
    sessions = []
    for index, child in enumerate(own):
        rng = np.random.default_rng(child)
        neurons = draw(rng, n_neurons, "n_neurons")
        weights = _lorenz_weights(rng, latents, neurons, modulation)
        rates, bias = _scale_rates(rng, latents @ weights.T, mean_rate, rate_spread)
        trials = draw(rng, trials_per_condition, "trials_per_condition")
        condition = rng.permutation(np.repeat(np.arange(n_conditions), trials))
        session = made_session(
            rng,
            rates[condition],
            condition=condition,
            bin_ms=bin_ms,
            attributes=attributes(index, "lorenz_example", "Lorenz dynamics", seed),
        )
        lowd = latents[condition].astype(np.float32)
        session["lowd"] = (("trial", "time", "latent"), lowd, {"units": "standard deviations"})
        session["readout_weights"] = (("neuron", "latent"), weights)
        session["readout_bias"] = (("neuron",), bias, {"units": "log(spikes/s)"})
        sessions.append(session.assign_coords(latent=["x", "y", "z"]))
    return sessions


def _standard_lorenz(rng: np.random.Generator, n_conditions: int, n_time: int, dt: float) -> Floats:
    """Return (C, T, 3) states on the attractor, mean 0 and standard deviation 1 over conditions and bins."""
    start = np.array([0.0, 0.0, 24.0]) + 8.0 * rng.standard_normal((n_conditions, 3))
    burn_in = 2 + int(np.ceil(10.0 / _MAX_LORENZ_STEP))
    on_attractor = lorenz_trajectories(start, burn_in, _MAX_LORENZ_STEP)[:, -1]
    states = lorenz_trajectories(on_attractor, n_time, dt)
    states -= states.mean(axis=(0, 1))
    scale = states.std(axis=(0, 1))
    result: Floats = states / np.where(scale > 0, scale, 1.0)
    return result


def _lorenz_weights(rng: np.random.Generator, latents: Floats, n_neurons: int, modulation: float) -> Floats:
    """Return (D, 3) weights of random signs, scaled so that log-rates vary by about `modulation`."""
    signs = rng.choice([-1.0, 1.0], size=(n_neurons, 3))
    weights = signs * rng.uniform(1.0, 2.0, size=(n_neurons, 3))
    spread = (latents @ weights.T).std(axis=(0, 1))
    wanted = modulation * rng.uniform(0.75, 1.25, size=n_neurons)
    result: Floats = weights * (wanted / np.where(spread > 0, spread, 1.0))[:, None]
    return result


def _scale_rates(
    rng: np.random.Generator, log_rates: Floats, mean_rate: float, rate_spread: float
) -> tuple[Floats, Floats]:
    """Return spikes/s (C, T, D) with the mean asked for, and the biases (D,) that make it so."""
    wanted = np.exp(rate_spread * rng.standard_normal(log_rates.shape[-1]))
    wanted *= mean_rate / wanted.mean()
    rates = np.exp(log_rates)
    gain = wanted / rates.mean(axis=(0, 1))
    return rates * gain, np.log(gain)
