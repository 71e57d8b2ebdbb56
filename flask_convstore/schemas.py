"""JSON <> values: what HTTP clients may send (marshmallow), and what they are shown."""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache
from typing import Any

from marshmallow import Schema, ValidationError, fields, validate

from .config import Settings
from .models import Message
from .sessions import AnySession

GET_QUERY = Schema.from_dict(
    {"last": fields.Integer(load_default=None, validate=validate.Range(min=0))}, name="GetQuery"
)()
"""``?last=k``: only the k newest messages."""


@lru_cache
def continue_body(settings: Settings) -> Schema:
    """A user's message: ``{content, role?, metadata?}``."""
    message: dict[str, fields.Field[Any]] = {
        "role": fields.String(load_default=_first_role(settings), validate=validate.OneOf(settings.client_roles)),
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
    }
    if settings.client_ttl:
        session["ttl"] = fields.Raw(load_default=None)
    return Schema.from_dict(session, name="Start")()


def _first_role(settings: Settings) -> str:
    return "user" if "user" in settings.client_roles else settings.client_roles[0]


def _check_content(content: object) -> None:
    """A text, or the parts of a multimodal message: objects that name their type."""
    if isinstance(content, str):
        return
    parts = content if isinstance(content, list) else []
    if not parts or not all(isinstance(part, dict) and isinstance(part.get("type"), str) for part in parts):
        raise ValidationError("Not a text, nor a list of objects with a type.")


class _Data(fields.Dict):
    """Data fields, of those that clients may set."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(load_default=dict)
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
        "data": data,
        "history": history,
    }


def message_json(message: Message) -> dict[str, Any]:
    """A message as clients see it. The envelope wins over the body's keys; a body that is no object is ``content``."""
    body = message.body if isinstance(message.body, dict) else {"content": message.body}
    envelope = {"id": message.id, "seq": message.seq}
    shown = {**envelope, **body, **envelope, "created_at": timestamp(message.created_at)}
    if message.metadata is not None:
        shown["metadata"] = message.metadata
    if message.status is not None:
        shown["status"] = message.status
    return shown


def is_visible(message: Message, settings: Settings) -> bool:
    """Whether clients see a message: its role is a visible one, or it has none."""
    role = message.get("role")
    return role is None or role in settings.visible_roles


def timestamp(time: datetime) -> str:
    """RFC 3339, UTC, milliseconds."""
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
