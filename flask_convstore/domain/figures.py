"""Figures of a store: the sessions that are there now, and what has happened, by the minute.

What has happened is kept in sums, which may be added up in any order. ``Sums`` are numbers by these names:

| name | counts |
| --- | --- |
| started, deleted | sessions |
| turns, failed_turns | turns that have ended |
| failed | calls that found no server, or broke |
| ms<number> | calls, by the time that they took: a bucket of a histogram |
| away<second> | calls that found the server away, by the second of the minute |
| alive | sessions at some moment of the minute. It is noted once, and not added up |
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

Sums = Mapping[str, int]

MINUTE_MS = 60_000

_FIRST_MS = 0.1
_BUCKETS_OF_TWICE = 2
_LAST_BUCKET = 40
"""Buckets have bounds of 0.1 ms, 0.14, 0.2 and so on, up to 105 s."""


class PlaceFigures(NamedTuple):
    """The sessions of one place, as ``Figures`` has those of all."""

    alive: int = 0
    messages: int = 0
    size: int = 0


class Counted(NamedTuple):
    """The sessions that are there now, by place. *error* and *is_exact* are as ``Figures`` has them."""

    places: Mapping[str, PlaceFigures]
    is_exact: bool = True
    error: float = 0.0

    @property
    def alive(self) -> int:
        """The sessions of all places."""
        return sum(place.alive for place in self.places.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """The figures of a store: sessions, chats, and the values of mappings together.

    Attributes:
        alive: Sessions that are there now.
        started, deleted: Sessions that were created, and that were deleted by a call, since *since_ms*. None: nobody counts.
        expired: Sessions that have ended in any other way since then. The server removes them by itself and tells nobody, so
            this is the rest: those that were there or came, less those that were deleted or are there. None: nobody counts.
        messages: Messages of all sessions.
        size: Bytes of their messages and data, as JSON text. The server's memory is more.
        since_ms: The time since which is counted, in milliseconds since 1970. None: nobody counts.
        is_exact: All sessions were counted. False: *alive*, *messages* and *size*, and with them *expired*, are estimates
            from a sample.
        error: Standard error of *alive* as a share of it. 0.0 where that is exact, 1.0 where a sample has found no session.
        places: The same by place: ``sessions``, ``chats`` and ``mapping:<name>``.
    """

    alive: int
    started: int | None = None
    expired: int | None = None
    deleted: int | None = None
    messages: int
    size: int
    since_ms: int | None = None
    is_exact: bool = True
    error: float = 0.0
    places: Mapping[str, PlaceFigures]

    @property
    def average_size(self) -> float:
        """Bytes of a session, on average. 0.0 where there is none."""
        return self.size / self.alive if self.alive else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Minute:
    """One minute of all processes that count.

    Attributes:
        at_ms: The beginning of the minute, in milliseconds since 1970.
        started, deleted: Sessions that were created, and that were deleted by a call.
        alive: Sessions that were there at some moment of the minute. None: nobody has counted them then.
        turns: Turns that have ended.
        failed_turns: Those of them whose handler failed, whose stream broke off, or that were taken over.
        operations: Calls to the store. A batch is one.
        failed_operations: Those of them that found no server, or broke. A refusal, such as that of a second turn, is none.
        p50_ms, p95_ms, p99_ms: Half of the calls, 95 % and 99 % of them took no longer, to within a fifth. None: there was
            no call.
        degraded_seconds: Seconds of the minute in which a call found the server away, whether the journal served or not.
    """

    at_ms: int
    started: int = 0
    deleted: int = 0
    alive: int | None = None
    turns: int = 0
    failed_turns: int = 0
    operations: int = 0
    failed_operations: int = 0
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    degraded_seconds: int = 0


def base_of(alive: int, older: int, totals: Sums) -> int:
    """Compute how many sessions were there before any was counted as started.

    *alive* may have some whose processes have not told of them yet. *older* lacks those that were deleted since.
    """
    return max(0, min(alive - totals.get("started", 0), older) + totals.get("deleted", 0))


def minute_of(at_ms: int) -> int:
    """Compute the beginning of the minute of a time."""
    return at_ms - at_ms % MINUTE_MS


def bucket_of(seconds: float) -> str:
    """Name the bucket that counts a call that took so long."""
    steps = _BUCKETS_OF_TWICE * math.log2(max(seconds * 1000, _FIRST_MS) / _FIRST_MS)
    return f"ms{min(math.ceil(steps), _LAST_BUCKET)}"


def second_of(at_ms: int) -> str:
    """Name the sum that counts the calls of this second that found the server away."""
    return f"away{at_ms % MINUTE_MS // 1000}"


def minute_from(at_ms: int, sums: Sums) -> Minute:
    """Read the sums of a minute."""
    buckets = [sums.get(f"ms{number}", 0) for number in range(_LAST_BUCKET + 1)]
    return Minute(
        at_ms=at_ms,
        started=sums.get("started", 0),
        deleted=sums.get("deleted", 0),
        alive=sums.get("alive"),
        turns=sums.get("turns", 0),
        failed_turns=sums.get("failed_turns", 0),
        operations=sum(buckets),
        failed_operations=sums.get("failed", 0),
        p50_ms=_percentile(buckets, 0.5),
        p95_ms=_percentile(buckets, 0.95),
        p99_ms=_percentile(buckets, 0.99),
        degraded_seconds=sum(name.startswith("away") for name in sums),
    )


def _percentile(buckets: list[int], share: float) -> float | None:
    """Estimate the time that so large a *share* of the calls took at most. In a bucket, times are taken as even."""
    wanted = share * sum(buckets)
    if not wanted:
        return None
    number, before = next(
        (number, total - count)
        for number, (count, total) in enumerate(zip(buckets, itertools.accumulate(buckets), strict=True))
        if total >= wanted
    )
    lower = _bound_ms(number - 1) if number else 0.0
    return round(lower + (_bound_ms(number) - lower) * (wanted - before) / buckets[number], 3)


def _bound_ms(number: int) -> float:
    return float(_FIRST_MS * 2 ** (number / _BUCKETS_OF_TWICE))
