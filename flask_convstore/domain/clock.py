"""Times: milliseconds since 1970 in stores and commands, ``datetime`` in UTC for apps."""

from __future__ import annotations

import time
from datetime import UTC, datetime

LATEST_MS = 253_402_300_799_000
"""The year 9999, the last that datetime can hold."""


def now_ms() -> int:
    """Milliseconds since 1970, by this host's clock."""
    return time.time_ns() // 1_000_000


def as_datetime(milliseconds: int) -> datetime:
    """Convert to a time in UTC, to the millisecond."""
    return datetime.fromtimestamp(milliseconds // 1000, UTC).replace(microsecond=milliseconds % 1000 * 1000)


def as_milliseconds(time: datetime) -> int:
    """Convert to milliseconds since 1970."""
    return int(time.timestamp()) * 1000 + time.microsecond // 1000
