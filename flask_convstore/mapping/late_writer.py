"""Late writer: changes of values that outlive their unit of work, or that belong to a thread without one.

A list that a view handed to a thread may grow when the request is long over. One thread of each process watches the
units whose values somebody still holds. It writes the changes, and forgets a unit when nobody holds its values. A unit whose
code has raised is watched too: it writes nothing, and tells of later changes. So is an app context that stays open for long.

Nothing that goes wrong with one unit ends the watch over the others. A change that no longer fits is told and tried again in
growing pauses while somebody holds it. A change that the store did not take for want of an answer is kept until it does.
"""

from __future__ import annotations

import atexit
import logging
import sys
import threading
import time
import weakref
from dataclasses import dataclass, field
from typing import Any

from ..domain.clock import monotonic
from ..errors import StoreUnavailable
from .unit_of_work import Unit

_log = logging.getLogger("flask_convstore")

_SHORTEST_PAUSE = 0.1
_LONGEST_PAUSE = 5.0
"""Seconds between two looks at a unit. The pause doubles while nothing changes, and while a change cannot be written."""

_MOST_UNITS = 1000

_LONGEST_EXIT = 10.0
"""Seconds for the last writes of a process that ends while the server is away."""

LONG_SECONDS = 10.0
"""Age of an app context at which its changes are written before its end."""

_OCCASION = "thread that held a value"


@dataclass(slots=True, eq=False)
class _Watched:
    """A unit, and the time of the next look.

    Attributes:
        mark: An object that lives as long as the thread that the unit belongs to. None: the unit belongs to nobody.
        is_told: The failure of the last look is logged.
    """

    unit: Unit
    mark: weakref.ref[Any] | None
    pause: float = _SHORTEST_PAUSE
    next_at: float = field(default_factory=monotonic)
    is_told: bool = False

    def goes_on(self) -> bool:
        """Tell whether the thread or the context of the unit goes on."""
        return self.mark is not None and self.mark() is not None

    def is_done(self) -> bool:
        return not self.goes_on() and not self.unit.is_held()


class LateWriter:
    """Watches units, in a thread of its own that the first one starts."""

    def __init__(self) -> None:
        self._is_told_of_forks = False
        self.begin()

    def begin(self) -> None:
        """Begin without units. A forked child leaves units and lock, which may be held, to its parent."""
        self._lock = threading.RLock()  # collecting garbage may end another unit meanwhile
        self._watched: list[_Watched] = []
        self._is_running = False
        self._has_warned = False

    def watch(self, unit: Unit, mark: weakref.ref[Any] | None = None, *, after: float = 0.0) -> None:
        """Write the changes of *unit* from now on, while its values are held, or while the object behind *mark* lives.

        Args:
            after: Seconds until the first look.
        """
        self._add(_Watched(unit, mark, next_at=monotonic() + after))

    def end(self, unit: Unit) -> None:
        """End *unit*, and write its changes. Later changes of those who hold its values are written or told.

        Raises:
            ConvstoreError: A change could not be written. Whoever is told may do all again: nothing is written later.
        """
        try:
            unit.flush()
        except BaseException as error:  # also a signal's: what has landed is not known, and would be written twice
            unit.drop(f"an earlier change could not be written ({type(error).__name__})", is_told=True)
            raise
        finally:
            self.let_go(unit)

    def end_late(self, unit: Unit, occasion: str) -> None:
        """End *unit*, and write its changes where nobody is there to be told of an error: it is logged and signalled.

        What the store does not take for want of an answer is kept until it does.
        """
        watched = _Watched(unit, None)
        error = self._write(watched, occasion, looks=False)
        self.let_go(unit, watched if isinstance(error, (StoreUnavailable, RuntimeError)) or watched.is_told else None)

    def let_go(self, unit: Unit, watched: _Watched | None = None) -> None:
        """End *unit*. Later changes of those who hold its values are written, or told if it has raised."""
        unit.is_over = True
        if unit.reads_anew:  # a context is watched from its beginning
            self._forget(unit)
        if watched or unit.is_held():
            self._add(watched or _Watched(unit, None))

    def _add(self, watched: _Watched) -> None:
        with self._lock:
            self._watched.append(watched)
            if not self._is_running:
                self._start()

    def write_all(self) -> None:
        """Write all changes now: the process ends."""
        deadline = monotonic() + _LONGEST_EXIT
        for watched in list(self._watched):
            if monotonic() > deadline:
                _log.error("the server is away: changes of held values were not written before the process ended")
                return
            self._give_up(watched)

    def _start(self) -> None:
        self._write_at_exit()
        try:
            threading.Thread(target=self._run, name="convstore-late-writer", daemon=True).start()
            self._is_running = True
        except RuntimeError as error:  # the process ends, or has too many threads
            _log.warning("changes of held values are written late, since no thread can be started: %s", error)

    def _write_at_exit(self) -> None:
        atexit.unregister(self.write_all)  # a forked child may have it from its parent
        atexit.register(self.write_all)
        util: Any = sys.modules.get("multiprocessing.util")
        if util:  # a process of this module ends without the functions of atexit, and forgets those of its parent
            util.Finalize(None, self.write_all, exitpriority=0)
            if not self._is_told_of_forks:
                self._is_told_of_forks = True
                util.register_after_fork(self, LateWriter._write_at_exit)

    def _run(self) -> None:
        while True:
            time.sleep(_SHORTEST_PAUSE)
            now = monotonic()
            for watched in [found for found in list(self._watched) if found.next_at <= now]:
                try:
                    self._look_at(watched)
                except Exception as error:
                    _log.error("a held value cannot be looked at: %s", type(error).__name__)
            self._make_room()

    def _look_at(self, watched: _Watched) -> None:
        watched.pause = min(2 * watched.pause, _LONGEST_PAUSE)
        watched.next_at = monotonic() + watched.pause
        is_done = watched.is_done()  # before the last look, so that no change comes between
        if not is_done:
            self._write(watched)
            watched.unit.forget_unheld()
        elif not isinstance(self._write_last(watched), StoreUnavailable):
            self._forget(watched.unit)

    def _write(self, watched: _Watched, occasion: str = _OCCASION, *, looks: bool = True) -> Exception | None:
        """Write the changes of a unit. Return the error, which is told when it is new.

        Args:
            looks: Look for changes first. Those that are found are compared twice then.
        """
        unit, is_told = watched.unit, watched.is_told
        try:
            if not looks or unit.is_changed():
                unit.flush_each(is_repeated=is_told)
                watched.pause, watched.next_at = _SHORTEST_PAUSE, 0.0
        except RuntimeError as error:  # another thread changes a dict at this moment: the next look finds it
            return error
        except StoreUnavailable as error:
            if not is_told:
                _log.warning("changes of a held value are not written yet, and kept: %s", error)
            watched.is_told = True
            return error
        except Exception as error:
            if not is_told:
                unit.tell_lost(occasion, error)
            watched.is_told = True
            return error
        watched.is_told = False
        return None

    def _write_last(self, watched: _Watched) -> Exception | None:
        """Write the changes of a unit that nobody holds any more. An error is told."""
        error = self._write(watched)
        if isinstance(error, RuntimeError):
            watched.unit.tell_lost(_OCCASION, error)
        return error

    def _make_room(self) -> None:
        """Forget the units without changes for the longest time, if there are too many.

        Those of threads and contexts that go on are needed: their code finds them again, and makes no others.
        """
        while len(self._watched) > _MOST_UNITS:
            ended = [watched for watched in list(self._watched) if not watched.goes_on()]
            if not ended:
                return
            if not self._has_warned:
                _log.warning(
                    "more than %d units of work have values that something holds, such as a cache, or a constant message "
                    "in each history. Later changes of the oldest ones are not written.",
                    _MOST_UNITS,
                )
                self._has_warned = True
            self._give_up(max(ended, key=lambda watched: watched.pause))

    def _give_up(self, watched: _Watched) -> None:
        """Write the changes of a unit for the last time."""
        error = self._write_last(watched)
        if isinstance(error, StoreUnavailable):
            watched.unit.tell_lost(_OCCASION, error)
        self._forget(watched.unit)

    def _forget(self, unit: Unit) -> None:
        with self._lock:
            self._watched = [watched for watched in self._watched if watched.unit is not unit]


late_writer = LateWriter()
"""The late writer of this process."""
