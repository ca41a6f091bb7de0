"""Files of spike counts or spike times -> the one in-memory form (`lfadsrm_hpc.data.form`)."""

from __future__ import annotations

from lfadsrm_hpc.data.arrays import from_arrays, from_spike_times

__all__ = ["from_arrays", "from_spike_times"]
