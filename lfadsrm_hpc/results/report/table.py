"""The table of runs as the report page shows it: columns of texts, and numbers to sort them by."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lfadsrm_hpc.collection.words import value_text
from lfadsrm_hpc.results.report.quality import ORDER
from lfadsrm_hpc.results.runs.best import COSTS

if TYPE_CHECKING:
    import pandas as pd

UNKNOWN = "–"
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
# what is not shown until somebody asks for it
_HIDDEN = frozenset({"params", "valid_cost", "lowest_valid_epoch", "started", "ended", "gpu"})


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes
    ----------
    name, label, title : str
        In `runs_table`, on the page, and in words.
    kind : str
        "number" (to the right), "text", "state" or "verdict".
    texts : list of str
        What is shown, a run each.
    keys : list of (float or None), optional
        By what rows are sorted where the texts do not say.
    shown : bool
        At first.
    better : str
        "high", "low", or "" where it means neither.
    """

    name: str
    label: str
    title: str
    kind: str
    texts: Sequence[str]
    keys: Sequence[float | None] | None = None
    shown: bool = True
    better: str = ""


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
    list of Column
        Those in which anything is known.
    """
    swept, metrics = list(table.attrs["swept"]), list(table.attrs["metrics"])
    metrics.sort(key=lambda name: name != metric)
    order = ["state", "verdict", "spec", "params", *metrics, "lowest_valid_cost", *swept]
    found = []
    for name in [*order, *(str(one) for one in table.columns if one not in (*order, "reasons"))]:
        raw = [None if name not in swept and _is_missing(one) else one for one in table[name].tolist()]
        if name in swept or any(one is not None for one in raw):
            found.append(_column(name, raw, is_swept=name in swept, is_metric=name in metrics))
    return found


def _column(name: str, raw: Sequence[Any], *, is_swept: bool, is_metric: bool) -> Column:
    label, title = _LABELS.get(name, name), _TITLES.get(name, "")
    shown = name not in _HIDDEN and not (name == "spec" and len(set(raw)) == 1)
    if is_swept:
        numbers = all(isinstance(one, int | float) and not isinstance(one, bool) for one in raw)
        return Column(name, label, title, "number" if numbers else "text", [value_text(one) for one in raw])
    if name == "seconds":
        texts = [UNKNOWN if one is None else duration(one) for one in raw]
        return Column(name, label, title, "number", texts, [None if v is None else round(v) for v in raw])
    if name in ("started", "ended"):
        texts = [UNKNOWN if one is None else f"{one:%Y-%m-%d %H:%M}" for one in raw]
        return Column(name, label, title, "text", texts, shown=shown)
    if name == "state":
        return Column(name, label, title, name, [word(one) for one in raw])
    if name == "verdict":
        return Column(
            name, label, title, name, [str(one or UNKNOWN) for one in raw], [_place(one) for one in raw]
        )
    if all(isinstance(one, int | float) for one in raw if one is not None):
        cost = name in COSTS
        better = "low" if cost else "high" if is_metric else ""
        return Column(
            name, label, title, "number", _numbers(raw, 4 if is_metric else 5), shown=shown, better=better
        )
    return Column(name, label, title, "text", [str(one or UNKNOWN) for one in raw], shown=shown)


def _numbers(values: Sequence[float | None], digits: int) -> list[str]:
    """Return numbers alike in all rows: the largest has about so many digits."""
    known = [abs(one) for one in values if one is not None and math.isfinite(one)]
    largest = max(known, default=0.0)
    decimals = 0
    if largest and not all(float(one).is_integer() for one in known):
        decimals = min(6, max(0, digits - 1 - math.floor(math.log10(largest))))
    return [
        UNKNOWN if one is None else f"{one:.{decimals}f}" if math.isfinite(one) else str(one)
        for one in values
    ]


def duration(seconds: float) -> str:
    """Return how long something took, in the largest unit that suits.

    Examples
    --------
    >>> [duration(s) for s in (7, 100, 5400, 200000)]
    ['7 s', '1.7 min', '1.5 h', '55.6 h']
    """
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"


def word(state: object) -> str:
    """Return a state as people read it: out of memory."""
    return str(state).lower().replace("_", " ")


def _place(verdict: Any) -> float | None:
    return ORDER.index(verdict) if verdict in ORDER else None


def _is_missing(value: Any) -> bool:
    return value is None or type(value).__name__ in ("NAType", "NaTType") or value != value
