"""The reference of all keys of a site file, made from the schema's own texts, so that it cannot drift."""

from __future__ import annotations

import re
from inspect import cleandoc

from lfadsrm_hpc.schedulers.local import LocalQueueOptions
from lfadsrm_hpc.schedulers.sites.schema import (
    KINDS,
    PARTITIONS,
    QUEUE,
    keys_of,
    plain,
    queue_keys,
    table_classes,
)
from lfadsrm_hpc.schedulers.sites.writing import toml_value

_ATTRIBUTE = re.compile(r"^(\w+(?:, \w+)*) : ([^\n]+)((?:\n(?: {4}[^\n]*|\s*)(?=\n|$))*)", re.MULTILINE)


def key_texts(table: str) -> dict[str, str]:
    """Return what the schema says of each key of a table; "" of those that need no words."""
    return {**dict.fromkeys(keys_of(table), ""), **_doc_texts(table_classes()[table])}


def _doc_texts(cls: type) -> dict[str, str]:
    found = {}
    for match in _ATTRIBUTE.finditer(cleandoc(cls.__doc__ or "")):
        for name in match[1].split(", "):
            found[name] = " ".join(match[3].split())
    return found


def table_text(table: str) -> str:
    """Return the first paragraph about a table, without its name."""
    doc = cleandoc(table_classes()[table].__doc__ or "")
    first = " ".join(doc.split("\n\n")[0].split())
    return re.sub(r"^\[[^\]]*\][:.]?\s*|^\[[^\]]*\]", "", first)


def reference() -> str:
    """Return the reference as Markdown: for each table, its keys with type, default and meaning."""
    parts = []
    for table in table_classes():
        shown = f"{PARTITIONS}.NAME" if table == PARTITIONS else table
        text = table_text(table)
        parts.append(f"### `[{shown}]`\n" + (f"\n{_escape(text[0].upper() + text[1:])}\n" if text else ""))
        rows = ["| key | type | default | meaning |", "| --- | --- | --- | --- |"]
        texts = key_texts(table)
        for name, key in keys_of(table).items():
            default = "none" if key.default is None else f"`{toml_value(plain(key.default))}`"
            rows.append(f"| `{name}` | {KINDS[key.kind]} | {default} | {_escape(texts[name])} |")
        parts.append("\n".join(rows) + "\n")
    parts.append(f"### `[{QUEUE}]`\n\nOptions of the local queue, which the site `local` uses.\n")
    rows = ["| key | meaning |", "| --- | --- |"]
    texts = _doc_texts(LocalQueueOptions)
    rows += [f"| `{name}` | {_escape(texts.get(name, ''))} |" for name in queue_keys()]
    parts.append("\n".join(rows) + "\n")
    return "\n".join(parts)


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    print(reference(), end="")
