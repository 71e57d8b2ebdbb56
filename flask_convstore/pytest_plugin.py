"""pytest fixtures for apps that use the extension. They are installed with it, and need no import.

| fixture          | sessions of a test                                                                              |
| ---------------- | ----------------------------------------------------------------------------------------------- |
| convstore_memory | in the process, fast and without a server                                                       |
| convstore_valkey | on a real Valkey, empty for each test. Needs the extra ``flask-convstore[embedded]``, and Linux |

A fixture sets ``CONVSTORE_URL`` in the environment, for apps that are made during the test. Its value is the URL, for apps
that take the URL from elsewhere. An app with ``CONVSTORE_URL`` in its own config needs the value there.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from .config import Settings


@pytest.fixture
def convstore_memory(monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL ``memory://``. Each app has its own sessions, which end with the app."""
    monkeypatch.setenv("CONVSTORE_URL", "memory://")
    return "memory://"


@pytest.fixture
def convstore_valkey(monkeypatch: pytest.MonkeyPatch, _convstore_server: tuple[str, redis.Redis]) -> str:
    """The URL of an empty, real Valkey. All apps of the test share the server, as several workers would."""
    url, client = _convstore_server
    client.flushall()
    monkeypatch.setenv("CONVSTORE_URL", url)
    return url


@pytest.fixture(scope="session")
def _convstore_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, redis.Redis]]:
    """One server for all tests. The server stops by itself when its last user is gone."""
    from .stores.connect import connect  # every run of pytest imports this module

    url = f"embedded://{tmp_path_factory.mktemp('convstore')}"
    client = connect(Settings(url=url), Path())
    yield url, client
    client.close()
    client.connection_pool.disconnect()
