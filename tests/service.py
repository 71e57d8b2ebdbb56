"""An app with the blueprint, as HTTP tests need it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any

import pytest
from blinker import NamedSignal
from flask import Flask, request
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from flask_convstore import ConversationStore

in_memory = pytest.mark.parametrize("url", ["memory"], indirect=True)
"""Runs a test of an app on the memory store alone: no store has a part in it."""


class Service:
    """An app with the blueprint, and a client of it."""

    def __init__(self, url: str, **config: Any) -> None:
        self.app = Flask("service")
        self.app.config.update(CONVSTORE_URL=url, **{f"CONVSTORE_{name}": value for name, value in config.items()})
        self.convstore = ConversationStore(self.app)
        self.app.register_blueprint(self.convstore.blueprint)
        self.client: FlaskClient = self.app.test_client()

    def start(self, **body: Any) -> str:
        session_id: str = self.json(self.client.post("/sessions", json=body), 201)["session_id"]
        return session_id

    def say(self, session_id: str, content: Any = "hello", **more: Any) -> Any:
        return self.json(self.client.post(f"/sessions/{session_id}/messages", json={"content": content, **more}), 201)

    def get(self, session_id: str, query: str = "") -> Any:
        return self.json(self.client.get(f"/sessions/{session_id}{query}"), 200)

    @staticmethod
    def json(response: TestResponse, status: int) -> Any:
        assert response.status_code == status, response.data
        assert response.mimetype == "application/json"
        return response.json


class OwnedService(Service):
    """The same, with the owner of a request in its header ``X-Owner``."""

    def __init__(self, url: str, **config: Any) -> None:
        super().__init__(url, **config)
        self.convstore.owner_loader(lambda: request.headers.get("X-Owner"))

    def call(self, owner: str | None, method: str, path: str = "", **options: Any) -> TestResponse:
        headers = {**options.pop("headers", {}), **({"X-Owner": owner} if owner else {})}
        return self.client.open(f"/sessions{path}", method=method, headers=headers, **options)


def path_of(rule: str, session_id: str) -> str:
    """The path of a route of the blueprint, for a session, its first message and its first reply."""
    places = {"session_id": session_id, "seq": "1", "turn": "msg-2"}
    return "/sessions" + re.sub(r"<(?:\w+:)?(\w+)>", lambda found: places[found[1]], rule)


def problem(response: TestResponse, status: int, slug: str) -> Any:
    assert response.status_code == status, response.data
    assert response.mimetype == "application/problem+json"
    found = response.json
    assert found
    assert (found["type"], found["status"]) == (f"urn:convstore:{slug}", status)
    assert found["title"]
    assert found["detail"]
    return found


@contextlib.contextmanager
def heard(signal: NamedSignal, app: Flask) -> Iterator[list[dict[str, Any]]]:
    """Facts of a signal, each time it is sent."""
    facts: list[dict[str, Any]] = []

    def receive(_: Flask, **given: Any) -> None:
        facts.append(given)

    with signal.connected_to(receive, app):
        yield facts
