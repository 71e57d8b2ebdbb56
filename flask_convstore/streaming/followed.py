"""Something that several readers of this process follow: they share what is known of it, and each has its own position."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from ..domain.results import Heard, Ring
from ..errors import ConvstoreError


class Followed:
    """A stream or a log that is followed here.

    Attributes:
        source: The session or list whose bell tells of it.
        key: Its name in this process.
        followers: Number of those who follow it.
        looked_at: Moment of the last look, by ``monotonic``. 0: there was none.
        asked: Number of looks.
        looks_every: Seconds between two looks for which no bell has rung.
        failure: The reason why nothing more will come.
        is_fed_here: What comes is made in this process. The store is not asked for it.
    """

    looks_every = 1.0

    def __init__(self, source: Heard, key: tuple[str, ...]) -> None:
        self.source = source
        self.key = key
        self.followers = 0
        self.looked_at = 0.0
        self.asked = 0
        self.failure: ConvstoreError | None = None
        self.is_loaded = False
        self.is_fed_here = False
        self._changed = threading.Condition()

    @property
    def is_over(self) -> bool:
        """Nothing more will come."""
        return self.failure is not None

    def is_due(self, rings: Sequence[Ring], now: float) -> bool:
        """Tell whether it is to be looked at. *rings* are those of its bell."""
        return bool(rings) or now - self.looked_at >= self.looks_every

    def fail(self, error: ConvstoreError) -> None:
        """Tell all who follow that nothing more will come."""
        with self._changed:
            self.failure = error
            self._changed.notify_all()

    def wait_loaded(self, seconds: float) -> bool:
        """Wait until the store was asked once, *seconds* at most. True if it was."""
        return self._wait_for(lambda: self.is_loaded or self.is_over, seconds)

    def _wait_for(self, is_so: Callable[[], bool], seconds: float) -> bool:
        with self._changed:
            return self._changed.wait_for(is_so, seconds)
