"""Posterior means: batching does not matter, averages converge, checkpoints are chosen honestly."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from lfadsrm_hpc.errors import DataError, ModelError, NotFoundError, ParamsError
from lfadsrm_hpc.model.sampling import posterior
from lfadsrm_hpc.model.sampling.posterior import PUSH_MEAN, Sampler
from lfadsrm_hpc.model.training import checkpoints
from lfadsrm_hpc.model.training import loop as training

pytestmark = pytest.mark.train

Make = Callable[..., Any]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A stitched model with controller, trained for two epochs; gives (hp, folder, sessions)."""
    from lfadsrm_hpc.model.hyperparameters import Hyperparameters
    from lfadsrm_hpc.model.session import Session

    hp = Hyperparameters(
        gen_dim=7, ic_dim=4, ic_enc_dim=5, ci_enc_dim=6, con_dim=8, factors_dim=3, batch_size=8, co_dim=2,
        use_xla="off", kl_increase_steps=1, l2_increase_steps=1, max_epochs=2,
    )  # fmt: skip
    rng = np.random.default_rng(0)
    sessions = [
        Session(n, rng.poisson(0.5, (16, 9, d)), rng.poisson(0.5, (5, 9, d))) for n, d in (("a", 6), ("b", 4))
    ]
    folder = tmp_path_factory.mktemp("model")
    training.train(hp, sessions, folder)
    return hp, folder, sessions


def joined(sampler: Sampler, data: Any, **more: Any) -> dict[str, Any]:
    blocks = list(sampler.blocks(data, **more))
    assert [b.start for b in blocks[1:]] == [b.stop for b in blocks[:-1]]
    assert (blocks[0].start, blocks[-1].stop) == (0, len(data))
    return {name: np.concatenate([b.arrays[name] for b in blocks]) for name in blocks[0].arrays}


def test_shapes_and_names(model: Any) -> None:
    hp, folder, sessions = model
    sampler = Sampler(hp, folder, "b", num_samples=3, with_std=True)
    arrays = joined(sampler, sessions[1].train)
    shapes = {
        "rates": (9, 4), "factors": (9, 3), "generator_states": (9, 7), "generator_ics": (7,),
        "controller_outputs": (9, 2),
    }  # fmt: skip
    assert {name: a.shape[1:] for name, a in arrays.items()} == {
        **shapes, **{f"{name}_std": shape for name, shape in shapes.items()}, "post_g0_mean": (4,),
        "post_g0_logvar": (4,), "prior_g0_mean": (4,), "prior_g0_logvar": (4,), "costs": (),
        "nll_bound_vae": (), "nll_bound_iwae": (),
    }  # fmt: skip
    assert sampler.sizes == {"factor": 3, "generator_unit": 7, "controller_output": 2, "ic": 4}
    assert sampler.checkpoint["kind"] == "lve"
    assert sampler.note == ""


def test_results_do_not_depend_on_batching(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other blocks, other chunks of samples, and trials in another order give the same per-trial results."""
    hp, folder, sessions = model
    data = sessions[0].train
    whole = joined(Sampler(hp, folder, "a", num_samples=10), data)
    monkeypatch.setattr(posterior, "CPU_ROWS", 4)  # 3 calls of 4, 4 and 2 samples, one trial a block
    small = joined(Sampler(hp, folder, "a", num_samples=10), data)
    order = np.arange(len(data))[::-1]
    monkeypatch.setattr(posterior, "CPU_ROWS", 30)
    turned = joined(Sampler(hp, folder, "a", num_samples=10), data[order], trial_ids=order)
    for name, value in whole.items():
        np.testing.assert_allclose(small[name], value, rtol=2e-5, atol=1e-5, err_msg=name)
        np.testing.assert_allclose(turned[name][order], value, rtol=2e-5, atol=1e-5, err_msg=name)


def test_seeds_differ_and_averages_converge(model: Any) -> None:
    hp, folder, sessions = model
    data = sessions[0].valid
    few = [joined(Sampler(hp, folder, "a", num_samples=4, seed=s), data)["factors"] for s in (1, 2)]
    many = [joined(Sampler(hp, folder, "a", num_samples=400, seed=s), data)["factors"] for s in (1, 2)]
    assert np.abs(few[0] - few[1]).mean() > 5 * np.abs(many[0] - many[1]).mean()


def test_push_mean_is_deterministic_and_bounds_are_ordered(model: Any) -> None:
    hp, folder, sessions = model
    data = sessions[0].valid
    a, b = (joined(Sampler(hp, folder, "a", kind=PUSH_MEAN, seed=s), data) for s in (1, 2))
    for name, value in a.items():
        np.testing.assert_array_equal(value, b[name])
    np.testing.assert_allclose(a["nll_bound_iwae"], a["nll_bound_vae"], rtol=1e-6)
    sampled = joined(Sampler(hp, folder, "a", num_samples=50), data)
    assert (sampled["nll_bound_iwae"] < sampled["nll_bound_vae"]).all()


def test_memory_bound_makes_smaller_blocks(model: Any) -> None:
    hp, folder, sessions = model
    large = list(Sampler(hp, folder, "a", num_samples=2).blocks(sessions[0].train))
    little = list(Sampler(hp, folder, "a", num_samples=2, memory_mb=0.02).blocks(sessions[0].train))
    assert len(large) == 1
    assert len(little) > 2


def test_wrong_requests(model: Any) -> None:
    hp, folder, sessions = model
    with pytest.raises(NotFoundError, match="no session 'c', only a, b"):
        Sampler(hp, folder, "c")
    with pytest.raises(DataError, match="trained on 9 bins of 6 neurons"):
        list(Sampler(hp, folder, "a").blocks(sessions[1].train))
    with pytest.raises(ParamsError, match="not a kind"):
        Sampler(hp, folder, "a", kind="mean")


def test_latest_with_a_note_where_the_ramps_had_not_ended(small: Make, session: Make, tmp_path: Path) -> None:
    hp = small(max_epochs=1, kl_increase_steps=1000)
    training.train(hp, [session()], tmp_path)
    sampler = Sampler(hp, tmp_path, "a")
    assert sampler.checkpoint == {"kind": "latest", "epoch": 1, "step": 3}
    assert "ramps" in sampler.note


def test_never_from_an_untrained_model(small: Make, session: Make, on_disk: Make, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no checkpoint"):
        Sampler(small(), tmp_path, "a")
    with pytest.raises(ModelError, match="not been trained at all"):
        Sampler(small(), on_disk(small(), [session()], step=0), "a")


def test_model_params_by_name(model: Any, tmp_path: Path) -> None:
    _, folder, _ = model
    path = tmp_path / "model_params.h5"
    checkpoints.write_model_params(folder, path, attributes={"run_id": "x", "versions": {"a": 1}})
    best = checkpoints.trained(folder).params
    with h5py.File(path) as file:
        assert file.attrs["kind"] == "lve"
        assert file.attrs["versions"] == '{"a": 1}'
        np.testing.assert_array_equal(file["gen/W_ru"], best["gen/W_ru"])
        np.testing.assert_array_equal(file["ci_enc/rev/W_c"], best["ci_enc/W_c"][1])
        np.testing.assert_array_equal(file["readin/b/W"], best["readin/W"][1, :4])
        np.testing.assert_array_equal(file["readout/b/b"], best["readout/b"][1, :4])
        np.testing.assert_array_equal(file["readin/a/b"], best["readin/b"][0])


def test_checkpoints_that_are_not_whole_are_passed_over(tmp_path: Path) -> None:
    assert not checkpoints.complete(tmp_path / "absent")
    for step in (1, 2, 3):
        checkpoints.save(tmp_path, {"a": np.full(2, step)}, {"step": step}, keep=2)
    names = sorted(p.name for p in tmp_path.iterdir())
    assert names == ["checkpoint-000000000002.npz", "checkpoint-000000000003.npz"]
    whole = (tmp_path / names[1]).read_bytes()
    (tmp_path / names[1]).write_bytes(whole[: len(whole) // 2])
    assert checkpoints.complete(tmp_path)
    assert checkpoints.load(tmp_path).meta["step"] == 2
