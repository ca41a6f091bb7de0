"""The hyperparameters of the LFADS model: names, defaults, units and checks.

Imports neither tensorflow nor numpy, so that a login node can read and check them. Names are those of the
original LFADS program (Pandarinath et al. 2018, doi 10.1038/s41592-018-0109-9), defaults those of the
Matlab LFADS Run Manager.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lfadsrm_hpc.errors import ParamsError
from lfadsrm_hpc.model.fields import (
    CheckedNames,
    FieldSpec,
    coerce,
    defaults,
    param,
    plain_name,
    plain_names,
    specs,
)

__all__ = [  # noqa: RUF022
    "Hyperparameters",
    "FieldSpec",
    "coerce",
    "defaults",
    "param",
    "plain_name",
    "plain_names",
    "specs",
    "unlike",
]

LOGISTICS = "TensorFlow logistics"
OPTIMIZATION = "Optimization"
OVERFITTING = "Overfitting"
UNDERFITTING = "Underfitting"
EXTERNAL = "External inputs"
CONTROLLER = "Controller and inferred inputs"
ENCODER = "Encoder and initial conditions for generator"
GENERATOR = "Generator network, factors, rates"
STITCHING = "Stitching multi-session models"
RETRAINING = "Retraining"


COUNT_DISTS = ("poisson", "negative_binomial")
"""The values of `output_dist` for spike counts; the others are for continuous data."""


def check_held_out(value: Any) -> float | tuple[int, ...] | None:
    """Return the withheld neurons as None, a fraction, or sorted 0-based indices; ValueError otherwise."""
    if isinstance(value, (bool, str)):
        raise ValueError("must be None, a fraction between 0 and 1, or a list of neuron indices")
    if isinstance(value, (int, float)):
        if not 0 <= value < 1:
            raise ValueError("as a fraction it must be at least 0 and below 1; give one neuron as a list")
        return float(value) or None
    try:
        indices = [int(i) for i in value if not isinstance(i, bool)]
        whole = len(indices) == len(value) and all(i == j for i, j in zip(indices, value, strict=True))
    except (TypeError, ValueError):
        whole = False
    if not whole or min(indices, default=0) < 0 or len(set(indices)) != len(indices):
        raise ValueError("as a list it must hold different 0-based neuron indices")
    return tuple(sorted(indices)) or None


def check_xla(value: Any) -> str:
    """Return "auto", "on" or "off"; True and False mean the last two."""
    word = {True: "on", False: "off"}.get(value, value) if isinstance(value, bool) else value
    if word not in ("auto", "on", "off"):
        raise ValueError("must be 'auto', 'on' or 'off'")
    return str(word)


@dataclass(frozen=True, kw_only=True)
class Hyperparameters(metaclass=CheckedNames):
    """All that decides what model is built and how it is trained.

    Immutable; every value is checked and brought to its type. `c_<name>` is accepted for `<name>`.
    The description, unit and range of each field is in its metadata and in `RunParams().describe()`.

    Raises
    ------
    ParamsError
        An unknown name (the nearest right one is suggested), a wrong type, a value out of range, or values
        that contradict each other.
    """

    allow_gpu_growth: bool = param(
        True,
        "Take GPU memory as it is needed; the local queue, whose runs share GPUs, always does.",
        kind="bool",
        group=LOGISTICS,
        affects="nothing",
    )
    max_ckpt_to_keep: int = param(
        5, "Checkpoint files to keep, the latest.", kind="int", group=LOGISTICS, low=1, affects="nothing"
    )
    max_ckpt_to_keep_lve: int = param(
        5,
        "Checkpoint files to keep besides, of the last new lows of the validation cost.",
        kind="int",
        group=LOGISTICS,
        low=1,
        affects="nothing",
    )
    use_xla: str = param(
        "auto",
        "Compile with XLA: 'auto', 'on' or 'off'.",
        group=LOGISTICS,
        choices=("auto", "on", "off"),
        check=check_xla,
        affects="nothing",
    )
    mixed_precision: bool = param(
        False,
        "Multiply matrices in 16 bits (bfloat16) in training; all else stays 32 bits.",
        kind="bool",
        group=LOGISTICS,
    )
    seed: int = param(
        0,
        "Seed of weights, batches, dropout and samples.",
        kind="int",
        group=LOGISTICS,
        low=0,
        high=2**63 - 1,
    )

    learning_rate_init: float = param(
        0.01, "Learning rate at the start.", kind="float", group=OPTIMIZATION, low=0, low_open=True
    )
    learning_rate_decay_factor: float = param(
        0.98,
        "Factor on the learning rate when the cost does not fall.",
        kind="float",
        group=OPTIMIZATION,
        low=0,
        low_open=True,
        high=1,
    )
    learning_rate_n_to_compare: int = param(
        6,
        "Earlier costs that this one must exceed for the rate to be lowered.",
        kind="int",
        group=OPTIMIZATION,
        low=1,
        unit="epochs",
    )
    learning_rate_stop: float = param(
        1e-5,
        "Training ends when the learning rate falls below this.",
        kind="float",
        group=OPTIMIZATION,
        low=0,
    )
    max_grad_norm: float = param(
        200.0,
        "Gradients with a larger global norm are scaled down to it.",
        kind="float",
        group=OPTIMIZATION,
        low=0,
        low_open=True,
    )
    batch_size: int = param(
        256, "Trials of one gradient step.", kind="int", group=OPTIMIZATION, low=1, unit="trials"
    )
    cell_clip_value: float = param(
        5.0,
        "Bound on the absolute state of recurrent cells.",
        kind="float",
        group=OPTIMIZATION,
        low=0,
        low_open=True,
    )
    adam_epsilon: float = param(
        0.1,
        "Epsilon of Adam; the original's 0.1 is much larger than is usual.",
        kind="float",
        group=OPTIMIZATION,
        low=0,
        low_open=True,
    )
    loss_reduction: str = param(
        "sum",
        "Cost of a trial: sum over bins and neurons, or their mean; penalties keep their size, so they weigh "
        "T*D times more beside a mean.",
        kind="str",
        group=OPTIMIZATION,
        choices=("sum", "mean"),
    )
    max_epochs: int | None = param(
        None,
        "Training ends after so many epochs; None for no limit.",
        kind="int",
        group=OPTIMIZATION,
        low=1,
        optional=True,
        unit="epochs",
    )
    early_stopping_patience: int | None = param(
        None,
        "Training ends after so many epochs without a lower smoothed validation cost of reconstruction.",
        kind="int",
        group=OPTIMIZATION,
        low=1,
        optional=True,
        unit="epochs",
    )

    temporal_spike_jitter_width: int = param(
        0,
        "Spikes are moved by up to so many bins in training.",
        kind="int",
        group=OVERFITTING,
        low=0,
        unit="bins",
    )
    keep_prob: float = param(
        0.95,
        "Part of the units that dropout keeps.",
        kind="float",
        group=OVERFITTING,
        low=0,
        low_open=True,
        high=1,
    )
    l2_gen_scale: float = param(
        500.0, "L2 penalty on the recurrent weights of the generator.", kind="float", group=OVERFITTING, low=0
    )
    l2_con_scale: float = param(
        500.0,
        "L2 penalty on the recurrent weights of the controller.",
        kind="float",
        group=OVERFITTING,
        low=0,
    )
    co_mean_corr_scale: float = param(
        0.0, "Penalty on correlation between inferred inputs.", kind="float", group=OVERFITTING, low=0
    )
    coordinated_dropout_rate: float = param(
        0.0,
        "Part of the counts hidden from the encoders in a training step; only those give gradients.",
        kind="float",
        group=OVERFITTING,
        low=0,
        high=1,
        high_open=True,
    )
    sample_validation_rate: float = param(
        0.0,
        "Part of the data, single elements, that is never trained on and scored on its own.",
        kind="float",
        group=OVERFITTING,
        low=0,
        high=1,
        high_open=True,
    )
    held_out_neurons: float | tuple[int, ...] | None = param(
        None,
        "Neurons withheld from the encoders: a fraction, or 0-based indices of every dataset.",
        group=OVERFITTING,
        optional=True,
        check=check_held_out,
    )
    held_out_seed: int = param(
        0,
        "Seed by which a fraction of held-out neurons is drawn.",
        kind="int",
        group=OVERFITTING,
        low=0,
        high=2**63 - 1,
    )
    forward_prediction_bins: int = param(
        0, "Last bins that the encoders do not see.", kind="int", group=OVERFITTING, low=0, unit="bins"
    )

    kl_ic_weight: float = param(
        1.0, "Weight of the KL cost of initial conditions.", kind="float", group=UNDERFITTING, low=0
    )
    kl_co_weight: float = param(
        1.0, "Weight of the KL cost of inferred inputs.", kind="float", group=UNDERFITTING, low=0
    )
    kl_start_step: int = param(
        0, "Step at which the KL ramp starts.", kind="int", group=UNDERFITTING, low=0, unit="steps"
    )
    kl_increase_steps: int = param(
        900, "Length of the KL ramp.", kind="int", group=UNDERFITTING, low=0, unit="steps"
    )
    l2_start_step: int = param(
        0, "Step at which the L2 ramp starts.", kind="int", group=UNDERFITTING, low=0, unit="steps"
    )
    l2_increase_steps: int = param(
        900, "Length of the L2 ramp.", kind="int", group=UNDERFITTING, low=0, unit="steps"
    )

    ext_input_dim: int = param(0, "Number of measured external inputs.", kind="int", group=EXTERNAL, low=0)
    inject_ext_input_to_gen: bool = param(
        False, "Give external inputs to the generator, not to the encoders.", kind="bool", group=EXTERNAL
    )

    co_dim: int = param(
        4, "Number of inferred inputs; 0: no controller.", kind="int", group=CONTROLLER, low=0
    )
    prior_ar_atau: float = param(
        10.0,
        "Time constant of the AR(1) prior on inferred inputs (its start, if trained).",
        kind="float",
        group=CONTROLLER,
        low=0,
        low_open=True,
        unit="bins",
    )
    do_train_prior_ar_atau: bool = param(True, "Train that time constant.", kind="bool", group=CONTROLLER)
    prior_ar_nvar: float = param(
        0.1,
        "Innovation variance of the AR(1) prior (its start, if trained).",
        kind="float",
        group=CONTROLLER,
        low=0,
        low_open=True,
    )
    do_train_prior_ar_nvar: bool = param(True, "Train that variance.", kind="bool", group=CONTROLLER)
    do_causal_controller: bool = param(
        False, "Keep the backward encoding from the controller.", kind="bool", group=CONTROLLER
    )
    do_feed_factors_to_controller: bool = param(
        True,
        "Feed the factors (or rates) of the bin before to the controller.",
        kind="bool",
        group=CONTROLLER,
    )
    feedback_factors_or_rates: str = param(
        "factors",
        "What is fed back; rates only with one dataset.",
        kind="str",
        group=CONTROLLER,
        choices=("factors", "rates"),
    )
    controller_input_lag: int = param(
        1,
        "Bins between an encoding and its use by the controller.",
        kind="int",
        group=CONTROLLER,
        low=0,
        unit="bins",
    )
    ci_enc_dim: int = param(128, "Units of the controller's encoders.", kind="int", group=CONTROLLER, low=1)
    con_dim: int = param(128, "Units of the controller.", kind="int", group=CONTROLLER, low=1)

    num_steps_for_gen_ic: int | None = param(
        None,
        "First bins that the initial-condition encoders see; None for all.",
        kind="int",
        group=ENCODER,
        low=1,
        optional=True,
        unit="bins",
    )
    ic_dim: int = param(
        64,
        "Size of the initial condition's posterior; 0: a trained constant.",
        kind="int",
        group=ENCODER,
        low=0,
    )
    ic_enc_dim: int = param(128, "Units of the initial-condition encoders.", kind="int", group=ENCODER, low=1)
    ic_prior_var_min: float = param(
        0.1, "Smallest prior variance.", kind="float", group=ENCODER, low=0, low_open=True
    )
    ic_prior_var_scale: float = param(
        0.1,
        "Prior variance at the start; fixed there when max <= min.",
        kind="float",
        group=ENCODER,
        low=0,
        low_open=True,
    )
    ic_prior_var_max: float = param(
        0.1, "Largest prior variance.", kind="float", group=ENCODER, low=0, low_open=True
    )
    ic_post_var_min: float = param(1e-4, "Smallest posterior variance.", kind="float", group=ENCODER, low=0)

    cell_weight_scale: float = param(
        1.0,
        "Scale of the first gate weights of encoders and controller.",
        kind="float",
        group=GENERATOR,
        low=0,
    )
    gen_dim: int = param(100, "Units of the generator.", kind="int", group=GENERATOR, low=1)
    gen_cell_input_weight_scale: float = param(
        1.0, "Scale of the generator's first input weights.", kind="float", group=GENERATOR, low=0
    )
    gen_cell_rec_weight_scale: float = param(
        1.0, "Scale of the generator's first recurrent weights.", kind="float", group=GENERATOR, low=0
    )
    factors_dim: int = param(50, "Number of factors.", kind="int", group=GENERATOR, low=1)
    output_dist: str = param(
        "poisson",
        "Distribution of the data given the factors.",
        kind="str",
        group=GENERATOR,
        choices=(*COUNT_DISTS, "gaussian", "gamma", "zero_inflated_gamma"),
        affects="data",
    )

    do_train_readin: bool = param(True, "Train the read-in matrices.", kind="bool", group=STITCHING)
    do_train_io_only: bool = param(
        False, "Train only what belongs to one dataset: read-in and read-out.", kind="bool", group=RETRAINING
    )
    do_train_encoder_only: bool = param(False, "Train only the encoders.", kind="bool", group=RETRAINING)
    do_reset_learning_rate: bool = param(
        False,
        "With start_from: begin at learning_rate_init, not at the rate where that training stood.",
        kind="bool",
        group=RETRAINING,
    )

    def __post_init__(self) -> None:
        for name, spec in specs(type(self)).items():
            # frozen: the only place where a value is brought to its type
            object.__setattr__(self, name, coerce(name, getattr(self, name), spec))
        self.check()

    def check(self) -> None:
        """Check values against each other; a subclass that adds its own calls `super().check()`.

        Raises
        ------
        ParamsError
        """
        low, high = self.ic_prior_var_min, self.ic_prior_var_max
        if high > low and not low <= self.ic_prior_var_scale <= high:
            raise ParamsError(
                f"ic_prior_var_scale = {self.ic_prior_var_scale:g} lies outside [ic_prior_var_min, "
                f"ic_prior_var_max] = [{low:g}, {high:g}]",
                hint="put it between them, or make both equal to it for a fixed variance",
            )
        if self.learning_rate_stop >= self.learning_rate_init:
            raise ParamsError(
                f"learning_rate_stop = {self.learning_rate_stop:g} is not below learning_rate_init = "
                f"{self.learning_rate_init:g}",
                hint="training would end before its first step",
            )
        if self.do_train_io_only and self.do_train_encoder_only:
            raise ParamsError(
                "do_train_io_only and do_train_encoder_only exclude each other",
                hint="set one of them to False",
            )
        if self.output_dist not in COUNT_DISTS and self.temporal_spike_jitter_width > 0:
            raise ParamsError(
                f"temporal_spike_jitter_width moves spikes, and {self.output_dist} data has none",
                hint="set temporal_spike_jitter_width=0",
            )


def unlike(one: Hyperparameters, other: Mapping[str, Any]) -> list[str]:
    """Return why two models cannot share parameters: the sizes, and the output, in which they differ.

    Parameters
    ----------
    one : Hyperparameters
        Of the model here.
    other : mapping
        Values by name, of the model there; what it does not name is not compared.

    Examples
    --------
    >>> unlike(Hyperparameters(gen_dim=64), {"gen_dim": 32, "con_dim": 128})
    ['gen_dim is 32 there and 64 here']
    """
    names = ["output_dist", "gen_dim", "factors_dim", "ic_dim", "co_dim", "ext_input_dim"]
    if one.ic_dim:
        names.append("ic_enc_dim")
    if one.co_dim:
        names += ["con_dim", "ci_enc_dim", "do_causal_controller", "do_feed_factors_to_controller"]
        names.append("feedback_factors_or_rates")
    if one.ext_input_dim:
        names.append("inject_ext_input_to_gen")
    return [
        f"{name} is {other[name]!r} there and {getattr(one, name)!r} here"
        for name in names
        if name in other and other[name] != getattr(one, name)
    ]
