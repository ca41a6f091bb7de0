"""Sessions and posterior means made up without a model, to score."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from lfadsrm_hpc.data.inputs import SessionInputs
from lfadsrm_hpc.results.posterior_means.writing import PosteriorMeansWriter

Array = npt.NDArray[Any]
BIN_MS = 10.0


@dataclass(frozen=True)
class InputsWithExtra(SessionInputs):
    """Inputs that carry further variables: name -> (dims, training trials, validation trials)."""

    extra: dict[str, tuple[tuple[str, ...], Array, Array]] = field(default_factory=dict)


def make_session(
    *, trials: int = 60, bins: int = 20, neurons: int = 8, conditions: int = 4, seed: int = 0, **extra: Any
) -> SessionInputs:
    """Poisson spikes of rates that follow one course a condition; every fifth trial validates."""
    rng = np.random.default_rng(seed)
    condition = np.arange(trials) % conditions
    waves = np.sin(np.arange(bins)[:, None] / 4 + rng.uniform(0, 6, (conditions, 1, 2)))
    latents = waves[condition] + 0.1 * rng.normal(size=(trials, 1, 2))
    truth = 20 * np.exp(latents @ rng.normal(0, 0.6, (2, neurons)))
    counts = rng.poisson(truth * BIN_MS / 1000)
    valid = np.arange(trials) % 5 == 2
    parts = {"data": counts, "truth": truth, "inds": np.arange(trials), "condition": condition}
    split = {
        f"{part}_{key}": values[own]
        for part, own in (("train", ~valid), ("valid", valid))
        for key, values in parts.items()
    }
    named = {
        name: (dims, values[~valid], values[valid])
        for name, (dims, values) in {
            "lowd": (("trial", "time", "latent"), latents),
            "hand": (("trial", "time", "axis"), latents @ np.array([[3.0, 1.0], [-2.0, 9.0]]) + 50),
            **extra,
        }.items()
    }
    return InputsWithExtra(
        dataset="made_up",
        time_ms=BIN_MS * np.arange(bins),
        bin_ms=BIN_MS,
        neuron_names=np.array([f"n{i}" for i in range(neurons)]),
        fingerprint="f" * 64,
        extra=named,
        **split,
    )


def together(session: SessionInputs, key: str) -> Array:
    """Return training and validation trials in their original order."""
    order = np.argsort(np.concatenate([session.train_inds, session.valid_inds]))
    both = [getattr(session, f"{part}_{key}") for part in ("train", "valid")]
    return np.concatenate(both)[order]


def write_means(
    path: Path,
    session: SessionInputs,
    rates: Array,
    *,
    factors: Array | None = None,
    output_dist: str = "poisson",
    held_out: list[int] | None = None,
    forward: int = 0,
    block: int = 7,
    **more: Array,
) -> Path:
    """Write posterior means with the given rates (spikes/s), all trials in their original order."""
    trials, bins, _ = rates.shape
    inds = np.sort(np.concatenate([session.train_inds, session.valid_inds]))
    factors = np.zeros((trials, bins, 2)) if factors is None else factors
    inputs = more.get("controller_outputs")
    sizes = {"factor": factors.shape[2], "generator_unit": 3, "ic": 2}
    sizes["controller_output"] = 0 if inputs is None else inputs.shape[2]
    arrays: dict[str, Array] = {
        "factors": factors,
        "generator_states": np.zeros((trials, bins, 3)),
        "generator_ics": np.zeros((trials, 3)),
        **{name: np.zeros((trials, 2)) for name in ("post_g0_mean", "post_g0_logvar")},
        **{name: np.zeros((trials, 2)) for name in ("prior_g0_mean", "prior_g0_logvar")},
        **{name: np.zeros(trials) for name in ("costs", "nll_bound_vae", "nll_bound_iwae")},
        **more,
    }
    if output_dist in ("poisson", "negative_binomial"):
        arrays["rates"] = rates * (session.bin_ms / 1000)
    else:
        arrays |= {"output_mean": rates, "output_var": np.ones_like(rates)}
    with PosteriorMeansWriter(
        path,
        dataset=session.dataset,
        time_ms=session.time_ms,
        bin_ms=session.bin_ms,
        trial=inds,
        split=["valid" if one in session.valid_inds else "train" for one in inds],
        neuron_names=session.neuron_names,
        output_dist=output_dist,
        sizes=sizes,
        with_std=any(name.endswith("_std") for name in more),
        attributes={
            "claim_token": "T1",
            "fingerprint": session.fingerprint,
            "held_out_neurons": held_out or [],
            "num_samples": 16,
            "params": {"values": {"forward_prediction_bins": forward}},
        },
    ) as writer:
        for start in range(0, trials, block):
            writer.write_block(start, {name: a[start : start + block] for name, a in arrays.items()})
    return path


@pytest.fixture
def made() -> SimpleNamespace:
    """What tests of scores make sessions and posterior means of."""
    return SimpleNamespace(session=make_session, together=together, write=write_means, bin_ms=BIN_MS)


NASTY = '<img src=x onerror="hacked=1">'
SCRIPT = "</script><script>hacked=2</script>"


@pytest.fixture(scope="session")
def reported(fabricated: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A collection to make pages of: two run specs x 2 factors x 3 seeds, with names that look like HTML.

    Of each run spec five runs are complete (good, good, suspect, bad, good), and the last one has failed.
    The stitched runs of one more run spec never ran.
    """
    from lfadsrm_hpc.api import RunCollection
    from lfadsrm_hpc.collection.params import RunParams

    rc = fabricated.collection(
        tmp_path_factory.mktemp("reported"),
        RunParams(**fabricated.BASE).generate_sweep(factors_dim=[4, 10], seed=[0, 1, 2]),
        specs={NASTY: ["day1"], "plain": ["day1"], "both": ["day1", "day2"]},
    )
    rc.comment = SCRIPT
    verdicts = ("good", "good", "suspect", "bad", "good", None)
    for number, run in enumerate(rc.runs[:12]):
        place = number % 6
        fabricated.complete(
            run,
            valid_costs=[50 / epoch + number / 10 for epoch in range(1, 31)],
            metrics={"co_bps": 0.1 + place / 100, "bits_per_spike": 0.2} if place < 5 else None,
            verdict=verdicts[place],
            reasons=[f"It says {SCRIPT}."] if verdicts[place] in ("suspect", "bad") else (),
            code=0 if place < 5 else 1,
            means=place == 4,
            device="NVIDIA A100" if number % 2 else "cpu, 2 threads",
        )
    with fabricated.quickly():
        rc.prepare_for_lfads(warn=False)  # the comment
    return RunCollection.open(rc.path)


@pytest.fixture(scope="session")
def page(reported: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its page."""
    path: Path = reported.report(tmp_path_factory.mktemp("page") / "report.html").path
    return path
