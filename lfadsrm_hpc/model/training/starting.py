"""Where a training begins: at new parameters, or at those of a trained model."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lfadsrm_hpc.errors import MismatchError, ParamsError
from lfadsrm_hpc.model.hyperparameters import Hyperparameters, unlike
from lfadsrm_hpc.model.network.architecture import Architecture
from lfadsrm_hpc.model.network.initial import initial_parameters
from lfadsrm_hpc.model.session import Session
from lfadsrm_hpc.model.training import checkpoints
from lfadsrm_hpc.model.training.checkpoints import Arrays, Trained, of_session, part

SessionStarts = Mapping[str, Arrays]

_PRIOR_BOUNDS = ("ic_prior_var_min", "ic_prior_var_scale", "ic_prior_var_max")


@dataclass(frozen=True)
class Start:
    """The model before its first step.

    Attributes
    ----------
    arch : Architecture
    params : arrays by name.
    learning_rate : float
    origin : dict or None
        What it starts from: path, kind, epoch, step and fingerprint of the trained parameters, and
        `sessions`, those whose read-in and read-out came along. None for new parameters.
    """

    arch: Architecture
    params: Arrays
    learning_rate: float
    origin: dict[str, Any] | None


def begin(
    hp: Hyperparameters,
    sessions: Sequence[Session],
    start_from: Path | None,
    session_starts: SessionStarts | None = None,
) -> Start:
    """Return where a training begins.

    Parameters
    ----------
    hp, sessions : the model and its data.
    start_from : Path or None
        Folder of the checkpoints of a trained model.
    session_starts : mapping, optional
        For sessions that the trained model does not have, arrays to start at instead of `initial_parameters`,
        by name: `readin/W` (neurons, channels), `readin/b`, `readout/W` (factors, neurons), ...

    Raises
    ------
    MismatchError
        The trained model has other sizes.
    ParamsError
        Training should go on at a learning rate that is too low to go on.
    ModelError
        There is no trained model.
    """
    arch = Architecture.of(hp, sessions)
    if start_from is None:
        return Start(arch, initial_parameters(arch, sessions), hp.learning_rate_init, None)
    model = checkpoints.trained(start_from)
    arch = dataclasses.replace(arch, readin_width=_readin_width(model, arch))
    _check_sizes(model, arch, start_from)
    params = initial_parameters(arch, sessions)
    taken = _take_over(params, model, arch, session_starts or {})
    origin = {
        "path": str(start_from),
        **{name: model.info[name] for name in ("kind", "epoch", "step")},
        "fingerprint": model.fingerprint,
        "sessions": taken,
    }
    return Start(arch, params, _first_rate(hp, model, start_from), origin)


def check_origin(origin: Mapping[str, Any] | None, start_from: Path | None, where: Path) -> None:
    """Refuse to go on with a training that started from something else than `start_from`.

    Without `start_from` any origin will do: a training that goes on does not need it again.

    Raises
    ------
    MismatchError
    """
    if start_from is None:
        return
    model = checkpoints.trained(start_from)
    if origin is None or origin["fingerprint"] != model.fingerprint:
        before = "new parameters" if origin is None else f"{origin['path']} (epoch {origin['epoch']})"
        raise MismatchError(
            f"this training did not start from {start_from} (epoch {model.info['epoch']}) as it is now, but "
            f"from {before}",
            where=where,
            hint="put that model back, or delete the outputs of this training and begin anew",
        )


def _readin_width(model: Trained, arch: Architecture) -> int:
    """Return how wide read-ins must be, so that the trained encoders see what they know.

    Where these see the neurons of a session directly, others are read in to so many channels.
    """
    if model.readin_width:
        return model.readin_width
    same = (arch.names, arch.neurons) == (model.names, model.neurons)
    return 0 if same else model.neurons[0]


def _check_sizes(model: Trained, arch: Architecture, where: Path) -> None:
    """Refuse a model whose shared parameters do not fit; name what differs."""
    differing = unlike(arch.hp, model.hyperparameters)
    if not differing:
        shapes = {name: value.shape for name, value in model.params.items() if not of_session(name)}
        wanted = {name: shape for name, shape in arch.shapes.items() if not of_session(name)}
        differing = [
            f"{name} is {shapes.get(name, 'absent')} there and {wanted.get(name, 'absent')} here"
            for name in sorted(shapes.keys() | wanted)
            if shapes.get(name) != wanted.get(name)
        ]
    if not differing:
        return
    raise MismatchError(
        f"training cannot start from this model: {'; '.join(differing[:4])}",
        where=where,
        hint="start from a model with the same sizes",
    )


def _take_over(params: Arrays, model: Trained, arch: Architecture, starts: SessionStarts) -> list[str]:
    """Put what is trained in place of what is new; return the sessions whose own parameters came along."""
    bounds = [(model.hyperparameters.get(n), getattr(arch.hp, n)) for n in _PRIOR_BOUNDS]
    # that raw variance means another one between other bounds
    new = {"ic_prior/logvar"} if any(a is not None and a != b for a, b in bounds) else set()
    taken = []
    for name, value in model.params.items():
        if not of_session(name) and name not in new:
            params[name] = value
    stacked = [name for name in params if of_session(name)]
    for k, (session, neurons) in enumerate(zip(arch.names, arch.neurons, strict=True)):
        own = starts.get(session, {})
        there = model.names.index(session) if session in model.names else None
        if there is not None and model.neurons[there] == neurons:
            taken.append(session)
            # a session that the encoders saw directly is read in as it is
            own = {"readin/W": np.eye(neurons), "readin/b": np.zeros(neurons)}
            own |= {n: part(n, v, there, neurons) for n, v in model.params.items() if of_session(n)}
        for name in stacked:
            if name in own:
                part(name, params[name], k, neurons)[...] = own[name]
    return taken


def _first_rate(hp: Hyperparameters, model: Trained, where: Path) -> float:
    rate = model.learning_rate
    if hp.do_reset_learning_rate or rate is None:
        return hp.learning_rate_init
    if rate <= hp.learning_rate_stop:
        raise ParamsError(
            f"training should go on at the learning rate of the trained model, {rate:g}, which is not above "
            f"learning_rate_stop = {hp.learning_rate_stop:g}",
            where=where,
            hint=f"set do_reset_learning_rate=True to start at learning_rate_init = "
            f"{hp.learning_rate_init:g}, or lower learning_rate_stop",
        )
    return rate
