"""Trained runs adapted to sessions that they do not know."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lfadsrm_hpc import RunCollection, RunParams
from lfadsrm_hpc.data.synthetic import lorenz_sessions
from lfadsrm_hpc.errors import (
    ConfigError,
    DataError,
    InterruptedRunError,
    MismatchError,
    NotFoundError,
    ParamsError,
    ResultsError,
)
from lfadsrm_hpc.inference import own_training
from lfadsrm_hpc.inference.new_trials import finished_checkpoints
from lfadsrm_hpc.layout import numbered
from lfadsrm_hpc.model.training import checkpoints
from lfadsrm_hpc.model.training import loop as training
from lfadsrm_hpc.results.metrics import pooled_r2
from lfadsrm_hpc.stopping import StopFlag

pytestmark = pytest.mark.train

QUIET: dict[str, Any] = {"on_message": lambda text: None}


def final(model: Any) -> checkpoints.Checkpoint:
    folder = checkpoints.finished(numbered(model.layout.checkpoints))
    assert folder is not None
    return checkpoints.load(folder)


@pytest.mark.parametrize(("spec", "width"), [("both", 2), ("alone", 5)])
def test_only_what_is_the_sessions_own_is_trained(
    trained: RunCollection, kit: Any, spec: str, width: int
) -> None:
    run = trained.find_run(spec)
    before = kit.everything(run.path)
    told: list[Any] = []
    model = run.adapt(kit.make("day3", 7), max_epochs=2, on_progress=told.append)
    assert {name: value for name, value in kit.everything(run.path).items() if name in before} == before
    assert [progress.epoch for progress in told][-1] == 2
    old = checkpoints.trained(finished_checkpoints(run)).params
    checkpoint = final(model)
    for name, value in checkpoint.group("latest").items():
        if not checkpoints.of_session(name):
            np.testing.assert_array_equal(value, old[name], err_msg=name)
    start = checkpoints.trained(numbered(model.layout.checkpoints)[0])
    assert (start.names, start.neurons, start.readin_width) == (("day3",), (7,), width)
    assert checkpoint.group("adam_first")["readin/W"].any()
    assert checkpoint.meta["step"] == 2 * 3  # 19 training trials in batches of 8

    with model.load_posterior_means() as means:
        assert means.rates.sizes == {"trial": 24, "time": 8, "neuron": 7}
        assert sorted(set(means.split.values)) == ["train", "valid"]
        assert (means.attrs["run_id"], means.attrs["adapted"]) == (run.id, "day3")
        with model.infer(kit.make("day3", 7)) as again:
            np.testing.assert_array_equal(again.rates.values, means.rates.values)
            assert again.attrs["adapted"] == "day3"
    assert (model.path / "inferred" / "day3.nc").is_file()
    assert model.layout.model_params.is_file()
    assert list(model.load_fit_log().epoch) == [1, 2]


def test_it_is_kept_and_found_again(trained: RunCollection, kit: Any) -> None:
    run = trained.find_run("alone")
    session = kit.make("day3", 7)
    model = run.adapt(session, name="first try", max_epochs=1)
    before = kit.everything(run.path)
    again = run.adapt(session, name="first try", max_epochs=1)
    assert kit.everything(run.path) == before
    found = RunCollection.open(trained.path).run_by_id(run.id).adapted("first try")
    for one in (again, found):
        assert (one.name, one.dataset, one.params, one.is_complete) == (
            "first try",
            "day3",
            model.params,
            True,
        )
    assert found.params.start_from == run.id
    assert found.params.do_train_io_only
    record = json.loads(found.layout.record.read_text())
    assert record["fingerprint"] == json.loads(json.dumps(record))["fingerprint"]
    assert record["started_from"]["checkpoints"] == "checkpoints/001.r0"
    with pytest.raises(MismatchError, match=r"already, with other params: max_epochs=2 \(not 1\)"):
        run.adapt(session, name="first try", max_epochs=2)
    with pytest.raises(MismatchError, match="already, of other data"):
        run.adapt(kit.make("day3", 7, seed=1), name="first try", max_epochs=1)
    with pytest.raises(NotFoundError, match=r"no adapted model 'first'[\s\S]*first try"):
        run.adapted("first")
    found.layout.record.write_text("{")
    with pytest.raises(ConfigError, match="damaged"):
        run.adapted("first try")
    assert run.layout.adapted_names() == ["first try"]


def test_what_cannot_be_adapted(trained: RunCollection, kit: Any, tmp_path: Path) -> None:
    run = trained.find_run("alone")
    session = kit.make("day3", 7)
    for changes in ({"do_train_io_only": False}, {"spike_bin_ms": 5}, {"start_from": "x"}):
        with pytest.raises(ParamsError, match=f"{next(iter(changes))} cannot be chosen"):
            run.adapt(session, **changes)
    with pytest.raises(ParamsError, match="did you mean 'max_epochs'"):
        run.adapt(session, max_epoch=3)
    with pytest.raises(DataError, match="1 trial"):
        run.adapt(session.isel(trial=[0]))
    assert not run.layout.adapted_dir.exists()
    with pytest.raises(MismatchError, match="gen_dim is 6 there and 9 here"):
        run.adapt(session, gen_dim=9)
    fresh = kit.collection(tmp_path / "fresh", kit.params, kit.make("day1", kit.names["day1"])).runs[0]
    with pytest.raises(ResultsError, match="not trained to its end"):
        fresh.adapt(session)


@pytest.mark.slow
def test_stopped_in_training_and_in_sampling(
    trained: RunCollection, kit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped by the flag that signals raise, again and again; the end is as if nothing had been."""
    run = trained.find_run("alone")
    bare = kit.make("day3", 7).drop_vars("condition")  # so that guesses are tried as well
    monkeypatch.setattr(training, "SLICE_SECONDS", 0.0)
    monkeypatch.setattr(own_training, "TRY_STEPS", 4)
    whole = run.adapt(bare, name="whole", max_epochs=4, **QUIET)
    parts = run.layout.adapted("parts")
    asked, stopped, model = 0, [], None

    def once_a_stage(self: StopFlag) -> bool:
        nonlocal asked
        asked += 1
        folders = numbered(parts.checkpoints)
        stage = (bool(folders), checkpoints.finished(folders) is not None)
        if asked % 3 or stage in stopped:
            return False
        stopped.append(stage)
        return True

    with monkeypatch.context() as stopping:
        stopping.setattr(StopFlag, "__call__", once_a_stage)
        stopping.setattr("lfadsrm_hpc.model.sampling.posterior.CPU_ROWS", 4)  # one trial a block
        while model is None:
            try:
                model = run.adapt(bare, name="parts", max_epochs=4, **QUIET)
            except InterruptedRunError as error:
                hint = error.hint
                with pytest.raises(ResultsError):
                    run.adapted("parts").load_posterior_means()
    assert stopped == [(False, False), (True, False), (True, True)], "trying, training, sampling"
    assert hint == "the same call goes on from there"
    a, b = final(whole), final(model)
    assert a.meta == b.meta
    for name, value in a.arrays.items():
        np.testing.assert_array_equal(value, b.arrays[name], err_msg=name)
    with whole.load_posterior_means() as one, model.load_posterior_means() as two:
        for name in one.data_vars:
            # blocks of other sizes: other last bits; files keep 11 bits of standard deviations
            rtol = 2e-3 if name.endswith("_std") else 1e-4
            np.testing.assert_allclose(one[name].values, two[name].values, rtol=rtol, atol=1e-5)


KILLED = """
import sys, warnings
from lfadsrm_hpc import RunCollection
from lfadsrm_hpc.data.readers import read
from lfadsrm_hpc.inference import own_training
from lfadsrm_hpc.model.training import loop as training
own_training.TRY_STEPS, training.SLICE_SECONDS = 4, 0.0
run = RunCollection.open(sys.argv[1]).find_run("alone")
run.adapt(read(sys.argv[2]), name="killed", max_epochs=60, on_message=print)
"""


@pytest.mark.slow
def test_killed_at_any_moment(trained: RunCollection, kit: Any, tmp_path: Path) -> None:
    """kill -9 again and again, after every file that appears; then it goes on to the undisturbed end."""
    from lfadsrm_hpc.data.readers import save_dataset

    run = trained.find_run("alone")
    file = save_dataset(kit.make("day3", 7).drop_vars("condition"), tmp_path / "day3.nc")
    command = [sys.executable, "-c", KILLED, str(trained.path), str(file)]
    root = str(Path(__file__).resolve().parents[2])
    environment = {**os.environ, "PYTHONPATH": root, "TF_CPP_MIN_LOG_LEVEL": "3"}

    def known() -> int:
        return len(list(run.layout.adapted_dir.rglob("*")))

    before, kills = -1, 0
    while kills < 5:
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        begun = time.monotonic()
        while process.poll() is None and (known() <= before or time.monotonic() < begun + 1):
            time.sleep(0.02)
        if process.poll() is not None:
            assert process.returncode == 0
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        before, kills = known() + kills * 3, kills + 1
    assert kills > 1
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    killed = shutil.copytree(run.adapted("killed").path, tmp_path / "killed")
    shutil.rmtree(run.adapted("killed").path)
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    whole, folder = final(run.adapted("killed")), checkpoints.finished(numbered(killed / "checkpoints"))
    assert folder is not None
    again = checkpoints.load(folder)
    assert again.meta == whole.meta
    for name, value in whole.arrays.items():
        np.testing.assert_array_equal(value, again.arrays[name], err_msg=name)


@pytest.mark.slow
def test_external_inputs_and_other_distributions(kit: Any, tmp_path: Path) -> None:
    """Gaussian data with an external input and inferred inputs; the new session is longer, too."""
    rng = np.random.default_rng(0)

    def session(name: str, neurons: int, bins: int) -> Any:
        from lfadsrm_hpc.data.readers import from_arrays

        condition = np.arange(20) % 2
        values = np.sin(np.arange(bins) / 3 + 2 * condition[:, None])[:, :, None] + np.zeros(neurons)
        values = values + rng.normal(0, 0.3, values.shape) + 10.0
        given = rng.normal(size=(20, bins, 1))
        return from_arrays(values, bin_ms=10.0, name=name, condition=condition, external_input=given)

    params = kit.params.replace(
        output_dist="gaussian", ext_input_dim=1, co_dim=1, con_dim=4, ci_enc_dim=4, held_out_neurons=0.3
    )
    run = kit.collection(tmp_path, params, session("one", 6, 8)).runs[0]
    assert run.train() == 0
    longer = session("longer", 5, 10)
    model = run.adapt(longer, max_epochs=1, **QUIET)
    with model.load_posterior_means() as means:
        assert means.output_mean.sizes == {"trial": 20, "time": 10, "neuron": 5}
        assert abs(float(means.output_mean.mean()) - 10.0) < 1.0
        assert json.loads(means.attrs["held_out_neurons"])
    with model.infer(longer, name="more", kind="posterior_push_mean") as more:
        assert more.sizes["time"] == 10


@pytest.mark.slow
def test_adapted_rates_come_near_those_of_a_model_of_that_session(
    kit: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lorenz sessions: a stitched model that never saw the third one, with and without its conditions."""
    sessions = lorenz_sessions(
        3, n_neurons=25, n_conditions=8, trials_per_condition=12, duration_ms=300, bin_ms=10, mean_rate=12,
        speed=4, seed=1,
    )  # fmt: skip
    params = RunParams(
        spike_bin_ms=10, co_dim=0, batch_size=16, gen_dim=32, ic_dim=16, ic_enc_dim=24, factors_dim=6,
        l2_gen_scale=20, kl_increase_steps=200, l2_increase_steps=200, adam_epsilon=1e-3,
        num_samples_posterior=32, posterior_std=False, max_epochs=60, use_xla="off",
    )  # fmt: skip
    known = [session.drop_vars(["lowd", "readout_weights", "readout_bias"]) for session in sessions]
    truth = sessions[2].truth.values

    def r2(means: Any) -> float:
        with means:
            rows = means.split.values == "valid"
            return pooled_r2(means.rates.values[rows], truth[rows])

    run = kit.collection(tmp_path / "two", params, *known[:2]).runs[0]
    alone = kit.collection(tmp_path / "third", params, known[2]).runs[0]
    assert run.train() == alone.train() == 0
    new = known[2].drop_vars("truth")
    own = r2(alone.load_posterior_means())
    with monkeypatch.context() as patch:
        patch.setattr("lfadsrm_hpc.inference.adaptation.GUESSES", 1)
        unadapted = run.adapt(
            new.drop_vars("condition"), name="start", max_epochs=1, learning_rate_init=1e-9,
            learning_rate_stop=0, **QUIET,
        )  # fmt: skip
    start = r2(unadapted.load_posterior_means())
    found = r2(run.adapt(new, name="conditions", max_epochs=15).load_posterior_means())
    guessed = run.adapt(new.drop_vars("condition"), name="guessed", max_epochs=30, **QUIET)
    assert own > 0.5, "the comparison would show nothing"
    assert start < 0.2
    assert found > own - 0.05
    assert r2(guessed.load_posterior_means()) > own - 0.1


def test_a_model_that_feeds_rates_back_fits_its_own_neurons_alone(kit: Any, tmp_path: Path) -> None:
    params = kit.params.replace(
        co_dim=1, feedback_factors_or_rates="rates", con_dim=3, ci_enc_dim=3, max_epochs=1
    )
    run = kit.collection(tmp_path, params, kit.make("day1", 4)).runs[0]
    assert run.train() == 0
    with pytest.raises(ParamsError, match="rates of its own neurons"):
        run.adapt(kit.make("day2", 3))
