"""pytest fixtures for apps that use the extension. Installed with it: there is nothing to import.

| fixture          | where the sessions of a test lie                                                            |
| ---------------- | ------------------------------------------------------------------------------------------- |
| convstore_memory | in the process; nothing to install, and fast                                                |
| convstore_valkey | on a real Valkey, empty for each test; needs the extra ``flask-convstore[embedded]``, Linux |

Each sets ``CONVSTORE_URL`` in the environment, for apps that are made during the test, and is its value, for those that take
it from elsewhere. An app with ``CONVSTORE_URL`` in its own config needs the value there.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from .config import Settings


@pytest.fixture
def convstore_memory(monkeypatch: pytest.MonkeyPatch) -> str:
    """``memory://``: each app that is made has its own sessions, and they end with it."""
    monkeypatch.setenv("CONVSTORE_URL", "memory://")
    return "memory://"


@pytest.fixture
def convstore_valkey(monkeypatch: pytest.MonkeyPatch, _convstore_server: tuple[str, redis.Redis]) -> str:
    """The URL of a real Valkey without a key. All apps of the test share it, as several workers would."""
    url, client = _convstore_server
    client.flushall()
    monkeypatch.setenv("CONVSTORE_URL", url)
    return url


@pytest.fixture(scope="session")
def _convstore_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, redis.Redis]]:
    """One server for all tests; it stops by itself when the last of its users is gone."""
    from .stores.connect import connect  # every run of pytest imports this module

    url = f"embedded://{tmp_path_factory.mktemp('convstore')}"
    client = connect(Settings(url=url), Path())
    yield url, client
    client.close()
    client.connection_pool.disconnect()
