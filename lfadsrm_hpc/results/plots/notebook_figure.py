"""Figures that notebooks show without pyplot, which this package does not touch.

IPython knows how to show a matplotlib figure only once pyplot is imported there.
"""

from __future__ import annotations

import io

from matplotlib.figure import Figure


class NotebookFigure(Figure):
    """A matplotlib figure that brings its own picture for notebooks."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png")
        return buffer.getvalue()
