"""JSON > values: the forms of bodies and queries, as marshmallow takes them.

A field's ``metadata`` is what JSON Schema says of it beyond marshmallow, so that the OpenAPI document needs no second list.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from marshmallow import Schema, ValidationError, fields, validate

from ..config import Settings
from ..domain.messages import Message
from ..domain.validation import MAX_NAME, MAX_SEQ
from ..sessions.content import MAX_FIELDS
from .json_schema import CONTROL, Json, ref


class _Whole(fields.Integer):
    """A whole number of JSON, 5.0 among them, or one in a query: digits, and a sign perhaps."""

    def _validated(self, value: Any) -> int:
        if isinstance(value, str) and not re.fullmatch(r"-?[0-9]{1,4000}", value):
            raise self.make_error("invalid")
        whole: int = super()._validated(int(value) if isinstance(value, float) and value.is_integer() else value)
        return whole


def _said(description: str, **keywords: Any) -> Json:
    return {"description": description, **keywords}


# ---- queries


def _limit() -> _Whole:
    metadata = _said("How many at most.")
    return _Whole(load_default=50, validate=validate.Range(min=1, max=1000), metadata=metadata)


def _cursor() -> fields.String:
    metadata = _said("`next` of the page before, or `cursor` of an export's line: go on there.", format="cursor")
    return fields.String(load_default=None, validate=validate.Length(min=1, max=1000), metadata=metadata)


GET_QUERY = Schema.from_dict(
    {
        "last": _Whole(
            load_default=None, validate=validate.Range(min=0), metadata=_said("Only so many of its newest messages.")
        )
    },
    name="GetQuery",
)()
"""``?last=k``: only the k newest messages."""

MESSAGES_QUERY = Schema.from_dict(
    {
        "before": _Whole(
            load_default=None,
            validate=validate.Range(min=1, max=MAX_SEQ),
            metadata=_said("Only messages with a lower `seq`."),
        ),
        "limit": _limit(),
    },
    name="MessagesQuery",
)()
"""``?before=seq&limit=n``."""

LIST_QUERY = Schema.from_dict({"cursor": _cursor(), "limit": _limit()}, name="ListQuery")()
"""``?cursor=&limit=n``."""

EXPORT_QUERY = Schema.from_dict({"cursor": _cursor()}, name="ExportQuery")()
"""``?cursor=``."""


# ---- bodies


def _check_content(content: object) -> None:
    """A text, or the parts of a multimodal message: objects that name their type."""
    if isinstance(content, str):
        return
    parts = content if isinstance(content, list) else []
    if not parts or not all(isinstance(part, dict) and isinstance(part.get("type"), str) for part in parts):
        raise ValidationError("Not a text, nor a list of objects with a type.")


def _content() -> fields.Raw:
    return fields.Raw(required=True, validate=_check_content, metadata={**ref("Content"), **_said("What it says.")})


def _metadata(settings: Settings) -> fields.Dict:
    """A message's metadata. Their depth is checked with the whole message."""
    description = f"What else is known about it; {settings.max_metadata_depth} levels deep at most."
    metadata = _said(description, type=["object", "null"], additionalProperties=ref("Value"))
    return fields.Dict(load_default=None, metadata=metadata)


@lru_cache
def continue_body(settings: Settings) -> Schema:
    """A user's message: ``{content, role?, metadata?}``."""
    message: dict[str, fields.Field[Any]] = {
        "role": fields.String(
            load_default=first_role(settings),
            validate=validate.OneOf(settings.client_roles),
            metadata=_said("Who says it."),
        ),
        "content": _content(),
        "metadata": _metadata(settings),
    }
    return Schema.from_dict(message, name="Continue")()


@lru_cache
def edit_body(settings: Settings) -> Schema:
    """A message's new content: ``{content, metadata?}``."""
    return Schema.from_dict({"content": _content(), "metadata": _metadata(settings)}, name="Edit")()


@lru_cache
def start_body(settings: Settings) -> Schema:
    """A new session: ``{data?, message?}``, and ``ttl`` (seconds) where clients may set it."""
    session: dict[str, fields.Field[Any]] = {
        "data": _Data(settings, load_default=dict),
        "message": fields.Nested(continue_body(settings), load_default=None, metadata=_said("The first message.")),
        "alias": fields.String(
            load_default=None,
            validate=validate.Length(min=1, max=MAX_NAME),
            metadata=_said("An outside id of the conversation, such as `telegram:123`.", pattern=f"^[^{CONTROL}]+$"),
        ),
        **_ttl(settings),
    }
    return Schema.from_dict(session, name="Start")()


@lru_cache
def update_body(settings: Settings) -> Schema:
    """What is changed of a session: ``{data?, title?}``, and ``ttl`` (seconds) where clients may set it."""
    changed: dict[str, fields.Field[Any]] = {
        "data": _Data(settings),
        "title": fields.String(
            allow_none=True,
            validate=validate.Length(max=MAX_NAME),
            metadata=_said("Empty or null: none.", pattern=f"^[^{CONTROL}]*$"),
        ),
        **_ttl(settings),
    }
    return Schema.from_dict(changed, name="Update")()


@lru_cache
def compact_body(settings: Settings) -> Schema:
    """``{summary, keep?}``: how the new session begins, and how many messages come along."""
    given: dict[str, fields.Field[Any]] = {
        "summary": fields.String(
            required=True,
            validate=validate.Length(min=1),
            metadata=_said("The text that the new session begins with."),
        ),
        "keep": _Whole(
            load_default=10,
            strict=True,
            validate=validate.Range(min=0, max=settings.max_history),
            metadata=_said("How many of the newest messages come along."),
        ),
    }
    return Schema.from_dict(given, name="Compact")()


FORK_BODY = Schema.from_dict(
    {
        "seq": _Whole(
            load_default=None,
            strict=True,
            validate=validate.Range(min=0, max=MAX_SEQ),
            metadata=_said("The last message that comes along; null: all do."),
        )
    },
    name="Fork",
)()
"""``{seq?}``: the last message that comes along."""


def forms(settings: Settings) -> dict[str, Schema]:
    """Every form, by its name in the table of routes."""
    found = (
        GET_QUERY,
        MESSAGES_QUERY,
        LIST_QUERY,
        EXPORT_QUERY,
        start_body(settings),
        update_body(settings),
        continue_body(settings),
        edit_body(settings),
        compact_body(settings),
        FORK_BODY,
    )
    return {type(form).__name__: form for form in found}


def message_of(body: dict[str, Any]) -> Message:
    """Make the message of a body that a client sent."""
    return Message({"role": body["role"], "content": body["content"]}, body["metadata"])


def first_role(settings: Settings) -> str:
    """The role of a client's message that says none."""
    return "user" if "user" in settings.client_roles else settings.client_roles[0]


def _ttl(settings: Settings) -> dict[str, fields.Field[Any]]:
    """The lifetime, where clients may set it. The operation checks its bounds."""
    if not settings.client_ttl:
        return {}
    metadata = _said(
        "Seconds that the session lives from each interaction.",
        type=["number", "null"],
        minimum=1,
        maximum=settings.max_ttl,
    )
    return {"ttl": fields.Raw(load_default=None, metadata=metadata)}


class _Data(fields.Dict):
    """Data fields, of those that clients may set."""

    def __init__(self, settings: Settings, **options: Any) -> None:
        self._history_key = settings.history_key
        self._allowed = settings.client_data
        super().__init__(**options, metadata=self._shape())

    def _deserialize(self, *arguments: Any, **options: Any) -> dict[str, Any]:
        data: dict[str, Any] = super()._deserialize(*arguments, **options)  # type: ignore[no-untyped-call]
        refused = {name: ["Clients may not set this field."] for name in data if not self._is_allowed(name)}
        if refused:
            raise ValidationError(refused)
        return data

    def _is_allowed(self, name: str) -> bool:
        if name == self._history_key:
            return False
        return self._allowed if isinstance(self._allowed, bool) else name in self._allowed

    def _shape(self) -> Json:
        any_value = _said("The app's own fields.", type="object", additionalProperties=ref("Value"))
        if self._allowed is True:
            return {
                **any_value,
                "propertyNames": {"not": {"const": self._history_key}},
                "maxProperties": MAX_FIELDS,
            }
        names = self._allowed or ()
        properties = {name: ref("Value") for name in names if self._is_allowed(name)}
        return {**any_value, "properties": properties, "additionalProperties": False}
