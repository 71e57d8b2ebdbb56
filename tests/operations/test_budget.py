"""An operation with all its round trips ends with the budget, and one that has run out of time opens no circuit."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flask_convstore.config import Settings, limits_of
from flask_convstore.errors import StoreUnavailable, TurnLost
from flask_convstore.stores.connect import connect, patience_of
from flask_convstore.stores.redis.store import RedisStore

from ..harness import PlainConversations
from ..servers import Server
from ..service import Service
from ..wire import Proxy

NAMES = [f"telegram:{number}" for number in range(20)]


@pytest.fixture
def proxy(valkey: Server) -> Iterator[Proxy]:
    with Proxy(("127.0.0.1", valkey.port)) as proxy:
        yield proxy


def conversations_at(url: str, **settings: float) -> PlainConversations:
    chosen = Settings(url=url, **settings)  # type: ignore[arg-type]
    store = RedisStore(connect(chosen, Path()), chosen.prefix, limits_of(chosen), patience_of(chosen))
    return PlainConversations(store, chosen, "ada")


def test_many_aliases_take_one_round_trip(valkey: Server, proxy: Proxy) -> None:
    conversations = conversations_at(proxy.url)
    conversations.save_session("s", {})
    for name in NAMES:
        conversations.link(name, "s")
    assert conversations.aliases("s") == sorted(NAMES)

    proxy.reset()
    conversations.aliases("s")
    assert proxy.round_trips == 2

    valkey.client.hset("chat:session:{s}", "indexed", 1)  # it is long ago that its index heard of it
    for name in NAMES:
        valkey.client.pexpire(f"chat:session:alias:{{ada:{name}}}", 60_000)
    proxy.reset()
    conversations.get_session("s")
    assert proxy.round_trips == 2
    assert all(valkey.client.pttl(f"chat:session:alias:{{ada:{name}}}") > 60_000 for name in NAMES)


def test_the_aliases_of_deleted_sessions_take_one_round_trip_each_session(proxy: Proxy) -> None:
    conversations = conversations_at(proxy.url)
    conversations.save_session("s", {})
    for name in NAMES:
        conversations.link(name, "s")
    proxy.reset()
    assert conversations.delete_owner() == 1
    assert proxy.round_trips < len(NAMES)
    assert conversations.resolve(NAMES[0]) is None


def test_an_operation_of_many_trips_ends_with_its_budget(proxy: Proxy) -> None:
    """Each trip takes less than the budget, and all together more. The server answers, and its circuit stays closed."""
    service = Service(proxy.url, BUDGET=0.6, COMMAND_TIMEOUT=0.55, CIRCUIT_FAILURES=1, FALLBACK="none")
    store = service.convstore
    with service.app.app_context():
        store.save_session("s", {"history": []}, owner="ada")
        store.link("web:1", "s", owner="ada")

        proxy.delay = 0.35
        with pytest.raises(StoreUnavailable) as caught:
            store.resolve("web:1", owner="ada")
        assert (caught.value.written, caught.value.is_down) == (False, None), "the second trip had no time"
        proxy.delay = 0
        assert store.health().circuit == "closed"
        assert store.resolve("web:1", owner="ada") is not None


def test_writes_to_several_sessions_have_the_time_of_one_call(proxy: Proxy) -> None:
    """Also where they go one after the other, as they do while something waits in the journal."""
    service = Service(proxy.url, BUDGET=0.6, COMMAND_TIMEOUT=0.55, RETRIES=0)
    store = service.convstore
    with service.app.app_context():
        store.save_session("s0", {})
        proxy.delay = 5
        store.save_session("here", {})
        began = time.monotonic()
        answers = store.append_many({"s0": ["a"], "s1": ["a"], "s2": ["a"], "here": ["a"]})
        assert time.monotonic() - began < 1
        proxy.delay = 0
    assert [isinstance(answer, StoreUnavailable) for answer in answers.values()] == [True, True, True, False]


def test_an_operation_whose_time_is_over_sends_nothing(proxy: Proxy) -> None:
    from flask_convstore.domain.deadlines import OPERATION

    conversations = conversations_at(proxy.url)
    conversations.save_session("s", {})
    proxy.reset()
    with OPERATION.within(-1), pytest.raises(StoreUnavailable, match="CONVSTORE_BUDGET") as caught:
        conversations.append("s", "x")
    assert (caught.value.written, caught.value.is_down, proxy.round_trips) == (False, None, 0)
    conversations.append("s", "x")


def test_a_limit_that_was_lowered_costs_few_trips(proxy: Proxy) -> None:
    """The sessions that make room are deleted ten at a time."""
    many = conversations_at(proxy.url, max_sessions=40)
    for number in range(40):
        many.save_session(f"s{number}", {})
    few = conversations_at(proxy.url, max_sessions=1)
    few.get_session("s0")
    proxy.reset()
    few.save_session("new", {})
    assert proxy.round_trips <= 30
    assert [one.session_id for one in few.list_sessions().sessions] == ["new"]


OPERATIONS: dict[str, Callable[[PlainConversations], Any]] = {
    "compact": lambda conversations: conversations.compact("s", "all of it", keep=1),
    "rotate": lambda conversations: conversations.rotate_id("s"),
    "edit": lambda conversations: conversations.edit_message("s", 1, "other"),
    "redact": lambda conversations: conversations.redact_message("s", 1),
    "pop": lambda conversations: conversations.pop_message("s"),
    "fork": lambda conversations: conversations.fork("s"),
}
"""Operations of several round trips."""


@pytest.mark.parametrize("delay", [0.17, 0.35])
@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_of_many_trips_has_one_deadline(proxy: Proxy, name: str, delay: float) -> None:
    """One that did not end in time has left no second session, and no turn in progress."""
    conversations = conversations_at(proxy.url, budget=0.6)
    conversations.save_session("s", {"history": ["a", "b"]})
    for alias in NAMES[:3]:
        conversations.link(alias, "s")
    proxy.delay = delay
    began = time.monotonic()
    try:
        OPERATIONS[name](conversations)
        is_done = True
    except StoreUnavailable as error:
        is_done = error.written is not False
    assert time.monotonic() - began < 0.85
    proxy.delay = 0
    listed = [one.session_id for one in conversations.list_sessions().sessions]
    if not is_done:
        assert listed == ["s"]
        assert conversations.get_session("s")["history"] == ["a", "b"]  # type: ignore[index]
        conversations.append("s", "c")
        with conversations.turn("s", "d"):
            pass


def test_the_time_of_the_apps_own_code_does_not_count(proxy: Proxy) -> None:
    """A summary may be made by a model. What it reads meanwhile has a time of its own."""
    conversations = conversations_at(proxy.url, budget=0.3)
    conversations.save_session("s", {"history": ["a", "b", "c"]})

    def slow(said: Any) -> str:
        time.sleep(0.4)
        conversations.get_session("s")
        return f"of {said}"

    assert conversations.edit_message("s", 3, slow).body == "of c"
    compacted = conversations.compact("s", slow, keep=1)
    assert [one["content"] if isinstance(one, dict) else one for one in compacted["history"]] == [
        "of ['a', 'b']",
        "of c",
    ]


def test_waiting_for_a_turn_comes_on_top(proxy: Proxy) -> None:
    conversations = conversations_at(proxy.url, budget=0.2, turn_wait=1.0, turn_lease=0.5)
    conversations.save_session("s", {"history": []})
    with pytest.raises(TurnLost), conversations.turn("s", "first") as held:
        assert held._renewer
        held._renewer.remove(held)  # as if its process had died
        with conversations.turn("s", "second", policy="wait") as turn:
            turn.reply("hi")


def test_deadlines_inherit() -> None:
    from flask_convstore.domain.deadlines import Deadline

    deadline = Deadline()
    with deadline.of(100), deadline.of(200):
        assert deadline.moment == 100
        with deadline.of(50):
            assert deadline.moment == 50
        assert deadline.moment == 100
    assert deadline.at_most(3) == 3
    assert deadline.at_most(None) is None


def test_deadlines_are_moved_by_a_pause() -> None:
    from flask_convstore.domain.deadlines import Deadline

    deadline = Deadline()
    with deadline.within(100):
        before = deadline.moment
        with deadline.within(50), deadline.paused():
            assert deadline.moment == math.inf
            with deadline.of(20):
                assert deadline.moment == 20
            time.sleep(0.01)
        assert 0.01 <= deadline.moment - before < 1
        with deadline.sparing(0.5):
            assert 49 < deadline.moment - time.monotonic() < 51
    with deadline.sparing(0.5), deadline.paused():
        assert deadline.moment == math.inf


def test_a_block_that_was_cut_short_leaves_no_deadline() -> None:
    """As if an exception had come between the two lines of ``with``, or in the line that ends it."""
    from flask_convstore.domain.deadlines import Deadline

    deadline = Deadline()
    with deadline.of(200):
        block = deadline.of(100)
        block.__enter__()
        assert deadline.moment == 100
        del block
        assert deadline.moment == 200, "the one around it still counts"
    block = deadline.of(100)
    block.__enter__()
    thread = threading.Thread(target=block.__exit__, args=(None, None, None))
    thread.start()
    thread.join()
    assert deadline.moment == 100, "what another thread ends is not this thread's"
    block.__exit__(None, None, None)
    assert deadline.moment == math.inf


def test_a_block_that_is_garbage_ends_for_no_other_thread() -> None:
    """A generator that holds a block is closed where garbage is collected, in the middle of another thread's operation."""
    from flask_convstore.domain.deadlines import Deadline

    deadline = Deadline()
    block = deadline.of(100)
    block.__enter__()
    seen = []

    def collect() -> None:
        with deadline.of(300):
            block.__exit__(None, None, None)
            seen.append(deadline.moment)
        seen.append(deadline.moment)

    thread = threading.Thread(target=collect)
    thread.start()
    thread.join()
    assert seen == [300, math.inf]
    assert deadline.moment == 100
