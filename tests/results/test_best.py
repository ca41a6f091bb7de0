"""Which run is best, what is said about it, and what a methods section says."""

from __future__ import annotations

import re
from typing import Any

import pytest

from lfadsrm_hpc.api import RunCollection
from lfadsrm_hpc.collection.params import RunParams
from lfadsrm_hpc.errors import NotFoundError, ResultsError
from lfadsrm_hpc.results.attaching import counted
from lfadsrm_hpc.results.runs.methods_text import methods_paragraph


def swept(fabricated: Any, **values: Any) -> list[RunParams]:
    return RunParams(**fabricated.BASE).generate_sweep(**values)


def test_the_best_of_each_run_spec(sweep: RunCollection) -> None:
    best = sweep.best()
    assert list(best) == ["single_day1", "both"]
    assert (best["both"].run.id, best["both"].metric, best["both"].value) == (
        sweep.runs[6].id,
        "co_bps",
        0.36,
    )
    assert best["single_day1"].run.id == sweep.runs[3].id
    assert list(best["both"].ranking.index) == [sweep.runs[k].id for k in (6, 5, 4)]
    assert best["both"].notes == ("1 of 4 runs is not complete (1 prepared)",)
    assert best["single_day1"].notes == ()
    with pytest.raises(NotFoundError, match="2 run specs, each with a best run"):
        _ = best.run
    with pytest.raises(NotFoundError, match="did you mean 'both'"):
        _ = best["bth"]
    text = repr(best)
    assert f"{sweep.runs[6].id}: co_bps 0.36" in text
    assert "note: 1 of 4 runs" in text


def test_costs_are_better_when_they_are_lower(sweep: RunCollection) -> None:
    best = sweep.best("lowest_valid_cost", spec="single_day1")
    assert best.run.id == sweep.runs[0].id
    assert (best.metric, best.value) == ("lowest_valid_cost", 3.0)
    assert best.differences == sweep.runs[0].params.differences()
    assert sweep.best("lowest_valid_cost", spec="both", factors_dim=4).run.id == sweep.runs[6].id


def test_without_co_smoothing_the_cost_decides(make: Any, fabricated: Any) -> None:
    rc = make(swept(fabricated, seed=[0, 1, 2]), done=0)
    for run, cost in zip(rc.runs, (3.0, 2.0, 4.0), strict=True):
        fabricated.complete(run, valid_costs=(9, 8, cost), metrics={"bits_per_spike": 0.1})
    best = rc.best()
    assert (best.metric, best.run.id) == ("lowest_valid_cost", rc.runs[1].id)
    with pytest.raises(ResultsError, match=r"no complete run of single_day1 has co_bps(?s:.)*bits_per_spike"):
        rc.best("co_bps")
    with pytest.raises(NotFoundError, match="did you mean 'bits_per_spike'"):
        rc.best("bit_per_spike")


def test_bad_runs_ties_and_runs_without_a_score(make: Any, fabricated: Any) -> None:
    rc = make(swept(fabricated, seed=range(7)), done=0)
    scores = [0.5, 0.4, None, 0.9, 0.5, 0.1]
    verdicts = ["suspect", "good", "good", "bad", "good", "good"]
    for run, score, verdict in zip(rc.runs, scores, verdicts, strict=False):
        metrics = {} if score is None else {"co_bps": score}
        fabricated.complete(run, metrics=metrics, verdict=verdict, reasons=["dead inputs"])
    fabricated.complete(rc.runs[6], code=1)
    best = rc.best().only
    assert best.run.id == rc.runs[0].id, "the first of two that are tied"
    assert list(best.notes) == [
        "1 of 7 runs is not complete (1 failed)",
        f"left out, since quality control calls it bad: {rc.runs[3].id}",
        "did not compete, for want of co_bps: 1 complete run",
        f"tied with {rc.runs[4].id}: the first in the order of the collection is named",
        "quality control calls the best run suspect: dead inputs",
    ]
    whole = rc.best(include_bad=True)
    assert whole.run.id == rc.runs[3].id
    assert "quality control calls the best run bad: dead inputs" in whole.notes


def test_the_scores_of_bad_runs_do_not_choose_the_metric(make: Any, fabricated: Any) -> None:
    rc = make(swept(fabricated, seed=[0, 1]), done=0)
    fabricated.complete(rc.runs[0], metrics={"co_bps": 0.1}, verdict="bad", reasons=["it diverged"])
    fabricated.complete(rc.runs[1], metrics={"bits_per_spike": 0.1}, verdict="good")
    best = rc.best()
    assert (best.metric, best.run.id) == ("lowest_valid_cost", rc.runs[1].id)
    with pytest.raises(ResultsError, match="no complete run but bad ones of single_day1 has co_bps"):
        rc.best("co_bps")
    assert rc.best(include_bad=True).metric == "co_bps"


def test_if_all_are_bad_nobody_is_best(make: Any, fabricated: Any) -> None:
    rc = make(done=0)
    fabricated.complete(rc.runs[0], verdict="bad", reasons=["the posterior is collapsed"])
    with pytest.raises(
        ResultsError, match=r"the one complete run of single_day1 bad: the post.* collapsed\n"
    ):
        rc.best()
    assert rc.best(include_bad=True).run.id == rc.runs[0].id


def test_of_short_trainings_the_way_to_a_best_one_is_told(make: Any, fabricated: Any) -> None:
    rc = make(swept(fabricated, seed=[0, 1]), done=0)
    for run, bits in zip(rc.runs, (0.1, 0.2), strict=True):
        fabricated.complete(run, metrics={"bits_per_spike": bits}, verdict="bad", reasons=["It is short."])
        for log in run.layout.path.rglob("fitlog.csv"):
            head, *lines = log.read_text().splitlines()
            column = head.split(",").index("kl_weight")
            cells = [line.split(",") for line in lines]
            rows = [",".join([*row[:column], "0.5", *row[column + 1 :]]) for row in cells]
            log.write_text("\n".join([head, *rows, ""]))
    with pytest.raises(ResultsError) as told:
        rc.best()
    assert told.value.what == (
        f"quality control calls all 2 complete runs of single_day1 bad; of {rc.runs[0].id}: It is short."
    )
    assert told.value.hint is not None
    assert "--include-bad --metric bits_per_spike (in Python include_bad=True, metric=" in told.value.hint
    with pytest.raises(ResultsError) as told:
        rc.best(include_bad=True)
    assert told.value.what == (
        "no complete run of single_day1 has lowest_valid_cost: "
        "training ended before the ramps of KL and L2 did"
    )
    assert told.value.hint == (
        '--metric bits_per_spike (in Python metric="bits_per_spike"); they have bits_per_spike, valid_cost'
    )
    assert rc.best("bits_per_spike", include_bad=True).run.id == rc.runs[1].id


def test_a_run_spec_without_an_answer_does_not_hide_the_others(make: Any, fabricated: Any) -> None:
    rc = make(specs={"a": ["day1"], "b": ["day2"], "c": ["day1", "day2"]}, done=0)
    fabricated.complete(rc.runs[0], metrics={"rate_r2": 0.5})
    fabricated.complete(rc.runs[1])
    best = rc.best("rate_r2")
    assert list(best) == ["a"]
    assert best.notes == ("no complete run of b has rate_r2", "no run of c is complete")


def test_nothing_complete(make: Any, fabricated: Any) -> None:
    rc = make(done=0)
    with pytest.raises(ResultsError, match=r"no run is complete \(1 prepared\)"):
        rc.best()
    with pytest.raises(ResultsError, match="there are no runs"):
        rc.best(runs=[])


def test_what_is_not_comparable_is_said(make: Any, fabricated: Any) -> None:
    rc = make(swept(fabricated, spike_bin_ms=[4, 8], l2_gen_scale=[0.0, 5.0]), done=0)
    for run in rc.runs:
        fabricated.complete(run, metrics={"co_bps": 0.2})
    (care, *_) = [note for note in rc.best().notes if "care" in note]
    assert care == ("compare with care: runs differ in spike_bin_ms, which changes what co_bps measures")
    (care, *_) = [note for note in rc.best("lowest_valid_cost").notes if "care" in note]
    assert "differ in l2_gen_scale, spike_bin_ms, which" in care
    assert not [n for n in rc.best(spike_bin_ms=8).notes if "care" in n], "penalties are no part of a score"


# ---------------------------------------------------------------- words


def test_a_methods_paragraph_holds_what_a_reader_needs(sweep: RunCollection) -> None:
    best = sweep.best(spec="both")
    run, text = best.run, best.methods
    assert "\n" not in text
    for word in (
        "doi:10.1038/s41592-018-0109-9", "Pandarinath et al.", "Nature Methods 15, 805-815, 2018",
        "lfadsrm_hpc, version 0.1.0 (TensorFlow 2.21.0, NumPy 2.4.6, Python 3.11.7)",
        "2 recording sessions together: day1 (16 training and 4 validation trials, 5 neurons) and day2 (16",
        "bins of 4 ms, 10 bins a trial", "alignment matrices (least squares)",
        "generator of 8 units, 4 factors, an initial condition of 3 dimensions, no inferred inputs",
        "gen_dim=8", "Training ended after 3 epochs",
        "lowest validation cost were used (epoch 3, 3.6 nats a trial)", "averages over 16 samples",
        "Of 3 models fitted to these data (factors_dim: 2, 4; seed: 0, 1)",
        "co-smoothing bits/spike on withheld neurons: 0.36", run.id, f"data hash {run.data_hash}",
    ):  # fmt: skip
        assert word in text, word
    fingerprint = run.record()["inputs"][1]["fingerprint"]
    assert f"day2 {fingerprint[:16]}." in text
    assert not re.search(r"  |\.\.|,,|None|nan", text)


def test_other_kinds_of_runs_in_words(make: Any, fabricated: Any) -> None:
    params = RunParams(
        **{**fabricated.BASE, "co_dim": 2}, output_dist="gaussian", posterior_mean_kind="posterior_push_mean"
    )
    (run,) = make([params]).runs
    text = methods_paragraph(run)
    assert "one recording session: day1" in text
    assert "data are in bins of 4 ms" in text
    assert "2 inferred inputs, 2 external inputs and a gaussian observation model" in text
    assert "pushed through the model" in text
    assert text.startswith("Single-trial expected values of continuous data were inferred")
    assert "firing rates" not in text
    assert "Expected values and factors are those of the posterior means" in text
    assert "posterior_mean_kind" not in text, "it changes no model"
    assert "models fitted to these data" not in text
    assert "alignment" not in text
    train, valid, *_ = vars(counted(run.input_files()["day1"])).values()
    assert f"({train} training and {valid} validation trials, 5 neurons)" in text


def test_a_run_whose_files_are_gone_is_a_plain_error(make: Any) -> None:
    (run,) = make().runs
    best = run.collection.best()
    run.layout.model_params.unlink()
    with pytest.raises(ResultsError, match="no model parameters"):
        _ = best.methods
