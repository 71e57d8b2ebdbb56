"""Places in the app's code: where a value was loaded, for the log."""

from __future__ import annotations

import sys
from functools import lru_cache
from types import CodeType
from typing import NamedTuple

_OURS = ("flask_convstore", "collections", "_collections_abc", "contextlib")
"""Modules whose frames stand between the app's line and the load."""


class CodePlace(NamedTuple):
    """A line of the app. It is written out only when it is told."""

    code: CodeType
    line: int

    def __str__(self) -> str:
        return f"{self.code.co_filename}:{self.line}"


def loading_place() -> CodePlace:
    """Find the line of the app that is running."""
    frame = sys._getframe(1)
    while frame.f_back and _is_between(frame.f_globals.get("__name__", "")):
        frame = frame.f_back
    return CodePlace(frame.f_code, frame.f_lineno)


@lru_cache(maxsize=1000)
def _is_between(module: str) -> bool:
    return module.partition(".")[0] in _OURS
