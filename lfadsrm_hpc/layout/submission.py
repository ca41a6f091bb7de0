"""Paths of one submission: its plan, its scripts, and what became of each chunk."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from lfadsrm_hpc.layout.names import names_in

_SENDING = re.compile(r"sending-(\d+)\.(\d+)\.json")
_RECEIPT = re.compile(r"receipt-(\d+)\.json")
_SCRIPT = re.compile(r"script-\d+\.sh")


@dataclass(frozen=True)
class SubmissionLayout:
    """One act of handing runs to a scheduler: `.lfadsrm/submissions/<ulid>/`.

    A submission has chunks (jobs of the scheduler), numbered from 0. A chunk is sent with a numbered sending,
    which is published before the scheduler is called; it has a receipt once the scheduler has accepted it.
    """

    path: Path

    @property
    def ulid(self) -> str:
        return self.path.name

    @property
    def plan(self) -> Path:
        """The last file of a plan to appear: without it nothing was or will be submitted."""
        return self.path / "plan.json"

    @property
    def tasks(self) -> Path:
        """The table chunk, index -> run, attempt."""
        return self.path / "tasks.tsv"

    def script(self, chunk: int) -> Path:
        return self.path / f"script-{chunk}.sh"

    def queue_script(self, chunk: int, index: int) -> Path:
        """Return the local queue of one packed task, which does several runs in one allocation."""
        return self.path / "queues" / f"{chunk}-{index}.sh"

    @property
    def output_dir(self) -> Path:
        """What scripts print before they know their run; empty files are removed by the scripts."""
        return self.path / "output"

    def sending(self, chunk: int, number: int) -> Path:
        return self.path / f"sending-{chunk}.{number}.json"

    def refusal(self, chunk: int, number: int) -> Path:
        """Return the record that a sending was certainly not accepted, so that another may follow."""
        return self.path / f"refusal-{chunk}.{number}.json"

    def receipt(self, chunk: int) -> Path:
        return self.path / f"receipt-{chunk}.json"

    def sendings(self) -> dict[int, int]:
        """List the folder once: by chunk the highest number of a sending."""
        found: dict[int, int] = {}
        for name in names_in(self.path):
            match = _SENDING.fullmatch(name)
            if match:
                found[int(match[1])] = max(int(match[2]), found.get(int(match[1]), 0))
        return found

    def scripts(self) -> list[Path]:
        """Return all scripts on disk, sorted: those of the jobs, and the local queues of packed tasks."""
        return sorted([*self.path.glob("script-*.sh"), *self.path.glob("queues/*.sh")])

    def script_count(self) -> int:
        """List the folder once: how many chunks have a script."""
        return sum(_SCRIPT.fullmatch(name) is not None for name in names_in(self.path))

    def receipts(self) -> list[int]:
        """List the folder once: the chunks that have a receipt, sorted."""
        names = names_in(self.path)
        return sorted(int(match[1]) for name in names if (match := _RECEIPT.fullmatch(name)))
