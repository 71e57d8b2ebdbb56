"""The blueprint of one store. Its routes lead to views, which load, call and dump.

``routes`` has the table of routes, ``problems`` the table from errors to statuses. A route that ``CONVSTORE_ROUTES`` leaves
out is a 404 of the host's.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

from flask import Blueprint, Response, abort, current_app, request
from flask.blueprints import BlueprintSetupState

from ..domain.types import ANY, CALLER
from ..errors import ConvstoreError
from .anonymous_owner import check_secret_key
from .cross_site import check_site, may_come_from_page
from .door import Door
from .problems import UNCACHED, problem
from .response import VARY
from .routes import CONVERTERS, ROUTES, Route, is_served


def make_blueprint(name: str, door: Door) -> Blueprint:
    """Make the blueprint of one store. Its views are handed *door*."""
    blueprint = Blueprint(name, __name__, url_prefix="/sessions")
    blueprint.record(lambda state: _add_routes(state, door))
    blueprint.before_request(partial(_check, door))
    blueprint.after_request(_with_manners)
    blueprint.url_defaults(_add_version)
    blueprint.register_error_handler(ConvstoreError, problem)
    return blueprint


def _check(door: Door) -> None:
    """Refuse changes that pages of other sites request."""
    running = request._get_current_object()  # type: ignore[attr-defined]
    if may_come_from_page(running):
        check_site(running, door.settings().trusted_origins)


def _add_version(endpoint: str, values: dict[str, Any]) -> None:
    """Name the version of the browser's half in its URL, so that browsers may keep it."""
    if endpoint.rpartition(".")[2] == "script":
        from .service_views import script_version  # no request waits for it

        values.setdefault("v", script_version())


def _with_manners(response: Response) -> Response:
    """Tell caches and browsers how to treat an answer. An answer that names no state of a session is not kept."""
    given = dict(iter(response.headers))
    if given.get("Vary") == VARY and given.keys() >= UNCACHED.keys():
        return response  # as ``answer`` makes those that name a state
    for name, value in UNCACHED.items():
        response.headers.setdefault(name, value)
    if (request.endpoint or "").rpartition(".")[2] not in _FOR_SERVICE:
        response.vary.update(VARY.split(", "))
    return response


_FOR_SERVICE = frozenset(route.endpoint for route in ROUTES if route.is_for_service)


def _add_routes(state: BlueprintSetupState, door: Door) -> None:
    """Add the routes to an app that registers the blueprint.

    The views are imported here, since they bring marshmallow. No request waits for them.
    """
    from . import event_views, message_views, owner_views, reply_views, service_views, session_views

    rooms = (session_views, message_views, reply_views, event_views, owner_views, service_views)
    state.app.url_map.converters.update(CONVERTERS)
    for route in ROUTES:
        view = next(getattr(room, route.endpoint) for room in rooms if hasattr(room, route.endpoint))
        state.add_url_rule(route.rule, route.endpoint, _served(route, view, door), methods=[route.method])


def _served(route: Route, view: Callable[..., Response], door: Door) -> Callable[..., Response]:
    """Make the view function of a route. A route that is switched off is a 404 of the host's."""
    owner = ANY if route.is_for_service else CALLER
    names = re.findall(r"<(?:\w+:)?(\w+)>", route.rule)

    def serve(**path: Any) -> Response:
        access = door.access(owner)
        if access.settings.anonymous_owner:
            check_secret_key(current_app)
        if not is_served(route.endpoint, access.settings):
            abort(404)
        if len(path) > len(names):  # others belong to the host's prefix
            path = {name: path[name] for name in names}
        # Each look through Flask's own ``request`` takes three calls.
        return view(request._get_current_object(), door, access, **path)  # type: ignore[attr-defined]

    serve.__doc__ = view.__doc__
    return serve
