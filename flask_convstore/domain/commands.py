"""The commands. Every write is one of these values: a session, its owner, and a token made before the first attempt.

Values of the app travel as JSON text (bytes). Messages travel as elements (``messages``). No store looks into either. Times
are milliseconds since 1970, lifetimes are milliseconds. ``outages/command_json.py`` keeps commands in the journal.
"""

from __future__ import annotations

import binascii
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple, TypeVar

from ..errors import InvalidInput
from .messages import Usage, has_own_id, with_id
from .numbering import Gaps, id_away
from .shapes import Shape
from .types import Alias, Owner, Role, Scope, as_value
from .validation import name_problem


def new_token() -> str:
    """A token that no other write has: 72 random bits in 12 characters, since sessions keep many."""
    return binascii.b2a_base64(os.urandom(9), newline=False).decode()


def token_or_new(given: str | None) -> str:
    """The app's own token, *given* for a write that it may repeat, or a new one.

    Raises:
        InvalidInput: It is no text of 1 to 200 characters.
    """
    if given is None:
        # The text of new_token(), and of check_name() below. Every write comes here, and each call takes its time.
        return binascii.b2a_base64(os.urandom(9), newline=False).decode()
    reason = name_problem(given)
    if reason:
        raise InvalidInput(f"{reason}. Nothing was written.", "token")
    return given


def digest_of(kind: str, elements: tuple[bytes, ...], fields: tuple[tuple[str, bytes], ...] = ()) -> str:
    """Make the digest that tells a request from others with the same token, in 8 characters, since sessions keep many.

    The time of acceptance is not part of it.
    """
    digest = hashlib.blake2b(kind.encode() + b"\n", digest_size=6)
    for element in elements:
        envelope, _, body = element.partition(b"\n")
        digest.update(b"message %b\n%b\n" % (envelope.partition(b",")[2], body))
    for name, text in fields:
        digest.update(b"field %b\n%b\n" % (name.encode(), text))
    return binascii.b2a_base64(digest.digest(), newline=False).decode()


ANYTHING = b"*"
"""The loaded text of a field that is set whatever it was. No JSON text is like that."""


def digest_if_known(
    token: str | None, kind: str, elements: tuple[bytes, ...], fields: tuple[tuple[str, bytes], ...] = ()
) -> str:
    """Make the digest of a write that may come again: under the app's own *token*, or known by an id of its messages.

    "" for a write that nobody else can repeat.
    """
    if token is None and not any(map(has_own_id, elements)):
        return ""
    return digest_of(kind, elements, fields)


BEHIND = ">"
"""Stands before a token in the *expected* of a command: the write with that token must have been done."""


class FieldChange(NamedTuple):
    """A data field: its JSON text as loaded and as it shall be, or None where there is none."""

    name: str
    loaded: bytes | None
    value: bytes | None


@dataclass(frozen=True, slots=True)
class Extend:
    """Drop the messages with a seq below *drop_below*, add *elements* at the end. Merges with other writes.

    A merge that drops conflicts where the history was rewritten since, as all its messages have other seqs then.

    Attributes:
        oldest_seq: The dropped messages are taken, as from a queue, and this one is the oldest. A merge conflicts if it is
            gone (0: they are trimmed, and others may have trimmed them too).
    """

    drop_below: int
    elements: tuple[bytes, ...]
    oldest_seq: int = 0


@dataclass(frozen=True, slots=True)
class Rewrite:
    """Put *elements* (None: no history at all) in the place of all messages.

    A merge conflicts unless the session has this *history_version*.

    Attributes:
        resets: None of what was said stays. The conversation begins anew.
    """

    history_version: int
    elements: tuple[bytes, ...] | None
    resets: bool = False


Target = int | str
"""The seq of a message, or its id."""

Mode = Literal["replace", "create", "first"]
"""The treatment of a session that exists when a ``Put`` comes. See there."""


@as_value
class Put:
    """Make the given content all of a session.

    Attributes:
        mode: ``replace`` takes the place of a session that exists. ``create`` fails if one exists, ``first`` also if one
            has ended within the last day.
        fields: Names and JSON texts.
        elements: The messages. The shape tells whether there is a history at all.
        ttl_ms: As in ``Touch``.
        started_at_ms: The time of creation of a session that was started elsewhere, by another clock. A session that it
            replaces ends first, as if it had been deleted.
        instead_of: A session that an earlier try may have started for the same purpose. Its answer never came.
        unchanged_since_ms: A session that was written later, by the clock of its store, is not replaced: that is a conflict
            (None: any is replaced).
        counts: A session that is created takes one of its owner's places.
        spared: The session that is not evicted to make a place.
        may_start_away: While the store is away, the session may be started elsewhere, under an id that tells so. The
            receipt tells the id. Only for ``create``.
        first_title: For a session that has no title ("": none).
        usage: Cost of the messages (None: nothing to tell).
        began_at_ms: The time of creation that an imported session shows (None: it began when it was created).
        changed_at_ms: The last write and interaction of an imported session, its place in lists. A time to come is now.
            Nothing is evicted for such a session. None: it is none.
        first_seq, gaps: The seqs of the messages of a session that is created, as a ``SessionRecord`` has them. A session
            that exists goes on with its own.
        may_continue: While the store is away, it may be a change of a session that this host does not know whole.
        seen_in_part: The app has read no more than so many messages of the session, as the store was away. This replaces
            nothing (None: the app has read all, or has not read).
        is_remembered: The beginning of a continuation, in a journal only: what a host remembers of a session.
    """

    session_id: str
    owner: Owner
    mode: Mode
    shape: Shape
    fields: tuple[tuple[str, bytes], ...] = ()
    elements: tuple[bytes, ...] = ()
    ttl_ms: int | None = None
    started_at_ms: int | None = None
    instead_of: str | None = None
    unchanged_since_ms: int | None = None
    counts: bool = True
    spared: str | None = None
    may_start_away: bool = False
    first_title: str = ""
    usage: Usage | None = None
    began_at_ms: int | None = None
    changed_at_ms: int | None = None
    first_seq: int = 1
    gaps: Gaps = ()
    may_continue: bool = False
    seen_in_part: int | None = None
    is_remembered: bool = False
    token: str = field(default_factory=new_token)
    digest: str = ""

    @property
    def ends_predecessor(self) -> bool:
        """The session that it replaces ends with it, as if it had been deleted."""
        return self.mode == "replace" and self.started_at_ms is not None


@as_value
class Merge:
    """Write changes into a session, all or none, beside what others have written.

    Attributes:
        fields: A field that others have changed too is a conflict, even where both have changed it in the same way.
        history: None leaves the messages.
        shape: None leaves it.
        history_key: The key of the history, if the session has none yet ("": that of the settings).
        creates: Where there is no session, the changes make a new one. Its shape is the given one. A session that exists
            keeps its own shape then.
        created_at_ms: Only the session that was created then (None: any).
        loaded_version: The version that was changed. Changes of a conversation that was replaced since do not land, unless
            they replace it themselves (None: they do).
        ttl_ms: As in ``Touch``.
        overwrites: Names of fields that others have changed meanwhile. A signal tells them.
        first_title, usage, seen_in_part: As in ``Put``.
    """

    session_id: str
    owner: Owner
    fields: tuple[FieldChange, ...] = ()
    history: Extend | Rewrite | None = None
    shape: Shape | None = None
    history_key: str = ""
    creates: bool = False
    created_at_ms: int | None = None
    loaded_version: int | None = None
    ttl_ms: int | None = None
    overwrites: tuple[str, ...] = ()
    first_title: str = ""
    usage: Usage | None = None
    seen_in_part: int | None = None
    token: str = field(default_factory=new_token)
    digest: str = ""

    def as_put(self) -> Put:
        """The command that creates the same session, and fails if there is one."""
        return Put(
            session_id=self.session_id,
            owner=self.owner,
            mode="create",
            shape=self.shape or "full",
            fields=tuple((name, text) for name, _, text in self.fields if text is not None),
            elements=(self.history and self.history.elements) or (),
            ttl_ms=self.ttl_ms,
            first_title=self.first_title,
            usage=self.usage,
            may_continue=True,
            token=self.token,
            digest=self.digest,
        )


@as_value
class Append:
    """Add *elements* at the end of a session and set *fields*, whatever they were.

    Attributes:
        fields: Names and JSON texts. None removes a field.
        expected: The version that the session must have, or ``<created>-<version>`` ("": any), or ``BEHIND`` and a token.
        created_at_ms: Only the session that was created then (None: any).
        loaded_version: Only the conversation that had this version (None: any). See ``Merge``.
        replaces: This message, and all behind it, give way to the *elements* ("": none does).
        first_title, usage: As in ``Put``.

    Elements with an id that a message of the session has are left out. Where all are, it is a repeat of their write.
    """

    session_id: str
    owner: Owner
    elements: tuple[bytes, ...]
    fields: tuple[tuple[str, bytes | None], ...] = ()
    expected: str = ""
    created_at_ms: int | None = None
    loaded_version: int | None = None
    replaces: Target = ""
    first_title: str = ""
    usage: Usage | None = None
    token: str = field(default_factory=new_token)
    digest: str = ""


@as_value
class Drop:
    """Take messages out: the *newest* ones, all *after* a message, or one *message*. The others keep their seqs and ids.

    A turn whose own message goes is lost.

    Attributes:
        newest: Number of messages, or fewer if there are fewer (0: not these).
        after: The message that is the newest then (None: not these). 0: all messages go.
        message: The message that goes (None: not this).
        expected: As in ``Append``.
    """

    session_id: str
    owner: Owner
    newest: int = 0
    after: Target | None = None
    message: Target | None = None
    expected: str = ""
    token: str = field(default_factory=new_token)
    digest: str = ""


@as_value
class Update:
    """Change a session beside its messages. *fields* and *expected* as in ``Append``.

    Attributes:
        title: "" removes it, None leaves it.
        ttl_ms: As in ``Touch``.
    """

    session_id: str
    owner: Owner
    fields: tuple[tuple[str, bytes | None], ...] = ()
    title: str | None = None
    ttl_ms: int | None = None
    expected: str = ""
    token: str = field(default_factory=new_token)
    digest: str = ""


@as_value
class Delete:
    """Remove a session. Its tokens stay as a tombstone. *expected*, *created_at_ms*, *loaded_version* as in ``Append``.

    Attributes:
        at_ms: The time when it was removed elsewhere (None: now).
    """

    session_id: str
    owner: Owner
    expected: str = ""
    created_at_ms: int | None = None
    loaded_version: int | None = None
    at_ms: int | None = None
    token: str = field(default_factory=new_token)
    digest: str = ""


@as_value
class Touch:
    """Move a session's lifetime. Repeating it is harmless, so that it needs no token.

    Attributes:
        created_at_ms: Only the session that was created then (None: any).
        ttl_ms: The lifetime that the session has from now on, instead of that of the settings. None leaves it.
    """

    session_id: str
    owner: Owner
    created_at_ms: int | None = None
    ttl_ms: int | None = None


@as_value
class NoteAlias:
    """Note in a session that *alias* leads to it, or does not any more. Repeating it is harmless: no token.

    ``LinkAlias`` moves the alias itself.
    """

    session_id: str
    owner: Owner
    alias: Alias
    leads_here: bool


@as_value
class BeginTurn:
    """Add a user's message and take the turn. The seq behind the message's is kept for the reply.

    A message with an id that the session has is a repeat of the turn that it began.

    Attributes:
        element: The message (None: there is none).
        lease_ms: The turn is free again after so long, unless its lease is renewed.
        supersede: Take the turn also from another attempt that has it.
        last: So many messages come back with the turn, this one included (None: all).
        replaces: As in ``Append``.
        wait_ms: The attempt stands in line for so long, if it cannot have the turn now. 0: it does not wait.
        attempt: Names this one try, which holds the lease. The same try repeated has the turn already.
        token: Names the turn, however often it is tried.
    """

    session_id: str
    owner: Owner
    element: bytes | None
    lease_ms: int
    supersede: bool = False
    last: int | None = None
    expected: str = ""
    replaces: Target = ""
    wait_ms: int = 0
    first_title: str = ""
    usage: Usage | None = None
    attempt: str = field(default_factory=new_token)
    token: str = field(default_factory=new_token)
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Closing:
    """The last parts of a reply's stream, with which the stream ends.

    Attributes:
        reply: The id of the reply, which names the stream.
        epoch: The number of the attempt that began the stream.
        first: The number of the first of *parts*. All before are in the stream.
        keep_ms: The stream is kept for so long.
    """

    reply: str
    epoch: int
    first: int
    parts: tuple[bytes, ...]
    keep_ms: int


@as_value
class CommitTurn:
    """End the turn that the attempt *turn* has: add *elements*, merge *fields*, mark the turn's message.

    The last of *elements* is the reply. It has the id that was kept for it, unless it has one of its own. The receipt
    has its seq. An unanswered turn has none, and its elements get other ids.

    A turn that is begun again finds its end under the token ``<its token>\\n<version of its message>``. The digest
    tells the attempt and the content: the end of another attempt is no repeat, nor is another reply.

    Attributes:
        status: What becomes of the message: ``unanswered``, ``failed``, or "" for a reply.
        closing: The end of the reply's stream (None: there is none).
        is_taken: The turn was taken from its producer. All that is added stands in the server's stream, so that nobody keeps
            it elsewhere while the server is away.
    """

    session_id: str
    owner: Owner
    turn: str
    elements: tuple[bytes, ...] = ()
    fields: tuple[FieldChange, ...] = ()
    status: Literal["", "unanswered", "failed"] = ""
    usage: Usage | None = None
    closing: Closing | None = None
    is_taken: bool = False
    token: str = field(default_factory=new_token)
    digest: str = ""


@as_value
class MoveConversation:
    """End the turn that the attempt *turn* has by moving the conversation: it goes on in the session *moved_to*.

    This session takes no messages from then on. *token* and *digest* as in ``CommitTurn``, *expected* as in ``Append``.
    """

    session_id: str
    owner: Owner
    turn: str
    moved_to: str
    expected: str = ""
    token: str = field(default_factory=new_token)
    digest: str = ""


@as_value
class RenewTurn:
    """Keep the turn that the attempt *turn* has for another *lease_ms*. It is no write and needs no token."""

    session_id: str
    owner: Owner
    turn: str
    lease_ms: int


@as_value
class FeedReply:
    """Add *parts* to the stream of a reply, once, and keep the turn as ``RenewTurn`` does. It needs no token.

    Attributes:
        reply, epoch, first: As in ``Closing``.
    """

    session_id: str
    owner: Owner
    turn: str
    lease_ms: int
    reply: str
    epoch: int
    first: int
    parts: tuple[bytes, ...] = ()


@as_value
class TakeReply:
    """Take the turn whose *reply* is streamed for the attempt *turn*, which ends it. It needs no token.

    Attributes:
        is_over: Only where the lease has ended.
    """

    session_id: str
    owner: Owner
    turn: str
    lease_ms: int
    reply: str
    is_over: bool


@as_value
class Edit:
    """Put *element* in the place of the message *seq*, which was read as *loaded*.

    *expected* and *created_at_ms* as in ``Append``, *title* as in ``Update``. *usage* is what the new message costs
    more than the old one, below 0 where it costs less (None: the same).
    """

    session_id: str
    owner: Owner
    seq: int
    loaded: bytes
    element: bytes
    title: str | None = None
    usage: Usage | None = None
    expected: str = ""
    created_at_ms: int | None = None
    token: str = field(default_factory=new_token)
    digest: str = ""


@as_value
class Share:
    """Give another owner, *name*, a role in a session. None takes it away. Repeating it is harmless: no token."""

    session_id: str
    owner: Owner
    name: str
    role: Role | None


class ReplyPosition(NamedTuple):
    """A place in a reply's stream from which somebody reads on.

    Attributes:
        reply: The id of the reply ("": the one that *after* belongs to, else that of the turn in progress).
        after: The number and the epoch of the newest part that is known (None: none is).
        limit: Most parts.
    """

    session_id: str
    owner: Owner
    reply: str
    after: tuple[int, int] | None = None
    limit: int = 1000


class EventPosition(NamedTuple):
    """A place in the log of a session from which somebody reads on.

    Attributes:
        after: The time of creation and the version of the session that are known (None: none are).
        watched_ms: The session keeps a log for so long from now on.
    """

    session_id: str
    owner: Owner
    after: tuple[int, int] | None = None
    watched_ms: int = 60_000


Write = Put | Merge | Append | Drop | Update | Delete | BeginTurn | CommitTurn | MoveConversation | Edit
"""The commands that have a token, by which a repeat is known."""

Expecting = Append | Drop | Update | Delete | BeginTurn | MoveConversation | Edit
"""The commands that may expect a version."""

Harmless = Touch | NoteAlias | RenewTurn | Share
"""The commands without a token. Repeating them is harmless."""

Command = Put | Merge | Append | Drop | Update | Delete | CommitTurn | MoveConversation | Edit | Harmless
"""The commands for ``Store.apply``. A ``BeginTurn`` is for ``Store.begin``."""


_C = TypeVar("_C", bound=Command | BeginTurn)


def named_away(command: _C, session_id: str | None = None, token: str | None = None) -> _C:
    """Give the messages of *command*, which is done while the store is away, ids that they have there too.

    Args:
        session_id, token: Those under which it was done, where the command has others.
    """

    changed: Any = command

    def named(elements: Sequence[bytes]) -> tuple[bytes, ...]:
        of_write = session_id or command.session_id, token or changed.token
        return tuple(with_id(element, id_away(*of_write, place)) for place, element in enumerate(elements))

    if isinstance(command, (Put, Append, CommitTurn)) and command.elements:
        changed = replace(command, elements=named(command.elements))
    elif isinstance(command, BeginTurn) and command.element is not None:
        changed = replace(command, element=named((command.element,))[0])
    elif isinstance(command, Merge) and command.history and command.history.elements:
        changed = replace(command, history=replace(command.history, elements=named(command.history.elements)))
    return changed  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkAlias:
    """Let *alias* lead to *session_id* (None: to nothing) for *lifetime_ms*, if it leads to *expected* now.

    *expected* is a session's id, None (it leads to nothing), or ``ANY``. Repeating it is harmless: no token.
    """

    alias: Alias
    session_id: str | None
    expected: str | Literal[Scope.ANY] | None
    lifetime_ms: int
