"""Clocks of a host that are wrong, or are set, while the journal keeps sessions. Nothing is lost or held up by that."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flask_convstore.config import Settings, limits_of
from flask_convstore.domain import clock as clock_room
from flask_convstore.domain.clock import hear, now_ms
from flask_convstore.domain.commands import BeginTurn, Delete
from flask_convstore.outages.journal import Journal
from flask_convstore.stores.memory import MemoryStore
from flask_convstore.stores.redis.store import RedisStore
from flask_convstore.stores.store import Store

from ..clocks import Clock
from ..servers import Server
from .test_fallback import Host, append, said, start, start_away, texts_in

LIMITS = limits_of(Settings(max_tokens=100, max_history=100, max_age=86_400))
TEXTS = [str(number) for number in range(20)]
HOUR_MS = 3_600_000


def true_ms() -> int:
    return time.clock_gettime_ns(time.CLOCK_REALTIME) // 1_000_000


@pytest.fixture
def memory_host(tmp_path: Path) -> Iterator[Host]:
    """A host whose store goes by a right clock."""
    made = Host(MemoryStore(LIMITS, true_ms), tmp_path / "journal", limits=LIMITS)
    yield made
    made.close()


@pytest.fixture
def host(server: Server, tmp_path: Path) -> Iterator[Host]:
    """The same with a real server."""
    made = Host(RedisStore(server.client, "clocks:", LIMITS), tmp_path / "journal", limits=LIMITS)
    yield made
    made.close()


def set_wall(monkeypatch: pytest.MonkeyPatch, ahead_ms: int) -> None:
    """Set the clock of the host."""
    monkeypatch.setattr(time, "time_ns", lambda: (true_ms() + ahead_ms) * 1_000_000)
    monkeypatch.setattr(time, "time", lambda: (true_ms() + ahead_ms) / 1000)


def begin_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a new process look at the clock."""
    monkeypatch.setattr(clock_room._Offset, "ms", time.time_ns() // 1_000_000 - clock_room.ticks_ms())


def start_with_all(worker: Store) -> str:
    session_id = start_away(worker)
    for text in TEXTS:
        worker.apply(append(session_id, text))
    return session_id


def test_a_clock_that_is_set_ahead_for_a_moment_drops_nothing(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    session_id = start_with_all(host.workers[0])
    with monkeypatch.context() as jump:
        set_wall(jump, 2 * HOUR_MS)
        for worker in host.workers:
            worker.end_expired()
            assert texts_in(worker, session_id) == TEXTS
    host.come_back()
    assert texts_in(host.workers[0], session_id) == TEXTS
    assert host.journals[0].status().dropped == 0


def test_a_process_that_began_by_a_wrong_clock_has_the_times_of_the_others(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = host.workers
    session_id = start_with_all(one)
    before = host.journals[0].now_ms()
    with monkeypatch.context() as jump:
        set_wall(jump, 2 * HOUR_MS)
        begin_process(jump)
        assert before <= host.journals[1].now_ms() < before + 60_000
        other.end_expired()
        other.apply(append(session_id, "late"))
    host.come_back()
    assert texts_in(one, session_id) == [*TEXTS, "late"]


def test_a_turn_is_no_longer_in_progress_than_its_lease_where_a_clock_is_set_back(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = host.workers[0]
    session_id = start_away(worker)
    worker.begin(BeginTurn(session_id=session_id, owner=None, element=said("q"), lease_ms=1000))
    set_wall(monkeypatch, -HOUR_MS)
    assert host.workers[1].turn_lease(session_id, None).remaining_ms <= 1000
    host.come_back()
    assert host.workers[1].turn_lease(session_id, None).remaining_ms <= 1000


@pytest.mark.parametrize("ahead_ms", [-25 * HOUR_MS, -HOUR_MS, HOUR_MS, 25 * HOUR_MS])
def test_sessions_of_a_host_with_a_wrong_clock_are_handed_over(
    host: Host, monkeypatch: pytest.MonkeyPatch, ahead_ms: int
) -> None:
    """Their times are those of the store then, so that they live as long as they should."""
    worker = host.workers[0]
    began = true_ms()
    set_wall(monkeypatch, ahead_ms)
    begin_process(monkeypatch)
    session_id = start_with_all(worker)
    worker.apply(start("saved", *TEXTS))
    worker.apply(start("gone", *TEXTS))
    worker.apply(Delete(session_id="gone", owner=None))
    seen = worker.load(session_id, None)
    assert seen
    worker.apply(append(session_id, "x", created_at_ms=seen.created_at_ms, expected=f"{seen.created_at_ms}-21"))
    host.come_back()
    ended = true_ms()
    found, saved = (worker.load(name, None) for name in (session_id, "saved"))
    assert found
    assert saved
    assert texts_in(worker, session_id) == [*TEXTS, "x"]
    assert texts_in(worker, "saved") == TEXTS
    for one in (found, saved):
        assert began - 1000 <= one.created_at_ms <= ended
        assert one.expires_at_ms >= ended + HOUR_MS - 60_000
    assert worker.load("gone", None) is None
    assert host.journals[0].status()[2:5] == (0, 0, None)


def test_a_boot_neither_ends_what_waits_nor_stops_its_time(memory_host: Host, tmp_path: Path, clock: Clock) -> None:
    """The clock may be anything then, and how long the host was off is unknown. Time goes on from the last command."""
    session_id = start_with_all(memory_host.workers[0])
    last = clock.now
    before = clock_room.boot()
    clock.now = 60_000  # ticks begin anew
    assert before == clock_room.boot()
    again = Journal(tmp_path / "journal", "target", 2**24, 1.0)
    assert again.may_hold()
    assert again.now_ms() == last
    clock.now += 500
    assert again.now_ms() == memory_host.journals[1].now_ms() == last + 500
    assert texts_in(memory_host.workers[1], session_id) == TEXTS
    again.close()


def test_another_boot_is_known_by_its_name(
    memory_host: Host, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    start_with_all(memory_host.workers[0])
    last = clock.now
    clock.now += 30 * HOUR_MS  # the ticks of this boot are more than those of the one before were
    monkeypatch.setattr("flask_convstore.outages.journal.boot", lambda: "another")
    again = Journal(tmp_path / "journal", "target", 2**24, 1.0)
    assert again.may_hold()
    assert again.now_ms() == last
    again.close()


def test_an_empty_journal_begins_by_the_time_of_its_process(memory_host: Host, clock: Clock) -> None:
    journal = memory_host.journals[0]
    assert journal.now_ms() == clock.now
    memory_host.workers[0].apply(start("s"))
    memory_host.come_back()
    clock_room._Offset.ms += HOUR_MS
    assert journal.now_ms() == now_ms()


def test_the_time_of_a_server_counts_where_it_differs(clock: Clock) -> None:
    hear(clock.now + clock_room.CLOCKS_DIFFER_MS)
    assert now_ms() == clock.now
    hear(clock.now - 25 * HOUR_MS)
    assert now_ms() == clock.now - 25 * HOUR_MS
    clock.now += 10
    hear(clock.now)
    assert now_ms() == clock.now


def test_a_read_tells_the_time_of_its_server(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    store = RedisStore(server.client, "clocks:", LIMITS)
    store.apply(start("s"))
    monkeypatch.setattr(clock_room._Offset, "ms", clock_room._Offset.ms - 25 * HOUR_MS)
    assert store.load("s", None)
    assert abs(now_ms() - true_ms()) < 60_000
    page: Any = store.page(None)
    assert [one.session_id for one in page.sessions] == ["s"]
