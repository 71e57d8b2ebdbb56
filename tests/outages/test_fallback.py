"""While the store is away: sessions that are started here, seen from one process or two, and what is handed over."""

from __future__ import annotations

import contextlib
import gc
import itertools
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from flask_convstore.config import Settings, limits_of
from flask_convstore.domain.clock import now_ms
from flask_convstore.domain.commands import (
    Append,
    BeginTurn,
    CommitTurn,
    Delete,
    Drop,
    Edit,
    Extend,
    FieldChange,
    Merge,
    MoveConversation,
    NoteAlias,
    Put,
    RenewTurn,
    Rewrite,
    Share,
    Touch,
    Update,
)
from flask_convstore.domain.ids import id_made_away, made_away_at_ms, new_id
from flask_convstore.domain.messages import Usage, join_element, own_id, with_id, with_status
from flask_convstore.domain.results import Begun, Messages
from flask_convstore.domain.types import ANY, Alias, Limits
from flask_convstore.errors import (
    ConflictError,
    ConvstoreError,
    MessageNotFound,
    SessionExists,
    SessionNotFound,
    StoreUnavailable,
    TurnInProgress,
)
from flask_convstore.outages.circuit import Circuit
from flask_convstore.outages.command_json import command_of, text_of
from flask_convstore.outages.fallback import FallbackStore
from flask_convstore.outages.journal import Journal, Status
from flask_convstore.outages.other_hosts import OtherHostsStore
from flask_convstore.outages.replay import Replayer
from flask_convstore.outages.session_replay import Replay, Replayed
from flask_convstore.stores.memory import MemoryStore
from flask_convstore.stores.redis.store import RedisStore
from flask_convstore.stores.store import Store, StoreAround, one_by_one, written

from ..clocks import Clock
from ..processes import on_disk, wait_for
from ..servers import Server

LIMITS = limits_of(Settings(max_tokens=20, max_history=8))


class Switch(StoreAround):
    """A store that can be away."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.written: bool | None = False
        self.is_away = True
        self.calls: list[Any] = []
        self.options: list[dict[str, Any]] = []

    def _call(self, method: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        if self.is_away:
            raise StoreUnavailable("away", written=self.written, is_down=True)
        self.calls += arguments[:1]
        self.options.append(options)
        return method(*arguments, **options)


class OneByOne(StoreAround):
    """A store that does one command after the other, whose subclass sees each."""

    def apply_each(self, commands: Any) -> Any:
        return one_by_one(lambda command: written(self, command), commands)


class Failing(OneByOne):
    """A store that does so many commands."""

    def __init__(self, store: Store, left: int) -> None:
        super().__init__(store)
        self.left = left

    def apply(self, command: Any) -> Any:
        self.left -= 1
        if self.left < 0:
            raise StoreUnavailable("away again", written=None)
        return super().apply(command)


class Host:
    """Workers of one host: stores around one store, which share a folder."""

    def __init__(
        self,
        store: Store,
        folder: Path | None,
        workers: int = 2,
        limits: Limits = LIMITS,
        *,
        continues: bool = False,
        has_owners: bool = False,
        keep_warm: int = 0,
    ) -> None:
        self.switch = Switch(store)
        self.journals = [Journal(folder, "target", 2**24, 1.0) for _ in range(workers)]
        self.circuit = Circuit(10**9)
        self.told: list[Exception] = []
        self.workers = [
            FallbackStore(
                OtherHostsStore(self.switch, limits),
                journal,
                self.circuit,
                "",
                limits,
                lambda: None,
                continues=continues,
                has_owners=lambda: has_owners,
                keep_warm=keep_warm,
            )
            for journal in self.journals
        ]

    def come_back(self) -> None:
        """The store answers again, and all is handed over."""
        self.switch.is_away = False
        part = Replayed("", self.switch, self.workers[0], self.told.append)
        Replayer(self.journals[0], self.circuit, lambda: [part], 10).wake()
        wait_for(lambda: not self.journals[0].may_hold(), "it is not handed over")

    def close(self) -> None:
        for journal in self.journals:
            journal.close()


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    made = Host(MemoryStore(LIMITS), tmp_path / "journal")
    yield made
    made.close()


@pytest.fixture
def told(host: Host) -> list[Exception]:
    """The errors of what could not be handed over."""
    return host.told


def replay(store: Store, journal: Journal, entry: Any) -> None:
    part = Replayed("", store, FallbackStore(store, journal, Circuit(1), "", LIMITS, lambda: None))
    Replay(part, journal, entry, 10, 0, set()).run()


def said(text: str) -> bytes:
    return join_element(1, b'"%b"' % text.encode())


def bare(element: bytes) -> bytes:
    """The message without the id that it was given while the store was away."""
    return re.sub(rb',"id":"msg-j[0-9a-f]{16}"', b"", element)


def edited(worker: Store, seq: int, text: str) -> Edit:
    """The edit of a message of "s", as it is read at this moment."""
    found = worker.message("s", ANY, seq)
    assert found
    (loaded,) = found.elements
    return Edit(session_id="s", owner=None, seq=seq, loaded=loaded, element=with_id(said(text), own_id(loaded)))


def start(session_id: str, *texts: str, mode: Any = "replace", owner: Any = None, **given: Any) -> Put:
    elements = tuple(said(text) for text in texts)
    return Put(session_id=session_id, owner=owner, mode=mode, shape="full", elements=elements, **given)


def merge(session_id: str, history: Any, **given: Any) -> Merge:
    return Merge(session_id=session_id, owner=None, history=history, **given)


def upsert(session_id: str, *texts: str, owner: Any = None, **given: Any) -> Merge:
    history = Extend(0, tuple(said(text) for text in texts))
    return Merge(session_id=session_id, owner=owner, shape="full", history=history, creates=True, **given)


def set_clock(monkeypatch: pytest.MonkeyPatch, clock: Callable[[], int]) -> None:
    monkeypatch.setattr(Journal, "now_ms", lambda _: clock())


def start_away(worker: Store, *texts: str, owner: Any = None, **given: Any) -> str:
    """Start a session under an id of ours while the store is away. The result is the id that it got instead."""
    receipt = worker.apply(start(new_id(), *texts, mode="create", owner=owner, may_start_away=True, **given))
    assert receipt.fallback
    assert receipt.session_id
    return receipt.session_id


def append(session_id: str, *texts: str, owner: Any = None, **given: Any) -> Append:
    return Append(session_id=session_id, owner=owner, elements=tuple(said(text) for text in texts), **given)


def texts_in(store: Store, session_id: str, owner: Any = None) -> list[str] | None:
    snapshot = store.load(session_id, owner)
    return snapshot and [element.split(b'"')[-2].decode() for element in snapshot.elements]  # type: ignore[return-value]


def test_a_session_that_is_started_while_the_store_is_away_goes_on_in_every_worker(host: Host) -> None:
    one, other = host.workers
    receipt = one.apply(start("s", "a"))
    assert (receipt.version, receipt.level, receipt.fallback) == (1, "journal", "journal")
    assert other.apply(append("s", "b")).version == 2
    assert texts_in(one, "s") == texts_in(other, "s") == ["a", "b"]
    snapshot = one.load("s", None, 1)
    assert snapshot
    assert (snapshot.fallback, snapshot.version, snapshot.next_seq, len(snapshot.elements)) == ("journal", 2, 3, 1)

    host.come_back()
    for worker in host.workers:
        found = worker.load("s", None)
        assert found
        assert (found.fallback, found.version, found.created_at_ms) == (None, 2, receipt.created_at_ms)
        assert texts_in(worker, "s") == ["a", "b"]
    assert one.apply(append("s", "c")).level == "memory"


def test_what_the_store_has_is_not_answered_from_here(host: Host) -> None:
    host.switch.is_away = False
    host.switch.apply(start("there", "a"))
    host.switch.is_away = True
    worker = host.workers[0]
    for call in (
        lambda: worker.load("there", None),
        lambda: worker.load("nowhere", None),
        lambda: worker.apply(append("there", "b")),
        lambda: worker.apply(Delete(session_id="there", owner=None)),
        lambda: worker.apply(start("there", "b", mode="create")),
        lambda: worker.apply(upsert("nowhere", "b")),
        lambda: worker.apply(start("nowhere", "b", mode="first")),
        lambda: worker.begin(BeginTurn(session_id="there", owner=None, element=said("b"), lease_ms=1000)),
        lambda: worker.page(None),
        lambda: worker.follow(Alias(None, "x"), 1000),
    ):
        with pytest.raises(StoreUnavailable):
            call()
    assert not host.journals[0].may_hold()


def test_a_plain_save_takes_the_place_of_what_was_there(host: Host) -> None:
    host.switch.is_away = False
    before = host.switch.apply(start("s", "old", "older"))
    host.switch.is_away = True
    time.sleep(0.01)  # times are compared to the millisecond
    worker = host.workers[0]
    worker.apply(start("s", "new"))
    worker.apply(append("s", "newer", expected="1"))
    assert texts_in(worker, "s") == ["new", "newer"]
    host.come_back()
    found = worker.load("s", None)
    assert found
    assert (texts_in(worker, "s"), found.version) == (["new", "newer"], 2)
    assert found.created_at_ms > before.created_at_ms


def test_a_try_that_has_landed_without_an_answer_is_replaced(host: Host) -> None:
    worker = host.workers[0]
    save = start("s", "a")
    host.switch.is_away = False
    host.switch.apply(save)  # it landed
    host.switch.is_away, host.switch.written = True, None
    receipt = worker.apply(save)
    worker.apply(append("s", "b", created_at_ms=receipt.created_at_ms, expected=f"{receipt.created_at_ms}-1"))
    host.come_back()
    assert texts_in(worker, "s") == ["a", "b"]


def test_a_try_that_lands_late_is_not_done_again_over_what_came_behind_it(host: Host) -> None:
    worker, save = host.workers[0], start("s", "a")
    host.switch.written = None
    worker.apply(save)  # nobody knows whether it has landed
    host.switch.is_away = False
    host.switch.apply(save)  # it lands now
    host.switch.apply(append("s", "acknowledged"))
    worker.apply(append("s", "journalled"))
    host.come_back()
    assert texts_in(worker, "s") == ["a", "acknowledged", "journalled"]


def test_what_was_written_since_is_not_replaced(host: Host, told: list[Exception]) -> None:
    worker = host.workers[0]
    worker.apply(start("s", "one", "two"))
    time.sleep(0.01)
    host.switch.is_away = False
    theirs = append("s", "theirs")
    host.switch.apply(start("s", "one"))
    host.switch.apply(theirs)  # by another host, which was not cut off
    host.come_back()
    assert texts_in(worker, "s") == ["one", "theirs", "two"]
    assert worker.apply(theirs).repeated
    assert told == []


def test_a_field_that_others_have_set_since_stays_theirs_and_that_is_told(
    host: Host, told: list[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    worker = host.workers[0]
    worker.apply(start("s", "ours", fields=(("a", b"1"), ("b", b"1"), ("c", b"1"))))
    time.sleep(0.01)
    host.switch.is_away = False
    host.switch.apply(start("s", "theirs", fields=(("a", b"2"), ("b", b"1"))))
    host.come_back()
    found = worker.load("s", None)
    assert found
    assert found.fields == {"a": b"2", "b": b"1", "c": b"1"}
    assert texts_in(worker, "s") == ["theirs", "ours"]
    assert [type(error) for error in told] == [ConflictError]
    assert host.journals[0].status()[2:4] == (0, 1)
    assert "set aside" in caplog.text


def test_messages_keep_their_meaning_where_others_have_written_between(host: Host, told: list[Exception]) -> None:
    worker, save = host.workers[0], start("s", "a", "b")
    host.switch.written = None
    worker.apply(save)
    host.switch.is_away = False
    host.switch.apply(save)
    host.switch.apply(append("s", "theirs"))
    worker.apply(append("s", "c", expected="1"))
    worker.apply(edited(worker, 3, "C"))
    worker.apply(merge("s", Extend(2, (said("d"),))))
    begun = worker.begin(BeginTurn(session_id="s", owner=None, element=said("e"), lease_ms=9_000, expected="4"))
    assert begun.receipt.first_seq == 5
    host.come_back()
    assert texts_in(worker, "s") == ["b", "theirs", "C", "d", "e"]
    assert told == []


def test_a_trim_drops_nothing_of_others(host: Host) -> None:
    worker = host.workers[0]
    worker.apply(start("s", "one", "two"))
    worker.apply(merge("s", Extend(3, (said("three"),))))
    time.sleep(0.01)
    host.switch.is_away = False
    host.switch.apply(start("s", "theirs", "also theirs"))
    host.come_back()
    assert texts_in(worker, "s") == ["theirs", "also theirs", "one", "two", "three"]


def test_a_trim_drops_messages_that_were_marked_since(host: Host) -> None:
    worker = host.workers[0]
    worker.apply(start("s", "one"))
    turn = BeginTurn(session_id="s", owner=None, element=said("two"), lease_ms=9_000)
    for attempt in ("first", "second"):
        worker.begin(replace(turn, attempt=attempt))
        worker.apply(CommitTurn(session_id="s", owner=None, turn=attempt, status="failed"))
    worker.apply(merge("s", Extend(3, (said("three"),))))
    assert texts_in(worker, "s") == ["three"]
    host.come_back()
    assert texts_in(worker, "s") == ["three"]


def test_what_cannot_be_done_beside_others_is_set_aside_alone(host: Host, told: list[Exception]) -> None:
    worker, save = host.workers[0], start("s", "a", fields=(("f", b"1"),))
    host.switch.written = None
    worker.apply(save)
    host.switch.is_away = False
    host.switch.apply(save)
    host.switch.apply(append("s", "theirs", fields=(("f", b'"theirs"'),)))
    worker.apply(Update(session_id="s", owner=None, fields=(("f", b"2"),), expected="1"))
    worker.apply(merge("s", Rewrite(1, (said("a"), said("b"))), fields=(FieldChange("f", b"2", b"3"),)))
    worker.apply(append("s", "c"))
    host.come_back()
    assert texts_in(worker, "s") == ["a", "theirs", "b", "c"]
    found = worker.load("s", None)
    assert found
    assert found.fields == {"f": b'"theirs"'}
    assert len(told) == 3
    assert host.journals[0].status().aside == 2


def test_the_same_change_and_a_message_that_was_taken_have_a_place_beside_others(
    host: Host, told: list[Exception]
) -> None:
    worker, save = host.workers[0], start("s", "a", "b", fields=(("f", b"true"), ("g", b'"x"')))
    host.switch.written = None
    worker.apply(save)
    host.switch.is_away = False
    host.switch.apply(save)
    same = (FieldChange("f", b"true", None), FieldChange("g", b'"x"', b'"y"'))
    host.switch.apply(merge("s", Extend(2, (), oldest_seq=1), fields=same))
    worker.apply(merge("s", Extend(2, (said("c"),), oldest_seq=1), fields=same))
    host.come_back()
    assert texts_in(worker, "s") == ["b", "c"]
    found = worker.load("s", None)
    assert found
    assert found.fields == {"g": b'"y"'}
    assert (told, host.journals[0].status().aside) == ([], 0)


def test_a_store_that_has_forgotten_is_told_again_from_the_beginning(host: Host) -> None:
    worker, journal = host.workers[0], host.journals[0]
    worker.apply(start("s", "a"))
    for text in "bcdefgh":
        worker.apply(append("s", text))
    entry = journal.find("", "s")
    assert entry
    host.switch.is_away = False
    with pytest.raises(StoreUnavailable):
        replay(Failing(host.switch, 4), journal, entry)
    host.switch._store = MemoryStore(LIMITS)  # it has started again, without what it had
    host.come_back()
    assert texts_in(worker, "s") == list("abcdefgh")
    assert journal.status().dropped == 0


def test_those_who_share_it_see_it_here_as_there(host: Host) -> None:
    one, other = host.workers
    one.apply(start("s", "a", owner="alice"))
    one.apply(Share(session_id="s", owner="alice", name="bob", role="writer"))
    assert texts_in(other, "s", "bob") == ["a"]
    other.apply(append("s", "b", owner="bob"))
    for guest in ("carol", None):
        with pytest.raises(StoreUnavailable):
            other.load("s", guest)
    one.apply(Share(session_id="s", owner="alice", name="bob", role=None))
    for call in (lambda: other.load("s", "bob"), lambda: other.apply(append("s", "c", owner="bob"))):
        with pytest.raises(StoreUnavailable):
            call()
    one.apply(Share(session_id="s", owner="alice", name="carol", role="reader"))
    host.come_back()
    assert [texts_in(host.switch, "s", owner) for owner in ("alice", "bob", "carol")] == [["a", "b"], None, ["a", "b"]]


def test_writes_that_are_repeated_are_done_once(host: Host) -> None:
    one, other = host.workers
    one.apply(start("s", "a"))
    command = append("s", "b", token="T", digest="d")
    first = one.apply(command)
    again = other.apply(command)
    assert again.repeated
    assert (again.version, again.first_seq) == (first.version, first.first_seq)
    host.come_back()
    assert one.apply(command).repeated
    assert texts_in(one, "s") == ["a", "b"]


def test_a_turn_that_is_begun_here_ends_where_the_session_is_then(host: Host) -> None:
    one, other = host.workers
    one.apply(start("s"))
    begin = BeginTurn(session_id="s", owner=None, element=said("hello"), lease_ms=60_000)
    begun = one.begin(begin)
    assert (begun.receipt.fallback, begun.snapshot and begun.snapshot.fallback) == ("journal", "journal")
    with pytest.raises(TurnInProgress):
        other.begin(replace(begin, token="other", attempt="other"))
    assert 0 < other.turn_lease("s", None).remaining_ms <= 60_000
    other.apply(RenewTurn(session_id="s", owner=None, turn=begin.attempt, lease_ms=90_000))
    assert one.turn_lease("s", None).remaining_ms > 60_000

    host.come_back()
    with pytest.raises(TurnInProgress):  # the lease goes on there
        one.begin(replace(begin, token="other", attempt="other"))
    end = CommitTurn(session_id="s", owner=None, turn=begin.attempt, elements=(said("answer"),))
    assert one.apply(end).fallback is None
    assert texts_in(one, "s") == ["hello", "answer"]


def test_a_turn_that_was_begun_there_does_not_end_here(host: Host) -> None:
    worker = host.workers[0]
    host.switch.is_away = False
    worker.apply(start("s"))
    begin = BeginTurn(session_id="s", owner=None, element=said("hello"), lease_ms=60_000)
    worker.begin(begin)
    host.switch.is_away = True
    end = CommitTurn(session_id="s", owner=None, turn=begin.attempt, elements=(said("answer"),))
    with pytest.raises(StoreUnavailable):
        worker.apply(end)
    host.switch.is_away = False
    worker.apply(end)
    assert texts_in(worker, "s") == ["hello", "answer"]


def test_a_turn_that_is_taken_anew_is_so_for_every_worker(host: Host, clock: Clock) -> None:
    one, other = host.workers
    one.apply(start("s"))
    begin = BeginTurn(session_id="s", owner=None, element=said("q"), lease_ms=20, token="T", digest="d")
    one.begin(begin)
    clock.now += 20
    assert one.turn_lease("s", None).remaining_ms == 0
    assert one.begin(replace(begin, attempt="again", lease_ms=60_000)).receipt.repeated
    assert other.turn_lease("s", None).remaining_ms > 0
    other.apply(CommitTurn(session_id="s", owner=None, turn="again", elements=(said("r"),)))
    host.come_back()
    assert texts_in(one, "s") == ["q", "r"]


def test_a_turn_whose_lease_is_over_does_not_stand_in_the_way_of_the_next(host: Host, clock: Clock) -> None:
    worker = host.workers[0]
    worker.apply(start("s"))
    worker.begin(BeginTurn(session_id="s", owner=None, element=said("dead"), lease_ms=20))
    clock.now += 20
    begin = BeginTurn(session_id="s", owner=None, element=said("next"), lease_ms=60_000)
    worker.begin(begin)
    worker.apply(CommitTurn(session_id="s", owner=None, turn=begin.attempt, elements=(said("answer"),)))
    host.come_back()
    assert texts_in(worker, "s") == ["dead", "next", "answer"]


def test_a_deleted_session_stays_deleted(host: Host) -> None:
    one, other = host.workers
    session_id = start_away(one, "a")
    other.apply(Delete(session_id=session_id, owner=None))
    assert one.load(session_id, None) is None
    with pytest.raises(SessionNotFound):
        one.apply(append(session_id, "b"))
    host.come_back()
    assert one.load(session_id, None) is None  # the store knows that it was there: no doubt about it


def test_what_was_deleted_meanwhile_is_dropped_and_counted(host: Host) -> None:
    worker, journal = host.workers[0], host.journals[0]
    worker.apply(start("s", "a"))
    host.switch.is_away = False
    entry = journal.find("", "s")
    assert entry
    replay(host.switch, journal, entry)
    # Only the start is there yet; the rest comes, and meanwhile another host deletes the session.
    host.switch.is_away = True
    with pytest.raises(StoreUnavailable):
        worker.apply(append("s", "b"))
    assert journal.status().dropped == 0

    worker.apply(start("t", "a"))
    worker.apply(append("t", "b"))
    host.switch.is_away = False
    rows = iter(range(1))

    class Deleting(StoreAround):
        def apply(self, command: Any) -> Any:
            receipt = super().apply(command)
            for _ in rows:
                super().apply(Delete(session_id="t", owner=ANY))
            return receipt

    entry = journal.find("", "t")
    assert entry
    replay(Deleting(host.switch), journal, entry)
    assert host.switch.load("t", None) is None
    assert (journal.status().dropped, journal.status().pending) == (1, 0)


def test_what_has_expired_is_dropped_and_counted(host: Host) -> None:
    worker, journal = host.workers[0], host.journals[0]
    worker.apply(start("s", "a", ttl_ms=300))
    worker.apply(append("s", "b"))
    wait_for(lambda: worker.load("s", None, is_interaction=False) is None, "it expires")
    host.come_back()
    assert worker.load("s", None) is None
    assert host.switch.has_ended("s", None)
    assert (journal.status().dropped, journal.status().pending) == (1, 0)  # that it began and ended is told


def test_the_end_of_what_has_expired_is_not_the_end_of_its_successor(host: Host) -> None:
    worker, journal = host.workers[0], host.journals[0]
    worker.apply(start("s", "a", ttl_ms=300))
    worker.apply(append("s", "b"))
    host.switch.is_away = False
    entry = journal.find("", "s")
    assert entry
    with pytest.raises(StoreUnavailable):
        replay(Failing(host.switch, 1), journal, entry)
    wait_for(lambda: host.switch.load("s", None, is_interaction=False) is None, "it expires")
    host.switch.apply(start("s", "another host's"))
    host.come_back()
    assert texts_in(worker, "s") == ["another host's"]


def test_a_session_lives_from_its_last_interaction_whoever_has_seen_it(host: Host, clock: Clock) -> None:
    one, other = host.workers
    one.apply(start("s", "a", ttl_ms=400))
    for _ in range(8):
        clock.now += 80
        assert texts_in(one, "s") == ["a"]
    assert texts_in(other, "s") == ["a"]


def test_a_stranger_is_told_what_they_would_be_told_if_it_were_not_here(host: Host) -> None:
    worker = host.workers[0]
    session_id = start_away(worker, "a", owner="alice")
    missing = id_made_away()
    for here in (False, True):
        host.switch.is_away = not here
        for what in (session_id, missing):
            with pytest.raises(StoreUnavailable):
                worker.load(what, "bob")
            with pytest.raises(StoreUnavailable):
                worker.apply(append(what, "x", owner="bob"))
    assert texts_in(worker, session_id, "alice") == texts_in(worker, session_id, ANY) == ["a"]
    with pytest.raises(SessionNotFound):
        worker.apply(start(session_id, "x", owner="bob"))


def test_an_id_made_while_away_is_unknown_elsewhere_until_its_lifetime_is_over(tmp_path: Path) -> None:
    store = MemoryStore(LIMITS)
    one, other = Host(store, tmp_path / "one"), Host(store, tmp_path / "other")
    session_id = start_away(one.workers[0], "a")
    elsewhere = other.workers[0]
    other.switch.is_away = False
    with pytest.raises(StoreUnavailable, match="by a host that has not handed it over yet"):
        elsewhere.load(session_id, None)
    with pytest.raises(StoreUnavailable):
        elsewhere.apply(Touch(session_id=session_id, owner=None))
    assert elsewhere.load(new_id(), None) is None
    one.come_back()
    assert texts_in(elsewhere, session_id) == ["a"]
    made = made_away_at_ms(session_id) or 0
    old = f"{made - 25 * 3_600_000 << 80 | int(session_id.replace('-', ''), 16) & (1 << 80) - 1:032x}"
    expired = f"{old[:8]}-{old[8:12]}-{old[12:16]}-{old[16:20]}-{old[20:]}"
    assert made_away_at_ms(expired) == made - 25 * 3_600_000
    assert elsewhere.load(expired, None) is None
    one.close()
    other.close()


def test_a_start_with_a_token_leads_to_one_session_whoever_is_asked(host: Host) -> None:
    one, other = host.workers
    token = {"token": "T", "digest": "d"}
    first = start_away(one, "a", **token)
    again = start(new_id(), "a", mode="create", may_start_away=True, **token)
    for worker in host.workers:
        for command in (again, replace(again, session_id=new_id())):
            receipt = worker.apply(command)
            assert (receipt.session_id, receipt.repeated, receipt.fallback) == (first, True, "journal")
    assert start_away(other, "a", token="U", digest="d") != first
    assert host.journals[0].status().pending == 6
    host.come_back()
    receipt = other.apply(again)
    assert (receipt.session_id, receipt.repeated, receipt.fallback) == (first, True, None)
    host.switch.is_away = True
    with pytest.raises(StoreUnavailable):  # not a second session
        other.apply(again)
    assert not host.journals[0].may_hold()


def test_workers_that_race_with_one_token_start_one_session(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other worker has started it between this one's look at the journal and its write."""
    one, other = host.workers
    token = {"token": "T", "digest": "d"}
    looked = host.journals[0].started_with
    monkeypatch.setattr(host.journals[0], "started_with", lambda *asked: None)
    first = start_away(other, "a", **token)

    def writing() -> Any:
        monkeypatch.setattr(host.journals[0], "started_with", looked)
        return Journal.writing(host.journals[0])

    monkeypatch.setattr(host.journals[0], "writing", writing)
    receipt = one.apply(start(new_id(), "a", mode="create", may_start_away=True, **token))
    assert (receipt.session_id, receipt.repeated) == (first, True)
    assert host.journals[0].status().pending == 2


@pytest.mark.parametrize("written", [None, False])
def test_only_a_create_that_may_is_started_under_another_id(host: Host, written: bool | None) -> None:
    worker = host.workers[0]
    host.switch.written = written
    with pytest.raises(StoreUnavailable):
        worker.apply(start(new_id(), "a", mode="create"))
    assert not host.journals[0].may_hold()
    session_id = start_away(worker, "a")
    assert made_away_at_ms(session_id)
    assert texts_in(host.workers[1], session_id) == ["a"]


def test_what_is_written_is_not_started_again(host: Host) -> None:
    """Only too few replicas have confirmed it."""
    host.switch.written = True
    with pytest.raises(StoreUnavailable) as caught:
        host.workers[0].apply(start(new_id(), "a", mode="create", may_start_away=True))
    assert caught.value.written
    assert not host.journals[0].may_hold()


def test_a_start_that_the_journal_cannot_take_is_refused_as_the_store_has(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full() -> Any:
        raise StoreUnavailable("the journal is full", written=False)

    host.switch.written = None
    monkeypatch.setattr(host.journals[0], "writing", full)
    with pytest.raises(StoreUnavailable, match=r"^away") as caught:
        host.workers[0].apply(start(new_id(), "a", mode="create", may_start_away=True))
    assert (caught.value.written, str(caught.value.__cause__)) == (None, "the journal is full. Nothing was written.")


def test_who_starts_while_others_ask_does_not_ask_too(host: Host) -> None:
    worker = host.workers[0]
    start_away(worker, "a")
    host.switch.is_away = False
    host.circuit._threshold = 1
    host.circuit.failed()
    before = len(host.switch.calls)
    assert start_away(worker, "b")
    assert len(host.switch.calls) == before


def test_what_a_first_try_may_have_left_is_removed(host: Host) -> None:
    worker = host.workers[0]
    first = start(new_id(), "a", mode="create", may_start_away=True)
    host.switch.is_away = False
    host.switch.apply(first)
    host.switch.is_away, host.switch.written = True, None
    session_id = worker.apply(first).session_id
    assert session_id
    host.come_back()
    assert worker.load(first.session_id, None) is None
    assert texts_in(worker, session_id) == ["a"]


@pytest.mark.parametrize(("written", "token"), [(False, {}), (None, {"token": "T", "digest": "d"})])
def test_what_a_first_try_has_not_left_or_somebody_may_know_stays(
    host: Host, written: bool | None, token: dict[str, str]
) -> None:
    worker = host.workers[0]
    first = start(new_id(), "a", mode="create", may_start_away=True, **token)
    host.switch.is_away = False
    host.switch.apply(first)
    host.switch.is_away, host.switch.written = True, written
    assert worker.apply(first).session_id
    host.come_back()
    assert texts_in(worker, first.session_id) == ["a"]


def test_what_the_store_refuses_for_good_is_set_aside(host: Host) -> None:
    worker, journal = host.workers[0], host.journals[0]
    session_id = start_away(worker, "a")
    worker.apply(append(session_id, "b"))
    worker.apply(start("fine", "c"))
    host.switch.is_away = False
    host.switch.apply(start(session_id, "somebody else's", mode="create", owner="somebody else"))
    host.come_back()
    status = journal.status()
    assert (status.pending, status.aside, status.dropped) == (0, 2, 0)
    assert texts_in(worker, session_id, "somebody else") == ["somebody else's"]
    assert texts_in(worker, "fine") == ["c"]


def test_a_row_that_cannot_be_read_is_set_aside(host: Host) -> None:
    worker, journal = host.workers[0], host.journals[0]
    worker.apply(start("s", "a"))
    worker.apply(append("s", "b"))
    with journal.writing() as connection:
        connection.execute("UPDATE commands SET command = '{\"Append\": 1}' WHERE number = 2")
    host.workers[0].forget()
    with pytest.raises(ConvstoreError, match=r"the journal, command 2.*cannot be done again"):
        worker.load("s", None)
    host.come_back()
    assert journal.status().aside == 1
    assert texts_in(worker, "s") == ["a"]


def test_a_row_for_a_session_that_was_not_there_cannot_be_done_again(host: Host) -> None:
    worker, journal = host.workers[0], host.journals[0]
    worker.apply(start("s", "a"))
    with journal.writing():
        entry = journal.find("", "s")
        assert entry
        journal.add("", entry, now_ms(), text_of(append("another", "b")))
    with pytest.raises(ConvstoreError, match=r"the journal, command 2.*cannot be done again"):
        worker.load("s", None)


def test_what_neither_takes_is_told_with_both_reasons(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> Any:
        raise StoreUnavailable("the journal is full", written=False)

    host.switch.written = None
    monkeypatch.setattr(host.journals[0], "writing", full)
    with pytest.raises(StoreUnavailable, match=r"away\. The journal is full") as caught:
        host.workers[0].apply(start("s", "a"))
    assert (caught.value.written, caught.value.is_down) == (None, True)


def test_replaying_goes_on_where_it_stopped(host: Host) -> None:
    worker, journal = host.workers[0], host.journals[0]
    worker.apply(start("s", "0"))
    for number in range(1, 7):
        worker.apply(append("s", str(number)))
    host.switch.is_away = False

    entry = journal.find("", "s")
    assert entry
    with pytest.raises(StoreUnavailable):
        replay(Failing(host.switch, 3), journal, entry)
    entry = journal.find("", "s")
    assert entry
    assert entry.replayed == entry.first + 2
    assert worker.apply(append("s", "7")).fallback  # nothing overtakes
    host.come_back()
    assert texts_in(worker, "s") == [str(number) for number in range(8)]


def test_a_live_write_between_two_batches_stays_behind_them(host: Host) -> None:
    worker, journal = host.workers[0], host.journals[0]
    worker.apply(start("s", "0"))
    entry = journal.find("", "s")
    assert entry
    worker.apply(append("s", "1"))  # behind what the replayer has seen
    host.switch.is_away = False
    replay(host.switch, journal, entry)
    assert journal.find("", "s") is None
    assert texts_in(worker, "s") == ["0", "1"]


@pytest.mark.parametrize("answers", [False, True])
def test_the_time_of_creation_is_translated_where_the_store_has_another_one(host: Host, answers: bool) -> None:
    worker = host.workers[0]
    host.switch.is_away = False
    host.switch.apply(replace(start("s", "a"), token="first"))
    host.switch.apply(Delete(session_id="s", owner=None))  # ended a moment ago, or a moment from now by our clock
    host.switch._store._tokens["s"].ended += 5_000  # type: ignore[attr-defined]
    host.switch.is_away = True
    receipt = worker.apply(start("s", "b"))
    state = f"{receipt.created_at_ms}-1"
    worker.apply(append("s", "c", expected=state, created_at_ms=receipt.created_at_ms))
    merge = Merge(
        session_id="s",
        owner=None,
        fields=(FieldChange("f", None, b"1"),),
        created_at_ms=receipt.created_at_ms,
    )
    worker.apply(merge)
    host.come_back()
    found = worker.load("s", None)
    assert found
    assert found.created_at_ms > receipt.created_at_ms
    assert (texts_in(worker, "s"), found.fields) == (["b", "c"], {"f": b"1"})


# ---- what a crash in the middle leaves


class Crash(BaseException):
    """The process dies."""


def crash_after(monkeypatch: pytest.MonkeyPatch, host: Host, calls: int) -> None:
    """Let the process that hands over die when it is about to note how far it has come, the n-th time."""
    journal = host.journals[0]
    note = journal.replayed
    left = iter(range(calls))

    def replayed(*arguments: Any) -> Any:
        if next(left, None) is None:
            raise Crash
        return note(*arguments)

    monkeypatch.setattr(journal, "replayed", replayed)
    entry = journal.find("", "s")
    assert entry
    host.switch.is_away = False
    with contextlib.suppress(Crash):
        replay(host.switch, journal, entry)
    monkeypatch.undo()


@pytest.mark.parametrize("ended", ["failed", "replied", "superseded", "interrupted"])
@pytest.mark.parametrize("calls", range(4))
def test_a_turn_is_handed_over_once_wherever_it_breaks_off(
    host: Host, clock: Clock, monkeypatch: pytest.MonkeyPatch, ended: str, calls: int
) -> None:
    worker = host.workers[0]
    worker.apply(start("s"))
    begin = BeginTurn(session_id="s", owner=None, element=said("q"), lease_ms=60_000 if ended == "superseded" else 1)
    worker.begin(begin)
    if ended in ("failed", "replied"):
        elements = (said("r"),) if ended == "replied" else ()
        status: Any = "failed" if ended == "failed" else ""
        end = CommitTurn(session_id="s", owner=None, turn=begin.attempt, elements=elements, status=status)
        worker.apply(replace(end, digest=begin.attempt))
    else:
        clock.now += 5
        worker.begin(replace(begin, attempt="next", token="next", supersede=True))
    for text in "abc":
        worker.apply(append("s", text))
    expected = texts_in(worker, "s")
    crash_after(monkeypatch, host, calls)
    host.come_back()
    assert host.journals[0].status()[2:4] == (0, 0)
    assert texts_in(worker, "s") == expected


def test_no_batch_is_longer_than_the_tokens_that_the_store_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = Host(MemoryStore(LIMITS), tmp_path / "journal")  # which knows 20
    worker = host.workers[0]
    worker.apply(start("s", "0", mode="replace"))
    for _ in range(40):
        history = Extend(2**31, (said("x"),))  # in the place of all before
        worker.apply(Merge(session_id="s", owner=None, history=history))
    before = worker.load("s", None)
    crash_after(monkeypatch, host, 2)
    host.come_back()
    after = worker.load("s", None)
    assert before
    assert after
    assert (after.version, after.next_seq) == (before.version, before.next_seq)
    host.close()


# ---- what a store has of a session already


def test_what_was_replaced_and_has_expired_does_not_come_back(host: Host, clock: Clock) -> None:
    worker = host.workers[0]
    host.switch.is_away = False
    host.switch.apply(start("s", "old"))
    host.switch.is_away = True
    worker.apply(start("s", "new", ttl_ms=20))
    clock.now += 20
    host.come_back()
    assert worker.load("s", None) is None


def test_what_has_expired_half_handed_over_is_gone_whole(host: Host, clock: Clock) -> None:
    worker, journal = host.workers[0], host.journals[0]
    worker.apply(start("s", "a", ttl_ms=300))
    for text in "bcd":
        worker.apply(append("s", text))
    host.switch.is_away = False
    found = journal.find("", "s")
    assert found
    with pytest.raises(StoreUnavailable):
        replay(Failing(host.switch, 2), journal, found)
    clock.now = found.expires_at_ms
    host.come_back()
    assert host.switch.load("s", None) is None
    assert journal.status().dropped == 2


@pytest.mark.parametrize("mode", ["replace", "upsert", "create", "first"])
def test_a_session_that_is_started_again_is_a_new_one(host: Host, clock: Clock, mode: str) -> None:
    worker = host.workers[0]
    worker.apply(start("s", "first", ttl_ms=20))
    clock.now += 20
    if mode == "first":
        with pytest.raises(SessionNotFound):  # there was one
            worker.apply(start("s", "second", mode=mode))
        return
    worker.apply(upsert("s", "second") if mode == "upsert" else start("s", "second", mode=mode))
    worker.apply(append("s", "third"))
    assert texts_in(host.workers[1], "s") == ["second", "third"]
    host.come_back()
    assert texts_in(worker, "s") == ["second", "third"]


def test_a_first_try_that_arrives_late_changes_nothing(host: Host) -> None:
    worker = host.workers[0]
    save = start("s", "a")
    host.switch.written = None
    worker.apply(save)
    worker.apply(append("s", "b"))
    host.come_back()
    assert host.switch.apply(save).repeated  # it was in the network all the time
    assert texts_in(worker, "s") == ["a", "b"]


def test_a_save_on_another_owners_id_is_set_aside(host: Host) -> None:
    worker = host.workers[0]
    host.switch.is_away = False
    host.switch.apply(start("s", "hers", owner="alice"))
    host.switch.is_away = True
    worker.apply(start("s", "his", owner="bob"))
    worker.apply(append("s", "too", owner="bob"))
    host.come_back()
    assert texts_in(worker, "s", "alice") == ["hers"]
    assert host.journals[0].status()[2:4] == (0, 2)


def test_a_guest_who_saves_it_meanwhile_does_not_take_it_over(host: Host) -> None:
    """The host knows neither the owner nor who may write: what it started would end the owner's session."""
    host.switch.is_away = False
    worker = host.workers[0]
    worker.apply(start("s", "hers", owner="alice"))
    worker.apply(Share(session_id="s", owner="alice", name="bob", role="writer"))
    host.switch.is_away = True
    worker.apply(start("s", "his", owner="bob"))
    host.come_back()
    assert texts_in(worker, "s", "alice") == texts_in(worker, "s", "bob") == ["hers"]
    assert host.journals[0].status().aside == 1


def test_an_object_of_before_may_be_saved_afterwards(host: Host) -> None:
    worker = host.workers[0]
    worker.apply(start("s", "first"))
    worker.apply(Delete(session_id="s", owner=None))
    receipt = worker.apply(start("s", "second"))
    host.come_back()
    assert worker.apply(append("s", "third", created_at_ms=receipt.created_at_ms)).version == 2


# ---- views


@pytest.mark.parametrize(
    ("look", "options"),
    [
        (lambda store: texts_in(store, "s", "alice") == ["a", "b"], {"is_interaction": True, "fields": None}),
        (
            lambda store: store.load("s", "alice", is_interaction=False, fields=("x",)).version == 2,
            {"is_interaction": False, "fields": ("x",)},
        ),
        (lambda store: len(store.messages("s", "alice", None, 9).elements) == 2, {}),
        (lambda store: store.turn_lease("s", "alice").remaining_ms > 0, {}),
    ],
)
def test_a_view_of_a_session_that_is_handed_over_between_two_looks(
    host: Host, monkeypatch: pytest.MonkeyPatch, look: Callable[[Store], bool], options: dict[str, Any]
) -> None:
    one, other = host.workers
    one.apply(start("s", "a", owner="alice"))
    find = host.journals[1].find

    def find_and_lose(namespace: str, session_id: str) -> Any:
        found = find(namespace, session_id)
        monkeypatch.undo()
        one.begin(BeginTurn(session_id="s", owner="alice", element=said("b"), lease_ms=60_000))
        host.come_back()
        return found

    monkeypatch.setattr(host.journals[1], "find", find_and_lose)
    assert look(other)
    assert host.switch.options[-1] == options


def test_every_worker_tells_the_same_times(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    ticking = itertools.count(now_ms())
    set_clock(monkeypatch, lambda: next(ticking))
    one, other = host.workers
    one.apply(start("s", "a"))
    one.apply(append("s", "b"))
    assert one.load("s", None, is_interaction=False) == other.load("s", None, is_interaction=False)


def test_a_session_that_expires_while_it_is_written_is_the_same_for_every_worker(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is there at the time that the write is kept with, whatever the clock says a moment later."""
    one, other = host.workers
    began = now_ms()
    clock: Iterator[int] = itertools.repeat(began)
    set_clock(monkeypatch, lambda: next(clock))
    one.apply(start("s", "a", ttl_ms=50))
    clock = itertools.count(began + 49)
    field = FieldChange("f", None, b"1")
    assert one.apply(replace(upsert("s"), fields=(field,), history=None)).version == 2
    clock = itertools.repeat(began + 60)
    found = one.load("s", None, is_interaction=False)
    assert found
    assert other.load("s", None, is_interaction=False) == found


def test_pages_of_messages_are_the_same_here_as_there(host: Host) -> None:
    one, other = host.workers
    one.apply(start("s", "a", "b", "c", "d", owner="alice"))

    def pages() -> list[Messages]:
        found = [other.messages("s", "alice", before, 2) for before in (None, 3, 1)]
        found += [other.messages("s", "alice", None, 3, after) for after in (0, 3)]
        return [page._replace(expires_at_ms=0) for page in found if page]

    assert texts_in(other, "s", "alice") == ["a", "b", "c", "d"]
    here = pages()
    assert [[bare(element) for element in page.elements] for page in here] == [
        [said("c"), said("d")],
        [said("a"), said("b")],
        [],
        [said("a"), said("b"), said("c")],
        [said("d")],
    ]
    assert {page.fallback for page in here} == {"journal"}
    with pytest.raises(StoreUnavailable):
        other.messages("s", "bob", None, 2)
    host.come_back()
    assert pages() == [page._replace(fallback=None) for page in here]
    assert other.messages("s", "bob", None, 2) is None


def test_a_part_of_a_session_is_the_same_here_as_there(host: Host) -> None:
    one, other = host.workers
    fields = (("a", b"1"), ("b", b"2"))
    one.apply(replace(start("s", "hi", owner="alice"), fields=fields))
    for fallback in ("journal", None):
        part = other.load("s", "alice", 0, fields=("b", "c"))
        assert part
        assert (part.fields, part.read, part.elements, part.fallback) == ({"b": b"2"}, ("b", "c"), [], fallback)
        if fallback:
            host.come_back()


@pytest.mark.parametrize("later_ms", [-1, 0, 1000])
def test_a_session_that_is_seen_expired_may_have_been_kept_by_another_worker(
    host: Host, clock: Clock, later_ms: int
) -> None:
    one, other = host.workers
    one.apply(start("s", "a", ttl_ms=50))
    texts_in(other, "s")
    clock.now += 50
    assert other.load("s", None) is None
    with host.journals[0].writing():  # in time, by the clock and the settings of the one
        entry = host.journals[0].find("", "s")
        assert entry
        command = append("s", "b")
        host.journals[0].add("", entry, entry.expires_at_ms + later_ms, text_of(command))
    late = other.load("s", None)
    assert late
    assert late.count == 2


def test_a_folder_that_is_taken_away_takes_what_was_known_of_it(host: Host, tmp_path: Path) -> None:
    one, other = host.workers
    one.apply(start("s", "old"))
    one.apply(append("s", "older"))
    assert texts_in(other, "s") == ["old", "older"]
    (tmp_path / "journal").rename(tmp_path / "elsewhere")
    one.apply(start("s", "new"))
    one.apply(append("s", "x"))
    assert texts_in(one, "s") == texts_in(other, "s") == ["new", "x"]


def test_a_lease_is_no_longer_than_it_was_by_a_clock_that_went_back(host: Host, clock: Clock) -> None:
    worker = host.workers[0]
    worker.apply(start("s"))
    clock.now += 600_000
    worker.begin(BeginTurn(session_id="s", owner=None, element=said("q"), lease_ms=1000))
    clock.now -= 600_000
    host.come_back()
    assert host.switch.turn_lease("s", None).remaining_ms == 1000


@pytest.mark.slow
def test_ten_thousand_commands_are_told(host: Host) -> None:
    host.workers[0].apply(start("s"))
    journal = host.journals[0]
    with journal.writing():
        entry = journal.find("", "s")
        assert entry
        for number in range(10_000):
            entry = journal.add("", entry, entry.expires_at_ms - 1000, text_of(append("s", str(number))))
    limits = replace(LIMITS, max_history=100_000)
    reader = FallbackStore(host.switch, host.journals[1], host.circuit, "", limits, lambda: None)
    found = reader.load("s", None, 1)
    assert found
    assert found.count == 10_000


# ---- the journal itself


def test_it_is_empty_when_all_is_handed_over_and_not_before(host: Host, tmp_path: Path) -> None:
    """The thread that hands over waits a moment while something is left, and ends when nothing is."""
    worker, journal = host.workers[0], host.journals[0]
    worker.apply(start("s"))
    host.switch.is_away = False
    assert not journal.unmark_if_empty()
    entry = journal.find("", "s")
    assert entry
    replay(host.switch, journal, entry)
    assert [one.may_hold() for one in host.journals] == [True, True]
    assert journal.unmark_if_empty()
    of_a_new_process = Journal(tmp_path / "journal", "target", 2**20, 1.0)
    assert [one.may_hold() for one in (*host.journals, of_a_new_process)] == [False, False, False]
    of_a_new_process.close()


def test_it_tells_what_waits_since_when_and_what_is_wrong(host: Host, tmp_path: Path) -> None:
    journal, before = host.journals[0], now_ms()
    assert journal.status() == Status()
    host.workers[0].apply(start("s", "a"))
    between = now_ms()
    host.workers[0].apply(append("s", "b"))
    journal.warn("it smells")
    status = journal.status()
    assert (status.pending, status.problem) == (2, "it smells")
    assert status.oldest_at_ms
    assert before <= status.oldest_at_ms <= between
    of_a_new_process = Journal(tmp_path / "journal", "target", 2**20, 1.0)
    assert of_a_new_process.status() == status._replace(problem=None)
    of_a_new_process.close()


def test_what_waits_for_another_store_of_this_app_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("my-app-1", "my-other-1", "my-app-too-1"):
        host = Host(MemoryStore(LIMITS), tmp_path / name, workers=1)
        host.workers[0].apply(start("s"))
        host.close()
    again, moved = (Journal(tmp_path / name, "target", 2**20, 1.0) for name in ("my-app-1", "my-app-2"))
    assert (again.may_hold(), moved.may_hold()) == (True, False)
    assert again.status().problem is None
    assert f"writes wait in {tmp_path / 'my-app-1'} for a store" in str(moved.status().problem)
    assert "my-other" not in caplog.text
    assert "my-app-too" not in caplog.text
    again.close()


def test_a_marker_that_is_removed_is_made_again(host: Host, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    worker = host.workers[0]
    worker.apply(start("s", "a"))
    (tmp_path / "journal" / "pending").unlink()
    assert host.journals[0].may_hold()
    assert host.journals[1].may_hold(), "every worker finds it"
    assert "was removed while writes waited" in caplog.text
    assert texts_in(host.workers[1], "s") == ["a"]
    host.come_back()
    assert [journal.may_hold() for journal in host.journals] == [False, False]


def test_a_journal_that_is_removed_is_told(host: Host, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    host.workers[0].apply(start("s", "a"))
    shutil.rmtree(tmp_path / "journal")
    assert not host.journals[0].may_hold()
    assert "was removed while writes may have waited" in caplog.text
    assert "was removed" in str(host.journals[0].status().problem)


def test_none_is_made_while_the_store_answers(host: Host, tmp_path: Path) -> None:
    host.switch.is_away = False
    worker = host.workers[0]
    worker.apply(start(new_id(), "a", mode="create", token="T", digest="d"))
    worker.apply(start("s", "a"))
    assert texts_in(worker, "s") == ["a"]
    assert not (tmp_path / "journal").exists()


def test_it_is_set_aside_when_it_is_spoiled_while_it_is_open(host: Host, tmp_path: Path) -> None:
    one, other = host.workers
    one.apply(start("s", "a"))
    assert texts_in(other, "s") == ["a"]
    one.apply(append("s", "b"))
    with host.journals[0].reading() as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    file = tmp_path / "journal" / "journal.sqlite"
    with open(file, "r+b") as opened:
        opened.seek(4096)
        opened.write(b"\xff" * (file.stat().st_size - 4096))
    with pytest.raises(StoreUnavailable, match="malformed"):
        other.load("s", None)
    (aside,) = file.parent.glob("set-aside-*.sqlite")
    assert all(aside.with_name(aside.name + ending).exists() for ending in ("-wal", "-shm"))
    assert f"was set aside as {aside.name}: database disk image is malformed" in str(host.journals[1].status().problem)
    other.apply(start("s", "new"))
    assert texts_in(one, "s") == texts_in(other, "s") == ["new"]


def test_it_is_set_aside_when_it_is_no_database(host: Host, tmp_path: Path) -> None:
    (tmp_path / "journal").mkdir()
    (tmp_path / "journal" / "journal.sqlite").write_bytes(b"something else" * 1000)
    host.workers[0].apply(start("s", "a"))
    assert "file is not a database" in str(host.journals[0].status().problem)


def test_a_child_has_no_lock_of_its_parent(host: Host) -> None:
    """Else the child would keep the lock for as long as it lives, and nobody could hand over when the parent dies."""
    host.workers[0].apply(start("s"))
    with host.journals[0].replaying():
        held = set(host.journals[0]._file._descriptors)
        child = os.fork()
        if child == 0:
            try:
                os._exit(sum(map(is_open, held)))
            finally:
                os._exit(99)
    assert len(held) == 1
    assert os.waitpid(child, 0)[1] == 0
    assert not host.journals[0]._file._descriptors, "later children do not close what has its number then"


def is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def test_a_marker_that_cannot_be_made_is_no_error_of_those_who_only_look(host: Host, tmp_path: Path) -> None:
    host.workers[0].apply(start("s"))
    marker = tmp_path / "journal" / "pending"
    marker.unlink()
    marker.symlink_to(tmp_path / "gone" / "pending")
    again = Journal(tmp_path / "journal", "target", 2**20, 1.0)
    assert not again.may_hold()
    again.close()


def test_what_has_ended_while_it_was_handed_over_is_not_noted(host: Host) -> None:
    worker, journal = host.workers[0], host.journals[0]
    worker.apply(start("s", "a"))
    entry = journal.find("", "s")
    assert entry
    other = text_of(Delete(session_id="s", owner=ANY))
    journal.end("", entry, [(entry.expires_at_ms, other)])
    assert journal.replayed("", entry._replace(replayed=entry.last), 0) is None
    found = journal.find("", "s")
    assert found
    assert [row[1:] for row in journal.rows("", found, found.replayed)] == [(entry.expires_at_ms, other)]
    journal.set_aside("", found, "it is refused")
    assert journal.replayed("", found._replace(replayed=found.last), 0) is None
    assert journal.find("", "s") is None


# ---- one folder, several users of it


def test_a_session_that_fails_does_not_keep_the_others(host: Host) -> None:
    worker, journal = host.workers[0], host.journals[0]
    for session_id in ("a", "b", "c"):
        worker.apply(start(session_id, session_id))

    class Broken(OneByOne):
        """A part of a Cluster is away."""

        def apply(self, command: Any) -> Any:
            if command.session_id == "a":
                raise StoreUnavailable("its shard is away", written=False)
            return super().apply(command)

    host.switch.is_away = False
    part = Replayed("", Broken(host.switch), worker)
    with pytest.raises(StoreUnavailable):
        Replayer(journal, host.circuit, lambda: [part], 10)._replay_all(part, 0)
    assert [entry.session_id for entry in journal.sessions("", 0, 9)] == ["a"]


def test_closing_another_connection_takes_nothing_away(host: Host, tmp_path: Path) -> None:
    """SQLite's locks are a process's: to close any descriptor of the file would give up all of them."""
    one, other = host.workers
    one.apply(start("s", "a"))
    texts_in(other, "s")
    look = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('select 1 from about'); c.close()"
    subprocess.run([sys.executable, "-c", look, tmp_path / "journal/journal.sqlite"], check=True)
    one.apply(append("s", "b"))
    third = Journal(tmp_path / "journal", "target", 2**20, 1.0)
    entry = third.find("", "s")
    assert entry
    assert len(third.rows("", entry, 0)) == 2
    third.close()


@pytest.mark.parametrize("is_kept", [True, False])
def test_a_journal_that_is_dropped_with_its_app_is_closed(tmp_path: Path, is_kept: bool) -> None:
    """Python 3.13 warns of a connection that is not."""
    journal = Journal(tmp_path / "journal" if is_kept else None, "target", 2**20, 1.0)
    with journal.reading() as connection:
        connection.execute("SELECT 1")
    del journal
    gc.collect()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        connection.execute("SELECT 1")


@pytest.mark.slow
def test_children_of_a_busy_process_can_use_it(host: Host) -> None:
    one, other = host.workers
    one.apply(start("s"))
    stop = threading.Event()

    def write(worker: FallbackStore, name: str) -> None:
        while not stop.is_set():
            worker.apply(start(name))

    threads = [threading.Thread(target=write, args=(worker, name)) for worker, name in ((one, "a"), (other, "b"))]
    for thread in threads:
        thread.start()
    children = []
    for number in range(10):
        child = os.fork()
        if child == 0:
            try:
                one.apply(append("s", str(number)) if number < 8 else start(f"t{number}"))
                os._exit(0)
            except BaseException:
                os._exit(1)
        children.append(child)
    ended = [os.waitpid(child, 0)[1] for child in children]
    stop.set()
    for thread in threads:
        thread.join()
    assert ended == [0] * 10
    found = one.load("s", None)
    assert found
    assert found.count == 8


def test_who_replays_is_let_go_though_a_child_has_it_too(host: Host, tmp_path: Path) -> None:
    journal = host.journals[0]
    host.workers[0].apply(start("s"))
    with journal.replaying() as is_mine:
        assert is_mine
        child = os.fork()
        if child == 0:
            time.sleep(60)
            os._exit(0)
    try:
        other = Journal(tmp_path / "journal", "target", 2**20, 1.0)
        with other.replaying() as is_free:
            assert is_free
        other.close()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


@pytest.mark.slow
def test_a_lock_that_nobody_gives_back_is_waited_for_so_long(host: Host, tmp_path: Path) -> None:
    impatient = Journal(tmp_path / "journal", "target", 2**20, 0.3)
    host.workers[0].apply(start("s"))
    with host.journals[0].writing(), ThreadPoolExecutor(4) as pool:

        def write(_: int) -> float:
            began = time.monotonic()
            with pytest.raises(StoreUnavailable), impatient.writing():
                pass
            return time.monotonic() - began

        assert max(pool.map(write, range(4))) < 1.5
    impatient.close()


def test_what_sqlite_waits_for_by_itself_it_waits_for_so_long(host: Host) -> None:
    """Such as another process that makes the file whole after a crash: it is read when that has ended."""
    host.workers[0].apply(start("s"))
    with host.journals[0].reading() as connection:
        assert connection.execute("PRAGMA busy_timeout").fetchone() == (1000,)


def test_a_thread_that_cannot_be_started_is_started_later(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    part = Replayed("", host.switch, host.workers[0])
    replayer = Replayer(host.journals[0], host.circuit, lambda: [part], 10)
    host.workers[0].apply(start("s"))
    host.switch.is_away = False

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        replayer.wake()
    replayer.wake()
    wait_for(lambda: not host.journals[0].may_hold(), "it is not handed over")


def test_in_memory_it_is_the_same_for_one_process(tmp_path: Path) -> None:
    host = Host(MemoryStore(LIMITS), None, workers=1)
    (worker,) = host.workers
    receipt = worker.apply(start("s", "a"))
    assert (receipt.level, receipt.fallback) == ("memory", "memory")
    worker.apply(append("s", "b"))
    assert host.journals[0].status().pending == 2
    host.come_back()
    assert texts_in(worker, "s") == ["a", "b"]
    assert worker.apply(append("s", "c")).fallback is None


# ---- messages by name

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["theirs", "append", "turn", "newest", "after", "message", "replaces", "edit"]),
        st.integers(0, 5),
    ),
    max_size=10,
)


def step(host: Host, kind: str, number: int, text: str) -> None:
    """Do one thing with the session "s": here, or *theirs* in the store."""
    worker = host.workers[number % 2]
    seqs = list(worker.load("s", ANY).seqs)  # type: ignore[union-attr]
    seq = seqs[number % len(seqs)] if seqs else 99
    if kind == "theirs":
        host.switch.is_away = False
        write = append if host.switch.load("s", ANY) else start
        host.switch.apply(write("s", f"their {text}"))
        host.switch.is_away = True
    elif kind == "append":
        worker.apply(append("s", text, f"more {text}"))
    elif kind == "turn":
        command = BeginTurn(session_id="s", owner=None, element=said(text), lease_ms=9_000, supersede=True)
        turn = worker.begin(command)
        commit = CommitTurn(session_id="s", owner=None, turn=command.attempt, elements=(said(f"re: {text}"),))
        assert turn.receipt.first_seq
        worker.apply(commit)
    elif kind == "edit" and seqs:
        worker.apply(edited(worker, seq, text))
    elif kind == "replaces":
        worker.apply(replace(append("s", text), replaces=seq))
    elif kind != "edit":
        how: Any = {"newest": {"newest": number + 1}, "after": {"after": seq}, "message": {"message": seq}}[kind]
        worker.apply(Drop(session_id="s", owner=None, **how))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_an_id_told_in_an_outage_stays_whatever_others_write_meanwhile(
    steps: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Messages that were taken out stay out, and none of theirs is."""
    roomy = replace(LIMITS, max_history=200, max_tokens=1000)
    host = Host(MemoryStore(roomy), tmp_path_factory.mktemp("journal") / "journal", limits=roomy)
    host.workers[0].apply(start("s", "a", "b"))
    own_named = with_id(said("named"), "own-id")
    host.workers[1].apply(Append(session_id="s", owner=None, elements=(own_named,)))
    time.sleep(0.002)
    for number, (kind, which) in enumerate(steps):
        with contextlib.suppress(MessageNotFound):
            step(host, kind, which, f"{kind} {number}")
    told = host.workers[0].load("s", ANY)
    assert told
    names = list(map(own_id, told.elements))
    assert all(names)
    host.switch.is_away = False
    theirs = host.switch.load("s", ANY)
    host.come_back()
    found = host.switch.load("s", ANY)
    assert found
    assert [element for element in found.elements if own_id(element) in names] == told.elements
    for name, element in zip(names, told.elements, strict=True):
        named = host.switch.message("s", ANY, name)
        assert named
        assert named.elements == [element]
    assert [element for element in found.elements if not own_id(element)] == (theirs.elements if theirs else [])
    assert host.told == []
    assert theirs or (found.version, list(found.seqs)) == (told.version, list(told.seqs))
    host.close()


def test_a_repeated_drop_takes_nothing_more_when_it_was_handed_over(host: Host) -> None:
    worker = host.workers[0]
    worker.apply(start("s", "a", "b", "c", "d"))
    time.sleep(0.002)
    host.switch.is_away = False
    host.switch.apply(start("s", "theirs"))
    host.switch.is_away = True
    drops = [Drop(session_id="s", owner=None, newest=1, token=token, digest="newest") for token in "TU"]
    drops.append(Drop(session_id="s", owner=None, after=1, token="V", digest="after"))
    for drop in (*drops, *drops):
        worker.apply(drop)
    assert texts_in(worker, "s") == ["a"]
    host.come_back()
    host.switch.apply(append("s", "later"))
    for drop in drops:
        assert worker.apply(drop).repeated
    assert texts_in(worker, "s") == ["theirs", "a", "later"]


def test_what_a_first_try_has_left_is_dropped_too(host: Host) -> None:
    """The messages of a save that has landed unheard have no ids there."""
    worker, save = host.workers[0], start("s", "a", "b", "c", "d")
    host.switch.written = None
    worker.apply(save)
    host.switch.is_away = False
    host.switch.apply(start("s", "before"))
    host.switch.apply(save)
    host.switch.apply(append("s", "theirs"))
    host.switch.is_away = True
    worker.apply(Drop(session_id="s", owner=None, newest=1))
    worker.apply(Drop(session_id="s", owner=None, message=1))
    worker.apply(Drop(session_id="s", owner=None, after=2))
    host.come_back()
    assert texts_in(worker, "s") == ["b", "theirs"]
    assert host.told == []


# ---- any commands

IDS = st.sampled_from(["s", "t"])
OWNERS = st.sampled_from([ANY, None, None, "alice"])
USAGES = st.sampled_from([None, Usage(1, 2)])
ELEMENTS = st.lists(
    st.sampled_from([said("a"), said("b" * 30), with_id(said("c"), "x"), with_id(said("d"), "y")]),
    max_size=3,
    unique_by=lambda element: own_id(element) or object(),
).map(tuple)
REPLACES = st.sampled_from(["", "", "", 1, 2, "x", "msg-2"])
TOKENS = st.sampled_from([None, None, "T1", "T2"])
FIELDS = st.lists(
    st.builds(
        FieldChange,
        st.sampled_from(["f", "g", "messages"]),
        st.sampled_from([None, b"1"]),
        st.sampled_from([b"1", b'"x"']),
    ),
    max_size=2,
    unique_by=lambda change: change.name,
).map(tuple)
EXPECTED = st.sampled_from(["", "", "1", "2", "3"])
COMMANDS = st.one_of(
    st.builds(
        Put,
        session_id=IDS,
        owner=OWNERS,
        mode=st.sampled_from(["replace", "replace", "create", "first"]),
        shape=st.sampled_from(["full", "full:messages"]),
        fields=FIELDS.map(lambda changes: tuple((change.name, change.value) for change in changes)),
        elements=ELEMENTS,
    ),
    st.builds(
        Merge,
        session_id=IDS,
        owner=OWNERS,
        shape=st.sampled_from(["full", "full:messages"]),
        fields=FIELDS.map(lambda changes: tuple(change._replace(loaded=None) for change in changes)),
        history=st.none() | st.builds(Extend, st.just(0), ELEMENTS),
        creates=st.just(True),
        ttl_ms=st.sampled_from([None, 50_000]),
    ),
    st.builds(
        Merge,
        session_id=IDS,
        owner=OWNERS,
        fields=FIELDS,
        history=st.builds(Extend, st.integers(0, 4), ELEMENTS) | st.builds(Rewrite, st.integers(0, 4), ELEMENTS),
        ttl_ms=st.sampled_from([None, 50_000]),
    ),
    st.builds(
        Append,
        session_id=IDS,
        owner=OWNERS,
        elements=ELEMENTS,
        expected=EXPECTED,
        replaces=REPLACES,
        first_title=st.sampled_from(["", "first"]),
        usage=USAGES,
    ),
    st.builds(
        Drop,
        session_id=IDS,
        owner=OWNERS,
        newest=st.integers(1, 2),
        expected=EXPECTED,
    ),
    st.builds(
        Drop,
        session_id=IDS,
        owner=OWNERS,
        after=st.sampled_from([0, 1, 2, "x"]),
        expected=EXPECTED,
    ),
    st.builds(
        Drop,
        session_id=IDS,
        owner=OWNERS,
        message=st.sampled_from([1, 2, 3, "x", "msg-2"]),
        expected=EXPECTED,
    ),
    st.builds(
        Update,
        session_id=IDS,
        owner=OWNERS,
        fields=FIELDS.map(lambda changes: tuple((change.name, change.loaded) for change in changes)),
        expected=EXPECTED,
        title=st.sampled_from([None, None, "", "title"]),
        ttl_ms=st.sampled_from([None, None, 60_000]),
    ),
    st.builds(
        Edit,
        session_id=IDS,
        owner=OWNERS,
        seq=st.integers(0, 4),
        loaded=st.sampled_from([said("a"), said("b" * 30), said("q"), said("edited")]),
        element=st.sampled_from([said("edited"), with_status(said(""), "redacted")]),
        title=st.sampled_from([None, "", "edited"]),
        expected=EXPECTED,
    ),
    st.builds(
        Share,
        session_id=IDS,
        owner=OWNERS,
        name=st.sampled_from(["alice", "bob"]),
        role=st.sampled_from([None, "reader", "writer"]),
    ),
    st.builds(
        BeginTurn,
        session_id=IDS,
        owner=OWNERS,
        element=st.sampled_from([said("q"), with_id(said("q"), "x")]),
        replaces=REPLACES,
        lease_ms=st.just(100_000),
        supersede=st.booleans(),
        attempt=st.sampled_from(["A1", "A2"]),
        first_title=st.sampled_from(["", "first"]),
        usage=USAGES,
    ),
    st.builds(
        CommitTurn,
        session_id=IDS,
        owner=OWNERS,
        turn=st.sampled_from(["A1", "A2"]),
        elements=st.just((said("r"),)),
        status=st.sampled_from(["", "unanswered"]),
        usage=USAGES,
    ),
    st.builds(RenewTurn, session_id=IDS, owner=OWNERS, turn=st.sampled_from(["A1", "A2"]), lease_ms=st.just(100_000)),
    st.builds(Touch, session_id=IDS, owner=OWNERS, ttl_ms=st.sampled_from([None, 70_000])),
    st.builds(
        MoveConversation,
        session_id=IDS,
        owner=OWNERS,
        turn=st.sampled_from(["A1", "A2"]),
        moved_to=st.just("u"),
        expected=EXPECTED,
    ),
    st.builds(
        NoteAlias,
        session_id=IDS,
        owner=OWNERS,
        alias=st.builds(Alias, st.sampled_from([None, "alice"]), st.just("x")),
        leads_here=st.booleans(),
    ),
    st.builds(Delete, session_id=IDS, owner=OWNERS, expected=EXPECTED),
)


def outcome(store: Store, command: Any) -> Any:
    """The result or error of a command, without facts that differ from store to store."""
    try:
        given = store.begin(command) if isinstance(command, BeginTurn) else store.apply(command)
    except ConvstoreError as error:
        return type(error)
    receipt = given.receipt if isinstance(given, Begun) else given
    return receipt.version, receipt.first_seq, receipt.repeated


def as_here(worker: Store, command: Any) -> Any:
    """Let *command* name its message as the journal does."""
    target = {Edit: "seq", Drop: "message", Append: "replaces", BeginTurn: "replaces"}.get(type(command), "")
    named = getattr(command, target, None)
    with contextlib.suppress(StoreUnavailable):
        found = worker.message(command.session_id, ANY, 2 if named == "msg-2" else named) if named else None
        for element in found.elements if found else ():
            if bare(element) != element and named == "msg-2":
                return replace(command, **{target: own_id(element)})
            if isinstance(command, Edit) and bare(element) == command.loaded:
                return replace(command, loaded=element, element=with_id(command.element, own_id(element)))
    return command


def shown(store: Store, session_id: str) -> Any:
    found = store.load(session_id, ANY, is_interaction=False)
    return found and (
        found.version,
        [bare(element) for element in found.elements],
        found.fields,
        found.owner,
        found.own_ttl_ms,
        found.next_seq,
        found.title,
        found.usage,
        dict(found.shared),
        found.moved_to,
        found.aliases,
    )


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(commands=st.lists(st.tuples(COMMANDS, TOKENS, st.booleans()), max_size=14))
@example(
    commands=[
        (Delete(session_id="s", owner=ANY), None, False),
        (Delete(session_id="s", owner=ANY), "T1", False),
        (Put(session_id="s", owner=ANY, mode="replace", shape="full"), "T1", True),
    ]
)
def test_any_commands_have_the_effect_here_that_they_have_there(
    commands: Any, valkey_url: RedisStore, tmp_path_factory: pytest.TempPathFactory
) -> None:
    valkey_url._calls.command("FLUSHALL")
    specification = MemoryStore(LIMITS)
    host = Host(valkey_url, tmp_path_factory.mktemp("journal") / "journal")
    for session_id in ("s", "t"):
        begin = start(session_id)
        specification.apply(begin)
        host.workers[0].apply(begin)
    for drawn, token, which in commands:
        command = drawn
        if isinstance(command, (CommitTurn, MoveConversation)):
            command = replace(command, digest=command.turn)
        elif token and hasattr(command, "token"):
            command = replace(command, token=token, digest=type(command).__name__)
        worker = host.workers[which]
        expected = outcome(specification, command)
        found = outcome(worker, as_here(worker, command))
        if found is StoreUnavailable:  # not known here, or another owner's
            assert expected in (SessionNotFound, SessionExists) or isinstance(command, (Put, Merge)), command
        else:
            assert found == expected, command
        for session_id in ("s", "t"):
            if host.journals[0].find("", session_id):
                assert shown(host.workers[0], session_id) == shown(host.workers[1], session_id)
                assert shown(worker, session_id) == shown(specification, session_id)
    host.come_back()
    for session_id in ("s", "t"):
        assert shown(valkey_url, session_id) == shown(specification, session_id)
    assert host.journals[0].status()[2:4] == (0, 0)
    host.close()


@pytest.fixture
def valkey_url(valkey: Server) -> RedisStore:
    return RedisStore(valkey.client, "f:", LIMITS)


@given(command=COMMANDS)
def test_commands_survive_as_text(command: Any) -> None:
    assert command_of(text_of(command)) == command


@pytest.mark.parametrize(
    "text", [b"", b"{}", b"1", b"[]", b'{"Extend": {"drop_below": 1, "elements": []}}', b'{"x": {}}']
)
def test_text_that_is_no_command_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        command_of(text)


def test_the_repeat_of_a_delete_that_found_nothing_spares_what_began_since(host: Host) -> None:
    """In every worker, and when the store has heard of it."""
    one, other = host.workers
    one.apply(start("s", "a"))
    one.apply(Delete(session_id="s", owner=ANY))
    late = Delete(session_id="s", owner=ANY, token="late", digest="delete")
    for worker in (one, other, one):
        with pytest.raises(SessionNotFound):
            worker.apply(late)
    assert host.journals[0].status().pending == 3
    one.apply(Put(session_id="s", owner=ANY, mode="replace", shape="full", elements=(said("b"),)))
    with pytest.raises(SessionNotFound):
        other.apply(late)
    assert texts_in(one, "s") == texts_in(other, "s") == ["b"]
    host.come_back()
    with pytest.raises(SessionNotFound):
        one.apply(late)
    assert texts_in(one, "s") == ["b"]


def test_ids_made_away_are_uuids_that_tell_when(clock: Clock) -> None:
    ids = {id_made_away() for _ in range(1000)}
    assert len(ids) == 1000
    for session_id in ids:
        assert made_away_at_ms(session_id) == clock.now
        assert made_away_at_ms(id_made_away([b"k"]), [b"other", b"k"]) == clock.now
        assert made_away_at_ms(id_made_away([b"k"]), [b"other"]) is None
    for other in (new_id(), "x" * 36, "00000000-0000-8000-0000-00000000000g", id_made_away().upper(), ""):
        assert made_away_at_ms(other) is None or other == other.lower()


def test_a_child_process_begins_anew(host: Host) -> None:
    worker, journal = host.workers[0], host.journals[0]
    worker.apply(start("s", "a"))
    child = os.fork()
    if child == 0:
        try:
            worker.apply(append("s", "b"))
            os._exit(0 if texts_in(worker, "s") == ["a", "b"] else 1)
        except BaseException:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    assert texts_in(worker, "s") == ["a", "b"]
    assert journal.status().pending == 2


def test_removed_text_leaves_the_disk(host: Host, tmp_path: Path) -> None:
    """When the journal has been handed over, and when its owner is forgotten, also while the store is away."""
    folder, (one, other) = tmp_path / "journal", host.workers
    for name, owner in (("a", "alice"), ("b", "bob")):
        one.apply(start(name, f"secret of {owner}", owner=owner))
    assert other.journalled("alice") == ["a"]
    other.apply(Delete(session_id="a", owner="alice"))
    assert other.journalled("alice") == []
    with pytest.raises(StoreUnavailable):
        other.forget_owner("alice", [])
    assert not on_disk(folder, b"secret of alice")
    assert on_disk(folder, b"secret of bob")
    with pytest.raises(SessionNotFound):
        one.apply(Append(session_id="a", owner="alice", elements=(said("late"),)))
    host.come_back()
    assert one.load("a", "alice") is None
    assert texts_in(one, "b", "bob") == ["secret of bob"]
    wait_for(lambda: not on_disk(folder, b"secret of bob"), "what was handed over stays on the disk")


@pytest.mark.parametrize("kind", ["loose", "another's", "a link", "a linked log"])
def test_a_journal_that_others_could_change_is_refused(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    folder = tmp_path / "journal"
    folder.mkdir(mode=0o700)
    if kind == "loose":
        folder.chmod(0o777)
    elif kind == "another's":
        monkeypatch.setattr("flask_convstore.stores.private_folder.os.geteuid", lambda: 12345)
    else:
        (tmp_path / "elsewhere").touch(0o600)
        (folder / ("journal.sqlite" if kind == "a link" else "journal.sqlite-wal")).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreUnavailable):
        host.workers[0].apply(start("s", "hi"))
    assert (
        "chmod go-w" if kind == "loose" else "this process runs as" if kind == "another's" else "Remove it"
    ) in caplog.text
    assert not (tmp_path / "elsewhere").exists() or (tmp_path / "elsewhere").stat().st_size == 0


def test_a_journal_is_private_whatever_the_umask_is(tmp_path: Path) -> None:
    made, before = tmp_path / "instance" / "convstore" / "journal", os.umask(0)
    try:
        host = Host(MemoryStore(LIMITS), made)
        host.workers[0].apply(start("s", "hi"))
    finally:
        os.umask(before)
    for place in (made, made.parent, made.parent.parent, *made.iterdir()):
        assert place.stat().st_mode & 0o077 == 0, place
    host.close()
