"""Processes that end, fork or load the app before they fork, while replies are made or followed in them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from ..processes import wait_for
from ..servers import Server
from .conftest import Start
from .reader import Reader, converse, history, start
from .workers import ROOT

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("kind", ["gthread", "gevent"])
def test_a_graceful_stop_lets_replies_end_though_nobody_reads_them(started: Start, kind: str) -> None:
    stopping, other = started(kind), started()
    session_id = start(stopping.url)
    reader = Reader(session_id)
    for event in reader.say(stopping.url, kind="count", chunks=300, pause=0.01):
        if event.event == "delta":
            break
    stopping.stop()
    assert list(reader.follow(other.url))
    assert (reader.status, len(reader.text.split())) == ("complete", 300)
    assert history(other.url, session_id)[-1]["content"] == reader.text


@pytest.mark.parametrize("kind", ["gthread", "gevent"])
def test_a_graceful_stop_lets_readers_read_to_the_end(started: Start, kind: str) -> None:
    stopping = started(kind)
    reader = Reader(start(stopping.url))
    is_asked = threading.Event()
    for event in reader.say(stopping.url, kind="count", chunks=200, pause=0.01):
        if event.event == "delta" and not is_asked.is_set():
            is_asked.set()
            stopping.process.terminate()
    assert (reader.status, len(reader.text.split())) == ("complete", 200)
    stopping.stop()


def test_a_graceful_stop_that_takes_too_long(started: Start) -> None:
    stopping, other = started("gthread", "--graceful-timeout", "2"), started()
    session_id = start(stopping.url)
    reader = Reader(session_id)
    for event in reader.say(stopping.url, kind="hang", chunks=3):
        if event.event == "delta":
            break
    stopping.stop()
    before = time.monotonic()
    assert list(reader.follow(other.url))
    assert time.monotonic() - before < 5
    assert (reader.status, reader.text) == ("interrupted", "0 1 2 ")
    assert converse(other.url, session_id, kind="count").status_code == 201


@pytest.mark.parametrize("kind", ["gthread", "gevent"])
def test_a_producer_that_stands_still_is_interrupted_and_writes_nothing_later(started: Start, kind: str) -> None:
    """As a machine does that is suspended: its lease ends, others store what has come, and it is fenced off for good."""
    frozen, other = started(kind), started(kind)
    session_id = start(frozen.url)
    begun = Reader(session_id)
    for event in begun.say(frozen.url, kind="count", chunks=500, pause=0.01):
        if event.event == "delta":
            break
    reader = Reader(session_id, begun.turn)
    following = reader.follow(other.url)
    next(event for event in following if event.event == "delta")
    try:
        os.kill(frozen.pid, signal.SIGSTOP)
        before = time.monotonic()
        list(following)
        took = time.monotonic() - before
        assert reader.status == "interrupted"
        assert took < 5, took
        stored = history(other.url, session_id)
        assert (stored[-1]["status"], stored[-1]["content"]) == ("interrupted", reader.text)
        assert converse(other.url, session_id, kind="count", chunks=2).status_code == 201
    finally:
        os.kill(frozen.pid, signal.SIGCONT)
    assert converse(frozen.url, session_id, kind="count", chunks=3).status_code == 201
    last = history(frozen.url, session_id)
    assert [message.get("status") for message in last] == [None, "interrupted", None, None, None, None]
    assert last[1] == stored[1]


def _ended(script: str, server: Server, *arguments: str) -> str:
    environment = {**os.environ, "CONVSTORE_URL": server.url, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env=environment,
        timeout=60,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout


HANGING = """
import os, time
from flask_convstore import open_store
from flask_convstore.operations import producer

producer._LAST_SECONDS = 0.5

def hang():
    yield "a"
    yield "b"
    time.sleep(600)

store = open_store(os.environ["CONVSTORE_URL"])
store.save_session("s", {})
with store.turn("s", {"role": "user", "content": "hi"}) as turn:
    reply = turn.stream(hang())
    next(iter(reply))
"""


def test_an_interpreter_that_ends_stores_what_has_come(started: Start, valkey: Server) -> None:
    worker = started()
    _ended(HANGING, valkey)
    reader = Reader("s", "msg-2")
    before = time.monotonic()
    assert list(reader.follow(worker.url))
    assert time.monotonic() - before < 1, "nobody has to wait for the lease"
    assert (reader.status, reader.text) == ("interrupted", "ab")


FORKING = """
import os, sys, time
from flask_convstore import open_store

store = open_store(os.environ["CONVSTORE_URL"])

def slowly():
    for number in range(60):
        yield f"{number} "
        time.sleep(0.02)

def reply_of(name):
    store.save_session(name, {})
    with store.turn(name, {"role": "user", "content": "hi"}) as turn:
        return turn.stream(slowly())

here, elsewhere = reply_of("here"), sys.argv[1:]
next(iter(here))
followed = iter(store.follow_reply(*elsewhere))
next(followed)
child = os.fork()
name = "parent" if child else "child"
own = "".join(reply_of(name))
assert own == "".join(f"{number} " for number in range(60)), own
again = "".join(store.follow_reply(*elsewhere))
assert again.endswith("199 "), again
if child:
    assert "".join(here) == own
    assert "".join(followed).endswith("199 ")
    assert os.waitpid(child, 0)[1] == 0
print(name)
"""


def test_a_process_that_forks_while_it_makes_and_follows_replies(started: Start, valkey: Server) -> None:
    worker = started()
    session_id = start(worker.url)
    reader = Reader(session_id)
    for event in reader.say(worker.url, kind="count", chunks=200, pause=0.02):
        if event.event == "delta":
            break
    assert sorted(_ended(FORKING, valkey, session_id, reader.turn).split()) == ["child", "parent"]


def test_workers_that_are_forked_from_a_loaded_app(started: Start, valkey: Server) -> None:
    worker = started("gthread", "--preload", "--workers", "2")
    session_id = start(worker.url)
    reader = Reader(session_id)
    for event in reader.say(worker.url, kind="count", chunks=100, pause=0.01):
        if event.event == "delta":
            break
    others = [Reader(session_id, reader.turn) for _ in range(8)]
    threads = [threading.Thread(target=lambda one=one: list(one.follow(worker.url))) for one in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert {one.status for one in others} == {"complete"}
    assert {one.text for one in others} == {history(worker.url, session_id)[-1]["content"]}
    wait_for(lambda: not [one for one in valkey.client.client_list() if int(one["sub"])], "a bell is left", 10)
