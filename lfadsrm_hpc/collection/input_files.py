"""The LFADS input files of one run spec: made from its datasets, checked, published once, never rewritten."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lfadsrm_hpc.collection.hashing import canonical_json
from lfadsrm_hpc.collection.params import RunParams
from lfadsrm_hpc.collection.run import Run
from lfadsrm_hpc.errors import DataError, MismatchError

if TYPE_CHECKING:
    import xarray as xr

    from lfadsrm_hpc.data.dataset import Dataset
    from lfadsrm_hpc.data.inputs import SessionInputs
    from lfadsrm_hpc.data.notes import Note


_SIZES = ("trials", "bins", "neurons", "external_inputs", "bin_ms", "start_ms")


@dataclass
class Session:
    """One dataset, binned and split in one way.

    Attributes
    ----------
    inputs : SessionInputs
        Without alignment.
    written : Path or None
        A file with them that this call wrote.
    """

    inputs: SessionInputs
    written: Path | None = None
    _validated: dict[tuple[str, int, int], list[Note]] = field(default_factory=dict)

    @functools.cached_property
    def extra_fingerprint(self) -> str:
        """Of the further variables."""
        from lfadsrm_hpc.data.extra import digest

        return digest(self.inputs.extra, self.inputs.extra_attrs)

    def warnings(self, output_dist: str, ext_input_dim: int, batch_size: int) -> list[Note]:
        """Return what is odd about them; checked once for each kind of use.

        Raises
        ------
        DataError
        """
        from lfadsrm_hpc.data.inputs import validate

        use = (output_dist, ext_input_dim, batch_size)
        if use not in self._validated:
            self._validated[use] = validate(
                self.inputs, output_dist=output_dist, ext_input_dim=ext_input_dim, batch_size=batch_size
            )
        return self._validated[use]


@dataclass
class Loaded:
    """One dataset in memory, what is said of it, what its reader left out, and its sessions."""

    dataset: Dataset
    data: xr.Dataset
    info: dict[str, Any]
    notes: list[str] = field(default_factory=list)
    _sessions: dict[str, Session] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        return str(self.info["fingerprint"])

    @functools.cached_property
    def alignment_data(self) -> xr.Dataset | None:
        return self.dataset.load_alignment_data()

    def session(self, params: RunParams) -> Session:
        """Bin and split as the params say; once for all params that say the same.

        Raises
        ------
        DataError
        """
        from lfadsrm_hpc.data.inputs import make_inputs

        settings: dict[str, Any] = {
            "bin_ms": params.spike_bin_ms,
            "train_to_test_ratio": params.train_to_test_ratio,
            "split": params.split,
            "seed": params.split_seed,
        }
        key = canonical_json(settings)
        if key not in self._sessions:
            inputs = make_inputs(self.data, name=self.dataset.name, **settings)
            self._sessions[key] = Session(inputs)
        return self._sessions[key]


@dataclass(frozen=True)
class InputFile:
    """One input file; `written` is False where it was there before, and `warning` says what is odd then."""

    dataset: str
    path: Path
    fingerprint: str
    written: bool
    warning: str = ""


def load(dataset: Dataset, stored: Sequence[Mapping[str, Any]]) -> Loaded:
    """Load and fingerprint a dataset.

    Parameters
    ----------
    dataset : Dataset
    stored : sequence of dict
        What `collection.json` says of datasets.

    Raises
    ------
    DataError, NotFoundError
    MismatchError
        Runs of the collection were prepared with other contents of it.
    """
    data = dataset.load()
    info = {
        "name": dataset.name,
        "source": dataset.source(),
        "fingerprint": dataset.fingerprint(),
        "trials": data.sizes["trial"],
        "bins": data.sizes["time"],
        "neurons": data.sizes["neuron"],
        "external_inputs": data.sizes.get("input", 0),
        "bin_ms": float(data.attrs["bin_ms"]),
        "start_ms": float(data["time"][0]),
        "subject": str(data.attrs.get("subject", "")),
        "date": str(data.attrs.get("date", "")),
    }
    for old in stored:
        if old["name"] == dataset.name and old["fingerprint"] != info["fingerprint"]:
            raise _changed(dataset.name, _what_changed(info, old["fingerprint"], stored), dataset.path)
    return Loaded(dataset, data, info, _notes(dataset.name, data))


def _notes(name: str, data: xr.Dataset) -> list[str]:
    """Return what a reader left out, and which further variables cannot be kept with a run."""
    from lfadsrm_hpc.data.extra import left_out

    notes = [f"dataset {name!r}: {note}" for note in data.attrs.get("notes", [])]
    lost = left_out(data)
    if lost:
        notes.append(f"dataset {name!r}: {', '.join(lost)} cannot be kept with the runs: no numbers by trial")
    return notes


def write_or_keep(
    loaded: Sequence[Loaded], sessions: Sequence[Session], run: Run, stored: Sequence[Mapping[str, Any]]
) -> Iterator[InputFile]:
    """Write the input files of a run that are missing; check those that are there.

    Parameters
    ----------
    loaded, sessions : sequences
        One entry for each dataset of the run, in order.
    stored : sequence of dict
        What `collection.json` says of datasets, to tell what changed.

    Raises
    ------
    MismatchError
        A file was made from other contents than those at hand.
    """
    suffix = _made_with(run, loaded)
    aligned: list[SessionInputs] | None = None
    for i, (path, item) in enumerate(zip(run.input_files().values(), loaded, strict=True)):
        fingerprint = f"{item.fingerprint}+{suffix}"
        written = False
        if not path.exists():
            if aligned is None:
                aligned = _aligned(loaded, sessions, run)
            inputs = dataclasses.replace(aligned[i], fingerprint=fingerprint)
            written = _publish(path, inputs, like=sessions[i].written)
        warning = ""
        if written:
            sessions[i].written = path
        else:
            _check_kept(path, item, fingerprint, stored)
            warning = _older_extra(path, sessions[i])
        yield InputFile(item.dataset.name, path, fingerprint, written, warning)


def _older_extra(path: Path, session: Session) -> str:
    """Say so where a kept file has other further variables (behaviour, ...) than the data now."""
    from lfadsrm_hpc.data.inputs import read_extra_fingerprint

    if read_extra_fingerprint(path) == session.extra_fingerprint:
        return ""
    return (
        f"dataset {session.inputs.dataset!r}: behaviour or other further variables are not those that its "
        "inputs were written with; its runs keep the old ones (a new collection would have the new ones)"
    )


def _made_with(run: Run, loaded: Sequence[Loaded]) -> str:
    """Return 16 characters for all that an input file depends on besides its own dataset.

    With alignment that is the whole of the run spec: the matrices come from all sessions together.
    """
    aligned = run.params.aligned(run.n_datasets)
    others = [[item.dataset.name, item.fingerprint] for item in loaded] if aligned else []
    parts: list[Any] = [run.params.hashed_data_values(run.n_datasets), others]
    if run.params.split == "given":
        parts.append([item.data["given_split"].to_numpy().tolist() for item in loaded])
    text = canonical_json(parts)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _aligned(loaded: Sequence[Loaded], sessions: Sequence[Session], run: Run) -> list[SessionInputs]:
    inputs = [session.inputs for session in sessions]
    params = run.params
    if not params.aligned(run.n_datasets):
        return inputs
    from lfadsrm_hpc.data.alignment.matrices import align

    names = ("method", "conditions", "weights", "without_conditions")
    choices = {name: getattr(params, f"alignment_{name}") for name in names}
    data = [item.alignment_data for item in loaded]
    given = data if any(d is not None for d in data) else None
    try:
        found = align(inputs, params.factors_dim, data=given, **choices)
    except DataError as error:
        if error.where is None:  # it is about all of its sessions together
            error.where = f"run spec {run.name!r}"
        raise
    told = {f"alignment_{name}": value for name, value in choices.items()}
    return [
        dataclasses.replace(
            one,
            alignment_matrix_cxf=a.matrix,
            alignment_bias_c=a.bias,
            reconstruction=a.reconstruction,
            attributes={**one.attributes, "alignment": a.described(told)},
        )
        for one, a in zip(inputs, found, strict=True)
    ]


def _publish(path: Path, inputs: SessionInputs, *, like: Path | None) -> bool:
    """Write an input file, complete or not at all; return False if another process was first."""
    from lfadsrm_hpc.data.inputs import write_inputs

    beside = path.with_name(f".{path.name}.{secrets.token_hex(8)}.new")
    try:
        if like is None:
            write_inputs(beside, inputs)
        else:
            _write_like(like, beside, inputs)
        os.link(beside, path)
    except FileExistsError:
        return False
    except OSError:
        if not beside.exists():
            raise
        if path.exists():
            return False
        beside.rename(path)  # a file system without hard links
    finally:
        with contextlib.suppress(OSError):
            beside.unlink()
    return True


def _write_like(source: Path, path: Path, inputs: SessionInputs) -> None:
    """Write inputs of which another file differs in alignment and fingerprint alone.

    Compressing the counts takes nearly all the time of writing, and a sweep of stitched runs over the number
    of factors would do it again for each.
    """
    import h5py

    from lfadsrm_hpc.data.alignment import record as alignment_record

    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, path)
    with h5py.File(path, "r+", locking=False) as file:
        for key in ("alignment_matrix_cxf", "alignment_bias_c"):
            if key in file:
                del file[key]
            if getattr(inputs, key) is not None:
                file.create_dataset(key, data=getattr(inputs, key))
        alignment_record.store(file, inputs.reconstruction)
        file.attrs["attributes"] = json.dumps(inputs.attributes, sort_keys=True)
        file.attrs["fingerprint"] = inputs.fingerprint
    with path.open("rb") as written:
        os.fsync(written.fileno())


def _check_kept(path: Path, item: Loaded, fingerprint: str, stored: Sequence[Mapping[str, Any]]) -> None:
    """Refuse an input file that was made from other contents than those at hand."""
    from lfadsrm_hpc.data.inputs import read_fingerprint

    found = read_fingerprint(path)
    if found == fingerprint:
        return
    name, before = item.dataset.name, found.partition("+")[0]
    if before != item.fingerprint:
        raise _changed(name, _what_changed(item.info, before, stored), path)
    raise MismatchError(
        f"the inputs of dataset {name!r} were made with other datasets beside it, or other data params, than "
        "those at hand",
        where=path,
        hint="give the run spec another name, or use another collection",
    )


def _changed(name: str, changes: str, where: Path | None) -> MismatchError:
    return MismatchError(
        f"dataset {name!r} has changed since runs of this collection were prepared: {changes}",
        where=where,
        hint="put the old data back, give the changed dataset another name, or use another collection; "
        "inputs of prepared runs are never rewritten",
    )


def _what_changed(info: Mapping[str, Any], fingerprint: str, stored: Sequence[Mapping[str, Any]]) -> str:
    for old in stored:
        if old["name"] == info["name"] and old["fingerprint"] == fingerprint:
            changed = [f"{k} {old[k]} -> {info[k]}" for k in _SIZES if old.get(k) != info[k]]
            return (
                ", ".join(changed) or "its sizes are the same, its values (counts, conditions, ...) are not"
            )
    return "its contents are others"
