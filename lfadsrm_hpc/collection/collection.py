"""A run collection: run specs x run params, and the directory that they live in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from lfadsrm_hpc.collection import outputs, preparation, summary
from lfadsrm_hpc.collection.contents import Contents, R
from lfadsrm_hpc.collection.run import Run


class RunCollection(Contents[R]):
    """All run specs x all run params, and the directory `<root>/<name>` that they live in.

    What is added lives in memory until `prepare_for_lfads` writes it. A collection that is on disk already is
    never cut down by that: runs of earlier scripts stay listed there, and their inputs, params and outputs
    stay as they are. `RunCollection.open(path)` gives all of them, without the script or the datasets.

    Parameters
    ----------
    root : path
        The folder that holds run collections.
    name : str
        Becomes a folder name.
    dataset_collection : DatasetCollection, optional
        Needed to prepare runs, not to look at them.
    comment : str

    Attributes
    ----------
    path : Path
        `<root>/<name>`.
    layout : CollectionLayout
        All paths below it.
    params : list of RunParams
    run_specs : list of RunSpec
    runs : list of Run
        In order of run specs, then params.
    """

    def prepare_for_lfads(
        self, progress: preparation.Progress | None = None, *, warn: bool = True, silence: Sequence[str] = ()
    ) -> preparation.PrepareReport:
        """Write what the runs need: inputs, `params.json`, `collection.json`, summary, TensorBoard script.

        Inputs are written once for all params that share a data hash, and never rewritten. It is safe to call
        it again, after adding runs, and from two processes at a time.

        Parameters
        ----------
        progress : callable, optional
            Called with (done, total, text).
        warn : bool
            Give what is odd about the data as `DataWarning` too, not in the report alone.
        silence : sequence of str
            Names of warnings that are not wanted, such as "drifting_rates"; each tells its name.

        Returns
        -------
        PrepareReport

        Raises
        ------
        DataError
            Data that cannot be fitted; the message names dataset, trial and neuron.
        MismatchError
            A dataset, a run spec or params are not what they were when a run was prepared.
        UsageError
            There is nothing to prepare, or no dataset collection.
        """
        report, self._stored = preparation.prepare(self, progress, silence)
        if warn:
            preparation.give_warnings(report)
        return report

    def delete_outputs(
        self,
        runs: Run | Iterable[Run] | None = None,
        *,
        confirm: Callable[[str], bool] | None = None,
        yes: bool = False,
        is_live: Callable[[Run], bool] | None = None,
    ) -> list[Run]:
        """Delete what runs have made: posterior means, checkpoints, attempts, and the traces of their states.

        What was inferred with their models, and models adapted from them, go too. Inputs and `params.json`
        stay, so the runs can start anew.

        Parameters
        ----------
        runs : Run or several
            None: all.
        confirm : callable
            Is given the question and answers it.
        yes : bool
            Do not ask.
        is_live : callable
            Tells of a run whether it may be running, besides what the manifest says.

        Returns
        -------
        list of Run
            Those whose outputs were deleted; empty when the answer was no.

        Raises
        ------
        UsageError
            A run is live (then nothing at all is deleted), or there is neither `confirm` nor `yes`.
        """
        chosen = self.runs if runs is None else [runs] if isinstance(runs, Run) else list(runs)
        return outputs.delete(self.layout, chosen, confirm=confirm, yes=yes, is_live=is_live)

    # ---------------------------------------------------------------- display

    def __repr__(self) -> str:
        return summary.collection_text(self, most=summary.MOST_SHOWN)

    def summary_text(self) -> str:
        """Return what `summary.txt` holds: everything in the collection, in words."""
        return summary.full_text(self)
