"""Writing posterior means and opening them again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import numpy.typing as npt
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from lfadsrm_hpc.errors import DataError, ResultsError, UsageError
from lfadsrm_hpc.results import plots
from lfadsrm_hpc.results.averages import condition_averages
from lfadsrm_hpc.results.posterior_means import writing as posterior_means
from lfadsrm_hpc.results.posterior_means.format import CHUNK_BYTES, VARIABLES, chunk_shape, rounded
from lfadsrm_hpc.results.posterior_means.loaders import open_posterior_means
from lfadsrm_hpc.results.posterior_means.writing import PosteriorMeansWriter

Arrays = dict[str, npt.NDArray[Any]]
SIZES = {"factor": 3, "generator_unit": 5, "controller_output": 2, "ic": 4}
E, T, D, BIN_MS = 23, 12, 7, 4.0


def make_arrays(
    trials: int = E, *, sizes: dict[str, int] = SIZES, gaussian: bool = False, seed: int = 0
) -> Arrays:
    rng = np.random.default_rng(seed)
    size = {"trial": trials, "time": T, "neuron": D, "input": 1, **sizes}
    skip = {"rates"} if gaussian else {"output_mean", "output_var"}
    skip |= {"spikes", "truth", "external_input"} | {name for name in VARIABLES if name.endswith("_std")}
    return {
        name: rng.random([size[dim] for dim in about.dims]).astype(np.float32)
        for name, about in VARIABLES.items()
        if name not in skip
    }


def with_std(arrays: Arrays) -> Arrays:
    """Add standard deviations of what has some."""
    rng = np.random.default_rng(9)
    spread = {name.removesuffix("_std") for name in VARIABLES if name.endswith("_std")} & set(arrays)
    return {**arrays, **{f"{n}_std": rng.random(arrays[n].shape).astype(np.float32) for n in spread}}


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def make_writer(path: Path, **changes: Any) -> PosteriorMeansWriter:
    given: dict[str, Any] = {
        "dataset": "monkey",
        "time_ms": -20 + BIN_MS * np.arange(T),
        "bin_ms": BIN_MS,
        "trial": np.arange(E),
        "split": ["valid" if i % 5 == 0 else "train" for i in range(E)],
        "condition": [f"reach {i % 3}" for i in range(E)],
        "neuron_names": [f"unit{i}" for i in range(D)],
        "sizes": SIZES,
        "attributes": {"run_id": "param_abc/single_monkey", "params": {"rate": 1e-7}, "claim_token": "T1"},
    }
    return PosteriorMeansWriter(path, **{**given, **changes})


def write(path: Path, arrays: Arrays, *, block: int = 10, **changes: Any) -> Path:
    trials = len(next(iter(arrays.values())))
    with make_writer(path, **changes) as writer:
        for start in range(0, trials, block):
            writer.write_block(start, {name: a[start : start + block] for name, a in arrays.items()})
    return path


def test_every_variable_comes_back_with_its_units(tmp_path: Path) -> None:
    arrays = make_arrays()
    with open_posterior_means(write(tmp_path / "monkey.nc", arrays), expect_token="T1") as means:
        assert set(means.data_vars) == set(arrays)
        for name, array in arrays.items():
            factor = 1000 / BIN_MS if name == "rates" else 1
            np.testing.assert_allclose(means[name].values, array * factor, rtol=1e-6, err_msg=name)
            assert means[name].dims == VARIABLES[name].dims
        for name in means.variables:
            if name in means.dims and name not in ("trial", "time", "neuron"):
                continue
            assert means[name].attrs["units"], name
            assert means[name].attrs["long_name"], name
        assert means.rates.attrs["units"] == "spikes/s"
        np.testing.assert_array_equal(means.time, -20 + BIN_MS * np.arange(T))
        assert means.time.attrs["units"] == "ms"
        assert list(means.split.values[:6]) == ["valid", "train", "train", "train", "train", "valid"]
        assert means.condition.values[4] == "reach 1"
        assert means.neuron.dtype == np.int64
        assert list(means.neuron_name.values) == [f"unit{i}" for i in range(D)]
        assert json.loads(means.attrs["params"]) == {"rate": 1e-7}
        assert means.attrs["dataset"] == "monkey"
        assert json.loads(means.attrs["versions"])["numpy"] == np.__version__


def test_labels_of_trials_keep_the_original_order(tmp_path: Path) -> None:
    kept = np.array([3, 4, 9, *range(20, 40)])
    path = write(tmp_path / "a.nc", make_arrays(), trial=kept, condition=np.arange(E) % 4)
    with open_posterior_means(path) as means:
        np.testing.assert_array_equal(means.trial, kept)
        assert means.condition.dtype == np.int64
        np.testing.assert_array_equal(means.rates.sel(trial=9), means.rates[2])
        valid = means.where(means.split == "valid", drop=True)
        assert list(valid.trial.values) == list(kept[::5])


def test_reading_one_neuron_does_not_load_the_rest(tmp_path: Path) -> None:
    with open_posterior_means(write(tmp_path / "a.nc", make_arrays())) as means:
        one = means.rates.sel(neuron=2)
        assert one.dims == ("trial", "time")
        assert not one.variable._in_memory
        one.load()
        assert not means.rates.variable._in_memory


@pytest.mark.parametrize("block", [1, 2, 7, E])
def test_the_blocks_do_not_show_in_the_file(tmp_path: Path, block: int) -> None:
    arrays = make_arrays()
    path = write(tmp_path / "a.nc", arrays, block=block)
    with open_posterior_means(path) as means:
        np.testing.assert_array_equal(means.factors, arrays["factors"])


def test_blocks_may_come_in_any_order(tmp_path: Path) -> None:
    arrays = make_arrays()
    with make_writer(tmp_path / "a.nc") as writer:
        for start in (20, 0, 10):
            writer.write_block(start, {name: a[start : start + 10] for name, a in arrays.items()})
    with open_posterior_means(tmp_path / "a.nc") as means:
        np.testing.assert_array_equal(means.generator_states, arrays["generator_states"])


def test_numbered_conditions_are_the_same_where_some_trials_have_none(tmp_path: Path) -> None:
    numbers = np.arange(E) % 12
    some = np.where(np.arange(E) == 4, np.nan, numbers)
    every = write(tmp_path / "every.nc", make_arrays(), condition=numbers)
    lacking = write(tmp_path / "lacking.nc", make_arrays(), condition=some)
    with open_posterior_means(every) as one, open_posterior_means(lacking) as other:
        np.testing.assert_array_equal(other.condition, some)
        found = condition_averages(other)
        assert found.condition.values.tolist() == sorted({*some[~np.isnan(some)].astype(int).tolist()})
        axes = plots.session_components({"every": one, "lacking": other}, 2, conditions=["1", 2])
        assert len(axes) == 3
        title = plots.raster_of_trial(other.assign(spikes=other.rates * 0), int(other.trial[5])).get_title()
        assert f"condition {numbers[5]}:" in title


def test_without_controller_and_initial_condition_their_variables_are_absent(tmp_path: Path) -> None:
    sizes = {"factor": 3, "generator_unit": 5, "controller_output": 0, "ic": 0}
    with open_posterior_means(write(tmp_path / "a.nc", make_arrays(sizes=sizes), sizes=sizes)) as means:
        assert "controller_outputs" not in means
        assert "controller_output" not in means.dims
        assert "post_g0_mean" not in means
        assert "factors" in means


def test_gaussian_output_stays_in_data_units(tmp_path: Path) -> None:
    arrays = make_arrays(gaussian=True)
    with open_posterior_means(write(tmp_path / "a.nc", arrays, output_dist="gaussian")) as means:
        assert "rates" not in means
        np.testing.assert_array_equal(means.output_mean, arrays["output_mean"])
        np.testing.assert_array_equal(means.output_var, arrays["output_var"])
        assert means.output_mean.attrs["units"] == "units of the data"


@pytest.mark.parametrize("gaussian", [False, True])
def test_standard_deviations_stand_beside_the_means(tmp_path: Path, gaussian: bool) -> None:
    arrays = with_std(make_arrays(gaussian=gaussian))
    main = "output_mean" if gaussian else "rates"
    dist = "gaussian" if gaussian else "poisson"
    with open_posterior_means(write(tmp_path / "a.nc", arrays, output_dist=dist, with_std=True)) as means:
        assert means.attrs["format_version"] == 2
        spread = {main, "factors", "generator_states", "generator_ics", "controller_outputs"}
        assert {name for name in means.data_vars if name.endswith("_std")} == {f"{n}_std" for n in spread}
        for name in spread:
            std = means[f"{name}_std"]
            factor = 1000 / BIN_MS if name == "rates" else 1
            np.testing.assert_allclose(std, arrays[f"{name}_std"] * factor, rtol=2**-11, err_msg=name)
            assert (std.dims, std.attrs["units"]) == (means[name].dims, means[name].attrs["units"])
            assert "standard deviation" in std.attrs["long_name"]


def test_standard_deviations_are_written_only_where_announced(tmp_path: Path) -> None:
    arrays = with_std(make_arrays())
    with pytest.raises(UsageError, match="_std' was not announced in `sizes` or `with_std`"):
        write(tmp_path / "a.nc", arrays)
    lacking = {name: a for name, a in arrays.items() if name != "factors_std"}
    with pytest.raises(UsageError, match="the block lacks factors_std"):
        write(tmp_path / "a.nc", lacking, with_std=True)
    arrays["rates_std"][3, 1, 2] = np.nan
    with pytest.raises(ResultsError, match="rates_std is no standard deviation at trial 3, time 1, neuron 2"):
        write(tmp_path / "a.nc", arrays, with_std=True)
    arrays["rates_std"][3, 1, 2] = np.inf  # the square of a large rate
    with open_posterior_means(write(tmp_path / "a.nc", arrays, with_std=True)) as means:
        assert np.isinf(means.rates_std[3, 1, 2])


def test_rounding_keeps_11_bits() -> None:
    values = np.random.default_rng(0).lognormal(0, 20, 10000).astype(np.float32)
    short = rounded(values)
    np.testing.assert_allclose(short, values, rtol=2**-11)
    assert not np.any(short.view(np.uint32) & 0x1FFF)
    np.testing.assert_array_equal(rounded(short), short)


def test_files_of_version_1_still_open(tmp_path: Path) -> None:
    arrays = make_arrays()
    path = write(tmp_path / "a.nc", arrays)
    with netCDF4.Dataset(path, "a") as file:
        file.format_version = np.int64(1)
    with open_posterior_means(path) as means:
        np.testing.assert_array_equal(means.factors, arrays["factors"])


def test_spikes_truth_and_inputs_are_stored_only_when_asked_for(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    arrays = make_arrays()
    arrays["spikes"] = rng.poisson(0.3, (E, T, D))
    arrays["truth"] = rng.random((E, T, D)) * 30
    arrays["external_input"] = rng.random((E, T, 1))
    with open_posterior_means(write(tmp_path / "without.nc", arrays)) as means:
        assert not {"spikes", "truth", "external_input"} & set(means.variables)
    path = write(
        tmp_path / "with.nc",
        arrays,
        sizes={**SIZES, "input": 1},
        extra=("spikes", "truth", "external_input"),
    )
    with open_posterior_means(path) as means:
        np.testing.assert_array_equal(means.spikes, arrays["spikes"])
        assert means.spikes.dtype == np.uint16
        np.testing.assert_allclose(means.truth, arrays["truth"], rtol=1e-6)
        assert means.external_input.shape == (E, T, 1)


def test_counts_that_are_none_are_refused_by_place(tmp_path: Path) -> None:
    arrays = make_arrays()
    arrays["spikes"] = np.zeros((E, T, D))
    arrays["spikes"][11, 3, 2] = 0.5
    with pytest.raises(DataError, match="trial 11, time 3, neuron 2"):
        write(tmp_path / "a.nc", arrays, extra=("spikes",))
    assert names_in(tmp_path) == []


def test_values_that_are_not_finite_are_refused_by_place(tmp_path: Path) -> None:
    arrays = make_arrays()
    arrays["factors"][14, 2, 1] = np.nan
    with pytest.raises(ResultsError, match="factors is not finite at trial 14, time 2, factor 1"):
        write(tmp_path / "a.nc", arrays)
    assert names_in(tmp_path) == []


def test_an_abort_leaves_the_older_file_as_it_was(tmp_path: Path) -> None:
    path = write(tmp_path / "a.nc", make_arrays(seed=1))
    before = path.read_bytes()
    later = make_arrays(seed=2)

    def interrupted() -> None:
        with make_writer(path) as writer:
            writer.write_block(0, {name: a[:5] for name, a in later.items()})
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_bytes() == before
    assert names_in(tmp_path) == ["a.nc"]


def test_missing_trials_leave_no_file(tmp_path: Path) -> None:
    arrays = make_arrays()
    with pytest.raises(ResultsError, match="3 of 23 trials were never written, the first is trial 20"):
        with make_writer(tmp_path / "a.nc") as writer:
            writer.write_block(0, {name: a[:20] for name, a in arrays.items()})
    assert names_in(tmp_path) == []


def test_the_final_name_appears_only_when_complete(tmp_path: Path) -> None:
    arrays = make_arrays()
    path = tmp_path / "posterior_means" / "a.nc"
    writer = make_writer(path)
    writer.write_block(0, arrays)
    assert not path.exists()
    assert writer.close() == path
    assert names_in(path.parent) == ["a.nc"]


def test_what_a_killed_writer_left_is_removed_by_the_next(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; sys.path.insert(0, sys.argv[2])\n"
        "from pathlib import Path\n"
        "from test_posterior_means import make_writer, make_arrays\n"
        "writer = make_writer(Path(sys.argv[1]) / 'a.nc')\n"
        "writer.write_block(0, {n: a[:4] for n, a in make_arrays().items()})\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    root = str(Path(posterior_means.__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": root}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), str(Path(__file__).parent)], env=environment, check=False
    )
    assert done.returncode == -9
    (left,) = names_in(tmp_path)
    assert left.endswith(".partial")
    other = tmp_path / left.replace(left.split(".")[1], "0" * 12)
    other.write_bytes(b"the unfinished file of another dataset")
    write(tmp_path / "a.nc", make_arrays())
    assert names_in(tmp_path) == sorted(["a.nc", other.name])


def test_a_live_writer_of_the_same_file_is_left_alone(tmp_path: Path) -> None:
    first = make_writer(tmp_path / "a.nc")
    write(tmp_path / "a.nc", make_arrays(seed=1))
    first.write_block(0, make_arrays(seed=2))
    first.close()
    with open_posterior_means(tmp_path / "a.nc") as means:
        np.testing.assert_array_equal(means.factors, make_arrays(seed=2)["factors"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"trial": [2, 1, *range(3, E + 1)]}, "must increase"),
        ({"trial": np.arange(E) / 2}, "integer"),
        ({"split": ["train"] * (E - 1)}, "22 entries for 23 trials"),
        ({"split": ["test"] * E}, "'test'"),
        ({"condition": ["a"]}, "1 entries"),
        ({"sizes": {**SIZES, "factors": 3}}, "did you mean 'factor'"),
        ({"output_dist": "bernoulli"}, "bernoulli"),
        ({"extra": ("lfp",)}, "lfp"),
        ({"time_ms": [0.0, np.nan]}, "time_ms"),
        ({"bin_ms": 0}, "no width"),
    ],
)
def test_a_description_that_contradicts_itself_is_refused(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        make_writer(tmp_path / "a.nc", **change)
    assert names_in(tmp_path) == []


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda arrays: arrays.pop("costs"), "lacks costs"),
        (lambda arrays: arrays.update(rate=arrays["rates"]), "did you mean 'rates'"),
        (lambda arrays: arrays.update(rates=arrays["rates"][:, :-1]), r"shape \(23, 11, 7\)"),
        (lambda arrays: arrays.update(output_mean=arrays["rates"]), "not announced"),
    ],
)
def test_a_block_that_does_not_fit_is_refused(tmp_path: Path, spoil: Any, message: str) -> None:
    arrays = make_arrays()
    spoil(arrays)
    with pytest.raises(UsageError, match=message):
        write(tmp_path / "a.nc", arrays, block=E)


def test_a_trial_is_written_once(tmp_path: Path) -> None:
    arrays = make_arrays()
    writer = make_writer(tmp_path / "a.nc")
    writer.write_block(0, {name: a[:5] for name, a in arrays.items()})
    with pytest.raises(UsageError, match="written before"):
        writer.write_block(4, {name: a[4:8] for name, a in arrays.items()})
    writer.abort()


def test_a_folder_that_cannot_be_written_to_is_a_plain_error(tmp_path: Path) -> None:
    (tmp_path / "posterior_means").write_text("a file where a folder should be")
    with pytest.raises(ResultsError, match="cannot be made"):
        make_writer(tmp_path / "posterior_means" / "a.nc")


@given(
    shape=st.tuples(st.integers(1, 10**6), st.integers(1, 20000), st.integers(1, 5000)),
    timed=st.booleans(),
)
@settings(deadline=None, max_examples=200)
def test_chunks_are_bounded_and_inside_the_array(shape: tuple[int, int, int], timed: bool) -> None:
    dims = ("trial", "time", "neuron") if timed else ("trial", "neuron")
    array = shape if timed else (shape[0], shape[2])
    chunks = chunk_shape(dims, array)
    assert all(1 <= chunk <= size for chunk, size in zip(chunks, array, strict=True))
    assert 4 * int(np.prod(chunks)) <= CHUNK_BYTES
    if timed:
        assert chunks[0] <= 64
        assert chunks[2] <= 16


# -- opening --------------------------------------------------------------------------------------------


def test_a_missing_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=r"lfadsrm status.*lfadsrm run --posterior-only"):
        open_posterior_means(tmp_path / "a.nc")


def test_a_truncated_copy_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.nc", make_arrays())
    content = path.read_bytes()
    for kept in (0, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:kept])
        with pytest.raises(ResultsError, match="incomplete or damaged") as said:
            open_posterior_means(path)
        assert "--posterior-only" in str(said.value)  # a plain `lfadsrm run` passes over complete runs


def test_an_unfinished_file_under_the_final_name_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.nc", make_arrays())
    with netCDF4.Dataset(path, "a") as nc:
        nc.delncattr("complete")
    with pytest.raises(ResultsError, match="did not finish"):
        open_posterior_means(path)


def test_the_file_of_another_attempt_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.nc", make_arrays())
    with pytest.raises(ResultsError, match=r"claim T1.*claim T2"):
        open_posterior_means(path, expect_token="T2")


def test_a_foreign_netcdf_file_is_refused(tmp_path: Path) -> None:
    xr.Dataset({"rates": ("x", [1.0])}).to_netcdf(tmp_path / "a.nc")
    with pytest.raises(ResultsError, match="no file of posterior means"):
        open_posterior_means(tmp_path / "a.nc")


def test_a_file_of_a_later_format_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.nc", make_arrays())
    with netCDF4.Dataset(path, "a") as nc:
        nc.format_version = 99
    with pytest.raises(ResultsError, match="format version 99"):
        open_posterior_means(path)


@pytest.mark.parametrize("name", ["día 1 [x]?.nc", "a#mode=bytes.nc", "c:b.nc", "50%.nc", "d" * 200 + ".nc"])
def test_names_that_a_user_may_choose(tmp_path: Path, name: str) -> None:
    arrays = make_arrays()
    with open_posterior_means(write(tmp_path / name, arrays)) as means:
        np.testing.assert_array_equal(means.costs, arrays["costs"])
    assert names_in(tmp_path) == [name]


# -- memory ---------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_trials() -> None:
    """The benchmark of the 2 GB file, at two small sizes."""
    script = Path(__file__).resolve().parents[1] / "benchmarks" / "posterior_memory.py"
    peaks = []
    for gigabytes in ("0.01", "0.1"):
        done = subprocess.run(
            [sys.executable, str(script), "--gigabytes", gigabytes, "--json"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        figures = json.loads(done.stdout)
        peaks.append(figures["write"]["peak_mb"])
        assert figures["neuron"]["peak_mb"] - figures["imports"]["peak_mb"] < 60
        assert figures["trial"]["peak_mb"] - figures["imports"]["peak_mb"] < 60
    assert peaks[1] - peaks[0] < 30  # 90 MB more were written
