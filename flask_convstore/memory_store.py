"""Sessions in this process: for a first try and for tests, and the readable reference of what every store does.

Nothing survives the process and nothing is shared between processes: with several workers use a server.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import NoReturn

from .errors import (
    ConflictError,
    Forbidden,
    InvalidInput,
    MessageNotFound,
    SessionExists,
    SessionMoved,
    SessionNotFound,
    TokenReused,
    TooLarge,
    TooManySessions,
    TurnInProgress,
    TurnLost,
)
from .models import (
    ANY,
    NO_USAGE,
    About,
    Alias,
    Append,
    BeginTurn,
    Begun,
    Command,
    CommitTurn,
    Delete,
    Edit,
    Extend,
    Limits,
    LinkAlias,
    Messages,
    Owner,
    Page,
    Receipt,
    RenewTurn,
    Rewrite,
    Role,
    Save,
    Scope,
    Shape,
    Share,
    Snapshot,
    Summary,
    Touch,
    Usage,
    now_ms,
    with_status,
)

_Write = Save | Append | Delete | CommitTurn | BeginTurn | Edit

_SWEEP_EVERY_MS = 60_000


@dataclass(slots=True)
class _Turn:
    attempt: str
    until: int
    seq: int


@dataclass(slots=True)
class _Session:
    owner: str | None
    shape: Shape
    created: int
    updated: int = 0
    expires: int = 0
    active: int = 0
    version: int = 0
    ttl: int | None = None
    history_version: int = 0
    first_seq: int = 1
    elements: list[bytes] = field(default_factory=list)
    fields: dict[str, bytes] = field(default_factory=dict)
    turn: _Turn | None = None
    moved_to: str | None = None
    aliases: frozenset[Alias] = frozenset()
    title: str | None = None
    usage: Usage = NO_USAGE
    shared: Mapping[str, Role] = field(default_factory=dict)

    @property
    def next_seq(self) -> int:
        return self.first_seq + len(self.elements)

    @property
    def data_bytes(self) -> int:
        return sum(len(name.encode()) + len(text) for name, text in self.fields.items())

    @property
    def bytes(self) -> int:
        return self.data_bytes + sum(map(len, self.elements))


@dataclass(slots=True)
class _Tokens:
    """The receipts of a session's last writes, with the digest of each; they outlive it."""

    owner: str | None = None
    ended: int = 0
    expires: int = 0
    writes: int = 0
    receipts: dict[str, tuple[Receipt, str, int]] = field(default_factory=dict)

    def remember(self, token: str, receipt: Receipt, digest: str, most: int) -> None:
        """Keep what a write was told. Now and then those before the last *most* are dropped, as the servers do."""
        self.writes += 1
        self.receipts[token] = receipt, digest, self.writes
        if self.writes > most and self.writes % math.ceil(most / 4) == 0:
            oldest = self.writes - most
            self.receipts = {name: kept for name, kept in self.receipts.items() if kept[2] > oldest}


class MemoryStore:
    """A ``Store`` in a dict, under one lock; its methods are those of ``Store``.

    A write changes a copy of the session, which takes its place when all went well.

    Args:
        limits: How long sessions live, and how large they may get.
        clock: The time in milliseconds since 1970.
    """

    def __init__(self, limits: Limits, clock: Callable[[], int] = now_ms) -> None:
        self._limits = limits
        self._clock = clock
        self._lock = threading.RLock()
        self._sessions: dict[str, _Session] = {}
        self._tokens: dict[str, _Tokens] = {}
        self._aliases: dict[Alias, tuple[str, int]] = {}
        self._buckets: dict[str, tuple[float, int]] = {}
        self._sweep_at = 64
        self._sweep_time = 0

    def apply(self, command: Command, *, in_place: bool = False) -> Receipt:
        """See ``Store.apply``; *in_place* it was done before, with success: nothing is checked, nor copied."""
        with self._lock:
            now = self._clock()
            self._sweep(now)
            session = self._visible(command.session_id, command.owner, now)
            _refuse_guest(command, session)
            if isinstance(command, (Touch, RenewTurn, Share)):
                return self._keep(command, session, now)
            return self._repeated(command, session, now) or self._write(command, session, now, in_place)

    def begin(self, command: BeginTurn, *, in_place: bool = False) -> Begun:
        """See ``Store.begin``, and ``apply``."""
        with self._lock:
            now = self._clock()
            self._sweep(now)
            session = self._visible(command.session_id, command.owner, now)
            _refuse_guest(command, session)
            receipt = self._repeated(command, session, now)
            if receipt:
                return self._begin_again(command, receipt, session if receipt.expires_at_ms else None, now)
            receipt = self._write(command, session, now, in_place)
            return Begun(receipt, self._snapshot(command.session_id, command.last))

    def load(
        self, session_id: str, owner: Owner, last: int | None = None, *, is_interaction: bool = True
    ) -> Snapshot | None:
        with self._lock:
            now = self._clock()
            session = self._visible(session_id, owner, now)
            if not session:
                return None
            if is_interaction:
                self._move_lifetime(session_id, session, now)
            return self._snapshot(session_id, last)

    def page(self, owner: Owner, cursor: str | None = None, limit: int = 100, *, newest_first: bool = False) -> Page:
        with self._lock:
            now = self._clock()
            there = [(key, self._visible(key, ANY, now)) for key in self._sessions]
            own = [key for key, session in there if session and owner in (ANY, session.owner)]
            # The order tells where to go on, whatever has come or gone since.
            order = sorted(((self._sessions[key].active, key) for key in own), reverse=newest_first)
            if cursor:
                active, _, key = cursor.partition(" ")
                if not active.isdecimal():
                    raise InvalidInput("this is no cursor of ours", "cursor")
                last = int(active), key
                order = [place for place in order if (place < last if newest_first else place > last)]
            shown = order[:limit]
            summaries = [self._summary(key) for _, key in shown]
            return Page(summaries, f"{shown[-1][0]} {shown[-1][1]}" if len(order) > limit else None)

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

    def turn_remaining_ms(self, session_id: str, owner: Owner) -> int:
        with self._lock:
            now = self._clock()
            session = self._visible(session_id, owner, now)
            if not session:
                raise SessionNotFound(session_id)
            return session.turn.until - now if session.turn else 0

    def messages(self, session_id: str, owner: Owner, before: int | None, limit: int) -> Messages | None:
        with self._lock:
            now = self._clock()
            session = self._visible(session_id, owner, now)
            if not session:
                return None
            self._move_lifetime(session_id, session, now)
            seq = session.next_seq if before is None else before
            behind = max(0, min(len(session.elements), seq - session.first_seq))
            start = max(0, behind - limit)
            elements = session.elements[start:behind]
            return Messages(elements, session.first_seq + start, session.first_seq, session.title)

    def has_ended(self, session_id: str, owner: Owner) -> bool:
        with self._lock:
            now = self._clock()
            tokens = self._tokens.get(session_id)
            if not tokens or tokens.expires <= now or self._visible(session_id, ANY, now):
                return False
            return owner in (ANY, tokens.owner)

    def ping(self) -> float:
        return 0.0

    def about(self) -> About:
        return About("memory", None, "primary")

    def close(self) -> None:
        """Nothing to give up: the sessions stay."""

    def _keep(self, command: Touch | RenewTurn | Share, session: _Session | None, now: int) -> Receipt:
        if not session:
            raise SessionNotFound(command.session_id)
        if isinstance(command, RenewTurn):
            if not session.turn or session.turn.attempt != command.turn:
                raise TurnLost(command.session_id)
            session.turn.until = now + command.lease_ms
        elif isinstance(command, Share):
            if session.shared.get(command.name) != command.role:
                session.version += 1
                session.updated = max(now, session.created)
            others = {name: role for name, role in session.shared.items() if name != command.name}
            session.shared = {**others, command.name: command.role} if command.role else others
        else:
            _refuse_another(command.session_id, command.created_at_ms, session)
            session.ttl = command.ttl_ms or session.ttl
            session.aliases = (session.aliases - {command.left_by}) | ({command.led_by} if command.led_by else set())
        self._move_lifetime(command.session_id, session, now)
        return self._receipt(session, None, None, now)

    def keep(self, session_id: str, until_ms: int) -> None:
        """Let a session live until then at least, if it was not deleted."""
        with self._lock:
            session = self._sessions.get(session_id)
            if session:
                session.expires = max(session.expires, until_ms)

    def _write(self, command: _Write, before: _Session | None, now: int, in_place: bool) -> Receipt:
        predecessor = None
        if isinstance(command, Save) and command.mode == "replace" and command.started_at_ms is not None:
            predecessor, before = before, None
        if isinstance(command, Save) and not before:
            session = self._create(command, predecessor, now)
        elif not before:
            raise SessionNotFound(command.session_id)
        else:
            session = before if in_place else _copy(before)
        history_version = session.history_version
        next_seq = session.next_seq
        first_seq = self._change(command, session, now)
        added = session.next_seq - next_seq
        if self._limits.trim and 0 < added <= self._limits.max_history:
            _drop(session, len(session.elements) - self._limits.max_history)
        _tell(command, session)
        if not in_place:
            self._refuse_too_large(session, before, reserved=int(isinstance(command, BeginTurn)))
        if isinstance(command, Save) and not before and command.counts and command.started_at_ms is None:
            self._take_place(session.owner, command.spared, now)
        session.updated = max(now, session.created)
        if isinstance(command, Delete):
            del self._sessions[command.session_id]
            session.expires = now
        else:
            self._sessions[command.session_id] = session
            self._move_lifetime(command.session_id, session, now)
        receipt = self._receipt(session, first_seq, history_version, now)
        self._remember(command, session, receipt, now)
        return receipt

    def _change(self, command: _Write, session: _Session, now: int) -> int | None:
        """What *command* does to *session*; the seq of the first message it adds."""
        if isinstance(command, Save):
            return self._save(command, session)
        if isinstance(command, Append):
            _refuse_another(command.session_id, command.created_at_ms, session)
            if command.elements:
                _refuse_moved(command.session_id, session)
            _refuse_unexpected(command, session)
            session.version += 1
            session.ttl = command.ttl_ms or session.ttl
            return self._add(session, command.elements, command.fields)
        if isinstance(command, BeginTurn):
            return self._begin(command, session, now)
        if isinstance(command, CommitTurn):
            return self._commit(command, session)
        if isinstance(command, Edit):
            return self._edit(command, session)
        _refuse_another(command.session_id, command.created_at_ms, session)
        _refuse_unexpected(command, session)
        return None

    def _create(self, command: Save, predecessor: _Session | None, now: int) -> _Session:
        if command.mode == "merge" or (self._visible(command.session_id, ANY, now) and not predecessor):
            raise SessionNotFound(command.session_id)  # there is none, or it is another owner's
        owner = None if isinstance(command.owner, Scope) else command.owner
        ended = 0
        if predecessor:  # ends here
            owner, ended = predecessor.owner, max(predecessor.created, predecessor.updated)
        tokens = self._tokens.get(command.session_id)
        if command.mode == "first" and tokens and tokens.expires > now:
            raise SessionNotFound(command.session_id)
        ended = max(ended, tokens.ended if tokens else 0)
        return _Session(owner, "full", max(command.started_at_ms or now, ended + 1))

    def _take_place(self, owner: str | None, spared: str | None, now: int) -> None:
        """Make room for one more session of *owner*, if there may be so many only; *spared* stays."""
        if owner is None:
            return
        most = self._limits.max_sessions
        own = [key for key in self._sessions if (there := self._visible(key, ANY, now)) and there.owner == owner]
        if not most or len(own) < most:
            return
        oldest = sorted((key for key in own if key != spared), key=lambda key: self._sessions[key].active)
        if not self._limits.evict or len(oldest) < len(own) - most + 1:
            raise TooManySessions(most)
        for key in oldest[: len(own) - most + 1]:
            self.apply(Delete(session_id=key, owner=owner))

    def _save(self, command: Save, session: _Session) -> int | None:
        shape = command.shape
        if command.mode == "merge" or (command.mode == "upsert" and session.version):
            shape = shape if command.mode == "merge" else None
            if command.history and command.history.elements:
                _refuse_moved(command.session_id, session)
            _refuse_another(command.session_id, command.created_at_ms, session)
            if isinstance(command.history, Rewrite) and command.history.history_version != session.history_version:
                _refuse_conflict(command, "history", session)
            _refuse_collisions(command, session)
        elif command.mode in ("create", "first") and session.version:
            raise SessionExists(command.session_id)
        else:
            session.fields.clear()
            session.moved_to = session.title = None
        session.version += 1
        session.shape = shape or session.shape
        session.ttl = command.ttl_ms or session.ttl
        fields = [(change.name, change.value) for change in command.fields]
        if command.history is None:
            return self._add(session, (), fields)
        oldest = command.history.drop_below if isinstance(command.history, Extend) else session.next_seq
        _drop(session, oldest - session.first_seq)
        session.history_version = session.version
        return self._add(session, command.history.elements or (), fields)

    def _begin(self, command: BeginTurn, session: _Session, now: int) -> int | None:
        _refuse_moved(command.session_id, session)
        _refuse_unexpected(command, session)
        previous = session.turn
        if previous and previous.until > now and not command.supersede:
            raise TurnInProgress(command.session_id, previous.until - now)
        session.version += 1
        seq = session.next_seq if command.element else 0
        session.turn = _Turn(command.attempt, now + command.lease_ms, seq)
        first_seq = self._add(session, (command.element,) if command.element else (), ())
        if previous:
            _mark(session, previous.seq, "superseded" if previous.until > now else "interrupted")
        return first_seq

    def _begin_again(self, command: BeginTurn, receipt: Receipt, session: _Session | None, now: int) -> Begun:
        """The turn that was begun with this token before: it was ended, it is in progress, or it is taken anew."""
        tokens = self._tokens[command.session_id]
        ended = tokens.receipts.get(f"{command.token}\n{receipt.version}", (None,))[0]
        if not session:
            return Begun(receipt, None, reply=ended)
        if not ended:
            turn = session.turn
            if not turn or turn.attempt != command.attempt:
                if turn and turn.until > now:
                    raise TurnInProgress(command.session_id, turn.until - now)
                if receipt.first_seq != session.next_seq - 1:
                    raise TurnLost(command.session_id)
            session.turn = _Turn(command.attempt, now + command.lease_ms, receipt.first_seq or 0)
        reply = ended and replace(ended, repeated=True, created_at_ms=session.created, expires_at_ms=session.expires)
        return Begun(receipt, self._snapshot(command.session_id, command.last), reply=reply)

    def _commit(self, command: CommitTurn, session: _Session) -> int | None:
        turn = session.turn
        if not turn or turn.attempt != command.turn:
            raise TurnLost(command.session_id)
        if command.expected not in ("", str(session.version)):
            raise ConflictError(command.session_id, "version", expected=int(command.expected), actual=session.version)
        _refuse_collisions(command, session)
        session.version += 1
        session.turn = None
        fields = [(change.name, change.value) for change in command.fields]
        first_seq = self._add(session, command.elements, fields)
        _mark(session, turn.seq, command.status)
        session.moved_to = command.moved_to or session.moved_to
        return first_seq

    def _edit(self, command: Edit, session: _Session) -> int:
        _refuse_another(command.session_id, command.created_at_ms, session)
        _refuse_unexpected(command, session)
        index = command.seq - session.first_seq
        if not 0 <= index < len(session.elements):
            raise MessageNotFound(command.session_id, command.seq)
        if session.elements[index] != command.loaded:
            _refuse_conflict(command, "message", session)
        session.version += 1
        session.elements[index] = command.element
        session.history_version = session.version
        return command.seq

    def _add(
        self, session: _Session, elements: Iterable[bytes], fields: Iterable[tuple[str, bytes | None]]
    ) -> int | None:
        """Add messages and set fields; the seq of the first message."""
        first_seq = session.next_seq
        session.elements += elements
        for name, value in fields:
            if value is None:
                session.fields.pop(name, None)
            else:
                session.fields[name] = value
                # A bare list is a dict with its first field.
                session.shape = "full" if session.shape == "list" else session.shape
        if session.next_seq == first_seq:
            return None
        # A session without a history has one with its first message.
        session.shape = "full" if session.shape == "data" else session.shape
        session.history_version = session.version
        return first_seq

    def _refuse_too_large(self, session: _Session, before: _Session | None, reserved: int) -> None:
        limits = self._limits
        count, data, size = len(session.elements), session.data_bytes, session.bytes
        added = session.next_seq > (before.next_seq if before else 1)
        room = limits.max_history - (0 if limits.trim else reserved)
        if count > room and added:
            raise TooLarge("the session would have too many messages", limit=limits.max_history, size=count + reserved)
        if data > limits.max_data_bytes and data > (before.data_bytes if before else 0):
            reason = "the data would be too large in bytes of JSON"
            raise TooLarge(reason, limit=limits.max_data_bytes, size=data)
        if size > limits.max_session_bytes and size > (before.bytes if before else 0):
            reason = "the session would be too large in bytes of JSON"
            raise TooLarge(reason, limit=limits.max_session_bytes, size=size)

    def _visible(self, session_id: str, owner: Owner, now: int) -> _Session | None:
        session = self._sessions.get(session_id)
        if session and (session.expires <= now or session.created + self._limits.max_age_ms <= now):
            return None
        is_for = session and (owner in (ANY, session.owner) or owner in session.shared)
        return session if is_for else None

    def _move_lifetime(self, session_id: str, session: _Session, now: int) -> None:
        limits = self._limits
        complete = session.fields.get("complete") == b"true"
        lifetime = session.ttl or (limits.ttl_complete_ms if complete else limits.ttl_ms)
        session.active = now
        session.expires = min(now + lifetime, session.created + limits.max_age_ms)
        tokens = self._tokens.setdefault(session_id, _Tokens(session.owner))
        if tokens.owner != session.owner:  # a successor of another owner's session
            tokens.owner = session.owner
            tokens.receipts, tokens.writes = {}, 0
        tokens.expires = session.expires + limits.tombstone_ms

    def _repeated(self, command: _Write, session: _Session | None, now: int) -> Receipt | None:
        """The first receipt of a write whose token is known."""
        tokens = self._tokens.get(command.session_id)
        known = tokens and tokens.receipts.get(command.token)
        if not tokens or not known:
            return None
        is_anothers = not session and self._visible(command.session_id, ANY, now)
        if is_anothers or (not session and command.owner not in (ANY, tokens.owner)):
            return None
        receipt, digest, _ = known
        if digest != command.digest and isinstance(command, CommitTurn):
            raise TurnLost(command.session_id)  # another attempt has ended this turn
        if digest != command.digest:
            raise TokenReused("this token came before with another request; nothing was written", "token")
        if not session or receipt.updated_at_ms < session.created:  # gone, or written to a predecessor of this session
            return replace(receipt, repeated=True, created_at_ms=0, expires_at_ms=0)
        self._move_lifetime(command.session_id, session, now)
        return replace(receipt, repeated=True, created_at_ms=session.created, expires_at_ms=session.expires)

    def _remember(self, command: _Write, session: _Session, receipt: Receipt, now: int) -> None:
        tokens = self._tokens[command.session_id]
        if isinstance(command, Delete):
            tokens.ended = max(command.at_ms or now, session.created)
            tokens.expires = now + self._limits.tombstone_ms
        earlier = command.earlier_token if isinstance(command, Save) else ""
        for token in (command.token, earlier) if earlier else (command.token,):
            tokens.remember(token, receipt, command.digest, self._limits.max_tokens)

    def _receipt(self, session: _Session, first_seq: int | None, history_version: int | None, now: int) -> Receipt:
        return Receipt(
            version=session.version,
            first_seq=first_seq,
            repeated=False,
            level="memory",
            created_at_ms=session.created,
            updated_at_ms=session.updated,
            expires_at_ms=session.expires,
            lifetime_ms=session.expires - now,
            history_version_before=history_version,
        )

    def _snapshot(self, session_id: str, last: int | None) -> Snapshot:
        session = self._sessions[session_id]
        count = len(session.elements)
        return Snapshot(
            session_id=session_id,
            version=session.version,
            shape=session.shape,
            created_at_ms=session.created,
            updated_at_ms=session.updated,
            expires_at_ms=session.expires,
            title=session.title,
            usage=session.usage,
            shared=dict(session.shared),
            fields=dict(session.fields),
            elements=session.elements[count - min(count, last) :] if last is not None else list(session.elements),
            next_seq=session.next_seq,
            count=count,
            history_version=session.history_version,
            key=f"memory://{session_id}",
            history_key=f"memory://{session_id}:history",
            owner=session.owner,
            own_ttl_ms=session.ttl,
            moved_to=session.moved_to,
            aliases=tuple(sorted(session.aliases, key=Alias.sort_key)),
        )

    def _summary(self, session_id: str) -> Summary:
        session = self._sessions[session_id]
        return Summary(
            session_id=session_id,
            owner=session.owner,
            version=session.version,
            created_at_ms=session.created,
            updated_at_ms=session.updated,
            expires_at_ms=session.expires,
            active_at_ms=session.active,
            message_count=len(session.elements),
            title=session.title,
            usage=session.usage,
        )

    def _sweep(self, now: int) -> None:
        """Forget what has expired: every minute, and each time the number of entries has doubled."""
        if now < self._sweep_time and len(self._tokens) < self._sweep_at:
            return
        self._sweep_time = now + _SWEEP_EVERY_MS
        self._sessions = {key: session for key, session in self._sessions.items() if session.expires > now}
        self._tokens = {key: tokens for key, tokens in self._tokens.items() if tokens.expires > now}
        self._aliases = {alias: led for alias, led in self._aliases.items() if led[1] > now}
        self._buckets = {owner: bucket for owner, bucket in self._buckets.items() if bucket[1] + 60_000 > now}
        self._sweep_at = max(64, 2 * len(self._tokens))


def _copy(session: _Session) -> _Session:
    return replace(session, elements=list(session.elements), fields=dict(session.fields))


def _refuse_another(session_id: str, created_at_ms: int | None, session: _Session) -> None:
    """Refuse a session that is not the one that is meant, but its successor."""
    if created_at_ms not in (None, session.created):
        raise SessionNotFound(session_id)


def _refuse_moved(session_id: str, session: _Session) -> None:
    if session.moved_to:
        raise SessionMoved(session_id, session.moved_to)


def _refuse_guest(command: Command | BeginTurn, session: _Session | None) -> None:
    """Refuse what an owner who shares a session does not share."""
    if not session or command.owner in (ANY, session.owner):
        return
    may_write = session.shared[str(command.owner)] == "writer"
    if isinstance(command, Touch):
        may = not (command.ttl_ms or command.led_by or command.left_by)
    else:
        may = may_write and not isinstance(command, (Delete, Share))
        may = may and not (isinstance(command, (Append, Save)) and command.ttl_ms)
        may = may and not (isinstance(command, BeginTurn) and command.element is None)
    if not may:
        raise Forbidden(command.session_id)


def _tell(command: _Write, session: _Session) -> None:
    """Keep what a command tells beside data and messages: the title, and what the messages have cost."""
    if isinstance(command, (Append, Edit)) and command.title is not None:
        session.title = command.title or None
    elif isinstance(command, (Append, BeginTurn, Save)) and command.first_title:
        session.title = session.title or command.first_title
    if not isinstance(command, (Delete, Edit)) and command.usage:
        session.usage = Usage(*map(sum, zip(session.usage, command.usage, strict=True)))


def _refuse_unexpected(command: Append | Delete | BeginTurn | Edit, session: _Session) -> None:
    if command.expected not in ("", str(session.version), f"{session.created}-{session.version}"):
        expected = int(command.expected.rpartition("-")[2])
        raise ConflictError(command.session_id, "version", expected=expected, actual=session.version)


def _refuse_collisions(command: Save | CommitTurn, session: _Session) -> None:
    for change in command.fields:
        stored = session.fields.get(change.name)
        if stored != change.loaded and (stored != change.value or _may_hide_changes(stored)):
            _refuse_conflict(command, change.name, session, is_field=True)


def _refuse_conflict(
    command: Save | CommitTurn | Edit, what: str, session: _Session, is_field: bool = False
) -> NoReturn:
    expected = command.loaded_version if isinstance(command, Save) else None
    raise ConflictError(command.session_id, what, expected=expected, actual=session.version, is_field=is_field)


def _may_hide_changes(text: bytes | None) -> bool:
    """Whether two changes may be hidden in one value that two writers made the same: both may have counted, or appended."""
    return text is not None and text[:1] in b"-0123456789[{"


def _drop(session: _Session, count: int) -> None:
    """Drop the oldest *count* messages, as far as there are any."""
    count = max(0, min(count, len(session.elements)))
    del session.elements[:count]
    session.first_seq += count


def _mark(session: _Session, seq: int, status: str) -> None:
    """Write a status into a message's envelope, if the message is still there; "" takes it out."""
    index = seq - session.first_seq
    if 0 <= index < len(session.elements):
        session.elements[index] = with_status(session.elements[index], status)
    if status:
        session.history_version = session.version
