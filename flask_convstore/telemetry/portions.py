"""Portions: what a process has counted goes to the store of figures every few seconds, by a thread of its own.

A portion that may have arrived is sent again as it is, and counts once. While the server is away the portion waits, and the
tally goes on. The thread lives while there is something to send. The last portion is sent when the process ends. A process
that is killed loses what it has counted since its last portion.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import secrets
import threading
import time
import weakref
from collections.abc import Callable, Mapping

from ..domain.deadlines import OPERATION
from ..domain.forks import Forking, watch
from ..domain.repeats import Repeats
from ..errors import StoreUnavailable
from ..stores.figures import FiguresStore, Portion
from .tally import Tally

_log = logging.getLogger("flask_convstore")

EVERY = 5.0
"""Seconds between two portions."""
_PATIENCE = 1.0
"""Most seconds that one waits for another who sends, and that the last portion of a process may take."""


class Portions(Forking):
    """The sender of a store's portions.

    Args:
        figures: Gives the store of figures.
        places: Gives the places of sessions that this process knows, as the store of figures takes them.

    Attributes:
        tally: The sums of this process.
    """

    def __init__(self, figures: Callable[[], FiguresStore], places: Callable[[], Mapping[str, str]]) -> None:
        self.tally = Tally(self.wake)
        self._figures = figures
        self._places = places
        self._told = Repeats(60.0)
        self._begin_anew()
        watch(self)
        _SENDERS.add(self)

    def _begin_anew(self) -> None:
        self._process = secrets.token_hex(8)
        self._number = 0
        self._waiting: Portion | None = None
        self._lock = threading.RLock()  # collecting garbage may end another call in its midst
        self._is_running = False

    def in_child(self) -> None:
        self._begin_anew()
        self.tally.begin_anew()

    def wake(self) -> None:
        """Start the thread, unless it runs."""
        if self._is_running:
            return
        self._is_running = True
        try:
            threading.Thread(target=_keep_sending, args=([self],), name="convstore-figures", daemon=True).start()
        except RuntimeError:  # no thread can be started, such as at the end of a process. The next call tries again
            self._is_running = False

    @property
    def waits(self) -> bool:
        """A portion could not be sent, and waits."""
        return self._waiting is not None

    def goes_on(self) -> bool:
        """Send what was counted. Tell whether the thread has more to do."""
        self.send()
        if self.waits:
            return True
        self._is_running = False
        if self.tally.is_empty:
            return False
        self._is_running = True  # something was counted just now, and may not have found the thread at its end
        return True

    def send(self) -> None:
        """Send what was counted. A failure is logged, and the portion waits."""
        if not self._lock.acquire(timeout=_PATIENCE):
            return  # another thread sends, and the server takes its time
        try:
            self._send()
        except StoreUnavailable:
            pass  # the calls of sessions tell of the outage
        except Exception as error:
            if self._told.left_out("portion") is not None:
                _log.warning("figures were not written, and wait: %s", error)
        finally:
            self._lock.release()

    def _send(self) -> None:
        if self._waiting:
            self._send_one()
        self._send_one()

    def _send_one(self) -> None:
        """Send the portion that waits, or else a new one."""
        self._waiting = self._waiting or self.tally.take(self._process, self._number + 1)
        if self._waiting is None:
            return
        self._number = self._waiting.number
        asks = self._figures().add(self._waiting)
        self._waiting = None
        if asks:
            self._figures().note_alive(self._places())


def _keep_sending(held: list[Portions]) -> None:
    """Send every few seconds, in a thread. While the server is away, nothing keeps an app that nobody has any more."""
    sender: Portions | None = held.pop()  # a thread keeps its arguments
    found = weakref.ref(sender)
    time.sleep(EVERY)
    while sender and sender.goes_on():
        if sender.waits:
            sender = None
        time.sleep(EVERY)
        sender = sender or found()


_SENDERS: weakref.WeakSet[Portions] = weakref.WeakSet()


@atexit.register
def _send_last() -> None:
    for sender in list(_SENDERS):
        with OPERATION.within(_PATIENCE), contextlib.suppress(Exception):
            sender.send()
