"""Deadlines: an operation and all its calls end in time.

An operation states its deadline when it begins. Each call to a store in it, and each operation in it, inherits what is left.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Iterator

_SHORTEST = 0.001


class Deadline(threading.local):
    """A moment by ``time.monotonic`` at which this thread must have ended what it does. Infinite: there is none."""

    moment = math.inf

    @contextlib.contextmanager
    def of(self, moment: float) -> Iterator[None]:
        """End the block at *moment*, or earlier if a deadline around it says so."""
        outer = self.moment
        self.moment = min(outer, moment)
        try:
            yield
        finally:
            self.moment = outer

    def within(self, seconds: float) -> contextlib.AbstractContextManager[None]:
        """End the block in so many *seconds*, or earlier if a deadline around it says so."""
        return self.of(time.monotonic() + seconds)

    def at_most(self, seconds: float | None) -> float | None:
        """Limit *seconds* to the time that is left."""
        left = self.moment - time.monotonic()
        if left == math.inf:
            return seconds
        return max(_SHORTEST, left if seconds is None else min(seconds, left))


OPERATION = Deadline()
"""The deadline of an operation, with all its round trips."""

CONNECTING = Deadline()
"""The deadline of a call while it gets a connection. redis-py connects, and asks Sentinels and Clusters, by itself."""
