"""The words as values: what is written (commands), what comes back (receipts, snapshots), a message, health.

Values of the app travel as JSON text (bytes), made and read above; no store looks into them. Times are milliseconds since
1970, lifetimes milliseconds. Nothing here knows Redis, Flask or HTTP.

A message is one *element* of the history: a version byte, its envelope as JSON, a newline, its body as JSON.
"""

from __future__ import annotations

import enum
import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Literal, NamedTuple

from . import codecs


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

Mode = Literal["replace", "create", "first", "merge", "upsert"]
"""What a ``Save`` does to a session that exists, and where there is none."""


def new_token() -> str:
    """A token that no other write has."""
    return os.urandom(16).hex()


# ---- commands: every write is one of these values


class Alias(NamedTuple):
    """An outside name of a conversation, in the scope of an owner; None: nobody's."""

    owner: str | None
    name: str

    def sort_key(self) -> tuple[str, str]:
        """Nobody's first, then by owner and name."""
        return self.owner or "", self.name


class FieldChange(NamedTuple):
    """A data field: its JSON text as loaded and as it shall be; None where there is none."""

    name: str
    loaded: bytes | None
    value: bytes | None


class Usage(NamedTuple):
    """Tokens of a language model that messages cost: read, and made."""

    input: int = 0
    output: int = 0


NO_USAGE = Usage()


@dataclass(frozen=True, slots=True)
class Extend:
    """Drop the messages with a seq below *drop_below*, add *elements* at the end. Merges with other writes."""

    drop_below: int
    elements: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Rewrite:
    """Put *elements* (None: no history at all) in the place of all messages.

    A merge conflicts unless the session has this *history_version*.
    """

    history_version: int
    elements: tuple[bytes, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Save:
    """Write a session.

    ``replace`` makes the given fields and messages all of it, whether it exists or not; ``create`` does the same unless
    it exists, ``first`` unless it exists or its tombstone tells that it did. ``merge`` writes only changes, into one that
    exists and was created at *created_at_ms* (None: any); ``upsert`` merges into one that exists, and creates one otherwise.
    *overwrites* names fields that others have changed meanwhile, for those who want to know.
    With *started_at_ms* it started a session elsewhere, at that moment, by another clock: what it creates has that time of
    creation, and what it replaces ends, as if it had been deleted. *instead_of* is the session that an earlier try, whose
    answer never came, may have started for the same purpose; *earlier_token* its token, where it was for the same session.
    Where it creates one, it takes one of its owner's places, unless it *counts* not; *spared* is the session that is not
    removed for that.
    """

    session_id: str
    owner: Owner
    mode: Mode
    shape: Shape | None
    fields: tuple[FieldChange, ...]
    history: Extend | Rewrite | None
    created_at_ms: int | None = None
    loaded_version: int | None = None
    ttl_ms: int | None = None
    overwrites: tuple[str, ...] = ()
    started_at_ms: int | None = None
    instead_of: str | None = None
    earlier_token: str = ""
    counts: bool = True
    spared: str | None = None
    first_title: str = ""
    usage: Usage | None = None
    token: str = field(default_factory=new_token)
    digest: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Append:
    """Add *elements* to a session and set *fields* (name, JSON text or None to remove), whatever they were.

    Only if it has the *expected* version ("" any, or ``<created>-<version>``) and was created at *created_at_ms* (None any).
    *title* "" removes it, None leaves it; *first_title* ("" none) is for a session that has none. *ttl_ms* as in ``Touch``.
    """

    session_id: str
    owner: Owner
    elements: tuple[bytes, ...]
    fields: tuple[tuple[str, bytes | None], ...] = ()
    expected: str = ""
    created_at_ms: int | None = None
    ttl_ms: int | None = None
    title: str | None = None
    first_title: str = ""
    usage: Usage | None = None
    token: str = field(default_factory=new_token)
    digest: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delete:
    """Remove a session, if it has the *expected* version, and the time of creation; its tokens stay as a tombstone.

    It was removed elsewhere *at_ms*; None: it is now.
    """

    session_id: str
    owner: Owner
    expected: str = ""
    created_at_ms: int | None = None
    at_ms: int | None = None
    token: str = field(default_factory=new_token)
    digest: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Touch:
    """Move a session's lifetime, and give it one of its own if *ttl_ms* is given. Repeating it is harmless: no token.

    Only if it was created at *created_at_ms*; None: any. *led_by* is an alias that leads to it from now on, *left_by* one
    that does not any more.
    """

    session_id: str
    owner: Owner
    created_at_ms: int | None = None
    ttl_ms: int | None = None
    led_by: Alias | None = None
    left_by: Alias | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BeginTurn:
    """Add a user's message (None: none) and take the turn for *lease_ms*; with *supersede* from whoever has it.

    The *last* messages, this one included, come back with it (None: all). The *token* names the turn, however often it is
    tried; *attempt* names this one try of it, whose lease it is: the same try repeated has the turn already.
    """

    session_id: str
    owner: Owner
    element: bytes | None
    lease_ms: int
    supersede: bool = False
    last: int | None = None
    expected: str = ""
    first_title: str = ""
    usage: Usage | None = None
    attempt: str = field(default_factory=new_token)
    token: str = field(default_factory=new_token)
    digest: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitTurn:
    """End the turn that the attempt *turn* has: add the reply's *elements*, merge *fields*, mark its message.

    *status* is what becomes of the message: nothing to tell (replied), ``unanswered`` or ``failed``. A begun turn finds its
    end under the token ``<its token>\\n<version of its message>``. The digest is the attempt: another's end is no repeat.
    With *moved_to*, the conversation goes on in that session, and this one takes no messages any more; only if it still has
    the *expected* version.
    """

    session_id: str
    owner: Owner
    turn: str
    elements: tuple[bytes, ...] = ()
    fields: tuple[FieldChange, ...] = ()
    status: Literal["", "unanswered", "failed"] = ""
    moved_to: str = ""
    expected: str = ""
    usage: Usage | None = None
    token: str = field(default_factory=new_token)
    digest: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RenewTurn:
    """Keep the turn that the attempt *turn* has for another *lease_ms*. No write: it needs no token."""

    session_id: str
    owner: Owner
    turn: str
    lease_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """Put *element* in the place of the message *seq*, which was read as *loaded*. Conditions as in ``Append``."""

    session_id: str
    owner: Owner
    seq: int
    loaded: bytes
    element: bytes
    title: str | None = None
    expected: str = ""
    created_at_ms: int | None = None
    token: str = field(default_factory=new_token)
    digest: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """Let another owner, *name*, read a session, or write to it; with *role* None not any more. No token: it is harmless."""

    session_id: str
    owner: Owner
    name: str
    role: Role | None


Command = Save | Append | Delete | CommitTurn | Touch | RenewTurn | Edit | Share


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkAlias:
    """Let *alias* lead to *session_id* (None: to nothing) for *lifetime_ms*, if it leads to *expected* now.

    *expected*: a session's id, None (to nothing), or ``ANY``. Repeating it is harmless: no token.
    """

    alias: Alias
    session_id: str | None
    expected: str | Literal[Scope.ANY] | None
    lifetime_ms: int


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
        lifetime_ms: From the interaction to ``expires_at_ms`` as it was then; of a repeat, the first time's.
        history_version_before: The session's ``history_version`` before this write; None for a touch.
        fallback: What served while the store was away, ``journal`` or ``memory``; None: the store itself.
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


@dataclass(frozen=True, slots=True, kw_only=True)
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


# ---- messages

_ELEMENT_VERSION = b"1"


@dataclass(frozen=True, slots=True)
class Message:
    """A body, the app's JSON, in its envelope. ``message["content"]`` and ``message.get("name")`` read the body.

    ``Message(body, metadata={…}, tokens=Usage(12, 30))`` may be appended instead of a bare body.

    Attributes:
        tokens: What it cost, in tokens of a language model; sums are kept with the session.
        edits: Earlier bodies, oldest first, where they were to be kept.
        seq: Its number in the session, from 1, never used again; 0 before it is stored.
        created_at_ms: When the app accepted it, by that host's clock.
    """

    body: Any
    metadata: dict[str, Any] | None = None
    seq: int = 0
    created_at_ms: int = 0
    status: str | None = None
    tokens: Usage | None = None
    edited_at_ms: int | None = None
    edits: tuple[Any, ...] = ()

    def __getitem__(self, key: str) -> Any:
        return self.body[key]

    def get(self, key: str, default: Any = None) -> Any:
        """The body's *key*; *default* if it has none, or is no dict."""
        return self.body.get(key, default) if isinstance(self.body, dict) else default

    @property
    def id(self) -> str:
        """``msg-<seq>``: unique in its session."""
        return f"msg-{self.seq}"

    @property
    def created_at(self) -> datetime:
        """When the app accepted it, UTC."""
        return as_datetime(self.created_at_ms)


LATEST_MS = 253_402_300_799_000
"""The year 9999: what datetime can hold."""


def now_ms() -> int:
    """Milliseconds since 1970, by this host's clock."""
    return time.time_ns() // 1_000_000


def as_datetime(milliseconds: int) -> datetime:
    """A time in UTC, to the millisecond."""
    return datetime.fromtimestamp(milliseconds // 1000, UTC).replace(microsecond=milliseconds % 1000 * 1000)


def as_milliseconds(time: datetime) -> int:
    """Milliseconds since 1970."""
    return int(time.timestamp()) * 1000 + time.microsecond // 1000


def join_element(created_at_ms: int, body: bytes, facts: Mapping[str, Any] | None = None) -> bytes:
    """A new message as the history keeps it; *body* is JSON text, *facts* what else its envelope holds."""
    if not facts:
        return b'%b{"at":%d}\n%b' % (_ELEMENT_VERSION, created_at_ms, body)
    envelope = codecs.encode({"at": created_at_ms, **facts})
    return b"%b%b\n%b" % (_ELEMENT_VERSION, envelope, body)


def facts_of(message: Message) -> dict[str, Any]:
    """What the envelope of *message* holds beside its time."""
    facts: dict[str, Any] = {} if message.metadata is None else {"metadata": message.metadata}
    if message.tokens is not None:
        facts["tokens"] = [message.tokens.input, message.tokens.output]
    return facts


def edited_element(element: bytes, message: Message) -> bytes:
    """*element* as *message* is now, edited at this moment."""
    head, _, _ = element.partition(b"\n")
    envelope = codecs.decode(head[len(_ELEMENT_VERSION) :])
    facts = {**facts_of(message), "edited_at": now_ms()}
    if message.edits:
        facts["edits"] = list(message.edits)
    edited = join_element(int(envelope["at"]), codecs.encode(message.body), facts)
    return with_status(edited, message.status) if message.status else edited


def with_body(element: bytes, body: bytes) -> bytes:
    """*element* with another body in the same envelope."""
    return element[: element.index(b"\n") + 1] + body


_STATUS = re.compile(rb',"status":"[a-z]+"$')
_REDACTED = b',"status":"redacted"}'


def with_status(element: bytes, status: str) -> bytes:
    """*element* with another status; "" takes it out. It stands last in the envelope, where scripts can write it too.

    What was redacted stays so.
    """
    head, _, body = element.partition(b"\n")
    if head.endswith(_REDACTED):
        return element
    envelope = _STATUS.sub(b"", head[:-1])
    return b'%b,"status":"%b"}\n%b' % (envelope, status.encode(), body) if status else b"%b}\n%b" % (envelope, body)


def bodies_of(elements: Sequence[bytes]) -> list[bytes]:
    """The JSON texts of the messages' bodies.

    Raises:
        ValueError: An element is none of ours; its index is the second argument.
    """
    bodies = []
    for index, element in enumerate(elements):
        head, newline, body = element.partition(b"\n")
        if not newline or not head.startswith(_ELEMENT_VERSION):
            raise ValueError("not a message of flask-convstore", index)
        bodies.append(body)
    return bodies


def message_of(element: bytes, seq: int) -> Message:
    """The message that *element* holds; ValueError, TypeError or LookupError if it is none."""
    head, _, body = element.partition(b"\n")
    envelope = codecs.decode(head[len(_ELEMENT_VERSION) :])
    if not isinstance(envelope, dict):
        raise ValueError("its envelope is no object")
    tokens = envelope.get("tokens")
    return Message(
        codecs.decode(body),
        envelope.get("metadata"),
        seq,
        int(envelope["at"]),
        envelope.get("status"),
        None if tokens is None else Usage(*tokens),
        envelope.get("edited_at"),
        tuple(envelope.get("edits", ())),
    )
