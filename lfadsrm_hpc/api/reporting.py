"""A page of HTML about a collection, and what notebooks show of it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from lfadsrm_hpc.api.run import Run
from lfadsrm_hpc.api.tracking import TrackedCollection
from lfadsrm_hpc.errors import NotFoundError

if TYPE_CHECKING:
    from lfadsrm_hpc.results.report.page import Report


class CollectionReporting(TrackedCollection):
    """The page about a collection, and what a notebook shows of it."""

    def report(
        self,
        path: str | Path | None = None,
        runs: Iterable[Run] | None = None,
        *,
        shown: Iterable[Run] | None = None,
        metric: str | None = None,
        ask: bool = True,
        made_by: str | None = None,
    ) -> Report:
        """Write one self-contained HTML page about the collection.

        It needs no network and no other file, so it can be mailed, put on a web server, or opened where it
        is. What it has is told in docs/report.md.

        Parameters
        ----------
        path : path, optional
            The file; `report.html` in the folder of the collection unless given.
        runs : iterable of Run, optional
            Only these; all unless given.
        shown : iterable of Run, optional
            Whose rates and factors it shows; the best run of each run spec unless given.
        metric : str, optional
            By which runs are compared; see `best`.
        ask : bool
            Ask schedulers for the states of runs that wait or work on clusters, as `status` does.
        made_by : str, optional
            What the page says it was made by; this call unless given.

        Returns
        -------
        Report
            `path`, `size` (bytes), `shown` (ids) and `notes`: what is not on the page, and why. It can be
            used where a path can.

        Raises
        ------
        ResultsError
            A run whose rates are to be shown is not complete.
        NotFoundError
            There is no such score, or the collection is not prepared.
        OSError
            The page cannot be written there.
        """
        from lfadsrm_hpc.results.report.page import Wish, write_report

        if not self.layout.collection_json.is_file():
            raise NotFoundError(
                "this run collection is not on disk yet",
                where=self.path,
                hint="call prepare_for_lfads(), or `lfadsrm prepare`",
            )
        chosen = self.runs if runs is None else list(runs)
        wish = Wish(
            None if shown is None else list(shown),
            metric,
            made_by or (f"rc.report({str(path)!r})" if path is not None else "rc.report()"),
        )
        tracked = self.track(chosen) if ask else None
        return write_report(
            self.layout.report if path is None else Path(path),
            self,
            chosen,
            wish,
            states=None if tracked is None else tracked.statuses,
            warned=() if tracked is None else tracked.warnings,
        )

    def _repr_html_(self) -> str:
        from lfadsrm_hpc.api.displaying import collection_html

        return collection_html(self)
