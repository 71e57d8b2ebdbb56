"""Deadlines: an operation and all its calls end in time.

An operation states its deadline when it begins. Each call to a store in it, and each operation in it, inherits what is left.
"""

from __future__ import annotations

import math
import threading
import weakref
from typing import NamedTuple

from .clock import monotonic

_SHORTEST = 0.001


class _Place(NamedTuple):
    """The place of a block within others. Weak: a block that was cut short before it could end itself counts no more."""

    block: weakref.ref[Block]
    moment: float
    outer: _Place | None


class Deadline(threading.local):
    """A moment by ``monotonic`` at which this thread must have ended what it does."""

    innermost: _Place | None = None

    def running(self) -> _Place | None:
        """Find the innermost block that the thread is in."""
        place = self.innermost
        while place is not None and place.block() is None:
            place = self.innermost = place.outer
        return place

    @property
    def moment(self) -> float:
        """The moment. Infinite: there is none."""
        place = self.running()
        return math.inf if place is None else place.moment

    def of(self, moment: float) -> Block:
        """End the block at *moment*, or earlier if a deadline around it says so."""
        return Block(self, moment)

    def within(self, seconds: float) -> Block:
        """End the block in so many *seconds*, or earlier if a deadline around it says so."""
        return Block(self, monotonic() + seconds)

    def at_most(self, seconds: float | None) -> float | None:
        """Limit *seconds* to the time that is left."""
        left = self.moment - monotonic()
        if left == math.inf:
            return seconds
        return max(_SHORTEST, left if seconds is None else min(seconds, left))


class Block:
    """A ``with`` block that ends in time.

    No generator: garbage collection ends a generator that was cut short in any thread, and would change the deadline there.
    Nor does a block change it that stands in such a generator.
    """

    __slots__ = ("__weakref__", "_deadline", "_place")

    def __init__(self, deadline: Deadline, moment: float) -> None:
        outer = deadline.running()
        self._deadline = deadline
        self._place = _Place(weakref.ref(self), moment if outer is None else min(moment, outer.moment), outer)

    def __enter__(self) -> None:
        self._deadline.innermost = self._place

    def __exit__(self, *_: object) -> None:
        if self._deadline.running() is self._place:
            self._deadline.innermost = self._place.outer


OPERATION = Deadline()
"""The deadline of an operation, with all its round trips."""

CONNECTING = Deadline()
"""The deadline of a call while it gets a connection. redis-py connects, and asks Sentinels and Clusters, by itself."""
