"""The bell of a store in this process."""

from __future__ import annotations

import threading
from collections.abc import Collection

from ..domain.results import Heard, Ring


class MemoryBell:
    """A ``Bell``. See there for its methods."""

    def __init__(self) -> None:
        self._rung: list[Ring] = []
        self._heard: frozenset[Heard] = frozenset()
        self._has_rung = threading.Event()

    def listen(self, sources: Collection[Heard]) -> None:
        self._heard = frozenset(sources)

    def ring(self, ring: Ring) -> None:
        """Tell that something has happened."""
        if ring.source in self._heard:
            self._rung.append(ring)
            self._has_rung.set()

    def wait(self, seconds: float) -> list[Ring]:
        self._has_rung.wait(seconds)
        self._has_rung.clear()
        rung, self._rung = self._rung, []
        return rung

    def close(self) -> None:
        """Do nothing. There is no connection."""
