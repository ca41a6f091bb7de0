"""Collections whose runs look complete: prepared in truth, with results made of random numbers.

Inputs, params, manifest and all files are written by the package itself; only the numbers in them are made
up. `values(run, dataset, name)` tells what the file of a run holds.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock
from zlib import crc32

import h5py
import numpy as np
import numpy.typing as npt

from lfadsrm_hpc.api import Run, RunCollection
from lfadsrm_hpc.collection.params import RunParams
from lfadsrm_hpc.collection.run_spec import RunSpec
from lfadsrm_hpc.data.dataset import Dataset
from lfadsrm_hpc.data.dataset_collection import DatasetCollection
from lfadsrm_hpc.data.inputs import read_inputs
from lfadsrm_hpc.layout import fitlog
from lfadsrm_hpc.manifest import store
from lfadsrm_hpc.manifest.records import Exit, Identity
from lfadsrm_hpc.results.posterior_means.format import VARIABLES, names_of, rounded
from lfadsrm_hpc.results.posterior_means.sampled import Trials
from lfadsrm_hpc.results.posterior_means.writing import PosteriorMeansWriter
from lfadsrm_hpc.results.runs.fitlog import COLUMNS

TRIALS, BINS = 20, 10
BASE: dict[str, Any] = {
    "spike_bin_ms": 4, "co_dim": 0, "batch_size": 4, "gen_dim": 8, "ic_dim": 3, "ic_enc_dim": 8,
    "learning_rate_stop": 1e-3, "num_samples_posterior": 16, "ext_input_dim": 2,
}  # fmt: skip


@contextmanager
def quickly() -> Iterator[None]:
    """Flush nothing to disk meanwhile."""
    with mock.patch.object(os, "fsync", return_value=None):
        yield


def sessions(folder: Path, neurons: Sequence[int] = (5, 6), trials: int = TRIALS) -> DatasetCollection:
    """Write sessions with conditions (one trial has none), truth, an external input; day1, day2, ..."""
    folder.mkdir(parents=True, exist_ok=True)
    found = DatasetCollection(folder)
    for number, count in enumerate(neurons, start=1):
        rng = np.random.default_rng(number)
        condition = np.array([f"reach {k % 4}" for k in range(trials)], dtype=object)
        condition[3] = ""
        np.savez(
            folder / f"day{number}.npz",
            spikes=rng.poisson(0.5, (trials, 2 * BINS, count)),
            truth=rng.random((trials, 2 * BINS, count)) * 100,
            external_input=rng.random((trials, 2 * BINS, 2)),
            condition=condition.astype(str),
            bin_ms=2.0,
        )
        Dataset(found, f"day{number}.npz")
    return found


def collection(
    folder: Path,
    params: Sequence[RunParams] | None = None,
    *,
    specs: Mapping[str, Sequence[str]] | None = None,
    **session: Any,
) -> RunCollection:
    """Prepare a collection; nothing is run."""
    found = sessions(folder / "datasets", **session)
    rc = RunCollection(folder / "runs", "made_up", found)
    rc.add_params([RunParams(**BASE)] if params is None else params)
    for name, members in (specs or {"single_day1": ["day1"]}).items():
        rc.add_run_spec(RunSpec(name, found, list(members)))
    with quickly():
        rc.prepare_for_lfads(warn=False)
    return rc


def values(run: Run, dataset: str, name: str) -> npt.NDArray[np.float32]:
    """Return what the posterior means of a run hold, as `load_posterior_means` gives it."""
    made = _arrays(run, dataset)[name]
    scale = 1000 / run.params.spike_bin_ms if name in ("rates", "rates_std") else 1
    found = (made * np.float64(scale)).astype(np.float32)
    return rounded(found) if name.endswith("_std") else found


def _sizes(run: Run) -> dict[str, int]:
    p = run.params
    return {
        "factor": p.factors_dim, "generator_unit": p.gen_dim, "controller_output": p.co_dim, "ic": p.ic_dim,
    }  # fmt: skip


def _arrays(run: Run, dataset: str) -> dict[str, Any]:
    with h5py.File(run.input_files()[dataset], locking=False) as file:
        trials = len(file["train_inds"]) + len(file["valid_inds"])
        bins, neurons = file["train_data"].shape[1:]
    size = {"trial": trials, "time": bins, "neuron": neurons, **_sizes(run)}
    rng = np.random.default_rng(crc32(f"{run.id}/{dataset}".encode()))
    names = names_of(run.params.output_dist, size, (), with_std=run.params.posterior_std)
    return {n: rng.random([size[d] for d in VARIABLES[n].dims]).astype(np.float32) for n in names}


def complete(
    run: Run,
    *,
    valid_costs: Sequence[float] = (5.0, 4.0, 3.0, 3.5),
    metrics: Mapping[str, float] | None = None,
    verdict: str | None = None,
    reasons: Sequence[str] = (),
    code: int = 0,
    reason: str = "failed",
    means: bool = True,
    device: str = "cpu, 1 threads",
) -> str:
    """Let a run be done, and end with a code, which unless 0 has a reason; return the token of its claim."""
    with quickly():
        claim = store.take_local(run.layout, Identity.local("", 0))
        assert not isinstance(claim, store.AlreadyComplete)
        store.heartbeat(run.layout, claim, epoch=len(valid_costs), device=device)
        write_fit_log(run, claim.attempt, valid_costs)
        if code == 0:
            for dataset in run.dataset_names if means else ():
                write_means(run, dataset, claim.token)
            best = min(range(1, len(valid_costs)), key=lambda epoch: valid_costs[epoch]) + 1
            write_model_params(run, claim.token, best, device)
            if metrics is not None or verdict is not None:
                write_metrics(run, claim.token, metrics or {}, verdict, reasons)
        end = Exit(code, reason if code else "done", peak_memory_mb=123.0, message="")
        store.publish_exit(run.layout, claim, end)
    return claim.token


def write_fit_log(run: Run, attempt: int, valid_costs: Sequence[float]) -> Path:
    """Write a log of epochs; both ramps are full from the second one on."""
    folder = run.layout.checkpoint_dir(attempt, 0)
    folder.mkdir(parents=True, exist_ok=True)
    lines = [",".join(COLUMNS)]
    for epoch, cost in enumerate(valid_costs, start=1):
        ramp = min(1.0, epoch / 2)
        row = [epoch, 4 * epoch, cost - 0.5, cost, cost - 1, cost - 0.5, 0.4, 0.4, 0.1, ramp, ramp, 0.01]
        lines.append(",".join(map(repr, [*row, float("nan"), float("nan")])))
    fitlog(folder).write_text("\n".join(lines) + "\n")
    return fitlog(folder)


def write_means(run: Run, dataset: str, token: str, **changes: Any) -> Path:
    """Write the posterior means of one dataset."""
    inputs = read_inputs(run.input_files()[dataset])
    trials = Trials.of(inputs)
    given: dict[str, Any] = {
        "dataset": dataset,
        "time_ms": trials.time_ms,
        "bin_ms": trials.bin_ms,
        "trial": trials.index,
        "split": trials.split,
        "condition": trials.condition,
        "neuron_names": trials.neuron_names,
        "sizes": _sizes(run),
        "output_dist": run.params.output_dist,
        "with_std": run.params.posterior_std,
        "attributes": {"run_id": run.id, "claim_token": token, "fingerprint": inputs.fingerprint},
    }
    path = run.layout.posterior_means(dataset)
    with PosteriorMeansWriter(path, **{**given, **changes}) as writer:
        writer.write_block(0, _arrays(run, dataset))
    return path


def write_model_params(run: Run, token: str, epoch: int, device: str) -> None:
    """Write a file with as much of the parameters of a model as the loaders need."""
    p = run.params
    rng = np.random.default_rng(1)
    arrays = {
        "factors/W": rng.normal(size=(p.gen_dim, p.factors_dim)),
        "gen/W_ru": rng.normal(size=(p.gen_dim, 2 * p.gen_dim)),
        "gen/W_c": rng.normal(size=(p.gen_dim, p.gen_dim)),
        "gen/b": rng.normal(size=3 * p.gen_dim),
    }
    for name, path in run.input_files().items():
        with h5py.File(path, locking=False) as file:
            neurons = file["train_data"].shape[2]
        arrays[f"readout/{name}/W"] = rng.normal(size=(p.factors_dim, neurons))
        arrays[f"readout/{name}/b"] = rng.normal(size=neurons)
        if run.n_datasets > 1:
            arrays[f"readin/{name}/W"] = rng.normal(size=(neurons, p.factors_dim))
            arrays[f"readin/{name}/b"] = rng.normal(size=p.factors_dim)
    with h5py.File(run.layout.model_params, "w") as file:
        for name, value in arrays.items():
            file[name] = value
        versions = {"lfadsrm_hpc": "0.1.0", "python": "3.11.7", "tensorflow": "2.21.0", "numpy": "2.4.6"}
        about = {"kind": "lve", "epoch": epoch, "step": 4 * epoch, "run_id": run.id}
        file.attrs.update(about, claim_token=token, versions=json.dumps(versions), device=device, threads=1)


def write_metrics(
    run: Run,
    token: str,
    metrics: Mapping[str, float],
    verdict: str | None = None,
    reasons: Sequence[str] = (),
) -> None:
    """Write `metrics.json`."""
    quality: dict[str, Any] = {"verdict": verdict} if verdict else {}
    quality["reasons"] = [{"check": "made up", "verdict": verdict, "text": text} for text in reasons]
    content = {
        "schema_version": 1, "claim_token": token, "versions": {}, "metrics": dict(metrics),
        "train_metrics": {}, "datasets": {}, "quality": quality,
    }  # fmt: skip
    run.layout.metrics_json.write_text(json.dumps(content))
