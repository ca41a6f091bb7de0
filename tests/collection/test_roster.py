"""The roster says of runs what the collection says, without building params."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lfadsrm_hpc.collection import roster as roster_module
from lfadsrm_hpc.collection import stored
from lfadsrm_hpc.collection.collection import RunCollection
from lfadsrm_hpc.collection.labels import params_label, varying_names
from lfadsrm_hpc.collection.params import RunParams, param
from lfadsrm_hpc.collection.roster import Roster
from lfadsrm_hpc.collection.run_spec import RunSpec
from lfadsrm_hpc.errors import ConfigError, NotFoundError, ParamsError


@dataclass(frozen=True, kw_only=True)
class MyParams(RunParams):
    area: str = param("M1", "Brain area.", kind="str", affects="data")


def written(tmp_path: Path, params: list[RunParams], absent: tuple[str, ...] = ()) -> RunCollection[Any]:
    """Write a `collection.json`, as preparing does at its end."""
    collection: RunCollection[Any] = RunCollection(tmp_path, "many")
    collection.path.mkdir(exist_ok=True)
    collection.layout.state_dir.mkdir(exist_ok=True)
    collection.add_params(params)
    collection.add_run_spec([RunSpec("one", None, ["day1"]), RunSpec("two", None, ["day1", "day2"])])
    document = {
        "name": "many",
        "comment": "",
        "datasets": {"items": []},
        "params": [{**p.to_json(), "param_hash": p.param_hash} for p in collection.params],
        "run_specs": [spec.to_json() for spec in collection.run_specs],
        "runs": [run.id for run in collection.runs if run.id not in absent],
    }
    stored.publish(collection.layout, document)
    return RunCollection.open(collection.path)


SWEEP = RunParams(spike_bin_ms=10, co_dim=0).generate_sweep("factors_dim", [2, 8], "keep_prob", [0.9, 1])


def same(collection: RunCollection[Any], roster: Roster) -> None:
    assert [entry.id for entry in roster.entries] == [run.id for run in collection.runs]
    varying = roster.varying(roster.entries)
    assert varying == varying_names(collection.params)
    for run, entry in zip(collection.runs, roster.entries, strict=True):
        assert (entry.spec, entry.params) == (run.spec.name, run.params.param_hash)
        assert roster.label(entry.params, varying) == params_label(run.params, varying)
        # as JSON: it has no tuples, and tells 10.0 from 10
        mine, theirs = roster.differences(entry.params), run.params.differences()
        assert json.dumps(mine, sort_keys=True) == json.dumps(theirs, sort_keys=True)


@pytest.mark.parametrize(
    "params",
    [
        SWEEP,
        SWEEP[:1],
        [MyParams(area=area, held_out_neurons=held) for area in ("M1", "V1") for held in (None, (1, 3), 0.5)],
        [RunParams(name="first", seed=1), RunParams(seed=2), RunParams(max_epochs=7)],
    ],
)
def test_it_says_what_the_collection_says(tmp_path: Path, params: list[RunParams]) -> None:
    collection = written(tmp_path, params)
    same(collection, Roster.open(collection.path))


def test_runs_that_were_never_prepared_are_none(tmp_path: Path) -> None:
    absent = f"param_{SWEEP[1].param_hash}/two"
    collection = written(tmp_path, SWEEP, (absent,))
    roster = Roster.open(collection.path)
    same(collection, roster)
    assert absent not in {entry.id for entry in roster.entries}


class TestSelection:
    def test_by_spec_and_value(self, tmp_path: Path) -> None:
        collection = written(tmp_path, SWEEP)
        roster = Roster.open(collection.path)
        for spec, wanted in (
            (["one"], {"factors_dim": 8}),
            ([], {"c_keep_prob": 1}),
            (["two"], {"gen_dim": 100}),
        ):
            expected = [run.id for run in collection.find_runs(spec or None, **wanted)]
            assert [entry.id for entry in roster.select(spec, wanted)] == expected
            assert expected

    def test_labels_of_a_part_say_what_varies_there(self, tmp_path: Path) -> None:
        roster = Roster.open(written(tmp_path, SWEEP).path)
        assert roster.varying(roster.select([], {"factors_dim": 8})) == ["keep_prob"]
        assert roster.varying([]) == []

    def test_slips(self, tmp_path: Path) -> None:
        roster = Roster.open(written(tmp_path, SWEEP).path)
        with pytest.raises(NotFoundError, match="there is no run spec 'on'"):
            roster.select(["on"])
        with pytest.raises(ParamsError, match="factor_dim"):
            roster.select([], {"factor_dim": 2})


class TestCache:
    @pytest.fixture(autouse=True)
    def _always(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(roster_module, "_LARGE", 0)

    def test_it_is_read_instead(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        collection = written(tmp_path, SWEEP)
        same(collection, Roster.open(collection.path))
        assert len(list(collection.layout.state_dir.glob("roster-*.json"))) == 1
        monkeypatch.setattr(roster_module, "read_stored", lambda layout: pytest.fail("it was read again"))
        same(collection, Roster.open(collection.path))

    def test_more_runs_make_it_anew(self, tmp_path: Path) -> None:
        Roster.open(written(tmp_path, SWEEP[:2]).path)
        collection = written(tmp_path, SWEEP)
        same(collection, Roster.open(collection.path))
        assert len(list(collection.layout.state_dir.glob("roster-*.json"))) == 1

    @pytest.mark.parametrize("content", ["", "{}", "[]"])
    def test_damage(self, tmp_path: Path, content: str) -> None:
        collection = written(tmp_path, SWEEP)
        Roster.open(collection.path)
        (path,) = collection.layout.state_dir.glob("roster-*.json")
        path.write_text(content)
        same(collection, Roster.open(collection.path))

    def test_values_that_an_older_version_did_not_store(self, tmp_path: Path) -> None:
        collection = written(tmp_path, SWEEP)
        path = collection.layout.collection_json
        document = stored.read_stored(collection.layout)
        assert document is not None
        for one in document["params"][1:]:
            del one["values"]["max_epochs"]
        path.write_bytes(stored.as_bytes(document))
        roster = Roster.open(collection.path)
        assert roster.values(SWEEP[2].param_hash)["max_epochs"] is None
        assert roster.select([], {"max_epochs": None}) == roster.entries


def test_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        Roster.open(tmp_path)
    (tmp_path / "collection.json").write_text("{")
    with pytest.raises(ConfigError, match="damaged"):
        Roster.open(tmp_path)
