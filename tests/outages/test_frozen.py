"""A worker that stands still at any step of its work on the journal, as SIGSTOP makes it, and what the others do then."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from flask_convstore.domain.commands import Append, Put
from flask_convstore.errors import StoreUnavailable
from flask_convstore.outages.circuit import Circuit
from flask_convstore.outages.fallback import FallbackStore
from flask_convstore.outages.journal import Journal
from flask_convstore.outages.replay import Replayer
from flask_convstore.outages.session_replay import Replayed
from flask_convstore.stores.redis.store import RedisStore

from ..servers import Server
from .test_fallback import LIMITS, Switch, append, start, texts_in

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes cannot fork here")

_PATIENCE = 0.1
"""Seconds for which a worker waits for the journal."""

_EVERY = 13
"""Each so many lines of the work are a moment to stop at."""

_ROOMS = ("sqlite_file.py", "journal.py", "fallback.py", "replay.py", "handover.py", "hold.py")


class Worker:
    """A worker: a store around a store, which may be away, with a connection of its own to the journal in *folder*."""

    def __init__(self, server: Server, folder: Path, patience: float = _PATIENCE) -> None:
        self.switch = Switch(RedisStore(server.client, "frozen:", LIMITS))
        self.journal = Journal(folder, "target", 2**20, patience)
        self.switch.is_away = True
        self.store = FallbackStore(self.switch, self.journal, Circuit(10**9), "", LIMITS, lambda: None)

    def scrub(self) -> None:
        self.journal.scrub()


class Stopping:
    """Stops this process when it comes to its *moment*-th line of the journal's rooms."""

    def __init__(self, moment: int) -> None:
        self._left = moment

    def trace(self, frame: FrameType, event: str, _: Any) -> Any:
        if not frame.f_code.co_filename.endswith(_ROOMS):
            return None
        if event == "line":
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGSTOP)
        return self.trace


@contextlib.contextmanager
def stopped(work: Callable[[], Any], moment: int) -> Iterator[bool]:
    """A child process that does *work* and stands still in it at *moment*. It goes on at the end. False: it has ended."""
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        sys.settrace(Stopping(moment).trace)
        try:
            work()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, os.WUNTRACED)
    try:
        yield os.WIFSTOPPED(status)
    finally:
        if os.WIFSTOPPED(status):
            os.kill(child, signal.SIGCONT)
            os.waitpid(child, 0)


def put(session_id: str, *texts: str) -> Put:
    return start(session_id, *texts, token=f"start {session_id}")


def say(session_id: str, text: str) -> Append:
    return append(session_id, text, token=text)


def write(worker: Worker) -> None:
    worker.store.apply(say("here", "b"))


def begin(worker: Worker) -> None:
    worker.store.apply(put("another", "a"))


def hand_over(worker: Worker) -> None:
    worker.switch.is_away = False
    part = Replayed("", worker.switch, worker.store)
    Replayer(worker.journal, Circuit(10**9), lambda: [part], 10)._replay_all(part, 0)
    worker.journal.unmark_if_empty()


WORK: dict[str, Callable[[Worker], None]] = {"write": write, "begin": begin, "hand over": hand_over}


def workers(server: Server, folder: Path) -> Iterator[tuple[int, Worker, Worker]]:
    """Two workers of a new host, with a session in the store, for each moment at which one of them may be stopped."""
    moment = -3
    while True:
        moment += _EVERY
        server.client.flushall()
        one, other = (Worker(server, folder / f"journal{moment}") for _ in range(2))
        one.switch.is_away = False
        one.store.apply(put("there", "a"))
        yield moment, one, other
        for worker in (one, other):
            worker.journal.close()


@pytest.mark.slow
@pytest.mark.parametrize("is_new", [False, True], ids=["known", "opened"])
@pytest.mark.parametrize("name", WORK)
def test_a_worker_that_stands_still_holds_up_nothing_that_the_store_has(
    valkey: Server, tmp_path: Path, name: str, *, is_new: bool
) -> None:
    for moment, one, other in workers(valkey, tmp_path):
        one.switch.is_away = True
        one.store.apply(put("here", "a"))
        for worker in () if is_new else (one, other):
            worker.store.load("here", None)
        one.switch.is_away = False
        with stopped(partial(WORK[name], other), moment) as is_stopped:
            assert texts_in(one.store, "there") == ["a"]
            one.store.apply(say("there", "b"))
            assert texts_in(one.store, "here") in (["a"], ["a", "b"])
            with contextlib.suppress(StoreUnavailable):
                one.store.apply(say("here", "b"))  # the same token: once, whoever is first
        if not is_stopped:
            break
        one.store.apply(say("here", "b"))
        assert texts_in(one.store, "here") == ["a", "b"]
        hand_over(one)
        assert texts_in(one.switch, "here") == ["a", "b"]
    assert moment > 50


@pytest.mark.slow
def test_a_worker_may_stand_still_while_it_makes_the_journal(valkey: Server, tmp_path: Path) -> None:
    for moment, one, other in workers(valkey, tmp_path):
        with stopped(partial(begin, other), moment) as is_stopped:
            assert texts_in(one.store, "there") == ["a"]
            one.switch.is_away = True
            with contextlib.suppress(StoreUnavailable):
                one.store.apply(put("here", "a"))
        if not is_stopped:
            break
        assert texts_in(other.store, "another") == ["a"]
    assert moment > 50


@pytest.mark.parametrize("work", [write, Worker.scrub])
def test_while_one_thread_waits_for_it_the_others_do_not(
    valkey: Server, tmp_path: Path, work: Callable[[Worker], None]
) -> None:
    one, other = (Worker(valkey, tmp_path / "journal", 20.0) for _ in range(2))
    one.switch.is_away = False
    one.store.apply(put("there", "a"))
    one.switch.is_away = True
    one.store.apply(put("here", "a"))
    one.switch.is_away = False

    def stand_still() -> None:
        with other.journal.writing():
            os.kill(os.getpid(), signal.SIGSTOP)

    with ThreadPoolExecutor(1) as pool:
        with stopped(stand_still, 0):
            waiting = pool.submit(work, one)
            time.sleep(0.1)
            assert texts_in(one.store, "there") == ["a"]
            assert texts_in(one.store, "here") == ["a"]
            assert not waiting.done()
        waiting.result(20)
    for worker in (one, other):
        worker.journal.close()
