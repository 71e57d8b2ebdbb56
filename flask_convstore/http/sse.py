"""Streamed replies > server-sent events, for browsers and for the clients of chat frameworks.

Each event has an id, a name and a JSON object that names the turn. A line that begins with a colon is a comment, which
keeps proxies from closing a silent connection. docs/streaming.md has all of it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any

from flask import Response, request

from ..config import Settings
from ..domain import json_text
from ..operations.streamed import Event, StoredReply, StreamedReply
from .routes import EVENT_STREAM
from .shown import message_shown

_log = logging.getLogger("flask_convstore")

_RETRY_MS = 2000
"""Time after which a browser connects again."""

_SHORT_POLL = 1.0
"""Seconds for which a worker that serves one request at a time waits for the next event, before it lets the client go."""

_HEADERS = {
    "Cache-Control": "no-store, no-transform",  # proxies must not compress it, since that holds events back
    "X-Accel-Buffering": "no",
}


def is_chosen() -> bool:
    """Tell whether the client asks for a stream of events rather than for JSON, and this worker can serve one."""
    is_wanted = request.accept_mimetypes.best_match(["application/json", EVENT_STREAM]) == EVENT_STREAM
    return is_wanted and is_possible()


def is_possible() -> bool:
    """Tell whether this worker can serve a stream beside other requests.

    gunicorn kills a worker of its kind ``sync`` that streams longer than its timeout, whatever it sends meanwhile.
    """
    environ = request.environ
    is_served = "SERVER_SOFTWARE" in environ or "uwsgi.version" in environ  # else it is a test client
    possible = bool(environ.get("wsgi.multithread")) or not is_served
    if not possible and "told" not in _told:
        _told.add("told")
        _log.warning(
            "this worker serves one request at a time, so that it answers streams of events with JSON, and those who resume "
            "in short polls: run gunicorn with --worker-class gthread --threads 16, or gevent"
        )
    return possible


_told: set[str] = set()


def event_stream(
    reply: StreamedReply | StoredReply, settings: Settings, status: int = 200, *, is_short: bool = False
) -> Response:
    """Answer with the events of a reply.

    Args:
        is_short: Answer with the events that there are. The client asks again for those that follow.
    """
    response = Response(_lines(reply, settings, is_short), status, _HEADERS, content_type=EVENT_STREAM)
    if reply.is_away:
        response.headers["Convstore-Degraded"] = "journal"
    return response


def _lines(reply: StreamedReply | StoredReply, settings: Settings, is_short: bool) -> Iterator[bytes]:
    yield b"retry: %d\n\n" % (_RETRY_MS // 2 if is_short else _RETRY_MS)
    for event in reply.events(**({"heartbeat": _SHORT_POLL} if is_short else {})):
        if event is not None:
            yield _line(event, reply, settings)
        elif is_short:
            return
        else:
            yield b": waiting\n\n"


def _line(event: Event, reply: StreamedReply | StoredReply, settings: Settings) -> bytes:
    shown = {"turn": reply.id, **_JSON[event.kind](event, reply, settings)}
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (event.id.encode(), event.kind.encode(), json_text.dump(shown))


def _message(event: Event, reply: StreamedReply | StoredReply, settings: Settings) -> Mapping[str, Any]:
    facts = {"session_id": reply.session_id, "message": message_shown(event.value, settings)}
    marks = {"degraded": True} if reply.is_away else {}
    return {**facts, **marks, **({} if reply.is_resumable else {"resumable": False})}


def _reply(event: Event, reply: StreamedReply | StoredReply, settings: Settings) -> Mapping[str, Any]:
    version = {"version": event.version} if event.version else {}
    return {"session_id": reply.session_id, **version, "reply": message_shown(event.value, settings)}


_JSON: Mapping[str, Any] = {
    "message": _message,
    "delta": lambda event, *_: {"content": event.value},
    "part": lambda event, *_: {"kind": event.value.kind, "content": event.value.content},
    "reply": _reply,
    "reset": lambda *_: {},
    "error": lambda event, *_: {"type": "urn:convstore:reply-failed", "detail": event.value},
    "done": lambda event, *_: {"status": event.value},
}
