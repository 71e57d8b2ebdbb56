"""Exceptions that are raised in the middle of a call, at any line of the package or of what it is built on."""

from __future__ import annotations

import linecache
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

_ROOMS = ("flask_convstore/", "redis/", "contextlib.py", "threading.py")


class Interrupted(BaseException):
    """Raised as Ctrl-C, or as the time limit of a task, is."""


class Interruption:
    """Calls a function, and raises ``Interrupted`` in this thread when it comes to its *moment*-th line.

    Attributes:
        is_raised: The call was long enough.
        where: The line.
    """

    def __init__(self, moment: int) -> None:
        self._left = moment
        self.is_raised = False
        self.where = ""
        self._entered: set[tuple[FrameType, int]] = set()

    def call(self, function: Callable[[], Any]) -> Any:
        before = sys.gettrace()
        sys.settrace(self._trace)
        try:
            return function()
        finally:
            sys.settrace(before)
            self._entered.clear()

    def _trace(self, frame: FrameType, event: str, _: Any) -> Any:
        if self.is_raised or not any(room in frame.f_code.co_filename for room in _ROOMS):
            return None
        if threading.current_thread() is not threading.main_thread():
            return None
        if event == "line" and not self._is_end_of_with(frame):
            self._left -= 1
            if self._left <= 0:
                self.is_raised = True
                room = frame.f_code.co_filename.rpartition("/")[2]
                self.where = f"line {frame.f_lineno} of {room} {frame.f_code.co_name}"
                raise Interrupted(self.where)
        return self._trace

    def _is_end_of_with(self, frame: FrameType) -> bool:
        """Tell whether a ``with`` block ends here. Only a trace could come between the block and the lock's release."""
        line = linecache.getline(frame.f_code.co_filename, frame.f_lineno).lstrip()
        if not line.startswith("with "):
            return False
        place = (frame, frame.f_lineno)
        is_end = place in self._entered
        self._entered.add(place)
        return is_end
