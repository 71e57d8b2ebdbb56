"""The table of routes: what it says of owners, bodies and ids is what the routes do."""

from __future__ import annotations

from typing import Any

import pytest

from flask_convstore import ConfigurationError, InvalidSessionId, OwnerRequired
from flask_convstore.domain.validation import RESERVED_IDS
from flask_convstore.http import schemas
from flask_convstore.http.openapi.descriptions import OPERATIONS
from flask_convstore.http.problems import PROBLEMS
from flask_convstore.http.routes import ENDPOINTS, ROUTES, Route

from ..service import Service, path_of


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.endpoint)
def test_a_route_needs_an_owner_as_the_table_says(route: Route) -> None:
    service = Service("memory://", METRICS=True)
    service.convstore.reply(lambda turn: "hello")
    path = path_of(route.rule, service.start(message={"content": "hi"}))
    bodies: dict[str, Any] = {"Continue": {"content": "x"}, "Edit": {"content": "x"}, "Compact": {"summary": "x"}}
    sent: dict[str, Any] = {"json": bodies.get(route.body, {})} if route.body and not route.takes_lines else {}
    if route.query == "DropQuery":
        path += "?after=1"
    response = service.client.open(path, method=route.method, **sent)
    assert (response.status_code == 401) == route.needs_owner
    assert (PROBLEMS[OwnerRequired] in route.problems()) == (route.needs_owner or route.endpoint == "start_session")
    if not route.needs_owner:
        assert response.status_code in route.answers


def test_the_words_beside_the_ids_are_reserved() -> None:
    """A session of such an id could not be reached."""
    beside = {route.rule[1:] for route in ROUTES if route.rule.count("/") == 1 and "<" not in route.rule}
    assert beside <= RESERVED_IDS
    service = Service("memory://")
    for name in (*beside, "metrics"):
        with service.app.app_context(), pytest.raises(InvalidSessionId, match=f"'{name}' is reserved for a route"):
            service.convstore.save_session(name, {"history": []})


def test_forms_and_words_exist_for_every_route() -> None:
    service = Service("memory://", CLIENT_TTL=True)
    with service.app.app_context():
        forms = schemas.forms(service.app.extensions["convstore"]["convstore"].settings)
    named = {name for route in ROUTES for name in (route.query, "" if route.takes_lines else route.body)} - {""}
    assert named == set(forms)
    assert len(set(ENDPOINTS)) == len(ENDPOINTS)
    for route in ROUTES:
        assert len(OPERATIONS[route.endpoint].answers) == len(route.answers)


@pytest.mark.parametrize("routes", ["start_sessions", ["health", "start_sessions"]])
def test_an_unknown_endpoint_is_refused_by_name(routes: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Service("memory://", ROUTES=routes, TTL=0)
    unknown, bad = sorted(caught.value.problems)
    assert unknown.startswith("CONVSTORE_ROUTES names 'start_sessions'")
    assert all(endpoint in unknown for endpoint in ENDPOINTS)
    assert bad.startswith("CONVSTORE_TTL")
