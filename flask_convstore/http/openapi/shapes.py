"""The components of the OpenAPI document: the declared answers, and the few shapes that no type of ours declares."""

from __future__ import annotations

from ...domain.validation import MAX_NAME
from .. import answers, problems
from ..json_schema import CONTROL, Json, Positive, Whole, component, component_name, ref, schema

_CLOSED = (
    answers.TokensJson,
    answers.SessionJson,
    answers.UpdatedJson,
    answers.SummaryJson,
    answers.SessionsJson,
    answers.MessagesJson,
    answers.ExchangeJson,
    answers.ChangedJson,
    answers.DeletedJson,
    answers.DeletedAllJson,
    answers.ImportedJson,
    answers.HealthJson,
    problems.ProblemJson,
)
"""Answers that have no other properties than the declared ones."""

COMPONENTS: dict[str, Json] = {
    **{component_name(shape): component(shape) for shape in _CLOSED},
    "Message": component(answers.MessageJson, is_open=True),
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
    "Exported": {
        "type": "object",
        "description": "A session with all that is known about it: a line of an export.",
        "properties": {
            "session_id": schema(str, "The session's id.", minLength=1, maxLength=MAX_NAME, pattern=f"^[^{CONTROL}]+$"),
            "created_at_ms": schema(Whole, "When it was started, milliseconds since 1970."),
            "updated_at_ms": schema(Whole, "When it was last written to."),
            "shape": {"enum": ["full", "data", "list"], "description": "How the app has saved it."},
            "title": schema(str | None, "Its title."),
            "ttl_ms": schema(int | None, "Its own lifetime, if it has one.", minimum=1),
            "tokens": ref("Tokens"),
            "data": {"type": "object", "description": "The app's own fields.", "additionalProperties": ref("Value")},
            "messages": {
                "type": "array",
                "description": "Oldest first.",
                "items": {
                    "type": "object",
                    "properties": {
                        "seq": schema(Positive, "Its number."),
                        "created_at_ms": schema(Whole, "When it was accepted."),
                        "body": ref("Value"),
                    },
                    "required": ["created_at_ms", "body"],
                    "additionalProperties": True,
                },
            },
            "cursor": schema(str, "After every hundredth session: where an interrupted export goes on."),
        },
        "required": ["session_id", "shape", "data", "messages"],
        "additionalProperties": True,
    },
    "Document": {
        "type": "object",
        "description": "A document of OpenAPI 3.1.",
        "required": ["openapi", "info", "paths"],
    },
}
