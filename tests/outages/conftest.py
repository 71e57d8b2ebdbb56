"""Hosts that go on with sessions which they do not know whole. A module with hosts of another kind has its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from flask_convstore.stores.memory import MemoryStore

from .test_fallback import LIMITS, Host


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore(LIMITS)


@pytest.fixture
def host(store: MemoryStore, tmp_path: Path) -> Iterator[Host]:
    made = Host(store, tmp_path / "journal", continues=True)
    yield made
    made.close()


@pytest.fixture
def other_host(store: MemoryStore, tmp_path: Path) -> Iterator[Host]:
    made = Host(store, tmp_path / "other", continues=True)
    yield made
    made.close()
