"""The memory store alone: it has a clock, so that times are exact to the millisecond, and it forgets expired sessions."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flask_convstore.domain.commands import Delete, LinkAlias
from flask_convstore.domain.types import ANY, Alias
from flask_convstore.errors import TurnInProgress

from ..harness import TTL, MemoryHarness
from ..stores.test_store import save, take


def test_what_has_expired_is_forgotten() -> None:
    harness = MemoryHarness()
    for number in range(1_000):
        harness.store.apply(save(f"s{number}", b"m"))
    harness.age(3_600_000)
    assert harness.store.load("s5", ANY) is None
    harness.age(24 * 3_600_000 + 1)
    for number in range(2_000):
        harness.store.apply(save(f"t{number}"))
        harness.age(1)
    assert len(harness.store._sessions) == len(harness.store._tokens) == 2_000
    assert not any(name.startswith("s") for name in harness.store._sessions)


def test_little_traffic_forgets_too() -> None:
    harness = MemoryHarness()
    for number in range(30):
        harness.store.apply(save(f"s{number}"))
    harness.age(48 * 3_600_000)
    harness.store.apply(save("one"))
    assert list(harness.store._sessions) == list(harness.store._tokens) == ["one"]


def test_a_lifetime_ends_in_its_millisecond() -> None:
    harness = MemoryHarness()
    harness.store.apply(save("s"))
    harness.age(TTL - 1)
    assert harness.store.load("s", ANY, is_interaction=False)
    harness.age(1)
    assert harness.store.load("s", ANY, is_interaction=False) is None


def test_a_tombstone_ends_in_its_millisecond() -> None:
    harness = MemoryHarness()
    harness.store.apply(save("s"))
    harness.store.apply(Delete(session_id="s", owner=ANY))
    harness.age(24 * 3_600_000 - 1)
    assert harness.store.has_ended("s", ANY)
    harness.age(1)
    assert not harness.store.has_ended("s", ANY)


def test_a_lease_ends_in_its_millisecond() -> None:
    harness = MemoryHarness()
    harness.store.apply(save("s"))
    harness.store.begin(take(lease_ms=1_000))
    harness.age(999)
    with pytest.raises(TurnInProgress) as caught:
        harness.store.begin(take())
    assert caught.value.retry_after_ms == 1
    harness.age(1)
    harness.store.begin(take())


def test_an_alias_ends_in_its_millisecond() -> None:
    harness = MemoryHarness()
    alias = Alias(None, "a")
    harness.store.link(LinkAlias(alias=alias, session_id="s", expected=None, lifetime_ms=1_000))
    harness.age(999)
    assert harness.store.follow(alias, 0) == "s"
    harness.age(1)
    assert harness.store.follow(alias, 0) is None


def test_a_successor_begins_one_millisecond_after_the_end() -> None:
    harness = MemoryHarness()
    now = harness.clock.now
    for number in range(3):
        assert harness.store.apply(save("s")).created_at_ms == now + number
        harness.store.apply(Delete(session_id="s", owner=ANY))


def test_a_session_is_kept_longer_never_shorter() -> None:
    harness = MemoryHarness()
    harness.store.keep("s", harness.clock.now + 1)
    harness.store.apply(save("s"))
    end = harness.clock.now + TTL
    for until, expected in ((end + 5, end + 5), (end - 5, end + 5)):
        harness.store.keep("s", until)
        assert harness.ends("s") == [expected]


def test_what_it_says_of_itself() -> None:
    about = MemoryHarness().store.about()
    assert (about.server, about.version, about.role) == ("memory", None, "primary")


def test_a_greatest_age_that_came_later_ends_in_its_millisecond() -> None:
    harness = MemoryHarness()
    harness.store.apply(save("s"))
    harness.store._limits = replace(harness.store._limits, max_age_ms=1_000)
    harness.age(999)
    assert harness.store.load("s", ANY, is_interaction=False)
    harness.age(1)
    assert harness.store.load("s", ANY, is_interaction=False) is None


def test_a_full_bucket_is_forgotten() -> None:
    harness = MemoryHarness()
    harness.store.spend("alice", 5)
    harness.age(60_001)
    harness.store.apply(save("s"))
    assert not harness.store._buckets
