"""The picture of the house: floors as rows, rooms as boxes, imports as arrows, all read from the source.

    python docs/_ext/house_picture.py       writes docs/images/house.svg again

The picture that is committed has no numbers of files and lines in it, so that it is out of date only where
the arrows are; the one of the built documentation has both. Colours are such that it can be read on white and
on black. Arrows that follow from others (a room two floors up that also uses what the room between uses) are
faint. Those to the two lowest floors, which nearly every room imports, are not drawn; their boxes say how
many do.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path

import house

PICTURE = house.ROOT / "docs" / "images" / "house.svg"

GROUND_FLOORS = 2
WIDTH, LABEL = 880, 76
ROW, BOX = 88, 50
SIDE = 10
NOT_SHOWN = {"_version", "__init__"}
# One colour a kind of floor; text on them is white (contrast 4.5 and more).
COLORS = {"ground": "#5b6470", "room": "#1f6f8b", "top": "#8a4b2f"}


@dataclass(frozen=True)
class Box:
    """A room where it is drawn; in pixels, `x` and `y` of its upper left corner."""

    room: str
    floor: int
    x: float
    y: float
    width: float

    @property
    def middle(self) -> float:
        return self.x + self.width / 2


def floors() -> list[list[str]]:
    """Return the rooms of every floor that has any, in the order in which they are drawn."""
    there = {house.room(path) for path in house.modules()} - NOT_SHOWN
    return [sorted(rooms & there) for rooms in house.FLOORS if rooms & there]


def arrows() -> set[tuple[str, str]]:
    """Return the pairs of rooms of which the first imports the second, without those to the ground."""
    ground = set().union(*house.FLOORS[:GROUND_FLOORS])
    return {pair for pair in house.rooms_imported() if not set(pair) & (ground | NOT_SHOWN)}


def following(pairs: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """Return the arrows that follow from others: there is a longer way between their ends."""
    below: dict[str, set[str]] = {}
    for one, other in pairs:
        below.setdefault(one, set()).add(other)

    def reaches(start: str) -> set[str]:
        return set().union(*({room} | reaches(room) for room in below.get(start, ())))

    return {(a, b) for a, b in pairs if any(b in reaches(room) for room in below[a] - {b})}


def importers(room: str) -> int:
    """Return how many other rooms import this one."""
    return len({one for one, other in house.rooms_imported() if other == room and one not in NOT_SHOWN})


def sizes(room: str) -> tuple[int, int]:
    """Return the number of files and of lines of a room."""
    paths = [path for path in house.modules() if house.room(path) == room]
    return len(paths), sum(len(path.read_text().splitlines()) for path in paths)


def boxes() -> dict[str, Box]:
    """Return where every room is drawn: the ground is the lowest row, rooms stand above what they import."""
    rows = floors()
    order = _untangled(rows)
    found = {}
    for level, row in enumerate(order):
        y = (len(rows) - 1 - level) * ROW + (ROW - BOX) / 2
        room_width = min(170.0, (WIDTH - LABEL - SIDE) / len(row) - SIDE)
        step = (WIDTH - LABEL) / len(row)
        for number, room in enumerate(row):
            x = LABEL + step * (number + 0.5) - room_width / 2
            found[room] = Box(room, level, x, y, room_width)
    return found


def _untangled(rows: list[list[str]]) -> list[list[str]]:
    """Order the rooms of each row by where their neighbours stand, a few times over, from the ground up."""
    rows = [list(row) for row in rows]
    links = arrows()
    for _ in range(6):
        place = {room: (i + 0.5) / len(row) for row in rows for i, room in enumerate(row)}
        for row in rows[GROUND_FLOORS:]:
            means = {}
            for room in row:
                near = [place[b] for a, b in links if a == room] + [place[a] for a, b in links if b == room]
                means[room] = sum(sorted(near)) / len(near) if near else place[room]
            row.sort(key=lambda room: (round(means[room], 6), room))
            place.update({room: (i + 0.5) / len(row) for i, room in enumerate(row)})
    return rows


def draw(*, numbers: bool) -> str:
    """Return the picture as SVG; with `numbers`, boxes say how many files and lines a room has."""
    rows = floors()
    height = len(rows) * ROW
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
        f'height="{height}" font-family="system-ui, sans-serif" role="img">',
        "<title>Rooms of lfadsrm_hpc by floor, and what they import</title>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="6" markerHeight="6" '
        'orient="auto"><path d="M0 0L8 4L0 8z" fill="#8b8f94"/></marker></defs>',
    ]
    for level in range(len(rows)):
        y = (len(rows) - 1 - level) * ROW
        if level % 2 == 0:
            parts.append(f'<rect x="0" y="{y}" width="{WIDTH}" height="{ROW}" fill="#8b8f94" opacity="0.1"/>')
        name = "ground" if level == 0 else f"floor {level}"
        parts.append(f'<text x="10" y="{y + ROW / 2 + 4}" font-size="13" fill="#808489">{name}</text>')
    placed = boxes()
    links = arrows()
    faint = following(links)
    # the faint ones first, so that the others lie on them
    for pair in sorted(links, key=lambda pair: (pair not in faint, pair)):
        parts.append(_arrow(placed, links, pair, faint=pair in faint))
    parts += [_box(placed[room], len(rows), numbers=numbers) for row in rows for room in row]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _arrow(placed: dict[str, Box], links: set[tuple[str, str]], pair: tuple[str, str], *, faint: bool) -> str:
    one, other = placed[pair[0]], placed[pair[1]]
    title = f"<title>{pair[0]} imports {pair[1]}</title>"
    look = 'stroke="#8b8f94" fill="none" ' + (
        'stroke-width="1.2" opacity="0.45"' if faint else 'stroke-width="2.2"'
    )
    if one.floor == other.floor:  # data takes the list of hyperparameters from model
        y = one.y + BOX + 1
        path = f"M{one.middle:.0f} {y:.0f}C{one.middle:.0f} {y + 26:.0f} {other.middle:.0f} {y + 26:.0f} "
        path += f"{other.middle:.0f} {y + 2:.0f}"
    else:
        start = _port(one, [b for a, b in links if a == one.room], other.room, placed)
        end = _port(other, [a for a, b in links if b == other.room], one.room, placed)
        y0, y1 = one.y + BOX, other.y - 3
        bend = (y1 - y0) * 0.45
        path = f"M{start:.0f} {y0:.0f}C{start:.0f} {y0 + bend:.0f} "
        path += f"{end:.0f} {y1 - bend:.0f} {end:.0f} {y1:.0f}"
    return f'<path d="{path}" {look} marker-end="url(#tip)">{title}</path>'


def _port(box: Box, rooms: list[str], room: str, placed: dict[str, Box]) -> float:
    """Return where on a box's edge an arrow begins or ends, so that arrows do not lie on each other."""
    order = sorted(rooms, key=lambda name: (placed[name].middle, name))
    return box.x + box.width * (order.index(room) + 1) / (len(order) + 1)


def _box(box: Box, n_floors: int, *, numbers: bool) -> str:
    kind = "ground" if box.floor < GROUND_FLOORS else "top" if box.floor >= n_floors - 3 else "room"
    lines = [box.room]
    if numbers:
        n_files, n_lines = sizes(box.room)
        text = f"{n_lines:,} lines"
        lines.append(f"{n_files} files, {text}" if n_files > 1 else text)
    if box.floor < GROUND_FLOORS:
        lines.append(f"used by {importers(box.room)} rooms")
    texts = []
    top = box.y + BOX / 2 - 8 * (len(lines) - 1) + 5
    for number, line in enumerate(lines):
        most = (box.width - 12) / (0.62 * len(line))  # so that the widest letters fit too
        size = min(15.0 if number == 0 else 11.5, round(most, 1))
        look = f'font-size="{size:g}"' + (' font-weight="600"' if number == 0 else "")
        texts.append(
            f'<text x="{box.middle:.0f}" y="{top + 15 * number:.0f}" text-anchor="middle" fill="#ffffff" '
            f"{look}>{escape(line)}</text>"
        )
    return (
        f'<rect x="{box.x:.0f}" y="{box.y:.0f}" width="{box.width:.0f}" height="{BOX}" rx="7" '
        f'fill="{COLORS[kind]}"/>' + "".join(texts)
    )


def write(path: Path = PICTURE, *, numbers: bool = False) -> None:
    """Write the picture."""
    path.write_text(draw(numbers=numbers))


if __name__ == "__main__":
    write()
