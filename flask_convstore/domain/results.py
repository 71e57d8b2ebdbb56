"""Results of a store: receipts, snapshots, pages, health.

Times are milliseconds since 1970, lifetimes are milliseconds.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from typing import Any, Literal, NamedTuple

from . import numbering
from .bodies import Bodies
from .clock import as_datetime
from .messages import NO_USAGE, Usage
from .record import SessionRecord
from .types import Alias, as_value


@as_value
class Receipt:
    """The acknowledgement of a write.

    Attributes:
        version: The session's version after it.
        first_seq: The seq of the first message it added, or None if it added none.
        repeated: The token was known: nothing was written now, this is the first answer.
        level: The worth of the acknowledgement: ``primary`` (the server has it), ``fsync`` (its disk has it),
            ``replicas:n`` (so many replicas have it too), ``journal`` (this host's disk has it until the server comes
            back), ``memory`` (this process has it).
        created_at_ms, updated_at_ms, expires_at_ms: The session's times. 0 if it is gone. A repeat has the first time's
            ``updated_at_ms``, and an ``expires_at_ms`` that has moved.
        lifetime_ms: Time from the interaction (``updated_at_ms`` of a write) to ``expires_at_ms`` as it was then. A repeat
            has the first time's.
        history_version_before: The session's ``history_version`` before this write. None for a touch.
        fallback: ``journal`` or ``memory`` if the fallback served while the store was away (None: the store itself).
        session_id: The id under which a session was started (None: the one that was asked for).
        left_out: Number of messages that were given and not added, since the session had their ids.
        partial: As a ``Snapshot`` has it.
    """

    version: int
    first_seq: int | None
    repeated: bool
    level: str
    created_at_ms: int
    updated_at_ms: int
    expires_at_ms: int
    lifetime_ms: int
    history_version_before: int | None
    fallback: str | None = None
    session_id: str | None = None
    left_out: int = 0
    partial: bool = False


class StoredPart(NamedTuple):
    """A part of a reply's stream.

    Attributes:
        number: Its place in the stream, from 1.
        text: Its content.
        first_seq, version: The seq of the reply, and the version of its session. Only the last parts know them (0).
    """

    number: int
    text: bytes
    first_seq: int = 0
    version: int = 0


class Lease(NamedTuple):
    """The lease of a turn.

    Attributes:
        holder: Names the attempt that has the turn ("": there is no turn). Another one has another name.
        remaining_ms: Time until it ends, if nobody renews it. 0 or less: it has ended, and the next turn takes over.
    """

    holder: str
    remaining_ms: int


class ReplyParts(NamedTuple):
    """Some parts of a reply's stream.

    Attributes:
        reply: The id of the reply ("": none is in progress).
        epoch: The number of the attempt that streams it. 0: there are no parts.
        restarts: The position that was asked for is not in this stream. The parts are the first ones.
        remaining_ms: The rest of its turn's lease (None: that turn is not in progress).
    """

    reply: str
    epoch: int
    parts: list[StoredPart]
    restarts: bool = False
    remaining_ms: int | None = None


class StoredEvent(NamedTuple):
    """A write to a session, as its log has it.

    Attributes:
        version: The session's version with it.
        kind: ``messages``, ``turn``, ``reply``, ``edited``, ``dropped``, ``data``, ``saved`` or ``moved``.
        first_seq: The seq of the first message that it added, or took out. Of a reply the reply's. 0: none.
    """

    version: int
    kind: str
    first_seq: int


class SessionEvents(NamedTuple):
    """The writes to a session since a version.

    Attributes:
        version, created_at_ms, updated_at_ms, message_count: The session's version, its times, and its number of messages.
        is_whole: *events* has all of them. False: the log does not go back so far.
    """

    version: int
    created_at_ms: int
    updated_at_ms: int
    message_count: int
    is_whole: bool
    events: list[StoredEvent]


Heard = tuple[Literal["session", "owner"], str]
"""A session, or an owner's list, to which somebody listens, by its id or name."""


class Ring(NamedTuple):
    """A bell that has rung.

    Attributes:
        source: The session or the owner's list.
        kind, version, session_id: For an owner's list the kind of a write, the version with it, and the session. "" as
            kind: some session is new, or became active.
    """

    source: Heard
    kind: str = ""
    version: int = 0
    session_id: str = ""


HEAD = 3
"""Messages at the beginning of a history that a turn reads beside the newest ones. System messages stand there.

So many of these stay where the oldest messages go.
"""


@dataclass(slots=True, kw_only=True)
class Snapshot(SessionRecord):
    """A session as it was read, with the last messages that were asked for in ``elements``.

    Attributes:
        count: Number of messages in the store, read or not.
        head: The oldest messages, up to ``HEAD``, where a turn reads the newest ones only.
        key, history_key: The places of the fields and of the messages, for error texts.
        fallback: As a ``Receipt`` has it.
        read: The names of the data fields that were asked for, there or not (None: all). Then aliases and shares were not
            read either.
        partial: The store is away, and may have more: this is what the host has written since, and what it remembers.
        stored_bytes: Size of its messages and its data in the store, read or not (None: the store does not tell).
    """

    count: int
    head: list[bytes] = field(default_factory=list)
    key: str = ""
    history_key: str = ""
    stored_bytes: int | None = field(default=None, compare=False)
    fallback: str | None = None
    read: tuple[str, ...] | None = None
    partial: bool = False
    _joined: Bodies | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def joined(self) -> Bodies:
        """The bodies of ``elements``, made once. Nobody changes either."""
        if self._joined is None:
            self._joined = Bodies(self.elements)
        return self._joined

    @property
    def bodies(self) -> list[bytes]:
        """The JSON texts of the bodies of ``elements``, made once.

        Raises:
            ValueError: As ``bodies_of``.
        """
        return self.joined.texts

    def with_facts(self, **facts: Any) -> Snapshot:
        """Make the same snapshot with other *facts*."""
        other = object.__new__(Snapshot)
        for name, fact in zip(_NAMES, _all_facts(self), strict=True):  # in half the time of dataclasses.replace
            setattr(other, name, fact)
        for name, fact in facts.items():
            setattr(other, name, fact)
        if "elements" in facts:
            other._joined = None
        return other

    @property
    def next_seq(self) -> int:
        """The seq of the next message."""
        return numbering.next_seq(self.first_seq, self.count, self.gaps)

    @property
    def seqs(self) -> Sequence[int]:
        """The seqs of ``elements``."""
        return numbering.seqs_of(self.first_seq, self.count, self.gaps, len(self.elements))


_NAMES = [fact.name for fact in fields(Snapshot)]
_all_facts = operator.attrgetter(*_NAMES)


def part_of(snapshot: Snapshot, names: Sequence[str] | None) -> Snapshot:
    """Leave out of *snapshot* the data fields not asked for, the aliases and the shares. None: all is asked for."""
    if names is None:
        return snapshot
    found = {name: snapshot.fields[name] for name in names if name in snapshot.fields}
    return replace(snapshot, fields=found, aliases=(), shared={}, read=tuple(names))


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A session without its data and messages.

    Attributes:
        active_at_ms: Its last interaction, to within a minute.
        began_at_ms: As a ``SessionRecord`` has it.
        is_damaged: It has lost its messages. Lists leave it out.
    """

    session_id: str
    owner: str | None
    version: int
    created_at_ms: int
    updated_at_ms: int
    expires_at_ms: int
    active_at_ms: int
    message_count: int
    title: str | None
    usage: Usage = NO_USAGE
    began_at_ms: int | None = None
    is_damaged: bool = False

    @property
    def created_at(self) -> datetime:
        """UTC, as a session has it."""
        return as_datetime(self.created_at_ms if self.began_at_ms is None else self.began_at_ms)

    @property
    def updated_at(self) -> datetime:
        """Last write, UTC."""
        return as_datetime(self.updated_at_ms)

    @property
    def expires_at(self) -> datetime:
        """Time when it expires unless somebody interacts, UTC."""
        return as_datetime(self.expires_at_ms)


class Messages(NamedTuple):
    """Some of a session's messages, oldest first.

    Attributes:
        seqs: The seqs of *elements*.
        oldest_seq: The seq of the oldest message in the store.
        title, fallback, version, created_at_ms, expires_at_ms, partial: As a ``Snapshot`` has them. A single message
            comes without version and times.
        later: Number of messages behind the last of *elements*.
    """

    elements: list[bytes]
    seqs: Sequence[int]
    oldest_seq: int
    title: str | None = None
    fallback: str | None = None
    later: int = 0
    version: int = 0
    created_at_ms: int = 0
    expires_at_ms: int = 0
    partial: bool = False


class Page(NamedTuple):
    """Some sessions, and the cursor of the next ones (None: there are no more).

    Attributes:
        damaged: The ids of sessions that are there, and are not ours as they are.
        pending: Number of the owner's sessions that wait in this host's journal, and that no page shows yet.
    """

    sessions: list[Summary]
    next: str | None
    damaged: tuple[str, ...] = ()
    pending: int = 0


class Begun(NamedTuple):
    """The answer to the beginning of a turn.

    Attributes:
        receipt: Receipt of the message. Repeated, with no *reply*: an earlier attempt died or failed, and the turn is taken
            anew.
        snapshot: The session with the messages asked for, or None if it is gone (repeated only).
        reply: Receipt of the end of the turn, if it was ended before (repeated). Its ``first_seq`` is that of the reply.
        token: The token under which the turn began, where its message was known by its id ("": that of the command).
    """

    receipt: Receipt
    snapshot: Snapshot | None
    reply: Receipt | None = None
    token: str = ""


@dataclass(frozen=True, slots=True)
class Health:
    """The answer of ``health()``.

    Attributes:
        connected: The store answered.
        latency_ms: Time that the answer took, or None if there was none.
        degraded: Something other than the store is serving.
        pending: Writes that wait to reach the store, in this host's journal. None: it cannot be read, see *problem*.
        can_start: Sessions can be started in the fallback.
        pending_age_s: Seconds for which the oldest of them has waited.
        dropped: Writes that never reached the store, as their session had been deleted or had expired meanwhile.
        set_aside: Writes that the store refuses for good. They are kept in the journal for an operator to look at.
        server, version, role: The server that answers: ``redis``, ``valkey`` or ``memory``, its version, ``primary`` or
            ``replica``. None where it does not say, as some managed services do.
        evicts: The policy by which the server removes keys when its memory is full, and with them sessions or parts of
            sessions. None: it removes none, or does not say.
        circuit: ``closed``, or ``open`` while a server that does not answer is not asked.
        problem: The problem, for operators (None: there is none).
    """

    connected: bool
    latency_ms: float | None
    degraded: bool = False
    pending: int | None = 0
    can_start: bool = False
    pending_age_s: float | None = None
    dropped: int = 0
    set_aside: int = 0
    server: str | None = None
    version: str | None = None
    role: str | None = None
    evicts: str | None = None
    circuit: str = "closed"
    problem: str | None = None

    def public(self) -> dict[str, Any]:
        """Select what anybody may know."""
        names = ("connected", "latency_ms", "degraded", "pending")
        return {name: getattr(self, name) for name in names}


class Traces(NamedTuple):
    """All that keys tell of an owner, on one page of them. Any index may have been evicted.

    Attributes:
        own: Ids of the owner's sessions.
        aliases: Aliases in the owner's scope, wherever they lead.
        shared: Ids of other owners' sessions that the owner shares.
        next: The cursor of the next page (None: there is none).
    """

    own: list[str]
    aliases: list[Alias]
    shared: list[str]
    next: str | None = None


class About(NamedTuple):
    """A server's own account of itself, or None where it gives none."""

    server: str | None
    version: str | None
    role: str | None
    evicts: str | None = None
