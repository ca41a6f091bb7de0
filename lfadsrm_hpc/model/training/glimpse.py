"""A look at a model while it trains: rates of a few validation trials beside their data, in a small file.

Posterior means are sampled when training has ended, which may be days away. Until then this shows what the
model makes of data that it is not trained on: the means of the posterior pushed through the decoder, as
`Sampler` does with "posterior_push_mean". It draws no random number and changes no state, so a training that
is looked at ends as one that is not.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lfadsrm_hpc import layout
from lfadsrm_hpc.model.backend import Tensor, tf
from lfadsrm_hpc.model.network import likelihoods
from lfadsrm_hpc.model.network.architecture import Architecture
from lfadsrm_hpc.model.network.lfads import forward
from lfadsrm_hpc.model.session import Session
from lfadsrm_hpc.model.training import batches, checkpoints
from lfadsrm_hpc.model.training.schedule import SAVING_SHARE

FORMAT = 1
TRIALS = 4  # of a session
EVERY_S = 10.0  # no more often, and not before
_savez: Any = np.savez_compressed  # its annotations do not know that any name may be an array's


class Glimpses:
    """Writes `glimpse/<session>.npz` beside checkpoints, one session at a time, in turn.

    A file holds `rates` (E, T, D) in counts per bin (of continuous data the means), `data` (E, T, D), `trial`
    (E,), the numbers of the trials in their dataset, and `meta`, a JSON text: session, epoch, step.

    Nothing that goes wrong here ends a training: it is told once, and no more is written.

    Parameters
    ----------
    arch, sessions : the model and its data.
    folder : Path
        Of the checkpoints.
    valid_data : the resident validation data of all sessions, see `batches.resident`.
    on_message : is told what went wrong.
    """

    def __init__(
        self,
        arch: Architecture,
        sessions: Sequence[Session],
        folder: Path,
        valid_data: dict[str, Tensor],
        on_message: Callable[[str], None],
    ) -> None:
        self.arch, self.sessions, self.folder = arch, sessions, folder
        self.valid_data, self.on_message = valid_data, on_message
        self.masks = batches.Masks.of(arch, sessions)
        self.first_rows = np.cumsum([0, *(len(session.valid) for session in sessions)])
        self.written, self.turn = time.monotonic(), 0
        self.takes = 0.0
        self.broken = False
        # not compiled by XLA: it is called seldom, and XLA takes long for loops over time
        self._rates = tf.function(self._rates_of, autograph=False)

    def write_if_due(self, theta: Tensor, epoch: int, step: int) -> None:
        """Write a file, unless the last one was written lately or looking takes too much of the time."""
        began = time.monotonic()
        if self.broken or began - self.written < max(EVERY_S, self.takes / SAVING_SHARE):
            return
        try:
            self._write(theta, epoch, step)
        except Exception as error:  # a full disk, a GPU without memory: the training goes on
            self.broken = True
            self.on_message(f"`lfadsrm peek` will see no new rates of this training: {error}")
        self.written = time.monotonic()
        self.takes = self.written - began

    def _write(self, theta: Tensor, epoch: int, step: int) -> None:
        number = self.turn % len(self.sessions)
        self.turn += 1
        session = self.sessions[number]
        count = min(TRIALS, len(session.valid))
        # always as many rows, so that it is traced once for all sessions
        rows = self.first_rows[number] + np.minimum(np.arange(TRIALS), count - 1)
        found = self._rates(theta, tf.constant(rows, tf.int32), tf.constant(number)).numpy()
        trial = session.valid_trials
        meta = {"format": FORMAT, "session": session.name, "epoch": epoch, "step": step}
        arrays: dict[str, NDArray[Any]] = {
            "rates": np.ascontiguousarray(found[:, :count, : session.neurons].swapaxes(0, 1), np.float32),
            "data": np.asarray(session.valid[:count]),
            "trial": np.arange(count) if trial is None else np.asarray(trial[:count]),
            "meta": np.array(json.dumps(meta)),
        }
        path = layout.glimpse(self.folder, session.name)
        path.parent.mkdir(exist_ok=True)
        checkpoints.publish(path, lambda file: _savez(file, **arrays))

    def _rates_of(self, theta: Tensor, rows: Tensor, session: Tensor) -> Tensor:
        """Return rates, or means, of trials of one session, (T, B, width)."""
        arch = self.arch
        batch = batches.gather(arch, self.valid_data, self.masks, rows, session)
        # as at inference: the model sees what sample validation withholds from its training
        result = forward(arch.unpack(theta), arch, batch._replace(withheld=None), training=False)
        return likelihoods.parameters(arch.hp.output_dist, result.outputs)[..., : arch.width]
