"""The data of one session, as the model takes it. No tensorflow here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lfadsrm_hpc.errors import DataError
from lfadsrm_hpc.model.held_out import held_out_mask
from lfadsrm_hpc.model.hyperparameters import Hyperparameters

Array = NDArray[Any]


@dataclass(frozen=True)
class Session:
    """Counts (or continuous data) of one session, E trials x T bins x D neurons, and what goes with them.

    Parameters
    ----------
    name : str
    train, valid : (E, T, D) arrays
        Both with at least one trial.
    train_ext, valid_ext : (E, T, I) arrays, optional
        External inputs.
    alignment_matrix : (D, F) array, optional
        Start of the read-in, its transpose that of the read-out (stitching).
    alignment_bias : (D,) array, optional
        Means that were subtracted before `alignment_matrix` was applied.
    held_out : (D,) bool array, optional
        Neurons that the encoders do not see.
    valid_trials : (E,) int array, optional
        The numbers of the validation trials in their dataset.

    Raises
    ------
    DataError
        Shapes that do not fit together.
    """

    name: str
    train: Array
    valid: Array
    train_ext: Array | None = None
    valid_ext: Array | None = None
    alignment_matrix: Array | None = None
    alignment_bias: Array | None = None
    held_out: Array | None = None
    valid_trials: Array | None = None

    def __post_init__(self) -> None:
        for part, data, ext in (
            ("train", self.train, self.train_ext),
            ("valid", self.valid, self.valid_ext),
        ):
            if data.ndim != 3 or 0 in data.shape:
                raise DataError(
                    f"the {part} data has shape {data.shape}, not trials x bins x neurons, each at least 1",
                    where=f"session {self.name}",
                )
            if ext is not None and (ext.ndim != 3 or ext.shape[:2] != data.shape[:2]):
                raise DataError(
                    f"the {part} external input has shape {ext.shape}, which does not fit data {data.shape}",
                    where=f"session {self.name}",
                )
        if self.train.shape[1:] != self.valid.shape[1:]:
            raise DataError(
                f"train data {self.train.shape} and valid data {self.valid.shape} differ in bins or neurons",
                where=f"session {self.name}",
            )
        for what, array in (
            ("alignment matrix", self.alignment_matrix),
            ("alignment bias", self.alignment_bias),
            ("list of held-out neurons", self.held_out),
        ):
            if array is not None and array.shape[0] != self.neurons:
                raise DataError(
                    f"the {what} is for {array.shape[0]} neurons, the data has {self.neurons}",
                    where=f"session {self.name}",
                )
        if self.held_out is not None and np.asarray(self.held_out, bool).all():
            raise DataError("every neuron is held out", where=f"session {self.name}")

    @classmethod
    def of_inputs(cls, inputs: Any, hp: Hyperparameters) -> Session:
        """Return the data of an input file, `lfadsrm_hpc.data.inputs.SessionInputs`, for a model.

        Parameters
        ----------
        inputs : SessionInputs
        hp : Hyperparameters
            They say what is withheld, and how many external inputs there are.
        """
        return cls(
            name=inputs.dataset,
            train=inputs.train_data,
            valid=inputs.valid_data,
            train_ext=inputs.train_ext_input,
            valid_ext=inputs.valid_ext_input,
            alignment_matrix=inputs.alignment_matrix_cxf,
            alignment_bias=inputs.alignment_bias_c,
            held_out=held_out_mask(hp, inputs.dataset, len(inputs.neuron_names)),
            valid_trials=inputs.valid_inds,
        )

    @property
    def bins(self) -> int:
        """Bins of a trial."""
        return int(self.train.shape[1])

    @property
    def neurons(self) -> int:
        """How many neurons, or other channels, there are."""
        return int(self.train.shape[2])


def check_together(sessions: Sequence[Session], *, ext_input_dim: int, factors_dim: int) -> None:
    """Raise DataError unless the sessions can be fitted by one model."""
    if not sessions:
        raise DataError("there is no session to fit", hint="give at least one session")
    names = [session.name for session in sessions]
    if len(set(names)) < len(names):
        raise DataError(
            f"two sessions have the same name: {sorted(names)}", hint="give each session a name of its own"
        )
    for session in sessions:
        if session.bins != sessions[0].bins:
            raise DataError(
                f"{session.bins} bins here, but {sessions[0].bins} in session {sessions[0].name}",
                where=f"session {session.name}",
            )
        for ext in (session.train_ext, session.valid_ext):
            width = 0 if ext is None else ext.shape[2]
            if ext_input_dim and width != ext_input_dim:
                raise DataError(
                    f"{width} external inputs, but ext_input_dim = {ext_input_dim}",
                    where=f"session {session.name}",
                )
        matrix = session.alignment_matrix
        if matrix is not None and matrix.shape != (session.neurons, factors_dim):
            raise DataError(
                f"the alignment matrix has shape {matrix.shape}, not neurons x factors_dim "
                f"({session.neurons}, {factors_dim})",
                where=f"session {session.name}",
            )
