"""What a run of the Matlab run manager was fitted to: trials, bins, conditions, counts, truth.

`lfads_<dataset>.h5` has the binned counts, `inputInfo_<dataset>.mat` conditions, times and the counts before
binning. Either may be missing in a copy; what both have in common, the order of trials, is in both.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
from scipy.io.matlab import MatReadError

from lfadsrm_hpc.collection.words import listing
from lfadsrm_hpc.data.formats import matlab
from lfadsrm_hpc.data.formats.fields import bin_width
from lfadsrm_hpc.data.formats.foreign import check_file
from lfadsrm_hpc.data.formats.lfads_file import InputInfo
from lfadsrm_hpc.errors import DataError, NotFoundError, ResultsError
from lfadsrm_hpc.legacy_layout import LegacyCollectionLayout, LegacyRunLayout, resolve_link
from lfadsrm_hpc.results.arrays.split import SPLITS
from lfadsrm_hpc.results.arrays.stored import Source
from lfadsrm_hpc.results.attaching import Inputs, Part
from lfadsrm_hpc.results.posterior_means.format import VARIABLES

Array = npt.NDArray[Any]

_STORED = {"spikes": "data", "truth": "truth", "external_input": "ext_input"}
_SMALL = ("train_inds", "valid_inds", "conversion_factor", "time_ms", "bin_ms")


@dataclass(frozen=True)
class LegacyInputs:
    """What is known of the trials of a dataset.

    Attributes
    ----------
    inds : dict of str to array
        By split, which trials of the dataset the files have, from 0, in their order.
    condition : array or None
        Of each trial of the dataset.
    time_ms : array or None
        Start of each bin.
    bin_ms : float or None
    neuron_names : array or None
    inputs : Inputs or None
        What can be attached; None: the input file is gone.
    """

    inds: Mapping[str, Array]
    condition: Array | None
    time_ms: Array | None
    bin_ms: float | None
    neuron_names: Array | None
    inputs: Inputs | None

    def attachable(self, dataset: str, where: Path) -> Inputs:
        """Return what can be attached.

        Raises
        ------
        NotFoundError
            The input file is gone.
        """
        if self.inputs is None:
            raise NotFoundError(
                f"the input file of dataset {dataset!r} is not there",
                where=where,
                hint="copy the data_<HASH> folders of the collection, too",
            )
        return self.inputs


@dataclass(frozen=True)
class RunInputs:
    """Where the input files of a run are.

    Attributes
    ----------
    run : LegacyRunLayout
    root : LegacyCollectionLayout
    data_hash : str or None
        What `summary.txt` says.
    bin_ms : float or None
        What the user, or `summary.txt`, says; otherwise the times of `inputInfo` tell it.
    """

    run: LegacyRunLayout
    root: LegacyCollectionLayout
    data_hash: str | None
    bin_ms: float | None

    def data_file(self, dataset: str) -> Path:
        """Return the input file of a dataset, wherever it is; where it is not, where it should be."""
        return self._found(self.run.input_link(dataset))

    def info_file(self, dataset: str) -> Path:
        """Return the file of the run manager beside it, in the same way."""
        return self._found(self.run.info_link(dataset))

    def trials(self, dataset: str, n_bins: int) -> LegacyInputs:
        """Return what is known of the trials of a dataset whose posterior means have so many bins."""
        data, info = self.data_file(dataset), self.info_file(dataset)
        return read_legacy_inputs(
            data if data.is_file() else None,
            info if info.is_file() else None,
            n_bins=n_bins,
            bin_ms=None if self.bin_ms is None else float(self.bin_ms),
            where=self.run.input_dir,
        )

    def _found(self, link: Path) -> Path:
        """Follow a link; one that is gone is looked up by the data hash, or by the only file of its name."""
        found = resolve_link(link, self.root.path)
        if found is not None:
            return found
        spec = self.run.path.name
        if self.data_hash is not None:
            folder = self.root.data_dir(self.data_hash, spec)
            for path in (folder / link.name, folder.parent / link.name):
                if path.is_file():
                    return path
        every = list(self.root.files_of_data(link.name, spec))
        if len(every) > 1:
            raise ResultsError(
                f"there are several {link.name}, and nothing tells which of them the run was fitted to: "
                f"{listing([str(path.parent.relative_to(self.root.path)) for path in every], 3)}",
                where=link,
                hint="copy the collection again with its links (rsync -a), or make this one again",
            )
        return every[0] if every else link


def read_legacy_inputs(
    data: Path | None, info: Path | None, *, n_bins: int, bin_ms: float | None, where: Path
) -> LegacyInputs:
    """Read what the files beside a run say of its trials, without their counts.

    Parameters
    ----------
    data, info : Path or None
        `lfads_<dataset>.h5` and `inputInfo_<dataset>.mat`; None: not there.
    n_bins : int
        Of the posterior means.
    bin_ms : float or None
        Where params or the user say it.
    where : Path
        Where both should be, for messages.

    Raises
    ------
    ResultsError
        Neither is there or says which trials are which; or they are damaged, or do not belong together.
    """
    try:
        if data is None:
            return _from_info_alone(info, n_bins, bin_ms, where)
        check_file(data)
        source = Source.of(data)
        with source.opened() as file:
            return _from_file(source, file, info, bin_ms)
    except DataError as error:
        raise ResultsError(error.what, where=error.where or data, hint=error.hint) from error
    except (OSError, KeyError, ValueError, TypeError, RuntimeError) as error:
        raise ResultsError(f"the input file cannot be read ({error})", where=data) from error


def _from_file(source: Source, file: h5py.File, info: Path | None, bin_ms: float | None) -> LegacyInputs:
    fields: dict[str, Any] = {name: file[name][()] for name in _SMALL if name in file}
    fields |= {name: file.attrs[name] for name in ("bin_ms",) if name in file.attrs}
    fields |= {f"{split}_data": file[f"{split}_data"] for split in SPLITS}
    own = {split: _counted(fields[f"{split}_inds"]) for split in SPLITS if f"{split}_inds" in fields}
    bins = int(fields["train_data"].shape[1])
    if info is None:
        if len(own) < len(SPLITS):
            raise _no_order(source.path)
        about = None
        width, factor = bin_ms if bin_ms is not None else bin_width(fields), None
    else:
        with _reading(info):
            about = InputInfo(info, fields, bin_ms)
        own = own if len(own) == len(SPLITS) else {split: about.inds(split) for split in SPLITS}
        width, factor = about.bin_ms, about.truth_scale(fields)
    names = file["neuron_names"].asstr()[...] if "neuron_names" in file else None
    _check_inds(own, {split: len(fields[f"{split}_data"]) for split in SPLITS}, source.path)
    parts = _parts(file, factor, with_condition=about is not None and about.condition is not None)
    return LegacyInputs(
        inds=own,
        condition=None if about is None else about.condition,
        time_ms=None if about is None else about.times(bins),
        bin_ms=width,
        neuron_names=None if names is None else np.asarray(names, dtype=object),
        inputs=Inputs(source, "", own, parts),
    )


def _from_info_alone(info: Path | None, n_bins: int, bin_ms: float | None, where: Path) -> LegacyInputs:
    if info is None:
        raise _no_order(where)
    with _reading(info):
        with matlab.opened(info) as file:
            if not all(f"{split}Inds" in file.names for split in SPLITS):
                raise _no_order(info)
            inds = {split: _counted(file.get([f"{split}Inds"])) for split in SPLITS}
        shapes = {f"{split}_data": np.empty((len(own), n_bins, 0)) for split, own in inds.items()}
        about = InputInfo(info, shapes, bin_ms)
    return LegacyInputs(inds, about.condition, about.times(n_bins), about.bin_ms, None, None)


@contextmanager
def _reading(info: Path) -> Iterator[None]:
    """Name the file of the run manager where it is damaged; scipy has its own kinds of errors for that."""
    try:
        yield
    except (
        OSError,
        KeyError,
        ValueError,
        TypeError,
        RuntimeError,
        EOFError,
        MatReadError,
        zlib.error,
    ) as error:
        raise ResultsError(
            f"the file cannot be read ({error})", where=info, hint="copy it again if it is a copy"
        ) from error


def _no_order(where: object) -> ResultsError:
    return ResultsError(
        "nothing says which trials of the dataset were trained on and which were held for validation",
        where=where,
        hint="copy lfads_<dataset>.h5 and inputInfo_<dataset>.mat of the data_<HASH> folder, too",
    )


def _counted(stored: Any) -> Array:
    """Return indices from 0: Matlab counts from 1."""
    return np.asarray(np.rint(np.ravel(stored)).astype(np.int64) - 1)


def _check_inds(inds: Mapping[str, Array], counts: Mapping[str, int], path: str) -> None:
    for split in SPLITS:
        if len(inds[split]) != counts[split]:
            raise ResultsError(
                f"there are {len(inds[split])} {split}_inds for {counts[split]} trials", where=path
            )
    every = np.concatenate([inds[split] for split in SPLITS])
    if len(np.unique(every)) != len(every) or every.min(initial=0) < 0:
        raise ResultsError(
            "train_inds and valid_inds name a trial twice, or one before the first", where=path
        )


def _parts(file: h5py.File, truth_scale: float | None, *, with_condition: bool) -> dict[str, Part]:
    found = {}
    for name, key in _STORED.items():
        if f"train_{key}" not in file or f"valid_{key}" not in file:
            continue
        if name == "truth" and truth_scale is None:  # in units that nothing tells
            continue
        one = file[f"train_{key}"]
        counts = name != "spikes" or one.dtype.kind in "iu"
        attrs = {
            "units": VARIABLES[name].units if counts else "units of the data",
            "long_name": VARIABLES[name].long_name,
        }
        scale = truth_scale if name == "truth" and truth_scale is not None else 1.0
        found[name] = Part(f"{{}}_{key}", VARIABLES[name].dims, one.dtype, one.shape[1:], attrs, scale)
    if with_condition:  # a coordinate of all posterior means; here it is only listed
        found["condition"] = Part("{}_inds", ("trial",), np.dtype(object), (), {})
    return found
