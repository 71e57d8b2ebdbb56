"""Places of the blueprint and of its sessions: prefixes with values, mounts, subdomains, ids with slashes."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest
from flask import Flask, g, request
from flask.testing import FlaskClient
from openapi_spec_validator import validate
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.test import Client

from flask_convstore import ConversationStore, InvalidSessionId
from flask_convstore.domain.validation import END_OF_ROUTE
from flask_convstore.http.routes import ROUTES

from ..service import Service, in_memory, path_of, problem


def app_at(url: str, **options: Any) -> tuple[Flask, ConversationStore]:
    app = Flask("app", subdomain_matching=True)
    app.config.update(CONVSTORE_URL=url, CONVSTORE_METRICS=True)
    convstore = ConversationStore(app)
    convstore.reply(lambda turn: "hello")
    app.register_blueprint(convstore.blueprint, **options)
    return app, convstore


def walk(client: Client, base: str, **options: Any) -> None:
    """Go where ``Location`` leads, and use every route there."""
    started = client.post(base, json={"message": {"content": "hi"}}, **options)
    assert started.json
    path, session_id = started.headers["Location"], started.json["session_id"]
    assert path.endswith(f"{base}/{session_id}")
    client.get(path, **options)
    paths = [client.post(f"{base}/{session_id}/fork", **options).headers["Location"]]
    body = {"summary": "so far"}
    paths.append(client.post(f"{base}/{session_id}/compact", json=body, **options).headers["Location"])
    for found in paths:
        assert found.rpartition("/")[0] == path.rpartition("/")[0]
    bodies: dict[str, Any] = {"Continue": {"content": "x"}, "Edit": {"content": "x"}, "Compact": {"summary": "x"}}
    for route in sorted(ROUTES, key=lambda route: route.endpoint == "delete_session"):
        sent: dict[str, Any] = {"json": bodies.get(route.body, {})} if route.body and not route.takes_lines else {}
        place = path_of(route.rule, session_id).replace("/sessions", base, 1)
        response = client.open(place, method=route.method, **sent, **options)
        assert response.status_code not in (405, 500), (route.endpoint, response.data)
        assert (response.status_code == 401) == route.needs_owner
        assert response.status_code != 404, route.endpoint


# ---- prefixes with values


@pytest.mark.parametrize("prefix", ["/<tenant>/sessions", "/<int:tenant>/a/<path:more>/chats"])
def test_a_prefix_with_values(url: str, prefix: str) -> None:
    """Every route was a 500."""
    app, _ = app_at(url, url_prefix=prefix)
    base = "/acme/sessions" if "more" not in prefix else "/7/a/x/y/chats"
    walk(app.test_client(), base)
    document = app.test_client().get(f"{base}/openapi.json").json
    assert document
    validate(document)
    names = {"tenant", "more"} if "more" in prefix else {"tenant"}
    for operations in document["paths"].values():
        for operation in operations.values():
            assert names <= {found["name"] for found in operation["parameters"] if found["in"] == "path"}
            for response in operation["responses"].values():
                for link in response.get("links", {}).values():
                    assert {link["parameters"][name] for name in names} == {f"$request.path.{name}" for name in names}


@in_memory
@pytest.mark.parametrize("is_puts_back", [True, False])
@pytest.mark.parametrize("is_of_app", [True, False])
def test_an_app_that_takes_the_value_out(url: str, is_of_app: bool, is_puts_back: bool) -> None:
    """As Flask's documentation does it with a language. Even without putting it back, places are whole."""
    app = Flask("app")
    app.config.update(CONVSTORE_URL=url, CONVSTORE_METRICS=True)
    convstore = ConversationStore(app)
    convstore.reply(lambda turn: "hello")
    where: Any = app if is_of_app else convstore.blueprint

    def take(endpoint: str | None, values: dict[str, Any] | None) -> None:
        g.tenant = (values or {}).pop("tenant", None)

    where.url_value_preprocessor(take)
    if is_puts_back:
        where.url_defaults(lambda endpoint, values: values.setdefault("tenant", g.tenant))
    app.register_blueprint(convstore.blueprint, url_prefix="/<tenant>/sessions")
    walk(app.test_client(), "/acme/sessions")


def test_the_tenant_reaches_the_owner_loader(url: str) -> None:
    app, convstore = app_at(url, url_prefix="/<tenant>/sessions")

    @convstore.owner_loader
    def owner() -> str:
        assert request.view_args
        return f"{request.view_args['tenant']}/{request.headers['X-User']}"

    client, ada = app.test_client(), {"X-User": "ada"}
    started = client.post("/acme/sessions", headers=ada)
    assert client.get(started.headers["Location"], headers=ada).status_code == 200
    other = started.headers["Location"].replace("acme", "other")
    problem(client.get(other, headers=ada), 404, "not-found")
    assert client.get("/other/sessions", headers=ada).json == {"sessions": [], "next": None}


# ---- mounts and hosts


def test_a_mounted_app(url: str) -> None:
    app, _ = app_at(url, url_prefix="/sessions")
    client = Client(DispatcherMiddleware(Flask("outer"), {"/app": app}))
    started = client.post("/app/sessions")
    assert started.headers["Location"].startswith("/app/sessions/")
    assert client.get(started.headers["Location"]).status_code == 200
    assert client.get("/app/sessions/openapi.json").json["servers"] == [{"url": "/app"}]  # type: ignore[index]


def test_a_proxy_that_cuts_a_prefix(url: str) -> None:
    app, _ = app_at(url, url_prefix="/sessions")
    app.wsgi_app = ProxyFix(app.wsgi_app, x_prefix=1)  # type: ignore[method-assign]
    started = app.test_client().post("/sessions", headers={"X-Forwarded-Prefix": "/chat"})
    assert started.headers["Location"].startswith("/chat/sessions/")


def test_an_application_root(url: str) -> None:
    """Flask's client mounts an app there."""
    app, _ = app_at(url, url_prefix="/sessions")
    app.config["APPLICATION_ROOT"] = "/app"
    client = app.test_client()
    location = client.post("/sessions").headers["Location"]
    assert location.startswith("/app/sessions/")
    assert client.get(location.removeprefix("/app")).status_code == 200


@pytest.mark.parametrize("subdomain", ["chat", "<tenant>"])
def test_a_subdomain(url: str, subdomain: str) -> None:
    app, _ = app_at(url, url_prefix="/sessions", subdomain=subdomain)
    app.config["SERVER_NAME"] = "example.com"
    walk(app.test_client(), "/sessions", base_url="http://chat.example.com")
    assert app.test_client().get("/sessions/health", base_url="http://example.com").status_code == 404


# ---- ids with slashes


def client_with(url: str, *session_ids: str) -> FlaskClient:
    service = Service(url)
    with service.app.app_context():
        for session_id in session_ids:
            service.convstore.save_session(
                session_id, {"id": session_id, "history": [{"role": "user", "content": "x"}]}
            )
    return service.client


@pytest.mark.parametrize(
    "session_id",
    ["telegram/123", "a/b/c", "/a", "a/", "a//b", "https://x.example/?q=1#2", "messages", "a/messages/1/2", "a/forks",
     "health/a", "a/health", "a%2Fb", "a b/ü", "...", "a/.b", "fork/messagesx"],
)  # fmt: skip
def test_an_id_with_slashes_is_reachable(url: str, session_id: str) -> None:
    """It was saved by Python and listed by HTTP, and no path led there."""
    client = client_with(url, session_id)
    for place in (quote(session_id, safe=""), quote(session_id, safe="/:")):
        path = f"/sessions/{place}"
        got = client.get(path)
        assert got.status_code == 200, got.data
        assert got.json
        assert (got.json["session_id"], got.json["data"]["id"]) == (session_id, session_id)
        assert client.post(f"{path}/messages", json={"content": "y"}).status_code == 201
        assert client.get(f"{path}/messages?limit=1").json["next"] > 1  # type: ignore[index]
        assert client.patch(f"{path}/messages/1", json={"content": "y"}).status_code == 200
        assert client.post(f"{path}/fork").status_code == 201
    assert client.post(f"{path}/compact", json={"summary": "x"}).status_code == 201
    assert client.delete(path).status_code == 200
    assert client.get(path).status_code == 404


@in_memory
@pytest.mark.parametrize(
    "session_id",
    ["a/messages", "a/b/messages", "a/messages/1", "a/messages/x", "a/messages/", "a/replies/x", "a/replies/",
     "a/events", "a/compact", "a/fork", "/fork", ".", "..", "a/../b", "./a", "a/."],
)  # fmt: skip
def test_an_id_that_no_path_leads_to_is_refused(url: str, session_id: str) -> None:
    """As the words of routes are. The path would be another route's, or browsers would shorten it."""
    service = Service(url)
    with service.app.app_context():
        with pytest.raises(InvalidSessionId, match="no path of HTTP leads to"):
            service.convstore.save_session(session_id, {})
        service.convstore.sessions[session_id] = {"a": 1}  # keys of a dict may be anything
        assert service.convstore.sessions[session_id] == {"a": 1}


def test_ends_of_routes_are_those_of_the_table() -> None:
    ends = {
        route.rule.partition(">")[2].partition("<")[0].rstrip("/") for route in ROUTES if "session_id" in route.rule
    }
    assert {f"({end[1:]}" for end in ends if end} | {"("} == {
        "(",
        "(messages",
        "(replies",
        "(events",
        "(compact",
        "(fork",
    }
    assert END_OF_ROUTE.count("|") == 4


@in_memory
def test_routes_of_the_host_below_the_prefix_come_first(url: str) -> None:
    service = Service(url)
    service.app.add_url_rule("/sessions/<int:number>/print", view_func=lambda number: "printed")
    service.app.add_url_rule("/sessions/static/a.js", endpoint="js", view_func=lambda: "script")
    assert service.client.get("/sessions/7/print").text == "printed"
    assert service.client.get("/sessions/static/a.js").text == "script"
    problem(service.client.get("/sessions/static/b.js"), 404, "not-found")
    assert service.client.put("/sessions/a/messages").status_code == 405
    assert service.client.get("/sessions/a/fork").status_code == 405
