"""What every store does, in the domain's words.

A store keeps sessions as text it never looks into. The readable reference is ``MemoryStore``; every other store answers
as it does, and a store may stand around another one (measuring, a circuit, a journal).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeVar

from ..domain.commands import BeginTurn, Command, LinkAlias
from ..domain.results import About, Begun, Messages, Page, Receipt, Snapshot
from ..domain.types import Alias, Owner


class Store(Protocol):
    """Sessions of one application. Safe to use from several threads."""

    def apply(self, command: Command) -> Receipt:
        """Do one write, all or nothing, and once: a known token changes nothing and gets the first receipt.

        Raises:
            SessionNotFound: None for this owner; only a ``Save`` that does not merge creates one.
            SessionExists: There is one, where only a new one was wanted.
            Forbidden: Another owner shares it, but not for this; nothing was written.
            MessageNotFound: No such message; nothing was written.
            SessionMoved: Messages for one whose conversation goes on elsewhere; nothing was written.
            ConflictError: What the command relies on has changed; nothing was written.
            TokenReused: The token came before with another digest; nothing was written.
            TooLarge: A limit would be passed; nothing was written.
            TurnLost: The turn to commit or to renew has been taken over; nothing was written.
            CorruptValue: The stored session is not whole; nothing was written.
            StoreUnavailable: No answer in time; the command may be applied again as it is.
        """
        ...

    def begin(self, command: BeginTurn) -> Begun:
        """Add a message, take the turn, and read the session, all at one moment and once.

        Raises:
            TurnInProgress: Somebody has the turn; nothing was written.
            SessionMoved: The conversation goes on in another session; nothing was written.
            TurnLost: The token is known, its turn was not ended, and others have written since.
            SessionNotFound, ConflictError, TokenReused, TooLarge, CorruptValue, StoreUnavailable: As ``apply``.
        """
        ...

    def load(
        self, session_id: str, owner: Owner, last: int | None = None, *, is_interaction: bool = True
    ) -> Snapshot | None:
        """The session with its *last* messages (None: all), read at one moment; None if there is none for this owner.

        Moves the lifetime, if that *is_interaction*.
        """
        ...

    def page(self, owner: Owner, cursor: str | None = None, limit: int = 100, *, newest_first: bool = False) -> Page:
        """Sessions of *owner*, by their last interaction to within a minute, from *cursor* on; ``ANY``: all, in any order.

        What becomes active meanwhile may come twice, and oldest first, at least once. A page may be short of *limit*, or
        empty, before the last one.
        """
        ...

    def link(self, command: LinkAlias) -> str | None:
        """Do it, or not; where the alias leads now, None: to nothing."""
        ...

    def follow(self, alias: Alias, lifetime_ms: int) -> str | None:
        """Where *alias* leads, None: to nothing. It lives for *lifetime_ms* from now, if that is longer than it does."""
        ...

    def spend(self, owner: str, most: int) -> int:
        """Take one of *most* turns a minute that *owner* may begin: 0; or for how many milliseconds to wait for one."""
        ...

    def turn_remaining_ms(self, session_id: str, owner: Owner) -> int:
        """How long the turn in progress is leased from now; 0 or less if there is none.

        Raises:
            SessionNotFound: None for this owner.
        """
        ...

    def messages(self, session_id: str, owner: Owner, before: int | None, limit: int) -> Messages | None:
        """Up to *limit* messages, the newest of those with a seq below *before* (None: of all); None if there is no session.

        Moves the lifetime.
        """
        ...

    def has_ended(self, session_id: str, owner: Owner) -> bool:
        """Whether a session that is not there any more was there for this owner, within a day of its end."""
        ...

    def ping(self) -> float:
        """How many milliseconds an answer takes; StoreUnavailable if none comes."""
        ...

    def about(self) -> About:
        """What it says of itself."""
        ...

    def close(self) -> None:
        """Give up connections. The store may be used again and opens new ones."""
        ...


def pages(store: Store, owner: Owner, cursor: str | None = None, *, newest_first: bool = False) -> Iterator[Page]:
    """All pages from *cursor* on, each when the one before has been used; a session may come twice."""
    while True:
        page = store.page(owner, cursor, newest_first=newest_first)
        yield page
        cursor = page.next
        if cursor is None:
            return


_T = TypeVar("_T")


class StoreAround:
    """A store around a store: every call goes through ``_call``, where others see or stop it."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def _call(self, method: Callable[..., _T], *arguments: Any, **options: Any) -> _T:
        return method(*arguments, **options)

    def apply(self, command: Command) -> Receipt:
        return self._call(self._store.apply, command)

    def begin(self, command: BeginTurn) -> Begun:
        return self._call(self._store.begin, command)

    def load(
        self, session_id: str, owner: Owner, last: int | None = None, *, is_interaction: bool = True
    ) -> Snapshot | None:
        return self._call(self._store.load, session_id, owner, last, is_interaction=is_interaction)

    def page(self, owner: Owner, cursor: str | None = None, limit: int = 100, *, newest_first: bool = False) -> Page:
        return self._call(self._store.page, owner, cursor, limit, newest_first=newest_first)

    def link(self, command: LinkAlias) -> str | None:
        return self._call(self._store.link, command)

    def follow(self, alias: Alias, lifetime_ms: int) -> str | None:
        return self._call(self._store.follow, alias, lifetime_ms)

    def spend(self, owner: str, most: int) -> int:
        return self._call(self._store.spend, owner, most)

    def turn_remaining_ms(self, session_id: str, owner: Owner) -> int:
        return self._call(self._store.turn_remaining_ms, session_id, owner)

    def messages(self, session_id: str, owner: Owner, before: int | None, limit: int) -> Messages | None:
        return self._call(self._store.messages, session_id, owner, before, limit)

    def has_ended(self, session_id: str, owner: Owner) -> bool:
        return self._call(self._store.has_ended, session_id, owner)

    def ping(self) -> float:
        return self._call(self._store.ping)

    def about(self) -> About:
        return self._call(self._store.about)

    def close(self) -> None:
        self._store.close()
