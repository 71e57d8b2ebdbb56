"""Reading of requests: the body by a schema, the idempotency key, the expected state.

Headers that most requests lack are looked up in the environment, which is a dict. Werkzeug's headers raise and catch an
error for each.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Callable
from typing import Any

from flask import Request
from marshmallow import Schema

from ..config import Settings
from ..domain.commands import Target
from ..domain.validation import MAX_SEQ, check_name, is_message_id
from ..errors import InvalidInput, MessageNotFound
from ..operations import sessions
from ..operations.access import Access
from ..sessions.session import AnySession
from .etags import BadEtag, states_of
from .request import formed, json_body, query_of
from .response import State, etag
from .routes import LAST_EVENT_ID
from .schemas import FOLLOW_QUERY, continue_body, message_in, plain_message


def body_of(request: Request, settings: Settings, form: Callable[[Settings], Schema] | Schema) -> dict[str, Any]:
    """Parse the body of *request* by *form*."""
    value = json_body(request, settings)
    return formed(value, form if isinstance(form, Schema) else form(settings))


def message_of(request: Request, settings: Settings) -> tuple[Any, Target | None]:
    """Read a message from the body of *request*, and the message that gives way to this one.

    The usual body is a text alone, which is a message as it is. Any other one takes the whole form.
    """
    value = json_body(request, settings)
    message = plain_message(value, settings)
    if message is not None:
        return message, None
    body = formed(value, continue_body(settings))
    return message_in(body), body["replaces"]


def idempotency_key(request: Request, access: Access, route: str) -> str | None:
    """Make a token from the client's own key, for this route and owner only. None if there is no key."""
    key = request.environ.get("HTTP_IDEMPOTENCY_KEY")
    if key is None:
        return None
    check_name(key, "Idempotency-Key")
    owner = access.owner if isinstance(access.owner, str) else None
    if route == "start" and owner is None and not _is_uuid(key):
        # The session's id is made from the key, and without an owner the id alone protects the session.
        raise InvalidInput("without an owner the key must be a random UUID. Nothing was written.", "Idempotency-Key")
    scope = f"{route}\n{owner or ''}\n{key}"
    return hashlib.blake2b(scope.encode(), digest_size=16).hexdigest()


def expected_state(request: Request, access: Access, session_id: str) -> str:
    """Read the state that If-Match asks for. "" stands for any. If several are named, take the one of the session.

    Raises:
        BadEtag: The header is no list of ETags.
    """
    header = request.environ.get("HTTP_IF_MATCH")
    states = None if header is None else states_of(header)
    if states is None:
        return ""
    if len(states) > 1:
        state = etag(sessions.existing(access, session_id, last=0, fields=()))
        states = [found for found in states if found == state]
    return states[0] if states else "0-0"  # which no session has


def matches(request: Request, session: AnySession) -> bool:
    """Tell whether a session is in a state that If-Match names, or the header is missing.

    Raises:
        BadEtag: The header is no list of ETags.
    """
    header = request.environ.get("HTTP_IF_MATCH")
    states = None if header is None else states_of(header)
    return states is None or etag(session) in states


def is_known(request: Request, state: State) -> bool:
    """Tell whether If-None-Match names a *state*. A header that is no list of ETags only costs the whole answer."""
    header = request.environ.get("HTTP_IF_NONE_MATCH")
    if header is None:
        return False
    try:
        states = states_of(header)
    except BadEtag:
        return False
    return states is None or etag(state) in states


def known_event(request: Request) -> str | None:
    """Read the id of the last event that the client has, from the header or the query. None: it has none."""
    asked: str | None = query_of(request, FOLLOW_QUERY)["last_event_id"]
    return request.headers.get(LAST_EVENT_ID) or asked


def target_of(session_id: str, text: str) -> Target:
    """Read the seq or the id of a message from a path or a query.

    Raises:
        MessageNotFound: It can be neither. The 404 is ours, not the host's.
    """
    if re.fullmatch("[1-9][0-9]{0,15}", text) and int(text) < MAX_SEQ:
        return int(text)
    return id_of(session_id, text)


def id_of(session_id: str, text: str) -> str:
    """Read the id of a message from a path, where a seq is none.

    Raises:
        MessageNotFound: As ``target_of``.
    """
    if re.fullmatch("[0-9]*", text) or not is_message_id(text):
        raise MessageNotFound(session_id, text)
    return text


def _is_uuid(text: str) -> bool:
    """Tell whether a UUID was made by somebody. The nil and the max UUID are the same for everybody."""
    try:
        return uuid.UUID(text).variant == uuid.RFC_4122
    except ValueError:
        return False
