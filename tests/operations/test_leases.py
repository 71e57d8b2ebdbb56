"""Leases are renewed in time and not more often, together, by threads that nobody has to wait for."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from redis.crc import key_slot

from flask_convstore.config import Settings, limits_of
from flask_convstore.domain.commands import BeginTurn, Put, RenewTurn
from flask_convstore.domain.types import ANY
from flask_convstore.errors import ConvstoreError, SessionNotFound, TurnInProgress, TurnLost
from flask_convstore.operations import leases
from flask_convstore.operations.leases import Renewer
from flask_convstore.stores.connect import connect, patience_of
from flask_convstore.stores.memory import MemoryStore
from flask_convstore.stores.redis.store import RedisStore
from flask_convstore.stores.store import StoreAround

from ..harness import SETTINGS, Harness
from ..processes import wait_for
from ..servers import Server
from ..service import Service
from ..topologies import cluster
from ..wire import Proxy


class Renewals(StoreAround):
    """A store that counts renewals by session, and refuses them for those in *lost*."""

    def __init__(self) -> None:
        super().__init__(MemoryStore(limits_of(SETTINGS)))
        self.counts: Counter[str] = Counter()
        self.lost: dict[str, ConvstoreError] = {}

    def renew(self, commands: Sequence[RenewTurn]) -> list[ConvstoreError | None]:
        self.counts.update(command.session_id for command in commands)
        return [self.lost.get(command.session_id) for command in commands]


def renewal(session_id: str, turn: str = "t") -> RenewTurn:
    return RenewTurn(session_id=session_id, owner=ANY, turn=turn, lease_ms=60_000)


def test_each_lease_is_renewed_in_its_own_time() -> None:
    renewer, store = Renewer(), Renewals()
    renewed = store.counts
    began = time.monotonic()
    renewer.add("seldom", store, renewal("seldom"), 60)
    renewer.add("often", store, renewal("often"), 0.05)
    wait_for(lambda: renewed["often"] >= 5, "it is renewed again and again")
    took = time.monotonic() - began
    renewer.remove("often")
    assert renewed["often"] <= took / 0.05 + 1
    assert renewed["seldom"] == 0
    renewer.remove("seldom")


@pytest.mark.parametrize("error", [TurnLost("s"), SessionNotFound("s")])
def test_a_lost_turn_is_not_renewed_again(error: ConvstoreError) -> None:
    renewer, store = Renewer(), Renewals()
    store.lost["lost"] = error
    for turn in ("lost", "kept"):
        renewer.add(turn, store, renewal(turn), 0.02)
    wait_for(lambda: store.counts["kept"] >= 5, "the other one is renewed on")
    assert store.counts["lost"] == 1
    for turn in ("lost", "kept"):
        renewer.remove(turn)  # as its block does at its end, even if the turn was lost


class Places(Renewals):
    """A store of which each session is a place of its own. One of these hangs, and one cannot be told."""

    def __init__(self) -> None:
        super().__init__()
        self.goes_on = threading.Event()

    def place_of(self, session_id: str) -> str:
        if session_id == "untold":
            raise OSError("the disk is full")
        return session_id

    def renew(self, commands: Sequence[RenewTurn]) -> list[ConvstoreError | None]:
        answers = super().renew(commands)
        if commands[0].session_id == "hangs":
            self.goes_on.wait(10)
        return answers


def test_a_place_that_hangs_holds_up_no_other() -> None:
    renewer, store = Renewer(), Places()
    names = ("hangs", "untold", "answers")
    for name in names:
        renewer.add(name, store, renewal(name), 0.02)
    wait_for(lambda: min(store.counts["answers"], store.counts["untold"]) >= 5, "the others are renewed on")
    assert store.counts["hangs"] == 1, "it is not asked again before it answers"
    store.goes_on.set()
    wait_for(lambda: store.counts["hangs"] >= 5, "it is renewed on")
    for name in names:
        renewer.remove(name)


@pytest.mark.slow
def test_the_thread_ends_when_there_was_nothing_to_renew_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "_IDLE_SECONDS", 1.0)
    renewer, store = Renewer(), Renewals()
    renewer.add("one", store, renewal("one"), 60)
    thread = renewer._thread
    assert thread
    assert (thread.daemon, thread.name) == (True, "convstore-leases"), "a process that ends does not wait for it"
    renewer.remove("one")
    renewer.add("another", store, renewal("another"), 60)
    assert renewer._thread is thread
    assert thread.is_alive()
    renewer.remove("another")
    with renewer._changed:
        renewer._changed.notify()
    wait_for(lambda: not thread.is_alive(), "it ends")
    assert renewer._thread is None
    renewer.add("later", store, renewal("later"), 0.01)
    wait_for(lambda: store.counts["later"], "another thread begins")
    renewer.remove("later")


def test_the_thread_stays_for_a_while_if_the_first_turn_was_very_short() -> None:
    renewer = Renewer()
    with renewer._changed:
        renewer.add("one", Renewals(), renewal("one"), 60)
        renewer.remove("one")
        thread = renewer._thread
    assert thread
    wait_for(lambda: renewer._looks_at or not thread.is_alive(), "it has looked")
    assert renewer._thread is thread, "the next turn need not start one"


@pytest.mark.slow
def test_the_thread_stays_for_a_while_when_the_last_turn_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "_IDLE_SECONDS", 1.0)
    renewer, store = Renewer(), Renewals()
    renewer.add("one", store, renewal("one"), 0.02)
    thread = renewer._thread
    assert thread
    wait_for(lambda: store.counts["one"], "it is renewed")
    removed = time.monotonic()
    renewer.remove("one")
    wait_for(lambda: not thread.is_alive(), "it ends")
    assert time.monotonic() - removed > 0.5


def test_leases_that_are_due_soon_are_renewed_with_those_that_are_due() -> None:
    renewer, store = Renewer(), Renewals()
    with renewer._changed:
        for name in ("due", "soon", "late"):
            renewer.add(name, store, renewal(name), 10)
        now = renewer._turns["due"].due_at
        renewer._turns["soon"] = renewer._turns["soon"]._replace(due_at=now + 2)
        renewer._turns["late"] = renewer._turns["late"]._replace(due_at=now + 3)
        assert [name for name, _ in renewer._take_due(now)] == ["due", "soon"]
        assert renewer._take_due(now + 1) == []
    for name in ("due", "soon", "late"):
        renewer.remove(name)


def held(store: RedisStore, count: int) -> list[RenewTurn]:
    """Turns in progress, each with a lease of a minute. Return the renewals for an hour."""
    renewals = []
    for number in range(count):
        store.apply(Put(session_id=f"s{number}", owner=ANY, mode="replace", shape="full"))
        begin = BeginTurn(session_id=f"s{number}", owner=ANY, element=None, lease_ms=60_000)
        store.begin(begin)
        renewals.append(RenewTurn(session_id=f"s{number}", owner=ANY, turn=begin.attempt, lease_ms=3_600_000))
    return renewals


def test_a_thousand_turns_are_renewed_in_one_round_trip(server: Server) -> None:
    """A thousand round trips of 40 ms would take longer than their leases. A script that the server does not know yet, or
    has forgotten, takes three more."""
    with Proxy(("127.0.0.1", server.port)) as proxy:
        settings = Settings(url=proxy.url)
        store = RedisStore(connect(settings, Path()), settings.prefix, limits_of(settings), patience_of(settings))
        renewals = held(store, 1000)
        server.client.script_flush()
        proxy.delay = 0.04
        for trips in (4, 1):
            proxy.reset()
            assert store.renew(renewals) == [None] * 1000
            assert proxy.round_trips == trips
        proxy.delay = 0
        for number in range(1000):
            assert store.turn_lease(f"s{number}", ANY).remaining_ms > 60_000


def test_each_lease_has_an_answer_of_its_own(harness: Harness) -> None:
    for session_id in ("a", "b", "gone"):
        harness.store.apply(Put(session_id=session_id, owner="ada", mode="replace", shape="full"))
    begin = BeginTurn(session_id="b", owner="ada", element=None, lease_ms=60_000)
    harness.store.begin(begin)
    harness.expire("gone")
    asked = [renewal("a"), renewal("b", begin.attempt), renewal("gone"), renewal("b", "another")]
    first, second, third, fourth = harness.store.renew(asked)
    assert isinstance(first, TurnLost)
    assert second is None
    assert isinstance(third, SessionNotFound)
    assert isinstance(fourth, TurnLost)
    assert harness.store.renew([]) == []
    assert harness.store.place_of("a") == harness.store.place_of("b"), "one server is one place"


@pytest.mark.server
def test_a_primary_that_hangs_takes_no_turns_from_the_others() -> None:
    """Four turns on it, ten on the other two: each of these is renewed, and the circuit stays closed for them."""
    with cluster() as found:
        for server in found.primaries:
            server.client.config_set("cluster-require-full-coverage", "no")
        service = Service(found.url, FALLBACK="none", BUDGET=2, COMMAND_TIMEOUT=1, TURN_LEASE=3, CIRCUIT_FAILURES=2)
        hung = found.primaries[0]
        store = service.convstore
        ids = [f"s{number}" for number in range(200)]
        on_hung = {one for one in ids if found.primary_of(key_slot(f"chat:session:{{{one}}}".encode())) is hung}
        with service.app.app_context():
            turns = []
            for session_id in [*sorted(on_hung)[:4], *sorted(set(ids) - on_hung)[:10]]:
                store.save_session(session_id, [])
                turns.append((session_id, store.turn(session_id, {"role": "user", "content": "x"})))
            begun = [(session_id, turn.__enter__()) for session_id, turn in turns]
            hung.process.send_signal(signal.SIGSTOP)
            try:
                time.sleep(8)  # some leases and budgets long
                for session_id, turn in begun:
                    if session_id not in on_hung:
                        with pytest.raises(TurnInProgress):
                            store.turn(session_id, {"role": "user", "content": "y"}).__enter__()
                        turn.reply("z")
            finally:
                hung.process.send_signal(signal.SIGCONT)
            for _, turn in turns:
                turn.__exit__(None, None, None)
            store.close()
