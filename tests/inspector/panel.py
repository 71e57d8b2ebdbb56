"""An app with an inspector, filled with conversations that look like those of people, and hostile ones."""

from __future__ import annotations

import threading
from typing import Any
from urllib.parse import urlencode

from flask import Flask
from flask.testing import FlaskClient
from werkzeug.serving import make_server

from flask_convstore import ConversationStore, Message, Usage

EVIL_ID = "<b>\"'&?#%/{x}\u202egpj.exe"
EVIL_OWNER = "</bdi><script>alert(1)</script>"
EVIL_TEXT = "<img src=x onerror=alert(1)> \u202egnp.exe {{ 7*7 }}"

TOOLS = [
    {"role": "user", "content": "Where is my parcel?"},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "c1", "function": {"name": "track", "arguments": '{"parcel": 7}'}}],
    },
    {"role": "tool", "tool_call_id": "c1", "name": "track", "content": '{"place": "Leeds", "eta": "tomorrow"}'},
    {"role": "assistant", "content": "It is in Leeds, and comes tomorrow."},
]


class Panel:
    """An app with an inspector. It counts nothing, so that no thread goes on behind its test, unless *counts*.

    Attributes:
        allowed: The answer of its access check.
    """

    def __init__(
        self, url: str, *, secret: str | None = "a long secret of tests", counts: bool = False, **config: Any
    ) -> None:
        self.app = Flask("panel")
        self.app.config.update(CONVSTORE_URL=url, SECRET_KEY=secret, CONVSTORE_MAX_SESSIONS=0)
        if not counts:
            self.app.config["CONVSTORE_FIGURES"] = False
        self.app.config.update({f"CONVSTORE_{name}": value for name, value in config.items()})
        self.convstore = ConversationStore(self.app)
        self.allowed: Any = True
        self.client: FlaskClient = self.app.test_client()

    def with_inspector(self, **options: Any) -> Panel:
        self.app.register_blueprint(self.convstore.inspector(lambda: self.allowed, **options))
        return self

    def save(self, session_id: str, history: list[Any], owner: str | None = None, **more: Any) -> None:
        with self.app.app_context():
            title = more.pop("title", None)
            self.convstore.save_session(session_id, {"history": history, **more}, owner=owner)
            if title is not None:
                self.convstore.update_session(session_id, title=title, owner=owner)

    def seed(self, count: int = 12) -> None:
        """Save sessions: of two owners, of nobody, hostile ones, one with tools, and a long one."""
        for number in range(count):
            hi = [
                {"role": "user", "content": f"Question {number}"},
                {"role": "assistant", "content": "Answer. " * number},
            ]
            self.save(f"s-{number:03}", hi, ("ada", "bob")[number % 2], title=f"Talk {number}")
        self.save(
            EVIL_ID, [{"role": "user", "content": EVIL_TEXT}], EVIL_OWNER, title=EVIL_TEXT, note={"<i>": [1, None]}
        )
        self.save("parcel", TOOLS, "ada", title="A parcel", customer={"name": "Ada", "open": True}, complete=False)
        self.save("nobodys", ["plain text", {"role": "user", "parts": [{"text": "Gemini"}]}])
        long = [{"role": ("user", "assistant")[n % 2], "content": f"Number {n}. " + "word " * 30} for n in range(130)]
        self.save("long", long, "bob", title="A long one " + "x" * 150)
        with self.app.app_context():
            self.convstore.update_session("nobodys", ttl=600)
            cost = Message({"role": "assistant", "content": "It cost"}, metadata={"model": "m"}, tokens=Usage(120, 30))
            self.convstore.append("parcel", cost, owner="ada")

    def get(self, path: str = "", /, **query: Any) -> Any:
        """Get a page of the inspector."""
        return self.client.get(path_of(path, **query), buffered=True)  # which closes files


def path_of(path: str = "", /, **query: Any) -> str:
    """The address of a page."""
    return f"/convstore/{path}?{urlencode(query)}"


class Served:
    """A panel under a server of its own, for a browser."""

    def __init__(self, panel: Panel) -> None:
        self.panel = panel
        self._server = make_server("127.0.0.1", 0, panel.app, threaded=True)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
