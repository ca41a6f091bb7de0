"""Every static size of a model, and the vector that holds its parameters.

Parameters are a dictionary name -> tensor, kept as slices of one vector so that the optimiser is a handful of
operations. Sessions are padded to the widest one and their read-ins and read-outs stacked, (S, D, F), so that
one compiled function serves all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lfadsrm_hpc.errors import ParamsError
from lfadsrm_hpc.model.backend import Tensor, tf
from lfadsrm_hpc.model.hyperparameters import Hyperparameters
from lfadsrm_hpc.model.network.likelihoods import READ_OUTS
from lfadsrm_hpc.model.session import Session, check_together

Params = dict[str, Tensor]


@dataclass(frozen=True)
class Architecture:
    """Every static size of a model, from hyperparameters and the shapes of the sessions.

    Parameters
    ----------
    hp : Hyperparameters
    names : names of the sessions.
    neurons : number of neurons of each.
    bins : T.
    readin_width : channels that read-in matrices make of the neurons; 0 where there are none.
    """

    hp: Hyperparameters
    names: tuple[str, ...]
    neurons: tuple[int, ...]
    bins: int
    readin_width: int

    @classmethod
    def of(cls, hp: Hyperparameters, sessions: Sequence[Session]) -> Architecture:
        """Return the architecture for these sessions; DataError or ParamsError if there is none."""
        check_together(sessions, ext_input_dim=hp.ext_input_dim, factors_dim=hp.factors_dim)
        if len(sessions) > 1 and hp.co_dim and hp.feedback_factors_or_rates == "rates":
            raise ParamsError(
                "feedback_factors_or_rates = 'rates' is possible with one dataset only",
                hint="set it to 'factors' for stitched runs",
            )
        if hp.forward_prediction_bins >= sessions[0].bins:
            raise ParamsError(
                f"forward_prediction_bins = {hp.forward_prediction_bins} leaves the encoders none of the "
                f"{sessions[0].bins} bins",
                hint="withhold fewer bins",
            )
        reads_in = len(sessions) > 1 or sessions[0].alignment_matrix is not None
        return cls(
            hp=hp,
            names=tuple(session.name for session in sessions),
            neurons=tuple(session.neurons for session in sessions),
            bins=sessions[0].bins,
            readin_width=hp.factors_dim if reads_in else 0,
        )

    @property
    def has_readin(self) -> bool:
        return self.readin_width > 0

    @property
    def width(self) -> int:
        """Neurons of the widest session."""
        return max(self.neurons)

    @property
    def encoder_width(self) -> int:
        """Channels that the encoders see in each bin."""
        ext = 0 if self.hp.inject_ext_input_to_gen else self.hp.ext_input_dim
        return (self.readin_width or self.width) + ext

    @property
    def generator_inputs(self) -> int:
        ext = self.hp.ext_input_dim if self.hp.inject_ext_input_to_gen else 0
        return self.hp.co_dim + ext

    @property
    def feedback_width(self) -> int:
        """Channels that the controller sees of the bin before."""
        if not self.hp.do_feed_factors_to_controller:
            return 0
        return self.width if self.hp.feedback_factors_or_rates == "rates" else self.hp.factors_dim

    @property
    def ic_steps(self) -> int:
        """Bins that the initial-condition encoders see."""
        seen = self.bins - self.hp.forward_prediction_bins
        return min(self.hp.num_steps_for_gen_ic or seen, seen)

    @property
    def neuron_mask(self) -> NDArray[np.float32] | None:
        """(S, width), 1 where a session has a neuron; None where no session is padded."""
        if len(set(self.neurons)) == 1:
            return None
        return (np.arange(self.width) < np.array(self.neurons)[:, None]).astype(np.float32)

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of every parameter, in the order of the parameter vector.

        Encoders have a first axis: forward, backward; read-ins and read-outs have one for the sessions. The
        columns of `ic` and `co` are means, then log-variances.
        """
        hp, count, width, factors = self.hp, len(self.names), self.width, self.hp.factors_dim
        shapes: dict[str, tuple[int, ...]] = {}

        def gru(
            name: str, inputs: int, units: int, first: tuple[int, ...] = (), initial: bool = True
        ) -> None:
            if inputs:
                shapes[f"{name}/W_x"] = (*first, inputs, 3 * units)
            shapes.update({f"{name}/W_ru": (*first, units, 2 * units), f"{name}/W_c": (*first, units, units)})
            shapes[f"{name}/b"] = (*first, 3 * units)
            if initial:
                shapes[f"{name}/h0"] = (*first, units)

        def linear(name: str, inputs: int, outputs: int) -> None:
            shapes.update({f"{name}/W": (inputs, outputs), f"{name}/b": (outputs,)})

        if self.has_readin:
            channels = self.readin_width
            shapes.update({"readin/W": (count, width, channels), "readin/b": (count, channels)})
        if hp.ic_dim:
            gru("ic_enc", self.encoder_width, hp.ic_enc_dim, (2,))
            linear("ic", 2 * hp.ic_enc_dim, 2 * hp.ic_dim)
            shapes.update({"ic_prior/mean": (hp.ic_dim,), "ic_prior/logvar": (hp.ic_dim,)})
            if hp.ic_dim != hp.gen_dim:
                linear("gen/from_ic", hp.ic_dim, hp.gen_dim)
        else:
            shapes["gen/h0"] = (hp.gen_dim,)
        if hp.co_dim:
            sides = 1 if hp.do_causal_controller else 2
            gru("ci_enc", self.encoder_width, hp.ci_enc_dim, (sides,))
            gru("con", sides * hp.ci_enc_dim + self.feedback_width, hp.con_dim)
            linear("co", hp.con_dim, 2 * hp.co_dim)
            shapes.update({"co_prior/log_tau": (hp.co_dim,), "co_prior/log_evar": (hp.co_dim,)})
        gru("gen", self.generator_inputs, hp.gen_dim, initial=False)
        shapes["factors/W"] = (hp.gen_dim, factors)
        for group in READ_OUTS[hp.output_dist]:
            shapes.update({f"{group}/W": (count, factors, width), f"{group}/b": (count, width)})
        return shapes

    @cached_property
    def sizes(self) -> list[int]:
        return [math.prod(shape) for shape in self.shapes.values()]

    def unpack(self, theta: Tensor) -> Params:
        """Return the parameters by name, from the vector of all of them."""
        parts = tf.split(theta, self.sizes)
        return {n: tf.reshape(part, s) for (n, s), part in zip(self.shapes.items(), parts, strict=True)}

    def pack(self, arrays: dict[str, NDArray[Any]]) -> NDArray[np.float32]:
        """Return the vector of all parameters; the inverse of `unpack` on arrays."""
        flat = [np.asarray(arrays[name], np.float32).reshape(-1) for name in self.shapes]
        return np.concatenate(flat)

    def named(self, theta: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Return the arrays by name, from the vector of all of them."""
        parts = np.split(np.asarray(theta), np.cumsum(self.sizes)[:-1])
        return {n: part.reshape(s) for (n, s), part in zip(self.shapes.items(), parts, strict=True)}

    def is_trained(self, name: str) -> bool:
        """Return whether training changes this parameter."""
        hp, group = self.hp, name.split("/")[0]
        if hp.do_train_io_only and group not in ("readin", *READ_OUTS[hp.output_dist]):
            return False
        if hp.do_train_encoder_only and group not in ("ic_enc", "ci_enc", "ic"):
            return False
        return {
            "readin/W": hp.do_train_readin,
            "readin/b": hp.do_train_readin,
            "ic_prior/logvar": hp.ic_prior_var_max > hp.ic_prior_var_min,
            "co_prior/log_tau": hp.do_train_prior_ar_atau,
            "co_prior/log_evar": hp.do_train_prior_ar_nvar,
        }.get(name, True)

    def trained_mask(self) -> NDArray[np.float32] | None:
        """Return 1 for each trained and 0 for each frozen element of the vector; None if all are trained."""
        flags = [self.is_trained(name) for name in self.shapes]
        return None if all(flags) else np.repeat(np.array(flags, np.float32), self.sizes)
