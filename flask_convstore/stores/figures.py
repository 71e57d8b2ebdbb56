"""The places where figures are counted and kept: the protocol, and the one in the memory of this process."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from ..domain.clock import now_ms
from ..domain.figures import MINUTE_MS, Counted, Sums, minute_of
from ..domain.forks import Forking, watch
from ..domain.types import ANY, Owner
from .memory import MemoryStore

KEPT_MS = 25 * 60 * MINUTE_MS
"""Time for which the sums of a minute are kept."""


class Portion(NamedTuple):
    """The counts of one process since its last portion.

    Attributes:
        process: A name of the process that no other one has.
        number: The number of the portion, from 1. One that came before adds nothing.
        minutes: The sums, by the beginning of the minute.
        totals: The sums of all these minutes, and of those that it keeps no more.
        first_ms: Creation of the first session that it counts as started, by the server's clock (None: of none).
    """

    process: str
    number: int
    minutes: Mapping[int, Sums]
    totals: Sums
    first_ms: int | None = None


class FiguresStore(Protocol):
    """Counts the sessions of all places of a store, and keeps what has happened to them. Safe to use from several threads.

    Each method raises ``StoreUnavailable`` where no answer comes in time.
    """

    def count(self, places: Mapping[str, str], owner: Owner = ANY) -> Counted:
        """Count the sessions that are there now.

        Args:
            places: The places that are known, each with the beginning of its keys. Others under these may be found.
            owner: Only this owner's sessions, in the places that are known.
        """
        ...

    def add(self, portion: Portion) -> bool:
        """Add what a process has counted, once. Tell whether somebody should note how many sessions are alive now."""
        ...

    def note_alive(self, places: Mapping[str, str]) -> None:
        """Count the sessions that are there now, and note it in this minute. *places* are as in ``count``.

        The first time, ``base`` of the totals is noted: how many were there before any was counted as started.
        """
        ...

    def totals(self) -> Sums:
        """Read what has happened in all: ``started``, ``deleted``, ``base``, ``since_ms``. Empty: nobody has counted."""
        ...

    def minutes(self, starts_ms: Sequence[int]) -> list[Sums]:
        """Read the sums of the minutes that begin at these times."""
        ...


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
