"""The interface of every store, in the domain's words.

A store keeps sessions as text and never looks into it. The readable reference is ``MemoryStore``. Every other store answers
as it does. A store may stand around another one (signals, a circuit breaker, a journal).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

from ..domain.commands import (
    BeginTurn,
    Command,
    EventPosition,
    FeedReply,
    LinkAlias,
    RenewTurn,
    ReplyPosition,
    TakeReply,
    Target,
)
from ..domain.results import (
    About,
    Begun,
    Heard,
    Lease,
    Messages,
    Page,
    Receipt,
    ReplyParts,
    Ring,
    SessionEvents,
    Snapshot,
    Traces,
)
from ..domain.types import Alias, Order, Owner
from ..errors import ConvstoreError, StoreUnavailable


class Bell(Protocol):
    """Tells one thread of this process when something has happened to sessions. It may ring in vain, or be lost."""

    def listen(self, sources: Collection[Heard]) -> None:
        """Listen to these sessions and lists from now on, and to no others."""
        ...

    def wait(self, seconds: float) -> list[Ring]:
        """Wait until the bell has rung, *seconds* at most. Return all that has rung.

        Raises:
            StoreUnavailable: The connection is lost. The next call makes another one.
        """
        ...

    def close(self) -> None:
        """Give up the connection."""
        ...


class Store(Protocol):
    """Sessions of one application. Safe to use from several threads."""

    def apply(self, command: Command) -> Receipt:
        """Do one write, all or nothing, and once. A known token changes nothing and gets the first receipt.

        Raises:
            SessionNotFound: This owner has no such session. Only a ``Put``, or a ``Merge`` that says so, creates one.
            SessionExists: There is one, and only a new one was wanted. Nothing was written.
            Forbidden: Another owner shares it, but not for this. Nothing was written.
            MessageNotFound: No such message. Nothing was written.
            SessionMoved: Messages for a conversation that continues in another session, or a guest's write. Nothing was
                written.
            ConflictError: Something that the command relies on has changed. Nothing was written.
            TokenReused: The token came before with another digest. Nothing was written.
            TooLarge: A limit would be passed. Nothing was written.
            TurnLost: The turn to commit or to renew has been taken over. Nothing was written.
            CorruptValue: The stored session is not whole. Nothing was written.
            StoreUnavailable: No answer in time. The command may be applied again as it is.
        """
        ...

    def apply_each(self, commands: Sequence[Command | BeginTurn]) -> list[Receipt | ConvstoreError]:
        """Do several commands, each all or nothing for itself. One that failed is an error in the list.

        They take one round trip, in a Cluster one for each primary. Where sessions are created, or are active again after a
        minute, their owners' indexes take another one. The commands may be done in any order: one that belongs behind
        another one says so by ``BEHIND``. Of a turn that begins, the session is not read.
        """
        ...

    def begin(self, command: BeginTurn) -> Begun:
        """Add a message, take the turn, and read the session, all at one moment and once.

        Raises:
            TurnInProgress: Another attempt has the turn. Nothing was written, unless the token is known. ``written`` tells.
            SessionMoved: The conversation goes on in another session. Nothing was written.
            TurnLost: The token is known, its turn was not ended, and others have written since. The message was stored.
            SessionNotFound, ConflictError, TokenReused, TooLarge, CorruptValue, StoreUnavailable: As ``apply``.
        """
        ...

    def renew(self, commands: Sequence[RenewTurn]) -> list[ConvstoreError | None]:
        """Renew the leases of several turns, in one round trip where that can be. Return an error, or None, for each.

        Raises:
            StoreUnavailable: No answer in time.
        """
        ...

    def feed(self, commands: Sequence[FeedReply]) -> list[int | ConvstoreError]:
        """Add parts to the streams of several replies, in one round trip where that can be.

        Return the number of the newest part in each stream, or an error: ``TurnLost``, ``SessionNotFound``. Where the
        number is below the one before the first part given, parts are missing and none was added.

        Raises:
            StoreUnavailable: No answer in time. The commands may be repeated as they are.
        """
        ...

    def take_reply(self, command: TakeReply) -> ReplyParts:
        """Take the turn of a streamed reply from its attempt, and read what the stream holds.

        Raises:
            TurnLost: No turn with this reply is in progress.
            TurnInProgress: The lease has not ended, and the command asks for one that has.
            SessionNotFound, Forbidden, StoreUnavailable: As ``apply``.
        """
        ...

    def reply_parts(self, asked: Sequence[ReplyPosition]) -> list[ReplyParts | ConvstoreError]:
        """Read on in the streams of replies, in one round trip where that can be. That is no interaction.

        Raises:
            StoreUnavailable: No answer in time.
        """
        ...

    def bell(self) -> Bell:
        """Make a bell. It rings when parts are added to a stream, and when one ends or is removed. It also rings for each
        write to a session that is watched.
        """
        ...

    def session_events(self, asked: Sequence[EventPosition]) -> list[SessionEvents | ConvstoreError]:
        """Read what has happened to sessions, in one round trip where that can be, and watch them from now on.

        Raises:
            StoreUnavailable: No answer in time.
        """
        ...

    def watch_list(self, owner: str, session_ids: Sequence[str], watched_ms: int) -> None:
        """Let the bell of an owner's list ring for writes to these sessions, and for those that are new or become active."""
        ...

    def place_of(self, session_id: str) -> str:
        """Name the part of the store that has a session, such as a primary of a Cluster. It is away by itself.

        Nothing is asked, so that the answer may be out of date.
        """
        ...

    def load(
        self,
        session_id: str,
        owner: Owner,
        last: int | None = None,
        *,
        is_interaction: bool = True,
        fields: Sequence[str] | None = None,
    ) -> Snapshot | None:
        """Read a session with its *last* messages (None: all), at one moment. None if this owner has no such session.

        With *fields* only these of its data fields are read, and neither aliases nor shares.
        It moves the lifetime if it *is_interaction*.
        """
        ...

    def load_many(
        self, session_ids: Sequence[str], owner: Owner, *, is_interaction: bool = True
    ) -> list[Snapshot | ConvstoreError | None]:
        """Read several sessions, in one round trip where that can be, each at one moment of its own.

        A session that cannot be read is an error in the list, and spoils no other.

        Raises:
            StoreUnavailable: No answer in time.
        """
        ...

    def page(
        self,
        owner: Owner,
        cursor: str | None = None,
        limit: int = 100,
        *,
        newest_first: bool = False,
        order: Order = "active",
    ) -> Page:
        """List sessions of *owner* from *cursor* on, by last interaction to within a minute, or by last change.

        ``ANY``: all, in any order. A session that moves meanwhile, as somebody uses or changes it, may come twice. Oldest
        first, each comes at least once. Newest first, one that has moved before it was shown stands before the first page.
        All others come once. A page may be short of *limit*, or empty, before the last one.
        """
        ...

    def link(self, command: LinkAlias) -> str | None:
        """Link an alias, if it leads where the command expects. Return the id to which it leads now (None: to nothing)."""
        ...

    def link_all(self, commands: Sequence[LinkAlias]) -> list[str | None]:
        """Link several aliases, each as ``link`` does, in one round trip where that can be."""
        ...

    def follow(self, alias: Alias, lifetime_ms: int) -> str | None:
        """Return the id to which *alias* leads (None: to nothing). It lives at least *lifetime_ms* from now."""
        ...

    def follow_all(self, aliases: Sequence[Alias], lifetime_ms: int) -> list[str | None]:
        """Follow several aliases, each as ``follow`` does, in one round trip where that can be."""
        ...

    def spend(self, owner: str, most: int) -> int:
        """Take one of *most* turns a minute that *owner* may begin. Return 0, or the milliseconds until one is free."""
        ...

    def turn_lease(self, session_id: str, owner: Owner) -> Lease:
        """Return the lease of the turn in progress, which may have ended. Without a turn 0 milliseconds of it are left.

        Raises:
            SessionNotFound: This owner has no such session.
        """
        ...

    def wait_for_turn(self, session_id: str, attempt: str, seconds: float) -> bool:
        """Wait, *seconds* at most, until an *attempt* that stands in line is told that the turn is free. True if it was."""
        ...

    def messages(
        self, session_id: str, owner: Owner, before: int | None, limit: int, after: int | None = None
    ) -> Messages | None:
        """Read up to *limit* messages, the newest with a seq below *before* (None: of all). None if there is no session.

        With *after*, the oldest with a higher seq instead. It moves the lifetime.
        """
        ...

    def message(self, session_id: str, owner: Owner, target: Target) -> Messages | None:
        """Read the message with that seq or id, if there is one. None if there is no session. It moves the lifetime."""
        ...

    def salvage(self, session_id: str, owner: Owner) -> Snapshot | None:
        """Read the fields and messages that are left of a session, which may be damaged. That is no interaction.

        None if nothing is left, or if it is another owner's.
        """
        ...

    def has_ended(self, session_id: str, owner: Owner) -> bool:
        """Tell whether this owner had a session that has ended within the last day."""
        ...

    def time_ms(self) -> int:
        """Ask the server for its time, in milliseconds since 1970. Each node of a Cluster has its own."""
        ...

    def traces(self, owner: str, cursor: str | None = None) -> Traces:
        """List what *owner* has beside sessions, a page at a time. A server walks through all its keys for that."""
        ...

    def journalled(self, owner: str) -> list[str]:
        """List the ids of the owner's sessions in this host's journal."""
        ...

    def note_forgotten(self, owner: str) -> None:
        """Note that all sessions of *owner* are deleted that began until now, for the journals of other hosts.

        The note lives as long as a session of the settings' lifetime, and a day longer.
        """
        ...

    def forgotten_at_ms(self, owners: Sequence[str]) -> dict[str, int]:
        """Return the time of the last note for each of *owners* that has one, by the server's clock."""
        ...

    def forget_owner(self, owner: str, ended: Sequence[tuple[str, int]]) -> None:
        """Drop what is kept of *owner* beside sessions and aliases: the count of turns, and the ids of sessions that ended.

        *ended* are those ids, each with the time in milliseconds of its end.
        """
        ...

    def scrub(self) -> None:
        """Have removed text leave the files on this host that are ours: the embedded server's log, and the journal.

        A failure is logged.
        """
        ...

    def ping(self) -> float:
        """Measure how many milliseconds an answer takes. StoreUnavailable if none comes."""
        ...

    def about(self) -> About:
        """Ask the server about itself."""
        ...

    def close(self) -> None:
        """Give up connections. The store may be used again and opens new ones."""
        ...


def pages(store: Store, owner: Owner, cursor: str | None = None, *, newest_first: bool = False) -> Iterator[Page]:
    """Iterate over the pages from *cursor* on. Each is read when it is asked for. A session may come twice."""
    while True:
        page = store.page(owner, cursor, newest_first=newest_first)
        yield page
        cursor = page.next
        if cursor is None:
            return


_T = TypeVar("_T")


def load_each(
    store: Store, session_ids: Sequence[str], owner: Owner, *, is_interaction: bool
) -> list[Snapshot | ConvstoreError | None]:
    """Read several sessions one after the other, as ``Store.load_many`` gives them.

    Raises:
        StoreUnavailable: No answer in time.
    """
    found: list[Snapshot | ConvstoreError | None] = []
    for session_id in session_ids:
        try:
            found.append(store.load(session_id, owner, is_interaction=is_interaction))
        except StoreUnavailable:
            raise
        except ConvstoreError as error:
            found.append(error)
    return found


_A = TypeVar("_A")


def one_by_one(function: Callable[[_A], _T], given: Iterable[_A]) -> list[_T | ConvstoreError]:
    """Call *function* with one after the other. An error is a value, and spoils no other."""
    answers: list[_T | ConvstoreError] = []
    for one in given:
        try:
            answers.append(function(one))
        except ConvstoreError as error:
            answers.append(error)
    return answers


def written(store: Store, command: Command | BeginTurn) -> Receipt:
    """Do one command. Of a turn that begins, nothing is returned but the receipt."""
    return store.begin(command).receipt if isinstance(command, BeginTurn) else store.apply(command)


def renew_each(store: Store, commands: Sequence[RenewTurn]) -> list[ConvstoreError | None]:
    """Renew leases one after the other, as ``Store.renew``."""
    answers = one_by_one(store.apply, commands)
    return [answer if isinstance(answer, ConvstoreError) else None for answer in answers]


UNTOLD_PAUSE = 0.03
"""Seconds after which an attempt looks again that stands in line for a turn, and cannot be told."""


class StoreAround:
    """A store around a store. Every call goes through ``_call``, where a subclass sees or stops it."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def _call(self, method: Callable[..., _T], *arguments: Any, **options: Any) -> _T:
        return method(*arguments, **options)

    def apply(self, command: Command) -> Receipt:
        return self._call(self._store.apply, command)

    def apply_each(self, commands: Sequence[Command | BeginTurn]) -> list[Receipt | ConvstoreError]:
        return self._call(self._store.apply_each, commands)

    def begin(self, command: BeginTurn) -> Begun:
        return self._call(self._store.begin, command)

    def renew(self, commands: Sequence[RenewTurn]) -> list[ConvstoreError | None]:
        return self._call(self._store.renew, commands)

    def feed(self, commands: Sequence[FeedReply]) -> list[int | ConvstoreError]:
        return self._call(self._store.feed, commands)

    def take_reply(self, command: TakeReply) -> ReplyParts:
        return self._call(self._store.take_reply, command)

    def reply_parts(self, asked: Sequence[ReplyPosition]) -> list[ReplyParts | ConvstoreError]:
        return self._call(self._store.reply_parts, asked)

    def bell(self) -> Bell:
        return self._store.bell()

    def session_events(self, asked: Sequence[EventPosition]) -> list[SessionEvents | ConvstoreError]:
        return self._call(self._store.session_events, asked)

    def watch_list(self, owner: str, session_ids: Sequence[str], watched_ms: int) -> None:
        self._call(self._store.watch_list, owner, session_ids, watched_ms)

    def place_of(self, session_id: str) -> str:
        return self._store.place_of(session_id)

    def load(
        self,
        session_id: str,
        owner: Owner,
        last: int | None = None,
        *,
        is_interaction: bool = True,
        fields: Sequence[str] | None = None,
    ) -> Snapshot | None:
        return self._call(self._store.load, session_id, owner, last, is_interaction=is_interaction, fields=fields)

    def load_many(
        self, session_ids: Sequence[str], owner: Owner, *, is_interaction: bool = True
    ) -> list[Snapshot | ConvstoreError | None]:
        return self._call(self._store.load_many, session_ids, owner, is_interaction=is_interaction)

    def page(
        self,
        owner: Owner,
        cursor: str | None = None,
        limit: int = 100,
        *,
        newest_first: bool = False,
        order: Order = "active",
    ) -> Page:
        return self._call(self._store.page, owner, cursor, limit, newest_first=newest_first, order=order)

    def link(self, command: LinkAlias) -> str | None:
        return self._call(self._store.link, command)

    def follow(self, alias: Alias, lifetime_ms: int) -> str | None:
        return self._call(self._store.follow, alias, lifetime_ms)

    def link_all(self, commands: Sequence[LinkAlias]) -> list[str | None]:
        return self._call(self._store.link_all, commands)

    def follow_all(self, aliases: Sequence[Alias], lifetime_ms: int) -> list[str | None]:
        return self._call(self._store.follow_all, aliases, lifetime_ms)

    def spend(self, owner: str, most: int) -> int:
        return self._call(self._store.spend, owner, most)

    def turn_lease(self, session_id: str, owner: Owner) -> Lease:
        return self._call(self._store.turn_lease, session_id, owner)

    def wait_for_turn(self, session_id: str, attempt: str, seconds: float) -> bool:
        return self._call(self._store.wait_for_turn, session_id, attempt, seconds)

    def messages(
        self, session_id: str, owner: Owner, before: int | None, limit: int, after: int | None = None
    ) -> Messages | None:
        return self._call(self._store.messages, session_id, owner, before, limit, after)

    def message(self, session_id: str, owner: Owner, target: Target) -> Messages | None:
        return self._call(self._store.message, session_id, owner, target)

    def salvage(self, session_id: str, owner: Owner) -> Snapshot | None:
        return self._call(self._store.salvage, session_id, owner)

    def has_ended(self, session_id: str, owner: Owner) -> bool:
        return self._call(self._store.has_ended, session_id, owner)

    def time_ms(self) -> int:
        return self._call(self._store.time_ms)

    def traces(self, owner: str, cursor: str | None = None) -> Traces:
        return self._call(self._store.traces, owner, cursor)

    def journalled(self, owner: str) -> list[str]:
        return self._store.journalled(owner)

    def note_forgotten(self, owner: str) -> None:
        self._call(self._store.note_forgotten, owner)

    def forgotten_at_ms(self, owners: Sequence[str]) -> dict[str, int]:
        return self._call(self._store.forgotten_at_ms, owners)

    def forget_owner(self, owner: str, ended: Sequence[tuple[str, int]]) -> None:
        self._call(self._store.forget_owner, owner, ended)

    def scrub(self) -> None:
        self._store.scrub()

    def ping(self) -> float:
        return self._call(self._store.ping)

    def about(self) -> About:
        return self._call(self._store.about)

    def close(self) -> None:
        self._store.close()
