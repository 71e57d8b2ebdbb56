"""Locks and tries in forked children, whichever threads fork, and when."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from flask_convstore.domain import forks
from flask_convstore.errors import StoreUnavailable
from flask_convstore.outages.circuit import Circuit

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes cannot fork here")

FORKING = """
import os, sys, tempfile, threading
from pathlib import Path
from flask_convstore.outages.journal import Journal

journals = [Journal(Path(tempfile.mkdtemp()), "target", 2**20, 5.0) for _ in range(3)]

def fork_often():
    for _ in range(150):
        child = os.fork()
        if child == 0:
            os._exit(0 if all(journal.is_usable() for journal in journals[:1]) else 1)
        if os.waitpid(child, 0)[1]:
            os._exit(3)
        for journal in journals:
            journal.exists()
            with journal.reading():
                pass

threads = [threading.Thread(target=fork_often) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
sys.exit(0 if all(journal.is_usable() for journal in journals) else 2)
"""


@pytest.mark.slow
def test_threads_that_fork_at_the_same_time_do_not_hang() -> None:
    ended = subprocess.run([sys.executable, "-c", FORKING], timeout=120, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")


class Stopped(forks.Forking):
    def __init__(self) -> None:
        self.told: list[str] = []

    def before_fork(self) -> None:
        self.told.append("before")

    def after_fork(self) -> None:
        self.told.append("after")

    def in_child(self) -> None:
        self.told.append("child")


def in_child(is_right: Callable[[], bool]) -> int:
    """Fork, and tell how the child ended: 0 if *is_right*, a signal's number if it hung."""
    child = os.fork()
    if child == 0:
        signal.alarm(10)
        try:
            os._exit(0 if is_right() else 1)
        except BaseException:
            os._exit(2)
    return os.waitpid(child, 0)[1]


def test_each_is_told_once_of_a_fork() -> None:
    stopped = Stopped()
    forks.watch(stopped)
    assert in_child(lambda: stopped.told == ["before", "child"]) == 0
    assert stopped.told == ["before", "after"]


def test_a_child_may_fork_too() -> None:
    stopped = Stopped()
    forks.watch(stopped)
    assert in_child(lambda: in_child(lambda: stopped.told == ["before", "child", "before", "child"]) == 0) == 0


def test_a_child_that_is_forked_while_another_thread_tries_the_server_tries_it_itself() -> None:
    circuit = Circuit(1, clock=lambda: 0.0)
    circuit.failed()
    circuit.try_now()
    circuit.enter()  # this thread tries
    with pytest.raises(StoreUnavailable):
        circuit.enter()

    assert in_child(lambda: circuit.enter() is None) == 0  # type: ignore[func-returns-value]


@pytest.mark.parametrize("name", ["circuit", "replayer", "memory", "state"])
def test_a_lock_that_another_thread_holds_is_free_in_a_child(name: str) -> None:
    locked, let_go = threading.Event(), threading.Event()
    forking = made(name)

    def hold() -> None:
        with forking._lock:
            locked.set()
            let_go.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    locked.wait(10)
    try:
        assert in_child(lambda: forking._lock.acquire(timeout=1)) == 0
    finally:
        let_go.set()
        thread.join()


def test_a_child_asks_for_the_topology_of_a_cluster_also_while_a_thread_of_its_parent_asks() -> None:
    from flask_convstore.stores.redis.cluster import LazyCluster

    asking, let_go = threading.Event(), threading.Event()

    def make() -> Any:
        asking.set()
        let_go.wait(10)
        return "client"

    cluster = LazyCluster(make)
    thread = threading.Thread(target=cluster.get)
    thread.start()
    asking.wait(10)

    def in_time() -> bool:
        let_go.set()
        return bool(cluster.get(time.monotonic() + 1)[0] == "client")

    try:
        assert in_child(in_time) == 0
    finally:
        let_go.set()
        thread.join()


def test_who_was_cut_short_while_asking_for_a_topology_keeps_nobody_out() -> None:
    """A signal can come between the lock and the block that gives it back."""
    from flask_convstore.stores.redis.cluster import LazyCluster

    cluster = LazyCluster(lambda: "client")  # type: ignore[arg-type,return-value]

    def cut_short() -> Any:
        block: Any = cluster._asking(time.monotonic() + 1)
        next(block.gen)
        return block.gen

    left = cut_short()
    assert cluster.get(time.monotonic() + 5)[0] == "client"
    left.close()


def made(name: str) -> Any:
    """Make one of the things that have a lock."""
    from flask import Flask

    from flask_convstore import ConversationStore
    from flask_convstore.config import Settings, limits_of
    from flask_convstore.outages.journal import Journal
    from flask_convstore.outages.replay import Replayer
    from flask_convstore.stores.memory import MemoryStore

    if name == "circuit":
        return Circuit(5)
    if name == "replayer":
        return Replayer(Journal(None, "target", 2**20, 1.0), Circuit(5), list, 10)
    if name == "memory":
        return MemoryStore(limits_of(Settings()))
    app = Flask(__name__)
    app.config["CONVSTORE_URL"] = "memory://"
    ConversationStore(app)
    return app.extensions["convstore"]["convstore"]
