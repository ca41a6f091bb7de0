"""A damaged input file and a changed recording: what commands advise is what works."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lfadsrm_hpc.api import RunCollection
from lfadsrm_hpc.errors import DataError
from lfadsrm_hpc.manifest import store
from lfadsrm_hpc.manifest.records import EXIT_BAD_DATA, Exit, Identity, reason_of

CLUSTER = ("--site", "generic-slurm", "--walltime", "1:00:00")


@pytest.fixture
def run(small: Path) -> Any:
    return RunCollection.open(small).find_run("single_day1", 0)


def damage(run: Any) -> Path:
    (path,) = run.input_files().values()
    path.write_bytes(path.read_bytes()[:2000])
    return Path(path)


def test_a_damaged_input_file_is_deleted_and_prepared_again(experiment: Path, run: Any, call: Any) -> None:
    path = damage(run)
    for words in (("prepare",), ("run",), ("plan", *CLUSTER)):
        said = call(*words, experiment)
        assert said.code == 3, said.err
        assert str(path) in said.err
        assert (
            "do: an input of a collection is written anew: delete this file, then `lfadsrm prepare`"
            in said.err
        )
    path.unlink()
    assert call("prepare", experiment).code == 0
    run.check_inputs()
    assert call("run", experiment, "--dry-run").code == 0


def test_a_run_that_failed_by_it_starts_anew(experiment: Path, run: Any, call: Any) -> None:
    path = damage(run)
    claim = store.take_local(run.layout, Identity.local("", 0))
    assert not isinstance(claim, store.AlreadyComplete)
    store.publish_exit(run.layout, claim, Exit(EXIT_BAD_DATA, reason_of(EXIT_BAD_DATA)))
    advised = call("why", run.id, "-C", experiment, "--json").json["next"]
    assert "delete a damaged input file, then `lfadsrm prepare`" in advised["why"]
    path.unlink()
    assert call("prepare", experiment).code == 0
    with pytest.raises(DataError, match="delete a damaged input file and prepare again"):
        store.take_local(run.layout, Identity.local("", 0))
    assert call(*advised["command"][1:], "--yes").code == 0
    run.check_inputs()
    assert not isinstance(store.take_local(run.layout, Identity.local("", 0)), store.AlreadyComplete)


def test_a_changed_recording_needs_another_name(experiment: Path, run: Any, call: Any) -> None:
    recording, file = experiment / "datasets/day1.npz", experiment / "experiment.toml"
    spikes = np.random.default_rng(9).poisson(0.5, (40, 20, 5))
    np.savez(recording, spikes=spikes, bin_ms=10.0, condition=np.arange(40) % 4)
    said = call("prepare", experiment)
    assert said.code == 3
    assert (
        "put the old data back, give the changed dataset another name, or use another collection" in said.err
    )
    assert call("clean", experiment, "--spec", "single_day1", "--restart", "--yes").code == 4
    before = file.read_text()
    file.write_text(before.replace('name = "small"', 'name = "other"'))
    assert call("prepare", experiment).code == 0
    file.write_text(before.replace('stitched = "all"', 'stitched = "both"'))
    recording.rename(experiment / "datasets/day1_again.npz")
    said = call("prepare", experiment)
    assert said.code == 0
    assert "4 runs that the experiment does not name any more stay" in said.err
    run.check_inputs()


def test_peek_does_without_the_spikes_of_a_damaged_file(run: Any) -> None:
    from lfadsrm_hpc.results.peek.reading import _inputs_of

    assert _inputs_of(run.layout, run.record(), "day1", 0) is not None
    damage(run)
    assert _inputs_of(run.layout, run.record(), "day1", 0) is None
