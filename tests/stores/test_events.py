"""Promises of every store about the log of a watched session, and the bell of an owner's list."""

from __future__ import annotations

import pytest

from flask_convstore.domain.commands import (
    Append,
    BeginTurn,
    CommitTurn,
    Delete,
    Drop,
    EventPosition,
    Put,
    Share,
    Update,
)
from flask_convstore.domain.results import Ring, SessionEvents
from flask_convstore.domain.types import ANY, Owner
from flask_convstore.errors import ConvstoreError, SessionNotFound
from flask_convstore.stores.store import Bell, Store

from ..harness import Harness

HI = b'1{"at":1}\n{"role":"user","content":"hi"}'


def start(store: Store, session_id: str = "s", owner: Owner = ANY) -> None:
    store.apply(Put(session_id=session_id, owner=owner, mode="create", shape="full"))


def append(store: Store, session_id: str = "s", owner: Owner = ANY) -> int:
    return store.apply(Append(session_id=session_id, owner=owner, elements=(HI,))).version


def events(store: Store, after: tuple[int, int] | None = None, owner: Owner = ANY) -> SessionEvents:
    (found,) = store.session_events([EventPosition("s", owner, after)])
    if isinstance(found, ConvstoreError):
        raise found
    return found


def known(page: SessionEvents) -> tuple[int, int]:
    return page.created_at_ms, page.version


def test_a_watched_session_keeps_a_log(harness: Harness) -> None:
    """A reader that comes back gets each write that it has missed, in order, with its kind and its version."""
    store = harness.store
    start(store)
    append(store)
    first = events(store)
    assert (first.version, first.message_count, first.is_whole, first.events) == (2, 1, False, [])
    append(store)
    store.apply(Update(session_id="s", owner=ANY, title="new"))
    turn = BeginTurn(session_id="s", owner=ANY, element=HI, lease_ms=60_000)
    store.begin(turn)
    store.apply(CommitTurn(session_id="s", owner=ANY, turn=turn.attempt, elements=(HI,)))
    store.apply(Drop(session_id="s", owner=ANY, newest=1))
    found = events(store, known(first))
    assert found.is_whole
    assert [tuple(event) for event in found.events] == [
        (3, "messages", 2),
        (4, "data", 0),
        (5, "turn", 3),
        (6, "reply", 4),
        (7, "dropped", 4),
    ]
    assert [event.version for event in events(store, (first.created_at_ms, 5)).events] == [6, 7]
    assert events(store, known(found)).is_whole


def test_writes_before_the_watch_are_not_in_the_log(harness: Harness) -> None:
    """A gap is told, so that the reader reads the session again."""
    store = harness.store
    start(store)
    page = events(store)
    (one,) = store.session_events([EventPosition("s", ANY, known(page), 0)])
    assert isinstance(one, SessionEvents)
    for _ in range(150):
        append(store)
    assert not events(store, known(page)).is_whole
    assert events(store, (page.created_at_ms, 100)).is_whole
    assert not events(store, (page.created_at_ms - 1, 100)).is_whole


def test_a_successor_has_a_log_of_its_own(harness: Harness) -> None:
    """The log of a session that was deleted is not that of the next one with its id."""
    store = harness.store
    start(store)
    page = events(store)
    append(store)
    store.apply(Delete(session_id="s", owner=ANY))
    with pytest.raises(SessionNotFound):
        events(store)
    start(store)
    assert not events(store, known(page)).is_whole
    again = events(store)
    append(store)
    assert [event.version for event in events(store, known(again)).events] == [2]


def test_a_replaced_session_goes_on_with_its_log(harness: Harness) -> None:
    store = harness.store
    start(store)
    page = events(store)
    store.apply(Put(session_id="s", owner=ANY, mode="replace", shape="full"))
    found = events(store, known(page))
    assert (found.is_whole, [event.kind for event in found.events]) == (True, ["saved"])


def test_strangers_see_no_events(harness: Harness) -> None:
    """The log is for those who see the session."""
    store = harness.store
    start(store, owner="ann")
    store.apply(Share(session_id="s", owner="ann", name="bob", role="reader"))
    assert events(store, owner="bob").version == 2
    for stranger in (None, "eve"):
        with pytest.raises(SessionNotFound):
            events(store, owner=stranger)


def rings(bell: Bell) -> list[Ring]:
    found = bell.wait(0.3)
    while more := bell.wait(0.05):
        found += more
    return found


def test_the_bell_of_a_list(harness: Harness) -> None:
    """Writes to watched sessions of an owner ring with what they were. New sessions ring too."""
    store = harness.store
    start(store, "a", "ann")
    start(store, "b", "bob")
    bell = store.bell()
    bell.listen([("owner", "ann")])
    store.watch_list("ann", ["a"], 60_000)
    bell.wait(0.05)
    version = append(store, "a", "ann")
    append(store, "b", "bob")
    assert rings(bell) == [Ring(("owner", "ann"), "messages", version, "a")]
    start(store, "c/é{}", "ann")
    assert Ring(("owner", "ann")) in rings(bell)
    store.watch_list("ann", ["c/é{}"], 60_000)
    version = append(store, "c/é{}", "ann")
    assert rings(bell) == [Ring(("owner", "ann"), "messages", version, "c/é{}")]
    deleted = store.apply(Delete(session_id="a", owner="ann"))
    assert Ring(("owner", "ann"), "delete", deleted.version, "a") in rings(bell)
    bell.close()


def test_nobody_listens(harness: Harness) -> None:
    """A session that nobody watches keeps no log."""
    store = harness.store
    start(store, owner="ann")
    append(store, owner="ann")
    assert events(store, (1, 1)).events == []
