"""What each page finds when it is executed, and what must be so when it has been.

A page without an entry finds nothing. An entry is a generator: what is before its `yield` comes before the page,
what is after it comes after.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import matplotlib
import pytest
from doc_pages import ROOT, VARIES, Place, blocks

from lfadsrm_hpc.errors import LfadsrmWarning

Around = Callable[[Place, pytest.FixtureRequest], Iterator[None]]
_PREPARED: dict[str, Around] = {}
MARKS: dict[str, tuple[str, ...]] = {}


def page(name: str, *marks: str) -> Callable[[Around], Around]:
    """Register what belongs to a page (its path from the root), and the marks of its test."""

    def note(around: Around) -> Around:
        _PREPARED[name] = around
        MARKS[name] = marks
        return around

    return note


def around(name: str, place: Place, request: pytest.FixtureRequest) -> AbstractContextManager[None]:
    return contextmanager(_PREPARED[name])(place, request) if name in _PREPARED else nullcontext()


def names() -> set[str]:
    return set(_PREPARED)


def small_sweep(place: Place, fabricated: Any, specs: str = "single_day1 both_days", **complete: Any) -> Any:
    """Make `runs/reaching`: two sessions, 4 and 8 factors, two seeds, with results that are made up."""
    from lfadsrm_hpc.api import RunCollection
    from lfadsrm_hpc.collection.params import RunParams
    from lfadsrm_hpc.collection.run_spec import RunSpec

    found = fabricated.sessions(place.folder / "datasets")
    rc = RunCollection(place.folder / "runs", "reaching", found)
    rc.add_params(RunParams(**fabricated.BASE).generate_sweep(factors_dim=[4, 8], seed=[0, 1]))
    for spec in specs.split():
        members = [spec.removeprefix("single_")] if spec.startswith("single_") else found.names
        rc.add_run_spec(RunSpec(spec, found, members))
    with fabricated.quickly():
        rc.prepare_for_lfads(warn=False)
    for number, run in enumerate(rc.runs):
        fabricated.complete(run, **{k: v(number, run) if callable(v) else v for k, v in complete.items()})
    return rc


@contextmanager
def inside(folder: Path) -> Iterator[None]:
    """Stand in a folder meanwhile."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


@contextmanager
def warned() -> Iterator[list[str]]:
    """Collect what the package warns of."""
    texts: list[str] = []
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        yield texts
    texts += [str(one.message) for one in said if issubclass(one.category, LfadsrmWarning)]


@page("docs/quickstart.md", "train", "slow")
def quickstart(place: Place, request: pytest.FixtureRequest) -> Iterator[None]:
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


@page("docs/stitching.md")
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
    assert "poisson" in place.printed


EXPERIMENT = """\
[collection]
name = "reaching"
[params]
spike_bin_ms = 4
co_dim = 0
batch_size = 4
gen_dim = 8
ic_dim = 3
ic_enc_dim = 8
ext_input_dim = 2
num_samples_posterior = 16
[sweep]
factors_dim = [4, 8]
[run_specs]
stitched = "both_days"
"""


class Experiment:
    """The folder `my_experiment` with two sessions, prepared; more runs may come to it."""

    def __init__(self, place: Place, fabricated: Any) -> None:
        self.folder = place.folder / "my_experiment"
        self.fabricated = fabricated
        fabricated.sessions(self.folder / "datasets")
        (self.folder / "experiment.toml").write_text(EXPERIMENT)
        self.rc: Any = None
        self.factors = 8
        self._build()

    def _build(self) -> None:
        from lfadsrm_hpc.api import RunCollection
        from lfadsrm_hpc.collection.experiment import read_experiment

        self.rc = read_experiment(self.folder).build(RunCollection)
        with self.fabricated.quickly():
            self.rc.prepare_for_lfads(warn=False)

    def stop_at_checkpoint(self, number: int = 0) -> None:
        """Let a run be stopped as it is before its walltime ends."""
        self.fabricated.complete(self.rc.runs[number], code=75, reason="timeout")

    def more_runs(self) -> None:
        """Prepare a further value of the sweep; one of its runs was stopped already."""
        self.factors += 1
        path = self.folder / "experiment.toml"
        path.write_text(path.read_text().replace("factors_dim = [", f"factors_dim = [{self.factors}, "))
        self._build()
        self.stop_at_checkpoint()


def perlmutter(request: pytest.FixtureRequest) -> Any:
    """Start a Slurm that takes what is asked of Perlmutter, and starts nothing of it."""
    cluster = request.getfixturevalue("new_slurm")(nodes=1, cpus=128, gpus=4, memory_mb=256 * 1024)
    cluster.run("scontrol", "update", "NodeName=n0", "AvailableFeatures=gpu", "ActiveFeatures=gpu")
    cluster.run("scontrol", "update", "NodeName=n0", "State=DRAIN", "Reason=nothing is to start")
    request.getfixturevalue("monkeypatch").setenv("NERSC_HOST", "perlmutter")
    return cluster


@page("docs/clusters.md")
def clusters(place: Place, request: pytest.FixtureRequest) -> Iterator[None]:
    cluster = perlmutter(request)
    experiment = Experiment(place, request.getfixturevalue("fabricated"))
    experiment.stop_at_checkpoint()
    place.actions["more runs"] = experiment.more_runs
    yield
    assert len(place.names["jobs"]) == 4
    scripts = sorted((experiment.folder / "runs/reaching/.lfadsrm/submissions").glob("*/script-*.sh"))
    assert len(scripts) >= 4
    assert "--qos=shared" in scripts[0].read_text()
    cluster.cancel_all()


@page("docs/sites.md")
def sites(place: Place, request: pytest.FixtureRequest) -> Iterator[None]:
    request.getfixturevalue("slurm")
    request.getfixturevalue("monkeypatch").setenv("LFADSRM_SITE", "")
    yield
    assert (place.folder / ".config/lfadsrm/site_configs/perlmutter.toml").is_file()


@page("docs/manifest.md")
def manifest(place: Place, request: pytest.FixtureRequest) -> Iterator[None]:
    need("jq")
    experiment = Experiment(place, request.getfixturevalue("fabricated"))
    experiment.fabricated.complete(experiment.rc.runs[1], code=1)
    yield
    lines = place.printed.splitlines()
    assert (lines[0], lines[-1]) == (experiment.rc.runs[1].id, "a run has failed")


def need(program: str) -> None:
    """Skip the page where a program is missing, or fail it where it is required."""
    if shutil.which(program) is None:
        if os.environ.get("LFADSRM_REQUIRE_TOOLS") == "1":
            pytest.fail(f"{program} is not installed, and LFADSRM_REQUIRE_TOOLS=1 asks for it")
        pytest.skip(f"{program} is not installed")


@page("README.md", "train", "slow")
def readme(place: Place, request: pytest.FixtureRequest) -> Iterator[None]:
    """Trainings are made short."""
    from scipy.io import savemat

    from lfadsrm_hpc.data.readers import save_dataset
    from lfadsrm_hpc.data.synthetic import lorenz_sessions

    matplotlib.use("Agg")
    perlmutter(request)
    days = lorenz_sessions(2, n_conditions=4, trials_per_condition=8, duration_ms=400, bin_ms=10, seed=3)
    for name, day in (("day1", days[0]), ("day2", days[1]), ("day1_evening", days[0].isel(trial=slice(6)))):
        savemat(
            place.folder / f"{name}.mat",
            {"spikes": day.spikes.values.transpose(0, 2, 1), "bin_ms": 10.0, "condition": day.condition.values},
        )

    def new_recordings() -> None:
        assert 'RunCollection "example" (4 runs in total)' in place.printed
        assert re.search(r"<xarray.DataArray 'rates' \(trial: 200, time: 100\)>", place.printed)
        assert re.search(r"units: +spikes/s", place.printed)
        known = place.names["ds"].load()
        save_dataset(known.isel(trial=slice(20)), place.folder / "afternoon.h5")
        other = lorenz_sessions(
            4, n_conditions=20, trials_per_condition=4, bin_ms=float(known.attrs["bin_ms"]), mean_rate=9, speed=2
        )[3]
        save_dataset(other, place.folder / "day9.h5")

    def short_training() -> None:
        (place.folder / "my_experiment/datasets/day1_evening.mat").unlink()
        path = place.folder / "my_experiment/experiment.toml"
        short = "max_epochs = 2\nuse_xla = 'off'\nnum_samples_posterior = 4\nbatch_size = 16"
        path.write_text(path.read_text().replace("batch_size = 64", short))

    def more_runs() -> None:
        path = place.folder / "my_experiment/experiment.toml"
        path.write_text(path.read_text().replace("factors_dim = [4, 8]", "factors_dim = [4, 6, 8]"))
        done = place.shell("lfadsrm prepare my_experiment")
        assert done.returncode == 0, done.stderr
        from lfadsrm_hpc.api import RunCollection

        rc = RunCollection.open(place.folder / "my_experiment/runs/my_experiment")
        stopped = rc.find_run("single_day1", factors_dim=6)
        request.getfixturevalue("fabricated").complete(stopped, code=75, reason="timeout")

    place.smaller = {
        "max_epochs=60": "max_epochs=2",
        "max_epochs=50": "max_epochs=2",
        # Which is too short for a good fit.
        "rc.best()": "rc.best(include_bad=True)",
        "lfadsrm best my_experiment": "lfadsrm best my_experiment --include-bad",
    }
    place.actions |= {
        "new recordings": new_recordings,
        "a short training": short_training,
        "more runs": more_runs,
    }
    yield
    assert place.names["later"].sizes["trial"] == 20
    assert (place.folder / "my_experiment/runs/my_experiment/report.html").is_file()
    assert (place.folder / "results.nc").is_file()


@page("docs/tutorials/cluster_sweep.md", "train", "slow")
def cluster_sweep(place: Place, request: pytest.FixtureRequest) -> Iterator[None]:
    """All of it happens on a real Slurm of two nodes, which enforces limits of memory."""
    import json
    from dataclasses import replace

    import numpy as np
    import slurm_cluster

    from lfadsrm_hpc.data.synthetic import lorenz_sessions

    slurm_cluster.need_slurm()
    if not slurm_cluster.cgroups_usable():
        pytest.skip("memory limits need root and cgroups that can be written")
    request.getfixturevalue("new_slurm")(nodes=2, cgroup=True)
    (place.folder / "recordings").mkdir()
    days = lorenz_sessions(
        2, n_conditions=6, trials_per_condition=30, duration_ms=400, bin_ms=10, mean_rate=12, speed=2, seed=5
    )
    for name, day in zip(("day1", "day2"), days, strict=True):
        arrays = {"spikes": day.spikes.values, "bin_ms": 10.0, "condition": day.condition.values}
        np.savez(place.folder / f"recordings/{name}.npz", **arrays)
    # However quick the machine is: a stitched run needs longer than it gets, 20 s, and not much longer.
    text = (ROOT / "docs/tutorials/cluster_sweep.md").read_text()
    (written,) = set(re.findall(r"max_epochs = \d+", text))
    place.measured = {written: "max_epochs = 100"}
    trial = replace(place, folder=place.folder.parent / "trial", recorded=None)
    trial.folder.mkdir()
    before = [block for block in blocks(ROOT / "docs/tutorials/cluster_sweep.md") if block.language == "toml"]
    with inside(trial.folder):
        (trial.folder / "sweep/datasets").mkdir(parents=True)
        for path in (place.folder / "recordings").iterdir():
            (trial.folder / "sweep/datasets" / path.name).write_bytes(path.read_bytes())
        for block in before:
            trial.do(block)
        timed = trial.shell("lfadsrm prepare sweep >&2 && lfadsrm time sweep --seconds 5 --json")
    seconds = json.loads(timed.stdout)["timing"]["seconds_per_epoch"]
    place.measured = {written: f"max_epochs = {round(40 / seconds)}"}
    # Numbers are those of the machine and the hour; so is what stands behind a state, or is judged of a short fit.
    place.varies = re.compile(
        r"(?<= (?:running|pending|timeout) ).*|(?<= completed ).*|(?<= cancelled ).*|(?<= out of memory ).*"
        r"|\b(?:param_)?[a-z2-7]{12}\b|lf[0-9A-Z]{11}|[\d:.]*\d|good|suspect| on \w+"
    )
    yield
    done = place.shell("lfadsrm status sweep --json")
    assert json.loads(done.stdout)["counts"] == {"COMPLETED": 6}


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


@page("docs/how_to/own_site.md")
def own_site(place: Place, request: pytest.FixtureRequest) -> Iterator[None]:
    request.getfixturevalue("slurm")
    Experiment(place, request.getfixturevalue("fabricated"))
    # The name of this machine, and the version of its Slurm.
    place.varies = re.compile(rf"(?<=hostnames = ).*|(?<=with slurm )[\d.]+|{VARIES.pattern}")
    yield
    assert (place.folder / ".config/lfadsrm/site_configs/ourcluster.toml").is_file()


@page("docs/how_to/preempted_jobs.md")
def preempted_jobs(place: Place, request: pytest.FixtureRequest) -> Iterator[None]:
    cluster = perlmutter(request)
    experiment = Experiment(place, request.getfixturevalue("fabricated"))

    def preempted() -> None:
        for number in (0, 3):
            experiment.fabricated.complete(experiment.rc.runs[number], code=75, reason="checkpointed")

    place.actions["preempted"] = preempted
    yield
    cluster.cancel_all()


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
