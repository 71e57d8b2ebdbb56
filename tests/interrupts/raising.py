"""Exceptions that are raised in the middle of a call, at any line of the package or of what it is built on."""

from __future__ import annotations

import ast
import contextvars
import functools
import linecache
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

_ROOMS = ("/flask_convstore/", "/redis/", "/contextlib.py")


class Interrupted(BaseException):
    """Raised as Ctrl-C, or as the time limit of a task, is."""


@functools.cache
def _clearing_up(file: str) -> frozenset[int]:
    """Find the lines of a file that clear up behind an exception."""
    lines: set[int] = set()
    for node in ast.walk(ast.parse(Path(file).read_text("utf-8"))):
        if isinstance(node, ast.Try):
            handlers = [
                one for one in node.handlers if isinstance(one.type, ast.Name) and one.type.id == "BaseException"
            ]
            parts: list[ast.stmt | ast.ExceptHandler] = [*node.finalbody, *handlers]
            for part in parts:
                lines.update(range(part.lineno, (part.end_lineno or part.lineno) + 1))
    return frozenset(lines)


class Interruption:
    """Calls a function, and raises ``Interrupted`` in its thread when it comes to its *moment*-th line.

    Args:
        spares_nothing: Raise also in lines that clear up, where no code can clear up behind that.

    Attributes:
        is_raised: The call was long enough.
        where: The line.
        raised: The exception, which a log may keep for long, with all that its frames hold.
    """

    def __init__(self, moment: int, *, spares_nothing: bool = False) -> None:
        self._left = moment
        self._spares_nothing = spares_nothing
        self.raised: Interrupted | None = None
        self.is_raised = False
        self.where = ""
        self._entered: set[tuple[FrameType, int]] = set()

    def call(self, function: Callable[[], Any]) -> None:
        """Call *function* in a thread of its own: CPython may leave a traced thread in the middle of a handler."""
        thread = threading.Thread(target=contextvars.copy_context().run, args=(self._traced, function))
        thread.start()
        thread.join()

    def _traced(self, function: Callable[[], Any]) -> None:
        sys.settrace(self._trace)  # of this thread
        try:
            function()
        except Interrupted as error:
            self.raised = error
        finally:
            sys.settrace(None)
            self._entered.clear()

    def _trace(self, frame: FrameType, event: str, _: Any) -> Any:
        if self.is_raised or not any(room in frame.f_code.co_filename for room in _ROOMS):
            return None
        code = frame.f_code
        if (
            event == "line"
            and (self._spares_nothing or frame.f_lineno not in _clearing_up(code.co_filename))
            and not self._is_end_of_with(frame)
        ):
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
