"""Handlers that are coroutines or asynchronous generators, many at once, in threads and in greenlets."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from .conftest import Start
from .reader import Reader, converse, history, start, stop

KINDS = [
    {"kind": "async", "chunks": 20, "pause": 0.01},
    {"kind": "awaited", "pause": 0.2},
    {"kind": "aio", "pause": 0.2},
]


@pytest.mark.parametrize("asked", KINDS, ids=lambda asked: str(asked["kind"]))
@pytest.mark.parametrize("kind", ["gthread", "gevent"])
def test_sixty_requests_at_once_are_answered(started: Start, kind: str, asked: dict[str, Any]) -> None:
    worker = started(kind)

    def ask(_: int) -> int:
        return converse(worker.url, start(worker.url), **asked).status_code

    def follow(_: int) -> str:
        reader = Reader(start(worker.url))
        assert list(reader.say(worker.url, **asked))
        assert reader.reply
        assert (reader.text or reader.reply["content"]) == reader.reply["content"]
        return reader.status

    with ThreadPoolExecutor(60) as pool:
        assert Counter(pool.map(ask, range(60))) == {201: 60}, worker.log
        assert Counter(pool.map(follow, range(60))) == {"complete": 60}, worker.log


@pytest.mark.parametrize("kind", ["gthread", "gevent"])
def test_an_async_handler_that_calls_another_one_fails_alone(started: Start, kind: str) -> None:
    worker = started(kind)
    session_id = start(worker.url)
    assert converse(worker.url, session_id, kind="nested").json()["reply"]["content"] == "502"
    assert converse(worker.url, session_id, kind="awaited").status_code == 201
    assert history(worker.url, session_id)[-1]["content"] == "awaited"


@pytest.mark.parametrize("kind", ["gthread", "gevent"])
def test_an_async_generator_that_is_stopped_is_closed(started: Start, kind: str) -> None:
    worker = started(kind)
    session_id = start(worker.url)
    reader = Reader(session_id)
    for event in reader.say(worker.url, kind="closing"):
        if event.event == "delta":
            break
    assert stop(worker.url, session_id).json()["status"] == "stopped"
    assert converse(worker.url, session_id, kind="closed").json()["reply"]["content"] == "closed"
