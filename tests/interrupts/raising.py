"""Exceptions that are raised in the middle of a call, at any line of the package or of what it is built on."""

from __future__ import annotations

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

    def call(self, function: Callable[[], Any]) -> Any:
        before = sys.gettrace()
        sys.settrace(self._trace)
        try:
            return function()
        finally:
            sys.settrace(before)

    def _trace(self, frame: FrameType, event: str, _: Any) -> Any:
        if self.is_raised or not any(room in frame.f_code.co_filename for room in _ROOMS):
            return None
        if threading.current_thread() is not threading.main_thread():
            return None
        if event == "line":
            self._left -= 1
            if self._left <= 0:
                self.is_raised = True
                self.where = f"{frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_name}"
                raise Interrupted(self.where)
        return self._trace
