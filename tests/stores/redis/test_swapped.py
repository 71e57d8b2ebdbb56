"""Replies that a proxy between us and the server gives to other calls than theirs. Nothing is read from such a reply."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from flask_convstore.domain.commands import Append, BeginTurn, LinkAlias, Put
from flask_convstore.domain.messages import join_element
from flask_convstore.domain.types import ANY, Alias
from flask_convstore.errors import StoreUnavailable
from flask_convstore.stores.redis.store import RedisStore

from ...harness import SETTINGS, limits_for
from ...servers import Server

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
    "turn": lambda store: store.turn_remaining_ms("s", "alice"),
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
