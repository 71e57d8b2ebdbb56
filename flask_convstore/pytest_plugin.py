"""pytest fixtures for apps that use the extension. They are installed with it, and need no import.

| fixture          | sessions of a test                                                                              |
| ---------------- | ----------------------------------------------------------------------------------------------- |
| convstore_memory | in the process, fast and without a server                                                       |
| convstore_valkey | on a real Valkey, empty for each test. Needs the extra ``flask-convstore[embedded]``, and Linux |

During a test with such a fixture every store of the process keeps its sessions there: also one whose app names another URL
in its config, was given a client, or was made before the test, such as the ``app`` of a module. The fixture goes before all
other fixtures of the test, whatever their scope, and before ``setup_method`` and ``setUp``: what they write is in the test's
store too. After the test an app that was there before has its own store again.

Two things the fixture cannot reach. A process that the test starts follows the environment variable ``CONVSTORE_URL``, which
the fixture sets, unless the app names a URL in its config: let the test give it another one. And code of a module that uses
the store while it is imported, and the values that it keeps, belong to the app's own store.

The fixture's value is the URL. With ``convstore_memory`` lifetimes follow the clock of the process at every moment, so that
a test that sets or freezes it sees sessions expire.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import redis

from .config import Settings, share_keys
from .domain import clock

if TYPE_CHECKING:
    from flask import Flask

    from .app.state import AppState

_FIXTURES = ("convstore_memory", "convstore_valkey")


@pytest.hookimpl(trylast=True)
def pytest_itemcollected(item: pytest.Item) -> None:
    """Let the fixtures go first: an app fixture that saves sessions, even one of all tests, finds the test's store."""
    names: list[str] = getattr(item, "fixturenames", [])
    if not set(_FIXTURES).isdisjoint(names):
        item.fixturenames = sorted(names, key=lambda name: name not in _FIXTURES)  # type: ignore[attr-defined]


@pytest.fixture
def convstore_memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL ``memory://``. Each app has its own sessions, which end with the test."""
    monkeypatch.setattr(clock, "ticks_ms", lambda: int(clock.wall_seconds() * 1000))
    monkeypatch.setattr(clock._Offset, "ms", 0)
    with _led_to("memory://", monkeypatch):
        yield "memory://"


@pytest.fixture
def convstore_valkey(monkeypatch: pytest.MonkeyPatch, _convstore_server: tuple[str, redis.Redis]) -> Iterator[str]:
    """The URL of an empty, real Valkey. All apps of the test share the server, as several workers would."""
    url, client = _convstore_server
    client.flushall()
    with _led_to(url, monkeypatch):
        yield url


@contextlib.contextmanager
def _led_to(url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Lead every store of the process to *url*, and those that were there before back in the end."""
    from . import extension  # every run of pytest imports this module
    from .app import current, state

    make = state.make_state

    def make_there(convstore: Any, app: Flask, settings: Settings, given: object) -> AppState:
        states = app.extensions.get(current.KEY, {})
        others = [other.settings for name, other in states.items() if name != convstore.name]
        return make(convstore, app, _settings_there(settings, url, convstore.name, others), None)

    monkeypatch.setenv("CONVSTORE_URL", url)
    monkeypatch.setattr(state, "make_state", make_there)
    before = [(app, own) for convstore in list(extension.LIVE) for app, own in convstore.states().items()]
    for app, own in before:
        states = app.extensions[current.KEY]
        states[own.convstore.name] = make_there(own.convstore, app, own.settings, None)
    yield
    for app, own in before:
        app.extensions[current.KEY][own.convstore.name] = own


def _settings_there(settings: Settings, url: str, name: str, others: list[Settings]) -> Settings:
    """Change settings so that nothing leaves *url*. Stores that were on two servers keep their keys apart on one."""
    fallback = "memory" if settings.fallback == "journal" else settings.fallback
    there = replace(settings, url=url, fallback=fallback)
    if any(other.url == url and share_keys(there, other) for other in others):
        there = replace(there, prefix=f"{name}:{there.prefix}", conversation_prefix="")
    return there


@pytest.fixture(scope="session")
def _convstore_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, redis.Redis]]:
    """One server for all tests. The server stops by itself when its last user is gone."""
    from .stores.connect import connect  # every run of pytest imports this module

    url = f"embedded://{tmp_path_factory.mktemp('convstore')}"
    client = connect(Settings(url=url), Path())
    yield url, client
    client.close()
    client.connection_pool.disconnect()
