"""A flag that the signals to stop raise: work goes on to its next checkpoint and ends there."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from types import FrameType

_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)


class StopFlag:
    """Remembers that somebody asked this process to stop; the training loop looks at it between slices."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def __call__(self) -> bool:
        return self.signal is not None

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signal = number
        # print() is not safe here: the signal may have interrupted one.
        os.write(2, f"{signal.Signals(number).name}: stopping at the next checkpoint\n".encode())

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Catch the stop signals while the block lasts.

        INT stays ignored where it is: a terminal sends it to all, and the queue alone decides who stops.
        """
        ignored = [signal.SIGINT] if signal.getsignal(signal.SIGINT) is signal.SIG_IGN else []
        caught = [number for number in _STOP_SIGNALS if number not in ignored]
        before = {number: signal.signal(number, self._note) for number in caught}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
