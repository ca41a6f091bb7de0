"""Every path of a run collection on disk, and nowhere else. Imports nothing of the package but errors."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from lfadsrm_hpc.errors import UsageError

_ATTEMPT = re.compile(r"\d{3,}")
_INCARNATION = re.compile(r"(\d{3,})\.r(\d+)")
_ATTEMPT_FILE = re.compile(r"(claim|heartbeat|exit)\.r(\d+)(?:\.json)?")
_OUTBOX = re.compile(r"([0-9a-f]{16})\.(\d{3,})\.r(\d+)\.([A-Z_]+)\.(\d+)")
_SENDING = re.compile(r"sending-(\d+)\.(\d+)\.json")
_INDEX = re.compile(r"index-(\d+)\.json")
_ROSTER = re.compile(r"roster-.+\.json")
_RECEIPT = re.compile(r"receipt-(\d+)\.json")
_SCRIPT = re.compile(r"script-\d+\.sh")
_CHECKPOINT = re.compile(r"checkpoint-(\d+)(?:-best)?\.npz")
_ULID = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}")
_CANCELLATION = re.compile(r"cancel-([0-9A-HJKMNP-TV-Z]{26})\.json")


def check_name(name: str, kind: str) -> str:
    """Return `name` if it can be a file name on every system in use, else raise.

    Spaces, quotes and non-ASCII letters are allowed; what would leave the folder, hide the file,
    or break a line-based file is not.
    """
    if not name or name != name.strip() or name.startswith((".", "-")) or len(name.encode()) > 200:
        raise UsageError(
            f"{name!r} cannot be the name of {'an' if kind[0] in 'aeiou' else 'a'} {kind}",
            hint="use 1 to 200 bytes that begin with neither '.' nor '-' nor a blank",
        )
    bad = sorted({c for c in name if c == "/" or not c.isprintable()})
    if bad:
        raise UsageError(
            f"the name of {kind} {name!r} contains {bad[0]!r}", hint="use printable characters without '/'"
        )
    return name


def _names(folder: Path) -> list[str]:
    """List a folder once; one that is not there is empty."""
    return os.listdir(folder) if folder.is_dir() else []  # noqa: PTH208 - texts, not thousands of paths


def run_key(run_id: str) -> str:
    """Return the 16 hexadecimal characters that stand for a run where its id cannot (file names, outbox)."""
    return hashlib.sha256(run_id.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class AttemptLayout:
    """One try at a run: `attempts/<nnn>/`."""

    path: Path

    @property
    def number(self) -> int:
        return int(self.path.name)

    @property
    def reserved(self) -> Path:
        return self.path / "reserved.json"

    @property
    def closed(self) -> Path:
        return self.path / "closed.json"

    @property
    def log(self) -> Path:
        return self.path / "log.txt"

    def claim(self, incarnation: int) -> Path:
        return self.path / f"claim.r{incarnation}.json"

    def heartbeat(self, incarnation: int) -> Path:
        return self.path / f"heartbeat.r{incarnation}"

    def exit(self, incarnation: int) -> Path:
        return self.path / f"exit.r{incarnation}.json"

    def incarnations(self) -> dict[str, list[int]]:
        """List the folder once: which incarnations have a claim, a heartbeat and an exit record."""
        found: dict[str, list[int]] = {"claim": [], "heartbeat": [], "exit": []}
        if self.path.is_dir():
            for path in self.path.iterdir():
                match = _ATTEMPT_FILE.fullmatch(path.name)
                if match:
                    found[match[1]].append(int(match[2]))
        return {kind: sorted(numbers) for kind, numbers in found.items()}


@dataclass(frozen=True)
class AdaptedLayout:
    """A run's model, adapted to a new session: `adapted/<name>/`."""

    path: Path

    @property
    def record(self) -> Path:
        return self.path / "adapted.json"

    @property
    def inputs(self) -> Path:
        return self.path / "inputs.h5"

    @property
    def model_params(self) -> Path:
        return self.path / "model_params.h5"

    @property
    def posterior_means(self) -> Path:
        return self.path / "posterior_means.nc"

    @property
    def inferred_dir(self) -> Path:
        """Posterior means of further trials."""
        return self.path / "inferred"

    def inferred(self, name: str) -> Path:
        return self.inferred_dir / f"{check_name(name, 'dataset')}.nc"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    def start(self, number: int) -> Path:
        """Return the folder of the short training that tries one of several starts."""
        return self.path / "starts" / str(number)


def numbered(folder: Path) -> list[Path]:
    """Return the folders in `folder` whose names are numbers (001, 002, ...), highest first."""
    found = [path for path in folder.iterdir() if _ATTEMPT.fullmatch(path.name)] if folder.is_dir() else []
    return sorted(found, key=lambda path: int(path.name), reverse=True)


@dataclass(frozen=True)
class RunLayout:
    """One run: `param_<hash>/<run spec>/`."""

    path: Path

    @property
    def run_id(self) -> str:
        """`param_<hash>/<run spec>`."""
        return f"{self.path.parent.name}/{self.path.name}"

    @property
    def collection(self) -> CollectionLayout:
        return CollectionLayout(self.path.parent.parent)

    @property
    def params_json(self) -> Path:
        return self.path / "params.json"

    @property
    def script(self) -> Path:
        return self.path / "run.sh"

    @property
    def model_params(self) -> Path:
        return self.path / "model_params.h5"

    @property
    def metrics_json(self) -> Path:
        """Scores and the verdict of quality control."""
        return self.path / "metrics.json"

    @property
    def posterior_dir(self) -> Path:
        return self.path / "posterior_means"

    def posterior_means(self, dataset: str) -> Path:
        return self.posterior_dir / f"{dataset}.nc"

    @property
    def inferred_dir(self) -> Path:
        """Posterior means of trials that the run was not prepared with."""
        return self.path / "inferred"

    def inferred(self, name: str) -> Path:
        return self.inferred_dir / f"{check_name(name, 'dataset')}.nc"

    @property
    def adapted_dir(self) -> Path:
        """Models that were adapted to new sessions."""
        return self.path / "adapted"

    def adapted(self, name: str) -> AdaptedLayout:
        return AdaptedLayout(self.adapted_dir / check_name(name, "adapted model"))

    def adapted_names(self) -> list[str]:
        """Return the adapted models on disk, sorted."""
        return sorted(path.parent.name for path in self.adapted_dir.glob("*/adapted.json"))

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    def checkpoint_dir(self, attempt: int, incarnation: int) -> Path:
        return self.checkpoints / f"{attempt:03d}.r{incarnation}"

    def checkpoint_dirs(self) -> list[tuple[int, int, Path]]:
        """Return (attempt, incarnation, folder), highest first."""
        found = []
        if self.checkpoints.is_dir():
            for path in self.checkpoints.iterdir():
                match = _INCARNATION.fullmatch(path.name)
                if match:
                    found.append((int(match[1]), int(match[2]), path))
        return sorted(found, reverse=True)

    def checkpoint_steps(self) -> dict[tuple[int, int], int]:
        """Return, by attempt and incarnation, the training step of the newest checkpoint, if any."""
        found = {}
        for attempt, incarnation, folder in self.checkpoint_dirs():
            steps = [int(match[1]) for name in _names(folder) if (match := _CHECKPOINT.fullmatch(name))]
            if steps:
                found[attempt, incarnation] = max(steps)
        return found

    @property
    def has_checkpoint(self) -> bool:
        """Whether some incarnation has left a checkpoint: it may be resumed, or sampled from."""
        return any(any(folder.glob("*.npz")) for _, _, folder in self.checkpoint_dirs())

    @property
    def deleted_attempts(self) -> Path:
        """Attempts that are being deleted, or whose deletion was killed."""
        return self.path / ".attempts.deleted"

    @property
    def attempts_dir(self) -> Path:
        return self.path / "attempts"

    def attempt(self, number: int) -> AttemptLayout:
        return AttemptLayout(self.attempts_dir / f"{number:03d}")

    def attempts(self) -> list[AttemptLayout]:
        """Return the attempts that exist, first first."""
        if not self.attempts_dir.is_dir():
            return []
        found = [AttemptLayout(p) for p in self.attempts_dir.iterdir() if _ATTEMPT.fullmatch(p.name)]
        return sorted(found, key=lambda attempt: attempt.number)


def fitlog(checkpoint_dir: Path) -> Path:
    """Return the fit log that lies beside the checkpoints of one incarnation."""
    return checkpoint_dir / "fitlog.csv"


def tensorboard_events(checkpoint_dir: Path) -> Path:
    """Return the folder of the TensorBoard events of one incarnation."""
    return checkpoint_dir / "tensorboard"


@dataclass(frozen=True)
class OutboxName:
    """What the name of an empty file in the outbox says.

    Attributes
    ----------
    key : str
        `run_key` of the run.
    state : str
        The word of a `RunState`.
    """

    key: str
    attempt: int
    incarnation: int
    state: str
    code: int

    def __str__(self) -> str:
        return f"{self.key}.{self.attempt:03d}.r{self.incarnation}.{self.state}.{self.code}"

    @classmethod
    def parse(cls, name: str) -> OutboxName | None:
        """Read a file name; None if it is not one of ours."""
        match = _OUTBOX.fullmatch(name)
        return cls(match[1], int(match[2]), int(match[3]), match[4], int(match[5])) if match else None


@dataclass(frozen=True)
class TrustLayout:
    """What the user has trusted: `trusted/` in the user's own settings, one file an answer."""

    path: Path

    def record(self, name: str) -> Path:
        return self.path / "trusted" / name


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
        for name in _names(self.path):
            match = _SENDING.fullmatch(name)
            if match:
                found[int(match[1])] = max(int(match[2]), found.get(int(match[1]), 0))
        return found

    def scripts(self) -> list[Path]:
        """Return all scripts on disk, sorted: those of the jobs, and the local queues of packed tasks."""
        return sorted([*self.path.glob("script-*.sh"), *self.path.glob("queues/*.sh")])

    def script_count(self) -> int:
        """List the folder once: how many chunks have a script."""
        return sum(_SCRIPT.fullmatch(name) is not None for name in _names(self.path))

    def receipts(self) -> list[int]:
        """List the folder once: the chunks that have a receipt, sorted."""
        names = _names(self.path)
        return sorted(int(match[1]) for name in names if (match := _RECEIPT.fullmatch(name)))


@dataclass(frozen=True)
class CollectionLayout:
    """One run collection: `<root>/<collection>/`."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def collection_json(self) -> Path:
        return self.path / "collection.json"

    @property
    def summary(self) -> Path:
        return self.path / "summary.txt"

    @property
    def tensorboard_script(self) -> Path:
        return self.path / "launch_tensorboard.sh"

    @property
    def queue_script(self) -> Path:
        return self.path / "run_queue.sh"

    @property
    def figures(self) -> Path:
        return self.path / "figures"

    @property
    def report(self) -> Path:
        """The page that `lfadsrm report` writes."""
        return self.path / "report.html"

    def figure(self, name: str, suffix: str = ".png") -> Path:
        return self.figures / f"{check_name(name, 'figure')}{suffix}"

    def input_dir(self, data_hash: str, spec: str) -> Path:
        return self.path / f"data_{data_hash}" / spec

    def input_file(self, data_hash: str, spec: str, dataset: str) -> Path:
        return self.input_dir(data_hash, spec) / f"lfads_{dataset}.h5"

    def run(self, param_hash: str, spec: str) -> RunLayout:
        return RunLayout(self.path / f"param_{param_hash}" / spec)

    def run_by_id(self, run_id: str) -> RunLayout:
        """Return the run with the id `param_<hash>/<run spec>`."""
        head, _, spec = run_id.partition("/")
        if not head.startswith("param_") or not spec:
            raise UsageError(f"{run_id!r} is not a run id", hint="a run id reads param_<hash>/<run spec>")
        return RunLayout(self.path / head / check_name(spec, "run spec"))

    def run_at(self, folder: str) -> RunLayout:
        """Return the run in a folder, whose name is absolute or starts at this collection."""
        return RunLayout(self.path / Path(folder).expanduser())

    def runs_on_disk(self) -> list[RunLayout]:
        """Return the runs that have a `params.json`, sorted by id."""
        return sorted(
            (RunLayout(path.parent) for path in self.path.glob("param_*/*/params.json")),
            key=lambda run: run.run_id,
        )

    @property
    def state_dir(self) -> Path:
        return self.path / ".lfadsrm"

    @property
    def outbox(self) -> Path:
        return self.state_dir / "outbox"

    def outbox_file(self, name: OutboxName) -> Path:
        return self.outbox / str(name)

    def outbox_names(self) -> list[OutboxName]:
        """List the outbox once."""
        if not self.outbox.is_dir():
            return []
        names = (OutboxName.parse(path.name) for path in self.outbox.iterdir())
        return [name for name in names if name is not None]

    @property
    def submissions_dir(self) -> Path:
        return self.state_dir / "submissions"

    def submission(self, ulid: str) -> SubmissionLayout:
        if not _ULID.fullmatch(ulid):
            raise UsageError(f"{ulid!r} is not the id of a submission", hint="it has 26 letters and digits")
        return SubmissionLayout(self.submissions_dir / ulid)

    def submissions(self) -> list[SubmissionLayout]:
        """Return the submissions on disk, oldest first, complete or not."""
        names = sorted(name for name in _names(self.submissions_dir) if _ULID.fullmatch(name))
        return [SubmissionLayout(self.submissions_dir / name) for name in names]

    def index(self, number: int) -> Path:
        """Return the n-th index: a cache of the states that files alone decide."""
        return self.state_dir / f"index-{number}.json"

    def index_numbers(self) -> list[int]:
        """Return the indexes on disk, sorted."""
        names = _names(self.state_dir)
        return sorted(int(match[1]) for name in names if (match := _INDEX.fullmatch(name)))

    def roster(self, stamp: str) -> Path:
        """Return the cache of a `collection.json`, which the stamp tells from others."""
        return self.state_dir / f"roster-{stamp}.json"

    def rosters(self) -> list[Path]:
        """Return the caches of this and earlier `collection.json`."""
        return [self.state_dir / name for name in _names(self.state_dir) if _ROSTER.fullmatch(name)]

    @property
    def timings_dir(self) -> Path:
        return self.state_dir / "timings"

    def timing(self, run_id: str, host: str) -> Path:
        """Return the timing of some steps of a run on one machine."""
        return self.timings_dir / f"{run_key(run_id)}.{host}.json"

    def timings(self) -> list[Path]:
        """Return the timings on disk."""
        return sorted(self.timings_dir.glob("*.json"))

    def cancellation(self, ulid: str) -> Path:
        return self.state_dir / f"cancel-{ulid}.json"

    def cancellations(self) -> list[Path]:
        """Return the cancellations on record, oldest first."""
        if not self.state_dir.is_dir():
            return []
        return sorted(path for path in self.state_dir.iterdir() if _CANCELLATION.fullmatch(path.name))

    def queue_state_dir(self, host: str) -> Path:
        """Return the folder of the `<run key>.<state>` files of the local queues of one host."""
        return self.state_dir / "local" / host

    def queue_state_files(self, run_id: str) -> list[Path]:
        """Return the `<run key>.<state>` files of one run, of the queues of all hosts."""
        return sorted(self.state_dir.glob(f"local/*/{run_key(run_id)}.*"))
