"""The document of the routes: it is valid, it says what there is, and what is answered is what it says."""

from __future__ import annotations

import functools
import json
import logging
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from apispec import APISpec
from flask import Flask, request
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import validate
from werkzeug.test import TestResponse

from flask_convstore import ConversationStore, InvalidInput
from flask_convstore.http.openapi import document as openapi_document
from flask_convstore.http.openapi.descriptions import OPERATIONS
from flask_convstore.http.problems import PROBLEMS
from flask_convstore.http.routes import ENDPOINTS

from .. import fuzz, http_table
from ..servers import Server
from ..service import Service, problem

ROOT = Path(__file__).parents[2]
SETTINGS: list[dict[str, Any]] = [
    {},
    {"CLIENT_DATA": False, "ROUTES": ["start_session", "get_session", "openapi"]},
    {"CLIENT_DATA": "name,operationId", "CLIENT_ROLES": ["user", "system"], "CLIENT_TTL": True, "HISTORY_KEY": "log"},
    {"ANONYMOUS_OWNER": True, "MAX_TURNS_PER_MINUTE": 5, "MAX_SESSIONS": 0},
    {"CLIENT_ROLES": ["user", "assistant", "tool"], "CLIENT_USAGE": True, "METRICS": True},
]


def document_of(service: Service, path: str = "/sessions/openapi.json") -> Any:
    service.app.secret_key = "secret"
    return service.json(service.client.get(path), 200)


def operations_of(document: Any) -> Iterator[tuple[str, str, Any]]:
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            yield path, method, operation


def check(document: Any, schema: Any, value: Any) -> None:
    OAS31Validator({**schema, "components": document["components"]}).validate(value)


# ---- what it says


@pytest.mark.slow
@pytest.mark.parametrize("settings", SETTINGS)
def test_it_is_valid_openapi(settings: dict[str, Any]) -> None:
    validate(document_of(Service("memory://", **settings)))


def test_every_route_is_in_it_and_back() -> None:
    service = Service("memory://", METRICS=True)
    document = document_of(service)
    rules = {
        (re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), method.lower(), rule.endpoint.partition(".")[2])
        for rule in service.app.url_map.iter_rules()
        if rule.endpoint.startswith("convstore.")
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert {(path, method, found["operationId"]) for path, method, found in operations_of(document)} == rules
    assert tuple(OPERATIONS) == ENDPOINTS


def test_routes_that_are_switched_off_are_not_in_it_nor_led_to() -> None:
    document = document_of(Service("memory://", ROUTES="start_session,get_session,openapi"))
    found = {operation["operationId"]: operation for _, _, operation in operations_of(document)}
    assert set(found) == {"start_session", "get_session", "openapi"}
    assert set(found["start_session"]["responses"]["201"]["links"]) == {"get", "unchanged"}


def test_every_operation_is_described() -> None:
    for _, _, operation in operations_of(document_of(Service("memory://", CLIENT_TTL=True))):
        assert operation["summary"]
        assert operation["description"]
        for parameter in operation["parameters"]:
            assert parameter["in"] == "path" or parameter["description"]
        for response in operation["responses"].values():
            assert response["description"]


def test_every_part_of_a_body_is_described() -> None:
    components = document_of(Service("memory://", CLIENT_TTL=True))["components"]["schemas"]
    for name in ("Start", "Continue", "Update", "Edit", "Compact", "Fork"):
        for key, shown in components[name]["properties"].items():
            assert shown.get("description"), (name, key)


@pytest.mark.parametrize("settings", SETTINGS)
def test_its_examples_are_as_it_says(settings: dict[str, Any]) -> None:
    document = document_of(Service("memory://", **settings))
    seen = 0
    for _, _, operation in operations_of(document):
        responses = operation["responses"].values()
        for content in [operation.get("requestBody", {}), *responses]:
            for media in content.get("content", {}).values():
                examples = (
                    [media["example"]] if "example" in media else [e["value"] for e in media["examples"].values()]
                )
                for example in examples:
                    check(document, media["schema"], example)
                    seen += 1
        headers = [header for response in responses for header in response.get("headers", {}).values()]
        for part in [*operation["parameters"], *headers]:
            if "example" in part:
                check(document, part["schema"], part["example"])
                seen += 1
    assert seen > 20


def test_a_line_of_an_export_is_as_it_says() -> None:
    document = document_of(Service("memory://"))
    media = document["paths"]["/sessions/export"]["get"]["responses"]["200"]["content"]["application/x-ndjson"]
    for line in media["example"].splitlines():
        check(document, media["schema"]["contentSchema"], json.loads(line))


def test_every_problem_is_in_it() -> None:
    text = json.dumps(document_of(Service("memory://", ANONYMOUS_OWNER=True, MAX_TURNS_PER_MINUTE=5)))
    for shown in PROBLEMS.values():
        assert f'"urn:convstore:{shown.slug}"' in text, shown.slug


def test_an_error_that_a_retry_does_not_mend_names_no_time_for_it() -> None:
    """A 503 may be ``too-slow``, and a 409 has many reasons. Each 429 says when."""
    document = document_of(Service("memory://", ANONYMOUS_OWNER=True, MAX_TURNS_PER_MINUTE=5))
    found = {
        (status, header["required"])
        for _, _, operation in operations_of(document)
        for status, response in operation["responses"].items()
        for name, header in response.get("headers", {}).items()
        if name == "Retry-After"
    }
    assert found == {("409", False), ("429", True), ("503", False)}


def test_settings_change_it() -> None:
    plain, open_ = document_of(Service("memory://")), document_of(Service("memory://", **SETTINGS[2]))
    closed = document_of(Service("memory://", CLIENT_DATA=False, ANONYMOUS_OWNER=True, MAX_TURNS_PER_MINUTE=1))

    def bodies(document: Any) -> Any:
        return document["components"]["schemas"]

    assert bodies(plain)["Continue"]["properties"]["role"]["enum"] == ["user"]
    assert bodies(open_)["Continue"]["properties"]["role"]["enum"] == ["user", "system"]
    assert "ttl" not in bodies(plain)["Start"]["properties"]
    assert bodies(open_)["Start"]["properties"]["ttl"]["maximum"] == 365 * 86_400
    assert bodies(plain)["Start"]["properties"]["data"]["propertyNames"] == {"not": {"enum": ["complete", "history"]}}
    assert set(bodies(open_)["Start"]["properties"]["data"]["properties"]) == {"name", "operationId"}
    assert bodies(closed)["Start"]["properties"]["data"]["additionalProperties"] is False
    start = plain["paths"]["/sessions"]["post"]
    assert "429" not in start["responses"]
    assert set(closed["paths"]["/sessions"]["post"]["responses"]) >= {"403", "429"}
    assert start["parameters"][0]["schema"]["format"] == "uuid", "nobody's key is a UUID"
    assert "format" not in closed["paths"]["/sessions"]["post"]["parameters"][0]["schema"]


# ---- where it is


def test_it_says_where_the_app_is() -> None:
    app = Flask("app")
    app.config["CONVSTORE_URL"] = "memory://"
    convstore = ConversationStore(app)
    convstore.blueprint.url_value_preprocessor(lambda _, values: (values or {}).pop("tenant"))
    app.register_blueprint(convstore.blueprint, url_prefix="/<tenant>/chats")
    client = app.test_client()
    found = client.get("/acme/chats/openapi.json", environ_overrides={"SCRIPT_NAME": "/app"}).json
    assert found
    assert found["servers"] == [{"url": "/app"}]
    path = found["paths"]["/{tenant}/chats/{session_id}"]
    assert [parameter["name"] for parameter in path["delete"]["parameters"][:2]] == ["tenant", "session_id"]
    validate(found)
    found = client.get("/acme/chats/openapi.json").json
    assert found
    assert found["servers"] == [{"url": "/"}]


def test_it_is_made_once_for_each_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """It took 25 ms of each request."""
    made: list[Any] = []
    make = openapi_document.document

    def counted(*arguments: Any) -> Any:
        made.append(arguments)
        return make(*arguments)

    monkeypatch.setattr(openapi_document, "document", counted)
    openapi_document.document_text.cache_clear()
    service = Service("memory://")
    service.app.register_blueprint(service.convstore.blueprint, url_prefix="/other", name="other")
    get = service.client.get
    first = [get("/sessions/openapi.json") for _ in range(3)]
    assert len(made) == 1
    assert len({response.headers["ETag"] for response in first}) == len({response.data for response in first}) == 1
    elsewhere = [
        get("/other/openapi.json"),
        get("/sessions/openapi.json", environ_overrides={"SCRIPT_NAME": "/app"}),
        Service("memory://", CLIENT_TTL=True).client.get("/sessions/openapi.json"),
    ]
    assert len(made) == 4
    assert len({response.headers["ETag"] for response in [first[0], *elsewhere]}) == 4
    etag = first[0].headers["ETag"]
    for known in (etag, f"W/{etag}", f'"x", {etag}'):
        unchanged = get("/sessions/openapi.json", headers={"If-None-Match": known})
        assert (unchanged.status_code, unchanged.data, unchanged.headers["ETag"]) == (304, b"", etag)
    assert get("/sessions/openapi.json", headers={"If-None-Match": elsewhere[0].headers["ETag"]}).status_code == 200
    assert first[0].headers["Cache-Control"] == "no-cache"


def test_it_bounds_cursors() -> None:
    document = document_of(Service("memory://"))
    for path in ("/sessions", "/sessions/export"):
        cursor = document["paths"][path]["get"]["parameters"][0]
        assert (cursor["name"], cursor["schema"]["maxLength"]) == ("cursor", 1000)


def test_without_apispec_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "apispec", None)
    openapi_document.document_text.cache_clear()
    found = problem(Service("memory://").client.get("/sessions/openapi.json"), 501, "not-installed")
    assert "the extra [openapi] of flask-convstore" in found["detail"]


@pytest.mark.slow
def test_a_hosts_own_document_takes_it_in() -> None:
    app = Flask("app")
    app.config.update(CONVSTORE_URL="memory://", NOTES_URL="memory://", NOTES_CLIENT_DATA=False)
    app.config.update(CONVSTORE_METRICS=True, NOTES_METRICS=True)
    chats, notes = ConversationStore(app), ConversationStore(app, name="notes", config_prefix="NOTES")
    app.register_blueprint(chats.blueprint)
    app.register_blueprint(notes.blueprint, url_prefix="/api/notes")
    app.register_blueprint(notes.blueprint, url_prefix="/old", name="old notes")
    spec = APISpec("Host", "1", "3.1.0")
    spec.components.schema("Session", {"type": "string"})
    spec.path("/own", operations={"get": {"operationId": "own", "responses": {"200": {"description": "ok"}}}})
    with app.app_context():
        chats.document(spec)
        notes.document(spec)
    document: Any = spec.to_dict()
    validate(document)
    assert {"/own", "/sessions", "/api/notes/{session_id}", "/old/health"} <= set(document["paths"])
    names = document["components"]["schemas"]
    assert names["Session"] == {"type": "string"}
    assert {"convstore.Session", "notes.Session", "old_notes.Session"} <= set(names)
    assert names["convstore.Start"] != names["notes.Start"]
    ids = [operation["operationId"] for _, _, operation in operations_of(document)]
    assert len(ids) == len(set(ids)) == 1 + 3 * len(ENDPOINTS)
    assert {"convstore.start_session", "notes.start_session"} <= set(ids)


def test_an_older_openapi_is_refused() -> None:
    service = Service("memory://")
    with service.app.app_context(), pytest.raises(InvalidInput, match=r"3\.0\.3: make a spec of 3\.1\.0"):
        service.convstore.document(APISpec("Host", "1", "3.0.3"))


# ---- what is answered is what it says


WITH_BODIES = (("POST", "/messages"), ("PATCH", ""), ("PATCH", "/messages/1"), ("POST", "/compact"), ("POST", "/fork"))


class Walker:
    """A client that holds every answer against the document."""

    def __init__(self, service: Service) -> None:
        self._client = service.client
        self._document = document_of(service)
        self._adapter = service.app.url_map.bind("localhost")
        self.seen: set[tuple[str, int]] = set()

    def __call__(self, method: str, path: str, **options: Any) -> TestResponse:
        response = self._client.open(path, method=method, **options)
        rule, _ = self._adapter.match(path.partition("?")[0], method, return_rule=True)
        shown = self._document["paths"][re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)][method.lower()]
        assert str(response.status_code) in shown["responses"], (method, path, response.status_code, response.data)
        self.seen.add((shown["operationId"], response.status_code))
        found = shown["responses"][str(response.status_code)]
        if "content" in found:
            media = found["content"][response.mimetype]
            check(self._document, media["schema"], response.json if response.is_json else response.text)
        for name, header in found.get("headers", {}).items():
            if name in response.headers:
                text = response.headers[name]
                check(self._document, header["schema"], int(text) if header["schema"]["type"] == "integer" else text)
            else:
                assert not header["required"], name
        return response


@pytest.mark.parametrize("value", ["3-2893472817", "1-1", "str", ""])
def test_any_last_event_id_is_answered_and_the_document_says_so(url: str, value: str) -> None:
    """A browser sends the id that it was given, maybe by another server. It gets all, and no 4xx."""
    service = Service(url)
    service.convstore.reply(lambda turn: iter(["hi"]))
    path = f"/sessions/{service.start(message={'content': 'hi'})}/replies/msg-2"
    headers = {"Last-Event-ID": value}
    assert service.client.get(path, headers=headers).text.count("event: done") == 1
    document = document_of(service)
    operation = document["paths"]["/sessions/{session_id}/replies/{turn}"]["get"]
    [schema] = [one["schema"] for one in operation["parameters"] if one.get("name") == "Last-Event-ID"]
    check(document, schema, value)


def test_a_walk_through_all_of_it(url: str) -> None:
    service = Service(url, CLIENT_TTL=True, MAX_MESSAGE_BYTES=1000, METRICS=True)
    service.convstore.owner_loader(lambda: request.headers.get("X-Owner"))
    service.convstore.reply(lambda turn: turn.message["content"] if turn.message["content"] != "fail" else str(1 / 0))
    walk, ada = Walker(service), {"X-Owner": "ada"}
    walk("GET", "/sessions/health")
    walk("GET", "/sessions/openapi.json")
    walk("GET", "/sessions/metrics")
    script = walk("GET", "/sessions/convstore.js")
    assert walk("GET", "/sessions/convstore.js", headers={"If-None-Match": script.headers["ETag"]}).status_code == 304
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/export"), ("POST", "/import")):
        assert walk(method, f"/sessions{path}").status_code == 401
    body = {"alias": "telegram:1", "message": {"content": "hi"}, "data": {"a": [1, None]}, "ttl": 60}
    started = walk("POST", "/sessions", json=body, headers=ada)
    path, etag = started.headers["Location"], started.headers["ETag"]
    assert walk("POST", "/sessions", json=body, headers=ada).status_code == 200
    assert walk("POST", "/sessions", json={"message": {"content": "fail"}}, headers=ada).status_code == 502
    walk("GET", path, headers=ada)
    assert walk("GET", path, headers={**ada, "If-Match": etag}).status_code == 412
    now = walk("GET", path, headers=ada).headers["ETag"]
    assert walk("GET", path, headers={**ada, "If-None-Match": now}).status_code == 304
    walk("POST", f"{path}/messages", json={"content": "more", "metadata": {"a": 1}}, headers=ada)
    walk("GET", f"{path}/messages?limit=1", headers=ada)
    events = {**ada, "Accept": "text/event-stream"}
    assert walk("POST", "/sessions", json={"message": {"content": "hi"}}, headers=events).mimetype == events["Accept"]
    streamed = walk("POST", f"{path}/messages", json={"content": "more"}, headers=events).text
    [reply] = re.findall(r'event: done\ndata: {"turn":"(msg-\d+)","status":"complete"}', streamed)
    assert (
        walk("GET", f"{path}/replies/{reply}", headers={**ada, "Last-Event-ID": "1-1"}).text.count("event: reset") == 1
    )
    assert walk("GET", f"{path}/replies/{reply}?last_event_id=", headers=ada).status_code == 422
    assert walk("GET", f"{path}/replies/current", headers=ada).status_code == 204
    assert walk("DELETE", f"{path}/replies/{reply}", headers=ada).json["status"] == "complete"  # type: ignore[index]
    assert walk("GET", f"{path}/events", headers=ada).text.count("event: snapshot") == 1
    assert walk("GET", "/sessions/events", headers=ada).text.count("event: snapshot") == 1
    for method in ("GET", "DELETE"):
        assert walk(method, f"{path}/replies/msg-99", headers=ada).status_code == 404
    walk("PATCH", f"{path}/messages/1", json={"content": [{"type": "text"}]}, headers=ada)
    walk("DELETE", f"{path}/messages/2", headers=ada)
    walk("DELETE", f"{path}/messages?after=msg-2", headers=ada)
    named = {"content": "again", "id": "mine", "replaces": 1}
    assert walk("POST", f"{path}/messages", json=named, headers=ada).json["message"]["id"] == "mine"  # type: ignore[index]
    walk("PATCH", path, json={"data": {"a": None}, "title": "new"}, headers=ada)
    walk("POST", f"{path}/fork", headers=ada)
    walk("POST", f"{path}/compact", json={"summary": "short"}, headers=ada)
    assert walk("POST", f"{path}/messages", json={"content": "x"}, headers=ada).json["type"] == "urn:convstore:moved"  # type: ignore[index]
    walk("GET", "/sessions", headers=ada)
    exported = walk("GET", "/sessions/export", headers=ada)
    assert exported.text.count("\n") > 3
    walk("DELETE", path, headers=ada)
    walk("DELETE", "/sessions", headers=ada)
    walk("POST", "/sessions/import", data=exported.data, content_type="application/x-ndjson", headers=ada)
    walk("DELETE", path, headers={**ada, "If-Match": etag})
    assert walk("GET", "/sessions/current", headers=ada).status_code == 404
    assert walk("GET", "/sessions/current?last=x", headers=ada).status_code == 422
    put = functools.partial(walk, "PUT", "/sessions/current", headers=ada)
    current = walk("POST", "/sessions", json={}, headers=ada).get_json()["session_id"]
    assert put(json={"session_id": current}).status_code == 200
    shown = walk("GET", "/sessions/current", headers=ada)
    assert walk("GET", "/sessions/current", headers={**ada, "If-None-Match": shown.headers["ETag"]}).status_code == 304
    assert put(json={"session_id": "none"}).status_code == 404
    assert put(json={}).status_code == 422
    assert put(data="{", content_type="application/json").status_code == 400
    assert put(data="{}", content_type="text/plain").status_code == 415
    assert put(json={"a": "x" * 5_000_000}).status_code == 413
    assert walk("GET", f"/sessions/{current}/messages", headers={**ada, "If-None-Match": "*"}).status_code == 304
    for method, suffix in (
        ("POST", "/messages"),
        ("PATCH", ""),
        ("PATCH", "/messages/1"),
        ("POST", "/compact"),
        ("POST", "/fork"),
    ):
        wrong = walk(method, path + suffix, json={"nonsense": 1}, headers=ada)
        assert wrong.status_code == 422
        assert walk(method, path + suffix, data="{", content_type="application/json", headers=ada).status_code == 400
        assert walk(method, path + suffix, data="{}", content_type="text/plain", headers=ada).status_code == 415
        assert walk(method, path + suffix, json={"a": "x" * 5_000_000}, headers=ada).status_code == 413
        good = {"content": "x"} if "messages" in suffix else {"summary": "x"} if suffix == "/compact" else {}
        assert walk(method, "/sessions/none" + suffix, json=good, headers=ada).status_code == 404
    for query in ("", "/messages"):
        assert walk("GET", f"/sessions/none{query}", headers=ada).status_code == 404
        assert walk("GET", f"{path}{query}?last=x&limit=x", headers=ada).status_code == 422
    assert {name for name, _ in walk.seen} == set(ENDPOINTS)


def test_a_store_that_is_away_is_in_it() -> None:
    service = Service("redis://127.0.0.1:1/0", RETRIES=0, FALLBACK="none")
    service.convstore.owner_loader(lambda: "ada")
    walk = Walker(service)
    for path, method, operation in operations_of(document_of(service)):
        if operation["operationId"] not in ("openapi", "script", "import_sessions"):
            body = {"content": "x"} if "messages" in path else {"summary": "x"} if "compact" in path else {}
            body = {"session_id": "s"} if path.endswith("/current") else body
            sent = {"json": body} if method in ("post", "patch", "put") else {}
            concrete = path.replace("{session_id}", "s").replace("{seq}", "1").replace("{turn}", "msg-2")
            query = "?after=1" if operation["operationId"] == "drop_messages" else ""
            assert walk(method.upper(), concrete + query, **sent).status_code == 503


# ---- what schemathesis finds, and has found


@pytest.mark.slow
@pytest.mark.parametrize(("where", "owner"), [("memory", "ada"), ("valkey", None)])
def test_no_request_is_answered_otherwise(where: str, owner: str | None, request: pytest.FixtureRequest) -> None:
    server: Server | None = request.getfixturevalue("valkey") if where == "valkey" else None
    app = fuzz.create_app(server.url if server else "memory://", has_owners=owner is not None)
    logging.disable(logging.CRITICAL)
    try:
        outcome = fuzz.fuzz(app, examples=2, seed=1, owner=owner)
    finally:
        logging.disable(logging.NOTSET)
    assert not outcome.failures, "\n".join(outcome.failures)
    assert outcome.cases > 200


@pytest.mark.parametrize("seq", ["0", "-1", "x", "1.0", "²", "9" * 20])
def test_a_message_whose_number_is_none_is_our_404(service: Service, seq: str) -> None:
    """It was the host's, in HTML."""
    path = f"/sessions/{service.start(message={'content': 'hi'})}/messages/{seq}"
    problem(service.client.patch(path, json={"content": "x"}), 404, "not-found")
    problem(service.client.delete(path), 404, "not-found")


@pytest.mark.parametrize("reply", ["0", "2", "msg-0", "²", "9" * 20, "%00", "%22", "x" * 201, ".a"])
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_a_reply_whose_id_is_none_is_our_404(service: Service, reply: str, method: str) -> None:
    """A number was refused (422)."""
    service.convstore.reply(lambda turn: "hello")
    session_id = service.start(message={"content": "hi"})
    problem(service.client.open(f"/sessions/{session_id}/replies/{reply}", method=method), 404, "not-found")


def test_whole_numbers(service: Service) -> None:
    """JSON's 1.0, an integer for JSON Schema, was refused. Queries accepted 1_0, +1 and the digits of any script."""
    path = f"/sessions/{service.start(message={'content': 'hi'})}"
    for bad in ("1_0", "%201", "%2B1", "%D9%A3", "9" * 5000):
        problem(service.client.get(f"{path}?last={bad}"), 422, "invalid")
    for worse in (1.5, "1", True, 1e300):
        problem(service.client.post(f"{path}/fork", json={"seq": worse}), 422, "invalid")
    assert service.client.post(f"{path}/fork", json={"seq": 1.0}).status_code == 201
    assert service.client.post(f"{path}/compact", json={"summary": "x", "keep": 1.0}).status_code == 201


def test_routes_beside_the_sessions_have_their_own_methods(service: Service) -> None:
    """``Allow`` named those of a session of that name, which there cannot be."""
    for name, methods in (("health", "GET"), ("export", "GET"), ("openapi.json", "GET"), ("import", "")):
        allowed = service.client.options(f"/sessions/{name}").headers["Allow"].split(", ")
        assert set(allowed) - {"HEAD", "OPTIONS"} == {methods or "POST"}
        assert service.client.patch(f"/sessions/{name}", json={}).status_code == 405
    assert service.client.head("/sessions/health").status_code == 200
    assert service.client.get("/sessions/healthy").status_code == 404


def test_what_a_session_is_called_is_in_no_way_of_its_path(service: Service) -> None:
    """The host routes slashes and dots at the end. Nothing breaks."""
    for path in (
        "/sessions/",
        "/sessions/a/",
        "/sessions/a%2Fb",
        "/sessions/%00",
        "/sessions/%ED%A0%80",
        "/sessions/%FF",
    ):
        assert service.client.get(path).status_code == 404
    for method in ("PUT", "TRACE", "BREW"):
        assert service.client.open("/sessions/a", method=method).status_code == 405


# ---- the docs


def test_the_docs_have_the_table_of_the_document() -> None:
    text = (ROOT / "docs" / "http.md").read_text("utf-8")
    assert http_table.replaced(text) == text, "python -m tests.http_table writes it"
