"""Colours of figures: told apart by people who do not tell red from green, readable on white and on black.

Eight named colours for what has no order (the first six are those of Okabe and Ito), one graded scale for
more, whose lightness rises throughout. Text and axes have the colour that matplotlib's settings give them, so
that `style("dark")`, or any style sheet of the user's, is enough for another ground.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from matplotlib.colors import Colormap

INFERRED, VALID, SMOOTHED = "#0072B2", "#D55E00", "#E69F00"
NAMED = (INFERRED, VALID, "#009E73", "#CC79A7", SMOOTHED, "#56B4E9", "#8A4FE0", "#8F5A3C")
MUTED = "#888888"
_GRADED = ("#2B5FC7", "#8469CE", "#C66C9C", "#E88150", "#E5AC15")

Ground = Literal["light", "dark", "transparent"]
# ground -> what lies behind (None: nothing), text and axes
_GROUNDS: dict[str, tuple[str, str]] = {
    "light": ("#ffffff", "#1a1a1a"),
    "dark": ("#16181d", "#e6e6e6"),
    "transparent": ("none", "#808080"),
}


@contextmanager
def style(ground: Ground = "light") -> Iterator[None]:
    """Draw in the style of this package: fonts, sizes and grounds do not depend on the user's settings.

    Figures must be made inside, and keep their look afterwards.

    Parameters
    ----------
    ground : {"light", "dark", "transparent"}
        "transparent" has no ground of its own, and grey text that is readable on white and on black.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> with style("dark"):
    ...     ax = Figure().add_subplot()
    """
    import matplotlib

    behind, text = _GROUNDS[ground]
    settings: dict[str, Any] = {
        "font.family": "sans-serif",
        "font.sans-serif": ["DejaVu Sans"],
        "font.size": 9.0,
        "axes.titlesize": "medium",
        "axes.labelsize": "medium",
        "figure.facecolor": behind,
        "savefig.facecolor": behind,
        "axes.facecolor": behind,
        "legend.facecolor": behind,
        "figure.dpi": 100.0,
        "savefig.dpi": "figure",
        "grid.color": MUTED,
        "grid.linewidth": 0.5,
        "lines.antialiased": True,
        "text.usetex": False,
        "axes.unicode_minus": True,
        "svg.fonttype": "path",
    }
    colored = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
    settings.update(dict.fromkeys(colored, text))
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        parameters: Any = matplotlib.rcParams
        parameters.update(settings)
        yield


def foreground() -> Any:
    """Return the colour of text, which is readable on the ground that is set."""
    import matplotlib

    return matplotlib.rcParams["text.color"]


def graded() -> Colormap:
    """Return the scale for many things in an order."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("lfadsrm", list(_GRADED))


def colors(count: int) -> list[Any]:
    """Return as many colours: named ones for few, graded ones for many."""
    if count <= len(NAMED):
        return list(NAMED[:count])
    scale = graded()
    return [scale(i / (count - 1)) for i in range(count)]


def text_on(color: Sequence[float]) -> str:
    """Return black or white, whichever is easier to read on a colour (its red, green and blue in 0 to 1)."""
    red, green, blue = (((c + 0.055) / 1.055) ** 2.4 if c > 0.04045 else c / 12.92 for c in color[:3])
    return "#000000" if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.18 else "#ffffff"
