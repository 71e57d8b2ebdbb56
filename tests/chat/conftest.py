"""A real browser and the chat under a real server. Tests are left out where there is no Playwright or no Chromium."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from ..browser import chromium
from ..servers import Server, programs
from .person import Person
from .site import Site

if TYPE_CHECKING:
    from playwright.sync_api import Browser

Open = Callable[..., Person]


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Chromium. It ends with this folder, as Playwright has a running event loop until then."""
    yield from chromium()


@pytest.fixture(scope="package")
def _site(_servers: dict[str, Server], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    if "valkey" not in _servers:
        _servers["valkey"] = Server(programs()["valkey"])
    started = Site(_servers["valkey"], tmp_path_factory.mktemp("chat"), MAX_MESSAGE_BYTES="20000")
    yield started
    started.close()


@pytest.fixture
def site(_site: Site, valkey: Server) -> Site:
    """The chat, on an empty Valkey. It is the same process for all tests, unless one has killed it."""
    _site.restore()
    return _site


@pytest.fixture
def opened(site: Site, browser: Browser) -> Iterator[Open]:
    """Open the page in a browser of its own, with cookies and storage of its own."""
    with contextlib.ExitStack() as stack:

        def open_page(path: str = "/", **options: object) -> Person:
            context = browser.new_context(viewport={"width": 1100, "height": 800}, **options)  # type: ignore[arg-type]
            stack.callback(context.close)
            return Person(context, f"{site.url}{path}")

        yield open_page


@pytest.fixture
def ada(opened: Open) -> Person:
    """A person who opens the page for the first time."""
    return opened()
