"""What runs have used on a cluster, as the report tells it: by what their tasks were given."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lfadsrm_hpc.api import RunCollection
from lfadsrm_hpc.manifest import store
from lfadsrm_hpc.manifest.reading import look
from lfadsrm_hpc.manifest.records import Identity
from lfadsrm_hpc.results.report.resources import (
    AT_WORK,
    COMPLETED,
    FAILED,
    GONE,
    LOCAL_QUEUE,
    SILENT,
    WENT_ON,
    Resources,
    resources_of,
)

if TYPE_CHECKING:
    from fake_cluster import FakeCluster


@pytest.fixture
def rc(project: Path, cluster: FakeCluster) -> RunCollection:
    return RunCollection.open(project / "runs/small")


def begun(rc: RunCollection, run_id: str, hours: float) -> None:
    """Let the newest start of a run be so long ago."""
    attempt = max(rc.layout.run_by_id(run_id).attempts_dir.iterdir())
    path = max(attempt.glob("claim.r*.json"))
    record = json.loads(path.read_text())
    record["claimed"] -= 3600 * hours
    path.write_text(json.dumps(record))


def used(rc: RunCollection) -> Resources:
    facts = [store.read_facts(run.layout) for run in rc.runs]
    return resources_of(rc.layout, facts, look(rc.layout.path))


def test_hours_are_those_of_what_tasks_were_given(rc: RunCollection, cluster: FakeCluster) -> None:
    job = rc.submit(site="hill", walltime="1:00:00", cpus=4, gpus=2).jobs[0].job
    runs = [cluster.members(job, index)[0].run_id for index in range(6)]
    ends = {0: (0, ""), 1: (1, "diverged"), 2: (75, ""), 3: (0, "")}
    for index in range(4):
        cluster.start(job, index)
        begun(rc, runs[index], 1 + index)
        cluster.end(job, index, *ends[index])
    cluster.start(job, 4)
    store.take_local(rc.layout.run_by_id(runs[1]), Identity.local("", 0))
    begun(rc, runs[1], 10)
    found = used(rc)
    assert found.total.starts == 6
    assert len(found.total.runs) == 5
    outcomes = {one.name: one for one in found.outcomes}
    assert outcomes[COMPLETED].hours == pytest.approx(1 + 4, abs=0.01)
    assert outcomes[FAILED].hours == pytest.approx(2, abs=0.01)
    assert outcomes[WENT_ON].hours == pytest.approx(3, abs=0.01)
    assert outcomes[AT_WORK].starts == 2
    assert found.total.gpu_hours == pytest.approx(2 * 10, abs=0.05)
    assert found.total.core_hours == pytest.approx(4 * 10, abs=0.05)
    assert found.wasted_hours == pytest.approx(2, abs=0.01)
    assert {one.name for one in found.places} == {"hill · gpu", LOCAL_QUEUE}
    assert any("left no word of how long they took" in note for note in found.notes)


def test_starts_that_left_no_word(rc: RunCollection, cluster: FakeCluster) -> None:
    job = rc.submit(rc.runs[:1], site="hill", walltime="1:00:00").jobs[0].job
    cluster.start(job, 0, living=False)
    rc.layout.submissions()[0].plan.unlink()
    run = rc.runs[1].layout
    store.take_local(run, Identity.local("", 0))
    claim = run.attempt(1).claim(0)
    record = json.loads(claim.read_text())
    record["process"] |= {"pid": 2**30, "start": 1}
    claim.write_text(json.dumps(record))
    found = used(rc)
    assert [(one.name, one.starts) for one in found.outcomes] == [(SILENT, 1), (GONE, 1)]
    assert [one.name for one in found.places] == ["a cluster", LOCAL_QUEUE]
    assert found.total.unknown == 2
    assert found.total.hours == 0
