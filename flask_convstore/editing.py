"""What is changed of a session besides adding to it: its fields, title and lifetime, and single messages; and its pages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from . import changes, codecs
from .checks import MAX_SEQ, check_name, check_title, check_whole
from .commands import Append, Edit, Share, digest_of, token_or_new
from .conversations import Conversations
from .errors import ConflictError, InvalidInput, MessageNotFound, SessionNotFound
from .messages import Message, edited_element, message_of, stored_message
from .models import CALLER, Messages, Owner, Receipt, Role, Scope

_HISTORY = "the history"
"""Where a message that cannot be read lies: a page does not tell its key."""

_ATTEMPTS = 5
"""How often a message is read anew because its mark has changed meanwhile; more than its turns can do."""


class MessagePage(NamedTuple):
    """Some messages, oldest first; *next* is the ``before`` of the page before it, None if there is none."""

    messages: list[Message]
    next: int | None
    fallback: str | None = None


def update(
    conversations: Conversations,
    session_id: str,
    data: Mapping[str, Any] | None = None,
    *,
    title: str | None = None,
    ttl: float | None = None,
    expected: str = "",
    removed: tuple[str, ...] = (),
    owner: Owner | Scope = CALLER,
) -> Receipt:
    """See ``ConversationStore.update_session``; *removed* are fields to remove, *expected* as ``delete_session`` has it."""
    backend, whose = conversations.resolved(session_id, owner)
    fields: dict[str, bytes | None] = dict.fromkeys(removed)
    fields.update(changes.encoded_fields(data or {}, backend.form, "data"))
    changes.check_data_size(fields.items(), backend.form)
    if title is not None:
        check_title(title)
    return backend.store.apply(
        Append(
            session_id=session_id,
            owner=whose,
            elements=(),
            fields=tuple(fields.items()),
            title=title,
            ttl_ms=conversations.ttl_ms(ttl),
            expected=expected,
        )
    )


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
    found = _read(conversations, session_id, before, limit, owner)
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

    def edited(message: Message) -> Message:
        now = body(message.body) if callable(body) else body
        edits = (*message.edits, message.body) if keep else message.edits
        return replace(message, body=now, metadata=message.metadata if metadata is None else metadata, edits=edits)

    digest = ""
    if token is not None:
        given = codecs.encode(None if callable(body) else body, "body") + codecs.encode(metadata)
        digest = digest_of(f"edit {seq} {keep} {told}", (b"\n" + given,))
    return _changed(conversations, session_id, seq, edited, expected, roles, owner, token, digest)


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

    return _changed(conversations, session_id, seq, redacted, expected, roles, owner, None, "")


def share(
    conversations: Conversations, session_id: str, name: str, role: Role | None, *, owner: Owner | Scope = CALLER
) -> None:
    """See ``ConversationStore.share``."""
    backend, whose = conversations.resolved(session_id, owner)
    if role not in (None, "reader", "writer"):
        raise InvalidInput(f"it is 'reader' or 'writer', not {role!r}; nothing was written", "role")
    check_name(name, "name")
    backend.store.apply(Share(session_id=session_id, owner=whose, name=name, role=role))


def _changed(
    conversations: Conversations,
    session_id: str,
    seq: int,
    change: Any,
    expected: str,
    roles: tuple[str | None, ...] | None,
    owner: Owner | Scope,
    token: str | None,
    digest: str,
) -> tuple[Message, Receipt]:
    """Put what *change* makes of a message in its place."""
    backend, whose = conversations.resolved(session_id, owner)
    check_whole(seq, "seq", 1, MAX_SEQ)
    token = token_or_new(token)
    for attempt in range(_ATTEMPTS):
        found = _read(conversations, session_id, seq + 1, 1, owner)
        before = stored_message(found.elements[0], seq, _HISTORY) if found.elements and found.first_seq == seq else None
        if before is None or (roles is not None and before.get("role") not in roles):
            raise MessageNotFound(session_id, seq)
        after = change(before)
        element = edited_element(found.elements[0], after)
        changes.check_element(element, after, backend.form)
        was_title, title = changes.title_of(before.body), changes.title_of(after.body)
        command = Edit(
            session_id=session_id,
            owner=whose,
            seq=seq,
            loaded=found.elements[0],
            element=element,
            title=title if was_title and was_title == found.title else None,
            expected=expected,
            token=token,
            digest=digest,
        )
        try:
            receipt = backend.store.apply(command)
        except ConflictError as error:
            if error.what != "message" or attempt == _ATTEMPTS - 1:
                raise
            continue
        if not receipt.repeated:
            return message_of(element, seq), receipt
        if not receipt.expires_at_ms:  # it was a predecessor's
            raise SessionNotFound(session_id)
        stored = _read(conversations, session_id, seq + 1, 1, owner)
        if not stored.elements or stored.first_seq != seq:
            raise MessageNotFound(session_id, seq)
        return stored_message(stored.elements[0], seq, _HISTORY), receipt
    raise AssertionError


def _read(
    conversations: Conversations, session_id: str, before: int | None, limit: int, owner: Owner | Scope
) -> Messages:
    backend, whose = conversations.resolved(session_id, owner)
    found = backend.store.messages(session_id, whose, before, limit)
    if found is None:
        raise SessionNotFound(session_id)
    return found
