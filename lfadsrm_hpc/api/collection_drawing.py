"""Figures of many runs together, drawn as in `run_drawing`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from lfadsrm_hpc.api.drawn import run_labels, swept, with_params

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from lfadsrm_hpc.collection.run import Run


class _Collection(Protocol):
    """What drawing needs of a run collection."""

    @property
    def runs(self) -> list[Run]: ...

    def load_fit_logs(self, runs: Iterable[Run] | None = None) -> dict[str, pd.DataFrame]: ...

    def runs_table(self, runs: Iterable[Run] | None = None) -> pd.DataFrame: ...


class CollectionDrawing:
    """The figures of many runs together."""

    def plot_learning_curves(
        self: _Collection, runs: Iterable[Run] | None = None, ax: Axes | None = None
    ) -> Axes:
        """Draw the validation costs of many runs over epochs: `learning_curves`.

        Runs are named by their run spec and the hyperparameters that differ.

        Parameters
        ----------
        runs : iterable of Run, optional
            All unless given.
        ax : matplotlib.axes.Axes, optional
            Those of a new figure unless given.
        """
        from lfadsrm_hpc.results.plots import learning_curves

        chosen = self.runs if runs is None else list(runs)
        logs = self.load_fit_logs(chosen)
        named = {label: logs[run_id] for run_id, label in run_labels(chosen).items() if run_id in logs}
        return learning_curves(named, ax=ax)

    def plot_sweep(
        self: _Collection,
        metric: str = "lowest_valid_cost",
        over: str | Sequence[str] | None = None,
        *,
        runs: Iterable[Run] | None = None,
        axes: Any = None,
        **options: Any,
    ) -> Any:
        """Draw a metric against one or two swept hyperparameters, with the spread over seeds.

        Parameters
        ----------
        metric : str
            A column of `runs_table()`, such as "co_bps" or "lowest_valid_cost".
        over : str or two str, optional
            The hyperparameters; the one or two that differ among the runs, besides the seed, unless given.
        runs : iterable of Run, optional
            Which; all unless given.
        axes : matplotlib Axes or array of them, optional
            One; for two hyperparameters, one a run spec.
        **options
            Of `sweep_curve` (one hyperparameter) or `sweep_map` (two).

        Returns
        -------
        Axes, or array of Axes for two hyperparameters

        Raises
        ------
        UsageError
            Nothing differs among the runs, or more than two hyperparameters do and none is named.
        NotFoundError
            No such metric or hyperparameter.
        DataError
            No run has the metric.
        """
        from lfadsrm_hpc.results.plots import sweep_curve, sweep_map

        chosen = self.runs if runs is None else list(runs)
        names = [over] if isinstance(over, str) else list(over) if over is not None else swept(chosen)
        table = with_params(self.runs_table(chosen), chosen, names)
        if len(names) == 1:
            return sweep_curve(table, metric, names[0], ax=axes, **options)
        return sweep_map(table, metric, names, axes=axes, **options)
