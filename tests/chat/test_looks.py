"""Accessibility by axe in the main states, long conversations, narrow and wide windows, and the keyboard."""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from pathlib import Path

import pytest

from ..browser import AXE, findings
from .conftest import Open
from .person import Person

ROOT = Path(__file__).parents[2]
FOLDERS = [ROOT / "examples" / "chat" / "static" / "vendor", AXE.parent]

FOCUSED = "document.activeElement.id"

real = [pytest.mark.slow, pytest.mark.server]


@pytest.mark.parametrize("folder", FOLDERS, ids=["page", "tests"])
def test_files_of_others_are_those_that_were_reviewed(folder: Path) -> None:
    rows = re.findall(r"^\| `([^`]+)` \| .* \| `(\w{64})` \|$", (folder / "VENDORED.md").read_text("utf-8"), re.M)
    assert {path.name for path in folder.iterdir()} == {"VENDORED.md", *(name for name, _ in rows)}
    for name, told in rows:
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == told, name


def test_the_pictures_are_small() -> None:
    pictures = list((ROOT / "docs" / "assets").glob("chat*"))
    assert {path.suffix for path in pictures} == {".png", ".webp"}
    assert sum(path.stat().st_size for path in pictures) < 600_000


def imported(person: Person, count: int, title: str | None = "Long") -> str:
    """A conversation of so many messages."""
    session_id = str(uuid.uuid4())
    bodies = [
        {"role": "assistant" if number % 2 else "user", "content": f"Number {number} with **some** words. " * 5}
        for number in range(1, count + 1)
    ]
    messages = [{"created_at_ms": 1_700_000_000_000 + place, "body": body} for place, body in enumerate(bodies)]
    line = json.dumps({"session_id": session_id, "shape": "full", "title": title, "data": {}, "messages": messages})
    answer = person.context.request.post(
        f"{person.url}sessions/import", data=line, headers={"Content-Type": "application/x-ndjson"}
    )
    assert answer.status == 200, answer.text()
    assert answer.json()["imported"] == 1
    return session_id


class TestInABrowser:
    """The page in Chromium."""

    pytestmark = real

    @pytest.mark.parametrize("theme", ["light", "dark"])
    def test_axe_finds_nothing_serious(self, opened: Open, theme: str) -> None:
        ada = opened(color_scheme=theme, reduced_motion="reduce")
        found = {"welcome": findings(ada.page)}
        ada.ask("Show me some code")
        ada.ask("Show me a table")
        ada.page.click("#open-panel")
        ada.page.wait_for_selector("#facts dd")
        found["talk"] = findings(ada.page)
        ada.press("Edit and send again", 0)
        found["edit"] = findings(ada.page)
        ada.page.keyboard.press("Escape")
        ada.page.click("#login")
        found["sign in"] = findings(ada.page)
        ada.page.keyboard.press("Escape")
        ada.send("Count to 30")
        ada.until_coming()
        found["reply"] = findings(ada.page)
        ada.until_idle(6)
        ada.page.set_viewport_size({"width": 360, "height": 740})
        ada.page.click("#close-panel")
        ada.page.click("#open-side")
        ada.page.wait_for_timeout(300)
        found["drawer"] = findings(ada.page)
        ada.page.get_by_role("button", name="Delete: ").click()
        found["undo"] = findings(ada.page)
        ada.go_offline()
        ada.page.click("#close-side")
        ada.send("This waits")
        ada.until_banner("cannot be reached")
        found["offline"] = findings(ada.page)
        problems = "\n".join(f"{state}: {one}" for state, each in found.items() for one in each)
        assert not problems, problems

    @pytest.mark.parametrize("theme", ["light", "dark"])
    def test_axe_finds_nothing_serious_where_something_is_wrong(self, opened: Open, theme: str) -> None:
        ada = opened(color_scheme=theme, reduced_motion="reduce")
        ada.page.fill("#search", "nowhere")
        found = {"nothing": findings(ada.page)}
        ada.page.fill("#search", "")
        ada.send("Count to 300")
        ada.until_coming()
        ada.page.click("#stop")
        ada.until_idle(2)
        ada.send("long " * 5000)
        ada.until(lambda shown: shown[-1].status == "failed")
        found["stopped, and refused"] = findings(ada.page)
        ada.page.click("#login")
        found["what is lost"] = findings(ada.page)
        ada.page.keyboard.press("Escape")
        tab = ada.another_tab()
        tab.page.get_by_role("button", name="Delete: Count to 300").click()
        ada.page.wait_for_selector("#removed:not([hidden])")
        found["deleted elsewhere"] = findings(ada.page)
        ada.goto(f"{ada.url}c/{uuid.uuid4()}")
        ada.page.wait_for_selector("#gone:not([hidden])")
        found["gone"] = findings(ada.page)
        ada.page.click("#login")
        ada.page.fill("#name", "Ada")
        ada.page.keyboard.press("Enter")
        ada.page.wait_for_selector("#logout")
        ada.page.wait_for_selector("body[data-is-ready]")
        ada.go_offline()
        ada.send("This waits")
        ada.page.click("#logout")
        found["sign out"] = findings(ada.page)
        problems = "\n".join(f"{state}: {one}" for state, each in found.items() for one in each)
        assert not problems, problems

    def test_a_long_conversation_does_not_stutter(self, ada: Person) -> None:
        ada.goto(f"{ada.url}c/{imported(ada, 5000)}")
        ada.until(lambda shown: shown and shown[-1].words[:2] == ["Number", "5000"])
        ada.page.evaluate(
            """() => {
                window.longest = 0;
                const note = list => list.getEntries().forEach(each => { longest = Math.max(longest, each.duration); });
                new PerformanceObserver(note).observe({entryTypes: ["longtask"]});
            }"""
        )
        for count in (150, 250):
            top = "document.querySelector('#messages > li').getBoundingClientRect().top"
            ada.page.evaluate("document.getElementById('scroll').scrollTop = 0")
            first = ada.page.locator("#messages > li").first.element_handle()
            assert first
            before = first.evaluate("item => item.getBoundingClientRect().top")
            ada.page.click("#older")
            ada.until(lambda shown, count=count: len(shown) >= count)  # type: ignore[misc]
            assert abs(first.evaluate("item => item.getBoundingClientRect().top") - before) < 60, top
        ada.page.click("#latest")
        ada.send("Count to 60")
        ada.until(lambda shown: shown[-1].words[-1:] == ["60"])
        assert ada.page.evaluate("longest") < 400  # milliseconds, on a busy machine

    def test_without_a_title_the_first_message_is_the_title(self, ada: Person) -> None:
        """As behind an outage, when the journal has taken the conversation."""
        ada.goto(f"{ada.url}c/{imported(ada, 2, title=None)}")
        ada.until_idle(2)
        title = ("Number 2 with **some** words. " * 5)[:80]
        assert ada.page.text_content("#title") == title
        ada.until(lambda _: ada.titles() == [title])

    def test_nothing_sticks_out(self, ada: Person) -> None:
        ada.ask("W" * 300)
        ada.ask("Show me some code")
        ada.ask("مرحبا بالعالم 🎉 👩‍👩‍👧")
        for width in (320, 360, 800, 1600, 2560):
            ada.page.set_viewport_size({"width": width, "height": 700})
            widths = "[document.documentElement.scrollWidth, document.getElementById('scroll').scrollWidth]"
            assert max(ada.page.evaluate(widths)) <= width

    def test_the_keyboard_is_enough(self, ada: Person) -> None:
        keyboard = ada.page.keyboard
        focused = "document.activeElement.id"
        assert ada.page.evaluate(focused) == "text"
        keyboard.type("One")
        keyboard.press("Shift+Enter")
        keyboard.type("Two")
        keyboard.press("Enter")
        assert ada.until_idle(2)[0].text == "One\nTwo"
        keyboard.press("ArrowUp")
        assert ada.page.evaluate("document.activeElement.value") == "One\nTwo"
        keyboard.press("Escape")
        keyboard.press("Control+k")
        ada.page.wait_for_selector("#welcome:not([hidden])")
        ada.page.locator("#scroll").focus()
        keyboard.press("/")
        assert ada.page.evaluate(focused) == "search"
        keyboard.press("ArrowDown")
        keyboard.press("Enter")
        ada.until_idle(2)
        ada.check()

    def test_the_drawer_has_the_focus_while_it_is_open(self, ada: Person) -> None:
        ada.page.set_viewport_size({"width": 360, "height": 740})
        ada.page.click("#open-side")
        assert ada.page.evaluate(FOCUSED) == "close-side"
        assert ada.page.evaluate("['#scroll', '#composer', '.bar'].every(each => document.querySelector(each).inert)")
        ada.page.keyboard.press("Escape")
        assert ada.page.evaluate(FOCUSED) == "open-side"
        assert ada.page.evaluate("document.querySelector('[inert]')") is None
        ada.page.keyboard.press("/")
        assert ada.page.evaluate(FOCUSED) == "search"
        ada.page.click("#new")
        assert ada.page.evaluate(FOCUSED) == "text"

    def test_escape_closes_what_is_happening(self, ada: Person) -> None:
        ada.page.click("#open-panel")
        ada.page.wait_for_selector("#panel:not([hidden])")
        ada.reload()
        ada.page.wait_for_selector("#panel:not([hidden])")
        ada.page.set_viewport_size({"width": 360, "height": 740})
        ada.reload()
        assert ada.page.is_hidden("#panel")
        ada.page.click("#open-panel")
        ada.page.focus("#close-panel")
        ada.page.keyboard.press("Escape")
        assert ada.page.is_hidden("#panel")
        assert ada.page.evaluate(FOCUSED) == "open-panel"

    def test_the_focus_is_never_lost(self, ada: Person) -> None:
        ada.write("Hello")
        ada.page.dblclick("#send")
        assert ada.page.evaluate(FOCUSED) == "text"
        ada.until_idle(2)
        ada.page.locator("#messages > li").nth(1).hover()
        ada.page.get_by_role("button", name="Reply anew").dblclick()
        assert ada.page.evaluate(FOCUSED) == "text"
        ada.until_idle(2)
        assert ada.page.evaluate(FOCUSED) == "text"
        ada.page.keyboard.press("Control+k")
        ada.ask("A plan")
        ada.until(lambda _: ada.titles() == ["A plan", "Hello"])
        ada.page.get_by_role("button", name="Delete: A plan").click()
        ada.until(lambda _: ada.titles() == ["Hello"])
        assert ada.page.evaluate("document.activeElement.closest('#list') !== null")
        ada.page.wait_for_timeout(600)  # at once it would be the second half of a double click
        ada.page.get_by_role("button", name="Delete: Hello").click()
        ada.until(lambda _: ada.titles() == [])
        assert ada.page.evaluate(FOCUSED) == "new"

    def test_the_theme_is_kept(self, ada: Person) -> None:
        assert ada.page.evaluate("document.documentElement.dataset.theme") is None
        ada.page.click("#theme")
        ada.reload()
        assert ada.page.evaluate("document.documentElement.dataset.theme") == "dark"

    def test_the_page_loads_nothing_of_others(self, opened: Open) -> None:
        ada = opened()
        asked: list[str] = []
        ada.page.on("request", lambda request: asked.append(request.url))
        ada.reload()
        ada.ask("![i](https://images.example/x.png)")
        ada.ask("What have I said?")
        assert [url for url in asked if not url.startswith((ada.url, "data:"))] == []
        policy = ada.context.request.get(ada.url).headers["content-security-policy"]
        assert "unsafe" not in policy
        assert "default-src 'none'" in policy
