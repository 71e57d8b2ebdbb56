"""The chaos suite itself: it can be replayed, its network breaks as it says, and a short run breaks no promise."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Iterator
from itertools import islice

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from ..servers import Server, free_port
from .checker import COUNTS, counted
from .clients import plan
from .nemesis import SINGLE, schedule
from .proxy import Proxy
from .report import acknowledged, as_markdown, as_table
from .run import run
from .scenes import SCENES


def test_the_same_seed_asks_for_the_same_things() -> None:
    def steps(seed: str) -> list[object]:
        return list(islice(plan(random.Random(seed), 0.02), 200))

    def faults(seed: str) -> list[object]:
        return [(calm, fault.name, chance.random()) for calm, fault, chance in islice(schedule(SINGLE, seed), 40)]

    for of in (steps, faults):
        assert of("1") == of("1")
        assert of("1") != of("2")


@pytest.fixture
def proxy(valkey: Server) -> Iterator[Proxy]:
    proxy = Proxy(free_port(), valkey.port)
    yield proxy
    proxy.stop()


@pytest.fixture
def client(proxy: Proxy) -> Iterator[redis.Redis]:
    client = redis.Redis(port=proxy.port, socket_timeout=0.2, retry=Retry(NoBackoff(), 0))
    yield client
    client.close()


def test_a_network_that_is_cut(proxy: Proxy, client: redis.Redis) -> None:
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as held:
        held.sendall(b"PING\r\n")
        assert held.recv(100) == b"+PONG\r\n"
        proxy.tell("cut")
        with pytest.raises(ConnectionResetError):
            held.recv(100)
    with pytest.raises(redis.ConnectionError, match="refused"):
        client.ping()
    proxy.tell("pass")
    assert client.ping()


def test_what_a_black_hole_held_arrives_late(proxy: Proxy, client: redis.Redis, valkey: Server) -> None:
    client.ping()
    proxy.tell("hole")
    with pytest.raises(redis.TimeoutError):
        client.set("late", "1", ex=60)
    assert valkey.client.get("late") is None
    proxy.tell("pass")
    deadline = time.monotonic() + 5
    while valkey.client.get("late") is None:
        assert time.monotonic() < deadline


def test_a_lost_reply_was_a_request_that_arrived(proxy: Proxy, client: redis.Redis, valkey: Server) -> None:
    client.ping()
    proxy.tell("lossy", loss=1, seed=1)
    with pytest.raises(redis.ConnectionError):
        client.set("done", "1", ex=60)
    assert valkey.client.get("done") == b"1"


def test_a_slow_network(proxy: Proxy, client: redis.Redis) -> None:
    client.ping()
    proxy.tell("slow", delay=0.05)
    began = time.monotonic()
    client.ping()
    assert time.monotonic() - began >= 0.1


def test_swapped_replies(proxy: Proxy, valkey: Server) -> None:
    proxy.tell("swap", loss=1, seed=1)
    asked = [socket.create_connection(("127.0.0.1", proxy.port), timeout=5) for _ in range(2)]
    asked[0].sendall(b"ECHO a\r\n")
    time.sleep(0.05)
    asked[1].sendall(b"ECHO b\r\n")
    assert [one.recv(100) for one in asked] == [b"$1\r\nb\r\n", b"$1\r\na\r\n"]
    for one in asked:
        one.close()


@pytest.mark.server
@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in SCENES if "hosts" in name or "forgets" in name or "evicts" in name])
def test_a_small_world_keeps_the_promises(name: str) -> None:
    assert SCENES[name](random.Random(name)) == []


@pytest.mark.server
@pytest.mark.chaos
@pytest.mark.parametrize("name", SCENES)
def test_a_small_world_keeps_the_promises_whatever_comes(name: str) -> None:
    for seed in range(3):
        assert SCENES[name](random.Random(seed)) == []


@pytest.mark.server
@pytest.mark.chaos
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # http.client's half-closed sockets
def test_no_promise_is_broken_in_twenty_seconds() -> None:
    result = run("single", 20, seed=1)
    assert counted(result.findings) == dict.fromkeys(COUNTS, 0), as_table(result)
    assert acknowledged(result) > 1_000
    assert len(result.struck) > 1
    assert f"| **lost** | **{0}** |" in as_markdown([result], "the command")
