"""Views of everything of an owner's: list, export, import, delete. Without an owner they answer 401."""

from __future__ import annotations

import base64
import binascii
import hashlib
import itertools
import uuid
from collections.abc import Iterator
from typing import Any

from flask import Response, request, stream_with_context

from ..config import Settings
from ..domain import json_text
from ..domain.clock import now_ms
from ..domain.ids import STARTS_WITHIN_MS, id_named, made_away_at_ms
from ..domain.validation import check_session_id
from ..errors import InvalidInput
from ..operations import owners, sessions, transfer
from ..operations.access import Access
from . import schemas
from .answers import DeletedAllJson, ImportedJson, SessionsJson, summary_json
from .door import Door
from .reading import query_of
from .request import body_text, json_value, limit_body
from .response import answer
from .routes import JSON_LINES

_CLOCKS_DIFFER_MS = 60_000
"""So much the clocks of two hosts may differ."""
_DELETING_SECONDS = 5.0
"""A request deletes for so long; the client asks again for the rest."""


def list_sessions(door: Door, access: Access) -> Response:
    """List a page of the owner's sessions, newest first."""
    query = query_of(schemas.LIST_QUERY)
    owners.required(access)
    page = sessions.page(access, cursor=_cursor_of(query["cursor"]), limit=query["limit"])
    sessions_shown = [summary_json(found) for found in page.sessions]
    shown: SessionsJson = {"sessions": sessions_shown, "next": _shown_cursor(page.next)}
    response = answer(shown, 200)
    response.headers["Cache-Control"] = "private, no-cache"
    return response


def delete_sessions(door: Door, access: Access) -> Response:
    """Delete all sessions of the owner, as far as the time allows."""
    deleted, complete = owners.delete(access, seconds=_DELETING_SECONDS)
    shown: DeletedAllJson = {"deleted": deleted, "complete": complete}
    return answer(shown, 200)


def export_sessions(door: Door, access: Access) -> Response:
    """Export every session of the owner, a line of JSON each, as far as clients may see it."""
    query = query_of(schemas.EXPORT_QUERY)
    owners.required(access)
    found = transfer.export(access, after=_cursor_of(query["cursor"]))
    first = next(found, None)  # an error at the start is a problem, not half an answer

    def lines() -> Iterator[bytes]:
        for session in itertools.chain([] if first is None else [first], found):
            yield json_text.dump(_visible(session, access.settings)) + b"\n"

    response = Response(stream_with_context(lines()), 200, mimetype=JSON_LINES)
    response.headers["Cache-Control"] = "private, no-store"
    return response


def import_sessions(door: Door, access: Access) -> Response:
    """Take in what an export gave."""
    settings = access.settings
    owners.required(access)
    limit_body(request, settings.max_session_bytes)
    lines = body_text(request, JSON_LINES).splitlines()
    given = [_importable(json_value(line), settings, number) for number, line in enumerate(lines, 1) if line.strip()]
    named = (_named(access, session) for session in given)
    shown: ImportedJson = {"imported": transfer.take_in(access, filter(None, named))}
    return answer(shown, 200)


def _named(access: Access, session: dict[str, Any]) -> dict[str, Any] | None:
    """Give *session* an id of ours where anybody could have chosen its own. None if the owner has the session.

    Whoever could choose an id could keep others from using it. Nobody can foresee a UUID.
    """
    session_id = session.get("session_id", "")
    if session.get("corrupt"):
        return session
    if not _is_fresh(session_id):
        if _is_ours(session_id):
            return session
        if access.load(session_id, 0, is_interaction=False):
            return None
        if access.store.has_ended(session_id, access.owner):
            return session
    key = hashlib.blake2b(f"import\n{access.owner}\n{session_id}".encode(), digest_size=16).hexdigest()
    return {**session, "session_id": id_named(key)}


def _visible(session: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """A session as its owner may see it by HTTP."""
    if "messages" not in session:  # corrupt
        return session
    roles = (None, *settings.visible_roles)
    messages = [
        {**shown, "edits": [body for body in shown["edits"] if _role({"body": body}) in roles]}
        if "edits" in shown
        else shown
        for shown in session["messages"]
        if _role(shown) in roles
    ]
    shown = {**session, "messages": messages}
    return {**shown, "cursor": _shown_cursor(session["cursor"])} if "cursor" in session else shown


def _importable(session: Any, settings: Settings, number: int) -> dict[str, Any]:
    """*session*, if clients may write all that is in it."""
    if not isinstance(session, dict):
        raise InvalidInput("it is no object; nothing was written", f"line {number}")
    if session.get("corrupt"):
        return {"corrupt": True}
    try:
        check_session_id(session.get("session_id"))
    except InvalidInput as error:
        raise InvalidInput(error.reason, f"line {number}") from None
    messages, data = session.get("messages"), session.get("data")
    if not isinstance(messages, list) or not isinstance(data, dict):
        raise InvalidInput("it has no messages and data; nothing was written", f"line {number}")
    for message in messages:
        role = _role(message)
        if role not in (None, *settings.visible_roles, *settings.client_roles):
            raise InvalidInput(
                f"clients may not write messages of role {role!r}; nothing was written", f"line {number}"
            )
    allowed = settings.client_data
    if allowed is not True and not (allowed and set(data) <= set(allowed)) and data:
        raise InvalidInput("clients may not set these data fields; nothing was written", f"line {number}")
    return dict(session) if settings.client_ttl else {**session, "ttl_ms": None}


def _is_ours(session_id: str) -> bool:
    """Whether it is an id as we make them."""
    try:
        number = uuid.UUID(session_id)
    except ValueError:
        return False
    return str(number) == session_id and (number.version == 4 or made_away_at_ms(session_id) is not None)


def _is_fresh(session_id: str) -> bool:
    """Whether a session that starts with it begins in a journal, past all quotas."""
    made_ms = made_away_at_ms(session_id)
    return made_ms is not None and made_ms > now_ms() - STARTS_WITHIN_MS - _CLOCKS_DIFFER_MS


def _role(message: Any) -> Any:
    body = message.get("body") if isinstance(message, dict) else None
    role = body.get("role") if isinstance(body, dict) else None
    return role if isinstance(role, str) or role is None else "?"


def _shown_cursor(cursor: str | None) -> str | None:
    return None if cursor is None else base64.urlsafe_b64encode(cursor.encode()).decode().rstrip("=")


def _cursor_of(cursor: str | None) -> str | None:
    if cursor is None:
        return None
    try:
        return base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        raise InvalidInput("this is no cursor of ours", "cursor") from None
