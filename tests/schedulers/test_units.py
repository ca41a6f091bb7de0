"""Times and sizes as people write them."""

from __future__ import annotations

import pytest

from lfadsrm_hpc.errors import ConfigError
from lfadsrm_hpc.schedulers.units import format_memory, format_time, parse_memory, parse_time


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("4:00:00", 14400),
        ("48:00:00", 172800),
        ("168:00:00", 604800),
        ("2-00:00:00", 172800),
        ("1-02:03:04", 93784),
        ("1-2:03", 93780),
        ("1-12", 129600),
        ("90m", 5400),
        ("30 s", 30),
        ("2d", 172800),
        ("1d12h", 129600),
        ("1.5h", 5400),
        (" 1H30M ", 5400),
        ("0.1s", 1),
    ],
)
def test_times(text: str, seconds: int) -> None:
    assert parse_time(text) == seconds


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("60", "60m or 60h"),
        ("4:00", "4:00:00 or 4m00s"),
        ("", "90m"),
        ("soon", "90m"),
        ("1h1h", "90m"),
        ("4:75:00", "90m"),
        ("-1h", "90m"),
        ("0s", "90m"),
        ("1h\n", None),
        (60, "60m or 60h"),
        (None, "90m"),
    ],
)
def test_no_times(text: object, hint: str | None) -> None:
    if hint is None:
        assert parse_time(text) == 3600  # blanks around it are nothing
        return
    with pytest.raises(ConfigError, match=hint):
        parse_time(text, where="the file")


def test_times_are_written_as_all_schedulers_read_them() -> None:
    assert [format_time(s) for s in (1, 59.2, 3600, 90061, 604800)] == [
        "0:00:01",
        "0:01:00",
        "1:00:00",
        "25:01:01",
        "168:00:00",
    ]
    for seconds in (1, 60, 3599, 86400, 1234567):
        assert parse_time(format_time(seconds)) == seconds


@pytest.mark.parametrize(
    ("text", "mib"),
    [
        ("16G", 16384),
        ("512M", 512),
        ("512 MB", 512),
        ("1.5TiB", 1572864),
        ("1000K", 1),
        ("2gib", 2048),
        ("0.5g", 512),
    ],
)
def test_sizes(text: str, mib: int) -> None:
    assert parse_memory(text) == mib


@pytest.mark.parametrize(
    ("text", "hint"),
    [("16", "16M or 16G"), ("", "16G"), ("G", "16G"), ("16X", "16G"), ("0G", "16G"), (16, "16M or 16G")],
)
def test_no_sizes(text: object, hint: str) -> None:
    with pytest.raises(ConfigError, match=hint):
        parse_memory(text)


def test_sizes_are_written_exactly() -> None:
    assert (format_memory(16384), format_memory(1500)) == ("16G", "1500M")
    for mib in (1, 1023, 1024, 1536, 3 * 1024**2):
        assert parse_memory(format_memory(mib)) == mib
