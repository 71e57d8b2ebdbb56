"""Views of streamed replies: replay or resume one, stop one."""

from __future__ import annotations

from flask import Request, Response

from ..operations import streamed
from ..operations.access import Access
from . import sse
from .answers import StoppedJson
from .door import Door
from .reading import id_of, known_event
from .response import answer
from .shown import message_shown

CURRENT = "current"
"""Name of the reply in progress, in the place of its id."""


def follow_reply(request: Request, door: Door, access: Access, session_id: str, turn: str) -> Response:
    """Replay a streamed reply, or resume it behind the last event that the client has. 204: none is in progress."""
    reply = streamed.follow(access, session_id, _reply_of(session_id, turn), known_event(request))
    if reply is None:
        return Response(status=204)
    return sse.reply_stream(reply, access.settings, is_short=not sse.is_possible(request))


def stop_reply(request: Request, door: Door, access: Access, session_id: str, turn: str) -> Response:
    """Stop a streamed reply, and store it as far as it had come."""
    ended = streamed.stop(access, session_id, _reply_of(session_id, turn))
    shown: StoppedJson = {
        "session_id": session_id,
        "version": ended.version,
        "status": ended.fate,
        "reply": message_shown(ended.message, access.settings),
    }
    return answer(shown, 200)


def _reply_of(session_id: str, turn: str) -> str:
    return "" if turn == CURRENT else id_of(session_id, turn)
