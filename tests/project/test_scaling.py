"""The arithmetic of docs/scaling.md, with figures that can be followed by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.footprint import Footprint, Taken
from benchmarks.scaling import Use, plan

USE = Use(
    lifetime=0.75,
    active=0.25,
    reads=1,
    peak=2,
    model=5,
    threads=10,
    node=10,
    spare=0.2,
    load=0.5,
    snapshot=100,
    replicas=1,
)
FOUND = Footprint(
    program="",
    taken={
        "start": Taken(memory=600, server_us=60, received=100, sent=10, logged=200),
        "data fields": Taken(memory=400, server_us=40, received=0, sent=0, logged=0),
        "turn": Taken(memory=100, server_us=70, received=50, sent=500, logged=30),
        "read the last 20": Taken(memory=0, server_us=10, received=5, sent=300, logged=4),
        "read, a minute later": Taken(memory=0, server_us=30, received=5, sent=300, logged=6),
    },
    started={},
    grown={},
    turns=10,
    text=0,
    left_behind=50,
    nobodys_entry=100,
    connection=1000,
    copied=2000,
)


def test_what_sessions_need_follows_from_what_was_measured() -> None:
    found = plan(3_600_000, USE, FOUND)
    assert (found.starts, found.turns) == (2_000, 20_000), "1,000 and 10,000 a second, twice that at the peak"
    assert found.live == pytest.approx(3_600_000 * 2_000), "600 + 400 + 10 turns"
    assert found.expired == pytest.approx(1_000 * 86_400 * 50)
    assert found.cores == pytest.approx(2 * (1_000 * 100 + 10_000 * (70 + 20 + 10)) / 1e6)
    assert found.threads == 100_000
    assert found.into == pytest.approx(2 * (1_000 * 100 + 10_000 * 55))
    assert found.out_of == pytest.approx(2 * (1_000 * 10 + 10_000 * 800))
    assert found.replicated == pytest.approx(2 * (1_000 * 200 + 10_000 * (30 + 2 + 4)))
    assert found.logged == pytest.approx(86_400 * (1_000 * 200 + 10_000 * 36))
    assert found.nobodys == pytest.approx(2 * 3_600_000 * 100)
    assert found.nobodys_core == pytest.approx(2 * 11_000 * 20 / 1e6)


def test_primaries_are_as_few_as_memory_and_cores_allow() -> None:
    by_cores = plan(3_600_000, USE, FOUND)
    assert by_cores.primaries == 5, "2.2 cores, half of one each"
    assert by_cores.copied == pytest.approx(4_000 * (11.52e9 / 5 / 1e8) * 2_000)
    assert by_cores.month == 5 * 2 * 10 * USE.price
    by_memory = plan(3_600_000, replace(USE, load=100), FOUND)
    assert by_memory.primaries == 3, "two would do, with 6.9 GB of 8 in each, but three are the least of a Cluster"
    assert plan(36_000, USE, FOUND).primaries == 1


def test_no_more_is_copied_than_there_is() -> None:
    assert plan(3_600_000, replace(USE, snapshot=0.001, node=1_000), FOUND).copied == pytest.approx(11.52e9 / 5)
