"""Times, memory and sizes as people and schedulers write them."""

from __future__ import annotations

import math
import re
from fractions import Fraction

from lfadsrm_hpc.errors import ConfigError

_CLOCK = re.compile(r"(?:(\d+)-)?(\d+):(\d{1,2})(?::(\d{1,2}))?")
_DAYS_HOURS = re.compile(r"(\d+)-(\d{1,2})")
_PARTS = re.compile(r"(?:\d+(?:\.\d+)?\s*[dhms]\s*)+")
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*([dhms])")
_SECONDS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_MEMORY = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt])i?b?")
_MIB = {"k": Fraction(1, 1024), "m": Fraction(1), "g": Fraction(1024), "t": Fraction(1024**2)}


def parse_time(text: object, *, where: object = None) -> int:
    """Return the seconds that a time means, rounded up.

    "48:00:00", "2-00:00:00" (days first), "1-12" (days and hours), "90m", "1d12h", "1.5h". What schedulers
    read differently ("60", "4:00") is refused.

    Raises
    ------
    ConfigError
        It is no such text, or no time at all (0).

    Examples
    --------
    >>> parse_time("4:00:00"), parse_time("1-12"), parse_time("90m")
    (14400, 129600, 5400)
    """
    seconds = _seconds(text.strip().lower()) if isinstance(text, str) else None
    if seconds is None:
        raise ConfigError(f"{text!r} is not a time", where=where, hint=_time_hint(text))
    if seconds < 1:
        raise ConfigError(f"{text!r} is no time at all", where=where, hint="write such as 4:00:00 or 90m")
    return seconds


def _seconds(text: str) -> int | None:
    if match := _CLOCK.fullmatch(text):
        days, hours, minutes, seconds = match.groups()
        if (days is None and seconds is None) or int(minutes) > 59 or int(seconds or 0) > 59:
            return None
        return ((int(days or 0) * 24 + int(hours)) * 60 + int(minutes)) * 60 + int(seconds or 0)
    if match := _DAYS_HOURS.fullmatch(text):
        return (int(match[1]) * 24 + int(match[2])) * 3600
    if _PARTS.fullmatch(text):
        parts = _PART.findall(text)
        if len({unit for _, unit in parts}) == len(parts):
            return math.ceil(sum(Fraction(number) * _SECONDS[unit] for number, unit in parts))
    return None


def _time_hint(text: object) -> str:
    known = "hours:minutes:seconds, days-hours:minutes:seconds, or with letters: 90m, 4h, 2d, 1d12h"
    bare = str(text).strip()
    if re.fullmatch(r"\d+", bare):
        return f"schedulers disagree about a bare number; write {bare}m or {bare}h"
    if match := re.fullmatch(r"(\d+):(\d\d)", bare):
        return f"schedulers disagree about this; write {match[1]}:{match[2]}:00 or {match[1]}m{match[2]}s"
    return f"write {known}"


def format_time(seconds: float) -> str:
    """Return a time as every scheduler reads it: hours:minutes:seconds, rounded up to whole seconds.

    Examples
    --------
    >>> format_time(14400), format_time(172800)
    ('4:00:00', '48:00:00')
    """
    whole = math.ceil(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def parse_memory(text: object, *, where: object = None) -> int:
    """Return the MiB that a size means, rounded up; K, M, G and T count by 1024, as schedulers do.

    Raises
    ------
    ConfigError
        It is no size with a unit (schedulers disagree about bare numbers), or nothing at all.

    Examples
    --------
    >>> parse_memory("16G"), parse_memory("512 MB"), parse_memory("1.5TiB")
    (16384, 512, 1572864)
    """
    match = _MEMORY.fullmatch(text.strip().lower()) if isinstance(text, str) else None
    if match is None:
        bare = str(text).strip()
        hint = "write a number and K, M, G or T, such as 16G"
        if bare.isdigit():
            hint = f"schedulers disagree about a bare number; write {bare}M or {bare}G"
        raise ConfigError(f"{text!r} is not a size of memory", where=where, hint=hint)
    size = math.ceil(Fraction(match[1]) * _MIB[match[2]])
    if size < 1:
        raise ConfigError(f"{text!r} is no memory at all", where=where, hint="write such as 16G or 512M")
    return size


def format_memory(mib: int) -> str:
    """Return a size as every scheduler reads it, in G where that is exact.

    Examples
    --------
    >>> format_memory(16384), format_memory(1500)
    ('16G', '1500M')
    """
    return f"{mib // 1024}G" if mib % 1024 == 0 else f"{mib}M"


def format_bytes(size: float) -> str:
    """Return a size on disk for people.

    Examples
    --------
    >>> format_bytes(12), format_bytes(13_207_024_435)
    ('12 bytes', '12.3 GiB')
    """
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
