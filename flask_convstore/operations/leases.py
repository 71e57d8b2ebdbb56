"""The leases of turns: each is renewed in the background for as long as its turn is in progress."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Hashable
from weakref import WeakKeyDictionary

from ..errors import SessionNotFound, TurnLost
from ..stores.store import Store

_log = logging.getLogger("flask_convstore")

_IDLE_SECONDS = 60.0
"""How long a thread without a turn waits for one."""


class Renewer:
    """Renews the leases of all turns of one store in one process, in a thread that lives while there are any.

    One for each store: a store that hangs must not hold up the others. The thread is woken only for a lease that ends before
    it looks again: most turns come and go without its taking the interpreter from anybody.
    """

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._changed = threading.Condition()
        self._looks_at = 0.0  # the thread, next
        self._every_seconds = _IDLE_SECONDS
        # When each is to be renewed, every how many seconds, and how.
        self._turns: dict[Hashable, tuple[float, float, Callable[[], object]]] = {}
        self._thread: threading.Thread | None = None

    def add(self, turn: Hashable, renew: Callable[[], object], every_seconds: float) -> None:
        with self._changed:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="convstore-leases", daemon=True)
                thread.start()
                self._thread = thread
            at = time.monotonic() + every_seconds
            self._turns[turn] = (at, every_seconds, renew)
            self._every_seconds = every_seconds
            if at < self._looks_at:
                self._changed.notify()

    def remove(self, turn: Hashable) -> None:
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
                due = [turn for turn, (at, _, _) in self._turns.items() if at <= now]
                if not due:
                    # Without a turn: when one that begins now would have to be looked at.
                    idle_at = min(now + self._every_seconds, idle_until)
                    self._looks_at = min((at for at, _, _ in self._turns.values()), default=idle_at)
                    self._changed.wait(self._looks_at - now)
                    continue
                calls = []
                for turn in due:
                    _, every_seconds, renew = self._turns[turn]
                    self._turns[turn] = (now + every_seconds, every_seconds, renew)
                    calls.append((turn, renew))
            for turn, renew in calls:
                self._renew(turn, renew)

    def _renew(self, turn: Hashable, renew: Callable[[], object]) -> None:
        try:
            renew()
        except (TurnLost, SessionNotFound):
            self.remove(turn)  # its end will be told so
        except Exception as error:
            _log.warning("a turn's lease could not be renewed, it is tried again: %s", error)


_renewers: WeakKeyDictionary[Store, Renewer] = WeakKeyDictionary()
_renewers_lock = threading.Lock()
if hasattr(os, "register_at_fork"):  # where processes can fork
    os.register_at_fork(after_in_child=lambda: globals().update(_renewers_lock=threading.Lock()))


def renewer(store: Store) -> Renewer:
    """That of this store in this process: after a fork there is no thread, and perhaps a lock that is never given back."""
    with _renewers_lock:
        found = _renewers.get(store)
        if found is None or found.pid != os.getpid():
            found = _renewers[store] = Renewer()
        return found
