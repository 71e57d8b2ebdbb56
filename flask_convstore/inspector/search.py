"""Search for sessions, within bounds: an id is looked up, an owner has an index, all else is a walk that ends soon."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from ..app.operator import Operator
from ..domain.clock import monotonic, now_ms
from ..domain.results import Page, Snapshot, Summary
from ..domain.types import ANY, Owner
from ..errors import ConvstoreError, CorruptValue, InvalidInput, StoreError
from ..operations.access import Access
from ..outages import journal_contents
from ..stores.connect import patience_of
from ..stores.redis.close_look import CloseLook, CloserFacts

MOST_LOOKED_AT = 2_000
"""Sessions at which one walk looks, and a page of the store more at most."""
SHOWN = 50
"""Sessions on a page."""
_SECONDS = 2.0
_PAGE = 500

KINDS = {"id": "Id", "title": "Title contains", "owner": "Owner", "nobody": "Without an owner"}
STATES = {
    "any": "Any state",
    "turn": "Turn in progress",
    "moved": "Goes on elsewhere",
    "damaged": "Damaged",
    "journal": "Waits in this host's journal",
}
ORDERS = {
    "changed": "Last changed",
    "active": "Last used",
    "created": "Newest",
    "expires": "Expires first",
    "size": "Largest",
    "messages": "Most messages",
}

_FACTS_FOR = {"turn", "moved", "size"}
"""States and orders that need facts which no list tells."""


class Question(NamedTuple):
    """A search.

    Attributes:
        text: The id, the owner, or a part of the title ("": all).
        kind, state, order: Keys of ``KINDS``, ``STATES`` and ``ORDERS``.
        cursor: Where the walk goes on ("": at the beginning).
        start: Number of sessions that earlier pages of this walk have shown.
    """

    text: str = ""
    kind: str = "id"
    state: str = "any"
    order: str = "changed"
    place: str = "sessions"
    cursor: str = ""
    start: int = 0

    @property
    def is_a_walk(self) -> bool:
        """It walks through the sessions."""
        return self.state != "journal" and not (self.kind == "id" and self.text)


@dataclass(frozen=True)
class FoundSession:
    """A session that was found.

    Attributes:
        summary: None: it is damaged, or waits in the journal, and nothing else is known.
        size: Bytes of its data and messages (None: not known).
        states: Anything special about it, in words.
    """

    session_id: str
    summary: Summary | None = None
    size: int | None = None
    turn_until_ms: int = 0
    moved_to: str | None = None
    states: tuple[str, ...] = ()


class SearchResult(NamedTuple):
    """The result of a search.

    Attributes:
        sessions: Those of one page.
        found: Number of those that were found in all.
        looked_at: Number of sessions at which the walk looked.
        cursor: Where it goes on (None: all were looked at).
        next_start: The ``start`` of the next page of this walk (None: there is none).
    """

    sessions: list[FoundSession]
    found: int
    looked_at: int
    cursor: str | None = None
    next_start: int | None = None


def search(operator: Operator, question: Question, *, hide_text: bool) -> SearchResult:
    """Search for sessions. That is no interaction with them.

    Raises:
        InvalidInput: The question cannot be asked, such as for a title where titles are hidden.
        StoreUnavailable, StoreMisconfigured: The store does not answer, or refuses.
    """
    _check(question, hide_text=hide_text)
    access = access_to(operator, question.place)
    look = _closer_look(operator, access)
    if question.state == "journal":
        return _page(_journalled(operator, question), question, look, looked_at=0, cursor=None)
    if question.kind == "id" and question.text:
        found = _by_id(access, question.text)
        return _page(found, question, look, looked_at=len(found), cursor=None)
    return _walked(access, question, look)


def _check(question: Question, *, hide_text: bool) -> None:
    choices = {"by": (question.kind, KINDS), "state": (question.state, STATES), "sort": (question.order, ORDERS)}
    for path, (chosen, known) in choices.items():
        if chosen not in known:
            raise InvalidInput(f"must be one of {', '.join(known)}", path)
    if hide_text and question.kind == "title" and question.text:
        raise InvalidInput("titles are hidden here, and so they cannot be searched", "by")


def access_to(operator: Operator, place: str) -> Access:
    """Give access to a part of the store, through the circuit and the journal.

    Raises:
        InvalidInput: There is no such part.
    """
    known = operator.places()
    if place not in known:
        raise InvalidInput(f"must be one of {', '.join(known)}", "place")
    return known[place]


Look = Callable[[Sequence[str]], Sequence[CloserFacts]]
"""Finds the facts of sessions that no list tells."""


def _closer_look(operator: Operator, access: Access) -> Look:
    client = operator.state.client
    if client is None:
        return lambda ids: [_facts_in_memory(access, session_id) for session_id in ids]
    if operator.state.circuit.is_open:
        return lambda ids: [CloserFacts(None, 0, None) for _ in ids]
    return CloseLook(client, access.settings.prefix, patience_of(access.settings)).facts


def _facts_in_memory(access: Access, session_id: str) -> CloserFacts:
    snapshot = access.load(session_id, is_interaction=False)
    if snapshot is None:
        return CloserFacts(None, 0, None)
    turn_until_ms = now_ms() + access.store.turn_lease(session_id, ANY).remaining_ms
    return CloserFacts(size_of(snapshot), turn_until_ms, snapshot.moved_to)


def size_of(snapshot: Snapshot) -> int:
    """Count the bytes of a session's data and messages, all of which were read unless the store tells the size."""
    if snapshot.stored_bytes is not None:
        return snapshot.stored_bytes
    data = sum(len(name.encode()) + len(text) for name, text in snapshot.fields.items())
    return data + sum(map(len, snapshot.elements))


def _by_id(access: Access, session_id: str) -> list[FoundSession]:
    try:
        snapshot = access.load(session_id, 0, is_interaction=False)
    except CorruptValue:
        return [FoundSession(session_id, states=("damaged",))]
    except ConvstoreError as error:
        if isinstance(error, StoreError):
            raise
        return []  # no session can have this id
    return [FoundSession(session_id, summary_of(snapshot))] if snapshot else []


def summary_of(snapshot: Snapshot) -> Summary:
    """Make a summary of a session that was read."""
    return Summary(
        session_id=snapshot.session_id,
        owner=snapshot.owner,
        version=snapshot.version,
        created_at_ms=snapshot.created_at_ms,
        updated_at_ms=snapshot.updated_at_ms,
        expires_at_ms=snapshot.expires_at_ms,
        active_at_ms=snapshot.updated_at_ms,
        message_count=snapshot.count,
        title=snapshot.title,
        usage=snapshot.usage,
        began_at_ms=snapshot.began_at_ms,
    )


def _journalled(operator: Operator, question: Question) -> list[FoundSession]:
    """List the sessions of one place that wait in the journal of this host, the oldest first."""
    journal, namespace = operator.state.journal, operator.namespace(question.place)
    if journal is None:
        return []
    found = []
    for one in journal_contents.waiting(journal):
        if one.namespace == namespace and question.text in ("", one.journalled.session_id):
            writes = f"{one.commands} writes wait" if one.commands != 1 else "1 write waits"
            found.append(FoundSession(one.journalled.session_id, states=(writes,)))
        if len(found) >= MOST_LOOKED_AT:
            break
    return found


def _walked(access: Access, question: Question, look: Look) -> SearchResult:
    found: list[FoundSession] = []
    looked_at, cursor, ends_at = 0, question.cursor or None, monotonic() + _SECONDS
    needs_facts = not _FACTS_FOR.isdisjoint((question.state, question.order))
    for page in _pages(access.of(_owner(question)), cursor):
        looked_at += len(page.sessions) + len(page.damaged)
        some = list(_fitting(page, question))
        found += [one for one in (_closer(some, look) if needs_facts else some) if _is_in(one, question.state)]
        cursor = page.next
        if looked_at >= MOST_LOOKED_AT or monotonic() > ends_at:
            break
    return _page(found, question, look, looked_at=looked_at, cursor=cursor)


def _owner(question: Question) -> Owner:
    if question.kind == "owner" and question.text:
        return question.text
    return None if question.kind == "nobody" else ANY


def _pages(access: Access, cursor: str | None) -> Iterator[Page]:
    while True:
        page = access.store.page(access.owner, cursor, _PAGE, newest_first=True, order="updated")
        yield page
        cursor = page.next
        if cursor is None:
            return


def _fitting(page: Page, question: Question) -> Iterator[FoundSession]:
    """Give the sessions of a page that have the title and may have the state."""
    wanted = question.text.casefold() if question.kind == "title" else ""
    if question.state != "damaged":
        for summary in page.sessions:
            if not wanted or wanted in (summary.title or "").casefold():
                yield FoundSession(summary.session_id, summary, moved_to=None)
    if question.state in ("any", "damaged") and not wanted:
        yield from (FoundSession(session_id, states=("damaged",)) for session_id in page.damaged)


def _is_in(found: FoundSession, state: str) -> bool:
    if state == "turn":
        return found.turn_until_ms > now_ms()
    if state == "moved":
        return found.moved_to is not None
    return True


def _closer(sessions: Sequence[FoundSession], look: Look) -> list[FoundSession]:
    """Add the facts that no list tells."""
    facts = look([one.session_id for one in sessions])
    return [_with(one, each) for one, each in zip(sessions, facts, strict=True)]


def _with(found: FoundSession, facts: CloserFacts) -> FoundSession:
    states = list(found.states)
    if facts.turn_until_ms > now_ms():
        states.append("turn in progress")
    if facts.moved_to is not None:
        states.append("goes on elsewhere")
    size, turn_until_ms, moved_to = facts
    return replace(found, size=size, turn_until_ms=turn_until_ms, moved_to=moved_to, states=tuple(states))


_KEYS: dict[str, Callable[[FoundSession, Summary], float]] = {
    "changed": lambda _, summary: -summary.updated_at_ms,
    "active": lambda _, summary: -summary.active_at_ms,
    "created": lambda _, summary: -(summary.began_at_ms or summary.created_at_ms),
    "expires": lambda _, summary: summary.expires_at_ms,
    "size": lambda found, _: -(found.size or 0),
    "messages": lambda _, summary: -summary.message_count,
}


def _page(
    found: list[FoundSession], question: Question, look: Look, *, looked_at: int, cursor: str | None
) -> SearchResult:
    """Sort what was found, those of which little is known first, and cut a page out of it."""
    key = _KEYS[question.order]
    found.sort(key=lambda one: (one.summary is not None, key(one, one.summary) if one.summary else 0, one.session_id))
    end = question.start + SHOWN
    shown = found[question.start : end]
    if _FACTS_FOR.isdisjoint((question.state, question.order)):
        shown = _closer(shown, look)
    return SearchResult(shown, len(found), looked_at, cursor, end if end < len(found) else None)
