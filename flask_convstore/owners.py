"""What is done with all sessions of an owner, page by page: each step can be taken again, so each can be gone on with."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from . import aliases, changes, codecs
from .conversations import Conversations, check_name, check_session_id
from .errors import (
    ConflictError,
    ConvstoreError,
    CorruptValue,
    Forbidden,
    InvalidInput,
    OwnerRequired,
    SessionExists,
    SessionMoved,
    SessionNotFound,
)
from .ids import new_id
from .models import (
    ANY,
    CALLER,
    LATEST_MS,
    Delete,
    FieldChange,
    Message,
    Owner,
    Rewrite,
    Save,
    Scope,
    Share,
    Snapshot,
    Touch,
    Usage,
    bodies_of,
    join_element,
    message_of,
)
from .sessions import AnySession

_log = logging.getLogger("flask_convstore")

_PAGE = 100
_ATTEMPTS = 20


def required(conversations: Conversations, owner: Owner | Scope) -> str:
    """The name of the owner that is meant.

    Raises:
        OwnerRequired: It is nobody in particular.
    """
    whose = conversations.whose(owner)
    if not isinstance(whose, str):
        raise OwnerRequired
    return whose


def current(conversations: Conversations, *, owner: Owner | Scope = CALLER) -> AnySession | None:
    """See ``ConversationStore.current_session``."""
    whose = required(conversations, owner)
    for summary in _all(conversations, whose, newest_first=True):
        session = conversations.get_session(summary.session_id, owner=whose)
        if session is not None and not session.moved_to:
            return session
    return None


def usage(conversations: Conversations, *, owner: Owner | Scope = CALLER) -> Usage:
    """See ``ConversationStore.usage``."""
    counts = [
        (summary.usage.input, summary.usage.output) for summary in _all(conversations, required(conversations, owner))
    ]
    return Usage(sum(count[0] for count in counts), sum(count[1] for count in counts))


def export(
    conversations: Conversations, *, after: str | None = None, owner: Owner | Scope = CALLER
) -> Iterator[dict[str, Any]]:
    """See ``ConversationStore.export_owner``."""
    whose, cursor = required(conversations, owner), after
    store = conversations.backend.store
    while True:
        page = store.page(whose, cursor, _PAGE)
        for number, summary in enumerate(page.sessions, 1):
            try:
                snapshot = store.load(summary.session_id, whose, is_interaction=False)
                shown = _exported(snapshot) if snapshot else None
            except (CorruptValue, ValueError, TypeError, LookupError) as error:
                _log.error("session %r cannot be exported: %s", summary.session_id, error)
                shown = {"session_id": summary.session_id, "corrupt": True}
            if shown:
                is_last = number == len(page.sessions)
                yield {**shown, **({"cursor": page.next} if is_last and page.next else {})}
        cursor = page.next
        if cursor is None:
            return


def delete(
    conversations: Conversations, *, seconds: float | None = None, owner: Owner | Scope = CALLER
) -> tuple[int, bool]:
    """See ``ConversationStore.delete_owner``; how many, and whether that was all: after so many *seconds* it stops."""
    whose, store, deleted = required(conversations, owner), conversations.backend.store, 0
    deadline = None if seconds is None else time.monotonic() + seconds
    for summary in _all(conversations, whose):
        if deadline is not None and time.monotonic() > deadline:
            return deleted, False
        with contextlib.suppress(CorruptValue):  # it is deleted all the same
            snapshot = store.load(summary.session_id, whose, 0, is_interaction=False)
            for alias in snapshot.aliases if snapshot else ():
                aliases.forget(conversations, alias, summary.session_id)
        try:
            store.apply(Delete(session_id=summary.session_id, owner=whose))
            deleted += 1
        except SessionNotFound:
            continue
    return deleted, True


def take_in(
    conversations: Conversations, sessions: Iterable[Mapping[str, Any]], *, owner: Owner | Scope = CALLER
) -> int:
    """See ``ConversationStore.import_sessions``."""
    whose, count = required(conversations, owner), 0
    for number, shown in enumerate(sessions, 1):
        if isinstance(shown, Mapping) and shown.get("corrupt"):
            continue
        try:
            save = _imported(conversations, shown, whose)
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
            count += not conversations.backend.store.apply(save).repeated
        except SessionExists:
            continue  # it was taken in before
        except ConvstoreError as error:
            error.written = error.written or count > 0
            raise
    return count


def rotate_id(
    conversations: Conversations, session_id: str, *, new_owner: str | None = None, owner: Owner | Scope = CALLER
) -> AnySession:
    """See ``ConversationStore.rotate_id``."""
    backend, whose = conversations.resolved(session_id, owner)
    if new_owner is not None:
        check_name(new_owner, "new_owner")
    snapshot: Snapshot | None = None
    for _ in range(_ATTEMPTS):
        snapshot = backend.store.load(session_id, whose)
        if snapshot is None:
            raise SessionNotFound(session_id)
        if whose not in (ANY, snapshot.owner):
            raise Forbidden(session_id)
        if snapshot.moved_to:
            raise SessionMoved(session_id, snapshot.moved_to)
        copy = _copied(snapshot, new_id(), new_owner or snapshot.owner)
        backend.store.apply(copy)
        if copy.owner == snapshot.owner:  # with another owner nobody has shared it
            for name, role in snapshot.shared.items():
                backend.store.apply(Share(session_id=copy.session_id, owner=ANY, name=name, role=role))
        kept = [alias for alias in snapshot.aliases if alias.owner in (None, copy.owner)]
        for alias in kept:
            backend.store.apply(Touch(session_id=copy.session_id, owner=ANY, led_by=alias))
        try:
            expected = f"{snapshot.created_at_ms}-{snapshot.version}"
            backend.store.apply(Delete(session_id=session_id, owner=whose, expected=expected))
        except (ConflictError, SessionNotFound):
            backend.store.apply(Delete(session_id=copy.session_id, owner=ANY))  # others wrote meanwhile
            continue
        for alias in snapshot.aliases:
            if alias in kept:
                aliases.move(conversations, alias, session_id, copy.session_id)
            else:  # it is the owner's before
                aliases.forget(conversations, alias, session_id)
        session = conversations.get_session(copy.session_id, owner=copy.owner)
        if session is None:
            raise SessionNotFound(session_id)
        return session
    raise ConflictError(session_id, "version", expected=None, actual=snapshot.version if snapshot else 0)


def _all(conversations: Conversations, whose: str, *, newest_first: bool = False) -> Iterator[Any]:
    cursor = None
    while True:
        page = conversations.backend.store.page(whose, cursor, _PAGE, newest_first=newest_first)
        yield from page.sessions
        cursor = page.next
        if cursor is None:
            return


def _copied(snapshot: Snapshot, session_id: str, owner: str | None) -> Save:
    return Save(
        session_id=session_id,
        owner=owner,
        mode="create",
        shape=snapshot.shape,
        fields=tuple(FieldChange(name, None, text) for name, text in snapshot.fields.items()),
        history=Rewrite(0, None if snapshot.shape == "data" else tuple(snapshot.elements)),
        ttl_ms=snapshot.own_ttl_ms,
        first_title=snapshot.title or "",
        usage=snapshot.usage,
        counts=owner != snapshot.owner,  # else it has the place of the one before
    )


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
        "data": {name: codecs.decode(text) for name, text in snapshot.fields.items()},
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


def _imported(conversations: Conversations, line: Mapping[str, Any], owner: Owner) -> Save:
    """The command that makes a session of a line of an export, under its own id."""
    form = conversations.backend.form
    check_session_id(line["session_id"])
    fields = changes.encoded_fields(line["data"], form, "data")
    changes.check_data_size(fields.items(), form)
    elements = []
    for shown in line["messages"]:
        names = ("metadata", "tokens", "edits", "edited_at_ms", "status")
        facts = {name.removesuffix("_ms"): shown[name] for name in names if shown.get(name) is not None}
        if "tokens" in facts:
            facts["tokens"] = list(Usage(**facts["tokens"]))
        _check_imported(facts, shown["created_at_ms"])
        changes.check_facts(facts, "message", form)
        element = join_element(shown["created_at_ms"], codecs.encode(shown["body"]), facts)
        changes.check_element(element, message_of(element, 1), form)
        elements.append(element)
    if line["shape"] not in ("full", "data", "list"):
        raise ValueError(f"its shape is {line['shape']!r}")
    if line["shape"] == "data" and elements:
        raise ValueError("its shape has no messages")
    usage = Usage(**line["tokens"]) if line.get("tokens") else None
    changes.check_facts({"tokens": usage or ()}, "session", form)
    title, ttl_ms = line.get("title"), line.get("ttl_ms")
    return Save(
        session_id=line["session_id"],
        owner=owner,
        mode="create",
        shape=line["shape"],
        fields=tuple(FieldChange(name, None, text) for name, text in fields.items()),
        history=Rewrite(0, None if line["shape"] == "data" else tuple(elements)),
        ttl_ms=None if ttl_ms is None else conversations.ttl_ms(ttl_ms / 1000),
        first_title="" if title is None else check_name(title, "title"),
        usage=usage,
    )


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
