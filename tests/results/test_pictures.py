"""Figures look as they did when they were looked at; and a figure that is wrong would be noticed."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.text import Text

sys.path.insert(0, str(Path(__file__).parent))
import pictures
from pictures import BASELINES, PICTURES, SHIFT, World, content, difference, read

# Of what the release of matplotlib and FreeType that drew the baselines draws again (0, or up to 5 where the
# baseline has few colours), in levels of 255; and of what others draw, whose letters and margins differ, as a
# share of what there is in the picture (up to 0.46: matplotlib 3.8 and 3.10 against 3.11).
SAME_RELEASE, FEW_COLOURS, OTHER_RELEASE = 3.0, 6.5, 0.55
AGAIN = "python tests/results/pictures.py draws the baselines again; look at them before you commit"
# What each axis says; panels that stand in one row or column say it once.
SAID = {
    "single_trials": {"time (ms)", "rate (spikes/s)"},
    "averages": {"time (ms)", "rate (spikes/s)"},
    "raster": {"time (ms)"},
    "factors": {"time (ms)", "factor (a.u.)"},
    "inputs": {"time (ms)", "input (a.u.)", "a.u."},
    "components": {"time (ms)", "PC 1 (a.u.)"},
    "alignment": {"time (ms)", "R² by the other sessions"},
    "generator": {"unit after (sorted)", "unit before (sorted)", "weight"},
    "readout": {"neuron (sorted)", "factor", "log rate per unit of factor"},
    "eigenvalues": {"real part of the eigenvalue (per bin)", "imaginary part (per bin)"},
    "learning": {"epoch", "cost (nats per trial)"},
    "sweep": set(),
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"))


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> dict[int, tuple[str, Any]]:
    """Every text that is drawn, where it stands."""
    found: dict[int, tuple[str, Any]] = {}
    draw = Text.draw

    def noting(self: Text, renderer: Any, *args: Any, **options: Any) -> None:
        if self.get_visible() and self.get_text().strip():
            place = self.get_window_extent(renderer)
            clip = self.get_clip_box() if self.get_clip_on() else None
            if clip is None or clip.overlaps(place):
                found[id(self)] = (self.get_text(), place)
        draw(self, renderer, *args, **options)

    monkeypatch.setattr(Text, "draw", noting)
    return found


def same_release(name: str) -> float:
    return FEW_COLOURS if pictures.has_few_colours(BASELINES / f"{name}.png") else SAME_RELEASE


def test_every_picture_has_a_small_baseline() -> None:
    stored = {path.stem: path.stat().st_size for path in BASELINES.glob("*.png")}
    assert set(stored) == set(PICTURES), AGAIN
    assert max(stored.values()) < 40_000


@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.filterwarnings("error:constrained_layout")
def test_it_looks_as_it_did(name: str, world: World, written: dict[int, Any], tmp_path: Path) -> None:
    path = pictures.draw(name, world, tmp_path / f"{name}.png")
    picture, baseline = read(path), read(BASELINES / f"{name}.png")
    if json.loads(pictures.MADE_WITH.read_text()) == pictures.made_with():
        found, limit = difference(picture, baseline), same_release(name)
    else:
        found, limit = difference(picture, baseline, shift=SHIFT), OTHER_RELEASE * content(baseline)
    assert found < limit, f"{path} differs from its baseline by {found:.1f}. {AGAIN}"
    height, width = picture.shape[:2]
    texts = list(written.values())
    for k, (text, place) in enumerate(texts):
        assert -1 <= place.x0 <= place.x1 <= width + 1, f"{text!r} is cut off"
        assert -1 <= place.y0 <= place.y1 <= height + 1, f"{text!r} is cut off"
        for other, there in texts[k + 1 :]:
            across = min(place.x1, there.x1) - max(place.x0, there.x0)
            down = min(place.y1, there.y1) - max(place.y0, there.y0)
            assert min(across, down) <= 1, f"{text!r} and {other!r} overlap"
    words = {text for text, _ in texts}
    kind = name.removeprefix("dark_").removeprefix("clear_")
    (expected,) = [said for start, said in SAID.items() if kind.startswith(start)]
    assert expected <= words or "3d" in name


@pytest.mark.parametrize("name", [name for name in PICTURES if not name.startswith(("dark", "clear"))])
def test_other_data_would_be_noticed(name: str, tmp_path: Path, other: World) -> None:
    path = pictures.draw(name, other, tmp_path / "other.png")
    assert difference(read(path), read(BASELINES / f"{name}.png")) > 1.3 * same_release(name)


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("other"), seed=1)


@pytest.mark.parametrize("name", PICTURES)
def test_other_colours_would_be_noticed(name: str) -> None:
    """Red, green and blue change places; what has no colour gets a little lighter or darker instead."""
    picture = read(BASELINES / f"{name}.png")
    grey = np.ptp(picture[..., :3], axis=2).max() < 12
    wrong = 0.5 * picture + 64 if grey else picture[..., [1, 2, 0, 3]]
    assert difference(wrong, picture) > 1.3 * same_release(name)


SOME = """single_trials averages raster_trial raster_tiny factors_3d inputs_no_conditions components_tiny
    readout_tiny dark_eigenvalues learning_curve sweep dark_sweep"""


@pytest.mark.parametrize("name", SOME.split())
def test_what_is_elsewhere_would_be_noticed_with_any_release(name: str) -> None:
    picture = read(BASELINES / f"{name}.png")
    assert difference(picture[:, ::-1], picture, shift=SHIFT) > OTHER_RELEASE * content(picture)


def test_a_shift_by_some_pixels_is_forgiven_where_letters_may_differ() -> None:
    picture = read(BASELINES / "averages.png")
    moved = np.roll(picture, (2, -3), axis=(0, 1))
    assert difference(moved, picture) > 4 * FEW_COLOURS
    assert difference(moved, picture, shift=SHIFT) < 0.5 * content(picture)
    assert difference(picture[:, :-3], picture, shift=SHIFT) == 255
