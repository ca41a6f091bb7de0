"""What is handed to a scheduler: runs grouped by what they ask for, cut into jobs within the site's limits.

Chunk: one job of the scheduler, an array or a plain job. Every chunk counts its tasks from 0, since a
scheduler bounds the index and not the count.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from lfadsrm_hpc.manifest.submissions import PlannedChunk, PlannedTask
from lfadsrm_hpc.schedulers.batch import job_name
from lfadsrm_hpc.schedulers.resources import JobRequest
from lfadsrm_hpc.schedulers.sites.site import Limits

_SHARES_OF_JOBS = 4  # chunks of a quarter of the allowed jobs: some can follow while others still work


@dataclass(frozen=True)
class Wish:
    """One run that is to be submitted.

    Attributes
    ----------
    attempt : int
        Its number; that of the next attempt, if none is reserved yet.
    title : str
        The run for people.
    gpu_memory_mb : int
        What it needs of a GPU that it shares, MiB.
    reason : str
        Why it is tried again; "" for a run that is new.
    """

    run_id: str
    request: JobRequest
    attempt: int = 1
    title: str = ""
    gpu_memory_mb: int = 2000
    reason: str = ""


@dataclass(frozen=True)
class Arrangement:
    """How runs lie in jobs.

    Attributes
    ----------
    chunks : tuple of PlannedChunk
    tasks : tuple of PlannedTask
        In the order of the chunks.
    binding : tuple of str
        The limits that shaped it, for people.
    """

    chunks: tuple[PlannedChunk, ...]
    tasks: tuple[PlannedTask, ...]
    binding: tuple[str, ...] = ()

    @property
    def shared(self) -> list[list[str]]:
        """Return, task by task, the ids of the runs that it does."""
        found: dict[tuple[int, int], list[str]] = {}
        for task in self.tasks:
            found.setdefault((task.chunk, task.index), []).append(task.run_id)
        return list(found.values())


def arrange(
    ulid: str, wishes: Sequence[Wish], limits: Limits, *, max_parallel: int = 0, pack: int = 1
) -> Arrangement:
    """Cut runs into jobs.

    Runs that ask for the same share arrays; the order of the runs is kept within them. One task alone is a
    plain job, since PBS knows no array of one.

    Parameters
    ----------
    ulid : str
        Of the submission.
    wishes : sequence of Wish
    limits : Limits
        Of the site.
    max_parallel : int
        So many tasks at once, over all jobs together; 0: no limit.
    pack : int
        Runs in one task.
    """
    groups: dict[JobRequest, list[Wish]] = {}
    for wish in wishes:
        groups.setdefault(wish.request, []).append(wish)
    n_tasks = sum(-(-len(group) // pack) for group in groups.values())
    most, binding = largest_chunk(limits, n_tasks)
    pieces = [
        (request, piece) for request, group in groups.items() for piece in _pieces(group, most * pack, pack)
    ]
    sizes = [-(-len(piece) // pack) for _, piece in pieces]
    shares = share_out(max_parallel, sizes)
    chunks, tasks = [], []
    for number, (request, piece) in enumerate(pieces):
        size = sizes[number] if sizes[number] > 1 else 0
        throttle = shares[number] if 0 < shares[number] < size else 0
        chunks.append(PlannedChunk(number, job_name(ulid, number), size, asdict(request), throttle))
        tasks += [PlannedTask(number, n // pack, wish.run_id, wish.attempt) for n, wish in enumerate(piece)]
    if max_parallel and sum(shares) > max_parallel:
        binding = (*binding, f"{len(pieces)} jobs cannot share a throttle of {max_parallel}: one task each")
    return Arrangement(tuple(chunks), tuple(tasks), binding)


def idle_gpus(wishes: Sequence[Wish], pack: int) -> tuple[str, ...]:
    """Return a warning where a task gets more GPUs than it has runs, of which each uses one.

    Examples
    --------
    >>> idle_gpus([Wish("param_x/a", JobRequest(3600, gpus=2))], 1)
    ('a task gets 2 GPUs and does 1 run, which uses one: --set packing.runs=2 uses them all',)
    """
    gpus = max((wish.request.gpus for wish in wishes), default=0)
    if gpus <= pack:
        return ()
    runs = "1 run, which uses one" if pack == 1 else f"{pack} runs, which use one each"
    return (f"a task gets {gpus} GPUs and does {runs}: --set packing.runs={gpus} uses them all",)


def largest_chunk(limits: Limits, n_tasks: int) -> tuple[int, tuple[str, ...]]:
    """Return the most tasks of one job, and which limits bind so many tasks, for people."""
    most, binding = n_tasks, []
    if limits.largest_array_index is not None and most > limits.largest_array_index + 1:
        most = limits.largest_array_index + 1
        binding.append(f"array indices up to {limits.largest_array_index}")
    if limits.array_tasks is not None and most > limits.array_tasks:
        most = limits.array_tasks
        binding.append(f"{limits.array_tasks} tasks an array")
    if limits.jobs is not None and n_tasks > limits.jobs:
        most = min(most, max(1, limits.jobs // _SHARES_OF_JOBS))
        binding.append(f"{limits.jobs} jobs a user: `lfadsrm submit` again goes on when some have ended")
    return max(1, most), tuple(binding)


def _pieces(group: Sequence[Wish], most: int, pack: int) -> Iterator[Sequence[Wish]]:
    """Cut a group into pieces of nearly equal size: no job of one run is left at the end."""
    tasks = -(-len(group) // pack)
    count = -(-tasks * pack // most)
    start = 0
    for n in range(count):
        end = min((tasks * (n + 1) // count) * pack, len(group))
        yield group[start:end]
        start = end


def share_out(most: int, sizes: Sequence[int]) -> list[int]:
    """Share so many tasks at once among jobs by their sizes, at least one each; 0: no limit.

    Examples
    --------
    >>> share_out(8, [100, 100, 50])
    [3, 3, 2]
    """
    if most <= 0 or not sizes:
        return [0] * len(sizes)
    total = sum(sizes)
    shares = [max(1, most * size // total) for size in sizes]
    by_rest = sorted(range(len(sizes)), key=lambda n: -(most * sizes[n] % total))
    for n in by_rest:
        if sum(shares) >= most:
            break
        shares[n] += 1
    while sum(shares) > most and max(shares) > 1:
        shares[shares.index(max(shares))] -= 1
    return shares
