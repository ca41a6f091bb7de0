"""What users hold: a run collection and its runs, with thin methods over the rooms below.

The classes in `lfadsrm_hpc.collection` know only what to run; these also run it, tell how it goes, load and
draw what comes out, and apply it to new data.
"""

from lfadsrm_hpc.api.collection import RunCollection, Watch
from lfadsrm_hpc.api.run import Run

__all__ = ["Run", "RunCollection", "Watch"]
