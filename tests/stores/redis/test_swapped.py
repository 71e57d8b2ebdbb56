"""Replies that a proxy between us and the server gives to other calls than theirs. Nothing is read from such a reply."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from redis import exceptions

from flask_convstore.config import Settings
from flask_convstore.domain.commands import Append, BeginTurn, LinkAlias, Put
from flask_convstore.domain.messages import join_element
from flask_convstore.domain.types import ANY, Alias
from flask_convstore.errors import StoreUnavailable
from flask_convstore.stores.connect import connect, patience_of
from flask_convstore.stores.redis.store import RedisStore

from ...harness import SETTINGS, limits_for
from ...servers import Server
from ...wire import Proxy

READS: dict[str, Callable[[RedisStore], Any]] = {
    "load": lambda store: store.load("s", "alice", is_interaction=False),
    "load another": lambda store: store.load("t", "bob", is_interaction=False),
    "load none": lambda store: store.load("nowhere", "bob"),
    "messages": lambda store: store.messages("s", "alice", None, 1),
    "page": lambda store: store.page("alice"),
    "another's page": lambda store: store.page("bob"),
    "nobody's page": lambda store: store.page(None),
    "all": lambda store: store.page(ANY),
    "follow": lambda store: store.follow(Alias("alice", "x"), 1000),
    "turn": lambda store: store.turn_lease("s", "alice"),
    "ended": lambda store: store.has_ended("s", "alice"),
    "salvage": lambda store: store.salvage("s", "alice"),
    "traces": lambda store: store.traces("alice"),
    "time": lambda store: store.time_ms() > 0,
    "ping": lambda store: store.ping() > 0,
    "about": lambda store: store.about(),
}


@pytest.fixture
def store(server: Server) -> RedisStore:
    made = RedisStore(server.client, "swapped:", limits_for(SETTINGS))
    element = join_element(1, b'"a"')
    for session_id, owner in (("s", "alice"), ("t", "bob")):
        made.apply(Put(session_id=session_id, owner=owner, mode="create", shape="full", elements=(element,)))
        made.apply(Append(session_id=session_id, owner=owner, elements=(element,)))
    made.link(LinkAlias(alias=Alias("alice", "x"), expected=None, session_id="s", lifetime_ms=60_000))
    return made


def without_times(found: Any) -> str:
    return re.sub(r"expires_at_ms=\d+", "", repr(found))


def answers_to(store: RedisStore, read: Callable[[RedisStore], Any], monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The replies of the server to a read."""
    exchange, answers = store._calls._exchange, []

    def record(*arguments: Any) -> Any:
        answers.append(exchange(*arguments))
        return answers[-1]

    with monkeypatch.context() as patched:
        patched.setattr(store._calls, "_exchange", record)
        read(store)
    return answers


def swap(store: RedisStore, answers: list[Any], patched: pytest.MonkeyPatch) -> None:
    """Give the next calls these *answers*, cut to the number of replies that they wait for."""
    exchange = store._calls._exchange

    def swapped(*arguments: Any) -> Any:
        own = exchange(*arguments)
        return (answers.pop(0) * len(own))[: len(own)] if answers else own

    patched.setattr(store._calls, "_exchange", swapped)


@pytest.mark.parametrize("name", READS)
def test_a_reply_of_another_read_is_never_used(store: RedisStore, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    right = without_times(READS[name](store))
    for other, read in READS.items():
        answers = answers_to(store, read, monkeypatch)
        with monkeypatch.context() as patched:
            swap(store, answers, patched)
            found = right
            with contextlib.suppress(StoreUnavailable):
                found = without_times(READS[name](store))
            assert found == right, other


def test_a_turn_whose_session_cannot_be_read_tells_that_its_message_is_stored(
    store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was begun before, or others have written just behind it: the session is read by itself."""
    element = join_element(1, b'"q"')
    command = BeginTurn(session_id="s", owner="alice", element=element, lease_ms=0)
    store.begin(command)
    (exchange, calls), other = (
        (store._calls._exchange, list[Any]()),
        answers_to(store, READS["load another"], monkeypatch),
    )

    def swapped(*arguments: Any) -> Any:
        calls.append(arguments)
        return exchange(*arguments) if len(calls) == 1 else other[0]

    with monkeypatch.context() as patched, pytest.raises(StoreUnavailable, match=r"belongs to another call") as caught:
        patched.setattr(store._calls, "_exchange", swapped)
        store.begin(replace(command, attempt="another"))
    assert caught.value.written is True
    assert len(calls) == 2


ERRORS = {
    "full": exceptions.OutOfMemoryError("command not allowed when used memory > 'maxmemory'."),
    "loading": exceptions.BusyLoadingError("Redis is loading the dataset in memory"),
    "read only": exceptions.ReadOnlyError("You can't write against a read only replica."),
    "another type": exceptions.ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value"),
    "not permitted": exceptions.NoPermissionError("this user has no permissions to run the 'evalsha' command"),
    "unknown script": exceptions.NoScriptError("No matching script."),
    "any": exceptions.ResponseError("ERR something else"),
}


def with_errors(store: RedisStore, error: Exception, count: int, patched: pytest.MonkeyPatch) -> None:
    """Give so many of the next calls, which are done, an *error* of another call."""
    exchange, left = store._calls._exchange, [count]

    def swapped(*arguments: Any) -> Any:
        own = exchange(*arguments)
        left[0] -= 1
        return [error] * len(own) if left[0] >= 0 else own

    patched.setattr(store._calls, "_exchange", swapped)


@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
def test_an_error_of_another_call_is_not_believed(
    store: RedisStore, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """It carries no nonce, so that the call is made again, with the same token, where errors are proved too."""
    for name, read in READS.items():
        right = without_times(read(store))
        with monkeypatch.context() as patched:
            with_errors(store, error, 1, patched)
            assert without_times(read(store)) == right, name
    command = Append(session_id="s", owner="alice", elements=(join_element(1, b'"b"'),))
    with monkeypatch.context() as patched:
        with_errors(store, error, 1, patched)
        if error is ERRORS["any"]:  # it says that a part may be written, and that may be true
            with pytest.raises(StoreUnavailable) as caught:
                store.apply(command)
            assert caught.value.written is None
        else:
            assert store.apply(command).repeated
    found = store.load("s", "alice")
    assert found
    assert [element.partition(b"\n")[2] for element in found.elements] == [b'"a"', b'"a"', b'"b"']


def test_an_error_of_another_call_comes_over_the_wire(valkey: Server) -> None:
    with Proxy(("127.0.0.1", valkey.port)) as proxy:
        settings = Settings(url=proxy.url)
        made = RedisStore(connect(settings, Path()), "swapped:", limits_for(SETTINGS), patience_of(settings))
        made.apply(Put(session_id="s", owner=None, mode="create", shape="full"))
        made.apply(Append(session_id="s", owner=None, elements=(join_element(1, b'"a"'),)))
        proxy.faults = ["another's error"]
        assert made.apply(Append(session_id="s", owner=None, elements=(join_element(1, b'"b"'),))).version == 3
        found = made.load("s", None)
        assert found
        assert (len(found.elements), proxy.faults) == (2, [])
        made.close()


def test_an_error_that_cannot_be_proved_says_that_the_write_may_be_done(
    store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reply to the second try is another call's, too."""
    exchange, calls = store._calls._exchange, list[Any]()

    def swapped(*arguments: Any) -> Any:
        own = exchange(*arguments)
        calls.append(own)
        return [ERRORS["full"]] if len(calls) == 1 else [b"another"] * len(own)

    with monkeypatch.context() as patched, pytest.raises(StoreUnavailable, match="belongs to another call") as caught:
        patched.setattr(store._calls, "_exchange", swapped)
        store.apply(Append(session_id="s", owner="alice", elements=(join_element(1, b'"b"'),)))
    assert caught.value.written is None
