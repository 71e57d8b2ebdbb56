"""Leases of turns, renewed in the background while their turns are in progress.

The leases that are due at one place are renewed in one round trip, however many they are. A place is a part of a store that
can be away by itself, such as a primary of a Cluster. Most turns are over before their lease is due, so that only then the
place of a session is looked up.
"""

from __future__ import annotations

import logging
import math
import os
import threading
from collections.abc import Hashable, Sequence
from typing import NamedTuple
from weakref import WeakKeyDictionary

from ..domain.clock import monotonic
from ..domain.commands import RenewTurn
from ..errors import SessionNotFound, TurnLost
from ..stores.store import Store

_log = logging.getLogger("flask_convstore")

_IDLE_SECONDS = 60.0
"""Time that a thread without a turn waits for one before it ends."""

_EARLY = 0.25
"""Part of its interval by which a lease is renewed early, with others that are due. A failure is tried again so soon."""


class _Lease(NamedTuple):
    """The renewals of one turn's lease. Times are seconds of the monotonic clock.

    Attributes:
        due_at: Time of the next renewal.
        every_seconds: Time between two renewals.
        until: Time of the last renewal.
    """

    due_at: float
    every_seconds: float
    store: Store
    command: RenewTurn
    until: float


class Renewer:
    """Renews the leases of all turns of one store in one process. A thread waits until they are due.

    A new turn wakes the thread only if its lease is due before the thread wakes by itself. Most turns are over by then, and
    cost no switch of threads. The thread ends when there are no turns. It asks no store: each place gets a thread while its
    leases are renewed, so that none holds up the others.
    """

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._changed = threading.Condition()
        self._looks_at = 0.0  # next wake of the thread
        self._every_seconds = _IDLE_SECONDS
        self._turns: dict[Hashable, _Lease] = {}
        self._thread: threading.Thread | None = None
        self._asked: set[str] = set()  # places whose leases are being renewed

    def add(
        self, turn: Hashable, store: Store, command: RenewTurn, every_seconds: float, longest: float = math.inf
    ) -> None:
        """Renew a lease by *command* every so many seconds until the turn is removed, or has lasted the *longest* time."""
        with self._changed:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="convstore-leases", daemon=True)
                thread.start()
                self._thread = thread
            now = monotonic()
            due_at = now + every_seconds
            self._turns[turn] = _Lease(due_at, every_seconds, store, command, now + longest)
            self._every_seconds = every_seconds
            if due_at < self._looks_at:
                self._changed.notify()

    def remove(self, turn: Hashable) -> None:
        """Renew the lease of a turn no longer. A turn that is not known is ignored."""
        with self._changed:
            self._turns.pop(turn, None)

    def _run(self) -> None:
        idle_until = monotonic() + _IDLE_SECONDS
        while True:
            with self._changed:
                now = monotonic()
                if self._turns:
                    idle_until = now + _IDLE_SECONDS
                elif now >= idle_until:
                    self._thread = None
                    return
                due = self._take_due(now)
                if not due:
                    self._sleep(now, idle_until)
            if due:
                self._renew_by_place(due)

    def _take_due(self, now: float) -> list[tuple[Hashable, _Lease]]:
        """List the leases that are due, and those that soon will be. Schedule their next renewal. The lock must be held."""
        if not any(lease.due_at <= now for lease in self._turns.values()):
            return []
        due = [
            (turn, lease) for turn, lease in self._turns.items() if lease.due_at <= now + _EARLY * lease.every_seconds
        ]
        kept = [(turn, lease) for turn, lease in due if lease.until > now]
        if len(kept) < len(due):
            _log.warning("a turn lasts longer than CONVSTORE_TURN_MAX, and is not kept any more")
        for turn, _ in due:
            del self._turns[turn]
        for turn, lease in kept:
            self._turns[turn] = lease._replace(due_at=now + lease.every_seconds)
        return kept

    def _sleep(self, now: float, idle_until: float) -> None:
        """Wait until a lease is due, or until a turn that begins now would be due. The lock must be held."""
        idle_at = min(now + self._every_seconds, idle_until)
        self._looks_at = min((lease.due_at for lease in self._turns.values()), default=idle_at)
        self._changed.wait(self._looks_at - now)

    def _renew_by_place(self, due: Sequence[tuple[Hashable, _Lease]]) -> None:
        """Renew leases in a thread for each place. Those of a place that has not answered the last time yet come soon."""
        places: dict[str, list[tuple[Hashable, _Lease]]] = {}
        for turn, lease in due:
            places.setdefault(_place_of(lease), []).append((turn, lease))
        for place, leases in places.items():
            with self._changed:
                is_asked = place in self._asked
                self._asked.add(place)
            if is_asked:
                for turn, lease in leases:
                    self._hasten(turn, lease)
                continue
            asking = threading.Thread(
                target=self._renew_at, args=(place, leases), name="convstore-leases-of-a-place", daemon=True
            )
            try:
                asking.start()
            except RuntimeError:  # the process has too many threads
                self._renew_at(place, leases)

    def _renew_at(self, place: str, due: Sequence[tuple[Hashable, _Lease]]) -> None:
        try:
            self._renew(due)
        finally:
            with self._changed:
                self._asked.discard(place)

    def _renew(self, due: Sequence[tuple[Hashable, _Lease]]) -> None:
        """Renew leases together. What fails is tried again soon, and logged once for all."""
        failed: Exception | None = None
        answers: Sequence[Exception | None]
        try:
            answers = due[0][1].store.renew([lease.command for _, lease in due])
        except Exception as error:
            answers = [error] * len(due)
        for (turn, lease), answer in zip(due, answers, strict=True):
            if isinstance(answer, (TurnLost, SessionNotFound)):
                self.remove(turn)  # the end of the turn raises the same error
            elif answer:
                failed = answer
                self._hasten(turn, lease)
        if failed:
            _log.warning("a turn's lease could not be renewed, it is tried again: %s", failed)

    def _hasten(self, turn: Hashable, lease: _Lease) -> None:
        with self._changed:
            if turn in self._turns:
                self._turns[turn] = lease._replace(due_at=monotonic() + _EARLY * lease.every_seconds)


def _place_of(lease: _Lease) -> str:
    """Find the place of a lease. "" where the store cannot tell. The renewal then tells why."""
    try:
        return lease.store.place_of(lease.command.session_id)
    except Exception:
        return ""


_renewers: WeakKeyDictionary[Store, Renewer] = WeakKeyDictionary()
_renewers_lock = threading.RLock()  # collecting garbage may end another turn in its midst
if hasattr(os, "register_at_fork"):  # where processes can fork
    os.register_at_fork(after_in_child=lambda: globals().update(_renewers_lock=threading.RLock()))


def renewer(store: Store) -> Renewer:
    """Find or make the renewer of a store in this process.

    A forked process needs a new one. Its copy has no thread, and perhaps a lock that nobody releases.
    """
    with _renewers_lock:
        found = _renewers.get(store)
        if found is None or found.pid != os.getpid():
            found = _renewers[store] = Renewer()
        return found
