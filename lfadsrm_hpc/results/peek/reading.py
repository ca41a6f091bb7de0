"""A quick look at one run, while it trains too: its learning curve, and one trial's rates beside its spikes.

Neither TensorFlow nor xarray is needed for it. A run that is complete shows trials of its posterior means;
one that trains shows the validation trials that `model.training.glimpse` writes beside its checkpoints.
"""

from __future__ import annotations

import contextlib
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lfadsrm_hpc.collection.run import one_dataset, read_record
from lfadsrm_hpc.errors import NotFoundError, ResultsError, suggest
from lfadsrm_hpc.layout import RunLayout
from lfadsrm_hpc.manifest import store
from lfadsrm_hpc.manifest.deleted import BY, deleted_of
from lfadsrm_hpc.plain_files import parse_json
from lfadsrm_hpc.results.runs.fit_summary import read_fit_summary
from lfadsrm_hpc.results.runs.fitlog import read_rows

Array = npt.NDArray[Any]

_FORMAT = 1  # of a glimpse
_COUNT_DISTS = ("poisson", "negative_binomial")


@dataclass(frozen=True)
class Curve:
    """Costs by epoch, in nats per trial.

    Attributes
    ----------
    epoch : (E,) int array
    train, valid : (E,) float array
    lowest_valid_epoch, lowest_valid_cost : int and float, or None
        Among the epochs with both ramps complete.
    """

    epoch: Array
    train: Array
    valid: Array
    lowest_valid_epoch: int | None = None
    lowest_valid_cost: float | None = None


@dataclass(frozen=True)
class TrialLook:
    """What a run makes of one trial.

    Attributes
    ----------
    dataset : str
    trial : int
        Its number in the dataset.
    others : tuple of int
        The trials that can be shown.
    split : str
        "train" or "valid".
    epoch : int or None
        After so many epochs; None: these are the final posterior means.
    bin_ms : float
    rates : (T, D) array
        Spikes/s; of continuous data the means, in units of the data.
    data : (T, D) array or None
        Spikes per bin, or values; None: the input file is not there.
    is_counts : bool
    neurons : tuple of str
        Names.
    """

    dataset: str
    trial: int
    others: tuple[int, ...]
    split: str
    epoch: int | None
    bin_ms: float
    rates: Array
    data: Array | None
    is_counts: bool
    neurons: tuple[str, ...]

    def find_neurons(self, wanted: Sequence[str]) -> list[int]:
        """Return the indices of neurons that are named, by name or by index from 0.

        Raises
        ------
        NotFoundError
            There is no such neuron.
        """
        return [self._find(one) for one in wanted]

    def _find(self, wanted: str) -> int:
        if wanted in self.neurons:
            return self.neurons.index(wanted)
        if wanted.isascii() and wanted.isdigit() and int(wanted) < len(self.neurons):
            return int(wanted)
        raise NotFoundError(
            f"dataset {self.dataset!r} has no neuron {wanted!r}",
            hint=suggest(wanted, self.neurons)
            or f"there are {len(self.neurons)}: {self.neurons[0]} to {self.neurons[-1]}",
        )

    def liveliest(self, count: int) -> list[int]:
        """Return the neurons whose rates change most, beside the noise of their spikes, in order."""
        means = self.rates.mean(0)
        spread = self.rates.std(0) / (np.sqrt(np.maximum(means, 1e-9)) if self.is_counts else 1.0)
        return sorted(np.argsort(-spread, kind="stable")[:count].tolist())


@dataclass(frozen=True)
class Peek:
    """What can be seen of a run now.

    Attributes
    ----------
    run_id : str
    max_epochs : int or None
    curve : Curve or None
        None: it has not finished its first epoch.
    trial : TrialLook or None
    absent : str
        Why there is no trial.
    """

    run_id: str
    max_epochs: int | None
    curve: Curve | None
    trial: TrialLook | None
    absent: str = ""


def peek(run: RunLayout, *, dataset: str | None = None, trial: int | None = None) -> Peek:
    """Look at a run, whatever it is at.

    Parameters
    ----------
    run : RunLayout
    dataset : str, optional
        Of a stitched run; the first that can be shown unless given.
    trial : int, optional
        Its number in the dataset; the first validation trial that can be shown unless given.

    Raises
    ------
    NotFoundError
        There is no such dataset or trial, or the run is not prepared.
    ResultsError
        A file is damaged.
    """
    record = read_record(run.params_json)
    values, names = record["params"]["values"], list(record["spec"]["datasets"])
    if dataset is not None:
        names = [one_dataset(run.run_id, names, dataset)]
    look, absent = None, ""
    for name in names:
        look = _of_posterior_means(run, record, name, trial) or _of_glimpse(run, values, name, trial)
        if look is not None:
            break
    else:
        absent = (
            "no rates yet: a training shows some validation trials from its first checkpoint on, "
            "which comes within half a minute"
        )
        deleted = deleted_of(run, names)
        if deleted is not None and deleted.means:
            absent = f"no rates: the posterior means were {BY}; {deleted.remedy}"
        elif trial is not None and run.fit_log() is None:
            absent = "no rates yet: the run has not trained"
    return Peek(run.run_id, values.get("max_epochs"), read_curve(run), look, absent)


def read_curve(run: RunLayout) -> Curve | None:
    """Return the learning curve of a run, also while it is being written; None: no epoch is done.

    Raises
    ------
    ResultsError
        The fit log is damaged.
    """
    path = run.fit_log()
    if path is None:
        return None
    names, rows = read_rows(path)
    if not rows:
        return None
    epoch, train, valid = (
        np.array([row[names.index(column)] for row in rows])
        for column in ("epoch", "train_total", "valid_total")
    )
    summary = read_fit_summary(path)
    lowest = (None, None) if summary is None else (summary.lowest_valid_epoch, summary.lowest_valid_cost)
    return Curve(epoch.astype(np.int64), train, valid, *lowest)


# -- while it trains -------------------------------------------------------------------------------------


def _of_glimpse(run: RunLayout, values: dict[str, Any], dataset: str, trial: int | None) -> TrialLook | None:
    path = run.glimpse(dataset)
    if path is None:
        return None
    from lfadsrm_hpc.data.formats.foreign import check_file

    try:
        check_file(path)
        with np.load(path, allow_pickle=False) as file:
            meta = parse_json(str(file["meta"]))
            if meta["format"] != _FORMAT:
                raise ResultsError("a look at the training of another version", where=path)
            rates, data, trials = file["rates"], file["data"], file["trial"].tolist()
    except FileNotFoundError:  # the outputs were deleted meanwhile
        return None
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise ResultsError(f"the file is damaged: {error}", where=path) from error
    row = _row(run, trials, trial, complete=False)
    is_counts = values["output_dist"] in _COUNT_DISTS
    scale = 1000.0 / values["spike_bin_ms"] if is_counts else 1.0
    return TrialLook(
        dataset,
        trials[row],
        tuple(trials),
        "valid",
        meta["epoch"],
        values["spike_bin_ms"],
        rates[row] * scale,
        data[row],
        is_counts,
        tuple(str(number) for number in range(rates.shape[2])),
    )


def _row(run: RunLayout, trials: Sequence[int], trial: int | None, *, complete: bool) -> int:
    if trial is None:
        return 0
    if trial in trials:
        return trials.index(trial)
    some = ", ".join(map(str, trials[:20])) + (", ..." if len(trials) > 20 else "")
    which = "there are" if complete else "while it trains there are"
    raise NotFoundError(f"run {run.run_id} has no trial {trial} to show", hint=f"{which}: {some}")


# -- when it is complete ---------------------------------------------------------------------------------


def _of_posterior_means(
    run: RunLayout, record: dict[str, Any], dataset: str, trial: int | None
) -> TrialLook | None:
    """Return a trial of the posterior means that the run's exit record vouches for; None: there are none."""
    path = run.posterior_means(dataset)
    winner = store.winning_exit(run) if path.is_file() else None
    if winner is None:
        return None
    import h5py

    from lfadsrm_hpc.data.formats.foreign import check_file
    from lfadsrm_hpc.results.arrays.stored import stored_here

    try:
        check_file(path)
        with h5py.File(path, "r") as file:
            if str(_plain(file.attrs.get("claim_token"))) != winner[1]:
                return None
            name = "rates" if "rates" in file else "output_mean"
            trials = stored_here(file, "trial")[...].tolist()
            split = [str(_plain(one)) for one in stored_here(file, "split")[...]]
            first = split.index("valid") if "valid" in split and trial is None else 0
            row = first if trial is None else _row(run, trials, trial, complete=True)
            rates = stored_here(file, name)[row]
            names = tuple(str(_plain(one)) for one in stored_here(file, "neuron_name")[...])
    except (OSError, KeyError, ValueError, RuntimeError) as error:
        raise ResultsError(f"the posterior means cannot be read: {error}", where=path) from error
    values = record["params"]["values"]
    return TrialLook(
        dataset,
        trials[row],
        tuple(trials),
        split[row],
        None,
        values["spike_bin_ms"],
        rates,
        _inputs_of(run, record, dataset, trials[row]),
        name == "rates",
        names,
    )


def _inputs_of(run: RunLayout, record: dict[str, Any], dataset: str, trial: int) -> Array | None:
    """Return the data of one trial from the run's input file; None: it is not there, or another one."""
    import h5py

    from lfadsrm_hpc.data.formats.foreign import check_file
    from lfadsrm_hpc.results.arrays.stored import stored_here

    entry = next(entry for entry in record["inputs"] if entry["dataset"] == dataset)
    path: Path = run.collection.path / entry["file"]
    with contextlib.suppress(OSError, KeyError, RuntimeError):
        check_file(path)
        with h5py.File(path, "r") as file:
            if _plain(file.attrs.get("fingerprint")) != entry["inputs_fingerprint"]:
                return None
            for part in ("train", "valid"):
                inds = stored_here(file, f"{part}_inds")
                (found,) = np.nonzero(
                    np.rint(inds[...]).astype(np.int64) - int(inds.attrs["index_base"]) == trial
                )
                if len(found):
                    data: Array = stored_here(file, f"{part}_data")[found[0]]
                    return data
    return None


def _plain(value: Any) -> Any:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
