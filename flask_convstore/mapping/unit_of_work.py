"""What one request, or one scope, has loaded and changed: the entries of all its mappings, written together at its end."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any, NamedTuple

from ..domain.commands import Delete, Merge, Put
from ..domain.results import Receipt
from ..domain.types import Owner
from ..errors import ConvstoreError, InvalidInput
from ..stores.store import Store
from .tracked_value import NO_VALUE, Identity, Place, TrackedValue

_log = logging.getLogger("flask_convstore")


class Unit:
    """What one request, or one scope, has loaded and changed.

    Attributes:
        is_dispatched: A response will end it.
        is_void: Nothing of it shall be written any more.
        is_streamed: It goes on behind the response's beginning.
        is_over: What comes now is outside of it.
    """

    def __init__(self) -> None:
        self._values: dict[Identity, TrackedValue] = {}
        self._is_writing = False
        self.is_dispatched = self.is_void = self.is_streamed = self.is_over = False

    def entry(self, place: Place, *, is_interaction: bool = True) -> TrackedValue:
        """The entry of a place; loaded if it is not here yet."""
        entry = self._values.get(place.identity)
        if entry is None:
            entry = TrackedValue(place)
            entry.load(is_interaction=is_interaction)
            entry = self._values.setdefault(place.identity, entry)
        elif is_interaction:
            entry.use()
        return entry

    def assign(self, place: Place, value: Any) -> None:
        """Put *value* there, whatever is there."""
        self._values.setdefault(place.identity, TrackedValue(place)).assign(value)

    def remove(self, place: Place) -> None:
        """Leave nothing there, whatever is there."""
        self._values.setdefault(place.identity, TrackedValue(place)).remove()

    def found(self, place: Place) -> TrackedValue | None:
        """The entry of a place, if it is here already."""
        return self._values.get(place.identity)

    def added(self, store: Store, owner: Owner) -> list[str]:
        """The ids of one mapping's values that were assigned, and are perhaps not stored yet."""
        entries = [entry for entry in list(self._values.values()) if entry.place.identity[:2] == (store, owner)]
        return [e.place.session_id for e in entries if e.value is not NO_VALUE and e.known() is None]

    def flush(self) -> None:
        """Write what differs, one session after the other; nothing if one of them cannot be written as JSON.

        Raises:
            ConvstoreError: One could not be written; *written* tells of all.
        """
        if self.is_void:
            return
        entries = list(self._values.values())
        is_written = False
        self._is_writing = True
        try:
            for entry in entries:
                entry.finish_pending()
            for entry, command in [(entry, _command(entry)) for entry in entries]:
                if command:
                    entry.write(command)
                    is_written = True
        except ConvstoreError as error:
            error.written = True if is_written else error.written
            raise
        finally:
            self._is_writing = False

    def refresh(self, store: Store, command: Any, receipt: Receipt) -> None:
        """*command* came through another door: take it over. What fails is logged: merging at the end copes with it too."""
        if self._is_writing:
            return
        for entry in list(self._values.values()):
            if entry.place.session_id == command.session_id and entry.place.access.store is store:
                try:
                    entry.refresh(command, receipt)
                except Exception as error:  # the write is done: nothing may make it look undone
                    reason = error if isinstance(error, ConvstoreError) else type(error).__name__
                    _log.warning("a loaded session was not brought up to date: %s", reason)


def _command(entry: TrackedValue) -> Put | Merge | Delete | None:
    try:
        return entry.command()
    except InvalidInput as error:
        _log.error("session %r of a mapping cannot be written: %s", entry.place.session_id, error)
        raise


class _Scope(NamedTuple):
    """A scope's unit, that of the request in which it was opened, and the scope around it."""

    unit: Unit
    request_unit: Unit | None
    outer: _Scope | None


_innermost: ContextVar[_Scope | None] = ContextVar("flask_convstore_scope", default=None)


@contextlib.contextmanager
def scoped(request_unit: Unit | None) -> Iterator[None]:
    """A unit for a block, written at its end unless it raises."""
    scope = _Scope(Unit(), request_unit, _innermost.get())
    before = _innermost.set(scope)
    try:
        yield
    finally:
        _innermost.reset(before)
    scope.unit.flush()


def units(request_unit: Unit | None) -> list[Unit]:
    """The units of the running code, the one that counts first."""
    found, scope = [], _innermost.get()
    while scope and scope.request_unit is request_unit:
        found.append(scope.unit)
        scope = scope.outer
    return found + ([request_unit] if request_unit else [])
