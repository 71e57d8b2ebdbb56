"""Log of collisions: changes of two writers that did not merge, so that the last one won. Bounded in rate."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from ..domain.clock import monotonic
from ..errors import printable

_log = logging.getLogger("flask_convstore")

_EVERY_SECONDS = 10.0
_MOST_PATHS = 5


class CollisionLog:
    """Warns of collisions, at most once in ten seconds. The next warning tells how many were left out.

    Args:
        clock: Seconds since any point in time.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._next_at = 0.0
        self._left_out = 0

    def tell(self, session_id: str, paths: Sequence[str]) -> None:
        """Tell which parts of a session lost a change."""
        now = self._clock()
        if now < self._next_at:
            self._left_out += 1
            return
        named = ", ".join(printable(path) if path else "the value" for path in paths[:_MOST_PATHS])
        if len(paths) > _MOST_PATHS:
            named += f" and {len(paths) - _MOST_PATHS} more"
        more = f" {self._left_out} collisions before this one were not logged." if self._left_out else ""
        _log.warning(
            "session %r: two writers changed %s at once, or took the same. The last one won. To refuse the second write "
            "instead, set CONVSTORE_CONFLICT=raise.%s",
            session_id,
            named,
            more,
        )
        self._next_at, self._left_out = now + _EVERY_SECONDS, 0
