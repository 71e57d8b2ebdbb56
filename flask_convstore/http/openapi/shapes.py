"""The components of the OpenAPI document: the declared answers, and a few shapes that no type of ours declares."""

from __future__ import annotations

from ...domain.validation import MAX_NAME
from .. import answers, problems
from ..json_schema import CONTROL, Json, Positive, Whole, component, component_name, ref, schema
from ..routes import EVENT_STREAM

_CLOSED = (
    answers.TokensJson,
    answers.SessionJson,
    answers.UpdatedJson,
    answers.SummaryJson,
    answers.SessionsJson,
    answers.MessagesJson,
    answers.ExchangeJson,
    answers.ChangedJson,
    answers.DroppedJson,
    answers.StoppedJson,
    answers.DeletedJson,
    answers.CurrentJson,
    answers.DeletedAllJson,
    answers.ImportedJson,
    answers.FailedLineJson,
    answers.HealthJson,
    problems.ProblemJson,
)
"""Answers with the declared properties only."""

COMPONENTS: dict[str, Json] = {
    **{component_name(shape): component(shape) for shape in _CLOSED},
    "Message": component(answers.MessageJson, is_open=True),
    "Value": {
        "description": "JSON value that can be stored. Integers have 64 bits, and no body nests deeper than 100 levels.",
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
    "Exported": {
        "type": "object",
        "description": "Line of an export: a session with everything that is known about it.",
        "properties": {
            "session_id": schema(str, "The session's id.", minLength=1, maxLength=MAX_NAME, pattern=f"^[^{CONTROL}]+$"),
            "created_at_ms": schema(Whole, "Time of the start, milliseconds since 1970."),
            "updated_at_ms": schema(Whole, "Time of the last write."),
            "shape": {
                "type": "string",
                "pattern": "^(full(:.+)?|data|list)$",
                "description": "Shape in which the app has saved the session: `full:` and the key of its messages, `data` "
                "(it has none), or `list`.",
            },
            "title": schema(str | None, "Title of the session."),
            "ttl_ms": schema(int | None, "Lifetime of its own, if the session has one.", minimum=1),
            "tokens": ref("Tokens"),
            "data": {"type": "object", "description": "The app's own fields.", "additionalProperties": ref("Value")},
            "messages": {
                "type": "array",
                "description": "Oldest first.",
                "items": {
                    "type": "object",
                    "properties": {
                        "seq": schema(Positive, "Number of the message."),
                        "id": schema(str, "Id that the message was given.", minLength=1, maxLength=MAX_NAME),
                        "created_at_ms": schema(Whole, "Time of acceptance."),
                        "body": ref("Value"),
                    },
                    "required": ["created_at_ms", "body"],
                    "additionalProperties": True,
                },
            },
            "next_seq": schema(Positive, "Number of the next message."),
            "cursor": schema(
                str, "Place where an interrupted export continues. Present after every hundredth session."
            ),
        },
        "required": ["session_id", "shape", "data", "messages"],
        "additionalProperties": True,
    },
    "Events": {  # without a type: some readers take the whole for it, others each event
        "description": "Server-sent events. Each has an id, a name, and a JSON object.",
        "contentMediaType": EVENT_STREAM,
    },
    "Script": {"type": "string", "description": "An ES module."},
    "Metrics": {"type": "string", "description": "Metrics in the text format of Prometheus."},
    "Document": {
        "type": "object",
        "description": "A document of OpenAPI 3.1.",
        "required": ["openapi", "info", "paths"],
    },
}
