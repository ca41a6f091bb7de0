"""Sessions of units of a chaotic network, alone or many that share it."""

from __future__ import annotations

import numpy as np
import xarray as xr

from lfadsrm_hpc.data.synthetic.sessions import (
    Floats,
    IntOrRange,
    Ints,
    attributes,
    check_positive,
    draw,
    made_session,
    n_bins,
)
from lfadsrm_hpc.errors import UsageError


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
    n_time = n_bins(duration_ms, bin_ms)
    check_positive(
        n_sessions=n_sessions,
        n_units=n_units,
        n_conditions=n_conditions,
        tau_ms=tau_ms,
        max_rate=max_rate,
        n_inputs=n_inputs,
    )
    if bin_ms > tau_ms:
        raise UsageError(
            f"bins of {bin_ms:g} ms are longer than the time constant, {tau_ms:g} ms",
            hint="use narrower bins, or a longer tau_ms",
        )
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
        units = _draw_units(rng, n_units, draw(rng, n_neurons, "n_neurons"))
        trials = draw(rng, trials_per_condition, "trials_per_condition")
        condition = rng.permutation(np.repeat(np.arange(n_conditions), trials))
        inputs = None
        if free is None:
            inputs = _pulses(rng, len(condition), n_time, n_inputs, pulse)
            drive = inputs @ input_weights.T
            states = _rnn_states(initial[condition], recurrent, step, n_time, drive)
            rates = _stretch(np.tanh(states[..., units])) * max_rate
        else:
            rates = (_stretch(free[..., units]) * max_rate)[condition]
        session = made_session(
            rng,
            rates,
            condition=condition,
            bin_ms=bin_ms,
            attributes=attributes(index, "chaotic_rnn", f"chaotic network, g = {g:g}", seed),
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
