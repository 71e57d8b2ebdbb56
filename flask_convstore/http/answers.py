"""Values > JSON: sessions and messages as clients see them.

Each answer is declared once, as a ``TypedDict``. mypy checks the code against the declaration, and the OpenAPI document is
generated from it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Any, Literal, NotRequired, TypedDict

from ..domain.clock import as_datetime
from ..domain.messages import Message, Usage
from ..domain.results import Snapshot, Summary
from ..domain.validation import MAX_NAME
from ..operations.transfer import Failed, Imported
from .json_schema import Positive, Time, Whole

_Degraded = Annotated[Literal[True], "Only present while the store is away and the fallback answers."]
_Partial = Annotated[
    Literal[True],
    "Only present while the store is away and may have more: `history` and `data` are what this host knows.",
]
_SessionId = Annotated[str, "The session's id."]
_Version = Annotated[Positive, "Counts the writes to the session."]
_Data = Annotated[dict[str, Any], "The app's own fields."]


class TokensJson(TypedDict):
    """Cost of messages in tokens of a model, as far as the app has told."""

    input: Annotated[Whole, "Tokens read."]
    output: Annotated[Whole, "Tokens written."]


class MessageJson(TypedDict):
    """A message's body and its envelope. Names of the envelope win over names of the body."""

    id: Annotated[str, "Id of the message. It stays. Made from `seq`, unless it was given one.", {"minLength": 1}]
    seq: Annotated[Positive, "Number of the message in its session, never used again."]
    role: NotRequired[Annotated[Any, "Speaker: user, assistant, …"]]
    content: NotRequired[Annotated[Any, "A text, or parts."]]
    created_at: Annotated[Time, "Time of acceptance. RFC 3339, UTC."]
    edited_at: NotRequired[Annotated[Time, "Time of the last edit. RFC 3339, UTC."]]
    metadata: NotRequired[Annotated[dict[str, Any], "Metadata that came with the body."]]
    status: NotRequired[Annotated[str, "Unusual end of its turn or its content: unanswered, failed, redacted, …"]]
    tokens: NotRequired[TokensJson]


class SummaryJson(TypedDict):
    """A session as a list shows it."""

    session_id: _SessionId
    version: _Version
    created_at: Annotated[Time, "Time of the start. RFC 3339, UTC."]
    updated_at: Annotated[Time, "Time of the last write. RFC 3339, UTC."]
    expires_at: Annotated[Time, "Time of the end, unless the session is used before. RFC 3339, UTC."]
    message_count: Annotated[Whole, "Number of messages, shown or not."]
    title: Annotated[str | None, "Title that was set, or the beginning of the first message."]
    tokens: NotRequired[TokensJson]


class UpdatedJson(SummaryJson):
    """A session without its history."""

    moved_to: NotRequired[Annotated[str, "Id of the session in which a compacted conversation continues."]]
    data: _Data
    degraded: NotRequired[_Degraded]
    partial: NotRequired[_Partial]


class SessionJson(UpdatedJson):
    """A session."""

    history: Annotated[list[MessageJson], "Messages, oldest first."]


class SessionsJson(TypedDict):
    """A page of sessions."""

    sessions: Annotated[list[SummaryJson], "In the order that was asked for."]
    next: Annotated[str | None, "`cursor` of the next page. Null on the last page."]
    pending: NotRequired[
        Annotated[Whole, "Number of the owner's sessions that wait in the journal of this host, and are not shown yet."]
    ]


class MessagesJson(TypedDict):
    """A page of messages."""

    messages: Annotated[list[MessageJson], "Oldest first."]
    next: Annotated[
        int | None, "Next `before`, or next `after` where that was asked for. Null on the last page.", {"minimum": 1}
    ]
    degraded: NotRequired[_Degraded]
    partial: NotRequired[_Partial]


class ExchangeJson(TypedDict):
    """A message and the reply to it."""

    session_id: _SessionId
    version: _Version
    message: Annotated[MessageJson | None, "Null if clients do not see messages of its role."]
    reply: Annotated[MessageJson | None, "Null without a reply, or if clients do not see it."]
    previous: NotRequired[Annotated[MessageJson | None, "The message before, if its turn was interrupted."]]
    degraded: NotRequired[_Degraded]
    partial: NotRequired[_Partial]


class StoppedJson(TypedDict):
    """A reply that was stopped, or had ended before."""

    session_id: _SessionId
    version: _Version
    status: Annotated[
        Literal["complete", "stopped", "interrupted", "failed", "unanswered"],
        "Fate of the reply. A stopped one that had ended before keeps its own.",
    ]
    reply: Annotated[MessageJson | None, "The reply as it is stored. Null if nothing of it had come."]


class ChangedJson(TypedDict):
    """A message as it is now."""

    session_id: _SessionId
    version: _Version
    message: Annotated[MessageJson | None, "Null if clients do not see messages of its role."]
    degraded: NotRequired[_Degraded]
    partial: NotRequired[_Partial]


class DroppedJson(TypedDict):
    """Messages were taken out."""

    session_id: _SessionId
    version: _Version
    first_seq: Annotated[
        int | None, "Number of the oldest message that was taken out. Null: there was none.", {"minimum": 1}
    ]
    degraded: NotRequired[_Degraded]
    partial: NotRequired[_Partial]


class DeletedJson(TypedDict):
    """The session is gone."""

    status: Literal["deleted"]
    degraded: NotRequired[_Degraded]
    partial: NotRequired[_Partial]


class CurrentJson(TypedDict):
    """The owner's current session."""

    session_id: Annotated[str | None, "Its id. Null if the owner has none."]


class DeletedAllJson(TypedDict):
    """Result of deleting an owner's sessions."""

    deleted: Annotated[Whole, "Number of deleted sessions."]
    complete: Annotated[bool, "False if sessions are left. Repeat the request then."]


class FailedLineJson(TypedDict):
    """A line that was not imported."""

    line: Annotated[Positive, "Its number in the body, from 1."]
    session_id: NotRequired[Annotated[str, "The id in the line."]]
    detail: Annotated[str, "The reason."]


class ImportedJson(TypedDict):
    """Result of an import."""

    imported: Annotated[Whole, "Number of new sessions, without those that existed already."]
    complete: Annotated[bool, "False if the time was over before the last line. Repeat the request then."]
    failed: NotRequired[
        Annotated[list[FailedLineJson], "The lines that were not imported, 100 at most. Absent if none."]
    ]
    failed_count: NotRequired[Annotated[Positive, "Number of lines that were not imported."]]
    renamed: NotRequired[
        Annotated[dict[str, str], "New ids, by the ids in the lines, of sessions whose own ids were not free."]
    ]


class HealthJson(TypedDict):
    """Health of the store."""

    connected: Annotated[bool, "The store answers."]
    latency_ms: Annotated[float | None, "Time of an answer. Null if the store does not answer.", {"minimum": 0}]
    degraded: Annotated[bool, "The fallback answers, or its writes wait for the store."]
    pending: Annotated[
        int | None,
        "Number of this host's writes that wait for the store. Null if its journal cannot be read.",
        {"minimum": 0},
    ]


def session_json(session: Snapshot, history: list[MessageJson], data: dict[str, Any]) -> SessionJson:
    """Show a session with its messages and its data fields."""
    return {**updated_json(session, data), "history": history}


def updated_json(session: Snapshot, data: dict[str, Any]) -> UpdatedJson:
    """Show a session without its history."""
    shown: dict[str, Any] = {
        "session_id": session.session_id,
        "version": session.version,
        "created_at": timestamp(session.shown_created_at_ms),
        "updated_at": timestamp(session.updated_at_ms),
        "expires_at": timestamp(session.expires_at_ms),
        "message_count": session.count,
        "title": session.title,
    }
    if any(session.usage):
        shown["tokens"] = _tokens_json(session.usage)
    if session.moved_to:
        shown["moved_to"] = session.moved_to
    shown["data"] = data
    return shown  # type: ignore[return-value]


def summary_json(summary: Summary) -> SummaryJson:
    """Show a session in a list."""
    began_at_ms = summary.created_at_ms if summary.began_at_ms is None else summary.began_at_ms
    shown: SummaryJson = {
        "session_id": summary.session_id,
        "version": summary.version,
        "created_at": timestamp(began_at_ms),
        "updated_at": timestamp(summary.updated_at_ms),
        "expires_at": timestamp(summary.expires_at_ms),
        "message_count": summary.message_count,
        "title": summary.title,
    }
    if any(summary.usage):
        shown["tokens"] = _tokens_json(summary.usage)
    return shown


_MOST_FAILED = 100
"""Most lines that were not imported in one answer."""


def imported_json(imported: Imported) -> ImportedJson:
    """Show the result of an import, with the lines that were not imported."""
    shown: ImportedJson = {"imported": int(imported), "complete": imported.complete}
    if imported.failed:
        shown["failed"] = [_failed_json(failed) for failed in imported.failed[:_MOST_FAILED]]
        shown["failed_count"] = len(imported.failed)
    if imported.renamed:
        shown["renamed"] = imported.renamed
    return shown


def _failed_json(failed: Failed) -> FailedLineJson:
    shown: FailedLineJson = {"line": failed.line, "detail": str(failed.error)}
    if failed.session_id is not None:
        shown["session_id"] = failed.session_id[:MAX_NAME]
    return shown


def _tokens_json(usage: Usage) -> TokensJson:
    return {"input": usage.input, "output": usage.output}


def message_json(message: Message) -> MessageJson:
    """Show a message. The envelope wins over the body's keys. A body that is no object is the ``content``."""
    shown = plain_json(message.id, message.seq, message.body, message.created_at_ms)
    if message.metadata is not None:
        shown["metadata"] = message.metadata
    if message.status is not None:
        shown["status"] = message.status
    if message.tokens and any(message.tokens):
        shown["tokens"] = _tokens_json(message.tokens)
    if message.edited_at_ms is not None:
        shown["edited_at"] = timestamp(message.edited_at_ms)
    return shown


def plain_json(message_id: str, seq: int, body: Any, created_at_ms: int) -> MessageJson:
    """Show a message as ``message_json`` does, that has nothing else in its envelope."""
    if not isinstance(body, dict):
        body = {"content": body}
    elif not _ENVELOPE.isdisjoint(body):
        body = _without_envelope(body)
    return {"id": message_id, "seq": seq, **body, "created_at": timestamp(created_at_ms)}  # type: ignore[typeddict-item]


_ENVELOPE = frozenset({"id", "seq", "edited_at", "metadata", "status", "tokens"})
"""Names of the envelope that a body's value could take the place of, or that may be missing in the envelope."""


def _without_envelope(body: dict[str, Any]) -> dict[str, Any]:
    """Leave out of a body what would look like a part of the envelope. Metadata may stand in either."""
    return {
        name: value
        for name, value in body.items()
        if name not in _ENVELOPE or (name == "metadata" and isinstance(value, dict))
    }


def timestamp(milliseconds: int) -> str:
    """Write a time as RFC 3339, in UTC, with milliseconds."""
    seconds, rest = divmod(milliseconds, 1000)
    return f"{_second(seconds)}.{rest:03d}Z"


@lru_cache(maxsize=1000)
def _second(seconds: int) -> str:
    """Write a second. An answer tells few different ones."""
    return as_datetime(1000 * seconds).isoformat().removesuffix("+00:00")
