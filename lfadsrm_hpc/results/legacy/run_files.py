"""The files of one run as the original LFADS and the Matlab run manager write them.

Trials are copied in blocks; of the counts in `inputInfo` a whole dataset is in memory at a time, since files
of Matlab are written at once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import numpy.typing as npt

from lfadsrm_hpc.data.formats.foreign import check_file
from lfadsrm_hpc.data.hdf5_arrays import optional
from lfadsrm_hpc.errors import ResultsError
from lfadsrm_hpc.results.arrays.split import SPLITS
from lfadsrm_hpc.results.legacy.matlab_params import OUR_NAMES
from lfadsrm_hpc.results.legacy.means import NAMES, OUTPUTS, STEPS
from lfadsrm_hpc.results.posterior_means.format import STD

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from lfadsrm_hpc.collection.params import RunParams

Array = npt.NDArray[Any]

_BLOCK_BYTES = 16 << 20
_MOST_IN_MATLAB = 2**31 - 2**20  # bytes of a variable in a file of version 5
_ALL_EXAMPLES = 2**63 - 1


# ---------------------------------------------------------------- inputs


def write_inputs(source: Path, target: Path) -> None:
    """Write `lfads_<dataset>.h5` from the input file of a run.

    True rates are in spikes/s, of bins as they are: the conversion factor is 1.
    """
    check_file(source)
    with h5py.File(source, "r", locking=False) as file, h5py.File(target, "w") as out:
        counts = file["train_data"].dtype.kind in "iu"
        for split in SPLITS:
            for key, kind in (("data", "i8" if counts else "f8"), ("truth", "f8"), ("ext_input", "f8")):
                if f"{split}_{key}" in file:
                    _copy(file[f"{split}_{key}"], out, f"{split}_{key}", kind)
            out[f"{split}_inds"] = inds_of(file, split).astype("f8") + 1
        for name in ("alignment_matrix_cxf", "alignment_bias_c"):
            if name in file:
                out[name] = file[name][()].astype("f8")
        out["conversion_factor"] = np.array([1.0])


def write_info(source: Path, target: Path, data_hash: str) -> list[str]:
    """Write `inputInfo_<dataset>.mat` from the input file of a run; return what it does not hold."""
    from scipy.io import savemat

    check_file(source)
    with h5py.File(source, "r", locking=False) as file:
        inds = {split: inds_of(file, split) for split in SPLITS}
        count = int(max(own.max(initial=-1) for own in inds.values())) + 1
        content: dict[str, Any] = {f"{split}Inds": own[None].astype("f8") + 1 for split, own in inds.items()}
        content |= {
            "paramInputDataHash": data_hash,
            "seq_timeVector": file["time_ms"][()].astype("f8")[:, None],
            "seq_binSizeMs": float(file.attrs["bin_ms"]),
            "conditionId": _conditions(file, inds, count),
        }
        shape = (*file["train_data"].shape[1:], count)
        kind = np.dtype("u2") if file["train_data"].dtype.kind in "iu" else np.dtype("f8")
        too_large = int(np.prod(shape)) * kind.itemsize > _MOST_IN_MATLAB
        if not too_large:
            counts = np.zeros((count, *file["train_data"].shape[1:]), kind)
            for split in SPLITS:
                stored = file[f"{split}_data"]
                for rows in _slices(stored.shape):
                    counts[inds[split][rows]] = stored[rows]
            content["counts"] = counts.transpose(2, 1, 0)
    savemat(target, content, do_compression=True)
    return (
        [f"counts in {target.name}: more than 2 GB; they are in the .h5 file beside it"] if too_large else []
    )


def inds_of(file: h5py.File, split: str) -> Array:
    """Return which trials of the dataset a split of an input file has, from 0, in its order."""
    stored = file[f"{split}_inds"]
    return np.asarray(np.rint(stored[()]).astype(np.int64) - int(stored.attrs["index_base"]))


def _conditions(file: h5py.File, inds: Mapping[str, Array], count: int) -> Array:
    found = {split: optional(file, f"{split}_condition") for split in SPLITS}
    if any(own is None for own in found.values()):
        return np.zeros((0, 0))
    numbers = all(own is not None and own.dtype.kind in "iuf" for own in found.values())
    out: Array = np.full(count, np.nan) if numbers else np.array([""] * count, dtype=object)
    for split in SPLITS:
        out[inds[split]] = found[split]
    return out[:, None]


def _copy(stored: h5py.Dataset, out: h5py.File, name: str, kind: str) -> None:
    made = _created(out, name, stored.shape, kind)
    for rows in _slices(stored.shape):
        made[rows] = stored[rows]


def _slices(shape: tuple[int, ...]) -> list[slice]:
    """Cut the first axis into blocks of bounded size."""
    step = max(1, _BLOCK_BYTES // max(1, 8 * int(np.prod(shape[1:]))))
    return [slice(start, min(start + step, shape[0])) for start in range(0, shape[0], step)]


def _created(out: h5py.File, name: str, shape: tuple[int, ...], kind: str = "f8") -> h5py.Dataset:
    if not np.prod(shape):
        return out.create_dataset(name, shape, kind)
    per_trial = 8 * int(np.prod(shape[1:]))
    chunks = (min(shape[0], max(1, 2**20 // per_trial)), *shape[1:])
    return out.create_dataset(
        name, shape, kind, chunks=chunks, compression="gzip", compression_opts=1, shuffle=True
    )


# ---------------------------------------------------------------- posterior means


def write_means(
    means: xr.Dataset, inds: Mapping[str, Array], targets: Mapping[str, Path], step: int
) -> list[str]:
    """Write the files of posterior means of one dataset; return what they do not hold.

    Parameters
    ----------
    means : xr.Dataset
        As `load_posterior_means` gives them.
    inds : mapping
        By split, the trials in the order of the input file.
    targets : mapping
        By split, the file.
    step : int
        Of the training.
    """
    places = {int(trial): row for row, trial in enumerate(means["trial"].to_numpy())}
    for split in SPLITS:
        try:
            rows = np.array([places[int(trial)] for trial in inds[split]], dtype=np.int64)
        except KeyError as error:
            raise ResultsError(
                f"trial {error} of the inputs has no posterior means", where=means.encoding.get("source")
            ) from None
        with h5py.File(targets[split], "w") as out:
            for stored, name in NAMES.items():
                if name in means:
                    _write_rows(means[name].variable, rows, out, stored)
            _write_outputs(means, rows, out)
            out[STEPS] = np.full(len(rows), float(step))
    others = [str(name) for name in means.data_vars if name not in {*NAMES.values(), *_OUTPUTS}]
    std = [name for name in others if name.endswith(STD)]
    notes = [f"posterior standard deviations ({', '.join(std)})"] if std else []
    rest = [name for name in others if name not in std]
    return notes + ([f"variables of the posterior means: {', '.join(rest)}"] if rest else [])


_OUTPUTS = ("rates", "output_mean", "output_var")


def _write_outputs(means: xr.Dataset, rows: Array, out: h5py.File) -> None:
    if "rates" in means:
        scale = float(means.attrs["bin_ms"]) / 1000
        _write_rows(means["rates"].variable, rows, out, OUTPUTS, scale)
        return
    mean, variance = means["output_mean"].variable, means["output_var"].variable
    width = mean.shape[2]
    made = _created(out, OUTPUTS, (len(rows), mean.shape[1], 2 * width))
    for part in _slices((len(rows), *mean.shape[1:])):
        made[part, :, :width] = mean[rows[part]].to_numpy()
        made[part, :, width:] = variance[rows[part]].to_numpy()


def _write_rows(variable: xr.Variable, rows: Array, out: h5py.File, name: str, scale: float = 1.0) -> None:
    made = _created(out, name, (len(rows), *variable.shape[1:]))
    for part in _slices((len(rows), *variable.shape[1:])):
        made[part] = variable[rows[part]].to_numpy().astype("f8") * scale


# ---------------------------------------------------------------- what is text


def fit_log_text(log: pd.DataFrame) -> str:
    """Return `fitlog.csv` of a fit log: epochs from 0, labels and values in turn."""
    lines = []
    columns = [
        log[name].tolist()
        for name in ("epoch", "step", "train_total", "valid_total", "train_recon", "valid_recon", "train_kl",
                     "valid_kl", "l2", "kl_weight", "l2_weight")
    ]  # fmt: skip
    for epoch, step, total, total_v, recon, recon_v, kl, kl_v, l2, kl_weight, l2_weight in zip(
        *columns, strict=True
    ):
        lines.append(
            f"epoch,{int(epoch) - 1}, step,{int(step)}, total,{total!r},{total_v!r}, "
            f"recon,{recon!r},{recon_v!r}, kl,{kl!r},{kl_v!r}, l2,{l2!r}, klweight,{kl_weight!r}, "
            f"l2weight,{l2_weight!r}\n"
        )
    return "".join(lines)


def hyperparameters_text(params: RunParams, added: Mapping[str, Any], *, bins: int, n_datasets: int) -> str:
    """Return `hyperparameters-<step>.txt`: what LFADS trained with, truth values as words."""
    values = params.effective(n_datasets).values()
    found: dict[str, Any] = {
        name: values[name] for name, one in OUR_NAMES.items() if one.name.startswith("c_") and name in values
    }
    if found.get("num_steps_for_gen_ic") is None:
        found["num_steps_for_gen_ic"] = bins
    found |= {
        name: values[name] for name in ("do_train_io_only", "do_train_encoder_only", "do_reset_learning_rate")
    }
    found |= {
        "_clip_value": 80,
        "co_prior_var_scale": 0.1,
        "ndatasets": n_datasets,
        "num_steps": bins,
        "ps_nexamples_to_process": _ALL_EXAMPLES,
        **added,
    }
    words = {
        name: ("true" if value else "false") if isinstance(value, bool) else value
        for name, value in found.items()
    }
    return json.dumps(words, indent=1, sort_keys=True) + "\n"
