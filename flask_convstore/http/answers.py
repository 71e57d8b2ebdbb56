"""Values > JSON: sessions and messages as clients see them.

Each answer is declared once, as a ``TypedDict``. mypy holds the code to it, and the OpenAPI document is made of it.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, NotRequired, TypedDict, cast

from ..config import Settings
from ..domain.clock import as_datetime
from ..domain.messages import Message, Usage
from ..domain.results import Summary
from ..sessions.session import AnySession
from .json_schema import Positive, Time, Whole

_Degraded = Annotated[Literal[True], "Only while the store is away: the fallback has answered."]
_SessionId = Annotated[str, "The session's id."]
_Version = Annotated[Positive, "Counts the writes to the session."]
_Data = Annotated[dict[str, Any], "The app's own fields."]


class TokensJson(TypedDict):
    """What messages cost, in tokens of a model, as far as that was told."""

    input: Annotated[Whole, "Tokens read."]
    output: Annotated[Whole, "Tokens written."]


class MessageJson(TypedDict):
    """A message's body, with what is known about it; those names win over the body's."""

    id: Annotated[str, "Made of its seq.", {"pattern": r"^msg-\d+$"}]
    seq: Annotated[Positive, "Its number in the session, never used again."]
    role: NotRequired[Annotated[Any, "Who says it: user, assistant, …"]]
    content: NotRequired[Annotated[Any, "What it says: a text, or parts."]]
    created_at: Annotated[Time, "When it was accepted. RFC 3339, UTC."]
    edited_at: NotRequired[Annotated[Time, "When its content was last replaced. RFC 3339, UTC."]]
    metadata: NotRequired[Annotated[dict[str, Any], "What was given beside the body."]]
    status: NotRequired[
        Annotated[str, "How its turn or its content ended, if not as usual: unanswered, failed, redacted, …"]
    ]
    tokens: NotRequired[TokensJson]


class SummaryJson(TypedDict):
    """A session as a list shows it."""

    session_id: _SessionId
    version: _Version
    created_at: Annotated[Time, "When it was started. RFC 3339, UTC."]
    updated_at: Annotated[Time, "When it was last written to. RFC 3339, UTC."]
    expires_at: Annotated[Time, "When it ends, unless it is used before. RFC 3339, UTC."]
    message_count: Annotated[Whole, "How many messages it has, shown or not."]
    title: Annotated[str | None, "Made of the first message, unless it was set."]
    tokens: NotRequired[TokensJson]


class UpdatedJson(SummaryJson):
    """A session without its history."""

    moved_to: NotRequired[Annotated[str, "Where the conversation goes on, if it was compacted: another session's id."]]
    data: _Data
    degraded: NotRequired[_Degraded]


class SessionJson(UpdatedJson):
    """A session."""

    history: Annotated[list[MessageJson], "Messages, oldest first."]


class SessionsJson(TypedDict):
    """A page of sessions."""

    sessions: Annotated[list[SummaryJson], "By their last interaction."]
    next: Annotated[str | None, "The next page's `cursor`; null: there is none."]


class MessagesJson(TypedDict):
    """A page of messages."""

    messages: Annotated[list[MessageJson], "Oldest first."]
    next: Annotated[int | None, "The `before` of the page before this one; null: there is none.", {"minimum": 1}]
    degraded: NotRequired[_Degraded]


class ExchangeJson(TypedDict):
    """A message and the reply to it."""

    session_id: _SessionId
    version: _Version
    message: Annotated[MessageJson | None, "Null if clients do not see messages of its role."]
    reply: Annotated[MessageJson | None, "Null if there is none, or clients do not see it."]
    previous: NotRequired[Annotated[MessageJson | None, "The message before, if its turn was cut short."]]
    degraded: NotRequired[_Degraded]


class ChangedJson(TypedDict):
    """A message as it is now."""

    session_id: _SessionId
    version: _Version
    message: Annotated[MessageJson | None, "Null if clients do not see messages of its role."]
    degraded: NotRequired[_Degraded]


class DeletedJson(TypedDict):
    """The session is gone."""

    status: Literal["deleted"]
    degraded: NotRequired[_Degraded]


class DeletedAllJson(TypedDict):
    """What was deleted."""

    deleted: Annotated[Whole, "How many sessions."]
    complete: Annotated[bool, "False: there are more; ask again."]


class ImportedJson(TypedDict):
    """What was taken in."""

    imported: Annotated[Whole, "How many sessions; those that were there are not."]


class HealthJson(TypedDict):
    """Whether sessions can be served."""

    connected: Annotated[bool, "The store answers."]
    latency_ms: Annotated[float | None, "How long that took; null: it does not.", {"minimum": 0}]
    degraded: Annotated[bool, "The fallback is serving, or its writes are waiting."]
    pending: Annotated[Whole, "Writes of this host that wait to reach the store."]


class _TokensPart(TypedDict):
    tokens: NotRequired[TokensJson]


class _MovedPart(TypedDict):
    moved_to: NotRequired[str]
    degraded: NotRequired[Literal[True]]


def session_json(session: AnySession, history: list[MessageJson], data: dict[str, Any]) -> SessionJson:
    """A session as clients see it; *history* is messages as JSON, *data* its fields."""
    return {**updated_json(session, data), "history": history}


def updated_json(session: AnySession, data: dict[str, Any]) -> UpdatedJson:
    """A session without its history."""
    return {
        "session_id": session.session_id,
        "version": session.version,
        "created_at": timestamp(session.created_at),
        "updated_at": timestamp(session.updated_at),
        "expires_at": timestamp(session.expires_at),
        "message_count": session.message_count,
        "title": session.title,
        **_tokens_part(session.usage),
        **_moved_part(session.moved_to),
        "data": data,
    }


def summary_json(summary: Summary) -> SummaryJson:
    """A session as a list shows it."""
    return {
        "session_id": summary.session_id,
        "version": summary.version,
        "created_at": timestamp(as_datetime(summary.created_at_ms)),
        "updated_at": timestamp(as_datetime(summary.updated_at_ms)),
        "expires_at": timestamp(as_datetime(summary.expires_at_ms)),
        "message_count": summary.message_count,
        "title": summary.title,
        **_tokens_part(summary.usage),
    }


def _tokens_part(usage: Usage | None) -> _TokensPart:
    tokens = _tokens_json(usage)
    return {"tokens": tokens} if tokens else {}


def _tokens_json(usage: Usage | None) -> TokensJson | None:
    """What messages cost, if that was told."""
    return {"input": usage.input, "output": usage.output} if usage and any(usage) else None


def _moved_part(moved_to: str | None) -> _MovedPart:
    return {"moved_to": moved_to} if moved_to else {}


def message_json(message: Message) -> MessageJson:
    """A message as clients see it. The envelope wins over the body's keys; a body that is no object is ``content``."""
    body = message.body if isinstance(message.body, dict) else {"content": message.body}
    envelope: MessageJson = {"id": message.id, "seq": message.seq, "created_at": timestamp(message.created_at)}
    if message.metadata is not None:
        envelope["metadata"] = message.metadata
    if message.status is not None:
        envelope["status"] = message.status
    tokens = _tokens_json(message.tokens)
    if tokens:
        envelope["tokens"] = tokens
    if message.edited_at is not None:
        envelope["edited_at"] = timestamp(message.edited_at)
    # The id and the seq come first, whatever the body has.
    return cast(MessageJson, {"id": message.id, "seq": message.seq, **body, **envelope})


def is_visible(message: Message, settings: Settings) -> bool:
    """Whether clients see a message: its role is a visible one, or it has none."""
    role = message.get("role")
    return role is None or role in settings.visible_roles


def timestamp(time: datetime) -> str:
    """RFC 3339, UTC, milliseconds."""
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
