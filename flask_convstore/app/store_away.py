"""The answer of the app's own routes while the store is away: 503, where the app has no handler of its own.

This is the one place where we answer for routes that are not ours. A view that only reads a session cannot know that a store
is behind it, and an outage is no bug of the app. Handlers are looked for when an error comes, so that it does not matter
when the app registers them.
"""

from __future__ import annotations

import logging
from typing import Any

from flask import Flask, Response, request
from werkzeug.exceptions import ServiceUnavailable

from .. import signals
from ..errors import ConvstoreError, StoreMisconfigured, StoreUnavailable, TooSlow
from ..http.problems import PROBLEM, UNCACHED, problem_json, response_of

_log = logging.getLogger("flask_convstore")

_AWAY = (StoreUnavailable, StoreMisconfigured)
_STATUS = 503


class StoreAway:
    """Answers an error of the store that no handler of *app* takes.

    A handler of the app's is one for the error or a base of it, or for the status 503, of the app or of the blueprint that
    serves. It may be async. Debug mode, testing and ``PROPAGATE_EXCEPTIONS`` change nothing, as they change nothing for any
    handler in Flask: a test client sees what a client sees.

    The first error of an outage is logged with its traceback, and no other one. Errors about a single call are logged each
    time: too large for its time, or begun too late.
    """

    def __init__(self, app: Flask) -> None:
        self._app = app
        self._is_told = False
        signals.store_recovered.connect(self._recovered, app)

    def _recovered(self, _: Any, **__: Any) -> None:
        self._is_told = False

    def answer(self, error: Exception) -> Any:
        """Make the answer. None: the error is another one, or the app has a handler of its own for it."""
        if not isinstance(error, _AWAY) or self._has_handler(type(error)):
            return None
        self._tell(error)
        body, retry_after = problem_json(error, if_match=False)
        shown = ServiceUnavailable(body["detail"], retry_after=retry_after)
        shown.__cause__ = error
        if self._has_handler(ServiceUnavailable, _STATUS):
            return self._app.handle_user_exception(shown)
        if request.accept_mimetypes.best_match([PROBLEM, "application/json", "text/html"]) == "text/html":
            return Response(shown.get_body(), _STATUS, {**UNCACHED, **dict(shown.get_headers())})
        return response_of(body, retry_after)

    def _has_handler(self, kind: type[Exception], status: int | None = None) -> bool:
        """Tell whether Flask would find a handler for a *kind* of exception, which has a *status* if it is an HTTP one."""
        of_app = self._app.error_handler_spec
        specs = [of_app[name] for name in (*request.blueprints, None) if name in of_app]
        return any(base in spec.get(code, ()) for spec in specs for code in (status, None) for base in kind.__mro__)

    def _tell(self, error: ConvstoreError) -> None:
        is_of_outage = not isinstance(error, TooSlow) and getattr(error, "is_down", False) is not None
        if is_of_outage and self._is_told:
            return
        self._is_told = self._is_told or is_of_outage
        more = ". Until the store answers again this is not logged for other requests" if is_of_outage else ""
        _log.error("%s %s is answered with 503: %s%s", request.method, request.endpoint, error, more, exc_info=error)
