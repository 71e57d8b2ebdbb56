"""A reader that does not read holds up nobody: neither the producer, nor others, nor the end of the turn."""

from __future__ import annotations

import json
import socket
import time

import httpx
import pytest
from httpx_sse import EventSource

from .conftest import Start
from .reader import Reader, converse, history, start

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("kind", ["gthread", "gevent"])
@pytest.mark.parametrize("where", ["at the producer", "elsewhere"])
def test_a_reader_that_stands_still(started: Start, kind: str, where: str) -> None:
    producing = started(kind)
    worker = started(kind) if where == "elsewhere" else producing
    session_id = start(producing.url)
    reader = Reader(session_id)
    for event in reader.say(producing.url, kind="long", chunks=400, pause=0.005):
        if event.event == "delta":
            break
    with socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect(("127.0.0.1", worker.port))
        path = f"/sessions/{session_id}/replies/{reader.turn}"
        slow.sendall(f"GET {path} HTTP/1.0\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        before = time.monotonic()
        assert list(reader.follow(worker.url))
        took = time.monotonic() - before
        assert reader.status == "complete"
        assert took < 10
        stored = history(producing.url, session_id)[-1]["content"]
        assert len(stored) == 400_000
        assert reader.text == stored
        assert converse(worker.url, session_id, kind="count").status_code == 201
        got = b""
        while piece := slow.recv(65536):
            got += piece
    answer = httpx.Response(200, headers={"Content-Type": "text/event-stream"}, content=got.partition(b"\r\n\r\n")[2])
    deltas = [json.loads(event.data)["content"] for event in EventSource(answer).iter_sse() if event.event == "delta"]
    assert "".join(deltas) == stored
