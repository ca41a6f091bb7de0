"""TensorBoard scalars of one training, written as events without the package tensorboard."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

from lfadsrm_hpc.model.backend import tf

FLUSH_SECONDS = 30.0


class ScalarWriter:
    """Writes one value a name and step into an event file; it reaches the disk every 30 s and at the end."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}.{os.getpid()}"
        self._writer = tf.io.TFRecordWriter(str(folder / name))
        self._event(file_version="brain.Event:2")
        self._flushed = time.monotonic()

    def _event(self, **content: object) -> None:
        self._writer.write(tf.compat.v1.Event(wall_time=time.time(), **content).SerializeToString())

    def write(self, step: int, values: dict[str, float]) -> None:
        """Write the values at one step (gradient steps done)."""
        items = [tf.compat.v1.Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._event(step=step, summary=tf.compat.v1.Summary(value=items))
        if time.monotonic() - self._flushed > FLUSH_SECONDS:
            self._writer.flush()
            self._flushed = time.monotonic()

    def close(self) -> None:
        self._writer.close()
