"""The work of a task, from its claim to its exit record: train, sample, score."""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lfadsrm_hpc.errors import (
    ClaimLostError,
    ConfigError,
    DataError,
    InterruptedRunError,
    LfadsrmError,
    MismatchError,
    ModelError,
)
from lfadsrm_hpc.layout import CollectionLayout, RunLayout, fitlog
from lfadsrm_hpc.manifest import store
from lfadsrm_hpc.manifest.deleted import BY, TRAIN_AGAIN, deleted_of
from lfadsrm_hpc.manifest.records import (
    BAD_DATA,
    CHECKPOINTED,
    DONE,
    EXIT_BAD_DATA,
    EXIT_CHECKPOINTED,
    EXIT_DONE,
    EXIT_FAILED,
    EXIT_NOT_OURS,
    FAILED,
    TIMEOUT,
    Claim,
    Exit,
)
from lfadsrm_hpc.stopping import StopFlag
from lfadsrm_hpc.worker.record import Record, threads, versions

if TYPE_CHECKING:
    from lfadsrm_hpc.data.inputs import SessionInputs
    from lfadsrm_hpc.model.training.loop import Progress
    from lfadsrm_hpc.results.scoring.evaluation import EndOfRun


_BEAT_EVERY_S = 5.0  # posterior sampling beats no more often; training beats after every slice


class _Stopped(Exception):
    """Training or sampling stopped because it was asked to; a checkpoint is on disk."""


@dataclass
class Work:
    """One incarnation of one run, from its claim to its exit record."""

    layout: CollectionLayout
    run: RunLayout
    claim: Claim
    stop: StopFlag
    posterior_only: bool
    last_beat: float = 0.0
    progress: Mapping[str, Any] = field(default_factory=dict)  # of training; later phases go on showing it
    device: str | None = None  # what computes, once it is known

    def perform(self) -> int:
        """Work, and record how it ended, whatever happens."""
        message = ""
        try:
            self._work()
            code, reason = EXIT_DONE, DONE
        except _Stopped:
            code, reason = EXIT_CHECKPOINTED, TIMEOUT if self.stop.out_of_time else CHECKPOINTED
        except ClaimLostError as error:
            print(error, file=sys.stderr)
            return EXIT_NOT_OURS
        except (DataError, ConfigError) as error:
            message = str(error)
            code, reason = EXIT_BAD_DATA, BAD_DATA
        except LfadsrmError as error:
            message = str(error)
            code, reason = EXIT_FAILED, FAILED
        except Exception as error:
            traceback.print_exc()
            message = f"{type(error).__name__}: {error}"
            code, reason = EXIT_FAILED, FAILED
        if message:
            print(f"error: {message}", file=sys.stderr)
        signalled = self.stop.signal if code == EXIT_CHECKPOINTED else None
        try:
            store.publish_exit(self.run, self.claim, Exit(code, reason, signal=signalled, message=message))
        except ClaimLostError as error:
            print(error, file=sys.stderr)
            return EXIT_NOT_OURS
        return code

    def _work(self) -> None:
        record = Record.read(self.run)
        inputs = self._read_inputs(record)
        self._say(f"{self.run.run_id}: {self.claim}")
        self._beat(phase="starting")
        self._stop_if_asked()
        folder = self._train(record, inputs)
        self._write_model_params(folder)
        ending = self._end_of_run(record, folder)
        for session in inputs:
            self._stop_if_asked()
            self._sample(record, folder, session, ending)
        self._beat(phase="metrics")
        ending.publish(self.run.metrics_json, token=self.claim.token, versions=versions())

    def _stop_if_asked(self) -> None:
        """Spare what comes next, which takes its time before it asks for the first time."""
        if self.stop():
            self._say(f"stopped: {'the time is over' if self.stop.out_of_time else 'asked to'}")
            raise _Stopped

    def _read_inputs(self, record: Record) -> list[SessionInputs]:
        """Read the inputs, refusing files that were made from other data than the run was prepared for."""
        from lfadsrm_hpc.data.inputs import read_inputs

        found = []
        for name, file, fingerprint in record.inputs:
            path = self.layout.path / file
            inputs = read_inputs(path)
            if inputs.fingerprint != fingerprint:
                raise MismatchError(
                    f"the inputs of dataset {name!r} are not those that this run was prepared for",
                    where=path,
                    hint="put the old file back, or delete it and prepare again: it is written anew, "
                    "where the recording is what it was",
                )
            found.append(inputs)
        return found

    # -- training -------------------------------------------------------------------------------------

    def _train(self, record: Record, inputs: list[SessionInputs]) -> Path:
        """Train from where the run stands; return the folder of the finished checkpoints."""
        from lfadsrm_hpc.model.training import checkpoints

        folder = self.run.checkpoint_dir(self.claim.attempt, self.claim.incarnation)
        source = store.resume_source(self.run, self.claim, complete=checkpoints.complete)
        if source is not None:
            self._keep_threads(checkpoints.threads_of(source))
        os.environ["LFADSRM_GPU_GROWTH"] = str(int(record.params.allow_gpu_growth))

        from lfadsrm_hpc.model.backend import device_name
        from lfadsrm_hpc.model.session import Session
        from lfadsrm_hpc.model.training import loop as training  # tensorflow takes its threads now

        self.device = device_name()
        if self.posterior_only:
            return self._ended_training(source)
        if source is not None:
            self._say(f"resumes from {source.name}")
        outcome = training.train(
            record.effective_params,
            [Session.of_inputs(session, record.params) for session in inputs],
            folder,
            resume_from=source,
            start_from=self._start(record, resumes=source is not None),
            on_progress=self._on_progress,
            on_message=lambda text: self._say(f"warning: {text}"),
            should_stop=self.stop,
        )
        if outcome.reason == "stopped":
            self._say(f"stopped and checkpointed at epoch {outcome.epoch}, step {outcome.step}")
            raise _Stopped
        self._say(f"training ended at epoch {outcome.epoch}, step {outcome.step}: {outcome.reason}")
        return folder

    def _keep_threads(self, before: int | None) -> None:
        """Go on with as many threads as before, since the last bits of sums depend on their number."""
        if before is None:
            return
        if "tensorflow" not in sys.modules:
            given = os.environ.get("LFADSRM_THREADS")
            os.environ["LFADSRM_THREADS"] = str(before)
            if given not in (None, str(before)):
                self._say(f"goes on with {before} threads, as it began, not with {given}")
            return
        if threads() != before:
            self._say(f"warning: {before} threads before and {threads()} now: last bits may differ")

    def _start(self, record: Record, *, resumes: bool) -> Path | None:
        """Return the checkpoints of the trained model that the run starts from; None where it starts anew.

        A run that goes on does not need them again, so they may be gone by then.
        """
        from lfadsrm_hpc.model.training import checkpoints

        if record.params.start_from is None:
            return None
        source = self.layout.run_at(record.params.start_from)
        folder = checkpoints.finished(path for _, _, path in source.checkpoint_dirs())
        if folder is None and not resumes and deleted_of(source, ()) is not None:
            raise ModelError(
                f"this run starts from the model of run {source.run_id}, whose last checkpoint was {BY}",
                where=source.path,
                hint=TRAIN_AGAIN,
            )
        if folder is None and not resumes:
            raise ModelError(
                f"this run starts from the trained model of run {source.run_id}, which is not trained yet",
                where=source.path,
                hint=f"train that run to its end first: `lfadsrm run {source.collection.path} "
                f"--spec {source.path.name}`",
            )
        if folder is not None:
            self._say(f"starts from the model of {source.run_id}, {folder.name}")
        return folder

    def _ended_training(self, source: Path | None) -> Path:
        """Return the checkpoints to sample from without training.

        Those of an unfinished training are refused: the run would count as complete. The failure says nothing
        against the data, so training the run stays possible.
        """
        from lfadsrm_hpc.model.training import checkpoints

        if source is None:
            raise ModelError(
                "there is no trained model to sample from", where=self.run.path, hint="train the run first"
            )
        if checkpoints.finished([source]) is None:
            raise ModelError(
                "the training has not ended, so there are no posterior means to make yet",
                where=source,
                hint="train the run to its end first: `lfadsrm run`",
            )
        self._say(f"posterior means alone, from {source.name}")
        return source

    def _on_progress(self, progress: Progress) -> None:
        self.progress = asdict(progress)
        self._beat(phase="training")

    def _beat(self, **phase: Any) -> None:
        """Write a heartbeat; stop where a newer claim or attempt has taken over."""
        try:
            known = {"device": self.device} if self.device else {}
            store.heartbeat(self.run, self.claim, **{**self.progress, **known, **phase})
        except OSError as error:  # a full disk may empty again before the next checkpoint
            self._say(f"warning: no heartbeat could be written: {error}")
        self.last_beat = time.monotonic()
        if store.is_superseded(self.run, self.claim):
            raise ClaimLostError(f"{self.run.run_id}: a newer attempt has taken over", where=self.run.path)

    # -- posterior means ------------------------------------------------------------------------------

    def _write_model_params(self, folder: Path) -> None:
        from lfadsrm_hpc.model.training import checkpoints

        checkpoints.write_model_params(folder, self.run.model_params, attributes=self._origin())

    def _end_of_run(self, record: Record, folder: Path) -> EndOfRun:
        from lfadsrm_hpc.results.scoring.evaluation import EndOfRun

        return EndOfRun(
            fitlog(folder), record.effective_params.values(), say=self._say, between=self._between_blocks
        )

    def _between_blocks(self) -> None:
        """Go on beating while scores are computed; leave them out where the time is over."""
        if time.monotonic() - self.last_beat > _BEAT_EVERY_S:
            self._beat(phase="metrics")
        if self.stop():
            raise InterruptedRunError("there was no time left for them")

    def _sample(self, record: Record, folder: Path, session: SessionInputs, ending: EndOfRun) -> None:
        from lfadsrm_hpc.inference.new_trials import about, make_sampler
        from lfadsrm_hpc.results.posterior_means.sampled import Trials, write_means

        params = record.params
        trials = Trials.of(session)
        sampler = make_sampler(folder, session.dataset, record.effective_params)
        if sampler.note:
            self._say(f"warning: {sampler.note}")
        attributes = {**about(sampler, params, session), "params": params.to_json(), **self._origin()}
        self._say(f"posterior means of {session.dataset}: {len(trials.index)} trials")
        self._beat(phase="posterior means", dataset=session.dataset)

        def told(done: int, total: int) -> None:
            if time.monotonic() - self.last_beat > _BEAT_EVERY_S:
                self._beat(phase="posterior means", dataset=session.dataset, done=f"{done}/{total} trials")
            if done < total:
                self._stop_if_asked()

        write_means(
            self.run.posterior_means(session.dataset),
            sampler,
            trials,
            output_dist=params.output_dist,
            attributes=attributes,
            on_block=told,
            describe=lambda written: ending.describe(written, session),
        )

    def _origin(self) -> dict[str, Any]:
        return {
            "run_id": self.run.run_id,
            "collection": self.layout.name,
            "claim_token": self.claim.token,
            "attempt": f"{self.claim.attempt:03d}.r{self.claim.incarnation}",
            "versions": versions(),
            "device": self.device,
            "threads": threads(),
        }

    def _say(self, text: str) -> None:
        print(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {text}", file=sys.stderr, flush=True)
