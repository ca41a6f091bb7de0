"""What follows from what was seen: the pure part of each check."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Any

import pytest

from lfadsrm_hpc.doctor.checks import Verdict
from lfadsrm_hpc.doctor.disk import judge_latency, judge_sharing, judge_skew
from lfadsrm_hpc.doctor.mounts import Mount, judge_mount, mount_of
from lfadsrm_hpc.doctor.python_side import judge_gpus, read_requirement, release
from lfadsrm_hpc.doctor.space import Quota, judge_free, judge_limits, judge_quotas, memory_limit, read_quotas

OK, WARNING, PROBLEM, ABSENT = Verdict.OK, Verdict.WARNING, Verdict.PROBLEM, Verdict.ABSENT
A100 = "NVIDIA A100, 81920 MiB, 550.54"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("numpy>=1.26", ("numpy", "1.26")),
        ("tensorflow >= 2.16", ("tensorflow", "2.16")),
        ("click", ("click", "")),
        ('tomli>=2.0; python_version < "3.0"', None),
        ('tomli>=2.0; python_version < "4.0"', ("tomli", "2.0")),
        ('pytest>=8; extra == "test"', None),
        ('tensorflow[and-cuda]>=2.16; extra == "gpu"', None),
    ],
)
def test_requirements(text: str, expected: Any) -> None:
    assert read_requirement(text) == expected


def test_versions_are_compared_by_their_numbers() -> None:
    assert release("2.16.1rc0") == (2, 16, 1)
    assert release("2.9") < release("2.16") <= release("2.16.0")
    assert release("odd") == (0,)


@pytest.mark.parametrize(
    ("driver", "seen", "more", "verdict", "words"),
    [
        ("there is no nvidia-smi here", [], {}, ABSENT, "login node"),
        ("nvidia-smi gave no answer within 15 s", [], {}, PROBLEM, "no answer"),
        ("there is no nvidia-smi here", ["GPU:0"], {}, OK, "sees 1"),
        ([], [], {}, ABSENT, "no GPU"),
        ([A100], ["GPU:0"], {}, OK, "A100"),
        ([A100, A100], ["GPU:0"], {}, WARNING, "sees 1"),
        ([A100], [], {"visible": ""}, WARNING, "CUDA_VISIBLE_DEVICES is ''"),
        ([A100], [], {"built_with_cuda": False}, PROBLEM, "without CUDA"),
        ([A100], [], {"errors": "W0 Cannot dlopen some GPU libraries"}, PROBLEM, "Cannot dlopen"),
    ],
)
def test_gpus(driver: Any, seen: list[str], more: dict[str, Any], verdict: Verdict, words: str) -> None:
    found = judge_gpus(driver, seen, **{"built_with_cuda": True, "visible": None, **more})
    assert found.verdict is verdict
    assert words in found.evidence
    assert bool(found.fix) is (verdict in (WARNING, PROBLEM))
    if verdict is PROBLEM and driver == [A100]:
        assert ".[gpu]" in found.fix


MOUNTINFO = """\
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
40 27 0:50 / /home rw - nfs4 filer:/home rw,vers=4.2,hard,acregmin=3,acdirmax=60
41 27 0:51 / /home/me/my\\040data rw shared:1 - lustre 10.0.0.1@o2ib:/scratch rw,noflock
42 27 0:52 / /home/me/my\\040data rw - beegfs beegfs_nodev rw
broken line
"""


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/", "ext4"),
        ("/homes", "ext4"),
        ("/home", "nfs4"),
        ("/home/you/runs", "nfs4"),
        ("/home/me/my data/runs", "beegfs"),
        ("/home/me/my data2", "nfs4"),
    ],
)
def test_the_mount_of_a_folder(folder: str, kind: str) -> None:
    found = mount_of(MOUNTINFO, folder)
    assert found is not None
    assert found.kind == kind


def test_a_mount_that_is_not_told() -> None:
    assert mount_of("", "/home") is None
    assert judge_mount(None, has_scheduler=True, latency_s=60.0).verdict is ABSENT


@pytest.mark.parametrize(
    ("kind", "options", "scheduler", "verdict", "words"),
    [
        ("ext4", "rw", False, OK, "a disk of this machine"),
        ("ext4", "rw", True, WARNING, "a disk of this machine"),
        ("tmpfs", "rw", False, WARNING, "memory"),
        ("lustre", "rw,flock", True, OK, "shared"),
        ("lustre", "rw,noflock", True, OK, "without file locks"),
        ("nfs4", "rw,hard", True, OK, "within 60 s"),
        ("nfs4", "rw,hard,noac", True, OK, "within 0 s"),
        ("nfs", "rw,hard,acdirmax=600", True, WARNING, "for 600 s"),
        ("nfs", "rw,soft", True, WARNING, "soft"),
        ("nfs", "ro,hard", True, WARNING, "reading only"),
        ("fuse.sshfs", "rw", False, WARNING, "sshfs"),
        ("somefs", "rw", True, OK, "not a kind that is known"),
    ],
)
def test_kinds_of_file_systems(
    kind: str, options: str, scheduler: bool, verdict: Verdict, words: str
) -> None:
    mount = Mount("/data", kind, "server:/data", frozenset(options.split(",")))
    found = judge_mount(mount, has_scheduler=scheduler, latency_s=60.0)
    assert (found.verdict, words in found.evidence) == (verdict, True)


GIB = 1 << 30


@pytest.mark.parametrize(
    ("size", "files", "verdict"),
    [
        (500 * GIB, 10**6, OK),
        (500 * GIB, None, OK),
        (5 * GIB, 10**6, WARNING),
        (GIB // 2, 10**6, PROBLEM),
        (500 * GIB, 5000, WARNING),
        (500 * GIB, 10, PROBLEM),
    ],
)
def test_free_space(size: int, files: int | None, verdict: Verdict) -> None:
    assert judge_free(size, files).verdict is verdict


LINUX = """\
Disk quotas for user me (uid 1000):
     Filesystem  blocks   quota   limit   grace   files   quota   limit   grace
filer:/home 9500000  10000000 11000000       0   12345  200000  210000       0
/dev/sda1 5 0 0 0 7 0 0 0
"""
OVER = "filer:/home 10500000*  10000000 11000000 1790000000   12345  200000  210000       0\n"
LUSTRE = """\
/scratch
           1204*     1000    2000       -      10       0       0       -
"""


def test_quotas_are_read() -> None:
    assert read_quotas(LINUX) == [
        Quota("filer:/home", 9500000, 10000000, 12345, 200000),
        Quota("/dev/sda1", 5, None, 7, None),
    ]
    assert read_quotas(LUSTRE) == [Quota("/scratch", 1204, 1000, 10, None, over=True)]
    assert read_quotas("Disk quotas for user me (uid 1000): none\n") == []
    assert read_quotas("nonsense 1 2\n\0\n") == []


def test_what_follows_from_quotas() -> None:
    nearly = judge_quotas(read_quotas(LINUX))
    assert (nearly.verdict, "9.1 GiB of 9.5 GiB" in nearly.evidence) == (WARNING, True)
    assert judge_quotas(read_quotas(OVER)).verdict is PROBLEM
    assert judge_quotas([Quota("/a", 10, 100)]).verdict is OK
    assert judge_quotas([Quota("/a", 10, None)]).verdict is ABSENT
    assert judge_quotas([], asked=False).verdict is ABSENT
    assert "cannot be read" in judge_quotas([], ["quota"]).evidence


def test_limits_of_the_session() -> None:
    names = ("open files", "processes and threads", "memory, kB", "size of a file", "seconds on a core")
    free = dict.fromkeys(names, resource.RLIM_INFINITY)
    assert judge_limits({**free, "open files": 1024}, None).verdict is OK
    assert judge_limits({**free, "open files": 64}, None).fix == "ulimit -n 4096"
    login = judge_limits({**free, "seconds on a core": 3600}, 4 * GIB)
    assert login.verdict is WARNING
    assert "seconds on a core: 3600; memory of this session: 4.0 GiB" in login.evidence
    assert "lfadsrm submit" in login.fix


def test_the_least_of_all_control_groups_counts(tmp_path: Path) -> None:
    own = tmp_path / "own"
    (tmp_path / "root/user.slice/me").mkdir(parents=True)
    own.write_text("1:cpu:/elsewhere\n0::/user.slice/me\n")
    assert memory_limit(tmp_path / "root", own) is None
    (tmp_path / "root/user.slice/me/memory.max").write_text("max\n")
    (tmp_path / "root/user.slice/memory.max").write_text("4096\n")
    assert memory_limit(tmp_path / "root", own) == 4096
    assert memory_limit(tmp_path / "root", tmp_path / "absent") is None


@pytest.mark.parametrize(
    ("mode", "umask", "verdict"),
    [
        (0o40755, 0o022, OK),
        (0o40700, 0o077, OK),
        (0o42775, 0o002, OK),
        (0o40775, 0o002, WARNING),
        (0o42775, 0o022, WARNING),
        (0o40777, 0o022, WARNING),
        (0o41777, 0o022, WARNING),
        (0o40755, 0o000, WARNING),
    ],
)
def test_sharing(mode: int, umask: int, verdict: Verdict) -> None:
    found = judge_sharing(mode, "lab", umask)
    assert (found.verdict, bool(found.fix)) == (verdict, verdict is WARNING)


def test_speed_and_clocks() -> None:
    assert judge_latency({"create": 1.0, "fsync": 20.0, "rename": 1.0}).verdict is OK
    assert judge_latency({"create": 900.0, "fsync": 20.0, "rename": 1.0}).verdict is WARNING
    assert judge_latency({"create": 1.0, "fsync": 5000.0, "rename": 1.0}).verdict is WARNING
    assert judge_skew(-0.5).verdict is OK
    assert "90 s behind" in judge_skew(-90.0).evidence
    assert judge_skew(90.0).verdict is WARNING
