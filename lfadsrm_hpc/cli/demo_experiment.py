"""What `lfadsrm demo` fits: recording sessions with known rates, alone and stitched."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lfadsrm_hpc.cli.common import say
from lfadsrm_hpc.errors import UsageError

if TYPE_CHECKING:
    from lfadsrm_hpc.api import RunCollection
    from lfadsrm_hpc.data.inputs import SessionInputs

COLLECTION = "demo"
STITCHED = "stitched_all"


def build(
    folder: Path, factors: Sequence[int], sessions: int, trials: int, epochs: int, seed: int
) -> RunCollection:
    """Make the sessions, where they are not there, and the run collection of the demo."""
    from lfadsrm_hpc.api import RunCollection
    from lfadsrm_hpc.collection.params import RunParams
    from lfadsrm_hpc.collection.run_spec import RunSpec
    from lfadsrm_hpc.data.dataset import Dataset
    from lfadsrm_hpc.data.dataset_collection import DatasetCollection

    datasets = DatasetCollection(folder / "datasets")
    for name in _make_sessions(folder / "datasets", sessions, trials, seed):
        Dataset(datasets, name)
    collection = RunCollection(folder, COLLECTION, datasets, comment="Lorenz sessions with known rates")
    params = RunParams(
        spike_bin_ms=20,
        co_dim=0,
        batch_size=64,
        gen_dim=64,
        ic_enc_dim=64,
        ic_dim=64,
        keep_prob=0.95,
        learning_rate_init=0.015,
        learning_rate_decay_factor=0.9,
        learning_rate_n_to_compare=3,
        learning_rate_stop=1e-4,
        kl_increase_steps=300,
        l2_increase_steps=300,
        l2_gen_scale=10,
        adam_epsilon=1e-8,
        max_epochs=epochs,
        num_samples_posterior=64,
        scale_increase_steps_with_datasets=False,
        seed=seed,
    )
    collection.add_params(params.generate_sweep("factors_dim", factors))
    for dataset in datasets:
        collection.add_run_spec(RunSpec(dataset.single_run_name, datasets, [dataset.name]))
    if len(datasets) > 1:
        collection.add_run_spec(RunSpec(STITCHED, datasets, [dataset.name for dataset in datasets]))
    return collection


def _make_sessions(folder: Path, sessions: int, trials: int, seed: int) -> list[str]:
    """Write the recording sessions that are not there yet; return the names of their files."""
    from lfadsrm_hpc.data.readers import save_dataset
    from lfadsrm_hpc.data.synthetic import lorenz_sessions

    names = [f"dataset{number:03d}.h5" for number in range(1, sessions + 1)]
    if not all((folder / name).is_file() for name in names):
        say(f"Making {sessions} recording sessions in {folder} ...")
        made = lorenz_sessions(
            sessions,
            n_conditions=24,
            trials_per_condition=trials,
            bin_ms=10,
            mean_rate=9.0,
            modulation=1.0,
            speed=2.0,
            seed=seed,
        )
        folder.mkdir(parents=True, exist_ok=True)
        for name, session in zip(names, made, strict=True):
            if not (folder / name).is_file():
                save_dataset(session, folder / name)
    return names


def read_inputs(collection: RunCollection) -> dict[str, SessionInputs]:
    """Return the binned and split data of each session, by name.

    Raises
    ------
    UsageError
        The true rates of a session are not known.
    """
    from lfadsrm_hpc.data import inputs

    found: dict[str, SessionInputs] = {}
    for run in collection.runs:
        for name, path in run.input_files().items():
            if name not in found:
                found[name] = inputs.read_inputs(path)
    for name, session in found.items():
        if session.valid_truth is None:
            raise UsageError(
                f"session {name} has no true rates: it was not made by the demo",
                hint="choose another folder with --dir",
            )
    return found
