"""The words as values: whose a session is, its limits, and what a store gives back (receipts, snapshots, pages, health).

What is written are ``commands``. Times are milliseconds since 1970, lifetimes milliseconds. Nothing here knows Redis, Flask
or HTTP.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple

from .messages import NO_USAGE, Usage
from .values import as_value


class Scope(enum.Enum):
    """Owners that are no name."""

    ANY = "any"
    CALLER = "caller"


ANY: Final = Scope.ANY
"""``owner=ANY``: server access, whoever the owner is."""
CALLER: Final = Scope.CALLER
"""The default: in a request whoever is calling, outside one ``ANY``."""

Owner = str | None | Literal[Scope.ANY]
"""An owner's name, None for nobody (ownerless sessions only), or ``ANY``."""

Shape = Literal["full", "data", "list", "value"]
"""A dict with a history, a dict without one, a bare list; any other value, which is the text of its one nameless field."""

Role = Literal["reader", "writer"]
"""What another owner may do with a session: a writer all but delete it, share it, compact it, and give it a lifetime or an
alias."""


class Alias(NamedTuple):
    """An outside name of a conversation, in the scope of an owner; None: nobody's."""

    owner: str | None
    name: str

    def sort_key(self) -> tuple[str, str]:
        """Nobody's first, then by owner and name."""
        return self.owner or "", self.name


# ---- what comes back


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a write did.

    Attributes:
        version: The session's version after it.
        first_seq: The seq of the first message it added; None if it added none.
        repeated: The token was known: nothing was written now, this is the first answer.
        level: What the acknowledgement is worth: ``primary`` (the server has it), ``fsync`` (its disk has it),
            ``replicas:n`` (so many replicas have it too), ``journal`` (this host's disk has it until the server comes
            back), ``memory`` (this process has it).
        created_at_ms, updated_at_ms, expires_at_ms: The session's times; 0 if it is gone. Of a repeat: ``updated_at_ms`` is
            that of the first time, ``expires_at_ms`` has moved.
        lifetime_ms: From the interaction, of a write from ``updated_at_ms``, to ``expires_at_ms`` as it was then; of a
            repeat, the first time's.
        history_version_before: The session's ``history_version`` before this write; None for a touch.
        fallback: What served while the store was away, ``journal`` or ``memory``; None: the store itself.
        session_id: The id under which a session was started; None: the one that was asked for.
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


TOMBSTONE_MS = 24 * 3600 * 1000
"""How long the tokens of a deleted or expired session are kept: within this time a repeated or late write is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How long a store keeps what it is given, and how much of it.

    A session lives *ttl_ms* from its last interaction, *ttl_complete_ms* once its field ``complete`` is true, unless it
    was saved with a lifetime of its own; never longer than *max_age_ms* from its creation. Tokens live *tombstone_ms*
    longer than their session. Over *max_history* messages the oldest go if *trim*, else the write is refused. Over
    *max_sessions* (0: any number) of one owner the oldest goes if *evict*, else the start is refused.
    """

    ttl_ms: int
    ttl_complete_ms: int
    max_age_ms: int
    tombstone_ms: int
    max_tokens: int
    max_history: int
    trim: bool
    max_data_bytes: int
    max_session_bytes: int
    max_sessions: int = 0
    evict: bool = True


@as_value
class Snapshot:
    """A session as a store holds it: its data fields and its last messages as text, and what is known about it.

    Attributes:
        elements: The last messages asked for, oldest first; the last has the seq ``next_seq - 1``.
        count: How many messages the session has in all.
        history_version: The version at the last change of the messages.
        moved_to: The session in which the conversation goes on; None if it does here.
        aliases: Those that were told to lead here; one may have been led elsewhere since.
        usage: What its messages cost in all, also those that are gone.
        shared: The roles of other owners.
        key, history_key: Where the fields and the messages lie, for error texts.
        fallback: What served it while the store was away, ``journal`` or ``memory``; None: the store itself.
    """

    session_id: str
    version: int
    shape: Shape
    created_at_ms: int
    updated_at_ms: int
    expires_at_ms: int
    title: str | None
    fields: dict[str, bytes]
    elements: list[bytes]
    next_seq: int
    count: int
    history_version: int
    key: str
    history_key: str
    owner: str | None = None
    own_ttl_ms: int | None = None
    moved_to: str | None = None
    aliases: tuple[Alias, ...] = ()
    usage: Usage = NO_USAGE
    shared: Mapping[str, Role] = field(default_factory=dict)
    fallback: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What is known about a session without its data and messages.

    Attributes:
        active_at_ms: Its last interaction, to within a minute.
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


class Messages(NamedTuple):
    """Some of a session's messages, oldest first.

    Attributes:
        first_seq: The seq of the first of *elements*.
        oldest_seq: That of the oldest message there is.
        title, fallback: As a ``Snapshot`` has them.
    """

    elements: list[bytes]
    first_seq: int
    oldest_seq: int
    title: str | None = None
    fallback: str | None = None


class Page(NamedTuple):
    """Some sessions, and where the next ones begin; None: there are no more."""

    sessions: list[Summary]
    next: str | None


@dataclass(frozen=True, slots=True)
class Begun:
    """What beginning a turn gave.

    Attributes:
        receipt: Of the message. Repeated, with no *reply*: an earlier attempt died or failed, and the turn is taken anew.
        snapshot: The session with the messages asked for; None if it is gone (repeated only).
        reply: Of the end of the turn, if it was ended before (repeated); its ``first_seq`` is that of the reply.
    """

    receipt: Receipt
    snapshot: Snapshot | None
    reply: Receipt | None = None


@dataclass(frozen=True, slots=True)
class Health:
    """What ``health()`` answers.

    Attributes:
        connected: The store answered.
        latency_ms: How long that took; None if it did not.
        degraded: Something other than the store is serving.
        pending: Writes that wait to reach the store, in this host's journal.
        can_start: Sessions can be started in the fallback.
        pending_age_s: For how many seconds the oldest of them has waited.
        dropped: Writes that never reached it, as their session had been deleted or had expired meanwhile.
        set_aside: Writes that the store refuses for good; they are kept in the journal for somebody to look at.
        server, version, role: What answers: ``redis``, ``valkey`` or ``memory``, its version, ``primary`` or ``replica``.
            None where it does not say, as some managed services do.
        circuit: ``closed``, or ``open`` while a server that does not answer is not asked.
        problem: What is wrong, for operators; None if nothing is.
    """

    connected: bool
    latency_ms: float | None
    degraded: bool = False
    pending: int = 0
    can_start: bool = False
    pending_age_s: float | None = None
    dropped: int = 0
    set_aside: int = 0
    server: str | None = None
    version: str | None = None
    role: str | None = None
    circuit: str = "closed"
    problem: str | None = None

    def public(self) -> dict[str, Any]:
        """What anybody may know."""
        names = ("connected", "latency_ms", "degraded", "pending")
        return {name: getattr(self, name) for name in names}


class About(NamedTuple):
    """What a server says of itself; None where it does not."""

    server: str | None
    version: str | None
    role: str | None
