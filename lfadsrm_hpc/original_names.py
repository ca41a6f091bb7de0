"""What the original TensorFlow 1 program calls the variables of a model, where one of ours is one of its."""

from __future__ import annotations

# ours: the original's
SAME = {
    "ic_prior/mean": "z_prior_g0_mean",
    "gen/h0": "gen_g0",
    "gen/from_ic/W": "gen_g0_2_gen_ic_W",
    "gen/from_ic/b": "gen_g0_2_gen_ic_b",
    "factors/W": "gen_gen_2_fac_W",
    "con/h0": "con_c0",
    "co_prior/log_tau": "z_u_prior_ar1_logatau",
    "co_prior/log_evar": "z_u_prior_ar1_logevars",
}
# maps to a posterior, of which the original has one for means and one for log variances
POSTERIORS = {"ic": "z_ic_enc_2_post_g0", "co": "con_con_to_post_co"}
READIN, RATES, MEANS, LOGVARS = "x_2_infac", "glm_fac_2_logrates", "glm_fac_2_means", "glm_fac_2_logvars"
