"""Reconnecting storms: two hundred followers of one worker are cut at once, and come back at once."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time

import httpx
import pytest

from ..processes import wait_for
from ..servers import Server
from .conftest import Start
from .reader import Reader, history, start, stop

pytestmark = pytest.mark.slow

FOLLOWERS = 200
STREAMS = 20


def subscribed(server: Server) -> int:
    """Number of connections that listen to a bell."""
    return len([client for client in server.client.client_list() if int(client["sub"]) > 0])


def _follow_twice(reader: Reader, urls: list[str], cut: threading.Event, given_up: threading.Event) -> None:
    """Read until the cut, or until the worker dies, and then on from elsewhere."""
    with contextlib.suppress(httpx.HTTPError):
        for _ in reader.follow(urls[0]):
            if cut.is_set():
                break
    while not reader.status and not given_up.is_set():
        with contextlib.suppress(httpx.HTTPError):
            list(reader.follow(urls[1]))


@pytest.mark.parametrize("kind", ["gthread", "gevent"])
@pytest.mark.parametrize("way", ["by the clients", "by the death of their worker"])
def test_two_hundred_followers_are_cut_at_once_and_come_back(
    request: pytest.FixtureRequest, started: Start, valkey: Server, kind: str, way: str
) -> None:
    options = ("--threads", "300") if kind == "gthread" else ()
    producing = started("gthread")
    first, second = started(kind, *options), started(kind, *options)
    begun = [Reader(start(producing.url)) for _ in range(STREAMS)]
    for reader in begun:
        for event in reader.say(producing.url, kind="count", chunks=30_000, pause=0.01):
            if event.event == "delta":
                break
    cut = threading.Event()
    readers = [Reader(begun[number % STREAMS].session_id, begun[number % STREAMS].turn) for number in range(FOLLOWERS)]
    urls, given_up = [first.url, second.url], threading.Event()
    request.addfinalizer(given_up.set)
    threads = [threading.Thread(target=_follow_twice, args=(reader, urls, cut, given_up)) for reader in readers]
    for thread in threads:
        thread.start()
    wait_for(lambda: all(reader.text for reader in readers), "not all have begun to read")
    assert subscribed(valkey) == 1, "the worker of those who follow has one bell"
    if way == "by the clients":
        cut.set()
    else:
        os.kill(first.pid, signal.SIGKILL)
    before = time.monotonic()
    seen = {id(reader): len(reader.events) for reader in readers}
    wait_for(lambda: all(len(reader.events) > seen[id(reader)] + 2 for reader in readers), "not all have come back", 30)
    print(f"{kind}, cut {way}: all are back after {time.monotonic() - before:.2f} s")
    for reader in begun:
        stop(producing.url, reader.session_id)
    for thread in threads:
        thread.join(60)
    for reader in readers:
        assert (reader.status, "reset" in reader.events) == ("stopped", False)
    for reader in begun:
        stored = history(producing.url, reader.session_id)[-1]["content"]
        assert {one.text for one in readers if one.session_id == reader.session_id} == {stored}
    wait_for(lambda: subscribed(valkey) == 0, "a bell is left though nobody follows", 10)
