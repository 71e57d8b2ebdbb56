"""The shapes of what HTTP answers, as JSON Schema: the components of the document."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ...domain.validation import MAX_NAME

Json = dict[str, Any]

CONTROL = "\\u0000-\\u001f\\u007f-\\u009f"
"""Control characters, as a class of characters in a pattern of JSON Schema."""


def ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _object(description: str, properties: Json, *, optional: Iterable[str] = (), **more: Any) -> Json:
    """An object that has these properties, all but the *optional* ones always, and no others."""
    required = [name for name in properties if name not in set(optional)]
    shape = {"type": "object", "description": description, "properties": properties, "required": required}
    return {**shape, "additionalProperties": False, **more}


def _nullable(kind: str, description: str, **more: Any) -> Json:
    return {"type": [kind, "null"], "description": description, **more}


def text(description: str, **more: Any) -> Json:
    return {"type": "string", "description": description, **more}


def whole(description: str, minimum: int = 0, **more: Any) -> Json:
    return {"type": "integer", "description": description, "minimum": minimum, **more}


def time(description: str) -> Json:
    pattern = r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z$"
    return text(f"{description} RFC 3339, UTC.", format="date-time", pattern=pattern)


def _name(description: str, **more: Any) -> Json:
    """As ``checks.check_name`` has it."""
    return text(description, minLength=1, maxLength=MAX_NAME, pattern=f"^[^{CONTROL}]+$", **more)


_DEGRADED: Json = {"const": True, "description": "Only while the store is away: the fallback has answered."}
_SESSION_ID = text("The session's id.")
_VERSION = whole("Counts the writes to the session.", 1)

_SUMMARY: Json = {
    "session_id": _SESSION_ID,
    "version": _VERSION,
    "created_at": time("When it was started."),
    "updated_at": time("When it was last written to."),
    "expires_at": time("When it ends, unless it is used before."),
    "message_count": whole("How many messages it has, shown or not."),
    "title": _nullable("string", "Made of the first message, unless it was set."),
    "tokens": ref("Tokens"),
}
_MOVED: Json = {"moved_to": text("Where the conversation goes on, if it was compacted: another session's id.")}
_DATA: Json = {"data": {"type": "object", "description": "The app's own fields.", "additionalProperties": True}}
_HISTORY: Json = {"history": {"type": "array", "description": "Messages, oldest first.", "items": ref("Message")}}
_MAYBE_MESSAGE: Json = {"anyOf": [ref("Message"), {"type": "null"}]}

COMPONENTS: dict[str, Json] = {
    "Value": {
        "description": "Any JSON value that can be stored: integers have 64 bits, and nothing nests deeper than 100 levels.",
        "type": ["object", "array", "string", "number", "boolean", "null"],
        "minimum": -(2**63),
        "maximum": 2**64 - 1,
        "items": ref("Value"),
        "additionalProperties": ref("Value"),
    },
    "Content": {
        "description": "A text, or the parts of a multimodal message.",
        "anyOf": [
            {"type": "string"},
            {
                "type": "array",
                "minItems": 1,
                "items": {
                    "type": "object",
                    "properties": {"type": {"type": "string"}},
                    "required": ["type"],
                    "additionalProperties": ref("Value"),
                },
            },
        ],
    },
    "Tokens": _object(
        "What messages cost, in tokens of a model, as far as that was told.",
        {"input": whole("Tokens read."), "output": whole("Tokens written.")},
    ),
    "Message": {
        "type": "object",
        "description": "A message's body, with what is known about it; those names win over the body's.",
        "properties": {
            "id": text("Made of its seq.", pattern=r"^msg-\d+$"),
            "seq": whole("Its number in the session, never used again.", 1),
            "role": {"description": "Who says it: user, assistant, …"},
            "content": {"description": "What it says: a text, or parts."},
            "created_at": time("When it was accepted."),
            "edited_at": time("When its content was last replaced."),
            "metadata": {
                "description": "What was given beside the body.",
                "type": "object",
                "additionalProperties": True,
            },
            "status": text("How its turn or its content ended, if not as usual: unanswered, failed, redacted, …"),
            "tokens": ref("Tokens"),
        },
        "required": ["id", "seq", "created_at"],
        "additionalProperties": True,
    },
    "Session": _object(
        "A session.",
        {**_SUMMARY, **_MOVED, **_DATA, **_HISTORY, "degraded": _DEGRADED},
        optional=("tokens", "moved_to", "degraded"),
    ),
    "Updated": _object(
        "A session without its history.",
        {**_SUMMARY, **_MOVED, **_DATA, "degraded": _DEGRADED},
        optional=("tokens", "moved_to", "degraded"),
    ),
    "Summary": _object("A session as a list shows it.", _SUMMARY, optional=("tokens",)),
    "Sessions": _object(
        "A page of sessions.",
        {
            "sessions": {"type": "array", "description": "By their last interaction.", "items": ref("Summary")},
            "next": _nullable("string", "The next page's `cursor`; null: there is none."),
        },
    ),
    "Messages": _object(
        "A page of messages.",
        {
            "messages": {"type": "array", "description": "Oldest first.", "items": ref("Message")},
            "next": _nullable("integer", "The `before` of the page before this one; null: there is none.", minimum=1),
            "degraded": _DEGRADED,
        },
        optional=("degraded",),
    ),
    "Exchange": _object(
        "A message and the reply to it.",
        {
            "session_id": _SESSION_ID,
            "version": _VERSION,
            "message": {**_MAYBE_MESSAGE, "description": "Null if clients do not see messages of its role."},
            "reply": {**_MAYBE_MESSAGE, "description": "Null if there is none, or clients do not see it."},
            "previous": {**_MAYBE_MESSAGE, "description": "The message before, if its turn was cut short."},
            "degraded": _DEGRADED,
        },
        optional=("previous", "degraded"),
    ),
    "Changed": _object(
        "A message as it is now.",
        {
            "session_id": _SESSION_ID,
            "version": _VERSION,
            "message": {**_MAYBE_MESSAGE, "description": "Null if clients do not see messages of its role."},
            "degraded": _DEGRADED,
        },
        optional=("degraded",),
    ),
    "Deleted": _object(
        "The session is gone.", {"status": {"const": "deleted"}, "degraded": _DEGRADED}, optional=("degraded",)
    ),
    "DeletedAll": _object(
        "What was deleted.",
        {
            "deleted": whole("How many sessions."),
            "complete": {"type": "boolean", "description": "False: there are more; ask again."},
        },
    ),
    "Imported": _object("What was taken in.", {"imported": whole("How many sessions; those that were there are not.")}),
    "Exported": {
        "type": "object",
        "description": "A session with all that is known about it: a line of an export.",
        "properties": {
            "session_id": _name("The session's id."),
            "created_at_ms": whole("When it was started, milliseconds since 1970."),
            "updated_at_ms": whole("When it was last written to."),
            "shape": {"enum": ["full", "data", "list"], "description": "How the app has saved it."},
            "title": _nullable("string", "Its title."),
            "ttl_ms": _nullable("integer", "Its own lifetime, if it has one.", minimum=1),
            "tokens": ref("Tokens"),
            "data": {"type": "object", "description": "The app's own fields.", "additionalProperties": ref("Value")},
            "messages": {
                "type": "array",
                "description": "Oldest first.",
                "items": {
                    "type": "object",
                    "properties": {
                        "seq": whole("Its number.", 1),
                        "created_at_ms": whole("When it was accepted."),
                        "body": ref("Value"),
                    },
                    "required": ["created_at_ms", "body"],
                    "additionalProperties": True,
                },
            },
            "cursor": text("After every hundredth session: where an interrupted export goes on."),
        },
        "required": ["session_id", "shape", "data", "messages"],
        "additionalProperties": True,
    },
    "Health": _object(
        "Whether sessions can be served.",
        {
            "connected": {"type": "boolean", "description": "The store answers."},
            "latency_ms": _nullable("number", "How long that took; null: it does not.", minimum=0),
            "degraded": {"type": "boolean", "description": "The fallback is serving, or its writes are waiting."},
            "pending": whole("Writes of this host that wait to reach the store."),
        },
    ),
    "Problem": _object(
        "What went wrong (RFC 9457).",
        {
            "type": text("Names the kind of problem.", pattern=r"^urn:convstore:[a-z-]+$"),
            "title": text("The kind, in words."),
            "status": whole("The HTTP status.", 400, maximum=599),
            "detail": text("What happened."),
            "written": {
                "type": ["boolean", "null"],
                "description": "Whether anything was written; null: it cannot be known.",
            },
            "errors": {
                "type": "object",
                "description": "What is wrong, by place.",
                "additionalProperties": {"type": "array", "items": {"type": "string"}},
            },
            "session_id": text("The session that was written to, or in which the conversation goes on."),
            "limit": whole("What is allowed at most."),
            "size": whole("What was given, or it would have become."),
        },
        optional=("errors", "session_id", "limit", "size"),
    ),
    "Document": {
        "type": "object",
        "description": "A document of OpenAPI 3.1.",
        "required": ["openapi", "info", "paths"],
    },
}
