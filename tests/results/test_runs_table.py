"""Tables of runs: what they say, where it comes from, and that no netCDF file is opened for it."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lfadsrm_hpc.api import RunCollection
from lfadsrm_hpc.collection.params import RunParams, param
from lfadsrm_hpc.errors import ResultsError
from lfadsrm_hpc.layout import fitlog
from lfadsrm_hpc.manifest import store
from lfadsrm_hpc.manifest.records import Exit, Identity
from lfadsrm_hpc.results.runs.fit_summary import read_fit_summary
from lfadsrm_hpc.results.runs.fitlog import COLUMNS, read_fitlog

FIRST = ["spec", "params", "state", "attempts"]
MIDDLE = [
    "epochs", "valid_cost", "lowest_valid_cost", "lowest_valid_epoch", "started", "ended", "seconds", "host",
    "gpu", "peak_memory_mb",
]  # fmt: skip


def test_a_row_for_each_run_with_what_was_swept_and_what_came_of_it(sweep: RunCollection) -> None:
    table = sweep.runs_table()
    assert list(table.columns) == [
        *FIRST, "factors_dim", "seed", *MIDDLE, "co_bps", "verdict", "reasons"
    ]  # fmt: skip
    assert list(table.index) == [run.id for run in sweep.runs]
    assert table.index.name == "run"
    row = table.loc[sweep.runs[2].id]
    assert (row.spec, row.params, row.state, row.attempts) == (
        "single_day1", sweep.runs[2].params.param_hash, "COMPLETED", 1
    )  # fmt: skip
    assert (row.factors_dim, row.seed) == (4, 0)
    assert (row.epochs, row.valid_cost, row.lowest_valid_cost, row.lowest_valid_epoch) == (3, 3.2, 3.2, 3)
    assert row.peak_memory_mb == 123.0
    assert row.co_bps == 0.32
    assert row.started.tzinfo is not None
    assert pd.Timedelta(0) <= row.ended - row.started < pd.Timedelta("1h")
    assert row.seconds == pytest.approx((row.ended - row.started).total_seconds(), abs=1e-3)
    last = table.iloc[-1]
    assert (last.state, last.attempts) == ("PREPARED", 0)
    unknown = ["epochs", "valid_cost", "lowest_valid_epoch", "started", "ended", "seconds", "host", "co_bps"]
    assert last[unknown].isna().all()


def test_some_runs_of_a_collection_have_the_columns_of_the_collection(sweep: RunCollection) -> None:
    table = sweep.runs_table(sweep.runs[:1])
    assert table.shape == (1, len(sweep.runs_table().columns))
    assert sweep.runs_table([]).empty


def test_a_summary_is_runs_by_params_and_metrics(sweep: RunCollection) -> None:
    summary = sweep.summary()
    assert summary.index.names == ["spec", "params"]
    assert [name for group, name in summary.columns if group == "params"] == ["factors_dim", "seed"]
    assert list(summary["metrics"].columns) == [
        "epochs", "valid_cost", "lowest_valid_cost", "lowest_valid_epoch", "co_bps"
    ]  # fmt: skip
    one = summary.loc[("both", sweep.runs[5].params.param_hash)]
    assert (one["params", "factors_dim"], one["metrics", "co_bps"]) == (2, 0.35)
    assert summary["metrics"]["co_bps"].unstack("spec").shape == (4, 2)


def test_no_netcdf_file_is_opened(sweep: RunCollection) -> None:
    code = (
        "import json, sys\nfrom lfadsrm_hpc import RunCollection\n"
        "rc = RunCollection.open(sys.argv[1])\nrc.runs_table(), rc.summary()\n"
        "heavy = {'netCDF4', 'h5py', 'xarray', 'matplotlib', 'tensorflow'}\n"
        "print(json.dumps(sorted(heavy & set(sys.modules))))"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code, str(sweep.path)], capture_output=True, text=True, check=True, cwd=root
    )
    assert json.loads(done.stdout) == []


def test_time_is_that_of_all_incarnations(make: Any) -> None:
    (run,) = make(done=0).runs
    for begun, beat, end in ((1000.0, 1060.0, None), (5000.0, 5010.0, 5100.0)):
        claim = store.take_local(run.layout, Identity.local("", 0))
        claim = replace(claim, claimed=begun)
        file = run.layout.attempt(claim.attempt).claim(claim.incarnation)
        content = json.loads(file.read_text())
        file.write_text(json.dumps({**content, "claimed": claim.claimed}))
        place = run.layout.attempt(claim.attempt).heartbeat(claim.incarnation)
        device = "NVIDIA H100" if end else "cpu, 2 threads"
        place.write_text(json.dumps({"token": claim.token, "written": beat, "progress": {"device": device}}))
        if end is None:  # killed: nothing but its heartbeat tells how long it worked
            store.close(run.layout, claim.attempt, "lost")
        else:
            memory = Exit(1, "failed", ended=end, started=claim.claimed, peak_memory_mb=50.0)
            store.publish_exit(run.layout, claim, memory)
    (row,) = run.collection.runs_table().itertuples()
    assert row.seconds == 60 + 100
    assert (row.attempts, row.state, row.gpu, row.peak_memory_mb) == (2, "FAILED", "NVIDIA H100", 50.0)
    assert row.started.timestamp() == 1000.0
    assert row.ended.timestamp() == 5100.0


def test_a_run_at_work_has_no_end(make: Any) -> None:
    (run,) = make(done=0).runs
    claim = store.take_local(run.layout, Identity.local("", 0))
    store.heartbeat(run.layout, claim, epoch=2)
    (row,) = run.collection.runs_table().itertuples()
    assert row.state == "RUNNING"
    assert row.ended is pd.NaT
    assert row.seconds >= 0


def test_scores_count_only_while_their_results_do(make: Any, fabricated: Any) -> None:
    (run,) = make(done=0).runs
    rc = run.collection
    token = fabricated.complete(
        run, metrics={"psth_r2": 0.5, "own": 1.0}, verdict="suspect", reasons=["a", "b"]
    )
    table = rc.runs_table()
    assert list(table.columns[-4:]) == ["psth_r2", "own", "verdict", "reasons"]
    assert (table.verdict.iloc[0], table.reasons.iloc[0]) == ("suspect", "a; b")
    fabricated.write_metrics(run, "of another claim", {"psth_r2": 0.9})
    assert "psth_r2" not in rc.runs_table()
    fabricated.write_metrics(run, token, {"psth_r2": 0.7})
    assert rc.runs_table().psth_r2.iloc[0] == 0.7
    store.take_local(run.layout, Identity.local("", 7), redo=True)
    assert "psth_r2" not in rc.runs_table(), "they are being made anew"


@dataclass(frozen=True, kw_only=True)
class OddParams(RunParams):
    host: str = param("here", "A name that the table has too.", kind="str")


def test_swept_values_of_all_kinds(make: Any, fabricated: Any) -> None:
    params = [
        OddParams(**fabricated.BASE, host=host, held_out_neurons=held, max_epochs=most)
        for host, held, most in (("a", None, 9), ("b", [0, 1], None), ("c", 0.2, 7))
    ]
    table = make(params, done=0).runs_table()
    assert table.param_host.tolist() == ["a", "b", "c"]
    assert table.held_out_neurons.tolist() == [None, "[0,1]", 0.2]
    assert table.max_epochs.tolist() == [9, None, 7]
    assert table.host.isna().all()
    assert table.attrs["swept"] == ["held_out_neurons", "param_host", "max_epochs"]


def test_a_damaged_log_costs_its_own_row_alone(make: Any, fabricated: Any) -> None:
    rc = make(RunParams(**fabricated.BASE).generate_sweep(seed=[0, 1]))
    folder = rc.runs[0].layout.checkpoint_dirs()[0][2]
    fitlog(folder).write_text(fitlog(folder).read_text().replace("4.0", "four"))
    table = rc.runs_table()
    assert table.epochs.isna().tolist() == [True, False]
    with pytest.raises(ResultsError, match="line that is none"):
        rc.runs[0].load_fit_log()


# ---------------------------------------------------------------- the fit log in short


NUMBERS = st.one_of(st.floats(0, 1e6), st.just(math.nan), st.just(math.inf))
ROWS = st.lists(
    st.tuples(st.integers(1, 9), NUMBERS, st.floats(0, 1), st.sampled_from([0.5, 1.0])), max_size=12
)


@given(rows=ROWS, cut=st.integers(0, 40), blank=st.booleans())
@settings(deadline=None, max_examples=150)
def test_it_says_what_the_whole_log_says(
    rows: list[Any], cut: int, blank: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    lines = [",".join(COLUMNS)]
    for epoch, cost, kl, l2 in rows:
        values = dict.fromkeys(COLUMNS, 0.0) | {"epoch": epoch, "step": epoch, "valid_total": cost}
        lines.append(",".join(repr(v) for v in (values | {"kl_weight": kl, "l2_weight": l2}).values()))
    text = ("\n\n" if blank else "\n").join(lines) + "\n"
    path = tmp_path_factory.mktemp("log") / "fitlog.csv"
    path.write_text(text[: len(text) - cut] if cut < len(text) else "")
    log, found = read_fitlog(path), read_fit_summary(path)
    if log.empty:
        assert found is None
        return
    assert found is not None
    assert found.epochs == int(log.epoch.iloc[-1])
    np.testing.assert_equal(found.valid_cost, float(log.valid_total.iloc[-1]))
    assert found.lowest_valid_cost == log.attrs["lowest_valid_cost"]
    assert found.lowest_valid_epoch == log.attrs["lowest_valid_epoch"]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text.replace("valid_total", "valid"),
        lambda text: text + "4,four\n",
        lambda text: text + "4," * len(COLUMNS) + "5\n",
        lambda text: text + "4\n" * len(COLUMNS),
        lambda text: text + ",".join(["nan"] * len(COLUMNS)) + "\n",
    ],
)
def test_both_refuse_the_same_logs(tmp_path: Path, spoil: Callable[[str], str]) -> None:
    path = tmp_path / "fitlog.csv"
    path.write_text(spoil(",".join(COLUMNS) + "\n" + ",".join(["1.0"] * len(COLUMNS)) + "\n"))
    for read in (read_fitlog, read_fit_summary):
        with pytest.raises(ResultsError):
            read(path)
    path.unlink()
    assert read_fit_summary(path) is None
    path.write_bytes(b"\xff\xff\n")
    with pytest.raises(ResultsError, match="cannot be read"):
        read_fit_summary(path)
