"""The page where no more conversations are allowed, where one has expired, and where an app kept its own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from ..servers import Server
from .person import Person
from .site import Site

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = [pytest.mark.server, pytest.mark.slow]

IMPORT = """async () => {
    const { convstore, sessions } = document.body.dataset;
    const { Chats } = await import(convstore);
    const chats = new Chats(sessions);
    const items = [1, 2].map(number => ({
        id: `old-${number}`, title: `Old ${number}`, messages: [{ role: "user", content: "hi", timestamp: number }],
    }));
    const found = [await chats.importOnce("old", items), await chats.importOnce("old", items)];
    chats.close();
    return found.map(({ value, error }) => [value?.imported, value?.failed.length, error]);
}"""


@pytest.fixture
def bob(valkey: Server, browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Person]:
    """A person who may have two conversations, and whose client may say how long they live."""
    folder = tmp_path_factory.mktemp("limits")
    site = Site(valkey, folder, MAX_SESSIONS="2", SESSIONS_POLICY="reject", CLIENT_TTL="true")
    with contextlib.closing(site), contextlib.closing(browser.new_context()) as context:
        yield Person(context, f"{site.url}/")


def test_a_conversation_too_many_waits_until_another_is_deleted(bob: Person) -> None:
    for text in ("First", "Second"):
        bob.goto(bob.url)
        bob.ask(text)
    bob.goto(bob.url)
    bob.send("Third")
    shown = bob.until(lambda shown: shown and shown[-1].status == "failed")
    assert (shown[-1].text, len(shown)) == ("Third", 1)
    answer = bob.context.request.delete(f"{bob.url}sessions/{bob.get('/sessions')['sessions'][0]['session_id']}")
    assert answer.status == 200
    bob.press("Send again")
    bob.until_idle(2)
    bob.check()
    assert len(bob.titles()) == 2


def test_a_conversation_that_has_expired_keeps_what_was_written(bob: Person) -> None:
    bob.ask("Hello")
    path = f"{bob.url.partition('/c/')[0].rstrip('/')}/sessions/{bob.session_id}"
    assert bob.context.request.patch(path, data={"ttl": 1}).status == 200
    bob.page.wait_for_timeout(1500)
    bob.send("Are you there?")
    shown = bob.until(lambda shown: [each.status for each in shown] == ["failed"])
    assert (shown[0].text, shown[0].note) == ("Are you there?", "Not sent. This conversation has ended.")
    bob.until(lambda _: bob.titles() == [])
    assert bob.problems == []


def test_conversations_of_an_app_come_once(bob: Person) -> None:
    assert bob.page.evaluate(IMPORT) == [[2, 0, None], [2, 0, None]]
    bob.until(lambda _: sorted(bob.titles()) == ["Old 1", "Old 2"])
    assert len(bob.get("/sessions")["sessions"]) == 2
