"""Errors > HTTP answers: one table gives each error its status.

The text is the error's own, from `errors`. Every error of the blueprint is ``application/problem+json`` (RFC 9457).
The OpenAPI document shows the table's examples.
"""

from __future__ import annotations

import logging
import math
from typing import Annotated, Any, NamedTuple, NotRequired, TypedDict

from flask import Response, current_app, request

from ..domain import json_text
from ..domain.repeats import Repeats
from ..errors import (
    ConfigurationError,
    ConflictError,
    ConvstoreError,
    CorruptValue,
    CrossOrigin,
    Forbidden,
    InvalidInput,
    InvalidSessionId,
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
    TooManySessions,
    TooManyTurns,
    TooSlow,
    TurnInProgress,
    TurnLost,
    Unstorable,
    message_too_large,
)
from .etags import BadEtag
from .json_schema import Whole

_log = logging.getLogger("flask_convstore")

PROBLEM = "application/problem+json"
"""Media type of every error."""

UNCACHED = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
"""Headers of every answer that no cache may keep, and of which no browser may guess the type."""

EXAMPLE_ID = "0b9f6d0c-58b4-4d0e-9a53-2d6d4c1a7e11"
OTHER_EXAMPLE_ID = "c1f0a7de-30f5-4a1c-8e7b-6d1f6a2b9c45"
"""Ids of sessions in examples."""


class ProblemJson(TypedDict):
    """Error of a request (RFC 9457)."""

    type: Annotated[str, "Name of the kind of problem.", {"pattern": r"^urn:convstore:[a-z-]+$"}]
    title: Annotated[str, "The kind of problem in words."]
    status: Annotated[int, "HTTP status.", {"minimum": 400, "maximum": 599}]
    detail: Annotated[str, "Explanation of this occurrence."]
    written: Annotated[bool | None, "True if something was written, false if nothing was. Null if nobody can know."]
    errors: NotRequired[Annotated[dict[str, list[str]], "Reasons, by place in the request."]]
    session_id: NotRequired[Annotated[str, "Session that was written to, or in which the conversation continues."]]
    limit: NotRequired[Annotated[Whole, "Largest size that is allowed."]]
    size: NotRequired[Annotated[Whole, "Size that was given, or that would have come about."]]


class BadJson(ConvstoreError):
    """The body is no JSON."""


class UnsupportedMediaType(ConvstoreError):
    """The body's ``Content-Type`` is not JSON."""


class InvalidRequest(InvalidInput):
    """The body or the query does not have the right form.

    Attributes:
        errors: Sentences for each place, as in ``{"message.content": ["Missing data …"]}``.
    """

    def __init__(self, errors: dict[str, list[str]]) -> None:
        self.errors = errors
        super().__init__("; ".join(f"{place}: {' '.join(reasons)}" for place, reasons in errors.items()))

    def facts(self) -> dict[str, Any]:
        return {"errors": self.errors}


class Problem(NamedTuple):
    """An error as HTTP shows it.

    Attributes:
        example: An error of the class that this row is for. Subclasses without a row of their own share the row.
        slug: Last word of the problem's ``type``.
        detail: Text for clients. None shows the error's own text, which may name keys or servers.
        label: Name of the example in the OpenAPI document. Empty for the slug.
    """

    example: ConvstoreError
    status: int
    slug: str
    title: str
    detail: str | None = None
    label: str = ""


_NO_SESSION = "No such session", "There is no such session, or it has expired."

_ROWS = (
    Problem(
        BadJson(
            "the body is no JSON: line 1 column 2: Expecting property name enclosed in double quotes. Nothing was written."
        ),
        400,
        "bad-json",
        "The body is no JSON",
    ),
    Problem(
        TooDeep("nested deeper than 100 levels, or contains itself. Nothing was written."),
        400,
        "too-deep",
        "The body is nested too deep",
    ),
    Problem(
        BadEtag('If-Match must be * or ETags in double quotes, such as "1767605400000-3". Nothing was written.'),
        400,
        "bad-etag",
        "The header is no list of ETags",
    ),
    Problem(OwnerRequired(), 401, "owner-required", "An owner is needed", "Log in first."),
    Problem(CrossOrigin("https://other.example"), 403, "cross-origin", "Not from another site"),
    Problem(
        Forbidden(EXAMPLE_ID),
        403,
        "forbidden",
        "Shared, but not for this",
        "The session belongs to another owner, who does not share it for this.",
    ),
    Problem(
        MessageNotFound(EXAMPLE_ID, 7),
        404,
        "not-found",
        "No such message",
        "There is no such message.",
        label="no-message",
    ),
    Problem(SessionNotFound(EXAMPLE_ID), 404, "not-found", *_NO_SESSION),
    Problem(
        InvalidSessionId("'health' is reserved for a route. Nothing was written.", "session_id"),
        404,
        "not-found",
        *_NO_SESSION,
    ),
    Problem(TooManySessions(50), 409, "too-many-sessions", "Too many sessions"),
    Problem(SessionExists(EXAMPLE_ID), 409, "exists", "There is such a session"),
    Problem(
        ConflictError(EXAMPLE_ID, "message", expected=None, actual=4),
        409,
        "conflict",
        "The session was changed meanwhile",
    ),
    Problem(
        NothingToReplace(EXAMPLE_ID, 7), 409, "nothing-to-replace", "The message that was to give way is not there"
    ),
    Problem(MessageIdReused("my-message-7"), 409, "id-reused", "The session has another message with that id"),
    Problem(TurnInProgress(EXAMPLE_ID, 12_000), 409, "turn-in-progress", "A turn is in progress"),
    Problem(TurnLost(EXAMPLE_ID), 409, "turn-lost", "The turn was taken over"),
    Problem(SessionMoved(EXAMPLE_ID, OTHER_EXAMPLE_ID), 409, "moved", "The conversation continues elsewhere"),
    Problem(message_too_large(1_048_576, 2_000_000), 413, "too-large", "A limit is passed"),
    Problem(
        UnsupportedMediaType("the body must be application/json, not text/plain. Nothing was written."),
        415,
        "unsupported-media-type",
        "The body must be JSON",
    ),
    Problem(InvalidInput("Missing data for required field.", "content"), 422, "invalid", "The request is not valid"),
    Problem(TooManyTurns(4_200), 429, "too-many-turns", "Too many turns"),
    Problem(
        Unstorable("a value cannot be stored"),
        500,
        "not-stored",
        "The session was not saved",
        "A value cannot be stored. The server's log says why.",
    ),
    Problem(
        CorruptValue("chat:session", "its history cannot be read"),
        500,
        "corrupt",
        "The session cannot be read",
        "The stored session cannot be read. It can be deleted.",
    ),
    Problem(
        ConfigurationError(["CONVSTORE_ANONYMOUS_OWNER signs a cookie: set SECRET_KEY"]),
        500,
        "misconfigured",
        "The app is not set up",
        "The app is not set up. The server's log says why.",
    ),
    Problem(
        NotInstalled("this needs apispec: install it, or the extra [openapi] of flask-convstore"),
        501,
        "not-installed",
        "Not installed",
    ),
    Problem(
        ReplyFailed(EXAMPLE_ID, "the reply handler raised"),
        502,
        "reply-failed",
        "No reply",
        "The reply failed. The server's log says why. The message is stored.",
    ),
    Problem(
        StoreUnavailable("no answer in time", written=False),
        503,
        "unavailable",
        "The store does not answer",
        "The store does not answer. Try again later.",
    ),
    Problem(
        TooSlow("the session is too large for the time of a call", written=False),
        503,
        "too-slow",
        "Too much for the time of a request",
        "The session is too large for this. Ask for its newest messages by ?last=, and for the others page by page. "
        "Import fewer sessions at a time.",
    ),
    Problem(
        StoreMisconfigured("the server refuses us"),
        503,
        "misconfigured",
        "The store does not answer",
        "The store cannot be used for now.",
    ),
)

PROBLEMS: dict[type[ConvstoreError], Problem] = {type(row.example): row for row in _ROWS}
"""Every class of errors that is a problem of its own."""

PRECONDITION_FAILED = Problem(
    ConflictError(EXAMPLE_ID, "version", expected=2, actual=3),
    412,
    "precondition-failed",
    "The session is not in the state that If-Match names",
)
"""A ``ConflictError`` about the version, where the request has sent ``If-Match``."""


def problem(error: ConvstoreError) -> Response:
    """Show an error as ``application/problem+json`` (RFC 9457).

    The blueprint does so by itself. For your own routes: ``app.register_error_handler(ConvstoreError, problem)``. Without
    that line they are answered so while the store is away only.
    """
    body, retry_after = problem_json(error, if_match=bool(request.headers.get("If-Match")))
    if body["status"] >= 500:
        _tell(error)
    return response_of(body, retry_after)


def _tell(error: ConvstoreError) -> None:
    """Log an error. Those of an outage repeat: of each route one in ten seconds is told, and the others are counted."""
    left_out: int | None = 0
    if isinstance(error, (StoreUnavailable, StoreMisconfigured)):
        told: Repeats = current_app.extensions.setdefault(_TOLD, Repeats())
        left_out = told.left_out((request.endpoint, type(error)))
    if left_out is not None:
        more = f" {left_out} more were not logged." if left_out else ""
        _log.error("%s %s: %s%s", request.method, request.endpoint, error, more)


_TOLD = "convstore.problems"
"""Key of the errors that an app has logged of late, in ``app.extensions``."""


def response_of(body: dict[str, Any], retry_after: int | None) -> Response:
    """Make the response with a *body* of ``problem_json``, and the seconds after which a retry helps."""
    response = Response(json_text.dump(body), body["status"], UNCACHED, mimetype=PROBLEM)
    if retry_after:
        response.headers["Retry-After"] = str(retry_after)
    return response


def problem_json(error: ConvstoreError, *, if_match: bool) -> tuple[dict[str, Any], int | None]:
    """Make the body for an error, and find the seconds after which a retry helps, if one does.

    Args:
        if_match: The request has sent ``If-Match``.
    """
    found = _problem_of(error, if_match)
    body: ProblemJson = {
        "type": f"urn:convstore:{found.slug}",
        "title": found.title,
        "status": found.status,
        "detail": found.detail or str(error),
        "written": error.written,
    }
    retry_after = None if error.retry_after_ms is None else max(1, math.ceil(error.retry_after_ms / 1000))
    return {**body, **error.facts()}, retry_after


def _problem_of(error: ConvstoreError, if_match: bool) -> Problem:
    if if_match and isinstance(error, ConflictError) and error.what == "version" and not error.is_field:
        return PRECONDITION_FAILED
    return next(PROBLEMS[kind] for kind in type(error).__mro__ if kind in PROBLEMS)
