"""Lists by last change: exact, whole while sessions move, and also where the index was written by older versions."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import redis

from flask_convstore import InvalidInput
from flask_convstore.domain.types import Order
from flask_convstore.stores.redis import change_order, owner_index

from ...harness import Harness, PlainConversations, RedisHarness, in_memory
from ...servers import Server
from ...wire import Proxy

INDEX = "chat:session:owner:{ada}"
CHANGED = f"{INDEX}:changed"
MINUTE = 60_000


def on(client: Any) -> PlainConversations:
    return PlainConversations(RedisHarness(client).store)


def listed(
    conversations: PlainConversations,
    limit: int = 50,
    *,
    order: Order = "updated",
    newest_first: bool = True,
    between: Callable[[], object] = lambda: None,
) -> list[str]:
    """The ids of all pages, in their order."""
    found: list[str] = []
    cursor = None
    while True:
        page = conversations.list_sessions(
            cursor=cursor, limit=limit, order=order, newest_first=newest_first, owner="ada"
        )
        found += [summary.session_id for summary in page.sessions]
        cursor = page.next
        if cursor is None:
            return found
        between()


def saved(conversations: PlainConversations, *names: str) -> None:
    for name in names:
        conversations.save_session(name, {"history": []}, owner="ada")


def changed_at(server: Server, times: dict[str, int]) -> None:
    """As if the sessions had been changed at these times."""
    for name, at_ms in times.items():
        server.client.hset(f"chat:session:{{{name}}}", "updated", at_ms)


def age(harness: Harness, milliseconds: int) -> None:
    """As if all that was done had been done so much earlier."""
    if not isinstance(harness, RedisHarness):
        return harness.age(milliseconds)
    client: Any = harness.client
    for key in client.scan_iter(match="chat:session:owner:*"):
        for name, score in client.zrange(key, 0, -1, withscores=True):
            client.zadd(key, {name: score - milliseconds})
    for key in client.scan_iter(match="chat:session:{*}"):
        for field in ("created", "updated", "indexed"):
            client.hincrby(key, field, -milliseconds)
    return None


def in_order(times: dict[str, int], *, newest_first: bool = True) -> list[str]:
    return [name for _, name in sorted(((at_ms, name) for name, at_ms in times.items()), reverse=newest_first)]


def test_reading_moves_no_session_up_and_writing_does(harness: Harness, conversations: PlainConversations) -> None:
    for name in ("first", "second", "third"):
        saved(conversations, name)
        age(harness, 2 * MINUTE)
    assert listed(conversations) == ["third", "second", "first"]
    conversations.get_session("first")
    assert listed(conversations) == ["third", "second", "first"]
    assert listed(conversations, 1, newest_first=False) == ["first", "second", "third"]
    assert listed(conversations, order="active")[0] == "first"
    conversations.append("first", "m")  # a moment after the index heard of the reading
    assert listed(conversations, 1) == ["first", "third", "second"]
    assert listed(conversations, 2, newest_first=False) == ["second", "third", "first"]


def test_changes_of_one_minute_are_in_order(conversations: PlainConversations, harness: Harness) -> None:
    """The index hears of the first of them only."""
    names = [f"s{number}" for number in range(6)]
    saved(conversations, *names)
    for name in (*names, "s2", "s0", "s4"):
        age(harness, 5)
        conversations.append(name, "m")
    expected = ["s4", "s0", "s2", "s5", "s3", "s1"]
    for limit in (1, 2, 5, 50):
        assert listed(conversations, limit) == expected
        assert listed(conversations, limit, newest_first=False) == expected[::-1]


@in_memory
@pytest.mark.parametrize("order", ["created", "", "UPDATED", None])
def test_an_order_is_one_of_two(conversations: PlainConversations, order: Any) -> None:
    with pytest.raises(InvalidInput, match="updated, active"):
        conversations.list_sessions(order=order)


@pytest.mark.parametrize("seed", range(2))
def test_pages_are_exact_whatever_the_index_has_heard(
    server: Server, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Entries are late by up to two minutes, some as old versions left them, and some could not be told for long."""
    chance = random.Random(seed)
    conversations = on(server.client)
    names = [f"s{number}" for number in range(45)]
    saved(conversations, *names)
    now: Any = server.client.time()[0] * 1000
    times = {name: now - chance.choice([0, 1, chance.randrange(600_000), chance.randrange(6)]) for name in names}
    changed_at(server, times)
    listed(conversations)  # makes the list
    # An order that is cut has to be whole all the same, though not exact newest first.
    for beside, is_exact in ((500, True), (4, False)):
        monkeypatch.setattr(owner_index, "MOST_BESIDE", beside)
        for newest_first in (True, False):
            for limit in (2, 7, 50):
                told = {name: at_ms - chance.randrange(change_order.SLACK_MS) for name, at_ms in times.items()}
                told |= {name: times[name] for name in chance.sample(names, 20)}
                server.client.zadd(CHANGED, told)
                found = listed(conversations, limit, newest_first=newest_first)
                assert sorted(found) == sorted(names)
                if is_exact or not newest_first:
                    assert found == in_order(times, newest_first=newest_first)


@pytest.mark.parametrize("newest_first", [True, False])
@pytest.mark.parametrize("beside", [500, 0])
def test_entries_that_are_far_from_the_truth_lose_no_session(
    server: Server, monkeypatch: pytest.MonkeyPatch, newest_first: bool, beside: int
) -> None:
    chance = random.Random(beside)
    monkeypatch.setattr(owner_index, "MOST_BESIDE", beside)
    conversations = on(server.client)
    names = [f"s{number}" for number in range(40)]
    saved(conversations, *names)
    now: Any = server.client.time()[0] * 1000
    times = {name: now - 10_000 * number for number, name in enumerate(names)}
    changed_at(server, times)
    listed(conversations)
    for limit in (1, 4):
        moved = {name: now - chance.randrange(4_000_000) for name in chance.sample(names, 15)}
        server.client.zadd(CHANGED, moved)
        found = listed(conversations, limit, newest_first=newest_first)
        assert sorted(set(found)) == sorted(names)
        assert listed(conversations, 50) == in_order(times)  # what was read is corrected


@pytest.mark.parametrize("newest_first", [True, False])
def test_sessions_of_one_millisecond_come_once(
    server: Server, monkeypatch: pytest.MonkeyPatch, newest_first: bool
) -> None:
    monkeypatch.setattr(owner_index, "MOST_BESIDE", 2)
    conversations = on(server.client)
    names = [f"s{number:02}" for number in range(30)]
    saved(conversations, *names)
    times = {name: 1_700_000_000_000 + number // 14 for number, name in enumerate(names)}
    changed_at(server, times)
    for limit in (1, 2, 5):
        assert listed(conversations, limit, newest_first=newest_first) == in_order(times, newest_first=newest_first)


def test_a_session_that_moves_while_one_pages_is_not_lost_oldest_first(server: Server) -> None:
    conversations = on(server.client)
    names = [f"s{number}" for number in range(20)]
    saved(conversations, *names)
    now: Any = server.client.time()[0] * 1000
    changed_at(server, {name: now - 400_000 * (20 - number) for number, name in enumerate(names)})
    chance = random.Random(1)

    def move() -> None:
        conversations.append(chance.choice(names), "m")

    found = listed(conversations, 3, newest_first=False, between=move)
    assert set(found) == set(names)
    unmoved = [name for name in found if found.count(name) == 1]
    assert len(unmoved) >= 8


def test_a_session_that_moves_while_one_pages_comes_at_most_once_newest_first(server: Server) -> None:
    conversations = on(server.client)
    names = [f"s{number}" for number in range(20)]
    saved(conversations, *names)
    now: Any = server.client.time()[0] * 1000
    changed_at(server, {name: now - 400_000 * (20 - number) for number, name in enumerate(names)})
    moving = iter(("s2", "s17", "s4", "s2"))
    found = listed(conversations, 4, between=lambda: conversations.append(next(moving, "s3"), "m"))
    assert len(found) == len(set(found))
    assert set(names) - set(found) <= {"s2", "s3", "s4", "s17"}
    assert set(listed(conversations, 4)[:4]) >= {"s2", "s4", "s17"}


def test_an_owner_who_asks_for_no_such_list_has_none(server: Server) -> None:
    conversations = on(server.client)
    saved(conversations, "s", "t")
    conversations.append("s", "m")
    listed(conversations, order="active")
    assert not server.client.exists(CHANGED)
    listed(conversations)
    assert 0 < server.client.pexpiretime(CHANGED) <= 10 + server.client.pexpiretime(INDEX)
    saved(conversations, "u")
    conversations.delete_session("s")
    assert listed(conversations) == ["u", "t"]


def test_a_list_that_lacks_what_older_versions_have_written_is_made_whole(server: Server) -> None:
    conversations = on(server.client)
    saved(conversations, "a", "b", "c", "d")
    now: Any = server.client.time()[0] * 1000
    changed_at(server, {"a": now - 500_000, "b": now - 400_000, "c": now - 300_000, "d": now - 200_000})
    assert listed(conversations, 1) == ["d", "c", "b", "a"]  # though all were active a moment ago
    server.client.zrem(CHANGED, "c")  # a session that an old version has begun
    server.client.zadd(CHANGED, {"gone": now, "too": now})  # two that it has removed
    assert listed(conversations, 1, newest_first=False) == ["a", "b", "c", "d"]
    members: Any = server.client.zrange(CHANGED, 0, -1)
    assert members == [b"a", b"b", b"c", b"d"]


def test_a_list_heals_what_has_expired(server: Server) -> None:
    conversations = on(server.client)
    saved(conversations, *(f"s{number}" for number in range(6)))
    listed(conversations)
    for number in range(0, 6, 2):
        server.client.delete(f"chat:session:{{s{number}}}")
    assert listed(conversations) == ["s5", "s3", "s1"]
    assert server.client.zcard(CHANGED) == 6  # they may be about to be created
    for key in (INDEX, CHANGED):
        server.client.zadd(key, {f"s{number}": 1_700_000_000_000 for number in range(6)})
    assert listed(conversations) == ["s5", "s3", "s1"]
    assert server.client.zcard(INDEX) == server.client.zcard(CHANGED) == 3


def test_a_page_by_change_is_two_round_trips(server: Server) -> None:
    with Proxy(("127.0.0.1", server.port)) as proxy:
        client = redis.Redis.from_url(proxy.url)
        conversations = on(client)
        saved(conversations, *(f"s{number}" for number in range(50)))
        listed(conversations)
        for newest_first in (True, False):
            cursor = None
            for _ in range(3):
                proxy.reset()
                page = conversations.list_sessions(cursor=cursor, limit=15, newest_first=newest_first, owner="ada")
                cursor = page.next
                assert (len(page.sessions), proxy.round_trips) == (15, 2)
        client.close()


def test_a_server_that_takes_no_writes_lists_as_well_as_it_can(server: Server) -> None:
    conversations = on(server.client)
    saved(conversations, "a", "b")
    server.client.config_set("min-replicas-to-write", 1)
    try:
        assert sorted(listed(conversations)) == ["a", "b"]
    finally:
        server.client.config_set("min-replicas-to-write", 0)
    listed(conversations)
    server.client.zadd(CHANGED, {"a": 9_000_000_000_000})
    server.client.config_set("min-replicas-to-write", 1)
    try:
        assert sorted(listed(conversations, 1)) == ["a", "b"]
    finally:
        server.client.config_set("min-replicas-to-write", 0)
