"""Things that repeat are logged once, and then once in a while with the number of those left out."""

from __future__ import annotations

from collections.abc import Callable, Hashable

from .clock import monotonic


class Repeats:
    """The rate limit of a log.

    Args:
        seconds: Shortest time between two lines about the same thing.
        clock: Seconds since any point in time.
    """

    def __init__(self, seconds: float = 10.0, clock: Callable[[], float] = monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._known: dict[Hashable, tuple[float, int]] = {}

    def left_out(self, thing: Hashable) -> int | None:
        """Count the times that *thing* was left out since it was logged last. None: leave it out now.

        Args:
            thing: Words of the code. Each is remembered.
        """
        now = self._clock()
        next_at, count = self._known.get(thing, (now, 0))
        if now < next_at:
            self._known[thing] = next_at, count + 1
            return None
        self._known[thing] = now + self._seconds, 0
        return count
