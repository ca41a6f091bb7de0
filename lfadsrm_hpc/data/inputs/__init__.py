"""LFADS inputs: one session, binned and split into training and validation trials; checked, written, read."""

from __future__ import annotations

from lfadsrm_hpc.data.inputs.file import (
    FORMAT,
    open_inputs,
    read_attributes,
    read_extra_fingerprint,
    read_fingerprint,
    read_head,
    read_inputs,
    read_reconstruction,
    read_times,
    write_inputs,
)
from lfadsrm_hpc.data.inputs.making import make_inputs, new_inputs
from lfadsrm_hpc.data.inputs.session import SessionInputs
from lfadsrm_hpc.data.validation import validate

__all__ = [
    "FORMAT",
    "SessionInputs",
    "make_inputs",
    "new_inputs",
    "open_inputs",
    "read_attributes",
    "read_extra_fingerprint",
    "read_fingerprint",
    "read_head",
    "read_inputs",
    "read_reconstruction",
    "read_times",
    "validate",
    "write_inputs",
]
