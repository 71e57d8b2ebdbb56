"""Views of single sessions: start, get, change, delete, compact, fork."""

from __future__ import annotations

import contextlib
import hashlib
from functools import partial
from typing import Any

from flask import Request, Response

from ..domain import json_text
from ..domain.messages import Message
from ..domain.results import Receipt
from ..domain.titles import title_of
from ..errors import ConflictError, OwnerRequired, SessionNotFound, behind_a_write
from ..operations import aliases, branching, sessions, updates
from ..operations.access import Access
from ..operations.replies import Replier, converse, streamed_exchange
from ..sessions.session import AnySession, base_of, data_of
from . import schemas, sse
from .answers import DeletedJson, SessionJson, timestamp, updated_json
from .door import Door
from .reading import body_of, expected_state, idempotency_key, is_known, matches
from .request import query_of
from .response import answer, marked, unchanged
from .shown import created, is_apps, located, session_shown

_COPYING_SECONDS = 5.0
"""Time for one request to copy a session. Nothing is written where reading takes more than half of it."""


def start_session(request: Request, door: Door, access: Access) -> Response:
    """Start a session. With a message, answer it too."""
    settings = access.settings
    body = body_of(request, settings, schemas.start_body)
    key = idempotency_key(request, access, "start")
    message = schemas.message_in(body["message"]) if body["message"] else None
    if body["alias"] is not None:
        return _start_by_alias(request, door, access, body, message, key)
    replier = door.replier() if message else None
    if message and replier and sse.is_chosen(request):
        return _start_streamed(access, body, message, replier, key)
    session, receipt, last_seq = _start(access, body, message, replier, key)
    title = _title_from(message, access)
    # A large message is not kept in two forms: it is shown as it was stored.
    del body["message"], message
    if isinstance(session, dict):
        session.pop(access.limits.history_key, None)
    shown = _as_started(session_shown(session, settings), receipt, last_seq)
    shown["title"] = title
    if key:  # a repeat shows the data of the request, whatever has changed since
        shown["data"] = body["data"]
    return located(answer(shown, 201, receipt), session.session_id)


def _title_from(message: Message | None, access: Access) -> str | None:
    """Find the title that a session gets from its first message."""
    return (title_of(message.body) or None) if message and access.limits.has_titles else None


def _start_streamed(
    access: Access, body: dict[str, Any], message: Message, replier: Replier, key: str | None
) -> Response:
    """Start a session, and stream the reply to its first message."""
    session, _ = _created(access, body, [], message, key)
    session_id = session.session_id
    with behind_a_write():
        turn = _turn_token(key)
        reply = streamed_exchange(access, session_id, message, replier, token=turn, is_counted=False)
    return located(sse.reply_stream(reply, access.settings, 201), session_id)


def _start(
    access: Access, body: dict[str, Any], message: Message | None, replier: Replier | None, key: str | None
) -> tuple[AnySession, Receipt, int]:
    """Create a session, or find the one that the same key has created, and answer the first message.

    Returns:
        The session, the receipt of the last write, and the seq of the last message.
    """
    history, following = _placed(message, replier)
    session, receipt = _created(access, body, history, following, key)
    session_id = session.session_id
    last_seq = len(history)
    if replier or receipt.repeated:
        with behind_a_write():
            if following and replier:
                receipt, last_seq = _first_exchange(access, session_id, following, replier, key)
            session = sessions.existing(access, session_id)
    return session, receipt, last_seq


def _created(
    access: Access, body: dict[str, Any], history: list[Message], following: Message | None, key: str | None
) -> tuple[AnySession, Receipt]:
    """Create a session with *history*, or find the one that the same key has created. A turn with *following* comes next.

    Raises:
        SessionNotFound: The key's session was deleted since.
    """
    content = json_text.Decoded(body["data"], **{access.limits.history_key: history})
    digest = _digest(body, key)
    session, receipt = sessions.start(access, content, following, ttl=body.get("ttl"), token=key, digest=digest)
    if receipt.repeated and not receipt.expires_at_ms:
        raise SessionNotFound(session.session_id)
    return session, receipt


def _placed(message: Message | None, replier: Replier | None) -> tuple[list[Message], Message | None]:
    """Divide the messages of a start into those of the new session, and the one that its handler answers."""
    if message is None:
        return [], None
    return ([], message) if replier else ([message], None)


def _digest(body: dict[str, Any], key: str | None) -> str:
    """Tell a request from others with the same *key*. "" without one, since a large body takes long to encode."""
    return hashlib.blake2b(json_text.dump(body), digest_size=8).hexdigest() if key else ""


def _first_exchange(
    access: Access, session_id: str, message: Message, replier: Replier, key: str | None
) -> tuple[Receipt, int]:
    """Answer the first message of a session, and return the receipt and the seq of the last message."""
    turn = _turn_token(key)
    exchange = converse(access, session_id, message, replier, token=turn, is_counted=False)
    stored = (found for found in (exchange.message, exchange.reply) if found)
    return exchange.receipt, max([1, *(found.seq for found in stored)])


def _as_started(shown: SessionJson, receipt: Receipt, last_seq: int) -> SessionJson:
    """Show a session as its start left it, without later changes. A repeated start gets the first answer."""
    return {
        **shown,
        "version": receipt.version,
        "updated_at": timestamp(receipt.updated_at_ms),
        "expires_at": timestamp(receipt.updated_at_ms + receipt.lifetime_ms),
        "message_count": last_seq,
        "history": [message for message in shown["history"] if message["seq"] <= last_seq],
    }


def _turn_token(key: str | None) -> str | None:
    """Make the token of the turn that answers the message of a start."""
    return f"{key}/turn" if key else None


def _start_by_alias(
    request: Request, door: Door, access: Access, body: dict[str, Any], message: Message | None, key: str | None
) -> Response:
    """Find the session that an outside id leads to, or start a new one. With a message, continue the session."""
    if not isinstance(access.owner, str):
        raise OwnerRequired
    content = json_text.Decoded(body["data"], **{access.limits.history_key: []})
    alias, ttl = body["alias"], body.get("ttl")
    found = aliases.resolve(access, alias)
    if message and found is not None:  # the start of a session is counted by itself
        access.count_turn()
    session = aliases.ensure(access, alias, data=content, ttl=ttl) if found is None else found
    status = 201 if found is None else 200
    if message:
        session_id, replier, token = session.session_id, door.replier(), _turn_token(key)
        with behind_a_write() if found is None else contextlib.nullcontext():
            if replier and sse.is_chosen(request):
                reply = streamed_exchange(access, session_id, message, replier, token=token, is_counted=False)
                return located(sse.reply_stream(reply, access.settings, status), session_id)
            converse(access, session_id, message, replier, token=token, is_counted=False)
        with behind_a_write():
            session = sessions.existing(access, session_id)
    return created(session, access.settings, status)


def get_session(request: Request, door: Door, access: Access, session_id: str) -> Response:
    """Show the session. 304 if the client has this state of the session."""
    query = query_of(request, schemas.GET_QUERY)
    session = sessions.shown(access, session_id, last=query["last"], fields=schemas.names_of(query["fields"]))
    if not matches(request, session):
        raise ConflictError(session_id, "version", expected=None, actual=session.version)
    if is_known(request, session):
        return unchanged(session)
    return answer(session_shown(session, access.settings), 200, session)


def update_session(request: Request, door: Door, access: Access, session_id: str) -> Response:
    """Set data fields (null removes one), the title, the lifetime."""
    body = body_of(request, access.settings, schemas.update_body)
    given = body.get("data", {})
    data = json_text.Decoded((name, value) for name, value in given.items() if value is not None)
    receipt = updates.update(
        access,
        session_id,
        data,
        removed=tuple(name for name in given if name not in data),
        title=body["title"] or "" if "title" in body else None,
        ttl=body.get("ttl"),
        expected=expected_state(request, access, session_id),
    )
    with behind_a_write():
        session = sessions.existing(access, session_id, last=0)
    shown = updated_json(base_of(session).snapshot, data_of(session, access.limits.history_key))
    return answer({**shown, "version": max(receipt.version, session.version)}, 200, session)


def delete_session(request: Request, door: Door, access: Access, session_id: str) -> Response:
    """Delete the session."""
    key = idempotency_key(request, access, "delete")
    receipt = sessions.delete(access, session_id, expected=expected_state(request, access, session_id), token=key)
    if receipt is None:
        raise SessionNotFound(session_id)
    shown: DeletedJson = {"status": "deleted"}
    return marked(shown, 200, receipt)


def compact_session(request: Request, door: Door, access: Access, session_id: str) -> Response:
    """Go on in a new session, which begins with a summary."""
    settings = access.settings
    body = body_of(request, settings, schemas.compact_body)
    # Clients do not write in the name of the system, unless they may.
    role = "system" if "system" in settings.client_roles else schemas.first_role(settings)
    summary = {"role": role, "content": body["summary"]}
    kept_head = partial(is_apps, settings)
    session = branching.compact(
        access, session_id, summary, keep=body["keep"], kept_head=kept_head, seconds=_COPYING_SECONDS
    )
    return created(session, settings)


def fork_session(request: Request, door: Door, access: Access, session_id: str) -> Response:
    """Make a second session from the messages up to one of them."""
    body = body_of(request, access.settings, schemas.FORK_BODY)
    settings = access.settings
    kept_head = partial(is_apps, settings)
    fork = branching.fork(access, session_id, body["seq"], kept_head=kept_head, seconds=_COPYING_SECONDS)
    return created(fork, settings)
