"""Levels of an acknowledged write, and the error of a write that does not reach its level."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import redis
from flask import Flask

from flask_convstore import ConfigurationError, ConversationStore, Message, StoreMisconfigured, StoreUnavailable
from flask_convstore.config import Settings, limits_of
from flask_convstore.domain.commands import Append, CommitTurn, Delete, TakeReply
from flask_convstore.domain.types import ANY
from flask_convstore.errors import TooSlow, TurnInProgress, TurnLost
from flask_convstore.stores.redis.calls import Call, Calls, Durability, Patience
from flask_convstore.stores.redis.store import RedisStore

from ...processes import wait_for
from ...servers import Server, running
from ...service import Service, problem
from ...topologies import is_linked, told
from ..test_streams import REPLY, begun, commit, fed, feed, read, texts

pytestmark = pytest.mark.server


@contextlib.contextmanager
def replicated(count: int) -> Iterator[tuple[Server, list[Server]]]:
    with running("valkey", "--repl-diskless-sync-delay", "0") as primary, contextlib.ExitStack() as stack:
        replicas = [stack.enter_context(running("valkey")) for _ in range(count)]
        for replica in replicas:
            replica.client.replicaof("127.0.0.1", primary.port)
        for replica in replicas:
            wait_for(partial(is_linked, replica), "no replication")
        yield primary, replicas


def test_the_level_is_told(url: str) -> None:
    service = Service(url)
    level = "memory" if url == "memory://" else "primary"
    with service.app.app_context():
        service.convstore.save_session("s", [])
        assert service.convstore.append("s", Message("m")).level == level
    assert service.client.post("/sessions").headers["Convstore-Level"] == level


def test_replicas_have_what_was_acknowledged() -> None:
    with replicated(2) as (primary, replicas):
        service = Service(primary.url, DURABILITY="replicas:2", RETRIES=0, COMMAND_TIMEOUT=1)
        with service.app.app_context():
            service.convstore.save_session("s", {"history": []})
            receipt = service.convstore.append("s", Message("one"))
            assert receipt.level == "replicas:2"
            for replica in replicas:
                assert replica.client.llen("chat:session:{s}:history") == 1
            with service.convstore.turn("s", Message("two")) as turn:
                turn.reply("three")
            assert service.convstore.get_session("s") == {
                "history": ["one", "two", {"role": "assistant", "content": "three"}]
            }
            service.convstore.delete_session("s")


def test_a_shortfall_says_that_the_message_is_written() -> None:
    with replicated(1) as (primary, [replica]):
        service = Service(primary.url, DURABILITY="replicas:1", RETRIES=0, COMMAND_TIMEOUT=0.5)
        session_id = service.start()
        replica.process.send_signal(signal.SIGSTOP)
        try:
            key = {"Idempotency-Key": "once"}
            for _ in range(2):
                refused = problem(
                    service.client.post(f"/sessions/{session_id}/messages", json={"content": "hi"}, headers=key),
                    503,
                    "unavailable",
                )
                assert refused["written"] is True
            with service.app.app_context(), pytest.raises(StoreUnavailable, match="0 of 1 replicas") as caught:
                service.convstore.append(session_id, Message("more"))
            assert caught.value.written is True
        finally:
            replica.process.send_signal(signal.SIGCONT)
        again = service.client.post(f"/sessions/{session_id}/messages", json={"content": "hi"}, headers=key)
        assert (again.status_code, again.headers["Convstore-Level"]) == (201, "replicas:1")
        assert service.get(session_id)["message_count"] == 2


@contextlib.contextmanager
def frozen(replica: Server) -> Iterator[None]:
    """A replica that stands still, for the length of a block."""
    replica.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        replica.process.send_signal(signal.SIGCONT)


def store_on(server: Server, level: str = "primary") -> RedisStore:
    """A store with connections of its own."""
    client = redis.Redis(port=server.port)
    return RedisStore(
        client, "chat:session:", limits_of(Settings()), Patience(timeout=1.0, retries=0), Durability(level)
    )


def test_no_reader_is_told_the_end_of_a_reply_that_replicas_lack() -> None:
    """A fail-over would take it back. The parts before the end are told at once."""
    with replicated(1) as (primary, [replica]):
        reader, writer = store_on(primary, "replicas:1"), store_on(primary)
        turn = begun(writer)
        with frozen(replica):
            fed(writer, feed(turn, 1, b"a"))
            assert texts(read(reader)) == [b"a"]
            writer.apply(commit(turn, 2, b"end"))
            with pytest.raises(StoreUnavailable, match="only 0 of 1 replicas") as caught:
                read(reader)
            assert caught.value.written is False
            assert texts(read(writer)) == [b"a", b"end"]
        wait_for(lambda: told_end(reader), "the end is never told")


def test_a_wait_that_the_deadline_ends_is_no_answer_that_is_too_large() -> None:
    with replicated(1) as (primary, [replica]):
        client, limits = redis.Redis(port=primary.port), limits_of(Settings())
        hurried = RedisStore(
            client, "chat:session:", limits, Patience(timeout=1.0, budget=0.3), Durability("replicas:1")
        )
        begun(store_on(primary))
        hurried.apply(Append(session_id="s", owner=ANY, elements=(REPLY,)))
        with frozen(replica), pytest.raises(StoreUnavailable) as caught:
            hurried.apply(Append(session_id="s", owner=ANY, elements=(REPLY,)))
        assert not isinstance(caught.value, TooSlow)
        assert caught.value.written is None


@pytest.mark.parametrize("is_followed", [False, True])
def test_nobody_is_told_that_a_message_is_stored_that_replicas_lack(*, is_followed: bool) -> None:
    """A turn that is begun again while it is in progress, or after others have written, is refused, and its message kept."""
    with replicated(1) as (primary, [replica]):
        first, second = store_on(primary), store_on(primary, "replicas:1")
        with frozen(replica):
            turn = begun(first)
            if is_followed:
                first.apply(CommitTurn(session_id="s", owner=ANY, turn=turn.attempt, status="unanswered"))
                first.apply(Append(session_id="s", owner=ANY, elements=(REPLY,)))
            with pytest.raises(StoreUnavailable, match="only 0 of 1 replicas") as caught:
                second.begin(replace(turn, attempt="another"))
            assert caught.value.written is True
        wait_for(lambda: is_linked(replica), "no replication")
        with pytest.raises(TurnLost if is_followed else TurnInProgress, match="The message was stored"):
            second.begin(replace(turn, attempt="another"))


def test_no_reply_is_taken_that_replicas_do_not_know_to_be_taken() -> None:
    """Behind a fail-over its producer would have it again."""
    with replicated(1) as (primary, [replica]):
        store = store_on(primary, "replicas:1")
        fed(store, feed(begun(store), 1, b"a"))
        take = TakeReply(session_id="s", owner=ANY, turn="stop", lease_ms=60_000, reply="msg-2", is_over=False)
        with frozen(replica), pytest.raises(StoreUnavailable, match="only 0 of 1 replicas") as caught:
            store.take_reply(take)
        assert caught.value.written is False


@pytest.mark.parametrize("kind", ["append", "delete", "begin", "commit"])
def test_a_repeat_over_another_connection_waits_for_replicas_too(kind: str) -> None:
    """WAIT waits for what its own connection has written, which a repeat has not."""
    with replicated(1) as (primary, [replica]):
        first, second = store_on(primary, "replicas:1"), store_on(primary, "replicas:1")
        turn = begun(first)
        writes: dict[str, Append | Delete | CommitTurn] = {
            "append": Append(session_id="s", owner=ANY, elements=(REPLY,)),
            "delete": Delete(session_id="s", owner=ANY),
            "commit": commit(turn, 1, b"end"),
        }

        def call(store: RedisStore) -> object:
            return store.begin(turn) if kind == "begin" else store.apply(writes[kind])

        with frozen(replica):
            for store in (first, second, first):
                with pytest.raises(StoreUnavailable, match="only 0 of 1 replicas") as caught:
                    call(store)
                assert caught.value.written is True
        wait_for(lambda: is_linked(replica), "no replication")
        call(second)


def told_end(reader: RedisStore) -> bool:
    with contextlib.suppress(StoreUnavailable):
        return texts(read(reader)) == [b"a", b"end"]
    return False


def test_what_too_few_replicas_confirmed_is_saved_once_when_it_is_saved_again() -> None:
    """It is written already: a session, or a mapping's value, that is saved again repeats it by its token."""
    with replicated(1) as (primary, [replica]):
        service = Service(primary.url, DURABILITY="replicas:1", RETRIES=0, COMMAND_TIMEOUT=0.5)
        store, sessions = service.convstore, service.convstore.sessions
        with service.app.app_context():
            session: Any = store.save_session("s", {"history": []})
            sessions["m"] = ["a"]
            with sessions.scope():
                session["history"].append("once")
                sessions["m"].append("once")
                replica.process.send_signal(signal.SIGSTOP)
                try:
                    for call in (lambda: store.save_session("s", session), sessions.flush):
                        with pytest.raises(StoreUnavailable) as caught:
                            call()
                        assert caught.value.written is True
                finally:
                    replica.process.send_signal(signal.SIGCONT)
                store.save_session("s", session)
            assert store.get_session("s") == {"history": ["once"]}
            assert sessions["m"] == ["a", "once"]


def test_a_server_that_lets_nobody_wait_is_refused_before_the_first_write() -> None:
    """Some managed services forbid WAIT. If they begin to while an app runs, the error says that the write is done."""
    with replicated(1) as (primary, _):
        told(primary, "ACL", "SETUSER", "u", "on", ">p", "~*", "&*", "+@all")
        service = Service(f"redis://u:p@{primary.host}:{primary.port}/0", DURABILITY="replicas:1", FALLBACK="none")
        store = service.convstore
        with service.app.app_context():
            store.save_session("a", {"history": []})
            told(primary, "ACL", "SETUSER", "u", "-wait")
            for session_id, written in (("b", True), ("c", False)):
                with pytest.raises(StoreMisconfigured, match="replicas:1 cannot be confirmed") as caught:
                    store.save_session(session_id, {"history": []})
                assert caught.value.written is written
                assert bool(primary.client.exists(f"chat:session:{{{session_id}}}")) is written


def test_what_is_refused_is_not_waited_for() -> None:
    with running("valkey") as server:
        service = Service(server.url, DURABILITY="replicas:1", RETRIES=0, COMMAND_TIMEOUT=0.5)
        problem(service.client.post("/sessions/none/messages", json={"content": "hi"}), 404, "not-found")


def test_a_lifetime_that_is_set_is_waited_for_and_one_that_moves_is_not() -> None:
    with running("valkey") as server:
        session_id = Service(server.url).start()
        service = Service(server.url, DURABILITY="replicas:1", RETRIES=0, COMMAND_TIMEOUT=0.5)
        with service.app.app_context():
            assert service.convstore.get_session(session_id) is not None
            service.convstore.touch(session_id)
            for call in (
                lambda: service.convstore.touch(session_id, ttl=100),
                lambda: service.convstore.share(session_id, "bob"),
            ):
                with pytest.raises(StoreUnavailable, match="0 of 1 replicas") as caught:
                    call()
                assert caught.value.written is True


@pytest.mark.parametrize(
    ("options", "fits"),
    [
        (("--appendonly", "yes", "--appendfsync", "always"), True),
        (("--appendonly", "yes", "--appendfsync", "everysec"), False),
        (("--appendonly", "no", "--appendfsync", "always"), False),
    ],
)
def test_fsync_is_verified_at_first_use(options: tuple[str, ...], fits: bool) -> None:
    with running("valkey", *options) as server:
        service = Service(server.url, DURABILITY="fsync")
        with service.app.app_context():
            if fits:
                service.convstore.save_session("s", {})
                assert service.convstore.append("s", data={"n": 1}).level == "fsync"
            else:
                with pytest.raises(StoreMisconfigured, match=r"appendfsync always\. Nothing was written") as caught:
                    service.convstore.save_session("s", {})
                assert caught.value.written is False
                assert service.convstore.get_session("s") is None


@pytest.mark.parametrize("how", ["CONFIG SET", "a server that starts again without AOF"])
def test_fsync_is_not_acknowledged_once_the_server_has_changed(how: str) -> None:
    with running("valkey", "--appendonly", "yes", "--appendfsync", "always") as server:
        service = Service(server.url, DURABILITY="fsync")
        with service.app.app_context():
            service.convstore.save_session("s", {"history": []})
            assert service.convstore.append("s", Message("one")).level == "fsync"
            if how == "CONFIG SET":
                server.client.config_set("appendfsync", "everysec")
            else:
                server.kill()
                server.start("--appendonly", "no")
            with pytest.raises(StoreMisconfigured, match="a crash of the server may undo it") as caught:
                service.convstore.save_session("s", {"history": ["two"]})
            assert caught.value.written is True
            with pytest.raises(StoreMisconfigured, match="appendfsync always") as caught:
                service.convstore.append("s", Message("three"))
            assert caught.value.written is False
            assert service.convstore.get_session("s") == {"history": ["two"]}
            if how == "CONFIG SET":
                server.client.config_set("appendfsync", "always")
                assert service.convstore.append("s", Message("three")).level == "fsync"


def test_fsync_of_a_service_that_hides_its_configuration_is_refused_clearly() -> None:
    """Managed services forbid CONFIG, INFO and WAIT: all else works."""
    with running("valkey") as server:
        rules = ("-config", "-info", "-wait", "-waitaof")
        client: Any = server.client
        client.execute_command("ACL", "SETUSER", "u", "on", ">p", "~*", "+@all", *rules)
        url = f"redis://u:p@127.0.0.1:{server.port}/0"
        service = Service(url)
        session_id = service.start()
        service.say(session_id)
        assert service.get(session_id)["message_count"] == 1
        strict = Service(url, DURABILITY="fsync")
        with strict.app.app_context(), pytest.raises(StoreMisconfigured, match="cannot be verified"):
            strict.convstore.save_session("s", {})


@pytest.mark.parametrize("level", ["replicas", "replicas:0", "replicas:x", "always", ""])
def test_an_unknown_level_is_refused(level: str) -> None:
    app = Flask("app")
    app.config.update(CONVSTORE_URL="memory://", CONVSTORE_DURABILITY=level)
    with pytest.raises(ConfigurationError, match="DURABILITY"):
        ConversationStore(app)


@pytest.mark.parametrize("reply", [b"PONG", 7, [b"ok", b"nonce", 1], [[b"a", b"b"], b"c"], [b"ok", [1]]])
def test_an_answer_that_belongs_to_another_call_is_not_taken_for_settings(
    valkey: Server, monkeypatch: pytest.MonkeyPatch, reply: Any
) -> None:
    """Behind a proxy that mixes up answers, a 503 said that the server is misconfigured, and some calls died."""
    calls = Calls(valkey.client, durability=Durability("fsync"))
    real = calls._exchange
    monkeypatch.setattr(calls, "_exchange", lambda *given: [*real(*given)[:-1], reply])
    with pytest.raises(StoreUnavailable, match="another call") as caught:
        calls.call(Call("touch", ("s", "s:h", "s:t", "s:g"), ("*", "1", "1", "1", "1", "", "", "0")))
    assert caught.value.written is False
