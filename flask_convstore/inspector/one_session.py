"""One session: all that an operator wants to know of it. Looking at it is no interaction."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..app.operator import Operator
from ..domain.clock import now_ms
from ..domain.results import Snapshot
from ..domain.types import ANY
from ..errors import ConvstoreError, CorruptValue, SessionNotFound, StoreError, StoreUnavailable
from ..operations.access import Access
from ..operations.salvage import salvage
from ..operations.transfer import line_of
from ..outages import journal_contents
from ..outages.continuation import all_keys
from ..outages.journal import Journal
from ..stores.connect import patience_of
from ..stores.redis.close_look import CloseLook, RawKey
from .messages import ShownMessage, hidden_value, indented, shown_message
from .search import access_to, size_of
from .wording import bytes_in_words, counted, hidden

MESSAGES = 50
"""Messages on a page."""
_MOST_OF_DATA = 200_000
"""Most characters of all fields on a page. The field that passes it is the last one."""


class Waits(NamedTuple):
    """The writes to a session that wait in this host's journal.

    Attributes:
        writes: Their number.
        oldest_at_ms: Time of acceptance of the oldest (None: none waits).
        aside: The reasons for which writes were set aside.
    """

    writes: int
    oldest_at_ms: int | None
    aside: tuple[str, ...]


@dataclass(kw_only=True)
class SeenSession:
    """A session as a page shows it.

    Attributes:
        snapshot: None: it is gone, or damaged.
        damage: The damage ("": there is none).
        left: What is left of a damaged session, as JSON ("": nothing).
        title: Its title, or the length of it where text is hidden (None: it has none).
        size: Bytes of data and messages (None: not known).
        data: Its fields, each with its value as JSON, or the length of both.
        messages: Those of this page, oldest first.
        older: Number of messages before them.
        turn_ends_ms: End of the lease of the turn in progress (None: there is none).
        has_ended: There was one, and it has ended within the last day.
        keys: Its keys on the server (None: it has none, or cannot be asked).
        waits: None: this host has no journal, or the journal cannot be read.
    """

    session_id: str
    place: str
    snapshot: Snapshot | None = None
    damage: str = ""
    left: str = ""
    title: str | None = None
    size: int | None = None
    data: list[tuple[str, str]] = field(default_factory=list)
    messages: list[ShownMessage] = field(default_factory=list)
    older: int = 0
    turn_ends_ms: int | None = None
    has_ended: bool = False
    keys: list[RawKey] | None = None
    waits: Waits | None = None


def see(operator: Operator, place: str, session_id: str, newer: int, *, hide_text: bool) -> SeenSession:
    """Look at a session, at the messages that stand before its *newer* newest ones.

    Raises:
        InvalidInput: There is no such place, or no session can have this id.
        StoreUnavailable, StoreMisconfigured: The store does not answer, or refuses.
    """
    access = access_to(operator, place)
    seen = SeenSession(session_id=session_id, place=place)
    try:
        snapshot = access.load(session_id, newer + MESSAGES, is_interaction=False)
        line = line_of(snapshot) if snapshot else {}
    except (CorruptValue, ValueError, TypeError, LookupError) as error:
        if isinstance(error, ConvstoreError) and not isinstance(error, CorruptValue):
            raise
        snapshot, seen.damage = None, str(error)
        left = salvage(access, session_id)
        seen.left = "" if left is None else _json(left, hide_text=hide_text)
    if snapshot:
        _show(seen, snapshot, line, newer, hide_text=hide_text)
        seen.turn_ends_ms = _turn_ends(access, session_id)
    elif not seen.damage:
        seen.has_ended = access.store.has_ended(session_id, ANY)
    seen.keys = _keys(operator, access, session_id)
    seen.waits = _waits(operator.state.journal, operator.namespace(place), session_id)
    return seen


def _show(seen: SeenSession, snapshot: Snapshot, line: Mapping[str, Any], newer: int, *, hide_text: bool) -> None:
    seen.snapshot = snapshot
    messages = line["messages"][: max(0, len(line["messages"]) - newer)]
    seen.title = hidden(snapshot.title) if hide_text and snapshot.title else snapshot.title
    seen.size = size_of(snapshot) if _is_whole(snapshot) else snapshot.stored_bytes
    seen.data = list(_data(line["data"], hide_text=hide_text))
    seen.messages = [shown_message(message, hide_text=hide_text) for message in messages]
    seen.older = snapshot.count - len(snapshot.elements)


def _is_whole(snapshot: Snapshot) -> bool:
    return len(snapshot.elements) == snapshot.count


def _json(value: Any, *, hide_text: bool) -> str:
    return hidden_value(value) if hide_text else indented(value)


def _data(fields: Mapping[str, Any], *, hide_text: bool) -> Iterator[tuple[str, str]]:
    """Make the fields ready, as much of them as a page shows. Names are hidden too: an app may use what people type."""
    left = _MOST_OF_DATA
    for name, value in sorted(fields.items()):
        shown = hidden(name) if hide_text and name else name
        text = _json(value, hide_text=hide_text) if left > 0 else "… The export has it."
        yield shown, text
        left -= len(text)


def _turn_ends(access: Access, session_id: str) -> int | None:
    try:
        left_ms = access.store.turn_lease(session_id, ANY).remaining_ms
    except (SessionNotFound, StoreUnavailable):
        return None
    return now_ms() + left_ms if left_ms > 0 else None


def _keys(operator: Operator, access: Access, session_id: str) -> list[RawKey] | None:
    client = operator.state.client
    if client is None or operator.state.circuit.is_open:
        return None
    try:
        return CloseLook(client, access.settings.prefix, patience_of(access.settings)).keys(session_id)
    except StoreError:
        return None


def _waits(journal: Journal | None, namespace: str, session_id: str) -> Waits | None:
    """Find the writes to one session, or to its continuations, that wait in the journal."""
    try:
        return _waiting_in(journal, namespace, session_id) if journal else None
    except StoreUnavailable:
        return None


def _waiting_in(journal: Journal, namespace: str, session_id: str) -> Waits:
    keys = journal.keys(namespace, session_id, all_keys(session_id)) if journal.exists() else []
    found = [one for key in keys if (one := journal_contents.waiting_of(journal, namespace, key))]
    times = [one.oldest_at_ms for one in found if one.oldest_at_ms is not None]
    wanted = namespace, session_id
    problems = [one.problem for one in journal_contents.aside(journal) if (one.namespace, one.session_id) == wanted]
    return Waits(sum(one.commands for one in found), min(times, default=None), tuple(problems))


def facts_of(seen: SeenSession, snapshot: Snapshot) -> list[tuple[str, str]]:
    """List what is known of a session beside its times, each as label and text."""
    shared = ", ".join(f"{name} ({role})" for name, role in sorted(snapshot.shared.items()))
    aliases = ", ".join(f"{alias.name} (of {alias.owner or 'nobody'})" for alias in snapshot.aliases)
    usage = snapshot.usage
    facts: Mapping[str, Any] = {
        "Messages": counted(snapshot.count, "message"),
        "Size": bytes_in_words(seen.size),
        "Tokens of a model": f"{usage.input:,} in, {usage.output:,} out",
        "Version": f"{snapshot.version:,}, messages last changed with {snapshot.history_version:,}",
        "Form": snapshot.shape,
        "Shared with": shared,
        "Aliases": aliases,
    }
    return [(label, text) for label, text in facts.items() if text]
