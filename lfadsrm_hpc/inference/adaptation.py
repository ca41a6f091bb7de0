"""A trained run, adapted to a new session by training only its read-in and read-out."""

from __future__ import annotations

import contextlib
import json
import threading
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lfadsrm_hpc._version import __version__
from lfadsrm_hpc.collection.params import RunParams
from lfadsrm_hpc.collection.run import Run
from lfadsrm_hpc.data import form
from lfadsrm_hpc.data.inputs import SessionInputs, make_inputs, read_head, read_inputs, validate, write_inputs
from lfadsrm_hpc.errors import (
    ConfigError,
    DataWarning,
    InterruptedRunError,
    MismatchError,
    NotFoundError,
    ParamsError,
    ResultsError,
    suggest,
)
from lfadsrm_hpc.inference.new_trials import Model, OnBlock, about, finished_checkpoints, infer, make_sampler
from lfadsrm_hpc.inference.own_training import OwnTraining, Starts, Stopped
from lfadsrm_hpc.inference.session_start import GUESSES, guessed_start, regressed_start, what_is_known
from lfadsrm_hpc.inference.taking import Data, take
from lfadsrm_hpc.layout import AdaptedLayout, fitlog, numbered
from lfadsrm_hpc.manifest.publish import publish_new
from lfadsrm_hpc.model.held_out import held_out_mask
from lfadsrm_hpc.model.training import checkpoints
from lfadsrm_hpc.model.training import loop as training
from lfadsrm_hpc.plain_files import read_json
from lfadsrm_hpc.results.posterior_means.loaders import open_posterior_means
from lfadsrm_hpc.results.posterior_means.sampled import Trials, write_means
from lfadsrm_hpc.results.runs.fitlog import read_fitlog
from lfadsrm_hpc.stopping import StopFlag

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

FORMAT = 1
# only the new session's own parameters move, at once with full ramps: the rest of the model knows its task
_ALWAYS: Mapping[str, Any] = {
    "do_train_io_only": True,
    "do_train_encoder_only": False,
    "do_train_readin": True,
    "do_reset_learning_rate": True,
}
_UNLESS_GIVEN: Mapping[str, Any] = {
    "kl_start_step": 0,
    "kl_increase_steps": 0,
    "l2_start_step": 0,
    "l2_increase_steps": 0,
}
OnProgress = Callable[[training.Progress], None]


@dataclass(frozen=True)
class AdaptedModel:
    """A run's model with a read-in and a read-out for a session that the run was not trained on.

    Attributes
    ----------
    run : Run
    name : str
        Of the adapted model, and of its folder `adapted/<name>` in that of the run.
    dataset : str
        The session that it was adapted to.
    params : RunParams
        Those of the adaptation.
    record : dict
        Content of `adapted.json`: what was adapted to what.
    """

    run: Run
    name: str
    dataset: str
    params: RunParams
    record: Mapping[str, Any]

    @property
    def layout(self) -> AdaptedLayout:
        """Where everything of the adapted model is on disk."""
        return self.run.layout.adapted(self.name)

    @property
    def path(self) -> Path:
        """The folder of the adapted model: ``<run>/adapted/<name>``."""
        return self.layout.path

    @property
    def is_complete(self) -> bool:
        """Whether it is trained to its end and its posterior means are there."""
        return self.layout.posterior_means.is_file()

    def load_posterior_means(self) -> xr.Dataset:
        """Open the posterior means of the session's trials, lazily; `split` says which validated.

        Raises
        ------
        ResultsError
            The adaptation has not come to its end.
        """
        return open_posterior_means(self.layout.posterior_means)

    def load_fit_log(self) -> pd.DataFrame:
        """Return costs and learning rate of the adaptation by epoch.

        Raises
        ------
        ResultsError
            No epoch is done yet.
        """
        folders = [folder for folder in numbered(self.layout.checkpoints) if fitlog(folder).is_file()]
        return read_fitlog(fitlog(folders[0] if folders else self.layout.checkpoints))

    def infer(
        self,
        dataset: Data,
        *,
        name: str | None = None,
        bin_ms: float | None = None,
        ext_input: npt.ArrayLike | None = None,
        kind: str | None = None,
        num_samples: int | None = None,
        seed: int | None = None,
        path: str | Path | None = None,
        overwrite: bool = False,
        on_block: OnBlock = lambda done, total: None,
    ) -> xr.Dataset:
        """Return posterior means of further trials of the session; see `lfadsrm_hpc.api.Run.infer`.

        Parameters
        ----------
        dataset : Dataset, xr.Dataset, path, or array (trial, time, neuron)
            The same neurons in the same order, and trials as long, as those that the model was adapted to.
        name : str, optional
            Of the result and its file; the dataset's own unless given.
        bin_ms : float, optional
            Width of the bins of an array (those of the model unless given), or of a file that does not say.
        ext_input : array (trial, time, input), optional
            External inputs, where the dataset does not hold them.
        kind, num_samples, seed : optional
            In place of `posterior_mean_kind`, `num_samples_posterior` and `seed` of the run.
        path : path, optional
            Another place for the file.
        overwrite : bool
            Replace an earlier inference of this name.
        on_block : callable
            Called with trials done and all trials, now and then.
        """
        width = self.params.spike_bin_ms
        ds = take(dataset, name=name, bin_ms=bin_ms, ext_input=ext_input, model_bin_ms=width)
        return infer(
            self._model(),
            ds,
            kind=kind,
            num_samples=num_samples,
            seed=seed,
            path=path,
            overwrite=overwrite,
            on_block=on_block,
        )

    def _model(self) -> Model:
        folder = checkpoints.finished(numbered(self.layout.checkpoints))
        if folder is None:
            raise ResultsError(
                f"the adaptation {self.name!r} has not come to its end",
                where=self.path,
                hint="run.adapt(...) with the same arguments goes on with it",
            )
        names, bins = read_head(self.layout.inputs)
        return Model(
            params=self.params,
            checkpoints=folder,
            session=self.dataset,
            neuron_names=names,
            bins=bins,
            origin=self._origin(),
            layout=self.layout,
        )

    def _origin(self) -> dict[str, Any]:
        return {
            "run_id": self.run.id,
            "collection": self.run.collection.name,
            "adapted": self.name,
            "params": self.params.to_json(),
            "started_from": self.record["started_from"],
        }


def adapted(run: Run, name: str) -> AdaptedModel:
    """Return an adapted model of a run from its folder.

    Raises
    ------
    NotFoundError
        There is none of this name; the message lists those that are.
    ConfigError
        Its record is damaged.
    """
    layout = run.layout.adapted(name)
    try:
        record = read_json(layout.record)
    except FileNotFoundError:
        names = run.layout.adapted_names()
        raise NotFoundError(
            f"run {run.id} has no adapted model {name!r}",
            where=run.layout.adapted_dir,
            hint=suggest(name, names) or f"there are: {', '.join(names) or 'none'}",
        ) from None
    except ValueError as error:
        raise ConfigError(f"the file is damaged: {error}", where=layout.record) from None
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise ConfigError(
            "not a record of an adapted model of this version", where=layout.record, hint="update lfadsrm_hpc"
        )
    return AdaptedModel(run, name, record["dataset"], RunParams.from_json(record["params"]), record)


def adapt(
    run: Run,
    dataset: Data,
    *,
    name: str | None,
    bin_ms: float | None,
    ext_input: npt.ArrayLike | None,
    changes: Mapping[str, Any],
    on_progress: OnProgress,
    on_message: Callable[[str], None],
    on_block: OnBlock,
) -> AdaptedModel:
    """Do what `Run.adapt` says."""
    folder = finished_checkpoints(run)
    params = _params(run, changes)
    ds = take(dataset, name=None, bin_ms=bin_ms, ext_input=ext_input, model_bin_ms=params.spike_bin_ms)
    inputs = _inputs(ds, params)
    model = _begin(run, inputs.dataset if name is None else name, inputs, params, folder)
    if model.is_complete:
        return model
    stop = StopFlag()
    own = OwnTraining(model.layout, model.params, _own_inputs(model), folder, stop, on_progress, on_message)
    # signals reach the main thread alone
    main = threading.current_thread() is threading.main_thread()
    with stop.installed() if main else contextlib.nullcontext():
        try:
            _train(model, own)
            _sample(model, own.inputs, stop, on_block)
        except Stopped:
            raise InterruptedRunError(
                f"the adaptation {model.name!r} was interrupted; what was done is kept",
                where=model.path,
                hint="the same call goes on from there",
            ) from None
    return model


def _params(run: Run, changes: Mapping[str, Any]) -> RunParams:
    base = run.params.replace(**_UNLESS_GIVEN)
    params = base.replace(**changes)
    wrong = [name for name, value in _ALWAYS.items() if name in changes and changes[name] != value]
    wrong += ["spike_bin_ms"] if params.spike_bin_ms != run.params.spike_bin_ms else []
    wrong += ["start_from"] if "start_from" in changes else []
    if wrong:
        raise ParamsError(
            f"{wrong[0]} cannot be chosen when a model is adapted",
            hint="to train more of the model, prepare a run with start_from",
        )
    if params.co_dim and params.feedback_factors_or_rates == "rates":
        raise ParamsError(
            f"run {run.id} feeds the rates of its own neurons back to the controller; others do not fit",
            hint="adapt a run with feedback_factors_or_rates='factors'",
        )
    return params.replace(**_ALWAYS, start_from=run.id)


def _inputs(ds: xr.Dataset, params: RunParams) -> SessionInputs:
    inputs = make_inputs(
        ds,
        name=str(ds.attrs["name"]),
        bin_ms=params.spike_bin_ms,
        train_to_test_ratio=params.train_to_test_ratio,
        split=params.split,
        seed=params.split_seed,
        fingerprint=form.fingerprint(ds),
    )
    for text in validate(
        inputs,
        output_dist=params.output_dist,
        batch_size=params.batch_size,
        ext_input_dim=params.ext_input_dim,
    ):
        warnings.warn(text, DataWarning, stacklevel=4)
    return inputs


def _begin(run: Run, name: str, inputs: SessionInputs, params: RunParams, folder: Path) -> AdaptedModel:
    """Return the adapted model that is new, or the one on disk if it is the same."""
    layout = run.layout.adapted(name)
    source = checkpoints.trained(folder)
    record = {
        "format": FORMAT,
        "run_id": run.id,
        "name": name,
        "dataset": inputs.dataset,
        "fingerprint": inputs.fingerprint,
        "started_from": {
            "checkpoints": folder.relative_to(run.path).as_posix(),
            **{key: source.info[key] for key in ("kind", "epoch", "step")},
            "fingerprint": source.fingerprint,
        },
        "params": params.to_json(),
        "version": __version__,
    }
    if not layout.record.exists():
        layout.path.mkdir(parents=True, exist_ok=True)
        write_inputs(layout.inputs, inputs)
        publish_new(layout.record, (json.dumps(record, indent=1) + "\n").encode())
    model = adapted(run, name)
    differing = _differing(model.record, record, model.params, params)
    if differing:
        raise MismatchError(
            f"there is an adapted model {name!r} already, {differing}",
            where=layout.path,
            hint="give the new one another name, or delete that folder",
        )
    return model


def _differing(old: Mapping[str, Any], new: Mapping[str, Any], before: RunParams, params: RunParams) -> str:
    """Return in words in what two adaptations differ; empty if they are one."""
    if old["dataset"] != new["dataset"] or old["fingerprint"] != new["fingerprint"]:
        return f"of other data (dataset {old['dataset']!r})"
    if old["started_from"]["fingerprint"] != new["started_from"]["fingerprint"]:
        return "from another state of the run's model"
    if before.hashed_values() != params.hashed_values():
        return f"with other params: {params.diff_text(before)}"
    return ""


def _train(model: AdaptedModel, own: OwnTraining) -> None:
    if own.is_finished():
        return
    run, params, inputs = model.run, model.params, own.inputs
    start: Starts = {}  # not needed by a training that goes on
    if not own.is_begun():
        run.check_inputs()
        old = [read_inputs(path) for path in run.input_files().values()]
        held = held_out_mask(params, inputs.dataset, len(inputs.neuron_names))
        seen = np.ones(len(inputs.neuron_names), bool) if held is None else ~held
        known = what_is_known(run.effective_params, own.source, old)
        start = regressed_start(params, known, inputs, seen) or own.best_start(
            [guessed_start(known, inputs, seen, number) for number in range(GUESSES)]
        )
    own.run(start)


def _sample(model: AdaptedModel, inputs: SessionInputs, stop: StopFlag, on_block: OnBlock) -> None:
    layout, params = model.layout, model.params
    trained = model._model()
    checkpoints.write_model_params(trained.checkpoints, layout.model_params, attributes=trained.origin)
    sampler = make_sampler(trained.checkpoints, trained.session, params)

    def told(done: int, total: int) -> None:
        on_block(done, total)
        if done < total and stop():
            raise Stopped

    write_means(
        layout.posterior_means,
        sampler,
        Trials.of(inputs),
        output_dist=params.output_dist,
        attributes={**trained.origin, "purpose": "adaptation", **about(sampler, params, inputs)},
        on_block=told,
    )


def _own_inputs(model: AdaptedModel) -> SessionInputs:
    inputs = read_inputs(model.layout.inputs)
    if inputs.fingerprint != model.record["fingerprint"]:  # of another process, with the same name at once
        raise MismatchError(
            "the inputs are not those of this adapted model",
            where=model.layout.inputs,
            hint="delete the folder of this adapted model, and adapt it again",
        )
    return inputs
