"""Time some training steps of a run here, so that `lfadsrm plan` can tell what a submission will cost.

The training is the real one, in a temporary folder; nothing of the run is touched.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from lfadsrm_hpc.collection.run import Run
from lfadsrm_hpc.data.inputs import SessionInputs, read_inputs
from lfadsrm_hpc.errors import ModelError
from lfadsrm_hpc.manifest.process import hostname, peak_memory_mb
from lfadsrm_hpc.manifest.timings import Timing, write_timing

if TYPE_CHECKING:
    from lfadsrm_hpc.model.training.progress import Progress

_TRIALS = 8  # whose posterior means are sampled to time the sampling


def time_run(run: Run, seconds: float = 15.0) -> Timing:
    """Train a run for some seconds, sample some trials, and put on record how long they took.

    Parameters
    ----------
    run : Run
        Prepared; other runs of the collection are judged by it.
    seconds : float
        For how long to train after the first slice; at least one whole epoch is done.

    Returns
    -------
    Timing
        Also written into the collection.

    Raises
    ------
    NotFoundError, MismatchError
        The run is not prepared, or its inputs are not its own.
    ModelError
        No epoch could be done.
    """
    began = time.monotonic()
    run.check_inputs()
    inputs = [read_inputs(path) for path in run.input_files().values()]

    from lfadsrm_hpc.model.backend import device_name
    from lfadsrm_hpc.model.session import Session
    from lfadsrm_hpc.model.training import loop as training

    params = run.effective_params
    clock = _Clock(began, seconds)
    with tempfile.TemporaryDirectory(prefix="lfadsrm-timing-") as folder:
        training.train(
            params,
            [Session.of_inputs(session, params) for session in inputs],
            Path(folder),
            on_progress=clock.note,
            should_stop=clock.is_over,
        )
        if clock.epoch_s is None or clock.first_s is None:
            raise ModelError("no epoch was done, so there is no timing", where=run.path)
        sampling_s = _time_sampling(run, Path(folder), inputs)
    timing = Timing(
        run_id=run.id,
        host=hostname(),
        device=device_name(),
        seconds_per_epoch=clock.epoch_s,
        start_s=clock.first_s,
        sampling_s=sampling_s,
        peak_memory_mb=peak_memory_mb(),
        measured=time.time(),
    )
    write_timing(run.collection.layout, timing)
    return timing


class _Clock:
    """Looks on while a training goes on, and ends it."""

    def __init__(self, began: float, seconds: float) -> None:
        self.began, self.seconds = began, seconds
        self.first_s: float | None = None
        self.epoch_s: float | None = None

    def note(self, progress: Progress) -> None:
        """Take in what a slice of training tells; the first epoch counts only where there is no other."""
        now = time.monotonic()
        if self.first_s is None:
            self.first_s = now - self.began
        if progress.epoch >= 1 and progress.seconds_per_epoch > 0:
            self.epoch_s = progress.seconds_per_epoch

    def is_over(self) -> bool:
        if self.first_s is None or self.epoch_s is None:
            return False
        return time.monotonic() - self.began - self.first_s >= self.seconds


def _time_sampling(run: Run, folder: Path, inputs: list[SessionInputs]) -> float:
    """Return how long the posterior means of all trials would take, s."""
    from lfadsrm_hpc.inference.new_trials import make_sampler
    from lfadsrm_hpc.results.posterior_means.sampled import Trials

    total = 0.0
    for session in inputs:
        trials = Trials.of(session)
        sampler = make_sampler(folder, session.dataset, run.effective_params)
        some = min(_TRIALS, len(trials.index))
        ext = None if trials.ext_input is None else trials.ext_input[:some]
        times = []
        for _ in range(2):  # the first one compiles
            began = time.monotonic()
            for _block in sampler.blocks(trials.counts[:some], ext, trial_ids=trials.index[:some]):
                pass
            times.append(time.monotonic() - began)
        total += (times[0] - times[1]) + times[1] * len(trials.index) / some
    return max(total, 0.0)
