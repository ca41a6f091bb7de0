"""Timings of some training steps, one file a run and machine: `.lfadsrm/timings/<run key>.<host>.json`."""

from __future__ import annotations

from dataclasses import dataclass

from lfadsrm_hpc.layout import CollectionLayout
from lfadsrm_hpc.manifest.publish import make_folder, publish_replacing
from lfadsrm_hpc.manifest.reading import read_record
from lfadsrm_hpc.manifest.records import to_json


@dataclass(frozen=True)
class Timing:
    """How long a run's steps took somewhere.

    Attributes
    ----------
    run_id : str
    host, device : str
        The machine, and what computed: "cpu, 2 threads" or the name of a GPU.
    seconds_per_epoch : float
        Training and validation, without what is done once.
    start_s : float
        From the start of the process to the end of the first slice: imports, compiling, loading.
    sampling_s : float or None
        Posterior means of all trials, from those of a few; None: not timed.
    peak_memory_mb : float
        Greatest resident memory, MiB.
    measured : float
        Seconds since 1970.
    """

    run_id: str
    host: str
    device: str
    seconds_per_epoch: float
    start_s: float
    sampling_s: float | None = None
    peak_memory_mb: float = 0.0
    measured: float = 0.0

    @property
    def on_gpu(self) -> bool:
        return not self.device.startswith("cpu")


def write_timing(layout: CollectionLayout, timing: Timing) -> None:
    """Put a timing in the place of an earlier one of the same run and machine."""
    path = layout.timing(timing.run_id, timing.host)
    make_folder(path.parent)
    publish_replacing(path, to_json(timing))


def read_timings(layout: CollectionLayout) -> list[Timing]:
    """Return the timings of a collection, newest first; what cannot be read is left out."""
    found = (read_record(Timing, path)[0] for path in layout.timings())
    return sorted((timing for timing in found if timing is not None), key=lambda t: -t.measured)
