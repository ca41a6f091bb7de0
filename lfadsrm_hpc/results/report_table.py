"""The table of runs as the report page holds it: columns of short values, which the page makes rows of.

A thousand runs are a quarter of a megabyte so: words that come again and again are numbers of levels, and
numbers have as many digits as are shown.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from lfadsrm_hpc.collection.summary import value_text
from lfadsrm_hpc.manifest.states import RunState
from lfadsrm_hpc.results.best import COSTS

if TYPE_CHECKING:
    import pandas as pd

Column = dict[str, Any]

VERDICTS = ("good", "suspect", "bad")
_LABELS = {
    "spec": "run spec",
    "attempts": "tries",
    "valid_cost": "last cost",
    "lowest_valid_cost": "lowest cost",
    "lowest_valid_epoch": "at epoch",
    "seconds": "time spent",
    "peak_memory_mb": "peak MB",
    "bits_per_spike": "bits/spike",
    "co_bps": "co-bps",
    "fp_bps": "fp-bps",
    "rate_r2": "rate R²",
    "psth_r2": "PSTH R²",
    "latent_r2": "latent R²",
    "decoding_r2": "decoding R²",
}
_TITLES = {
    "attempts": "tries at the run that began",
    "valid_cost": "validation cost of the last epoch, nats per trial",
    "lowest_valid_cost": "lowest validation cost with both ramps complete, nats per trial",
    "lowest_valid_epoch": "epoch of the lowest validation cost",
    "seconds": "time spent in all tries, as far as it is on record",
    "peak_memory_mb": "greatest resident memory, MB",
    "bits_per_spike": "bits per spike of the validation trials",
    "co_bps": "co-smoothing: bits per spike of neurons that the encoders did not see",
    "fp_bps": "forward prediction: bits per spike of bins that the encoders did not see",
    "rate_r2": "R² of rates against the true ones",
    "psth_r2": "R² of averages by condition against those of spikes",
    "latent_r2": "R² of true latents from factors",
    "decoding_r2": "R² of behaviour decoded from rates",
}
# what a narrow screen shows at first, besides the run and the metric that runs are compared by
_ON_PHONES = frozenset({"state", "verdict", "lowest_valid_cost"})
_HIDDEN = frozenset({"valid_cost", "lowest_valid_epoch", "gpu", "started", "ended", "spec", "params"})
_MOST_CHOICES = 60  # different texts of a column that are worth a list of levels


def columns_of(table: pd.DataFrame, metric: str | None) -> list[Column]:
    """Return the columns of the page.

    Parameters
    ----------
    table : pandas.DataFrame
        Of `runs_table`.
    metric : str or None
        By which runs are compared: it comes first among the scores.

    Returns
    -------
    list of dict
        `name`, `label`, `title`, `kind` ("category": `values` are numbers of `levels`; "number", "time" (s
        since 1970), "duration" (s), "text"), `values` (null: not known), `group`, `shown` and `phone`
        (whether it is shown at first), `better` ("high", "low") and `decimals` where they mean something.
        Columns in which nothing is known are left out.
    """
    swept, metrics = list(table.attrs["swept"]), list(table.attrs["metrics"])
    metrics.sort(key=lambda name: name != metric)
    order = ["spec", "params", "state", "verdict", *metrics, "lowest_valid_cost", *swept]
    found = []
    for name in [*order, *(str(one) for one in table.columns if one not in (*order, "reasons"))]:
        group = "params" if name in swept else "metrics" if name in metrics or name in COSTS else "about"
        column = _column(name, table[name].tolist(), group)
        if all(value is None for value in column["values"]):
            continue
        column["phone"] = name in _ON_PHONES or name == metric
        found.append(column)
    return found


def _column(name: str, raw: Sequence[Any], group: str) -> Column:
    values = [None if _is_missing(one) else one for one in raw]
    about: Column = {
        "name": name,
        "label": _LABELS.get(name, name),
        "title": _TITLES.get(name, ""),
        "group": group,
        "shown": name not in _HIDDEN,
    }
    if name in ("started", "ended"):
        return about | {"kind": "time", "values": [None if v is None else round(v.timestamp()) for v in values]}
    if name == "seconds":
        return about | {"kind": "duration", "values": [None if v is None else round(v) for v in values]}
    if group == "params":
        return about | _swept(raw)
    if name in ("state", "verdict"):
        order = [state.value for state in RunState] if name == "state" else VERDICTS
        return about | _levels(values, sorted(_words(values), key=lambda word: _place(word, order)))
    if name in ("spec", "host", "gpu"):
        return about | _levels(values, list(_words(values)))
    if all(isinstance(one, int | float) for one in values if one is not None):
        better = {} if group != "metrics" else {"better": "low" if name in COSTS else "high"}
        return about | better | _numbers(values)
    return about | {"kind": "text", "values": values}


def _swept(raw: Sequence[Any]) -> Column:
    """Return a hyperparameter: None, True and "" are values like others."""
    if all(isinstance(one, int | float) and not isinstance(one, bool) for one in raw):
        return {"kind": "number", "values": [one if math.isfinite(one) else None for one in raw]}
    texts = [value_text(one) for one in raw]
    if len(set(texts)) > _MOST_CHOICES:
        return {"kind": "text", "values": texts}
    return _levels(texts, sorted(_words(texts)))


def _numbers(values: Sequence[float | None]) -> Column:
    """Return numbers with the digits that are shown: about five, alike in all rows."""
    known = [abs(one) for one in values if one is not None]
    if all(float(one).is_integer() for one in known):
        return {"kind": "number", "decimals": 0, "values": [None if v is None else int(v) for v in values]}
    largest = max(known)
    decimals = min(6, max(3 if largest < 10 else 0, 4 - math.floor(math.log10(largest)))) if largest else 3
    return {"kind": "number", "decimals": decimals, "values": [rounded(one, decimals + 1) for one in values]}


def rounded(value: float | None, decimals: int) -> float | None:
    """Return a number with so many decimals; what is not finite has no place in JSON."""
    return round(float(value), decimals) if value is not None and math.isfinite(value) else None


def _levels(values: Iterable[Any], levels: Sequence[str]) -> Column:
    codes = {word: code for code, word in enumerate(levels)}
    chosen = [None if one is None else codes[str(one)] for one in values]
    return {"kind": "category", "levels": list(levels), "values": chosen}


def _words(values: Iterable[Any]) -> dict[str, None]:
    return dict.fromkeys(str(one) for one in values if one is not None)


def _place(word: str, order: Sequence[str]) -> tuple[int, str]:
    return (list(order).index(word) if word in order else len(order)), word


def _is_missing(value: Any) -> bool:
    return value is None or value != value or type(value).__name__ in ("NAType", "NaTType")
