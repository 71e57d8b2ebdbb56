"""Sessions as lines of an export, and back: everything that is known of them, in values of JSON."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ..domain import json_text
from ..domain.clock import LATEST_MS
from ..domain.commands import Put
from ..domain.messages import Message, Usage, bodies_of, join_element, message_of
from ..domain.results import Snapshot
from ..domain.validation import check_session_id, check_title
from ..errors import ConvstoreError, CorruptValue, InvalidInput, SessionExists
from ..sessions import content
from ..sessions.content import ContentLimits
from ..stores.store import pages
from .access import Access
from .owners import required

_log = logging.getLogger("flask_convstore")


def export(access: Access, *, after: str | None = None) -> Iterator[dict[str, Any]]:
    """Walk through everything of an owner, one session after the other, as JSON values.

    Args:
        after: The last ``cursor`` of an interrupted export.
    """
    for page in pages(access.store, required(access), after):
        for number, summary in enumerate(page.sessions, 1):
            try:
                snapshot = access.load(summary.session_id, is_interaction=False)
                shown = _exported(snapshot) if snapshot else None
            except (CorruptValue, ValueError, TypeError, LookupError) as error:
                _log.error("session %r cannot be exported: %s", summary.session_id, error)
                shown = {"session_id": summary.session_id, "corrupt": True}
            if shown is None:
                continue
            if page.next and number == len(page.sessions):
                shown["cursor"] = page.next
            yield shown


def take_in(access: Access, sessions: Iterable[Mapping[str, Any]]) -> int:
    """Take in what ``export`` gave, and return the number of new sessions. Sessions that are there stay as they are."""
    required(access)
    count = 0
    for number, shown in enumerate(sessions, 1):
        if isinstance(shown, Mapping) and shown.get("corrupt"):
            continue
        try:
            save = _imported(access, shown)
        except InvalidInput as error:
            error.written = count > 0
            raise
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            refused = InvalidInput(
                f"this is no exported session ({error!r}); {count} before it were written", f"line {number}"
            )
            refused.written = count > 0
            raise refused from error
        try:
            count += not access.apply(save).repeated
        except SessionExists:
            continue  # it was taken in before
        except ConvstoreError as error:
            error.written = True if count else error.written
            raise
    return count


def _exported(snapshot: Snapshot) -> dict[str, Any]:
    """A session as a line of an export. What cannot be read is there as it is stored, never left out."""
    bodies_of(snapshot.elements)
    first = snapshot.next_seq - len(snapshot.elements)
    messages = [message_of(element, seq) for seq, element in enumerate(snapshot.elements, first)]
    return {
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
    form = access.limits
    check_session_id(line["session_id"])
    fields = content.fields_to_set(line["data"], form)
    elements = tuple(_imported_element(shown, form) for shown in line["messages"])
    if line["shape"] not in ("full", "data", "list"):
        raise ValueError(f"its shape is {line['shape']!r}")
    if line["shape"] == "data" and elements:
        raise ValueError("its shape has no messages")
    usage = Usage(**line["tokens"]) if line.get("tokens") else None
    content.check_facts({"tokens": usage or ()}, "session", form)
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


def _imported_element(shown: Mapping[str, Any], form: ContentLimits) -> bytes:
    names = ("metadata", "tokens", "edits", "edited_at_ms", "status")  # the status stands last in an envelope
    facts = {name.removesuffix("_ms"): shown[name] for name in names if shown.get(name) is not None}
    if "tokens" in facts:
        facts["tokens"] = list(Usage(**facts["tokens"]))
    _check_imported(facts, shown["created_at_ms"])
    content.check_facts(facts, "message", form)
    element = join_element(shown["created_at_ms"], json_text.encode(shown["body"]), facts)
    content.check_element(element, message_of(element, 1), form)
    return element


_STATUSES = ("unanswered", "failed", "interrupted", "superseded", "redacted")


def _check_imported(facts: Mapping[str, Any], created_at_ms: object) -> None:
    """ValueError if what an exported message tells beside its body is not what we write."""
    for time_ms in (created_at_ms, facts.get("edited_at", 0)):
        if type(time_ms) is not int or not 0 <= time_ms < LATEST_MS:
            raise ValueError(f"{time_ms!r} is no time in milliseconds")
    if facts.get("status", "failed") not in _STATUSES:
        raise ValueError(f"its status is {facts['status']!r}")
    if not isinstance(facts.get("metadata", {}), dict) or not isinstance(facts.get("edits", []), list):
        raise ValueError("its metadata is no object, or its edits are no list")
