"""Deadlines: an operation and all its calls end in time.

An operation states its deadline when it begins. Each call to a store in it, and each operation in it, inherits what is left.
"""

from __future__ import annotations

import math
import threading
import weakref

from .clock import monotonic

_SHORTEST = 0.001


class _Place(weakref.ref["Block"]):
    """The place of a block within others. Weak: a block that was cut short before it could end itself counts no more."""

    __slots__ = ("moment", "outer")

    moment: float
    outer: _Place | None


class Deadline(threading.local):
    """A moment by ``monotonic`` at which this thread must have ended what it does."""

    innermost: _Place | None = None

    def running(self) -> _Place | None:
        """Find the innermost block that the thread is in. Callers look themselves first: each operation asks many times."""
        place = self.innermost
        while place is not None and place() is None:
            place = self.innermost = place.outer
        return place

    @property
    def moment(self) -> float:
        """The moment. Infinite: there is none."""
        place = self.innermost
        if place is not None and place() is None:
            place = self.running()
        return math.inf if place is None else place.moment

    def earliest(self, moment: float) -> float:
        """Give this moment, or *moment* if that comes earlier."""
        place = self.innermost
        if place is not None and place() is None:
            place = self.running()
        return moment if place is None or moment < place.moment else place.moment

    def of(self, moment: float) -> Block | _Inherited:
        """End the block at *moment*, or earlier if a deadline around it says so."""
        outer = self.innermost
        if outer is not None and outer() is None:
            outer = self.running()
        if outer is not None and outer.moment <= moment:
            return _INHERITED
        block = Block()
        block.deadline, block.place = self, _Place(block)
        block.place.moment, block.place.outer = moment, outer
        return block

    def within(self, seconds: float) -> Block | _Inherited:
        """End the block in so many *seconds*, or earlier if a deadline around it says so."""
        return self.of(monotonic() + seconds)

    def sparing(self, share: float) -> Block | _Inherited:
        """End the block so early that a *share* of the time that is left stays for those who clean up behind it."""
        moment = self.moment
        return self.of(moment if moment == math.inf else moment - share * (moment - monotonic()))

    def paused(self) -> Pause:
        """Let the app's own code run without a deadline. Its time does not count for those around it."""
        return Pause(self)

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

    __slots__ = ("__weakref__", "deadline", "place")

    deadline: Deadline
    place: _Place

    def __enter__(self) -> None:
        self.deadline.innermost = self.place

    def __exit__(self, *_: object) -> None:
        deadline, place = self.deadline, self.place
        if deadline.innermost is place or deadline.running() is place:
            deadline.innermost = place.outer


class _Inherited:
    """A ``with`` block in one that ends earlier. It changes nothing, and there is one for all."""

    __slots__ = ()

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass


_INHERITED = _Inherited()


class Pause:
    """A ``with`` block whose time is added to the deadlines around it. No generator, as ``Block``."""

    __slots__ = ("_began", "_deadline", "_place")

    def __init__(self, deadline: Deadline) -> None:
        self._deadline = deadline

    def __enter__(self) -> None:
        self._place = self._deadline.running()
        self._began = monotonic()
        self._deadline.innermost = None

    def __exit__(self, *_: object) -> None:
        taken, place = monotonic() - self._began, self._place
        self._deadline.innermost = place
        while place is not None:
            place.moment += taken
            place = place.outer


OPERATION = Deadline()
"""The deadline of an operation, with all its round trips."""

CONNECTING = Deadline()
"""The deadline of a call while it gets a connection. redis-py connects, and asks Sentinels and Clusters, by itself."""
