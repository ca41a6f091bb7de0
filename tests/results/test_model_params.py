"""The parameters of trained models, by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from lfadsrm_hpc.errors import NotFoundError, ResultsError
from lfadsrm_hpc.results.model_params import all_readouts, of_dataset, open_model_params, read_origin

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
        from lfadsrm_hpc.model.hyperparameters import Hyperparameters
        from lfadsrm_hpc.model.network.architecture import Architecture
        from lfadsrm_hpc.model.training import checkpoints, saved

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
    from lfadsrm_hpc.model.backend import tf
    from lfadsrm_hpc.model.network import encoder
    from lfadsrm_hpc.model.network.gru import scan

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
    from lfadsrm_hpc.model.network.lfads import initial_prior

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


# ---------------------------------------------------------------- the arrays of the Matlab run manager


def _stacked(*parts: Any) -> Any:
    return np.concatenate([np.atleast_2d(part) for part in parts], axis=0)


def _columns(array: Any, *gates: str) -> Any:
    """Return the columns of some gates side by side, as they are trained."""
    return np.concatenate([array.sel(gate=gate).values for gate in gates], axis=-1)


def _encoder(p: Any, net: str, side: str, prefix: str) -> dict[str, Any]:
    """Return one direction of an encoder: input and state in one matrix, by the Matlab names."""
    own = {key: p[f"{net}_{key}"].sel({f"{net}_direction": side}) for key in ("W_x", "W_h", "b", "h0")}
    ru = f"{prefix}_to_gates_ru" if net == "ic_enc" else f"{prefix}_to_ru"
    found = {f"{net}_{side}_t0": own["h0"].values}
    for name, gates in ((ru, "ru"), (f"{prefix.replace('xh', 'xrh')}_to_c", "c")):
        matrix = _stacked(_columns(own["W_x"], *gates), _columns(own["W_h"], *gates))
        found |= {f"{net}_{side}_{name}_W": matrix, f"{net}_{side}_{name}_b": _columns(own["b"], *gates)}
    return found


def _generator_like(p: Any, net: str) -> dict[str, Any]:
    found = {}
    for name, key, gates in (
        ("x_to_ru_W", "W_x", "ru"), ("h_to_ru_W", "W_h", "ru"), ("h_to_ru_b", "b", "ru"),
        ("x_to_c_W", "W_x", "c"), ("rh_to_c_W", "W_h", "c"), ("rh_to_c_b", "b", "c"),
    ):  # fmt: skip
        found[f"{net}_gengru_{name}"] = _columns(p[f"{net}_{key}"], *gates)
    return found


def matlab_arrays(p: Any, dataset: str) -> dict[str, Any]:
    """Return the 52 arrays of the Matlab run manager's ModelTrainedParams, from our names."""
    own = of_dataset(p, dataset)
    found = {"x_to_infac_W": own.readin_W.values, "x_to_infac_b": own.readin_b.values}
    for net, side in (("ic_enc", "fwd"), ("ic_enc", "rev"), ("ci_enc", "fwd"), ("ci_enc", "rev")):
        found |= _encoder(p, net, side, "gru_xh")
    found |= {"prior_g0_mean": p.ic_prior_mean.values, "prior_g0_logvar": np.log(p.ic_prior_variance.values)}
    for kind in ("mean", "logvar"):
        for part in "Wb":
            found[f"ic_enc_to_posterior_g0_{kind}_{part}"] = p[f"ic_{kind}_{part}"].values
            found[f"con_to_posterior_co_{kind}_{part}"] = p[f"co_{kind}_{part}"].values
    found |= {"g0_to_gen_ic_W": p.gen_from_ic_W.values, "g0_to_gen_ic_b": p.gen_from_ic_b.values}
    found |= {**_generator_like(p, "con"), **_generator_like(p, "gen"), "con_co": p.con_h0.values}
    found["prior_ar1_logevars"] = np.log(p.co_prior_innovation_variance.values)
    found["prior_ar1_logatau"] = np.log(p.co_prior_tau.values)
    found["gen_to_factors_W"] = p.factors_W.values
    found |= {"factors_to_logrates_W": own.readout_W.values, "factors_to_logrates_b": own.readout_b.values}
    return found


def test_all_arrays_of_the_matlab_run_manager_are_there(tmp_path: Path) -> None:
    written = Written("stitched", tmp_path)
    raw, units = written.params, 6
    found = matlab_arrays(open_model_params(written.path), "a.x")
    assert len(found) == 52
    own = {name: found[name] for name in found if name.startswith("ci_enc_rev")}
    assert set(own) == {
        "ci_enc_rev_t0", "ci_enc_rev_gru_xh_to_ru_W", "ci_enc_rev_gru_xh_to_ru_b",
        "ci_enc_rev_gru_xrh_to_c_W", "ci_enc_rev_gru_xrh_to_c_b",
    }  # fmt: skip
    gates = np.concatenate([raw["ci_enc/W_x"][1][:, : 2 * units], raw["ci_enc/W_ru"][1]])
    np.testing.assert_array_equal(own["ci_enc_rev_gru_xh_to_ru_W"], gates)
    candidate = np.concatenate([raw["ci_enc/W_x"][1][:, 2 * units :], raw["ci_enc/W_c"][1]])
    np.testing.assert_array_equal(own["ci_enc_rev_gru_xrh_to_c_W"], candidate)
    np.testing.assert_array_equal(own["ci_enc_rev_gru_xh_to_ru_b"], raw["ci_enc/b"][1][: 2 * units])
    np.testing.assert_array_equal(found["gen_gengru_x_to_c_W"], raw["gen/W_x"][:, 14:])
    np.testing.assert_array_equal(found["con_gengru_h_to_ru_W"], raw["con/W_ru"])
    np.testing.assert_array_equal(found["con_to_posterior_co_logvar_b"], raw["co/b"][2:])
    np.testing.assert_allclose(found["prior_ar1_logevars"], raw["co_prior/log_evar"], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(found["factors_to_logrates_W"], raw["readout/W"][1, :, :4])


def test_every_axis_has_a_name_of_its_own_kind(tmp_path: Path) -> None:
    params = open_model_params(Written("injected", tmp_path).path)
    dims = {dim for name in params.data_vars for dim in params[name].dims}
    assert not [dim for dim in dims if str(dim).startswith("dim_")]
    assert params.gen_W_h.dims == ("generator_unit_before", "gate", "generator_unit")
    assert params.gen_W_x.dims == ("generator_input", "gate", "generator_unit")
    assert params.con_W_x.dims == ("controller_input", "gate", "controller_unit")
    assert params.ic_mean_W.dims == ("ic_code", "ic")
    assert params.factors_W.dims == ("generator_unit", "factor")


def test_the_read_outs_of_all_datasets_side_by_side(tmp_path: Path) -> None:
    written = Written("stitched", tmp_path)
    params = open_model_params(written.path)
    whole = all_readouts(params)
    assert whole.sizes == {"factor": 3, "neuron": 10}
    assert whole.dataset.values.tolist() == ["a.x"] * 4 + ["x"] * 6
    one = whole.readout_W[:, whole.dataset.values == "x"]
    np.testing.assert_array_equal(one, of_dataset(params, "x").readout_W)
    assert whole.neuron_of_dataset.values.tolist() == [*range(4), *range(6)]
    assert read_origin(written.path)["step"] == 3
