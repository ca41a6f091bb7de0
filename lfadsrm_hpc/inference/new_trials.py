"""Posterior means of trials that a run was not prepared with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from lfadsrm_hpc.collection.params import RunParams
from lfadsrm_hpc.collection.run import Run
from lfadsrm_hpc.data.inputs import SessionInputs, read_head
from lfadsrm_hpc.errors import NotFoundError, ResultsError, UsageError, suggest
from lfadsrm_hpc.inference.taking import Data, inputs_for, take
from lfadsrm_hpc.layout import AdaptedLayout, RunLayout
from lfadsrm_hpc.manifest.deleted import BY, TRAIN_AGAIN, deleted_of
from lfadsrm_hpc.model.backend import tf
from lfadsrm_hpc.model.sampling.posterior import Sampler
from lfadsrm_hpc.model.training import checkpoints
from lfadsrm_hpc.results.posterior_means.loaders import open_posterior_means
from lfadsrm_hpc.results.posterior_means.sampled import Trials, write_means

if TYPE_CHECKING:
    import xarray as xr

PURPOSE = "inference"
OnBlock = Callable[[int, int], None]


@dataclass(frozen=True)
class Model:
    """One session of a trained model, and what its data are like.

    Attributes
    ----------
    params : RunParams
        Those that it was trained with, ramps scaled.
    checkpoints : Path
        Folder of the finished training.
    session : str
        Whose read-in and read-out are used.
    neuron_names : (D,) str
    bins : int
    origin : dict
        Attributes of the files that it makes: run_id and more.
    layout : RunLayout or AdaptedLayout
        Where it puts them.
    """

    params: RunParams
    checkpoints: Path
    session: str
    neuron_names: npt.NDArray[Any]
    bins: int
    origin: dict[str, Any]
    layout: RunLayout | AdaptedLayout


def finished_checkpoints(run: Run) -> Path:
    """Return the checkpoints of the run's training, which must have come to its end.

    Raises
    ------
    ResultsError
        It has not, or its last checkpoint was deleted.
    """
    folder = checkpoints.finished(path for _, _, path in run.layout.checkpoint_dirs())
    if folder is None and deleted_of(run.layout, ()) is not None:
        raise ResultsError(
            f"the last checkpoint of run {run.id}, which is complete, was {BY}",
            where=run.path,
            hint=TRAIN_AGAIN,
        )
    if folder is None:
        raise ResultsError(
            f"run {run.id} is not trained to its end", where=run.path, hint="train it: `lfadsrm run`"
        )
    return folder


def model_of(run: Run, session: str) -> Model:
    """Return a trained run as a model of one of its sessions.

    Raises
    ------
    ResultsError
        The run is not trained to its end.
    MismatchError, NotFoundError
        Its input files are not those that it was prepared with, or not there.
    """
    folder = finished_checkpoints(run)
    run.check_inputs()
    names, bins = read_head(run.input_files()[session])
    return Model(
        params=run.effective_params,
        checkpoints=folder,
        session=session,
        neuron_names=names,
        bins=bins,
        origin={"run_id": run.id, "collection": run.collection.name, "params": run.params.to_json()},
        layout=run.layout,
    )


def session_for(run: Run, session: str | None, dataset: str) -> str:
    """Return the session of a run that new trials of a dataset belong to.

    Raises
    ------
    NotFoundError
        The run has no such session, or several, none of which has the name of the dataset.
    """
    names = run.dataset_names
    if session is not None:
        if session not in names:
            raise NotFoundError(
                f"run {run.id} has no session {session!r}, it has {', '.join(names)}",
                hint=suggest(session, names),
            )
        return session
    if len(names) == 1:
        return names[0]
    if dataset in names:
        return dataset
    raise NotFoundError(
        f"run {run.id} has {len(names)} sessions, and none is called {dataset!r}: {', '.join(names)}",
        hint=f"say whose neurons these are: --dataset {names[0]} (in Python session={names[0]!r}); for a "
        "session that the run was not trained on: --adapt (in Python run.adapt(...))",
    )


def infer_with_run(
    run: Run, dataset: Data, *, session: str | None, name: str | None, bin_ms: float | None, **more: Any
) -> xr.Dataset:
    """Do what `Run.infer` says; `more` are the other arguments of `infer`."""
    ext_input = more.pop("ext_input")
    ds = take(dataset, name=name, bin_ms=bin_ms, ext_input=ext_input, model_bin_ms=run.params.spike_bin_ms)
    model = model_of(run, session_for(run, session, str(ds.attrs["name"])))
    return infer(model, ds, **more)


def infer(
    model: Model,
    ds: xr.Dataset,
    *,
    kind: str | None = None,
    num_samples: int | None = None,
    seed: int | None = None,
    path: Path | str | None = None,
    overwrite: bool = False,
    on_block: OnBlock = lambda done, total: None,
) -> xr.Dataset:
    """Sample the trials of a dataset, write their posterior means, and open them lazily."""
    inputs = inputs_for(
        ds,
        bin_ms=model.params.spike_bin_ms,
        bins=model.bins,
        neuron_names=model.neuron_names,
        ext_input_dim=model.params.ext_input_dim,
        output_dist=model.params.output_dist,
    )
    target = model.layout.inferred(inputs.dataset) if path is None else Path(path).absolute()
    _check_place(target, model, inputs.dataset, overwrite)
    params = model.params.replace(
        **{
            name: value
            for name, value in {"posterior_mean_kind": kind, "num_samples_posterior": num_samples}.items()
            if value is not None
        }
    )
    sampler = make_sampler(model.checkpoints, model.session, params, seed=seed)
    write_means(
        target,
        sampler,
        Trials.of(inputs, new=True),
        output_dist=params.output_dist,
        attributes={
            **model.origin,
            "purpose": PURPOSE,
            "session": model.session,
            **about(sampler, params, inputs),
        },
        on_block=on_block,
    )
    return open_posterior_means(target)


def make_sampler(folder: Path, session: str, params: RunParams, *, seed: int | None = None) -> Sampler:
    """Return a sampler as the params say."""
    return Sampler(
        params,
        folder,
        session,
        kind=params.posterior_mean_kind,
        num_samples=params.num_samples_posterior,
        with_std=params.posterior_std,
        seed=seed,
        memory_mb=params.posterior_memory_mb,
    )


def about(sampler: Sampler, params: RunParams, inputs: SessionInputs) -> dict[str, Any]:
    """Return what a file of posterior means says of how it was sampled."""
    return {
        "checkpoint": sampler.checkpoint,
        "checkpoint_note": sampler.note,
        "posterior_mean_kind": params.posterior_mean_kind,
        "num_samples": params.num_samples_posterior,
        "seed": sampler.seed,
        "fingerprint": inputs.fingerprint,
        "held_out_neurons": sampler.held_out,
        "versions": {"tensorflow": tf.__version__},
    }


def _check_place(path: Path, model: Model, dataset: str, overwrite: bool) -> None:
    """Refuse to write where something else is, or over an older inference unless that is wanted."""
    layout = model.layout
    run = layout.path if isinstance(layout, RunLayout) else layout.path.parent.parent
    folders = path.resolve().parents
    if run.resolve() in folders and folders[0] != layout.inferred_dir.resolve():
        raise UsageError(
            "the results of a run are not written over, nor mixed with others",
            where=path,
            hint="leave the path out, or name a place outside the folder of the run",
        )
    if not path.exists():
        return
    if not _is_ours(path, model):
        raise UsageError(
            "there is another file, which is no inference by this run",
            where=path,
            hint="name another file",
        )
    if not overwrite:
        raise UsageError(
            f"there are posterior means of {dataset!r} by this run already",
            where=path,
            hint="--overwrite (in Python overwrite=True) makes them anew; --name (in Python name=) gives "
            "others a file of their own",
        )


def _is_ours(path: Path, model: Model) -> bool:
    try:
        with open_posterior_means(path) as there:
            found = there.attrs
    except ResultsError:
        return False
    keys = ("run_id", "adapted")
    same = all(found.get(key) == model.origin.get(key) for key in keys)
    return same and found.get("purpose") == PURPOSE
