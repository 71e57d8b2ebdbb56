"""A real browser and the chat under a real server. Tests are left out where there is no Playwright or no Chromium."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ..servers import Server
from .person import Person
from .site import Site

if TYPE_CHECKING:
    from playwright.sync_api import Browser

Open = Callable[..., Person]


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Chromium. It ends with this folder, as Playwright has a running event loop until then."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="there is no Playwright here: pip install playwright")
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if not program:
        pytest.skip("there is no Chromium here: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def site(valkey: Server, tmp_path: Path) -> Iterator[Site]:
    started = Site(valkey, tmp_path)
    yield started
    started.close()


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
