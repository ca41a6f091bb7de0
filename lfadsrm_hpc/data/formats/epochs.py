"""Which part of a recording becomes trials: options that NWB files, phy folders and spike tables share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lfadsrm_hpc.data.formats import option_values as values
from lfadsrm_hpc.errors import UsageError

UNOBSERVED = ("drop_trials", "drop_neurons", "ignore")


@dataclass(frozen=True)
class Epochs:
    """The options, checked.

    Attributes
    ----------
    bin_ms : float
        Width of the bins.
    align_to : str
        Column of the trial table with the time of the event that trials are aligned to; time 0 of a trial.
    before_ms, after_ms : float
        The window, `-before_ms <= t < after_ms` around the event. A negative `before_ms` begins after it.
    condition : tuple of str
        Columns of the trial table that make up a trial's condition.
    trials, neurons : dict
        Which rows of the tables are taken: see `lfadsrm_hpc.data.formats.selecting.choose`.
    keep : tuple of str
        Columns of the trial table that are kept as variables of the dataset.
    neuron_name : str or None
        Column of the neuron table that names them.
    held_out : dict
        Which of the neurons are meant to be withheld from the encoders; chosen as `neurons` are.
    signals : tuple of str
        Names or patterns of the signals that are binned too.
    unobserved : {"drop_trials", "drop_neurons", "ignore"}
        What to do where the file says that a neuron was not recorded during a whole window.
    continuous : bool
        The recording as a whole, not in trials.
    start_ms, stop_ms : float or None
        With `continuous`: from where to where, in ms of the recording.
    """

    bin_ms: float
    align_to: str = "start_time"
    before_ms: float = 0.0
    after_ms: float | None = None
    condition: tuple[str, ...] = ()
    trials: Mapping[str, Any] = field(default_factory=dict)
    neurons: Mapping[str, Any] = field(default_factory=dict)
    keep: tuple[str, ...] = ()
    neuron_name: str | None = None
    held_out: Mapping[str, Any] = field(default_factory=dict)
    signals: tuple[str, ...] = ()
    unobserved: str = "drop_trials"
    continuous: bool = False
    start_ms: float | None = None
    stop_ms: float | None = None

    @classmethod
    def of(cls, bin_ms: float | None, options: Mapping[str, Any]) -> Epochs:
        """Check options as users give them; None stands for an option that is not given.

        Raises
        ------
        UsageError
        """
        if bin_ms is None:
            raise UsageError(
                "the width of the bins is not given, and spike times have none",
                hint="give bin_ms, narrow enough for every model to come: bins are widened later",
            )
        given = {name: value for name, value in options.items() if value is not None}
        checked = {name: _CHECKS[name](name, value) for name, value in given.items() if name in _CHECKS}
        found = cls(bin_ms=values.positive("bin_ms", bin_ms), **checked)
        found._check_together(given)
        return found

    def _check_together(self, given: Mapping[str, Any]) -> None:
        windowed = [
            name for name in ("align_to", "before_ms", "after_ms", "condition", "keep") if name in given
        ]
        if self.continuous and windowed:
            raise UsageError(
                f"{windowed[0]} is about trials, and continuous = true takes the recording as a whole",
                hint="leave one of them out",
            )
        bounds = [name for name in ("start_ms", "stop_ms") if name in given]
        if not self.continuous and bounds:
            raise UsageError(
                f"{bounds[0]} goes with continuous = true",
                hint="the window of trials is before_ms and after_ms, around align_to",
            )
        if not self.continuous and self.after_ms is not None:
            self.n_bins  # noqa: B018  raises where they are no whole number

    @property
    def n_bins(self) -> int:
        """The number of bins of the window of a trial.

        Raises
        ------
        UsageError
            The window is empty, or no whole number of bins.
        """
        assert self.after_ms is not None
        return values.bins_between(-self.before_ms, self.after_ms, self.bin_ms)


_CHECKS: dict[str, Any] = {
    "align_to": values.text,
    "before_ms": values.number,
    "after_ms": values.number,
    "condition": values.texts,
    "trials": values.table,
    "neurons": values.table,
    "keep": values.texts,
    "neuron_name": values.text,
    "held_out": values.table,
    "signals": values.texts,
    "unobserved": lambda name, value: values.choice(name, value, UNOBSERVED),
    "continuous": values.flag,
    "start_ms": values.number,
    "stop_ms": values.number,
}
OPTIONS = tuple(_CHECKS)
"""Names of the options, besides `bin_ms`."""
