"""The blueprint of one store. Its routes lead to views, which load, call and dump.

``routes`` has the table of routes, ``problems`` the table from errors to statuses. A route that ``CONVSTORE_ROUTES`` leaves
out is a 404 of the host's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Blueprint, Response, abort, request
from flask.blueprints import BlueprintSetupState

from ..domain.types import ANY, CALLER
from ..errors import ConvstoreError
from .cross_site import check_site
from .door import Door
from .problems import problem
from .routes import ROUTES, Route, SessionIds


def make_blueprint(name: str, door: Door) -> Blueprint:
    """Make the blueprint of one store. Its views are handed *door*."""
    blueprint = Blueprint(name, __name__, url_prefix="/sessions")
    blueprint.record(lambda state: _add_routes(state, door))
    blueprint.before_request(lambda: check_site(request, door.settings().trusted_origins))
    blueprint.register_error_handler(ConvstoreError, problem)
    return blueprint


def _add_routes(state: BlueprintSetupState, door: Door) -> None:
    """Add the routes to an app that registers the blueprint.

    The views are imported here, since they bring marshmallow and webargs. No request waits for them.
    """
    from . import message_views, owner_views, service_views, session_views

    rooms = (session_views, message_views, owner_views, service_views)
    state.app.url_map.converters["convstore_id"] = SessionIds
    for route in ROUTES:
        view = next(getattr(room, route.endpoint) for room in rooms if hasattr(room, route.endpoint))
        state.add_url_rule(route.rule, route.endpoint, _served(route, view, door), methods=[route.method])


def _served(route: Route, view: Callable[..., Response], door: Door) -> Callable[..., Response]:
    """Make the view function of a route. A route that is switched off is a 404 of the host's."""
    owner = ANY if route.is_for_service else CALLER

    def serve(**path: Any) -> Response:
        access = door.access(owner)
        routes = access.settings.routes
        if routes is not True and not (routes and route.endpoint in routes):
            abort(404)
        return view(door, access, **path)

    serve.__doc__ = view.__doc__
    return serve
