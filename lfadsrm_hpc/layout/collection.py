"""Paths of a run collection and of its runs."""

from __future__ import annotations

import glob
import re
from dataclasses import dataclass
from pathlib import Path

from lfadsrm_hpc.errors import UsageError
from lfadsrm_hpc.layout.attempts import AdaptedLayout, AttemptLayout, TrainedLayout, fitlog, glimpse
from lfadsrm_hpc.layout.names import ATTEMPT, CHECKPOINT, OutboxName, check_name, names_in, run_key
from lfadsrm_hpc.layout.submission import SubmissionLayout

_INCARNATION = re.compile(r"(\d{3,})\.r(\d+)")
_INDEX = re.compile(r"index-(\d+)\.json")
_ROSTER = re.compile(r"roster-.+\.json")
_ULID = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}")
_CANCELLATION = re.compile(r"cancel-([0-9A-HJKMNP-TV-Z]{26})\.json")


@dataclass(frozen=True)
class RunLayout(TrainedLayout):
    """One run: `param_<hash>/<run spec>/`."""

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
    def metrics_json(self) -> Path:
        """Scores and the verdict of quality control."""
        return self.path / "metrics.json"

    @property
    def posterior_dir(self) -> Path:
        return self.path / "posterior_means"

    def posterior_means(self, dataset: str) -> Path:
        return self.posterior_dir / f"{dataset}.nc"

    @property
    def adapted_dir(self) -> Path:
        """Models that were adapted to new sessions."""
        return self.path / "adapted"

    def adapted(self, name: str) -> AdaptedLayout:
        return AdaptedLayout(self.adapted_dir / check_name(name, "adapted model"))

    def adapted_names(self) -> list[str]:
        """Return the adapted models on disk, sorted."""
        return sorted(path.parent.name for path in self.adapted_dir.glob("*/adapted.json"))

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
            steps = [int(match[1]) for name in names_in(folder) if (match := CHECKPOINT.fullmatch(name))]
            if steps:
                found[attempt, incarnation] = max(steps)
        return found

    @property
    def has_checkpoint(self) -> bool:
        """Whether some incarnation has left a checkpoint: it may be resumed, or sampled from."""
        return any(any(folder.glob("*.npz")) for _, _, folder in self.checkpoint_dirs())

    def fit_log(self) -> Path | None:
        """Return the fit log that counts: that of the newest incarnation that has one; None: none has."""
        logs = (fitlog(folder) for _, _, folder in self.checkpoint_dirs())
        return next((log for log in logs if log.is_file()), None)

    def glimpse(self, dataset: str) -> Path | None:
        """Return the newest look at a dataset while it was trained on; None: there is none."""
        looks = (glimpse(folder, dataset) for _, _, folder in self.checkpoint_dirs())
        return next((look for look in looks if look.is_file()), None)

    @property
    def deleted_attempts(self) -> Path:
        """Attempts that are being deleted, or whose deletion was killed."""
        return self.path / ".attempts.deleted"

    def released_attempt(self, mark: str) -> Path:
        """Return the name of an attempt that only held the run, while it is being deleted."""
        return self.path / f".released.{mark}"

    @property
    def attempts_dir(self) -> Path:
        return self.path / "attempts"

    def attempt(self, number: int) -> AttemptLayout:
        return AttemptLayout(self.attempts_dir / f"{number:03d}")

    def attempts(self) -> list[AttemptLayout]:
        """Return the attempts that exist, first first."""
        if not self.attempts_dir.is_dir():
            return []
        found = [AttemptLayout(p) for p in self.attempts_dir.iterdir() if ATTEMPT.fullmatch(p.name)]
        return sorted(found, key=lambda attempt: attempt.number)


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
    def archive_manifest(self) -> Path:
        """What an archive says of its files; it comes out of it with them."""
        return self.path / "archive.json"

    @property
    def default_archive(self) -> Path:
        return self.path.with_name(f"{self.name}.tar")

    def put_aside(self, mark: str) -> Path:
        """Return the name of the whole collection while it is looked at for the last time before it goes."""
        return self.path.with_name(f".{self.name}.{mark}.aside")

    def being_deleted(self, mark: str) -> Path:
        """Return the name of the whole collection, archived and verified, while it is being deleted."""
        return self.path.with_name(f".{self.name}.{mark}.deleted")

    def left_aside(self) -> tuple[list[Path], list[Path]]:
        """Return what was put aside, and what was being deleted, when something died."""
        mark = f".{glob.escape(self.name)}." + "[0-9a-f]" * 16
        found = (sorted(self.path.parent.glob(f"{mark}.{end}")) for end in ("aside", "deleted"))
        return next(found), next(found)

    def is_cache(self, path: Path) -> bool:
        """Return whether a file of the collection is one that is made again when it is needed."""
        return path.parent == self.state_dir and bool(
            _INDEX.fullmatch(path.name) or _ROSTER.fullmatch(path.name)
        )

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

    def input_dirs(self) -> list[Path]:
        """Return the folders of input files on disk, one a data hash and run spec."""
        found = self.path.glob("data_*/*")
        return sorted(path for path in found if path.is_dir() and not path.name.startswith("."))

    def removed_inputs(self, folder: Path, mark: str) -> Path:
        """Return the name of a folder of input files while it is being deleted."""
        return folder.with_name(f".removed.{mark}.{folder.name}")

    def inputs_put_aside(self) -> list[tuple[Path, Path]]:
        """Return such folders that are on disk, and where their files come from."""
        found = sorted(self.path.glob("data_*/.removed.*.*"))
        return [(path, path.with_name(path.name.split(".", 3)[3])) for path in found]

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
        found = (path.parent for path in self.path.glob("param_*/*/params.json"))
        return sorted(
            (RunLayout(path) for path in found if not path.name.startswith(".")),
            key=lambda run: run.run_id,
        )

    def removed_run(self, run: RunLayout, mark: str) -> Path:
        """Return the name of a run's folder while it is being deleted."""
        return run.path.with_name(f".removed.{mark}.{run.path.name}")

    def runs_put_aside(self) -> list[Path]:
        """Return such folders that are on disk."""
        return sorted(self.path.glob("param_*/.removed.*.*"))

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
        names = sorted(name for name in names_in(self.submissions_dir) if _ULID.fullmatch(name))
        return [SubmissionLayout(self.submissions_dir / name) for name in names]

    def index(self, number: int) -> Path:
        """Return the n-th index: a cache of the states that files alone decide."""
        return self.state_dir / f"index-{number}.json"

    def index_numbers(self) -> list[int]:
        """Return the indexes on disk, sorted."""
        names = names_in(self.state_dir)
        return sorted(int(match[1]) for name in names if (match := _INDEX.fullmatch(name)))

    def roster(self, stamp: str) -> Path:
        """Return the cache of a `collection.json`, which the stamp tells from others."""
        return self.state_dir / f"roster-{stamp}.json"

    def rosters(self) -> list[Path]:
        """Return the caches of this and earlier `collection.json`."""
        return [self.state_dir / name for name in names_in(self.state_dir) if _ROSTER.fullmatch(name)]

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
