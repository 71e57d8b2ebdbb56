"""Sums of a minute: the histogram tells times to within a fifth, and sums may be added up."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from flask_convstore.domain.figures import Minute, bucket_of, minute_from, minute_of, second_of


@pytest.mark.parametrize("scale_ms", [0.3, 7.0, 400.0])
def test_percentiles_are_right_to_within_a_fifth(scale_ms: float) -> None:
    chance = random.Random(7)
    times_ms = sorted(scale_ms * chance.lognormvariate(0, 1) for _ in range(5_000))
    minute = minute_from(0, Counter(bucket_of(time_ms / 1000) for time_ms in times_ms))
    told = (minute.p50_ms, minute.p95_ms, minute.p99_ms)
    for found, share in zip(told, (0.5, 0.95, 0.99), strict=True):
        assert found == pytest.approx(times_ms[int(share * len(times_ms))], rel=0.2)
    assert minute.operations == 5_000


def test_no_time_is_too_short_or_too_long() -> None:
    assert bucket_of(0) == "ms0"
    assert bucket_of(1e9) == bucket_of(500)
    longest = minute_from(0, {bucket_of(1e9): 1}).p99_ms
    assert longest is not None
    assert longest > 60_000


def test_a_minute_without_sums_has_zeros() -> None:
    assert minute_from(60_000, {}) == Minute(at_ms=60_000)
    assert minute_from(0, {"asked": 3}) == Minute(at_ms=0)


def test_seconds_in_which_the_server_was_away_count_once() -> None:
    at_ms = minute_of(1_796_070_919_033) + 3_000
    sums = Counter([second_of(at_ms), second_of(at_ms + 999), second_of(at_ms + 1_000)])
    assert minute_from(minute_of(at_ms), sums).degraded_seconds == 2
