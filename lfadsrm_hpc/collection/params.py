"""Run params: the model's hyperparameters and the manager's own, their hashes and their display."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, TypeVar

from lfadsrm_hpc.collection import sweep
from lfadsrm_hpc.collection.extra_fields import ExtraField, frozen
from lfadsrm_hpc.collection.hashing import FROZEN_DEFAULTS, SCHEMA, canonical, canonical_json, short_hash
from lfadsrm_hpc.collection.param_groups import (
    POSTERIOR,
    PREPROCESSING,
    RESOURCES,
    RETRAINING,
    STITCHING,
    UNDERFITTING,
    USERS,
    grouped,
)
from lfadsrm_hpc.collection.words import value_text
from lfadsrm_hpc.errors import ConfigError
from lfadsrm_hpc.model.hyperparameters import FieldSpec, Hyperparameters, defaults, param, plain_names, specs

__all__ = ["ExtraField", "RunParams", "param"]

P = TypeVar("P", bound="RunParams")

_NOTHING: Any = object()


def _check_start_from(value: Any) -> str:
    """Return the folder of another run as one text for one path; ValueError otherwise."""
    if not isinstance(value, (str, os.PathLike)) or not str(value).strip():
        raise ValueError("must be the folder of a run, such as 'param_<hash>/<run spec>'")
    return PurePosixPath(value).as_posix()


@dataclass(frozen=True, kw_only=True, repr=False)
class RunParams(Hyperparameters):
    """All settings of a run: what data goes in, what model is trained, how its posterior is sampled.

    Immutable; `replace` gives a changed copy. `describe()` lists every name with its meaning and range.
    `c_<name>`, as the Matlab run manager writes what it passes on to LFADS, is accepted for `<name>`.

    Users may subclass and add fields, with `param` for a checked and described one::

        @dataclass(frozen=True, kw_only=True)
        class MyParams(RunParams):
            area: str = param("M1", "Brain area.", kind="str", affects="data")

    An added field enters the hash when it differs from its class's default, so a default, once used, should
    not change; `affects="data"` makes it part of the data hash too, `affects="nothing"` of none.

    Raises
    ------
    ParamsError
        An unknown name (the nearest right one is suggested), a wrong type, a value out of range, or values
        that contradict each other.

    Examples
    --------
    >>> par = RunParams(c_gen_dim=64, learning_rate_stop=1e-3)
    >>> par.diff_text()
    'learning_rate_stop=0.001 gen_dim=64'
    >>> [p.factors_dim for p in par.generate_sweep("factors_dim", [2, 4])]
    [2, 4]
    """

    name: str = param("", "A name, for people only.", kind="str", group=PREPROCESSING, affects="nothing")
    spike_bin_ms: float = param(
        2.0,
        "Width of the bins that the model sees; a multiple of the dataset's own bin.",
        kind="float",
        group=PREPROCESSING,
        unit="ms",
        low=0,
        low_open=True,
        affects="data",
    )
    train_to_test_ratio: int = param(
        4, "Training trials to one validation trial.", kind="int", group=PREPROCESSING, low=1, affects="data"
    )
    split: str = param(
        "stratified",
        "How validation trials are chosen: by condition, at random, each (ratio + 1)-th, as the data say.",
        kind="str",
        group=PREPROCESSING,
        choices=("stratified", "random", "periodic", "given"),
        affects="data",
    )
    split_seed: int = param(
        0, "Seed of that choice.", kind="int", group=PREPROCESSING, low=0, high=2**63 - 1, affects="data"
    )

    scale_increase_steps_with_datasets: bool = param(
        True,
        "Multiply kl_ and l2_increase_steps by the number of datasets.",
        kind="bool",
        group=UNDERFITTING,
    )
    scale_start_step_with_datasets: bool = param(
        True, "Multiply kl_ and l2_start_step by the number of datasets.", kind="bool", group=UNDERFITTING
    )

    use_alignment_matrix: bool = param(
        True,
        "Start read-in and read-out of stitched runs at alignment matrices.",
        kind="bool",
        group=STITCHING,
    )
    use_single_dataset_alignment_matrix: bool = param(
        False, "Use a read-in and an alignment matrix also with one dataset.", kind="bool", group=STITCHING
    )
    alignment_method: str = param(
        "least_squares",
        "How global components are regressed on each dataset.",
        kind="str",
        group=STITCHING,
        choices=("least_squares", "ridge"),
    )
    alignment_conditions: str = param(
        "all",
        "Regress each dataset on all conditions that it has, or on those that all datasets have.",
        kind="str",
        group=STITCHING,
        choices=("all", "shared"),
    )
    alignment_weights: str = param(
        "datasets",
        "What weighs alike in the global components: datasets, or neurons as they are.",
        kind="str",
        group=STITCHING,
        choices=("datasets", "neurons"),
    )
    alignment_without_conditions: str = param(
        "refuse",
        "Datasets without conditions: refuse, or start at their own components, or at random.",
        kind="str",
        group=STITCHING,
        choices=("refuse", "pca", "random"),
    )

    start_from: str | None = param(
        None,
        "Start from the trained model of another run: its folder, absolute or from the collection's.",
        group=RETRAINING,
        optional=True,
        check=_check_start_from,
    )

    posterior_mean_kind: str = param(
        "posterior_sample_and_average",
        "Average samples of the posterior, or push its means through.",
        kind="str",
        group=POSTERIOR,
        choices=("posterior_sample_and_average", "posterior_push_mean"),
        affects="nothing",
    )
    num_samples_posterior: int = param(
        512, "Samples a trial.", kind="int", group=POSTERIOR, low=1, unit="samples", affects="nothing"
    )
    posterior_std: bool = param(
        True,
        "Save standard deviations over samples beside the means.",
        kind="bool",
        group=POSTERIOR,
        affects="nothing",
    )
    posterior_memory_mb: float = param(
        1000.0,
        "Memory that posterior sampling may take beyond the model and the data, about.",
        kind="float",
        group=POSTERIOR,
        low=0,
        low_open=True,
        unit="MB",
        affects="nothing",
    )
    gpu_memory_mb: int = param(
        2000,
        "GPU memory that the queue reserves for a run.",
        kind="int",
        group=RESOURCES,
        low=1,
        unit="MB",
        affects="nothing",
    )

    # filled by from_json alone
    extra: tuple[ExtraField, ...] = dataclasses.field(default=(), init=False, repr=False)

    # ---------------------------------------------------------------- values

    def values(self) -> dict[str, Any]:
        """Return every field and its value, those of an absent subclass included."""
        known = {name: getattr(self, name) for name in specs(type(self))}
        return known | {field.name: field.value for field in self.extra}

    def affects(self, name: str) -> str:
        """Return what a hyperparameter changes: "model", "data" or "nothing".

        Parameters
        ----------
        name : str
            Of a hyperparameter.
        """
        known = specs(type(self))
        if name in known:
            return known[name].affects
        return next((field.affects for field in self.extra if field.name == name), "model")

    def replace(self: P, **changes: Any) -> P:
        """Return a copy with some values changed.

        Parameters
        ----------
        **changes
            New values by name.

        Raises
        ------
        ParamsError
        """
        mine = specs(type(self))
        extras = {field.name: field for field in self.extra}
        changes = plain_names(changes, [*mine, *extras])
        values: dict[str, Any] = {name: getattr(self, name) for name in mine}
        new = type(self)(**values | {name: value for name, value in changes.items() if name in mine})
        kept = tuple(dataclasses.replace(e, value=changes.get(e.name, e.value)) for e in self.extra)
        object.__setattr__(new, "extra", kept)
        return new

    def effective(self: P, n_datasets: int) -> P:
        """Return the params that a run of `n_datasets` trains with: its ramps scaled by their number.

        Parameters
        ----------
        n_datasets : int
        """
        changes: dict[str, Any] = {}
        if self.scale_increase_steps_with_datasets:
            changes |= {
                f"{r}_increase_steps": getattr(self, f"{r}_increase_steps") * n_datasets for r in ("kl", "l2")
            }
        if self.scale_start_step_with_datasets:
            changes |= {
                f"{r}_start_step": getattr(self, f"{r}_start_step") * n_datasets for r in ("kl", "l2")
            }
        return self.replace(**changes) if n_datasets != 1 else self

    def aligned(self, n_datasets: int) -> bool:
        """Return whether the inputs of a run of `n_datasets` hold alignment matrices.

        Parameters
        ----------
        n_datasets : int
        """
        return self.use_alignment_matrix if n_datasets > 1 else self.use_single_dataset_alignment_matrix

    def generate_sweep(self: P, *pairs: Any, mode: str = "grid", **values: Any) -> list[P]:
        """Return copies with the values of a sweep.

        Parameters
        ----------
        *pairs
            Names and lists of values in turn: `"gen_dim", [32, 64], "co_dim", [0, 2]`.
        mode : {"grid", "zip"}
            All combinations (the first name varies slowest), or the lists side by side.
        **values
            The same by keyword: `gen_dim=[32, 64]`.

        Raises
        ------
        ParamsError
        """
        return sweep.from_arguments(self, pairs, values, mode)

    # ---------------------------------------------------------------- differences and hashes

    def differences(self) -> dict[str, Any]:
        """Return the values that differ from their defaults, without `name`."""
        base = defaults(type(self)) | {field.name: field.default for field in self.extra}
        return {
            name: value
            for name, value in self.values().items()
            if name != "name" and not _same(value, base.get(name, _NOTHING))
        }

    def diff(self, other: RunParams) -> dict[str, tuple[Any, Any]]:
        """Return what differs between these params and others: name -> (here, there).

        Parameters
        ----------
        other : RunParams
        """
        mine, theirs = self.values(), other.values()
        return {
            name: (mine.get(name), theirs.get(name))
            for name in mine | theirs
            if name != "name" and not _same(mine.get(name), theirs.get(name))
        }

    def diff_text(self, other: RunParams | None = None) -> str:
        """Return the differences from the defaults, or from other params, as one line.

        Parameters
        ----------
        other : RunParams, optional
        """
        if other is None:
            return " ".join(f"{name}={value_text(value)}" for name, value in self.differences().items())
        return " ".join(
            f"{name}={value_text(a)} (not {value_text(b)})" for name, (a, b) in self.diff(other).items()
        )

    def hashed_values(self) -> dict[str, Any]:
        """Return what the param hash covers: values that matter and differ from the frozen defaults."""
        return {name: value for name, (value, affects) in self._off_default.items() if affects != "nothing"}

    @functools.cached_property
    def param_hash(self) -> str:
        """12 characters for all values that change the trained model."""
        return short_hash(canonical_json({"schema": SCHEMA, "values": self.hashed_values()}))

    def hashed_data_values(self, n_datasets: int) -> dict[str, Any]:
        """Return what the data hash covers: values that change the input files of a run of `n_datasets`.

        Parameters
        ----------
        n_datasets : int
        """
        found = {name: value for name, (value, affects) in self._off_default.items() if affects == "data"}
        if self.aligned(n_datasets):
            # the matrices are neurons x factors, so only here do the factors change the files
            found["alignment"] = [self.alignment_method, self.factors_dim]
            # choices that came later stand there only where they differ, so that no hash changes
            for name in ("alignment_conditions", "alignment_weights", "alignment_without_conditions"):
                if name in self._off_default:
                    found["alignment"].append(f"{name}={getattr(self, name)}")
        return found

    def data_hash(self, n_datasets: int) -> str:
        """Return 12 characters for all values that change the input files of a run of `n_datasets`.

        Parameters
        ----------
        n_datasets : int
        """
        return short_hash(canonical_json({"schema": SCHEMA, "data": self.hashed_data_values(n_datasets)}))

    @functools.cached_property
    def _off_default(self) -> dict[str, tuple[Any, str]]:
        """What differs from the frozen defaults: name -> (canonical value, what it affects)."""
        base = _hash_defaults(type(self))
        mine: list[tuple[str, Any, Any, str]] = [
            (name, getattr(self, name), base.get(name, _NOTHING), spec.affects)
            for name, spec in specs(type(self)).items()
        ]
        mine += [(e.name, e.value, e.default, e.affects) for e in self.extra]
        return {
            name: (canonical(value, name=name), affects)
            for name, value, default, affects in mine
            if not _same(value, default, name)
        }

    # ---------------------------------------------------------------- JSON

    def to_json(self) -> dict[str, Any]:
        """Return all values as JSON, with what is needed to hash them again without a user's subclass."""
        own = specs(RunParams)
        base = defaults(type(self))
        extra = {
            name: {"value": getattr(self, name), "default": base.get(name), "affects": spec.affects}
            for name, spec in specs(type(self)).items()
            if name not in own
        }
        extra |= {e.name: {"value": e.value, "default": e.default, "affects": e.affects} for e in self.extra}
        cls = type(self)
        document = {
            "schema": SCHEMA,
            "class": f"{cls.__module__}.{cls.__qualname__}",
            "values": {name: getattr(self, name) for name in own},
            "extra": extra,
        }
        return {key: canonical(value, name=key) for key, value in document.items()}

    @classmethod
    def from_json(cls: type[P], document: Mapping[str, Any]) -> P:
        """Return the params of a stored document.

        Fields of a subclass other than this class are kept: they show, hash and are stored again.

        Parameters
        ----------
        document : mapping
            As `to_json` returned it.

        Raises
        ------
        ParamsError
            It names a hyperparameter that does not exist, or holds a wrong value.
        ConfigError
            It is no such document, or of a hash schema that this version does not know.
        """
        if not isinstance(document.get("values"), Mapping):
            raise ConfigError("the document holds no run params", hint="expected the key 'values'")
        if document.get("schema") not in FROZEN_DEFAULTS:
            raise ConfigError(
                f"run params of hash schema {document.get('schema')!r} are unknown to this version",
                hint=f"known: {sorted(FROZEN_DEFAULTS)}; update lfadsrm_hpc",
            )
        values = dict(document["values"])
        unknown = []
        for name, entry in document.get("extra", {}).items():
            if name in specs(cls):
                # JSON has no tuples; a field whose default is no list is taken to hold one
                keep = isinstance(defaults(cls).get(name), list)
                values[name] = entry["value"] if keep else frozen(entry["value"])
            else:
                unknown.append(
                    ExtraField(name, frozen(entry["value"]), frozen(entry["default"]), entry["affects"])
                )
        params = cls(**values)
        object.__setattr__(params, "extra", tuple(unknown))
        return params

    # ---------------------------------------------------------------- display

    def __repr__(self) -> str:
        shown = ({"name": self.name} if self.name else {}) | self.differences()
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in shown.items())})"

    def __str__(self) -> str:
        return self.describe()

    def title(self) -> str:
        """Return the class, the param hash, the name and the differences from the defaults."""
        name = f' "{self.name}"' if self.name else ""
        return f"{type(self).__name__} param_{self.param_hash}{name} {self.diff_text()}".rstrip()

    def describe(self, *, docs: bool = False) -> str:
        """Return all values, grouped; values that differ from their defaults are marked with a star.

        Parameters
        ----------
        docs : bool
            Add the meaning, unit and range of each.
        """
        described = dict(specs(type(self)))
        described |= {e.name: FieldSpec("other", "", USERS) for e in self.extra}
        lines = grouped(described, self.values(), self.differences(), docs=docs)
        return "\n".join([self.title(), *lines])


@functools.cache
def _hash_defaults(cls: type) -> dict[str, Any]:
    return defaults(cls) | dict(FROZEN_DEFAULTS[SCHEMA])


def _same(value: Any, other: Any, name: str = "value") -> bool:
    """Return whether two values are one: 1 and 1.0 are, and a list and a tuple; 1 and True are not."""
    if type(value) is type(other) and isinstance(value, (bool, int, float, str, type(None))):
        return bool(value == other)
    if other is _NOTHING or isinstance(value, bool) != isinstance(other, bool):
        return False
    return bool(canonical(value, name=name) == canonical(other, name=name))
