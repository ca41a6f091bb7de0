"""Loading what came out of many runs as a table."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from lfadsrm_hpc.collection.summary import varying_names
from lfadsrm_hpc.errors import ResultsError

if TYPE_CHECKING:
    import pandas as pd

    from lfadsrm_hpc.api.run import Run


class CollectionLoading:
    """What can be loaded of a run collection."""

    runs: list[Run]

    def runs_table(self, runs: Iterable[Run] | None = None) -> pd.DataFrame:
        """Return a table with a row for each run (all unless given).

        Returns
        -------
        pandas.DataFrame
            Index `run`: ids. Columns: `spec`, `params` (the hash), a column for each hyperparameter that
            differs in the collection, `epochs`, `valid_cost` (last), `lowest_valid_cost`,
            `lowest_valid_epoch`.
        """
        import pandas as pd

        chosen = self.runs if runs is None else list(runs)
        swept = varying_names(run.params for run in self.runs)
        rows = []
        for run in chosen:
            values = run.params.values()
            row = {"spec": run.spec.name, "params": run.params.param_hash}
            rows.append(row | {name: values.get(name) for name in swept} | _fit(run))
        table: pd.DataFrame = pd.DataFrame(
            rows, index=pd.Index([run.id for run in chosen], name="run", dtype=object)
        )
        return table


def _fit(run: Run) -> dict[str, float | None]:
    names = ("lowest_valid_cost", "lowest_valid_epoch")
    try:
        log = run.load_fit_log()
    except ResultsError:
        return dict.fromkeys(("epochs", "valid_cost", *names))
    last = {"epochs": float(log["epoch"].iloc[-1]), "valid_cost": float(log["valid_total"].iloc[-1])}
    return {**(last if len(log) else {}), **{name: log.attrs[name] for name in names}}
