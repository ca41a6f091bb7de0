"""Which neurons the encoders do not see (co-smoothing). No tensorflow here."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

from lfadsrm_hpc.errors import DataError
from lfadsrm_hpc.model.hyperparameters import Hyperparameters


def held_out_mask(hp: Hyperparameters, session: str, neurons: int) -> npt.NDArray[np.bool_] | None:
    """Return which neurons of a session are withheld from the encoders.

    A fraction draws them by `held_out_seed` and the session's name alone, so that every run with the same two
    withholds the same neurons, whether the session is fitted alone or stitched.

    Parameters
    ----------
    hp : Hyperparameters
        `held_out_neurons` (None, a fraction, or 0-based indices) and `held_out_seed`.
    session : str
    neurons : int
        D, of the session.

    Returns
    -------
    (D,) bool array, or None where none is withheld

    Raises
    ------
    DataError
        An index is beyond the session's neurons, or none would be left for the encoders.
    """
    wanted = hp.held_out_neurons
    if wanted is None:
        return None
    mask = np.zeros(neurons, dtype=bool)
    if isinstance(wanted, float):
        name = int.from_bytes(hashlib.sha256(session.encode()).digest()[:8], "big")
        generator = np.random.default_rng([hp.held_out_seed, name])
        mask[generator.permutation(neurons)[: max(1, round(wanted * neurons))]] = True
    else:
        beyond = [index for index in wanted if index >= neurons]
        if beyond:
            raise DataError(
                f"held_out_neurons names neuron {beyond[0]}, and there are {neurons}, counted from 0",
                where=f"session {session}",
                hint="give a fraction where sessions have different neurons",
            )
        mask[list(wanted)] = True
    if mask.all():
        raise DataError(
            f"all {neurons} neurons would be held out; none is left for the encoders",
            where=f"session {session}",
        )
    return mask
