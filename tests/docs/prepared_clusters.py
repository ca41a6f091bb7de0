"""What pages find that are about clusters, and README: experiments, and a real Slurm of their own."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib
import pytest
from doc_pages import ROOT, VARIES, Place, blocks
from doc_prepared import inside, need, page, warned

from lfadsrm_hpc.errors import LfadsrmError

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
        from lfadsrm_hpc.collection.experiment_file import read_experiment

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


@page("README.md", "train", "slow")
def readme(place: Place, request: pytest.FixtureRequest) -> Iterator[None]:
    """Trainings are made short, and fewer."""
    from scipy.io import savemat

    from lfadsrm_hpc.data.readers import save_dataset
    from lfadsrm_hpc.data.synthetic import lorenz_sessions

    matplotlib.use("Agg")
    perlmutter(request)
    days = lorenz_sessions(2, n_conditions=4, trials_per_condition=8, duration_ms=400, bin_ms=10, seed=3)
    for name, day in (("day1", days[0]), ("day2", days[1]), ("day1_evening", days[0].isel(trial=slice(6)))):
        savemat(
            place.folder / f"{name}.mat",
            {
                "spikes": day.spikes.values.transpose(0, 2, 1),
                "bin_ms": 10.0,
                "condition": day.condition.values,
            },
        )

    def new_recordings() -> None:
        assert 'RunCollection "example" (2 runs in total)' in place.printed
        assert re.search(r"<xarray.DataArray 'rates' \(trial: 200, time: 100\)>", place.printed)
        assert re.search(r"units: +spikes/s", place.printed)
        known = place.names["ds"].load()
        save_dataset(known.isel(trial=slice(20)), place.folder / "afternoon.h5")
        other = lorenz_sessions(
            4,
            n_conditions=20,
            trials_per_condition=4,
            bin_ms=float(known.attrs["bin_ms"]),
            mean_rate=9,
            speed=2,
        )[3]
        save_dataset(other, place.folder / "day9.h5")

    def short_training() -> None:
        (place.folder / "my_experiment/datasets/day1_evening.mat").unlink()
        path = place.folder / "my_experiment/experiment.toml"
        short = "max_epochs = 2\nuse_xla = 'off'\nnum_samples_posterior = 4\nbatch_size = 16"
        short += "\nkl_increase_steps = 2\nl2_increase_steps = 2"  # so that there is a lowest_valid_cost
        text = path.read_text().replace("batch_size = 64", short)
        assert 'stitched = "all"' in text
        path.write_text(text.replace('stitched = "all"', "# no run of all sessions"))

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
        "[2, 4, 6, 8]": "[2, 4]",
        "max_epochs=60": (
            "max_epochs=2, use_xla='off', num_samples_posterior=4, kl_increase_steps=2, l2_increase_steps=2"
        ),
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
    with warned() as said:
        yield
    assert any("factor is padded" in text for text in said)
    assert place.names["later"].sizes["trial"] == 20
    assert (place.folder / "my_experiment/runs/my_experiment/report.html").is_file()
    assert (place.folder / "results.nc").is_file()


@contextlib.contextmanager
def held_back(collection: Path, spec: str, runs: int, seconds: float) -> Iterator[None]:
    """Let the first attempts of the runs of a run spec stand still for so long, as on a GPU that hangs."""
    from lfadsrm_hpc.api import RunCollection

    over = threading.Event()
    known: set[str] = set()
    held: dict[int, float] = {}  # until when a process is

    def look() -> None:
        for run in RunCollection.open(collection).find_runs(spec):
            claim = run.status().claim
            if claim is not None and run.id not in known:
                known.add(run.id)
                held[claim.process.pid] = time.monotonic() + seconds
                os.kill(claim.process.pid, signal.SIGSTOP)

    def hold() -> None:
        while not (ended := over.wait(0.5)) or held:
            if len(known) < runs:
                with contextlib.suppress(OSError, LfadsrmError):  # it is not there yet, or in part
                    look()
            for process in [one for one, end in held.items() if ended or time.monotonic() > end]:
                del held[process]
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGCONT)

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    assert len(known) == runs, "the runs were not held back"


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
    # However quick the machine is, a stitched run needs longer than it gets, and not much longer.
    text = (ROOT / "docs/tutorials/cluster_sweep.md").read_text()
    (written,) = set(re.findall(r"max_epochs = \d+", text))
    place.measured = {written: "max_epochs = 100"}
    tmp_path = request.getfixturevalue("tmp_path")
    trial = replace(place, folder=tmp_path / "trial", recorded=None)
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
    # Numbers are those of the machine and the hour; so is what stands behind a state, or is judged of a fit.
    place.varies = re.compile(
        r"(?<= (?:running|pending|timeout) ).*|(?<= completed ).*|(?<= cancelled ).*|(?<= out of memory ).*"
        r"|(?<= try).*|(?<= gpu ).*|\b(?:param_)?[a-z2-7]{12}\b|lf[0-9A-Z]{11}|[\d:.]*\d|good|suspect| on \w+"
    )
    with held_back(place.folder / "sweep/runs/sweep", "both_days", runs=2, seconds=20):
        yield
    done = place.shell("lfadsrm status sweep --json")
    assert json.loads(done.stdout)["counts"] == {"COMPLETED": 6}


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


@page("docs/looking.md")
def looking(place: Place, request: pytest.FixtureRequest) -> Iterator[None]:
    sys.path.insert(0, str(ROOT / "tests/results"))
    from made_up_runs import build

    request.getfixturevalue("slurm")
    request.getfixturevalue("monkeypatch").setenv("LFADSRM_SITE", "generic-slurm")
    experiment = Experiment(place, request.getfixturevalue("fabricated"))
    experiment.fabricated.complete(experiment.rc.runs[1], code=137, reason="out_of_memory")
    build(place.folder / "runs", sweep=False)
    # Whether all is well depends on the machine, and so does what is seen; that it is looked at does not.
    place.varies = re.compile(
        rf"^(?:ok|warning|n/a|PROBLEM) +|(?<=\w: ).*|^  .*|\d+ \w+, .*|process \d+|{VARIES.pattern}"
    )
    yield


@page("docs/early_warnings.md")
def early_warnings(place: Place, request: pytest.FixtureRequest) -> Iterator[None]:
    experiment = Experiment(place, request.getfixturevalue("fabricated"))
    with inside(experiment.folder):
        yield


@page("docs/security.md")
def security(place: Place, request: pytest.FixtureRequest) -> Iterator[None]:
    templates = place.folder / "reaching/templates"
    templates.mkdir(parents=True)
    (templates / "job.sh.j2").write_text("{% include 'lfadsrm/job.sh.j2' %}\n")
    yield


@page("docs/cleaning.md")
def cleaning(place: Place, request: pytest.FixtureRequest) -> Iterator[None]:
    from lfadsrm_hpc.layout import glimpse

    experiment = Experiment(place, request.getfixturevalue("fabricated"))
    for run in experiment.rc.runs:
        experiment.fabricated.complete(run)

    def leftovers() -> None:
        for run in experiment.rc.runs:
            trained = run.layout.checkpoints / "001.r0"
            for path in (trained / "tensorboard/events", glimpse(trained, run.dataset_names[0])):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text("old")

    def another_sweep() -> None:
        file = experiment.folder / "experiment.toml"
        file.write_text(EXPERIMENT.replace("factors_dim = [4, 8]", "factors_dim = [8]"))

    place.actions |= {"leftovers": leftovers, "another sweep": another_sweep}
    # There is no terminal to answer at.
    place.smaller = {
        "lfadsrm clean my_experiment                    #": "lfadsrm clean my_experiment --yes #",
        "single_day2 --restart": "single_day2 --restart --yes",
        "--unnamed              #": "--unnamed --yes #",
    }
    yield
    assert (place.folder / "runs/reaching/collection.json").is_file()
    assert not list(experiment.folder.rglob("tensorboard"))
    left = {run.id for run in experiment.rc.runs if run.path.exists()}
    gone = experiment.rc.find_run("single_day2", factors_dim=4).id
    assert left == {run.id for run in experiment.rc.runs} - {gone}
