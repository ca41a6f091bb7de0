"""A run collection: how it runs on this machine; clusters, results and figures stand in the bases."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lfadsrm_hpc.api.clusters import ClusterCollection
from lfadsrm_hpc.api.collection_drawing import CollectionDrawing
from lfadsrm_hpc.api.collection_loading import CollectionLoading
from lfadsrm_hpc.api.collection_scoring import CollectionScoring
from lfadsrm_hpc.api.exporting import OwnExporting
from lfadsrm_hpc.api.handing_over import queue_tasks
from lfadsrm_hpc.api.keeping import CollectionKeeping
from lfadsrm_hpc.api.reporting import CollectionReporting
from lfadsrm_hpc.api.run import Run
from lfadsrm_hpc.collection.run import check_inputs
from lfadsrm_hpc.errors import InterruptedRunError, SchedulerError, UsageError
from lfadsrm_hpc.manifest.deleted import can_be_sampled
from lfadsrm_hpc.manifest.fold import RunStatus
from lfadsrm_hpc.manifest.records import new_ulid
from lfadsrm_hpc.manifest.states import RunState
from lfadsrm_hpc.schedulers import local
from lfadsrm_hpc.schedulers.sites.loading import queue_options

if TYPE_CHECKING:
    from lfadsrm_hpc.schedulers.local import LocalQueueOptions

Watch = Callable[[Sequence[RunStatus]], None]
_POLL_S = 1.0


class RunCollection(
    CollectionKeeping,
    CollectionReporting,
    CollectionScoring,
    CollectionDrawing,
    OwnExporting,
    CollectionLoading,
    ClusterCollection,
):
    """All run specs x all run params, the directory they live in, and what can be done with them.

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
    """

    # ---------------------------------------------------------------- running

    def write_shell_script_run_queue(
        self,
        runs: Iterable[Run] | None = None,
        *,
        submission: str | None = None,
        **options: Any,
    ) -> Path:
        """Write `run_queue.sh`, the local queue, and a `run.sh` for each run; start nothing.

        Parameters
        ----------
        runs : iterable of Run, optional
            Which runs, in which order; all that are not complete unless given.
        submission : str, optional
            ULID; a new one unless given.
        **options
            See `lfadsrm_hpc.schedulers.local.LocalQueueOptions`: `slots`, `max_per_gpu`, `cpu_cap`,
            `max_attempts`, `environment`, `tensorboard`, `survive_hangup`, `posterior_only`, ...

        Returns
        -------
        Path
            The script: `bash <path>` runs it.

        Raises
        ------
        NothingEligibleError
            Every run is complete.
        UsageError
            A run is not prepared.
        MismatchError
            The inputs of a run are not those that it was prepared for.
        """
        settings = queue_options(options)
        chosen = self._to_do(settings) if runs is None else list(runs)
        check_inputs(chosen)
        return local.write_queue_script(self.layout, queue_tasks(chosen), settings, submission or new_ulid())

    def run_local(
        self,
        runs: Iterable[Run] | None = None,
        *,
        on_update: Watch | None = None,
        **options: Any,
    ) -> list[RunStatus]:
        """Train on this machine through the local queue, and wait until it ends.

        Parameters
        ----------
        runs : iterable of Run, optional
            Which runs, in which order; all that are not complete unless given. Where none is left, nothing is
            started, so that a notebook may be run again from its top.
        on_update : callable, optional
            Called about once a second with the states of these runs. Without it the queue reports on
            standard error, a line for each run that starts or ends.
        **options
            See `write_shell_script_run_queue`.

        Returns
        -------
        list of RunStatus
            How each run ended; of all runs of the collection where nothing was left to do.

        Raises
        ------
        NothingEligibleError
            There are no runs.
        SchedulerError
            The queue could not start; nothing was trained.
        InterruptedRunError
            Ctrl-C: the runs have checkpointed; calling it again goes on from there.
        """
        if options.pop("survive_hangup", False):
            raise UsageError(
                "a queue that survives its terminal cannot be waited for",
                hint="write_shell_script_run_queue(survive_hangup=True), then: bash run_queue.sh",
            )
        chosen = self._to_do(queue_options(options)) if runs is None else list(runs)
        if runs is None and not chosen and self.runs and not options.get("posterior_only"):
            return self.status()
        script = self.write_shell_script_run_queue(chosen, **options)
        log = script.with_suffix(".log") if on_update is not None else None
        queue = local.start_queue(script, log=log)
        try:
            while on_update is not None and queue.poll() is None:
                on_update(self.status(chosen, ask=False))
                time.sleep(_POLL_S)
            code = local.wait_for_queue(queue)
        except KeyboardInterrupt:
            queue.terminate()
            code = local.wait_for_queue(queue)
        finally:
            if queue.poll() is None:  # an error in on_update must not leave runs behind that nobody sees
                queue.terminate()
                queue.wait()
        states = self.status(chosen)
        if on_update is not None:
            on_update(states)
        if code == local.EXIT_INTERRUPTED:
            raise InterruptedRunError(
                "the queue was interrupted; its runs have checkpointed",
                where=self.path,
                hint="the same call, or `lfadsrm run`, goes on from there",
            )
        if code not in (local.EXIT_OK, local.EXIT_SOME_FAILED):
            last = log.read_text(errors="replace")[-2000:].strip() if log else "see above"
            raise SchedulerError(f"the local queue ended with status {code}: {last}", where=script)
        return states

    def _to_do(self, options: LocalQueueOptions) -> list[Run]:
        """Return the runs that a queue would do: those not complete; the trained, if only to sample."""
        if options.posterior_only:
            return [run for run in self.runs if can_be_sampled(run.layout)]
        done = {status.run_id for status in self.status() if status.state is RunState.COMPLETED}
        return [run for run in self.runs if run.id not in done]
