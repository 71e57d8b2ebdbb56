"""The routes of the blueprint, in one table. The blueprint, ``CONVSTORE_ROUTES`` and the OpenAPI document are made from it.

``openapi/descriptions.py`` describes each route in words and examples.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from werkzeug.routing import BaseConverter

from ..config import Settings
from ..domain.validation import END_OF_ROUTE
from ..errors import (
    ConflictError,
    ConvstoreError,
    CorruptValue,
    CrossOrigin,
    Forbidden,
    InvalidInput,
    MessageIdReused,
    MessageNotFound,
    NothingToReplace,
    NotInstalled,
    OwnerRequired,
    ReplyFailed,
    SessionExists,
    SessionMoved,
    SessionNotFound,
    StoreMisconfigured,
    StoreUnavailable,
    TooDeep,
    TooLarge,
    TooManySessions,
    TooManyTurns,
    TooSlow,
    TurnInProgress,
    TurnLost,
    Unstorable,
)
from .etags import BadEtag
from .problems import PRECONDITION_FAILED, PROBLEMS, BadJson, Problem, UnsupportedMediaType

JSON_LINES = "application/x-ndjson"
"""Media type of a body with a JSON value in each line."""

EVENT_STREAM = "text/event-stream"
"""Media type of a stream of events."""

IDEMPOTENCY_KEY = "Idempotency-Key"
IF_MATCH = "If-Match"
IF_NONE_MATCH = "If-None-Match"
LAST_EVENT_ID = "Last-Event-ID"

_SESSION = "/<convstore_id:session_id>"
_MESSAGES = "/<convstore_ids:session_id>/messages"
_REPLY = "/<convstore_ids:session_id>/replies/<turn>"
_MESSAGE = "/<convstore_ids:session_id>/messages/<seq>"

_TURN = (TurnInProgress, TurnLost, SessionMoved, ConflictError, TooManyTurns)
"""Errors of a route that takes the turn of a session."""


@dataclass(frozen=True, slots=True)
class Route:
    """One route.

    Attributes:
        endpoint: Name of its view, of its operation in the document, and in ``CONVSTORE_ROUTES``.
        rule: Path behind the blueprint's prefix, as werkzeug takes it.
        answers: Shapes of the successful answers, by status. None for an answer without a body.
        errors: Errors of this route alone. ``problems`` adds those that follow from the other facts.
        headers: Request headers that the route reads.
        query, body: Names of its forms in ``schemas``.
        takes_lines: The body is JSON Lines.
        streams: Clients may have the reply as a stream of events instead.
        needs_owner: Without an owner the answer is 401.
        is_for_service: The route is about the service, not about sessions. It asks for no owner, and a store that is away is
            no error.
    """

    endpoint: str
    method: str
    rule: str
    answers: dict[int, str | None]
    errors: tuple[type[ConvstoreError], ...] = ()
    headers: tuple[str, ...] = ()
    query: str = ""
    body: str = ""
    takes_lines: bool = False
    streams: bool = False
    needs_owner: bool = False
    is_for_service: bool = False

    def problems(self) -> list[Problem]:
        """List every problem that the route can answer with."""
        found = [PROBLEMS[kind] for kind in dict.fromkeys((*self.errors, *self._common_errors()))]
        return [*found, PROBLEMS[BadEtag], PRECONDITION_FAILED] if IF_MATCH in self.headers else found

    def _common_errors(self) -> Iterator[type[ConvstoreError]]:
        if self.needs_owner:
            yield OwnerRequired
        if self.method != "GET":
            yield CrossOrigin
        if self.body:
            yield from (BadJson, TooDeep, UnsupportedMediaType, TooLarge, InvalidInput)
        if self.query:
            yield InvalidInput
        if "session_id" in self.rule:
            yield SessionNotFound
            if self.method != "GET":
                yield from (Forbidden, SessionMoved)  # both for guests of a shared session
        if not self.is_for_service:
            yield from (CorruptValue, StoreUnavailable, TooSlow, StoreMisconfigured)


ROUTES = (
    Route(
        "start_session",
        "POST",
        "",
        answers={201: "Session", 200: "Session"},
        errors=(
            OwnerRequired,
            SessionNotFound,
            TooManySessions,
            SessionExists,
            Unstorable,
            ReplyFailed,
            *_TURN,
        ),
        headers=(IDEMPOTENCY_KEY,),
        body="Start",
        streams=True,
    ),
    Route("list_sessions", "GET", "", answers={200: "Sessions"}, query="ListQuery", needs_owner=True),
    Route("delete_sessions", "DELETE", "", answers={200: "DeletedAll"}, needs_owner=True),
    Route("health", "GET", "/health", answers={200: "Health", 503: "Health"}, is_for_service=True),
    Route(
        "openapi",
        "GET",
        "/openapi.json",
        answers={200: "Document", 304: None},
        errors=(NotInstalled,),
        headers=(IF_NONE_MATCH,),
        is_for_service=True,
    ),
    Route("metrics", "GET", "/metrics", answers={200: "Metrics"}, is_for_service=True),
    Route(
        "script",
        "GET",
        "/convstore.js",
        answers={200: "Script", 304: None},
        headers=(IF_NONE_MATCH,),
        query="ScriptQuery",
        is_for_service=True,
    ),
    Route("export_sessions", "GET", "/export", answers={200: "Exported"}, query="ExportQuery", needs_owner=True),
    Route(
        "list_events",
        "GET",
        "/events",
        answers={200: "Events"},
        headers=(LAST_EVENT_ID,),
        query="FollowQuery",
        needs_owner=True,
    ),
    Route(
        "import_sessions",
        "POST",
        "/import",
        answers={200: "Imported"},
        errors=(SessionNotFound, TooManySessions, TooManyTurns),
        body="Exported",
        takes_lines=True,
        needs_owner=True,
    ),
    Route(
        "current_session",
        "GET",
        "/current",
        answers={200: "Session", 304: None},
        errors=(SessionNotFound,),
        headers=(IF_NONE_MATCH,),
        query="GetQuery",
        needs_owner=True,
    ),
    Route(
        "set_current_session",
        "PUT",
        "/current",
        answers={200: "Current"},
        errors=(SessionNotFound, Forbidden),
        body="SetCurrent",
        needs_owner=True,
    ),
    Route(
        "get_session",
        "GET",
        _SESSION,
        answers={200: "Session", 304: None},
        headers=(IF_NONE_MATCH, IF_MATCH),
        query="GetQuery",
    ),
    Route("update_session", "PATCH", _SESSION, answers={200: "Updated"}, headers=(IF_MATCH,), body="Update"),
    Route(
        "delete_session",
        "DELETE",
        _SESSION,
        answers={200: "Deleted"},
        errors=(InvalidInput,),
        headers=(IDEMPOTENCY_KEY, IF_MATCH),
    ),
    Route(
        "continue_session",
        "POST",
        _MESSAGES,
        answers={201: "Exchange"},
        errors=(Unstorable, ReplyFailed, MessageIdReused, NothingToReplace, *_TURN),
        headers=(IDEMPOTENCY_KEY, IF_MATCH),
        body="Continue",
        streams=True,
    ),
    Route(
        "list_messages",
        "GET",
        _MESSAGES,
        answers={200: "Messages", 304: None},
        headers=(IF_NONE_MATCH,),
        query="MessagesQuery",
    ),
    Route(
        "drop_messages",
        "DELETE",
        _MESSAGES,
        answers={200: "Dropped"},
        errors=(MessageNotFound, ConflictError),
        headers=(IDEMPOTENCY_KEY, IF_MATCH),
        query="DropQuery",
    ),
    Route(
        "edit_message",
        "PATCH",
        _MESSAGE,
        answers={200: "Changed"},
        errors=(MessageNotFound, ConflictError),
        headers=(IDEMPOTENCY_KEY, IF_MATCH),
        body="Edit",
    ),
    Route(
        "redact_message",
        "DELETE",
        _MESSAGE,
        answers={200: "Changed"},
        errors=(MessageNotFound, ConflictError),
        headers=(IF_MATCH,),
    ),
    Route(
        "follow_reply",
        "GET",
        _REPLY,
        answers={200: "Events", 204: None},
        errors=(MessageNotFound, SessionMoved),
        headers=(LAST_EVENT_ID,),
        query="FollowQuery",
    ),
    Route("stop_reply", "DELETE", _REPLY, answers={200: "Stopped"}, errors=(MessageNotFound, InvalidInput)),
    Route(
        "session_events",
        "GET",
        "/<convstore_ids:session_id>/events",
        answers={200: "Events"},
        errors=(SessionMoved,),
        headers=(LAST_EVENT_ID,),
        query="FollowQuery",
    ),
    Route(
        "compact_session",
        "POST",
        "/<convstore_ids:session_id>/compact",
        answers={201: "Session"},
        errors=(TooManySessions, *_TURN),
        body="Compact",
    ),
    Route(
        "fork_session",
        "POST",
        "/<convstore_ids:session_id>/fork",
        answers={201: "Session"},
        errors=(TooManySessions, TooManyTurns),
        body="Fork",
    ),
)

ENDPOINTS = tuple(route.endpoint for route in ROUTES)
"""Names that ``CONVSTORE_ROUTES`` may hold."""


def is_served(endpoint: str, settings: Settings) -> bool:
    """Tell whether the settings let the blueprint serve an endpoint."""
    if endpoint == "metrics" and not settings.metrics:
        return False
    routes = settings.routes
    return routes if isinstance(routes, bool) else endpoint in routes


_BESIDE = tuple(route.rule[1:] for route in ROUTES if re.fullmatch("/[a-z.]+", route.rule))
"""Words in the place of a session's id, such as ``health``, which no session may have."""


class SessionIds(BaseConverter):
    """Session ids in paths. An id may hold slashes, as in ``telegram/123``. Routes of the host's own come first."""

    regex = r"[\s\S]+?"
    part_isolating = False
    weight = 200


class LastSessionIds(SessionIds):
    """Session ids at the end of a path, without those of other routes, which do not have the methods of a session."""

    regex = rf"(?!(?:{'|'.join(map(re.escape, _BESIDE))})\Z)(?![\s\S]*{END_OF_ROUTE}){SessionIds.regex}"


CONVERTERS: dict[str, type[BaseConverter]] = {"convstore_id": LastSessionIds, "convstore_ids": SessionIds}
"""Converters of the rules, by name."""
