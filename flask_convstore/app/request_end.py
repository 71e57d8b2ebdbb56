"""The end of a request. The changes of its mappings are written before the response leaves.

A request whose view raised writes nothing. A failed write turns the response into a problem response. A streamed response
may go on changing values, with or without a context of Flask's. These changes are written before its last byte is sent, or
when the response is closed. A failure there is logged and signalled.
"""

from __future__ import annotations

import contextlib
import logging
from typing import Any

from flask import Flask, Response
from flask.signals import got_request_exception, request_started

from ..domain.types import Owner
from ..errors import ConvstoreError, InvalidInput, OwnerRequired, TooLarge, Unstorable
from ..http.problems import problem
from ..mapping.late_writer import late_writer
from ..mapping.unit_of_work import Unit
from . import json_provider
from .current import KEY, StreamedResponse, context_unit, request_unit
from .store_away import StoreAway

_log = logging.getLogger("flask_convstore")

_RAISED = "their request has raised"

_BODY_HEADERS = {"cache-control", "etag", "expires", "last-modified", "location"}
"""Headers that describe a response's body, beside ``Content-…``. A problem response has another body."""


def install(app: Flask) -> None:
    """Let *app* write the changes of its requests. Called once for each application."""
    handle_user_exception, away = app.handle_user_exception, StoreAway(app)

    def note_exception(*arguments: Any) -> Any:
        _void()
        json_provider.add_cure(arguments[0])
        answer = away.answer(arguments[0])
        return handle_user_exception(*arguments) if answer is None else answer

    def write(response: Response) -> Response:
        return _write(app, response)

    # Flask signals only exceptions that no handler of the app takes. This method is called for each exception.
    app.handle_user_exception = note_exception  # type: ignore[method-assign,assignment]
    got_request_exception.connect(_void, app)
    request_started.connect(_begin, app)
    # The first function runs last. It writes the changes of the others too, and none can fail after the write.
    app.after_request_funcs.setdefault(None, []).insert(0, write)
    app.teardown_request_funcs.setdefault(None, []).insert(0, _end)
    app.teardown_appcontext_funcs.insert(0, _end_context)


def _begin(app: Flask, **_: Any) -> None:
    """Note that the request gets a response. Its unit ends with the response, not with a thread's copy of the context."""
    for state in app.extensions[KEY].values():
        state.convstore._globals.check()
    unit = request_unit()
    if unit:
        unit.is_dispatched = True


def _void(*_: Any, **__: Any) -> None:
    """Note that the request has failed and shall write nothing."""
    unit = request_unit()
    if unit:
        unit.is_void = True


def _write(app: Flask, response: Response) -> Response:
    """Write the changes of the request. The unit of a streamed response goes on."""
    unit = request_unit()
    if unit is None:
        return response
    try:
        unit.flush()
    except Exception as error:
        unit.drop(f"the end of the request could not write an earlier one ({type(error).__name__})", is_told=True)
        late_writer.let_go(unit)
        return _in_place_of(response, _answer(app, _as_told(error)))
    # A passed-through body, such as a file, runs no code of the app.
    runs_code = response.is_streamed and not response.direct_passthrough
    if runs_code and not unit.is_void:
        response.response = streamed = StreamedResponse(response.response, unit, _callers(app), _write_late)
        response.call_on_close(streamed.end)
    else:
        if unit.is_void:
            unit.drop(_RAISED)
        late_writer.let_go(unit)
    return response


def _callers(app: Flask) -> dict[Any, Owner]:
    """Find the owner of the request for each store. A new browser whose response brings no cookie has none."""
    callers: dict[Any, Owner] = {}
    for state in app.extensions[KEY].values():
        with contextlib.suppress(OwnerRequired):
            callers[state.convstore] = state.convstore._caller(state)
    return callers


def _end(error: BaseException | None) -> None:
    """Write the changes of a request that had no response, in a test or a shell."""
    unit = request_unit()
    if unit and not (unit.is_dispatched or unit.is_streamed):
        unit.is_void = unit.is_void or error is not None
        if unit.is_void:
            unit.drop(_RAISED)
        _write_late(unit)


def _end_context(error: BaseException | None) -> None:
    """Write the changes of an app context outside of a request, unless it ends by an exception.

    Raises:
        ConvstoreError: A change could not be written. After a response the error is logged instead.
    """
    unit = context_unit()
    if unit is None:
        return
    if error is not None and not _is_success(error):
        unit.drop(f"their app context has ended by {type(error).__name__}")
    if unit.is_behind_response:
        _write_late(unit)
    else:
        late_writer.end(unit)


def _is_success(error: BaseException | None) -> bool:
    """Tell the end of a command with status 0, which click and sys.exit() raise, from a failure."""
    if error is None:
        return True
    may_be_exit = isinstance(error, RuntimeError) or not isinstance(error, Exception)
    status = getattr(error, "code", getattr(error, "exit_code", 1))
    return may_be_exit and status in (None, 0)


def _write_late(unit: Unit) -> None:
    """Write the last changes of a unit. A failure cannot reach the client any more, and is logged and signalled."""
    late_writer.end_late(unit, "streamed response" if unit.is_streamed else "request")


def _as_told(error: Exception) -> ConvstoreError:
    """Turn *error* into the error that the client gets. An unstorable value is the app's fault, not the client's."""
    is_unstorable = isinstance(error, InvalidInput) and not isinstance(error, TooLarge)
    if isinstance(error, ConvstoreError) and not is_unstorable:
        _log.warning("the changes of this request were not written: %s", error)
        return error
    if not isinstance(error, InvalidInput):  # a refused value is logged already
        _log.error("the changes of this request were not written", exc_info=error)
    told = Unstorable(str(error))
    told.written = getattr(error, "written", None)
    return told


def _answer(app: Flask, error: ConvstoreError) -> Response:
    """Answer by the app's own error handler if it has one, else as while the store is away, or by a problem response."""
    try:
        try:
            raise error
        except ConvstoreError as raised:  # Flask raises it again if there is no handler
            return app.make_response(app.handle_user_exception(raised))
    except Exception as failed:
        if failed is not error:
            _log.error("the app's error handler failed: %s", type(failed).__name__)
        return problem(error)


def _in_place_of(response: Response, told: Response) -> Response:
    """Answer with *told*. Headers of *response* that do not describe its body stay, such as CORS and cookies."""
    own = {name.lower() for name, _ in told.headers} | _BODY_HEADERS
    for name, value in response.headers:
        if not name.lower().startswith("content-") and name.lower() not in own:
            told.headers.add(name, value)
    response.close()
    return told
