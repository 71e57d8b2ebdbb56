"""Views of everything of an owner's: list, export, import, delete. Without an owner they answer 401."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterable, Iterator
from typing import Any

from flask import Request, Response, stream_with_context

from ..config import Settings
from ..domain import json_text
from ..domain.clock import now_ms
from ..domain.ids import STARTS_WITHIN_MS, made_away_at_ms
from ..domain.json_text import MAX_DEPTH
from ..domain.shapes import key_of
from ..errors import ConvstoreError, InvalidInput, SessionNotFound, TooSlow, is_history_key, too_many_lines
from ..operations import owners, sessions, transfer
from ..operations.access import Access
from . import schemas
from .answers import CurrentJson, DeletedAllJson, SessionsJson, imported_json, summary_json
from .door import Door
from .reading import body_of, is_known
from .request import body_text, json_value, query_of
from .response import answer, unchanged
from .routes import JSON_LINES
from .shown import session_shown
from .tool_parts import foreign_role

_CLOCKS_DIFFER_MS = 60_000
"""Most milliseconds that the clocks of two hosts differ."""
_DELETING_SECONDS = 5.0
"""Longest time that one request deletes. The client asks again for the rest."""
_IMPORTING_SECONDS = 5.0
"""Longest time that one request imports. The client sends all again for the rest: what is there already stays as it is."""
_EXPORTING_SECONDS = 30.0
"""Time after which an export ends behind the next line, which has a cursor. The client goes on there."""
MOST_IMPORTED = 1000
"""Most sessions of one import."""
_LINE_DEPTH = 4
"""Levels of a line around a stored value: session, messages, message, edits."""


def list_sessions(request: Request, door: Door, access: Access) -> Response:
    """List a page of the owner's sessions."""
    query = query_of(request, schemas.LIST_QUERY)
    owners.required(access)
    page = sessions.page(access, **{**query, "cursor": _cursor_of(query["cursor"])})
    sessions_shown = [summary_json(found) for found in page.sessions]
    shown: SessionsJson = {"sessions": sessions_shown, "next": _shown_cursor(page.next)}
    if page.pending:
        shown["pending"] = page.pending
    return answer(shown, 200)


def current_session(request: Request, door: Door, access: Access) -> Response:
    """Show the owner's current session. 304 if the client has this state of the session."""
    query = query_of(request, schemas.GET_QUERY)
    session = owners.current(access, last=query["last"])
    if session is None:
        raise SessionNotFound("current", "the owner has no current session")
    if is_known(request, session):
        return unchanged(session)
    shown, names = session_shown(session, access.settings), schemas.names_of(query["fields"])
    if names is not None:  # all are read, since the session itself tells whether it is still the current one
        shown["data"] = {name: value for name, value in shown["data"].items() if name in names}
    return answer(shown, 200, session)


def set_current_session(request: Request, door: Door, access: Access) -> Response:
    """Make a session the owner's current one, or none."""
    owners.required(access)
    body = body_of(request, access.settings, schemas.CURRENT_BODY)
    owners.make_current(access, body["session_id"])
    shown: CurrentJson = {"session_id": body["session_id"]}
    return answer(shown, 200)


def delete_sessions(request: Request, door: Door, access: Access) -> Response:
    """Delete all sessions of the owner, as far as the time allows."""
    deleted, complete = owners.delete(access, seconds=_DELETING_SECONDS)
    shown: DeletedAllJson = {"deleted": deleted, "complete": complete}
    return answer(shown, 200)


def export_sessions(request: Request, door: Door, access: Access) -> Response:
    """Export every session of the owner, a line of JSON each, as far as clients may see it."""
    query = query_of(request, schemas.EXPORT_QUERY)
    owners.required(access)
    found = transfer.export(access, after=_cursor_of(query["cursor"]), seconds=_EXPORTING_SECONDS)
    first = next(found, None)  # an error in the first session becomes a problem response, not half an answer

    def lines() -> Iterator[bytes]:
        for session in itertools.chain([] if first is None else [first], found):
            yield json_text.dump(_visible(session, access.settings)) + b"\n"

    return Response(stream_with_context(lines()), 200, mimetype=JSON_LINES)


def import_sessions(request: Request, door: Door, access: Access) -> Response:
    """Import the lines of an export."""
    settings = access.settings
    owners.required(access)
    access.count_turn()
    # A line is read when its turn comes, so that only one is in memory.
    watch = owners.Watch(_IMPORTING_SECONDS)
    lines = _lines_of(body_text(request, JSON_LINES, settings.max_session_bytes))
    given = ((number, _importable(line, settings, watch)) for number, line in lines)
    imported = transfer.take_in_lines(
        access, given, keeps_id=lambda session_id: _keeps_id(access, session_id), watch=watch
    )
    return answer(imported_json(imported), 200)


def _lines_of(text: bytes) -> list[tuple[int, bytes]]:
    """Divide the body of an import into its numbered lines, without those that are blank.

    Raises:
        TooLarge: There are too many.
    """
    count = text.count(b"\n") + 1
    lines = [line for line in enumerate(text.split(b"\n"), 1) if line[1].strip()] if count <= 10 * MOST_IMPORTED else []
    if len(lines) > MOST_IMPORTED or count > 10 * MOST_IMPORTED:
        raise too_many_lines(MOST_IMPORTED, len(lines) or count)
    return lines


def _keeps_id(access: Access, session_id: str) -> bool:
    """Tell whether a session that is imported keeps its id.

    A client that could choose an id could keep others from using that id. Nobody can foresee a random UUID.
    """
    if _is_fresh(session_id):
        return False
    if _is_ours(session_id):
        return True
    there = access.load(session_id, 0, is_interaction=False)
    return there is not None or access.store.has_ended(session_id, access.owner)


def _visible(session: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """Leave out of an exported session the messages that its owner may not see by HTTP."""
    shown = dict(session)
    if "cursor" in session:
        shown["cursor"] = _shown_cursor(session["cursor"])
    if "messages" in session:  # the session is not damaged
        roles = (None, *settings.visible_roles)
        messages = [_without_hidden_edits(message, roles) for message in session["messages"] if _role(message) in roles]
        shown["messages"] = messages
    return shown


def _without_hidden_edits(message: dict[str, Any], roles: tuple[str | None, ...]) -> dict[str, Any]:
    """Leave out the earlier bodies of a message that had other roles."""
    if "edits" not in message:
        return message
    return {**message, "edits": [body for body in message["edits"] if _role({"body": body}) in roles]}


def _importable(line: bytes, settings: Settings, watch: owners.Watch) -> dict[str, Any] | ConvstoreError:
    """Parse a line of an import. The reason, if clients may not write all of it, or if it is no exported session.

    A stored value may be as deep as one can be, and the line is deeper.
    """
    try:
        session = json_value(line, MAX_DEPTH + _LINE_DEPTH)
        if isinstance(session, dict) and session.get("corrupt"):
            return {"session_id": session.get("session_id"), "corrupt": True}
        return _checked(session, settings, watch)
    except TooSlow:
        raise
    except ConvstoreError as error:
        return error


def _checked(session: Any, settings: Settings, watch: owners.Watch) -> dict[str, Any]:
    """Check that clients may write everything in an exported session.

    Raises:
        InvalidInput: They may not, or this is no exported session.
    """
    if not isinstance(session, dict):
        raise InvalidInput("must be an object. Nothing was written.")
    messages, data = session.get("messages"), session.get("data")
    if not isinstance(messages, list) or not isinstance(data, dict):
        raise InvalidInput("must have a list of messages and an object of data. Nothing was written.")
    _check_roles(watch.reading(messages), settings)
    _check_fields(data, settings)
    _check_key(session.get("shape"), data, settings)
    return dict(session) if settings.client_ttl else {**session, "ttl_ms": _lifetime_ms(data, settings)}


def _lifetime_ms(data: dict[str, Any], settings: Settings) -> int | None:
    """Choose the lifetime of an imported session, where clients may not. None: as all sessions.

    The app may have completed the session, whose client must not make others that live as long.
    """
    is_longer = any(data.get(name) is True for name in schemas.lifetime_fields(settings))
    return round(settings.ttl * 1000) if is_longer else None


def _check_roles(messages: Iterable[Any], settings: Settings) -> None:
    """Refuse messages of roles that clients may neither see nor write."""
    roles = (None, *settings.visible_roles, *settings.client_roles)
    for message in messages:
        role = _role(message)
        if role not in roles:
            reason = f"clients may not write messages of role {role!r}: remove them. Nothing was written."
            raise InvalidInput(reason)
        foreign = None if role == "assistant" else foreign_role(_body(message), roles)
        if foreign:
            reason = (
                f"clients may not write calls or results of tools as role {role!r}: remove them. Nothing was written."
            )
            raise InvalidInput(reason)


def _check_fields(data: dict[str, Any], settings: Settings) -> None:
    """Refuse data fields that clients may not set."""
    allowed = settings.client_data
    if allowed is True:
        return
    if not set(data) <= set(allowed or ()):
        raise InvalidInput("clients may not set these data fields: remove them. Nothing was written.")


def _check_key(shape: Any, data: dict[str, Any], settings: Settings) -> None:
    """Refuse a key of the history that the app does not know, and a data field under the key of the history."""
    keys = settings.history_key
    key = key_of(shape, keys[0]) if isinstance(shape, str) else None
    if key is not None and key not in keys:
        reason = (
            f"the key of its messages is {key!r}, none of {', '.join(keys)}: change its shape. Nothing was written."
        )
        raise InvalidInput(reason)
    if (key or keys[0]) in data:
        raise is_history_key(key or keys[0])


def _is_ours(session_id: str) -> bool:
    """Tell whether an id has the form of those that we make."""
    try:
        number = uuid.UUID(session_id)
    except ValueError:
        return False
    return str(number) == session_id and (number.version == 4 or made_away_at_ms(session_id) is not None)


def _is_fresh(session_id: str) -> bool:
    """Tell whether a session that starts with this id begins in a journal, past all quotas."""
    made_ms = made_away_at_ms(session_id)
    return made_ms is not None and made_ms > now_ms() - STARTS_WITHIN_MS - _CLOCKS_DIFFER_MS


def _body(message: Any) -> Any:
    """Get the body of an exported message. None if it is none."""
    return message.get("body") if isinstance(message, dict) else None


def _role(message: Any) -> Any:
    """Find the role of an exported message. None if there is none, "?" if the role is no text."""
    body = _body(message)
    role = body.get("role") if isinstance(body, dict) else None
    return role if isinstance(role, str) or role is None else "?"


def _shown_cursor(cursor: str | None) -> str | None:
    """Show a store's cursor, a time and perhaps an id, in characters that need no escape in a query."""
    if cursor is None:
        return None
    time, space, rest = cursor.partition(" ")
    return f"{time}.{rest.encode().hex()}" if space else time


def _cursor_of(cursor: str | None) -> str | None:
    if cursor is None:
        return None
    time, dot, rest = cursor.partition(".")
    return f"{time} {bytes.fromhex(rest).decode(errors='replace')}" if dot else time
