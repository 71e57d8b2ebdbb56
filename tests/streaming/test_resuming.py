"""Clients that are cut and come back, on workers that are killed: they get what is stored, byte for byte."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from httpx_sse import EventSource

from .chunks import hard_chunks, joined
from .conftest import Start
from .reader import Reader, client, converse, history, start
from .workers import Worker

pytestmark = pytest.mark.slow


def test_a_client_that_is_cut_ten_times_and_loses_two_workers(started: Start) -> None:
    producing, *others = (started() for _ in range(4))
    session_id = start(producing.url)
    reader = Reader(session_id)
    for event in reader.say(producing.url, kind="count", chunks=2000, pause=0.003):
        if event.event == "delta":
            break
    chance = random.Random(19)
    cuts = kills = 0
    while not reader.status:
        worker = others[min(kills, 2)]
        until = time.monotonic() + chance.uniform(0.1, 0.7)
        killed = cuts in (3, 7) and kills < 2
        with contextlib.suppress(httpx.HTTPError):
            for _ in reader.follow(worker.url):
                if killed:
                    os.kill(worker.pid, signal.SIGKILL)
                elif time.monotonic() > until and cuts < 10:
                    break
        kills += killed
        cuts += 1
    assert (kills, cuts >= 10) == (2, True)
    assert (reader.status, "reset" in reader.events) == ("complete", False)
    stored = history(producing.url, session_id)[-1]["content"]
    assert reader.text == stored == "".join(f"{number} " for number in range(2000))


class Bytes:
    """A client that is cut at any byte, within a line too. It forgets the event that it has not got whole."""

    def __init__(self, session_id: str, turn: str, chance: random.Random) -> None:
        self.reader = Reader(session_id, turn)
        self._chance = chance

    def read(self, url: str, length: int | None) -> None:
        """Read so many bytes (None: all), in pieces of any size."""
        reader, got = self.reader, b""
        headers = {"Last-Event-ID": reader.last_id} if reader.last_id else {}
        path = f"{url}/sessions/{reader.session_id}/replies/{reader.turn}"
        with client() as talking, talking.stream("GET", path, headers=headers) as answer:
            for piece in answer.iter_raw():
                got += piece
                if length is not None and len(got) >= length:
                    break
        whole = got[:length].rpartition(b"\n\n")[0]
        answer = httpx.Response(200, headers={"Content-Type": "text/event-stream"}, content=whole + b"\n\n")
        for event in EventSource(answer).iter_sse():
            reader.take(event)


def _cut_often(workers: list[Worker], session_id: str, turn: str, cuts: int, length: int, seed: int) -> Reader:
    chance = random.Random(seed)
    found = Bytes(session_id, turn, chance)
    for _ in range(cuts):
        found.read(chance.choice(workers).url, chance.randint(1, length))
    found.read(chance.choice(workers).url, None)
    return found.reader


def test_any_cut_of_replies_that_come(started: Start) -> None:
    """Fifty replies, each cut ten times while its chunks come, on two workers."""
    workers = [started(), started()]

    def follow(seed: int) -> None:
        session_id = start(workers[seed % 2].url)
        begun = Reader(session_id)
        for event in begun.say(workers[seed % 2].url, kind="hard", seed=seed, chunks=300, pause=0.003):
            if event.event == "delta":
                break
        reader = _cut_often(workers, session_id, begun.turn, 10, 3000, seed)
        assert (reader.status, "reset" in reader.events) == ("complete", False)
        stored = history(workers[0].url, session_id)[-1]["content"]
        assert reader.text.encode() == stored.encode() == joined(hard_chunks(seed, 300)).encode()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(follow, range(50)))


def test_five_hundred_cuts_of_one_reply(started: Start) -> None:
    workers = [started(), started()]
    session_id = start(workers[0].url)
    reply: Any = converse(workers[0].url, session_id, kind="hard", seed=1, chunks=10)
    reader = Reader(session_id)
    assert list(reader.say(workers[0].url, kind="hard", seed=500, chunks=600, pause=0.002))
    expected = joined(hard_chunks(500, 600))
    with client() as talking:
        length = len(talking.get(f"{workers[0].url}/sessions/{session_id}/replies/{reader.turn}").content)

    def cut(seed: int) -> None:
        found = _cut_often(workers, session_id, reader.turn, 1, length, seed)
        assert found.text.encode() == expected.encode()
        assert (found.status, "reset" in found.events) == ("complete", False)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(cut, range(500)))
    assert reply.json()["reply"]["content"] == joined(hard_chunks(1, 10))
    stored = history(workers[1].url, session_id)[-1]
    assert stored["content"].encode() == reader.text.encode() == expected.encode()
    assert found_once(workers[0], session_id, expected)


def found_once(worker: Worker, session_id: str, text: str) -> bool:
    return [message["content"] for message in history(worker.url, session_id)].count(text) == 1
