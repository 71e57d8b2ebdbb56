"""Figures of stores in the memory of this process."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping, Sequence

from ..domain.clock import now_ms
from ..domain.figures import Counted, Sums, minute_of
from ..domain.forks import Forking, watch
from ..domain.types import ANY, Owner
from .figures import KEPT_MS, Portion
from .memory import MemoryStore


class MemoryFigures(Forking):
    """The ``FiguresStore`` of stores in memory.

    Args:
        stores: The stores, by the beginnings of their keys.
    """

    def __init__(self, stores: Mapping[str, MemoryStore]) -> None:
        self._stores = stores
        self._minutes: dict[int, Counter[str]] = {}
        self._totals: Counter[str] = Counter()
        self._numbers: dict[str, int] = {}
        self._lock = threading.RLock()
        watch(self)

    def in_child(self) -> None:
        self._lock = threading.RLock()

    def count(self, places: Mapping[str, str], owner: Owner = ANY) -> Counted:
        return Counted({place: self._stores[prefix].count(owner) for place, prefix in places.items()})

    def add(self, portion: Portion) -> bool:
        with self._lock:
            if portion.number <= self._numbers.get(portion.process, 0):
                return False
            now = now_ms()
            self._numbers[portion.process] = portion.number
            self._totals.setdefault("since_ms", now)
            self._totals.update(portion.totals)
            for start, sums in portion.minutes.items():
                self._minutes.setdefault(start, Counter()).update(sums)
            self._minutes = {start: sums for start, sums in self._minutes.items() if start > now - KEPT_MS}
            return "alive" not in self._minutes.get(minute_of(now), {})

    def note_alive(self, places: Mapping[str, str]) -> None:
        with self._lock:
            self._minutes.setdefault(minute_of(now_ms()), Counter())["alive"] = self.count(places).alive
            self._totals["base"] = 0  # this process has counted each of them

    def totals(self) -> Sums:
        with self._lock:
            return dict(self._totals)

    def minutes(self, starts_ms: Sequence[int]) -> list[Sums]:
        with self._lock:
            return [dict(self._minutes.get(start, {})) for start in starts_ms]
