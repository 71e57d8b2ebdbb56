"""A real browser, and an inspector under a real server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from ..browser import chromium
from ..servers import Server
from .panel import Panel, Served

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium. It ends with the module, as Playwright has a running event loop until then."""
    yield from chromium()


@pytest.fixture
def served(valkey: Server) -> Iterator[Served]:
    """A filled inspector, on an empty Valkey."""
    panel = Panel(valkey.url).with_inspector()
    panel.seed()
    started = Served(panel)
    yield started
    started.close()
