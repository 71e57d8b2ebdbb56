"""The inspector in Chromium: by keyboard, on a phone, in the dark, with and without JavaScript."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest
from flask import redirect

from ..browser import findings
from ..servers import running
from .panel import EVIL_ID, Panel, Served

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = [pytest.mark.slow, pytest.mark.server]

PATHS = {
    "overview": "",
    "sessions": "sessions",
    "searched": "sessions?by=title&q=talk&sort=size",
    "empty": "sessions?q=nothing",
    "session": "session?id=parcel",
    "long": "session?id=long&newer=50",
    "hostile": "session?" + urlencode({"id": EVIL_ID}),
    "delete": "session/delete?id=parcel",
    "gone": "session?id=nothing",
    "problem": "sessions?by=x",
}
FOCUSED = "document.activeElement"
NAME_OF_FOCUSED = f"(({FOCUSED}.getAttribute('aria-label') || {FOCUSED}.textContent).trim())"

Open = Callable[..., "Page"]


@pytest.fixture
def opened(served: Served, browser: Browser) -> Iterator[Open]:
    """Open a page in a browser of its own. Any error of the page fails the test."""
    problems: list[str] = []

    def note(kind: str, text: str) -> None:
        if kind == "error" and "Failed to load resource" not in text:
            problems.append(text)

    with contextlib.ExitStack() as stack:

        def open_page(path: str = "", **options: Any) -> Page:
            context = browser.new_context(**{"viewport": {"width": 1100, "height": 800}, **options})
            stack.callback(context.close)
            page = context.new_page()
            page.on("pageerror", lambda error: problems.append(str(error)))
            page.on("console", lambda message: note(message.type, message.text))
            page.on("dialog", lambda dialog: problems.append(dialog.message))
            page.goto(f"{served.url}/convstore/{path}")
            return page

        yield open_page
    assert problems == []


def tab_to(page: Page, name: str, most: int = 80) -> None:
    """Press Tab until the focus is on something of that name. It can be seen there."""
    for _ in range(most):
        page.keyboard.press("Tab")
        if page.evaluate(NAME_OF_FOCUSED) == name:
            assert page.evaluate(f"getComputedStyle({FOCUSED}).outlineStyle") != "none", name
            return
    pytest.fail(f"no Tab leads to {name!r} in {page.url}")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 1100])
def test_axe_finds_nothing_serious_and_nothing_sticks_out(opened: Open, theme: str, width: int) -> None:
    page = opened(color_scheme=theme, viewport={"width": width, "height": 700}, reduced_motion="reduce")
    base = page.url
    found: list[str] = []
    for name, path in PATHS.items():
        page.goto(base + path)
        for folded in page.query_selector_all("summary"):
            folded.click()
        found += [f"{name}: {one}" for one in findings(page)]
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name
    assert not found, "\n".join(found)


def test_the_dark_is_dark(opened: Open) -> None:
    grounds = [
        opened(color_scheme=theme).evaluate("getComputedStyle(document.body).backgroundColor")
        for theme in ("light", "dark")
    ]
    brightness = [sum(map(int, ground[4:-1].split(","))) for ground in grounds]
    assert brightness[0] > 600
    assert brightness[1] < 150


def test_the_keyboard_is_enough(opened: Open) -> None:
    page = opened()
    page.keyboard.press("Tab")
    assert page.evaluate(NAME_OF_FOCUSED) == "Skip to the content"
    page.keyboard.press("Enter")
    assert page.evaluate(f"{FOCUSED}.id") == "main"
    page.keyboard.press("Tab")
    assert page.evaluate(f"{FOCUSED}.id") == "jump"
    page.keyboard.type("long")
    page.keyboard.press("Enter")
    page.wait_for_url("**/sessions?*q=long*")
    tab_to(page, "A long one " + "x" * 68 + "… long")
    page.keyboard.press("Enter")
    page.wait_for_url("**/session?*")
    tab_to(page, "Older (80)")
    page.keyboard.press("Enter")
    page.wait_for_url("**newer=50*")
    tab_to(page, "Sessions")
    page.keyboard.press("Enter")
    page.wait_for_url("**/sessions")
    tab_to(page, "A parcel parcel")
    page.keyboard.press("Enter")
    page.wait_for_selector("h1:has-text('A parcel')")
    tab_to(page, "Calls track")
    page.keyboard.press("Enter")
    assert page.is_visible('text=\'"name": "track"\' >> visible=true') or "track" in page.inner_text("details[open]")
    tab_to(page, "Delete…")
    page.keyboard.press("Enter")
    page.wait_for_selector("h1:has-text('Delete this session?')")
    tab_to(page, "Keep it")
    page.keyboard.press("Enter")
    page.wait_for_selector("h1:has-text('A parcel')")
    tab_to(page, "Delete…")
    page.keyboard.press("Enter")
    page.wait_for_selector("h1:has-text('Delete this session?')")
    tab_to(page, "Delete for good")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=parcel was deleted.")
    assert page.query_selector("text=A parcel") is None


def test_all_works_without_javascript(opened: Open) -> None:
    page = opened("sessions", java_script_enabled=False)
    page.select_option("#by", "title")
    page.fill("#q", "parcel")
    page.click("text=Search >> nth=-1")
    page.wait_for_selector("text=1 session found")
    page.click("text=A parcel")
    page.click("text=Calls track")
    assert page.is_visible("details[open] pre")
    assert not page.is_visible("#live")
    with page.expect_download() as download:
        page.click("text=Export")
    assert download.value.suggested_filename == "session.jsonl"
    page.click("text=Delete…")
    page.click("text=Delete for good")
    page.wait_for_selector("text=parcel was deleted.")


class TestLive:
    """Following live."""

    def say(self, served: Served, text: str) -> None:
        with served.panel.app.app_context():
            served.panel.convstore.append("parcel", {"role": "user", "content": text}, owner="ada")

    def test_new_messages_come_and_nothing_else_moves(self, opened: Open, served: Served) -> None:
        page = opened("session?id=parcel")
        page.click("text=Calls track")
        page.focus("summary:has-text('Answer of track c1')")
        page.evaluate("scrollTo(0, 40)")
        page.evaluate("document.querySelector('#facts').isOld = true")
        self.say(served, "Said meanwhile")
        page.wait_for_selector("text=Said meanwhile")
        assert page.inner_text("details[open]").startswith("Calls track")
        assert page.evaluate(NAME_OF_FOCUSED) == "Answer of track c1"
        assert page.evaluate("scrollY") == 40
        assert page.evaluate("document.querySelector('#facts').isOld")
        assert "6 messages" in page.inner_text("#facts")

    def test_it_pauses(self, opened: Open, served: Served) -> None:
        page = opened("session?id=parcel")
        asked: list[str] = []
        page.click("#live")
        assert page.get_attribute("#live", "aria-pressed") == "false"
        page.on("request", lambda request: asked.append(request.url))
        self.say(served, "Said in the pause")
        page.wait_for_timeout(3500)
        assert asked == []
        page.click("#live")
        page.wait_for_selector("text=Said in the pause")

    def test_marked_text_stays(self, opened: Open, served: Served) -> None:
        page = opened("session?id=parcel")
        page.evaluate("getSelection().selectAllChildren(document.querySelector('#m1 .text'))")
        self.say(served, "Said meanwhile")
        page.wait_for_selector("#facts:has-text('6 messages')")
        assert page.evaluate("getSelection().toString()") == "Where is my parcel?"
        assert page.query_selector("text=Said meanwhile") is None
        page.evaluate("getSelection().removeAllRanges()")
        page.wait_for_selector("text=Said meanwhile")

    def test_a_session_that_goes_is_told(self, opened: Open, served: Served) -> None:
        page = opened("session?id=parcel")
        with served.panel.app.app_context():
            served.panel.convstore.delete_session("parcel", owner="ada")
        page.wait_for_selector("#notice:has-text('This session is gone.')")
        assert page.is_visible("text=Where is my parcel?")

    @pytest.mark.parametrize("answer", [False, redirect("/login")])
    def test_somebody_who_was_logged_out_is_told(self, opened: Open, served: Served, answer: Any) -> None:
        page = opened("session?id=parcel")
        served.panel.allowed = answer
        page.wait_for_selector("#notice:has-text('You are not let in any more.')")
        served.panel.allowed = True
        page.wait_for_selector("#notice:empty", state="attached")

    def test_an_app_that_is_away_is_told(self, opened: Open) -> None:
        page = opened("session?id=parcel")
        page.context.set_offline(True)
        page.wait_for_selector("#notice:has-text('The app does not answer.')")
        page.context.set_offline(False)
        page.wait_for_selector("#notice:empty", state="attached")

    def test_a_page_comes_when_the_server_is_back(self, browser: Browser) -> None:
        with running("valkey") as server:
            panel = Panel(server.url, BUDGET=0.5, CIRCUIT_FAILURES=1, FALLBACK="none").with_inspector()
            served = Served(panel)
            page = browser.new_page()
            try:
                server.kill()
                page.goto(f"{served.url}/convstore/session?id=back")
                page.wait_for_selector("h1:has-text('The store does not answer')")
                server.start()
                Panel(server.url).save("back", [{"role": "user", "content": "Here again"}])
                page.wait_for_selector("text=Here again >> nth=0")
                assert page.inner_text("#state").startswith("All is well.")
            finally:
                page.close()
                served.close()

    def test_a_list_keeps_its_place(self, opened: Open, served: Served) -> None:
        page = opened("sessions?sort=created")
        page.focus("a:has-text('Talk 5')")
        served.panel.save("fresh", [{"role": "user", "content": "hi"}], title="Fresh")
        page.wait_for_selector("text=Fresh", timeout=20_000)
        assert page.evaluate(NAME_OF_FOCUSED).startswith("Talk 5")
