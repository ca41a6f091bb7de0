"""The parameter files of the original TensorFlow 1 program, by the names of this one.

The original wrote `model_params` with one HDF5 dataset a variable: '/' in names written '_', ':0' at the end,
biases and initial states as rows, (1, n). What it did not need it did not make a variable of: read-ins of a
single session without an alignment matrix, the map from initial condition to generator where both have the
same size, and, for Poisson data of a single session, a read-out with as many factors as neurons. Those are
identities.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lfadsrm_hpc.errors import ModelError, suggest
from lfadsrm_hpc.model.network.architecture import Architecture
from lfadsrm_hpc.original_names import LOGVARS, MEANS, POSTERIORS, RATES, READIN, SAME

Arrays = dict[str, NDArray[Any]]


def read_model_params(path: Path, arch: Architecture) -> Arrays:
    """Return the parameters of a model of this architecture, by our names.

    Parameters
    ----------
    path : Path
        `model_params` or `model_params.h5`.
    arch : Architecture
        Its session names are the original's, with or without the `.h5` at their end.

    Returns
    -------
    dict of float64 arrays
        With the names and shapes of `arch.shapes`.

    Raises
    ------
    ModelError
        The file is not readable, or a variable is absent or has another shape.
    """
    return _Translation(Variables(path), arch).arrays()


class Variables:
    """The variables of one `model_params` file.

    Parameters
    ----------
    path : Path

    Raises
    ------
    ModelError
        The file is absent or no HDF5 file.
    """

    def __init__(self, path: Path) -> None:
        import h5py

        self.path = path
        try:
            with h5py.File(path) as file:
                numeric = {k: v for k, v in file.items() if getattr(v, "dtype", np.dtype("V")).kind in "fiu"}
                self._arrays = {key: np.asarray(item[()], float) for key, item in numeric.items()}
        except OSError as error:
            raise ModelError(f"the model's parameters cannot be read ({error})", where=path) from error

    def __contains__(self, name: str) -> bool:
        return f"LFADS_{name}:0" in self._arrays

    def read(self, name: str, *shape: int) -> NDArray[Any]:
        """Return a variable of this shape, which may have a first axis of 1 in the file."""
        key = f"LFADS_{name}:0"
        if key not in self._arrays:
            raise ModelError(
                f"the file has no variable {key}", where=self.path, hint=suggest(key, list(self._arrays))
            )
        found = self._arrays[key]
        if found.shape not in (shape, (1, *shape)):
            raise ModelError(
                f"{key} has shape {found.shape}; by hyperparameters and data it should have {shape}",
                where=self.path,
            )
        return found.reshape(shape)

    def named(self, kind: str, session: str) -> str | None:
        """Return the variables' name of one kind for a session, as `x_2_infac_s1.h5`, or None."""
        names = [f"{kind}_{session}{suffix}" for suffix in ("", ".h5")]
        return next((name for name in names if f"{name}_W" in self), None)

    def has_readin(self, sessions: Sequence[str]) -> bool:
        """Return whether any of these sessions has a read-in."""
        return any(self.named(READIN, session) for session in sessions)


class _Translation:
    """One file's variables as parameters of one architecture."""

    def __init__(self, variables: Variables, arch: Architecture) -> None:
        self.variables, self.arch, self.read = variables, arch, variables.read

    def arrays(self) -> Arrays:
        arrays = {name: self._parameter(name) for name in self.arch.shapes}
        return {name: array.reshape(self.arch.shapes[name]) for name, array in arrays.items()}

    def _parameter(self, name: str) -> NDArray[Any]:
        shape = self.arch.shapes[name]
        group, _, kind = name.rpartition("/")
        if name in SAME:
            return self.read(SAME[name], *shape)
        if group in ("ic_enc", "ci_enc"):
            sides = ("fwd", "rev")[: shape[0]]
            return np.stack([self._encoder(group, kind, side, shape[1:]) for side in sides])
        if group in ("con", "gen"):
            return self._gen_gru(group, kind, shape)
        if group in POSTERIORS:
            half = (*shape[:-1], shape[-1] // 2)
            return np.concatenate(
                [self.read(f"{POSTERIORS[group]}_{part}_{kind}", *half) for part in ("mean", "logvar")], -1
            )
        if group in ("readin", "readout", "readout_logvar"):
            return self._per_session(group, kind, shape)
        if name == "ic_prior/logvar":
            return self._prior_variance(*shape)
        raise ModelError(f"the original has no parameter like {name}", where=self.variables.path)

    def _encoder(self, group: str, kind: str, side: str, shape: tuple[int, ...]) -> NDArray[Any]:
        """The original has one matrix for [x, h] and one for [x, r*h]; ours are apart, columns r, u, c."""
        start = f"{group}_{side}"
        if kind == "h0":
            return self.read(f"{start}_{group}_t0_{side}", *shape)
        inputs, units = self.arch.encoder_width, self.arch.shapes[f"{group}/h0"][-1]
        gates, candidate = f"{start}_GRU_Gates_xh_2_ru", f"{start}_GRU_Candidate_xrh_2_c"
        if kind == "b":
            return self._columns(f"{gates}_b", f"{candidate}_b", (), units)
        if kind == "W_x":
            return self._columns(f"{gates}_W", f"{candidate}_W", (inputs + units,), units)[:inputs]
        name, width = (gates, 2 * units) if kind == "W_ru" else (candidate, units)
        return self.read(f"{name}_W", inputs + units, width)[inputs:]

    def _gen_gru(self, group: str, kind: str, shape: tuple[int, ...]) -> NDArray[Any]:
        start, units = f"{group}_GenGRU", shape[-1] // 3
        gates, candidate = f"{start}_Gates_h_2_ru", f"{start}_Candidate_rh_2_c"
        if kind == "W_x":
            return self._columns(f"{start}_Gates_x_2_ru_W", f"{start}_Candidate_x_2_c_W", shape[:1], units)
        if kind == "b":
            return self._columns(f"{gates}_b", f"{candidate}_b", (), units)
        return self.read(f"{gates if kind == 'W_ru' else candidate}_W", *shape)

    def _columns(self, gates: str, candidate: str, rows: tuple[int, ...], units: int) -> NDArray[Any]:
        """Return [r, u] of one variable and c of another side by side."""
        return np.concatenate([self.read(gates, *rows, 2 * units), self.read(candidate, *rows, units)], -1)

    def _per_session(self, group: str, kind: str, shape: tuple[int, ...]) -> NDArray[Any]:
        """Return one session's map in front of the other, padded to the widest session."""
        gaussian = self.arch.hp.output_dist == "gaussian"
        original = {
            "readin": READIN, "readout": MEANS if gaussian else RATES, "readout_logvar": LOGVARS
        }[group]  # fmt: skip
        stacked = np.zeros(shape)
        for k, (session, neurons) in enumerate(zip(self.arch.names, self.arch.neurons, strict=True)):
            name = self.variables.named(original, session)
            if name is None and original == RATES and self._identity(neurons):
                stacked[k] = np.eye(neurons) if kind == "W" else 0.0
                continue
            name = f"{name or f'{original}_{session}.h5'}_{kind}"
            if group == "readin":
                own = (neurons, shape[-1]) if kind == "W" else (shape[-1],)
                stacked[(k, slice(neurons)) if kind == "W" else k] = self.read(name, *own)
            else:
                stacked[k, ..., :neurons] = self.read(name, *shape[1:-1], neurons)
        return stacked

    def _identity(self, neurons: int) -> bool:
        return len(self.arch.names) == 1 and neurons == self.arch.hp.factors_dim

    def _prior_variance(self, width: int) -> NDArray[Any]:
        """A fixed log-variance is as it is; a trained one was log(min + (max - min) s(exp(v)))."""
        raw = self.read("z_prior_g0_logvar", width)
        return np.exp(raw) if self.arch.hp.ic_prior_var_max > self.arch.hp.ic_prior_var_min else raw
