"""A real browser, and axe in its pages."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

AXE = Path(__file__).parent / "chat" / "vendor" / "axe.min.js"


def chromium() -> Iterator[Browser]:
    """Start Chromium, for a fixture. Its test is left out where there is no Playwright or no Chromium."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="there is no Playwright here: pip install playwright")
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if not program:
        pytest.skip("there is no Chromium here: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield started
        started.close()


def findings(page: Page) -> list[str]:
    """Serious and critical findings of axe."""
    page.evaluate(AXE.read_text("utf-8") + "; undefined")
    found: Any = page.evaluate("async () => (await axe.run(document, {resultTypes: ['violations']})).violations")
    return [
        f"{one['id']}: {node['html'][:120]} {node['failureSummary'][:200]}"
        for one in found
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]
