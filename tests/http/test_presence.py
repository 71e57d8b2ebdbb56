"""Clients that leave while a stream is silent: they keep no thread and no bell."""

from __future__ import annotations

import pytest

from flask_convstore.http.presence import has_left

from ..processes import wait_for
from ..servers import Server
from ..streaming.conftest import Start, started
from ..streaming.reader import Reader, converse, start

__all__ = ["started"]

KINDS = {
    "gthread": ("--threads", "8"),
    "gevent": (),
    "waitress": ("--threads=8", "--channel-request-lookahead=1"),
    "flask run": (),
}


def bells(server: Server) -> set[str]:
    """The connections that listen. Those of other tests may be among them."""
    return {one["id"] for one in server.client.client_list() if int(one["sub"])}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_those_who_leave_a_silent_stream_are_forgotten(started: Start, valkey: Server, kind: str) -> None:
    others = bells(valkey)
    producing, worker = started("gthread"), started(kind, *KINDS[kind])
    reader = Reader(start(producing.url))
    for event in reader.say(producing.url, kind="hang", chunks=1):
        if event.event == "delta":
            break
    for _ in range(7):
        one = Reader(reader.session_id, reader.turn)
        for event in one.follow(worker.url):
            if event.event == "delta":
                break
    wait_for(lambda: bells(valkey) <= others, "a bell is left", 8)
    assert converse(worker.url, start(worker.url), kind="count").status_code == 201


def test_a_server_that_tells_nothing() -> None:
    assert not has_left({})
    assert not has_left({"waitress.client_disconnected": lambda: False})
    assert has_left({"waitress.client_disconnected": lambda: True})
