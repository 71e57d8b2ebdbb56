"""Keys, scripts, wire, corrupt values, a full or a forgetful server: tests that need a real one."""

from __future__ import annotations

import enum
import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import redis

from flask_convstore.config import Settings
from flask_convstore.domain.commands import BeginTurn, CommitTurn, RenewTurn, Share, Touch
from flask_convstore.domain.messages import Message, join_element
from flask_convstore.domain.types import ANY
from flask_convstore.errors import (
    CorruptValue,
    SessionNotFound,
    StoreMisconfigured,
    StoreUnavailable,
    TurnInProgress,
)
from flask_convstore.operations.turns import begin
from flask_convstore.stores.connect import connect, patience_of
from flask_convstore.stores.redis.index_parts import index_of
from flask_convstore.stores.redis.scripts import text_of
from flask_convstore.stores.redis.store import RedisStore

from ...harness import SETTINGS, PlainConversations, RedisHarness, limits_for
from ...processes import wait_for
from ...servers import Server, programs, running
from ...wire import Proxy

USER = {"role": "user", "content": "u" * 200}
BOT = {"role": "assistant", "content": "a" * 800}


def on(client: redis.Redis, settings: Settings = SETTINGS) -> PlainConversations:
    store = RedisStore(client, settings.prefix, limits_for(settings), patience_of(settings))
    return PlainConversations(store, settings)


# ---- the layout


def test_the_keys_are_those_of_the_map(server: Server) -> None:
    conversations = on(server.client)
    conversations.save_session("a:b c}", {"name": "Ada", "history": [USER]}, owner="alice", ttl=60)
    conversations.append("a:b c}", BOT)
    key = b"chat:session:{a:b%20c%7D}"
    index = b"chat:session:owner:{alice}"
    assert sorted(server.client.scan_iter()) == sorted(
        [key, key + b":history", key + b":receipts", key + b":tokens", index]
    )
    assert server.client.zrange(index, 0, -1) == [b"a:b c}"]
    stored: Any = server.client.hgetall(key)
    assert {name: stored[name] for name in (b"version", b"count", b"first", b"shape", b"owner", b"ttl", b"d:name")} == {
        b"version": b"2",
        b"count": b"2",
        b"first": b"1",
        b"shape": b"full:history",
        b"owner": b"=alice",
        b"ttl": b"60000",
        b"d:name": b'"Ada"',
    }
    first: Any = server.client.lindex(key.decode() + ":history", 0)
    assert re.fullmatch(rb'1\{"at":\d{13}\}\n\{"role":"user","content":"u+"\}', first)


class Channel(str, enum.Enum):  # noqa: UP042, a StrEnum is formatted as its text
    """Names that equal their texts, and are formatted otherwise: as ``Channel.SUPPORT``."""

    SUPPORT = "support"
    SALES = "sales"


@pytest.mark.parametrize("is_first", [True, False])
def test_a_name_that_equals_a_text_is_that_text(server: Server, is_first: bool) -> None:
    """As in a dict. It does not matter which of the two a process has used first."""
    harness = RedisHarness(server.client)
    conversations = PlainConversations(harness.store)
    session_ids = [Channel.SUPPORT, "support"] if is_first else ["support", Channel.SUPPORT]
    for session_id in session_ids:
        conversations.append(session_id, USER, owner=Channel.SALES, create=True)
    assert conversations.get_session("support", owner="sales") == {"history": [USER, USER]}
    assert not [key for key in server.client.scan_iter() if b"Channel" in key]
    assert [found.session_id for found in conversations.list_sessions(owner="sales").sessions] == ["support"]


def test_hash_and_history_expire_in_the_same_millisecond_and_tokens_later(server: Server) -> None:
    conversations = on(server.client)
    conversations.save_session("s", {"history": [USER]})
    for action in (
        lambda: conversations.append("s", BOT),
        lambda: conversations.get_session("s"),
        lambda: conversations.touch("s", ttl=50),
        lambda: conversations.save_session("s", {"history": [BOT]}),
    ):
        action()
        hash_ends, history_ends, receipts_end, tokens_end = (
            server.client.pexpiretime(f"chat:session:{{s}}{part}") for part in ("", ":history", ":receipts", ":tokens")
        )
        assert hash_ends == history_ends == receipts_end
        assert 0 <= hash_ends + 24 * 3600 * 1000 - tokens_end <= 60_000, "the tombstone is told once a minute"


def test_a_tombstone_is_all_that_stays_beside_the_index(server: Server) -> None:
    conversations = on(server.client)
    conversations.save_session("s", {"history": [USER]})
    conversations.append("s", BOT)
    conversations.delete_session("s")
    index = index_of("chat:session:", None, "s").active.encode()
    assert sorted(server.client.scan_iter()) == [index, b"chat:session:{s}:tokens"]
    assert 0 < server.client.pttl("chat:session:{s}:tokens") <= 24 * 3600 * 1000


def test_tokens_are_bounded(server: Server) -> None:
    conversations = on(server.client)
    conversations.save_session("s", {})
    most = SETTINGS.max_tokens
    for number in range(3 * most):
        conversations.append("s", Message("m"))
        names: Any = server.client.hkeys("chat:session:{s}:receipts")
        lasting: Any = server.client.hkeys("chat:session:{s}:tokens")
        kept = sum(name.startswith(b"t:") for name in [*names, *lasting])
        assert min(number + 2, most) <= kept < most * 5 / 4
        assert len([*names, *lasting]) == kept + 1, "and the owner"


def test_bytes_are_counted_as_they_are(server: Server) -> None:
    conversations = on(server.client, Settings(max_history=6, history_policy="trim"))
    conversations.save_session("s", {"a": "é", "history": []})
    for number in range(5):
        turn, _ = begin(conversations.access(), "s", f"ü{number}")
        assert turn
        with pytest.raises(ZeroDivisionError), turn:
            raise ZeroDivisionError
        conversations.append("s", Message("x"), data={"a": "y" * number, f"b{number}": 1})
        stored: Any = server.client.hgetall("chat:session:{s}")
        elements: Any = server.client.lrange("chat:session:{s}:history", 0, -1)
        data = {name[2:]: text for name, text in stored.items() if name.startswith(b"d:")}
        assert int(stored[b"history_bytes"]) == sum(map(len, elements))
        assert int(stored[b"data_bytes"]) == sum(len(name) + len(text) for name, text in data.items())


# ---- the wire


@pytest.mark.parametrize("length", [10, 10_000])
def test_a_turn_is_one_round_trip_at_any_length(server: Server, length: int) -> None:
    on(server.client).save_session("s", {"history": [USER, BOT] * (length // 2)})
    with Proxy(("127.0.0.1", server.port)) as proxy, redis.Redis(port=proxy.port, protocol=2) as client:
        conversations = on(client)
        conversations.append("s", USER, BOT)  # connects, and teaches the server the script
        proxy.reset()
        conversations.append("s", USER, BOT)
        assert proxy.round_trips == 1
        assert 1_000 < proxy.sent < 1_700, "the two messages, and less than 500 bytes beside them"
        assert proxy.received < 200


@pytest.mark.parametrize("length", [10, 10_000])
def test_a_turn_with_a_reply_is_two_round_trips_at_any_length(server: Server, length: int) -> None:
    on(server.client, Settings()).save_session("s", {"history": [USER, BOT] * (length // 2)})
    with Proxy(("127.0.0.1", server.port)) as proxy, redis.Redis(port=proxy.port, protocol=2) as client:
        conversations = on(client, Settings())
        for _ in range(2):
            proxy.reset()
            turn, _ = begin(conversations.access(), "s", USER, last=10)
            assert turn
            with turn:
                assert len(turn.history) == 10
                turn.reply(BOT)
        assert proxy.round_trips == 2
        assert 1_500 < proxy.sent < 3_000
        assert proxy.received < 10 * 1_000


def test_waiting_for_a_turn_costs_nothing_at_any_length(server: Server) -> None:
    conversations = on(server.client, Settings())
    conversations.save_session("s", {"history": [BOT] * 2_000})
    turn, _ = begin(conversations.access(), "s", USER)
    assert turn
    with Proxy(("127.0.0.1", server.port)) as proxy, redis.Redis(port=proxy.port, protocol=2) as client:
        waiting = on(client, Settings(turn_wait=1.5))
        with pytest.raises(TurnInProgress):
            begin(waiting.access(), "s", USER, last=1, policy="wait")
        assert 4 <= proxy.round_trips <= 12, "two for each half second: it looks, and waits to be told"
        assert proxy.received < 10_000
    with pytest.raises(SessionNotFound):
        conversations.backend.store.turn_lease("none", ANY)


@pytest.mark.parametrize("kind", [redis.ConnectionPool, redis.BlockingConnectionPool])
def test_turns_that_wait_leave_connections_to_others(server: Server, kind: type[redis.ConnectionPool]) -> None:
    """Else the turn in progress could not end in time."""
    with redis.Redis.from_pool(kind(port=server.port, protocol=2, max_connections=3)) as client:
        conversations = on(client, Settings(turn_wait=20, budget=1.5))
        conversations.save_session("s", {"history": []})

        def wait() -> None:
            with conversations.turn("s", "hi", policy="wait") as turn:
                turn.reply("hi")

        with conversations.turn("s", "first") as turn, ThreadPoolExecutor(12) as pool:
            waiting = [pool.submit(wait) for _ in range(12)]
            time.sleep(0.3)
            turn.reply("hi")
            for one in waiting:
                one.result(20)
        assert len(conversations.messages("s").messages) == 26


@pytest.mark.parametrize("call", ["save", "merge", "get", "touch", "delete", "has ended"])
def test_every_other_call_is_one_round_trip(server: Server, call: str) -> None:
    with Proxy(("127.0.0.1", server.port)) as proxy, redis.Redis(port=proxy.port, protocol=2) as client:
        conversations = on(client)
        session = conversations.save_session("s", {"a": 1, "history": [USER]})
        calls: dict[str, Any] = {
            "save": lambda: conversations.save_session("s", {"b": 1}),
            "merge": lambda: conversations.save_session("s", session),
            "get": lambda: conversations.get_session("s", last=5),
            "touch": lambda: conversations.touch("s"),
            "delete": lambda: conversations.delete_session("s"),
            "has ended": lambda: conversations.backend.store.has_ended("s", ANY),
        }
        for _ in range(2):
            session = conversations.save_session("s", {"a": 1})
            session["a"] = 2
            proxy.reset()
            calls[call]()
        assert proxy.round_trips == 1


def test_what_cannot_tell_whether_a_session_has_ended_is_corrupt(server: Server) -> None:
    store = RedisHarness(server.client).store
    key = store._keys("s")[2]
    server.client.set(key, "none of ours", px=60_000)
    with pytest.raises(CorruptValue) as caught:
        store.has_ended("s", ANY)
    assert caught.value.key == key


# ---- the scripts


FOLDER = resources.files("flask_convstore.stores.redis") / "lua"
SCRIPTS = sorted(path.name for path in FOLDER.iterdir() if path.name[0] != "_")


@pytest.mark.parametrize("file", SCRIPTS)
def test_a_scripts_header_is_its_contract(file: str) -> None:
    text = text_of(file.removesuffix(".lua"))
    header, code = text.split("]]\n", 1)
    assert header.startswith(f"--[[\n{file.removesuffix('.lua')}: ")
    assert "Cost " in header
    described = set(re.findall(r'\{"(\w+)"', header))
    returned = set(re.findall(r'return \{"(\w+)"', code))
    assert described == returned
    numbers = {int(number) for number in re.findall(r"ARGV\[(\d+)\]", code)}
    first = max((int(end) for end in re.findall(r"ARGV\[1\.\.(\d+)\]", header)), default=0)
    named = {int(number) for number in re.findall(r"^ARGV\[(\d+)(?:\.\.)?\]", header, re.MULTILINE)}
    assert numbers <= set(range(1, first + 1)) | named
    assert "#include" not in text


@pytest.mark.parametrize("file", SCRIPTS)
def test_a_script_sets_no_global(file: str) -> None:
    """A global outlives its call, and fakeredis forbids all later scripts."""
    text = text_of(file.removesuffix(".lua"))
    keywords = {"local", "return", "if", "elseif", "for", "end", "else"}
    names = set(re.findall(r"^\s*local ([\w, ]+)", text, re.MULTILINE))
    local = {name.strip() for group in names for name in group.split(",")} | set(re.findall(r"for (\w+)", text))
    assigned = {
        name.strip()
        for group in re.findall(r"^\s*([a-z_][\w, ]*) = ", text.split("]]\n", 1)[1], re.MULTILINE)
        for name in group.split(",")
        if group.split()[0] not in keywords
    }
    assert assigned <= local


def test_a_server_that_forgot_its_scripts_is_taught_again(server: Server) -> None:
    conversations = on(server.client)
    conversations.save_session("s", {"history": [USER]})
    for call in (
        lambda: conversations.append("s", BOT),
        lambda: conversations.get_session("s"),
        lambda: conversations.touch("s"),
        lambda: conversations.save_session("t", {}),
        lambda: conversations.delete_session("t"),
    ):
        server.client.script_flush()
        call()
    session = conversations.get_session("s")
    assert session is not None
    assert session.version == 2


# ---- what goes wrong


def test_a_reply_of_another_call_is_never_used(valkey: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    conversations = on(valkey.client)
    conversations.save_session("s", {})
    conversations.append("s", Message("zero"))
    calls = conversations.backend.store._calls  # type: ignore[attr-defined]
    replies: list[Any] = []
    original = calls._exchange

    def stale(*arguments: Any) -> Any:
        replies.append(original(*arguments))
        return replies[0]

    monkeypatch.setattr(calls, "_exchange", stale)
    conversations.append("s", Message("one"))
    with pytest.raises(StoreUnavailable) as caught:
        conversations.append("s", Message("two"))
    assert caught.value.written is None


def test_a_reply_that_is_older_than_its_script_is_never_used(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that has mixed up replies may give a hash that the same session had before."""
    conversations = on(server.client)
    conversations.save_session("s", {"history": [USER]})
    conversations.get_session("s", owner=None)  # the server knows the script then
    calls = conversations.backend.store._calls  # type: ignore[attr-defined]
    original, older = calls._exchange, list[Any]()

    def mixed_up(*arguments: Any) -> Any:
        *replies, read = original(*arguments)
        if not older:
            older.append(read)
        elif len(older) == 1:
            older.append(None)
            return [*replies, older[0]]
        return [*replies, read]

    monkeypatch.setattr(calls, "_exchange", mixed_up)
    conversations.get_session("s", owner=None)
    on(server.client).append("s", BOT)
    session = conversations.get_session("s", owner=None)
    assert session is not None
    assert session["history"] == [USER, BOT]


@pytest.mark.parametrize("call", ["append", "turn", "save"])
def test_a_write_whose_answer_was_lost_is_perhaps_written_where_the_session_is_gone(
    server: Server, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """Another one deletes the session before the second try, which finds neither the session nor the receipt."""
    conversations, others = on(server.client), on(server.client)

    def write(session_id: str) -> None:
        session: Any = others.get_session(session_id)
        session["n"] = 2
        writes: dict[str, Callable[[], object]] = {
            "append": lambda: conversations.append(session_id, BOT),
            "turn": lambda: begin(conversations.access(), session_id, BOT),
            "save": lambda: conversations.save_session(session_id, session),
        }
        losing_at.append(session_id)
        writes[call]()

    calls = conversations.backend.store._calls  # type: ignore[attr-defined]
    original, losing_at = calls._exchange, list[str]()

    def losing(*arguments: Any) -> Any:
        replies = original(*arguments)
        if losing_at.pop() == "s":
            losing_at.append("")
            others.delete_session("s")
            raise redis.ConnectionError("lost")
        losing_at.append("")
        return replies

    for session_id in ("known", "s"):
        conversations.save_session(session_id, {"n": 1, "history": [USER]})
    write("known")  # the server knows the script then
    monkeypatch.setattr(calls, "_exchange", losing)
    with pytest.raises(SessionNotFound, match="may have been written before") as caught:
        write("s")
    assert caught.value.written is None
    with pytest.raises(SessionNotFound, match="Nothing was written") as caught:
        conversations.append("s", BOT)
    assert caught.value.written is False


BROKEN: dict[str, tuple[list[list[Any]], str]] = {
    "a field that is not JSON": ([["HSET", "{}", "d:a", "{broken"]], ""),
    "a body that is not JSON": ([["LSET", "{}:history", 1, b'1{"at":1}\n{broken']], ":history"),
    "an element that is not ours": ([["LSET", "{}:history", 0, "hello"]], ":history"),
    "a version that is no number": ([["HSET", "{}", "version", "x"]], ""),
    "a hash without a version": ([["HDEL", "{}", "version"]], ""),
    "an unknown shape": ([["HSET", "{}", "shape", "square"]], ""),
    "a count that is no number": ([["HSET", "{}", "count", "x"]], ""),
    "a history that was evicted": ([["DEL", "{}:history"]], ":history"),
    "a history that was cut": ([["LPOP", "{}:history"]], ":history"),
    "a title that is no text": ([["HSET", "{}", "title", b"\xff"]], ""),
    "a time that no calendar has": ([["HSET", "{}", "created", "1e30"]], ""),
    "another type": ([["DEL", "{}"], ["SET", "{}", "x"], ["EXPIRE", "{}", 60]], ""),
    "a history of another type": (
        [["DEL", "{}:history"], ["SET", "{}:history", "x"], ["EXPIRE", "{}:history", 60]],
        "",
    ),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_a_corrupt_value_is_named_and_spoils_no_other(server: Server, broken: str) -> None:
    conversations = on(server.client)
    for name in ("s", "other"):
        conversations.save_session(name, {"a": 1, "history": [USER, BOT]})
    commands, part = BROKEN[broken]
    key = "chat:session:{s}"
    for name, target, *rest in commands:
        server.client.execute_command(name, target.replace("{}", key), *rest)  # type: ignore[no-untyped-call]
    with pytest.raises(CorruptValue) as caught:
        conversations.get_session("s")
    assert caught.value.key == key + part
    assert conversations.get_session("other") == {"a": 1, "history": [USER, BOT]}


def test_a_corrupt_envelope_is_named(server: Server) -> None:
    conversations = on(server.client)
    conversations.save_session("s", {"history": [USER]})
    for envelope in ("{broken", "{}", "[]", "5", '{"at":"x"}'):
        server.client.lset("chat:session:{s}:history", 0, f'1{envelope}\n"x"')
        session = conversations.get_session("s")
        assert session == {"history": ["x"]}
        with pytest.raises(CorruptValue) as caught:
            _ = session.messages
        assert caught.value.key == "chat:session:{s}:history"


@pytest.mark.parametrize(
    "broken", ["a version that is no number", "a hash without a version", "a history that was cut", "another type"]
)
def test_nothing_is_written_into_a_corrupt_session(server: Server, broken: str) -> None:
    conversations = on(server.client)
    conversations.save_session("s", {"a": 1, "history": [USER, BOT, USER, BOT]})
    session = conversations.get_session("s")
    assert session is not None
    session["a"] = 2
    commands, part = BROKEN[broken]
    for name, target, *rest in commands:
        server.client.execute_command(name, target.replace("{}", "chat:session:{s}"), *rest)  # type: ignore[no-untyped-call]
    before = {key: server.client.dump(key) for key in server.client.scan_iter(match="*{s}*")}
    for call in (
        lambda: conversations.append("s", Message("x")),
        lambda: conversations.append("s", data={"a": 2}),
        lambda: conversations.save_session("s", session),
    ):
        with pytest.raises(CorruptValue) as caught:
            call()
        assert caught.value.written is False
        assert caught.value.key == f"chat:session:{{s}}{part}"
        assert re.search(
            r"session of flask-convstore|number of messages that chat:session:\{s\} counts|of another type",
            str(caught.value),
        )
    assert {key: server.client.dump(key) for key in server.client.scan_iter(match="*{s}*")} == before


@pytest.mark.parametrize("field", ["version", "created", "updated", "first", "count"])
def test_whoever_needs_a_number_that_is_none_names_the_key(server: Server, field: str) -> None:
    conversations = on(server.client)
    conversations.save_session("s", {"history": [USER]})
    store, key = conversations.backend.store, "chat:session:{s}"
    store.begin(BeginTurn(session_id="s", owner=ANY, element=None, lease_ms=60_000, attempt="A"))
    calls: list[Callable[[], object]] = [
        lambda: store.load("s", ANY, 0),
        lambda: store.messages("s", ANY, None, 1),
        lambda: store.turn_lease("s", ANY),
        lambda: store.apply(Touch(session_id="s", owner=ANY)),
        lambda: store.apply(Share(session_id="s", owner=ANY, name="bob", role="reader")),
        lambda: store.apply(RenewTurn(session_id="s", owner=ANY, turn="A", lease_ms=60_000)),
    ]
    for call in calls[:2] if field in ("first", "count") else calls:
        for command in (["HSET", key, field, "none"], ["HDEL", key, field]):
            server.client.execute_command(*command)  # type: ignore[no-untyped-call]
            with pytest.raises(CorruptValue) as caught:
                call()
            assert caught.value.key == key


def test_a_corrupt_receipt_is_named(server: Server) -> None:
    conversations = on(server.client)
    conversations.save_session("s", {})
    conversations.append("s", Message("x"), token="T")
    for key, token in (("chat:session:{s}:receipts", "T"), ("chat:session:{s}:tokens", "V")):
        server.client.hset(key, f"t:{token}", "garbage")
        with pytest.raises(CorruptValue) as caught:
            conversations.append("s", Message("x"), token=token)
        assert caught.value.key == key
        assert "a receipt that is not ours" in str(caught.value)


def test_a_corrupt_lifetime_never_ends_a_session(server: Server) -> None:
    conversations = on(server.client)
    conversations.save_session("s", {"a": 1})
    for ttl in ("-5", "0", "soon"):
        server.client.hset("chat:session:{s}", "ttl", ttl)
        with server.moment() as moment:
            assert conversations.get_session("s") == {"a": 1}
        assert server.end_of("chat:session:{s}") - 3_600_000 in moment


def test_a_corrupt_turn_is_over_and_can_be_ended(server: Server) -> None:
    """And nothing is written by halves."""
    conversations = on(server.client)
    conversations.save_session("s", {"history": []})
    store, key = conversations.backend.store, "chat:session:{s}"
    for number in (1, 2):
        turn = BeginTurn(session_id="s", owner=ANY, element=join_element(1, b'"q"'), lease_ms=60_000, attempt="A")
        assert store.begin(turn).receipt.first_seq == 2 * number - 1
        server.client.hset(key, mapping={"turn_until": "none", "turn_seq": "none"})
        assert store.turn_lease("s", ANY).remaining_ms == 0
    assert store.apply(CommitTurn(session_id="s", owner=ANY, turn="A", status="failed")).version == 4
    found = store.load("s", ANY)
    assert found
    assert found.count == 2


def test_a_corrupt_session_can_be_deleted(server: Server) -> None:
    conversations = on(server.client)
    conversations.save_session("s", {"a": 1, "history": [USER, BOT]})
    server.client.hdel("chat:session:{s}", "version", "created", "history_version")
    assert conversations.delete_session("s")
    assert conversations.get_session("s") is None


def test_the_rest_of_an_evicted_session_is_not_part_of_its_successor(server: Server) -> None:
    conversations = on(server.client)
    conversations.save_session("s", {"history": [USER]})
    server.client.delete("chat:session:{s}")
    assert conversations.get_session("s") is None
    conversations.save_session("s", {"history": ["new"]})
    assert conversations.get_session("s") == {"history": ["new"]}


@pytest.mark.server
@pytest.mark.parametrize("kind", sorted(programs()))
def test_a_full_server_refuses_and_nothing_is_half_written(kind: str) -> None:
    with running(kind, "--maxmemory-policy", "noeviction") as server:
        conversations = on(server.client)
        conversations.save_session("s", {"a": 1, "history": ["one"]})
        session = conversations.get_session("s")
        assert session is not None
        server.client.config_set("maxmemory", "1mb")
        session["a"] = 2
        session["history"].append("two")
        before = server.client.dump("chat:session:{s}"), server.client.dump("chat:session:{s}:history")
        for call in (
            lambda: conversations.append("s", Message("x"), data={"b": 1}),
            lambda: conversations.save_session("s", {"history": ["y"]}),
            lambda: conversations.save_session("s", session),
            lambda: conversations.save_session("new", {"c": 1}),
        ):
            with pytest.raises(StoreUnavailable, match="maxmemory") as caught:
                call()
            assert caught.value.written is False
        assert (server.client.dump("chat:session:{s}"), server.client.dump("chat:session:{s}:history")) == before
        assert conversations.get_session("s") == {"a": 1, "history": ["one"]}, "a full server still reads"
        assert conversations.delete_session("s"), "and deletes"
        assert [key for key in server.client.scan_iter() if b"new" in key] == []


@pytest.mark.server
def test_a_replica_still_reads() -> None:
    """A replica refuses writes only: the lifetime stays as it is, and reads answer."""
    with (
        running("valkey", "--repl-diskless-sync-delay", "0") as primary,
        running("valkey", "--replicaof", f"127.0.0.1 {primary.port}") as replica,
    ):
        wait_for(lambda: replica.client.info("replication")["master_link_status"] == "up", "the replica follows")
        on(primary.client).save_session("s", {"a": 1})
        wait_for(lambda: replica.client.exists("chat:session:{s}"), "the replica has it")
        conversations = on(replica.client)
        session = conversations.get_session("s")
        assert session == {"a": 1}
        assert 0 < replica.client.pttl("chat:session:{s}") <= 3_600_000
        with pytest.raises(StoreUnavailable):
            conversations.append("s", Message("x"))
        with pytest.raises(StoreUnavailable):
            conversations.touch("s", ttl=60)


@pytest.mark.server
def test_a_wrong_password_is_loud(caplog: pytest.LogCaptureFixture) -> None:
    with running("valkey", "--requirepass", "right") as server:
        conversations = on(connect(Settings(url=f"unix://:wrong@{server.socket}", retries=0), Path()))
        with pytest.raises(StoreMisconfigured) as caught:
            conversations.get_session("s")
        assert "wrong" not in str(caught.value).replace("WRONGPASS", "")
        assert caught.value.written is False
        assert not conversations.health().connected
        assert "invalid username-password" in caplog.text


def test_a_missing_permission_is_loud(server: Server) -> None:
    server.client.execute_command("ACL", "SETUSER", "reader", "on", ">pw", "~*", "+@all", "-hset")  # type: ignore[no-untyped-call]
    conversations = on(connect(Settings(url=f"unix://reader:pw@{server.socket}", retries=0), Path()))
    with pytest.raises(StoreMisconfigured) as caught:
        conversations.save_session("s", {})
    assert caught.value.written is False
    assert "hset" in str(caught.value).lower()
    server.client.execute_command("ACL", "SETUSER", "reader", "-evalsha", "-eval")  # type: ignore[no-untyped-call]
    with pytest.raises(StoreMisconfigured) as caught:
        conversations.get_session("s", owner="alice")
    assert "alice" not in str(caught.value)
    assert caught.value.written is False
    server.client.execute_command("ACL", "DELUSER", "reader")  # type: ignore[no-untyped-call]


@pytest.mark.server
@pytest.mark.parametrize("kind", sorted(programs()))
def test_a_server_says_what_it_is(kind: str) -> None:
    with running(kind) as server:
        info: Any = server.client.info("server")
        name = "valkey" if "valkey_version" in info else "redis"
        about = RedisHarness(server.client).store.about()
        assert (about.server, about.role) == (name, "primary")
        assert about.version == info[f"{name}_version"]
        server.client.replicaof("127.0.0.1", 1)
        assert RedisHarness(server.client).store.about().role == "replica"
        server.client.execute_command("ACL", "SETUSER", "default", "-info")  # type: ignore[no-untyped-call]
        about = RedisHarness(server.client).store.about()
        assert (about.server, about.version, about.role) == (None, None, None)


@pytest.mark.server
def test_a_stopped_server_is_unavailable() -> None:
    with running("valkey") as server:
        conversations = on(connect(Settings(url=server.url, retries=0), Path()))
        conversations.save_session("s", {})
        server.process.terminate()
        server.process.wait(10)
        for call in (lambda: conversations.get_session("s"), lambda: conversations.append("s", Message("x"))):
            with pytest.raises(StoreUnavailable):
                call()
        health = conversations.health()
        assert (health.connected, health.latency_ms) == (False, None)


def test_reads_are_of_one_moment(server: Server) -> None:
    """A reader beside a writer never sees a history without the field that came with it."""
    harness = RedisHarness(server.client)
    conversations = PlainConversations(harness.store)
    conversations.save_session("s", {"n": 0, "history": []})
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            conversations.append("s", Message(number), data={"n": number})

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(300):
            session = conversations.get_session("s", owner=ANY)
            assert isinstance(session, dict)
            assert session["history"] == list(range(1, session["n"] + 1))
    finally:
        stop.set()
        writer.join()
