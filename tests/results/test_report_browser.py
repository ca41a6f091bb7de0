"""The page about a collection in a real Chromium: it sorts, filters, points, fits a phone."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lfadsrm_hpc.api import RunCollection

if TYPE_CHECKING:
    from browser import Browser, Page

BODY = "#table tbody tr"
HACKED = "typeof hacked === 'undefined' ? 'no' : hacked"


@pytest.fixture
def opened(browser: Browser, page: Path) -> Iterator[Any]:
    """Open the page as often as one likes; at the end it must have been quiet and alone each time."""
    tabs: list[Page] = []

    def opening(**options: Any) -> Page:
        tabs.append(browser.open(page, **options))
        return tabs[-1]

    yield opening
    for tab in tabs:
        assert tab.messages == []
        assert tab.requests == []
        tab.close()


def texts(page: Page, selector: str) -> list[str]:
    found: list[str] = sys.modules["browser"].texts(page, selector)
    return found


def column(page: Page, name: str) -> list[str]:
    """Return the texts of a column, of the rows that are shown, from top to bottom."""
    found: list[str] = page.value(
        "(() => { const heads = [...document.querySelectorAll('#table thead th')];"
        f"const k = heads.findIndex(h => h.dataset.name === '{name}');"
        f"return [...document.querySelectorAll('{BODY}')].filter(r => !r.hidden)"
        ".map(r => k ? r.cells[k].textContent : r.querySelector('b').textContent); })()"
    )
    return found


def press(page: Page, selector: str) -> None:
    page.value(f"document.querySelector({selector!r}).click()")


def search(page: Page, text: str) -> None:
    page.value(
        f"(async () => {{ const s = document.querySelector('#search'); s.value = {text!r};"
        "s.dispatchEvent(new Event('input')); await new Promise(r => setTimeout(r, 200)); })()"
    )


def choose(page: Page, selector: str, value: str) -> None:
    page.value(
        f"(() => {{ const s = document.querySelector({selector!r}); s.value = {value!r};"
        "s.dispatchEvent(new Event('change')); })()"
    )


def test_where_there_is_no_chromium(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    needed = sys.modules["browser"].need_chromium
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setenv("LFADSRM_REQUIRE_TOOLS", "1")
    with pytest.raises(pytest.fail.Exception, match="chromium is not installed"):
        needed()
    monkeypatch.delenv("LFADSRM_REQUIRE_TOOLS")
    with pytest.raises(pytest.skip.Exception, match="apt-get install chromium"):
        needed()


def test_it_sorts_both_ways_and_says_so(opened: Any) -> None:
    page = opened()
    before = column(page, "co_bps")
    press(page, "[data-name=co_bps] button")
    known = sorted((float(one) for one in before if one != "–"), reverse=True)
    assert [float(one) for one in column(page, "co_bps")[:10]] == known, "higher is better: that comes first"
    assert set(column(page, "co_bps")[10:]) == {"–"}, "what is not known comes last"
    assert page.value("document.querySelector('[data-name=co_bps]').ariaSort") == "descending"
    press(page, "[data-name=co_bps] button")
    assert [float(one) for one in column(page, "co_bps")[:10]] == known[::-1]
    assert set(column(page, "co_bps")[10:]) == {"–"}
    assert page.value("document.querySelectorAll('[aria-sort]').length") == 1
    press(page, "[data-name=factors_dim] button")
    assert column(page, "factors_dim") == ["4"] * 9 + ["10"] * 9, "as numbers"
    press(page, "[data-name=verdict] button")
    assert column(page, "verdict")[:10] == ["good"] * 6 + ["suspect"] * 2 + ["bad"] * 2
    press(page, "[data-name=run] button")
    names = column(page, "run")
    assert names == sorted(names, key=lambda name: (len(name), name)), "10 after 4"


def test_it_filters_by_words_values_and_choices(opened: Any, reported: RunCollection) -> None:
    page = opened()
    everything = len(reported.runs)
    for text, count in {
        "seed=1": 6,
        "factors_dim=10 seed=1": 3,
        "co_bps>=0.13": 4,
        "co-bps<0.11 plain": 1,
        "SUSPECT": 2,
        reported.runs[0].id: 1,
        "state!=completed": 8,
        "it says": 4,
        "<script>": 4,
        "no such thing": 0,
        "": everything,
    }.items():
        search(page, text)
        assert len(column(page, "run")) == count, text
        shown = page.value("document.querySelectorAll('#together path[data-row]:not(.off)').length")
        curves = page.value(
            "[...document.querySelectorAll('#together path[data-row]')].filter(p => "
            "!document.querySelector('#r' + p.dataset.row).hidden).length"
        )
        assert shown == curves, "curves of the runs that the table shows"
    choose(page, "#state", "failed")
    assert column(page, "state") == ["failed"] * 2
    assert texts(page, "#count") == ["2 of 18 runs"]
    choose(page, "#spec", "plain")
    assert column(page, "state") == ["failed"]
    press(page, "#clear")
    assert texts(page, "#count") == ["18 runs"]
    choose(page, "#verdict", "bad")
    assert column(page, "verdict") == ["bad"] * 2


def test_what_was_chosen_stands_in_the_address(opened: Any) -> None:
    page = opened()
    search(page, "seed=2")
    choose(page, "#state", "completed")
    press(page, "[data-name=lowest_valid_cost] button")
    first = column(page, "lowest_valid_cost")
    address = page.value("location.hash")
    again = opened(after=address.lstrip("#"))
    assert column(again, "lowest_valid_cost") == first
    assert again.value("document.querySelector('#search').value") == "seed=2"
    assert again.value("document.querySelector('[data-name=lowest_valid_cost]').ariaSort") == "ascending"
    other = opened(after="runs")
    assert len(column(other, "run")) == 18, "a place on the page is no choice"


def test_it_works_by_keyboard_alone(opened: Any) -> None:
    page = opened()
    page.value("document.querySelector('#clear').focus()")
    reached = []
    for _ in range(6):
        page.press("Tab")
        reached.append(page.value("document.activeElement.outerHTML.slice(0, 40)"))
    assert any("Columns" in one for one in reached)
    page.value("document.querySelector('[data-name=seed] button').focus()")
    page.press("Enter")
    assert column(page, "seed") == sorted(column(page, "seed"))
    page.value("document.querySelector('#r3 summary').focus()")
    page.press("Enter")
    assert page.value("document.querySelector('#r3 details').open")
    page.until("document.querySelector('[data-row=\"3\"]').classList.contains('picked')")
    unnamed = page.value(
        "[...document.querySelectorAll('button, input, select, svg, [role=region]')].filter(e => "
        "!(e.textContent.trim() || e.ariaLabel || e.getAttribute('aria-labelledby') || e.labels?.length))"
        ".length"
    )
    assert unnamed == 0, "everything that can be used has a name"


def test_columns_can_be_hidden_and_shown(opened: Any) -> None:
    page = opened()
    shown = texts(page, "#table thead th")
    assert "ended" not in shown
    page.value("document.querySelector('#columns').open = true")
    boxes = "[...document.querySelectorAll('#columns label')].find(l => l.textContent === '%s').click()"
    page.value(boxes % "ended")
    page.value(boxes % "seed")
    assert "ended" in texts(page, "#table thead th")
    assert "seed" not in texts(page, "#table thead th")
    assert len(texts(page, "#r0 > *")) == len(texts(page, "#table thead th"))


def test_pointing_at_a_curve_names_its_run_and_a_click_finds_it(opened: Any) -> None:
    page = opened()
    x, y = page.value(
        "(() => { const svg = document.querySelector('#together svg'); svg.scrollIntoView();"
        "const p = document.querySelector('#together [data-row=\"7\"]').getAttribute('d');"
        "const n = p.match(/-?\\d+/g).map(Number); let [x, y] = n;"
        "for (let k = 2; k < n.length; k += 2) { x += n[k]; y += n[k + 1]; }"
        "const b = svg.getBoundingClientRect();"
        "return [b.left + b.width * (x - 5) / 1000, b.top + b.height * y / 500]; })()"
    )
    page.click(x, y, move_only=True)
    assert texts(page, "#tip") == ["plain factors_dim=4 seed=1"]
    page.click(x, y)
    assert page.value("document.querySelector('.found').id") == "r7"
    assert page.value("document.querySelector('#r7 details').open")
    assert page.value("(() => { const b = document.querySelector('#r7').getBoundingClientRect();"
                      "return b.top > 0 && b.bottom < innerHeight; })()")  # fmt: skip


def test_light_and_dark(opened: Any) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    light, dark = opened(), opened(dark=True)
    grounds = light.value(ground), dark.value(ground)
    assert grounds[0] == "rgb(255, 255, 255)"
    assert grounds[1] != grounds[0]
    # The browser tells its other pages of the choice once it has it; a page opened before may not know.
    dark.value("addEventListener('storage', () => { window.told = true; }), 0")
    press(light, "#theme")
    assert light.value(ground) == grounds[1]
    dark.until("window.told")
    again = opened()
    assert again.value(ground) == grounds[1], "what was chosen is kept"
    press(again, "#theme")
    assert again.value(ground) == grounds[0]
    assert texts(again, "#theme") == ["Dark"]
    again.value("localStorage.clear()")


CONTRAST = """
(() => {
  const part = v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const light = c => { const [r, g, b] = c.match(/[\\d.]+/g).map(Number);
    return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b); };
  const behind = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor;
    if (!/, 0\\)$/.test(c)) return c; } return 'rgb(255, 255, 255)'; };
  let least = 99, where = '';
  for (const e of document.querySelectorAll('body *:not(script, style, option)')) {
    if (!e.offsetParent || ![...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim())) continue;
    const [a, b] = [light(getComputedStyle(e).color), light(behind(e))].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < least) [least, where] = [(a + 0.05) / (b + 0.05), e.outerHTML.slice(0, 80)];
  }
  return [least, where];
})()
"""


@pytest.mark.parametrize("dark", [False, True])
def test_text_stands_out_from_its_ground(opened: Any, dark: bool) -> None:
    least, where = opened(dark=dark).value(CONTRAST)
    assert least >= 4.5, where  # WCAG 2, level AA


@pytest.mark.parametrize("width", [320, 390, 768])
def test_it_fits_a_phone(opened: Any, width: int) -> None:
    page = opened(width=width, height=844)
    assert page.value("document.documentElement.scrollWidth") == width
    page.value("for (const one of document.querySelectorAll('details')) one.open = true")
    assert page.value("document.documentElement.scrollWidth") == width
    wide = page.value(
        "(() => { const t = document.querySelector('#table'); return t.scrollWidth > t.clientWidth; })()"
    )
    assert wide, "the table scrolls within itself"
    small = page.value(
        "[...document.querySelectorAll('#theme, #clear, #filters select, #search')]"
        ".filter(e => e.getBoundingClientRect().height < 32).length"
    )
    assert small == 0, "large enough for fingers"


def test_names_do_nothing(opened: Any) -> None:
    page = opened()
    page.value("for (const one of document.querySelectorAll('details')) one.open = true")
    choose(page, "#spec", '<img src=x onerror="hacked=1">')
    assert len(column(page, "run")) == 6
    assert page.value(HACKED) == "no"
    assert page.value("document.images.length") == 0


def test_the_policy_holds(browser: Browser, page: Path, tmp_path: Path) -> None:
    """What would slip in all the same is neither run nor fetched."""
    (tmp_path / "x.png").write_bytes(b"")
    added = '<script>hacked=3</script><img src="x.png" onerror="hacked=4"></body>'
    path = tmp_path / "changed.html"
    path.write_text(page.read_text().replace("</body>", added))
    tab = browser.open(path)
    assert tab.value(HACKED) == "no"
    said = " ".join(tab.messages)
    assert "Content Security Policy" in said
    assert tab.requests == [] or "blocked" in said.lower()
    tab.close()


def test_without_its_script_everything_is_shown(opened: Any) -> None:
    page = opened(script=False)
    assert len(texts(page, f"{BODY} summary")) == 18
    assert "ended" in texts(page, "#table thead th")
    assert texts(page, "#filters *") == []
    assert len(texts(page, "#theme")) == 0
    assert page.value("document.querySelectorAll('svg path.thin').length") > 0


def test_it_prints(opened: Any) -> None:
    import base64

    page = opened(dark=True)
    page.ask("Emulation.setEmulatedMedia", media="print")
    assert page.value("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert texts(page, "nav *, #filters *, #theme") == []
    data = base64.b64decode(page.ask("Page.printToPDF", printBackground=True)["data"])
    assert data.startswith(b"%PDF")
