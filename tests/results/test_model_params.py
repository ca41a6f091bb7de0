"""The parameters of trained models, by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from lfadsrm_hpc.errors import NotFoundError, ResultsError
from lfadsrm_hpc.results.model_params import of_dataset, open_model_params

pytestmark = pytest.mark.train

SMALL: dict[str, Any] = {
    "gen_dim": 7, "ic_dim": 4, "ic_enc_dim": 5, "ci_enc_dim": 6, "con_dim": 8, "factors_dim": 3, "co_dim": 0,
}  # fmt: skip
CASES: dict[str, tuple[dict[str, Any], dict[str, int]]] = {
    "single": ({}, {"x": 6}),
    "stitched": ({"co_dim": 2}, {"x": 6, "a.x": 4}),
    "gaussian": ({"output_dist": "gaussian", "co_dim": 1}, {"x": 6}),
    "zero-inflated gamma": ({"output_dist": "zero_inflated_gamma"}, {"x": 6}),
    "causal": ({"co_dim": 1, "do_causal_controller": True}, {"x": 6}),
    "no initial condition": ({"ic_dim": 0, "co_dim": 1}, {"x": 6}),
    "ic_dim = gen_dim": ({"ic_dim": 7, "ic_prior_var_max": 0.5}, {"x": 6}),
    "injected": ({"co_dim": 2, "ext_input_dim": 1, "inject_ext_input_to_gen": True}, {"x": 6}),
}


class Written:
    """A model of random parameters and its file."""

    def __init__(self, case: str, folder: Path) -> None:
        from lfadsrm_hpc.model import checkpoints, saved
        from lfadsrm_hpc.model.architecture import Architecture
        from lfadsrm_hpc.model.hyperparameters import Hyperparameters

        changes, sessions = CASES[case]
        self.hp = Hyperparameters(**{**SMALL, **changes})
        width = 3 if len(sessions) > 1 else 0
        self.arch = Architecture(self.hp, tuple(sessions), tuple(sessions.values()), 9, width)
        rng = np.random.default_rng(0)
        self.params = {n: rng.normal(size=s).astype(np.float32) for n, s in self.arch.shapes.items()}
        about = {"architecture": saved.described(self.arch), "held_out": {}, "best": None}
        meta = {"step": 3, "epoch": 1, "hyperparameters": vars(self.hp), **about}
        checkpoints.save(folder, {f"latest/{n}": v for n, v in self.params.items()}, meta, keep=1)
        self.path = folder / "model_params.h5"
        checkpoints.write_model_params(folder, self.path, attributes={"run_id": "param_x/all"})


@pytest.mark.parametrize("case", CASES)
def test_every_parameter_is_there_once(case: str, tmp_path: Path) -> None:
    written = Written(case, tmp_path)
    found = open_model_params(written.path)
    derived = {"factors_W_normalised", "co_prior_phi", "co_prior_variance", "ic_prior_variance"}
    padding = sum(
        v.size - sum(v[k, ..., :n].size if not name.startswith("readin") else v[k, :n].size
                     for k, n in enumerate(written.arch.neurons))
        for name, v in written.params.items() if name.startswith(("readin/W", "readout"))
    )  # fmt: skip
    stored = sum(found[name].size for name in found.data_vars if name not in derived)
    assert stored == sum(v.size for v in written.params.values()) - padding
    assert len(set(found.data_vars)) == len(found.data_vars)
    assert (found.attrs["kind"], found.attrs["step"], found.attrs["run_id"]) == ("latest", 3, "param_x/all")
    assert found.attrs["datasets"] == sorted(CASES[case][1])
    found.to_netcdf(tmp_path / "again.nc")  # names and attributes are such that it can be stored


@pytest.mark.parametrize("case", CASES)
def test_a_step_of_the_generator_by_its_names(case: str, tmp_path: Path) -> None:
    """The equations of the network, written with the names alone, against the model's own step."""
    from lfadsrm_hpc.model import encoder
    from lfadsrm_hpc.model.backend import tf
    from lfadsrm_hpc.model.gru import scan

    written = Written(case, tmp_path)
    p = open_model_params(written.path)
    rng = np.random.default_rng(1)
    h = rng.normal(size=7).astype(np.float32)
    x = rng.normal(size=written.arch.generator_inputs).astype(np.float32)

    def gate(name: str, state: Any) -> Any:
        own = p.gen_b.sel(gate=name).values + state @ p.gen_W_h.sel(gate=name).values
        return own + x @ p.gen_W_x.sel(gate=name).values if len(x) else own

    r, u = (1 / (1 + np.exp(-gate(name, h) - (name == "u"))) for name in "ru")
    ours = u * h + (1 - u) * np.tanh(gate("c", r * h))
    tensors = {n: tf.constant(v) for n, v in written.params.items()}
    driven = tf.constant(x[None, None]) if len(x) else None
    step = scan(encoder.cell_of(tensors, "gen"), driven, tf.constant(h[None]), steps=1, clip=5.0)
    np.testing.assert_allclose(step.numpy()[0, 0], ours, rtol=1e-5, atol=1e-6)
    if len(x):
        labels = [str(v) for v in p.generator_input.values]
        inferred = written.hp.co_dim
        assert [v.split()[0] for v in labels] == ["inferred"] * inferred + ["external"] * (len(x) - inferred)


def test_encoders_and_posteriors_by_their_names(tmp_path: Path) -> None:
    written = Written("stitched", tmp_path)
    p, raw = open_model_params(written.path), written.params
    assert p.ci_enc_W_x.dims == ("ci_enc_direction", "encoder_input", "gate", "ci_enc_unit")
    rev = p.ci_enc_W_x.sel(ci_enc_direction="rev", gate="c")
    np.testing.assert_array_equal(rev, raw["ci_enc/W_x"][1][:, 12:])
    update = p.con_W_h.sel(gate="u")
    np.testing.assert_array_equal(update, raw["con/W_ru"][:, 8:])
    np.testing.assert_array_equal(p.con_W_h.sel(gate="c"), raw["con/W_c"])
    np.testing.assert_array_equal(p.ic_logvar_W, raw["ic/W"][:, 4:])
    np.testing.assert_array_equal(p.co_mean_b, raw["co/b"][:2])
    norms = np.linalg.norm(p.factors_W_normalised, axis=0)
    np.testing.assert_allclose(norms, 1, rtol=1e-6)
    np.testing.assert_allclose(
        p.factors_W_normalised * np.linalg.norm(p.factors_W, axis=0), p.factors_W, rtol=1e-5
    )
    np.testing.assert_allclose(p.co_prior_tau, np.exp(raw["co_prior/log_tau"]), rtol=1e-6)
    np.testing.assert_allclose(
        p.co_prior_variance * (1 - p.co_prior_phi**2), p.co_prior_innovation_variance, rtol=1e-4
    )


def test_read_in_and_read_out_of_a_dataset(tmp_path: Path) -> None:
    written = Written("stitched", tmp_path)
    p = open_model_params(written.path)
    own = of_dataset(p, "a.x")
    assert set(own.data_vars) == {"readin_W", "readin_b", "readout_W", "readout_b"}
    assert own.readout_W.dims == ("factor", "neuron")
    np.testing.assert_array_equal(own.readout_W, written.params["readout/W"][1, :, :4])
    np.testing.assert_array_equal(own.readin_W, written.params["readin/W"][1, :4])
    np.testing.assert_array_equal(of_dataset(p, "x").readout_b, written.params["readout/b"][0])
    with pytest.raises(NotFoundError, match=r"no dataset 'z', only a\.x, x"):
        of_dataset(p, "z")


@pytest.mark.parametrize("case", ["single", "ic_dim = gen_dim"])
def test_the_prior_s_variance_is_the_one_that_is_used(case: str, tmp_path: Path) -> None:
    from lfadsrm_hpc.model.backend import tf
    from lfadsrm_hpc.model.lfads import initial_prior

    written = Written(case, tmp_path)
    logvar = initial_prior({n: tf.constant(v) for n, v in written.params.items()}, written.hp)[1].numpy()
    np.testing.assert_allclose(open_model_params(written.path).ic_prior_variance, np.exp(logvar), rtol=1e-5)


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="no model parameters here"):
        open_model_params(tmp_path / "absent.h5")
    (tmp_path / "text.h5").write_text("no")
    with pytest.raises(ResultsError, match="cannot be read"):
        open_model_params(tmp_path / "text.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["gen/b"] = np.zeros(6)
    with pytest.raises(ResultsError, match="no parameters of lfadsrm_hpc"):
        open_model_params(tmp_path / "other.h5")
