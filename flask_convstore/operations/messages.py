"""Single messages: read by the page, edited, redacted."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from ..domain import json_text
from ..domain.bodies import Bodies
from ..domain.clock import now_ms
from ..domain.commands import Drop, Edit, Target, digest_of, new_token, token_or_new
from ..domain.deadlines import OPERATION
from ..domain.messages import (
    NO_USAGE,
    REDACTED,
    Message,
    Usage,
    edited_element,
    emptied,
    message_of,
    plain_head,
    stored_message,
)
from ..domain.numbering import id_of, seq_in
from ..domain.results import Messages, Receipt
from ..domain.titles import title_of
from ..domain.validation import MAX_SEQ, check_session_id, check_target, check_whole, without_controls
from ..errors import ConflictError, InvalidInput, MessageNotFound, NothingKnown, SessionNotFound
from ..sessions import content
from .access import Access, in_time

_HISTORY = "the history"
"""Name of the damaged value in errors about a message. A page of messages does not tell the key."""

_ATTEMPTS = 5
"""Most attempts to edit a message whose status changes meanwhile. Its turns cannot change the status more often."""


class MessagePage(NamedTuple):
    """A page of messages, oldest first.

    Attributes:
        next: The next ``before``, or the next ``after`` where that was given. None if there is no other page.
        fallback: As a ``Receipt`` has it.
        version: The session's version.
        created_at_ms, expires_at_ms: The session's times, in milliseconds since 1970.
        partial: As a ``Session`` has it.
    """

    messages: list[Message]
    next: int | None
    fallback: str | None
    version: int
    created_at_ms: int
    expires_at_ms: int
    partial: bool = False


@dataclass(frozen=True, slots=True)
class _Change:
    """A change of one message.

    Attributes:
        into: Makes the changed message from the present one.
        expected: The version or state that the session must have, as in ``Edit``.
        roles: Roles whose messages can be changed. Others are not found. None: all can be changed.
    """

    session_id: str
    target: Target
    into: Callable[[Message], Message]
    expected: str
    roles: tuple[str | None, ...] | None
    token: str
    digest: str = ""


@in_time
def page(
    access: Access,
    session_id: str,
    *,
    before: Target | None = None,
    after: Target | None = None,
    limit: int = 50,
) -> MessagePage:
    """Read a page of messages: the newest, those older than *before*, or the oldest of those behind *after*.

    With both, it is a page forwards that ends before *before*. Finding an id takes another round trip.
    """
    check_session_id(session_id)
    check_whole(limit, "limit", 1, 1000)
    before = _seq_of(access, session_id, "before", before)
    after = _seq_of(access, session_id, "after", after)
    found = _read(access, session_id, before if after is None else None, limit, after)
    messages = _messages_in(found)
    following = _following_back(found) if after is None else _following_forwards(found)
    found_page = MessagePage(
        messages,
        following,
        found.fallback,
        found.version,
        found.created_at_ms,
        found.expires_at_ms,
        found.partial,
    )
    return found_page if after is None or before is None else _ending_before(found_page, before)


def _messages_in(found: Messages) -> list[Message]:
    """Decode the messages that were read, and their bodies together.

    Raises:
        CorruptValue: An element is not ours.
    """
    bodies: list[Any] = [None] * len(found.elements)
    with contextlib.suppress(ValueError):  # the element that is not ours is told below, by its seq
        bodies = Bodies(found.elements).decode()
    messages = []
    for element, seq, body in zip(found.elements, found.seqs, bodies, strict=True):
        plain = plain_head(element)
        if plain and body is not None:
            messages.append(Message(body, None, seq, int(plain[1]), id=id_of(seq)))
        else:
            messages.append(stored_message(element, seq, _HISTORY))
    return messages


def shown(access: Access, session_id: str, **bounds: Any) -> MessagePage:
    """Read a page as ``page``. An empty one where the store is away and nothing is known here."""
    try:
        return page(access, session_id, **bounds)
    except NothingKnown as error:
        now = now_ms()
        expires_at_ms = now + round(access.settings.ttl * 1000)
        return MessagePage([], None, error.fallback, 1, now, expires_at_ms, partial=True)


def _seq_of(access: Access, session_id: str, name: str, bound: Target | None) -> int | None:
    """Find the seq of the message that bounds a page.

    Raises:
        MessageNotFound, SessionNotFound: No message has the id.
    """
    if not isinstance(bound, str):
        if bound is not None:
            check_whole(bound, name, 1 if name == "before" else 0, MAX_SEQ)
        return bound
    check_target(bound, name)
    found = access.message(session_id, bound)
    if found is None:
        raise SessionNotFound(session_id)
    seq = found.seqs[0] if found.elements else seq_in(bound)  # a message that is gone has left its place
    if seq is None:
        raise MessageNotFound(session_id, bound)
    return seq


@in_time
def get(access: Access, session_id: str, target: Target) -> Message | None:
    """Read one message. None if there is none."""
    check_session_id(session_id)
    check_target(target)
    found = access.message(session_id, target)
    return stored_message(found.elements[0], found.seqs[0], _HISTORY) if found and found.elements else None


def _ending_before(page: MessagePage, seq: int) -> MessagePage:
    """Leave out of a page forwards the messages from *seq* on."""
    if not page.messages or page.messages[-1].seq + 1 < seq:
        return page
    return page._replace(messages=[message for message in page.messages if message.seq < seq], next=None)


def _following_back(found: Messages) -> int | None:
    return found.seqs[0] if found.elements and found.seqs[0] > found.oldest_seq else None


def _following_forwards(found: Messages) -> int | None:
    return found.seqs[-1] if found.elements and found.later else None


@in_time
def edit(
    access: Access,
    session_id: str,
    target: Target,
    body: Any,
    *,
    metadata: dict[str, Any] | None = None,
    keep: bool = False,
    expected: str = "",
    roles: tuple[str | None, ...] | None = None,
    token: str | None = None,
    request: str = "",
) -> tuple[Message, Receipt]:
    """Replace the body of the message *target*, a seq or an id.

    Args:
        body: The new body, a ``Message``, or a function from the old body to the new one.
        roles: Roles whose messages can be edited. Others are not found. A None among the roles is a message without one.
        request: Tells the effect of a function from that of others, for the digest of the token.
    """
    tokens = None
    if isinstance(body, Message):
        metadata = body.metadata if metadata is None else metadata
        tokens = body.tokens
        body = body.body

    def edited(message: Message) -> Message:
        now = body
        if callable(body):
            with OPERATION.paused():
                now = body(message.body)
        edits = (*message.edits, message.body) if keep else message.edits
        facts = message.metadata if metadata is None else metadata
        cost = message.tokens if tokens is None else tokens
        return replace(message, body=now, metadata=facts, tokens=cost, edits=edits)

    digest = ""
    if token is not None:
        is_tagged = access.limits.is_tagged
        body_text = json_text.encode(None if callable(body) else body, "body", is_tagged=is_tagged)
        given = body_text + json_text.encode(metadata, is_tagged=is_tagged)
        given += json_text.encode(list(tokens)) if tokens else b""
        element = b"\n" + given  # an empty envelope
        digest = digest_of(f"edit {target} {keep} {request}", (element,))
    change = _Change(session_id, target, edited, expected, roles, token_or_new(token), digest)
    return _changed(access, change)


@in_time
def redact(
    access: Access,
    session_id: str,
    target: Target,
    *,
    expected: str = "",
    roles: tuple[str | None, ...] | None = None,
) -> tuple[Message, Receipt]:
    """Remove the content, the metadata and the earlier bodies of a message, for good."""

    def redacted(message: Message) -> Message:
        return replace(message, body=emptied(message.body), metadata=None, edits=(), status=REDACTED)

    redacted_now = _changed(access, _Change(session_id, target, redacted, expected, roles, new_token()))
    access.store.scrub()
    return redacted_now


def drop(
    access: Access,
    session_id: str,
    *,
    newest: int | None = None,
    after: Target | None = None,
    message: Target | None = None,
    expected: str = "",
    token: str | None = None,
) -> Receipt:
    """Take messages out, as ``Drop`` does. One of *newest*, *after* and *message* says which.

    Raises:
        InvalidInput: None of the three is given, or more than one. Nothing was written.
        MessageNotFound: The session has no such message. Nothing was written.
        SessionNotFound, ConflictError, TokenReused: Nothing was written.
    """
    check_session_id(session_id)
    if sum(which is not None for which in (newest, after, message)) != 1:
        reason = "say which messages: newest=<number>, after=<seq or id> or message=<seq or id>. Nothing was written."
        raise InvalidInput(reason)
    if newest is not None:
        check_whole(newest, "newest", 1)
    if message is not None:
        check_target(message, "message")
    if after not in (None, 0):
        check_target(after, "after")
    command = Drop(
        session_id=session_id,
        owner=access.owner,
        newest=newest or 0,
        after=after,
        message=message,
        expected=expected,
        token=token_or_new(token),
        digest="" if token is None else digest_of(f"drop {newest} {after!r} {message!r}", ()),
    )
    receipt = access.apply(command)
    if receipt.repeated and not receipt.expires_at_ms:
        raise SessionNotFound(session_id)
    return receipt


def is_another_roles(access: Access, session_id: str, target: Target, roles: tuple[str | None, ...]) -> bool:
    """Tell whether there is a message *target*, and its role is none of *roles*.

    A message that is gone is nobody's. The command that names it tells whether it is a repeat, or finds nothing.
    """
    found = access.message(session_id, target)
    if found is None or not found.elements:
        return False
    return stored_message(found.elements[0], found.seqs[0], _HISTORY).get("role") not in roles


@in_time
def pop(access: Access, session_id: str) -> Message | None:
    """Take the newest message out, and return it. None if the session has none."""
    while newest := page(access, session_id, limit=1).messages:
        popped = newest[0]
        has_own_id = seq_in(popped.id) is None  # it keeps that where its seq changes, as it does after an outage
        with contextlib.suppress(MessageNotFound):  # another one has popped it
            drop(access, session_id, message=popped.id if has_own_id else popped.seq)
            return popped
    return None


def _changed(access: Access, change: _Change) -> tuple[Message, Receipt]:
    """Apply *change*, and return the changed message."""
    check_session_id(change.session_id)
    check_target(change.target)
    for attempt in itertools.count(1):
        command = _command(access, change)
        try:
            receipt = access.apply(command)
            break
        except ConflictError as error:
            if error.what != "message" or attempt == _ATTEMPTS:
                raise
    if not receipt.repeated:
        return message_of(command.element, command.seq), receipt
    is_predecessors = not receipt.expires_at_ms  # the repeated edit was made in an earlier session of this id
    if is_predecessors:
        raise SessionNotFound(change.session_id)
    found = _one(access, change.session_id, change.target)
    return stored_message(found.elements[0], found.seqs[0], _HISTORY), receipt


def _command(access: Access, change: _Change) -> Edit:
    """Make the command that replaces the present message."""
    found = _one(access, change.session_id, change.target)
    before = stored_message(found.elements[0], found.seqs[0], _HISTORY)
    if change.roles is not None and before.get("role") not in change.roles:
        raise MessageNotFound(change.session_id, change.target)
    after = change.into(before)
    element = edited_element(found.elements[0], after, is_tagged=access.limits.is_tagged)
    content.check_element(element, after, access.limits)
    cost = Usage(*map(int.__sub__, after.tokens or NO_USAGE, before.tokens or NO_USAGE))
    was_title, title = title_of(before.body), title_of(after.body)
    return Edit(
        session_id=change.session_id,
        owner=access.owner,
        seq=before.seq,
        loaded=found.elements[0],
        element=element,
        title=title if was_title and was_title == without_controls(found.title) else None,
        usage=cost if any(cost) else None,
        expected=change.expected,
        token=change.token,
        digest=change.digest,
    )


def _one(access: Access, session_id: str, target: Target) -> Messages:
    """Read the present message.

    Raises:
        MessageNotFound: The session has no such message.
    """
    found = access.message(session_id, target)
    if found is None:
        raise SessionNotFound(session_id)
    if not found.elements:
        raise MessageNotFound(session_id, target)
    return found


def _read(access: Access, session_id: str, before: int | None, limit: int, after: int | None = None) -> Messages:
    found = access.messages(session_id, before, limit, after)
    if found is None:
        raise SessionNotFound(session_id)
    return found
