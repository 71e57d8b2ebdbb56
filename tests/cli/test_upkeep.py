"""``repair`` and ``bench``."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask

from flask_convstore import ANY, ConversationStore

from ..conftest import check_lifetimes
from ..servers import Server
from ..topologies import cluster
from .commands import lines, run

HI = {"role": "user", "content": "hi"}


def filled(url: str) -> tuple[Flask, ConversationStore]:
    app = Flask("app")
    app.config.update(CONVSTORE_URL=url, CONVSTORE_FALLBACK="none")
    store = ConversationStore(app)
    with app.app_context():
        for number in range(8):
            store.save_session(f"s{number}", [HI], owner=["ada", None][number % 2])
            store.link(f"telegram:{number}", f"s{number}", owner=["ada", None][number % 2])
    return app, store


HOUR = 3_600_000


def age(server: Server) -> None:
    """Let entries of lists and aliases be an hour old."""
    client: Any = server.client
    for key in client.scan_iter("chat:session:owner:{*}"):
        for name in client.zrange(key, 0, -1):
            client.zincrby(key, -HOUR, name)
    for key in client.scan_iter("chat:session:alias:*"):
        client.pexpire(key, client.pttl(key) - HOUR)


def lose(server: Server, *names: str) -> None:
    for name in names:
        server.client.delete(f"chat:session:{{{name}}}", f"chat:session:{{{name}}}:history")


def test_what_lies_beside_sessions_is_mended(valkey: Server) -> None:
    app, store = filled(valkey.url)
    age(valkey)
    lose(valkey, "s0", "s1")
    valkey.client.zrem("chat:session:owner:{ada}", "s2", "s4")
    wrong = {"stale": 2, "missing": 2, "aliases": 2}
    keys = sorted(valkey.client.scan_iter())
    assert lines(run(valkey.url, "repair", "--dry-run", "--json")) == [{**wrong, "dry_run": True}]
    assert sorted(valkey.client.scan_iter()) == keys
    assert lines(run(valkey.url, "repair", "--json")) == [{**wrong, "dry_run": False}]
    assert lines(run(valkey.url, "repair", "--json")) == [{"stale": 0, "missing": 0, "aliases": 0, "dry_run": False}]
    assert valkey.client.zrange("chat:session:owner:{ada}", 0, -1) == [b"s6", b"s2", b"s4"]
    with app.app_context():
        assert {one.session_id for one in store.list_sessions(owner="ada").sessions} == {"s2", "s4", "s6"}
        assert store.resolve("telegram:2", owner="ada") is not None
        assert store.get_session("s3", owner=ANY) is not None
    check_lifetimes(valkey.client)


def test_what_is_younger_than_a_minute_is_left_alone(valkey: Server) -> None:
    filled(valkey.url)
    lose(valkey, "s0", "s1")
    assert lines(run(valkey.url, "repair", "--json"))[0] == {"stale": 0, "missing": 0, "aliases": 0, "dry_run": False}


def test_a_sound_store_needs_no_repair(valkey: Server) -> None:
    filled(valkey.url)
    age(valkey)
    assert "0 entries of sessions that are gone were removed" in run(valkey.url, "repair").stdout
    assert "needs no repair" in run("memory://", "repair").stderr


@pytest.mark.server
def test_a_cluster_is_mended() -> None:
    with cluster() as found:
        filled(found.url)
        for server in found.primaries:
            age(server)
            for key in server.client.scan_iter("chat:session:{s[02]}*"):
                server.client.delete(key)
        assert lines(run(found.url, "repair", "--json"))[0]["stale"] == 2
        assert lines(run(found.url, "repair", "--json"))[0]["stale"] == 0


def test_a_bench_measures_and_leaves_nothing(valkey: Server) -> None:
    found = {line["kind"]: line for line in lines(run(valkey.url, "bench", "--count", "10", "--json"))}
    assert found.keys() == {"round trip", "append", "read of 11 messages", "read of the last 20"}
    assert all(0 < line["p50_ms"] <= line["p99_ms"] <= line["max_ms"] for line in found.values())
    assert "p99" in run(valkey.url, "bench", "--count", "10").stdout
    assert valkey.client.dbsize() == 0
