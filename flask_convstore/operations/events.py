"""Everything that happens to a session, and to an owner's list of sessions, as it happens.

A reader that comes back with the id of its last event gets the changes that it has missed, as far as they are kept. Else it
gets the state as it is, as a new reader does.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from ..domain.clock import monotonic
from ..domain.commands import EventPosition
from ..domain.numbering import id_of
from ..domain.results import SessionEvents, StoredEvent, Summary
from ..domain.validation import check_session_id
from ..errors import ConvstoreError, SessionMoved, SessionNotFound
from ..sessions.session import AnySession
from ..streaming.feeds import WATCHED_MS, ListEvent, ListFeed, SessionFeed
from ..streaming.listening import listening
from . import owners, sessions
from .access import Access

_HEARTBEAT = 15.0
"""Seconds of silence after which a reader is told that all is well."""
_LONGEST_WAIT = 1.0
"""Seconds after which somebody who waits for a change looks by itself."""
_LISTED = 100
"""Sessions in the state of a list."""


class Change(NamedTuple):
    """A change of a session.

    Attributes:
        kind: ``snapshot`` (the state as it is, in place of changes that are not known), ``messages`` (some were appended),
            ``turn`` (a user's message, to which a reply is made), ``reply`` (the turn has ended), ``edited``, ``dropped``,
            ``data`` (fields, title or lifetime), ``saved`` (the app has saved it), ``moved`` (the conversation goes on
            elsewhere), ``ended`` (it was deleted or has expired).
        id: The place behind it.
        session_id: The session.
        version: Its version then. 0 for ``ended``.
        first_seq: The seq of the first message that was added, changed or taken out. Of a ``reply`` the reply's. 0: none.
        message_count: Number of its messages. Of a ``snapshot`` only, else 0.
        turn: The id that the reply of a ``turn`` will have, and that of a ``reply``. Else "".
    """

    kind: str
    id: str
    session_id: str
    version: int = 0
    first_seq: int = 0
    message_count: int = 0
    turn: str = ""


class ListChange(NamedTuple):
    """A change of an owner's list of sessions.

    Attributes:
        kind: ``snapshot`` (the newest sessions as they are), ``deleted``, else as a ``Change`` has it, or ``listed`` (the
            session is new, or was changed).
        id: The place behind it.
        session_id, version: The session, and its version.
        sessions: The newest sessions. Of a ``snapshot`` only.
    """

    kind: str
    id: str
    session_id: str = ""
    version: int = 0
    sessions: tuple[Summary, ...] = ()


def of_session(
    access: Access, session_id: str, after: str | None = None, heartbeat: float = _HEARTBEAT
) -> Iterator[Change | None]:
    """Iterate over the changes of a session, as they come. None: nothing has come for *heartbeat* seconds.

    Args:
        after: The id of the last change that is known. The next ones follow, or a snapshot.

    Raises:
        SessionNotFound, StoreUnavailable: At once, before the iteration.
        StoreMisconfigured, CorruptValue: Also later, as the session cannot be read any more.
    """
    check_session_id(session_id)
    known = _pair_in(after)
    asked = EventPosition(session_id, access.owner, known, WATCHED_MS)
    (page,) = access.store.session_events([asked])
    if isinstance(page, ConvstoreError):
        raise page
    return _changes(access, session_id, page, heartbeat)


def _changes(access: Access, session_id: str, page: SessionEvents, heartbeat: float) -> Iterator[Change | None]:
    with listening(access.store).following(SessionFeed(session_id, page)) as feed:
        reader = _Reader(access, session_id, page, feed)
        yield from reader.first(page)
        while not feed.wait_loaded(heartbeat):
            yield None
        while True:
            yield from reader.following()
            if reader.has_ended:
                yield Change("ended", reader.position, session_id)
                return
            if not feed.wait_behind(reader.generation, reader.version, heartbeat):
                yield None


class _Reader:
    """A reader of a session's changes, with a position of its own."""

    def __init__(self, access: Access, session_id: str, page: SessionEvents, feed: SessionFeed) -> None:
        self._access = access
        self._session_id = session_id
        self._feed = feed
        self._created = page.created_at_ms
        self.version = page.version
        self.generation = feed.generation
        self.has_ended = False

    @property
    def position(self) -> str:
        """The id of the newest change that was told."""
        return f"{self._created}-{self.version}"

    def first(self, page: SessionEvents) -> list[Change]:
        """List what the reader has missed, or the state in its place."""
        if not page.is_whole:
            return [_snapshot(self._session_id, page)]
        return [_change(self._session_id, self._created, event) for event in page.events]

    def following(self) -> list[Change]:
        """List what is new."""
        found = self._missed() if self.generation != self._feed.generation else []
        latest = self._feed.latest
        new = self._feed.behind(self.version) if latest and not self.has_ended else []
        if new is None:
            return self._missed()
        changes = [_change(self._session_id, self._created, event) for event in new if event.version > self.version]
        self.version = max([self.version, *(change.version for change in changes)])
        self.has_ended = self.has_ended or isinstance(self._feed.failure, SessionNotFound)
        return [*found, *changes]

    def _missed(self) -> list[Change]:
        """List the state in the place of changes that are not known. A session that is not shared any more has ended."""
        latest = self._feed.latest
        assert latest
        self.generation = self._feed.generation
        self.has_ended = not _may_go_on(self._access, self._session_id)
        is_known = (latest.created_at_ms, latest.version) == (self._created, self.version)
        if self.has_ended or is_known:
            return []
        self._created, self.version = latest.created_at_ms, latest.version
        return [_snapshot(self._session_id, latest)]


def _may_go_on(access: Access, session_id: str) -> bool:
    (page,) = access.store.session_events([EventPosition(session_id, access.owner)])
    return not isinstance(page, (SessionNotFound, SessionMoved))


def _snapshot(session_id: str, page: SessionEvents) -> Change:
    position = f"{page.created_at_ms}-{page.version}"
    return Change("snapshot", position, session_id, page.version, message_count=page.message_count)


def _change(session_id: str, created: int, event: StoredEvent) -> Change:
    reply_seq = {"turn": event.first_seq + 1, "reply": event.first_seq}.get(event.kind, 0)
    turn = id_of(reply_seq) if event.first_seq and reply_seq else ""
    return Change(event.kind, f"{created}-{event.version}", session_id, event.version, event.first_seq, turn=turn)


def _pair_in(text: str | None) -> tuple[int, int] | None:
    first, _, second = (text or "").partition("-")
    is_ours = all(part.isascii() and part.isdecimal() and len(part) < 16 for part in (first, second))
    return (int(first), int(second)) if is_ours else None


def of_list(access: Access, after: str | None = None, heartbeat: float = _HEARTBEAT) -> Iterator[ListChange | None]:
    """Iterate over the changes of the owner's list of sessions, as they come. *after* and None as in ``of_session``.

    Raises:
        OwnerRequired, StoreUnavailable: At once, before the iteration.
    """
    owner = owners.required(access)
    sessions.page(access, limit=1)  # tell at once that the store is away
    return _list_changes(access, owner, after, heartbeat)


def _list_changes(access: Access, owner: str, after: str | None, heartbeat: float) -> Iterator[ListChange | None]:
    with listening(access.store).following(ListFeed(owner)) as feed:
        while not feed.wait_loaded(heartbeat):
            yield None
        epoch, number = _pair_in(after) or (0, 0)
        is_known = epoch == feed.epoch and number <= feed.last
        while True:
            changes = feed.behind(number) if is_known else None
            if changes is None:
                number, is_known = feed.last, True  # before the look, which may show more
                newest = tuple(sessions.page(access, limit=_LISTED).sessions)
                yield ListChange("snapshot", f"{feed.epoch}-{number}", sessions=newest)
            for event in changes or ():
                number = event.number
                yield _list_change(feed.epoch, event)
            if not feed.wait_behind(number, heartbeat):
                yield None


def _list_change(epoch: int, event: ListEvent) -> ListChange:
    kind = "deleted" if event.kind == "delete" else event.kind
    return ListChange(kind, f"{epoch}-{event.number}", event.session_id, event.version)


_PAUSES = (0.05, 0.5)
"""Shortest and longest time between two looks at a session that is not there."""


class News:
    """Tells somebody who looks at a session again and again when a look is worth it."""

    def __init__(self, feed: SessionFeed) -> None:
        self._feed = feed
        self._seen: tuple[int, int] | None = None
        self._pause, self._longest_pause = _PAUSES

    def wait(self, seconds: float) -> None:
        """Wait until the session was changed since the last call, so many seconds at most, and a second at the longest."""
        feed, longest = self._feed, min(seconds, _LONGEST_WAIT)
        if feed.failure:
            time.sleep(min(longest, self._pause))
            self._pause = min(2 * self._pause, self._longest_pause)
        elif not feed.is_loaded:
            feed.wait_loaded(longest)
        elif self._seen:
            feed.wait_behind(*self._seen, longest)
        self._seen = (feed.generation, feed.latest.version) if feed.latest else None


@contextlib.contextmanager
def news(access: Access, session_id: str) -> Iterator[News]:
    """Follow a session for somebody who looks at it again and again."""
    with listening(access.store).following(SessionFeed(session_id)) as feed:
        yield News(feed)


def wait(
    access: Access, session_id: str, until: Callable[[AnySession | None], Any], timeout: float
) -> AnySession | None:
    """Wait until ``until(session)`` is true. Return the session, None if there is none.

    Raises:
        TimeoutError: It was not so in time.
    """
    deadline = monotonic() + timeout
    with news(access, session_id) as changes:
        while True:
            session = sessions.get(access, session_id)
            if until(session):
                return session
            left = deadline - monotonic()
            if left <= 0:
                raise TimeoutError(f"session {session_id!r} was not as wanted within {timeout:g} seconds")
            changes.wait(left)
