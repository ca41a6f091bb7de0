"""Which checkpoint files are written, which are kept, and which one is read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lfadsrm_hpc.errors import ModelError
from lfadsrm_hpc.model.training import checkpoints, schedule
from lfadsrm_hpc.model.training import loop as training
from lfadsrm_hpc.model.training.schedule import Pace

pytestmark = pytest.mark.train

Make = Callable[..., Any]


def save(folder: Path, step: int, *, new_best: bool = False, keep: int = 2, keep_best: int = 2) -> Path:
    meta = {"step": step, "reason": None}
    return checkpoints.save(
        folder, {"a": np.full(2, step)}, meta, keep=keep, new_best=new_best, keep_best=keep_best
    )


def steps(folder: Path) -> list[str]:
    return sorted(p.name.removeprefix("checkpoint-").lstrip("0") for p in folder.iterdir())


def test_the_newest_files_are_kept_and_the_last_that_hold_new_best_parameters(tmp_path: Path) -> None:
    for step in range(1, 8):
        save(tmp_path, step, new_best=step in (1, 2, 4))
    assert steps(tmp_path) == ["2-best.npz", "4-best.npz", "6.npz", "7.npz"]
    assert checkpoints.load(tmp_path).meta["step"] == 7
    save(tmp_path, 8, new_best=True, keep=1)
    assert steps(tmp_path) == ["4-best.npz", "8-best.npz"]


def test_what_is_not_whole_is_passed_over(tmp_path: Path) -> None:
    assert not checkpoints.complete(tmp_path / "absent")
    for step in (1, 2, 3):
        save(tmp_path, step, new_best=step == 3)
    newest = tmp_path / "checkpoint-000000000003-best.npz"
    newest.write_bytes(newest.read_bytes()[:200])
    (tmp_path / "checkpoint-000000000009.npz.part").write_bytes(b"")
    assert checkpoints.complete(tmp_path)
    assert checkpoints.load(tmp_path).meta["step"] == 2


def test_after_a_step_back_what_was_given_up_goes(tmp_path: Path) -> None:
    """Else a training that ends before the step that it came back from would seem to go on."""
    for step, best in ((3, True), (6, False), (7, True), (9, False)):
        save(tmp_path, step, new_best=best, keep=5)
    back = save(tmp_path, 7, keep=5)
    assert checkpoints.newest(tmp_path) == back
    assert steps(tmp_path) == ["3-best.npz", "6.npz", "7.npz"]
    save(tmp_path, 6, new_best=True, keep=1, keep_best=1)
    assert steps(tmp_path) == ["6-best.npz"]


def test_the_first_folder_that_holds_a_finished_training(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in "abcd"]
    for folder, reason in zip(folders[1:], (None, "max_epochs", "learning_rate"), strict=True):
        folder.mkdir()
        checkpoints.save(folder, {}, {"step": 1, "reason": reason}, keep=1)
    assert checkpoints.finished(folders) == tmp_path / "c"
    assert checkpoints.finished(folders[:2]) is None


def test_another_format_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "FORMAT", 1)
    save(tmp_path, 1)
    monkeypatch.undo()
    with pytest.raises(ModelError, match="format 1"):
        checkpoints.load(tmp_path)
    with pytest.raises(ModelError, match="format 1"):
        checkpoints.finished([tmp_path])


@pytest.mark.parametrize(
    ("since", "takes", "best", "due"),
    [
        (29.9, 0.1, None, False),  # nothing new, too early
        (30.1, 0.1, None, True),  # every 30 s
        (30.1, 9.0, None, True),  # whatever it takes
        (4.9, 0.1, 7, False),  # a new best, but saving would take more than 2 %
        (5.1, 0.1, 7, True),
        (5.1, 0.1, 3, False),  # the best that is saved already
        (0.01, 0.0, 7, True),  # nobody knows yet how long it takes
    ],
)
def test_when_to_save(since: float, takes: float, best: int | None, due: bool) -> None:
    pace = Pace(100.0, takes, best=3 if best is not None else None)
    assert pace.due(100.0 + since, best) == due


def test_training_keeps_different_best_parameters(
    small: Make, session: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Saved after each epoch; each marked file is the first with its best parameters."""
    monkeypatch.setattr(schedule, "CHECKPOINT_SECONDS", -1.0)
    noisy = {"learning_rate_init": 0.1, "adam_epsilon": 1e-3, "l2_gen_scale": 0.0, "seed": 1}
    ramps = {"kl_increase_steps": 0, "l2_increase_steps": 0}
    hp = small(max_epochs=12, max_ckpt_to_keep=1, max_ckpt_to_keep_lve=3, **noisy, **ramps)
    training.train(hp, [session()], tmp_path)
    costs = checkpoints.load(tmp_path).arrays["fitlog"][:, training.COLUMNS.index("valid_total")]
    improving = [epoch for epoch in range(1, 13) if costs[epoch - 1] == costs[:epoch].min()]
    assert 3 < len(improving) < 12, "the test would show nothing"
    marked = sorted(tmp_path.glob("checkpoint-*-best.npz"))
    found = []
    for path in marked:
        with np.load(path) as file:
            np.testing.assert_array_equal(file["best/gen/W_ru"], file["latest/gen/W_ru"])
            found.append(int(file["fitlog"][-1, 0]))
    assert found == improving[-3:]
    assert len(list(tmp_path.glob("checkpoint-*.npz"))) == len({*improving[-3:], 12})


def test_few_saves_where_bests_come_fast(
    small: Make, session: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Epochs of milliseconds: the first best is saved, the next would take too long, the end is saved."""
    saves: list[int] = []
    real = checkpoints.save

    def slow(folder: Path, arrays: Any, meta: Any, **more: Any) -> Path:
        saves.append(meta["epoch"])
        training.time.sleep(0.2)
        return real(folder, arrays, meta, **more)

    monkeypatch.setattr(checkpoints, "save", slow)
    hp = small(max_epochs=10, kl_increase_steps=0, l2_increase_steps=0)
    training.train(hp, [session()], tmp_path)
    assert saves[0] == 1
    assert saves[-1] == 10
    assert len(saves) <= 4
    best = checkpoints.load(tmp_path).meta["best"]
    rows = checkpoints.load(tmp_path).arrays["fitlog"]
    assert best["valid_total"] == rows[:, training.COLUMNS.index("valid_total")].min()
