"""The fixtures for apps that use the extension, in a test run of such an app."""

from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]

APP = """
import pytest
from flask import Flask, request
from flask_convstore import ConversationStore

def create_app(url=None):
    app = Flask(__name__)
    if url:
        app.config["CONVSTORE_URL"] = url
    sessions = ConversationStore(app).sessions

    @app.post("/<sid>")
    def say(sid):
        sessions.setdefault(sid, []).append(request.json)
        return {"count": len(sessions[sid])}

    return app

def counted(app):
    return app.test_client().post("/s", json="hi").json["count"]
"""


@pytest.mark.server
@pytest.mark.parametrize(("fixture", "shared"), [("convstore_memory", False), ("convstore_valkey", True)])
def test_an_apps_tests_get_a_store(pytester: pytest.Pytester, fixture: str, shared: bool) -> None:
    """By the environment and by value, empty for each test. The apps of one test share a real server."""
    pytester.makepyfile(
        APP
        + f"""
@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("again", [1, 2])
def test_app({fixture}, given, again):
    url = {fixture} if given else None
    app = create_app(url)
    assert counted(app) == 1
    assert counted(app) == 2
    assert counted(create_app(url)) == {3 if shared else 1}
"""
    )
    pytester.runpytest().assert_outcomes(passed=4)


def test_the_fixtures_are_explained(pytester: pytest.Pytester) -> None:
    pytester.runpytest("--fixtures").stdout.fnmatch_lines(["convstore_memory*", "*memory://*", "convstore_valkey*"])
