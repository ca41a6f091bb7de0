"""The variables of the original LFADS under our names, and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from lfadsrm_hpc.errors import ResultsError
from lfadsrm_hpc.results.legacy.model_params import open_lfads_params, to_ours, to_theirs, write_lfads_params

REFERENCE = Path(__file__).resolve().parents[3] / "shared" / "reference" / "tf1"
GEN, IC, ENC, CON, CO, F = 7, 3, 5, 4, 2, 3


def variables(*, gaussian: bool = False) -> dict[str, Any]:
    """Return all kinds of variables of a stitched model with controller, made up."""
    rng = np.random.default_rng(0)
    shapes: dict[str, tuple[int, ...]] = {}
    for net, units in (("ic_enc", ENC), ("ci_enc", ENC + 1)):
        for side in ("fwd", "rev"):
            start = f"{net}_{side}"
            shapes |= {
                f"{start}_GRU_Gates_xh_2_ru_W": (F + units, 2 * units),
                f"{start}_GRU_Gates_xh_2_ru_b": (1, 2 * units),
                f"{start}_GRU_Candidate_xrh_2_c_W": (F + units, units),
                f"{start}_GRU_Candidate_xrh_2_c_b": (1, units),
                f"{start}_{net}_t0_{side}": (1, units),
            }
    for net, units, inputs in (("con", CON, 2 * ENC + 2 + F), ("gen", GEN, CO)):
        shapes |= {
            f"{net}_GenGRU_Gates_h_2_ru_W": (units, 2 * units),
            f"{net}_GenGRU_Gates_h_2_ru_b": (1, 2 * units),
            f"{net}_GenGRU_Candidate_rh_2_c_W": (units, units),
            f"{net}_GenGRU_Candidate_rh_2_c_b": (1, units),
            f"{net}_GenGRU_Gates_x_2_ru_W": (inputs, 2 * units),
            f"{net}_GenGRU_Candidate_x_2_c_W": (inputs, units),
        }
    for name, rows, width in (("z_ic_enc_2_post_g0", 2 * ENC, IC), ("con_con_to_post_co", CON, CO)):
        for part in ("mean", "logvar"):
            shapes |= {f"{name}_{part}_W": (rows, width), f"{name}_{part}_b": (1, width)}
    shapes |= {"z_prior_g0_mean": (1, IC), "z_prior_g0_logvar": (1, IC), "con_c0": (1, CON)}
    shapes |= {"z_u_prior_ar1_logatau": (1, CO), "z_u_prior_ar1_logevars": (1, CO)}
    shapes |= {"gen_g0_2_gen_ic_W": (IC, GEN), "gen_g0_2_gen_ic_b": (1, GEN), "gen_gen_2_fac_W": (GEN, F)}
    for session, neurons in (("a", 6), ("b.c", 8)):
        shapes |= {f"x_2_infac_{session}.h5_W": (neurons, F), f"x_2_infac_{session}.h5_b": (1, F)}
        for head in ("means", "logvars") if gaussian else ("logrates",):
            name = f"glm_fac_2_{head}_{session}.h5"
            shapes |= {f"{name}_W": (F, neurons), f"{name}_b": (1, neurons)}
    found: dict[str, Any] = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    return found


@pytest.mark.parametrize("gaussian", [False, True])
@pytest.mark.parametrize("trained", [False, True])
def test_there_and_back(gaussian: bool, trained: bool) -> None:
    hp = {"ic_prior_var_min": 0.1, "ic_prior_var_max": 0.4 if trained else 0.1}
    theirs = variables(gaussian=gaussian)
    ours, others = to_ours({**theirs, "beta1_power": np.ones(())}, hp)
    assert others == ["beta1_power"]
    again, notes = to_theirs(ours, {**hp, "output_dist": "gaussian" if gaussian else "poisson"})
    assert notes == []
    assert again.keys() == theirs.keys()
    for name, values in theirs.items():
        np.testing.assert_allclose(again[name], values, err_msg=name)
        assert again[name].shape == values.shape


def test_every_axis_has_a_name(tmp_path: Path) -> None:
    theirs = variables()
    hp = {"ic_prior_var_min": 0.1, "ic_prior_var_max": 0.1, "output_dist": "poisson"}
    path = tmp_path / "model_params"
    ours, _ = to_ours(theirs, hp)
    assert write_lfads_params(path, ours, hp, 12) == []
    found = open_lfads_params(path, hp, ["a", "b.c"])
    assert found.attrs["datasets"] == ["a", "b.c"]
    assert found.attrs["step"] == 12
    assert found["gen_W_h"].sizes == {"generator_unit_before": GEN, "gate": 3, "generator_unit": GEN}
    inputs = theirs["gen_GenGRU_Gates_x_2_ru_W"]
    np.testing.assert_array_equal(found["gen_W_x"].sel(gate="u").values, inputs[:, GEN:])
    np.testing.assert_array_equal(found["readin_W.b.c"].values, theirs["x_2_infac_b.c.h5_W"])
    encoder = theirs["ic_enc_rev_GRU_Candidate_xrh_2_c_W"]
    rev = found.sel(ic_enc_direction="rev", gate="c")
    np.testing.assert_array_equal(rev["ic_enc_W_x"].values, encoder[:F])
    np.testing.assert_array_equal(rev["ic_enc_W_h"].values, encoder[F:])


def test_a_read_out_that_is_not_there_is_the_identity(tmp_path: Path) -> None:
    theirs = {n: v for n, v in variables().items() if not n.startswith(("glm", "x_2"))}
    ours, _ = to_ours(theirs, {}, ["only"])
    np.testing.assert_array_equal(ours["readout/only/W"], np.eye(F))


def test_what_has_no_place_is_told() -> None:
    hp = {"ic_prior_var_min": 0.1, "ic_prior_var_max": 0.4, "output_dist": "negative_binomial"}
    ours, _ = to_ours(variables(), {})
    ours["readout_logdisp/a/W"] = np.zeros((F, 6))
    ours["ic_prior/logvar"] = np.array([1.0, -1.0, 2.0])
    _, notes = to_theirs(ours, hp)
    assert any("readout_logdisp" in note for note in notes)
    assert any("below the middle" in note for note in notes)


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model_params"
    with pytest.raises(ResultsError, match="lfads_write_model_params"):
        open_lfads_params(path, {})
    with h5py.File(path, "w") as file:
        file["rates"] = np.zeros(3)
    with pytest.raises(ResultsError, match="no variables of LFADS"):
        open_lfads_params(path, {})
    with h5py.File(path, "w") as file:
        file["LFADS_gen_GenGRU_Gates_h_2_ru_W:0"] = np.zeros((3, 6))
    with pytest.raises(ResultsError, match="not the parameters"):
        open_lfads_params(path, {})


@pytest.mark.parametrize("case", ["poisson_single", "controller_ext", "multisession", "gaussian"])
def test_real_files_there_and_back(case: str, tmp_path: Path) -> None:
    folder = REFERENCE / case
    if not folder.is_dir():
        pytest.skip(f"the reference files are not here: {folder}")
    hp = json.loads((folder / "hyperparameters.json").read_text())
    with h5py.File(folder / "model_params.h5") as file:
        stored = {name: item[()] for name, item in file.items()}
    model = {name[6:-2]: v for name, v in stored.items() if v.ndim}
    ours, others = to_ours(model, hp)
    assert others == []
    write_lfads_params(tmp_path / "model_params", ours, hp, int(stored["LFADS_global_step:0"]))
    with h5py.File(tmp_path / "model_params") as file:
        assert set(file) == set(stored) - {"LFADS_learning_rate:0"}
        for name in file:
            np.testing.assert_array_equal(file[name][()], stored[name])
