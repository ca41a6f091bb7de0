"""The queue script on GPUs, with a fake nvidia-smi."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import pytest

Bench = Any  # the class in conftest.py

A, B = "GPU-aaaaaaaa-1111-2222-3333-444444444444", "GPU-bbbbbbbb-1111-2222-3333-444444444444"
ON_GPU: dict[str, Any] = {"use_gpu": None, "slots": 8, "max_per_gpu": None}


def gpus_of_starts(bench: Bench) -> list[str]:
    return [event["environment"]["CUDA_VISIBLE_DEVICES"] for event in bench.events("start")]


def test_runs_are_spread_over_the_gpus(bench: Bench) -> None:
    bench.gpus((A, 16000, 500), (B, 16000, 0))
    bench.add(*"abcd", plan=["0.6 0 1500"])
    assert bench.run(**ON_GPU) == 0
    assert Counter(gpus_of_starts(bench)) == {A: 2, B: 2}
    assert gpus_of_starts(bench)[0] == B or bench.most_at_once() == 4
    environment = bench.events("start")[0]["environment"]
    assert environment["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    assert environment["LFADSRM_GPU_MEMORY_MB"] == "2000"
    assert environment["TF_FORCE_GPU_ALLOW_GROWTH"] == "true"
    assert f"started run 1/4 param_abc/a on {B}" in bench.said  # the one with more room comes first


def test_at_most_n_runs_on_a_gpu(bench: Bench) -> None:
    bench.gpus((A, 80000, 0), (B, 80000, 0))
    bench.add(*"abcd", plan=["0.2 0"])
    assert bench.run(**ON_GPU | {"max_per_gpu": 1}) == 0
    assert bench.most_at_once(A) == bench.most_at_once(B) == 1
    assert bench.most_at_once() == 2


def test_slots_hold_on_gpus_too(bench: Bench) -> None:
    bench.gpus((A, 80000, 0))
    bench.add(*"abc", plan=["0.2 0"])
    assert bench.run(**ON_GPU | {"slots": 1}) == 0
    assert bench.most_at_once() == 1


@pytest.mark.parametrize("apps", [True, False], ids=["processes shown", "processes hidden"])
def test_memory_that_is_not_taken_yet_is_kept(bench: Bench, apps: bool) -> None:
    # 5000 MB hold two runs of 2000; nvidia-smi shows what they take long after their start.
    bench.gpus((A, 5500, 500), apps=apps)
    bench.add(*"abc", plan=["0.6 0 2000 0.4"])
    assert bench.run(**ON_GPU) == 0
    assert bench.most_at_once() == 2


@pytest.mark.parametrize("apps", [True, False], ids=["processes shown", "processes hidden"])
def test_memory_that_is_taken_is_not_counted_twice(bench: Bench, apps: bool) -> None:
    # Three runs of 2000 fit into 6500 MB, also when the first two have taken theirs before the third comes.
    bench.gpus((A, 7000, 500), apps=apps)
    bench.add("a", "b", plan=["1.6 0 2000"])
    bench.add(
        "short", memory_mb=2500, plan=["0.3 0 2500"]
    )  # holds the rest until the others have taken theirs
    bench.add("c", plan=["0.2 0 2000"])
    assert bench.run(**ON_GPU) == 0
    # c had to start beside a and b, as soon as the short run had ended
    ends = {event["run"]: event["time"] for event in bench.events("end")}
    start_of_c = bench.events("start")[3]
    assert start_of_c["run"].endswith("/c")
    assert start_of_c["time"] < min(ends["param_abc/a"], ends["param_abc/b"])


def test_memory_beyond_the_request_is_seen(bench: Bench) -> None:
    bench.gpus((A, 6000, 0))
    bench.add("greedy", plan=["1 0 5000"])  # asks for 2000
    bench.add("short", plan=["0.3 0"])
    bench.add("small", memory_mb=1500)
    assert bench.run(**ON_GPU | {"slots": 2}) == 0
    ends = {event["run"]: event["time"] for event in bench.events("end")}
    assert bench.events("start")[2]["time"] >= ends["param_abc/greedy"]


def test_other_programs_are_waited_for(bench: Bench) -> None:
    bench.gpus((A, 16000, 15000))
    bench.add("a")
    bench.write(**ON_GPU)
    queue = bench.start()
    end = time.monotonic() + 90
    while "waiting" not in bench.said and time.monotonic() < end:
        time.sleep(0.02)
    time.sleep(0.3)
    assert bench.events() == []
    assert bench.said.count("needs 2000 MB of GPU memory; at most 1000 MB are free on a GPU") == 1
    bench.gpus((A, 16000, 100))
    assert queue.wait(120) == 0
    assert gpus_of_starts(bench) == [A]


def test_a_smaller_run_passes_one_that_does_not_fit_now(bench: Bench) -> None:
    bench.gpus((A, 8000, 3000))
    bench.add("large", memory_mb=6000)
    bench.add("small", memory_mb=1000, plan=["0.5 0"])
    bench.write(**ON_GPU)
    queue = bench.start()
    bench.wait_for_starts(1)
    bench.gpus((A, 8000, 0))
    assert queue.wait(120) == 0
    assert bench.starts() == ["small", "large"]


def test_run_that_fits_no_gpu_is_an_error_before_anything_starts(bench: Bench) -> None:
    bench.gpus((A, 16000, 0), (B, 24000, 0))
    bench.add("good")
    bench.add("huge", memory_mb=30000)
    bench.add("large", memory_mb=20000)
    assert bench.run(**ON_GPU) == 3
    assert bench.events() == []
    said = bench.said
    assert "run param_abc/huge needs 30000 MB of GPU memory, more than any GPU has" in said
    assert f"{A} has 16000 MB, {B} has 24000 MB" in said
    assert "large" not in said
    bench.env["CUDA_VISIBLE_DEVICES"] = "0"
    assert bench.run(**ON_GPU) == 3
    assert "run param_abc/large needs 20000 MB" in bench.said


@pytest.mark.parametrize(
    ("visible", "used"),
    [
        ("1", {B}),
        ("1,0", {A, B}),
        (B, {B}),
        ("GPU-bbbb", {B}),
        ("1,-1,0", {B}),
        ("1,1", {B}),
        ("", {""}),
        ("-1", {""}),
        ("MIG-5c89852c-d268-c3f3-1b07-005d5ae1dc3f", {"MIG-5c89852c-d268-c3f3-1b07-005d5ae1dc3f"}),
    ],
)
def test_visible_devices_limit_the_choice(bench: Bench, visible: str, used: set[str]) -> None:
    bench.gpus((A, 16000, 0), (B, 16000, 0))
    bench.add(*"abc", plan=["0.1 0"])
    bench.env["CUDA_VISIBLE_DEVICES"] = visible
    assert bench.run(**ON_GPU) == 0
    assert set(gpus_of_starts(bench)) == used


@pytest.mark.parametrize("visible", ["2", "GPU-cccc", "x[$(touch pwned)]"])
def test_visible_device_that_is_not_there(bench: Bench, visible: str) -> None:
    bench.gpus((A, 16000, 0), (B, 16000, 0))
    bench.add("a")
    bench.env["CUDA_VISIBLE_DEVICES"] = visible
    assert bench.run(**ON_GPU) == 3
    assert f"CUDA_VISIBLE_DEVICES names {visible}, which nvidia-smi does not show" in bench.said
    assert bench.events() == []


def test_without_a_driver_the_cores_are_used_unless_gpus_were_asked_for(bench: Bench) -> None:
    bench.gpus((A, 16000, 0), fail=True)
    bench.add("a")
    assert bench.run(**ON_GPU) == 0
    assert gpus_of_starts(bench) == [""]
    assert bench.run(**ON_GPU | {"use_gpu": True, "posterior_only": True}) == 3
    assert "no GPU can be used: nvidia-smi says: NVIDIA-SMI has failed" in bench.said


def test_gpus_are_left_alone_when_not_wanted(bench: Bench) -> None:
    bench.gpus((A, 16000, 0))
    bench.add("a", memory_mb=99999)
    assert bench.run(use_gpu=False) == 0
    assert gpus_of_starts(bench) == [""]


def test_memory_that_nvidia_smi_does_not_tell(bench: Bench) -> None:
    bench.gpus((A, None, 0))
    bench.add(*"abc", memory_mb=99999, plan=["0.2 0"])
    assert bench.run(**ON_GPU) == 0
    assert bench.most_at_once(A) == 1  # nothing is known: one at a time
    bench.plan("param_abc/a", "0.2 0")
    assert bench.run(**ON_GPU | {"max_per_gpu": 2, "posterior_only": True}) == 0
    assert bench.most_at_once(A) == 2


def test_driver_that_fails_for_a_while(bench: Bench) -> None:
    bench.gpus((A, 5000, 0))
    bench.add("a", plan=["0.6 0"])
    bench.add("b", memory_mb=4000)
    bench.write(**ON_GPU)
    queue = bench.start()
    bench.wait_for_starts(1)
    bench.gpus((A, 5000, 0), fail=True)
    end = time.monotonic() + 90
    while not bench.events("end") and time.monotonic() < end:
        time.sleep(0.02)
    time.sleep(0.2)
    assert bench.starts() == ["a"]
    assert bench.said.count("nvidia-smi gives no answer") == 1
    bench.gpus((A, 5000, 0))
    assert queue.wait(120) == 0
    assert bench.starts() == ["a", "b"]


@pytest.mark.parametrize("apps", [True, False], ids=["processes shown", "processes hidden"])
def test_orphans_keep_their_gpu_memory(bench: Bench, apps: bool) -> None:
    bench.gpus((A, 5000, 0), apps=apps)
    bench.add("a", "b", plan=["1.2 0 2000 0.8"])
    bench.add("c", plan=["0 0"])
    bench.write(**ON_GPU)
    first = bench.start()
    bench.wait_for_starts(2)
    first.kill()
    first.wait(120)
    assert bench.start().wait(120) == 0
    assert sorted(bench.starts()[:2]) == ["a", "b"]
    assert bench.starts()[2:] == ["c"]
    assert bench.most_at_once(A) == 2
    assert bench.events("overlap") == []


def test_killed_run_gives_its_gpu_back(bench: Bench) -> None:
    bench.gpus((A, 3000, 0))
    bench.add("a", plan=["0.1 -9 2000", "0 0 2000"])
    bench.add("b", plan=["0 0 2000"])
    assert bench.run(**ON_GPU) == 0
    assert bench.starts() == ["a", "b", "a"]
