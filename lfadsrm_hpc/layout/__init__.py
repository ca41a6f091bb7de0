"""Every path of a run collection on disk, and nowhere else. Imports nothing of the package but errors."""

from lfadsrm_hpc.layout.attempts import (
    AdaptedLayout,
    AttemptLayout,
    checkpoint_files,
    fitlog,
    glimpse,
    glimpses,
    tensorboard_events,
)
from lfadsrm_hpc.layout.collection import CollectionLayout, RunLayout
from lfadsrm_hpc.layout.names import (
    EXAMINATION,
    OutboxName,
    TrustLayout,
    check_name,
    is_temporary,
    numbered,
    run_key,
    unfinished,
    unfinished_files,
)
from lfadsrm_hpc.layout.submission import SubmissionLayout

__all__ = [
    "EXAMINATION",
    "AdaptedLayout",
    "AttemptLayout",
    "CollectionLayout",
    "OutboxName",
    "RunLayout",
    "SubmissionLayout",
    "TrustLayout",
    "check_name",
    "checkpoint_files",
    "fitlog",
    "glimpse",
    "glimpses",
    "is_temporary",
    "numbered",
    "run_key",
    "tensorboard_events",
    "unfinished",
    "unfinished_files",
]
