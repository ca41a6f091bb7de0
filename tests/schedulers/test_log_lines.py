"""The last lines of a log: those that tell something about the run."""

from __future__ import annotations

from pathlib import Path

from lfadsrm_hpc.schedulers.log_lines import last_lines

# As TensorFlow 2.21 prints it, and its older form; nothing silences all of it.
NOISE = (
    "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR",
    "I0000 00:00:1795807829.373490    6034 port.cc:153] oneDNN custom operations are on.",
    "I0000 00:00:1795807827.684531    6034 cpu_feature_guard.cc:227] This TensorFlow binary is optimized.",
    "To enable the following instructions: AVX2 AVX512F FMA, in other operations, rebuild TensorFlow.",
    "E0000 00:00:1795807831.022702    6034 cuda_platform.cc:52] failed call to cuInit: INTERNAL: 303",
    "W1127 19:30:31.022702    6034 device.cc:9] no such device",
    "2026-11-27 19:30:31.022702: I tensorflow/core/util/port.cc:153] oneDNN custom operations are on.",
)
TOLD = (
    "Interrupted: stopping after this epoch",
    "WARNING: the learning rate is at its end",
    "F0000 00:00:1795807831.022702    6034 tstring.cc:1] Check failed: it cannot go on",
    "2026-11-27 19:30:31 epoch 7",
)


def test_what_tensorflow_says_of_itself_is_left_out(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_text("\n".join((*(f"epoch {n}" for n in range(9)), *TOLD, *NOISE * 40)) + "\n")
    assert last_lines(log, 8) == [*(f"epoch {n}" for n in (5, 6, 7, 8)), *TOLD]
    assert last_lines(log, 0) == []


def test_a_log_of_nothing_else_is_shown(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_text("\n".join(NOISE))
    assert last_lines(log, 2) == list(NOISE[-2:])
    assert last_lines(tmp_path / "none.txt", 2) == []
