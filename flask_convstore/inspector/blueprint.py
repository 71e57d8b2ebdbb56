"""The blueprint of an inspector. Each of its requests is shown to the app's access check first.

| route                | shows                                                              |
| -------------------- | ------------------------------------------------------------------ |
| /                    | how the store is, and was in the last hour                          |
| /sessions            | a search: ``q``, ``by``, ``state``, ``sort``, ``place``, ``cursor`` |
| /session             | one session: ``id``, ``place``, ``newer``                            |
| /session/export      | the same as a line of JSON                                          |
| /session/delete      | a question, and by POST the deletion                                |
| /static/…            | style and script                                                    |

Ids stand in the query, since an id may hold slashes and dots.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Blueprint, Response

from ..app.operator import Operator
from ..app.state import AppState
from ..errors import ConfigurationError, ConvstoreError
from .guard import Check, is_admitted, refuse_strangers, with_headers
from .views import Views

_ROUTES = (
    ("/", "overview", "GET"),
    ("/sessions", "sessions", "GET"),
    ("/session", "session", "GET"),
    ("/session/export", "export", "GET"),
    ("/session/delete", "confirm", "GET"),
    ("/session/delete", "delete", "POST"),
)

_NO_ACCESS = (
    "the inspector shows every conversation of everybody. Say who may see it, as in "
    "convstore.inspector(access=lambda: current_user.is_admin)"
)


def make_inspector(
    state: Callable[[], AppState], access: Check | None, name: str, url_prefix: str, *, hide_text: bool
) -> Blueprint:
    """Make the blueprint of an inspector.

    Args:
        state: Finds the store in the current app.

    Raises:
        ConfigurationError: There is no access check.
    """
    if not callable(access):
        raise ConfigurationError([_NO_ACCESS])
    check: Check = access
    blueprint = Blueprint(name, __name__, url_prefix=url_prefix, static_folder="static", static_url_path="/static")

    def views() -> Views:
        return Views(name, Operator(state(), has_app=True), hide_text=hide_text)

    def problem(error: ConvstoreError) -> Response:
        if not is_admitted(name):
            raise error
        return views().problem(error)

    blueprint.before_request(lambda: refuse_strangers(check, name))
    blueprint.after_request(with_headers)
    blueprint.register_error_handler(ConvstoreError, problem)
    for rule, endpoint, method in _ROUTES:
        blueprint.add_url_rule(rule, endpoint, _view(views, endpoint), methods=[method])
    return blueprint


def _view(views: Callable[[], Views], endpoint: str) -> Callable[[], Any]:
    def view() -> Any:
        return getattr(views(), endpoint)()

    view.__doc__ = getattr(Views, endpoint).__doc__
    return view
