"""Importing the package is cheap: modules that are seldom needed are imported when they are needed. Counted, not timed."""

from __future__ import annotations

import json
import subprocess
import sys

LATE = {"marshmallow", "apispec", "sqlite3", "ctypes"}
"""Flask and redis-py do not bring these. They do bring hiredis, asyncio, redis.asyncio, redis.cluster and redis.sentinel."""

APP = """
app = flask.Flask("app")
app.config["CONVSTORE_URL"] = "memory://"
app.register_blueprint(flask_convstore.ConversationStore(app).blueprint)
"""


def imported(code: str) -> set[str]:
    """The modules that *code* brings into a fresh interpreter, beside those of Flask and redis-py."""
    before = "import json, sys, flask, redis\nbefore = set(sys.modules)\n"
    after = "\nprint(json.dumps(sorted(set(sys.modules) - before)))"
    done = subprocess.run([sys.executable, "-c", before + code + after], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


def test_the_package_imports_what_it_needs_at_once() -> None:
    found = imported("import flask_convstore")
    assert not found & LATE
    ours = {name for name in found if name.startswith("flask_convstore")}
    late = ("http.schemas", "http.openapi", "stores.redis", "stores.memory", "stores.embedded", "outages")
    assert not [name for name in ours if name.startswith(tuple(f"flask_convstore.{wing}" for wing in late))]
    others = {name.partition(".")[0] for name in found - ours}
    assert {name for name in others if name not in sys.stdlib_module_names} <= {"orjson"}


def test_an_app_has_its_views_before_the_first_request() -> None:
    """Else the first request of each worker would wait for marshmallow."""
    found = imported(f"import flask_convstore\n{APP}")
    assert {"marshmallow", "flask_convstore.http.session_views"} <= found
    ours = {f"flask_convstore.{late}" for late in ("http.openapi", "inspector", "stores.embedded")}
    assert not {"apispec", "ctypes", *ours} & found


def test_a_request_imports_nothing_of_ours() -> None:
    ask = """
client = app.test_client()
client.get("/sessions/health")
known = {name for name in sys.modules if name.startswith("flask_convstore")}
path = client.post("/sessions", json={"message": {"content": "hi"}}).headers["Location"]
assert client.post(f"{path}/messages", json={"content": "hi"}).status_code == 201
assert client.get(path).status_code == 200
assert known == {name for name in sys.modules if name.startswith("flask_convstore")}, "a request waits for an import"
"""
    assert imported(f"import flask_convstore\n{APP}{ask}")


def test_an_embedded_server_is_imported_for_its_url_only() -> None:
    found = imported(
        'from flask_convstore.stores.connect import connect\nassert "ctypes" not in set(sys.modules) - before'
    )
    assert "flask_convstore.stores.embedded.server" not in found
