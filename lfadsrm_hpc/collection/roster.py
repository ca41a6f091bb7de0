"""A light view of a collection: which runs there are, and what tells them apart.

`RunCollection.open` builds and checks all run params, which takes half a millisecond each. To list states it
is enough to know the names of the runs and the values in which they differ: that is a roster. It reads
`collection.json`, or, of a large collection, a cache of it: `.lfadsrm/roster-<stamp>.json`, whose name says
which `collection.json` it was made from. It may be deleted at any time.
"""

from __future__ import annotations

import contextlib
import json
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import compress
from pathlib import Path
from typing import Any, NamedTuple

from lfadsrm_hpc.collection.stored import read_stored
from lfadsrm_hpc.collection.words import listing, value_text
from lfadsrm_hpc.errors import NotFoundError, suggest
from lfadsrm_hpc.layout import CollectionLayout
from lfadsrm_hpc.manifest.publish import publish_new
from lfadsrm_hpc.plain_files import read_json

FORMAT = 1
_LARGE = 1_000_000  # bytes of a collection.json that is worth a cache
_NOT_STORED: Any = object()


class Entry(NamedTuple):
    """One run: its id, the name of its run spec, the hash of its params."""

    id: str
    spec: str
    params: str


@dataclass
class Roster:
    """The runs of a collection and their params, as texts and plain values.

    Attributes
    ----------
    layout : CollectionLayout
    specs : list of str
        Names of the run specs.
    common : dict
        Hyperparameters that all params share, as `collection.json` holds them.
    own : dict of str to dict
        By hash, what may differ.
    extra : dict
        Hyperparameters that a user's subclass has added, and their defaults there.
    entries : list of Entry
        In order of run specs, then params, as `RunCollection.runs`.
    """

    layout: CollectionLayout
    specs: list[str]
    common: dict[str, Any]
    own: dict[str, dict[str, Any]]
    extra: dict[str, Any] = field(default_factory=dict)
    entries: list[Entry] = field(default_factory=list)

    @classmethod
    def open(cls, path: Path) -> Roster:
        """Read the roster of a collection.

        Raises
        ------
        NotFoundError
            There is no collection.
        ConfigError
            `collection.json` is damaged or from a newer version.
        """
        layout = CollectionLayout(path.absolute())
        stamp = _stamp(layout)
        content = None if stamp is None else _read_cache(layout, stamp)
        if content is None:
            stored = read_stored(layout)
            if stored is None:
                raise NotFoundError("there is no run collection", where=layout.path)
            content = _digest(stored)
            if stamp is not None and _stamp(layout) == stamp:
                _write_cache(layout, stamp, content)
        return cls._of(layout, content)

    @classmethod
    def _of(cls, layout: CollectionLayout, content: Mapping[str, Any]) -> Roster:
        absent = {tuple(pair) for pair in content["absent"]}
        hashes = list(content["own"])
        entries = [Entry(f"param_{h}/{s}", s, h) for s in content["specs"] for h in hashes]
        if absent:
            entries = [entry for entry in entries if (entry.spec, entry.params) not in absent]
        return cls(layout, content["specs"], content["common"], content["own"], content["extra"], entries)

    @property
    def path(self) -> Path:
        return self.layout.path

    # ---------------------------------------------------------------- values

    @cached_property
    def _defaults(self) -> dict[str, Any]:
        """Defaults of this version, in the form that `collection.json` has."""
        from lfadsrm_hpc.collection.hashing import canonical
        from lfadsrm_hpc.collection.params import RunParams
        from lfadsrm_hpc.model.hyperparameters import defaults

        mine = {name: canonical(value, name=name) for name, value in defaults(RunParams).items()}
        return {**mine, **self.extra}

    def values(self, params: str) -> dict[str, Any]:
        """Return every hyperparameter of some params; what was not stored has its default."""
        return {**self._defaults, **self.common, **self.own[params]}

    @cached_property
    def _common_differences(self) -> dict[str, Any]:
        return self._typed({n: v for n, v in self.common.items() if self._differs(n, v)})

    def differences(self, params: str) -> dict[str, Any]:
        """Return the values that differ from their defaults, without the name."""
        own = {n: v for n, v in self.own[params].items() if self._differs(n, v)}
        return {**self._common_differences, **self._typed(own)}

    def _differs(self, name: str, value: Any) -> bool:
        return name != "name" and value != self._defaults.get(name, _NOT_STORED)

    def _typed(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return values as `RunParams` has them: 10.0 where 10 is stored and need not be whole."""
        from lfadsrm_hpc.collection.params import RunParams
        from lfadsrm_hpc.model.hyperparameters import specs

        floats = {name for name, spec in specs(RunParams).items() if spec.kind == "float"}
        return {
            name: float(value) if name in floats and value is not None else value
            for name, value in values.items()
        }

    def varying(self, entries: Sequence[Entry]) -> list[str]:
        """Return the hyperparameters that differ among the params of runs, sorted."""
        chosen = dict.fromkeys(entry.params for entry in entries)
        every = [self.own[params] for params in chosen]
        if not every:
            return []
        if len(every) == len(self.own):  # nothing else is kept apart
            return sorted(self._own_names)
        first = every[0]
        return sorted(
            name
            for name in self._own_names
            if any(own.get(name, _NOT_STORED) != first.get(name, _NOT_STORED) for own in every)
        )

    @cached_property
    def _own_names(self) -> set[str]:
        return {name for own in self.own.values() for name in own}

    def label(self, params: str, varying: Sequence[str]) -> str:
        """Name params by what distinguishes them, "factors_dim=4", or by their hash."""
        own, common = self.own[params], self.common
        texts = []
        for name in varying:
            value = own.get(name, _NOT_STORED)
            if value is _NOT_STORED:
                value = common[name] if name in common else self._defaults.get(name)
            texts.append(f"{name}={value_text(value)}")
        return " ".join(texts) or params

    # ---------------------------------------------------------------- finding

    def select(self, specs: Iterable[str] = (), wanted: Mapping[str, Any] | None = None) -> list[Entry]:
        """Return the runs of some run specs (none named: of all) whose params have the wanted values.

        Raises
        ------
        NotFoundError
            There is no such run spec.
        ParamsError
            There is no such hyperparameter.
        """
        chosen, names = self.entries, set(specs)
        for name in sorted(names - set(self.specs)):
            raise NotFoundError(
                f"there is no run spec {name!r}",
                where=f"collection {self.layout.name!r}",
                hint=suggest(name, self.specs) or f"there are: {listing(self.specs)}",
            )
        if names:
            chosen = [entry for entry in chosen if entry.spec in names]
        if wanted:
            from lfadsrm_hpc.collection.matching import values_match

            fitting = {params for params in self.own if values_match(self.values(params), wanted)}
            chosen = [entry for entry in chosen if entry.params in fitting]
        return chosen


def _digest(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a roster keeps of `collection.json`."""
    values: dict[str, dict[str, Any]] = {}
    defaults: dict[str, Any] = {}
    for document in stored["params"]:
        extra = {name: entry["value"] for name, entry in document.get("extra", {}).items()}
        defaults.update({name: document["extra"][name]["default"] for name in extra})
        values[document["param_hash"]] = {**document["values"], **extra} if extra else document["values"]
    every = list(values.values())
    first = every[0] if every else {}
    own_names = {name for one in every for name in _unlike(one, first)}
    specs = [spec["name"] for spec in stored["run_specs"]]
    listed = set(stored["runs"])
    absent = []
    if len(listed) < len(specs) * len(values):
        absent = [(s, h) for s in specs for h in values if f"param_{h}/{s}" not in listed]
    return {
        "format": FORMAT,
        "specs": specs,
        "common": {name: value for name, value in first.items() if name not in own_names},
        "own": {
            h: {name: one[name] for name in one if name in own_names} if own_names else {}
            for h, one in values.items()
        },
        "extra": defaults,
        "absent": absent,
    }


def _unlike(one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterable[str]:
    if list(one) == list(other):  # as ever, and then quick
        return compress(one, map(operator.ne, one.values(), other.values()))
    return [n for n in one.keys() | other.keys() if one.get(n, _NOT_STORED) != other.get(n, _NOT_STORED)]


def _stamp(layout: CollectionLayout) -> str | None:
    """Return what tells this `collection.json` from others; None: it is small, or not there."""
    with contextlib.suppress(OSError):
        found = layout.collection_json.stat()
        if found.st_size >= _LARGE:
            return f"{FORMAT}-{found.st_ino}-{found.st_mtime_ns}-{found.st_size}"
    return None


def _read_cache(layout: CollectionLayout, stamp: str) -> dict[str, Any] | None:
    try:
        content = read_json(layout.roster(stamp))
    except (OSError, ValueError):
        return None
    whole = isinstance(content, dict) and {"specs", "common", "own", "extra", "absent"} <= content.keys()
    return content if whole else None


def _write_cache(layout: CollectionLayout, stamp: str, content: Mapping[str, Any]) -> None:
    """Publish the cache, and remove those of earlier `collection.json`; do without where nothing can be."""
    with contextlib.suppress(OSError):
        if not layout.state_dir.is_dir():
            return
        path = layout.roster(stamp)
        publish_new(path, json.dumps(content, separators=(",", ":")).encode())
        for other in layout.rosters():
            if other != path:
                other.unlink()
