"""A person at the page: what one does with a keyboard and a mouse, and what one sees."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

SECONDS = 40
SECONDS_TO_OPEN = 90
"""The first page of a browser that has just started, on a busy machine."""

_LOST_ANSWERS = ("Failed to load resource", "resulted in a network error response")
"""The browser's own words for an answer that is lost, to the page and to its service worker."""


KEPT = """async () => {
    const found = {local: Object.keys(localStorage).filter(name => name !== "theme"), session: Object.keys(sessionStorage)};
    for (const {name, version} of await indexedDB.databases()) {
        const database = await new Promise(resolve => {
            const request = indexedDB.open(name, version);
            request.onsuccess = () => resolve(request.result);
        });
        for (const store of database.objectStoreNames) {
            found[`${name} ${store}`] = await new Promise(resolve => {
                const request = database.transaction(store).objectStore(store).getAll();
                request.onsuccess = () => resolve(request.result);
            });
        }
        database.close();
    }
    const pages = await caches.open("page");
    found.pages = await Promise.all((await pages.keys()).map(async key => (await pages.match(key)).text()));
    return JSON.stringify(found);
}"""
"""All that the browser keeps of the page."""


class Shown(NamedTuple):
    """A message in the page."""

    role: str
    text: str
    note: str
    status: str

    @property
    def words(self) -> list[str]:
        return words(self.text)


def words(text: str) -> list[str]:
    """The words of a text without its Markdown."""
    return re.findall(r"\w+", re.sub(r"\]\(\S+\)", "", text))


class Person:
    """One tab of one browser."""

    def __init__(self, context: BrowserContext, url: str) -> None:
        self.context = context
        self.url = url
        self.problems: list[str] = []
        self.page: Page = context.new_page()
        self.page.set_default_timeout(1000 * SECONDS_TO_OPEN)
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("console", lambda message: self._note(message.type, message.text))
        self.goto(url)

    def _note(self, kind: str, text: str) -> None:
        if kind == "error" and not any(words in text for words in _LOST_ANSWERS):
            self.problems.append(text)

    # ---- what one does

    def goto(self, url: str) -> None:
        self.page.goto(url)
        self.page.wait_for_selector("body[data-is-ready]")

    def reload(self) -> None:
        self.page.reload()
        self.page.wait_for_selector("body[data-is-ready]")

    def another_tab(self) -> Person:
        return Person(self.context, self.page.url)

    def write(self, text: str) -> None:
        self.page.fill("#text", text)

    def send(self, text: str) -> None:
        self.write(text)
        self.page.press("#text", "Enter")

    def ask(self, text: str) -> list[Shown]:
        """Send, and wait for the whole reply."""
        count = len(self.messages())
        self.send(text)
        return self.until_idle(count + 2)

    def press(self, label: str, place: int = -1) -> None:
        """Press a button of a message."""
        message = self.page.locator("#messages > li").nth(place)
        message.hover()
        message.get_by_role("button", name=label, exact=True).click()

    def go_offline(self) -> None:
        """Lose the connection, once the browser keeps the page and what it shows."""
        self.page.wait_for_function("async () => (await (await caches.open('page')).keys()).length > 5")
        self.until(
            lambda shown: self.kept().count('"role":"assistant"') >= [each.role for each in shown].count("assistant")
        )
        self.context.set_offline(True)

    # ---- what one sees

    def messages(self) -> list[Shown]:
        found = self.page.eval_on_selector_all(
            "#messages > li",
            """items => items.map(item => [
                item.classList.contains("user") ? "user" : "assistant",
                item.querySelector(".body").textContent.replaceAll("Copy code", " ").trim(),
                item.querySelector(".note").textContent,
                item.dataset.status,
            ])""",
        )
        return [Shown(*each) for each in found]

    @property
    def is_idle(self) -> bool:
        is_idle: bool = self.page.evaluate(
            """() => document.getElementById("stop").hidden && document.getElementById("typing").hidden
                && !document.querySelector('[data-status=sending], [data-status=waiting], [data-status=streaming]')"""
        )
        return is_idle

    def until_idle(self, count: int) -> list[Shown]:
        """The messages, once there are so many and nothing is on its way."""
        self.until(lambda shown: len(shown) == count and self.is_idle)
        return self.messages()

    def until_coming(self) -> list[Shown]:
        """The messages, once a part of the newest reply is there."""
        return self.until(lambda shown: shown and shown[-1].status == "streaming" and len(shown[-1].words) > 3)

    def until(self, is_so: Callable[[list[Shown]], Any]) -> list[Shown]:
        deadline = time.monotonic() + SECONDS
        while not is_so(shown := self.messages()):
            assert time.monotonic() < deadline, f"{self.page.url} {shown} {self.banner!r} {self.problems}"
            self.page.wait_for_timeout(30)
        return shown

    @property
    def banner(self) -> str:
        return self.page.inner_text("#banner")

    def until_banner(self, text: str) -> None:
        self.until(lambda _: text in self.banner)

    def until_fact(self, name: str, pattern: str) -> str:
        """Wait for what the panel is to say of *name*. Return it."""
        place = f"#facts dt:text-is('{name}') + dd"
        self.page.wait_for_selector(place)
        self.until(lambda _: re.fullmatch(pattern, self.page.inner_text(place)))
        return self.page.inner_text(place)

    def titles(self) -> list[str]:
        return self.page.locator("#list .name").all_text_contents()

    @property
    def session_id(self) -> str:
        return self.page.url.rpartition("/c/")[2]

    def kept(self) -> str:
        """All that the browser keeps, as JSON."""
        found: str = self.page.evaluate(KEPT)
        return found

    # ---- what is stored

    def get(self, path: str) -> Any:
        answer = self.context.request.get(f"{self.url.partition('/c/')[0].rstrip('/')}{path}")
        assert answer.status == 200, answer.text()
        return answer.json()

    def history(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.get(f"/sessions/{self.session_id}")["history"]
        return found

    def check(self) -> None:
        """The page is equal to what is stored, nothing is there twice, and the page has said nothing bad."""
        stored = self.history()
        assert [(each.role, each.words) for each in self.messages()] == [
            (message["role"], words(message["content"])) for message in stored
        ]
        assert len({message["id"] for message in stored}) == len(stored)
        listed = self.get("/sessions")["sessions"]
        self.until(lambda _: self.titles() == [session["title"] for session in listed])
        assert self.problems == [], self.problems
        assert "fetch" not in self.page.inner_text("body").lower()
