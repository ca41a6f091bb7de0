"""Every path of a run collection on disk, and nowhere else. Imports nothing of the package but errors."""

from lfadsrm_hpc.layout.attempts import AdaptedLayout, AttemptLayout, fitlog, glimpse, tensorboard_events
from lfadsrm_hpc.layout.collection import CollectionLayout, RunLayout
from lfadsrm_hpc.layout.names import OutboxName, TrustLayout, check_name, numbered, run_key
from lfadsrm_hpc.layout.submission import SubmissionLayout

__all__ = [
    "AdaptedLayout",
    "AttemptLayout",
    "CollectionLayout",
    "OutboxName",
    "RunLayout",
    "SubmissionLayout",
    "TrustLayout",
    "check_name",
    "fitlog",
    "glimpse",
    "numbered",
    "run_key",
    "tensorboard_events",
]
