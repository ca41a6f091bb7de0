"""Training: epochs of compiled slices, learning-rate rule, validation, checkpoints, fit log, progress."""

from __future__ import annotations

import dataclasses
import math
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lfadsrm_hpc import layout
from lfadsrm_hpc.errors import DivergedError, LfadsrmWarning, ModelError
from lfadsrm_hpc.model.backend import Tensor, tf, threads
from lfadsrm_hpc.model.hyperparameters import Hyperparameters
from lfadsrm_hpc.model.network.architecture import Architecture
from lfadsrm_hpc.model.session import Session
from lfadsrm_hpc.model.training import batches, checkpoints, saved, starting
from lfadsrm_hpc.model.training.compiled import SUMS, Kept, Slice, fresh, no_costs, no_sums, on_device
from lfadsrm_hpc.model.training.glimpse import Glimpses
from lfadsrm_hpc.model.training.objective import COSTS, ramp_value, ramps_done
from lfadsrm_hpc.model.training.progress import Outcome, Progress, fitlog_row, reason_to_end, seconds_left
from lfadsrm_hpc.model.training.scalars import ScalarWriter, original_tags, prior_tags
from lfadsrm_hpc.model.training.schedule import COLUMNS, FitLog, LearningRate, Pace

__all__ = ["Outcome", "Progress", "train"]

SLICE_SECONDS = 5.0
MAX_ROLLBACKS = 3
ROLLBACK_RATE = 0.5


def train(
    hp: Hyperparameters,
    sessions: Sequence[Session],
    checkpoint_dir: Path,
    *,
    resume_from: Path | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    on_message: Callable[[str], None] = lambda text: warnings.warn(text, LfadsrmWarning, stacklevel=2),
    should_stop: Callable[[], bool] = lambda: False,
    posterior_only: bool = False,
    start_from: Path | None = None,
    session_starts: starting.SessionStarts | None = None,
    kept: Kept | None = None,
) -> Outcome:
    """Train one model on one or several sessions.

    Parameters
    ----------
    hp : Hyperparameters
    sessions : data; several are stitched.
    checkpoint_dir : Path
        A folder of this incarnation alone: checkpoints, fitlog.csv, TensorBoard events.
    resume_from : Path, optional
        The folder of an earlier incarnation; training goes on from its newest checkpoint and ends
        bit-identical to one that was never interrupted (same machine and TensorFlow).
    on_progress : called between slices (about every 5 s at most, and after each epoch).
    on_message : called with what the user should know, as when training goes back because a cost was not
        finite; a LfadsrmWarning if not given.
    should_stop : asked between slices; when true, a checkpoint is written and training ends, resumable.
    posterior_only : do not train: only copy what `resume_from` holds (its reason, or "not_trained_on").
    start_from : Path, optional
        The folder of another training, whose parameters of the lowest validation cost are the start of this
        one; its sessions of the same name and number of neurons bring read-in and read-out along. Steps,
        ramps and Adam's moments begin anew; the learning rate where that training stood, or, with
        `do_reset_learning_rate`, at `learning_rate_init`.
    session_starts : where read-ins and read-outs of other sessions start; see `starting.begin`.
    kept : Kept, optional
        Handed to several trainings of one model from different starts, its functions are compiled once.

    Returns
    -------
    Outcome

    Raises
    ------
    DataError, ParamsError
        The sessions cannot be fitted with these hyperparameters.
    MismatchError
        `resume_from` holds another model or data of other shapes, or did not start from `start_from`, whose
        shared parameters may also have other sizes.
    ModelError
        `checkpoint_dir` already holds checkpoints.
    DivergedError
        Costs or gradients were not finite, and going back with a lower rate did not help.
    """
    training = _Training(
        hp,
        sessions,
        Path(checkpoint_dir),
        resume_from,
        on_progress,
        on_message,
        should_stop,
        start_from,
        session_starts,
        kept or Kept(),
    )
    return training.copy() if posterior_only else training.run()


class _Training:
    def __init__(
        self,
        hp: Hyperparameters,
        sessions: Sequence[Session],
        folder: Path,
        resume_from: Path | None,
        on_progress: Callable[[Progress], None],
        on_message: Callable[[str], None],
        should_stop: Callable[[], bool],
        start_from: Path | None,
        session_starts: starting.SessionStarts | None,
        kept: Kept,
    ) -> None:
        self.hp, self.sessions, self.folder = hp, sessions, folder
        self.on_progress, self.on_message, self.should_stop = on_progress, on_message, should_stop
        self.kept = kept
        folder.mkdir(parents=True, exist_ok=True)
        if checkpoints.complete(folder):
            raise ModelError(
                "this folder already holds a training",
                where=folder,
                hint="give each training a folder of its own",
            )
        self.epoch = 0  # whole epochs done
        self.position = 0  # batches done of the next one
        self.rollbacks = 0
        self.tried_again: int | None = None  # the epoch that training last went back to
        self.earlier: Slice | None = None  # the start of the epoch before this one
        self.best: dict[str, Any] | None = None
        self.best_theta: NDArray[Any] | None = None
        self.reason: str | None = None
        rows: list[list[float]] = []
        if resume_from is None:
            start = starting.begin(hp, sessions, start_from, session_starts)
            self.arch, self.origin = start.arch, start.origin
            self.rate = LearningRate(hp, start.learning_rate)
            self.state = self.epoch_start = fresh(self.arch.pack(start.params))
        else:
            rows = self._restore(checkpoints.load(Path(resume_from)), start_from)
        self.log = FitLog(layout.fitlog(folder), rows)
        self.scalars = ScalarWriter(layout.tensorboard_events(folder))
        self.seconds = self.step_seconds = math.nan
        # what was resumed is saved soon, so that this folder can take the place of the one before
        self.pace = Pace(-math.inf if resume_from is not None else time.monotonic())

    # -- state on disk

    def _restore(self, checkpoint: checkpoints.Checkpoint, start_from: Path | None) -> list[list[float]]:
        meta = checkpoint.meta
        self.origin = meta["started_from"]
        starting.check_origin(self.origin, start_from, checkpoint.path)
        self.arch = Architecture.of(self.hp, self.sessions)
        if self.origin is not None:
            width = meta["architecture"]["readin_width"]
            self.arch = dataclasses.replace(self.arch, readin_width=width)
        saved.check_same_model(checkpoint, self.arch)
        sums = tf.constant(checkpoint.arrays["cost_sums"], tf.float32)
        adam = saved.read_adam(checkpoint, self.arch, "")
        self.state = Slice(adam, tf.constant(meta["step"]), sums, tf.constant(-1))
        self.epoch, self.position = meta["epoch"], meta["position"]
        self.epoch_start = self.state
        if self.position:
            start = tf.constant(meta["epoch_start_step"])
            adam = saved.read_adam(checkpoint, self.arch, "epoch_start/")
            self.epoch_start = Slice(adam, start, no_sums(), tf.constant(-1))
        self.best, self.rollbacks, self.reason = meta["best"], meta["rollbacks"], meta["reason"]
        self.tried_again = meta["tried_again"]
        if meta["earlier_step"] is not None:
            adam = saved.read_adam(checkpoint, self.arch, "earlier/")
            self.earlier = Slice(adam, tf.constant(meta["earlier_step"]), no_sums(), tf.constant(-1))
        if self.best is not None:
            self.best_theta = self.arch.pack(checkpoint.group("best"))
        rows = checkpoint.arrays["fitlog"].tolist()
        self.rate = self._rate_after(meta["first_learning_rate"], rows)
        return rows  # type: ignore[no-any-return]

    def _rate_after(self, first: float, rows: Sequence[Sequence[float]]) -> LearningRate:
        rate = LearningRate(self.hp, first)
        for row in rows:
            rate.update(row[COLUMNS.index("train_total")])
        return rate

    def _held_out(self) -> dict[str, list[int]]:
        masks = {s.name: s.held_out for s in self.sessions if s.held_out is not None}
        return {name: np.flatnonzero(mask).tolist() for name, mask in masks.items()}

    def save(self) -> None:
        """Write a checkpoint of everything that a bit-identical continuation needs."""
        began = time.monotonic()
        arrays: checkpoints.Arrays = {}
        saved.add_adam(arrays, self.arch, "", self.state.adam)
        if self.position:
            saved.add_adam(arrays, self.arch, "epoch_start/", self.epoch_start.adam)
        if self.earlier is not None:
            saved.add_adam(arrays, self.arch, "earlier/", self.earlier.adam)
        if self.best_theta is not None:
            saved.add_vector(arrays, self.arch, "best", self.best_theta)
        arrays["cost_sums"] = self.state.sums.numpy()
        arrays["fitlog"] = np.array(self.log.rows, float).reshape(-1, len(COLUMNS))
        meta = {
            "step": int(self.state.step),
            "epoch": self.epoch,
            "position": self.position,
            "epoch_start_step": int((self.epoch_start if self.position else self.state).step),
            "best": self.best,
            "earlier_step": None if self.earlier is None else int(self.earlier.step),
            "rollbacks": self.rollbacks,
            "tried_again": self.tried_again,
            "reason": self.reason,
            "first_learning_rate": self.rate.first,
            "started_from": self.origin,
            "architecture": saved.described(self.arch),
            "held_out": self._held_out(),
            "hyperparameters": dataclasses.asdict(self.hp),
            "tensorflow": tf.__version__,
            "threads": threads(),
        }
        hp, best = self.hp, self._best_epoch()
        checkpoints.save(
            self.folder,
            arrays,
            meta,
            keep=hp.max_ckpt_to_keep,
            new_best=best != self.pace.best,
            keep_best=hp.max_ckpt_to_keep_lve,
        )
        now = time.monotonic()
        self.pace = Pace(now, now - began, best)

    def _best_epoch(self) -> int | None:
        return None if self.best is None else int(self.best["epoch"])

    # -- running

    def copy(self) -> Outcome:
        self.save()
        self.scalars.close()
        return self._outcome(self.reason or "not_trained_on")

    def run(self) -> Outcome:
        if self.reason is not None:  # resumed after its end
            return self.copy()
        self.compiled = self.kept.compiled(self.arch, self.sessions)
        self._load_data()
        try:
            return self._outcome(self._epochs())
        finally:
            self.scalars.close()

    def _load_data(self) -> None:
        sessions, size = self.sessions, self.hp.batch_size
        self.counts = [len(s.train) for s in sessions]
        self.train_data = batches.resident(
            self.arch, [s.train for s in sessions], [s.train_ext for s in sessions]
        )
        self.valid_data = batches.resident(
            self.arch, [s.valid for s in sessions], [s.valid_ext for s in sessions], "valid"
        )
        plan = batches.validation_plan([len(s.valid) for s in sessions], size)
        self.valid_plan, self.valid_batches = on_device(plan), len(plan.sessions)
        self.glimpses = Glimpses(self.arch, sessions, self.folder, self.valid_data, self.on_message)

    def _epochs(self) -> str:
        while True:
            began, fresh_epoch = time.monotonic(), self.position == 0
            if not self._train_epoch():
                return self._stop()
            if not self._validate():
                return self._stop()
            if fresh_epoch:
                self.seconds = time.monotonic() - began
            self.reason = reason_to_end(self.hp, self.rate, self.epoch, self.log.rows)
            self._report()
            if self.reason is not None:
                self.save()
                return self.reason
            self._save_if_due()
            if self.should_stop():
                return self._stop()

    def _stop(self) -> str:
        self.save()
        return "stopped"

    def _save_if_due(self) -> None:
        if self.pace.due(time.monotonic(), self._best_epoch()):
            self.save()
            self.glimpses.write_if_due(self.state.adam.theta, self.epoch, int(self.state.step))

    def _train_epoch(self) -> bool:
        """Do the rest of an epoch's steps; return False if asked to stop before its end."""
        plan = batches.training_plan(self.counts, self.hp.batch_size, self.hp.seed, self.epoch)
        on_dev, count = on_device(plan), len(plan.sessions)
        data = self._epoch_data()
        while self.position < count:
            if self.position == 0:
                self.epoch_start = self.state = self.state._replace(sums=no_sums())
            stop = min(count, self.position + self._steps_a_slice())
            began = time.monotonic()
            new = self.compiled.train(self.state, data, on_dev, self.position, stop, self._rate())
            if int(new.failed) >= 0:
                self._roll_back(
                    f"the cost or its gradient was not finite at step {int(new.failed)}",
                    from_the_start=int(new.failed) == int(self.epoch_start.step),
                )
                return self._train_epoch()
            self._measure(stop - self.position, time.monotonic() - began)
            self.state, self.position = new, stop
            if self.position < count:
                self._report()
                self._save_if_due()
                if self.should_stop():
                    return False
        self.batches = count
        return True

    def _rate(self) -> float:
        return self.rate.value * ROLLBACK_RATE**self.rollbacks

    def _steps_a_slice(self) -> int:
        """Return how many steps take about 5 s; the first slices are short, as nothing is known yet."""
        if math.isnan(self.step_seconds):
            return 1
        return max(1, int(SLICE_SECONDS / self.step_seconds))

    def _measure(self, steps: int, seconds: float) -> None:
        if not hasattr(self, "warm"):  # the first call compiles
            self.warm = True
            return
        self.step_seconds = seconds / steps

    def _roll_back(self, what: str, *, from_the_start: bool = False) -> None:
        """Go back to the start of the epoch; of the one before, where that start is of no use.

        It is not where its first step fails, nor where the epoch was done again already.
        """
        if self.rollbacks >= MAX_ROLLBACKS:
            self.state, self.position = self.epoch_start, 0
            raise DivergedError(
                f"{what} (epoch {self.epoch + 1}), and going back {MAX_ROLLBACKS} times with a lower "
                "learning rate did not help",
                where=self.folder,
                hint="lower learning_rate_init, or look for extreme values in the data",
            )
        self.rollbacks += 1
        if self.earlier is not None and (from_the_start or self.tried_again == self.epoch):
            self.epoch_start, self.earlier = self.earlier, None
            self.epoch -= 1
            self.log.cut(self.epoch)
            self.rate = self._rate_after(self.rate.first, self.log.rows)
        self.state, self.position, self.tried_again = self.epoch_start, 0, self.epoch
        self.on_message(
            f"{what}: back to the start of epoch {self.epoch + 1} (step {int(self.state.step)}) with a "
            f"learning rate of {self._rate():.4g} ({self.rollbacks} of at most {MAX_ROLLBACKS} times)"
        )

    def _epoch_data(self) -> dict[str, Tensor]:
        if not self.hp.temporal_spike_jitter_width:
            return self.train_data
        parts = [batches.jittered(self.arch, k, s, self.epoch) for k, s in enumerate(self.sessions)]
        return batches.resident(self.arch, parts, [s.train_ext for s in self.sessions])

    def _validate(self) -> bool:
        """Add a line to the fit log and keep the best; return False if asked to stop before the end.

        Where the validation cost is not finite the epoch has broken the parameters, though only the next step
        would fail: it is done again with a lower rate, as long as that may still be tried.
        """
        sums, position = no_costs(), 0
        theta, step = self.state.adam.theta, self.state.step
        while position < self.valid_batches:
            stop = min(self.valid_batches, position + 2 * self._steps_a_slice())
            sums = self.compiled.validate(theta, step, sums, self.valid_data, self.valid_plan, position, stop)
            position = stop
            if position < self.valid_batches and self.should_stop():
                return False
        training = dict(zip(SUMS, (self.state.sums.numpy() / self.batches).tolist(), strict=True))
        valid = dict(zip(COSTS, sums.numpy().tolist(), strict=True))
        if not math.isfinite(valid["total"]) and self.rollbacks < MAX_ROLLBACKS:
            self._roll_back(f"the validation cost was not finite after step {int(step)}")
        else:
            self._end_epoch(training, valid)
        return True

    def _end_epoch(self, training: dict[str, float], valid: dict[str, float]) -> None:
        hp, step = self.hp, int(self.state.step)
        row = fitlog_row(hp, self.epoch + 1, step, self._rate(), training, valid)
        self.epoch, self.position, self.earlier = self.epoch + 1, 0, self.epoch_start
        self.log.append(row)
        self.scalars.write(
            step, {**original_tags(dict(zip(COLUMNS, row, strict=True))), **self._others(training)}
        )
        self.rate.update(training["total"])
        if not math.isfinite(valid["total"]):
            return
        if ramps_done(step, hp) and (self.best is None or valid["total"] < self.best["valid_total"]):
            self.best = {"epoch": self.epoch, "step": step, "valid_total": valid["total"]}
            self.best_theta = self.state.adam.theta.numpy()

    def _others(self, training: dict[str, float]) -> dict[str, float]:
        """Return the scalars of TensorBoard that have no column in the fit log."""
        found = {"Gradient_global_norm": training["gradient_norm"]}
        if self.hp.co_dim:
            found["Corr_cost"] = self.hp.co_mean_corr_scale * training["correlation"]
            named = self.arch.named(self.state.adam.theta.numpy())
            found.update(prior_tags(named["co_prior/log_tau"], named["co_prior/log_evar"]))
        return found

    # -- telling

    def _last(self) -> dict[str, float]:
        values = self.log.rows[-1] if self.log.rows else [math.nan] * len(COLUMNS)
        values = [math.nan if math.isnan(v) else v for v in values]  # one nan, so that equal costs are equal
        return dict(zip(COLUMNS, values, strict=True))

    def _report(self) -> None:
        last, hp, step = self._last(), self.hp, int(self.state.step)
        costs = {name: last[name] for name in COLUMNS[2:9]}
        self.on_progress(
            Progress(
                epoch=self.epoch,
                step=step,
                max_epochs=hp.max_epochs,
                **costs,
                kl_weight=ramp_value(step, hp.kl_start_step, hp.kl_increase_steps),
                l2_weight=ramp_value(step, hp.l2_start_step, hp.l2_increase_steps),
                learning_rate=self._rate(),
                rollbacks=self.rollbacks,
                seconds_per_epoch=self.seconds,
                eta_s=seconds_left(hp, self.rate, self.epoch, self.seconds),
            )
        )

    def _outcome(self, reason: str) -> Outcome:
        step = int(self.state.step)
        return Outcome(reason, self.epoch, step, self._best_epoch(), self._last(), self.rollbacks)
