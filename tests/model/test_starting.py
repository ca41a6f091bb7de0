"""Training that starts from a trained model: what comes along, what may move, and that it resumes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lfadsrm_hpc.errors import MismatchError, ModelError, ParamsError
from lfadsrm_hpc.model.hyperparameters import Hyperparameters
from lfadsrm_hpc.model.network.architecture import Architecture
from lfadsrm_hpc.model.network.initial import initial_parameters
from lfadsrm_hpc.model.session import Session
from lfadsrm_hpc.model.training import checkpoints, starting
from lfadsrm_hpc.model.training import loop as training

pytestmark = pytest.mark.train

Make = Callable[..., Any]
HP = Hyperparameters(
    gen_dim=7, ic_dim=4, ic_enc_dim=5, ci_enc_dim=6, con_dim=8, factors_dim=3, batch_size=8, co_dim=2,
    use_xla="off", kl_increase_steps=1, l2_increase_steps=1, max_epochs=2, learning_rate_n_to_compare=1,
    learning_rate_decay_factor=0.5, ic_prior_var_min=0.01, ic_prior_var_max=1.0,
)  # fmt: skip


def make(name: str, neurons: int) -> Session:
    rng = np.random.default_rng(sum(map(ord, name)))
    return Session(name, rng.poisson(0.5, (16, 9, neurons)), rng.poisson(0.5, (5, 9, neurons)))


@pytest.fixture(scope="module")
def stitched(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A trained model of the sessions a (6 neurons) and b (4), with controller: (folder, sessions)."""
    folder, sessions = tmp_path_factory.mktemp("stitched"), [make("a", 6), make("b", 4)]
    training.train(HP, sessions, folder)
    return folder, sessions


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A trained model of one session without read-in: (hyperparameters, folder, session)."""
    hp = dataclasses.replace(HP, co_dim=0)
    folder, session = tmp_path_factory.mktemp("single"), make("a", 6)
    training.train(hp, [session], folder)
    return hp, folder, session


ENCODERS = {"ic_enc", "ci_enc", "ic"}
READINS, READOUTS = {"readin"}, {"readout"}
REST = {"ic_prior", "gen", "factors", "con", "co", "co_prior"}


@pytest.mark.parametrize(
    ("changes", "moving"),
    [
        ({"do_train_io_only": True}, READINS | READOUTS),
        ({"do_train_encoder_only": True}, ENCODERS),
        ({"do_train_readin": False}, ENCODERS | READOUTS | REST),
    ],
)
def test_exactly_what_is_trained_moves(
    stitched: Any, tmp_path: Path, changes: dict[str, Any], moving: set[str]
) -> None:
    source, sessions = stitched
    hp = dataclasses.replace(HP, do_reset_learning_rate=True, **changes)
    training.train(hp, sessions, tmp_path, start_from=source)
    before, after = checkpoints.trained(source).params, checkpoints.load(tmp_path)
    for group in ("latest", "best"):
        for name, value in after.group(group).items():
            moved = not np.array_equal(value, before[name])
            assert moved == (name.split("/")[0] in moving), f"{group} {name}"
    for slot in ("adam_first", "adam_second"):
        for name, value in after.group(slot).items():
            assert np.any(value) == (name.split("/")[0] in moving), f"{slot} {name}"


def test_a_new_session_is_read_into_a_trained_model(stitched: Any, tmp_path: Path) -> None:
    """With one session alone there would be no read-in; the trained encoders need one."""
    source, _ = stitched
    hp = dataclasses.replace(HP, do_reset_learning_rate=True, do_train_io_only=True)
    training.train(hp, [make("c", 5)], tmp_path, start_from=source)
    before, model = checkpoints.trained(source).params, checkpoints.trained(tmp_path)
    assert (model.names, model.neurons, model.readin_width) == (("c",), (5,), 3)
    for name, value in model.params.items():
        if not checkpoints.of_session(name):
            np.testing.assert_array_equal(value, before[name], err_msg=name)
    origin = checkpoints.load(tmp_path).meta["started_from"]
    assert origin["sessions"] == []
    assert origin["fingerprint"] == checkpoints.trained(source).fingerprint
    assert (origin["kind"], origin["path"]) == ("lve", str(source))


def test_sessions_bring_their_own_parameters_whatever_stands_beside_them(stitched: Any) -> None:
    source, (_, b) = stitched
    wide = make("wide", 11)
    start = starting.begin(HP, [wide, b], source)
    old = checkpoints.apart(checkpoints.trained(source))
    for name in ("readin/W", "readin/b", "readout/W", "readout/b"):
        group, _, kind = name.partition("/")
        own = checkpoints.part(name, start.params[name], 1, 4)
        np.testing.assert_array_equal(own, old[f"{group}/b/{kind}"], err_msg=name)
    assert not start.params["readout/W"][1, :, 4:].any(), "padding stays empty"
    assert start.origin is not None
    assert start.origin["sessions"] == ["b"]
    fresh = initial_parameters(start.arch, [wide, b])
    np.testing.assert_array_equal(start.params["readin/W"][0], fresh["readin/W"][0])


def test_arrays_for_a_new_session(stitched: Any) -> None:
    source, (a, _) = stitched
    given = {"readin/W": np.full((5, 3), 2.0), "readin/b": np.ones(3), "readout/b": np.arange(5.0)}
    starts = {"c": given, "a": {"readin/b": np.full(3, 77.0)}}
    start = starting.begin(HP, [a, make("c", 5)], source, starts)
    for name, value in given.items():
        np.testing.assert_array_equal(checkpoints.part(name, start.params[name], 1, 5), value)
    assert 77.0 not in start.params["readin/b"], "a trained session is not started anew"


def test_encoders_that_saw_neurons_directly_read_others_in(single: Any) -> None:
    hp, source, session = single
    alone = starting.begin(hp, [session], source)
    assert alone.arch.readin_width == 0
    assert starting.begin(hp, [make("c", 5)], source).arch.readin_width == 6
    both = starting.begin(hp, [make("c", 5), session], source)
    assert both.arch.readin_width == 6
    np.testing.assert_array_equal(both.params["readin/W"][1], np.eye(6))
    assert not both.params["readin/b"][1].any()
    np.testing.assert_array_equal(both.params["readout/W"][1], alone.params["readout/W"][0])


def test_stopped_and_resumed_to_the_same_bits(single: Any, tmp_path: Path) -> None:
    """The model that it started from may be gone by then; another one is refused."""
    hp, source, session = single
    hp = dataclasses.replace(hp, max_epochs=4, do_reset_learning_rate=True, seed=3)
    data = [make("c", 5)]
    training.train(hp, data, tmp_path / "whole", start_from=source)
    asked = iter(range(100))
    training.train(hp, data, tmp_path / "part", start_from=source, should_stop=lambda: next(asked) >= 2)
    assert checkpoints.load(tmp_path / "part").meta["reason"] is None
    a = checkpoints.load(tmp_path / "whole")
    for folder, again in ((tmp_path / "rest", source), (tmp_path / "without", None)):
        training.train(hp, data, folder, resume_from=tmp_path / "part", start_from=again)
        b = checkpoints.load(folder)
        assert a.meta == b.meta
        for name, value in a.arrays.items():
            np.testing.assert_array_equal(value, b.arrays[name], err_msg=name)
        assert (tmp_path / "whole/fitlog.csv").read_bytes() == (folder / "fitlog.csv").read_bytes()
    with pytest.raises(MismatchError, match="did not start from"):
        training.train(hp, data, tmp_path / "x", resume_from=tmp_path / "part", start_from=tmp_path / "whole")
    training.train(dataclasses.replace(hp, max_epochs=1), [session], tmp_path / "fresh")
    with pytest.raises(MismatchError, match="but from new parameters"):
        training.train(hp, [session], tmp_path / "y", resume_from=tmp_path / "fresh", start_from=source)


def test_the_learning_rate_goes_on_or_starts_again(single: Any, tmp_path: Path) -> None:
    hp, source, session = single
    checkpoint = checkpoints.load(source)
    path = tmp_path / "slow"
    path.mkdir()
    rows = checkpoint.arrays["fitlog"].copy()
    rows[:, training.COLUMNS.index("learning_rate")] = [0.008, 0.002]
    meta = checkpoint.meta | {"best": checkpoint.meta["best"] | {"epoch": 2}}
    checkpoints.save(path, checkpoint.arrays | {"fitlog": rows}, meta, keep=1)
    assert starting.begin(hp, [session], path).learning_rate == 0.002
    hp = dataclasses.replace(hp, learning_rate_stop=0.002)
    with pytest.raises(ParamsError, match=r"0\.002, which is not above[\s\S]*do_reset_learning_rate=True"):
        starting.begin(hp, [session], path)
    again = dataclasses.replace(hp, do_reset_learning_rate=True)
    assert starting.begin(again, [session], path).learning_rate == 0.01
    go_on = dataclasses.replace(hp, learning_rate_stop=1e-3, max_epochs=1)
    outcome = training.train(go_on, [session], tmp_path / "on", start_from=path)
    assert outcome.costs["learning_rate"] == pytest.approx(0.002)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gen_dim": 9}, "gen_dim is 7 there and 9 here"),
        ({"output_dist": "gaussian"}, "output_dist is 'poisson' there and 'gaussian' here"),
        ({"co_dim": 0}, "co_dim is 2 there and 0 here"),
    ],
)
def test_other_sizes_are_refused(stitched: Any, changes: dict[str, Any], message: str) -> None:
    source, sessions = stitched
    with pytest.raises(MismatchError, match=message):
        starting.begin(dataclasses.replace(HP, **changes), sessions, source)


def test_fed_back_rates_are_those_of_as_many_neurons(tmp_path: Path) -> None:
    hp = dataclasses.replace(HP, feedback_factors_or_rates="rates", max_epochs=1)
    training.train(hp, [make("a", 6)], tmp_path)
    assert starting.begin(hp, [make("c", 6)], tmp_path).arch.readin_width == 6
    with pytest.raises(MismatchError, match=r"con/W_x is \(18, 24\) there and \(17, 24\) here"):
        starting.begin(hp, [make("c", 5)], tmp_path)


def test_a_prior_with_other_bounds_starts_anew(single: Any) -> None:
    hp, source, session = single
    trained = checkpoints.trained(source).params
    same = starting.begin(hp, [session], source).params
    np.testing.assert_array_equal(same["ic_prior/logvar"], trained["ic_prior/logvar"])
    other = dataclasses.replace(hp, ic_prior_var_max=2.0)
    start = starting.begin(other, [session], source).params
    fresh = initial_parameters(Architecture.of(other, [session]), [session])
    np.testing.assert_array_equal(start["ic_prior/logvar"], fresh["ic_prior/logvar"])
    np.testing.assert_array_equal(start["ic_prior/mean"], trained["ic_prior/mean"])


def test_an_untrained_model_is_no_start(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no checkpoint"):
        training.train(HP, [make("a", 6)], tmp_path / "a", start_from=tmp_path / "absent")
