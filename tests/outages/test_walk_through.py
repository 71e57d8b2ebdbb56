"""The README's apps and the examples, walked through by a client while Redis is away: in mid-conversation, and at start.

Every turn is answered in the mode that the app has chosen. When Redis is back, each conversation is whole, once, in order.
"""

from __future__ import annotations

import abc
import contextlib
import itertools
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from ..project.test_docs import DIFFS, PYTHON
from ..servers import Server, running
from .walk import Site

pytestmark = [pytest.mark.slow, pytest.mark.server]

TURNS = 20


def example(name: str) -> str:
    return f"from examples.{name}.app import create_app\n\napp = create_app()\n"


def first_app() -> str:
    """The first app of the README, with a route that reads."""
    [diff] = [block for block in DIFFS if block.page == "README.md"]
    code = "".join(line[1:] or "\n" for line in diff.code.splitlines(keepends=True) if line[0] != "-")
    start = (
        "from flask import request\n\napp = Flask(__name__)\nllm = lambda history: f're: {history[-1][\"content\"]}'\n"
    )
    read = (
        '\n@app.get("/chat/<sid>")\ndef read(sid):\n'
        "    session = conversation_sessions.get(sid)\n"
        "    return {**session, 'partial': session.partial} if session else {'history': [], 'partial': None}\n"
    )
    return start + code + read


def complete_app() -> str:
    """The complete app of the README."""
    return next(block for block in PYTHON if block.page == "README.md").code


class Walk(abc.ABC):
    """One conversation with an app.

    Attributes:
        said: The messages that the app has taken, each with its reply.
    """

    def __init__(self, site: Site) -> None:
        self.site = site
        self.said: list[str] = []
        self.id = ""

    def begin(self) -> None:
        """Begin the conversation, where the app has a request for that."""
        assert not self.id

    @abc.abstractmethod
    def turn(self, text: str) -> None:
        """Say something, and hear the reply."""

    @abc.abstractmethod
    def read(self, *, is_away: bool) -> list[str]:
        """Read the contents of all messages. While Redis is away, a conversation of before it is marked as partial."""


class FirstApp(Walk):
    def turn(self, text: str) -> None:
        assert self.site.json("POST", "/chat/ada", {"message": text})["content"] == f"re: {text}"
        self.said += [text, f"re: {text}"]

    def read(self, *, is_away: bool) -> list[str]:
        shown = self.site.json("GET", "/chat/ada")
        assert bool(shown["partial"]) is is_away
        return contents(shown)


class Blueprint(Walk):
    def begin(self) -> None:
        begun = self.site.json("POST", "/sessions", {})
        self.id, self.is_whole = begun["session_id"], "degraded" in begun

    def turn(self, text: str) -> None:
        answer = self.site.json("POST", f"/sessions/{self.id}/messages", {"content": text})
        self.said += [text, answer["reply"]["content"]]

    def read(self, *, is_away: bool) -> list[str]:
        answer = self.site.call("GET", f"/sessions/{self.id}")
        assert answer.status_code == 200
        assert answer.json().get("partial", False) is (is_away and not self.is_whole)
        assert ("Convstore-Partial" in answer.headers) is (is_away and not self.is_whole)
        return contents(answer.json())


class Bot(Walk):
    """The bot of ``examples/channels``."""

    def turn(self, text: str) -> None:
        body = {"channel": "telegram", "conversation_id": 42, "user_id": 7, "message": text, "message_id": text}
        answer = self.site.json("POST", "/api/v1/chat", body)
        assert self.site.json("POST", "/api/v1/chat", body) == answer, "it was delivered twice"
        self.said += [text, answer["reply"]]

    def read(self, *, is_away: bool) -> list[str]:
        shown = self.site.json("GET", "/read")
        assert shown["partial"] is is_away
        return contents(shown)


READ_BOT = """
from examples.channels.app import convstore

@app.get("/read")
def read():
    session = convstore.resolve("telegram:42", create=True)
    return {**session, "partial": session.partial}
"""


class Task(Walk):
    """A task of ``examples/orchestrator``. The agent goes on with it where it knows it."""

    def begin(self) -> None:
        self.id = self.site.json("POST", "/tasks", {"topic": "Redis or Valkey?"})["task_id"]

    def turn(self, text: str) -> None:
        path = f"/tasks/{self.id}"
        shown = self.site.json("POST", f"{path}/step")
        assert set(shown["results"]) <= {"plan", "research", "write"}
        self.said += ["Go on.", self.site.json("GET", path)["history"][-1]["content"]]

    def read(self, *, is_away: bool) -> list[str]:
        shown = self.site.json("GET", f"/tasks/{self.id}")
        assert shown.get("partial", False) is is_away
        return contents(shown)


def contents(shown: Any) -> list[str]:
    return [message["content"] for message in shown["history"]]


@contextlib.contextmanager
def walked(code: str, folder: Path, server: Server, **settings: str) -> Iterator[Site]:
    site = Site(server, folder, code, **settings)
    try:
        yield site
        assert "set aside" not in site.log, site.log
    finally:
        site.close()


@pytest.fixture
def redis_server() -> Iterator[Server]:
    with running("valkey", "--appendonly", "yes", "--appendfsync", "always") as server:
        yield server


GOES_ON = {"CONVSTORE_OUTAGE": "continue"}

CHOSEN_OUTSIDE = ("README complete", "chat")
"""The apps that leave the mode to their settings."""

WALKS: dict[str, tuple[Callable[[], str], type[Walk]]] = {
    "README first": (first_app, FirstApp),
    "README complete": (complete_app, Blueprint),
    "chat": (lambda: example("chat"), Blueprint),
    "channels": (lambda: example("channels") + READ_BOT, Bot),
    "orchestrator": (lambda: example("orchestrator"), Task),
}


@pytest.mark.parametrize("name", WALKS)
@pytest.mark.parametrize("before", [0, 3], ids=["from the start", "in the middle"])
def test_a_walk_through_an_outage(name: str, before: int, redis_server: Server, tmp_path: Path) -> None:
    make, kind = WALKS[name]
    if not before:
        redis_server.kill()
    with walked(make(), tmp_path, redis_server, **(GOES_ON if name in CHOSEN_OUTSIDE else {})) as site:
        walk = kind(site)
        walk.begin()
        for number in range(before):
            walk.turn(f"before {number}")
        if before:
            assert walk.read(is_away=False) == walk.said
            redis_server.kill()
        known = len(walk.said)
        for number in range(TURNS):
            walk.turn(f"meanwhile {number}")
            assert walk.read(is_away=True) == walk.said[known:]
        redis_server.start()
        site.until_handed_over()
        for number in range(2):
            walk.turn(f"after {number}")
        assert walk.read(is_away=False) == walk.said


def answered(site: Site, user: str, answer: str) -> Any:
    return site.json("POST", f"/onboarding/{user}", {"answer": answer})


def profile(site: Site, user: str) -> Any:
    return site.json("GET", f"/onboarding/{user}")["profile"]


@pytest.mark.parametrize("is_away_at_start", [True, False])
def test_the_onboarding_agent_asks_on(is_away_at_start: bool, redis_server: Server, tmp_path: Path) -> None:
    """A user whose answers only Redis has is asked anew, and is told why. What Redis has stays, and the rest is added."""
    if is_away_at_start:
        redis_server.kill()
    with walked(example("onboarding"), tmp_path, redis_server) as site:
        if not is_away_at_start:
            for user in ("ada", "bob"):
                site.json("POST", "/onboarding", {"user_id": user})
                answered(site, user, user.title())
            answered(site, "bob", "a builder")
            redis_server.kill()
        asked = answered(site, "ada", "a mathematician")
        assert (asked["question"], "cannot look back" in asked["note"]) == ("What is your name?", True)
        for answer in ("Ada", "a mathematician"):
            asked = answered(site, "ada", answer)
        assert asked == {**asked, "profile": {"name": "Ada", "role": "a mathematician", "goals": None}}
        for number in range(TURNS // 4):
            user = f"user-{number}"
            site.json("POST", "/onboarding", {"user_id": user})
            told = [answered(site, user, answer) for answer in (f"User {number}", "a tester", "rest, peace")]
            assert told[-1]["profile"] == {"name": f"User {number}", "role": "a tester", "goals": ["rest", "peace"]}
        redis_server.start()
        site.until_handed_over()
        assert profile(site, "ada") == {"name": "Ada", "role": "a mathematician", "goals": None}
        if not is_away_at_start:
            assert profile(site, "bob") == {"name": "Bob", "role": "a builder", "goals": None}
        assert answered(site, "ada", "an engine")["complete"]
        for user in ("ada", *(f"user-{number}" for number in range(TURNS // 4))):
            assert site.call("GET", f"/onboarding/{user}").status_code == 404, "it is forgotten"


@pytest.mark.parametrize("is_away_at_start", [True, False])
def test_the_product_assistant_refuses_what_only_redis_has(
    is_away_at_start: bool, redis_server: Server, tmp_path: Path
) -> None:
    """It has chosen nothing, so sessions of before wait, and new ones go on."""
    if is_away_at_start:
        redis_server.kill()
    with walked(example("develope"), tmp_path, redis_server) as site:

        def started(product: str) -> dict[str, str]:
            return {"session_id": site.json("POST", "/start", {"description": product})["session_id"]}

        before = None
        if not is_away_at_start:
            before = started("a toy car")
            site.json("POST", "/continue", {**before, "message": "painted wood"})
            redis_server.kill()
        new = started("a rubber duck")
        for text in ("rubber", "children", "Europe"):
            site.json("POST", "/continue", {**new, "message": text})
            if before:
                refused = site.call("POST", "/continue", {**before, "message": text})
                assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
        site.json("POST", "/analyze", new)
        questions = [f"Why? {number}" for number in range(TURNS)]
        for question in questions:
            site.json("POST", "/ask", {**new, "question": question})
        redis_server.start()
        site.until_handed_over()
        shown = site.json("GET", f"/session/{new['session_id']}")
        assert [text for text in contents(shown) if text in questions] == questions
        assert len(shown["history"]) == 2 * (4 + TURNS)
        if before:
            site.json("POST", "/continue", {**before, "message": "children"})
            shown = site.json("GET", f"/session/{before['session_id']}")
            assert contents(shown)[::2] == ["a toy car", "painted wood", "children"]


def talking(site: Site, path: str, name: str, until: float, said: list[str]) -> None:
    """Say one thing after the other, each as often as it takes. A repeat has the same key."""
    for number in itertools.count():
        if time.monotonic() > until:
            return
        text = f"{name}-{number}"
        answer = None
        while (
            answer is None or answer.status_code == 409
        ):  # the lease of a worker that was killed in its turn ends soon
            with contextlib.suppress(httpx.TransportError):  # a worker was killed
                answer = site.call("POST", path, {"content": text}, **{"Idempotency-Key": text})
        assert answer.status_code == 201, answer.text
        said.append(text)
        time.sleep(0.02)  # the conversation is read at once at the end, which has 1,000 messages at most


def test_redis_and_workers_that_go_and_come_again_lose_nothing(redis_server: Server, tmp_path: Path) -> None:
    settings = {**GOES_ON, "CONVSTORE_TURN_LEASE": "1"}
    with walked(complete_app(), tmp_path, redis_server, **settings) as site, ThreadPoolExecutor() as threads:
        ids = [site.json("POST", "/sessions", {})["session_id"] for _ in range(3)]
        said: dict[str, list[str]] = {session_id: [] for session_id in ids}
        until = time.monotonic() + 10
        talks = [
            threads.submit(talking, site, f"/sessions/{session_id}/messages", session_id, until, said[session_id])
            for session_id in ids
        ]
        for _ in range(3):
            time.sleep(1)
            redis_server.kill()
            time.sleep(0.5)
            site.kill_a_worker()
            time.sleep(0.5)
            redis_server.start()
        for talk in talks:
            talk.result()
        site.until_handed_over()
        for session_id in ids:
            shown = contents(site.json("GET", f"/sessions/{session_id}?last=1000"))
            assert shown[::2] == said[session_id]
            assert shown[1::2] == [f"You said: {text}" for text in said[session_id]]
