"""Streamed replies > server-sent events, for browsers and for the clients of chat frameworks.

Each event has an id, a name and a JSON object that names the turn. A line that begins with a colon is a comment, which
keeps proxies from closing a silent connection. docs/streaming.md has all of it.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from typing import Any

from flask import Request, Response, request

from ..config import Settings
from ..domain import json_text
from ..domain.clock import monotonic
from ..operations.streamed import Event, StoredReply, StreamedReply
from .presence import has_left
from .response import degraded
from .routes import EVENT_STREAM
from .shown import message_shown

_log = logging.getLogger("flask_convstore")

_RETRY_MS = 2000
"""Time after which a browser connects again."""

_SHORT_POLL = 1.0
"""Seconds after which a worker that serves one request at a time lets a client go that reads a stream."""

_PRESENT_EVERY = 2.0
"""Seconds of silence after which a client may have left."""

_HEARTBEAT = 15.0
"""Seconds of silence after which a comment is sent. Proxies close a connection that is silent for a minute."""

_HEADERS = {
    "Cache-Control": "no-store, no-transform",  # proxies must not compress it, since that holds events back
    "X-Accel-Buffering": "no",
}


def is_chosen(request: Request) -> bool:
    """Tell whether the client asks for a stream of events rather than for JSON, and this worker can serve one."""
    if request.environ.get("HTTP_ACCEPT", "*/*") in _ANY_OR_JSON:
        return False
    is_wanted = request.accept_mimetypes.best_match(["application/json", EVENT_STREAM]) == EVENT_STREAM
    return is_wanted and is_possible(request)


_ANY_OR_JSON = ("*/*", "application/json", "application/json, */*", "application/json, text/plain, */*")
"""Headers of the usual clients that ask for no stream."""


def is_possible(request: Request) -> bool:
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


def is_endless_possible(request: Request) -> bool:
    """Tell whether this worker can serve a stream that has no end. A test client would read it for ever."""
    return is_possible(request) and bool(request.environ.get("wsgi.multithread"))


_told: set[str] = set()

_LINE_ENDS = [(chr(code).encode(), b"\\u%04x" % code) for code in (0x85, 0x2028, 0x2029)]
"""Other ends of lines are control characters, which JSON escapes."""


Line = tuple[str, str, Mapping[str, Any]]
"""An event as it is sent: its id, its name, and its JSON object."""


def event_stream(lines: Iterator[Line | None], status: int = 200, *, is_short: bool = False) -> Response:
    """Answer with events. None among them: there was none for some time.

    Args:
        is_short: Answer with the events that there are. The client asks again for those that follow.
    """
    sent = _sent(lines, is_short, request.environ)
    return Response(sent, status, _HEADERS, content_type=EVENT_STREAM)


def _sent(lines: Iterator[Line | None], is_short: bool, environ: Mapping[str, Any]) -> Iterator[bytes]:
    yield b"retry: %d\n\n" % (_RETRY_MS // 2 if is_short else _RETRY_MS)
    until = monotonic() + (_SHORT_POLL if is_short else math.inf)
    silent_since = monotonic()
    try:
        for line in lines:
            if line is not None:
                silent_since = monotonic()
                yield _sent_as(*line)
            elif has_left(environ):
                return
            elif monotonic() - silent_since >= _HEARTBEAT:
                silent_since = monotonic()
                yield b": waiting\n\n"
            if monotonic() >= until:
                return
    finally:
        close = getattr(lines, "close", None)
        if close:
            close()  # the reader has gone


def _sent_as(event_id: str, name: str, shown: Mapping[str, Any]) -> bytes:
    text = _one_line(json_text.dump(shown))
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (event_id.encode(), name.encode(), text)


def _one_line(text: bytes) -> bytes:
    """Escape what JSON allows in a text, and what clients in Python and JavaScript take for the end of a line."""
    for character, escaped in _LINE_ENDS:
        text = text.replace(character, escaped)
    return text


def heartbeat(is_short: bool) -> float:
    """Choose the seconds of silence after which the client is let go, or may have left."""
    return _SHORT_POLL if is_short else _PRESENT_EVERY


def reply_stream(
    reply: StreamedReply | StoredReply, settings: Settings, status: int = 200, *, is_short: bool = False
) -> Response:
    """Answer with the events of a reply."""
    response = event_stream(_lines_of(reply, settings, is_short), status, is_short=is_short)
    if reply.is_away:
        response.headers.update(degraded("journal", partial=reply.partial)[0])
    return response


def _lines_of(reply: StreamedReply | StoredReply, settings: Settings, is_short: bool) -> Iterator[Line | None]:
    for event in reply.events(heartbeat(is_short)):
        if event is None:
            yield None
        elif event.kind not in ("delta", "part") or "assistant" in settings.visible_roles:
            yield event.id, event.kind, {"turn": reply.id, **_JSON[event.kind](event, reply, settings)}


def _message(event: Event, reply: StreamedReply | StoredReply, settings: Settings) -> Mapping[str, Any]:
    facts = {"session_id": reply.session_id, "message": message_shown(event.value, settings)}
    marks = degraded("journal", partial=reply.partial)[1] if reply.is_away else {}
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
    "error": lambda event, *_: {"type": f"urn:convstore:{event.value.kind}", "detail": str(event.value)},
    "done": lambda event, *_: {"status": event.value},
}
