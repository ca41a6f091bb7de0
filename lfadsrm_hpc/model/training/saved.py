"""What of a training goes into a checkpoint, and how it comes back."""

from __future__ import annotations

from typing import Any

from lfadsrm_hpc.errors import MismatchError
from lfadsrm_hpc.model.backend import tf
from lfadsrm_hpc.model.network.architecture import Architecture
from lfadsrm_hpc.model.training.checkpoints import Arrays, Checkpoint
from lfadsrm_hpc.model.training.objective import Adam

_SLOTS = ("latest", "adam_first", "adam_second")


def described(arch: Architecture) -> dict[str, Any]:
    """Return what a checkpoint says of its model, as JSON."""
    return {
        "names": list(arch.names),
        "neurons": list(arch.neurons),
        "bins": arch.bins,
        "readin_width": arch.readin_width,
        "shapes": {name: list(shape) for name, shape in arch.shapes.items()},
    }


def check_same_model(checkpoint: Checkpoint, arch: Architecture) -> None:
    """Refuse a checkpoint of another model, or of data of other shapes.

    Raises
    ------
    MismatchError
    """
    there, here = checkpoint.meta["architecture"], described(arch)
    if there == here:
        return
    differing = [key for key in here if key != "shapes" and there[key] != here[key]]
    what = [f"{key} {there[key]} there, {here[key]} here" for key in differing]
    names = sorted(there["shapes"].keys() | here["shapes"])
    if not what:
        what = [
            f"{name} {there['shapes'].get(name, 'absent')} there, {here['shapes'].get(name, 'absent')} here"
            for name in names
            if there["shapes"].get(name) != here["shapes"].get(name)
        ]
    raise MismatchError(
        f"the checkpoint is of another model or other data: {'; '.join(what[:4])}",
        where=checkpoint.path,
        hint="train from the start, or give the parameters and data that it was trained with",
    )


def add_vector(arrays: Arrays, arch: Architecture, prefix: str, theta: Any) -> None:
    """Add a parameter vector to the arrays of a checkpoint, as `prefix/<name>`."""
    named = arch.named(theta.numpy() if hasattr(theta, "numpy") else theta)
    arrays.update({f"{prefix}/{name}": value for name, value in named.items()})


def add_adam(arrays: Arrays, arch: Architecture, prefix: str, adam: Adam) -> None:
    """Add parameters and moments, as `<prefix>latest/<name>` and so on."""
    for slot, value in zip(_SLOTS, adam, strict=True):
        add_vector(arrays, arch, prefix + slot, value)


def read_adam(checkpoint: Checkpoint, arch: Architecture, prefix: str) -> Adam:
    """Return parameters and moments; the inverse of `add_adam`."""
    return Adam(*(tf.constant(arch.pack(checkpoint.group(prefix + slot))) for slot in _SLOTS))
