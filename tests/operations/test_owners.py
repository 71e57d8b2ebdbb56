"""Owners of requests: the app's loader, a browser's signed cookie, nobody. And attacks on each of them."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import flask_login
import pytest
from flask import (
    Blueprint,
    Flask,
    Response,
    abort,
    after_this_request,
    copy_current_request_context,
    request,
    stream_with_context,
)
from flask.testing import FlaskClient
from flask_limiter import Limiter
from itsdangerous import URLSafeTimedSerializer
from werkzeug.exceptions import HTTPException
from werkzeug.test import TestResponse

from flask_convstore import ANY, ConfigurationError, ConversationStore, OwnerRequired, SessionMoved
from flask_convstore.domain.messages import Message
from flask_convstore.http.routes import ROUTES
from flask_convstore.operations import sessions

from ..processes import on_disk, wait_for
from ..servers import Server
from ..service import OwnedService, Service, in_memory, path_of, problem

SECRET = "not a secret"
COOKIE = "convstore_owner"


def anonymous(url: str, *, secret: Any = SECRET, **config: Any) -> Service:
    service = Service(url, ANONYMOUS_OWNER=True, **config)
    service.app.secret_key = secret
    return service


def started(client: FlaskClient, path: str = "/sessions") -> str:
    response = client.post(path, json={"data": {"mine": True}})
    assert response.status_code == 201, response.data
    assert response.json
    session_id: str = response.json["session_id"]
    return session_id


def listed(client: FlaskClient, path: str = "/sessions", **options: Any) -> list[str]:
    response = client.get(path, **options)
    assert response.status_code == 200, response.data
    assert response.json
    return [session["session_id"] for session in response.json["sessions"]]


def cookie_of(client: FlaskClient) -> str:
    found = client.get_cookie(COOKIE)
    assert found
    return found.value


def signed(owner: Any, *, secret: str = SECRET, name: str = COOKIE) -> str:
    return str(URLSafeTimedSerializer(secret, salt=f"flask-convstore.{name}").dumps(owner))


# ---- the loader


def test_the_loader_names_the_owner(url: str) -> None:
    service = OwnedService(url)
    created = service.call("alice", "POST", json={}).json
    assert created
    session_id = created["session_id"]
    assert service.call("alice", "GET", f"/{session_id}").status_code == 200
    for stranger in ("bob", "ALICE", "alice ", "*", "=alice", None):
        response = service.call(stranger, "GET", f"/{session_id}")
        absent = service.call(stranger, "GET", "/2f1c0000-0000-4000-8000-000000000000")
        assert (response.status_code, response.data) == (404, absent.data)
    with service.app.app_context():
        assert service.convstore.get_session(session_id) is not None, "outside a request: the server"
        assert service.convstore.get_session(session_id, owner="alice") is not None
        assert service.convstore.get_session(session_id, owner="bob") is None
        assert service.convstore.get_session(session_id, owner=None) is None


def test_a_number_is_a_name_too(url: str) -> None:
    service = Service(url)
    service.convstore.owner_loader(lambda: 42)
    session_id = service.start()
    with service.app.app_context():
        assert service.convstore.get_session(session_id, owner="42") is not None


class User:
    def __repr__(self) -> str:
        return "User(ada@example.com)"


@pytest.mark.parametrize(
    "owner", ["", "x" * 201, "a\nb", "\ud800", True, False, 1.5, b"alice", User(), uuid.uuid4(), ["ada"]]
)
def test_a_loader_without_a_valid_name_is_the_apps_fault(
    url: str, owner: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Clients were told that their request was not valid, and no log told the app."""
    service = Service(url)

    @service.convstore.owner_loader
    def load_owner() -> Any:
        return owner

    for method in ("GET", "POST"):
        response = service.client.open("/sessions", method=method)
        problem(response, 500, "misconfigured")
        assert "owner" not in response.text
    with service.app.test_request_context(), pytest.raises(ConfigurationError, match=r"load_owner returned a"):
        service.convstore.get_session("s")
    assert len(caplog.records) == 2
    for record in caplog.records:
        assert "load_owner returned a" in record.message
        assert "such as str(user.id), or None" in record.message
        assert "ada" not in record.message


def test_a_caller_without_an_owner(url: str) -> None:
    service = OwnedService(url)
    session_id = service.json(service.call(None, "POST", json={}), 201)["session_id"]
    assert service.call(None, "GET", f"/{session_id}").status_code == 200, "the unguessable id is the key"
    assert service.call("alice", "GET", f"/{session_id}").status_code == 404
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/export"), ("POST", "/import")):
        options: Any = {"data": b"", "content_type": "application/x-ndjson"} if path == "/import" else {}
        problem(service.call(None, method, path, **options), 401, "owner-required")
    problem(service.call(None, "POST", json={"alias": "web:1"}), 401, "owner-required")
    for key in ("1", "order-17", "x" * 36):
        problem(service.call(None, "POST", json={}, headers={"Idempotency-Key": key}), 422, "invalid")
    with service.app.test_request_context():
        convstore = service.convstore
        for call in (convstore.current_session, convstore.usage, convstore.delete_owner):
            for owner in (None, ANY):
                with pytest.raises(OwnerRequired):
                    call(owner=owner)


def test_aliases_and_start_keys_belong_to_the_owner(url: str) -> None:
    service = OwnedService(url)
    ids = set()
    for owner in ("alice", "bob", "alice\u00a0", "a"):
        asked: list[Any] = [{"json": {"alias": "web:1"}}, {"json": {}, "headers": {"Idempotency-Key": "1"}}]
        for options in asked:
            first, again = (service.call(owner, "POST", **options) for _ in range(2))
            assert first.json
            assert again.json
            assert first.json["session_id"] == again.json["session_id"]
            ids.add(first.json["session_id"])
    assert len(ids) == 8
    uuid = "2f1c0000-0000-4000-8000-000000000001"
    nobodys = service.call(None, "POST", json={}, headers={"Idempotency-Key": uuid}).json
    hers = service.call("alice", "POST", json={}, headers={"Idempotency-Key": uuid}).json
    assert nobodys
    assert hers
    assert nobodys["session_id"] != hers["session_id"]


def test_flask_login(url: str) -> None:
    """As docs/owners.md shows."""
    service = Service(url)
    app, convstore = service.app, service.convstore
    app.secret_key = SECRET
    manager = flask_login.LoginManager(app)

    class User(flask_login.UserMixin):  # type: ignore[misc]
        def __init__(self, name: str) -> None:
            self.id = name

    manager.user_loader(User)

    @convstore.owner_loader
    def owner() -> str | None:
        user = flask_login.current_user
        return user.get_id() if user.is_authenticated else None

    @app.post("/login/<name>")
    def login(name: str) -> dict[str, Any]:
        before = request.json["session_id"]
        flask_login.login_user(User(name))
        return {"session_id": convstore.rotate_id(before, new_owner=name, owner=None).session_id}

    @app.post("/logout")
    def logout() -> str:
        flask_login.logout_user()
        return ""

    alice, bob, attacker = (app.test_client() for _ in range(3))
    fixed = started(attacker)  # the attacker makes the victim use a session that the attacker knows
    response = alice.post("/login/alice", json={"session_id": fixed})
    assert response.json
    session_id = response.json["session_id"]
    assert session_id != fixed
    assert attacker.get(f"/sessions/{fixed}").status_code == 404
    assert attacker.get(f"/sessions/{session_id}").status_code == 404
    assert alice.get(f"/sessions/{session_id}").json["data"] == {"mine": True}  # type: ignore[index]
    bobs = started(bob)
    bob.post("/login/bob", json={"session_id": bobs})
    assert bob.get(f"/sessions/{session_id}").status_code == 404
    assert listed(alice) == [session_id]
    alice.post("/logout")
    assert alice.get("/sessions").status_code == 401
    assert alice.get(f"/sessions/{session_id}").status_code == 404


def test_rotation_keeps_the_whole_session(url: str) -> None:
    service = OwnedService(url)
    with service.app.app_context():
        convstore = service.convstore
        convstore.save_session("s", {"a": 1, "history": [{"role": "user", "content": "hi"}]}, ttl=5000, owner="alice")
        convstore.update_session("s", title="kept")
        convstore.link("web:1", "s", owner="alice")
        convstore.set_current_session("s", owner="alice")
        rotated = convstore.rotate_id("s", owner="alice")
        assert rotated == {"a": 1, "history": [{"role": "user", "content": "hi"}]}
        assert (rotated.title, round((rotated.expires_at - rotated.updated_at).total_seconds(), -1)) == ("kept", 5000)
        led = convstore.resolve("web:1", owner="alice")
        assert led is not None
        assert led.session_id == rotated.session_id
        assert convstore.aliases(rotated.session_id, owner="alice") == ["web:1"]
        assert convstore.get_session("s") is None
        assert convstore.current_session(owner="alice") == rotated


def test_a_failed_start_by_alias_says_if_anything_was_written(url: str) -> None:
    """A new session was written. Nothing was written to a session with a turn in progress."""
    service = OwnedService(url)
    service.convstore.reply(lambda turn: "hello")
    start: Any = {"json": {"alias": "web:1", "message": {"content": "hi"}}}
    with service.app.app_context():
        session = service.convstore.resolve("web:1", create=True, owner="alice")
        with service.convstore.turn(session.session_id, "first", owner="alice"):
            refused = problem(service.call("alice", "POST", **start), 409, "turn-in-progress")
            assert refused["written"] is False
    too_large: Any = {"json": {"alias": "web:2", "message": {"content": "x" * 2_000_000}}}
    assert problem(service.call("alice", "POST", **too_large), 413, "too-large")["written"] is True
    with service.app.app_context():
        assert service.convstore.resolve("web:2", owner="alice") == {"history": []}


def test_a_new_owner_gets_no_aliases_of_the_old_owner(url: str) -> None:
    service = OwnedService(url)
    with service.app.app_context():
        convstore = service.convstore
        session = convstore.resolve("web:1", create=True, owner="anonymous:1")
        convstore.link("telegram:1", session.session_id, owner=ANY)
        taken = convstore.rotate_id(session.session_id, new_owner="ada", owner="anonymous:1")
        assert convstore.resolve("web:1", owner="anonymous:1") is None
        assert convstore.resolve("web:1", owner="ada") is None
        led = convstore.resolve("telegram:1", owner=ANY)
        assert led is not None
        assert led.session_id == taken.session_id


def test_a_moved_conversation_is_rotated_in_its_new_session(url: str) -> None:
    service = OwnedService(url)
    with service.app.app_context():
        convstore = service.convstore
        convstore.save_session("s", {"history": []}, owner="alice")
        new = convstore.compact("s", "so far", owner="alice")
        with pytest.raises(SessionMoved) as caught:
            convstore.rotate_id("s", owner="alice")
        assert caught.value.moved_to == new.session_id
        assert len(convstore.list_sessions(owner="alice").sessions) == 2


# ---- a browser's own owner


def test_a_browser_is_an_owner(url: str) -> None:
    app = anonymous(url).app
    ada, bob = app.test_client(), app.test_client()
    session_id = started(ada)
    assert listed(ada) == [session_id]
    assert listed(bob) == []
    assert ada.get(f"/sessions/{session_id}").status_code == 200
    assert bob.get(f"/sessions/{session_id}").status_code == 404
    first = cookie_of(ada)
    assert listed(ada) == [session_id]
    assert cookie_of(ada) == first, "it is given once"


def test_attributes_of_the_cookie(url: str) -> None:
    app = anonymous(url).app
    for base, is_secure in (("http://localhost", False), ("https://localhost", True)):
        response = app.test_client().post("/sessions", json={}, base_url=base)
        (cookie,) = response.headers.getlist("Set-Cookie")
        assert cookie.startswith(f"{COOKIE}=")
        for part in ("HttpOnly", "SameSite=Lax", "Path=/", "Max-Age=31536000"):
            assert part in cookie
        assert ("Secure" in cookie) == is_secure
        assert "Domain" not in cookie
        assert "Cookie" in response.headers["Vary"]


def streamed_in_context(service: Service) -> Response:
    def parts() -> Iterator[str]:
        service.convstore.save_session("s", {"history": []})
        yield "part"

    return Response(stream_with_context(parts()))


def streamed_by_itself(service: Service) -> Response:
    def parts() -> Iterator[str]:
        service.convstore.sessions["s"] = {"history": []}
        yield "part"

    return Response(parts())


def changed_late(service: Service) -> Response:
    @after_this_request
    def save(response: Response) -> Response:
        service.convstore.save_session("s", {"history": []})
        return response

    return Response("done")


def streamed_by_another(service: Service) -> Response:
    @after_this_request
    def stream(response: Response) -> Response:
        return streamed_in_context(service)

    return Response("done")


@pytest.mark.parametrize("view", [streamed_in_context, streamed_by_itself, changed_late, streamed_by_another])
def test_a_new_browser_finds_what_its_streamed_response_has_stored(
    url: str, view: Callable[[Service], Response]
) -> None:
    """The cookie is decided before the headers leave."""
    service = anonymous(url)
    service.app.add_url_rule("/stream", view_func=lambda: view(service))
    assert service.client.get("/stream").data in (b"part", b"done")
    assert listed(service.client) == ["s"]
    first = cookie_of(service.client)
    assert service.client.get("/stream").data
    assert cookie_of(service.client) == first


def test_a_new_browser_stores_nothing_when_its_response_has_left(url: str) -> None:
    """Nobody could find it again. A browser with a cookie may."""
    service = anonymous(url)
    errors: list[Exception] = []

    def save() -> None:
        try:
            service.convstore.save_session("s", {"history": []})
        except OwnerRequired as error:
            errors.append(error)

    @service.app.get("/late")
    def late() -> Response:
        response = Response("done")
        response.call_on_close(copy_current_request_context(save))
        return response

    service.client.get("/late").close()
    (error,) = errors
    assert "left without the cookie of a new browser" in str(error)
    assert error.written is False  # type: ignore[attr-defined]
    with service.app.app_context():
        assert service.convstore.get_session("s", owner=ANY) is None
    started(service.client)
    service.client.get("/late").close()
    assert len(errors) == 1
    assert "s" in listed(service.client)


def test_a_streamed_response_to_a_logged_in_user_brings_no_cookie(url: str) -> None:
    service = anonymous(url)
    service.convstore.owner_loader(lambda: "ada")
    service.app.add_url_rule("/stream", view_func=lambda: streamed_in_context(service))
    assert "Set-Cookie" not in service.client.get("/stream").headers


def test_settings_of_the_apps_own_cookie_hold(url: str) -> None:
    service = anonymous(url)
    service.app.config.update(
        SESSION_COOKIE_SECURE=True,
        SESSION_COOKIE_DOMAIN="example.com",
        SESSION_COOKIE_PATH="/app",
        SESSION_COOKIE_SAMESITE="None",
        SESSION_COOKIE_PARTITIONED=True,
        SESSION_COOKIE_HTTPONLY=False,
    )
    (cookie,) = service.client.post("/sessions").headers.getlist("Set-Cookie")
    for part in ("HttpOnly", "SameSite=None", "Path=/app", "Domain=example.com", "Secure", "Partitioned"):
        assert f"; {part}" in cookie
    service = anonymous(url)
    service.app.config["APPLICATION_ROOT"] = "/root"
    (cookie,) = service.client.post("/sessions").headers.getlist("Set-Cookie")
    assert "; Path=/root" in cookie
    assert "Partitioned" not in cookie


def test_a_cookie_is_set_only_if_an_owner_is_needed(url: str) -> None:
    service = anonymous(url)
    service.app.get("/plain")(lambda: "hello")
    for path in ("/plain", "/sessions/health", "/absent"):
        response = service.client.get(path)
        assert "Set-Cookie" not in response.headers
        assert "Vary" not in response.headers


@in_memory
@pytest.mark.parametrize(
    "forge",
    [
        lambda good: "",
        lambda good: "anonymous:1",
        lambda good: good[:-5] + ("A" if good[-5] != "A" else "B") + good[-4:],
        lambda good: good.partition(".")[0],
        lambda good: "e30" + good[3:],
        lambda good: good + "x" * 2000,
        lambda good: signed("admin", secret="another"),
        lambda good: signed("admin", name="notes_owner"),
        lambda good: signed("admin", name="session"),
        lambda good: str(URLSafeTimedSerializer(SECRET, salt="cookie-session").dumps("admin")),
        lambda good: signed({"owner": "admin"}),
        lambda good: signed(["admin"]),
        lambda good: signed(None),
    ],
)
def test_a_forged_cookie_is_ignored(url: str, forge: Any) -> None:
    service = anonymous(url)
    session_id = started(service.client)
    with service.app.app_context():
        service.convstore.save_session("admins", {}, owner="admin")
    attacker = service.app.test_client()
    forged = forge(cookie_of(service.client))
    attacker.set_cookie(COOKIE, forged)
    assert attacker.get(f"/sessions/{session_id}").status_code == 404
    assert attacker.get("/sessions/admins").status_code == 404
    assert listed(attacker) == []
    assert cookie_of(attacker) != forged, "it is a new browser"


def test_another_stores_cookie_is_ignored(url: str) -> None:
    service = anonymous(url)
    service.app.config.update(NOTES_URL=url, NOTES_PREFIX="notes:", NOTES_ANONYMOUS_OWNER=True)
    notes = ConversationStore(service.app, name="notes", config_prefix="NOTES")
    service.app.register_blueprint(notes.blueprint, url_prefix="/notes")
    client, other = service.client, service.app.test_client()
    started(client)
    noted = started(client, "/notes")
    found = client.get_cookie("notes_owner")
    assert found
    other.set_cookie(COOKIE, found.value)
    other.set_cookie("notes_owner", cookie_of(client))
    assert listed(other) == listed(other, "/notes") == []
    assert listed(client, "/notes") == [noted]


def test_an_expired_cookie_is_ignored_and_an_old_one_is_renewed(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    service = anonymous(url)
    session_id, first, real = started(service.client), cookie_of(service.client), time.time
    for days, is_known, is_new in ((29, True, False), (31, True, True), (366, False, True)):
        client = service.app.test_client()
        client.set_cookie(COOKIE, first)
        with monkeypatch.context() as patched:
            patched.setattr(time, "time", lambda days=days: real() + days * 86_400)
            response = client.get("/sessions")
        assert response.json
        assert [session["session_id"] for session in response.json["sessions"]] == [session_id] * is_known
        assert ("Set-Cookie" in response.headers) == is_new


def test_signing_keys_can_be_rotated(url: str) -> None:
    service = anonymous(url)
    session_id, first = started(service.client), cookie_of(service.client)
    service.app.config.update(SECRET_KEY="new", SECRET_KEY_FALLBACKS=[SECRET])
    assert listed(service.client) == [session_id]
    fresh = service.app.test_client()
    started(fresh)
    service.app.config["SECRET_KEY_FALLBACKS"] = []
    assert len(listed(fresh)) == 1, "new ones are signed with the new key"
    assert listed(service.client) == [session_id], "old ones were signed anew"
    service.client.set_cookie(COOKIE, first)
    assert listed(service.client) == []


def test_a_cookie_is_signed_anew_once(url: str) -> None:
    """A browser that came every day lost its conversations when the old key was taken away."""
    service = anonymous(url)
    for fallbacks in ([SECRET], ["other", SECRET], [SECRET, "other"]):
        key = f"new {fallbacks}"
        service.app.config.update(SECRET_KEY=key, SECRET_KEY_FALLBACKS=fallbacks)
        client, newest = service.app.test_client(), URLSafeTimedSerializer(key, salt=f"flask-convstore.{COOKIE}")
        client.set_cookie(COOKIE, signed("anonymous:1"))
        assert ["Set-Cookie" in client.get("/sessions").headers for _ in range(2)] == [True, False]
        assert newest.loads(cookie_of(client)) == "anonymous:1"
        client.set_cookie(COOKIE, signed("anonymous:1", secret="forged"))
        client.get("/sessions")
        assert newest.loads(cookie_of(client)) != "anonymous:1"


def test_a_login_ends_the_anonymous_owner(url: str) -> None:
    service = anonymous(url)
    service.convstore.owner_loader(lambda: request.headers.get("X-Owner"))
    session_id = started(service.client)
    as_ada = {"X-Owner": "ada"}
    assert listed(service.client, headers=as_ada) == []
    assert service.client.get(f"/sessions/{session_id}", headers=as_ada).status_code == 404
    assert listed(service.client) == [session_id]


def test_a_missing_secret_key_is_named(url: str, caplog: pytest.LogCaptureFixture) -> None:
    service = anonymous(url, secret=None)
    found = problem(service.client.get("/sessions"), 500, "misconfigured")
    assert "SECRET_KEY" not in str(found)
    assert "SECRET_KEY" in caplog.text
    for path in ("/sessions/health", "/sessions/none"):
        problem(service.client.get(path), 500, "misconfigured")


def test_a_missing_secret_key_is_told_at_the_first_request(url: str, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever page it asks for. Until then the app may set the key."""
    for secret, told in ((None, 1), (SECRET, 0)):
        service = anonymous(url, secret=secret)
        service.app.get("/plain")(lambda: "hello")
        caplog.clear()
        assert [service.client.get("/plain").status_code for _ in range(2)] == [200, 200]
        assert [record.levelname for record in caplog.records if "set SECRET_KEY" in record.message] == ["ERROR"] * told


def test_no_cookie_is_logged(url: str, caplog: pytest.LogCaptureFixture) -> None:
    service = anonymous(url)
    caplog.set_level(0)
    started(service.client)
    cookie = cookie_of(service.client)
    service.client.set_cookie(COOKIE, cookie + "x")
    service.client.get("/sessions")
    problem(service.client.post("/sessions", json={}, headers={"Origin": "http://evil.example"}), 403, "cross-origin")
    assert cookie not in caplog.text
    assert SECRET not in caplog.text


# ---- other sites


EVIL: list[dict[str, str]] = [
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://localhost.evil.example"},
    {"Origin": "http://localhost:8000"},
    {"Origin": "https://localhost"},
    {"Origin": ""},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Origin": "http://localhost", "Sec-Fetch-Site": "cross-site"},
]
OURS: list[dict[str, str]] = [
    {},
    {"Origin": "http://localhost"},
    {"Sec-Fetch-Site": "same-origin"},
    {"Sec-Fetch-Site": "none"},
]


@in_memory
@pytest.mark.parametrize("headers", EVIL)
def test_another_site_changes_nothing(url: str, headers: dict[str, str]) -> None:
    client = anonymous(url, METRICS=True).client
    session_id = started(client)
    for route in ROUTES:
        path, is_read = path_of(route.rule, session_id), route.method == "GET"
        response = client.open(path, method=route.method, headers=headers, json=None if is_read else {})
        if is_read:
            is_absent = route.endpoint in ("current_session", "follow_reply")
            assert response.status_code == (404 if is_absent else 200), route.endpoint
        else:
            assert problem(response, 403, "cross-origin")["written"] is False
    assert client.get(f"/sessions/{session_id}").json["version"] == 1  # type: ignore[index]


@pytest.mark.parametrize("headers", OURS)
def test_the_apps_own_pages_and_programs_change_sessions(url: str, headers: dict[str, str]) -> None:
    client = anonymous(url).client
    session_id = started(client)
    assert client.post(f"/sessions/{session_id}/messages", json={"content": "x"}, headers=headers).status_code == 201
    assert client.delete(f"/sessions/{session_id}", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "mimetype", [None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"]
)
def test_forms_of_other_sites_do_nothing_with_the_apps_cookies(url: str, mimetype: str | None) -> None:
    """Otherwise forms without a body could start sessions, which push out the owner's own."""
    service = Service(url, MAX_SESSIONS=1)
    service.convstore.owner_loader(lambda: request.cookies.get("login"))
    service.client.set_cookie("login", "alice")
    session_id = started(service.client)
    for path in ("/sessions", f"/sessions/{session_id}/fork", f"/sessions/{session_id}/messages", "/sessions/import"):
        for data in (None, b'{"content": "x", "="}'):
            response = service.client.post(
                path, data=data, content_type=mimetype, headers={"Origin": "http://evil.example"}
            )
            problem(response, 403, "cross-origin")
    assert listed(service.client) == [session_id]
    for path in ("/sessions", f"/sessions/{session_id}/fork", f"/sessions/{session_id}/messages"):
        assert service.client.post(path, data=b'{"content": "x"}', content_type="text/plain").status_code == 415
    assert listed(service.client) == [session_id]


def test_cors_is_up_to_the_host(url: str) -> None:
    """A page of another origin works with the app's login if the app trusts it and allows it by CORS."""
    service = Service(url, TRUSTED_ORIGINS="https://app.example")
    service.convstore.owner_loader(lambda: request.cookies.get("login"))

    @service.app.after_request
    def allow(response: Response) -> Response:
        response.headers["Access-Control-Allow-Origin"] = "https://app.example"
        return response

    service.client.set_cookie("login", "alice")
    response = service.client.post("/sessions", json={}, headers={"Origin": "https://app.example"})
    assert (response.status_code, response.headers["Access-Control-Allow-Origin"]) == (201, "https://app.example")
    plain = Service(url, TRUSTED_ORIGINS="*").client.post("/sessions", headers={"Origin": "https://app.example"})
    assert not [name for name, _ in plain.headers if name.startswith("Access-Control")]


# ---- beside other extensions


def test_flask_limiter(url: str) -> None:
    """As docs/owners.md shows."""
    service = OwnedService(url)
    limiter = Limiter(
        lambda: request.headers.get("X-Owner") or "nobody",
        app=service.app,
        storage_uri="memory://",
        headers_enabled=True,
    )
    limiter.limit("3/minute")(service.convstore.blueprint)
    statuses = [service.call("alice", "POST", json={}).status_code for _ in range(5)]
    assert statuses == [201, 201, 201, 429, 429]
    assert service.call("bob", "POST", json={}).status_code == 201
    assert "Retry-After" in service.call("alice", "GET").headers


def test_the_hosts_own_authentication(url: str) -> None:
    service = Service(url)
    app = Flask("auth")
    app.config.update(CONVSTORE_URL=url)
    convstore = ConversationStore(app)

    @convstore.blueprint.before_request
    def authenticate() -> None:
        if request.headers.get("Authorization") != "Bearer good":
            abort(401)

    app.register_blueprint(convstore.blueprint)
    client = app.test_client()
    for route in ROUTES:
        path = path_of(route.rule, "s")
        assert client.open(path, method=route.method).status_code == 401
    assert client.post("/sessions", headers={"Authorization": "Bearer good"}).status_code == 201
    assert service.client.post("/sessions").status_code == 201


def test_error_handlers_of_the_app_stay_its_own(url: str) -> None:
    service = Service(url)
    app = service.app

    @app.errorhandler(Exception)
    def anything(error: Exception) -> tuple[str, int]:
        return f"host: {type(error).__name__}", error.code or 500 if isinstance(error, HTTPException) else 500

    @app.errorhandler(404)
    def missing(error: Exception) -> tuple[str, int]:
        return "host: 404", 404

    @app.get("/hosts")
    def hosts() -> str:
        with app.test_request_context():
            service.convstore.append("absent", Message("x"))
        return ""

    assert service.client.get("/hosts").data == b"host: SessionNotFound"
    assert service.client.get("/absent").data == b"host: 404"
    problem(service.client.get("/sessions/absent"), 404, "not-found")
    problem(service.client.post("/sessions", data=b"{", content_type="application/json"), 400, "bad-json")
    problem(service.client.post("/sessions", data=b"x", content_type="text/plain"), 415, "unsupported-media-type")
    problem(service.client.post("/sessions", json={"x": 1}), 422, "invalid")
    app.config["MAX_CONTENT_LENGTH"] = 10
    problem(service.client.post("/sessions", json={"data": {"x": "y" * 100}}), 413, "too-large")


@pytest.mark.parametrize("routes", [False, ("start_session",), "start_session, get_session", ("health",)])
def test_routes_can_be_switched_off(url: str, routes: Any) -> None:
    service = Service(url, ROUTES=routes)
    on = {name.strip() for name in routes.split(",")} if isinstance(routes, str) else set(routes or ())
    for route in ROUTES:
        path = path_of(route.rule, "s")
        response = service.client.open(path, method=route.method)
        is_ours = response.mimetype in ("application/json", "application/problem+json")
        assert is_ours == (route.endpoint in on), route.endpoint
        assert is_ours or response.status_code == 404


def test_two_stores_in_one_app(url: str) -> None:
    service = OwnedService(url)
    app = service.app
    app.config.update(
        NOTES_URL=url, NOTES_PREFIX="notes:", NOTES_MAX_SESSIONS=1, NOTES_ROUTES="start_session,list_sessions"
    )
    notes = ConversationStore(app, name="notes", config_prefix="NOTES")
    notes.owner_loader(lambda: "the team")
    parent = Blueprint("api", __name__, url_prefix="/api")
    parent.register_blueprint(notes.blueprint, url_prefix="/notes")
    app.register_blueprint(parent)
    client = app.test_client()
    ids = [started(client, "/api/notes") for _ in range(2)]
    assert listed(client, "/api/notes") == ids[1:], "each has its own quota, owner and routes"
    assert client.get(f"/api/notes/{ids[1]}").mimetype == "text/html"
    hers = [service.call("alice", "POST", json={}).json["session_id"] for _ in range(2)]  # type: ignore[index]
    assert len(listed(client, headers={"X-Owner": "alice"})) == 2
    assert service.call("the team", "GET", f"/{ids[1]}").status_code == 404
    response = service.call("alice", "POST", json={})
    assert response.headers["Location"].startswith("/sessions/")
    assert client.post("/api/notes", json={}).headers["Location"].startswith("/api/notes/")
    cursor = service.call("alice", "GET", "?limit=1").json["next"]  # type: ignore[index]
    assert hers
    assert [client.get(f"/api/notes?cursor={cursor}").status_code] == [200], "a cursor tells a time, no owner"


# ---- bodies and headers that attack


DEEP = b'{"data": {"x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}}"


@in_memory
@pytest.mark.parametrize(
    ("body", "status"),
    [
        (DEEP, 400),
        (b'{"data": {"x": 1' + b"0" * 400_000 + b"}}", 422),
        (b'{"data": {"x": 1e999}}', 422),
        (b'{"data": {"x": NaN}}', 400),
        (b'{"data": {"x": -Infinity}}', 400),
        (b'{"data": {"x": 1}, "data": {"x": 2}}', 400),
        (b'{"data": {"x": {"a": 1, "a": 2}}}', 400),
        (b'{"data": {"x": "\\ud800"}}', 422),
        (b'{"data": {"\\ud800": 1}}', 422),
        (b'{"data": {"x": "\xff"}}', 400),
        (b'\xef\xbb\xbf{"data": {}}', 400),
        (b'{"data": {"__proto__": 1}}', 201),
        (b'{"data": {"x": "\\u0000"}}', 201),
        (b'{"alias": "a\\u0000"}', 422),
        (b'{"alias": ""}', 422),
        (b'{"owner": "alice"}', 422),
        (b'{"session_id": "mine"}', 422),
        (b'{"ttl": 1}', 422),
        (b'{"title": "x"}', 422),
        (b'{"data": {"history": []}}', 422),
        (b'{"message": {"role": "system", "content": "x"}}', 422),
        (b'{"message": {"content": "x", "status": "failed"}}', 422),
        (b'{"message": {"content": "x", "tokens": {"input": 1}}}', 422),
        (b"[]", 422),
        (b"null", 422),
        (b'"text"', 422),
    ],
)
def test_hostile_bodies(url: str, body: bytes, status: int) -> None:
    service = OwnedService(url)
    response = service.call("alice", "POST", data=body, content_type="application/json")
    assert response.status_code == status, response.data[:300]
    assert len(response.data) < 2000
    listed_now = service.call("alice", "GET").json
    assert listed_now
    assert len(listed_now["sessions"]) == (status == 201)
    if status == 201:
        assert service.call("alice", "GET", f"/{listed_now['sessions'][0]['session_id']}").status_code == 200


@pytest.mark.parametrize("key", ["", "x" * 201, "a\x7f", "\x01", "é" * 201])
def test_hostile_header_values(url: str, key: str) -> None:
    service = OwnedService(url)
    problem(service.call("alice", "POST", json={}, headers={"Idempotency-Key": key}), 422, "invalid")


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        ("*", 200),
        ('"1-1"', 412),
        ('W/"1-1"', 412),
        ('"1-1", "2-2"', 412),
        ('"٣-٣"', 412),
        ("garbage", 400),
        ('"' + "1" * 10_000 + '"', 400),
    ],
)
def test_any_form_of_if_match(url: str, tag: str, expected: int) -> None:
    service = OwnedService(url)
    session_id = service.json(service.call("alice", "POST", json={}), 201)["session_id"]
    headers = {"If-Match": tag.encode().decode("latin-1")}
    for method, path, body in (
        ("PATCH", "", {"data": {"x": 1}}),
        ("POST", "/messages", {"content": "x"}),
        ("DELETE", "", None),
    ):
        response = service.call("alice", method, f"/{session_id}{path}", json=body, headers=headers)
        assert response.status_code in (expected, expected + 1), response.data


@pytest.mark.parametrize(
    "cursor",
    ["", "x", "%00", "MQ", "LTE", "aW5m", "2aE", "KDA", "MSAy", "4pyT", "x" * 1001, "OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk"],
)
def test_any_form_of_cursor(url: str, cursor: str) -> None:
    """Cursors of others, of other stores, and texts that are no cursors: 200 with the caller's own sessions, or 422."""
    service = OwnedService(url)
    service.call("alice", "POST", json={})
    service.call("bob", "POST", json={})
    for path in ("", "/export"):
        response: TestResponse = service.call("alice", "GET", f"{path}?cursor={cursor}")
        assert response.status_code in (200, 422), response.data
        if response.status_code == 200:
            assert response.data.count(b"session_id") <= 1


def test_no_internals_in_errors(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    service = OwnedService(url, BUDGET=0.3)

    def leak(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError("chat:session:{secret} redis://:password@host")

    monkeypatch.setattr(sessions, "page", leak)
    response = service.call("alice", "GET")
    assert response.status_code == 500
    assert b"password" not in response.data


# ---- being forgotten


def test_all_that_is_kept_of_an_owner_is_listed_and_deleted(url: str) -> None:
    """Sessions, chats, values of mappings, aliases also of sessions that are gone, shares, and the count of turns."""
    service = OwnedService(url, MAX_TURNS_PER_MINUTE=5)
    store, notes = service.convstore, service.convstore.mapping("notes")
    with service.app.app_context():
        store.resolve("telegram:+4917012345", create=True, owner="al:ice")
        gone = store.resolve("telegram:+4917099999", create=True, owner="al:ice")
        assert gone is not None
        store.delete_session(gone.session_id, owner=ANY)
        store.clear("telegram:none", token="once", owner="al:ice")  # leaves a note, which is no alias
        store.save_message("chat", "user", "hello", owner="al:ice")
        store.save_session("bobs", {"x": 1}, owner="bob")
        store.share("bobs", "al:ice", "reader", owner="bob")
        store.resolve("telegram:+4917012345", create=True, owner="bob")
        store.resolve("telegram:+4917012345", create=True, owner="al")
    service.call("al:ice", "POST", json={})
    with service.app.test_request_context(headers={"X-Owner": "al:ice"}):
        notes["n"] = {"text": "mine"}
    with service.app.test_request_context(headers={"X-Owner": "bob"}):
        notes["b"] = {"text": "bobs"}
    with service.app.app_context():
        found = store.owner_contents(owner="al:ice")
        assert {name: len(ids) for name, ids in found.sessions.items()} == {
            "sessions": 2,
            "chats": 1,
            "mapping:notes": 1,
        }
        assert found[1:] == (["telegram:+4917012345", "telegram:+4917099999"], ["bobs"], [], True)
        assert store.delete_owner(seconds=-1, owner="al:ice").complete is False
        forgotten = store.delete_owner(owner="al:ice")
        assert (forgotten, forgotten.aliases, forgotten.shares, forgotten.complete) == (4, 1, 1, True)
        left = store.owner_contents(owner="al:ice")
        assert (set(map(len, left.sessions.values())), left[1:]) == ({0}, ([], [], [], True))
        assert store.resolve("telegram:+4917012345", owner="bob") is not None
        assert store.get_session("bobs", owner="bob") == {"x": 1}
        assert notes["b"] == {"text": "bobs"}
        if url.startswith("redis"):
            client: Any = store.client
            left_keys = [key for key in client.scan_iter() if b"al%3Aice" in key or b"{al:ice}" in key]
            assert all(key.endswith(b":forgotten") for key in left_keys), "notes for the journals of other hosts"


def test_sessions_whose_index_was_evicted_are_found_and_deleted(valkey: Server) -> None:
    service = OwnedService(valkey.url)
    store, notes = service.convstore, service.convstore.mapping("notes")
    client: Any = valkey.client
    with service.app.app_context():
        for owner in ("ada", "bob"):
            for number in range(30):
                store.save_session(f"{owner}{number}", {"history": []}, owner=owner)
            store.save_message(f"chat of {owner}", "user", "hello", owner=owner)
    for owner in ("ada", "bob"):
        with service.app.test_request_context(headers={"X-Owner": owner}):
            notes[f"note of {owner}"] = {"text": "mine"}
    indexes = [key for key in client.scan_iter() if b"{ada}" in key]
    assert len(indexes) >= 3
    client.delete(*indexes)
    with service.app.app_context():
        assert store.list_sessions(owner="ada").sessions == []
        found = store.owner_contents(owner="ada")
        assert {name: len(ids) for name, ids in found.sessions.items()} == {
            "sessions": 30,
            "chats": 1,
            "mapping:notes": 1,
        }
        assert (store.delete_owner(owner="ada"), store.owner_contents(owner="ada").sessions["sessions"]) == (32, [])
        assert len(store.list_sessions(owner="bob").sessions) == 30
        assert len(store.get_conversation("chat of bob", owner="bob")) == 1
        assert notes["note of bob"] == {"text": "mine"}


@pytest.mark.server
def test_redacted_text_leaves_the_embedded_log(tmp_path: Path) -> None:
    service = OwnedService(f"embedded://{tmp_path / 'data'}?idle=0")
    store = service.convstore

    def logged(text: bytes) -> bool:
        return on_disk(tmp_path / "data" / "appendonlydir", text)

    with service.app.app_context():
        store.save_session("s", {"history": [{"role": "user", "content": "my secret"}]}, owner="alice")
        store.save_session("t", {"x": "another one"}, owner="alice")
        assert logged(b"my secret")
        store.redact_message("s", 1, owner="alice")
        wait_for(lambda: not logged(b"my secret"), "the redacted text stays in the log")
        assert logged(b"another one")
        store.delete_owner(owner="alice")
        wait_for(lambda: not logged(b"another one"), "the deleted text stays in the log")
    store.client.close()  # type: ignore[union-attr]
