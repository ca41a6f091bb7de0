"""How the sessions of a stitched run were aligned: numbers, arrays, figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lfadsrm_hpc.collection import run as runs
from lfadsrm_hpc.collection.alignment_table import alignment_rows
from lfadsrm_hpc.errors import ResultsError

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr


class RunStitching(runs.Run):
    """What a run knows of its alignment."""

    def alignment_table(self) -> pd.DataFrame:
        """Return how well each dataset's read-in reconstructs the components that all share.

        Returns
        -------
        pandas.DataFrame
            Index `dataset`; `r2` (share of the variance of the global components), `r2_left_out` (of
            conditions that the regression did not see), `made_by` ("conditions"; "pca" or "random" for
            datasets without conditions), `conditions` (how many, of `all_conditions`), `other_data`, `note`,
            then `factor_0`, `factor_1`, ...: the R2 of each component. Empty where no alignment is used.

        Raises
        ------
        NotFoundError
            The run is not prepared.
        """
        import pandas as pd

        plain = ("r2", "r2_left_out", "made_by", "conditions", "all_conditions", "other_data", "note")
        rows = {
            row["dataset"]: {name: row[name] for name in plain}
            | {f"factor_{i}": value for i, value in enumerate(row["r2_by_factor"])}
            for row in alignment_rows(self)
        }
        table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("dataset")
        numbers = [name for name in table.columns if name.startswith(("r2", "factor_"))]
        typed: pd.DataFrame = table.astype(dict.fromkeys(numbers, float))
        return typed

    def load_alignment(self, dataset: str) -> xr.Dataset:
        """Return the global components and what the read-in of a dataset makes of its averages.

        Parameters
        ----------
        dataset : str
            The name of a dataset of the run.

        Returns
        -------
        xr.Dataset
            See `lfadsrm_hpc.results.alignments.open_alignment`.

        Raises
        ------
        ResultsError
            The dataset was not aligned by conditions.
        NotFoundError
            There is no such dataset, or the run is not prepared.
        """
        from lfadsrm_hpc.results.alignments import open_alignment

        return open_alignment(self.input_files()[runs.one_dataset(self.id, self.dataset_names, dataset)])

    def plot_alignment(
        self,
        datasets: Sequence[str] | None = None,
        *,
        components: int | Sequence[int] = 3,
        conditions: Sequence[str] | None = None,
    ) -> Any:
        """Draw the global components and each dataset's projection, by condition over time.

        Parameters
        ----------
        datasets : sequence of str, optional
            All that were aligned by conditions unless given.
        components, conditions
            See `lfadsrm_hpc.results.plots.alignments.alignment_components`.

        Returns
        -------
        ndarray of matplotlib Axes, (datasets, components)

        Raises
        ------
        ResultsError
            No dataset was aligned.
        """
        from lfadsrm_hpc.results.plots.alignments import alignment_components

        aligned = {row["dataset"] for row in alignment_rows(self) if row["made_by"] == "conditions"}
        chosen = [name for name in self.dataset_names if name in aligned] if datasets is None else datasets
        if not chosen:
            raise ResultsError(f"no dataset of run {self.id} was aligned by conditions", where=self.path)
        alignments = {name: self.load_alignment(name) for name in chosen}
        return alignment_components(alignments, components=components, conditions=conditions)
