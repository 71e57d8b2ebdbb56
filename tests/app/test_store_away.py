"""The app's own routes while the store is away: 503 by our handler, unless the app has one."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from flask import Blueprint, Flask
from flask.testing import FlaskClient
from werkzeug.exceptions import HTTPException, InternalServerError, ServiceUnavailable

from flask_convstore import ConversationStore, ConvstoreError, Message, StoreUnavailable
from flask_convstore.errors import TooSlow

from ..servers import free_port, running
from ..service import problem

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


class World:
    """An app with two views of its own, one of them in a blueprint, whose store is away."""

    def __init__(self, url: str = "", config: dict[str, Any] | None = None) -> None:
        self.app = Flask("away")
        self.app.config.update(
            CONVSTORE_URL=url or f"redis://127.0.0.1:{free_port()}/0", CONVSTORE_RETRIES=0, CONVSTORE_FALLBACK="none"
        )
        self.app.config.update(config or {})
        self.convstore = ConversationStore()
        self.pages = Blueprint("pages", __name__)
        self.view: Callable[[], Any] = lambda: self.convstore.sessions.setdefault("s", {"n": 0})

    def start(self) -> FlaskClient:
        self.convstore.init_app(self.app)
        return self.serve()

    def serve(self) -> FlaskClient:
        self.pages.add_url_rule("/page", "page", lambda: {"it": dict(self.view())})
        self.app.add_url_rule("/own", "own", lambda: {"it": dict(self.view())})
        self.app.register_blueprint(self.pages)
        self.app.register_blueprint(self.convstore.blueprint)
        return self.app.test_client()


@pytest.mark.parametrize("config", [{}, {"TESTING": True}, {"DEBUG": True}, {"PROPAGATE_EXCEPTIONS": True}])
def test_a_view_that_reads_a_session_is_a_503(config: dict[str, bool]) -> None:
    client = World(config=config).start()
    for path in ("/own", "/page"):
        answer = client.get(path)
        problem(answer, 503, "unavailable")
        assert answer.headers["Retry-After"] == "1"
        assert answer.headers["Cache-Control"] == "no-store"


def test_any_call_of_the_store_is_one() -> None:
    world = World()
    client = world.start()
    for call in (lambda: world.convstore.get_session("s"), lambda: world.convstore.append("s", Message("x"))):
        world.view = call
        problem(client.get("/own"), 503, "unavailable")


def test_a_browser_gets_a_page() -> None:
    answer = World().start().get("/own", headers=BROWSER)
    assert (answer.status_code, answer.mimetype) == (503, "text/html")
    assert answer.headers["Retry-After"] == "1"
    assert "The store does not answer. Try again later." in answer.text
    assert "127.0.0.1" not in answer.text


@pytest.mark.server
def test_a_server_that_refuses_us_is_a_503_too() -> None:
    """An unknown error becomes such a refusal from one request to the next."""
    with running("valkey", "--requirepass", "right") as server:
        answer = World(server.url).start().get("/own")
    problem(answer, 503, "misconfigured")
    assert answer.headers["Retry-After"] == "60"


def sync(error: Exception) -> Any:
    return {"it": type(error).__name__}, 418


async def later(error: Exception) -> Any:
    return sync(error)


KINDS = [StoreUnavailable, ConvstoreError, Exception, 503, ServiceUnavailable, HTTPException]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("handler", [sync, later])
@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize("place", ["app", "pages"])
def test_a_handler_of_the_app_wins(kind: Any, handler: Any, is_first: bool, place: str) -> None:
    world = World()
    of_app = kind in (503, ServiceUnavailable, HTTPException)
    if is_first:
        getattr(world, place).register_error_handler(kind, handler)
    world.convstore.init_app(world.app)
    if not is_first:
        getattr(world, place).register_error_handler(kind, handler)
    client = world.serve()
    answer = client.get("/page")
    expected = "ServiceUnavailable" if of_app else "StoreUnavailable"
    assert (answer.status_code, answer.json) == (418, {"it": expected})
    if place == "pages":
        problem(client.get("/own"), 503, "unavailable")
    problem(client.get("/sessions/s"), 503, "unavailable")


def test_a_handler_of_503_knows_the_seconds_and_the_error() -> None:
    world = World()
    seen: list[Any] = []

    @world.app.errorhandler(503)
    def show(error: HTTPException) -> Any:
        seen.append(error)
        return error.get_response()

    answer = world.start().get("/own")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert isinstance(seen[0].__cause__, StoreUnavailable)


def test_a_handler_of_500_is_for_other_errors() -> None:
    world = World()
    world.app.register_error_handler(InternalServerError, lambda error: ("host 500", 500))
    client = world.start()
    problem(client.get("/own"), 503, "unavailable")
    world.view = lambda: 1 / 0
    assert client.get("/own").text == "host 500"


def test_other_errors_are_not_touched() -> None:
    world = World("memory://", {"TESTING": True})
    client = world.start()
    for error in (KeyError("x"), ConvstoreError("x"), ValueError("x")):

        def fail(error: Exception = error) -> Any:
            raise error

        world.view = fail
        with pytest.raises(type(error)):
            client.get("/own")


@pytest.mark.server
def test_a_failure_at_the_end_of_the_request_is_answered_in_the_same_way() -> None:
    with running("valkey") as server:
        world = World(server.url)
        world.view = lambda: world.convstore.sessions.setdefault("s", {"n": 0, "history": []})
        client = world.start()

        def die() -> Any:
            world.convstore.sessions["s"]["n"] += 1
            server.kill()
            return {}

        client.get("/own")
        world.view = die
        answer = client.get("/own")
        problem(answer, 503, "unavailable")
        assert answer.headers["Retry-After"] == "1"
        server.start()
        client.get("/sessions/health")
        world.view = lambda: world.convstore.sessions.setdefault("s", {"n": 0, "history": []})
        client.get("/own")
        world.view = die
        world.app.error_handler_spec[None][503][ServiceUnavailable] = sync
        assert client.get("/own").json == {"it": "ServiceUnavailable"}


def test_a_second_store_is_answered_for_too() -> None:
    world = World()
    world.app.config["OTHER_URL"] = "memory://"
    other = ConversationStore(world.app, name="other", config_prefix="OTHER")
    client = world.start()
    problem(client.get("/own"), 503, "unavailable")
    world.view = lambda: other.sessions.setdefault("s", {"n": 1})
    assert client.get("/own").json == {"it": {"n": 1}}


@pytest.mark.server
def test_the_traceback_is_logged_once_for_each_outage(caplog: pytest.LogCaptureFixture) -> None:
    with running("valkey") as server:
        world = World(server.url, {"CONVSTORE_CIRCUIT_FAILURES": 1000})
        client = world.start()
        for _ in range(2):
            assert client.get("/own").status_code == 200
            server.kill()
            caplog.clear()
            for _ in range(3):
                client.get("/own")
            (line,) = [record for record in caplog.records if record.exc_info]
            assert line.levelno == logging.ERROR
            assert "GET own is answered with 503" in line.getMessage()
            assert "setdefault" in caplog.text, "the line of the view"
            assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) == 2
            server.start()


def test_an_error_about_one_call_is_logged_each_time(caplog: pytest.LogCaptureFixture) -> None:
    world = World()

    def fail() -> Any:
        raise TooSlow("too much", written=False)

    world.view = fail
    client = world.start()
    for _ in range(2):
        answer = client.get("/own")
        problem(answer, 503, "too-slow")
        assert "Retry-After" not in answer.headers
    assert len([record for record in caplog.records if record.exc_info]) == 2
