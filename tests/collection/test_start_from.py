"""`start_from` as a hyperparameter, and what preparing says of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lfadsrm_hpc.collection.collection import RunCollection
from lfadsrm_hpc.collection.params import RunParams
from lfadsrm_hpc.collection.run_spec import RunSpec
from lfadsrm_hpc.errors import NotFoundError, ParamsError


def make(root: Path, datasets: Any, *params: RunParams, spec: str = "single") -> RunCollection[Any]:
    rc: RunCollection[Any] = RunCollection(root, "example", datasets)
    rc.add_params(list(params))
    rc.add_run_spec(RunSpec(spec, datasets, [0]))
    return rc


def test_it_enters_the_hash_only_when_set() -> None:
    plain = RunParams(gen_dim=64)
    assert plain.replace(start_from=None).param_hash == plain.param_hash
    assert plain.param_hash == "byvvjyija5hv", "as before there was a start_from"
    a = plain.replace(start_from="param_abc/single")
    assert a.param_hash != plain.param_hash
    assert a.data_hash(1) == plain.data_hash(1)
    assert a.replace(start_from=Path("param_abc/single/")).param_hash == a.param_hash
    assert "start_from: param_abc/single" in a.describe()
    assert RunParams.from_json(a.to_json()).start_from == "param_abc/single"


@pytest.mark.parametrize("value", [3, " ", ["a"]])
def test_what_is_no_folder(value: Any) -> None:
    with pytest.raises(ParamsError, match=r"start_from = .*must be the folder of a run"):
        RunParams(start_from=value)


def test_a_run_of_the_collection_or_of_another(tmp_path: Path, datasets: Any, base: RunParams) -> None:
    first = make(tmp_path, datasets, base)
    source = first.runs[0]
    with pytest.raises(NotFoundError, match=r"there is no run in this folder[\s\S]*prepare it first"):
        make(tmp_path, datasets, base.replace(start_from=source.id)).prepare_for_lfads()
    make(tmp_path, datasets, base, base.replace(start_from=source.id)).prepare_for_lfads(warn=False)
    later = make(tmp_path, datasets, base.replace(start_from=source.id, learning_rate_init=0.02))
    assert later.prepare_for_lfads(warn=False).written == [later.runs[0].id]
    for place in (str(source.path), f"../../example/{source.id}"):
        other = make(tmp_path / "example", datasets, base.replace(start_from=place), spec=f"s{len(place)}")
        other.prepare_for_lfads(warn=False)


def test_other_sizes_are_refused_before_anything_is_written(
    tmp_path: Path, datasets: Any, base: RunParams
) -> None:
    source = make(tmp_path, datasets, base)
    source.prepare_for_lfads(warn=False)
    rc = make(tmp_path, datasets, base.replace(gen_dim=9, start_from=source.runs[0].id))
    with pytest.raises(ParamsError, match="gen_dim is 8 there and 9 here"):
        rc.prepare_for_lfads()
    assert not rc.runs[0].path.exists()
    # without a controller its size does not matter
    make(tmp_path, datasets, base.replace(con_dim=3, start_from=source.runs[0].id)).prepare_for_lfads(
        warn=False
    )


def test_warnings(tmp_path: Path, datasets: Any, base: RunParams) -> None:
    def warned(params: RunParams) -> list[str]:
        report = make(tmp_path, datasets, params).prepare_for_lfads(warn=False)
        return [text for text in report.warnings if "start" in text]

    assert warned(base) == []
    (text,) = warned(base.replace(do_train_io_only=True))
    assert "do_train_io_only without start_from" in text
    source = make(tmp_path, datasets, base).runs[0].id
    assert warned(base.replace(do_train_encoder_only=True, start_from=source)) == []
    (text,) = warned(base.replace(spike_bin_ms=4, start_from=source))
    assert "bins of 4 ms and starts from a model of bins of 2 ms" in text
