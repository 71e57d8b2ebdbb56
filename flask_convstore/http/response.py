"""Values > HTTP answers: JSON, and the headers for a session's state and for the fallback."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Response
from werkzeug.datastructures import Headers

from ..domain import json_text
from ..domain.results import Receipt
from ..operations.messages import MessagePage
from ..sessions.session import AnySession, base_of
from .answers import timestamp

State = AnySession | Receipt | MessagePage
"""Whatever knows a state of a session."""

VARY = "Cookie, Authorization"
"""Headers by which most apps know their user. What is answered to one is not for another."""


def answer(value: Mapping[str, Any], status: int, state: State | None = None) -> Response:
    """Answer with *value* as JSON, and with the headers of the *state* that the value shows."""
    return _json(value, status, state, [] if state is None else _headers_of(state))


def marked(value: Mapping[str, Any], status: int, state: State) -> Response:
    """Answer with *value* as JSON, marked if its *state* comes from the fallback, and if that does not know all of it."""
    return _json(value, status, state, [])


def unchanged(state: State) -> Response:
    """Answer that the client has this *state* of the session."""
    return Response(status=304, headers=_headers_of(state))


def _json(value: Mapping[str, Any], status: int, state: State | None, headers: list[tuple[str, str]]) -> Response:
    if state is not None and state.fallback:
        marking, marks = degraded(state.fallback, partial=state.partial)
        value, headers = {**value, **marks}, [*marking.items(), *headers]
    body = json_text.dump(value)
    found = Headers()
    # All together, since each header that is set alone is looked for before.
    found[0:] = [("Content-Type", "application/json"), ("Content-Length", f"{len(body)}"), *headers]
    return Response([body], status, found)


def degraded(fallback: str, *, partial: bool) -> tuple[dict[str, str], dict[str, bool]]:
    """Make the headers, and the members of JSON, that mark an answer of the *fallback*."""
    if partial:
        return {"Convstore-Degraded": fallback, "Convstore-Partial": "true"}, {"degraded": True, "partial": True}
    return {"Convstore-Degraded": fallback}, {"degraded": True}


def _headers_of(state: State) -> list[tuple[str, str]]:
    """List the headers that name a session's state and its end, and those that every answer has."""
    record = state if isinstance(state, (Receipt, MessagePage)) else base_of(state).snapshot
    headers = [
        ("ETag", f'"{record.created_at_ms}-{record.version}"'),
        ("Cache-Control", "private, no-cache"),  # one person's, and revalidated each time
        ("Convstore-Expires-At", timestamp(record.expires_at_ms)),
    ]
    if isinstance(state, Receipt):
        headers.append(("Convstore-Level", state.level))
    elif not isinstance(state, MessagePage) and (size := state.size) is not None:
        headers.append(("Convstore-Size", f"{size}"))
    return [*headers, ("X-Content-Type-Options", "nosniff"), ("Vary", VARY)]


def etag(state: State) -> str:
    """Name one state of one session. The time of creation tells apart a session and a deleted one of the same id."""
    record = state if isinstance(state, (Receipt, MessagePage)) else base_of(state).snapshot
    return f"{record.created_at_ms}-{record.version}"
