"""What pages find that are about data, models and results: collections that are made up."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator

import matplotlib
import pytest
from doc_pages import ROOT, Place, blocks
from doc_prepared import page, small_sweep, warned


@page("docs/quickstart.md", "train", "slow")
def quickstart(place: Place, request: pytest.FixtureRequest) -> Iterator[None]:
    # Compiling pays in longer trainings.
    place.smaller = {
        "max_epochs=5, ": "max_epochs=5, use_xla='off', num_samples_posterior=8, ",
        "max_epochs = 5 ": "max_epochs = 5\nuse_xla = 'off'\nnum_samples_posterior = 8 ",
    }
    yield
    n = place.names
    assert (place.folder / "learning_curves.png").stat().st_size > 1000
    assert dict(n["pm"].rates.sizes) == {"trial": 90, "time": 50, "neuron": n["pm"].sizes["neuron"]}
    assert n["average"].sizes["condition"] == 6
    assert n["held_back"].sizes["trial"] == 18
    assert [group.rpartition("/")[2] for group in n["tree"].groups[-2:]] == ["day1", "day2"]


@page("docs/readers.md", "train", "slow")
def readers(place: Place, request: pytest.FixtureRequest) -> Iterator[None]:
    # The page speaks of the file's options before it makes one.
    (makes,) = [b for b in blocks(ROOT / "docs/readers.md") if "NWBHDF5IO" in b.text]
    exec(makes.text, {})
    (place.folder / "recordings/odd").mkdir(parents=True)
    for name in ("recordings/day1.nwb", "recordings/odd/day7.nwb"):
        (place.folder / name).write_bytes((place.folder / "day1.nwb").read_bytes())
    yield
    n = place.names
    assert dict(n["session"].sizes) == {"trial": 45, "time": 160, "neuron": 11, "hand_channel": 2}
    assert n["day2"].load().spikes.shape == (20, 40, 5)
    assert n["day4"].load().hand.shape == (30, 500, 2)
    assert n["dc"]["grating1"].load().sizes["trial"] == 38
    assert n["params"].held_out_neurons == (15, 16, 17, 18, 19)
    assert n["params"].forward_prediction_bins == 10
    assert n["free"].rates.sizes == {"time": 3000, "neuron": 12}
    assert not n["free"].rates.isnull().any()
    assert set(n["free"].split.values) == {"train", "valid"}
    assert (place.folder / "reaching/runs/reaching/collection.json").is_file()


@page("docs/stitching.md", "slow")
def stitching(place: Place, request: pytest.FixtureRequest) -> Iterator[None]:
    matplotlib.use("Agg")
    yield
    assert (place.folder / "alignment.png").stat().st_size > 1000
    assert "own principal components" in str(place.names["caught"][-1].message)
    assert (place.folder / "runs").is_dir()


@page("docs/plots.md")
def plots(place: Place, request: pytest.FixtureRequest) -> Iterator[None]:
    """The code of the page draws the pictures of the page, from runs that are made up."""
    sys.path.insert(0, str(ROOT / "tests/results"))
    import pictures
    from made_up_runs import build

    from lfadsrm_hpc.results import plots

    build(place.folder / "runs")
    with plots.style("light"):
        yield
    shown = re.findall(r"\]\(images/(.*?)\)", (ROOT / "docs/plots.md").read_text())
    assert sorted(shown) == sorted(path.name for path in place.folder.glob("*.png"))
    for name in shown:
        stored = ROOT / "docs/images" / name
        assert stored.stat().st_size < 60_000
        one, two = (pictures.read(path)[::2, ::2] for path in (place.folder / name, stored))
        found = pictures.difference(one, two, shift=pictures.SHIFT)
        assert found < 0.55 * pictures.content(two), f"{name}: python docs/images/draw.py draws it again"
    assert (place.folder / "sweep.pdf").read_bytes().startswith(b"%PDF")
    assert place.names["found"].frequency_hz[0] == pytest.approx(2, rel=1e-3)


@page("docs/report.md")
def report(place: Place, request: pytest.FixtureRequest) -> Iterator[None]:
    """The page's collection is there, with results that are made up."""
    small_sweep(
        place,
        request.getfixturevalue("fabricated"),
        metrics=lambda _, run: {"co_bps": 0.1 + run.params.seed / 10},
        verdict="good",
    )
    yield
    for name in ("runs/reaching/report.html", "day1.html", "seed0.html", "reaching.html", "chosen.html"):
        assert (place.folder / name).read_text().startswith("<!doctype html>")
    assert place.names["page"].shown == (place.names["chosen"][0].id,)
    assert (place.folder / "tensorboard.sh").read_text().count("ln -s") == 4
    for name in re.findall(r"\]\(images/(.*?)\)", (ROOT / "docs/report.md").read_text()):
        assert (ROOT / "docs/images" / name).stat().st_size < 150_000


@page("docs/metrics.md", "train", "slow")
def metrics(place: Place, request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    found = place.names["metrics"]
    assert {"bits_per_spike", "co_bps", "fp_bps", "rate_r2", "psth_r2"} == set(found.metrics)
    assert found.verdict == "bad"  # ten epochs
    assert (place.folder / "submission.h5").is_file()


@page("docs/results.md")
def results(place: Place, request: pytest.FixtureRequest) -> Iterator[None]:
    """The page's sweep is there, with results that are made up: training it would take minutes."""
    rc = small_sweep(
        place,
        request.getfixturevalue("fabricated"),
        "single_day1 single_day2 both_days",
        valid_costs=lambda number, _: (9, 8, 7 - number / 10),
    )
    with warned() as said:
        yield
    (padded,) = said
    assert "factor is padded with NaN to 8" in padded
    n = place.names
    assert n["held_back"].sizes["trial"] == 4
    assert n["everyone"].sizes == {"time": 10, "neuron": 11}
    assert n["apart"].spikes.dims == ("split", "condition", "time", "neuron")
    assert len(n["tree"].leaves) == 8
    assert n["neuron"].dims == ("seed", "trial", "time")
    assert n["best"].run.id == rc.runs[3].id
    assert (place.folder / "reproduced/reaching").is_dir()
    assert (place.folder / "reproduce_both.py").is_file()
    assert (place.folder / "best.json").stat().st_size > 1000


@page("docs/legacy.md")
def legacy(place: Place, request: pytest.FixtureRequest) -> Iterator[None]:
    """A collection of the Matlab run manager and one of ours are there, made up."""
    matplotlib.use("Agg")
    request.getfixturevalue("matlab").Made(place.folder / "matlab/runs/reaching")
    small_sweep(place, request.getfixturevalue("fabricated"))
    with warned() as said:
        yield
    padded, left_out = said
    assert "factor is padded" in padded
    assert "standard deviations" in left_out
    n = place.names
    assert n["psth"].sizes["condition"] == 3
    assert n["best"].params.factors_dim == 2
    assert n["rates"].sizes == {"trial": 20, "time": 10, "neuron": 5}
    assert n["params"].sizes["factor"] == 8
    assert len(n["tree"].leaves) == 4
    assert len(n["again"].runs) == 4
    assert (place.folder / "rates.nc").stat().st_size > 1000
    assert (place.folder / "old.nc").stat().st_size > 1000
    assert (place.folder / "for_matlab/single/summary.txt").is_file()


@page("docs/model.md", "train", "slow")
def model(place: Place, request: pytest.FixtureRequest) -> Iterator[None]:
    (place.folder / "tests").symlink_to(ROOT / "tests")
    yield
    assert "all 16 tensors agree within 2e-05" in place.printed


@page("docs/how_to/own_loader.md")
def own_loader(place: Place, request: pytest.FixtureRequest) -> Iterator[None]:
    from lfadsrm_hpc.data.formats import registry

    # What the page registers must not reach other tests.
    request.getfixturevalue("monkeypatch").setattr(registry, "REGISTERED", {})
    yield
    sys.modules.pop("my_lab.reading", None)
    sys.modules.pop("my_lab", None)
    assert float(place.names["counts"].mean()) == pytest.approx(10 * 0.005, rel=0.1)
    assert (place.folder / "runs/reaching/collection.json").is_file()


@page("docs/how_to/from_run_manager.md")
def from_run_manager(place: Place, request: pytest.FixtureRequest) -> Iterator[None]:
    matplotlib.use("Agg")
    fabricated = request.getfixturevalue("fabricated")
    request.getfixturevalue("matlab").Made(place.folder / "matlab/runs/reaching")

    def trained() -> None:
        for run in place.names["rc"].runs:
            fabricated.complete(run)

    place.actions["trained"] = trained
    with warned():
        yield
    assert place.names["rc"].find_run("all", factors_dim=3).params.split == "given"
    assert set(place.names["here"].split.values) == {"train", "valid"}


@page("docs/how_to/from_autolfads.md")
def from_autolfads(place: Place, request: pytest.FixtureRequest) -> Iterator[None]:
    import h5py
    import numpy as np

    fabricated = request.getfixturevalue("fabricated")

    def trained() -> None:
        for number, run in enumerate(place.names["rc"].runs):
            fabricated.complete(run, metrics={"co_bps": 0.1 + number / 100}, verdict="good")

    def old_results() -> None:
        with h5py.File("posterior_samples.h5", "w") as file:
            for split, own in (("train", np.arange(40)), ("valid", np.arange(40, 50))):
                file[f"{split}_rates"] = np.ones((len(own), 45, 20))
                file[f"{split}_inds"] = own

    place.actions |= {"trained": trained, "old results": old_results}
    yield
    assert place.names["best"].run.id == place.names["rc"].runs[-1].id
    assert len(place.names["near"]) == 10
