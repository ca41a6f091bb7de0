"""A folder of the original TensorFlow 1 program's files: hyperparameters, inputs, parameters, outputs.

What the files are called is in `tf1_check`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lfadsrm_hpc.errors import LfadsrmError, ModelError
from lfadsrm_hpc.model.hyperparameters import Hyperparameters
from lfadsrm_hpc.model.network.architecture import Architecture
from lfadsrm_hpc.model.tf1_params import Variables, read_model_params

Arrays = dict[str, NDArray[Any]]

SPLITS = ("train", "valid")


class Case:
    """One folder of the original's files.

    Parameters
    ----------
    folder : Path

    Attributes
    ----------
    arch : Architecture
        With sessions named as their files are, without `lfads_` and `.h5`.
    params : dict of float64 arrays, by our names
    inputs : dict of Inputs, by session

    Raises
    ------
    ModelError
        Something is missing, cannot be read, or does not fit together.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise ModelError("there is no such folder", where=folder)
        self.folder = folder
        hp = forward_hyperparameters(*_hyperparameters(folder))
        self.inputs = {name: Inputs(path) for name, path in _input_files(folder).items()}
        bins = {inputs.bins for inputs in self.inputs.values()}
        if len(bins) > 1:
            raise ModelError(f"the sessions differ in their bins: {sorted(bins)}", where=folder)
        path = _existing(folder, "model_params.h5", "model_params")
        names = tuple(self.inputs)
        reads_in = len(names) > 1 or Variables(path).has_readin(names)
        neurons = tuple(inputs.neurons for inputs in self.inputs.values())
        self.arch = Architecture(hp, names, neurons, bins.pop(), hp.factors_dim if reads_in else 0)
        self.params = read_model_params(path, self.arch)

    def outputs(self, session: str, split: str, kind: str) -> tuple[Path, Arrays]:
        """Return what the original wrote for a session and split in one of its modes, and the file's path."""
        names = (f"model_runs_{session}{h5}_{split}_{kind}" for h5 in ("", ".h5"))
        path = _existing(self.folder, *(f"{name}{h5}" for name in names for h5 in (".h5", "")))
        return path, _read(path)


class Inputs:
    """What one `lfads_<session>.h5` holds.

    Attributes
    ----------
    splits : tuple of str
        Those of "train" and "valid" that have trials.
    bins, neurons : int
        T and D of the data, the same in both splits.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._arrays = path, _read(path)
        self.splits = tuple(split for split in SPLITS if self._arrays.get(f"{split}_data", np.zeros(0)).size)
        shapes = {self.data(split).shape[1:] for split in self.splits}
        if len(shapes) != 1:
            raise ModelError(
                "train_data and valid_data differ in bins or neurons" if shapes else "there is no train_data",
                where=path,
            )
        self.bins, self.neurons = shapes.pop()

    def data(self, split: str) -> NDArray[Any]:
        """Return the data (E, T, D) of one of `splits`."""
        data = self._arrays[f"{split}_data"]
        if data.ndim != 3 or data.dtype.kind not in "fiu":
            raise ModelError(
                f"{split}_data should be trials x bins x neurons; it is {data.dtype} of shape {data.shape}",
                where=self.path,
            )
        return _fed(data)

    def external(self, split: str, width: int) -> NDArray[Any]:
        """Return the external inputs (E, T, width) of one of `splits`."""
        found = self._arrays.get(f"{split}_ext_input")
        shape = (*self._arrays[f"{split}_data"].shape[:2], width)
        if found is None or found.shape != shape or found.dtype.kind not in "fiu":
            what = "there is none" if found is None else f"it is {found.dtype} of shape {found.shape}"
            raise ModelError(f"{split}_ext_input should have shape {shape}: {what}", where=self.path)
        return _fed(found)


def forward_hyperparameters(values: Mapping[str, Any], where: Path | None = None) -> Hyperparameters:
    """Return the hyperparameters that the forward pass needs, from those of the original.

    Everything else keeps our defaults: what concerns training alone may have values that are refused here.

    Parameters
    ----------
    values : mapping
        As in the original's JSON: truth values may be words, whole numbers may be floats.
    where : Path, optional
        The file that they are from, for messages.

    Raises
    ------
    ModelError
        A value is missing or has no meaning.
    """
    read = _Values(values, where)
    wanted: dict[str, Any] = {
        "gen_dim": read.whole("gen_dim"),
        "factors_dim": read.whole("factors_dim"),
        "ic_dim": read.whole("ic_dim"),
        "co_dim": read.whole("co_dim"),
        "ext_input_dim": read.whole("ext_input_dim"),
        "output_dist": read.word("output_dist"),
        "cell_clip_value": min(read.number("cell_clip_value"), 1e30),
    }
    if wanted["output_dist"] not in ("poisson", "gaussian"):
        raise ModelError(f"the original has no output_dist {wanted['output_dist']!r}", where=where)
    if wanted["ext_input_dim"]:
        wanted["inject_ext_input_to_gen"] = read.truth("inject_ext_input_to_gen")
    if wanted["ic_dim"]:
        wanted["ic_enc_dim"] = read.whole("ic_enc_dim")
        wanted["num_steps_for_gen_ic"] = min(max(1, read.whole("num_steps_for_gen_ic")), 2**62)
        wanted["ic_post_var_min"] = read.number("ic_post_var_min")
        low, high = (read.number(f"ic_prior_var_{end}") for end in ("min", "max"))
        if high > low:  # otherwise the variance is the variable itself
            low = max(low, 1e-30)  # the original takes 0, at which its variances never arrive
            wanted.update(ic_prior_var_min=low, ic_prior_var_scale=high, ic_prior_var_max=high)
    if wanted["co_dim"]:
        wanted["ci_enc_dim"], wanted["con_dim"] = read.whole("ci_enc_dim"), read.whole("con_dim")
        wanted["controller_input_lag"] = read.whole("controller_input_lag")
        wanted["do_causal_controller"] = read.truth("do_causal_controller")
        fed = wanted["do_feed_factors_to_controller"] = read.truth("do_feed_factors_to_controller")
        if fed:
            wanted["feedback_factors_or_rates"] = read.word("feedback_factors_or_rates")
    try:
        return Hyperparameters(**wanted)
    except LfadsrmError as error:
        raise ModelError(error.what, where=where) from error


class _Values:
    """Values of a JSON object, each as the type that it should have."""

    def __init__(self, values: Mapping[str, Any], where: Path | None) -> None:
        self.values, self.where = values, where

    def _get(self, name: str) -> Any:
        if name not in self.values:
            raise ModelError(f"the hyperparameters lack {name}", where=self.where)
        return self.values[name]

    def number(self, name: str) -> float:
        value = self._get(name)
        try:
            number = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError):
            number = math.nan
        if math.isnan(number):
            raise ModelError(f"{name} = {value!r} is not a number", where=self.where)
        return number

    def whole(self, name: str) -> int:
        number = min(self.number(name), 2.0**62)
        if number < 0 or number != int(number):
            raise ModelError(f"{name} = {self.values[name]!r} is not a whole number", where=self.where)
        return int(number)

    def word(self, name: str) -> str:
        return str(self._get(name)).strip().lower()

    def truth(self, name: str) -> bool:
        word = self.word(name)
        if word not in ("true", "false", "1", "0"):
            raise ModelError(f"{name} = {self.values[name]!r} is neither true nor false", where=self.where)
        return word in ("true", "1")


def _hyperparameters(folder: Path) -> tuple[dict[str, Any], Path]:
    path = folder / "hyperparameters.json"
    if not path.exists():
        older = folder.glob("hyperparameters-*.txt")
        path = max(older, key=lambda p: (len(p.stem), p.stem), default=path)
    try:
        values = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ModelError(f"the hyperparameters cannot be read ({error})", where=path) from error
    if not isinstance(values, dict):
        raise ModelError("the hyperparameters are no JSON object", where=path)
    return values, path


def _input_files(folder: Path) -> dict[str, Path]:
    found = {path.name.removeprefix("lfads_").removesuffix(".h5"): path for path in folder.glob("lfads_*.h5")}
    if not found:
        raise ModelError("there is no lfads_<session>.h5", where=folder)
    return dict(sorted(found.items()))


def _existing(folder: Path, *names: str) -> Path:
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise ModelError(f"there is no {names[0]}", where=folder)


def _fed(array: NDArray[Any]) -> NDArray[Any]:
    """Return data as the original fed them: rounded to 32 bits."""
    return array.astype(np.float32).astype(float)


def _read(path: Path) -> Arrays:
    import h5py

    try:
        with h5py.File(path) as file:
            return {name: np.asarray(item[()]) for name, item in file.items() if hasattr(item, "shape")}
    except OSError as error:
        raise ModelError(f"this is no HDF5 file that can be read ({error})", where=path) from error
