"""What all tests share: a private, real Slurm.

    def test_x(slurm):                       # shared by the session; its jobs are cancelled after each test
        job = slurm.submit("exit 3", "--array=0-1")
        slurm.until(lambda: slurm.states(job).get(1) == "FAILED", "task 1 fails")

    def test_y(new_slurm):                   # one's own, stopped after the test
        cluster = new_slurm(nodes=1, min_job_age=2, max_array_size=4)

    def test_z(slurm_with_accounting): ...   # sacct works, squeue forgets after 10 s; shared by the session

In all of them this process and what it starts speak to that cluster: SLURM_CONF is set, all other SLURM_* and
SBATCH_* are gone, and the daemons' folder is on PATH. All that may be asked of a cluster stands in
`tests/slurm/cluster.py`, which a test may also import as `slurm_cluster`. Where Slurm is not installed these
tests are skipped; with LFADSRM_REQUIRE_TOOLS=1 they fail.
"""

from __future__ import annotations

import contextlib
import cProfile
import ctypes
import fcntl
import gc
import importlib.util
import os
import shutil
import signal
import site
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

# First of all: submitit configures logging when it is imported, which closes the handlers that exist by then.
# TensorFlow's (absl's) would close with itself the file into which pytest catches what tests write.
import submitit  # noqa: F401

# The models of the tests are so small that a second thread of TensorFlow costs more than it gains: with two a
# training takes twice the time of the processors, and half as long again. It is asked when it is imported.
os.environ["LFADSRM_THREADS"] = "1"

# Tests are no package; these names are how they reach the modules.
for _name, _file in (("slurm_cluster", "slurm/cluster.py"), ("disk_readers", "disk_readers.py")):
    _spec = importlib.util.spec_from_file_location(_name, Path(__file__).parent / _file)
    assert _spec is not None
    assert _spec.loader is not None
    _module = importlib.util.module_from_spec(_spec)
    sys.modules[_name] = _module
    _spec.loader.exec_module(_module)
slurm_cluster: Any = sys.modules["slurm_cluster"]

LIMITS = """AccountingStorageEnforce=associations,limits,qos
EnforcePartLimits=ALL
PartitionName=short Nodes=ALL MaxTime=1 State=UP
PartitionName=closed Nodes=ALL State=INACTIVE"""

# What a developer's shell may say to the programs under test, and what it may say to the tests themselves.
FOREIGN = (
    "LFADSRM_", "SLURM_", "SBATCH_", "SQUEUE_", "SACCT_", "SCANCEL_", "PBS_", "SUBMITIT_", "XDG_CONFIG_",
    "COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "CLICOLOR",
)  # fmt: skip
KEPT = ("LFADSRM_REQUIRE_TOOLS", "LFADSRM_TEST_BASH", "LFADSRM_THREADS")

if TYPE_CHECKING:
    from browser import Browser
    from slurm_cluster import SlurmCluster


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int | None:
    """Take three processes for two processors: much of their time tests wait for others."""
    if os.environ.get("PYTEST_XDIST_AUTO_NUM_WORKERS"):
        return None  # xdist takes this
    return (3 * len(os.sched_getaffinity(0)) + 1) // 2


def pytest_collection_finish() -> None:
    """Spare the garbage collector the thousands of tests, which stay to the end."""
    gc.collect()
    gc.freeze()


# What is started in the background of a script, or by nohup, ignores these, and so does all that it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """After the last test of a module give back what TensorFlow keeps of every function that was compiled.

    Some hundred models are built in one process. TensorFlow registers the gradient of each custom function
    for good, and with it the graph around it: without this a process ends with 8 GB, and a quarter of its
    time goes into looking through them for garbage.
    """
    if "tensorflow" not in sys.modules or (nextitem is not None and nextitem.path == item.path):
        return
    from tensorflow.python.eager import context
    from tensorflow.python.framework import ops

    from lfadsrm_hpc.model import backend

    if context._context is None or not context._context._initialized:
        return  # nobody has used it since the last time
    gradients = ops.gradient_registry._registry
    for name in [name for name in gradients if name.startswith("CustomGradient-")]:
        del gradients[name]
    context._reset_context()  # it collects garbage first
    backend._configure()  # which the new context must be told again
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL("libc.so.6").malloc_trim(0)


@pytest.fixture(scope="session", autouse=True)
def _foreign_settings() -> Iterator[None]:
    """Hide the settings of whoever runs the tests, before any other fixture of the session."""
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(FOREIGN) and name not in KEPT:
                patch.delenv(name)
        patch.setenv("LFADSRM_TRUSTED", "/")  # what tests write; those of trust take this away
        # These stay theirs: matplotlib's list of fonts takes seconds to make, and packages may live at home.
        patch.setenv("XDG_CACHE_HOME", os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache"))
        patch.setenv("PYTHONUSERBASE", site.getuserbase())
        yield


@pytest.fixture(autouse=True)
def _own_home(_foreign_settings: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Give each test an empty home: ~/.config/lfadsrm holds sites, templates and defaults of a user."""
    home = tmp_path_factory.getbasetemp() / "home"
    home.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        yield
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], None]], Path]:
    """Return a function that makes a folder for all processes of the tests, once, and returns it.

    It is given the folder's name and what fills it; nobody changes the folder afterwards.
    """
    own = tmp_path_factory.getbasetemp()
    top = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own

    def made(name: str, fill: Callable[[Path], None]) -> Path:
        folder, whole = top / name, top / f"{name}.whole"
        with (top / f"{name}.lock").open("w") as lock:  # a process that dies leaves it
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not whole.exists():
                shutil.rmtree(folder, ignore_errors=True)
                fill(folder)
                whole.touch()
        return folder

    return made


@pytest.fixture
def count_calls() -> Callable[[Callable[[], Any]], tuple[Any, int]]:
    """Return what a function returns and how many calls of Python functions that took.

    What is quick on one machine is slow on a busy one; this number is always the same.
    """

    def counted(work: Callable[[], Any]) -> tuple[Any, int]:
        profile = cProfile.Profile()
        result = profile.runcall(work)
        return result, sum(entry.callcount for entry in profile.getstats())

    return counted


@pytest.fixture(scope="session")
def session_slurm() -> Iterator[SlurmCluster]:
    """The cluster behind `slurm`, which is what a test should ask for."""
    slurm_cluster.need_slurm()
    with slurm_cluster.SlurmCluster() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def session_slurm_with_accounting() -> Iterator[SlurmCluster]:
    slurm_cluster.need_slurm(accounting=True)
    with slurm_cluster.SlurmCluster(accounting=True, min_job_age=2, extra=LIMITS) as cluster:
        yield cluster


@pytest.fixture
def slurm(session_slurm: SlurmCluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[SlurmCluster]:
    """A real Slurm of two nodes (4 CPUs, 2 fake GPUs each), without accounting."""
    session_slurm.use(monkeypatch)
    yield session_slurm
    session_slurm.reset()


@pytest.fixture
def slurm_with_accounting(
    session_slurm_with_accounting: SlurmCluster, monkeypatch: pytest.MonkeyPatch
) -> Iterator[SlurmCluster]:
    """The same with slurmdbd, limits that are enforced, and a live queue that forgets ended jobs soon."""
    session_slurm_with_accounting.use(monkeypatch)
    yield session_slurm_with_accounting
    session_slurm_with_accounting.reset()


@pytest.fixture
def new_slurm(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., SlurmCluster]]:
    """Start a cluster with options of one's own (`slurm_cluster.Options`); the last one started is in use."""
    with contextlib.ExitStack() as stack:

        def start(**options: Any) -> SlurmCluster:
            slurm_cluster.need_slurm(accounting=bool(options.get("accounting")))
            if options.get("cgroup"):  # one at a time: nodes of two clusters have cgroups of the same names
                lock = stack.enter_context((Path(tempfile.gettempdir()) / "lfadsrm-cgroups.lock").open("w"))
                fcntl.flock(lock, fcntl.LOCK_EX)
            cluster = stack.enter_context(slurm_cluster.SlurmCluster(**options))
            cluster.use(monkeypatch)
            return cluster

        yield start


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A real Chromium (`tests/browser.py`), or a skip; with LFADSRM_REQUIRE_TOOLS=1 its absence fails."""
    spec = importlib.util.spec_from_file_location("browser", Path(__file__).parent / "browser.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["browser"] = module
    spec.loader.exec_module(module)
    module.need_chromium()
    with module.Browser() as running:
        yield running


@pytest.fixture(scope="session")
def fabricated() -> Any:
    """The module `tests/results/fabricated.py`: collections whose runs look complete, without training."""
    spec = importlib.util.spec_from_file_location(
        "fabricated", Path(__file__).parent / "results/fabricated.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fabricated"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def sweep(fabricated: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A collection to read from: 2 factors x 2 seeds, day1 alone and both days stitched.

    The stitched run of the last params never ran.
    """
    from lfadsrm_hpc.api import RunCollection
    from lfadsrm_hpc.collection.params import RunParams

    rc = fabricated.collection(
        tmp_path_factory.mktemp("sweep"),
        RunParams(**fabricated.BASE).generate_sweep(factors_dim=[2, 4], seed=[0, 1]),
        specs={"single_day1": ["day1"], "both": ["day1", "day2"]},
    )
    for number, run in enumerate(rc.runs[:-1]):
        fabricated.complete(run, valid_costs=(5, 4, 3 + number / 10), metrics={"co_bps": 0.3 + number / 100})
    return RunCollection.open(rc.path)


@pytest.fixture
def make(fabricated: Any, tmp_path: Path) -> Callable[..., Any]:
    """Make a collection of one's own, with all its runs complete unless `done` says how many are."""

    def made(params: Any = None, *, done: int | None = None, specs: Any = None, **session: Any) -> Any:
        rc = fabricated.collection(tmp_path, params, specs=specs, **session)
        for run in rc.runs[:done]:
            fabricated.complete(run)
        return rc

    return made


@pytest.fixture(scope="session")
def matlab() -> Any:
    """The module `tests/results/matlab_collection.py`: collections of the Matlab run manager."""
    spec = importlib.util.spec_from_file_location(
        "matlab_collection", Path(__file__).parent / "results/matlab_collection.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["matlab_collection"] = module
    spec.loader.exec_module(module)
    return module
