"""The circuit: a server that does not answer is not asked by everybody."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Any

import pytest

from flask_convstore.domain.commands import Append, Touch
from flask_convstore.domain.types import ANY
from flask_convstore.errors import SessionNotFound, StoreUnavailable
from flask_convstore.operations import leases
from flask_convstore.outages.circuit import Circuit, CircuitStore
from flask_convstore.outages.outage_watch import OutageWatch
from flask_convstore.stores.memory import MemoryStore
from flask_convstore.stores.store import Store, StoreAround

from ..harness import SETTINGS
from ..servers import running
from ..service import Service, problem

TOUCH = Touch(session_id="s", owner=ANY)


class Moody(StoreAround):
    """A store that is down when told so, and counts who asks it."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.error: Exception | None = None
        self.asked = 0

    def _call(self, method: Any, *arguments: Any, **options: Any) -> Any:
        self.asked += 1
        if self.error:
            raise self.error
        return super()._call(method, *arguments, **options)


WATCH = OutageWatch(lambda *_, **__: None, "there", "none")
DOWN = StoreUnavailable("no answer", written=None, is_down=True)


class World:
    def __init__(self) -> None:
        from flask_convstore.config import limits_of

        self.now = 100.0
        self.inner = Moody(MemoryStore(limits_of(SETTINGS)))
        self.circuit = Circuit(3, lambda: self.now)
        self.store = CircuitStore(self.inner, self.circuit, WATCH)

    def ask(self) -> bool:
        """True if the store was asked."""
        before = self.inner.asked
        with contextlib.suppress(StoreUnavailable):
            self.store.ping()
        return self.inner.asked > before

    def open(self) -> None:
        self.inner.error = DOWN
        assert [self.ask() for _ in range(3)] == [True] * 3
        assert self.circuit.is_open


def test_it_opens_after_so_many_failures_in_a_row() -> None:
    world = World()
    world.inner.error = DOWN
    assert [world.ask() for _ in range(2)] == [True, True]
    world.inner.error = None
    assert world.ask()
    world.open()
    assert not world.ask()
    with pytest.raises(StoreUnavailable, match="3 times in a row") as caught:
        world.store.apply(TOUCH)
    assert (caught.value.written, caught.value.is_down) == (False, True)


def test_writes_to_several_sessions_open_it_and_each_gets_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The store gives errors as values. Where all are for want of an answer, that is none."""
    world = World()
    commands = [Append(session_id=name, owner=ANY, elements=()) for name in "st"]
    missing: list[Any] = [SessionNotFound("s"), SessionNotFound("t")]
    assert [type(one) for one in world.store.apply_each(commands)] == [SessionNotFound, SessionNotFound]
    for given, is_open in (([DOWN, DOWN], True), (missing, False), ([DOWN, missing[0]], False)):
        with monkeypatch.context() as patched:
            patched.setattr(world.inner, "apply_each", lambda _, given=given: given)
            for _ in range(3):
                assert world.store.apply_each(commands) == given
        assert world.circuit.is_open is is_open
        world.circuit.answered()
    world.open()
    answers = world.store.apply_each(commands)
    assert [(type(one), one.written) for one in answers] == [(StoreUnavailable, False)] * 2  # type: ignore[union-attr]
    assert answers[0] is not answers[1]


def test_it_tries_again_after_longer_and_longer_pauses() -> None:
    world = World()
    world.open()
    for pause in (1, 2, 4, 8, 16, 32, 32):
        world.now += pause - 0.01
        assert not world.ask()
        world.now += 0.02
        assert world.ask()
        assert not world.ask()
    world.now += 32
    world.inner.error = None
    assert world.ask()
    assert not world.circuit.is_open
    world.open()
    world.now += 1  # the pauses begin anew
    assert world.ask()


def test_one_caller_tries_and_the_lock_is_held_by_none() -> None:
    world = World()
    world.open()
    world.now += 1
    entered, go_on = threading.Event(), threading.Event()

    class Slow(Moody):
        def _call(self, method: Any, *arguments: Any, **options: Any) -> Any:
            entered.set()
            assert go_on.wait(10)
            return super()._call(method, *arguments, **options)

    world.store = CircuitStore(Slow(world.inner), world.circuit, WATCH)
    world.inner.error = None
    trying = threading.Thread(target=world.ask)
    trying.start()
    assert entered.wait(10)
    started = time.monotonic()
    with pytest.raises(StoreUnavailable, match="tried again now"):
        world.store.ping()
    assert time.monotonic() - started < 5
    go_on.set()
    trying.join()
    assert not world.circuit.is_open


@pytest.mark.parametrize(
    "error", [SessionNotFound("s"), StoreUnavailable("out of memory", written=False), ValueError("a bug")]
)
def test_an_answer_of_any_kind_closes_nothing_but_opens_nothing_either(error: Exception) -> None:
    world = World()
    world.inner.error = error
    for _ in range(5):
        with pytest.raises(type(error)):
            world.store.ping()
    assert not world.circuit.is_open


def test_a_try_that_ends_otherwise_lets_the_next_one_try() -> None:
    world = World()
    world.open()
    world.now += 1
    world.inner.error = KeyboardInterrupt()  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        world.store.ping()
    world.inner.error = DOWN
    assert world.ask()


@pytest.mark.server
def test_an_app_answers_at_once_when_its_server_is_gone() -> None:
    with running("valkey") as server:
        service = Service(server.url, CIRCUIT_FAILURES=2, RETRIES=0, CONNECT_TIMEOUT=0.2)
        session_id = service.start()
    for _ in range(2):
        problem(service.client.get(f"/sessions/{session_id}"), 503, "unavailable")
    started = time.monotonic()
    for _ in range(50):
        problem(service.client.get(f"/sessions/{session_id}"), 503, "unavailable")
    assert time.monotonic() - started < 5
    with service.app.app_context():
        assert service.convstore._state().circuit.is_open


def test_a_call_that_garbage_collection_ends_in_the_midst_of_another_does_not_hang() -> None:
    """A suspended block with a turn may be closed wherever this thread makes an object, also where it has a lock."""
    circuit = Circuit(failures=1)

    def end_two() -> None:
        with circuit._lock, leases._renewers_lock:
            circuit.failed()
            leases.renewer(World().inner)
            circuit.answered()

    thread = threading.Thread(target=end_two, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()


def test_it_tells_when_it_opens_and_when_it_closes() -> None:
    """Once each, however many calls fail meanwhile."""
    world, told = World(), list[bool]()
    world.circuit.tell = told.append
    world.open()
    for _ in range(3):
        world.now += 40
        world.ask()
    assert told == [True]
    world.inner.error = None
    world.now += 40
    assert world.ask()
    assert world.ask()
    assert told == [True, False]


def test_a_single_failure_is_told_as_one() -> None:
    world = World()
    world.store = CircuitStore(world.inner, Circuit(1, lambda: world.now), WATCH)
    world.inner.error = DOWN
    assert world.ask()
    with pytest.raises(StoreUnavailable, match=r"did not answer once\. It is tried again"):
        world.store.ping()
