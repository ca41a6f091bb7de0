"""Freeing the space of a collection, and packing it away."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from lfadsrm_hpc.collection import cleaning
from lfadsrm_hpc.collection import collection as collections

if TYPE_CHECKING:
    from lfadsrm_hpc.api.clusters import ClusterCollection
    from lfadsrm_hpc.api.run import Run
    from lfadsrm_hpc.collection.archive import Archived

    _Collection = ClusterCollection
else:
    _Collection = collections.RunCollection


class CollectionKeeping(_Collection):
    """What may be deleted of a collection, and its archive."""

    def removable(
        self, runs: Iterable[Run] | None = None, *, kinds: Iterable[str] | None = None
    ) -> list[cleaning.Removable]:
        """Return what may be deleted without losing results: files of complete runs, and of nobody.

        Parameters
        ----------
        runs : iterable of Run, optional
            Only what belongs to these; the whole collection unless given.
        kinds : iterable of str, optional
            Names in `lfadsrm_hpc.collection.cleaning.KINDS`; all unless given, but for the caches, the last
            checkpoints and the posterior means, which must be named.

        Raises
        ------
        UsageError
            There is no such kind.
        """
        chosen = [run.layout for run in (self.runs if runs is None else runs)]
        return cleaning.removable(self.layout, chosen, cleaning.chosen_kinds(kinds), whole=runs is None)

    def clean(
        self,
        items: Iterable[cleaning.Removable],
        *,
        on_step: Callable[[int, int], None] | None = None,
    ) -> cleaning.Cleaned:
        """Delete what `removable` has returned. It is not asked again.

        Each run is looked at anew, and held while its files go: one that was started meanwhile keeps them.

        Parameters
        ----------
        items : iterable of Removable
        on_step : callable, optional
            Is told how many were dealt with, and of how many.

        Returns
        -------
        Cleaned
            What was removed, and which runs were left alone.
        """
        return cleaning.clean(self.layout, list(items), on_step)

    def archive(
        self,
        path: str | Path | None = None,
        runs: Iterable[Run] | None = None,
        *,
        remove: bool = False,
        on_step: Callable[[int, int], None] | None = None,
    ) -> Archived:
        """Pack the collection, or some of its runs, into one tar file with checksums, and verify it.

        `tar -xf` brings it back: it is a collection again, with states and results.

        Parameters
        ----------
        path : path, optional
            The file, ending in .tar or .tar.gz; `<collection>.tar` beside the collection unless given.
        runs : iterable of Run, optional
            Only these, with their inputs; the whole collection unless given.
        remove : bool
            Delete the collection when the archive is verified. Not together with `runs`.
        on_step : callable, optional
            Is told how many bytes were read, and of how many.

        Raises
        ------
        UsageError
            A run is, or may be, at work or waits in a queue; the file is there and holds something else.
        MismatchError
            Files were changed while they were packed, or the archive is damaged. Nothing was removed.
        """
        from lfadsrm_hpc.collection.archive import archive

        chosen = None if runs is None else [run.layout for run in runs]
        target = None if path is None else Path(path)
        return archive(self.layout, target, chosen, remove=remove, on_step=on_step)
