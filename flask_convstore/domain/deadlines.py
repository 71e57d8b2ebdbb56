"""Deadlines: an operation and all its calls end in time.

An operation states its deadline when it begins. Each call to a store in it, and each operation in it, inherits what is left.
"""

from __future__ import annotations

import math
import threading
import time
import weakref

_SHORTEST = 0.001


class Deadline(threading.local):
    """A moment by ``time.monotonic`` at which this thread must have ended what it does."""

    innermost: weakref.ref[Block] | None = None
    """The block that the thread is in. Weak: a block that was cut short before it could end itself counts no more."""

    @property
    def moment(self) -> float:
        """The moment. Infinite: there is none."""
        block = self.innermost and self.innermost()
        return block.moment if block else math.inf

    def of(self, moment: float) -> Block:
        """End the block at *moment*, or earlier if a deadline around it says so."""
        return Block(self, moment)

    def within(self, seconds: float) -> Block:
        """End the block in so many *seconds*, or earlier if a deadline around it says so."""
        return Block(self, time.monotonic() + seconds)

    def at_most(self, seconds: float | None) -> float | None:
        """Limit *seconds* to the time that is left."""
        left = self.moment - time.monotonic()
        if left == math.inf:
            return seconds
        return max(_SHORTEST, left if seconds is None else min(seconds, left))


class Block:
    """A ``with`` block that ends in time.

    No generator: garbage collection ends a generator that was cut short in any thread, and would change the deadline there.
    """

    __slots__ = ("__weakref__", "_deadline", "_outer", "moment")

    def __init__(self, deadline: Deadline, moment: float) -> None:
        self._deadline = deadline
        self._outer = deadline.innermost
        self.moment = min(moment, deadline.moment)

    def __enter__(self) -> None:
        self._deadline.innermost = weakref.ref(self)

    def __exit__(self, *_: object) -> None:
        self._deadline.innermost = self._outer


OPERATION = Deadline()
"""The deadline of an operation, with all its round trips."""

CONNECTING = Deadline()
"""The deadline of a call while it gets a connection. redis-py connects, and asks Sentinels and Clusters, by itself."""
