"""Views of a session's messages: continue, page, edit, redact."""

from __future__ import annotations

from flask import Request, Response

from ..domain import json_text
from ..domain.messages import Message
from ..domain.results import Receipt
from ..errors import MessageNotFound, NothingToReplace
from ..operations import messages
from ..operations.access import Access
from ..operations.replies import converse, streamed_exchange
from . import schemas, sse
from .answers import ChangedJson, DroppedJson, ExchangeJson, MessagesJson
from .door import Door
from .reading import body_of, expected_state, idempotency_key, is_known, message_of, target_of
from .request import query_of
from .response import answer, unchanged
from .shown import message_shown, messages_shown, roles_to_take


def continue_session(request: Request, door: Door, access: Access, session_id: str) -> Response:
    """Add a user's message, and the reply to it."""
    settings = access.settings
    message, replaces = message_of(request, settings)
    token = idempotency_key(request, access, "continue")
    expected = expected_state(request, access, session_id)
    if replaces is not None and messages.is_another_roles(access, session_id, replaces, roles_to_take(settings)):
        raise NothingToReplace(session_id, replaces)
    replier = door.replier()
    if replier and sse.is_chosen(request):
        reply = streamed_exchange(
            access, session_id, message, replier, token=token, expected=expected, replaces=replaces
        )
        return sse.reply_stream(reply, settings, 201)
    exchange = converse(access, session_id, message, replier, token=token, expected=expected, replaces=replaces)
    shown: ExchangeJson = {
        "session_id": session_id,
        "version": exchange.receipt.version,
        "message": message_shown(exchange.message, settings),
        "reply": message_shown(exchange.reply, settings),
    }
    if exchange.previous:
        shown["previous"] = message_shown(exchange.previous, settings)
    return answer(shown, 201, exchange.receipt)


def list_messages(request: Request, door: Door, access: Access, session_id: str) -> Response:
    """Show a page of messages, oldest first."""
    query = query_of(request, schemas.MESSAGES_QUERY)
    page = messages.shown(access, session_id, **query)
    if is_known(request, page):
        return unchanged(page)
    shown: MessagesJson = {"messages": messages_shown(page.messages, access.settings), "next": page.next}
    return answer(shown, 200, page)


def drop_messages(request: Request, door: Door, access: Access, session_id: str) -> Response:
    """Take all messages behind one out."""
    query = query_of(request, schemas.DROP_QUERY)
    after = target_of(session_id, query["after"])
    token = idempotency_key(request, access, "drop")
    if messages.is_another_roles(access, session_id, after, (*access.settings.visible_roles, None)):
        raise MessageNotFound(session_id, after)
    receipt = messages.drop(
        access, session_id, after=after, expected=expected_state(request, access, session_id), token=token
    )
    shown: DroppedJson = {"session_id": session_id, "version": receipt.version, "first_seq": receipt.first_seq}
    return answer(shown, 200, receipt)


def edit_message(request: Request, door: Door, access: Access, session_id: str, seq: str) -> Response:
    """Replace the content of a message that clients may write."""
    body = body_of(request, access.settings, schemas.edit_body)
    token = idempotency_key(request, access, "edit")
    message, receipt = messages.edit(
        access,
        session_id,
        target_of(session_id, seq),
        lambda before: {**(before if isinstance(before, dict) else {}), "content": body["content"]},
        metadata=body["metadata"],
        expected=expected_state(request, access, session_id),
        roles=access.settings.client_roles,
        token=token,
        request=json_text.dump(body["content"]).decode(),
    )
    return _changed(access, session_id, message, receipt)


def redact_message(request: Request, door: Door, access: Access, session_id: str, seq: str) -> Response:
    """Remove the content of a message, for good."""
    message, receipt = messages.redact(
        access,
        session_id,
        target_of(session_id, seq),
        expected=expected_state(request, access, session_id),
        roles=roles_to_take(access.settings),
    )
    return _changed(access, session_id, message, receipt)


def _changed(access: Access, session_id: str, message: Message, receipt: Receipt) -> Response:
    shown: ChangedJson = {
        "session_id": session_id,
        "version": receipt.version,
        "message": message_shown(message, access.settings),
    }
    return answer(shown, 200, receipt)
