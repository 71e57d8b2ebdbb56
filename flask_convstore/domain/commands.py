"""The commands: every write is one of these values, with its session, its owner, and a token made before the first attempt.

Values of the app travel as JSON text (bytes), messages as elements (``messages``), made and read above; no store looks into
them. Times are milliseconds since 1970, lifetimes milliseconds. ``command_text`` keeps commands in the journal.
"""

from __future__ import annotations

import binascii
import hashlib
import os
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from ..errors import InvalidInput
from .messages import Usage
from .results import Alias, Owner, Role, Scope, Shape
from .validation import name_problem
from .values import as_value

Mode = Literal["replace", "create", "first", "merge", "upsert"]
"""What a ``Save`` does to a session that exists, and where there is none."""


def new_token() -> str:
    """A token that no other write has: 120 random bits in 20 characters, since sessions keep many."""
    return binascii.b2a_base64(os.urandom(15), newline=False).decode()


def token_or_new(given: str | None) -> str:
    """The app's own token, *given* for a write that it may repeat; else, None, a new one.

    Raises:
        InvalidInput: It is no text of 1 to 200 characters.
    """
    if given is None:
        # What new_token() does, and check_name() below: every write comes here, and each call takes its time.
        return binascii.b2a_base64(os.urandom(15), newline=False).decode()
    reason = name_problem(given)
    if reason:
        raise InvalidInput(f"{reason}; nothing was written", "token")
    return given


def digest_of(kind: str, elements: tuple[bytes, ...], fields: tuple[tuple[str, bytes], ...] = ()) -> str:
    """Tells apart the requests that one token may come with. The time of acceptance is not part of a request."""
    digest = hashlib.blake2b(kind.encode() + b"\n", digest_size=8)
    for element in elements:
        envelope, _, body = element.partition(b"\n")
        digest.update(b"message %b\n%b\n" % (envelope.partition(b",")[2], body))
    for name, text in fields:
        digest.update(b"field %b\n%b\n" % (name.encode(), text))
    return digest.hexdigest()


class FieldChange(NamedTuple):
    """A data field: its JSON text as loaded and as it shall be; None where there is none."""

    name: str
    loaded: bytes | None
    value: bytes | None


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


@as_value
class Save:
    """Write a session.

    ``replace`` makes the given fields and messages all of it, whether it exists or not; ``create`` does the same unless
    it exists, ``first`` unless it exists or its tombstone tells that it did. ``merge`` writes only changes, into one that
    exists; ``upsert`` merges into one that exists, and creates one otherwise.

    Attributes:
        shape: None leaves it.
        history: None leaves the messages.
        created_at_ms: A ``merge`` wants the session that was created then; None: any.
        loaded_version: The version that was changed, for the error of a conflict.
        ttl_ms: As in ``Touch``.
        overwrites: Names of fields that others have changed meanwhile, for those who want to know.
        started_at_ms: It started a session elsewhere, at that moment, by another clock: what it creates has that time of
            creation, and what it replaces ends, as if it had been deleted.
        instead_of: The session that an earlier try, whose answer never came, may have started for the same purpose.
        earlier_token: That try's token, where it was for the same session.
        counts: Where it creates a session, that takes one of its owner's places.
        spared: The session that is not removed to make a place.
        first_title: For a session that has no title; "": none.
        usage: What the new messages cost; None: nothing that is told.
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


@as_value
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


@as_value
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


@as_value
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


@as_value
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


@as_value
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


@as_value
class RenewTurn:
    """Keep the turn that the attempt *turn* has for another *lease_ms*. No write: it needs no token."""

    session_id: str
    owner: Owner
    turn: str
    lease_ms: int


@as_value
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


@as_value
class Share:
    """Let another owner, *name*, read a session, or write to it; with *role* None not any more. No token: it is harmless."""

    session_id: str
    owner: Owner
    name: str
    role: Role | None


Command = Save | Append | Delete | CommitTurn | Touch | RenewTurn | Edit | Share
"""What a store applies; a ``BeginTurn`` it begins."""

Write = Save | Append | Delete | CommitTurn | BeginTurn | Edit
"""What has a token, by which a repeat is known. The others are harmless to repeat."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkAlias:
    """Let *alias* lead to *session_id* (None: to nothing) for *lifetime_ms*, if it leads to *expected* now.

    *expected*: a session's id, None (to nothing), or ``ANY``. Repeating it is harmless: no token.
    """

    alias: Alias
    session_id: str | None
    expected: str | Literal[Scope.ANY] | None
    lifetime_ms: int
