"""Changes of a session, and of an owner's list of sessions, as this process knows them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ..domain.clock import monotonic
from ..domain.commands import EventPosition
from ..domain.results import Ring, SessionEvents, StoredEvent, Summary
from ..domain.types import ANY
from ..errors import SessionNotFound
from .followed import Followed

WATCHED_MS = 60_000
"""Time for which a session's writes keep a log once somebody has looked."""
_LOOKS_EVERY = 5.0
"""Seconds between two looks at a session, which keep its log going and find what no bell has told."""
_LISTS_EVERY = 20.0
"""Seconds between two looks at a list. Each costs a round trip about the newest hundred sessions."""
_SECOND_LOOK = 0.3
"""Seconds after which a list is looked at again for a session that is new."""
_KEPT = 200
"""Events that this process keeps of a session or a list."""


class SessionFeed(Followed):
    """The writes to one session.

    Attributes:
        latest: The newest state that is known.
        events: The last writes, oldest first.
        generation: It rises where writes are missing between the events, so that all who follow get the state instead.
    """

    looks_every = _LOOKS_EVERY

    def __init__(self, session_id: str, latest: SessionEvents | None = None) -> None:
        super().__init__(("session", session_id), ("events", session_id))
        self.session_id = session_id
        self.latest = latest
        self.is_loaded = latest is not None
        self.events: list[StoredEvent] = []
        self.generation = 0

    @property
    def position(self) -> EventPosition:
        """The place from which to read on."""
        known = self.latest
        after = (known.created_at_ms, known.version) if known else None
        return EventPosition(self.session_id, ANY, after, WATCHED_MS)

    def extend(self, page: SessionEvents) -> None:
        """Take what has come."""
        with self._changed:
            if page.is_whole:
                self.events = [*self.events, *page.events][-_KEPT:]
            elif self.latest:
                self.events = []
                self.generation += 1
            self.latest = page
            self.is_loaded = True
            self._changed.notify_all()

    def behind(self, version: int) -> list[StoredEvent] | None:
        """List the writes after *version*. None: they are not known."""
        assert self.latest
        missing = max(0, self.latest.version - version)
        new = [event for event in self.events if event.version > version]
        return new if len(new) == missing else None

    def wait_behind(self, generation: int, version: int, seconds: float) -> bool:
        """Wait, *seconds* at most, until there is something after *version*, or the session is gone. True if so.

        Raises:
            StoreMisconfigured, CorruptValue: Nothing more will come, as the session cannot be read any more.
        """

        def is_news() -> bool:
            is_newer = self.latest is not None and self.latest.version > version
            return self.generation != generation or is_newer or self.is_over

        is_so = self._wait_for(is_news, seconds)
        if self.failure and not isinstance(self.failure, SessionNotFound):
            raise self.failure
        return is_so


class ListEvent(NamedTuple):
    """A change in an owner's list.

    Attributes:
        number: It rises by one with each.
        kind: As a ``Ring`` has it, or ``listed`` for a change that no bell has told.
    """

    number: int
    kind: str
    session_id: str
    version: int


class ListFeed(Followed):
    """The changes of one owner's list of sessions.

    Attributes:
        epoch: A number that tells the positions in this feed from those in others.
    """

    looks_every = _LISTS_EVERY

    def __init__(self, owner: str) -> None:
        super().__init__(("owner", owner), ("list", owner))
        self.owner = owner
        self.epoch = int.from_bytes(os.urandom(6))
        self.events: list[ListEvent] = []
        self.last = 0
        self._versions: dict[str, int] = {}
        self._news_at = 0.0

    def is_due(self, rings: Sequence[Ring], now: float) -> bool:
        """Do as ``Followed.is_due``. A session is told to the index just before it is there: hence a second look."""
        self.hear(rings)
        second = self._news_at + _SECOND_LOOK
        is_news = self.looked_at < self._news_at or self.looked_at < second <= now
        return is_news or now - self.looked_at >= self.looks_every

    def hear(self, rings: Iterable[Ring]) -> None:
        """Take what the bell has told. A ring without a session tells of a new one, which a look will find."""
        with self._changed:
            for ring in rings:
                if ring.session_id:
                    self._add(ring.kind, ring.session_id, ring.version)
                else:
                    self._news_at = monotonic()
            self._changed.notify_all()

    def has_all(self, shown: Sequence[Summary]) -> bool:
        """Tell whether all were watched before. What was written to others just before the watch began is told by a look."""
        return self.is_loaded and all(summary.session_id in self._versions for summary in shown)

    def compare(self, shown: Sequence[Summary]) -> None:
        """Compare the newest sessions with what is known."""
        with self._changed:
            for summary in reversed(shown):
                if self.is_loaded and self._versions.get(summary.session_id, 0) < summary.version:
                    self._add("listed", summary.session_id, summary.version)
                self._versions[summary.session_id] = max(summary.version, self._versions.get(summary.session_id, 0))
            self.is_loaded = True
            self._changed.notify_all()

    def _add(self, kind: str, session_id: str, version: int) -> None:
        if kind == "delete":
            self._versions.pop(session_id, None)
        elif version <= self._versions.get(session_id, 0):
            return
        else:
            self._versions[session_id] = version
        self.last += 1
        self.events = [*self.events, ListEvent(self.last, kind, session_id, version)][-_KEPT:]

    def behind(self, number: int) -> list[ListEvent] | None:
        """List the changes after *number*. None: they are not known."""
        new = [event for event in self.events if event.number > number]
        return new if len(new) == self.last - number else None

    def wait_behind(self, number: int, seconds: float) -> bool:
        """Wait, *seconds* at most, until there is something after *number*. True if so.

        Raises:
            StoreMisconfigured: Nothing more will come, as the server does not let this user read the list.
        """
        is_so = self._wait_for(lambda: self.last > number or self.is_over, seconds)
        if self.failure:
            raise self.failure
        return is_so
