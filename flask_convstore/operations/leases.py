"""Leases of turns, renewed in the background while their turns are in progress."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Hashable
from typing import NamedTuple
from weakref import WeakKeyDictionary

from ..errors import SessionNotFound, TurnLost
from ..stores.store import Store

_log = logging.getLogger("flask_convstore")

_IDLE_SECONDS = 60.0
"""Time that a thread without a turn waits for one before it ends."""


class _Lease(NamedTuple):
    """The renewals of one turn's lease. Times are seconds of the monotonic clock.

    Attributes:
        due_at: Time of the next renewal.
        every_seconds: Time between two renewals.
    """

    due_at: float
    every_seconds: float
    renew: Callable[[], object]


class Renewer:
    """Renews the leases of all turns of one store in one process, in a thread that ends when there are no turns.

    Each store has its own renewer, so that a store that hangs does not hold up the others. A new turn wakes the thread only
    if its lease is due before the thread wakes by itself. Most turns are over by then, and cost no switch of threads.
    """

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._changed = threading.Condition()
        self._looks_at = 0.0  # next wake of the thread
        self._every_seconds = _IDLE_SECONDS
        self._turns: dict[Hashable, _Lease] = {}
        self._thread: threading.Thread | None = None

    def add(self, turn: Hashable, renew: Callable[[], object], every_seconds: float) -> None:
        """Call *renew* every so many seconds until the turn is removed."""
        with self._changed:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="convstore-leases", daemon=True)
                thread.start()
                self._thread = thread
            due_at = time.monotonic() + every_seconds
            self._turns[turn] = _Lease(due_at, every_seconds, renew)
            self._every_seconds = every_seconds
            if due_at < self._looks_at:
                self._changed.notify()

    def remove(self, turn: Hashable) -> None:
        """Renew the lease of a turn no longer. A turn that is not known is ignored."""
        with self._changed:
            self._turns.pop(turn, None)

    def _run(self) -> None:
        idle_until = time.monotonic() + _IDLE_SECONDS
        while True:
            with self._changed:
                now = time.monotonic()
                if self._turns:
                    idle_until = now + _IDLE_SECONDS
                elif now >= idle_until:
                    self._thread = None
                    return
                due = self._take_due(now)
                if not due:
                    self._sleep(now, idle_until)
            for turn, lease in due:
                self._renew(turn, lease.renew)

    def _take_due(self, now: float) -> list[tuple[Hashable, _Lease]]:
        """List the leases that are due, and schedule their next renewal. The lock must be held."""
        due = [(turn, lease) for turn, lease in self._turns.items() if lease.due_at <= now]
        for turn, lease in due:
            self._turns[turn] = lease._replace(due_at=now + lease.every_seconds)
        return due

    def _sleep(self, now: float, idle_until: float) -> None:
        """Wait until a lease is due, or until a turn that begins now would be due. The lock must be held."""
        idle_at = min(now + self._every_seconds, idle_until)
        self._looks_at = min((lease.due_at for lease in self._turns.values()), default=idle_at)
        self._changed.wait(self._looks_at - now)

    def _renew(self, turn: Hashable, renew: Callable[[], object]) -> None:
        try:
            renew()
        except (TurnLost, SessionNotFound):
            self.remove(turn)  # the end of the turn raises the same error
        except Exception as error:
            _log.warning("a turn's lease could not be renewed, it is tried again: %s", error)


_renewers: WeakKeyDictionary[Store, Renewer] = WeakKeyDictionary()
_renewers_lock = threading.Lock()
if hasattr(os, "register_at_fork"):  # where processes can fork
    os.register_at_fork(after_in_child=lambda: globals().update(_renewers_lock=threading.Lock()))


def renewer(store: Store) -> Renewer:
    """Find or make the renewer of a store in this process.

    A forked process needs a new one. Its copy has no thread, and perhaps a lock that nobody releases.
    """
    with _renewers_lock:
        found = _renewers.get(store)
        if found is None or found.pid != os.getpid():
            found = _renewers[store] = Renewer()
        return found
