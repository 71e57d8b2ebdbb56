"""Every route of the blueprint in words and tables: what it is for, takes, answers and refuses, and where it leads to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from ...domain.validation import MAX_NAME
from ..json_schema import Json, Positive, Time, schema
from ..problems import EXAMPLE_ID, OTHER_EXAMPLE_ID
from ..routes import IDEMPOTENCY_KEY, IF_MATCH, IF_NONE_MATCH

VERSION = "3.1.0"
"""Of OpenAPI."""

_AT, _LATER, _END = "2026-01-05T09:30:00.000Z", "2026-01-05T09:30:02.125Z", "2026-01-05T10:30:02.125Z"
_ETAG = '"1767605400000-3"'


# ---- headers

_UUID = "^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$"
_KEY = schema(
    str,
    "The client's own name for this request: repeating the request with it changes nothing and gets the first answer.",
    minLength=1,
    maxLength=MAX_NAME,
    pattern="^[!-~]([ -~]*[!-~])?$",
)
KEY_OF_NOBODY = schema(
    str,
    f"{_KEY['description']} Without an owner it must be a UUID: the session's id is made of it.",
    format="uuid",
    pattern=_UUID,
)
GIVEN: dict[str, tuple[Json, str]] = {
    IDEMPOTENCY_KEY: (_KEY, "c0ffee00-9a53-4d0e-8a53-2d6d4c1a7e11"),
    IF_MATCH: (schema(str, "Only if the session is in the state that this `ETag` names."), _ETAG),
    IF_NONE_MATCH: (schema(str, "304 if the session is still in the state that this `ETag` names."), _ETAG),
}
"""Request headers, with an example."""

SHOWN: dict[str, tuple[Json, str]] = {
    "ETag": (schema(str, "Names the session's state.", pattern=r'^"\d+-\d+"$'), _ETAG),
    "Location": (schema(str, "Where the session is."), f"/sessions/{EXAMPLE_ID}"),
    "Convstore-Expires-At": (schema(Time, "When the session ends, unless it is used before. RFC 3339, UTC."), _END),
    "Convstore-Level": (schema(str, "What the acknowledgement is worth.", pattern=r"^[a-z]+(:\d+)?$"), "primary"),
    "Convstore-Degraded": (schema(str, "Which fallback has answered.", enum=["journal", "memory"]), "journal"),
    "Retry-After": (schema(Positive, "Seconds after which to try again."), "1"),
}
"""Response headers, with an example."""


# ---- operations

_MESSAGE_EXAMPLE: Json = {
    "id": "msg-1",
    "seq": 1,
    "role": "user",
    "content": "Where is my parcel?",
    "created_at": _AT,
    "metadata": {"lang": "en"},
}
_REPLY_EXAMPLE: Json = {
    "id": "msg-2",
    "seq": 2,
    "role": "assistant",
    "content": "On its way.",
    "created_at": _LATER,
}
_SUMMARY_EXAMPLE: Json = {
    "session_id": EXAMPLE_ID,
    "version": 3,
    "created_at": _AT,
    "updated_at": _LATER,
    "expires_at": _END,
    "message_count": 2,
    "title": "Where is my parcel?",
}
_UPDATED_EXAMPLE: Json = {**_SUMMARY_EXAMPLE, "data": {"name": "Ada"}}
_SESSION_EXAMPLE: Json = {**_UPDATED_EXAMPLE, "history": [_MESSAGE_EXAMPLE, _REPLY_EXAMPLE]}
_NEW_EXAMPLE: Json = {**_SESSION_EXAMPLE, "session_id": OTHER_EXAMPLE_ID, "version": 1}
_EXPORT_EXAMPLE = (
    f'{{"session_id":"{EXAMPLE_ID}","created_at_ms":1767605400000,"updated_at_ms":1767605402125,"shape":"full",'
    '"title":"Hello","ttl_ms":null,"tokens":{"input":0,"output":0},"data":{"name":"Ada"},'
    '"messages":[{"seq":1,"created_at_ms":1767605400000,"body":{"role":"user","content":"Hello"}}]}\n'
)


class Answer(NamedTuple):
    """A successful answer of a route.

    Attributes:
        headers: Names of response headers, separated by spaces. A ``?`` ends the name of a header that may be absent.
    """

    description: str
    example: Any = None
    headers: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """A route in words and examples.

    Attributes:
        answers: One for each status of the route, in its order.
        example: An example of the request's body.
        links: Names in ``LINKS``: the ways from the answers to other operations.
    """

    summary: str
    description: str
    answers: tuple[Answer, ...]
    example: Any = None
    links: tuple[str, ...] = ()


_STATE = "ETag Convstore-Expires-At Convstore-Degraded?"
_OF_NEW = ("get", "unchanged", "update", "delete", "continue", "messages", "compact", "fork")

OPERATIONS: dict[str, Operation] = {
    "start_session": Operation(
        summary="Start a session",
        description="With `message` it is answered too. An `alias` leads to one and the same session of its owner: the "
        "first start makes it, those after it go on with it (200).",
        answers=(
            Answer("The new session.", _SESSION_EXAMPLE, f"Location {_STATE} Convstore-Level?"),
            Answer("The session that the alias leads to.", _SESSION_EXAMPLE, f"Location {_STATE}"),
        ),
        example={"data": {"name": "Ada"}, "message": {"content": "Where is my parcel?", "metadata": {"lang": "en"}}},
        links=_OF_NEW,
    ),
    "list_sessions": Operation(
        summary="List the owner's sessions",
        description="By their last interaction, newest first to within a minute, without data and messages. It is no "
        "interaction. A page may be short, or empty, and not be the last one: that has `next` null.",
        answers=(Answer("A page.", {"sessions": [_SUMMARY_EXAMPLE], "next": None}),),
        links=("get_first", "messages_first", "next_sessions"),
    ),
    "delete_sessions": Operation(
        summary="Delete all the owner's sessions",
        description="As far as five seconds allow; until `complete` is true, ask again.",
        answers=(Answer("What was deleted.", {"deleted": 12, "complete": True}),),
    ),
    "health": Operation(
        summary="Tell whether sessions can be served",
        description="200 while anything can be served, 503 when nothing can.",
        answers=(
            Answer("They can.", {"connected": True, "latency_ms": 0.21, "degraded": False, "pending": 0}),
            Answer("They cannot.", {"connected": False, "latency_ms": None, "degraded": False, "pending": 0}),
        ),
    ),
    "openapi": Operation(
        summary="This document",
        description="It needs apispec: `pip install 'flask-convstore[openapi]'`.",
        answers=(Answer("The document.", {"openapi": VERSION, "info": {}, "paths": {}}),),
    ),
    "export_sessions": Operation(
        summary="Export the owner's sessions",
        description="A line of JSON for each, with all that clients may see. It is no interaction.",
        answers=(Answer("Lines of JSON.", _EXPORT_EXAMPLE),),
    ),
    "import_sessions": Operation(
        summary="Import what an export gave",
        description="Sessions that are there stay as they are, so that repeating the request is harmless.",
        answers=(Answer("What was taken in.", {"imported": 12}),),
        example=_EXPORT_EXAMPLE,
    ),
    "get_session": Operation(
        summary="Get a session",
        description="With its messages, or the last ones of them. Moves its lifetime.",
        answers=(
            Answer("The session.", _SESSION_EXAMPLE, _STATE),
            Answer("The client has this state of it.", None, _STATE),
        ),
        links=_OF_NEW,
    ),
    "update_session": Operation(
        summary="Change a session's data, title or lifetime",
        description="Fields are set one by one, and null removes one; what is not named stays.",
        answers=(Answer("The session without its history.", _UPDATED_EXAMPLE, _STATE),),
        example={"data": {"name": "Ada", "city": None}, "title": "The parcel"},
        links=("get",),
    ),
    "delete_session": Operation(
        summary="Delete a session",
        description="For good.",
        answers=(Answer("It is gone.", {"status": "deleted"}, "Convstore-Degraded?"),),
        links=("gone",),
    ),
    "continue_session": Operation(
        summary="Continue a session",
        description="Adds a message and, where the app has a reply handler, the reply to it.",
        answers=(
            Answer(
                "The message and its reply.",
                {"session_id": EXAMPLE_ID, "version": 3, "message": _MESSAGE_EXAMPLE, "reply": _REPLY_EXAMPLE},
                f"{_STATE} Convstore-Level",
            ),
        ),
        example={"content": "Where is my parcel?", "metadata": {"lang": "en"}},
        links=("get", "edit", "redact", "messages"),
    ),
    "list_messages": Operation(
        summary="Page through a session's messages",
        description="The newest ones, or those before one. Moves the session's lifetime.",
        answers=(
            Answer(
                "A page.",
                {"messages": [_MESSAGE_EXAMPLE, _REPLY_EXAMPLE], "next": None},
                "Convstore-Degraded?",
            ),
        ),
        links=("older_messages", "edit_first", "redact_first"),
    ),
    "edit_message": Operation(
        summary="Replace a message's content",
        description="Of a message that clients may write. It keeps its number, its role and its time.",
        answers=(
            Answer(
                "The message as it is now.",
                {"session_id": EXAMPLE_ID, "version": 4, "message": {**_MESSAGE_EXAMPLE, "edited_at": _LATER}},
                f"{_STATE} Convstore-Level",
            ),
        ),
        example={"content": "Where is my letter?"},
        links=("get",),
    ),
    "redact_message": Operation(
        summary="Remove what a message says",
        description="For good: its content, its metadata and what they were before. Its place and its role stay.",
        answers=(
            Answer(
                "The message as it is now.",
                {
                    "session_id": EXAMPLE_ID,
                    "version": 4,
                    "message": {
                        "id": "msg-1",
                        "seq": 1,
                        "role": "user",
                        "content": "",
                        "created_at": _AT,
                        "edited_at": _LATER,
                        "status": "redacted",
                    },
                },
                f"{_STATE} Convstore-Level",
            ),
        ),
        links=("get",),
    ),
    "compact_session": Operation(
        summary="Go on in a new session that begins with a summary",
        description="It has the data, the owner, the lifetime and the aliases of the old one, which stays readable and "
        "refuses messages (409, `moved`).",
        answers=(Answer("The new session.", _NEW_EXAMPLE, f"Location {_STATE}"),),
        example={"summary": "Ada asked for her parcel; it is on its way.", "keep": 10},
        links=_OF_NEW,
    ),
    "fork_session": Operation(
        summary="Fork a session",
        description="Go on twice: a new session with the same data, and the messages up to `seq`, or all.",
        answers=(Answer("The new session.", _NEW_EXAMPLE, f"Location {_STATE}"),),
        example={"seq": 2},
        links=_OF_NEW,
    ),
}
"""By endpoint; a test holds them against the table of routes."""


class _Link(NamedTuple):
    """A way from an answer to another operation, with what it is asked for."""

    endpoint: str
    parameters: dict[str, str]
    description: str


_SAME = {"session_id": "$response.body#/session_id"}
_FIRST = {"session_id": "$response.body#/sessions/0/session_id"}
_ASKED = {"session_id": "$request.path.session_id"}

LINKS: dict[str, _Link] = {
    "get": _Link("get_session", _SAME, "Get it."),
    "unchanged": _Link(
        "get_session",
        {**_SAME, "header.If-None-Match": "$response.header.ETag"},
        "Get it if it has changed.",
    ),
    "update": _Link("update_session", {**_SAME, "header.If-Match": "$response.header.ETag"}, "Change it."),
    "delete": _Link("delete_session", _SAME, "Delete it."),
    "continue": _Link("continue_session", _SAME, "Continue it."),
    "messages": _Link("list_messages", _SAME, "Page through its messages."),
    "compact": _Link("compact_session", _SAME, "Go on in a new one."),
    "fork": _Link("fork_session", _SAME, "Fork it."),
    "edit": _Link("edit_message", {**_SAME, "seq": "$response.body#/message/seq"}, "Edit the message."),
    "redact": _Link("redact_message", {**_SAME, "seq": "$response.body#/message/seq"}, "Redact the message."),
    "edit_first": _Link("edit_message", {**_ASKED, "seq": "$response.body#/messages/0/seq"}, "Edit the oldest."),
    "redact_first": _Link("redact_message", {**_ASKED, "seq": "$response.body#/messages/0/seq"}, "Redact the oldest."),
    "older_messages": _Link(
        "list_messages", {**_ASKED, "query.before": "$response.body#/next"}, "The page before, if `next` is not null."
    ),
    "get_first": _Link("get_session", _FIRST, "Get the newest."),
    "messages_first": _Link("list_messages", _FIRST, "Page through the newest one's messages."),
    "next_sessions": _Link(
        "list_sessions", {"query.cursor": "$response.body#/next"}, "The next page, if `next` is not null."
    ),
    "gone": _Link("get_session", _ASKED, "It is not there any more."),
}
