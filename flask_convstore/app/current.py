"""The running code's application, request, streamed response and unit of work."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextvars import ContextVar
from functools import partial
from typing import Any

from flask import Flask, copy_current_request_context, current_app, has_app_context, has_request_context, request
from flask.globals import app_ctx, request_ctx

from .. import signals
from ..domain.results import Snapshot
from ..domain.types import Owner
from ..mapping.late_writer import LONG_SECONDS, late_writer
from ..mapping.scope import is_scoped, leave_all, units
from ..mapping.unit_of_work import Unit
from ..stores.store import Store

KEY = "convstore"
"""Key of an application's stores: ``app.extensions["convstore"][name]``."""

_ATTRIBUTE = "_flask_convstore_unit"

_streaming: ContextVar[StreamedResponse | None] = ContextVar("flask_convstore_stream", default=None)
"""The streamed response whose next part is being made."""

making_part_of = _streaming.get
"""Find the streamed response whose next part is being made, None if there is none. A request that runs comes before it."""


def app(default: Flask | None = None) -> Flask:
    """Find the application that the running code belongs to.

    Args:
        default: The application of code that runs outside of any context. None: such code is refused.

    Raises:
        RuntimeError: The code belongs to none.
    """
    if has_app_context():
        return current_app._get_current_object()  # type: ignore[attr-defined,no-any-return]
    streamed = _streaming.get()
    if streamed:
        return streamed.app
    if default:
        return default
    raise RuntimeError(
        "this code runs outside of an application context, so no app is known: bind the store by `convstore.on(app)`, or "
        "run the code in `with app.app_context():`, which writes the changes of loaded sessions at its end. Nothing was "
        "written."
    )


def in_context(run: Callable[[], None]) -> Callable[[], None]:
    """Let a function that a thread runs have a copy of the running request's context, or an app context of its own."""
    if has_request_context():
        return copy_current_request_context(run)
    if not has_app_context():
        return run
    own = app()

    def run_in_app() -> None:
        with own.app_context():
            run()

    return run_in_app


def is_in_request_of(own: Flask) -> bool:
    """Tell whether the running code answers a request of the application *own*, or makes a part of a streamed response."""
    if has_request_context():
        return request_ctx.app is own  # the current app may be another one
    streamed = _streaming.get()
    return streamed is not None and streamed.app is own


def current_unit(default: Flask | None = None) -> Unit:
    """Find the unit of work of the running code: of its request, else of its app context, else of its thread.

    When a request has been answered, the unit of the app context around it goes on.

    Args:
        default: The application whose receivers are told of lost changes of a thread without a context.
    """
    unit = known_unit()
    if unit is not None:
        return unit
    if has_app_context():
        unit = Unit(reads_anew=True, lost=partial(_tell_of_lost_changes, app()))
        unit.is_behind_response = has_request_context()
        context = app_ctx._get_current_object()  # type: ignore[attr-defined]
        setattr(context, _ATTRIBUTE, unit)
        late_writer.watch(unit, weakref.ref(context), after=LONG_SECONDS)
    else:
        unit = Unit(reads_anew=True, lost=partial(_tell_of_lost_changes, default)) if default else Unit(reads_anew=True)
        _of_thread.unit, _of_thread.mark = unit, _ThreadMark()
        late_writer.watch(unit, weakref.ref(_of_thread.mark))
    return unit


def known_unit() -> Unit | None:
    """Find the unit of work of the running code. None if it has none yet."""
    unit: Unit | None = None
    if has_request_context() or _streaming.get():
        unit = request_unit()
        if unit is not None:
            return unit
    holder = app_ctx._get_current_object() if has_app_context() else None  # type: ignore[attr-defined]
    unit = getattr(_of_thread, "unit", None) if holder is None else getattr(holder, _ATTRIBUTE, None)
    return None if unit is None or unit.is_over else unit


def request_unit() -> Unit | None:
    """Find or make the unit of work of the current request. None outside of one, and when the request has been answered."""
    unit: Unit | None = None
    if has_request_context():
        # The request object keeps its unit, since an environment may be used for another request.
        current: Any = request._get_current_object()  # type: ignore[attr-defined]
        unit = getattr(current, _ATTRIBUTE, None)
        if unit is None:
            unit = Unit(lost=partial(_tell_of_lost_changes, app()))
            setattr(current, _ATTRIBUTE, unit)
    elif streamed := _streaming.get():
        unit = streamed.unit
    return None if unit is None or unit.is_over else unit


def context_unit() -> Unit | None:
    """Find the unit of the current app context, if it has one."""
    unit: Unit | None = getattr(app_ctx._get_current_object(), _ATTRIBUTE, None)  # type: ignore[attr-defined]
    return None if unit is None or unit.is_over else unit


def _tell_of_lost_changes(app: Flask, error: Exception) -> None:
    for state in list(app.extensions[KEY].values())[:1]:
        state.sender()(signals.changes_lost, error=error)


_of_thread = threading.local()
"""Holder of the unit of a thread that runs without any context."""


def _begin_child() -> None:
    """Let a forked child begin units of its own. Changes that it makes in the objects of its parent are told."""
    units = [unit for unit in (*leave_all(), known_unit()) if unit]
    late_writer.begin()
    for unit in units:
        unit.leave_to_parent()
        if unit.is_held():
            late_writer.watch(unit)


if hasattr(os, "register_at_fork"):  # where processes can fork
    os.register_at_fork(after_in_child=_begin_child)


class _ThreadMark:
    """A mark that lives as long as its thread. Foreign threads and greenlets, which seem to live for ever, have one too."""


class CurrentUnit:
    """The unit of work of the running code, as operations use it."""

    def units(self) -> Sequence[Unit]:
        """List the units of the running code, the innermost first."""
        around = known_unit()
        return units(around) if around or is_scoped() else ()

    def note_seen(self, store: Store, snapshot: Snapshot) -> None:
        """Note in the innermost unit which state of a session the app has read. Outside a request, that all was read."""
        if has_request_context():
            units(current_unit())[0].note_seen(store, snapshot)
        else:
            for unit in units(known_unit())[:1]:
                unit.forget_seen_in_part(store, snapshot.session_id)

    def note_seen_in_part(self, store: Store, session_id: str, messages: int) -> None:
        """Note in the innermost unit that the app has read no more than so many messages, as the store is away."""
        for unit in units(current_unit())[:1]:
            unit.note_seen_in_part(store, session_id, messages)

    def seen_in_part(self, store: Store, session_id: str) -> int | None:
        """Count the messages that the app has read of a session in a unit, where that was a part of it."""
        counts = (unit.seen_in_part(store, session_id) for unit in units(known_unit()))
        return next((count for count in counts if count is not None), None)

    def flush(self) -> None:
        """Write the changes of the innermost unit."""
        for unit in units(known_unit())[:1]:
            unit.flush()


class StreamedResponse:
    """The parts of a streamed response. When a client has read the last part, the changes are written.

    Attributes:
        app: The application.
        unit: The unit of work of the request, which goes on while the parts are made.
        callers: The owner of the request, for each store.
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
        """Close the parts, and write the changes. A client may have left early."""
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
