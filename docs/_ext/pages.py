"""What the documentation adds to Sphinx."""

from __future__ import annotations

from sphinx.application import Sphinx


def setup(app: Sphinx) -> dict[str, bool]:
    """Register."""
    return {"parallel_read_safe": True, "parallel_write_safe": True}
