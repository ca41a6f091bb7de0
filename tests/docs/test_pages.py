"""The pages of the documentation are true: what stands in their code blocks works, in the order of the page."""

from __future__ import annotations

from pathlib import Path

import doc_prepared
import pytest
from doc_pages import ROOT, Place, blocks, pages


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "page",
    [
        pytest.param(
            page,
            id=str(page.relative_to(ROOT)),
            marks=[getattr(pytest.mark, mark) for mark in doc_prepared.MARKS.get(page.name, ())],
        )
        for page in pages()
        if any(block.executed for block in blocks(page))
    ],
)
def test_its_code_works(page: Path, place: Place, request: pytest.FixtureRequest) -> None:
    with doc_prepared.around(page.name, place, request):
        place.execute(page)


def test_every_preparation_has_its_page() -> None:
    names = [page.name for page in pages()]
    assert doc_prepared.names() <= set(names)
    assert len(set(names)) == len(names), "two pages of one name: preparations go by names"
