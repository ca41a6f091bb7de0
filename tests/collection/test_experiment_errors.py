"""What goes wrong while an experiment is prepared is told with file, key and line, here marked `# here`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from lfadsrm_hpc.errors import LfadsrmError

HEAD = """
[collection]
name = "mine"
[params]
co_dim = 0
"""
BINS = "spike_bin_ms = 5\n"
# What follows the above, the key that is named, and whose fault it is as other rooms name it.
SLIPS = [
    ("spike_bin_ms = 7  # here", "[params] spike_bin_ms", "dataset 'day1'"),
    ("spike_bin_ms = 40  # here", "[params] spike_bin_ms", "dataset 'day1'"),
    (BINS + "held_out_neurons = [99]  # here", "[params] held_out_neurons", "dataset 'day1'"),
    (BINS + "forward_prediction_bins = 50  # here", "[params] forward_prediction_bins", "dataset 'day1'"),
    (BINS + 'split = "given"  # here', "[params] split", "dataset 'day1'"),
    (BINS + 'start_from = "param_x/day1"  # here', "[params] start_from", "param_x/day1"),
    (BINS + "c_ext_input_dim = 2  # here", "[params] c_ext_input_dim", "dataset 'day1'"),
    ("[sweep]\nspike_bin_ms = [5, 7]  # here", "[sweep] spike_bin_ms", "dataset 'day1'"),
    (
        BINS + "[sweep]\nforward_prediction_bins = [0, 50]  # here",
        "[sweep] forward_prediction_bins",
        "run param_",
    ),
    (BINS + '[run_specs]\nsingles = false\nstitched = "both"  # here', "[run_specs] stitched", "spec 'both'"),
    (
        BINS + '[run_specs]\nspecs = [{ name = "two", datasets = ["day1", "day2"] }]  # here',
        "[run_specs] specs",
        "spec 'two'",
    ),
    (
        BINS + 'alignment_conditions = "shared"\n[run_specs]\nstitched = "both"  # here',
        "[run_specs] stitched",
        "spec 'both'",
    ),
    (BINS + "[datasets]\noptions = { bin_mss = 5 }  # here", "[datasets.options] bin_mss", "day1.npz"),
    (BINS + "[datasets.options]\nneurons = 3  # here\n", "[datasets.options] neurons", "day1.npz"),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two sessions of 20 bins of 5 ms and 5 neurons, without a condition that both have."""
    (tmp_path / "datasets").mkdir()
    for number, name in enumerate(("day1", "day2")):
        spikes = np.random.default_rng(number).poisson(0.5, (40, 20, 5))
        condition = np.arange(40) % 2 + 2 * number
        np.savez(tmp_path / "datasets" / f"{name}.npz", spikes=spikes, bin_ms=5.0, condition=condition)
    return tmp_path


def called(*words: object) -> Result:
    from lfadsrm_hpc.cli.main import lfadsrm

    return CliRunner().invoke(lfadsrm, [str(word) for word in words])


@pytest.mark.parametrize(("text", "key", "whose"), SLIPS)
def test_the_place_is_told(folder: Path, text: str, key: str, whose: str) -> None:
    file = folder / "experiment.toml"
    file.write_text(HEAD + text)
    line = next(n for n, one in enumerate(file.read_text().splitlines(), 1) if "# here" in one)
    error = called("prepare", folder).exception
    assert isinstance(error, LfadsrmError)
    assert str(error.where).startswith(f"{file}, line {line}, {key} ("), str(error)
    assert whose in str(error.where), "who found it is told as before"
    assert error.exit_code == 3
    assert error.hint


def test_the_experiment_without_a_slip_is_right(folder: Path) -> None:
    (folder / "experiment.toml").write_text(HEAD + BINS)
    done = called("prepare", folder)
    assert done.exit_code == 0, done.exception


def test_show_points_to_the_line_as_prepare_does(folder: Path) -> None:
    file = folder / "experiment.toml"
    for slip in ("options = { bin_mss = 5 }", 'files = ["dya1.npz"]', "options = { neurons = 3 }"):
        file.write_text(f"[datasets]\n\n{slip}\n[params]\n{BINS}")
        prepared, shown = (
            called(*words).exception for words in (("prepare", folder), ("show", folder, "--datasets"))
        )
        assert str(prepared) == str(shown)
        assert isinstance(shown, LfadsrmError)
        assert str(shown.where).startswith(f"{file}, line 3, ")


def test_what_the_file_does_not_say_is_not_blamed_on_it(folder: Path) -> None:
    (folder / "experiment.toml").write_text(HEAD + BINS + 'split = "random"\n')
    (folder / "datasets/day2.npz").write_bytes(b"nothing")
    error = called("prepare", folder).exception
    assert isinstance(error, LfadsrmError)
    assert str(error.where).startswith(str(folder / "datasets/day2.npz"))
