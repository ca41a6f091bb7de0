"""From the in-memory form of a session to what LFADS gets: rebinned, and split."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lfadsrm_hpc.data import splitting
from lfadsrm_hpc.data.binning import rebin
from lfadsrm_hpc.data.evaluation import statement_of
from lfadsrm_hpc.data.extra import Extra, collect
from lfadsrm_hpc.data.inputs.session import SPLITS, Array, SessionInputs
from lfadsrm_hpc.errors import DataError

if TYPE_CHECKING:
    import xarray as xr

_CARRIED = ("subject", "date", "save_tags", "comment")


def make_inputs(
    ds: xr.Dataset,
    *,
    name: str,
    bin_ms: float,
    train_to_test_ratio: int,
    split: str,
    seed: int,
    fingerprint: str = "",
) -> SessionInputs:
    """Rebin a dataset and split its trials.

    Parameters
    ----------
    ds : xr.Dataset
        In-memory form of a dataset.
    name : str
    bin_ms : float
        The dataset's own bins must go into it.
    train_to_test_ratio : int
        Training trials for each validation trial.
    split : {"stratified", "random", "periodic", "given"}
        Where the dataset has `split_group` (trial), whole groups are chosen; "given" takes the parts that its
        `given_split` (trial) says, "train" and "valid".
    seed : int
    fingerprint : str
        Of the dataset's contents; kept.

    Raises
    ------
    DataError
        The bins do not fit, or there are fewer than two trials.
    """
    n_trials = ds.sizes["trial"]
    if n_trials < 2:
        raise DataError(
            f"{n_trials} trial(s): none is left for validation",
            where=f"dataset {name!r}",
            hint="a dataset needs at least 2 trials; leave this one out",
        )
    if split == "given":
        train, valid = splitting.given_split(ds, name)
    else:
        train, valid = splitting.split(
            n_trials,
            train_to_test_ratio=train_to_test_ratio,
            seed=seed,
            condition=_of_trials(ds, "condition"),
            groups=_of_trials(ds, "split_group"),
            kind=split,
        )
    made = {"split": split, "train_to_test_ratio": train_to_test_ratio, "split_seed": seed}
    return _binned(ds, name, bin_ms, {"train": train, "valid": valid}, made, fingerprint)


def new_inputs(ds: xr.Dataset, *, name: str, bin_ms: float, fingerprint: str = "") -> SessionInputs:
    """Rebin a dataset as `make_inputs` does, for a model that is trained: all trials, and no split.

    They are in `train_data` and so on, in their order; `valid_data` and so on are empty.

    Raises
    ------
    DataError
        The bins do not fit.
    """
    inds = {"train": np.arange(ds.sizes["trial"]), "valid": np.arange(0)}
    return _binned(ds, name, bin_ms, inds, {}, fingerprint)


def _binned(
    ds: xr.Dataset, name: str, bin_ms: float, inds: dict[str, Array], made: dict[str, Any], fingerprint: str
) -> SessionInputs:
    try:
        binned = rebin(ds.assign_attrs(name=name), bin_ms)
    except DataError as error:
        what = f"spike_bin_ms = {bin_ms:g}: {error.what}"
        raise DataError(what, where=error.where, hint=error.hint) from None
    parts: dict[str, Any] = {}
    for key, variable in {"data": "spikes", "truth": "truth", "ext_input": "external_input"}.items():
        if variable in binned.variables:
            values = binned[variable].to_numpy()
            parts |= {f"{part}_{key}": values[inds[part]] for part in SPLITS}
    if "condition" in ds.variables:
        condition = ds["condition"].to_numpy()
        parts |= {f"{part}_condition": condition[inds[part]] for part in SPLITS}
    attributes = {key: _plain(ds.attrs[key]) for key in _CARRIED if key in ds.attrs} | statement_of(ds)
    further, extra_attrs = collect(binned)
    extra = {
        key: Extra(dims, *(values[inds[part]] for part in SPLITS)) for key, (dims, values) in further.items()
    }
    return SessionInputs(
        dataset=name,
        train_inds=inds["train"],
        valid_inds=inds["valid"],
        time_ms=binned["time"].to_numpy().astype(np.float64),
        bin_ms=float(bin_ms),
        neuron_names=_neuron_names(ds),
        fingerprint=fingerprint,
        attributes=attributes | made,
        extra=extra,
        extra_attrs=extra_attrs,
        **parts,
    )


def _of_trials(ds: xr.Dataset, name: str) -> Array | None:
    return ds[name].to_numpy() if name in ds.variables else None


def _neuron_names(ds: xr.Dataset) -> Array:
    if "neuron_name" in ds.variables:
        return ds["neuron_name"].to_numpy().astype(str)
    return np.array([f"n{i:03d}" for i in range(ds.sizes["neuron"])])


def _plain(value: Any) -> Any:
    """Return what JSON can hold."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    return value if isinstance(value, str | int | float | bool | list | None) else str(value)
