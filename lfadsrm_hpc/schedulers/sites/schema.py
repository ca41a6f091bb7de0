"""The schema of sites as data: tables and keys, read off `site.py`; sites from plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Any, cast

from lfadsrm_hpc.errors import ConfigError, suggest
from lfadsrm_hpc.schedulers.sites.site import SCHEMA, Partition, Site

TOP_KEYS = ("schema", "extends")
PARTITIONS = "partitions"
QUEUE = "queue"

Content = dict[str, Any]

KINDS = {
    "str": "a text",
    "str | None": "a text",
    "int": "a whole number",
    "int | None": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "tuple[str, ...]": "a list of texts",
    "Mapping[str, str]": "a table of texts",
}
"""How the types of the schema are called in messages and in the reference."""


@dataclass(frozen=True)
class Key:
    """One key of the schema.

    Attributes
    ----------
    table : str
        "partitions" stands for every partition.
    name : str
    kind : str
        One of `KINDS`.
    default : object
    """

    table: str
    name: str
    kind: str
    default: Any


def table_classes() -> dict[str, type]:
    """Return the class of each table whose keys are fixed; of `partitions`, the class of one partition."""
    found: dict[str, type] = {}
    for one in fields(Site):
        if one.name == PARTITIONS:
            found[one.name] = Partition
        elif one.name != QUEUE:
            found[one.name] = cast("type", one.default_factory)
    return found


def keys_of(table: str) -> dict[str, Key]:
    """Return the keys of a table, by name."""
    if table == QUEUE:
        return {}
    found = {}
    for one in fields(table_classes()[table]):
        default = one.default_factory() if one.default_factory is not MISSING else one.default
        found[one.name] = Key(table, one.name, str(one.type), default)
    return found


def queue_keys() -> list[str]:
    """Return the names of the options of the local queue."""
    from lfadsrm_hpc.schedulers.local import LocalQueueOptions

    return [one.name for one in fields(LocalQueueOptions)]


def refuse_unknown(names: Mapping[str, Any], known: Sequence[str], kind: str, where: object) -> None:
    """Raise `ConfigError` for the first name that is not known, and suggest the nearest that is."""
    for name in names:
        if name not in known:
            hint = suggest(name, known) or f"known are: {', '.join(known)}"
            raise ConfigError(f"{name!r} is not a {kind}", where=where, hint=hint)


def check_shape(content: Mapping[str, Any], where: object) -> Content:
    """Check the tables, keys and types of one layer; return it with lists as tuples.

    Raises
    ------
    ConfigError
        An unknown table or key (the nearest right one is suggested), a wrong type, or another schema.
    """
    _check_version(content.get("schema", SCHEMA), where)
    tables = [one.name for one in fields(Site)]
    refuse_unknown(content, [*tables, *TOP_KEYS], "table of a site", where)
    found: Content = {}
    if "extends" in content:
        found["extends"] = typed(content["extends"], "str", f"{where}, extends")
    for table in (name for name in content if name in tables):
        value = content[table]
        if not isinstance(value, Mapping):
            raise ConfigError(f"{table!r} must be a table, [{table}]", where=where)
        if table == QUEUE:
            refuse_unknown(value, queue_keys(), "key in [queue]", where)
            found[table] = {name: _tuples(item) for name, item in value.items()}
        elif table == PARTITIONS:
            found[table] = {name: _partition(name, item, where) for name, item in value.items()}
        else:
            found[table] = _table(table, value, f"[{table}]", where)
    return found


def _check_version(version: Any, where: object) -> None:
    if isinstance(version, bool) or not isinstance(version, int):
        raise ConfigError(f"schema must be a whole number, not {version!r}", where=where)
    if version != SCHEMA:
        raise ConfigError(
            f"this site is written for schema {version}; this version of lfadsrm_hpc reads {SCHEMA}",
            where=where,
            hint="update lfadsrm_hpc" if version > SCHEMA else f"schema = {SCHEMA}",
        )


def _partition(name: str, value: Any, where: object) -> Content:
    if not name or not name.isprintable():
        raise ConfigError(f"{name!r} cannot be the name of a partition", where=where)
    if not isinstance(value, Mapping):
        what = f"{name!r} in [partitions] must be a table, [partitions.{name}]"
        raise ConfigError(what, where=where)
    return _table(PARTITIONS, value, f"[partitions.{name}]", where)


def _table(table: str, value: Mapping[str, Any], shown: str, where: object) -> Content:
    keys = keys_of(table)
    refuse_unknown(value, list(keys), f"key in {shown}", where)
    return {name: typed(item, keys[name].kind, f"{where}, {shown} {name}") for name, item in value.items()}


def typed(value: Any, kind: str, where: object) -> Any:
    """Return a value of a TOML file as the type of the schema.

    Raises
    ------
    ConfigError
        It has another type.
    """
    right = {
        "str": isinstance(value, str),
        "str | None": isinstance(value, str),
        "int": isinstance(value, int) and not isinstance(value, bool),
        "int | None": isinstance(value, int) and not isinstance(value, bool),
        "float": isinstance(value, int | float) and not isinstance(value, bool),
        "bool": isinstance(value, bool),
        "tuple[str, ...]": isinstance(value, list | tuple) and all(isinstance(one, str) for one in value),
        "Mapping[str, str]": isinstance(value, Mapping)
        and all(isinstance(one, str) for one in value.values()),
    }
    if not right[kind]:
        raise ConfigError(f"{value!r} must be {KINDS[kind]}", where=where)
    if kind == "float":
        return float(value)
    return dict(value) if kind == "Mapping[str, str]" else _tuples(value)


def _tuples(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def make_site(content: Mapping[str, Any]) -> Site:
    """Build a `Site` from checked content, all layers merged."""
    made: Content = {}
    for table, cls in table_classes().items():
        value = content.get(table, {})
        if table == PARTITIONS:
            made[table] = {name: cls(**keys) for name, keys in value.items()}
        else:
            made[table] = cls(**value)
    return Site(**made, queue=dict(content.get(QUEUE, {})))


def plain(value: Any) -> Any:
    """Return dataclasses as dictionaries and tuples as lists, as JSON and TOML know them."""
    if is_dataclass(value) and not isinstance(value, type):
        return {one.name: plain(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, tuple | list) else value


def without_none(content: Mapping[str, Any]) -> Content:
    """Leave out what is None, which TOML cannot say: such a key holds its default."""
    return {
        name: without_none(item) if isinstance(item, Mapping) else item
        for name, item in content.items()
        if item is not None
    }
