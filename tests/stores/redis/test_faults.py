"""The world breaks: lost requests, lost and half replies, silence, a stopped server, forgotten scripts, a delete."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flask_convstore.config import Settings, limits_of
from flask_convstore.domain.commands import (
    Append,
    BeginTurn,
    CommitTurn,
    Delete,
    Extend,
    FieldChange,
    Merge,
    MoveConversation,
    NoteAlias,
    Put,
    RenewTurn,
    Touch,
    Update,
    new_token,
)
from flask_convstore.domain.messages import Message, join_element
from flask_convstore.domain.types import ANY, Alias
from flask_convstore.errors import SessionNotFound, StoreUnavailable
from flask_convstore.operations.turns import begin
from flask_convstore.stores.connect import connect, patience_of
from flask_convstore.stores.redis.store import RedisStore

from ...harness import PlainConversations
from ...servers import Server, running
from ...stores.redis.test_store import on
from ...wire import Fault, Proxy

LOST: list[Fault] = ["lost request", "lost reply", "half reply"]


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    with Proxy(("127.0.0.1", server.port)) as proxy:
        yield proxy


def through(proxy: Proxy, **settings: Any) -> RedisStore:
    chosen = Settings(url=proxy.url, **settings)
    store = RedisStore(connect(chosen, Path()), chosen.prefix, limits_of(chosen), patience_of(chosen))
    store._calls._is_verified = True  # faults are for the operation, not for the question for rights before it
    return store


ELEMENT = join_element(1, b'"new"')
SAVED = Put(
    session_id="s",
    owner=ANY,
    mode="replace",
    shape="full",
    fields=(("n", b"1"),),
    elements=(join_element(1, b'"first"'),),
)


def commands() -> dict[str, Any]:
    """One of each kind of write, all on a session with one message and a turn that the attempt ``turn`` has."""
    whose: dict[str, Any] = {"session_id": "s", "owner": ANY}
    change = FieldChange("n", b"1", b"2")
    return {
        "create": Put(session_id="t", owner=ANY, mode="create", shape="list", elements=(ELEMENT,)),
        "replace": Put(mode="replace", shape="full", fields=(("n", b"2"),), elements=(ELEMENT, ELEMENT), **whose),
        "merge": Merge(fields=(change,), history=Extend(2, (ELEMENT,)), **whose),
        "upsert": Merge(
            session_id="t", owner=ANY, fields=(change,), history=Extend(0, (ELEMENT,)), shape="full", creates=True
        ),
        "update": Update(fields=(("n", b"2"),), title="t", ttl_ms=50_000, **whose),
        "append": Append(elements=(ELEMENT, ELEMENT), fields=(("n", b"2"),), **whose),
        "begin": BeginTurn(element=ELEMENT, lease_ms=60_000, supersede=True, **whose),
        "commit": CommitTurn(turn="turn", elements=(ELEMENT,), fields=(change,), **whose),
        "fail": CommitTurn(turn="turn", status="failed", **whose),
        "move": MoveConversation(turn="turn", moved_to="t", **whose),
        "delete": Delete(**whose),
        "renew": RenewTurn(turn="turn", lease_ms=60_000, **whose),
        "touch": Touch(ttl_ms=50_000, **whose),
        "note an alias": NoteAlias(alias=Alias(None, "x"), leads_here=True, **whose),
    }


def begin_anew(server: Server) -> RedisStore:
    """Nothing but a session with a turn in progress."""
    for key in server.client.scan_iter():
        server.client.delete(key)
    store = RedisStore(server.client, "chat:session:", limits_of(Settings()))
    store.apply(replace(SAVED, token=new_token()))
    turn = BeginTurn(session_id="s", owner=ANY, element=ELEMENT, lease_ms=60_000, attempt="turn")
    store.begin(turn)
    return store


def prepare(server: Server) -> RedisStore:
    """The same, on a server that knows every script."""
    for command in commands().values():
        run(begin_anew(server), command)
    return begin_anew(server)


def run(store: RedisStore, command: Any) -> Any:
    return store.begin(command) if isinstance(command, BeginTurn) else store.apply(command)


def state(store: RedisStore) -> Any:
    found = [store.load(session_id, ANY) for session_id in ("s", "t")]
    return [
        snapshot
        and (
            snapshot.version,
            snapshot.fields,
            snapshot.elements,
            snapshot.next_seq,
            snapshot.shape,
            snapshot.title,
            snapshot.moved_to,
            snapshot.aliases,
        )
        for snapshot in found
    ]


@pytest.mark.parametrize(
    ("kind", "fault"),
    [*((kind, "lost reply") for kind in commands()), ("append", "lost request"), ("append", "half reply")],
)
def test_three_losses_in_a_row_leave_one_copy(server: Server, proxy: Proxy, kind: str, fault: Fault) -> None:
    """Each kind of write, where the server has done it and its answer is lost. Other losses are the same to a script."""
    direct = prepare(server)
    run(direct, commands()[kind])
    expected = state(direct)
    direct = begin_anew(server)
    proxy.faults = [fault] * 3
    run(through(proxy, retries=3), commands()[kind])
    assert proxy.faults == []
    assert state(direct) == expected


@pytest.mark.parametrize("fault", LOST)
def test_a_read_survives_losses(server: Server, proxy: Proxy, fault: Fault) -> None:
    direct = prepare(server)
    proxy.faults = [fault] * 3
    snapshot = through(proxy, retries=3).load("s", ANY)
    assert snapshot
    assert snapshot.elements == direct.load("s", ANY).elements  # type: ignore[union-attr]


def test_a_loss_that_outlasts_the_retries_is_told_and_repeatable(server: Server, proxy: Proxy) -> None:
    direct = prepare(server)
    store = through(proxy, retries=1)
    proxy.faults = ["lost reply"] * 2
    command = commands()["append"]
    with pytest.raises(StoreUnavailable) as caught:
        store.apply(command)
    assert caught.value.written is None
    receipt = store.apply(command)
    assert (receipt.repeated, receipt.first_seq) == (True, 4)
    assert len(direct.load("s", ANY).elements) == 4  # type: ignore[union-attr]


def test_silence_ends_in_time(server: Server, proxy: Proxy) -> None:
    direct = prepare(server)
    store = through(proxy, retries=0, command_timeout=0.2)
    proxy.faults = ["black hole"]
    with pytest.raises(StoreUnavailable, match="no answer") as caught:
        store.apply(commands()["append"])
    assert caught.value.written is None
    assert len(direct.load("s", ANY).elements) == 2  # type: ignore[union-attr]
    store.apply(commands()["append"])


def test_a_stopped_server(proxy: Proxy) -> None:
    """SIGSTOP: connections stay open and nobody answers. The server does the work when it goes on."""
    with running("valkey") as server:
        settings = Settings(url=server.url, retries=0, command_timeout=0.2)
        store = RedisStore(connect(settings, Path()), "p:", limits_of(settings), patience_of(settings))
        store.apply(SAVED)
        append = Append(session_id="s", owner=ANY, elements=(ELEMENT,))
        store.apply(append)
        server.process.send_signal(signal.SIGSTOP)
        another = Append(session_id="s", owner=ANY, elements=(ELEMENT,))
        for _ in range(2):
            with pytest.raises(StoreUnavailable):
                store.apply(another)
        server.process.send_signal(signal.SIGCONT)
        store.apply(another)
        assert len(store.load("s", ANY).elements) == 3  # type: ignore[union-attr]


def test_scripts_forgotten_under_load(server: Server) -> None:
    conversations = on(server.client, Settings())
    conversations.save_session("s", {"history": []})
    stop = threading.Event()

    def forget() -> None:
        while not stop.is_set():
            server.client.script_flush()

    forgetting = threading.Thread(target=forget)
    forgetting.start()
    try:
        write_from_threads(conversations, 8, 25)
    finally:
        stop.set()
        forgetting.join()
    check_appends(conversations, 8, 25)


@pytest.mark.parametrize("writers", [8, 32])
def test_many_writers_one_session_one_round_trip_each(server: Server, proxy: Proxy, writers: int) -> None:
    store = through(proxy)
    conversations = PlainConversations(store, Settings())
    conversations.save_session("s", {"history": []})
    write_from_threads(conversations, writers, 2)  # connects
    before = calls(server)
    write_from_threads(conversations, writers, 20, start=2)
    assert calls(server) - before == writers * 20, "one script per append, under any contention"
    check_appends(conversations, writers, 22)


def calls(server: Server) -> int:
    stats: Any = server.client.info("commandstats")
    return sum(stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("evalsha", "eval", "exec"))


def write_from_threads(conversations: PlainConversations, writers: int, count: int, start: int = 0) -> None:
    def write(writer: int) -> None:
        for number in range(start, start + count):
            conversations.append("s", Message(f"{writer}:{number}:a"), Message(f"{writer}:{number}:b"))

    with ThreadPoolExecutor(writers) as pool:
        list(pool.map(write, range(writers)))


def check_appends(conversations: PlainConversations, writers: int, count: int) -> None:
    session = conversations.get_session("s")
    assert isinstance(session, dict)
    history = session["history"]
    assert len(history) == writers * count * 2
    for first, second in zip(history[::2], history[1::2], strict=True):
        assert (first[:-1], first[-1], second[-1]) == (second[:-1], "a", "b"), "torn"
    for writer in range(writers):
        mine = [text for text in history[::2] if text.startswith(f"{writer}:")]
        assert mine == [f"{writer}:{number}:a" for number in range(count)], "out of order"


def test_a_delete_that_races_writes_never_revives(server: Server) -> None:
    """Whatever comes first: after the delete there is nothing, or what was begun anew by a whole save."""
    conversations = on(server.client, Settings())
    for _ in range(30):
        conversations.save_session("s", {"n": 0, "history": []})
        loaded = conversations.get_session("s")
        assert loaded is not None
        loaded["n"] = 1
        barrier = threading.Barrier(4)

        def write(number: int, session: Any = loaded, barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            try:
                if number == 0:
                    conversations.append("s", Message("late"))
                elif number == 1:
                    conversations.save_session("s", session)
                else:
                    turn, _ = begin(conversations.access(), "s", "late")
                    assert turn
                    turn.reply("late")
            except SessionNotFound:
                pass

        threads = [threading.Thread(target=write, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        barrier.wait()
        conversations.delete_session("s")
        for thread in threads:
            thread.join()
        assert conversations.get_session("s") is None
        assert [key for key in server.client.scan_iter(match="*{s}*") if not key.endswith(b":tokens")] == []
