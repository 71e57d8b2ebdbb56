"""The HTTP door: load, call, dump.

| route                          | endpoint           | answers                                       |
| ------------------------------ | ------------------ | --------------------------------------------- |
| POST   /                       | start_session      | 201 session, Location, ETag                   |
| POST   /<session_id>/messages  | continue_session   | 201 {session_id, version, message, reply}     |
| GET    /<session_id>?last=k    | get_session        | 200 session, ETag; 304                        |
| DELETE /<session_id>           | delete_session     | 200 {"status": "deleted"}                     |
| GET    /health                 | health             | 200, 503                                      |

What goes wrong is an exception; one table gives its status, and every error is ``application/problem+json`` (RFC 9457).
"""

from __future__ import annotations

import dataclasses
import logging
import uuid
from collections.abc import Callable
from typing import Any

from flask import Blueprint, Response, request, url_for
from marshmallow import Schema

from . import codecs, schemas
from .config import Settings
from .conversations import Conversations
from .errors import (
    ConflictError,
    ConvstoreError,
    CorruptValue,
    InvalidInput,
    InvalidSessionId,
    ReplyFailed,
    SessionExists,
    SessionNotFound,
    StoreMisconfigured,
    StoreUnavailable,
    TooDeep,
    TooLarge,
)
from .models import Message, Receipt, as_datetime, as_milliseconds
from .parsing import BadJson, InvalidRequest, UnsupportedMediaType, limit_body, parser
from .sessions import AnySession
from .turns import Handler, Turn, answer

_log = logging.getLogger("flask_convstore")

_BODY_SLACK = 65_536
_ESCAPED = 3
"""How much longer than in UTF-8 a text can get when a client escapes it: an emoji of 4 bytes takes 12."""


# status, slug, title, and the detail that clients see where the error's own text is not for them
_PROBLEMS: dict[type[ConvstoreError], tuple[int, str, str, str | None]] = {
    BadJson: (400, "bad-json", "The body is no JSON", None),
    TooDeep: (400, "too-deep", "The body is nested too deep", None),
    SessionNotFound: (404, "not-found", "No such session", "There is no such session, or it has expired."),
    InvalidSessionId: (404, "not-found", "No such session", "There is no such session, or it has expired."),
    SessionExists: (409, "exists", "There is such a session", None),
    ConflictError: (409, "conflict", "The session was changed meanwhile", None),
    TooLarge: (413, "too-large", "A limit is passed", None),
    UnsupportedMediaType: (415, "unsupported-media-type", "The body must be JSON", None),
    InvalidInput: (422, "invalid", "The request is not valid", None),
    ReplyFailed: (
        502,
        "reply-failed",
        "No reply",
        "The reply could not be made; the server's log says why. The message is stored.",
    ),
    StoreUnavailable: (503, "unavailable", "The store does not answer", "The store does not answer. Try again later."),
    StoreMisconfigured: (503, "misconfigured", "The store does not answer", "The store cannot be used at present."),
    CorruptValue: (500, "corrupt", "The session cannot be read", "What is stored of this session cannot be read."),
}
_RETRY_AFTER_SECONDS = 1


def make_blueprint(name: str, conversations: Conversations, handler: Callable[[], Handler | None]) -> Blueprint:
    """The blueprint of one store; *handler* gives what replies, if anything does."""
    views = _Views(conversations, handler)
    blueprint = Blueprint(name, __name__, url_prefix="/sessions")
    blueprint.add_url_rule("", view_func=views.start_session, methods=["POST"])
    blueprint.add_url_rule("/health", view_func=views.health)
    blueprint.add_url_rule("/<session_id>", view_func=views.get_session)
    blueprint.add_url_rule("/<session_id>", view_func=views.delete_session, methods=["DELETE"])
    blueprint.add_url_rule("/<session_id>/messages", view_func=views.continue_session, methods=["POST"])
    blueprint.register_error_handler(ConvstoreError, problem)
    return blueprint


class _Views:
    def __init__(self, conversations: Conversations, handler: Callable[[], Handler | None]) -> None:
        self._conversations = conversations
        self._handler = handler

    def start_session(self) -> Response:
        """Start a session; with a message, answer it too."""
        body = self._body(schemas.start_body)
        session_id = str(uuid.uuid4())
        first = [_message(body["message"])] if body["message"] else []
        content = {**body["data"], self._settings.history_key: first}
        session = self._conversations.save_session(session_id, content, ttl=body.get("ttl"))
        created_at_ms = as_milliseconds(session.created_at)
        if first and self._answer(session_id, session.messages[-1], created_at_ms):
            session = self._loaded(session_id)
        response = _json(self._session_json(session), 201, session)
        response.headers["Location"] = url_for(".get_session", session_id=session_id)
        return response

    def continue_session(self, session_id: str) -> Response:
        """Add a user's message, and the reply to it."""
        body = self._body(schemas.continue_body)
        message, receipt = self._conversations.append_message(session_id, _message(body))
        reply, receipt = self._answer(session_id, message, receipt.created_at_ms) or (None, receipt)
        shown = {
            "session_id": session_id,
            "version": receipt.version,
            "message": schemas.message_json(message),
            "reply": schemas.message_json(reply) if reply and schemas.is_visible(reply, self._settings) else None,
        }
        return _json(shown, 201, receipt)

    def get_session(self, session_id: str) -> Response:
        """The session; 304 if the client has this state of it."""
        query = parser.parse(schemas.GET_QUERY, request, location="query")
        session = self._loaded(session_id, query["last"])
        if request.if_none_match.contains_weak(_etag(session)):
            return _tagged(Response(status=304), session)
        return _json(self._session_json(session), 200, session)

    def delete_session(self, session_id: str) -> Response:
        """Delete the session."""
        if not self._conversations.delete_session(session_id):
            raise SessionNotFound(session_id)
        return _json({"status": "deleted"}, 200)

    def health(self) -> Response:
        """Whether sessions can be served."""
        health = self._conversations.health()
        return _json(dataclasses.asdict(health), 200 if health.connected else 503)

    @property
    def _settings(self) -> Settings:
        return self._conversations.backend.settings

    def _body(self, schema: Callable[[Settings], Schema]) -> dict[str, Any]:
        """The request's body by *schema*; bounded before it is read."""
        settings = self._settings
        largest = settings.max_message_bytes + settings.max_data_bytes
        limit_body(request, _ESCAPED * largest + _BODY_SLACK)
        body: dict[str, Any] = parser.parse(schema(settings), request, location="json")
        return body

    def _loaded(self, session_id: str, last: int | None = None) -> AnySession:
        session = self._conversations.get_session(session_id, last=last)
        if session is None:
            raise SessionNotFound(session_id)
        return session

    def _answer(self, session_id: str, message: Message, created_at_ms: int) -> tuple[Message, Receipt] | None:
        owner = self._conversations.caller()
        return answer(Turn(self._conversations, session_id, owner, message, created_at_ms), self._handler())

    def _session_json(self, session: AnySession) -> dict[str, Any]:
        settings = self._settings
        history = [
            schemas.message_json(message) for message in session.messages if schemas.is_visible(message, settings)
        ]
        return schemas.session_json(session, history, self._conversations.data_of(session))


def _message(body: dict[str, Any]) -> Message:
    return Message({"role": body["role"], "content": body["content"]}, body["metadata"])


def _json(value: object, status: int, state: AnySession | Receipt | None = None) -> Response:
    response = Response(codecs.dump(value), status, mimetype="application/json")
    return _tagged(response, state) if state else response


def _tagged(response: Response, state: AnySession | Receipt) -> Response:
    """*response* with the headers that name a session's state and its end."""
    response.set_etag(_etag(state))
    response.headers["Cache-Control"] = "private, no-cache"  # one person's; to be asked for again each time
    expires_at = as_datetime(state.expires_at_ms) if isinstance(state, Receipt) else state.expires_at
    response.headers["Convstore-Expires-At"] = schemas.timestamp(expires_at)
    return response


def _etag(state: AnySession | Receipt) -> str:
    """Names one state of one session; the time of creation tells it from a deleted one of the same id."""
    created_at_ms = state.created_at_ms if isinstance(state, Receipt) else as_milliseconds(state.created_at)
    return f"{created_at_ms}-{state.version}"


def problem(error: ConvstoreError) -> Response:
    """An error as ``application/problem+json`` (RFC 9457).

    The blueprint answers so by itself; for your own routes: ``app.register_error_handler(ConvstoreError, problem)``.
    """
    status, slug, title, detail = next(_PROBLEMS[kind] for kind in type(error).__mro__ if kind in _PROBLEMS)
    body: dict[str, Any] = {
        "type": f"urn:convstore:{slug}",
        "title": title,
        "status": status,
        "detail": detail or str(error),
        "written": error.written,
    }
    if isinstance(error, InvalidRequest):
        body["errors"] = error.errors
    elif status == 422 and isinstance(error, InvalidInput):
        body["errors"] = {error.path or "body": [error.reason]}
    elif isinstance(error, ReplyFailed):
        body["session_id"] = error.session_id
    elif isinstance(error, TooLarge):
        body.update(limit=error.limit, size=error.size)
    if status >= 500:
        _log.error("%s %s: %s", request.method, request.endpoint, error)
    response = Response(codecs.dump(body), status, mimetype="application/problem+json")
    if isinstance(error, StoreUnavailable):
        response.headers["Retry-After"] = str(_RETRY_AFTER_SECONDS)
    return response
