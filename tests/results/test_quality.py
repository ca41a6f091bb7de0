"""Verdicts: what each check looks at, and that thresholds lie between good and broken trainings."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lfadsrm_hpc.errors import ResultsError
from lfadsrm_hpc.model.training.schedule import COLUMNS
from lfadsrm_hpc.results.posterior_means.loaders import open_posterior_means
from lfadsrm_hpc.results.scoring.evidence import (
    DatasetEvidence,
    FitEvidence,
    dataset_evidence,
    fit_evidence,
    ic_divergence,
    input_information,
)
from lfadsrm_hpc.results.scoring.quality import BAD, GOOD, SUSPECT, judge, worst
from lfadsrm_hpc.results.scoring.scores import score_dataset

PARAMS = {
    "kl_start_step": 0, "kl_increase_steps": 20, "l2_start_step": 10, "l2_increase_steps": 20,
    "learning_rate_init": 0.01, "learning_rate_decay_factor": 0.9,
}  # fmt: skip
FIT = FitEvidence(
    epochs=150, step=600, kl_weight=1.0, l2_weight=1.0, ramp_steps=300, after_ramps=76, not_finite=0,
    went_back=0, lowest_epoch=149, rise=0.0,
)  # fmt: skip
# measured on a good training (tests/benchmarks/quality.py, case "good_inputs")
DATA = DatasetEvidence(
    dataset="day1", bits=0.191, train_bits=0.199, ic_nats=0.462, ic_active=11, ic_dim=16,
    inputs=(0.037, 0.145), modulation=0.326, apart_r2=0.50,
)  # fmt: skip


def verdict(fit: dict[str, Any] | None = None, **data: Any) -> tuple[str, list[str]]:
    found = judge(dataclasses.replace(FIT, **(fit or {})), [dataclasses.replace(DATA, **data)])
    for reason in found.reasons:
        assert reason.text[0].isupper()
        assert reason.text.endswith(".")
        assert ": " in reason.text, "a reason says what to try"
    return found.verdict, [reason.check for reason in found.reasons]


def test_a_good_run_has_no_reasons() -> None:
    assert verdict() == (GOOD, [])
    nothing = dict.fromkeys(("bits", "train_bits", "ic_nats", "modulation", "apart_r2"))
    assert verdict(inputs=(), ic_dim=0, **nothing) == (GOOD, []), "what is not known is no reason"


@pytest.mark.parametrize(
    ("fit", "data", "expected"),
    [
        ({"lowest_epoch": None, "after_ramps": 0, "kl_weight": 0.1}, {}, (BAD, ["ramps"])),
        ({"after_ramps": 4}, {}, (SUSPECT, ["ramps"])),
        ({"not_finite": 3}, {}, (BAD, ["diverged"])),
        ({"went_back": 2}, {}, (SUSPECT, ["diverged"])),
        ({"rise": 7.1}, {}, (SUSPECT, ["overfitted"])),
        ({}, {"bits": 0.114, "train_bits": 0.516}, (BAD, ["overfitted"])),
        ({}, {"bits": 0.25, "train_bits": 0.516}, (SUSPECT, ["overfitted"])),
        ({}, {"bits": 0.358, "train_bits": 0.289}, (GOOD, [])),
        ({}, {"bits": -0.01, "train_bits": 0.01}, (BAD, ["prediction"])),
        ({}, {"modulation": 0.003, "ic_nats": 0.003}, (BAD, ["collapsed"])),
        ({}, {"ic_nats": 0.026, "modulation": 0.3}, (SUSPECT, ["collapsed"])),
        ({}, {"inputs": (0.0, 2e-4)}, (SUSPECT, ["inputs"])),
        ({}, {"inputs": (0.0, 0.037)}, (GOOD, [])),
        ({}, {"apart_r2": 0.026}, (BAD, ["conditions"])),
        ({}, {"apart_r2": 0.2}, (SUSPECT, ["conditions"])),
    ],
)
def test_each_check(fit: dict[str, Any], data: dict[str, Any], expected: tuple[str, list[str]]) -> None:
    assert verdict(fit, **data) == expected


def test_several_datasets_are_named_and_the_worst_counts() -> None:
    broken = dataclasses.replace(DATA, dataset="day2", apart_r2=0.0)
    found = judge(FIT, [DATA, broken])
    assert found.verdict == BAD
    assert found.reasons[0].text.startswith("Dataset day2: rates have 0% of the differences")
    assert worst([]) == GOOD
    assert worst([GOOD, BAD, SUSPECT]) == BAD
    assert found.to_json()["reasons"][0] == {
        "check": "conditions", "verdict": BAD, "text": found.reasons[0].text
    }  # fmt: skip


# -- fit logs ------------------------------------------------------------------------------------------


def write_log(path: Path, **columns: Any) -> Path:
    """Write a fit log of some epochs with two steps each; `columns` replace what is usual."""
    count = len(next(iter(columns.values()))) if columns else 60
    epoch = np.arange(1, count + 1)
    usual = dict.fromkeys(COLUMNS, np.ones(count)) | {
        "epoch": epoch,
        "step": 2 * epoch,
        "kl_weight": np.clip(2 * epoch / 20, 0, 1),
        "l2_weight": np.clip((2 * epoch - 10) / 20, 0, 1),
        "learning_rate": np.full(count, 0.01),
    }
    recon = 50 + 50 * np.exp(-epoch / 10)
    usual |= {"valid_recon": recon, "valid_total": recon, "train_total": recon}
    table = np.column_stack([np.asarray((usual | columns)[name], float) for name in COLUMNS])
    rows = [",".join([str(int(v)) for v in row[:2]] + [repr(float(v)) for v in row[2:]]) for row in table]
    path.write_text("\n".join([",".join(COLUMNS), *rows, ""]))
    return path


def test_a_training_that_went_to_its_end(tmp_path: Path) -> None:
    found = fit_evidence(write_log(tmp_path / "fitlog.csv"), PARAMS)
    assert (found.epochs, found.step, found.ramp_steps, found.after_ramps) == (60, 120, 30, 46)
    assert (found.lowest_epoch, found.not_finite, found.went_back, found.rise) == (60, 0, 0, 0.0)


def test_a_training_that_ended_within_the_ramps(tmp_path: Path) -> None:
    found = fit_evidence(write_log(tmp_path / "fitlog.csv", l2=np.ones(12)), PARAMS)
    assert (found.epochs, found.after_ramps, found.lowest_epoch) == (12, 0, None)
    assert 0 < found.l2_weight < 1
    nothing = tmp_path / "empty.csv"
    nothing.write_text(",".join(COLUMNS) + "\n")
    assert fit_evidence(nothing, PARAMS).epochs == 0
    assert judge(fit_evidence(nothing, PARAMS), []).verdict == BAD
    with pytest.raises(ResultsError):
        fit_evidence(tmp_path / "absent.csv", PARAMS)


def test_a_validation_cost_that_rises_again(tmp_path: Path) -> None:
    epoch = np.arange(1, 201)
    recon = 100 - 40 * np.minimum(epoch / 50, 1) + 0.2 * np.maximum(epoch - 50, 0)  # 100 -> 60 -> 90
    path = write_log(tmp_path / "fitlog.csv", valid_recon=recon, valid_total=recon)
    found = fit_evidence(path, PARAMS)
    assert found.lowest_epoch == 50
    assert found.rise == pytest.approx(0.75, abs=0.05)
    assert fit_evidence(path, {**PARAMS, "start_from": "param_x/y"}).rise == 0.0
    noise = recon.min() + np.abs(np.random.default_rng(0).normal(0, 1, 200))  # level, with a lucky epoch
    noise[0], noise[80] = 100, recon.min() - 3
    level = fit_evidence(write_log(tmp_path / "b.csv", valid_recon=noise, valid_total=noise), PARAMS)
    assert level.lowest_epoch == 81
    assert level.rise < 0.05


def test_costs_that_are_not_finite_and_halved_rates(tmp_path: Path) -> None:
    rate = np.full(60, 0.01)
    rate[20:] *= 0.9  # by the rule
    rate[30:] *= 0.5  # once back
    rate[40:] *= 0.9 * 0.25  # the rule, and twice back
    costs = np.full(60, 70.0)
    costs[50] = np.nan
    path = write_log(tmp_path / "fitlog.csv", learning_rate=rate, valid_total=costs)
    found = fit_evidence(path, PARAMS)
    assert (found.went_back, found.not_finite) == (3, 1)
    first = fit_evidence(write_log(tmp_path / "b.csv", learning_rate=np.full(60, 0.005)), PARAMS)
    assert first.went_back == 1
    by_rule = write_log(tmp_path / "c.csv", learning_rate=0.01 * 0.5 ** (np.arange(60) // 10))
    assert fit_evidence(by_rule, {**PARAMS, "learning_rate_decay_factor": 0.5}).went_back == 0


# -- posterior means -----------------------------------------------------------------------------------


def test_divergence_of_initial_conditions(made: SimpleNamespace, tmp_path: Path) -> None:
    session, rng = made.session(), np.random.default_rng(0)
    rates = made.together(session, "truth")
    mean, logvar = rng.normal(0, 1, (60, 2)), np.log(rng.uniform(0.1, 1, (60, 2)))
    prior = {"prior_g0_mean": np.full((60, 2), 0.5), "prior_g0_logvar": np.full((60, 2), np.log(2.0))}
    path = made.write(tmp_path / "a.nc", session, rates, post_g0_mean=mean, post_g0_logvar=logvar, **prior)
    with open_posterior_means(path) as means:
        found = ic_divergence(means)
    v = np.exp(logvar)
    expected = (np.log(np.sqrt(2 / v)) + (v + (mean - 0.5) ** 2) / 4 - 0.5).mean(axis=0)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    equal = made.write(tmp_path / "b.nc", session, rates)  # posterior and prior both standard normal
    with open_posterior_means(equal) as means:
        np.testing.assert_allclose(ic_divergence(means), 0, atol=1e-7)
        assert ic_divergence(means.drop_vars("post_g0_mean")) is None


def test_inputs_are_dead_where_the_posterior_is_the_prior(made: SimpleNamespace, tmp_path: Path) -> None:
    session, rng = made.session(), np.random.default_rng(0)
    rates = made.together(session, "truth")
    std = np.full((60, 20, 3), 0.7)
    u = rng.normal(0, 0.7 / 4, (60, 20, 3))  # means of 16 samples of the prior: nothing but sampling
    u[..., 1] += rng.normal(0, 0.7, (60, 20))  # half of its variance is known
    std[..., 2], u[..., 2] = 0.01, rng.normal(0, 1, (60, 20))
    stds = {f"{name}_std": np.ones_like(a) for name, a in {
        "rates": rates, "factors": np.zeros((60, 20, 2)), "generator_states": np.zeros((60, 20, 3)),
        "generator_ics": np.zeros((60, 3)),
    }.items()}  # fmt: skip
    path = made.write(
        tmp_path / "a.nc", session, rates, controller_outputs=u, controller_outputs_std=std, **stds
    )
    with open_posterior_means(path) as means:
        found = input_information(means)
    assert found[0] < 0.005
    assert found[1] == pytest.approx(0.5, abs=0.03)
    assert found[2] > 0.99
    alone = made.write(tmp_path / "b.nc", session, rates, controller_outputs=0.001 * u)  # push-mean
    with open_posterior_means(alone) as means:
        assert (input_information(means) < 1e-3).all()


def test_rates_that_differ_by_sampling_alone_are_flat(made: SimpleNamespace, tmp_path: Path) -> None:
    session, rng = made.session(), np.random.default_rng(0)
    truth = made.together(session, "truth")
    flat = np.broadcast_to(truth.mean(axis=0), truth.shape)
    noisy = flat + rng.normal(0, 4 / 4, flat.shape)  # posterior sd 4, 16 samples
    stds = {f"{name}_std": np.zeros(shape) for name, shape in {
        "factors": (60, 20, 2), "generator_states": (60, 20, 3), "generator_ics": (60, 3),
    }.items()}  # fmt: skip
    found = {}
    for name, rates in {"flat": noisy, "true": truth}.items():
        std = np.full_like(rates, 4.0 * made.bin_ms / 1000)
        path = made.write(tmp_path / f"{name}.nc", session, rates, rates_std=std, **stds)
        with open_posterior_means(path) as means:
            found[name] = score_dataset(means, session).modulation
    assert found["flat"] < 0.02
    spread = np.sqrt(truth.var(axis=0).sum() / np.square(truth.mean(axis=0)).sum())
    assert found["true"] == pytest.approx(spread, rel=0.02)


def test_the_offset_of_continuous_data_is_no_reason(made: SimpleNamespace, tmp_path: Path) -> None:
    session = made.session()
    truth = made.together(session, "truth")
    flat = np.broadcast_to(truth.mean(axis=0), truth.shape)
    found, reasons = {}, {}
    for offset in (0.0, 5000.0):
        moved = dataclasses.replace(
            session, train_data=session.train_truth + offset, valid_data=session.valid_truth + offset
        )
        for name, rates in {"flat": flat, "true": truth}.items():
            path = tmp_path / f"{name}{offset:.0f}.nc"
            made.write(path, moved, rates + offset, output_dist="gaussian")
            with open_posterior_means(path) as means:
                scores = score_dataset(means, moved)
                evidence = dataset_evidence(means, scores)
            found[name, offset] = scores.modulation
            reasons[name, offset] = [
                one for one in judge(FIT, [evidence]).reasons if one.check == "collapsed"
            ]
    spread = np.sqrt(truth.var(axis=0).mean(axis=0).sum() / truth.var(axis=(0, 1)).sum())
    for offset in (0.0, 5000.0):
        assert found["true", offset] == pytest.approx(spread, rel=0.01)
        assert not any(one.verdict == BAD for one in reasons["true", offset])
        (one,) = (one for one in reasons["flat", offset] if one.verdict == BAD)
        assert "of the standard deviation of the data" in one.text


def test_few_spikes_that_lack_bits_by_chance_are_no_reason() -> None:
    lost = {"train_bits": 0.05, "bits": 0.01}
    assert verdict(**lost, bits_error=0.01) == (BAD, ["overfitted"])
    assert verdict(**lost, bits_error=0.03) == (GOOD, [])
    assert verdict(train_bits=0.05, bits=-0.01, bits_error=0.04) == (SUSPECT, ["prediction"])
    assert verdict(train_bits=0.05, bits=-0.01, bits_error=0.02)[0] == BAD
    assert verdict(train_bits=0.0, bits=-0.001, bits_error=0.01) == (BAD, ["prediction"]), (
        "it learned nothing"
    )


def test_true_rates_of_short_sessions_are_not_called_over_fitted(
    made: SimpleNamespace, tmp_path: Path
) -> None:
    """Fifty sessions of 16 training and 4 validation trials, weakly modulated."""
    errors, gains, bad = [], [], 0
    for seed in range(50):
        rng = np.random.default_rng(seed)
        session = made.session(trials=20, neurons=6, seed=seed)
        weak = np.maximum(5 + 0.15 * (made.together(session, "truth") - 20), 0.5)
        counts = rng.poisson(weak * made.bin_ms / 1000)
        valid = np.isin(np.arange(20), session.valid_inds)
        session = dataclasses.replace(session, train_data=counts[~valid], valid_data=counts[valid])
        path = made.write(tmp_path / "a.nc", session, weak)
        with open_posterior_means(path) as means:
            evidence = dataset_evidence(means, score_dataset(means, session))
        errors.append(evidence.bits_error)
        gains.append(evidence.bits)
        reasons = judge(FIT, [evidence]).reasons
        bad += any(one.check == "overfitted" for one in reasons)
    assert bad <= 1
    assert np.std(gains) == pytest.approx(np.mean(errors), rel=0.3), "it is the standard error"
