"""The page of examples/chat: its script in Node, against the demo. A reply comes word by word, and outlives the page."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ..javascript import NODE
from .test_examples import Demo

pytestmark = [pytest.mark.server, pytest.mark.slow]

SCRIPT = Path(__file__).parent / "chat_page.mjs"

State = dict[str, Any]


class Page:
    """The page, opened by somebody who may have been there before."""

    def __init__(self, demo: Demo, session_id: str | None = None) -> None:
        command = [NODE, f"{SCRIPT}", f"http://127.0.0.1:{demo.port}", *([session_id] if session_id else [])]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._limit = threading.Timer(30, self._process.kill)
        self._limit.start()
        self.states: list[State] = []

    def do(self, line: str) -> None:
        assert self._process.stdin
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def until(self, is_so: Callable[[State], bool]) -> State:
        assert self._process.stdout
        for line in self._process.stdout:
            self.states.append(json.loads(line))
            if is_so(self.states[-1]):
                return self.states[-1]
        raise AssertionError(f"the page has ended: {self.states[-1:]}")

    def close(self) -> None:
        self._limit.cancel()
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def pages() -> Iterator[Callable[..., Page]]:
    opened: list[Page] = []

    def open_page(*arguments: Any) -> Page:
        opened.append(Page(*arguments))
        return opened[-1]

    yield open_page
    for page in opened:
        page.close()


@contextlib.contextmanager
def running(data: Path, *options: str) -> Iterator[Demo]:
    started = Demo(data, *options)
    try:
        yield started
    finally:
        started.end(signal.SIGTERM)
        started.wait_until_nothing_is_left()


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    with running(tmp_path_factory.mktemp("demo") / "data") as started:
        yield started


def is_idle_behind(count: int) -> Callable[[State], bool]:
    """The reply to the last of so many messages is there."""
    return lambda state: len(state["messages"]) == count and state["send"] and not state["stop"]


def is_coming(state: State) -> bool:
    return bool(state["messages"]) and state["messages"][-1][1].count(" ") > 2 and state["messages"][-1][2]


def stored(demo: Demo, state: State) -> Any:
    return demo.call("GET", f"/sessions/{state['session']}")["history"]


def test_a_reply_comes_word_by_word(demo: Demo, pages: Callable[..., Page]) -> None:
    page = pages(demo)
    page.do("send My name is Ada")
    state = page.until(is_idle_behind(2))
    assert [message[:2] for message in state["messages"]] == [
        [message["role"], message["content"]] for message in stored(demo, state)
    ]
    shown = {seen["messages"][1][1] for seen in page.states if len(seen["messages"]) == 2}
    assert len(shown) > 5
    assert all(state["messages"][1][1].startswith(text) for text in shown)
    assert {seen["problem"] for seen in page.states} == {""}


def test_a_reply_goes_on_behind_a_reload(demo: Demo, pages: Callable[..., Page]) -> None:
    page = pages(demo)
    page.do(f"send I am Ada. {'It rains. ' * 40}")
    page.until(is_idle_behind(2))
    page.do("send What have I said?")
    before = page.until(is_coming)
    page.close()
    again = pages(demo, before["session"])
    came = again.until(is_coming)
    assert came["messages"][3][1].startswith(before["messages"][3][1])
    state = again.until(is_idle_behind(4))
    assert state["messages"][3][1] == stored(demo, state)[3]["content"]
    assert state["messages"][3][1].count("It rains.") == 40
    again.do("send Who am I?")
    assert again.until(is_idle_behind(6))["messages"][5][1] == "You are Ada."


def test_a_reply_is_stopped(demo: Demo, pages: Callable[..., Page]) -> None:
    page = pages(demo)
    page.do("send My name is Ada")
    assert page.until(is_coming)["stop"]
    page.do("stop")
    state = page.until(is_idle_behind(2))
    reply = stored(demo, state)[1]
    assert (reply["status"], state["messages"][1][1]) == ("stopped", f"{reply['content']} (stopped)")
    assert "who you are" not in reply["content"]
    assert not state["problem"]
    page.do("new")
    assert page.until(lambda seen: seen["session"] is None)["messages"] == []


def test_a_new_conversation_while_a_reply_comes(demo: Demo, pages: Callable[..., Page]) -> None:
    page = pages(demo)
    page.do("send My name is Ada")
    page.until(is_coming)
    page.do("new")
    page.until(lambda seen: seen["session"] is None and seen["send"])
    page.do("send Who am I?")
    state = page.until(is_idle_behind(2))
    assert state["messages"][1][1] == "You have not told me your name yet."


def test_a_worker_that_cannot_stream_gives_the_whole_reply(tmp_path: Path, pages: Callable[..., Page]) -> None:
    with running(tmp_path / "data", "--threads", "1") as sync:
        page = pages(sync)
        page.do("send My name is Ada")
        state = page.until(is_idle_behind(2))
    assert state["messages"][1][1].startswith("Nice to meet you, Ada.")
    assert {len(seen["messages"][1][1]) for seen in page.states if len(seen["messages"]) == 2} == {
        len(state["messages"][1][1])
    }
