"""Figures of what came out: everything that the modules of this folder draw, under one name.

Every function draws into the axes that it is given, or into those of a new figure, and returns them; none
touches pyplot's state, so that all work without a display. Save with ``ax.figure.savefig("name.png")``.
Colours are told apart by people who do not tell red from green; grounds may be light or dark (`style`).
"""

from __future__ import annotations

from lfadsrm_hpc.results.colors import style
from lfadsrm_hpc.results.plots.factors import factors_3d, factors_over_time, inferred_inputs
from lfadsrm_hpc.results.plots.model import generator_eigenvalues, generator_weights, readout_weights
from lfadsrm_hpc.results.plots.rates import (
    average_rates_by_condition,
    raster_of_neuron,
    raster_of_trial,
    single_trial_rates_by_condition,
)
from lfadsrm_hpc.results.plots.runs import learning_curves
from lfadsrm_hpc.results.plots.sessions import session_alignment, session_components
from lfadsrm_hpc.results.plots.sweep import sweep_curve, sweep_map
from lfadsrm_hpc.results.plots.truth import (
    demo_summary,
    inferred_and_smoothed,
    rate_traces,
    rates_against_truth,
)

__all__ = [
    "average_rates_by_condition",
    "demo_summary",
    "factors_3d",
    "factors_over_time",
    "generator_eigenvalues",
    "generator_weights",
    "inferred_and_smoothed",
    "inferred_inputs",
    "learning_curves",
    "raster_of_neuron",
    "raster_of_trial",
    "rate_traces",
    "rates_against_truth",
    "readout_weights",
    "session_alignment",
    "session_components",
    "single_trial_rates_by_condition",
    "style",
    "sweep_curve",
    "sweep_map",
]
