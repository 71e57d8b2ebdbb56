"""A lock whose holder may be cut short: it is taken over when the holder's function has ended, and not before."""

from __future__ import annotations

import contextlib
import math
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flask_convstore.domain.hold import Hold, User, here
from flask_convstore.outages.journal import Journal

from ..processes import wait_for


@contextlib.contextmanager
def held(hold: Hold) -> Iterator[None]:
    user = here()
    assert hold.take(user, math.inf)
    try:
        yield
    finally:
        hold.give_back(user)


def leave(hold: Hold) -> User:
    """Take the lock, and end without giving it back, as an exception from elsewhere makes a function end."""
    user = here()
    assert hold.take(user, math.inf)
    return user


def asked(hold: Hold) -> bool:
    return hold.is_mine()


def soon() -> float:
    return time.monotonic() + 0.3


def test_its_holder_knows_that_it_has_it() -> None:
    hold = Hold()
    assert not hold.is_mine()
    with held(hold):
        assert hold.is_mine()
        assert asked(hold), "in what the holder calls"
        seen: list[bool] = []
        thread = threading.Thread(target=lambda: seen.append(hold.is_mine()))
        thread.start()
        thread.join()
        assert seen == [False]
    assert not hold.is_mine()


def test_nobody_takes_it_from_a_living_holder() -> None:
    hold = Hold()
    with held(hold):
        taken: list[bool] = []
        thread = threading.Thread(target=lambda: taken.append(hold.take(here(), soon())))
        thread.start()
        thread.join()
        assert taken == [False]
    assert hold.take(here(), soon())


@pytest.mark.parametrize("where", ["this thread", "a thread that has ended", "a thread that does something else"])
def test_it_is_taken_over_from_a_function_that_has_ended(where: str) -> None:
    hold, going_on = Hold(), threading.Event()
    left: list[User] = []

    def work() -> None:
        left.append(leave(hold))
        if where == "a thread that does something else":
            going_on.wait(10)

    thread = threading.Thread(target=work)
    if where == "this thread":
        work()
    else:
        thread.start()
        while not left:
            time.sleep(0.001)
        if where == "a thread that has ended":
            thread.join()
    mine = here()
    assert not hold.is_mine()
    assert hold.take(mine, time.monotonic() + 5)
    hold.give_back(left[0])  # too late: as garbage that is collected does
    assert hold.is_mine()
    assert not hold.take(User(None), soon())
    hold.give_back(mine)
    assert hold.take(User(None), soon())
    going_on.set()


def test_it_is_taken_over_from_a_greenlet_that_has_ended_and_from_none_that_stands_still() -> None:
    greenlet = pytest.importorskip("greenlet")
    hold = Hold()

    def work() -> None:
        assert hold.take(here(), math.inf)
        greenlet.getcurrent().parent.switch()

    standing = greenlet.greenlet(work)
    standing.switch()
    assert not hold.take(here(), soon()), "it goes on later"
    standing.switch()
    assert standing.dead
    assert hold.take(here(), time.monotonic() + 5)


def test_asking_for_a_holder_reads_no_frames_of_a_thread_that_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that goes on meanwhile leaves frames behind that are none any more. It took hours to be seen."""
    monkeypatch.delattr(sys, "_current_frames")
    hold, is_over = Hold(), threading.Event()

    def deep(depth: int) -> int:
        return deep(depth - 1) + 1 if depth else len([object() for _ in range(3)])

    def work() -> None:
        with held(hold):
            while not is_over.is_set():
                deep(100)

    thread = threading.Thread(target=work)
    thread.start()
    wait_for(lambda: hold._user is not None, "nobody has it")
    user = hold._user
    assert user
    try:
        asked_often = [user.has_ended() for _ in range(20_000)]
    finally:
        is_over.set()
        thread.join()
    assert not any(asked_often)
    assert user.has_ended()


def test_a_lock_without_a_name_on_it_is_taken_over_after_a_while() -> None:
    hold = Hold()
    hold._lock.acquire()
    assert not hold.take(here(), soon()), "its holder may be about to write its name"
    assert hold.take(here(), time.monotonic() + 5)


def test_a_fork_has_it_until_it_gives_it_back() -> None:
    hold, fork = Hold(), User(None)
    assert hold.take(fork, math.inf)
    assert not hold.take(User(None), soon())
    hold.give_back(fork)
    assert hold.take(User(None), soon())


@pytest.mark.parametrize("is_kept", [True, False], ids=["in a folder", "in memory"])
def test_a_transaction_that_was_left_open_is_undone_by_the_next_one(tmp_path: Path, *, is_kept: bool) -> None:
    """A thread that was cut short in a write, and never came back, kept the process from journalling for ever."""
    journal = Journal(tmp_path / "journal" if is_kept else None, "target", 2**20, 5.0)

    def write() -> None:
        leave(journal._file._hold)
        connection = journal._file._begun()
        connection.execute("INSERT INTO about VALUES ('half', 1)")

    assert journal.is_usable()
    thread = threading.Thread(target=write)
    thread.start()
    thread.join()
    for _ in range(2):
        with journal.writing() as connection:
            assert not connection.execute("SELECT 1 FROM about WHERE name = 'half'").fetchall()
    journal.close()
