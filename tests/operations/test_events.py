"""Everything that happens to a session, and to an owner's list, as its readers get it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from flask_convstore.domain.commands import EventPosition
from flask_convstore.domain.results import SessionEvents
from flask_convstore.domain.types import ANY
from flask_convstore.errors import OwnerRequired, SessionNotFound, StoreMisconfigured
from flask_convstore.operations import events
from flask_convstore.operations.events import Change, ListChange
from flask_convstore.stores.memory import MemoryStore

from ..harness import SETTINGS, Harness, PlainConversations, limits_for

_readings: list[Reading] = []


@pytest.fixture(autouse=True)
def _nobody_reads_on() -> Iterator[None]:
    yield
    while _readings:
        _readings.pop().stop()


class Reading:
    """Reads changes in a thread of its own."""

    def __init__(self, changes: Iterator[Any]) -> None:
        self.got: list[Any] = []
        self.is_stopped = False
        self._changes = changes
        _readings.append(self)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        for change in self._changes:
            if change is not None:
                self.got.append(change)
            if self.is_stopped:
                break
        self._changes.close()  # type: ignore[attr-defined]

    def stop(self) -> None:
        self.is_stopped = True
        self._thread.join(5)

    def until(self, is_so: Callable[[list[Any]], bool]) -> list[Any]:
        deadline = time.monotonic() + 5
        while not is_so(self.got):
            assert time.monotonic() < deadline, self.got
            time.sleep(0.01)
        return self.got

    def join(self) -> list[Any]:
        self._thread.join(5)
        assert not self._thread.is_alive()
        return self.got


def kinds(got: list[Any]) -> list[str]:
    return [change.kind for change in got]


def test_a_session_is_followed(conversations: PlainConversations) -> None:
    """Each write is told once, in order, with the version by which the reader knows what it has."""
    conversations.save_session("s", {"history": []})
    reading = Reading(conversations.subscribe("s", heartbeat=0.2))
    reading.until(lambda got: len(got) == 1)
    conversations.append("s", {"role": "user", "content": "hi"})
    with conversations.turn("s", "how are you?") as turn:
        turn.reply("fine")
    conversations.update_session("s", {"mood": "good"})
    conversations.drop("s", newest=1)
    reading.until(lambda got: "dropped" in kinds(got))
    conversations.delete_session("s")
    got = reading.join()
    assert kinds(got) == ["snapshot", "messages", "turn", "reply", "data", "dropped", "ended"]
    assert [change.version for change in got[:-1]] == [1, 2, 3, 4, 5, 6]
    assert [change.first_seq for change in got[1:-1]] == [1, 2, 3, 0, 3]
    assert [change.turn for change in got[2:4]] == ["msg-3", "msg-3"]


def test_who_comes_back_misses_nothing(conversations: PlainConversations) -> None:
    """Changes made while nobody reads are told to those who had read shortly before. Others get the state."""
    conversations.save_session("s", {"history": []})
    changes = conversations.subscribe("s", heartbeat=0.2)
    first = next(changes)
    assert isinstance(first, Change)
    changes.close()  # type: ignore[attr-defined]
    conversations.append("s", "one")
    conversations.append("s", "two")
    again = conversations.subscribe("s", after=first.id, heartbeat=0.2)
    found = [next(again), next(again), next(again)]
    assert [change and change.kind for change in found] == ["messages", "messages", None]
    for unknown in ("7-1", "nonsense", "", None):
        changes = conversations.subscribe("s", after=unknown, heartbeat=0.2)
        state = next(changes)
        assert state
        assert (state.kind, state.version, state.message_count) == ("snapshot", 3, 2)


def test_strangers_get_an_error_at_once(conversations: PlainConversations) -> None:
    conversations.save_session("s", {"history": []}, owner="ann")
    for owner in (None, "eve"):
        with pytest.raises(SessionNotFound):
            conversations.subscribe("s", owner=owner)
    with pytest.raises(SessionNotFound):
        conversations.subscribe("none")
    with pytest.raises(OwnerRequired):
        events.of_list(conversations.access(ANY))


def test_a_guest_who_is_sent_away(conversations: PlainConversations) -> None:
    """Whom a session is not shared with any more gets no further changes."""
    conversations.save_session("s", {"history": []}, owner="ann")
    conversations.share("s", "bob", role="reader", owner="ann")
    reading = Reading(conversations.subscribe("s", owner="bob", heartbeat=0.2))
    reading.until(lambda got: len(got) == 1)
    conversations.append("s", "hi", owner="ann")
    reading.until(lambda got: len(got) == 2)
    conversations.unshare("s", "bob", owner="ann")
    conversations.append("s", "secret", owner="ann")
    assert kinds(reading.join()) == ["snapshot", "messages", "ended"]


def test_an_owners_list_is_followed(conversations: PlainConversations) -> None:
    """New sessions, changes and deletions of the owner's sessions are told, and nothing of other owners'."""
    conversations.save_session("old", {"history": []}, owner="ann")
    conversations.save_session("bobs", {"history": []}, owner="bob")
    reading = Reading(events.of_list(conversations.access("ann"), heartbeat=0.2))
    (first,) = reading.until(lambda got: len(got) == 1)
    assert isinstance(first, ListChange)
    assert [one.session_id for one in first.sessions] == ["old"]
    conversations.append("old", "hi", owner="ann")
    conversations.append("bobs", "hi", owner="bob")
    conversations.save_session("new", {"history": []}, owner="ann")
    reading.until(lambda got: "new" in [change.session_id for change in got])
    conversations.append("new", "hi", owner="ann")
    conversations.delete_session("old", owner="ann")
    got = reading.until(lambda got: "deleted" in kinds(got))
    told = [(change.kind, change.session_id) for change in got[1:]]
    assert ("messages", "old") in told
    assert ("deleted", "old") in told
    assert {session_id for _, session_id in told} == {"old", "new"}
    assert max(change.version for change in got if change.session_id == "new") == 2


def test_waiting_for_a_session(conversations: PlainConversations) -> None:
    """A change wakes who waits for it, also the first one."""
    waiter: list[Any] = []

    def wait() -> None:
        waiter.append(conversations.wait("s", until=lambda session: session and session["n"] == 2, timeout=10))

    thread = threading.Thread(target=wait)
    thread.start()
    conversations.save_session("s", {"n": 1})
    conversations.update_session("s", {"n": 2})
    thread.join(5)
    assert waiter[0]["n"] == 2
    with pytest.raises(TimeoutError):
        conversations.wait("s", until=lambda session: False, timeout=0.1)


def test_a_log_does_not_outlive_its_session(harness: Harness, conversations: PlainConversations) -> None:
    """The log of a session that has expired is no part of the next one of the same id."""
    conversations.save_session("s", {"history": []})
    harness.store.session_events([EventPosition("s", ANY)])  # it is watched now
    for text in ("one", "two", "three"):
        conversations.append("s", text)
    harness.expire("s")
    conversations.save_session("s", {"history": []})
    for text in ("one", "two"):
        conversations.append("s", text)
    (state,) = harness.store.session_events([EventPosition("s", ANY)])
    assert isinstance(state, SessionEvents)
    (page,) = harness.store.session_events([EventPosition("s", ANY, (state.created_at_ms, 1))])
    assert isinstance(page, SessionEvents)
    assert (page.is_whole, page.events) == (False, [])


def test_a_list_is_compared_once_it_is_watched(
    conversations: PlainConversations, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A change between the first look at a list and the beginning of its watch is not missed."""
    conversations.save_session("s", {"history": []}, owner="ann")
    store = conversations.backend.store
    watch = type(store).watch_list

    def late(self: Any, *arguments: Any) -> None:
        if not late.done:  # type: ignore[attr-defined]
            late.done = True  # type: ignore[attr-defined]
            conversations.append("s", "hi", owner="ann")
        watch(self, *arguments)

    late.done = False  # type: ignore[attr-defined]
    monkeypatch.setattr(type(store), "watch_list", late)
    first = next(events.of_list(conversations.access("ann")))
    assert first
    assert [one.version for one in first.sessions] == [2]


def test_positions_of_another_feed_are_not_known(conversations: PlainConversations) -> None:
    """A reader who comes back after the feed has ended gets the state, however many changes the next feed has."""
    conversations.save_session("s", {"history": []}, owner="ann")
    positions = set()
    for _ in range(5):
        changes = events.of_list(conversations.access("ann"), heartbeat=0.2)
        first = next(changes)
        assert first
        positions.add(first.id)
        changes.close()  # type: ignore[attr-defined]
    assert len(positions) == 5


class _Deaf:
    """A bell that the server does not let us hear."""

    def listen(self, sources: Any) -> None:
        pass

    def wait(self, seconds: float) -> list[Any]:
        raise StoreMisconfigured("no channels")

    def close(self) -> None:
        pass


def test_a_user_who_may_not_listen_is_told_within_some_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions and lists are looked at each second then."""
    conversations = PlainConversations(MemoryStore(limits_for(SETTINGS)))
    monkeypatch.setattr(conversations.backend.store, "bell", _Deaf)
    conversations.save_session("s", {"history": []}, owner="ann")
    session = Reading(conversations.subscribe("s", heartbeat=0.2))
    listed = Reading(events.of_list(conversations.access("ann"), heartbeat=0.2))
    for reading in (session, listed):
        reading.until(lambda got: len(got) == 1)
    conversations.append("s", "hi", owner="ann")
    for reading in (session, listed):
        reading.until(lambda got: len(got) == 2)


def test_a_session_that_cannot_be_read_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader gets the error instead of silence. It is no end of the session."""
    conversations = PlainConversations(MemoryStore(limits_for(SETTINGS)))
    store = conversations.backend.store
    conversations.save_session("s", {"history": []})
    changes = conversations.subscribe("s", heartbeat=5)
    assert next(changes)
    refusal = StoreMisconfigured("no rights")
    monkeypatch.setattr(store, "session_events", lambda asked: [refusal for _ in asked])
    with pytest.raises(StoreMisconfigured):
        next(changes)
    access = conversations.access("ann")

    def refused(*arguments: Any) -> None:
        raise refusal

    monkeypatch.setattr(store, "watch_list", refused)
    with pytest.raises(StoreMisconfigured):
        list(events.of_list(access, heartbeat=5))
