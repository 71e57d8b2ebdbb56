"""Single messages: read by the page, edited, redacted."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from ..domain import json_text
from ..domain.commands import Edit, digest_of, new_token, token_or_new
from ..domain.messages import Message, edited_element, message_of, stored_message
from ..domain.results import CALLER, Messages, Owner, Receipt, Scope
from ..domain.validation import MAX_SEQ, check_whole
from ..errors import ConflictError, MessageNotFound, SessionNotFound
from ..sessions import content
from .sessions import Backend, Conversations

_HISTORY = "the history"
"""Where a message that cannot be read lies: a page does not tell its key."""

_ATTEMPTS = 5
"""How often a message is read anew because its mark has changed meanwhile; more than its turns can do."""


class MessagePage(NamedTuple):
    """Some messages, oldest first; *next* is the ``before`` of the page before it, None if there is none."""

    messages: list[Message]
    next: int | None
    fallback: str | None = None


@dataclass(frozen=True, slots=True)
class _Change:
    """What shall become of a message.

    Attributes:
        into: Makes of the message what it shall be.
        expected: As an ``Edit`` has it.
        roles: The messages of others are not there; None: all are.
    """

    session_id: str
    seq: int
    into: Callable[[Message], Message]
    expected: str
    roles: tuple[str | None, ...] | None
    token: str
    digest: str = ""


def page(
    conversations: Conversations,
    session_id: str,
    *,
    before: int | None = None,
    limit: int = 50,
    owner: Owner | Scope = CALLER,
) -> MessagePage:
    """See ``ConversationStore.messages``."""
    check_whole(limit, "limit", 1, 1000)
    if before is not None:
        check_whole(before, "before", 1, MAX_SEQ)
    backend, whose = conversations.resolved(session_id, owner)
    found = _read(backend, whose, session_id, before, limit)
    messages = [stored_message(element, seq, _HISTORY) for seq, element in enumerate(found.elements, found.first_seq)]
    following = found.first_seq if messages and found.first_seq > found.oldest_seq else None
    return MessagePage(messages, following, found.fallback)


def edit(
    conversations: Conversations,
    session_id: str,
    seq: int,
    body: Any,
    *,
    metadata: dict[str, Any] | None = None,
    keep: bool = False,
    expected: str = "",
    roles: tuple[str | None, ...] | None = None,
    token: str | None = None,
    told: str = "",
    owner: Owner | Scope = CALLER,
) -> tuple[Message, Receipt]:
    """See ``ConversationStore.edit_message``; with *roles* (None: without one) the others are not there.

    *body* may be a function from the body before; *told* tells what it does from what others do, for the token.
    """
    if isinstance(body, Message):
        metadata = body.metadata if metadata is None else metadata
        body = body.body

    def edited(message: Message) -> Message:
        now = body(message.body) if callable(body) else body
        edits = (*message.edits, message.body) if keep else message.edits
        return replace(message, body=now, metadata=message.metadata if metadata is None else metadata, edits=edits)

    digest = ""
    if token is not None:
        given = json_text.encode(None if callable(body) else body, "body") + json_text.encode(metadata)
        digest = digest_of(f"edit {seq} {keep} {told}", (b"\n" + given,))  # an element with an empty envelope
    change = _Change(session_id, seq, edited, expected, roles, token_or_new(token), digest)
    return _changed(conversations, change, owner)


def redact(
    conversations: Conversations,
    session_id: str,
    seq: int,
    *,
    expected: str = "",
    roles: tuple[str | None, ...] | None = None,
    owner: Owner | Scope = CALLER,
) -> tuple[Message, Receipt]:
    """See ``ConversationStore.redact_message``."""

    def redacted(message: Message) -> Message:
        body: Any = ""
        if isinstance(message.body, dict):
            body = {"role": message.body["role"], "content": ""} if "role" in message.body else {"content": ""}
        return replace(message, body=body, metadata=None, edits=(), status="redacted")

    return _changed(conversations, _Change(session_id, seq, redacted, expected, roles, new_token()), owner)


def _changed(conversations: Conversations, change: _Change, owner: Owner | Scope) -> tuple[Message, Receipt]:
    """Do *change*; the message as it is then."""
    backend, whose = conversations.resolved(change.session_id, owner)
    check_whole(change.seq, "seq", 1, MAX_SEQ)
    for attempt in itertools.count(1):
        command = _command(backend, whose, change)
        try:
            receipt = backend.store.apply(command)
            break
        except ConflictError as error:
            if error.what != "message" or attempt == _ATTEMPTS:
                raise
    if not receipt.repeated:
        return message_of(command.element, change.seq), receipt
    if not receipt.expires_at_ms:  # it was a predecessor's
        raise SessionNotFound(change.session_id)
    found = _one(backend, whose, change)
    return stored_message(found.elements[0], change.seq, _HISTORY), receipt


def _command(backend: Backend, owner: Owner, change: _Change) -> Edit:
    """What puts another message in the place of the one that is there now."""
    found = _one(backend, owner, change)
    before = stored_message(found.elements[0], change.seq, _HISTORY)
    if change.roles is not None and before.get("role") not in change.roles:
        raise MessageNotFound(change.session_id, change.seq)
    after = change.into(before)
    element = edited_element(found.elements[0], after)
    content.check_element(element, after, backend.form)
    was_title, title = content.title_of(before.body), content.title_of(after.body)
    return Edit(
        session_id=change.session_id,
        owner=owner,
        seq=change.seq,
        loaded=found.elements[0],
        element=element,
        title=title if was_title and was_title == found.title else None,
        expected=change.expected,
        token=change.token,
        digest=change.digest,
    )


def _one(backend: Backend, owner: Owner, change: _Change) -> Messages:
    """The message that is to be changed."""
    found = _read(backend, owner, change.session_id, change.seq + 1, 1)
    if not found.elements or found.first_seq != change.seq:
        raise MessageNotFound(change.session_id, change.seq)
    return found


def _read(backend: Backend, owner: Owner, session_id: str, before: int | None, limit: int) -> Messages:
    found = backend.store.messages(session_id, owner, before, limit)
    if found is None:
        raise SessionNotFound(session_id)
    return found
