"""A flag that a signal, or the end of the time that was given, raises: work goes on to its next checkpoint
and ends there."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from types import FrameType

_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)

WARNING_SIGNAL = signal.SIGUSR2
"""What a job script sends when the scheduler has warned of the end of the walltime."""

NEAR_DEADLINE_S = 120.0
"""A warning so close before the deadline, or later, is about the deadline (Slurm warns up to 60 s early)."""


class StopFlag:
    """Remembers that this process is to stop; the training loop looks at it between slices.

    Parameters
    ----------
    deadline : float, optional
        When to stop, seconds since 1970; None: never by itself.

    Attributes
    ----------
    signal : int or None
        The first signal that asked; None: none did.
    out_of_time : bool
        Why the flag is up: the deadline was reached, or the scheduler warned of it. False: somebody asked.
    """

    def __init__(self, deadline: float | None = None) -> None:
        self.signal: int | None = None
        self.out_of_time = False
        self._asked = False
        self._end: float | None = None
        if deadline is not None:
            self.set_deadline(deadline)

    def set_deadline(self, deadline: float) -> None:
        """Stop at this time, seconds since 1970, whatever becomes of the machine's clock from now on."""
        self._end = time.monotonic() + deadline - time.time()

    def __call__(self) -> bool:
        if not self._asked and self._end is not None and time.monotonic() >= self._end:
            self._asked = self.out_of_time = True
        return self._asked

    def ask(self, number: int | None = None) -> None:
        """Raise the flag, because of a signal or of itself. Only the first time counts."""
        if self():
            return
        self._asked = True
        self.signal = number
        warned = number == WARNING_SIGNAL and self._end is not None
        self.out_of_time = warned and time.monotonic() >= (self._end or 0.0) - NEAR_DEADLINE_S

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            return  # job scripts send it again and again, since it may have come before this handler
        self.ask(number)
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


@contextlib.contextmanager
def as_interrupt() -> Iterator[None]:
    """Treat TERM and the end of the terminal as Ctrl-C: what the block has begun is tidied up."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
