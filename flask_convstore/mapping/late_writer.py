"""Late writer: changes of values that outlive their unit of work, or that belong to a thread without one.

A list that a view handed to a thread may grow when the request is long over. Units whose values somebody still holds are
watched by one thread of each process, which writes what has changed, and forgets a unit when nobody holds its values.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from dataclasses import dataclass, field

from .unit_of_work import Unit

_log = logging.getLogger("flask_convstore")

_SHORTEST_PAUSE = 0.1
_LONGEST_PAUSE = 5.0
"""Seconds between two looks at a unit. The pause doubles while nothing changes."""

_MOST_UNITS = 1000

_LONGEST_WATCH = 600.0
"""Seconds without a change until a held value is let go. Who holds it may be a constant of a module."""


@dataclass(slots=True)
class _Watched:
    """A unit, the thread that it belongs to (None: nobody), and the time of the next look."""

    unit: Unit
    thread: threading.Thread | None
    pause: float = _SHORTEST_PAUSE
    next_at: float = field(default_factory=time.monotonic)
    changed_at: float = field(default_factory=time.monotonic)

    def is_done(self, now: float) -> bool:
        if self.thread and self.thread.is_alive():
            return False
        return now - self.changed_at > _LONGEST_WATCH or not self.unit.is_held()


class LateWriter:
    """Watches units, in a thread of its own for as long as there are any."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        """Begin without units. A forked child leaves units and lock, which may be held, to its parent."""
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._watched: list[_Watched] = []
        self._is_running = False

    def watch(self, unit: Unit, thread: threading.Thread | None = None) -> None:
        """Write the changes of *unit* from now on, while its values are held or its *thread* is alive."""
        if self._process != os.getpid():
            self._begin()
        with self._lock:
            if len(self._watched) >= _MOST_UNITS:
                _log.warning("more than %d units of work are held: later changes of the oldest are lost", _MOST_UNITS)
                self._watched.pop(0)
            self._watched.append(_Watched(unit, thread))
            if not self._is_running:
                threading.Thread(target=self._run, name="convstore-late-writer", daemon=True).start()
                atexit.register(self.write_all)
                self._is_running = True

    def write_all(self) -> None:
        """Write all changes now: the process ends."""
        if self._process == os.getpid():
            for watched in list(self._watched):
                self._write(watched)

    def _run(self) -> None:
        while True:
            time.sleep(_SHORTEST_PAUSE)
            now = time.monotonic()
            for watched in [found for found in list(self._watched) if found.next_at <= now]:
                self._look_at(watched, now)

    def _look_at(self, watched: _Watched, now: float) -> None:
        is_done = watched.is_done(now)  # before the last look, so that no change comes between
        was_changed = self._write(watched)
        watched.pause = _SHORTEST_PAUSE if was_changed else min(2 * watched.pause, _LONGEST_PAUSE)
        watched.changed_at = now if was_changed else watched.changed_at
        watched.next_at = now + watched.pause
        if watched.thread:
            watched.unit.forget_unheld()
        if is_done:
            with self._lock:
                self._watched.remove(watched)

    def _write(self, watched: _Watched) -> bool:
        """Write the changes of a unit. False if there were none."""
        try:
            is_changed = watched.unit.is_changed()
        except Exception:  # another thread changes the value at this moment: the next look finds it
            return True
        if is_changed:
            watched.unit.write_late("thread that held a value")
        return is_changed


late_writer = LateWriter()
"""The late writer of this process."""
