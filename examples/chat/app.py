"""A web chat on flask-convstore: conversations of a browser or of a name, in a page that loses nothing.

The replies are in ``replies.py``. The page is in ``templates`` and ``static``. All that it reads and writes goes through the
routes of ``convstore.blueprint``, but for the lease that it shows.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flask import Flask, Response, abort, current_app, redirect, render_template, request, session, url_for

from flask_convstore import ConversationStore, ConvstoreError, Turn, problem

from .replies import reply_to

convstore = ConversationStore()

DEFAULTS = {
    "CONVSTORE_ANONYMOUS_OWNER": True,  # a browser without a name is an owner, by a cookie
    "CONVSTORE_TTL": 30 * 86_400,
    "CONVSTORE_MAX_SESSIONS": 1000,
}
"""Settings of this chat. ``app.config`` and the environment come first."""

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
"""The page runs no script and loads nothing but its own files."""


def create_app(config: dict[str, Any] | None = None, instance_path: str | None = None) -> Flask:
    """The application. ``CONVSTORE_URL`` names its store."""
    app = Flask(__name__, instance_path=instance_path)
    app.config.update({name: value for name, value in DEFAULTS.items() if name not in os.environ})
    app.config["SESSION_COOKIE_SAMESITE"] = "Lax"
    app.config.update(config or {})
    app.secret_key = app.secret_key or secret_key(Path(app.instance_path))
    convstore.init_app(app)
    app.register_blueprint(convstore.blueprint)
    app.add_url_rule("/", view_func=page, endpoint="page")
    app.add_url_rule("/c/<session_id>", view_func=page, endpoint="conversation")
    app.add_url_rule("/offline.js", view_func=offline)
    app.add_url_rule("/login", view_func=login, methods=["POST"])
    app.add_url_rule("/logout", view_func=logout, methods=["POST"])
    app.add_url_rule("/lease/<session_id>", view_func=lease)
    app.register_error_handler(ConvstoreError, problem)
    app.after_request(protect)
    return app


@convstore.reply
def reply(turn: Turn) -> Iterator[str]:
    """Reply word by word."""
    return reply_to(turn.history)


# ---- owners


@convstore.owner_loader
def owner() -> str | None:
    """The owner of the conversations: who has signed in. Without a name the browser is the owner, by its cookie."""
    return f"name:{session['name']}" if "name" in session else None


def login() -> Any:
    """Sign in by a name. A real app checks a password here. Without a name the page comes again."""
    if _is_foreign():
        abort(400, "This comes from another site.")
    name = " ".join(request.form.get("name", "").split())[:80]
    if not name:
        return redirect(url_for("page"))
    session.clear()
    session["name"] = name
    session.permanent = True
    return redirect(url_for("page"))


def logout() -> Any:
    """Sign out. The page has removed all that the browser keeps before."""
    if _is_foreign():
        abort(400, "This comes from another site.")
    session.clear()
    return redirect(url_for("page"))


def _is_foreign() -> bool:
    """A form of another site has sent this request."""
    return request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none")


def secret_key(folder: Path) -> str:
    """The key that signs the cookies: ``SECRET_KEY``, or a file that the first process makes and all others read."""
    if "SECRET_KEY" in os.environ:
        return os.environ["SECRET_KEY"]
    file = folder / "secret_key"
    if not file.exists():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        made = folder / f"secret_key-{os.getpid()}-{secrets.token_hex(4)}"
        made.touch(0o600)
        made.write_text(secrets.token_hex(32), "ascii")
        with contextlib.suppress(FileExistsError):  # another process was first
            os.link(made, file)
        made.unlink()
    return file.read_text("ascii")


# ---- the page


def page(session_id: str = "") -> Any:
    """The page. It reads the conversation of its address by itself."""
    response = Response(render_template("chat.html", name=session.get("name", "")))
    response.cache_control.no_cache = True
    response.vary.add("Cookie")
    return response


def offline() -> Any:
    """The service worker, which keeps the page for a time without the server. Its place is the root of the app."""
    return current_app.send_static_file("offline.js")


def lease(session_id: str) -> Any:
    """The lease of the turn in progress, for the panel *What is happening*. Empty: there is no turn."""
    found = convstore.turn_lease(session_id)
    return found._asdict() if found else {}


def protect(response: Response) -> Response:
    """Let the page run its own scripts only."""
    response.headers.setdefault("Content-Security-Policy", POLICY)
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    response.headers.setdefault("Referrer-Policy", "same-origin")
    return response
