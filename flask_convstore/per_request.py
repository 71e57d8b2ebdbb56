"""When a request ends: what its mappings have changed is written before the response leaves.

A request whose view raised writes nothing. A write that fails turns the response into a problem response. A streamed
response may go on changing things: that is written when it closes, and a failure there is logged and signalled.
"""

from __future__ import annotations

import logging
from typing import Any

from flask import Flask, Response, has_request_context, request
from flask.signals import got_request_exception

from . import signals
from .blueprint import problem
from .errors import ConvstoreError, InvalidInput, TooLarge, Unstorable
from .units import Unit

_log = logging.getLogger("flask_convstore")

_KEY = "flask_convstore.unit"

_OF_THE_BODY = ("Cache-Control", "ETag", "Expires", "Last-Modified", "Location")
"""Headers of a response that say what its body is, beside ``Content-…``: the problem that takes its place is another."""


def request_unit() -> Unit | None:
    """What the current request has loaded and changed; None outside of one."""
    if not has_request_context():
        return None
    unit: Unit | None = request.environ.get(_KEY)
    if unit is None:
        unit = request.environ[_KEY] = Unit()
    return unit


def install(app: Flask, send: signals.Send) -> None:
    """See to it in *app*; once for each application."""
    handle_user_exception = app.handle_user_exception

    def note_exception(*arguments: Any) -> Any:
        _void()
        return handle_user_exception(*arguments)

    def write(response: Response) -> Response:
        return _write(response, send)

    # Flask tells of exceptions that no handler of the app's takes, and calls this for each.
    app.handle_user_exception = note_exception  # type: ignore[method-assign,assignment]
    got_request_exception.connect(_void, app)
    app.after_request(write)


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
        return _in_place_of(response, _told(error))
    if response.is_streamed:
        response.call_on_close(lambda: _write_late(unit, send))
    return response


def _write_late(unit: Unit, send: signals.Send) -> None:
    try:
        unit.flush()
    except Exception as error:
        _log.exception("a streamed response has closed, and what it changed was not written")
        send(signals.changes_lost, error=error)


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
    for name, value in response.headers:
        if not name.startswith("Content-") and name not in _OF_THE_BODY and name not in told.headers:
            told.headers.add(name, value)
    response.close()
    return told
