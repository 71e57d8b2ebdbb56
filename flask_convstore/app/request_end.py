"""When a request ends: what its mappings have changed is written before the response leaves.

A request whose view raised writes nothing. A write that fails turns the response into a problem response. A streamed
response may go on changing things, with or without a context of Flask's: that is written before its end is sent, or when it
is closed, and a failure there is logged and signalled.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from typing import Any

from flask import Flask, Response, current_app, has_request_context, request
from flask.signals import got_request_exception, request_started

from .. import signals
from ..errors import ConvstoreError, InvalidInput, TooLarge, Unstorable
from ..http.problems import problem
from ..mapping.unit_of_work import Unit

_log = logging.getLogger("flask_convstore")

KEY = "convstore"
"""Where an application's stores are found: ``app.extensions["convstore"][name]``."""

_ATTRIBUTE = "_flask_convstore_unit"

_OF_THE_BODY = {"cache-control", "etag", "expires", "last-modified", "location"}
"""Headers of a response that say what its body is, beside ``Content-…``: the problem that takes its place is another."""


_streaming: ContextVar[Stream | None] = ContextVar("flask_convstore_stream", default=None)
"""The stream whose next part is being made."""


def app() -> Flask:
    """The application that the running code belongs to; RuntimeError if it belongs to none."""
    try:
        return current_app._get_current_object()  # type: ignore[attr-defined,no-any-return]
    except RuntimeError:
        stream = _streaming.get()
        if stream:
            return stream.app
        raise


def stream() -> Stream | None:
    """The stream whose next part is being made without a request of Flask's, though it belongs to one; else None."""
    return _streaming.get() if not has_request_context() else None


def request_unit() -> Unit | None:
    """What the current request has loaded and changed; None outside of one, and when it has been answered."""
    streamed = _streaming.get()
    if has_request_context():
        unit = _unit_of(request._get_current_object())  # type: ignore[attr-defined]
    elif streamed:
        unit = streamed.unit
    else:
        return None
    return None if unit.is_over else unit


def _unit_of(current: Any) -> Unit:
    """That of a request: kept with the object, since its environment may be used for another one."""
    unit: Unit | None = getattr(current, _ATTRIBUTE, None)
    if unit is None:
        unit = Unit()
        setattr(current, _ATTRIBUTE, unit)
    return unit


def install(app: Flask, send: signals.Send) -> None:
    """Let *app* write what its requests change; once for each application."""
    handle_user_exception = app.handle_user_exception

    def note_exception(*arguments: Any) -> Any:
        _void()
        return handle_user_exception(*arguments)

    def write(response: Response) -> Response:
        return _write(response, send)

    # Flask tells of exceptions that no handler of the app's takes, and calls this for each.
    app.handle_user_exception = note_exception  # type: ignore[method-assign,assignment]
    got_request_exception.connect(_void, app)
    request_started.connect(_begin, app)
    # The first one runs last: what others change is written too, and none can fail behind it.
    app.after_request_funcs.setdefault(None, []).insert(0, write)
    app.teardown_request_funcs.setdefault(None, []).insert(0, lambda error: _end(error, send))


def _begin(*_: Any, **__: Any) -> None:
    """The request will be answered, and ends by that: not when a thread's copy of its context does."""
    unit = request_unit()
    if unit:
        unit.is_dispatched = True


def _void(*_: Any, **__: Any) -> None:
    """The request has failed: nothing of it shall be written."""
    unit = request_unit()
    if unit:
        unit.is_void = True


def _write(response: Response, send: signals.Send) -> Response:
    unit = request_unit()
    if unit is None:
        return response
    try:
        unit.flush()
    except Exception as error:
        unit.is_over = True
        return _in_place_of(response, _told(error))
    # What is passed through, a file say, runs no code of the app's.
    if response.is_streamed and not response.direct_passthrough and not unit.is_void:
        response.response = stream = Stream(response.response, unit, send)
        response.call_on_close(stream.end)
    else:
        unit.is_over = True
    return response


def _end(error: BaseException | None, send: signals.Send) -> None:
    """A request that had no response, in a test or a shell: what it has changed is written too."""
    unit = request_unit()
    if unit and not (unit.is_dispatched or unit.is_streamed):
        unit.is_void = unit.is_void or error is not None
        _write_late(unit, send)


class Stream:
    """The parts of a streamed response. Who has read it to its end finds what it has changed.

    Attributes:
        app: The application.
        unit: What its request, and it, has loaded and changed.
        callers: Whom each store was called by in its request.
    """

    def __init__(self, parts: Iterable[Any], unit: Unit, send: signals.Send) -> None:
        self._parts = parts
        self._next = iter(parts).__next__
        self._send = send
        self.app = app()
        self.unit = unit
        self.callers = {state.convstore: state.convstore.caller() for state in self.app.extensions[KEY].values()}
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
        """Write what was changed since the response began."""
        if not self.unit.is_over:
            _write_late(self.unit, self._send)


def _write_late(unit: Unit, send: signals.Send) -> None:
    try:
        unit.flush()
    except Exception as error:
        reason = error if isinstance(error, ConvstoreError) else type(error).__name__
        ended = "streamed response" if unit.is_streamed else "request"
        _log.error("a %s has ended, and what it changed was not written: %s", ended, reason)
        send(signals.changes_lost, error=error)
    finally:
        unit.is_over = True


def _told(error: Exception) -> ConvstoreError:
    """*error* as the client is told of it: what the app wanted to store is not the client's fault."""
    if isinstance(error, ConvstoreError) and (isinstance(error, TooLarge) or not isinstance(error, InvalidInput)):
        _log.warning("the changes of this request were not written: %s", error)
        return error
    if not isinstance(error, InvalidInput):  # which is logged already
        _log.error("the changes of this request were not written", exc_info=error)
    told = Unstorable(str(error))
    told.written = getattr(error, "written", None)
    return told


def _in_place_of(response: Response, error: ConvstoreError) -> Response:
    """A problem response, with the headers of *response* that are not about its body: CORS, cookies."""
    told = problem(error)
    own = {name.lower() for name, _ in told.headers} | _OF_THE_BODY
    for name, value in response.headers:
        if not name.lower().startswith("content-") and name.lower() not in own:
            told.headers.add(name, value)
    response.close()
    return told
