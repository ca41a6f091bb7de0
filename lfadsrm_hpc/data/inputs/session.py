"""What LFADS gets of one session: its bins, split into training and validation trials."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy.typing as npt

from lfadsrm_hpc.data.alignment import record as alignment_record
from lfadsrm_hpc.data.extra import Extra

Array = npt.NDArray[Any]

SPLITS = ("train", "valid")


@dataclass(frozen=True)
class SessionInputs:
    """What LFADS gets of one dataset.

    E training and V validation trials, T bins, D neurons, I external inputs, F factors.

    Attributes
    ----------
    dataset : str
    train_data, valid_data : (E, T, D) and (V, T, D)
        Counts a bin, or values of a continuous signal.
    train_inds, valid_inds : (E,) and (V,) int
        Which trials of the dataset these are, from 0.
    time_ms : (T,) float
        Start of each bin.
    bin_ms : float
    neuron_names : (D,) str
    train_truth, valid_truth : as the data, or None
        True rates, spikes/s.
    train_ext_input, valid_ext_input : (E, T, I) and (V, T, I), or None
    train_condition, valid_condition : (E,) and (V,), or None
    alignment_matrix_cxf : (D, F) or None
    alignment_bias_c : (D,) or None
        Counts a bin.
    reconstruction : Reconstruction or None
        How well the read-in reconstructs the components that all sessions share.
    fingerprint : str
        Of the dataset's contents.
    attributes : dict
        Plain values: subject, date, how the split and the alignment were made, and what is wanted withheld
        from the encoders.
    extra : dict of name to (dims, train, valid)
        Further variables, which LFADS does not see: `lfadsrm_hpc.data.extra`.
    extra_attrs : dict of name to dict
        Their units, and the `labels` along their own dimension.
    """

    dataset: str
    train_data: Array
    valid_data: Array
    train_inds: Array
    valid_inds: Array
    time_ms: Array
    bin_ms: float
    neuron_names: Array
    train_truth: Array | None = None
    valid_truth: Array | None = None
    train_ext_input: Array | None = None
    valid_ext_input: Array | None = None
    train_condition: Array | None = None
    valid_condition: Array | None = None
    alignment_matrix_cxf: Array | None = None
    alignment_bias_c: Array | None = None
    reconstruction: alignment_record.Reconstruction | None = None
    fingerprint: str = ""
    attributes: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, Extra] = field(default_factory=dict)
    extra_attrs: dict[str, dict[str, Any]] = field(default_factory=dict)
