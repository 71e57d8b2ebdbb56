"""Numbers and times in words."""

from __future__ import annotations

import pytest

from flask_convstore.inspector import wording


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        (0, "0 s"),
        (-5, "0 s"),
        (999, "0 s"),
        (59_000, "59 s"),
        (60_000, "1 min"),
        (65_000, "1 min 5 s"),
        (599_999, "9 min 59 s"),
        (3_599_000, "59 min"),
        (3_900_000, "1 h 5 min"),
        (90_000_000, "1 d 1 h"),
        (10 * 86_400_000 + 5, "10 d"),
    ],
)
def test_lengths_of_time(milliseconds: int, text: str) -> None:
    assert wording.duration(milliseconds) == text


def test_times_around_now() -> None:
    assert wording.ago(1000, 1500) == "just now"
    assert wording.ago(1000, 4000) == "3 s ago"
    assert wording.until(4000, 1000) == "in 3 s"
    assert wording.until(1000, 4000) == "now"
    assert wording.exact(0) == "1970-01-01 00:00:00 UTC"


def test_numbers() -> None:
    assert wording.number(1234567) == "1,234,567"
    assert wording.number(0.25) == "0.2"
    assert wording.counted(1, "write") == "1 write"
    assert wording.counted(0, "write") == "0 writes"
    assert wording.shortened("x" * 100, 10) == "x" * 9 + "…"
    assert wording.plain("a\u202eb\u200bc d") == "a\\u202eb\\u200bc d"
    assert wording.bytes_in_words(None) == "not known"


def test_a_time_that_no_calendar_has_is_told() -> None:
    assert wording.exact(10**20) == wording.clock(10**20) == "at no time that there is"
