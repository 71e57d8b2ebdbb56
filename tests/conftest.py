"""Fixtures, and the marks by which ``make check`` leaves tests out.

``harness`` gives every kind of store in turn. After each test every key left in a server has a lifetime.

A test has the mark ``server`` if a parameter or a fixture of it names a server. A test that starts one by itself needs the
mark: without it the start fails.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from importlib.metadata import requires, version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fakeredis
import pytest
import redis
from flask import Flask
from packaging.requirements import Requirement

from flask_convstore.app import first_look

from .clocks import Clock
from .harness import Harness, MemoryHarness, PlainConversations, RedisHarness
from .servers import Server, programs
from .service import Service

SERVERS = sorted(programs(), reverse=True)
NAMES_OF_SERVERS = {*SERVERS, "server", "redis_server"}
PROGRAMS_OF_SERVERS = {"valkey-server", "redis-server", "gunicorn", "supervisor.py"}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if isinstance(item, pytest.Function):
            parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
            names = [*item.fixturenames, *(value for value in parameters if isinstance(value, str))]
            if not NAMES_OF_SERVERS.isdisjoint(names):
                item.add_marker("server")


@pytest.fixture(autouse=True)
def _servers_need_a_mark(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.node.get_closest_marker("server"):
        return
    start = subprocess.Popen.__init__

    def checked(self: Any, args: Any, *more: Any, **options: Any) -> None:
        words = [args] if isinstance(args, str) else args
        if not PROGRAMS_OF_SERVERS.isdisjoint(Path(str(word)).name for word in words):
            pytest.fail(
                f"{words} starts a server: mark the test with @pytest.mark.server, so that make check leaves it out"
            )
        start(self, args, *more, **options)

    monkeypatch.setattr(subprocess.Popen, "__init__", checked)


def pytest_report_header() -> str:
    """Versions of packages and servers. The suite has to pass with more than one version of each."""
    needed = [Requirement(line) for line in requires("flask-convstore") or ()]
    packages = [f"{one.name} {version(one.name)}" for one in needed if not one.marker]
    servers = [subprocess.check_output([program, "--version"], text=True).split() for program in programs().values()]
    return ", ".join([*packages, *(" ".join(said[:3]) for said in servers)])


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(("CONVSTORE_", "REDIS_", "OPENAI_")):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _own_instance_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Apps of one test share an instance folder, as the workers of a host do. Apps of two tests do not."""
    monkeypatch.setattr(Flask, "auto_find_instance_path", lambda app: str(tmp_path / "instance"))
    yield
    shutil.rmtree(tmp_path / "instance", ignore_errors=True)  # who would replay a journal there ends


@pytest.fixture(autouse=True)
def _first_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """No thread tells of an outage before the test does. ``test_first_look`` lets it."""
    monkeypatch.setattr(first_look, "look", lambda _: None)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The time of this process, which stands still until the test moves it. Servers and monotonic clocks go on."""
    clock = Clock()
    ticks = SimpleNamespace(
        clock_gettime_ns=lambda _: clock.now * 1_000_000, monotonic_ns=lambda: clock.now * 1_000_000
    )
    monkeypatch.setattr("flask_convstore.domain.clock.time", ticks)
    monkeypatch.setattr("flask_convstore.domain.clock._Offset.ms", 0)
    return clock


@pytest.fixture(scope="session")
def _servers() -> Iterator[dict[str, Server]]:
    started: dict[str, Server] = {}
    yield started
    for server in started.values():
        server.stop()


def server_of(kind: str, servers: dict[str, Server]) -> Iterator[Server]:
    """The server of that kind, empty, for the length of a test."""
    if kind not in servers:
        servers[kind] = Server(programs()[kind])
    server = servers[kind]
    yield server
    check_lifetimes(server.client)
    server.client.flushall()


def check_lifetimes(client: redis.Redis) -> None:
    """No key is ever without a lifetime."""
    immortal = [key for key in client.scan_iter() if client.pttl(key) == -1]
    assert not immortal, f"keys without a lifetime: {immortal}"


@pytest.fixture
def valkey(_servers: dict[str, Server]) -> Iterator[Server]:
    """A real Valkey, empty."""
    yield from server_of("valkey", _servers)


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest, _servers: dict[str, Server]) -> Iterator[Server]:
    """Every real server this machine has, empty."""
    yield from server_of(request.param, _servers)


@pytest.fixture(params=["memory", "fakeredis", *SERVERS])
def harness(request: pytest.FixtureRequest, _servers: dict[str, Server]) -> Iterator[Harness]:
    """Every kind of store, empty."""
    if request.param == "memory":
        yield MemoryHarness()
    elif request.param == "fakeredis":
        client = fakeredis.FakeRedis()
        yield RedisHarness(client)
        check_lifetimes(client)
    else:
        for server in server_of(request.param, _servers):
            yield RedisHarness(server.client)


@pytest.fixture
def conversations(harness: Harness) -> PlainConversations:
    """The operations on every kind of store."""
    return PlainConversations(harness.store)


@pytest.fixture(params=["memory", "valkey"])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a store for apps: in memory, and on a real server."""
    if request.param == "memory":
        yield "memory://"
    else:
        server: Server = request.getfixturevalue("valkey")
        yield server.url


@pytest.fixture
def service(url: str) -> Service:
    """An app with the blueprint."""
    return Service(url)
