"""The page while Redis is away and the app goes on: the server knows a part of a conversation, and the page shows all."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import httpx
import pytest

from ..processes import wait_for
from ..servers import Server, running
from .person import Person
from .site import Site

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = [pytest.mark.slow, pytest.mark.server]

COUNT_VANISHED = """() => {
    window.vanished = [];
    let before = [];
    const look = () => {
        const now = [...document.querySelectorAll("#messages > li")].map(item => item.querySelector(".body").textContent);
        if (now.length < before.length) window.vanished.push([before, now]);
        before = now;
        requestAnimationFrame(look);
    };
    look();
}"""
"""Note each frame in which the page shows fewer messages than in the one before."""


class Scene(NamedTuple):
    """A chat that goes on while Redis is away, and a person at its page."""

    server: Server
    site: Site
    ada: Person

    def hand_over(self) -> None:
        self.server.start()
        self.until_handed_over()

    def until_handed_over(self) -> None:
        def is_done() -> bool:
            health = httpx.get(f"{self.site.url}/sessions/health").json()
            return bool(health["connected"] and not health["pending"])

        wait_for(is_done, "nothing is handed over")

    def texts(self) -> list[str]:
        return [each.text for each in self.ada.messages()]


@pytest.fixture
def scene(browser: Browser, tmp_path: Path) -> Iterator[Scene]:
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(running("valkey", "--appendonly", "yes", "--appendfsync", "always"))
        site = Site(server, tmp_path, seconds_a_word=0.002, OUTAGE="continue")
        stack.callback(site.close)
        context = browser.new_context(viewport={"width": 1100, "height": 800})
        stack.callback(context.close)
        yield Scene(server, site, Person(context, site.url))


def test_a_conversation_goes_on_in_the_page_and_is_whole_afterwards(scene: Scene) -> None:
    ada = scene.ada
    ada.ask("Hello")
    ada.ask("My name is Ada")
    scene.server.kill()
    ada.page.evaluate(COUNT_VANISHED)
    for number in range(20):
        before = scene.texts()
        ada.ask(f"Line {number}")
        assert scene.texts()[: len(before)] == before
    shown = scene.texts()
    assert ada.page.evaluate("window.vanished") == []
    ada.page.wait_for_timeout(2000)  # it asks each 1.5 seconds for what the server has
    assert scene.texts() == shown
    ada.reload()
    ada.until(lambda _: scene.texts() == shown)
    ada.ask("Behind a reload")
    shown = scene.texts()
    ada.page.evaluate(COUNT_VANISHED)
    scene.hand_over()
    ada.page.wait_for_timeout(2000)
    assert scene.texts() == shown
    ada.until(lambda _: ada.banner == "")
    ada.check()
    ada.ask("Who am I?")
    assert ada.page.evaluate("window.vanished") == []
    assert scene.texts()[:-1] == [*shown, "Who am I?"]
    assert scene.texts()[-1] == "You are Ada."
    ada.reload()
    ada.until_idle(len(shown) + 2)
    ada.check()


def test_a_page_that_is_opened_while_redis_is_away_goes_on(scene: Scene) -> None:
    """A conversation that is begun then is whole at once."""
    scene.server.kill()
    scene.ada.reload()
    for number in range(20):
        scene.ada.ask(f"Line {number}")
    scene.ada.reload()
    shown = scene.ada.until_idle(40)
    scene.hand_over()
    assert scene.ada.until_idle(40) == shown
    scene.ada.check()
    scene.ada.reload()
    scene.ada.until_idle(40)
    scene.ada.check()


def test_a_reply_that_comes_as_redis_goes_away_comes_to_its_end(scene: Scene) -> None:
    ada = scene.ada
    ada.ask("Hello")
    ada.send("Count to 200")
    ada.until_coming()
    scene.server.kill()
    numbers = [str(number) for number in range(1, 201)]
    assert ada.until_idle(4)[3].words == numbers
    ada.send("Count to 200")
    ada.until_coming()
    scene.server.start()
    ada.until(lambda shown: len(shown) == 6 and shown[5].words == numbers)
    scene.until_handed_over()
    ada.until_idle(6)
    ada.until(lambda _: ada.banner == "")
    ada.check()


def test_all_tabs_show_what_is_said_meanwhile(scene: Scene) -> None:
    ada = scene.ada
    ada.ask("Hello")
    tab = ada.another_tab()
    tab.until_idle(2)
    scene.server.kill()
    ada.ask("My name is Ada")
    tab.until_idle(4)
    tab.ask("Who am I?")
    late = ada.another_tab()
    for each in (ada, tab, late):
        each.until_idle(6)
    scene.hand_over()
    for each in (ada, tab, late):
        each.page.wait_for_function("() => !document.getElementById('banner').textContent")
        each.until_idle(6)
        each.check()
