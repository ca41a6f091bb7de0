"""What tests read from disk that no command has to: submissions, and tasks of local queues that live."""

from __future__ import annotations

from dataclasses import dataclass

from lfadsrm_hpc.layout import CollectionLayout
from lfadsrm_hpc.manifest.process import Process, hostname
from lfadsrm_hpc.manifest.submission_reading import SubmissionOnDisk, read_submission
from lfadsrm_hpc.plain_files import read_bytes


def read_submissions(layout: CollectionLayout, now: float) -> list[SubmissionOnDisk]:
    """Read the submissions whose plans are complete, oldest first."""
    found = (read_submission(submission, now) for submission in layout.submissions())
    return [submission for submission in found if submission is not None]


@dataclass(frozen=True)
class LiveTask:
    """A task of a local queue; `gpu` is the UUID of its GPU, empty on the CPU, and memory is in MiB."""

    run_id: str
    host: str
    pid: int
    gpu: str
    gpu_memory_mb: int


def read_live_tasks(layout: CollectionLayout, host: str | None = None) -> list[LiveTask]:
    """Return the tasks of local queues on a host that live now, sorted by run id.

    Tasks whose queue has died count as well. One whose process cannot be looked at from here (another
    machine, another container) counts as live, unless the machine has been booted since.
    """
    host = host or hostname()
    here = Process.current()
    found = []
    for path in layout.queue_state_dir(host).glob("*.running"):
        try:
            pid, start, boot, gpu, memory_mb, run_id = read_bytes(path).decode().rstrip("\n").split(" ", 5)
            boot_id, _, namespace = boot.partition("/")
            process = Process(host, boot_id, namespace, int(pid), int(start))
            memory = int(memory_mb)
        except (OSError, ValueError):
            continue  # it ended meanwhile
        booted_since = host == here.host and boot_id != here.boot_id
        if booted_since or process.is_alive() is False:
            continue
        found.append(LiveTask(run_id, host, process.pid, "" if gpu == "-" else gpu, memory))
    return sorted(found, key=lambda task: task.run_id)
