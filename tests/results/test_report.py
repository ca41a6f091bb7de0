"""The page about a collection: what is on it, that it needs nothing else, and that names stay names."""

from __future__ import annotations

import base64
import hashlib
import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pytest
import xarray as xr

from lfadsrm_hpc.api import RunCollection
from lfadsrm_hpc.collection.params import RunParams
from lfadsrm_hpc.collection.run_spec import RunSpec
from lfadsrm_hpc.errors import NotFoundError, ResultsError
from lfadsrm_hpc.manifest.states import RunState
from lfadsrm_hpc.results.report import page as report
from lfadsrm_hpc.results.report.curves import Costs, read_costs, thin
from lfadsrm_hpc.results.report.figures import Axes, axes_of, ticks
from lfadsrm_hpc.results.report.rate_figures import conditions_of

NASTY = '<img src=x onerror="hacked=1">'
SCRIPT = "</script><script>hacked=2</script>"
VOID = {"meta", "link", "input", "br", "img"}


class Elements(HTMLParser):
    """What a page consists of: elements with their attributes, and the text of each."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, "elements are nested"

    def handle_data(self, data: str) -> None:
        self.texts.append((self.open[-1] if self.open else "", data))

    @property
    def counts(self) -> Counter[str]:
        return Counter(tag for tag, _ in self.found)

    def with_id(self, name: str) -> dict[str, str | None]:
        return next(about for _, about in self.found if about.get("id") == name)

    @property
    def text(self) -> str:
        return re.sub(
            r"\s+", " ", "".join(data for tag, data in self.texts if tag not in ("script", "style"))
        )


@pytest.fixture(scope="module")
def elements(page: Path) -> Elements:
    return Elements(page.read_text())


def test_the_page_is_whole_without_its_script(elements: Elements, reported: RunCollection) -> None:
    assert not elements.open, "every element is closed"
    for number, run in enumerate(reported.runs):
        assert elements.with_id(f"r{number}") is not None
        assert run.id in elements.text
    assert "18 runs" in elements.text
    assert "6 prepared" in elements.text
    assert "10 completed" in elements.text
    assert "2 failed" in elements.text
    assert "factors_dim=10 seed=1" in elements.text
    assert "param_" in elements.text
    assert {"overview", "best", "runs", "curves", "rates", "quality", "resources"} <= {
        about.get("id") for tag, about in elements.found if tag == "section"
    }
    drawn = [about for tag, about in elements.found if tag == "path" and "data-row" in about]
    assert sorted(int(about["data-row"] or "") for about in drawn) == list(range(12))
    assert all(
        re.fullmatch(r"[Mlhvz0-9 -]*", about["d"] or "") for tag, about in elements.found if tag == "path"
    )


def test_names_stay_names(elements: Elements) -> None:
    assert NASTY in elements.text
    assert SCRIPT in elements.text
    assert elements.counts["img"] == 0
    assert elements.counts["script"] == 2, "its own two"
    assert not any(name.startswith("on") for _, about in elements.found for name in about)


def test_nothing_is_fetched_and_only_its_own_scripts_may_run(page: Path, elements: Elements) -> None:
    text = page.read_text()
    for tag, about in elements.found:
        for name in ("src", "srcset", "action", "data", "poster", "background"):
            assert name not in about, f"{tag} {about}"
        href = about.get("href")
        assert href is None or href == "data:," or href.startswith("#")
    assert "@import" not in text
    assert "url(" not in text
    policy = next(a["content"] for t, a in elements.found if t == "meta" and "http-equiv" in a) or ""
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-eval" not in policy
    assert "script-src 'unsafe-inline'" not in policy
    hashes = [
        base64.b64encode(hashlib.sha256(one.encode()).digest()).decode()
        for one in re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    ]
    assert len(hashes) == 2
    assert all(f"'sha256-{one}'" in policy for one in hashes)


def test_best_runs_are_shown_and_bad_ones_are_not(reported: RunCollection, tmp_path: Path) -> None:
    made = reported.report(tmp_path / "deep" / "page.html")
    assert made.path == tmp_path / "deep" / "page.html"
    assert Path(made).stat().st_size == made.size
    assert made.n_runs == 18
    best = reported.best("co_bps")
    assert made.shown == (best[NASTY].run.id, best["plain"].run.id)
    text = Elements(made.path.read_text()).text
    assert "best of plain by co_bps: 0.14" in text
    assert "left out, since quality control calls it bad" in text
    assert "It says" in text
    assert "GPU hours" in text
    assert f"rc.report('{made.path}')" in text


def test_chosen_runs_and_parts_of_a_collection(reported: RunCollection, tmp_path: Path) -> None:
    run = reported.runs[10]
    made = reported.report(tmp_path / "page.html", reported.runs[6:12], shown=[run])
    assert made.n_runs == 6
    assert made.shown == (run.id,)
    text = Elements(made.path.read_text()).text
    assert "6 of 18" in text
    assert NASTY not in text
    with pytest.raises(ResultsError, match="is not complete, it is FAILED"):
        reported.report(tmp_path / "page.html", shown=[reported.runs[11]])
    with pytest.raises(NotFoundError, match="score"):
        reported.report(tmp_path / "page.html", metric="no_such")


def test_a_page_that_cannot_be_made_leaves_the_old_one(reported: RunCollection, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text("old")
    with (
        mock.patch.object(report, "columns_of", side_effect=OSError("gone")),
        pytest.raises(OSError, match="gone"),
    ):
        reported.report(path)
    assert path.read_text() == "old"
    assert [one.name for one in tmp_path.iterdir()] == ["page.html"]


def test_a_collection_in_which_nothing_ran(make: Any) -> None:
    rc = make(done=0)
    made = rc.report()
    assert made.path == rc.layout.report
    text = Elements(made.path.read_text()).text
    for words in (
        "No run is complete yet, so there is none to compare",
        "No run has finished an epoch yet",
        "so there are no rates to show",
        "so there is no verdict",
        "No run has been started yet",
    ):
        assert words in text
    assert made.shown == ()


def test_a_collection_that_is_not_on_disk(tmp_path: Path, fabricated: Any) -> None:
    found = fabricated.sessions(tmp_path / "datasets")
    rc = RunCollection(tmp_path / "runs", "later", found)
    rc.add_params(RunParams(**fabricated.BASE))
    rc.add_run_spec(RunSpec("one", found, ["day1"]))
    with pytest.raises(NotFoundError, match="not on disk yet"):
        rc.report()
    assert not (tmp_path / "runs").exists()


def test_what_the_scheduler_says_is_believed(make: Any, fabricated: Any, tmp_path: Path) -> None:
    rc = make(RunParams(**fabricated.BASE).generate_sweep(seed=[0, 1]), done=1)
    told = {run.id: run.status() for run in rc.runs}
    told[rc.runs[1].id] = replace(told[rc.runs[1].id], state=RunState.PENDING)
    tracked = SimpleNamespace(statuses=told, warnings=("squeue was slow",))
    with mock.patch.object(RunCollection, "track", return_value=tracked):
        made = rc.report(tmp_path / "page.html")
        assert made.notes[0] == "squeue was slow"
        text = Elements(made.path.read_text()).text
        assert "1 pending" in text
        assert "squeue was slow" in text
    with mock.patch.object(RunCollection, "track", side_effect=AssertionError):
        assert "1 prepared" in Elements(rc.report(ask=False).path.read_text()).text


def test_long_trials_many_datasets_and_data_that_are_no_counts(
    fabricated: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fabricated, "BINS", 400)
    params = RunParams(**fabricated.BASE, output_dist="gaussian")
    names = [f"day{k}" for k in range(1, 6)]
    rc = fabricated.collection(tmp_path, [params], specs={"all": names}, neurons=(3, 4, 5, 6, 7), trials=8)
    fabricated.complete(rc.runs[0])
    made = rc.report()
    assert f"{rc.runs[0].id} has 5 datasets; shown are day1, day3, day5." in made.notes
    text = Elements(made.path.read_text()).text
    assert "8 trials of 400 bins of 4 ms, 3 neurons" in text
    assert "Each point is the mean over 3 bins." in text
    assert "the data" in text
    assert "(units of the data)" in text


def test_what_is_damaged_is_said(make: Any, fabricated: Any) -> None:
    params = RunParams(**fabricated.BASE).generate_sweep(seed=[0, 1, 2])
    rc = make(params)
    next(rc.runs[0].layout.checkpoint_dir(1, 0).glob("fitlog.csv")).write_text("epoch,step\n1,2\n")
    for run in rc.runs:
        run.input_files()["day1"].unlink(missing_ok=True)
    made = rc.report(shown=rc.runs[1:])
    notes = " ".join(made.notes)
    assert f"The fit log of {rc.runs[0].id}: the fit log has no column" in notes
    assert "rates are shown without spikes" in notes
    rc.runs[1].layout.posterior_means("day1").write_bytes(b"no netCDF")
    made = rc.report(shown=rc.runs[1:])
    assert made.shown == (rc.runs[2].id,)
    assert any(note.startswith(f"{rc.runs[1].id}, day1: ") for note in made.notes)


def test_times_and_memory_add_up(reported: RunCollection) -> None:
    from lfadsrm_hpc.manifest import store
    from lfadsrm_hpc.manifest.reading import look
    from lfadsrm_hpc.results.report.resources import COMPLETED, FAILED, resources_of

    facts = [store.read_facts(run.layout) for run in reported.runs]
    used = resources_of(reported.layout, facts, look(reported.layout.path))
    assert used.total.starts == 12
    assert used.total.memory_mb == 123
    assert {one.name: one.starts for one in used.outcomes} == {COMPLETED: 10, FAILED: 2}
    assert used.total.hours == pytest.approx(sum(one.hours for one in used.hosts))
    assert 0 < used.total.gpu_hours < used.total.hours
    assert used.total.core_hours == pytest.approx(2 * (used.total.hours - used.total.gpu_hours))
    assert used.wasted_hours == pytest.approx(sum(o.hours for o in used.outcomes if o.name == FAILED))


# ---------------------------------------------------------------- curves and figures


def test_few_epochs_of_a_log_keep_its_ends_its_lowest_and_its_spikes() -> None:
    valid = np.linspace(100, 1, 1000) ** 1.5
    valid[500] = 5000
    valid[750] = 0.25
    epoch = np.arange(1.0, 1001)
    costs = Costs(epoch, valid, valid, epoch > 100)
    kept = thin(costs, 40)
    assert len(kept) <= 40
    assert {0, 500, 750, 999} <= set(kept.tolist())
    assert np.array_equal(kept, np.unique(kept))
    assert thin(costs, 1000).tolist() == list(range(1000))
    valid[2:5] = np.nan
    assert len(thin(costs, 40)) <= 40


def test_a_fit_log_is_read_as_pandas_reads_it(reported: RunCollection) -> None:
    run = reported.runs[0]
    log, costs = run.load_fit_log(), read_costs(run)
    assert costs is not None
    assert costs.epoch.tolist() == log["epoch"].tolist()
    assert costs.valid.tolist() == log["valid_total"].tolist()
    assert costs.train.tolist() == log["train_total"].tolist()
    assert costs.settled.tolist() == ((log["kl_weight"] >= 1) & (log["l2_weight"] >= 1)).tolist()
    assert read_costs(reported.runs[-1]) is None


def test_paths_go_through_their_points() -> None:
    axes = Axes(0, 4, 0, 10)
    assert axes.path([0, 1, 2, 3, 4], [0, 5, np.nan, 10, 10]) == "M0 500l250-250M750 0l250 0"
    assert axes.path([0, 1, 2], [10, 0, 5]) == "M0 0l250 500 250-250"
    assert axes.area([0, 4], [0, 0], [10, 10]) == "M0 500l1000 0 0-500-1000 0z"
    assert axes.path([0], [1e30]) == "M0 -1000", "what is far out stays a small number"
    flat = axes_of([1, 1], [[3.0, 3.0]])
    assert flat.low < 3 < flat.high
    assert axes_of([], []).path([], []) == ""
    assert axes_of([0, 1], [[2.0, 5.0]], from_zero=True).low == 0


@pytest.mark.parametrize(
    ("low", "high", "most", "expected"),
    [
        (0, 100, 5, [0, 20, 40, 60, 80, 100]),
        (0.1, 0.42, 4, [0.1, 0.2, 0.3, 0.4]),
        (-3e-4, 3e-4, 3, [-0.0002, 0, 0.0002]),
        (3, 3, 4, [3]),
    ],
)
def test_labels_stand_at_round_numbers(low: float, high: float, most: int, expected: list[float]) -> None:
    assert ticks(low, high, most) == pytest.approx(expected)


def test_numbered_conditions_are_named_alike_where_some_trials_have_none() -> None:
    means = xr.Dataset(coords={"condition": ("trial", [2.0, np.nan, 10.0])})
    assert conditions_of(means).tolist() == ["2", "", "10"]
