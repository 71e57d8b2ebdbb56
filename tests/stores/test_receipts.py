"""Repeats of writes at any age, and the remains of a session."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import fakeredis
import pytest

from flask_convstore.config import limits_of
from flask_convstore.domain.commands import Append, BeginTurn, Command, CommitTurn, Delete, Put
from flask_convstore.domain.types import ANY
from flask_convstore.errors import SessionNotFound
from flask_convstore.stores.memory import MemoryStore
from flask_convstore.stores.redis.store import RedisStore

from ..harness import SETTINGS, TTL, Harness, MemoryHarness, RedisHarness
from ..servers import Server
from .test_store import append, merge, save, upsert

LIMITS = limits_of(SETTINGS)
DAY = 24 * 3_600_000
UUID = "0197a4c2-8d1e-7c3b-9f52-1f6f0c9b7e11"


@pytest.fixture(params=["memory", "fakeredis", "valkey"])
def world(request: pytest.FixtureRequest) -> Iterator[Harness]:
    """A store that knows a young write, as in an app."""
    if request.param == "memory":
        memory = MemoryHarness()
        memory.store = MemoryStore(LIMITS, memory.clock)
        yield memory
        return
    client: Any = fakeredis.FakeRedis() if request.param == "fakeredis" else request.getfixturevalue("valkey").client
    redis = RedisHarness(client)
    redis.store = RedisStore(client, SETTINGS.prefix, LIMITS)
    yield redis


def test_while_a_session_lives_a_repeat_gets_its_receipt(world: Harness) -> None:
    commands: list[Command] = [save("s"), append("s", b"m1"), replace(append("s", b"m2"), token="T", digest="d")]
    first = [world.store.apply(command) for command in commands]
    again = [world.store.apply(command) for command in commands]
    assert [receipt.repeated for receipt in again] == [True] * 3
    for before, after in zip(first, again, strict=True):
        assert (before.version, before.first_seq, before.updated_at_ms) == (
            after.version,
            after.first_seq,
            after.updated_at_ms,
        )
        assert (before.lifetime_ms, before.history_version_before) == (after.lifetime_ms, after.history_version_before)


def test_a_retry_spares_the_session_that_took_the_place_of_a_deleted_one(world: Harness) -> None:
    """The answer was lost. Meanwhile another request has deleted the session, and a third one has begun it anew."""
    late: list[Command] = [save("s", b"m1"), append("s", b"m2"), merge("s", ("a", None, b"1")), upsert("s", b"m3")]
    for command in late:
        world.store.apply(command)
    begun = world.store.begin(BeginTurn(session_id="s", owner=ANY, element=b"{}\nhi", lease_ms=60_000))
    world.store.apply(Delete(session_id="s", owner=ANY))
    world.store.apply(save("s", b"new"))
    for command in late:
        receipt = world.store.apply(command)
        assert (receipt.repeated, receipt.expires_at_ms) == (True, 0)
    assert begun.snapshot
    found = world.store.load("s", ANY)
    assert found
    assert (found.elements, found.version) == ([b"new"], 1)


def test_an_expired_session_takes_receipts_with_it_but_those_that_could_bring_it_back(world: Harness) -> None:
    lasting: list[Command] = [save("s", b"m1"), *(upsert("s", b"%d" % number) for number in range(4))]
    others = [append("s", b"m2"), replace(append("s", b"m3"), token="T", digest="d")]
    for command in (*lasting, *others):
        world.store.apply(command)
    world.expire("s")
    for command in lasting:
        receipt = world.store.apply(command)
        assert (receipt.repeated, receipt.expires_at_ms) == (True, 0)
    for command in others:
        with pytest.raises(SessionNotFound):
            world.store.apply(command)
    assert world.store.load("s", ANY) is None
    assert world.store.has_ended("s", ANY)


def test_a_day_later_nothing_is_known(world: Harness) -> None:
    world.store.apply(start := save("s", b"m1"))
    world.expire("s")
    world.age(TTL + DAY + 1_000)
    assert not world.store.has_ended("s", ANY)
    assert not world.store.apply(start).repeated


def test_of_many_replacements_the_last_four_and_the_first_outlive_a_session(world: Harness) -> None:
    writes: list[Put] = [save("s", b"%d" % number) for number in range(12)]
    for write in writes:
        world.store.apply(write)
    assert all(world.store.apply(write).repeated for write in writes), "all are known while it lives"
    world.expire("s")
    assert all(world.store.apply(write).repeated for write in (writes[0], *writes[-4:]))
    assert world.store.load("s", ANY) is None


def test_a_deleted_session_leaves_the_last_eight_receipts_that_a_client_may_ask_for(world: Harness) -> None:
    world.store.apply(save("s"))
    clients = [replace(append("s", b"m"), token=f"T{number}", digest="d") for number in range(12)]
    for command in clients:
        world.store.apply(command)
    world.store.apply(Delete(session_id="s", owner=ANY))
    world.age(3_600_000)
    world.store.apply(save("s", b"new"))
    assert all(world.store.apply(command).repeated for command in clients[-8:])
    found = world.store.load("s", ANY)
    assert found
    assert found.elements == [b"new"]


def test_what_a_session_leaves_behind_is_small(server: Server) -> None:
    """``MEMORY USAGE`` of all its keys, behind ten turns: a server adds its record of the lifetime, some 50 bytes."""
    store = RedisStore(server.client, SETTINGS.prefix, LIMITS)
    client: Any = server.client
    store.apply(save(UUID, owner="customer-12345", name=b'"Ada"'))
    for number in range(10):
        begin = BeginTurn(session_id=UUID, owner=ANY, element=b'1{"at":1}\n' + b"u" * 200, lease_ms=60_000)
        store.begin(begin)
        reply = (b'1{"at":1}\n' + b"b" * 800,)
        end = CommitTurn(
            session_id=UUID, owner=ANY, turn=begin.attempt, elements=reply, token=f"{begin.token}\n{number}"
        )
        store.apply(replace(end, digest=begin.attempt))
    taken = {key.rpartition(b":")[2]: client.memory_usage(key) for key in client.scan_iter(match="*{0197*")}
    assert taken[b"receipts"] + taken[b"tokens"] <= 0.16 * taken[b"history"]
    client.delete(*(key for key in client.scan_iter(match="*{0197*") if not key.endswith(b":tokens")))
    assert client.memory_usage(f"{SETTINGS.prefix}{{{UUID}}}:tokens") <= 200


def test_a_short_append_costs_a_receipt_of_40_bytes(server: Server) -> None:
    store = RedisStore(server.client, SETTINGS.prefix, LIMITS)
    client: Any = server.client
    store.apply(save(UUID))
    for _ in range(20):
        store.apply(Append(session_id=UUID, owner=ANY, elements=(b"m",)))
    kept: Any = client.hgetall(f"{SETTINGS.prefix}{{{UUID}}}:receipts")
    assert len(kept) == 20
    assert max(len(name) + len(value) for name, value in kept.items()) <= 40
