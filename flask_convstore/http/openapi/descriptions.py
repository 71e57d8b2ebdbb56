"""The routes in words and examples, and the links between them. ``http.routes`` has their facts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from ...domain.validation import MAX_NAME
from ..json_schema import Json, Positive, Time, Whole, schema
from ..problems import EXAMPLE_ID, OTHER_EXAMPLE_ID
from ..routes import IDEMPOTENCY_KEY, IF_MATCH, IF_NONE_MATCH, LAST_EVENT_ID

VERSION = "3.1.0"
"""Version of OpenAPI."""

_AT, _LATER, _END = "2026-01-05T09:30:00.000Z", "2026-01-05T09:30:02.125Z", "2026-01-05T10:30:02.125Z"
_ETAG = '"1767605400000-3"'


# ---- headers

_ETAGS = r'^(\*|(W/)?"[!#-~]+"(, ?(W/)?"[!#-~]+")*)$'
_UUID = "^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){2}-[89ABab][0-9A-Fa-f]{3}-[0-9A-Fa-f]{12}$"
_KEY = schema(
    str,
    "Name that the client gives this request. A repeat with the same name changes nothing and gets the first answer.",
    minLength=1,
    maxLength=MAX_NAME,
    pattern="^[!-~]([ -~]*[!-~])?$",
)
KEY_OF_NOBODY = schema(
    str,
    f"{_KEY['description']} Without an owner the name must be a random UUID, since the session's id is made from it.",
    format="uuid",
    pattern=_UUID,
)
GIVEN: dict[str, tuple[Json, str]] = {
    IDEMPOTENCY_KEY: (_KEY, "c0ffee00-9a53-4d0e-8a53-2d6d4c1a7e11"),
    IF_MATCH: (
        schema(str, "Act only if the session is in the state of this `ETag`, or of one of several.", pattern=_ETAGS),
        _ETAG,
    ),
    LAST_EVENT_ID: (
        schema(
            str,
            "Id of the last event that the client has. The events behind it are sent. Behind an id that is not known all "
            "is sent, after `reset` or as a `snapshot`.",
        ),
        "3-2893472817",
    ),
    IF_NONE_MATCH: (schema(str, "Answer 304 if the `ETag` is still this one."), _ETAG),
}
"""Request headers, with an example."""

SHOWN: dict[str, tuple[Json, str]] = {
    "ETag": (schema(str, "Name of the state that is shown.", pattern=r'^"[0-9a-f-]+"$'), _ETAG),
    "Location": (schema(str, "Path of the session."), f"/sessions/{EXAMPLE_ID}"),
    "Convstore-Expires-At": (
        schema(Time, "Time of the session's end, unless the session is used before. RFC 3339, UTC."),
        _END,
    ),
    "Convstore-Level": (schema(str, "Level of the acknowledgement.", pattern=r"^[a-z]+(:\d+)?$"), "primary"),
    "Convstore-Degraded": (schema(str, "Fallback that has answered.", enum=["journal", "memory"]), "journal"),
    "Convstore-Partial": (schema(str, "The store is away and may have more of the session.", enum=["true"]), "true"),
    "Convstore-Size": (schema(Whole, "Bytes of the session's messages and data, as they are stored."), "2048"),
    "Retry-After": (schema(Positive, "Seconds to wait before a retry."), "1"),
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
_IMPORT_EXAMPLE = {
    "imported": 12,
    "complete": True,
    "failed": [{"line": 3, "session_id": EXAMPLE_ID, "detail": "the owner has 50 sessions, and may have no more. …"}],
    "failed_count": 1,
}
_EXPORT_EXAMPLE = (
    f'{{"session_id":"{EXAMPLE_ID}","created_at_ms":1767605400000,"updated_at_ms":1767605402125,"shape":"full:history",'
    '"title":"Hello","ttl_ms":null,"tokens":{"input":0,"output":0},"data":{"name":"Ada"},'
    '"messages":[{"seq":1,"created_at_ms":1767605400000,"body":{"role":"user","content":"Hello"}}]}\n'
)


class Answer(NamedTuple):
    """A successful answer of a route.

    Attributes:
        headers: Names of response headers, separated by spaces. A ``?`` follows the name of a header that may be absent.
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
        links: Names in ``LINKS`` of the links from the answers to other operations.
    """

    summary: str
    description: str
    answers: tuple[Answer, ...]
    example: Any = None
    links: tuple[str, ...] = ()


_STATE = "ETag Convstore-Expires-At Convstore-Size? Convstore-Degraded? Convstore-Partial?"
_OF_NEW = ("get", "unchanged", "update", "delete", "continue", "messages", "compact", "fork")

EVENTS_EXAMPLE = (
    'retry: 2000\n\nid: 2-2893472817\nevent: delta\ndata: {"turn":"msg-2","content":"On its"}\n\n'
    'id: 3-2893472817\nevent: done\ndata: {"turn":"msg-2","status":"complete"}\n\n'
)
"""Some events of a reply."""

OPERATIONS: dict[str, Operation] = {
    "start_session": Operation(
        summary="Start a session",
        description="A `message` is answered too. An `alias` always leads to the same session of its owner. The first start "
        "makes this session, and later starts continue it (200).",
        answers=(
            Answer("The new session.", _SESSION_EXAMPLE, f"Location {_STATE} Convstore-Level?"),
            Answer("The session that the alias leads to.", _SESSION_EXAMPLE, f"Location {_STATE}"),
        ),
        example={"data": {"name": "Ada"}, "message": {"content": "Where is my parcel?", "metadata": {"lang": "en"}}},
        links=_OF_NEW,
    ),
    "list_sessions": Operation(
        summary="List the owner's sessions",
        description="Sessions without data and messages, by their last change, or by their last interaction to within a "
        "minute. Listing is no interaction. A session that moves meanwhile may come twice. Oldest first, each comes. A page "
        "may be short or empty. The last page has `next` null. Ask for it with the same `order` and `newest_first`.",
        answers=(Answer("A page.", {"sessions": [_SUMMARY_EXAMPLE], "next": None}),),
        links=("get_first", "messages_first", "next_sessions"),
    ),
    "delete_sessions": Operation(
        summary="Delete all the owner's sessions",
        description="Deletes for five seconds at most. Repeat the request until `complete` is true.",
        answers=(Answer("The result.", {"deleted": 12, "complete": True}),),
    ),
    "health": Operation(
        summary="Tell whether sessions can be served",
        description="The answer is 200 while anything can be served, and 503 when nothing can.",
        answers=(
            Answer("Sessions can be served.", {"connected": True, "latency_ms": 0.21, "degraded": False, "pending": 0}),
            Answer(
                "No session can be served.", {"connected": False, "latency_ms": None, "degraded": False, "pending": 0}
            ),
        ),
    ),
    "openapi": Operation(
        summary="Show this document",
        description="Needs apispec, which the extra `[openapi]` of flask-convstore brings.",
        answers=(
            Answer("The document.", {"openapi": VERSION, "info": {}, "paths": {}}, "ETag"),
            Answer("The client has this document.", None, "ETag"),
        ),
    ),
    "metrics": Operation(
        summary="Show the metrics",
        description="For Prometheus. Only where the setting `METRICS` is on.",
        answers=(Answer("The metrics of all workers.", 'convstore_sessions_started_total{store="convstore"} 12.0'),),
    ),
    "script": Operation(
        summary="Get the browser's half",
        description='A module for pages: `import { Chats } from "…/convstore.js"`.',
        answers=(
            Answer("The module.", "export class Chats {}", "ETag"),
            Answer("The client has this module.", None, "ETag"),
        ),
    ),
    "export_sessions": Operation(
        summary="Export the owner's sessions",
        description="A line of JSON for each session, with everything that clients may see. Exporting is no interaction.",
        answers=(Answer("Lines of JSON.", _EXPORT_EXAMPLE),),
    ),
    "list_events": Operation(
        summary="Follow the list of sessions",
        description="Sends `snapshot` with the owner's newest sessions, then a `change` for each write to a session, and "
        "`deleted`. A client that comes back with the id of its last event gets what it has missed, or a `snapshot`.",
        answers=(
            Answer(
                "The events.",
                f'retry: 2000\n\nid: 7-4\nevent: change\ndata: {{"session_id":"{EXAMPLE_ID}","kind":"messages",'
                '"version":4}\n\n',
            ),
        ),
    ),
    "import_sessions": Operation(
        summary="Import the lines of an export",
        description="Sessions that exist already stay as they are, so that a repeat does no harm. An import takes the "
        "owner's free places, the newest sessions first, and evicts nothing. Each line stands for itself, and the answer "
        "tells which were not imported. Only where no line holds an exported session, the import is refused.",
        answers=(Answer("The result.", _IMPORT_EXAMPLE),),
        example=_EXPORT_EXAMPLE,
    ),
    "current_session": Operation(
        summary="Get the owner's current session",
        description="The session that was made the current one, as `GET` shows it by its id. Moves its lifetime. "
        "404 if there is none, or if it has ended.",
        answers=(
            Answer("The session.", _SESSION_EXAMPLE, _STATE),
            Answer("The client has this state of the session.", None, _STATE),
        ),
        links=_OF_NEW,
    ),
    "set_current_session": Operation(
        summary="Make a session the owner's current one",
        description="Until another one is, or until it ends. Null leaves the owner without one.",
        answers=(Answer("The current session.", {"session_id": EXAMPLE_ID}),),
        example={"session_id": EXAMPLE_ID},
    ),
    "get_session": Operation(
        summary="Get a session",
        description="The session with all its messages, or the last ones. Moves its lifetime.",
        answers=(
            Answer("The session.", _SESSION_EXAMPLE, _STATE),
            Answer("The client has this state of the session.", None, _STATE),
        ),
        links=_OF_NEW,
    ),
    "update_session": Operation(
        summary="Change a session's data, title or lifetime",
        description="Sets the named fields. Null removes a field. Other fields stay.",
        answers=(Answer("The session without its history.", _UPDATED_EXAMPLE, _STATE),),
        example={"data": {"name": "Ada", "city": None}, "title": "The parcel"},
        links=("get",),
    ),
    "delete_session": Operation(
        summary="Delete a session",
        description="Deletes the session with its messages, for good.",
        answers=(Answer("The session is gone.", {"status": "deleted"}, "Convstore-Degraded? Convstore-Partial?"),),
        links=("gone",),
    ),
    "continue_session": Operation(
        summary="Continue a session",
        description="Adds a message and, if the app has a reply handler, the reply. With `Accept: text/event-stream` the "
        "reply comes as a stream of events.",
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
        description="The newest messages, or those before one, or those after one. Oldest first in each page. Moves the "
        "session's lifetime. `next` is the next `before`, or the next `after` where that was asked for.",
        answers=(
            Answer("A page.", {"messages": [_MESSAGE_EXAMPLE, _REPLY_EXAMPLE], "next": None}, _STATE),
            Answer("The client has this state of the session.", None, _STATE),
        ),
        links=("older_messages", "newer_messages", "edit_first", "redact_first"),
    ),
    "drop_messages": Operation(
        summary="Take messages out",
        description="Takes all messages behind one out, as to answer that one anew. The others keep their numbers and ids.",
        answers=(
            Answer(
                "The messages are gone.",
                {"session_id": EXAMPLE_ID, "version": 4, "first_seq": 2},
                f"{_STATE} Convstore-Level",
            ),
        ),
        links=("get",),
    ),
    "edit_message": Operation(
        summary="Replace a message's content",
        description="Only for a message that clients may write. The message keeps its number, its role and its time.",
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
        summary="Remove a message's content",
        description="Removes content, metadata and earlier versions, for good. The message keeps its place and its role.",
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
    "follow_reply": Operation(
        summary="Follow a streamed reply",
        description="Replays the reply whole, or from behind the last event that the client has, and goes on while it is "
        "made. `current` is the reply in progress. A reply that has ended is replayed too. Where the position of the client "
        "is not in this stream, `reset` comes first, and then all events.",
        answers=(
            Answer("The events.", EVENTS_EXAMPLE, "Convstore-Degraded? Convstore-Partial?"),
            Answer("No reply is in progress."),
        ),
    ),
    "stop_reply": Operation(
        summary="Stop a streamed reply",
        description="Stops the reply, in whatever worker it is made. What had come until now is stored. `current` is the "
        "reply in progress. A reply that has ended stays as it is.",
        answers=(
            Answer(
                "The reply as it is stored.",
                {
                    "session_id": EXAMPLE_ID,
                    "version": 3,
                    "status": "stopped",
                    "reply": {**_REPLY_EXAMPLE, "content": "On its", "status": "stopped"},
                },
            ),
        ),
        links=("get",),
    ),
    "session_events": Operation(
        summary="Follow a session",
        description="Sends a `change` for each write to the session, with its `kind` and the session's version, and `ended` "
        "when the session is gone. A client that comes back with the id of its last event gets what it has missed. Else "
        "`snapshot` comes first: read the session again.",
        answers=(
            Answer(
                "The events.",
                f'retry: 2000\n\nid: 1767605400000-3\nevent: change\ndata: {{"session_id":"{EXAMPLE_ID}","kind":"reply",'
                '"version":3,"first_seq":2,"turn":"msg-2"}\n\n',
            ),
        ),
    ),
    "compact_session": Operation(
        summary="Continue in a new session that begins with a summary",
        description="The new session has the data, the owner, the lifetime and the aliases of the old one. The old one "
        "stays readable and refuses messages (409, `moved`).",
        answers=(Answer("The new session.", _NEW_EXAMPLE, f"Location {_STATE}"),),
        example={"summary": "Ada asked for her parcel. The parcel is on its way.", "keep": 10},
        links=_OF_NEW,
    ),
    "fork_session": Operation(
        summary="Fork a session",
        description="Makes a new session with the same data, and with the messages up to `seq`, or all.",
        answers=(Answer("The new session.", _NEW_EXAMPLE, f"Location {_STATE}"),),
        example={"seq": 2},
        links=_OF_NEW,
    ),
}
"""Operations by endpoint. A test compares them with the table of routes."""


class _Link(NamedTuple):
    """Link from an answer to another operation, with the parameters of that operation."""

    endpoint: str
    parameters: dict[str, str]
    description: str


_SAME = {"session_id": "$response.body#/session_id"}
_FIRST = {"session_id": "$response.body#/sessions/0/session_id"}
_ASKED = {"session_id": "$request.path.session_id"}

LINKS: dict[str, _Link] = {
    "get": _Link("get_session", _SAME, "Get the session."),
    "unchanged": _Link(
        "get_session",
        {**_SAME, "header.If-None-Match": "$response.header.ETag"},
        "Get the session if it has changed.",
    ),
    "update": _Link("update_session", {**_SAME, "header.If-Match": "$response.header.ETag"}, "Change the session."),
    "delete": _Link("delete_session", _SAME, "Delete the session."),
    "continue": _Link("continue_session", _SAME, "Continue the session."),
    "messages": _Link("list_messages", _SAME, "Page through the session's messages."),
    "compact": _Link("compact_session", _SAME, "Continue in a new session."),
    "fork": _Link("fork_session", _SAME, "Fork the session."),
    "edit": _Link("edit_message", {**_SAME, "seq": "$response.body#/message/seq"}, "Edit the message."),
    "redact": _Link("redact_message", {**_SAME, "seq": "$response.body#/message/seq"}, "Redact the message."),
    "edit_first": _Link(
        "edit_message", {**_ASKED, "seq": "$response.body#/messages/0/seq"}, "Edit the oldest message of the page."
    ),
    "redact_first": _Link(
        "redact_message", {**_ASKED, "seq": "$response.body#/messages/0/seq"}, "Redact the oldest message of the page."
    ),
    "older_messages": _Link(
        "list_messages",
        {**_ASKED, "query.before": "$response.body#/next"},
        "Get the page before, if `next` is not null.",
    ),
    "newer_messages": _Link(
        "list_messages",
        {**_ASKED, "query.after": "$response.body#/messages/0/seq"},
        "Get the messages after the oldest one of the page.",
    ),
    "get_first": _Link("get_session", _FIRST, "Get the newest session."),
    "messages_first": _Link("list_messages", _FIRST, "Page through the newest session's messages."),
    "next_sessions": _Link(
        "list_sessions", {"query.cursor": "$response.body#/next"}, "Get the next page, if `next` is not null."
    ),
    "gone": _Link("get_session", _ASKED, "Get the session, which is gone."),
}
