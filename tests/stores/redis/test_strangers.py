"""Sessions of others are not read for a stranger: neither sent nor looked at, whatever their size or damage."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from flask import Flask
from redis import Redis

from flask_convstore import ConversationStore
from flask_convstore.config import limits_of
from flask_convstore.domain.commands import Append
from flask_convstore.domain.messages import join_element
from flask_convstore.domain.types import ANY
from flask_convstore.errors import CorruptValue, SessionNotFound, TurnInProgress
from flask_convstore.stores.redis.calls import Call, Calls
from flask_convstore.stores.redis.store import RedisStore

from ...harness import SETTINGS
from ...servers import Server, running


@contextmanager
def store(server: Server) -> Iterator[ConversationStore]:
    """A store, in an app context, that has read something before. So the server knows the scripts."""
    app = Flask("strangers")
    app.config.update(CONVSTORE_URL=server.url, CONVSTORE_FALLBACK="none")
    convstore = ConversationStore(app)
    with app.app_context():
        convstore.save_session("s", {"a": 1, "history": ["x" * 1000] * 50}, owner="ada")
        assert convstore.get_session("s", owner="ada")
        with convstore.turn("s", "hello", owner="ada") as turn:
            turn.reply("hi")
        yield convstore


def reads(convstore: ConversationStore, session_id: str) -> None:
    """Do as a stranger all that reads a session."""
    stranger: dict[str, Any] = {"owner": "mallory"}
    assert convstore.get_session(session_id, **stranger) is None
    assert convstore.get_session(session_id, last=5, **stranger) is None
    assert not convstore.exists(session_id, **stranger)
    for refused in (
        lambda: convstore.messages(session_id, **stranger),
        lambda: convstore.fork(session_id, **stranger),
        lambda: convstore.compact(session_id, "summary", **stranger),
        lambda: convstore.turn(session_id, "hello", **stranger).__enter__(),
    ):
        with pytest.raises(SessionNotFound):
            refused()


def calls(server: Server) -> dict[str, int]:
    client: Any = server.client
    counted = client.info("commandstats")
    return {name: counted.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("lrange", "hgetall")}


def test_nothing_is_read_for_a_stranger(server: Server) -> None:
    with store(server) as convstore:
        before = calls(server)
        for session_id in ("s", "none"):
            reads(convstore, session_id)
        assert calls(server) == before


def test_nothing_is_read_for_a_former_guest_of_a_compacted_session(server: Server) -> None:
    with store(server) as convstore:
        convstore.share("s", "mallory", role="writer", owner="ada")
        moved_to = convstore.compact("s", "so far", owner="ada").session_id
        convstore.unshare(moved_to, "mallory", owner="ada")
        assert convstore.get_session("s", owner="mallory") is None  # the server knows the scripts now
        before = calls(server)
        assert convstore.get_session("s", last=5, owner="mallory") is None
        with pytest.raises(SessionNotFound):
            convstore.messages("s", owner="mallory")
        with pytest.raises(SessionNotFound):
            convstore.fork("s", owner="mallory")
        assert calls(server) == before


def test_a_refused_turn_is_no_write_that_replicas_lack(server: Server) -> None:
    """The answer of the script that judges was taken for one of a write."""
    app = Flask("replicated")
    app.config.update(CONVSTORE_URL=server.url, CONVSTORE_FALLBACK="none", CONVSTORE_COMMAND_TIMEOUT=0.2)
    app.config.update(CONVSTORE_DURABILITY="replicas:1")
    replicated = ConversationStore(app)
    with (
        store(server) as convstore,
        convstore.turn("s", "hello", owner="ada"),
        app.app_context(),
        pytest.raises(TurnInProgress),
    ):
        replicated.turn("s", "hello", owner="ada").__enter__()


@pytest.mark.parametrize("damage", [["SET", "{}:history", "x"], ["DEL", "{}:history"], ["HDEL", "{}", "count"]])
def test_a_strangers_damaged_session_is_no_session(server: Server, damage: list[str]) -> None:
    with store(server) as convstore:
        command, key, *rest = damage
        server.client.execute_command(command, key.format("chat:session:{s}"), *rest)  # type: ignore[no-untyped-call]
        for name in server.client.keys("*"):
            server.client.expire(name, 100)
        reads(convstore, "s")
        with pytest.raises(CorruptValue):
            convstore.get_session("s", owner="ada")


@pytest.mark.server
def test_a_refused_read_leaves_no_key_and_no_line_in_the_file() -> None:
    """The gate is there within the script only."""
    with running("valkey", "--appendonly", "yes") as server, store(server) as convstore:
        client: Any = server.client
        keys, size = set(client.keys("*")), client.info("persistence")["aof_current_size"]
        for _ in range(20):
            assert convstore.get_session("s", owner="mallory") is None
        assert set(client.keys("*")) == keys
        assert client.info("persistence")["aof_current_size"] == size


def test_a_session_that_is_replaced_between_is_read_anew(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The script judges one session, and the queries read its successor of another owner. That one is judged too."""
    with store(server) as convstore:
        read = Calls.read
        done: list[bool] = []

        def replaced(self: Calls, call: Call, queries: Any, gate: str | None) -> list[Any]:
            replies = read(self, call, queries, gate)
            if not done and queries:
                done.append(True)
                convstore.delete_session("s", owner="ada")
                convstore.save_session("s", {"b": 2, "history": ["secret"]}, owner="bob")
                replies[1:] = self.commands(queries)
            return replies

        monkeypatch.setattr(Calls, "read", replaced)
        assert convstore.get_session("s", owner="ada") is None
        assert done


@pytest.mark.parametrize("owner", [{}, {"owner": "ada"}])
@pytest.mark.parametrize("writes", [1, 3])
def test_no_read_is_torn(server: Server, monkeypatch: pytest.MonkeyPatch, owner: Any, writes: int) -> None:
    """A server may serve others between any two commands of a read: here it does at every place."""
    with store(server) as convstore:
        exchange, left = Calls._exchange, [0]
        other = RedisStore(Redis(port=server.port), "chat:session:", limits_of(SETTINGS))

        def write() -> None:
            if left[0]:
                left[0] -= 1
                change = Append(session_id="s", owner=ANY, elements=(join_element(1, b'"more"', {}),), fields=())
                other.apply(change)

        def one_by_one(self: Calls, commands: Any, deadline: float) -> list[Any]:
            if self is other._calls or commands[0][0] not in ("EVALSHA", "WATCH") or len(commands) < 3:
                return exchange(self, commands, deadline)
            replies = []
            for command in commands:
                replies += exchange(self, [command], deadline)
                write()
            return replies

        monkeypatch.setattr(Calls, "_exchange", one_by_one)
        for _ in range(3):
            left[0] = writes
            session: Any = convstore.get_session("s", **owner)
            assert session["history"].count("more") == len(session["history"]) - 52
            assert session.version == session["history"].count("more") + 3
        other.close()
