"""The blueprint of one store: its routes lead to views, which load, call and dump.

``routes`` has the table of routes, ``problems`` the table from errors to statuses. A route that ``CONVSTORE_ROUTES`` leaves
out is a 404 of the host's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Blueprint, Response, abort
from flask.blueprints import BlueprintSetupState

from ..domain.types import ANY, CALLER
from ..errors import ConvstoreError
from . import message_views, owner_views, service_views, session_views
from .door import Door
from .problems import problem
from .routes import ROUTES, SessionIds

_VIEWS = (session_views, message_views, owner_views, service_views)


def make_blueprint(name: str, door: Door) -> Blueprint:
    """Make the blueprint of one store. Its views are handed *door*."""
    blueprint = Blueprint(name, __name__, url_prefix="/sessions")
    blueprint.record(_add_converter)
    for route in ROUTES:
        blueprint.add_url_rule(route.rule, route.endpoint, _served(route.endpoint, door), methods=[route.method])
    blueprint.register_error_handler(ConvstoreError, problem)
    return blueprint


def _served(endpoint: str, door: Door) -> Callable[..., Response]:
    """Make the view function of an endpoint. A route that is switched off is a 404 of the host's."""
    room = next(room for room in _VIEWS if hasattr(room, endpoint))
    view: Callable[..., Response] = getattr(room, endpoint)
    # Health does not depend on whether somebody is logged in.
    owner = ANY if room is service_views else CALLER

    def serve(**path: Any) -> Response:
        access = door.access(owner)
        routes = access.settings.routes
        if routes is not True and not (routes and endpoint in routes):
            abort(404)
        return view(door, access, **path)

    serve.__doc__ = view.__doc__
    return serve


def _add_converter(state: BlueprintSetupState) -> None:
    state.app.url_map.converters["convstore_id"] = SessionIds
