"""Submission files of the Neural Latents Benchmark, evaluated by `nlb_tools` itself.

`nlb_tools` pins pandas below 1.4, which its evaluation does not use: install it without its dependencies,
`pip install --no-deps nlb_tools==0.0.4`.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest
import xarray as xr

from lfadsrm_hpc.errors import DataError, NotFoundError, UsageError
from lfadsrm_hpc.results.decoding import decode
from lfadsrm_hpc.results.metrics import bits_per_spike
from lfadsrm_hpc.results.nlb import write_submission
from lfadsrm_hpc.results.posterior_means.loaders import open_posterior_means
from lfadsrm_hpc.results.psth import psth_r2
from lfadsrm_hpc.results.r2 import rate_r2_by_neuron

HELD_OUT, FORWARD = [1, 6], 8  # neurons, bins of 5 ms
BIN_MS = 5.0


@pytest.fixture
def evaluate() -> Any:
    """`nlb_tools.evaluation.evaluate`, or a skip; with LFADSRM_REQUIRE_TOOLS=1 its absence is a failure."""
    if importlib.util.find_spec("nlb_tools") is None or importlib.util.find_spec("sklearn") is None:
        reason = "nlb_tools or scikit-learn is not installed: pip install --no-deps nlb_tools==0.0.4"
        if os.environ.get("LFADSRM_REQUIRE_TOOLS"):
            pytest.fail(reason)
        pytest.skip(reason)
    from nlb_tools.evaluation import evaluate

    return evaluate


@pytest.fixture
def fitted(made: SimpleNamespace, tmp_path: Path) -> SimpleNamespace:
    """Data with bins of 5 ms, and posterior means that are close to the truth."""
    import dataclasses

    session = made.session(trials=200, bins=48, neurons=8, conditions=4)
    rng = np.random.default_rng(0)
    truth = {part: getattr(session, f"{part}_truth") * 2 for part in ("train", "valid")}
    session = dataclasses.replace(
        session,
        bin_ms=BIN_MS,
        time_ms=BIN_MS * np.arange(48),
        train_data=rng.poisson(truth["train"] * BIN_MS / 1000),
        valid_data=rng.poisson(truth["valid"] * BIN_MS / 1000),
    )
    both = 2 * made.together(session, "truth")
    rates = both * rng.gamma(50, 1 / 50, both.shape)
    path = made.write(tmp_path / "a.nc", session, rates, held_out=HELD_OUT, forward=FORWARD)
    return SimpleNamespace(session=session, path=path, truth=truth)


def targets(fitted: SimpleNamespace, factor: int) -> dict[str, Any]:
    """Return what the benchmark holds back: eval spikes, behaviour, PSTHs; bins added up by `factor`."""
    session = fitted.session
    mask = np.isin(np.arange(8), HELD_OUT)
    seen = 48 - FORWARD

    def added(values: np.ndarray) -> np.ndarray:
        return values.reshape(len(values), -1, factor, values.shape[2]).sum(axis=2)

    def hand(part: int) -> np.ndarray:
        values = session.extra["hand"][1 + part][:, :seen]
        noise = 0.5 * np.random.default_rng(part).normal(size=values.shape)
        return (values + noise)[:, ::factor]

    spikes, forward = added(session.valid_data[:, :seen]), added(session.valid_data[:, seen:])
    order = [*np.flatnonzero(~mask), *np.flatnonzero(mask)]
    truth = np.concatenate([fitted.truth["train"], fitted.truth["valid"]])[:, :seen][..., order]
    condition = np.concatenate([session.train_condition, session.valid_condition])
    means = np.stack([truth[condition == c].mean(axis=0) for c in range(4)]) * BIN_MS / 1000
    return {
        "eval_spikes_heldout": spikes[..., mask],
        "eval_spikes_heldin_forward": forward[..., ~mask],
        "eval_spikes_heldout_forward": forward[..., mask],
        "train_behavior": hand(0),
        "eval_behavior": hand(1),
        "psth": added(means),
        "eval_cond_idx": np.array(
            [np.flatnonzero(session.valid_condition == c) for c in range(4)], dtype=object
        ),
    }


class Held(dict[str, Any]):
    """A target in memory, whose arrays answer `[()]` as HDF5 datasets do."""


def in_memory(content: dict[str, Any]) -> Held:
    return Held(
        {key: {name: np.asarray(value) for name, value in one.items()} for key, one in content.items()}
    )


@pytest.mark.parametrize(("bin_ms", "suffix"), [(None, ""), (20.0, "_20")])
def test_nlb_tools_scores_the_file_as_we_score_the_run(
    evaluate: Any, fitted: SimpleNamespace, tmp_path: Path, bin_ms: float | None, suffix: str
) -> None:
    factor = round((bin_ms or BIN_MS) / BIN_MS)
    with open_posterior_means(fitted.path) as means:
        path = write_submission(tmp_path / "s.h5", "mc_rtt", means, bin_ms=bin_ms)
        rates = means.rates.values.astype(float)
    held_back = targets(fitted, factor)
    [result] = evaluate(in_memory({f"mc_rtt{suffix}": held_back}), str(path))
    [theirs] = result.values()
    assert list(result) == [f"mc_rtt{suffix}_split"]

    session, seen = fitted.session, 48 - FORWARD
    mask = np.isin(np.arange(8), HELD_OUT)
    width = BIN_MS * factor
    binned = rates.reshape(200, -1, factor, 8).mean(axis=2)  # spikes/s
    train, valid = binned[session.train_inds], binned[session.valid_inds]
    bins, spikes = seen // factor, held_back["eval_spikes_heldout"]

    def bits(found: np.ndarray, counts: np.ndarray) -> float:
        null = counts.mean(axis=(0, 1)) * 1000 / width  # theirs: the scored trials' own mean
        return bits_per_spike(found, counts, null, bin_ms=width)

    assert theirs["co-bps"] == pytest.approx(bits(valid[:, :bins][..., mask], spikes), rel=1e-5)
    assert theirs["co-bps"] > 0.05
    both = [held_back[f"eval_spikes_{kind}_forward"] for kind in ("heldin", "heldout")]
    found = np.concatenate([valid[:, bins:][..., ~mask], valid[:, bins:][..., mask]], axis=2)
    assert theirs["fp-bps"] == pytest.approx(bits(found, np.concatenate(both, axis=2)), rel=1e-5)

    ours = decode(train[:, :bins], held_back["train_behavior"], valid[:, :bins], held_back["eval_behavior"])
    assert theirs["vel R2"] == pytest.approx(ours.r2, abs=0.01)
    assert ours.r2 > 0.5

    order = [*np.flatnonzero(~mask), *np.flatnonzero(mask)]
    averages = np.stack([valid[:, :bins][session.valid_condition == c].mean(axis=0) for c in range(4)])
    counts = averages[..., order] * width / 1000
    uniform = rate_r2_by_neuron(counts, held_back["psth"], least_rate=0.0)
    assert theirs["psth R2"] == pytest.approx(uniform.mean(), abs=1e-4)
    # their target knows the true averages; ours are those of the training trials, their noise taken off
    mine = psth_r2(
        valid[:, :bins],
        session.valid_condition,
        train_counts=session.train_data[:, :seen].reshape(160, bins, factor, 8).sum(axis=2),
        train_condition=session.train_condition,
        bin_ms=width,
    )
    assert theirs["psth R2"] == pytest.approx(mine, abs=0.06)


def test_what_the_file_holds(fitted: SimpleNamespace, tmp_path: Path) -> None:
    with open_posterior_means(fitted.path) as means:
        path = write_submission(tmp_path / "s.h5", "mc_maze", means)
        expected = means.rates.values * BIN_MS / 1000
    with h5py.File(path) as file:
        assert list(file) == ["mc_maze"]
        group = file["mc_maze"]
        assert {name: one.shape for name, one in group.items()} == {
            "train_rates_heldin": (160, 40, 6),
            "train_rates_heldout": (160, 40, 2),
            "eval_rates_heldin": (40, 40, 6),
            "eval_rates_heldout": (40, 40, 2),
            "train_rates_heldin_forward": (160, 8, 6),
            "train_rates_heldout_forward": (160, 8, 2),
            "eval_rates_heldin_forward": (40, 8, 6),
            "eval_rates_heldout_forward": (40, 8, 2),
        }
        valid = fitted.session.valid_inds
        np.testing.assert_allclose(group["eval_rates_heldout"], expected[valid][:, :40, HELD_OUT], rtol=1e-6)
        np.testing.assert_allclose(
            group["eval_rates_heldin_forward"],
            np.delete(expected[valid][:, 40:], HELD_OUT, axis=2),
            rtol=1e-6,
        )
    assert [item.name for item in tmp_path.iterdir() if item.suffix != ".nc"] == ["s.h5"]


def test_test_trials_take_the_place_of_validation_trials(fitted: SimpleNamespace, tmp_path: Path) -> None:
    with open_posterior_means(fitted.path) as means:
        new = means.isel(trial=slice(0, 30)).load()
        path = write_submission(tmp_path / "s.h5", "mc_maze", means, evaluation=new)
        with pytest.raises(UsageError, match="have 7 neurons, the run 8"):
            write_submission(path, "mc_maze", means, evaluation=new.isel(neuron=slice(1, None)))
    with h5py.File(path) as file:
        assert file["mc_maze/train_rates_heldin"].shape == (200, 40, 6)
        assert file["mc_maze/eval_rates_heldin"].shape == (30, 40, 6)


def test_several_datasets_in_one_file(fitted: SimpleNamespace, tmp_path: Path) -> None:
    path = tmp_path / "s.h5"
    with open_posterior_means(fitted.path) as means:
        write_submission(path, "mc_maze", means)
        write_submission(path, "mc_rtt", means, bin_ms=20, add=True)
        write_submission(path, "mc_maze", means, add=True)
        with h5py.File(path) as file:
            assert sorted(file) == ["mc_maze", "mc_rtt_20"]
            assert file["mc_rtt_20/eval_rates_heldin"].shape == (40, 10, 6)
        write_submission(path, "area2_bump", means)
        with h5py.File(path) as file:
            assert list(file) == ["area2_bump"]
        path.write_bytes(b"no HDF5")
        with pytest.raises(DataError, match="cannot be read"):
            write_submission(path, "mc_maze", means, add=True)
    assert path.read_bytes() == b"no HDF5"


def test_what_the_benchmark_would_not_take_is_refused(
    fitted: SimpleNamespace, made: SimpleNamespace, tmp_path: Path
) -> None:
    path = tmp_path / "s.h5"
    with open_posterior_means(fitted.path) as means:
        with pytest.raises(UsageError, match="did you mean 'mc_maze'"):
            write_submission(path, "mc_maz", means)
        with pytest.raises(UsageError, match="5 and 20 ms, not of 10 ms"):
            write_submission(path, "mc_maze", means, bin_ms=10)
        odd = means.assign_attrs(params='{"values": {"forward_prediction_bins": 7}}')
        with pytest.raises(DataError, match="41 bins cannot be added up by 4"):
            write_submission(path, "mc_maze", odd, bin_ms=20)
        coarse = means.assign_attrs(bin_ms=20.0)
        with pytest.raises(DataError, match="do not add up to 5 ms"):
            write_submission(path, "mc_maze", coarse, bin_ms=5)
        with pytest.raises(UsageError, match="no held-out neurons"):
            write_submission(path, "mc_maze", means.assign_attrs(held_out_neurons="[]"))
        values: xr.Dataset = means.rename(rates="output_mean")
        with pytest.raises(DataError, match="are no rates"):
            write_submission(path, "mc_maze", values)
        only_train = means.isel(trial=means.split.values == "train")
        with pytest.raises(DataError, match="no trial for 'eval'"):
            write_submission(path, "mc_maze", only_train)
    assert not path.exists()
    assert not list(tmp_path.glob(".*"))


def test_trials_that_were_not_inferred_are_told_of(make: Any, tmp_path: Path) -> None:
    (run,) = make().runs
    with pytest.raises(NotFoundError, match=r"no inferred trials 'late'(?s:.)*`run.infer`"):
        run.write_nlb_submission(tmp_path / "s.h5", "mc_maze", evaluation="late")
    run.layout.inferred_dir.mkdir()
    (run.layout.inferred_dir / "later.nc").touch()
    with pytest.raises(NotFoundError, match="did you mean 'later'"):
        run.write_nlb_submission(tmp_path / "s.h5", "mc_maze", evaluation="late")
