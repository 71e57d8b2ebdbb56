"""The one room for time. Nobody reads a clock elsewhere.

Three kinds of time are told here. Deadlines and pauses go by ``monotonic``, in seconds. Stores and commands have
milliseconds since 1970. Apps get a ``datetime`` in UTC.

The clock of a host is set now and then, and is wrong now and then. So a process looks at it once, and goes on by a clock
that nobody can set (``ticks_ms``). All processes of a host have that one in common until the next boot. Where a server
tells another time, that counts.
"""

from __future__ import annotations

import functools
import time
from datetime import UTC, datetime
from pathlib import Path

LATEST_MS = 253_402_300_799_000
"""The year 9999, the last that datetime can hold."""

CLOCKS_DIFFER_MS = 5_000
"""A smaller difference between two clocks may be the time that an answer took."""

monotonic = time.monotonic
"""Seconds since any point in time, for deadlines."""


_COUNTED = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", None))
"""A clock that goes on while the host sleeps, in Linux and in macOS."""


def wall_seconds() -> float:
    """Seconds since 1970 by the host's clock, to compare with what others have made by it."""
    return time.time()


def ticks_ms() -> int:
    """Milliseconds since the host's boot, or since any point in time where the system does not tell."""
    ticks = time.monotonic_ns() if _COUNTED is None else time.clock_gettime_ns(_COUNTED)
    return ticks // 1_000_000


@functools.cache
def boot() -> str:
    """The name of the host's present boot, "" where the system does not tell."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except (OSError, ValueError):
        return ""


class _Offset:
    """Milliseconds from ``ticks_ms`` to the time since 1970 that counts in this process."""

    ms = time.time_ns() // 1_000_000 - ticks_ms()


def now_ms() -> int:
    """Milliseconds since 1970: the server's time where one was heard, else that of the host when the process began."""
    return ticks_ms() + _Offset.ms


def hear(server_ms: int) -> None:
    """Take over the time that a server has told just now, unless its way here explains the difference."""
    behind = server_ms - ticks_ms() - _Offset.ms
    if not -CLOCKS_DIFFER_MS <= behind <= CLOCKS_DIFFER_MS:
        _Offset.ms += behind


def as_datetime(milliseconds: int) -> datetime:
    """Convert to a time in UTC, to the millisecond."""
    return datetime.fromtimestamp(milliseconds // 1000, UTC).replace(microsecond=milliseconds % 1000 * 1000)


def as_milliseconds(time: datetime) -> int:
    """Convert to milliseconds since 1970."""
    return int(time.timestamp()) * 1000 + time.microsecond // 1000
