"""Damaged sessions: the server has evicted one of their keys, or somebody else has written into them.

Reading one is an error. Whatever replaces or deletes it mends it. What is left of one can be read on purpose.
"""

from __future__ import annotations

import logging
import threading
from typing import Any

from ..domain import json_text
from ..domain.clock import monotonic
from ..domain.messages import bodies_of
from ..domain.results import Snapshot
from ..domain.shapes import key_of
from ..domain.validation import check_session_id
from ..errors import ConvstoreError
from .access import Access, in_time

_log = logging.getLogger("flask_convstore")

_EVERY_SECONDS = 10.0


class DamageLog:
    """Warns of damaged sessions that are skipped, at most once in ten seconds. The next warning tells how many more."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._next_at = 0.0
        self._left_out = 0

    def tell(self, error: ConvstoreError) -> None:
        """Tell that a session was skipped because of *error*."""
        with self._lock:
            now = monotonic()
            if now < self._next_at:
                self._left_out += 1
                return
            more = f" {self._left_out} more were not logged." if self._left_out else ""
            self._next_at, self._left_out = now + _EVERY_SECONDS, 0
        _log.warning("a damaged session is skipped: %s%s", error, more)


damage_log = DamageLog()


@in_time
def salvage(access: Access, session_id: str) -> Any:
    """Read what is left of a session, damaged or not, as a dict or a list. None if nothing is. That is no interaction."""
    check_session_id(session_id)
    snapshot = access.salvage(session_id)
    return None if snapshot is None else _left(snapshot, access.limits.history_key)


def _left(snapshot: Snapshot, first_key: str) -> Any:
    """Decode the fields and messages that are whole."""
    content = {name: value for name, text in snapshot.fields.items() for value in _decoded(text)}
    history = _history(snapshot)
    if snapshot.shape == "list":
        return history
    if snapshot.shape == "value" and "" in content:
        return content[""]
    key = key_of(snapshot.shape, first_key)
    return {**content, key or first_key: history} if history or key else content


def _history(snapshot: Snapshot) -> list[Any]:
    return [body for element in snapshot.elements for body in _body(element)]


def _body(element: bytes) -> list[Any]:
    try:
        (text,) = bodies_of([element])
    except ValueError:
        return []
    return _decoded(text)


def _decoded(text: bytes) -> list[Any]:
    """Decode a JSON text. Nothing if it is none."""
    try:
        return [json_text.decode(text)]
    except ValueError:
        return []
