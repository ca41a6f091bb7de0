"""What reaches a terminal: text and colours, and no control characters that came with a name or a log.

A terminal obeys what it is sent: escape sequences can rename its window, fill the clipboard, hide lines or
overwrite them. Names, messages and logs come from files that others wrote. In pipes and files they do no
harm.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console

# Control characters but tab and line break, and what turns the direction of writing; colours may stay.
_STRANGE = re.compile(
    r"(\x1b\[[0-9;]*m)|[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)


def visible(text: str) -> str:
    """Return a text in which control characters are seen and not obeyed; colours and line breaks stay.

    Examples
    --------
    >>> visible("day\\x1b]0;owned\\x07")
    'day\\\\x1b]0;owned\\\\x07'
    """
    return _STRANGE.sub(lambda found: found[1] or _shown(found[0]), text.replace("\r\n", "\n"))


def _shown(character: str) -> str:
    return f"\\x{ord(character):02x}" if ord(character) < 256 else f"\\u{ord(character):04x}"


class Guarded(io.TextIOWrapper):
    """A stream to a terminal that shows what is written, and obeys colours alone.

    Attributes
    ----------
    trusted : TextIO
        The stream behind it, for those who move the cursor themselves.
    """

    trusted: TextIO

    @classmethod
    def over(cls, stream: io.TextIOWrapper) -> Guarded:
        """Return one that writes where `stream` writes."""
        guarded = cls(
            stream.buffer,
            encoding=stream.encoding,
            errors="backslashreplace",
            line_buffering=stream.line_buffering,
            write_through=True,
        )
        guarded.trusted = stream
        return guarded

    def write(self, text: str) -> int:
        super().write(visible(text))
        return len(text)


def guarded(stream: Any) -> Any:
    """Return what is to stand in a stream's place: it is itself where it is no terminal."""
    if isinstance(stream, io.TextIOWrapper) and not isinstance(stream, Guarded) and stream.isatty():
        return Guarded.over(stream)
    return stream


def trusted(stream: Any) -> Any:
    """Return the stream that obeys what is written."""
    return getattr(stream, "trusted", stream)


def console_on(stream: Any, **options: Any) -> Console:
    """Return a rich console whose own control codes work, while those in texts are shown."""
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment

    class Careful(Console):
        def render(
            self, renderable: RenderableType, options: ConsoleOptions | None = None
        ) -> Iterable[Segment]:
            for segment in super().render(renderable, options):
                yield segment if segment.control else segment._replace(text=visible(segment.text))

    return Careful(file=trusted(stream), **options)
