"""How far a run of the Matlab run manager is, in a word and a remark."""

from __future__ import annotations

from dataclasses import dataclass

from lfadsrm_hpc.manifest.states import RunState


@dataclass(frozen=True)
class LegacyStatus:
    """How far a run is.

    Attributes
    ----------
    run_id : str
    state : RunState
        COMPLETED: the posterior means of all its datasets are there. FAILED: its queue says that it is done
        (`lfads.done`), and they are not. UNKNOWN: training has begun; whether it goes on, nothing here tells.
        PREPARED: it has not.
    detail : str
    """

    run_id: str
    state: RunState
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.run_id}: {self.state}" + (f" ({self.detail})" if self.detail else "")
