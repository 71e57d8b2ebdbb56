"""The owner's index: which sessions there are, without a walk through all keys."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import redis
from redis.crc import key_slot

from flask_convstore import ANY, InvalidInput
from flask_convstore.domain.messages import Message
from flask_convstore.operations import sessions
from flask_convstore.stores.redis import change_order, index_parts, owner_index
from flask_convstore.stores.redis.arguments import session_key
from flask_convstore.stores.redis.index_parts import PARTS, index_of, indexes_of
from flask_convstore.stores.redis.store import RedisStore

from ...harness import SETTINGS, Harness, PlainConversations, RedisHarness, in_memory
from ...servers import Server
from ...wire import Proxy

DAY = 24 * 3600 * 1000
INDEX = "chat:session:owner:{}"  # of an owner, where it is filled in


def nobodys(session_id: str) -> str:
    """The part of nobody's index in which a session stands."""
    return index_of("chat:session:", None, session_id).active


def on(client: Any) -> PlainConversations:
    return PlainConversations(RedisHarness(client).store)


def listed(conversations: PlainConversations, owner: Any = None, **options: Any) -> list[str]:
    found: list[str] = []
    cursor = None
    while True:
        page = conversations.list_sessions(cursor=cursor, owner=owner, **options)
        found += [summary.session_id for summary in page.sessions]
        cursor = page.next
        if cursor is None:
            return found


def moved_back(server: Server, milliseconds: int) -> None:
    """As if all that was done had been done so much earlier."""
    client: Any = server.client
    for key in client.scan_iter(match="chat:session:owner:*"):
        for name, score in client.zrange(key, 0, -1, withscores=True):
            client.zadd(key, {name: score - milliseconds})
    for key in client.scan_iter(match="chat:session:{*}"):
        client.hset(key, "indexed", int(client.hget(key, "indexed")) - milliseconds)


def test_sessions_are_listed_page_by_page_newest_first(harness: Harness, conversations: PlainConversations) -> None:
    names = [f"s:{number}" for number in range(7)]
    for number, name in enumerate(names):
        conversations.save_session(name, {"history": ["m"] * number})
        harness.age(5)
    found = listed(conversations, limit=3)
    assert sorted(found) == names
    [newest, *_] = conversations.list_sessions(owner=None, limit=1).sessions
    if isinstance(harness, RedisHarness):  # several may have the same millisecond
        assert newest.active_at_ms == max(s.active_at_ms for s in conversations.list_sessions(owner=None).sessions)
    else:
        assert found == names[::-1]
    summary = next(s for s in conversations.list_sessions(owner=None).sessions if s.session_id == "s:3")
    assert (summary.version, summary.message_count, summary.owner, summary.title) == (1, 3, None, None)
    assert summary.created_at_ms <= summary.updated_at_ms < summary.expires_at_ms
    session = conversations.get_session("s:3")
    assert session is not None
    assert (summary.created_at, summary.updated_at) == (session.created_at, session.updated_at)
    assert summary.updated_at < summary.expires_at


def test_owners_see_their_own_and_the_server_all(conversations: PlainConversations) -> None:
    for owner in (None, "alice", "bob"):
        for number in range(3):
            conversations.save_session(f"{owner} {number}", {}, owner=owner)
    assert sorted(listed(conversations, "alice", limit=2)) == ["alice 0", "alice 1", "alice 2"]
    assert len(listed(conversations, None)) == 3
    assert listed(conversations, "carol") == []
    assert len(set(listed(conversations, ANY, limit=2))) == 9


def test_what_is_gone_is_not_listed(harness: Harness, conversations: PlainConversations) -> None:
    for name in ("here", "deleted", "expired", "taken"):
        conversations.save_session(name, {}, owner="alice")
    conversations.delete_session("deleted")
    harness.expire("expired")
    conversations.delete_session("taken")
    conversations.save_session("taken", {}, owner="bob")
    assert listed(conversations, "alice") == ["here"]
    assert listed(conversations, "bob") == ["taken"]


@in_memory
@pytest.mark.parametrize("limit", [0, 1001, 1.5, True, "5"])
def test_a_limit_is_a_number_of_sessions(conversations: PlainConversations, limit: Any) -> None:
    with pytest.raises(InvalidInput):
        conversations.list_sessions(limit=limit)


@pytest.mark.parametrize("owner", [None, ANY])
def test_a_foreign_cursor_is_refused(conversations: PlainConversations, owner: Any) -> None:
    with pytest.raises(InvalidInput, match="cursor"):
        conversations.list_sessions(cursor="x'; --", owner=owner)


def test_listing_is_no_interaction(harness: Harness, conversations: PlainConversations) -> None:
    conversations.save_session("s", {})
    harness.age(1000_000)
    before = harness.ends("s")
    assert listed(conversations) == ["s"]
    assert harness.ends("s") == before


def test_a_session_ends_never_before_its_last_write(server: Server) -> None:
    """The host that has written it has a clock that is ahead of this one's."""
    conversations = on(server.client)
    conversations.save_session("s", {})
    ahead = int(server.client.time()[0]) * 1000 + 60_000
    server.client.hset("chat:session:{s}", "updated", ahead)
    server.client.pexpire("chat:session:{s}", 30_000)
    [summary] = conversations.list_sessions().sessions
    assert (summary.updated_at_ms, summary.expires_at_ms) == (ahead, ahead)


def test_sessions_of_one_millisecond_are_never_parted(server: Server) -> None:
    conversations = on(server.client)
    for number in range(10):
        conversations.save_session(f"s{number}", {})
        conversations.save_session(f"a{number}", {}, owner="alice")
        at_ms = 1_700_000_000_000 + number // 4
        server.client.zadd(nobodys(f"s{number}"), {f"s{number}": at_ms})
        server.client.zadd("chat:session:owner:{alice}", {f"a{number}": at_ms})
    for limit in (1, 2, 3, 5):
        assert sorted(listed(conversations, limit=limit)) == [f"s{number}" for number in range(10)]
        assert sorted(listed(conversations, "alice", limit=limit)) == [f"a{number}" for number in range(10)]


def test_a_page_heals_what_has_expired(server: Server) -> None:
    with Proxy(("127.0.0.1", server.port)) as proxy:
        client = redis.Redis.from_url(proxy.url)
        conversations = on(client)
        for number in range(40):
            conversations.save_session(f"s{number}", {}, owner="alice")
        client.delete(*(f"chat:session:{{s{number}}}" for number in range(0, 40, 2)))
        moved_back(server, 61_000)
        for trips in (3, 2):  # it sees, it looks, and once it takes out what is gone
            proxy.reset()
            page = conversations.list_sessions(owner="alice", order="active")
            assert sorted(s.session_id for s in page.sessions) == sorted(f"s{number}" for number in range(1, 40, 2))
            assert proxy.round_trips <= trips
        client.close()


def test_a_new_session_and_its_entry_are_one_round_trip(server: Server) -> None:
    with Proxy(("127.0.0.1", server.port)) as proxy:
        conversations = on(redis.Redis.from_url(proxy.url))
        conversations.save_session("warm", {})
        calls: list[Callable[[], Any]] = [
            lambda: conversations.save_session("new", {"history": ["m"]}),
            lambda: conversations.save_session("new", {"history": ["m"]}),
            lambda: sessions.create(conversations.access(), "other", {}),
        ]
        for call in calls:
            proxy.reset()
            call()
            assert proxy.round_trips == 1


def test_an_entry_is_there_before_its_session(server: Server) -> None:
    """A crash between leaves an entry without a session, which a page drops when it is old enough."""
    conversations = on(server.client)
    conversations.save_session("s", {})
    order = [
        line
        for line in commands_of(server, lambda: conversations.save_session("t", {}))
        if "{t}" in line or " t" in line
    ]
    told, written = (next(n for n, line in enumerate(order) if word in line) for word in ("ZADD", "HSET"))
    assert told < written
    client: Any = server.client
    for name, at_ms in (("crashed", 1_700_000_000_000), ("about to be", client.time()[0] * 1000)):
        client.zadd(nobodys(name), {name: at_ms})
        client.expire(nobodys(name), 1_000)
    assert sorted(listed(conversations)) == ["s", "t"]
    there = [name for name in ("crashed", "about to be", "s", "t") if client.zscore(nobodys(name), name)]
    assert there == ["about to be", "s", "t"]


def commands_of(server: Server, call: Any) -> list[str]:
    """The commands that the server does meanwhile, in their order."""
    watcher: Any = redis.Redis(unix_socket_path=str(server.socket))
    found = []
    with watcher.monitor() as monitor:
        call()
        server.client.echo("done")
        for command in monitor.listen():
            found.append(command["command"])
            if "ECHO" in found[-1].upper():
                break
    watcher.close()
    return found


def test_activity_is_told_once_a_minute(server: Server) -> None:
    conversations = on(server.client)
    conversations.save_session("s", {"history": []})
    for call in (
        lambda: conversations.append("s", Message("m")),
        lambda: conversations.get_session("s"),
        lambda: conversations.touch("s"),
        lambda: conversations.append("s", data={"x": 1}),
    ):
        moved_back(server, 59_000)
        before: Any = server.client.zscore(nobodys("s"), "s")
        call()
        assert server.client.zscore(nobodys("s"), "s") == before
        moved_back(server, 2_000)
        call()
        assert server.client.zscore(nobodys("s"), "s") > before + 58_000


def test_an_index_lives_longer_than_its_sessions(server: Server) -> None:
    conversations = PlainConversations(RedisHarness(server.client).store, owner="alice")
    index = INDEX.replace("{}", "{alice}")
    conversations.save_session("short", {}, owner="alice")
    day = server.client.pttl(index)
    assert DAY < day <= 2 * DAY
    conversations.save_session("long", {}, owner="alice", ttl=40 * 24 * 3600)
    assert 40 * DAY < server.client.pttl(index) <= 41 * DAY
    conversations.touch("short", ttl=50 * 24 * 3600)
    assert 50 * DAY < server.client.pttl(index) <= 51 * DAY
    session = conversations.get_session("short")
    session["x"] = 1  # type: ignore[index]
    conversations.save_session("short", session, ttl=60 * 24 * 3600)  # type: ignore[arg-type]
    assert 60 * DAY < server.client.pttl(index) <= 61 * DAY


def test_a_lost_index_comes_back_with_activity(server: Server) -> None:
    conversations = on(server.client)
    conversations.save_session("s", {})
    moved_back(server, 61_000)
    server.client.delete(nobodys("s"))
    conversations.get_session("s")
    assert listed(conversations) == ["s"]
    assert server.client.pttl(nobodys("s")) > 0


def test_an_index_does_not_grow_for_ever(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions come and go, and nobody lists them. Samples take out the entries that are gone."""
    monkeypatch.setattr(owner_index, "_PRUNE_EVERY", 10)
    conversations = PlainConversations(RedisHarness(server.client).store, owner="alice")
    stay = [f"stays {number}" for number in range(20)]
    for name in stay:
        conversations.save_session(name, {}, owner="alice")
    for number in range(500):
        conversations.save_session(f"goes {number}", {}, owner="alice")
        conversations.delete_session(f"goes {number}")
        if number % 10 == 0:
            moved_back(server, 120_000)
    names: Any = server.client.zrange(INDEX.replace("{}", "{alice}"), 0, -1)
    assert len(names) < 150
    assert {name.encode() for name in stay} <= set(names)


def test_an_index_that_cannot_be_told_spoils_nothing(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    """The call itself is done. A minute later the index is made good."""
    conversations = on(server.client)
    conversations.save_session("s", {"history": []})
    moved_back(server, 61_000)
    server.client.delete(nobodys("s"))
    server.client.set(nobodys("s"), "of another type", px=100_000)
    with caplog.at_level(logging.WARNING, "flask_convstore"):
        conversations.append("s", Message("m"))
    assert "index of chat:session:{s} was not told" in caplog.text
    session = conversations.get_session("s")
    assert session is not None
    assert session["history"] == ["m"]


def test_an_index_that_cannot_be_told_of_an_end_keeps_nobody_from_ending(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    conversations = on(server.client)
    conversations.save_session("s", {}, owner="alice")
    index = INDEX.replace("{}", "{alice}")
    server.client.delete(index)
    server.client.set(index, "of another type", px=100_000)
    with caplog.at_level(logging.WARNING, "flask_convstore"):
        assert conversations.delete_session("s")
    assert "was not told that chat:session:{s} was deleted" in caplog.text


@pytest.mark.parametrize("prefix", ["chat:session:", "x", "ä:", "a" * 100])
def test_the_two_keys_of_every_index_are_in_one_slot(prefix: str) -> None:
    for owner in (None, "ada", "{a}", "}", "a b", "!0"):
        for index in indexes_of(prefix, owner):
            assert index.active != index.changed
            assert key_slot(index.active.encode()) == key_slot(index.changed.encode())


def test_the_parts_of_nobodys_index_are_spread_over_the_slots() -> None:
    """Each is in a block of slots of its own, and so are its sessions. No owner has a key among them."""
    blocks = [key_slot(index.active.encode()) * PARTS // 16_384 for index in indexes_of("chat:session:", None)]
    assert blocks == list(range(PARTS))
    for name in ("s", "a b", "{x}", "ä" * 50, "0197a4c2-8d1e-7c3b-9f52-1f6f0c9b7e11"):
        slots = [
            key_slot(key.encode()) * PARTS // 16_384 for key in (session_key("chat:session:", name), nobodys(name))
        ]
        assert slots[0] == slots[1]
    theirs = {index_of("chat:session:", owner, "s").active for owner in ("!0", "!1", "%210")}
    assert not theirs & {index.active for index in indexes_of("chat:session:", None)}


@pytest.mark.parametrize("order", ["active", "updated"])
@pytest.mark.parametrize("newest_first", [True, False])
def test_parts_are_walked_as_one_index(
    server: Server, monkeypatch: pytest.MonkeyPatch, order: Any, newest_first: bool
) -> None:
    """Hundreds of sessions, some of one millisecond, in pages of all sizes. Most stand in few of the parts."""
    monkeypatch.setattr(change_order, "SLACK_MS", 3)
    for room in (owner_index, index_parts):
        monkeypatch.setattr(room, "SLACK_MS", 3)
    chance = random.Random(1)
    client: Any = server.client
    conversations = on(client)
    crowded = [name for name in map(str, range(20_000)) if nobodys(name) in {nobodys("a"), nobodys("b")}]
    names = [*crowded[:200], *(f"s{number}" for number in range(100))]
    times = {name: 1_700_000_000_000 + 10 * chance.randrange(200) for name in names}
    for name in names:
        conversations.save_session(name, {})
        client.hset(session_key("chat:session:", name), mapping={"updated": times[name], "indexed": times[name]})
        client.zadd(nobodys(name), {name: times[name]})
    ordered = sorted(names, key=lambda name: (times[name], name), reverse=newest_first)
    for limit in (1, 7, 64, 299, 300, 500):
        found = listed(conversations, limit=limit, order=order, newest_first=newest_first)
        assert [times[name] for name in found] == [times[name] for name in ordered]
        assert sorted(found) == sorted(names)


def test_a_page_of_nobodys_sessions_is_two_round_trips(server: Server) -> None:
    with Proxy(("127.0.0.1", server.port)) as proxy:
        conversations = on(redis.Redis.from_url(proxy.url))
        for number in range(300):
            conversations.save_session(f"s{number}", {})
        conversations.list_sessions(owner=None, order="active", limit=100)
        before = proxy.round_trips
        page = conversations.list_sessions(owner=None, order="active", limit=100)
        assert len(page.sessions) == 100
        assert proxy.round_trips - before <= 3


def test_an_entry_that_was_told_of_since_stays(server: Server) -> None:
    store = RedisHarness(server.client).store
    PlainConversations(store).save_session("s", {})
    told: Any = server.client.zscore(nobodys("s"), "s")
    for seen, there in ((told - 1, True), (told, False)):
        store._index._unindex(None, [(b"s", int(seen))], grace_ms=0)
        assert (server.client.zscore(nobodys("s"), "s") is not None) == there


def test_a_server_that_forgot_its_scripts_makes_no_session_twice(server: Server) -> None:
    store = RedisHarness(server.client).store
    conversations = PlainConversations(store)
    conversations.save_session("first", {})
    for forget in range(3):
        server.client.script_flush()
        _, receipt = sessions.create(conversations.access(), f"s{forget}", {"n": forget})
        assert (receipt.version, receipt.repeated) == (1, False)
    assert sorted(listed(conversations)) == ["first", "s0", "s1", "s2"]


def test_a_prefix_with_wildcards_lists_its_own(server: Server) -> None:
    settings = replace(SETTINGS, prefix="a*[b]?:")
    star = PlainConversations(RedisHarness(server.client, settings).store, settings)
    other_settings = replace(SETTINGS, prefix="aXb?:")
    other = PlainConversations(RedisHarness(server.client, other_settings).store, other_settings)
    star.save_session("mine", {})
    other.save_session("theirs", {})
    assert listed(star, ANY) == ["mine"]
    assert isinstance(star.backend.store, RedisStore)
