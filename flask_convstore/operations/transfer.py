"""Export and import of sessions. A line of an export is one session, with all its facts as JSON values."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ..domain import json_text, value_types
from ..domain.clock import LATEST_MS
from ..domain.commands import Put
from ..domain.messages import Message, Usage, bodies_of, join_element, message_of
from ..domain.results import Snapshot
from ..domain.shapes import is_shape, key_of
from ..domain.validation import check_session_id, check_title
from ..errors import ConvstoreError, CorruptValue, InvalidInput, SessionExists, is_history_key
from ..sessions import content
from ..sessions.content import ContentLimits
from ..stores.store import pages
from .access import Access
from .owners import required

_log = logging.getLogger("flask_convstore")


def export(access: Access, *, after: str | None = None) -> Iterator[dict[str, Any]]:
    """Export all sessions of an owner, one after the other, as JSON values.

    Args:
        after: The last ``cursor`` of an interrupted export, which goes on behind it.
    """
    for page in pages(access.store, required(access), after):
        for number, summary in enumerate(page.sessions, 1):
            line = _line(access, summary.session_id)
            if line is None:
                continue
            if page.next and number == len(page.sessions):
                line["cursor"] = page.next
            yield line


def _line(access: Access, session_id: str) -> dict[str, Any] | None:
    """Export one session. None if the session is gone. A damaged session is named, and its damage is logged."""
    try:
        snapshot = access.load(session_id, is_interaction=False)
        return _exported(snapshot) if snapshot else None
    except (CorruptValue, ValueError, TypeError, LookupError) as error:
        _log.error("session %r cannot be exported: %s", session_id, error)
        return {"session_id": session_id, "corrupt": True}


def take_in(access: Access, sessions: Iterable[Mapping[str, Any]]) -> int:
    """Import exported sessions, and return the number of new ones. Sessions that exist stay as they are."""
    required(access)
    count = 0
    for number, line in enumerate(sessions, 1):
        if isinstance(line, Mapping) and line.get("corrupt"):
            continue
        try:
            save = _imported(access, line)
        except InvalidInput as error:
            error.written = count > 0
            raise
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            refused = InvalidInput(_refusal(error, count), f"line {number}")
            refused.written = count > 0
            raise refused from error
        try:
            count += not access.apply(save).repeated
        except SessionExists:
            continue  # an earlier import has written the session
        except ConvstoreError as error:
            error.written = True if count else error.written
            raise
    return count


def _refusal(error: Exception, count: int) -> str:
    """Tell why a line is refused, and how many sessions before it were written."""
    effect = f"The {count} sessions before it were written" if count else "Nothing was written"
    return f"this is no exported session ({error!r}): mend or remove the line. {effect}."


def _exported(snapshot: Snapshot) -> dict[str, Any]:
    """Make a line of an export from a session.

    Raises:
        ValueError, TypeError, LookupError: A stored value is damaged.
    """
    bodies_of(snapshot.elements)
    first = snapshot.next_seq - len(snapshot.elements)
    messages = [message_of(element, seq) for seq, element in enumerate(snapshot.elements, first)]
    line = {
        "session_id": snapshot.session_id,
        "created_at_ms": snapshot.created_at_ms,
        "updated_at_ms": snapshot.updated_at_ms,
        "shape": snapshot.shape,
        "title": snapshot.title,
        "ttl_ms": snapshot.own_ttl_ms,
        "tokens": snapshot.usage._asdict(),
        "data": {name: json_text.decode(text) for name, text in snapshot.fields.items()},
        "messages": [_exported_message(message) for message in messages],
    }
    has_tags = any(map(value_types.has_tags, itertools.chain(snapshot.fields.values(), snapshot.elements)))
    return json_text.parse(json_text.dump(line)) if has_tags else line


def _exported_message(message: Message) -> dict[str, Any]:
    known = {
        "metadata": message.metadata,
        "tokens": message.tokens and message.tokens._asdict(),
        "status": message.status,
        "edited_at_ms": message.edited_at_ms,
        "edits": list(message.edits) or None,
    }
    facts = {name: value for name, value in known.items() if value is not None}
    return {"seq": message.seq, "created_at_ms": message.created_at_ms, "body": message.body, **facts}


def _imported(access: Access, line: Mapping[str, Any]) -> Put:
    """Make the command that creates a session from a line of an export, under its own id."""
    limits = access.limits
    check_session_id(line["session_id"])
    fields = content.fields_to_set(line["data"], limits)
    elements = tuple(_imported_element(message, limits) for message in line["messages"])
    _check_shape(line["shape"], fields, access.limits.history_key, has_messages=bool(elements))
    usage = Usage(**line["tokens"]) if line.get("tokens") else None
    content.check_facts({"tokens": usage or ()}, "session", limits)
    title, ttl_ms = line.get("title"), line.get("ttl_ms")
    return Put(
        session_id=line["session_id"],
        owner=access.owner,
        mode="create",
        shape=line["shape"],
        fields=fields,
        elements=elements,
        ttl_ms=None if ttl_ms is None else access.ttl_ms(ttl_ms / 1000),
        first_title="" if title is None else check_title(title),
        usage=usage,
    )


def _check_shape(shape: Any, fields: Iterable[tuple[str, bytes]], first_key: str, *, has_messages: bool) -> None:
    """Check the shape of an exported session.

    Raises:
        ValueError: There is no such shape, or the shape has no place for messages.
        InvalidInput: A field has the key of the history.
    """
    if not is_shape(shape) or shape == "value":
        raise ValueError(f"its shape is {shape!r}")
    if shape == "data" and has_messages:
        raise ValueError("its shape has no messages")
    key = key_of(shape, first_key)
    if key in dict(fields):
        raise is_history_key(str(key))


def _imported_element(line: Mapping[str, Any], limits: ContentLimits) -> bytes:
    """Make the element of a message from its part of an export."""
    names = ("metadata", "tokens", "edits", "edited_at_ms", "status")  # the status stands last in an envelope
    facts = {name.removesuffix("_ms"): line[name] for name in names if line.get(name) is not None}
    if "tokens" in facts:
        facts["tokens"] = list(Usage(**facts["tokens"]))
    _check_imported(facts, line["created_at_ms"])
    content.check_facts(facts, "message", limits)
    element = join_element(line["created_at_ms"], json_text.encode(line["body"]), facts)
    content.check_element(element, message_of(element, 1), limits)
    return element


_STATUSES = ("unanswered", "failed", "interrupted", "superseded", "redacted")


def _check_imported(facts: Mapping[str, Any], created_at_ms: object) -> None:
    """Check the facts of an exported message beside its body.

    Raises:
        ValueError: No export of ours has such a fact.
    """
    for time_ms in (created_at_ms, facts.get("edited_at", 0)):
        if type(time_ms) is not int or not 0 <= time_ms < LATEST_MS:
            raise ValueError(f"{time_ms!r} is no time in milliseconds")
    if facts.get("status", "failed") not in _STATUSES:
        raise ValueError(f"its status is {facts['status']!r}")
    if not isinstance(facts.get("metadata", {}), dict):
        raise ValueError("its metadata is no object")
    if not isinstance(facts.get("edits", []), list):
        raise ValueError("its edits are no list")
