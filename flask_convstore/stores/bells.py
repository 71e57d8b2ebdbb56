"""The bell of a store in this process."""

from __future__ import annotations

import threading
from collections.abc import Collection


class MemoryBell:
    """A ``Bell``. See there for its methods."""

    def __init__(self) -> None:
        self._rung: set[str] = set()
        self._heard: frozenset[str] = frozenset()
        self._has_rung = threading.Event()

    def listen(self, session_ids: Collection[str]) -> None:
        self._heard = frozenset(session_ids)

    def ring(self, session_id: str) -> None:
        """Tell that something has happened to a session."""
        if session_id in self._heard:
            self._rung.add(session_id)
            self._has_rung.set()

    def wait(self, seconds: float) -> set[str]:
        self._has_rung.wait(seconds)
        self._has_rung.clear()
        rung, self._rung = self._rung, set()
        return rung

    def close(self) -> None:
        """Do nothing. There is no connection."""
