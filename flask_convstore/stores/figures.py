"""The interface of the place where figures are counted and kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from ..domain.figures import MINUTE_MS, Counted, Sums
from ..domain.types import ANY, Owner

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
