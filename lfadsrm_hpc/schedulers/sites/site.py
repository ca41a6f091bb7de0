"""What a site description can say: the schema of `site_configs/*.toml`, version 1.

Each class is a table of the file, each attribute a key; a key that is left out has the default given here.
Times are texts such as "48:00:00", "2-00:00:00", "90m", "30s" or "2d"; sizes are texts such as "16G", "512M"
(`lfadsrm_hpc.schedulers.units`). The texts below are also the reference in docs/sites.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

SCHEMA = 1
SCHEDULERS = ("slurm", "pbspro", "torque", "local")
HISTORIES = ("auto", "sacct", "qstat", "none")
GPU_DIRECTIVES = {
    "slurm": "--gres=gpu{type}:{gpus}",
    "pbspro": "ngpus={gpus}",
    "torque": "gpus={gpus}",
}


@dataclass(frozen=True)
class About:
    """[site]: what it is.

    Attributes
    ----------
    name : str
        The name of its file, without ".toml".
    description : str
        One line about it.
    scheduler : str
        "slurm", "pbspro", "torque" or "local".
    cluster : str
        Name by which the scheduler's client programs address it (Slurm's `--clusters`); "": the only one.
    documentation : tuple of str
        Addresses of the pages that this description was made from.
    verified : str
        The day they were read, YYYY-MM-DD.
    """

    name: str = ""
    scheduler: str = "local"
    description: str = ""
    cluster: str = ""
    documentation: tuple[str, ...] = ()
    verified: str = ""


@dataclass(frozen=True)
class Recognise:
    """[recognise]: how `lfadsrm site detect` knows it; one match is enough.

    Attributes
    ----------
    hostnames : tuple of str
        Patterns (`login*.example.edu`) of the full host name.
    environment : dict of str to str
        Variables and patterns of their values.
    cluster_names : tuple of str
        Patterns of Slurm's ClusterName or of the PBS server's name.
    """

    hostnames: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    cluster_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Limits:
    """[limits]: what the scheduler takes; none: no limit is known.

    Attributes
    ----------
    largest_array_index : int or None
        Of an array, which begins at 0. Slurm: MaxArraySize - 1; PBS: max_array_size - 1.
    array_tasks : int or None
        Tasks of one array.
    jobs : int or None
        Jobs a user, each array task counted.
    submissions_per_minute : int or None
        Jobs (an array is one) that are handed over in a minute.
    """

    largest_array_index: int | None = 1000
    array_tasks: int | None = None
    jobs: int | None = None
    submissions_per_minute: int | None = None


@dataclass(frozen=True)
class Partition:
    """[partitions.<name>]: a partition (Slurm) or queue (PBS), or what a site has in its place (a QOS).

    Attributes
    ----------
    scheduler_name : str or None
        Its name as the scheduler knows it; none: the same as here; "": it is not named at all, because
        `directives` say where the job goes (`Site.partition_option`).
    gpus_per_node : int
        Of the nodes with the most; 0: it has none.
    gpu_types : tuple of str
        As the scheduler names them; empty: one kind, not named.
    cpus_per_node : int or None
        As the scheduler counts them.
    cpus_per_gpu : int or None
        What a task gets for each of its GPUs unless it says otherwise.
    memory_per_node : str
        What a job can have of a node at most; "": not known.
    memory_per_gpu : str
        What a task gets for each of its GPUs unless it says otherwise; "": what the cluster gives.
    max_walltime : str
        Longer requests are refused; "": no limit is known.
    preemptible : bool
        Jobs may be stopped for others; runs go on from their checkpoints.
    whole_nodes : bool
        A job gets whole nodes: pack several runs into one allocation.
    directives : tuple of str
        More options of the job, without `#SBATCH` or `#PBS`: ("--qos=shared", "--constraint=gpu").
    """

    scheduler_name: str | None = None
    gpus_per_node: int = 0
    gpu_types: tuple[str, ...] = ()
    cpus_per_node: int | None = None
    cpus_per_gpu: int | None = None
    memory_per_node: str = ""
    memory_per_gpu: str = ""
    max_walltime: str = ""
    preemptible: bool = False
    whole_nodes: bool = False
    directives: tuple[str, ...] = ()


@dataclass(frozen=True)
class Requests:
    """[request]: what a task asks for unless the user says otherwise. There is no default walltime.

    Attributes
    ----------
    partition : str
        One of [partitions]; "": the cluster's own default.
    gpus : int
        On a partition with GPUs; of a whole node, all.
    gpu_type : str
        "": any. A kind needs `{type}` in `gpu_directive`.
    cpus : int or None
        none: `cpus_per_gpu` of the partition, all of a whole node, else 4.
    memory : str
        "": `memory_per_gpu` of the partition, else the cluster's default.
    walltime : str
        "": it must be given when runs are submitted.
    gpu_directive : str
        How a GPU is asked for; `{gpus}`, `{type}` (":a100" or "") are filled in: "--gres=gpu{type}:{gpus}"
        (Slurm), "ngpus={gpus}" (a part of PBS Pro's select), "gpus={gpus}" (Torque's nodes). "": the way of
        the scheduler just named; "none": not at all, they come with the node (`Site.gpu_option`).
    memory_directive : bool
        false: the site refuses or ignores a wish for memory, and none is written.
    directives : tuple of str
        More options of every job.
    """

    partition: str = ""
    gpus: int = 0
    gpu_type: str = ""
    cpus: int | None = None
    memory: str = ""
    walltime: str = ""
    gpu_directive: str = ""
    memory_directive: bool = True
    directives: tuple[str, ...] = ()


@dataclass(frozen=True)
class Options:
    """[options]: what every job must or may name.

    Attributes
    ----------
    account : str
        Whom to charge (`--account`, `-A`); "": none.
    qos : str
        Slurm's `--qos`; "": none.
    filesystems : str
        PBS `-l filesystems=home:eagle`; "": none.
    required : tuple of str
        Which of "account", "qos", "filesystems", "partition" a job cannot do without.
    """

    account: str = ""
    qos: str = ""
    filesystems: str = ""
    required: tuple[str, ...] = ()


@dataclass(frozen=True)
class Environment:
    """[environment] of a job.

    Attributes
    ----------
    shell : str
        First line of the script.
    setup : tuple of str
        Lines of shell that come first, taken as they are.
    modules : tuple of str
        `module load` these.
    activation : str
        A line of shell that makes the `lfadsrm` of the user run ("source ~/venv/bin/activate"); "": the
        Python that submits is called by its full path.
    keep : tuple of str
        The `LFADSRM_*` variables of the submitting shell that reach the job.
    variables : dict of str to str
        Set in the job.
    """

    shell: str = "/bin/bash"
    setup: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    activation: str = ""
    keep: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Stopping:
    """[stopping]: how a run learns that its time is over.

    Attributes
    ----------
    signal : str
        Slurm sends it to the script ("USR2", "TERM"); "": none.
    warning : str
        So long before the end of its walltime a run checkpoints: by the signal where there is one, by its own
        clock everywhere.
    requeue : bool
        Let the scheduler start preempted tasks, and those whose node failed, again.
    """

    signal: str = "USR2"
    warning: str = "5m"
    requeue: bool = True


@dataclass(frozen=True)
class Filesystem:
    """[filesystem]: where collections lie.

    Attributes
    ----------
    latency_s : float
        How long what one machine wrote may be hidden from another.
    """

    latency_s: float = 60.0


@dataclass(frozen=True)
class Escalation:
    """[escalation]: by what a request grows when it was too small, up to the caps of its partition.

    Attributes
    ----------
    memory_factor : float
        After a run was out of memory.
    walltime_factor : float
        After a run was out of time without progress.
    """

    memory_factor: float = 1.5
    walltime_factor: float = 1.5


@dataclass(frozen=True)
class Retry:
    """[retry]: how often a run is tried.

    Attributes
    ----------
    max_attempts : int
        Attempts whose ends were the run's own doing (failed, out of memory, out of time without progress).
    max_infrastructure_attempts : int
        Attempts that nodes, preemption or the scheduler ended.
    """

    max_attempts: int = 3
    max_infrastructure_attempts: int = 10


@dataclass(frozen=True)
class Notify:
    """[notify]: who is told.

    Attributes
    ----------
    command : str
        A line of shell that `lfadsrm status --watch` runs when nothing is left to wait for; it finds
        LFADSRM_MESSAGE in its environment.
    mail : str
        Address for the scheduler's own mail at the end of a job; "": none.
    """

    command: str = ""
    mail: str = ""


@dataclass(frozen=True)
class Packing:
    """[packing]: several runs in one allocation, done by the local queue.

    Attributes
    ----------
    runs : int
        Runs of one task; 1: no packing.
    slots : int or None
        At most so many at once; none: as its GPUs or cores allow.
    """

    runs: int = 1
    slots: int | None = None


@dataclass(frozen=True)
class Client:
    """[client]: the programs that speak to the scheduler.

    Attributes
    ----------
    timeout_s : float
        Time limit of one call.
    history : str
        "auto", "sacct", "qstat" or "none": where ended jobs are asked for.
    """

    timeout_s: float = 60.0
    history: str = "auto"


@dataclass(frozen=True)
class Site:
    """The description of one cluster or machine, all layers merged."""

    site: About = field(default_factory=About)
    recognise: Recognise = field(default_factory=Recognise)
    client: Client = field(default_factory=Client)
    limits: Limits = field(default_factory=Limits)
    partitions: Mapping[str, Partition] = field(default_factory=dict)
    request: Requests = field(default_factory=Requests)
    options: Options = field(default_factory=Options)
    environment: Environment = field(default_factory=Environment)
    stopping: Stopping = field(default_factory=Stopping)
    filesystem: Filesystem = field(default_factory=Filesystem)
    escalation: Escalation = field(default_factory=Escalation)
    retry: Retry = field(default_factory=Retry)
    notify: Notify = field(default_factory=Notify)
    packing: Packing = field(default_factory=Packing)
    queue: Mapping[str, object] = field(default_factory=dict)  # options of the local queue

    @property
    def name(self) -> str:
        return self.site.name

    @property
    def scheduler(self) -> str:
        return self.site.scheduler

    @property
    def is_local(self) -> bool:
        """Whether there is no scheduler: runs are trained by the queue of this machine."""
        return self.scheduler == "local"

    def partition(self, name: str) -> Partition:
        """Return what is known of a partition; of one that is not described, nothing."""
        return self.partitions.get(name, Partition())

    def partition_option(self, name: str) -> str:
        """Return what the scheduler is to be told for a partition (`--partition`, `-q`); "": nothing."""
        known_as = self.partition(name).scheduler_name
        return name if known_as is None else known_as

    @property
    def names_gpu_types(self) -> bool:
        """The way in which GPUs are asked for can say which kind."""
        return "{type}" in (self.request.gpu_directive or GPU_DIRECTIVES.get(self.scheduler, ""))

    def gpu_option(self, gpus: int, gpu_type: str = "") -> str:
        """Return how so many GPUs a node are asked for; "": not at all."""
        way = self.request.gpu_directive or GPU_DIRECTIVES.get(self.scheduler, "none")
        if not gpus or way == "none":
            return ""
        return way.replace("{gpus}", str(gpus)).replace("{type}", f":{gpu_type}" if gpu_type else "")
