"""`python -m lfadsrm_hpc.model.tf1_check` on cases of every form, made up by a stand-in for the original."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from lfadsrm_hpc.model import tf1_check
from lfadsrm_hpc.model.tf1_case import Case

_HERE = Path(__file__).resolve()
_spec = importlib.util.spec_from_file_location("tf1_numpy", _HERE.with_name("tf1_numpy.py"))
assert _spec is not None
assert _spec.loader is not None
tf1_numpy = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(tf1_numpy)

ONE, TWO = {"a": 6}, {"a": 6, "b": 3}
INJECTED = {"ext_input_dim": 2, "inject_ext_input_to_gen": "true"}

# name: (neurons, what makes it different, a variable that it needs)
FORMS: dict[str, tuple[dict[str, int], dict[str, Any], str]] = {
    "plain": (ONE, {}, "con_con_to_post_co_mean_b"),
    "no controller": (ONE, {"co_dim": 0}, "gen_GenGRU_Candidate_rh_2_c_b"),
    "one inferred input": (ONE, {"co_dim": 1}, "gen_GenGRU_Gates_x_2_ru_W"),
    "causal": (ONE, {"do_causal_controller": "true"}, "ci_enc_fwd_ci_enc_t0_fwd"),
    "lag 2": (ONE, {"controller_input_lag": 2}, "ci_enc_rev_GRU_Gates_xh_2_ru_b"),
    "lag 0": (ONE, {"controller_input_lag": 0}, "ci_enc_rev_ci_enc_t0_rev"),
    "lag beyond the trial": (ONE, {"controller_input_lag": 9}, "con_c0"),
    "no feedback": (ONE, {"do_feed_factors_to_controller": "false"}, "con_GenGRU_Candidate_x_2_c_W"),
    "rate feedback": (ONE, {"feedback_factors_or_rates": "rates"}, "con_GenGRU_Gates_x_2_ru_W"),
    "mean feedback": (
        ONE, {"feedback_factors_or_rates": "rates", "output_dist": "gaussian"}, "con_GenGRU_Gates_x_2_ru_W"
    ),
    "external to encoders": (ONE, {"ext_input_dim": 1}, "ic_enc_rev_GRU_Candidate_xrh_2_c_W"),
    "injected": (ONE, INJECTED, "gen_GenGRU_Candidate_x_2_c_W"),
    "injected, no controller": (ONE, {**INJECTED, "co_dim": 0}, "gen_GenGRU_Candidate_x_2_c_W"),
    "injected, causal, lag 2": (
        ONE,
        {**INJECTED, "do_causal_controller": "true", "controller_input_lag": 2, "ext_input_dim": 1},
        "gen_GenGRU_Gates_x_2_ru_W",
    ),
    "trained prior variance": (ONE, {"ic_prior_var_max": 2.0}, "z_prior_g0_logvar"),
    "prior variance from 0": (ONE, {"ic_prior_var_min": 0.0}, "z_prior_g0_logvar"),
    "fewer encoder bins": (ONE, {"num_steps_for_gen_ic": 3}, "ic_enc_fwd_GRU_Gates_xh_2_ru_W"),
    "no least posterior variance": (ONE, {"ic_post_var_min": 0}, "z_ic_enc_2_post_g0_logvar_b"),
    "ic_dim = gen_dim": (ONE, {"ic_dim": 6}, "z_ic_enc_2_post_g0_mean_W"),
    "no initial condition": (ONE, {"ic_dim": 0}, "gen_g0"),
    "neither": (ONE, {"ic_dim": 0, "co_dim": 0}, "glm_fac_2_logrates_a.h5_W"),
    "one neuron": ({"a": 1}, {"ext_input_dim": 1}, "glm_fac_2_logrates_a.h5_b"),
    "as many factors as neurons": ({"a": 3}, {}, "gen_gen_2_fac_W"),
    "the same, aligned": ({"a": 3}, {"aligned": ("a",)}, "x_2_infac_a.h5_b"),
    "gaussian": (ONE, {"output_dist": "gaussian"}, "glm_fac_2_logvars_a.h5_W"),
    "gaussian, as many factors": ({"a": 3}, {"output_dist": "gaussian"}, "glm_fac_2_means_a.h5_b"),
    "aligned": (ONE, {"aligned": ("a",)}, "x_2_infac_a.h5_W"),
    "two sessions": (TWO, {"aligned": ("a", "b")}, "x_2_infac_b.h5_W"),
    "two sessions, not aligned": (TWO, {"ext_input_dim": 1}, "glm_fac_2_logrates_b.h5_W"),
    "two gaussian sessions": (
        {"a": 2, "longer.name": 4},
        {"output_dist": "gaussian", **INJECTED},
        "glm_fac_2_logvars_longer.name.h5_b",
    ),
    "states at their bound": (ONE, {"cell_clip_value": 0.2}, "gen_g0_2_gen_ic_b"),
    "batches larger than all trials": (ONE, {"batch_size": 512}, "con_GenGRU_Gates_h_2_ru_W"),
    "first trials only": (ONE, {"ps_nexamples_to_process": 2}, "con_GenGRU_Gates_h_2_ru_W"),
    "other forms of JSON": (
        ONE,
        {
            "gen_dim": 6.0, "ic_dim": "4", "do_causal_controller": True, "num_steps_for_gen_ic": 1e19,
            "cell_clip_value": float("inf"), "unheard_of": [1], "learning_rate_stop": 0.5,
        },
        "ci_enc_fwd_GRU_Gates_xh_2_ru_W",
    ),
}  # fmt: skip


@pytest.fixture
def original(tmp_path: Path) -> Callable[..., Path]:
    """Write the case of a model and return its folder."""

    def make(neurons: dict[str, int], trials: int = 5, own_names: bool = False, **hps: Any) -> Path:
        tf1_numpy.Original(neurons, **hps).write(tmp_path, trials=trials, own_names=own_names)
        return tmp_path

    return make


def change(path: Path, key: str, by: Callable[[Any], Any] | None) -> None:
    """Change one array of an HDF5 file; remove it without `by`."""
    with h5py.File(path, "r+") as file:
        array = file[key][()]
        del file[key]
        if by is not None:
            file[key] = by(array)


@pytest.mark.parametrize("form", FORMS)
def test_it_tells_right_from_wrong_in_every_form(form: str, original: Callable[..., Path]) -> None:
    neurons, hps, variable = FORMS[form]
    folder = original(neurons, **hps)
    evaluation = tf1_check.Evaluation(Case(folder))
    lines = evaluation.compare()
    assert max(line.error for line in lines) < 1e-12
    splits = {(session, split) for session in neurons for split in ("train", "valid")}
    assert {(line.session, line.split) for line in lines} == splits
    with h5py.File(folder / f"model_runs_{next(iter(neurons))}_train_posterior_push_mean.h5") as file:
        assert {line.tensor for line in lines} == set(file) - {"costs"}

    change(folder / "model_params.h5", f"LFADS_{variable}:0", lambda v: v + 0.01)
    evaluation.case = Case(folder)
    assert not all(line.agrees for line in evaluation.compare())


def test_the_command_prints_a_line_a_tensor_and_a_verdict(original: Callable[..., Path]) -> None:
    folder = original(TWO, own_names=True)
    command = [sys.executable, "-m", "lfadsrm_hpc.model.tf1_check", str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(_HERE.parents[2])}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    *lines, verdict = done.stdout.splitlines()
    rows = [line.split() for line in lines]
    assert len(rows) == 2 * 2 * 9
    assert rows[0][:3] == ["a", "train", "controller_outputs"]
    assert all(float(row[3]) < 1e-12 for row in rows)
    assert verdict.startswith("all 36 tensors agree within 2e-05")


def test_one_wrong_variable_is_exit_1(
    original: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = original(ONE)
    change(folder / "model_params.h5", "LFADS_glm_fac_2_logrates_a.h5_b:0", lambda v: v + 1e-3)
    assert tf1_check.main([str(folder)]) == 1
    *lines, verdict = capsys.readouterr().out.splitlines()
    wrong = [line.split()[1:3] for line in lines if line.endswith("above 2e-05")]
    assert wrong == [["train", "output_dist_params"], ["valid", "output_dist_params"]]
    assert verdict.startswith("2 of 18 tensors differ by more than 2e-05; the largest error is ")


def test_zeros_are_compared_absolutely_and_nan_never_agrees(
    original: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = original(ONE)
    runs = folder / "model_runs_a_train_posterior_push_mean.h5"
    change(folder / "model_params.h5", "LFADS_z_prior_g0_mean:0", lambda v: 0 * v + 1e-5)
    for split in ("train", "valid"):
        change(folder / f"model_runs_a_{split}_posterior_push_mean.h5", "prior_g0_mean", lambda v: 0 * v)
    errors = {line.tensor: line.error for line in tf1_check.check_case(folder)}
    assert errors["prior_g0_mean"] == pytest.approx(1e-5, rel=1e-6)
    assert tf1_check.main([str(folder)]) == 0
    change(runs, "factors", lambda v: np.where(np.arange(v.size).reshape(v.shape) == 3, np.nan, v))
    assert tf1_check.main([str(folder)]) == 1
    assert "1 of 18 tensors" in capsys.readouterr().out


def test_empty_tensors_and_splits_are_left_out(original: Callable[..., Path]) -> None:
    folder = original(ONE, trials=2)  # no validation trials
    change(folder / "model_runs_a_train_posterior_push_mean.h5", "gen_ics", lambda v: v[:0])
    (folder / "model_runs_a_valid_posterior_push_mean.h5").unlink()
    lines = tf1_check.check_case(folder)
    assert {line.split for line in lines} == {"train"}
    assert "gen_ics" not in {line.tensor for line in lines}


def test_trials_go_through_in_pieces(original: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = original(TWO)
    monkeypatch.setattr(tf1_check, "_NUMBERS", 2 * 7 * 33)
    evaluation = tf1_check.Evaluation(Case(folder))
    assert evaluation.rows == 2
    assert max(line.error for line in tf1_check.check_case(folder)) < 1e-12


def _without(name: str) -> Callable[[Path], None]:
    def remove(folder: Path) -> None:
        values = json.loads((folder / "hyperparameters.json").read_text())
        del values[name]
        (folder / "hyperparameters.json").write_text(json.dumps(values))

    return remove


def _with(name: str, value: Any) -> Callable[[Path], None]:
    def put(folder: Path) -> None:
        values = json.loads((folder / "hyperparameters.json").read_text())
        (folder / "hyperparameters.json").write_text(json.dumps({**values, name: value}))

    return put


def _changed(file: str, key: str, by: Callable[[Any], Any] | None = None) -> Callable[[Path], None]:
    return lambda folder: change(folder / file, key, by)


RUNS = "model_runs_a_valid_posterior_push_mean.h5"
FAULTS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no hyperparameters": (lambda f: (f / "hyperparameters.json").unlink(), "hyperparameters.json"),
    "no JSON": (lambda f: (f / "hyperparameters.json").write_text("{"), "hyperparameters"),
    "no object": (lambda f: (f / "hyperparameters.json").write_text("[1]"), "no JSON object"),
    "a value lacks": (_without("con_dim"), "lack con_dim"),
    "a wrong number": (_with("gen_dim", "many"), "gen_dim = 'many'"),
    "half a neuron": (_with("gen_dim", 6.5), "not a whole number"),
    "a negative number": (_with("co_dim", -1), "co_dim"),
    "neither true nor false": (_with("do_causal_controller", "perhaps"), "do_causal_controller"),
    "no such distribution": (_with("output_dist", "gamma"), "gamma"),
    "no such feedback": (_with("feedback_factors_or_rates", "both"), "feedback_factors_or_rates"),
    "another size": (_with("gen_dim", 7), "LFADS_gen_"),
    "no inputs": (lambda f: (f / "lfads_a.h5").unlink(), "lfads_<session>.h5"),
    "broken inputs": (lambda f: (f / "lfads_a.h5").write_text("x"), "lfads_a.h5"),
    "no data": (lambda f: tf1_numpy.save(f / "lfads_a.h5", {"other": np.ones(3)}), "train_data"),
    "flat data": (_changed("lfads_a.h5", "train_data", np.ravel), "trials x bins x neurons"),
    "words as data": (_changed("lfads_a.h5", "train_data", lambda v: v.astype("S1")), "trials x bins"),
    "splits differ": (_changed("lfads_a.h5", "valid_data", lambda v: v[:, 1:]), "differ in bins"),
    "no external input": (_changed("lfads_a.h5", "train_ext_input"), "train_ext_input"),
    "wide external input": (
        _changed("lfads_a.h5", "valid_ext_input", lambda v: np.repeat(v, 2, 2)), "valid_ext_input"
    ),
    "no parameters": (lambda f: (f / "model_params.h5").unlink(), "model_params.h5"),
    "broken parameters": (lambda f: (f / "model_params.h5").write_text("x"), "model_params.h5"),
    "no variable": (_changed("model_params.h5", "LFADS_con_c0:0"), "no variable LFADS_con_c0:0"),
    "no read-out": (
        _changed("model_params.h5", "LFADS_glm_fac_2_logrates_a.h5_W:0"), "LFADS_glm_fac_2_logrates_a.h5_W:0"
    ),
    "a wrong shape": (
        _changed("model_params.h5", "LFADS_ic_enc_fwd_GRU_Gates_xh_2_ru_W:0", lambda v: v[1:]),
        "Gates_xh_2_ru_W:0 has shape (11, 10)",
    ),
    "a transposed variable": (
        _changed("model_params.h5", "LFADS_gen_gen_2_fac_W:0", np.transpose), "gen_2_fac_W:0 has shape (3, 6)"
    ),
    "no outputs": (lambda f: (f / RUNS).unlink(), RUNS),
    "a tensor lacks": (_changed(RUNS, "factors"), "there is no factors"),
    "outputs of other shape": (_changed(RUNS, "factors", lambda v: v[..., 1:]), "factors is float64"),
    "words as outputs": (_changed(RUNS, "gen_ics", lambda v: v.astype("S4")), "gen_ics is |S4"),
    "words as external input": (
        _changed("lfads_a.h5", "train_ext_input", lambda v: v.astype("S4")), "train_ext_input"
    ),
    "too many outputs": (_changed(RUNS, "gen_ics", lambda v: np.repeat(v, 2, 0)), "gen_ics is float64"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_missing_or_wrong_is_one_line_and_exit_2(
    fault: str, original: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    spoil, words = FAULTS[fault]
    folder = original(ONE, ext_input_dim=1)
    spoil(folder)
    assert tf1_check.main([str(folder)]) == 2
    out, error = capsys.readouterr()
    assert not out
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert words in error


def test_a_folder_that_is_not_there_and_sessions_that_differ(
    original: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tf1_check.main([str(tmp_path / "nowhere")]) == 2
    folder = original(TWO)
    for split in ("train", "valid"):
        change(folder / "lfads_b.h5", f"{split}_data", lambda v: v[:, 1:])
    assert tf1_check.main([str(folder)]) == 2
    assert "[6, 7]" in capsys.readouterr().err
