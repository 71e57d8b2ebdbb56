"""Errors as HTTP sees them: one table gives their status, and every one is ``application/problem+json`` (RFC 9457)."""

from __future__ import annotations

import logging
import math
from typing import Any

from flask import Response, request

from ..domain import json_text
from ..errors import (
    ConfigurationError,
    ConflictError,
    ConvstoreError,
    CorruptValue,
    CrossOrigin,
    Forbidden,
    InvalidInput,
    InvalidSessionId,
    MessageNotFound,
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
    TurnInProgress,
    TurnLost,
    Unstorable,
)
from .request import BadJson, UnsupportedMediaType

_log = logging.getLogger("flask_convstore")

# status, slug, title, and the detail that clients see where the error's own text is not for them
_PROBLEMS: dict[type[ConvstoreError], tuple[int, str, str, str | None]] = {
    BadJson: (400, "bad-json", "The body is no JSON", None),
    TooDeep: (400, "too-deep", "The body is nested too deep", None),
    OwnerRequired: (401, "owner-required", "An owner is needed", "Log in first."),
    CrossOrigin: (403, "cross-origin", "Not from another site", None),
    Forbidden: (
        403,
        "forbidden",
        "Shared, but not for this",
        "The session is another owner's, who shares it, but not for this.",
    ),
    MessageNotFound: (404, "not-found", "No such message", "There is no such message."),
    SessionNotFound: (404, "not-found", "No such session", "There is no such session, or it has expired."),
    InvalidSessionId: (404, "not-found", "No such session", "There is no such session, or it has expired."),
    TooManySessions: (409, "too-many-sessions", "Too many sessions", None),
    SessionExists: (409, "exists", "There is such a session", None),
    ConflictError: (409, "conflict", "The session was changed meanwhile", None),
    TurnInProgress: (409, "turn-in-progress", "A turn is in progress", None),
    TurnLost: (409, "turn-lost", "The turn was taken over", None),
    SessionMoved: (409, "moved", "The conversation goes on elsewhere", None),
    TooLarge: (413, "too-large", "A limit is passed", None),
    TooManyTurns: (429, "too-many-turns", "Too many turns", None),
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
    NotInstalled: (501, "not-installed", "Not installed", None),
    StoreUnavailable: (503, "unavailable", "The store does not answer", "The store does not answer. Try again later."),
    StoreMisconfigured: (503, "misconfigured", "The store does not answer", "The store cannot be used at present."),
    ConfigurationError: (
        500,
        "misconfigured",
        "The app is not set up",
        "The app is not set up; the server's log says why.",
    ),
    CorruptValue: (500, "corrupt", "The session cannot be read", "What is stored of this session cannot be read."),
}


def problem(error: ConvstoreError) -> Response:
    """An error as ``application/problem+json`` (RFC 9457).

    The blueprint answers so by itself; for your own routes: ``app.register_error_handler(ConvstoreError, problem)``.
    """
    body, retry_after = problem_json(error, if_match=bool(request.headers.get("If-Match")))
    if body["status"] >= 500:
        _log.error("%s %s: %s", request.method, request.endpoint, error)
    response = Response(json_text.dump(body), body["status"], mimetype="application/problem+json")
    if retry_after:
        response.headers["Retry-After"] = str(retry_after)
    return response


def problem_json(error: ConvstoreError, *, if_match: bool) -> tuple[dict[str, Any], int | None]:
    """The body that tells of an error, and the seconds after which to try again, if that helps.

    Args:
        if_match: The request named the state that it is for.
    """
    status, slug, title, detail = next(_PROBLEMS[kind] for kind in type(error).__mro__ if kind in _PROBLEMS)
    if isinstance(error, ConflictError) and error.what == "version" and not error.is_field and if_match:
        status, slug, title = 412, "precondition-failed", "The session is not in the state that If-Match names"
    body = {
        "type": f"urn:convstore:{slug}",
        "title": title,
        "status": status,
        "detail": detail or str(error),
        "written": error.written,
        **error.facts(),
    }
    return body, None if error.retry_after_ms is None else max(1, math.ceil(error.retry_after_ms / 1000))
