"""Updates of metrics and figures, one after the other, so that prometheus-client's locks are safe.

Its locks are plain ones. A child that is forked while another thread holds one waits for ever, and so does a thread in which
collecting garbage ends another call, in the midst of an update.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from ..domain.forks import Forking, watch
from ..domain.repeats import Repeats

_log = logging.getLogger("flask_convstore")


class Updates(Forking):
    """Does updates in their order. A fork waits for the running one. One that fails is logged, and fails nothing else."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._waiting: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._is_running = False
        self._told = Repeats()
        watch(self)

    def do(self, update: Callable[..., object], *arguments: Any) -> None:
        """Do one update, or leave it to the one of this thread that is running."""
        with self._lock:
            self._waiting.append((update, arguments))
            if self._is_running:
                return
            self._is_running = True
            try:
                while self._waiting:
                    self._try(*self._waiting.popleft())
            finally:
                self._is_running = False

    def _try(self, update: Callable[..., object], arguments: tuple[Any, ...]) -> None:
        try:
            update(*arguments)
        except Exception:  # what is measured is done, and its caller waits for the answer
            left_out = self._told.left_out("update")
            if left_out is not None:
                _log.exception("a metric was not updated. %d more were not since the last such line", left_out)

    def before_fork(self) -> None:
        self._lock.acquire()

    def after_fork(self) -> None:
        self._lock.release()

    def in_child(self) -> None:
        self._lock = threading.RLock()
        self._waiting.clear()
        self._is_running = False


UPDATES = Updates()
"""The updates of all metrics of this process."""
