"""The pages of the documentation are true: what stands in their code blocks works, in its order."""

from __future__ import annotations

import doc_prepared
import pytest
from doc_pages import ROOT, Place, blocks, pages

PAGES = {str(page.relative_to(ROOT)): page for page in pages()}


def marks(name: str) -> list[pytest.MarkDecorator]:
    return [getattr(pytest.mark, mark) for mark in doc_prepared.MARKS.get(name, ())]


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=marks(name))
        for name, page in PAGES.items()
        if any(block.executed for block in blocks(page))
    ],
)
def test_its_code_works(name: str, place: Place, request: pytest.FixtureRequest) -> None:
    with doc_prepared.around(name, place, request):
        place.execute(PAGES[name])


def test_every_preparation_has_its_page() -> None:
    assert doc_prepared.names() <= set(PAGES)
