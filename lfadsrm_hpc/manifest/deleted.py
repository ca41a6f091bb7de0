"""What a complete run no longer has, and how it comes back: decided in one place for all commands.

`lfadsrm clean` deletes the last checkpoint and the posterior means where they are named. The run stays
complete, so that nobody trains it again unasked.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from lfadsrm_hpc.layout import RunLayout
from lfadsrm_hpc.manifest.facts import RunFacts
from lfadsrm_hpc.manifest.reading import read_facts

BY = "deleted (`lfadsrm clean` does so where it is asked to)"
SAMPLE_AGAIN = "make them again from the trained model: `lfadsrm run --posterior-only`"
TRAIN_AGAIN = "`lfadsrm clean --restart` for this run, and then `lfadsrm run`, trains it anew"


@dataclass(frozen=True)
class Deleted:
    """What a complete run no longer has.

    Attributes
    ----------
    model : bool
        Its last checkpoint: nothing can be sampled from it.
    means : tuple of str
        Datasets without posterior means.
    """

    model: bool = False
    means: tuple[str, ...] = ()

    @property
    def remedy(self) -> str:
        """The next command that works."""
        return TRAIN_AGAIN if self.model else SAMPLE_AGAIN


def deleted_of(run: RunLayout, datasets: Iterable[str], facts: RunFacts | None = None) -> Deleted | None:
    """Return what a run no longer has; None: it is not complete, or being redone.

    Parameters
    ----------
    run : RunLayout
    datasets : iterable of str
        Those that it fits.
    facts : RunFacts, optional
        Read here if not given.
    """
    facts = read_facts(run, cancelled={}) if facts is None else facts
    if facts.completed is None:
        return None
    means = tuple(name for name in datasets if not run.posterior_means(name).is_file())
    return Deleted(_lacks_last_checkpoint(run, facts), means)


def can_be_sampled(run: RunLayout) -> bool:
    """Return whether a run has checkpoints, of a complete one the last."""
    found = deleted_of(run, ()) if run.has_checkpoint else None
    return run.has_checkpoint and (found is None or not found.model)


def _lacks_last_checkpoint(run: RunLayout, facts: RunFacts) -> bool:
    """Return whether the end of the training is not in any checkpoint; older ones may be there."""
    if not run.has_checkpoint:
        return True
    beats = (i.heartbeat for a in reversed(facts.attempts) for i in reversed(a.incarnations))
    steps = (beat.progress.get("step") for beat in beats if beat is not None)
    last = next((step for step in steps if isinstance(step, int)), None)
    return last is not None and max(run.checkpoint_steps().values(), default=last) < last
