"""One session of a trained model, as inference uses it: alone, without the padding of training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lfadsrm_hpc.errors import NotFoundError, suggest
from lfadsrm_hpc.model.hyperparameters import Hyperparameters
from lfadsrm_hpc.model.network.architecture import Architecture
from lfadsrm_hpc.model.training import checkpoints


@dataclass(frozen=True)
class TrainedSession:
    """The parameters that one session of a trained model needs, and where they come from.

    Attributes
    ----------
    name : str
    arch : Architecture
        Of a model of this session alone.
    params : arrays by name, of the shapes of `arch`.
    checkpoint : dict
        kind ("lve" or "latest"), epoch, step.
    note : str
        Empty, or why these are not the parameters of the lowest validation cost.
    held_out : list of int
        Neurons that the encoders do not see.
    """

    name: str
    arch: Architecture
    params: checkpoints.Arrays
    checkpoint: dict[str, Any]
    note: str
    held_out: list[int]

    @classmethod
    def load(cls, hp: Hyperparameters, checkpoint_dir: Path, name: str) -> TrainedSession:
        """Return a session of the model in a folder of checkpoints.

        Parameters
        ----------
        hp : Hyperparameters
            Those of the training.
        checkpoint_dir : Path
            Its folder.
        name : str
            Of the session.

        Raises
        ------
        ModelError
            There is no trained model.
        NotFoundError
            The model has no such session.
        """
        model = checkpoints.trained(Path(checkpoint_dir))
        if name not in model.names:
            raise NotFoundError(
                f"the model has no session {name!r}, only {', '.join(model.names)}",
                where=checkpoint_dir,
                hint=suggest(name, model.names),
            )
        index = model.names.index(name)
        neurons = model.neurons[index]
        params = {
            key: checkpoints.part(key, value, index, neurons)[None] if checkpoints.of_session(key) else value
            for key, value in model.params.items()
        }
        return cls(
            name=name,
            arch=Architecture(hp, (name,), (neurons,), model.bins, model.readin_width),
            params=params,
            checkpoint={key: model.info[key] for key in ("kind", "epoch", "step")},
            note=str(model.info["note"]),
            held_out=list(model.held_out.get(name, [])),
        )

    @property
    def neurons(self) -> int:
        """How many neurons, or other channels, it has."""
        return self.arch.width

    @property
    def sizes(self) -> dict[str, int]:
        """Widths of factor, generator_unit, controller_output and ic."""
        hp = self.arch.hp
        return {
            "factor": hp.factors_dim,
            "generator_unit": hp.gen_dim,
            "controller_output": hp.co_dim,
            "ic": hp.ic_dim,
        }
