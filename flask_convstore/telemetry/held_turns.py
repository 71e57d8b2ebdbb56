"""The turns that this process has begun and not ended, as far as the commands tell that pass by.

A turn whose end nobody writes, since the store is away, is forgotten when its lease has ended.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from ..domain.clock import monotonic
from ..domain.forks import Forking, watch

_V = TypeVar("_V")

_LOOKS_EVERY = 1.0
"""Seconds between two looks for leases that have ended."""


class HeldTurns(Forking, Generic[_V]):
    """Values of turns, by the attempt that has the turn.

    Args:
        clock: Seconds since any point in time.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._begin_anew()
        watch(self)

    def _begin_anew(self) -> None:
        self._lock = threading.RLock()  # collecting garbage may end another turn in its midst
        self._held: dict[str, tuple[float, _V]] = {}
        self._looks_at = 0.0

    def in_child(self) -> None:
        self._begin_anew()

    def __len__(self) -> int:
        return len(self._held)

    def add(self, attempt: str, seconds: float, value: _V) -> None:
        """Hold a turn for so many *seconds*, unless it is renewed."""
        with self._lock:
            self._held[attempt] = self._clock() + seconds, value

    def renew(self, attempt: str, seconds: float) -> None:
        """Hold a turn for so many *seconds* from now. One that is not known is ignored."""
        with self._lock:
            if attempt in self._held:
                self.add(attempt, seconds, self._held[attempt][1])

    def get(self, attempt: str) -> _V | None:
        """Find the value of a turn."""
        found = self._held.get(attempt)
        return found[1] if found else None

    def pop(self, attempt: str) -> _V | None:
        """Take the value of a turn out. None: it is not known, or was taken out before."""
        with self._lock:
            found = self._held.pop(attempt, None)
        return found[1] if found else None

    def take_expired(self) -> list[_V]:
        """Take the values of those turns out whose leases have ended. Looks once in a second."""
        now = self._clock()
        if now < self._looks_at:
            return []
        with self._lock:
            self._looks_at = now + _LOOKS_EVERY
            over = [attempt for attempt, (until, _) in self._held.items() if until <= now]
            return [self._held.pop(attempt)[1] for attempt in over]
