"""Every figure on made-up data, and the pictures of them that were looked at: `baseline_images/*.png`.

    python tests/results/pictures.py            draws them again, after which look at them and commit
    python tests/results/pictures.py --look DIR  draws them larger into another folder, to look at

They are small, in a fixed style, and compared blurred: fonts and antialiasing differ between releases of
matplotlib by a pixel here and there; a colour, a line or a label elsewhere is more than that.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

sys.path.insert(0, str(Path(__file__).parent))
from made_up_model import Model, conditions, fit_log

from lfadsrm_hpc.results import plots

BASELINES = Path(__file__).parent / "baseline_images"
MADE_WITH = BASELINES / "made_with.json"
DPI = 50
SHIFT = 4  # pixels, by which the fonts of other releases move things
Floats = npt.NDArray[np.float64]


class World:
    """The made-up runs that are drawn; a test draws another one with changed data.

    Parameters
    ----------
    folder : Path
        For files of model parameters.
    change : callable
        What is done to posterior means before they are drawn.
    """

    def __init__(
        self, folder: Path, change: Callable[[xr.Dataset], xr.Dataset] = lambda means: means, seed: int = 0
    ) -> None:
        self.folder, self.change, self.seed = folder, change, seed

    def means(self, kinds: int = 8, trials: int = 6, **model: Any) -> dict[str, xr.Dataset]:
        """Return posterior means of each session; no conditions where `kinds` is 0."""
        made = self.model(**model)
        condition = conditions(kinds, trials) if kinds else np.full(trials, -1)
        return {name: self.change(made.outputs(name, condition)) for name in made.neurons}

    def model(self, **changes: Any) -> Model:
        given: dict[str, Any] = {"neurons": {"day1": 16, "day2": 20, "day3": 12}, "seed": self.seed}
        return Model(**{**given, **changes})

    def params(self, **changes: Any) -> xr.Dataset:
        return self.model(**changes).params(self.folder)

    @cached_property
    def three(self) -> dict[str, xr.Dataset]:
        return self.means()

    @property
    def one(self) -> xr.Dataset:
        return self.three["day1"]

    @cached_property
    def sixty(self) -> xr.Dataset:
        """Return a session of sixty conditions."""
        return self.means(60, 2, neurons={"day1": 7})["day1"]

    @cached_property
    def tiny(self) -> xr.Dataset:
        """Return one neuron, one factor, no controller, no conditions."""
        return self.means(0, 5, **TINY)["only"]

    def table(self) -> pd.DataFrame:
        """Return a table of runs: three specs, a sweep of two, three seeds; a few have no metric."""
        rng = np.random.default_rng(self.seed)
        rows = [
            {
                "spec": spec, "factors_dim": factors, "kl_ic_weight": weight, "seed": seed,
                "cell": "wide" if factors > 4 else "narrow",
                "co_bps": 0.2 + 0.05 * np.log2(factors) - 0.012 * np.log2(factors) ** 2 + gain
                - 0.006 * np.log10(weight) ** 2 + 0.008 * rng.standard_normal(),
            }
            for spec, gain in (("stitched", 0.05), ("single_day1", 0.0), ("single_day2", -0.01))
            for factors in (2, 4, 8, 16, 32)
            for weight in (0.01, 0.1, 1.0)
            for seed in range(3)
        ]  # fmt: skip
        table = pd.DataFrame(rows)
        table.loc[rng.permutation(len(table))[:12], "co_bps"] = np.nan
        gone = (table.factors_dim == 8) & (table.kl_ic_weight == 0.1) & (table.spec == "single_day1")
        table.loc[gone, "co_bps"] = np.nan
        return table

    def random(self) -> pd.DataFrame:
        """Return a table of runs whose hyperparameters were drawn at random."""
        rng = np.random.default_rng(self.seed)
        rate, keep = 10 ** rng.uniform(-4, -1, 40), rng.uniform(0.5, 1, 40)
        cost = 220 + 9 * (np.log10(rate) + 2.2) ** 2 + 30 * (keep - 0.8) ** 2 + rng.standard_normal(40)
        return pd.DataFrame({"learning_rate_init": rate, "keep_prob": keep, "lowest_valid_cost": cost})

    def logs(self, count: int) -> dict[str, pd.DataFrame]:
        return {
            f"param_{k:012x}/stitched": fit_log(240 + 12 * k / count, seed=10 * self.seed + k)
            for k in range(count)
        }


TINY: dict[str, Any] = {"neurons": {"only": 1}, "factors": 1, "inputs": 0, "units": 6}
LONG = {k: f"reach to the {'left' if k % 2 else 'right'} and up, {k} cm" if k < 6 else "" for k in range(8)}


def _named(means: xr.Dataset) -> xr.Dataset:
    return means.assign_coords(condition=("trial", [LONG[int(k)] for k in means["condition"].values]))


# name -> what draws it; `dark_...` and `clear_...` on other grounds
PICTURES: dict[str, Callable[[World], Any]] = {
    "single_trials": lambda w: plots.single_trial_rates_by_condition(w.one, 3, conditions=[0, 2, 4, 6]),
    "single_trials_long_names": lambda w: plots.single_trial_rates_by_condition(_named(w.one), 5),
    "dark_single_trials": lambda w: plots.single_trial_rates_by_condition(w.one, 3, conditions=[0, 3]),
    "averages": lambda w: plots.average_rates_by_condition(w.one, range(4), conditions=[0, 2, 4]),
    "averages_sixty": lambda w: plots.average_rates_by_condition(w.sixty, [0, 2, 5]),
    "averages_tiny": lambda w: plots.average_rates_by_condition(w.tiny),
    "raster_trial": lambda w: plots.raster_of_trial(w.one, 5),
    "raster_neuron": lambda w: plots.raster_of_neuron(w.one, 3),
    "raster_sixty": lambda w: plots.raster_of_neuron(w.sixty, 3),
    "raster_tiny": lambda w: plots.raster_of_trial(w.tiny, 2),
    "dark_raster": lambda w: plots.raster_of_trial(w.one, 5),
    "factors": lambda w: plots.factors_over_time(w.one),
    "factors_trials_tiny": lambda w: plots.factors_over_time(w.tiny, trials=True),
    "factors_3d": lambda w: plots.factors_3d(w.one, legend=True),
    "dark_factors_3d": lambda w: plots.factors_3d(w.one, conditions=[0, 4]),
    "inputs": lambda w: plots.inferred_inputs(w.one),
    "inputs_sixty": lambda w: plots.inferred_inputs(w.sixty, 0),
    "inputs_no_conditions": lambda w: plots.inferred_inputs(w.means(0, 20, neurons={"a": 3})["a"], [0]),
    "components": lambda w: plots.session_components(w.three),
    "components_tiny": lambda w: plots.session_components({"only": w.tiny}),
    "alignment": lambda w: plots.session_alignment(w.params(), w.three),
    "generator_weights": lambda w: plots.generator_weights(w.params()),
    "readout_weights": lambda w: plots.readout_weights(w.params()),
    "readout_tiny": lambda w: plots.readout_weights(w.params(**TINY)),
    "eigenvalues": lambda w: plots.generator_eigenvalues(w.params(), w.one),
    "dark_eigenvalues": lambda w: plots.generator_eigenvalues(w.params(**TINY), w.tiny, at="origin"),
    "learning_curve": lambda w: plots.learning_curves(w.logs(1)),
    "learning_curves": lambda w: plots.learning_curves(w.logs(5)),
    "learning_curves_many": lambda w: plots.learning_curves(w.logs(40)),
    "clear_learning_curves": lambda w: plots.learning_curves(w.logs(3)),
    "sweep": lambda w: plots.sweep_curve(w.table(), "co_bps", "factors_dim"),
    "sweep_names": lambda w: plots.sweep_curve(w.table(), "co_bps", "cell"),
    "sweep_map": lambda w: plots.sweep_map(w.table(), "co_bps", ("factors_dim", "kl_ic_weight")),
    "sweep_random": lambda w: plots.sweep_map(
        w.random(), "lowest_valid_cost", ("learning_rate_init", "keep_prob")
    ),
    "dark_sweep": lambda w: plots.sweep_curve(w.table(), "co_bps", "factors_dim"),
}
GROUNDS: dict[str, Any] = {"dark": "dark", "clear": "transparent"}


def draw(name: str, world: World, path: Path, dpi: int = DPI) -> Path:
    """Draw one picture into a PNG file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with plots.style(GROUNDS.get(name.partition("_")[0], "light")):
        axes = PICTURES[name](world)
        np.ravel(np.array(axes, dtype=object))[0].figure.savefig(path, dpi=dpi, metadata={"Software": None})
    return path


def store(path: Path) -> None:
    """Make a picture small if it is not: 128 colours are enough to compare lines with."""
    from PIL import Image

    if path.stat().st_size > 25_000:
        picture = Image.open(path)
        picture.load()
        picture.quantize(128, method=Image.Quantize.FASTOCTREE).save(path, optimize=True)


def has_few_colours(path: Path) -> bool:
    from PIL import Image

    with Image.open(path) as picture:
        return picture.mode == "P"


def made_with() -> dict[str, str]:
    """Return what the look of letters depends on."""
    import matplotlib
    import matplotlib.ft2font

    release = ".".join(matplotlib.__version__.split(".")[:2])
    return {"matplotlib": release, "freetype": matplotlib.ft2font.__freetype_version__}


def read(path: Path) -> Floats:
    """Return a picture as (height, width, 4) in 0 to 255; the colour of what is transparent is black."""
    import matplotlib.image

    picture = np.asarray(matplotlib.image.imread(path), dtype=np.float64) * 255
    assert picture.shape[2] == 4
    picture[..., :3] *= picture[..., 3:] / 255
    return picture


def difference(one: Floats, two: Floats, *, shift: int = 0) -> float:
    """Return how much two pictures differ, 0 to 255: the root mean square in the worst square of 24 pixels.

    A square, so that what differs in a corner is not diluted by the white of the rest. With a shift, each
    square is compared where it fits best within so many pixels, and both are blurred more: the fonts of
    another release of matplotlib push axes about by so much.
    """
    from scipy.ndimage import gaussian_filter, uniform_filter

    if np.abs(np.subtract(one.shape, two.shape)).max() > shift / 2:
        return 255.0
    height, width = np.minimum(one.shape, two.shape)[:2]
    blur = (2.0, 2.0, 0) if shift else (0.7, 0.7, 0)
    a, b = (gaussian_filter(picture[:height, :width], blur) for picture in (one, two))
    best = np.full((height, width), np.inf)
    for down in range(-shift, shift + 1, 2):
        for right in range(-shift, shift + 1, 2):
            square = (a - np.roll(b, (down, right), axis=(0, 1))) ** 2
            best = np.minimum(best, uniform_filter(square.mean(axis=2), 24))
    return float(np.sqrt(best.max()))


def content(picture: Floats) -> float:
    """Return how much a picture differs from nothing on its own ground, as `difference` with a shift does."""
    return difference(np.ones_like(picture) * picture[:1, :1], picture, shift=SHIFT)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--look", type=Path, metavar="DIR", help="draw larger pictures there")
    parser.add_argument("names", nargs="*", help="these alone")
    given = parser.parse_args()
    if not given.look:
        MADE_WITH.write_text(json.dumps(made_with()) + "\n")
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder))
        for name in given.names or PICTURES:
            path = draw(name, world, (given.look or BASELINES) / f"{name}.png", 90 if given.look else DPI)
            if not given.look:
                store(path)
            print(f"{path}  {path.stat().st_size / 1024:.0f} KB")


if __name__ == "__main__":
    main()
