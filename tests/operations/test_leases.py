"""Leases are renewed in time and not more often, by a thread that nobody has to wait for."""

from __future__ import annotations

import threading
import time

import pytest

from flask_convstore.errors import SessionNotFound, TurnLost
from flask_convstore.operations import leases
from flask_convstore.operations.leases import Renewer

from ..processes import wait_for


def test_each_lease_is_renewed_in_its_own_time() -> None:
    renewer, renewed = Renewer(), {"often": 0, "seldom": 0}

    def renew(name: str) -> None:
        renewed[name] += 1

    began = time.monotonic()
    renewer.add("seldom", lambda: renew("seldom"), 60)
    renewer.add("often", lambda: renew("often"), 0.05)
    wait_for(lambda: renewed["often"] >= 5, "it is renewed again and again")
    took = time.monotonic() - began
    renewer.remove("often")
    assert renewed["often"] <= took / 0.05 + 1
    assert renewed["seldom"] == 0
    renewer.remove("seldom")


@pytest.mark.parametrize("error", [TurnLost("s"), SessionNotFound("s")])
def test_a_lost_turn_is_not_renewed_again(error: Exception) -> None:
    renewer, calls, others = Renewer(), [], []

    def renew() -> None:
        calls.append(1)
        raise error

    renewer.add("lost", renew, 0.02)
    renewer.add("kept", lambda: others.append(1), 0.02)
    wait_for(lambda: len(others) >= 5, "the other one is renewed on")
    assert len(calls) == 1
    for turn in ("lost", "kept"):
        renewer.remove(turn)  # as its block does at its end, even if the turn was lost


@pytest.mark.slow
def test_the_thread_ends_when_there_was_nothing_to_renew_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "_IDLE_SECONDS", 1.0)
    renewer = Renewer()
    renewer.add("one", lambda: None, 60)
    thread = renewer._thread
    assert thread
    assert (thread.daemon, thread.name) == (True, "convstore-leases"), "a process that ends does not wait for it"
    renewer.remove("one")
    renewer.add("another", lambda: None, 60)
    assert renewer._thread is thread
    assert thread.is_alive()
    renewer.remove("another")
    with renewer._changed:
        renewer._changed.notify()
    wait_for(lambda: not thread.is_alive(), "it ends")
    assert renewer._thread is None
    renewed = threading.Event()
    renewer.add("later", renewed.set, 0.01)
    assert renewed.wait(10), "another thread begins"
    renewer.remove("later")


def test_the_thread_stays_for_a_while_if_the_first_turn_was_very_short() -> None:
    renewer = Renewer()
    with renewer._changed:
        renewer.add("one", lambda: None, 60)
        renewer.remove("one")
        thread = renewer._thread
    assert thread
    wait_for(lambda: renewer._looks_at or not thread.is_alive(), "it has looked")
    assert renewer._thread is thread, "the next turn need not start one"


@pytest.mark.slow
def test_the_thread_stays_for_a_while_when_the_last_turn_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "_IDLE_SECONDS", 1.0)
    renewer, renewed = Renewer(), threading.Event()
    renewer.add("one", renewed.set, 0.02)
    thread = renewer._thread
    assert thread
    assert renewed.wait(10)
    removed = time.monotonic()
    renewer.remove("one")
    wait_for(lambda: not thread.is_alive(), "it ends")
    assert time.monotonic() - removed > 0.5
