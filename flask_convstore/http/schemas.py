"""JSON <> values: what HTTP clients may send (marshmallow), and what they are shown."""

from __future__ import annotations

import re
from datetime import datetime
from functools import lru_cache
from typing import Any

from marshmallow import Schema, ValidationError, fields, validate

from ..config import Settings
from ..domain.clock import as_datetime
from ..domain.messages import Message, Usage
from ..domain.results import Summary
from ..domain.validation import MAX_NAME, MAX_SEQ
from ..sessions.session import AnySession


class _Whole(fields.Integer):
    """A whole number of JSON, 5.0 among them, or one in a query: digits, and a sign perhaps."""

    def _validated(self, value: Any) -> int:
        if isinstance(value, str) and not re.fullmatch(r"-?[0-9]{1,4000}", value):
            raise self.make_error("invalid")
        whole: int = super()._validated(int(value) if isinstance(value, float) and value.is_integer() else value)
        return whole


GET_QUERY = Schema.from_dict({"last": _Whole(load_default=None, validate=validate.Range(min=0))}, name="GetQuery")()
"""``?last=k``: only the k newest messages."""


MESSAGES_QUERY = Schema.from_dict(
    {
        "before": _Whole(load_default=None, validate=validate.Range(min=1, max=MAX_SEQ)),
        "limit": _Whole(load_default=50, validate=validate.Range(min=1, max=1000)),
    },
    name="MessagesQuery",
)()
"""``?before=seq&limit=n``."""

LIST_QUERY = Schema.from_dict(
    {
        "cursor": fields.String(load_default=None, validate=validate.Length(min=1, max=1000)),
        "limit": _Whole(load_default=50, validate=validate.Range(min=1, max=1000)),
    },
    name="ListQuery",
)()
"""``?cursor=&limit=n``."""

EXPORT_QUERY = Schema.from_dict(
    {"cursor": fields.String(load_default=None, validate=validate.Length(min=1, max=1000))}, name="ExportQuery"
)()
"""``?cursor=``."""

FORK_BODY = Schema.from_dict(
    {"seq": _Whole(load_default=None, strict=True, validate=validate.Range(min=0, max=MAX_SEQ))}, name="Fork"
)()
"""``{seq?}``: the last message that comes along."""


def _check_content(content: object) -> None:
    """A text, or the parts of a multimodal message: objects that name their type."""
    if isinstance(content, str):
        return
    parts = content if isinstance(content, list) else []
    if not parts or not all(isinstance(part, dict) and isinstance(part.get("type"), str) for part in parts):
        raise ValidationError("Not a text, nor a list of objects with a type.")


EDIT_BODY = Schema.from_dict(
    {"content": fields.Raw(required=True, validate=_check_content), "metadata": fields.Dict(load_default=None)},
    name="Edit",
)()
"""A message's new content: ``{content, metadata?}``."""


@lru_cache
def continue_body(settings: Settings) -> Schema:
    """A user's message: ``{content, role?, metadata?}``."""
    message: dict[str, fields.Field[Any]] = {
        "role": fields.String(load_default=first_role(settings), validate=validate.OneOf(settings.client_roles)),
        "content": fields.Raw(required=True, validate=_check_content),
        "metadata": fields.Dict(load_default=None),
    }
    return Schema.from_dict(message, name="Continue")()


@lru_cache
def start_body(settings: Settings) -> Schema:
    """A new session: ``{data?, message?}``, and ``ttl`` (seconds) where clients may set it."""
    session: dict[str, fields.Field[Any]] = {
        "data": _Data(settings),
        "message": fields.Nested(continue_body(settings), load_default=None),
        "alias": fields.String(load_default=None, validate=validate.Length(min=1, max=MAX_NAME)),
    }
    if settings.client_ttl:
        session["ttl"] = fields.Raw(load_default=None)
    return Schema.from_dict(session, name="Start")()


@lru_cache
def update_body(settings: Settings) -> Schema:
    """What is changed of a session: ``{data?, title?}``, and ``ttl`` (seconds) where clients may set it."""
    changed: dict[str, fields.Field[Any]] = {
        "data": _Data(settings, required=False),
        "title": fields.String(allow_none=True, validate=validate.Length(max=MAX_NAME)),
    }
    if settings.client_ttl:
        changed["ttl"] = fields.Raw(load_default=None)
    return Schema.from_dict(changed, name="Update")()


@lru_cache
def compact_body(settings: Settings) -> Schema:
    """``{summary, keep?}``: how the new session begins, and how many messages come along."""
    given: dict[str, fields.Field[Any]] = {
        "summary": fields.String(required=True, validate=validate.Length(min=1)),
        "keep": _Whole(load_default=10, strict=True, validate=validate.Range(min=0, max=settings.max_history)),
    }
    return Schema.from_dict(given, name="Compact")()


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
        EDIT_BODY,
        compact_body(settings),
        FORK_BODY,
    )
    return {type(form).__name__: form for form in found}


def first_role(settings: Settings) -> str:
    """The role of a client's message that says none."""
    return "user" if "user" in settings.client_roles else settings.client_roles[0]


class _Data(fields.Dict):
    """Data fields, of those that clients may set."""

    def __init__(self, settings: Settings, **options: Any) -> None:
        super().__init__(**(options or {"load_default": dict}))
        self._settings = settings

    def _deserialize(self, *arguments: Any, **options: Any) -> dict[str, Any]:
        data: dict[str, Any] = super()._deserialize(*arguments, **options)  # type: ignore[no-untyped-call]
        allowed = self._settings.client_data
        refused = {
            name: ["Clients may not set this field."]
            for name in data
            if name == self._settings.history_key or not (allowed is True or (allowed and name in allowed))
        }
        if refused:
            raise ValidationError(refused)
        return data


def session_json(session: AnySession, history: list[Any], data: dict[str, Any]) -> dict[str, Any]:
    """A session as clients see it; *history* is messages as JSON, *data* its fields."""
    return {
        "session_id": session.session_id,
        "version": session.version,
        "created_at": timestamp(session.created_at),
        "updated_at": timestamp(session.updated_at),
        "expires_at": timestamp(session.expires_at),
        "message_count": session.message_count,
        "title": session.title,
        **_tokens_json(session.usage),
        **({"moved_to": session.moved_to} if session.moved_to else {}),
        "data": data,
        "history": history,
    }


def summary_json(summary: Summary) -> dict[str, Any]:
    """A session as a list shows it."""
    return {
        "session_id": summary.session_id,
        "version": summary.version,
        "created_at": timestamp(as_datetime(summary.created_at_ms)),
        "updated_at": timestamp(as_datetime(summary.updated_at_ms)),
        "expires_at": timestamp(as_datetime(summary.expires_at_ms)),
        "message_count": summary.message_count,
        "title": summary.title,
        **_tokens_json(summary.usage),
    }


def _tokens_json(usage: Usage | None) -> dict[str, Any]:
    """What messages cost, if that was told."""
    return {"tokens": {"input": usage.input, "output": usage.output}} if usage and any(usage) else {}


def message_json(message: Message) -> dict[str, Any]:
    """A message as clients see it. The envelope wins over the body's keys; a body that is no object is ``content``."""
    body = message.body if isinstance(message.body, dict) else {"content": message.body}
    envelope = {"id": message.id, "seq": message.seq}
    shown = {**envelope, **body, **envelope, "created_at": timestamp(message.created_at)}
    if message.metadata is not None:
        shown["metadata"] = message.metadata
    if message.status is not None:
        shown["status"] = message.status
    shown.update(_tokens_json(message.tokens))
    if message.edited_at is not None:
        shown["edited_at"] = timestamp(message.edited_at)
    return shown


def is_visible(message: Message, settings: Settings) -> bool:
    """Whether clients see a message: its role is a visible one, or it has none."""
    role = message.get("role")
    return role is None or role in settings.visible_roles


def timestamp(time: datetime) -> str:
    """RFC 3339, UTC, milliseconds."""
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def message_of(body: dict[str, Any]) -> Message:
    """Make the message of a body that a client sent."""
    return Message({"role": body["role"], "content": body["content"]}, body["metadata"])
