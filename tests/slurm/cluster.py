"""A real Slurm on this host for the tests: no systemd, no munge, no fixed ports, one private directory.

Works as root and as an ordinary user. Every daemon runs in the foreground as a child of this process, so
`stop` ends and reaps exactly what `start` began. Nothing listens beyond 127.0.0.1.

How to use it is told by the fixtures in `tests/conftest.py`; with options of one's own:

    with SlurmCluster(nodes=2, min_job_age=2) as cluster:
        cluster.use(monkeypatch)        # this process and what it starts now speak to this cluster
        job = cluster.submit("sleep 60", "--array=0-3")
        cluster.until(lambda: cluster.states(job).get(0) == "RUNNING", "task 0 runs")
        cluster.kill_node("n0")         # kill -9 of a slurmd; its jobs' processes go on
        cluster.start_node("n0")
        cluster.stop_controller(), cluster.start_controller()
"""

from __future__ import annotations

import contextlib
import getpass
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import pytest

SBIN = "/usr/sbin:/usr/local/sbin:/usr/bin:/bin"
# What a user's shell, or a job that these tests run in, may have set for Slurm's client programs.
FOREIGN = ("SLURM_", "SLURMD_", "SBATCH_", "SQUEUE_", "SACCT_", "SCANCEL_", "SALLOC_", "SRUN_", "SINFO_")
CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Options:
    """What a private cluster can be.

    Attributes
    ----------
    nodes, cpus, memory_mb, gpus : int
        Nodes n0, n1, ...; CPUs, memory in MiB and fake GPUs of each.
    max_array_size, max_job_count : int
        Slurm's MaxArraySize (the largest index is one less) and MaxJobCount.
    min_job_age : int
        Seconds after which an ended job is forgotten (at least 2; Slurm looks once in a while only).
    slurmd_timeout : int
        Seconds of silence after which a node is down.
    accounting : bool
        slurmdbd and mariadb, so that sacct works.
    cgroup : bool
        Memory limits are enforced: needs root and cgroups (`cgroups_usable`).
    extra : str
        More lines at the end of slurm.conf.
    """

    nodes: int = 2
    cpus: int = 4
    memory_mb: int = 4000
    gpus: int = 2
    max_array_size: int = 10001
    max_job_count: int = 20000
    min_job_age: int = 300
    slurmd_timeout: int = 10
    accounting: bool = False
    cgroup: bool = False
    extra: str = ""


class SlurmCluster:
    """A Slurm with a controller and nodes on this host; `Options` are its keyword arguments."""

    def __init__(self, **options: int | bool | str) -> None:
        self.options = Options(**options)  # type: ignore[arg-type]
        self.nodes = [f"n{i}" for i in range(self.options.nodes)]
        # A short path: that of a unix socket may not exceed 107 bytes.
        self.folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))
        self.user = getpass.getuser()
        self.host = socket.gethostname().split(".")[0]
        self.daemons: dict[str, subprocess.Popen[bytes]] = {}
        self.env = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
        self.env["SLURM_CONF"] = str(self.conf)
        self.env["PATH"] = f"{self.env.get('PATH', '')}:{SBIN}"

    @property
    def conf(self) -> Path:
        return self.folder / "etc/slurm.conf"

    def __enter__(self) -> SlurmCluster:
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # What tests ask of it

    def use(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let this process, and what it starts, speak to this cluster and to no other."""
        for name in list(os.environ):
            if name.startswith(FOREIGN):
                monkeypatch.delenv(name)
        monkeypatch.setenv("SLURM_CONF", str(self.conf))
        monkeypatch.setenv("PATH", self.env["PATH"])

    def run(self, *args: object, check: bool = True, timeout: float = 90) -> str:
        """Return what a program prints; with `check`, its standard error is in the failure's text."""
        command = [str(arg) for arg in args]
        done = subprocess.run(
            command, env=self.env, timeout=timeout, text=True, errors="replace", capture_output=True
        )
        if check and done.returncode:
            raise AssertionError(f"{' '.join(command)}: status {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout.strip()

    def submit(self, body: str, *options: str) -> str:
        """Submit lines of shell with options of sbatch; return the job's id."""
        script = self.folder / f"job-{time.monotonic_ns()}.sh"
        script.write_text(f"#!/bin/bash\n{body}\n")
        quiet = f"--output={self.folder}/out/%A_%a.txt"
        out = self.run(
            "sbatch", "--parsable", "--mem=10", f"--chdir={self.folder}/out", quiet, *options, script
        )
        return out.split(";")[0]

    def states(self, job: str) -> dict[int, str]:
        """Return what scontrol says of a job's tasks, by index; -1: a job that is no array.

        Pending tasks of an array stand under each of their indices. Empty: the job is not known (any more).
        """
        found: dict[int, str] = {}
        text = self.run("scontrol", "-o", "show", "job", job, check=False)
        for line in text.splitlines():
            state = re.search(r"\bJobState=(\S+)", line)
            if state is None:
                continue
            task = re.search(r"\bArrayTaskId=(\S+)", line)
            for index in indices(task.group(1)) if task else [-1]:
                found[index] = state.group(1)
        return found

    def until(self, true: Callable[[], object], what: str, timeout: float = 90, every: float = 0.05) -> None:
        """Wait for something; a daemon that dies meanwhile, or the time limit, fails with all logs."""
        end = time.monotonic() + timeout
        while not true():
            dead = [name for name, process in self.daemons.items() if process.poll() is not None]
            if dead or time.monotonic() > end:
                raise AssertionError(f"waited in vain: {what}; dead: {dead}\n{self.logs()}")
            time.sleep(every)

    def start_again(self, job: str) -> None:
        """Wait until a requeued job runs again, which Slurm would let it do after two minutes only.

        A start in the second of the requeue is refused by slurmd, and the job would end as FAILED.
        """
        asked = 0.0

        def runs() -> bool:
            nonlocal asked
            # Again and again: the end of the first start, which may be late, sets the two minutes.
            if time.monotonic() - asked > 6:
                self._works("scontrol", "update", f"JobId={job}", "StartTime=now+3")
                asked = time.monotonic()
            return "RUNNING" in self.states(job).values()

        self.until(runs, f"job {job} runs again", 60, every=0.2)

    def logs(self) -> str:
        files = sorted((self.folder / "log").iterdir())
        return "\n".join(f"--- {file.name}\n{file.read_text(errors='replace')[-1500:]}" for file in files)

    def kill_node(self, node: str) -> None:
        """Kill -9 a node's slurmd. Slurm notices after SlurmdTimeout; the jobs' processes go on."""
        self._end(f"slurmd.{node}", signal.SIGKILL)

    def start_node(self, node: str) -> None:
        """Start a node's slurmd, unless it runs."""
        if f"slurmd.{node}" not in self.daemons:
            self._spawn(f"slurmd.{node}", "slurmd", "-D", "-N", node)

    def stop_controller(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End slurmctld: client programs fail after their retries."""
        self._end("slurmctld", how)

    def start_controller(self, timeout: float = 90) -> None:
        """Start slurmctld, unless it runs, and wait until it answers. It knows its jobs from its files."""
        if "slurmctld" not in self.daemons:
            self._spawn("slurmctld", "slurmctld", "-D")
        self.until(lambda: self._works("scontrol", "ping"), "slurmctld answers", timeout)

    @contextlib.contextmanager
    def frozen_controller(self) -> Iterator[None]:
        """Within this, slurmctld takes connections and never answers (SIGSTOP)."""
        process = self.daemons["slurmctld"]
        process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            process.send_signal(signal.SIGCONT)

    def stop_accounting(self) -> None:
        """End slurmdbd: sacct fails, and slurmctld keeps what it would have told it."""
        self._end("slurmdbd")

    def start_accounting(self) -> None:
        if "slurmdbd" not in self.daemons:
            self._spawn("slurmdbd", "slurmdbd", "-D")
        self.until(lambda: self._works("sacctmgr", "-n", "-i", "show", "cluster"), "slurmdbd answers", 90)

    def reset(self) -> None:
        """Bring back what a test took down, and end all jobs."""
        for process in self.daemons.values():
            process.send_signal(signal.SIGCONT)
        if self.options.accounting:
            self.start_accounting()
        self.start_controller()
        for node in self.nodes:
            self.start_node(node)
        self.cancel_all()
        self._nodes_idle()

    def cancel_all(self, timeout: float = 90) -> None:
        """Cancel every job and wait until none is queued or running."""

        def none_left() -> bool:
            self._works("scancel", "-u", self.user)
            return not self.run("squeue", "-h", "-o", "%i", check=False)

        if self.run("squeue", "-h", "-o", "%i", check=False):
            self.until(none_left, "all jobs end", timeout, every=0.2)

    # Life

    def start(self) -> SlurmCluster:
        self._configure()
        if self.options.accounting:
            self._start_database()
        self._spawn("slurmctld", "slurmctld", "-D")
        for node in self.nodes:
            self.start_node(node)
        self._nodes_idle()
        return self

    def stop(self) -> None:
        """End every job and daemon that belongs to this cluster, and remove its directory."""
        names = ["slurmctld", *(f"slurmd.{node}" for node in self.nodes)]
        if all(name in self.daemons and self.daemons[name].poll() is None for name in names):
            with contextlib.suppress(AssertionError, OSError, subprocess.SubprocessError):
                self.cancel_all(timeout=60)
        for name in [*names, "slurmdbd", "mariadbd"]:
            self._end(name)
        self._sweep()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _nodes_idle(self) -> None:
        def idle() -> set[str]:
            return set(self.run("sinfo", "-h", "-N", "-t", "idle", "-o", "%N", check=False).split())

        self.until(lambda: idle() == set(self.nodes), "all nodes are idle", 60)

    def _spawn(self, name: str, *args: str) -> None:
        program = shutil.which(args[0], path=self.env["PATH"])
        assert program is not None, args[0]
        with (self.folder / "log" / f"{name}.out").open("ab") as log:
            self.daemons[name] = subprocess.Popen(
                [program, *args[1:]],
                env=self.env,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _end(self, name: str, how: signal.Signals = signal.SIGTERM) -> None:
        process = self.daemons.pop(name, None)
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.send_signal(how)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
        process.wait()

    def _works(self, *args: str) -> bool:
        try:
            return subprocess.run(args, env=self.env, timeout=15, capture_output=True).returncode == 0
        except (OSError, subprocess.TimeoutExpired):
            return False

    def _sweep(self) -> None:
        """Kill what outlived its slurmd.

        Jobs carry this cluster's SLURM_CONF and a job id; a step daemon overwrites its environment with its
        title, but keeps a log in our directory open.
        """
        mark = f"SLURM_CONF={self.conf}".encode()
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if (process / "exe").readlink().name.startswith("slurmstepd"):
                    ours = any(
                        str(file.readlink()).startswith(f"{self.folder}/")
                        for file in (process / "fd").iterdir()
                    )
                else:
                    variables = (process / "environ").read_bytes().split(b"\0")
                    ours = mark in variables and any(v.startswith(b"SLURM_JOB_ID=") for v in variables)
                if ours and int(process.name) != os.getpid():
                    os.kill(int(process.name), signal.SIGKILL)
            except OSError:
                continue

    # Configuration

    def _configure(self) -> None:
        self.folder.chmod(0o755)
        for name in ("etc", "log", "run", "state", "dev", "out"):
            (self.folder / name).mkdir(exist_ok=True)
        control, slurmd, self.dbd_port, self.db_port, *ports = free_ports(4 + len(self.nodes))
        devices = self._devices()
        (self.folder / "etc/gres.conf").write_text(
            "".join(
                f"NodeName={node} Name=gpu File={','.join(devices)} Flags=nvidia_gpu_env\n"
                for node in self.nodes
                if devices
            )
        )
        partition = "Nodes=ALL MaxTime=INFINITE DefaultTime=60 DefMemPerCPU=10 State=UP"
        lines = [
            *self._common_lines(control, slurmd),
            *self._accounting_lines(),
            *self._tracking_lines(),
            *(self._node_line(node, port) for node, port in zip(self.nodes, ports, strict=True)),
            f"PartitionName=debug Default=YES {partition}",
            f"PartitionName=gpu {partition}",
            self.options.extra,
        ]
        self.conf.write_text("\n".join(lines) + "\n")

    def _devices(self) -> list[str]:
        """Return fake GPUs: Slurm wants device nodes, of any kind."""
        if os.geteuid() != 0:
            return [f"/dev/tty{i}" for i in range(self.options.gpus) if Path(f"/dev/tty{i}").exists()]
        names = [self.folder / f"dev/gpu{i}" for i in range(self.options.gpus)]
        for name in names:
            os.mknod(name, 0o666 | 0o020000, os.makedev(1, 3))
        return [str(name) for name in names]

    def _common_lines(self, control: int, slurmd: int) -> list[str]:
        here, options = self.folder, self.options
        return f"""\
ClusterName=pytest
SlurmctldHost={self.host}(127.0.0.1)
SlurmctldPort={control}
SlurmdPort={slurmd}
AuthType=auth/none
CredType=cred/none
SlurmUser={self.user}
SlurmdUser={self.user}
StateSaveLocation={here}/state
SlurmdSpoolDir={here}/spool.%n
SlurmctldPidFile={here}/run/slurmctld.pid
SlurmdPidFile={here}/run/slurmd.%n.pid
SlurmctldLogFile={here}/log/slurmctld.log
SlurmdLogFile={here}/log/slurmd.%n.log
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmdParameters=config_overrides
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0,sched_min_interval=0
PriorityType=priority/basic
ReturnToService=2
SlurmctldTimeout=10
SlurmdTimeout={options.slurmd_timeout}
MessageTimeout=5
InactiveLimit=0
KillWait=2
MinJobAge={options.min_job_age}
MaxJobCount={options.max_job_count}
MaxArraySize={options.max_array_size}
GresTypes=gpu
MailProg=/bin/true""".splitlines()

    def _node_line(self, node: str, port: int) -> str:
        options = self.options
        gres = f" Gres=gpu:{options.gpus}" if options.gpus else ""
        return (
            f"NodeName={node} NodeHostname={self.host} NodeAddr=127.0.0.1 Port={port} CPUs={options.cpus} "
            f"Boards=1 SocketsPerBoard=1 CoresPerSocket={options.cpus} ThreadsPerCore=1 "
            f"RealMemory={options.memory_mb}{gres} State=UNKNOWN"
        )

    def _tracking_lines(self) -> list[str]:
        if not self.options.cgroup:
            return ["ProctrackType=proctrack/linuxproc", "TaskPlugin=task/none"]
        unified = (CGROUPS / "cgroup.controllers").exists()
        plugin = "CgroupPlugin=cgroup/v2\nIgnoreSystemd=yes" if unified else "CgroupPlugin=cgroup/v1"
        (self.folder / "etc/cgroup.conf").write_text(
            f"{plugin}\nCgroupAutomount=no\nConstrainRAMSpace=yes\nConstrainCores=no\n"
            "ConstrainDevices=no\nConstrainSwapSpace=no\n"
        )
        return ["ProctrackType=proctrack/cgroup", "TaskPlugin=task/cgroup"]

    def _accounting_lines(self) -> list[str]:
        if not self.options.accounting:
            return ["AccountingStorageType=accounting_storage/none"]
        here = self.folder
        conf = here / "etc/slurmdbd.conf"
        conf.touch(mode=0o600)
        conf.write_text(
            f"AuthType=auth/none\nDbdHost=localhost\nDbdAddr=127.0.0.1\nDbdPort={self.dbd_port}\n"
            f"SlurmUser={self.user}\nPidFile={here}/run/slurmdbd.pid\nLogFile={here}/log/slurmdbd.log\n"
            "DebugLevel=info\nCommunicationParameters=NoInAddrAny\nCommitDelay=1\n"
            f"StorageType=accounting_storage/mysql\nStorageHost=127.0.0.1\nStoragePort={self.db_port}\n"
            "StorageUser=slurm\nStoragePass=x\nStorageLoc=slurm_acct\n"
        )
        return [
            "AccountingStorageType=accounting_storage/slurmdbd",
            "AccountingStorageHost=127.0.0.1",
            f"AccountingStoragePort={self.dbd_port}",
            "AccountingStorageTRES=gres/gpu",
            "AccountingStoreFlags=job_comment",
        ]

    def _start_database(self) -> None:
        here = self.folder
        data = f"--datadir={here}/mysql"
        login = "--auth-root-authentication-method=normal"
        user = f"--user={self.user}"
        self.run("mariadb-install-db", "--no-defaults", user, data, login, "--skip-test-db", timeout=180)
        server = f"--socket={here}/run/mysql.sock"
        self._spawn(
            "mariadbd", "mariadbd", "--no-defaults", user, data, server,
            f"--pid-file={here}/run/mariadbd.pid", "--bind-address=127.0.0.1", f"--port={self.db_port}",
            "--skip-name-resolve", "--innodb-flush-log-at-trx-commit=0", "--innodb-lock-wait-timeout=900",
            f"--log-error={here}/log/mariadbd.log",
        )  # fmt: skip
        client = ("mariadb", "--no-defaults", "-uroot", server, "-e")
        self.until(lambda: self._works(*client, "select 1"), "mariadbd answers", 90)
        account = "slurm@'127.0.0.1'"
        self.run(
            *client,
            f"CREATE USER {account} IDENTIFIED BY 'x'; GRANT ALL ON slurm_acct.* TO {account}; "
            "CREATE DATABASE slurm_acct",
        )
        self.start_accounting()
        self._works("sacctmgr", "-i", "add", "cluster", "pytest")


def indices(text: str) -> list[int]:
    """Return the indices that a word such as `0-9:3%2` or `1,4-5` names."""
    found: list[int] = []
    for part in text.partition("%")[0].split(","):
        first, _, rest = part.partition("-")
        last, _, step = rest.partition(":")
        found += range(int(first), int(last or first) + 1, int(step or 1))
    return found


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]


def missing(accounting: bool = False) -> Sequence[str]:
    """Return the programs of Slurm that this machine lacks."""
    need = ["slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol"]
    if accounting:
        need += ["slurmdbd", "sacct", "mariadbd", "mariadb", "mariadb-install-db"]
    path = f"{os.environ.get('PATH', '')}:{SBIN}"
    return [name for name in need if shutil.which(name, path=path) is None]


def need_slurm(accounting: bool = False) -> None:
    """Skip the test where programs of Slurm are missing, or fail it where they are required."""
    absent = missing(accounting)
    if absent and os.environ.get("LFADSRM_REQUIRE_TOOLS") == "1":
        pytest.fail(f"not installed, and LFADSRM_REQUIRE_TOOLS=1 asks for it: {', '.join(absent)}")
    if absent:
        pytest.skip(f"not installed: {', '.join(absent)}")


def cgroups_usable() -> bool:
    """Return whether a private Slurm can limit memory here: root, and a cgroup tree that it may write to."""
    if os.geteuid() != 0:
        return False
    if (CGROUPS / "cgroup.controllers").exists():
        return "memory" in (CGROUPS / "cgroup.controllers").read_text() and os.access(CGROUPS, os.W_OK)
    need = ("memory", "freezer", "cpuset")
    return all(os.access(CGROUPS / name, os.W_OK) for name in need)
