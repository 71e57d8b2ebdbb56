"""Sessions in this process: for a first try and for tests, and the readable reference of what every store does.

This room finds sessions, keeps them, and knows which writes are repeats. What a command does to a session stands in
``domain/rules.py``.

Nothing survives the process and nothing is shared between processes. With several workers use a server.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar
from weakref import WeakSet

from ..domain import streams
from ..domain.clock import now_ms
from ..domain.commands import (
    BEHIND,
    BeginTurn,
    Command,
    CommitTurn,
    Delete,
    EventPosition,
    Expecting,
    FeedReply,
    Harmless,
    LinkAlias,
    Put,
    RenewTurn,
    ReplyPosition,
    TakeReply,
    Target,
    Write,
)
from ..domain.figures import PlaceFigures
from ..domain.forks import Forking, watch
from ..domain.messages import own_id
from ..domain.numbering import behind
from ..domain.refusals import refuse_guest, refuse_moved_guest, refuse_reader, refuse_reused, refuse_written_since
from ..domain.results import (
    HEAD,
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
    StoredEvent,
    Traces,
    part_of,
)
from ..domain.rules import (
    added_by,
    adjust,
    creates,
    date,
    event_of,
    known_id,
    leave_line,
    left_out_by,
    may_evict,
    new_session,
    repeated,
    take_again,
    takes_place,
    write,
)
from ..domain.stored_messages import find
from ..domain.stored_session import StoredSession
from ..domain.types import ANY, Alias, Limits, Order, Owner, Scope
from ..errors import ConflictError, ConvstoreError, InvalidInput, SessionNotFound, TooManySessions, TurnUnended
from .bells import MemoryBell
from .receipts import Receipts
from .store import Bell, load_each, one_by_one, renew_each, written

_W = TypeVar("_W", bound=Write)

_LEVEL = "memory"
_SWEEP_EVERY_MS = 60_000
_LOGGED = 100
"""Writes that the log of a watched session keeps."""
_MOST_IDS_OF_NOBODY = 64
"""Ids of messages that are gone, which a session keeps beside as many as it has messages."""


class MemoryStore(Forking):
    """A ``Store`` in a dict, under one lock. See there for its methods.

    A write changes a copy of the session, which takes its place when all went well.

    Args:
        limits: Lifetimes and sizes of sessions.
        clock: The time in milliseconds since 1970.
    """

    def __init__(self, limits: Limits, clock: Callable[[], int] = now_ms) -> None:
        self._limits = limits
        self._clock = clock
        self._lock = threading.RLock()
        self._turn_ended = threading.Condition(self._lock)
        self._sessions: dict[str, StoredSession] = {}
        self._tokens: dict[str, Receipts] = {}
        self._aliases: dict[Alias, tuple[str, int]] = {}
        self._buckets: dict[str, tuple[float, int]] = {}
        self._sweep_at = 64
        self._sweep_time = 0
        self._bells: WeakSet[MemoryBell] = WeakSet()
        self._watched: dict[str, int] = {}
        watch(self)

    def in_child(self) -> None:
        self._lock = threading.RLock()
        self._turn_ended = threading.Condition(self._lock)

    def apply(self, command: Command, *, in_place: bool = False) -> Receipt:
        """Do as ``Store.apply``. *in_place* is for a command that was done before: nothing is checked, nor copied."""
        with self._lock:
            now = self._clock()
            self._sweep(now)
            session = self._visible(command.session_id, command.owner, now)
            if not in_place:
                refuse_moved_guest(session, command.owner)
            refuse_guest(command, session)
            if isinstance(command, Harmless):
                if not session:
                    raise SessionNotFound(command.session_id)
                adjust(command, session, now)
                self._move_lifetime(session, now)
                return session.receipt(None, None, _LEVEL, now)
            if isinstance(command, Delete):
                self._refuse_absent(command, session, now)
            known = self._as_first(command, session, now)
            command = known or command
            if isinstance(command, CommitTurn):
                self._turn_ended.notify_all()
            receipt = self._repeated(command, session, now, is_known=known is not None)
            return receipt or self._write(command, session, now, in_place)

    def apply_each(self, commands: Sequence[Command | BeginTurn]) -> list[Receipt | ConvstoreError]:
        return one_by_one(lambda command: written(self, command), commands)

    def begin(self, command: BeginTurn, *, in_place: bool = False) -> Begun:
        """Do as ``Store.begin``. *in_place* as in ``apply``."""
        with self._lock:
            now = self._clock()
            self._sweep(now)
            session = self._visible(command.session_id, command.owner, now)
            if not in_place:
                refuse_moved_guest(session, command.owner)
            refuse_guest(command, session)
            known = self._as_first(command, session, now)
            command = known or command
            if session:
                self._refuse_unended(command, session, now)
            receipt = self._repeated(command, session, now, is_known=known is not None)
            if receipt:
                return self._begin_again(command, receipt, session if receipt.expires_at_ms else None, now)
            receipt = self._write(command, session, now, in_place)
            return Begun(receipt, _begun(self._sessions[command.session_id], command))

    def _refuse_unended(self, command: BeginTurn, session: StoredSession, now: int) -> None:
        tokens = self._tokens_of(command.session_id, now)
        is_known = bool(tokens and tokens.find(command.token))
        if session.turn and streams.is_unended(command, session, now, is_known=is_known):
            raise TurnUnended(command.session_id, session.reply, session.turn.until_ms <= now)

    def feed(self, commands: Sequence[FeedReply]) -> list[int | ConvstoreError]:
        return one_by_one(self._fed, commands)

    def _fed(self, command: FeedReply) -> int:
        with self._lock:
            now = self._clock()
            session = self._existing(command, now)
            last = streams.feed(command, session, now)
            self._move_lifetime(session, now)
            if command.parts:
                self._ring(Ring(("session", command.session_id)))
            return last

    def take_reply(self, command: TakeReply) -> ReplyParts:
        with self._lock:
            now = self._clock()
            return streams.take(command, self._existing(command, now), now)

    def _existing(self, command: FeedReply | TakeReply, now: int) -> StoredSession:
        session = self._seen(command, now)
        refuse_reader(command.session_id, command.owner, session)
        return session

    def _seen(self, asked: FeedReply | TakeReply | ReplyPosition | EventPosition, now: int) -> StoredSession:
        """Find the session for who may see it.

        Raises:
            SessionNotFound, SessionMoved: There is none for this owner, or a guest has to look elsewhere.
        """
        session = self._visible(asked.session_id, asked.owner, now)
        refuse_moved_guest(session, asked.owner)
        if not session:
            raise SessionNotFound(asked.session_id)
        return session

    def reply_parts(self, asked: Sequence[ReplyPosition]) -> list[ReplyParts | ConvstoreError]:
        return one_by_one(self._parts, asked)

    def _parts(self, position: ReplyPosition) -> ReplyParts:
        with self._lock:
            now = self._clock()
            return streams.read(self._seen(position, now), position.reply, position.after, position.limit, now)

    def bell(self) -> Bell:
        bell = MemoryBell()
        self._bells.add(bell)
        return bell

    def _ring(self, ring: Ring) -> None:
        for bell in list(self._bells):
            bell.ring(ring)

    def _tell(self, command: Write, session: StoredSession, first_seq: int | None, now: int) -> None:
        """Tell those who follow a session, or its owner's list, of a write."""
        session_id, kind, version = session.session_id, event_of(command), session.version
        self._ring(Ring(("session", session_id)))
        if session.watched_ms > now:
            session.log.append(StoredEvent(version, kind, first_seq or 0))
            del session.log[:-_LOGGED]
        if session.owner is None:
            return
        source: Heard = ("owner", session.owner)
        if session.list_watched_ms > now:
            self._ring(Ring(source, kind, version, session_id))
        elif self._watched.get(session.owner, 0) > now:
            self._ring(Ring(source))

    def session_events(self, asked: Sequence[EventPosition]) -> list[SessionEvents | ConvstoreError]:
        return one_by_one(self._events, asked)

    def _events(self, position: EventPosition) -> SessionEvents:
        with self._lock:
            now = self._clock()
            session = self._seen(position, now)
            session.watched_ms = max(session.watched_ms, now + position.watched_ms)
            created, known = position.after or (0, 0)
            is_known = created == session.created_at_ms
            events = [event for event in session.log if event.version > known] if is_known else []
            return SessionEvents(
                session.version,
                session.created_at_ms,
                session.updated_at_ms,
                len(session.elements),
                is_known and len(events) == session.version - known,
                events,
            )

    def watch_list(self, owner: str, session_ids: Sequence[str], watched_ms: int) -> None:
        with self._lock:
            until = self._clock() + watched_ms
            self._watched[owner] = until
            for session_id in session_ids:
                if session_id in self._sessions:
                    self._sessions[session_id].list_watched_ms = until

    def load(
        self,
        session_id: str,
        owner: Owner,
        last: int | None = None,
        *,
        is_interaction: bool = True,
        fields: Sequence[str] | None = None,
    ) -> Snapshot | None:
        with self._lock:
            now = self._clock()
            session = self._visible(session_id, owner, now)
            refuse_moved_guest(session, owner)
            if not session:
                return None
            if is_interaction:
                self._move_lifetime(session, now)
            snapshot = _snapshot(session, last)
            return part_of(snapshot, fields)

    def load_many(
        self, session_ids: Sequence[str], owner: Owner, *, is_interaction: bool = True
    ) -> list[Snapshot | ConvstoreError | None]:
        return load_each(self, session_ids, owner, is_interaction=is_interaction)

    def note_forgotten(self, owner: str) -> None:
        """Do nothing: no other host has a journal for this store."""

    def forgotten_at_ms(self, owners: Sequence[str]) -> dict[str, int]:
        return {}

    def link_all(self, commands: Sequence[LinkAlias]) -> list[str | None]:
        return [self.link(command) for command in commands]

    def follow_all(self, aliases: Sequence[Alias], lifetime_ms: int) -> list[str | None]:
        return [self.follow(alias, lifetime_ms) for alias in aliases]

    def renew(self, commands: Sequence[RenewTurn]) -> list[ConvstoreError | None]:
        return renew_each(self, commands)

    def place_of(self, session_id: str) -> str:
        return ""

    def page(
        self,
        owner: Owner,
        cursor: str | None = None,
        limit: int = 100,
        *,
        newest_first: bool = False,
        order: Order = "active",
    ) -> Page:
        with self._lock:
            places = self._in_order(owner, self._clock(), order)
            if newest_first:
                places.reverse()
            if cursor:
                # The order alone tells where to go on, whatever has come or gone since.
                last = _place_of(cursor)
                places = [place for place in places if (place < last if newest_first else place > last)]
            shown = places[:limit]
            summaries = [self._sessions[key].summary() for _, key in shown]
            return Page(summaries, f"{shown[-1][0]} {shown[-1][1]}" if len(places) > limit else None)

    def _in_order(self, owner: Owner, now: int, order: Order) -> list[tuple[int, str]]:
        """List the time and the id of each session of *owner*, the oldest first: of its last activity, or last change."""
        there = [session for key in self._sessions if (session := self._visible(key, ANY, now))]
        own = [session for session in there if owner in (ANY, session.owner)]
        return sorted(
            (session.updated_at_ms if order == "updated" else session.active_at_ms, session.session_id)
            for session in own
        )

    def count(self, owner: Owner) -> PlaceFigures:
        """Count the sessions of *owner*, their messages, and the bytes of both."""
        with self._lock:
            own = [self._sessions[key] for _, key in self._in_order(owner, self._clock(), "active")]
            messages = sum(len(session.elements) for session in own)
            return PlaceFigures(len(own), messages, sum(session.size_bytes for session in own))

    def link(self, command: LinkAlias) -> str | None:
        with self._lock:
            now = self._clock()
            found = self._led(command.alias, now)
            if command.expected not in (ANY, found):
                return found
            if command.session_id is None:
                self._aliases.pop(command.alias, None)
            else:
                self._aliases[command.alias] = command.session_id, now + command.lifetime_ms
            return command.session_id

    def follow(self, alias: Alias, lifetime_ms: int) -> str | None:
        with self._lock:
            now = self._clock()
            found = self._led(alias, now)
            if found is not None:
                self._aliases[alias] = found, max(self._aliases[alias][1], now + lifetime_ms)
            return found

    def _led(self, alias: Alias, now: int) -> str | None:
        session_id, expires = self._aliases.get(alias, (None, 0))
        return session_id if expires > now else None

    def spend(self, owner: str, most: int) -> int:
        with self._lock:
            now = self._clock()
            left, at = self._buckets.get(owner, (float(most), now))
            left = min(most, left + max(0, now - at) * most / 60_000)
            if left < 1:
                return math.ceil((1 - left) * 60_000 / most)
            self._buckets[owner] = left - 1, now
            return 0

    def turn_lease(self, session_id: str, owner: Owner) -> Lease:
        with self._lock:
            now = self._clock()
            session = self._visible(session_id, owner, now)
            refuse_moved_guest(session, owner)
            if not session:
                raise SessionNotFound(session_id)
            turn = session.turn
            return Lease(turn.attempt, turn.until_ms - now) if turn else Lease("", 0)

    def wait_for_turn(self, session_id: str, attempt: str, seconds: float) -> bool:
        with self._turn_ended:
            return self._turn_ended.wait(seconds)

    def messages(
        self, session_id: str, owner: Owner, before: int | None, limit: int, after: int | None = None
    ) -> Messages | None:
        with self._lock:
            now = self._clock()
            session = self._visible(session_id, owner, now)
            refuse_moved_guest(session, owner)
            if not session:
                return None
            self._move_lifetime(session, now)
            seq = session.next_seq if before is None else before
            count = len(session.elements)
            end = behind(seq - 1, session.first_seq, count, session.gaps)
            start = max(0, end - limit)
            if after is not None:
                start = behind(after, session.first_seq, count, session.gaps)
                end = min(count, start + limit)
            return Messages(
                session.elements[start:end],
                session.seqs[start:end],
                session.first_seq,
                session.title,
                later=count - end,
                version=session.version,
                created_at_ms=session.created_at_ms,
                expires_at_ms=session.expires_at_ms,
            )

    def message(self, session_id: str, owner: Owner, target: Target) -> Messages | None:
        with self._lock:
            now = self._clock()
            session = self._visible(session_id, owner, now)
            refuse_moved_guest(session, owner)
            if not session:
                return None
            self._move_lifetime(session, now)
            place = find(target, session)
            span = slice(0) if place is None else slice(place, place + 1)
            return Messages(session.elements[span], session.seqs[span], session.first_seq, session.title)

    def salvage(self, session_id: str, owner: Owner) -> Snapshot | None:
        return self.load(session_id, owner, is_interaction=False)

    def has_ended(self, session_id: str, owner: Owner) -> bool:
        with self._lock:
            now = self._clock()
            tokens = self._tokens_of(session_id, now)
            if not tokens or not tokens.has_begun or self._visible(session_id, ANY, now):
                return False
            return owner in (ANY, tokens.owner)

    def time_ms(self) -> int:
        return self._clock()

    def traces(self, owner: str, cursor: str | None = None) -> Traces:
        with self._lock:
            now = self._clock()
            aliases = [alias for alias in self._aliases if alias.owner == owner and self._led(alias, now)]
            seen = {key: found for key in self._sessions if (found := self._visible(key, ANY, now))}
            own = [key for key, found in seen.items() if found.owner == owner]
            return Traces(own, aliases, [key for key, found in seen.items() if owner in found.shared])

    def forget_owner(self, owner: str, ended: Sequence[tuple[str, int]]) -> None:
        with self._lock:
            self._buckets.pop(owner, None)

    def journalled(self, owner: str) -> list[str]:
        return []

    def scrub(self) -> None:
        """Do nothing. There is no file."""

    def ping(self) -> float:
        return 0.0

    def about(self) -> About:
        return About("memory", None, "primary")

    def close(self) -> None:
        """Do nothing. The sessions stay."""

    def keep(self, session_id: str, until_ms: int) -> None:
        """Let a session live at least until then, if it was not deleted."""
        with self._lock:
            session = self._sessions.get(session_id)
            if session:
                session.expires_at_ms = max(session.expires_at_ms, until_ms)
                self._tokens[session_id].receipts_end = session.expires_at_ms

    def knows(self, session_id: str, token: str) -> bool:
        """Tell whether there is a receipt under *token*, also that of a delete that has found nothing."""
        tokens = self._tokens_of(session_id, self._clock())
        return bool(tokens and tokens.find(token))

    def _refuse_absent(self, command: Delete, session: StoredSession | None, now: int) -> None:
        """Refuse a delete that finds no session, or that has found none the first time.

        Raises:
            SessionNotFound: Nothing was deleted. With a digest that is remembered.
        """
        tokens = self._tokens_of(command.session_id, now) or Receipts(_named(command.owner))
        known = tokens.find(command.token)
        is_ours = command.owner in (ANY, tokens.owner)
        if known and (session or is_ours):
            if known[0].version or known[1] != command.digest:
                return
        elif session:
            return
        elif command.digest and is_ours:
            self._note_absence(command, tokens, now)
        raise SessionNotFound(command.session_id)

    def _note_absence(self, command: Delete, tokens: Receipts, now: int) -> None:
        """Remember that *command* has found no session, so that its repeat spares one that began since."""
        is_anothers = self._visible(command.session_id, ANY, now)
        if not is_anothers and len(tokens.lasting) < self._limits.max_tokens:
            self._tokens[command.session_id] = tokens
            receipt = Receipt(
                version=0,
                first_seq=None,
                repeated=False,
                level=_LEVEL,
                created_at_ms=0,
                updated_at_ms=now,
                expires_at_ms=0,
                lifetime_ms=0,
                history_version_before=0,
            )
            tokens.lasting[command.token] = receipt, command.digest
            tokens.expires = max(tokens.expires, now + self._limits.tombstone_ms)

    def _refuse_before(self, command: Write, session: StoredSession | None, now: int) -> Write:
        """Refuse a command that comes before the one behind which it belongs. Return it with nothing left to expect."""
        if not session or not isinstance(command, Expecting) or not command.expected.startswith(BEHIND):
            return command
        tokens = self._tokens_of(command.session_id, now)
        if not tokens or not tokens.find(command.expected.removeprefix(BEHIND)):
            raise ConflictError(command.session_id, "version", expected=None, actual=session.version)
        return replace(command, expected="")

    def _write(self, command: Write, before: StoredSession | None, now: int, in_place: bool) -> Receipt:
        command = self._refuse_before(command, before, now)
        predecessor = _predecessor(command, before)
        if predecessor:
            before = None
        session = before or self._created(command, predecessor, now)
        if before and not in_place:
            session = before.copy()
        history_version = session.history_version
        left_out = len(left_out_by(command, before)) if before else 0
        first_seq = write(command, session, self._limits, now, is_checked=not in_place)
        if not before and takes_place(command):
            self._take_place(session.owner, command, now)
        if isinstance(command, Delete):
            del self._sessions[command.session_id]
            session.expires_at_ms = now
        else:
            self._sessions[command.session_id] = session
            self._move_lifetime(session, now)
        self._tell(command, session, first_seq, now)
        receipt = session.receipt(first_seq, history_version, _LEVEL, now)
        self._remember(command, session, receipt, now)
        date(command, session, now)
        return replace(receipt, left_out=left_out) if left_out else receipt

    def _created(self, command: Write, predecessor: StoredSession | None, now: int) -> StoredSession:
        """Create an empty session for *command*, behind the *predecessor* that ends with it.

        Raises:
            SessionNotFound: The command creates none, the session is another owner's, or one has ended lately.
        """
        is_taken = not predecessor and self._visible(command.session_id, ANY, now)
        tokens = self._tokens_of(command.session_id, now) or Receipts(None)
        has_ended = isinstance(command, Put) and command.mode == "first" and tokens.has_begun
        if not creates(command) or is_taken or has_ended:
            raise SessionNotFound(command.session_id)
        owner = _named(command.owner)
        ended_at_ms = tokens.ended
        if predecessor:
            owner = predecessor.owner
            ended_at_ms = max(ended_at_ms, predecessor.created_at_ms, predecessor.updated_at_ms)
        return new_session(command, owner, ended_at_ms, now)

    def _take_place(self, owner: str | None, command: Write, now: int) -> None:
        """Make room for one more session of *owner*, where their number is limited."""
        most = self._limits.max_sessions
        if owner is None or not most:
            return
        own = [key for _, key in self._in_order(owner, now, "active")]
        surplus = max(0, len(own) - most + 1)
        evictable = self._evictable(own, command, now) if may_evict(command, self._limits) else []
        if len(evictable) < surplus:
            raise TooManySessions(most)
        for key in evictable[:surplus]:
            self.apply(Delete(session_id=key, owner=owner))

    def _evictable(self, own: list[str], command: Write, now: int) -> list[str]:
        """Select the sessions that may make room for *command*: none that it spares, and none with a turn in progress."""
        spared = command.spared if isinstance(command, Put) else None
        busy = {key for key in own if (turn := self._sessions[key].turn) and turn.until_ms > now}
        return [key for key in own if key != spared and key not in busy]

    def _begin_again(self, command: BeginTurn, receipt: Receipt, session: StoredSession | None, now: int) -> Begun:
        """Tell of a turn whose token was known: it has ended, or its session is gone, or it is taken again."""
        if session:
            leave_line(session, command.attempt, now)
            self._turn_ended.notify_all()
        tokens = self._tokens[command.session_id]
        ended = tokens.receipts.get(f"{command.token}\n{receipt.version}", (None,))[0]
        if session and not ended:
            take_again(command, receipt, session, now)
        snapshot = _begun(session, command) if session else None
        return Begun(receipt, snapshot, reply=ended and repeated(ended, session), token=command.token)

    def _visible(self, session_id: str, owner: Owner, now: int) -> StoredSession | None:
        session = self._sessions.get(session_id)
        if not session or session.is_over(self._limits, now):
            return None
        return session if session.is_visible_to(owner) else None

    def _move_lifetime(self, session: StoredSession, now: int) -> None:
        session.move_lifetime(self._limits, now)
        tokens = self._tokens_of(session.session_id, now)
        if not tokens or tokens.owner != session.owner:  # else a predecessor's, if it had the same owner
            tokens = self._tokens[session.session_id] = Receipts(session.owner)
        tokens.has_begun = True
        tokens.live_until(session.expires_at_ms, now, self._limits.tombstone_ms)

    def _may_outlive(self, command: Write, session: StoredSession | None, now: int) -> bool:
        """Tell whether *command* may be known by a receipt that has outlived its session.

        Such are those of writes that create or delete one. A client may repeat its own token at any time, and a retry
        may come to a session that has just begun in the place of another.
        """
        began = session.created_at_ms if session else now
        is_young = began > now - self._limits.receipt_ms
        return isinstance(command, Delete) or creates(command) or bool(command.digest) or is_young

    def _tokens_of(self, session_id: str, now: int) -> Receipts | None:
        """Get the tokens of a session, which outlive it. None where there are none, or none any more."""
        tokens = self._tokens.get(session_id)
        if not tokens or tokens.expires <= now:
            return None
        tokens.forget_ended(now)
        return tokens

    def _repeated(self, command: Write, session: StoredSession | None, now: int, *, is_known: bool) -> Receipt | None:
        """Find the first receipt of a write whose token is known. None if the token is new.

        Args:
            is_known: The write is known by an id of its messages.
        """
        tokens = self._tokens_of(command.session_id, now)
        if not tokens:
            return None
        known = tokens.find(command.token, is_lasting=is_known or self._may_outlive(command, session, now))
        if not known:
            return None
        if not session and (self._visible(command.session_id, ANY, now) or not tokens.is_known_to(command.owner)):
            return None
        receipt, digest = known
        refuse_reused(command, digest)
        if not session or receipt.updated_at_ms < session.created_at_ms:  # gone, or written to a predecessor
            return repeated(receipt, None)
        self._move_lifetime(session, now)
        return repeated(receipt, session)

    def _as_first(self, command: _W, session: StoredSession | None, now: int) -> _W | None:
        """Give the repeat of a write the token of that one, if its messages are known by their ids. None: they are new."""
        tokens = self._tokens_of(command.session_id, now)
        if not session or not tokens or tokens.find(command.token, is_lasting=self._may_outlive(command, session, now)):
            return None
        name = known_id(command, session)
        if not name:
            return None
        token = tokens.ids.setdefault(name, command.token)
        if not tokens.find(token):  # forgotten
            place = find(name, session)
            assert place is not None
            receipt = session.receipt(session.seqs[place], session.history_version, _LEVEL, session.updated_at_ms)
            tokens.receipts[token] = receipt, command.digest
        known = tokens.find(token)
        assert known is not None
        return replace(command, token=token, digest=known[1])

    def _remember(self, command: Write, session: StoredSession, receipt: Receipt, now: int) -> None:
        tokens = self._tokens[command.session_id]
        if isinstance(command, Delete):
            tokens.ended = max(command.at_ms or now, session.created_at_ms)
            tokens.expires = now + self._limits.tombstone_ms
        young_ms = now - self._limits.receipt_ms
        tokens.remember(command, receipt, session.created_at_ms, self._limits.max_tokens, young_ms)
        added = added_by(command, receipt.first_seq, session)
        tokens.ids |= {name: command.token for name in map(own_id, added) if name}
        if len(tokens.ids) > 2 * len(session.elements) + _MOST_IDS_OF_NOBODY:
            there = {own_id(element) for element in session.elements}
            tokens.ids = {name: token for name, token in tokens.ids.items() if name in there}

    def _sweep(self, now: int) -> None:
        """Forget what has expired, every minute, and each time the number of entries has doubled."""
        if now < self._sweep_time and len(self._tokens) < self._sweep_at:
            return
        self._sweep_time = now + _SWEEP_EVERY_MS
        self._sessions = {key: session for key, session in self._sessions.items() if session.expires_at_ms > now}
        self._tokens = {key: tokens for key, tokens in self._tokens.items() if tokens.expires > now}
        for tokens in self._tokens.values():
            tokens.forget_ended(now)
        self._aliases = {alias: led for alias, led in self._aliases.items() if led[1] > now}
        self._buckets = {owner: bucket for owner, bucket in self._buckets.items() if bucket[1] + 60_000 > now}
        self._watched = {owner: until for owner, until in self._watched.items() if until > now}
        self._sweep_at = max(64, 2 * len(self._tokens))


def _place_of(cursor: str) -> tuple[int, str]:
    active, _, session_id = cursor.partition(" ")
    if not active.isdecimal():
        raise InvalidInput("this is no cursor of ours", "cursor")
    return int(active), session_id


def _predecessor(command: Write, there: StoredSession | None) -> StoredSession | None:
    """Find the session that ends because *command* begins another one in its place.

    Raises:
        ConflictError: The session that is *there* was written to since, and is not replaced.
    """
    if not isinstance(command, Put) or not there:
        return None
    refuse_written_since(command, there)
    return there if command.ends_predecessor else None


def _named(owner: Owner) -> str | None:
    return None if isinstance(owner, Scope) else owner


def _begun(session: StoredSession, command: BeginTurn) -> Snapshot:
    """Make the snapshot that a turn begins with."""
    snapshot = _snapshot(session, command.last)
    if command.last is not None:
        snapshot.head = session.elements[:HEAD]
    return snapshot


def _snapshot(session: StoredSession, last: int | None) -> Snapshot:
    return session.snapshot(last, f"memory://{session.session_id}")
