"""What notebooks show: small tables of HTML, escaped, light to import, short for large collections."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from lfadsrm_hpc import Dataset, DatasetCollection, RunCollection, RunParams, RunSpec, markup
from lfadsrm_hpc.api.displaying import RunStates
from lfadsrm_hpc.manifest import store
from lfadsrm_hpc.manifest.fold import RunStatus
from lfadsrm_hpc.manifest.states import RunState

NASTY = "<script>alert(1)<&"


class Checked(HTMLParser):
    """A display as a browser reads it: every element is closed, none is a script."""

    def __init__(self, shown: object) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.tags: list[str] = []
        self.feed(shown._repr_html_())  # type: ignore[attr-defined]
        self.close()
        assert self.open == []
        assert set(self.tags) <= {
            *("div", "table", "thead", "tbody", "tr", "th", "td", "b", "code", "span"),
        }

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words)).strip()


def test_a_collection_of_runs(sweep: RunCollection) -> None:
    shown = Checked(sweep)
    assert "RunCollection" in shown.text
    assert str(sweep.path) in shown.text
    assert "8: 1 prepared, 7 completed" in shown.text
    assert "factors_dim 2 2, 4" in shown.text
    assert "seed 2 0, 1" in shown.text
    assert "both 2 day1, day2" in shown.text
    assert repr(sweep).startswith('RunCollection "'), "the text stays"


def test_a_run(sweep: RunCollection) -> None:
    run = sweep.runs[0]
    text = Checked(run).text
    assert run.id in text
    assert "completed" in text
    assert run.params.diff_text() in text
    assert "prepared" in Checked(sweep.runs[-1]).text
    assert Checked(run.spec).text.startswith("RunSpec single_day1 1 datasets")


def test_states(sweep: RunCollection) -> None:
    states = sweep.status()
    assert isinstance(states, list)
    assert [(one.run_id, one.state) for one in states] == [(run.id, run.status().state) for run in sweep.runs]
    text = Checked(states).text
    assert text.startswith("8 runs: 1 prepared, 7 completed")
    assert sweep.runs[3].id in text
    assert Checked(states[0]).text.startswith(f"RunStatus {sweep.runs[0].id} completed")


def test_many_states_are_a_summary_with_failures_first() -> None:
    states = RunStates(RunStatus(f"param_{k}/a", RunState.COMPLETED) for k in range(500))
    states.append(RunStatus("param_x/a", RunState.FAILED, message=f"{NASTY}\nmore", attempt=2))
    shown = Checked(states)
    assert shown.tags.count("tr") == 1 + markup.MOST_ROWS
    assert "501 runs: 500 completed, 1 failed" in shown.text
    assert f"param_x/a failed 2 {NASTY} " in shown.text
    assert "and 481 more" in shown.text
    assert "0 runs" in Checked(RunStates()).text


def test_datasets_are_shown_without_being_read(tmp_path: Path) -> None:
    dc = DatasetCollection(tmp_path)
    assert "0 datasets" in Checked(dc).text
    for k in range(30):
        np.savez(tmp_path / f"day{k}.npz", spikes=np.zeros((4, 5, 2), int), bin_ms=1.0)
        Dataset(dc, f"day{k}.npz")
    with (
        mock.patch.object(Dataset, "load_info", side_effect=AssertionError),
        mock.patch.object(Dataset, "read", side_effect=AssertionError),
    ):
        shown = Checked(dc)
    assert shown.tags.count("tr") == 1 + markup.MOST_ROWS
    assert "and 10 more (dc.info_table())" in shown.text
    assert "neurons" not in shown.text
    assert "neurons" not in Checked(dc[0]).text
    dc[0].load_info()
    assert "dataset file trials neurons bins" in Checked(dc).text
    assert "0 day0 day0.npz 4 2 5" in Checked(dc).text
    assert "neurons 2" in Checked(dc[0]).text
    assert (
        "memory" in Checked(Dataset.from_arrays(dc, "held", spikes=np.zeros((4, 5, 2), int), bin_ms=1.0)).text
    )


def test_names_are_escaped(tmp_path: Path) -> None:
    dc = DatasetCollection(tmp_path)
    dataset = Dataset.from_arrays(dc, NASTY, spikes=np.zeros((4, 5, 2), int), bin_ms=1.0)
    rc = RunCollection(tmp_path / "runs", NASTY, dc, comment=NASTY)
    rc.add_params(RunParams())
    rc.add_run_spec(RunSpec(NASTY, dc, [NASTY]))
    for shown in (dc, dataset, rc, rc.run_specs[0], rc.runs[0]):
        assert NASTY in Checked(shown).text
    assert "not prepared" in Checked(rc.runs[0]).text


def test_a_large_collection_is_shown_from_memory_alone(tmp_path: Path) -> None:
    dc = DatasetCollection(tmp_path)
    Dataset.from_arrays(dc, "day1", spikes=np.zeros((4, 5, 2), int), bin_ms=1.0)
    rc = RunCollection(tmp_path / "runs", "large", dc)
    rc.add_params(RunParams().generate_sweep(seed=range(1000)))
    rc.add_run_spec(RunSpec("all", dc, ["day1"]))
    refused: Any = AssertionError("it looked at files")
    with mock.patch.object(store, "collection_states", side_effect=refused):
        shown = Checked(rc)
    assert "runs 1,000" in shown.text
    assert "seed 1000 0, 1, 2, 3, 4, 5, 6, 7, ..." in shown.text
    assert len(rc._repr_html_()) < 3000


def test_displays_import_nothing_heavy(sweep: RunCollection) -> None:
    code = (
        "import sys; from lfadsrm_hpc.api import RunCollection; "
        f"rc = RunCollection.open({str(sweep.path)!r}); "
        "rc._repr_html_(), rc.runs[0]._repr_html_(), rc.status()._repr_html_(); "
        "print(*sorted({name.split('.')[0] for name in sys.modules}))"
    )
    root = Path(__file__).resolve().parent.parent
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    heavy = {"pandas", "xarray", "h5py", "netCDF4", "matplotlib", "scipy", "tensorflow", "jinja2"}
    assert not heavy & set(done.stdout.split())
