"""What a training shows of itself while it goes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lfadsrm_hpc.layout import RunLayout, glimpse
from lfadsrm_hpc.model.backend import tf
from lfadsrm_hpc.model.network.architecture import Architecture
from lfadsrm_hpc.model.sampling.posterior import PUSH_MEAN, Sampler
from lfadsrm_hpc.model.training import batches, checkpoints, loop
from lfadsrm_hpc.model.training import glimpse as glimpses
from lfadsrm_hpc.results.peek.reading import Peek, peek

pytestmark = pytest.mark.train

Make = Callable[..., Any]


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Save, and look, at every opportunity."""
    monkeypatch.setattr(glimpses, "EVERY_S", 0.0)
    monkeypatch.setattr(glimpses, "SAVING_SHARE", 1e9)
    monkeypatch.setattr(loop.Pace, "due", lambda self, now, best: True)


def read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    with np.load(path, allow_pickle=False) as file:
        return json.loads(str(file["meta"])), {name: file[name] for name in file.files if name != "meta"}


def look_at(folder: Path, hp: Any) -> Peek:
    """Look at a training in `folder`/shown as if it were a run's."""
    run = RunLayout(folder / "collection/param_0123456789ab/alone")
    run.checkpoints.mkdir(parents=True)
    (folder / "shown").rename(run.checkpoint_dir(1, 0))
    values = {"spike_bin_ms": 5, "output_dist": hp.output_dist, "max_epochs": hp.max_epochs}
    record = {"run_id": run.run_id, "params": {"values": values}, "spec": {"datasets": ["a"]}}
    run.params_json.write_text(json.dumps({**record, "data_hash": "", "inputs": []}))
    found = peek(run)
    run.checkpoint_dir(1, 0).rename(folder / "shown")
    return found


def test_rates_are_those_of_the_posterior_means_pushed_through(
    small: Make, session: Make, on_disk: Make, tmp_path: Path, often: None
) -> None:
    hp = small(co_dim=2, sample_validation_rate=0.2, held_out_neurons=[1])
    numbers = np.array([3, 5, 8, 13, 21, 34])
    sessions = [
        session("a", neurons=6, held_out=np.arange(6) == 1, valid_trials=numbers),
        session("b", neurons=4, trials=11),
    ]
    folder = on_disk(hp, sessions)
    arch = Architecture.of(hp, sessions)
    theta = tf.constant(arch.pack(checkpoints.load(folder).group("latest")))
    data = batches.resident(arch, [s.valid for s in sessions], [None, None], "valid")
    looks = glimpses.Glimpses(arch, sessions, tmp_path, data, pytest.fail)
    for epoch in (7, 8):
        looks.write_if_due(theta, epoch, 100)
    for one, trials in zip(sessions, (numbers[:4], np.arange(4)), strict=True):
        meta, found = read(glimpse(tmp_path, one.name))
        assert (meta["session"], meta["epoch"], meta["step"]) == (one.name, 7 + (one.name == "b"), 100)
        np.testing.assert_array_equal(found["trial"], trials)
        np.testing.assert_array_equal(found["data"], one.valid[:4])
        sampler = Sampler(hp, folder, one.name, kind=PUSH_MEAN)
        (block,) = sampler.blocks(one.valid[:4])
        np.testing.assert_allclose(found["rates"], block.arrays["rates"], rtol=1e-5)


def test_a_training_shows_itself_and_ends_as_one_that_does_not(
    small: Make, session: Make, tmp_path: Path, often: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    hp, sessions = small(max_epochs=4, sample_validation_rate=0.1), [session()]
    loop.train(hp, sessions, tmp_path / "shown")
    meta, found = read(glimpse(tmp_path / "shown", "a"))
    assert meta["epoch"] == 3  # the end of training is left to the posterior means
    assert found["rates"].shape == (4, 9, 6)
    shown = look_at(tmp_path, hp)
    assert shown.trial is not None
    assert (shown.trial.trial, shown.trial.epoch) == (0, 3)
    np.testing.assert_array_equal(shown.trial.rates, found["rates"][0] * (1000 / 5))
    assert shown.curve is not None
    assert shown.curve.epoch.tolist() == [1, 2, 3, 4]
    monkeypatch.setattr(glimpses, "EVERY_S", 3600.0)
    loop.train(hp, sessions, tmp_path / "not")
    assert not (tmp_path / "not/glimpse").exists()
    looked_at, undisturbed = (checkpoints.load(tmp_path / name).arrays for name in ("shown", "not"))
    for name, value in undisturbed.items():
        np.testing.assert_array_equal(looked_at[name], value, err_msg=name)


def test_what_goes_wrong_is_told_once_and_fails_nothing(
    small: Make, session: Make, tmp_path: Path, often: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any, **arrays: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(glimpses, "_savez", full)
    said: list[str] = []
    outcome = loop.train(small(max_epochs=4), [session()], tmp_path, on_message=said.append)
    assert outcome.reason == "max_epochs"
    assert len(said) == 1
    assert "lfadsrm peek" in said[0]
    assert "No space left" in said[0]


def test_it_takes_a_small_share_of_the_time(
    small: Make, session: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look that took 3 s is followed by the next after 150 s at the soonest."""
    clock = [1000.0]
    monkeypatch.setattr(glimpses.time, "monotonic", lambda: clock[0])
    hp, sessions = small(), [session()]
    looks = glimpses.Glimpses(Architecture.of(hp, sessions), sessions, tmp_path, {}, pytest.fail)
    written: list[float] = []

    def write(*args: Any) -> None:
        written.append(clock[0])
        clock[0] += 3.0

    monkeypatch.setattr(looks, "_write", write)
    for now in range(1000, 1400):
        clock[0] = max(clock[0], float(now))
        looks.write_if_due(tf.constant(0.0), 1, 1)
    assert written == [1010.0, 1163.0, 1316.0]
