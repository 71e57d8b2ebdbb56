"""Quotas of sessions and of turns a minute, on every kind of store, and under races and crashes."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
import redis

from flask_convstore import ANY, Message, SessionExists, SessionNotFound, TooLarge, Turn
from flask_convstore.config import Settings, limits_of
from flask_convstore.domain.commands import Put
from flask_convstore.domain.types import Alias
from flask_convstore.errors import TooManySessions, TooManyTurns
from flask_convstore.operations import aliases, branching, rotation, sessions, updates
from flask_convstore.stores.memory import MemoryStore
from flask_convstore.stores.redis.store import RedisStore

from ..conftest import check_lifetimes
from ..harness import SETTINGS, MemoryHarness, PlainConversations, RedisHarness
from ..servers import Server
from ..service import OwnedService, Service, problem
from ..wire import Proxy

INDEX = "chat:session:owner:{alice}"
Make = Callable[..., PlainConversations]


class Kind:
    """A kind of store, with other settings than the harness has."""

    def __init__(self, server: Server | None) -> None:
        self.server = server
        self.harness = MemoryHarness()

    def __call__(self, **changed: Any) -> PlainConversations:
        settings = replace(SETTINGS, **changed)
        if self.server:
            return PlainConversations(RedisHarness(self.server.client, settings).store, settings)
        self.harness.store = MemoryStore(limits_of(settings), self.harness.clock)
        return PlainConversations(self.harness.store, settings)

    def age(self, milliseconds: int) -> None:
        """Shift everything that was done into the past."""
        self.harness.age(milliseconds)
        client: Any = self.server and self.server.client
        if client:
            for name, score in client.zrange(INDEX, 0, -1, withscores=True):
                client.zadd(INDEX, {name: score - milliseconds})
            for key in client.scan_iter(match="chat:session:{*}"):
                client.hset(key, "indexed", int(client.hget(key, "indexed")) - milliseconds)


@pytest.fixture(params=["memory", "valkey"])
def kind(request: pytest.FixtureRequest) -> Kind:
    return Kind(None if request.param == "memory" else request.getfixturevalue("valkey"))


def started(conversations: PlainConversations, kind: Kind, *names: str, owner: str = "alice") -> None:
    for name in names:
        conversations.save_session(name, {"history": [name]}, owner=owner)
        kind.age(10)


def test_a_session_with_a_turn_in_progress_is_not_evicted(kind: Kind) -> None:
    conversations = kind(max_sessions=13)
    names = [f"{number:02}" for number in range(13)]
    started(conversations, kind, *names)
    turns = [conversations.turn(name, Message({"role": "user"}), owner="alice") for name in names[:12]]
    for turn in turns:
        turn.__enter__()
    kind.age(10)
    started(conversations, kind, "new")
    assert left(conversations) == [*names[:12], "new"], "the oldest ten are not all that is looked at"
    with conversations.turn("new", Message({"role": "user"}), owner="alice"):
        with pytest.raises(TooManySessions):
            conversations.save_session("newer", {}, owner="alice")
        turns[3].reply("done")
        turns[3].__exit__(None, None, None)
        conversations.save_session("newer", {}, owner="alice")
    assert "03" not in left(conversations)


@pytest.mark.parametrize("what", ["turn", "append"])
def test_a_session_that_is_written_just_before_its_eviction_stays(
    valkey: Server, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Such as one whose turn begins between the look at its turn and its end. The next oldest goes instead."""
    kind = Kind(valkey)
    conversations, others = kind(max_sessions=4), kind(max_sessions=4)
    started(conversations, kind, "a", "b", "c", "d")
    look, turns = RedisStore._busy_among, list[Turn]()

    def look_and_write(store: RedisStore, *arguments: Any) -> list[str]:
        busy = look(store, *arguments)
        for name in ("a", "b")[len(turns) : len(turns) + 1]:
            turns.append(others.turn(name, Message({"role": "user"}), owner="alice"))
            if what == "append":
                turns[-1].__enter__().reply("r")
        return busy

    monkeypatch.setattr(RedisStore, "_busy_among", look_and_write)
    conversations.save_session("new", {}, owner="alice")
    assert left(conversations) == ["a", "b", "d", "new"]
    assert valkey.client.zcard(INDEX) == 4
    for turn in turns if what == "turn" else ():
        with turn:
            turn.reply("done")
    assert [len(conversations.get_session(name, owner="alice")["history"]) for name in ("a", "b")] == [3, 3]  # type: ignore[index]


def left(conversations: PlainConversations, owner: str = "alice") -> list[str]:
    return sorted(session.session_id for session in conversations.list_sessions(owner=owner).sessions)


def test_the_oldest_session_is_evicted(kind: Kind) -> None:
    conversations = kind(max_sessions=3)
    started(conversations, kind, "a", "b", "c", "d")
    assert left(conversations) == ["b", "c", "d"]
    assert conversations.get_session("a", owner=ANY) is None
    started(conversations, kind, "e", "f")
    assert left(conversations) == ["d", "e", "f"]


def test_the_session_with_the_oldest_interaction_is_evicted(kind: Kind) -> None:
    conversations = kind(max_sessions=3)
    started(conversations, kind, "a", "b", "c")
    kind.age(61_000)
    conversations.get_session("a", owner="alice")
    started(conversations, kind, "d")
    assert left(conversations) == ["a", "c", "d"]


def test_a_start_is_refused_by_the_policy_reject(kind: Kind) -> None:
    conversations = kind(max_sessions=2, sessions_policy="reject")
    started(conversations, kind, "a", "b")
    with pytest.raises(TooManySessions) as caught:
        conversations.save_session("c", {}, owner="alice")
    assert (caught.value.limit, caught.value.written) == (2, False)
    assert left(conversations) == ["a", "b"]
    assert conversations.get_session("c", owner=ANY) is None


@pytest.mark.parametrize("policy", ["oldest", "reject"])
def test_a_deleted_session_frees_its_place_at_once(kind: Kind, policy: str) -> None:
    conversations = kind(max_sessions=2, sessions_policy=policy)
    started(conversations, kind, "a", "b")
    for number in range(3):
        conversations.delete_session("b", owner="alice" if number else ANY)
        started(conversations, kind, "b")
        assert left(conversations) == ["a", "b"]


def test_a_quota_that_is_set_later(kind: Kind) -> None:
    """The first start evicts all sessions over the quota."""
    conversations = kind(max_sessions=0)
    started(conversations, kind, *(f"{number:03}" for number in range(130)))
    store: Any = conversations.backend.store
    store._limits = replace(store._limits, max_sessions=3)
    started(conversations, kind, "new")
    assert left(conversations) == ["128", "129", "new"]


def test_each_owner_has_a_quota_and_ownerless_sessions_have_none(kind: Kind) -> None:
    conversations = kind(max_sessions=1, sessions_policy="reject")
    for owner in ("alice", "bob"):
        started(conversations, kind, f"{owner}'s", owner=owner)
    for number in range(3):
        conversations.save_session(f"free {number}", {}, owner=None)
        conversations.save_session(f"server {number}", {}, owner=ANY)
    assert len(conversations.list_sessions(owner=None).sessions) == 6


def test_any_number_without_a_quota(kind: Kind) -> None:
    conversations = kind(max_sessions=0)
    started(conversations, kind, *map(str, range(60)))
    assert len(conversations.list_sessions(limit=100, owner="alice").sessions) == 60


# ---- a write that takes no place evicts nothing


@pytest.mark.parametrize("policy", ["oldest", "reject"])
def test_a_replaced_session_takes_no_second_place(kind: Kind, policy: str) -> None:
    conversations = kind(max_sessions=2, sessions_policy=policy)
    started(conversations, kind, "a", "b")
    for data in ({"new": True}, {"newer": True}):
        conversations.save_session("a", data, owner="alice")
        assert left(conversations) == ["a", "b"]
    assert conversations.get_session("a", owner="alice") == {"newer": True}
    if kind.server:  # nor after the index has lost the session
        kind.server.client.zrem(INDEX, "a")
        started(conversations, kind, "c") if policy == "oldest" else None
        before = conversations.get_session("a", owner="alice")
        conversations.save_session("a", {"newest": True}, owner="alice")
        assert before is not None
        assert conversations.get_session("b", owner="alice") is not None


def test_a_refused_start_evicts_nothing(kind: Kind) -> None:
    conversations = kind(max_sessions=2, max_session_bytes=200, max_history=3)
    conversations.save_session("hers", {"history": []}, owner="bob")
    updates.share(conversations.access("bob"), "hers", "alice", "writer")
    conversations.save_session("bobs", {"history": []}, owner="bob")
    started(conversations, kind, "a", "b")
    for _ in range(5):
        with pytest.raises(TooLarge):
            conversations.save_session("large", {"x": "y" * 300}, owner="alice")
        with pytest.raises(TooLarge):
            conversations.save_session("long", {"history": ["m"] * 4}, owner="alice")
        with pytest.raises(SessionNotFound):
            conversations.save_session("bobs", {"mine": True}, owner="alice")
        with pytest.raises(SessionNotFound):
            sessions.create(conversations.access("alice"), "bobs", {})
        with pytest.raises(SessionExists):
            sessions.create(conversations.access("alice"), "a", {})
        conversations.save_session("hers", {"written": True}, owner="alice")
        assert left(conversations) == ["a", "b"]
    assert sorted(left(conversations, "bob")) == ["bobs", "hers"]


def test_a_refused_start_below_the_quota_takes_no_place(kind: Kind) -> None:
    conversations = kind(max_sessions=3, max_session_bytes=200)
    conversations.save_session("bobs", {"history": []}, owner="bob")
    started(conversations, kind, "a", "b")
    for name, error in (("large", TooLarge), ("bobs", SessionNotFound)):
        with pytest.raises(error):
            conversations.save_session(name, {"x": "y" * 300 if name == "large" else 1}, owner="alice")
    started(conversations, kind, "c")
    assert left(conversations) == ["a", "b", "c"]


def test_a_repeated_start_evicts_nothing(kind: Kind) -> None:
    conversations = kind(max_sessions=2)
    first, _ = sessions.start(conversations.access("alice"), {"n": 1}, token="a" * 32, digest="d")
    conversations.delete_session(first.session_id, owner="alice")
    started(conversations, kind, "a", "b")
    for _ in range(3):
        _, receipt = sessions.start(conversations.access("alice"), {"n": 1}, token="a" * 32, digest="d")
        assert (receipt.repeated, receipt.expires_at_ms) == (True, 0)
        assert left(conversations) == ["a", "b"]


# ---- a new session does not evict its source


@pytest.mark.parametrize("most", [2, 3])
def test_a_fork_does_not_evict_its_source(kind: Kind, most: int) -> None:
    conversations = kind(max_sessions=most)
    started(conversations, kind, *"abc"[:most])
    forked = branching.fork(conversations.access("alice"), "a")
    assert forked == {"history": ["a"]}
    assert left(conversations) == sorted(["a", forked.session_id, *"c"[: most - 2]])


def test_a_compacted_session_stays_readable(kind: Kind) -> None:
    conversations = kind(max_sessions=2)
    started(conversations, kind, "a", "b")
    compacted = branching.compact(conversations.access("alice"), "a", "so far")
    assert left(conversations) == sorted(["a", compacted.session_id])
    old = conversations.get_session("a", owner="alice")
    assert old is not None
    assert old.moved_to == compacted.session_id


@pytest.mark.parametrize("make", [branching.fork, lambda access, name: branching.compact(access, name, "so far")])
def test_a_quota_of_one_loses_nothing(kind: Kind, make: Any) -> None:
    conversations = kind(max_sessions=1)
    started(conversations, kind, "a")
    with pytest.raises(TooManySessions):
        make(conversations.access("alice"), "a")
    assert conversations.get_session("a", owner="alice") == {"history": ["a"]}
    conversations.append("a", Message("goes on"), owner="alice")


@pytest.mark.parametrize("policy", ["oldest", "reject"])
@pytest.mark.parametrize("most", [1, 2])
def test_a_new_id_needs_no_place(kind: Kind, policy: str, most: int) -> None:
    conversations = kind(max_sessions=most, sessions_policy=policy)
    started(conversations, kind, *"ab"[:most])
    rotated = rotation.rotate_id(conversations.access("alice"), "a")
    assert rotated == {"history": ["a"]}
    assert left(conversations) == sorted([rotated.session_id, *"b"[: most - 1]])


def test_a_new_owner_needs_a_place(kind: Kind) -> None:
    conversations = kind(max_sessions=1, sessions_policy="reject")
    conversations.save_session("anonymous", {"n": 1}, owner="anonymous:1")
    started(conversations, kind, "a")
    with pytest.raises(TooManySessions):
        rotation.rotate_id(conversations.access("anonymous:1"), "anonymous", new_owner="alice")
    assert conversations.get_session("anonymous", owner="anonymous:1") == {"n": 1}


# ---- crashes and races, on a server


def test_a_crash_between_place_and_session_costs_a_place_for_a_minute(server: Server) -> None:
    kind = Kind(server)
    conversations = kind(max_sessions=3, sessions_policy="reject")
    started(conversations, kind, "a", "b")

    def crash() -> None:
        """The process dies when the place is taken, before the session is sent."""
        store: Any = conversations.backend.store
        calls = store._calls
        call = calls.call

        def dying(what: Any, *more: Any) -> Any:
            if what.name == "put":
                raise KeyboardInterrupt
            return call(what, *more)

        calls.call = dying
        try:
            with pytest.raises(KeyboardInterrupt):
                conversations.save_session("ghost", {}, owner="alice")
        finally:
            calls.call = call

    crash()
    assert left(conversations) == ["a", "b"]
    assert server.client.zcard(INDEX) == 3
    with pytest.raises(TooManySessions):
        conversations.save_session("c", {}, owner="alice")
    kind.age(61_000)
    conversations.save_session("c", {}, owner="alice")
    assert left(conversations) == ["a", "b", "c"], "the ghost's place was given back, nobody had to go"


def test_an_eviction_skips_ghosts(server: Server) -> None:
    kind = Kind(server)
    conversations = kind(max_sessions=20)
    now: Any = server.client.time()
    server.client.zadd(INDEX, {f"ghost {number}": now[0] * 1000 - 30_000 + number for number in range(15)})
    server.client.pexpire(INDEX, 100_000_000)
    for number in range(6):
        conversations.save_session(f"s{number}", {}, owner="alice")
    assert left(conversations) == [f"s{number}" for number in range(1, 6)]


def test_an_index_entry_does_not_reveal_another_owners_session(server: Server) -> None:
    kind = Kind(server)
    conversations = kind(max_sessions=2)
    conversations.save_session("bobs", {}, owner="bob")
    started(conversations, kind, "a")
    now: Any = server.client.time()
    server.client.zadd(INDEX, {"bobs": now[0] * 1000})
    started(conversations, kind, "b")
    assert left(conversations) == ["a", "b"]
    assert conversations.get_session("bobs", owner="bob") == {}


@pytest.mark.parametrize("policy", ["oldest", "reject"])
def test_fifty_clients_at_the_quota(server: Server, policy: str) -> None:
    settings = Settings(max_sessions=10, sessions_policy=policy, budget=30)
    first = PlainConversations(RedisHarness(server.client, settings).store, settings)
    for number in range(10):
        first.save_session(f"old {number}", {}, owner="alice")
    began = threading.Barrier(50)

    def client(number: int) -> bool:
        connection = redis.Redis.from_url(server.url)
        conversations = PlainConversations(RedisHarness(connection, settings).store, settings)
        began.wait()
        try:
            for turn in range(3):
                conversations.save_session(f"new {number} {turn}", {"history": ["m"]}, owner="alice")
                assert len(list(connection.scan_iter(match="chat:session:{*}", count=10_000))) <= 10
        except TooManySessions:
            return False
        finally:
            connection.close()
        return True

    with ThreadPoolExecutor(50) as pool:
        outcomes = list(pool.map(client, range(50)))
    there = {bytes(key) for key in server.client.scan_iter(match="chat:session:{*}", count=10_000)}
    assert len(left(first)) == len(there) == server.client.zcard(INDEX) == 10
    assert not any(name.startswith("old") for name in left(first)) if policy == "oldest" else not any(outcomes)
    assert all(outcomes) == (policy == "oldest")
    check_lifetimes(server.client)


def test_the_same_start_by_many_clients_is_one_session(server: Server) -> None:
    settings = Settings(max_sessions=2)
    conversations = PlainConversations(RedisHarness(server.client, settings).store, settings)
    for name in ("a", "b"):
        conversations.save_session(name, {}, owner="alice")

    def start(_: int) -> str:
        return sessions.start(conversations.access("alice"), {"n": 1}, token="b" * 32, digest="d")[0].session_id

    with ThreadPoolExecutor(20) as pool:
        (session_id,) = set(pool.map(start, range(20)))
    assert left(conversations) == sorted(["b", session_id])


def test_a_quota_costs_one_more_round_trip(valkey: Server) -> None:
    with Proxy(("127.0.0.1", valkey.port)) as proxy:
        settings = Settings(max_sessions=3)
        client = redis.Redis.from_url(proxy.url)
        conversations = PlainConversations(RedisHarness(client, settings).store, settings)
        conversations.save_session("warm", {}, owner="alice")
        conversations.append("warm", Message("m"), owner="alice")
        conversations.delete_session("warm", owner="alice")
        for call, trips in (
            (lambda: conversations.save_session("a", {}, owner="alice"), 2),
            (lambda: conversations.save_session("a", {"n": 1}, owner="alice"), 2),
            (lambda: conversations.append("a", Message("m"), owner="alice"), 1),
            (lambda: conversations.delete_session("a", owner="alice"), 2),
        ):
            proxy.reset()
            call()
            assert proxy.round_trips == trips
        client.close()


def test_the_journal_keeps_acknowledged_sessions(kind: Kind) -> None:
    """A session that was started while the store was away is replayed, even over the quota."""
    conversations = kind(max_sessions=1, sessions_policy="reject")
    started(conversations, kind, "a")
    save = Put(session_id="late", owner="alice", mode="create", shape="full")
    conversations.backend.store.apply(replace(save, started_at_ms=1_700_000_000_000))
    assert left(conversations) == ["a", "late"]


# ---- by HTTP


def test_too_many_sessions_by_http(url: str) -> None:
    service = OwnedService(url, MAX_SESSIONS=2, SESSIONS_POLICY="reject")
    for _ in range(2):
        assert service.call("alice", "POST", json={}).status_code == 201
    found = problem(service.call("alice", "POST", json={}), 409, "too-many-sessions")
    assert (found["limit"], found["written"]) == (2, False)
    assert service.call("bob", "POST", json={}).status_code == 201
    assert service.call(None, "POST", json={}).status_code == 201


def test_the_default_is_fifty(url: str) -> None:
    service = OwnedService(url)
    ids = [service.call("alice", "POST", json={}).json["session_id"] for _ in range(52)]  # type: ignore[index]
    listed = service.call("alice", "GET", "?limit=100").json
    assert listed
    assert len(listed["sessions"]) == 50
    assert service.call("alice", "GET", f"/{ids[-1]}").status_code == 200
    assert service.call("alice", "GET", f"/{ids[0]}").status_code == 404


def test_an_alias_at_the_quota(kind: Kind) -> None:
    conversations = kind(max_sessions=1)
    first = aliases.resolve(conversations.access("alice"), "web:1", create=True)
    second = aliases.resolve(conversations.access("alice"), "web:2", create=True)
    assert first is not None
    assert second is not None
    again = aliases.resolve(conversations.access("alice"), "web:1", create=True)
    assert again is not None
    assert again.session_id not in (first.session_id, second.session_id)
    assert left(conversations) == [again.session_id]


# ---- turns a minute


@pytest.mark.parametrize("is_replied", [False, True])
def test_turns_a_minute_are_limited(url: str, is_replied: bool) -> None:
    service = OwnedService(url, MAX_TURNS_PER_MINUTE=3)
    if is_replied:
        service.convstore.reply(lambda turn: "ok")
    session_id = service.call("alice", "POST", json={}).json["session_id"]  # type: ignore[index]
    for _ in range(2):
        assert service.call("alice", "POST", f"/{session_id}/messages", json={"content": "hi"}).status_code == 201
    response = service.call("alice", "POST", f"/{session_id}/messages", json={"content": "hi"})
    assert problem(response, 429, "too-many-turns")["written"] is False
    assert 1 <= int(response.headers["Retry-After"]) <= 20
    count = service.call("alice", "GET", f"/{session_id}").json["message_count"]  # type: ignore[index]
    assert count == (4 if is_replied else 2)
    assert service.call("alice", "POST", json={}).status_code == 429
    assert service.call("bob", "POST", json={}).status_code == 201
    assert service.call(None, "POST", json={}).status_code == 201


@pytest.mark.parametrize("is_replied", [False, True])
def test_a_refused_message_is_no_turn(url: str, is_replied: bool) -> None:
    service = OwnedService(url, MAX_TURNS_PER_MINUTE=2, MAX_MESSAGE_BYTES=100)
    if is_replied:
        service.convstore.reply(lambda turn: "ok")
    session_id = service.call("alice", "POST", json={}).json["session_id"]  # type: ignore[index]
    statuses = [
        service.call("alice", "POST", f"/{session_id}/messages", json={"content": content}).status_code
        for content in ("x" * 200, "x" * 200, "hi", "hi")
    ]
    assert statuses == [413, 413, 201, 429]


def test_a_start_with_a_message_is_one_turn(url: str) -> None:
    """Otherwise the turn could be refused after the session was made, and nobody would know the session."""
    service = OwnedService(url, MAX_TURNS_PER_MINUTE=2)

    @service.convstore.reply
    def reply(turn: Turn) -> Message:
        return Message("ok")

    for status in (201, 201, 429):
        response = service.call("alice", "POST", json={"message": {"content": "hi"}})
        assert response.status_code == status
    listed = service.call("alice", "GET").json
    assert listed
    assert [session["message_count"] for session in listed["sessions"]] == [2, 2]


def test_a_start_by_alias_is_one_turn_too(url: str) -> None:
    service = OwnedService(url, MAX_TURNS_PER_MINUTE=3)
    bodies: list[Any] = [{"alias": "a"}, {"alias": "a"}, {"alias": "b", "message": {"content": "hi"}}]
    bodies += [{"alias": "b", "message": {"content": "hi"}}, {"alias": "c"}, {"alias": "a"}]
    statuses = [service.call("alice", "POST", json=body).status_code for body in bodies]
    assert statuses == [201, 200, 201, 200, 429, 200]
    assert len(service.call("alice", "GET").json["sessions"]) == 2  # type: ignore[index]


def test_a_session_that_an_alias_makes_in_python_is_one_turn_too(kind: Kind) -> None:
    """A refused one leaves no alias behind. Following an alias costs nothing, and the server itself is not counted."""
    conversations = kind(max_turns_per_minute=2)
    access = conversations.access("alice")
    for alias in ("a", "a", "b", "b"):
        assert aliases.resolve(access, alias, create=True)
    with pytest.raises(TooManyTurns):
        aliases.resolve(access, "c", create=True)
    assert access.store.follow(Alias("alice", "c"), 1000) is None
    assert aliases.resolve(access, "a", create=True)
    assert aliases.resolve(conversations.access(ANY), "c", create=True)


def test_the_bucket_fills_again(kind: Kind) -> None:
    conversations = kind(max_turns_per_minute=2)

    def spend() -> int:
        try:
            conversations.access("alice").count_turn()
        except TooManyTurns as error:
            return error.retry_after_ms
        return 0

    assert [spend(), spend()] == [0, 0]
    assert 0 < spend() <= 30_000
    bucket = "chat:session:owner:{alice}:bucket"
    for milliseconds in (29_000, 2_000):
        kind.harness.age(milliseconds)
        if kind.server:
            assert 0 < kind.server.client.pttl(bucket) <= 60_000
            at: Any = kind.server.client.hget(bucket, "at")
            kind.server.client.hset(bucket, "at", int(at) - milliseconds)
        assert (spend() == 0) == (milliseconds == 2_000)


def test_turns_are_not_counted_while_the_store_is_away(unused_url: str) -> None:
    settings = Settings(max_turns_per_minute=1, budget=0.2)
    client = redis.Redis.from_url(unused_url)
    conversations = PlainConversations(RedisHarness(client, settings).store, settings)
    for _ in range(3):
        conversations.access("alice").count_turn()


@pytest.fixture
def unused_url() -> str:
    return "redis://127.0.0.1:1/0"


def test_whatever_makes_a_session_counts(url: str) -> None:
    """Fork, compact, import and a start by an alias are no way around the limit."""
    line = json.dumps({"session_id": str(uuid.uuid4()), "shape": "data", "data": {}, "messages": []})
    calls: dict[str, Callable[[OwnedService, str], Any]] = {
        "fork": lambda service, session_id: service.call("ada", "POST", f"/{session_id}/fork", json={}),
        "compact": lambda service, session_id: service.call(
            "ada", "POST", f"/{session_id}/compact", json={"summary": "s"}
        ),
        "import": lambda service, _: service.call(
            "ada", "POST", "/import", data=line, content_type="application/x-ndjson"
        ),
        "alias": lambda service, _: service.call("ada", "POST", json={"alias": str(uuid.uuid4())}),
    }
    for number, (name, call) in enumerate(calls.items()):
        service = OwnedService(url, MAX_TURNS_PER_MINUTE=2, PREFIX=f"{number}:")
        session_id = service.call("ada", "POST", json={}).json["session_id"]  # type: ignore[index]
        assert call(service, session_id).status_code in (200, 201), name
        found = problem(call(service, session_id), 429, "too-many-turns")
        assert found["written"] is False


def test_browsers_without_a_cookie_are_counted_by_their_address(url: str) -> None:
    """Each has a new owner, and would never come to the limit."""
    service = Service(url, MAX_TURNS_PER_MINUTE=2, ANONYMOUS_OWNER=True)
    service.app.secret_key = "s"
    statuses = [service.app.test_client().post("/sessions").status_code for _ in range(21)]
    assert statuses == [201] * 20 + [429]
    other = {"REMOTE_ADDR": "10.0.0.2"}
    client = service.app.test_client()
    assert [client.post("/sessions", environ_base=other).status_code for _ in range(3)] == [201, 201, 201]
    assert client.post("/sessions", environ_base=other).status_code == 429, "with its cookie the browser is an owner"
