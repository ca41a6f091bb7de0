"""Collections, experiments and sites with hostile content: every reading command ends, and says why."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hostile
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lfadsrm_hpc.layout import CollectionLayout, OutboxName, run_key
from lfadsrm_hpc.manifest import store
from lfadsrm_hpc.manifest.records import Identity, new_ulid
from lfadsrm_hpc.manifest.submissions import (
    Plan,
    PlannedChunk,
    PlannedTask,
    Receipt,
    begin_sending,
    record_receipt,
    write_plan,
)
from lfadsrm_hpc.schedulers.sites import loading as sites

FEW = settings(
    max_examples=5,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
MANY = settings(FEW, max_examples=40)
seeds = st.integers(0, 2**32 - 1)


@pytest.fixture(scope="module")
def whole(fabricated: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A collection in every state: complete, failed, working, handed to a scheduler, cancelled."""
    from lfadsrm_hpc.collection.params import RunParams

    root = tmp_path_factory.mktemp("whole")
    params = RunParams(**fabricated.BASE).generate_sweep(factors_dim=[2, 3], seed=[0, 1, 2])
    rc = fabricated.collection(root, params, specs={"single_day1": ["day1"]})
    done, failed, working, handed, cancelled, _ = rc.runs
    fabricated.complete(done, metrics={"co_bps": 0.3}, verdict="good")
    fabricated.complete(failed, code=1)
    store.heartbeat(working.layout, store.take_local(working.layout, Identity.local("", 0)), epoch=3)
    for run in (done, failed, working):
        run.layout.attempt(1).log.write_text("epoch 1\n")
    layout = CollectionLayout(rc.path)
    submission = layout.submission(new_ulid())
    attempt = store.reserve(handed.layout, submission.ulid)
    site = sites.to_settings(sites.load_site("generic-slurm").site)
    chunk = PlannedChunk(0, "lf-0", 1, {"walltime_s": 3600, "partition": "", "cpus": 1, "memory_mb": 100})
    plan = Plan(submission.ulid, "slurm", "generic-slurm", chunks=(chunk,), settings=site)
    write_plan(submission, plan, [PlannedTask(0, 0, handed.id, attempt)], {"script-0.sh": "#!/bin/sh\n"})
    begin_sending(submission, 0, 1)
    record_receipt(submission, 0, Receipt("4711"))
    store.cancel(layout, [cancelled.layout])
    hostile.check(hostile.outcome([("status", rc.path)]))
    return root


@pytest.fixture
def place(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """Where collections are put, and a file outside of them that must stay as it is."""
    outside = tmp_path / "outside/secret.txt"
    outside.parent.mkdir()
    outside.write_text("secret\n")
    yield tmp_path / "inside/runs", outside
    assert [path.name for path in outside.parent.iterdir()] == ["secret.txt"]
    assert outside.read_text() == "secret\n"
    assert {path.name for path in tmp_path.iterdir()} <= {"inside", "outside", "settings"}
    assert not list(tmp_path.rglob("owned"))


def fresh(whole: Path, place: Path) -> Path:
    shutil.rmtree(place.parent, ignore_errors=True)
    shutil.copytree(whole, place.parent)
    return place / "made_up"


def reading(collection: Path, rng: random.Random, count: int = 3) -> list[tuple[object, ...]]:
    every: list[tuple[object, ...]] = [
        ("status", collection),
        ("status", collection, "--rescan", "--json"),
        ("show", collection),
        ("show", collection, "--run", "factors_dim=2"),
        ("logs", "single_day1", "-C", collection, "--match", "factors_dim=2", "--match", "seed=0"),
        ("metrics", collection),
        ("best", collection),
        ("check-runs", collection),
        ("plan", collection, "--site", "generic-slurm", "--walltime", "1:00:00"),
        ("report", collection),
    ]
    return rng.sample(every, count)


def files_of(collection: Path) -> list[Path]:
    return sorted(
        path for path in collection.rglob("*") if path.is_file() and path.suffix not in (".h5", ".nc")
    )


def spoil_and_read(whole: Path, place: tuple[Path, Path], seed: int) -> None:
    rng = random.Random(seed)
    collection = fresh(whole, place[0])
    victims = files_of(collection)
    for path in rng.sample(victims, rng.choice((1, 1, 2))):
        hostile.spoil(path, rng, place[1])
    hostile.check(hostile.outcome(reading(collection, rng)))


@FEW
@given(seed=seeds)
def test_small_files(whole: Path, place: tuple[Path, Path], seed: int) -> None:
    spoil_and_read(whole, place, seed)


@pytest.mark.slow
@MANY
@given(seed=seeds)
def test_small_files_at_length(whole: Path, place: tuple[Path, Path], seed: int) -> None:
    spoil_and_read(whole, place, seed)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *(("collection.json", kind) for kind in ("pipe", "zero", "folder")),
        *((name, "pipe") for name in ("params.json", "plan.json", "log.txt", "tasks.tsv")),
    ],
)
def test_what_is_no_regular_file(whole: Path, place: tuple[Path, Path], name: str, kind: str) -> None:
    collection = fresh(whole, place[0])
    for path in collection.rglob(name):
        path.unlink()
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "zero":
            path.symlink_to("/dev/zero")
        else:
            path.mkdir()
    hostile.check(hostile.outcome(reading(collection, random.Random(0), 10)))


def test_strange_names(whole: Path, place: tuple[Path, Path]) -> None:
    collection = fresh(whole, place[0])
    layout = CollectionLayout(collection)
    run = layout.runs_on_disk()[0]
    key = run_key(run.run_id)
    for name in (
        str(OutboxName(key, 999, 0, "COMPLETED", 0)),
        f"{key}.99999999999999999999.r0.COMPLETED.0",
        f"{key}.001.r0.OWNED.0",
        f"{key}.001.r0.FAILED.{'9' * 100}",
        "\x1b]0;owned\x07",
        "a\nb",
    ):
        (layout.outbox / name).touch()
    for name in ("99999999999999999999", "000", "001x", "-1", "\x1b[2J"):
        (run.attempts_dir / name).mkdir(exist_ok=True)
    (run.attempts_dir / "001/claim.r99999999999999999999.json").write_text("{}")
    for name in (f"index-{'9' * 60}.json", "roster-\x1b.json", f"cancel-{'Z' * 26}.json"):
        (layout.state_dir / name).write_text("{}")
    (layout.submissions_dir / ("Z" * 26)).mkdir()
    (layout.submissions_dir / ("Y" * 26)).symlink_to(place[1].parent)
    hostile.check(hostile.outcome(reading(collection, random.Random(0), 10)))


def experiment_and_read(project: Path, outside: Path, seed: int) -> None:
    rng = random.Random(seed)
    shutil.rmtree(project / "runs", ignore_errors=True)
    file = project / "experiment.toml"
    lines = hostile_toml(rng)
    if rng.random() < 0.3:
        file.write_bytes(hostile.changed_bytes(lines.encode(errors="replace"), rng))
    elif rng.random() < 0.1:
        file.write_bytes(rng.choice(hostile.CONTENTS))
    else:
        file.write_bytes(lines.encode(errors="replace"))
    commands = [
        ("prepare", project),
        ("status", project),
        ("site", "trust", project, "--list"),
        ("show", project),
    ]
    hostile.check(hostile.outcome(commands))


def hostile_toml(rng: random.Random) -> str:
    """Return an experiment with strange values under known names."""
    tables = {
        "collection": ("name", "root", "comment"),
        "datasets": ("path", "files", "min_trials", "options", "sessions", "alignment"),
        "params": ("spike_bin_ms", "batch_size", "factors_dim", "start_from", "held_out_neurons", "split"),
        "sweep": ("seed", "factors_dim", "co_dim"),
        "run_specs": ("singles", "stitched", "specs"),
        "queue": ("slots", "environment", "poll_s"),
        "cluster": ("site", "walltime", "set", "cpus"),
    }
    good = {"name": '"small"', "path": '"datasets"', "files": '["day1"]', "seed": "[1, 2]", "cpus": "1"}
    lines = []
    for table, keys in tables.items():
        lines.append(f"[{table}]")
        for key in keys:
            if rng.random() < 0.25:
                value = rng.choice([v for v in hostile.VALUES if not isinstance(v, dict) and v is not None])
                text = json.dumps(value).replace("NaN", "nan").replace("Infinity", "inf")
                lines.append(f"{key} = {text}" if rng.random() < 0.8 else f"{key} = [{text}]")
            elif key in good:
                lines.append(f"{key} = {good[key]}")
    return "\n".join(lines) + "\n"


@FEW
@given(seed=seeds)
def test_experiments(project: Path, tmp_path: Path, seed: int) -> None:
    experiment_and_read(project, tmp_path, seed)


@pytest.mark.slow
@MANY
@given(seed=seeds)
def test_experiments_at_length(project: Path, tmp_path: Path, seed: int) -> None:
    experiment_and_read(project, tmp_path, seed)


def site_and_read(project: Path, seed: int) -> None:
    rng = random.Random(seed)
    os.environ["LFADSRM_TRUSTED"] = "/"
    from lfadsrm_hpc.schedulers.sites.schema import keys_of, table_classes

    lines = ["schema = 1", 'extends = "generic-slurm"']
    for table in rng.sample(sorted(t for t in table_classes() if t != "partitions"), 3):
        lines.append(f"[{table}]")
        keys = sorted(keys_of(table))
        for key in rng.sample(keys, min(2, len(keys))):
            value = rng.choice([v for v in hostile.VALUES if isinstance(v, str | bool | int | float)])
            lines.append(f"{key} = " + json.dumps(value).replace("NaN", "nan").replace("Infinity", "inf"))
    data = "\n".join(lines).encode(errors="replace")
    folder = project / "site_configs"
    folder.mkdir(exist_ok=True)
    (folder / "hill.toml").write_bytes(hostile.changed_bytes(data, rng) if rng.random() < 0.4 else data)
    where = ("--project", project)
    commands = [("site", "show", "hill", *where), ("site", "check", "hill", *where), ("site", "list", *where)]
    hostile.check(hostile.outcome(commands))


@FEW
@given(seed=seeds)
def test_sites(project: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LFADSRM_TRUSTED", "/")
    site_and_read(project, seed)


@pytest.mark.slow
@MANY
@given(seed=seeds)
def test_sites_at_length(project: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LFADSRM_TRUSTED", "/")
    site_and_read(project, seed)
