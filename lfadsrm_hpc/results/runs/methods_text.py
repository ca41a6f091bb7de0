"""A paragraph for a methods section: what was fitted to what, with which software, and how it ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lfadsrm_hpc._version import __version__
from lfadsrm_hpc.collection.run import Run
from lfadsrm_hpc.collection.words import value_text
from lfadsrm_hpc.results.attaching import Counted, counted
from lfadsrm_hpc.results.model_params import read_origin
from lfadsrm_hpc.results.runs.fit_summary import FitSummary
from lfadsrm_hpc.results.runs.table import fit_summary_of

LFADS_CITATION = (
    "Pandarinath et al., Inferring single-trial neural population dynamics using sequential auto-encoders, "
    "Nature Methods 15, 805-815, 2018, doi:10.1038/s41592-018-0109-9"
)
_WORDS = {
    "co_bps": "co-smoothing bits/spike on withheld neurons",
    "fp_bps": "forward-prediction bits/spike",
    "bits_per_spike": "bits/spike",
    "lowest_valid_cost": "lowest validation cost",
    "valid_cost": "last validation cost",
}
_LIBRARIES = (("tensorflow", "TensorFlow"), ("numpy", "NumPy"), ("python", "Python"))


@dataclass(frozen=True)
class Chosen:
    """How a run was chosen.

    Attributes
    ----------
    metric : str
    value : float
    among : int
        How many runs competed.
    swept : dict of str to list of str
        The params in which they differed, and their values.
    """

    metric: str
    value: float
    among: int
    swept: Mapping[str, Sequence[str]] = field(default_factory=dict)


def methods_paragraph(run: Run, chosen: Chosen | None = None) -> str:
    """Return a paragraph of plain text about a complete run, ready to paste.

    Parameters
    ----------
    run : Run
    chosen : Chosen, optional
        How it was chosen among others.

    Raises
    ------
    ResultsError, NotFoundError
        A file of the run is missing.
    """
    record, origin = run.record(), read_origin(run.layout.model_params)
    data = {name: counted(path) for name, path in run.input_files().items()}
    sentences = [
        _software(run, origin),
        _data(run, data),
        _alignment(run),
        _model(run),
        _training(origin, fit_summary_of(run.layout)),
        _posterior(run),
        _choice(chosen),
        _identity(run, record),
    ]
    return " ".join(sentence for sentence in sentences if sentence)


def _software(run: Run, origin: Mapping[str, Any]) -> str:
    versions = origin.get("versions", {})
    used = ", ".join(f"{label} {versions[name]}" for name, label in _LIBRARIES if name in versions)
    version = versions.get("lfadsrm_hpc", __version__)
    inferred = "firing rates" if _of_spikes(run) else "expected values of continuous data"
    return (
        f"Single-trial {inferred} were inferred with LFADS (latent factor analysis via dynamical systems; "
        f"{LFADS_CITATION}) as implemented in the software lfadsrm_hpc, version {version}"
        + (f" ({used})." if used else ".")
    )


def _data(run: Run, data: Mapping[str, Counted]) -> str:
    texts = [
        f"{name} ({one.train} training and {one.valid} validation trials, {one.neurons} neurons)"
        for name, one in data.items()
    ]
    first = next(iter(data.values()))
    together = "one recording session" if len(data) == 1 else f"{len(data)} recording sessions together"
    return (
        f"The model was fitted to {together}: {_joined(texts)}; "
        f"{'spikes were counted' if _of_spikes(run) else 'data are'} in bins of "
        f"{run.params.spike_bin_ms:g} ms, {first.bins} bins a trial."
    )


def _of_spikes(run: Run) -> bool:
    return run.params.output_dist in ("poisson", "negative_binomial")


def _alignment(run: Run) -> str:
    if not run.params.aligned(run.n_datasets):
        return ""
    how = run.params.alignment_method.replace("_", " ")
    return f"Its read-in and read-out weights started from alignment matrices ({how})."


def _model(run: Run) -> str:
    p = run.params
    inferred = "no inferred inputs" if p.co_dim == 0 else f"{p.co_dim} inferred inputs"
    external = f", {p.ext_input_dim} external inputs" if p.ext_input_dim else ""
    differ = " ".join(
        f"{name}={value_text(value)}"
        for name, value in p.differences().items()
        if p.affects(name) != "nothing"
    )
    return (
        f"It had a generator of {p.gen_dim} units, {p.factors_dim} factors, an initial condition of "
        f"{p.ic_dim} dimensions, {inferred}{external} and a {p.output_dist.replace('_', ' ')} "
        "observation model. "
        + (
            f"Hyperparameters that differ from the defaults of the software: {differ}."
            if differ
            else "All hyperparameters had the defaults of the software."
        )
    )


def _training(origin: Mapping[str, Any], fit: FitSummary | None) -> str:
    ended = "" if fit is None else f"Training ended after {fit.epochs} epochs; "
    kind, epoch = origin.get("kind"), origin.get("epoch")
    if kind == "lve":
        cost = (
            ""
            if fit is None or fit.lowest_valid_cost is None
            else f", {fit.lowest_valid_cost:.6g} nats a trial"
        )
        used = f"the parameters of the lowest validation cost were used (epoch {epoch}{cost})."
    elif kind == "latest":
        used = f"the parameters of the last epoch ({epoch}) were used."
    else:
        return ended.replace("; ", ".")
    return ended + used if ended else "T" + used[1:]


def _posterior(run: Run) -> str:
    what = "Rates and factors" if _of_spikes(run) else "Expected values and factors"
    if run.params.posterior_mean_kind == "posterior_push_mean":
        return f"{what} are those of the posterior means, pushed through the model."
    samples = run.params.num_samples_posterior
    return f"{what} are averages over {samples} samples from the posterior of each trial."


def _choice(chosen: Chosen | None) -> str:
    if chosen is None or chosen.among < 2:
        return ""
    best = "lowest" if chosen.metric.endswith("_cost") else "highest"
    words = _WORDS.get(chosen.metric, chosen.metric).removeprefix("lowest ")
    swept = "; ".join(f"{name}: {', '.join(values)}" for name, values in chosen.swept.items())
    among = f" ({swept})" if swept else ""
    return (
        f"Of {chosen.among} models fitted to these data{among}, this one had the {best} {words}: "
        f"{chosen.value:.4g}."
    )


def _identity(run: Run, record: Mapping[str, Any]) -> str:
    prints = ", ".join(f"{one['dataset']} {str(one['fingerprint'])[:16]}" for one in record["inputs"])
    return (
        f"Seed {run.params.seed}, split seed {run.params.split_seed}; run {run.id}, data hash "
        f"{run.data_hash}; SHA-256 of the data: {prints}."
    )


def _joined(texts: Sequence[str]) -> str:
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"
