"""Synthetic recordings with known rates: Lorenz sessions and chaotic recurrent networks.

Every generator is seeded: the same arguments give the same arrays, and a session does not change when
more sessions are asked for. All sessions are in the in-memory form of a dataset (dims `trial`, `time`,
`neuron`) with `spikes` (counts) and `truth` (spikes/s).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from lfadsrm_hpc.errors import UsageError

Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.integer[Any]]
IntOrRange = int | tuple[int, int]

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
    n_time = _n_bins(duration_ms, bin_ms)
    _check_positive(n_sessions=n_sessions, n_conditions=n_conditions, mean_rate=mean_rate, speed=speed)
    if modulation < 0 or rate_spread < 0:
        raise UsageError("modulation and rate_spread cannot be negative")
    shared, *own = np.random.SeedSequence(seed).spawn(1 + n_sessions)
    latents = _standard_lorenz(np.random.default_rng(shared), n_conditions, n_time, speed * bin_ms / 1000.0)
    sessions = []
    for index, child in enumerate(own):
        rng = np.random.default_rng(child)
        neurons = _draw(rng, n_neurons, "n_neurons")
        weights = _lorenz_weights(rng, latents, neurons, modulation)
        rates, bias = _scale_rates(rng, latents @ weights.T, mean_rate, rate_spread)
        trials = _draw(rng, trials_per_condition, "trials_per_condition")
        condition = rng.permutation(np.repeat(np.arange(n_conditions), trials))
        session = _session(
            rng,
            rates[condition],
            condition=condition,
            bin_ms=bin_ms,
            attributes=_attributes(index, "lorenz_example", "Lorenz dynamics", seed),
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


def chaotic_rnn_session(
    *,
    n_neurons: int = 50,
    n_units: int = 50,
    n_conditions: int = 100,
    trials_per_condition: int = 10,
    duration_ms: float = 1000.0,
    bin_ms: float = 10.0,
    g: float = 1.5,
    tau_ms: float = 25.0,
    max_rate: float = 30.0,
    initial_sd: float = 1.0,
    with_inputs: bool = False,
    pulse: float = 8.0,
    n_inputs: int = 1,
    seed: int = 0,
) -> xr.Dataset:
    """Make one session of a chaotic network, as `chaotic_rnn_sessions` makes several.

    Parameters
    ----------
    n_neurons, n_units : int
        Neurons that are seen, of so many units.
    n_conditions, trials_per_condition : int
    duration_ms, bin_ms : float
        A bin is a step of the network and must not exceed `tau_ms`.
    g : float
        Gain: chaotic above 1.
    tau_ms : float
        Time constant of the units.
    max_rate : float
        Spikes/s.
    initial_sd : float
        Standard deviation of a condition's initial states.
    with_inputs : bool
        Each trial gets, on each input, one pulse in a random bin of the middle half of the trial.
    pulse : float
        Height of a pulse.
    n_inputs : int
    seed : int

    Returns
    -------
    xr.Dataset
        As each of `chaotic_rnn_sessions`.

    Raises
    ------
    UsageError
        For sizes that cannot be.

    Examples
    --------
    >>> session = chaotic_rnn_session(n_conditions=3, trials_per_condition=2, with_inputs=True)
    >>> session["input_truth"].sizes["trial"], session["input_truth"].sizes["input"]
    (6, 1)
    """
    return chaotic_rnn_sessions(
        1,
        n_neurons=n_neurons,
        n_units=n_units,
        n_conditions=n_conditions,
        trials_per_condition=trials_per_condition,
        duration_ms=duration_ms,
        bin_ms=bin_ms,
        g=g,
        tau_ms=tau_ms,
        max_rate=max_rate,
        initial_sd=initial_sd,
        with_inputs=with_inputs,
        pulse=pulse,
        n_inputs=n_inputs,
        seed=seed,
    )[0]


def chaotic_rnn_sessions(
    n_sessions: int = 3,
    *,
    n_neurons: IntOrRange = (25, 35),
    n_units: int = 50,
    n_conditions: int = 100,
    trials_per_condition: IntOrRange = 10,
    duration_ms: float = 1000.0,
    bin_ms: float = 10.0,
    g: float = 1.5,
    tau_ms: float = 25.0,
    max_rate: float = 30.0,
    initial_sd: float = 1.0,
    with_inputs: bool = False,
    pulse: float = 8.0,
    n_inputs: int = 1,
    seed: int = 0,
) -> list[xr.Dataset]:
    """Make sessions that each see other units of one chaotic network.

    Sussillo et al. 2016 (arXiv 1608.06315), by Euler steps of one bin:
    `x_t = x_{t-1} + (bin_ms / tau_ms) (-x_{t-1} + W tanh(x_{t-1})) + B u_t`
    with W_ij ~ N(0, g^2 / n_units) and B_ij ~ N(0, 1). Each unit's tanh(x) is stretched to [0, max_rate] over
    all conditions (with inputs: all trials) of its session; spikes are Poisson. A condition is an initial
    state; all sessions share the network and the conditions.

    Parameters
    ----------
    n_sessions : int
    n_neurons, trials_per_condition : int or (int, int)
        Exact, or drawn once a session from this range (ends included). A session's neurons are units drawn
        without replacement, so at most `n_units`.
    n_units, n_conditions : int
    duration_ms, bin_ms : float
        A bin is a step of the network and must not exceed `tau_ms`.
    g : float
        Gain: chaotic above 1; the paper has 1.5 (slower) and 2.5 (faster).
    tau_ms : float
    max_rate : float
        Spikes/s.
    initial_sd : float
        Standard deviation of a condition's initial states.
    with_inputs : bool
        Each trial gets, on each input, one pulse in a random bin of the middle half of the trial.
    pulse : float
        Height of a pulse: the state jumps by pulse x B (the paper's 20, times its step of 10 ms over 25 ms).
    n_inputs : int
    seed : int

    Returns
    -------
    list of xr.Dataset
        `spikes (trial, time, neuron)` int16, `truth (trial, time, neuron)` float32 spikes/s,
        `unit (neuron)` int: which unit of the network a neuron is, `condition (trial)` int from 0, and with
        inputs `input_truth (trial, time, input)` float32: u_t, which moves the state of its own bin.

    Raises
    ------
    UsageError
        For sizes that cannot be.
    """
    n_time = _n_bins(duration_ms, bin_ms)
    _check_positive(
        n_sessions=n_sessions,
        n_units=n_units,
        n_conditions=n_conditions,
        tau_ms=tau_ms,
        max_rate=max_rate,
        n_inputs=n_inputs,
    )
    if bin_ms > tau_ms:
        raise UsageError(f"bins of {bin_ms:g} ms are longer than the time constant, {tau_ms:g} ms")
    shared, *own = np.random.SeedSequence(seed).spawn(1 + n_sessions)
    rng = np.random.default_rng(shared)
    recurrent = g / np.sqrt(n_units) * rng.standard_normal((n_units, n_units))
    input_weights = rng.standard_normal((n_units, n_inputs))
    initial = initial_sd * rng.standard_normal((n_conditions, n_units))
    step = bin_ms / tau_ms
    free = None if with_inputs else np.tanh(_rnn_states(initial, recurrent, step, n_time))
    sessions = []
    for index, child in enumerate(own):
        rng = np.random.default_rng(child)
        units = _draw_units(rng, n_units, _draw(rng, n_neurons, "n_neurons"))
        trials = _draw(rng, trials_per_condition, "trials_per_condition")
        condition = rng.permutation(np.repeat(np.arange(n_conditions), trials))
        inputs = None
        if free is None:
            inputs = _pulses(rng, len(condition), n_time, n_inputs, pulse)
            drive = inputs @ input_weights.T
            states = _rnn_states(initial[condition], recurrent, step, n_time, drive)
            rates = _stretch(np.tanh(states[..., units])) * max_rate
        else:
            rates = (_stretch(free[..., units]) * max_rate)[condition]
        session = _session(
            rng,
            rates,
            condition=condition,
            bin_ms=bin_ms,
            attributes=_attributes(index, "chaotic_rnn", f"chaotic network, g = {g:g}", seed),
        )
        session["unit"] = (("neuron",), units)
        if inputs is not None:
            session["input_truth"] = (("trial", "time", "input"), inputs.astype(np.float32))
        sessions.append(session)
    return sessions


def _rnn_states(
    initial: Floats, recurrent: Floats, step: float, n_time: int, drive: Floats | None = None
) -> Floats:
    """Return (E, T, N) states; `drive` (E, T, N) is added to the state of its own bin."""
    state = np.array(initial)
    states = np.empty((len(state), n_time, state.shape[1]))
    for t in range(n_time):
        if t > 0:
            state = state + step * (np.tanh(state) @ recurrent.T - state)
        if drive is not None:
            state = state + drive[:, t]
        states[:, t] = state
    return states


def _pulses(rng: np.random.Generator, n_trials: int, n_time: int, n_inputs: int, height: float) -> Floats:
    first, last = n_time // 4, max(n_time // 4 + 1, 3 * n_time // 4)
    when = rng.integers(first, last, size=(n_trials, 1, n_inputs))
    result: Floats = np.where(np.arange(n_time)[None, :, None] == when, height, 0.0)
    return result


def _stretch(values: Floats) -> Floats:
    """Map each neuron's values (last axis) to [0, 1] over everything else."""
    low, high = values.min(axis=(0, 1)), values.max(axis=(0, 1))
    result: Floats = (values - low) / np.where(high > low, high - low, 1.0)
    return result


def _draw_units(rng: np.random.Generator, n_units: int, n_neurons: int) -> Ints:
    if n_neurons > n_units:
        raise UsageError(
            f"{n_neurons} neurons cannot be drawn from {n_units} units",
            hint="lower n_neurons or raise n_units",
        )
    return np.sort(rng.choice(n_units, size=n_neurons, replace=False))


def _session(
    rng: np.random.Generator,
    rates: Floats,
    *,
    condition: Ints,
    bin_ms: float,
    attributes: dict[str, object],
) -> xr.Dataset:
    """Draw Poisson counts for `rates` (E, T, D) in spikes/s and put them into the in-memory form."""
    n_trials, n_time, n_neurons = rates.shape
    spikes = np.empty(rates.shape, dtype=np.int16)
    for trial in range(n_trials):  # trial by trial: no second array of all trials in 64 bits
        spikes[trial] = rng.poisson(rates[trial] * (bin_ms / 1000.0))
    dims = ("trial", "time", "neuron")
    return xr.Dataset(
        {
            "spikes": (dims, spikes, {"units": "counts per bin"}),
            "truth": (dims, rates.astype(np.float32), {"units": "spikes/s"}),
        },
        coords={
            "trial": np.arange(n_trials),
            "time": ("time", np.arange(n_time) * float(bin_ms), {"units": "ms"}),
            "neuron": np.arange(n_neurons),
            "neuron_name": ("neuron", [f"n{i:03d}" for i in range(n_neurons)]),
            "condition": ("trial", np.asarray(condition, dtype=np.int64)),
        },
        attrs={**attributes, "bin_ms": float(bin_ms)},
    )


def _attributes(index: int, subject: str, comment: str, seed: int) -> dict[str, object]:
    day = np.datetime64("2018-01-01") + index  # a fixed date: the same seed gives the same data on every day
    return {
        "name": f"dataset{index + 1:03d}",
        "subject": subject,
        "date": str(day),
        "save_tags": str(index + 1),
        "comment": f"{comment}, synthetic, seed {seed}",
    }


def _n_bins(duration_ms: float, bin_ms: float) -> int:
    _check_positive(duration_ms=duration_ms, bin_ms=bin_ms)
    n_bins = round(duration_ms / bin_ms)
    if n_bins < 1 or abs(n_bins * bin_ms - duration_ms) > 1e-6 * duration_ms:
        raise UsageError(f"bins of {bin_ms:g} ms do not divide trials of {duration_ms:g} ms")
    return n_bins


def _draw(rng: np.random.Generator, value: int | Sequence[int], name: str) -> int:
    low, high = (value, value) if isinstance(value, int) else (int(value[0]), int(value[-1]))
    if not 0 < low <= high:
        raise UsageError(f"{name} = {value!r} is neither a positive number nor a range of such, lowest first")
    return int(rng.integers(low, high + 1))


def _check_positive(**values: float) -> None:
    for name, value in values.items():
        if not value > 0:
            raise UsageError(f"{name} must be positive, not {value!r}")
