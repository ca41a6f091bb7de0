"""What a dataset needs of the collection that it belongs to, so that it need not know all that one can do."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol


class Owner(Protocol):
    """A dataset collection, seen from one of its datasets."""

    @property
    def path(self) -> Path:
        """The folder that file names are relative to."""

    def add(self, dataset: Any) -> None:
        """Take a dataset in; refuse one whose name another has."""
