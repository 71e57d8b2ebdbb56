"""A module global that held a mapping and was replaced by a dict is told once, and nothing else is."""

from __future__ import annotations

import types
from typing import Any

import pytest

from ..servers import Server

APP = """
from flask import Flask
from flask_convstore import ConversationStore

def create_app():
    global conversations, notes, app
    app = Flask("app")
    app.config["CONVSTORE_URL"] = URL
    convstore = ConversationStore(app)
    conversations, notes = convstore.sessions, convstore.mapping("notes")
    app.add_url_rule("/<word>", view_func=view, endpoint="view")
    return app

def view(word):
    global conversations, notes
    exec(WORDS[word], globals())
    return "ok"

app = create_app()
"""

WORDS = {
    "add": "conversations['a'] = {'n': 1}",
    "replace": "conversations = {}",
    "comprehend": "conversations = {k: v for k, v in conversations.items() if k != 'a'}",
    "clear": "conversations.clear(confirm=True)",
    "delete": "[conversations.pop(k) for k in list(conversations)]",
    "another": "notes = conversations",
    "forget": "notes = None",
    "look": "",
}


@pytest.fixture
def module() -> Any:
    module = types.ModuleType("user_app")
    vars(module).update(WORDS=WORDS, URL="memory://")
    exec(APP, vars(module))
    return module


@pytest.mark.parametrize("word", ["replace", "comprehend"])
def test_a_replaced_global_is_told_once_with_the_right_lines(
    module: Any, caplog: pytest.LogCaptureFixture, word: str
) -> None:
    client = module.app.test_client()
    for path in ("add", word, "look", "look"):
        client.get(f"/{path}")
    (warning,) = caplog.messages
    assert "the global 'conversations' of the module user_app" in warning
    assert "conversations.clear(confirm=True) and conversations.update(...)" in warning


def test_a_worker_that_has_replaced_its_global_tells_and_the_other_goes_on(
    valkey: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """Two modules on one server have nothing else in common, as two processes."""
    one, other = (types.ModuleType(name) for name in ("one", "other"))
    for worker in (one, other):
        vars(worker).update(WORDS=WORDS, URL=valkey.url)
        exec(APP, vars(worker))
    clients = [worker.app.test_client() for worker in (one, other)]
    for path in ("add", "look"):
        clients[0].get(f"/{path}")
    clients[1].get("/look")
    clients[0].get("/replace")
    assert not caplog.messages
    for client in clients * 2:
        client.get("/look")
    (warning,) = caplog.messages
    assert "the global 'conversations' of the module one" in warning
    assert one.conversations == {}
    with other.app.app_context():
        assert other.conversations == {"a": {"n": 1}}
        assert other.app.extensions["convstore"]["convstore"].convstore.get_session("a") == {"n": 1}


@pytest.mark.parametrize("word", ["clear", "delete", "another", "forget", "look"])
def test_nothing_else_is_told(module: Any, caplog: pytest.LogCaptureFixture, word: str) -> None:
    """An app factory that is called again binds other mappings to the same names."""
    for _ in range(2):
        client = module.create_app().test_client()
        for path in ("add", word, "look"):
            assert client.get(f"/{path}").status_code == 200
    del module.conversations
    client.get("/look")
    assert not caplog.messages


def test_a_store_without_a_global_says_nothing(module: Any, caplog: pytest.LogCaptureFixture) -> None:
    vars(module).update(conversations={})
    module.app.test_client().get("/look")
    assert not caplog.messages
