"""Workers of every kind: those that can serve a stream beside other requests, and the one that cannot."""

from __future__ import annotations

import time

import pytest

from ..processes import wait_for
from .conftest import Start
from .reader import Reader, client, converse, history, start

pytestmark = pytest.mark.slow

TOLD = "this worker serves one request at a time"


@pytest.mark.parametrize("kind", ["gthread", "gevent", "waitress", "flask run"])
def test_a_stream_comes_piece_by_piece_and_its_producer_outlives_the_client(started: Start, kind: str) -> None:
    worker = started(kind)
    session_id = start(worker.url)
    reader = Reader(session_id)
    for _ in reader.say(worker.url, kind="count", chunks=100, pause=0.01):
        if reader.events.count("delta") == 3:
            break
    assert len(reader.text.split()) < 60, "it came late"
    before = reader.text
    wait_for(lambda: len(history(worker.url, session_id)) == 2, "the reply was not stored")
    assert list(reader.follow(worker.url))
    assert (reader.status, "reset" in reader.events) == ("complete", False)
    assert reader.text.startswith(before)
    assert reader.text == history(worker.url, session_id)[-1]["content"] == "".join(f"{n} " for n in range(100))
    with client() as talking:
        assert talking.get(f"{worker.url}/sessions/{session_id}/replies/current").status_code == 204
    assert TOLD not in worker.log


def test_a_sync_worker_answers_json_and_short_polls(started: Start) -> None:
    sync, producing = started("sync"), started("gthread")
    session_id = start(sync.url)
    for _ in range(3):
        with client() as talking:
            content = '{"kind": "count", "chunks": 3}'
            path = f"{sync.url}/sessions/{session_id}/messages"
            answer = talking.post(path, json={"content": content}, headers={"Accept": "text/event-stream"})
        assert (answer.status_code, answer.headers["Content-Type"]) == (201, "application/json")
        assert answer.json()["reply"]["content"] == "0 1 2 "
    reader = Reader(session_id)
    for event in reader.say(producing.url, kind="hang", chunks=3):
        if event.event == "delta":
            break
    before = time.monotonic()
    list(reader.follow(sync.url))
    assert (reader.status, reader.text) == ("", "0 1 2 ")
    assert time.monotonic() - before < 3, "the poll is short, since nobody else is served meanwhile"
    with client() as talking:
        assert talking.delete(f"{sync.url}/sessions/{session_id}/replies/current").json()["status"] == "stopped"
    polls = 0
    while not reader.status:
        list(reader.follow(sync.url))
        polls += 1
    assert (reader.status, polls) == ("stopped", 1)
    assert sync.log.count(TOLD) == 1
    assert converse(sync.url, session_id, kind="count").status_code == 201


def test_a_sync_worker_lets_a_reader_go_after_each_poll(started: Start) -> None:
    """A reader that polls has all of it at the end."""
    sync, producing = started("sync"), started("gthread")
    session_id = start(producing.url)
    reader = Reader(session_id)
    for event in reader.say(producing.url, kind="count", chunks=300, pause=0.01):
        if event.event == "delta":
            break
    longest = 0.0
    while not reader.status:
        before = time.monotonic()
        list(reader.follow(sync.url))
        longest = max(longest, time.monotonic() - before)
    assert reader.text == history(sync.url, session_id)[-1]["content"]
    assert "reset" not in reader.events
    assert longest < 2.5, "nobody else is served meanwhile"
