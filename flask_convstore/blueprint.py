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

import hashlib
import logging
import re
import uuid
from collections.abc import Callable
from typing import Any

from flask import Blueprint, Response, request, url_for
from marshmallow import Schema

from . import codecs, schemas
from .config import Settings
from .conversations import Conversations, check_name
from .errors import (
    ConflictError,
    ConvstoreError,
    CorruptValue,
    InvalidInput,
    InvalidSessionId,
    ReplyFailed,
    SessionExists,
    SessionMoved,
    SessionNotFound,
    StoreMisconfigured,
    StoreUnavailable,
    TooDeep,
    TooLarge,
    TurnInProgress,
    TurnLost,
    Unstorable,
)
from .models import Message, Receipt, as_datetime, as_milliseconds
from .parsing import BadJson, InvalidRequest, UnsupportedMediaType, limit_body, parser
from .sessions import AnySession
from .turns import Replier, converse

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
    TurnInProgress: (409, "turn-in-progress", "A turn is in progress", None),
    TurnLost: (409, "turn-lost", "The turn was taken over", None),
    SessionMoved: (409, "moved", "The conversation goes on elsewhere", None),
    TooLarge: (413, "too-large", "A limit is passed", None),
    UnsupportedMediaType: (415, "unsupported-media-type", "The body must be JSON", None),
    InvalidInput: (422, "invalid", "The request is not valid", None),
    ReplyFailed: (
        502,
        "reply-failed",
        "No reply",
        "The reply could not be made; the server's log says why. The message is stored.",
    ),
    Unstorable: (
        500,
        "not-stored",
        "The session was not saved",
        "It cannot be stored as it is; the server's log says why.",
    ),
    StoreUnavailable: (503, "unavailable", "The store does not answer", "The store does not answer. Try again later."),
    StoreMisconfigured: (503, "misconfigured", "The store does not answer", "The store cannot be used at present."),
    CorruptValue: (500, "corrupt", "The session cannot be read", "What is stored of this session cannot be read."),
}
_RETRY_AFTER_SECONDS = 1


def make_blueprint(name: str, conversations: Conversations, replier: Callable[[], Replier | None]) -> Blueprint:
    """The blueprint of one store; *replier* gives what replies, if anything does."""
    views = _Views(conversations, replier)
    blueprint = Blueprint(name, __name__, url_prefix="/sessions")
    blueprint.add_url_rule("", view_func=views.start_session, methods=["POST"])
    blueprint.add_url_rule("/health", view_func=views.health)
    blueprint.add_url_rule("/<session_id>", view_func=views.get_session)
    blueprint.add_url_rule("/<session_id>", view_func=views.delete_session, methods=["DELETE"])
    blueprint.add_url_rule("/<session_id>/messages", view_func=views.continue_session, methods=["POST"])
    blueprint.register_error_handler(ConvstoreError, problem)
    return blueprint


class _Views:
    def __init__(self, conversations: Conversations, replier: Callable[[], Replier | None]) -> None:
        self._conversations = conversations
        self._replier = replier

    def start_session(self) -> Response:
        """Start a session; with a message, answer it too."""
        body = self._body(schemas.start_body)
        key = self._idempotency_key("start")
        message = _message(body["message"]) if body["message"] else None
        replier = self._replier() if message else None
        content = {**body["data"], self._settings.history_key: [message] if message and not replier else []}
        digest = hashlib.blake2b(codecs.dump(body), digest_size=8).hexdigest()
        # The same key leads to the same session.
        start = self._conversations.start
        session, receipt = start(content, message, ttl=body.get("ttl"), token=key, digest=digest)
        session_id = session.session_id
        if receipt.repeated and not receipt.expires_at_ms:
            raise SessionNotFound(session_id)
        last_seq = 1 if message else 0
        try:
            if message and replier:
                turn = f"{key}/turn" if key else None
                exchange = converse(self._conversations, session_id, message, replier, token=turn)
                receipt = exchange.receipt
                last_seq = max([last_seq, *(found.seq for found in (exchange.message, exchange.reply) if found)])
            if replier or receipt.repeated:
                session = self._loaded(session_id)
        except ConvstoreError as error:
            error.written = True  # the session is
            raise
        shown = self._started_json(session, receipt, last_seq)
        if key:  # what was asked for, whatever has changed since
            shown["data"] = body["data"]
        response = _json(shown, 201, receipt)
        response.headers["Location"] = url_for(".get_session", session_id=session_id)
        return response

    def continue_session(self, session_id: str) -> Response:
        """Add a user's message, and the reply to it."""
        body = self._body(schemas.continue_body)
        token = self._idempotency_key("continue")
        replier = self._replier()
        exchange = converse(
            self._conversations, session_id, _message(body), replier, token=token, expected=self._expected()
        )
        shown = {
            "session_id": session_id,
            "version": exchange.receipt.version,
            "message": self._shown(exchange.message),
            "reply": self._shown(exchange.reply),
        }
        if exchange.previous:
            shown["previous"] = self._shown(exchange.previous)
        return _json(shown, 201, exchange.receipt)

    def get_session(self, session_id: str) -> Response:
        """The session; 304 if the client has this state of it."""
        query = parser.parse(schemas.GET_QUERY, request, location="query")
        session = self._loaded(session_id, query["last"])
        if request.if_match and not request.if_match.contains(_etag(session)):
            raise ConflictError(session_id, "version", expected=None, actual=session.version)
        if request.if_none_match.contains_weak(_etag(session)):
            return _tagged(Response(status=304), session)
        return _json(self._session_json(session), 200, session)

    def delete_session(self, session_id: str) -> Response:
        """Delete the session."""
        receipt = self._conversations.deleted(session_id, expected=self._expected())
        if receipt is None:
            raise SessionNotFound(session_id)
        return _degraded({"status": "deleted"}, 200, receipt.fallback)

    def health(self) -> Response:
        """Whether sessions can be served."""
        health = self._conversations.health(brief=True)
        return _json(health.public(), 200 if health.connected or health.can_start else 503)

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

    def _idempotency_key(self, route: str) -> str | None:
        """A token for what the client calls by a key of its own: 32 hexadecimal digits, for this route and owner only."""
        key = request.headers.get("Idempotency-Key")
        if key is None:
            return None
        owner = self._conversations.caller()
        check_name(key, "Idempotency-Key")
        if route == "start" and not isinstance(owner, str) and not _is_uuid(key):
            # The session's id is made from it, and without an owner the id is all that protects the session.
            raise InvalidInput("without an owner it must be a UUID; nothing was written", "Idempotency-Key")
        scope = f"{route}\n{owner if isinstance(owner, str) else ''}\n{key}"
        return hashlib.blake2b(scope.encode(), digest_size=16).hexdigest()

    def _expected(self) -> str:
        """The state that If-Match asks for; "" any."""
        tags = list(request.if_match)
        if request.if_match.star_tag or not request.headers.get("If-Match"):
            return ""
        if len(tags) != 1 or not re.fullmatch(r"\d{1,16}-\d{1,16}", tags[0]):
            return "0-0"  # none of ours, weak, or several: no state is this
        return tags[0]

    def _shown(self, message: Message | None) -> dict[str, Any] | None:
        return schemas.message_json(message) if message and schemas.is_visible(message, self._settings) else None

    def _started_json(self, session: AnySession, receipt: Receipt, last_seq: int) -> dict[str, Any]:
        """A session as its start left it, whatever came since: a repeated start gets the first answer."""
        shown = self._session_json(session)
        shown.update(
            version=receipt.version,
            updated_at=schemas.timestamp(as_datetime(receipt.updated_at_ms)),
            expires_at=schemas.timestamp(as_datetime(receipt.updated_at_ms + receipt.lifetime_ms)),
            message_count=last_seq,
            history=[message for message in shown["history"] if message["seq"] <= last_seq],
        )
        return shown

    def _session_json(self, session: AnySession) -> dict[str, Any]:
        settings = self._settings
        history = [
            schemas.message_json(message) for message in session.messages if schemas.is_visible(message, settings)
        ]
        return schemas.session_json(session, history, self._conversations.data_of(session))


def _is_uuid(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True


def _message(body: dict[str, Any]) -> Message:
    return Message({"role": body["role"], "content": body["content"]}, body["metadata"])


def _json(value: dict[str, Any], status: int, state: AnySession | Receipt | None = None) -> Response:
    if state is None:
        return _degraded(value, status, None)
    return _tagged(_degraded(value, status, state.fallback), state)


def _degraded(value: dict[str, Any], status: int, fallback: str | None) -> Response:
    """*value* as JSON, marked if the *fallback* gave it."""
    shown = {**value, "degraded": True} if fallback else value
    response = Response(codecs.dump(shown), status, mimetype="application/json")
    if fallback:
        response.headers["Convstore-Degraded"] = fallback
    return response


def _tagged(response: Response, state: AnySession | Receipt) -> Response:
    """*response* with the headers that name a session's state and its end."""
    response.set_etag(_etag(state))
    response.headers["Cache-Control"] = "private, no-cache"  # one person's; to be asked for again each time
    expires_at = as_datetime(state.expires_at_ms) if isinstance(state, Receipt) else state.expires_at
    response.headers["Convstore-Expires-At"] = schemas.timestamp(expires_at)
    if isinstance(state, Receipt):
        response.headers["Convstore-Level"] = state.level
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
    if isinstance(error, ConflictError) and error.what == "version" and not error.is_field and request.if_match:
        status, slug, title = 412, "precondition-failed", "The session is not in the state that If-Match names"
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
    elif isinstance(error, SessionMoved):
        body["session_id"] = error.moved_to
    elif isinstance(error, TooLarge):
        body.update(limit=error.limit, size=error.size)
    if status >= 500:
        _log.error("%s %s: %s", request.method, request.endpoint, error)
    response = Response(codecs.dump(body), status, mimetype="application/problem+json")
    if isinstance(error, TurnInProgress):
        response.headers["Retry-After"] = str(max(1, error.retry_after_ms // 1000))
    elif isinstance(error, StoreUnavailable):
        response.headers["Retry-After"] = str(_RETRY_AFTER_SECONDS)
    return response
