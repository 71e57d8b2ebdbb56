"""Views of events: those of a session, and those of an owner's list of sessions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from flask import Request, Response

from ..operations import events
from ..operations.access import Access
from . import sse
from .answers import summary_json
from .door import Door
from .reading import known_event


def session_events(request: Request, door: Door, access: Access, session_id: str) -> Response:
    """Show what happens to a session, from now on or from where the client is."""
    is_short = not sse.is_endless_possible(request)
    changes = events.of_session(access, session_id, known_event(request), sse.heartbeat(is_short))
    return sse.event_stream(_session_lines(changes), is_short=is_short)


def list_events(request: Request, door: Door, access: Access) -> Response:
    """Show what happens to the owner's list of sessions, from now on or from where the client is."""
    is_short = not sse.is_endless_possible(request)
    changes = events.of_list(access, known_event(request), sse.heartbeat(is_short))
    return sse.event_stream(_list_lines(changes), is_short=is_short)


_NAMES = {"snapshot": "snapshot", "ended": "ended", "deleted": "deleted"}
"""Names of events. All others are a ``change``."""


def _session_lines(changes: Iterator[events.Change | None]) -> Iterator[sse.Line | None]:
    for change in changes:
        if change is None:
            yield None
            continue
        shown: dict[str, Any] = {"session_id": change.session_id}
        if change.kind not in _NAMES:
            shown["kind"] = change.kind
        for name in ("version", "first_seq", "turn"):
            if getattr(change, name):
                shown[name] = getattr(change, name)
        if change.kind == "snapshot":
            shown["message_count"] = change.message_count
        yield change.id, _NAMES.get(change.kind, "change"), shown


def _list_lines(changes: Iterator[events.ListChange | None]) -> Iterator[sse.Line | None]:
    for change in changes:
        if change is None:
            yield None
        elif change.kind == "snapshot":
            yield change.id, "snapshot", {"sessions": [summary_json(one) for one in change.sessions]}
        elif change.kind == "deleted":
            yield change.id, "deleted", {"session_id": change.session_id}
        else:
            shown = {"session_id": change.session_id, "kind": change.kind, "version": change.version}
            yield change.id, "change", shown
