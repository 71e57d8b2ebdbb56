"""Replies that are stopped, superseded or left by a dead producer: each ends once, for all who follow."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from ..processes import wait_for
from ..servers import Server
from .conftest import Start
from .reader import Reader, client, converse, history, start, stop

pytestmark = pytest.mark.slow


class Follower:
    """A reader in a thread of its own.

    Attributes:
        ended_at: The time of its last event.
    """

    def __init__(self, session_id: str, headers: dict[str, str] | None = None) -> None:
        self.reader = Reader(session_id, headers=headers)
        self.ended_at = 0.0
        self.failure: BaseException | None = None

    def begin(self, url: str, **asked: Any) -> Follower:
        return self._run(lambda: self.reader.say(url, **asked))

    def follow(self, url: str, turn: str) -> Follower:
        self.reader.turn = turn
        return self._run(lambda: self.reader.follow(url))

    def _run(self, events: Any) -> Follower:
        def read() -> None:
            try:
                for _ in events():
                    self.ended_at = time.monotonic()
            except BaseException as error:
                self.failure = error

        self._thread = threading.Thread(target=read)
        self._thread.start()
        return self

    def wait_text(self) -> str:
        wait_for(lambda: self.reader.text, "no text comes")
        return self.reader.turn

    def ended(self) -> Reader:
        self._thread.join(30)
        assert not self._thread.is_alive(), self.reader.events
        if self.failure:
            raise self.failure
        return self.reader


def check_ends(url: str, session_id: str, readers: list[Reader]) -> str:
    """All readers know the same end, the reply stands once, and the next turn works. Return the fate of the reply."""
    (status,) = {reader.status for reader in readers}
    for reader in readers:
        assert Counter(reader.events)["done"] == 1
    stored = history(url, session_id)
    replies = [message for message in stored if message["role"] == "assistant"]
    if status in ("complete", "stopped", "interrupted"):
        (reply,) = replies
        for reader in readers:
            assert reader.text == reply["content"]
            assert reader.reply
            assert reader.reply["id"] == reply["id"] == reader.turn
            assert reply.get("status") == (None if status == "complete" else status)
    else:
        assert not replies
    assert converse(url, session_id, kind="count", chunks=1).status_code == 201
    return status


def test_a_stop_races_the_end(started: Start) -> None:
    one, other = started(), started()
    found: list[tuple[str, int]] = []

    def race(seed: int) -> None:
        chance = random.Random(seed)
        session_id = start(one.url)
        first = Follower(session_id).begin(one.url, kind="count", chunks=5, pause=0.01)
        turn = first.wait_text()
        second = Follower(session_id).follow(other.url, turn)
        time.sleep(chance.uniform(0.0, 0.08))
        answer = stop(chance.choice([one, other]).url, session_id, turn)
        assert answer.status_code == 200, answer.text
        status = check_ends(other.url, session_id, [first.ended(), second.ended()])
        assert answer.json()["status"] == status
        found.append((status, answer.status_code))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(race, range(100)))
    assert set(Counter(status for status, _ in found)) == {"complete", "stopped"}, "the race was none"


def test_two_stops_at_once(started: Start) -> None:
    one, other = started(), started()
    for _ in range(10):
        session_id = start(one.url)
        first = Follower(session_id).begin(one.url, kind="count", chunks=1000, pause=0.01)
        turn = first.wait_text()
        with ThreadPoolExecutor(2) as pool:
            answers = list(pool.map(stop, (one.url, other.url), [session_id] * 2, [turn] * 2))
        assert [answer.status_code for answer in answers] == [200, 200], [answer.text for answer in answers]
        assert [answer.json()["status"] for answer in answers] == ["stopped", "stopped"]
        assert answers[0].json()["reply"] == answers[1].json()["reply"]
        assert check_ends(other.url, session_id, [first.ended()]) == "stopped"


def test_a_stop_after_the_end_changes_nothing(started: Start) -> None:
    worker = started()
    session_id = start(worker.url)
    reader = Reader(session_id)
    assert list(reader.say(worker.url, kind="count"))
    before = history(worker.url, session_id)
    answer = stop(worker.url, session_id, reader.turn).json()
    assert (answer["status"], answer["reply"]["content"]) == ("complete", reader.text)
    assert history(worker.url, session_id) == before
    assert stop(worker.url, session_id).status_code == 404, "none is in progress"


def test_readers_may_follow_and_not_stop(started: Start) -> None:
    worker = started()
    alice, bob, eve = ({"X-Owner": name} for name in ("alice", "bob", "eve"))
    session_id = start(worker.url, alice)
    with client() as talking:
        path = f"{worker.url}/share/{session_id}/bob"
        assert talking.post(path, headers=alice).status_code == 200
    first = Follower(session_id, alice).begin(worker.url, kind="count", chunks=100, pause=0.01)
    turn = first.wait_text()
    second = Follower(session_id, bob).follow(worker.url, turn)
    assert stop(worker.url, session_id, turn, bob).status_code == 403
    assert stop(worker.url, session_id, turn, eve).status_code == 404
    with pytest.raises(httpx.HTTPStatusError, match="404"):
        list(Reader(session_id, turn, eve).follow(worker.url))
    assert [first.ended().status, second.ended().status] == ["complete", "complete"]


def test_a_hanging_model_is_stopped_from_another_worker(started: Start) -> None:
    one, other = started(), started()
    session_id = start(one.url)
    first = Follower(session_id).begin(one.url, kind="hang")
    turn = first.wait_text()
    second = Follower(session_id).follow(other.url, turn)
    second.wait_text()
    before = time.monotonic()
    answer = stop(other.url, session_id, turn)
    stopped_after = time.monotonic() - before
    assert (answer.status_code, answer.json()["status"]) == (200, "stopped")
    assert stopped_after < 1
    check_ends(other.url, session_id, [first.ended(), second.ended()])
    print(
        f"stopped {stopped_after:.3f} s, here {first.ended_at - before:.3f} s, there {second.ended_at - before:.3f} s"
    )
    assert first.ended_at - before < 2
    assert second.ended_at - before < 2


def test_a_turn_that_supersedes_one_that_streams(started: Start) -> None:
    one, other = started(TURN_POLICY="supersede"), started(TURN_POLICY="supersede")
    session_id = start(one.url)
    first = Follower(session_id).begin(one.url, kind="count", chunks=1000, pause=0.01)
    turn = first.wait_text()
    second = Follower(session_id).follow(other.url, turn)
    second.wait_text()
    third = Follower(session_id).begin(other.url, kind="count", chunks=3)
    assert third.ended().status == "complete"
    readers = [first.ended(), second.ended()]
    assert [reader.status for reader in readers] == ["interrupted", "interrupted"]
    stored = history(one.url, session_id)
    assert [message.get("status") for message in stored[1::2]] == ["interrupted", None]
    assert [reader.text for reader in readers] == [stored[1]["content"]] * 2
    assert [message["content"] for message in stored[3::2]] == ["0 1 2 "]


def test_a_producer_that_dies(started: Start, valkey: Server) -> None:
    """Followers on another worker have the partial reply and its end within five seconds, and the next turn works."""
    slowest = 0.0
    for number in range(3):
        one, other = started(), started()
        session_id = start(one.url)
        first = Follower(session_id).begin(one.url, kind="count", chunks=3000, pause=0.01)
        turn = first.wait_text()
        second = Follower(session_id).follow(other.url, turn)
        second.wait_text()
        time.sleep(0.2 * number)
        before = time.monotonic()
        os.kill(one.pid, signal.SIGKILL)
        reader = second.ended()
        slowest = max(slowest, second.ended_at - before)
        assert reader.events[-3:] == ["reply", "error", "done"]
        assert check_ends(other.url, session_id, [reader]) == "interrupted"
        with pytest.raises(httpx.HTTPError):
            first.ended()
    print(f"known after {slowest:.2f} s")
    assert slowest < 5


def test_the_next_turn_ends_the_reply_of_a_dead_producer(started: Start) -> None:
    one, other = started(), started()
    session_id = start(one.url)
    first = Follower(session_id).begin(one.url, kind="count", chunks=3000, pause=0.01)
    first.wait_text()
    os.kill(one.pid, signal.SIGKILL)
    before = time.monotonic()
    wait_for(lambda: converse(other.url, session_id, kind="count", chunks=3).status_code == 201, "the turn is kept", 10)
    assert time.monotonic() - before < 5
    stored = history(other.url, session_id)
    assert [message.get("status") for message in stored[1::2]] == ["interrupted", None]
    assert stored[1]["content"].startswith(first.reader.text)
