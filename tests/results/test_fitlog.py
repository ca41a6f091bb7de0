"""The fit log as a DataFrame, also while it is being written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lfadsrm_hpc.errors import ResultsError
from lfadsrm_hpc.model.training import schedule
from lfadsrm_hpc.results.runs.fitlog import COLUMNS, read_fitlog


def line(epoch: int, valid: float, weight: float = 1.0, l2_weight: float = 1.0) -> str:
    values = [epoch, epoch * 20, valid - 5, valid, 100, 110, 3, 4, 0.5, weight, l2_weight, 0.01, 0.7, 0.8]
    return ",".join(repr(value) for value in values) + "\n"


def write(path: Path, *lines: str) -> Path:
    path.write_text(",".join(COLUMNS) + "\n" + "".join(lines))
    return path


def test_columns_are_those_that_training_writes() -> None:
    assert COLUMNS == schedule.COLUMNS  # twice, since results do not import the model


def test_columns_types_and_the_lowest_validation_epoch(tmp_path: Path) -> None:
    path = write(tmp_path / "fitlog.csv", line(1, 150), line(2, 120), line(3, 130))
    log = read_fitlog(path)
    assert list(log.columns) == list(COLUMNS)
    assert log.epoch.dtype == np.int64
    assert log.step.tolist() == [20, 40, 60]
    assert log.train_total.tolist() == [145, 115, 125]
    assert log.attrs == {"lowest_valid_epoch": 2, "lowest_valid_cost": 120.0}


def test_epochs_within_the_ramps_do_not_count_as_lowest(tmp_path: Path) -> None:
    path = write(tmp_path / "f.csv", line(1, 90, 0.5), line(2, 95, 1.0, 0.9), line(3, 130), line(4, 125))
    assert read_fitlog(path).attrs["lowest_valid_epoch"] == 4
    path = write(tmp_path / "g.csv", line(1, 90, 0.5))
    assert read_fitlog(path).attrs["lowest_valid_epoch"] is None


def test_costs_that_are_not_finite_do_not_count_as_lowest(tmp_path: Path) -> None:
    path = write(tmp_path / "f.csv", line(1, 90), line(2, float("nan")), line(3, float("-inf")))
    log = read_fitlog(path)
    assert len(log) == 3
    assert log.attrs["lowest_valid_epoch"] == 1


def test_every_way_to_cut_the_last_line_gives_whole_lines(tmp_path: Path) -> None:
    text = write(tmp_path / "f.csv", line(1, 150), line(2, 120)).read_text()
    for end in range(len(text) + 1):
        (tmp_path / "cut.csv").write_text(text[:end])
        log = read_fitlog(tmp_path / "cut.csv")
        assert len(log) == max(0, text[:end].count("\n") - 1)
        assert log.valid_total.tolist() == [150.0, 120.0][: len(log)]


def test_a_resumed_run_replaces_the_epochs_it_did_again(tmp_path: Path) -> None:
    path = write(
        tmp_path / "f.csv", line(1, 150), line(2, 140), line(3, 60), line(4, 50), line(3, 130), line(4, 125)
    )
    log = read_fitlog(path)
    assert log.epoch.tolist() == [1, 2, 3, 4]
    assert log.valid_total.tolist() == [150, 140, 130, 125]
    path = write(tmp_path / "f.csv", line(1, 150), line(2, 140), line(3, 60), line(2, 130))
    assert read_fitlog(path).valid_total.tolist() == [150, 130]


def test_further_columns_are_kept(tmp_path: Path) -> None:
    (tmp_path / "f.csv").write_text(
        "held_out," + ",".join(COLUMNS) + "\n" + "7.5," + line(1, 10) + "8.5," + line(2, 9)
    )
    assert read_fitlog(tmp_path / "f.csv")["held_out"].tolist() == [7.5, 8.5]


def test_a_log_from_before_there_was_sample_validation(tmp_path: Path) -> None:
    old = line(1, 150).strip().rsplit(",", 2)[0]
    (tmp_path / "f.csv").write_text(",".join(COLUMNS[:-2]) + "\n" + old + "\n")
    log = read_fitlog(tmp_path / "f.csv")
    assert log.valid_total.tolist() == [150.0]
    assert log[["train_sv_recon", "valid_sv_recon"]].isna().all(axis=None)


def test_errors_name_the_file_and_the_line(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=r"no fit log here[\s\S]*none\.csv"):
        read_fitlog(tmp_path / "none.csv")
    path = write(tmp_path / "f.csv", line(1, 150), "2,oops\n", line(3, 120))
    with pytest.raises(ResultsError, match=r"2,oops[\s\S]*line 3"):
        read_fitlog(path)
    (tmp_path / "g.csv").write_text("epoch,step\n1,2\n")
    with pytest.raises(ResultsError, match="no column 'train_total'"):
        read_fitlog(tmp_path / "g.csv")
