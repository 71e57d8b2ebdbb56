"""The running code's application, request, streamed response and unit of work."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from typing import Any

from flask import Flask, current_app, has_request_context, request

from ..domain.commands import Write
from ..domain.results import Receipt
from ..domain.types import Owner
from ..mapping.unit_of_work import Unit, units
from ..stores.store import Store

KEY = "convstore"
"""Key of an application's stores: ``app.extensions["convstore"][name]``."""

_ATTRIBUTE = "_flask_convstore_unit"

_streaming: ContextVar[StreamedResponse | None] = ContextVar("flask_convstore_stream", default=None)
"""The streamed response whose next part is being made."""


def app() -> Flask:
    """Find the application that the running code belongs to.

    Raises:
        RuntimeError: The code belongs to none.
    """
    try:
        return current_app._get_current_object()  # type: ignore[attr-defined,no-any-return]
    except RuntimeError:
        streamed = _streaming.get()
        if streamed:
            return streamed.app
        raise


def streamed_response() -> StreamedResponse | None:
    """Find the streamed response whose next part is being made without a request context. None in a request."""
    return _streaming.get() if not has_request_context() else None


def request_unit() -> Unit | None:
    """Find the unit of work of the current request. None outside of one, and when the request has been answered."""
    unit: Unit | None = None
    if has_request_context():
        # The request object keeps its unit, since an environment may be used for another request.
        current: Any = request._get_current_object()  # type: ignore[attr-defined]
        unit = getattr(current, _ATTRIBUTE, None)
        if unit is None:
            unit = Unit()
            setattr(current, _ATTRIBUTE, unit)
    elif streamed := _streaming.get():
        unit = streamed.unit
    return None if unit is None or unit.is_over else unit


class CurrentUnit:
    """The unit of work of the running code, as operations know of it."""

    def refresh(self, store: Store, command: Write, receipt: Receipt) -> None:
        """Let the mappings that have loaded the session take over what was written through another door."""
        for unit in units(request_unit()):
            unit.refresh(store, command, receipt)

    def flush(self) -> None:
        """Write what the innermost unit has changed."""
        for unit in units(request_unit())[:1]:
            unit.flush()


class StreamedResponse:
    """The parts of a streamed response. A client that has read the last part finds its changes written.

    Attributes:
        app: The application.
        unit: The unit of work of its request, which goes on while the parts are made.
        callers: The owner that each store was called by in its request.
    """

    def __init__(
        self, parts: Iterable[Any], unit: Unit, callers: dict[Any, Owner], write: Callable[[Unit], None]
    ) -> None:
        self._parts = parts
        self._next = iter(parts).__next__
        self._write = write
        self.app = app()
        self.unit = unit
        self.callers = callers
        unit.is_streamed = True

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        before = _streaming.set(self)
        try:
            return self._next()
        except StopIteration:
            self.end()
            raise
        finally:
            _streaming.reset(before)

    def close(self) -> None:
        before = _streaming.set(self)
        try:
            getattr(self._parts, "close", lambda: None)()
        finally:
            _streaming.reset(before)
            self.end()

    def end(self) -> None:
        """Write the changes since the response began."""
        if not self.unit.is_over:
            self._write(self.unit)
