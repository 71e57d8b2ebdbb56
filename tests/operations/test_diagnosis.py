"""Findings that no server of the tests gives."""

from __future__ import annotations

from typing import Any

import pytest

from flask_convstore.config import Settings
from flask_convstore.operations.diagnosis import Finding, latency, of_server, percentile, size, worst
from flask_convstore.stores.redis.survey import ServerFacts

GOOD = {"redis_version": "7.4.1", "aof_enabled": "1", "role": "master", "maxmemory_policy": "noeviction"}


def findings(info: dict[str, str], settings: Settings | None = None, **changed: Any) -> dict[str, Finding]:
    """Findings about a server that are not ok, by what they are about."""
    facts = {
        "name": "host:1",
        "database": 0,
        "info": info,
        "config": {"save": "", "appendfsync": "everysec"},
        "ahead_ms": 0.0,
        "pings_ms": (0.1, 0.2),
        "lacking": (),
        "has_keys": True,
        "elsewhere": (),
        **changed,
    }
    found = of_server(ServerFacts(**facts), settings or Settings(), 1)
    return {one.about: one for one in found if one.state != "ok"}


def test_a_good_server_has_no_fault() -> None:
    assert findings(GOOD) == {}
    assert findings({**GOOD, "valkey_version": "8.0.0"}) == {}


@pytest.mark.parametrize(
    ("info", "about", "state"),
    [
        ({"redis_version": "6.2.14"}, "server", "problem"),
        ({"valkey_version": "7.2.0"}, "server", "problem"),
        ({"aof_last_write_status": "err"}, "saving", "problem"),
        ({"role": "slave"}, "role", "problem"),
        ({"maxmemory_policy": "volatile-lru", "maxmemory": "1000000000"}, "eviction", "problem"),
        ({"used_memory": "85", "total_system_memory": "100"}, "memory", "warning"),
        ({"used_memory": "99000000", "maxmemory": "100000000"}, "memory", "problem"),
        ({"aof_enabled": "0"}, "persistence", "problem"),
    ],
)
def test_each_fault_has_a_cure(info: dict[str, str], about: str, state: str) -> None:
    found = findings({**GOOD, **info})
    assert found.keys() == {about}
    assert found[about].state == state
    assert found[about].cure.endswith(".")
    assert found[about].text.endswith(".")


def test_what_a_server_does_not_tell_is_a_warning() -> None:
    assert findings({}).keys() == {"server"}
    assert findings(GOOD, ahead_ms=None)["clock"].state == "warning"
    hidden = findings({**GOOD, "aof_enabled": "0"}, config={})
    assert hidden["persistence"].state == "warning"


def test_keys_in_two_databases_are_a_warning_and_in_another_one_a_problem() -> None:
    assert findings(GOOD, elsewhere=(3,))["database"].state == "warning"
    assert findings(GOOD, elsewhere=(3,), has_keys=False)["database"].state == "problem"


def test_a_slow_server_is_a_warning() -> None:
    assert latency("x", [0.1] * 100).state == "ok"
    assert latency("x", [30.0] * 100).state == "warning"
    assert latency("x", [0.1] * 98 + [900.0] * 2).state == "warning"


def test_the_worst_finding_counts() -> None:
    states: list[Any] = ["ok", "warning", "problem"]
    found = [Finding("x", state, "") for state in states]
    assert [worst(found[:count]) for count in (0, 1, 2, 3)] == ["ok", "ok", "warning", "problem"]


def test_percentiles_and_sizes() -> None:
    assert [percentile(range(100), share) for share in (0, 0.5, 0.99, 1)] == [0, 50, 99, 99]
    assert [size(count) for count in (0, 1023, 1024, 1536, 2**20 * 16, 2**40 * 3, 2**52)] == [
        "0 bytes",
        "1023 bytes",
        "1.0 KB",
        "1.5 KB",
        "16 MB",
        "3.0 TB",
        "4096 TB",
    ]
