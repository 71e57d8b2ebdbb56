"""The fixtures for apps that use the extension, in a test run of such an app."""

from __future__ import annotations

from pathlib import Path

import pytest

import flask_convstore

from .servers import Server

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


def test_a_test_that_sets_the_clock_sees_sessions_expire(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
import time
from flask import Flask
from flask_convstore import ConversationStore

def test_app(convstore_memory, monkeypatch):
    convstore = ConversationStore(Flask(__name__))
    convstore.save_session("s", {})
    assert convstore.get_session("s") is not None
    now = time.time
    for module in (time, __import__("flask_convstore.domain.clock", fromlist=["clock"])):  # as freezegun does
        for name in [name for name, value in vars(module).items() if value is now]:
            monkeypatch.setattr(module, name, lambda: now() + 3601)
    assert convstore.get_session("s") is None
"""
    )
    pytester.runpytest().assert_outcomes(passed=1)


def test_the_fixtures_are_explained(pytester: pytest.Pytester) -> None:
    pytester.runpytest("--fixtures").stdout.fnmatch_lines(["convstore_memory*", "*memory://*", "convstore_valkey*"])


GLOBAL = """
import redis
from flask import Flask, request
from flask_convstore import ConversationStore

app = Flask(__name__)
app.config.update(CONVSTORE_URL={url!r}, NOTES_URL={url!r}, NOTES_PREFIX="n:", GIVEN_PREFIX="g:", CONVSTORE_BUDGET=1)
convstore = ConversationStore(app)
notes = ConversationStore(app, name="notes", config_prefix="NOTES")
given = ConversationStore(app, name="given", config_prefix="GIVEN", client=redis.Redis.from_url({url!r}))
before = [store.client for store in (convstore, notes, given)]

@app.post("/<sid>")
def say(sid):
    for store in (convstore, notes, given):
        store.sessions.setdefault(sid, []).append("hi")
    convstore.save_message(sid, "user", "hi")
    return {{"count": len(notes.sessions[sid])}}
"""


@pytest.mark.server
@pytest.mark.parametrize("fixture", ["convstore_memory", "convstore_valkey"])
@pytest.mark.parametrize("kind", ["global", "config", "away"])
def test_an_apps_own_server_and_journal_stay_as_they_are(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, valkey: Server, fixture: str, kind: str
) -> None:
    """The fixtures win over an app that is a module's and was made before, a URL in its config, and a client."""
    monkeypatch.setenv("PYTHONPATH", str(Path(flask_convstore.__file__).parents[1]))
    url = "redis://127.0.0.1:1/0" if kind == "away" else valkey.url
    pytester.makepyfile(myapp=GLOBAL.format(url=url))
    outside = "from myapp import app, before, convstore, notes, given" if kind != "config" else ""
    inside = "" if outside else "from myapp import app, before, convstore, notes, given"
    pytester.makepyfile(
        f"""
import pytest
{outside}

@pytest.mark.parametrize("again", [1, 2])
def test_app({fixture}, again):
    {inside}
    client = app.test_client()
    assert [client.post("/s").json["count"] for _ in range(2)] == [1, 2]
    with app.app_context():
        assert [len(store.sessions["s"]) for store in (convstore, notes, given)] == [2, 2, 2]
        assert not convstore.health().degraded

def test_after():
    {inside}
    if {bool(outside)}:
        assert [store.client for store in (convstore, notes, given)] == before
"""
    )
    pytester.runpytest_subprocess().assert_outcomes(passed=3)
    assert list(valkey.client.scan_iter()) == []
    assert not list(pytester.path.glob("instance/convstore/**/journal.sqlite"))


SEEDED = """
import os
import unittest
import pytest
from flask import Flask
from flask_convstore import ConversationStore, open_store

URL = {url!r}
convstore = ConversationStore()

def create_app():
    app = Flask(__name__)
    app.config.from_prefixed_env()
    if {kind!r} == "environment":  # as load_dotenv(override=True) does
        os.environ["CONVSTORE_URL"] = URL
    else:
        app.config["CONVSTORE_URL"] = URL
    convstore.init_app(app)
    return app

def seed(app, session_id):
    with app.app_context():
        convstore.save_session(session_id, {{}})
    return app

def is_there(app, session_id):
    with app.app_context():
        return convstore.get_session(session_id) is not None

app = create_app()

@pytest.fixture
def of_test():
    yield seed(create_app(), "of-test")
    seed(app, "teardown")

@pytest.fixture(scope="session")
def of_all():
    return seed(app, "of-all")

@pytest.fixture
def by_itself(request):
    seed(app, "by-itself")

@pytest.fixture
def own_store({fixture}):
    return {fixture}

def test_fixture_of_the_test(of_test, {fixture}):
    assert is_there(of_test, "of-test")

def test_fixture_of_all_tests(of_all, own_store):
    assert is_there(of_all, "of-all")

@pytest.mark.usefixtures("by_itself", "{fixture}")
class TestClass:
    def setup_method(self):
        seed(app, "setup-method")

    def test_it(self):
        assert is_there(app, "setup-method") and is_there(app, "by-itself")

@pytest.mark.usefixtures("{fixture}")
class OfUnittest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        seed(app, "set-up-class")

    def setUp(self):
        seed(app, "set-up")

    def test_it(self):
        assert is_there(app, "set-up") and is_there(app, "set-up-class")

def test_store_without_an_app({fixture}):
    with open_store(URL) as store:
        store.save_session("opened", {{}})
"""


@pytest.mark.server
@pytest.mark.parametrize("fixture", ["convstore_memory", "convstore_valkey"])
@pytest.mark.parametrize("kind", ["config", "environment"])
def test_other_fixtures_write_into_the_tests_store(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, valkey: Server, fixture: str, kind: str
) -> None:
    """An app fixture that saves sessions may stand before ours, be one of all tests, or be a method of the class."""
    monkeypatch.setenv("PYTHONPATH", str(Path(flask_convstore.__file__).parents[1]))
    pytester.makepyfile(SEEDED.format(url=valkey.url, fixture=fixture, kind=kind))
    pytester.runpytest_subprocess().assert_outcomes(passed=5)
    assert list(valkey.client.scan_iter()) == []
    assert not list(pytester.path.glob("instance/convstore/**/journal.sqlite"))
