"""Routes of an app's own, on the same conversations: the calls of Python behind an API in the words of the app.

``flask --app examples.chat.own_routes run`` serves them. The names of fields are the app's, and so are the errors.
"""

from __future__ import annotations

import uuid
from typing import Any

from flask import Flask, abort, request

from flask_convstore import ConversationStore, ConvstoreError, TurnEnded, problem

from .replies import by_rule

convstore = ConversationStore()


def create_app(config: dict[str, Any] | None = None) -> Flask:
    """The application. ``CONVSTORE_URL`` names its store."""
    app = Flask(__name__)
    app.config.update(config or {})
    convstore.init_app(app)
    app.register_error_handler(ConvstoreError, problem)
    app.add_url_rule("/api/conversations", view_func=start, methods=["POST"])
    app.add_url_rule("/api/conversations", view_func=every)
    app.add_url_rule("/api/conversations/<session_id>", view_func=one)
    app.add_url_rule("/api/conversations/<session_id>", view_func=delete, methods=["DELETE"])
    app.add_url_rule("/api/conversations/<session_id>/messages", view_func=say, methods=["POST"])
    return app


@convstore.owner_loader
def owner() -> str:
    """The user, whom a real app knows by a login."""
    return request.headers.get("X-User", "somebody")


def start() -> Any:
    """Begin a conversation."""
    session = convstore.save_session(str(uuid.uuid4()), {"history": [], "data": request.json})
    return {"id": session.session_id}, 201


def every() -> Any:
    """The conversations of the user, newest first."""
    page = convstore.list_sessions(limit=20, cursor=request.args.get("cursor"))
    found = [{"id": session.session_id, "title": session.title} for session in page.sessions]
    return {"conversations": found, "next": page.next}


def one(session_id: str) -> Any:
    """A conversation with its messages."""
    session = convstore.get_session(session_id) or abort(404)
    return {"id": session_id, "title": session.title, "messages": session["history"]}


def delete(session_id: str) -> Any:
    """Delete a conversation."""
    return ("", 204) if convstore.delete_session(session_id) else abort(404)


def say(session_id: str) -> Any:
    """Say something. A repeat with the same key says it once, and has the same reply."""
    try:
        with convstore.turn(session_id, request.json["content"], token=request.headers.get("Idempotency-Key")) as turn:
            reply = turn.reply(by_rule(turn.history))
    except TurnEnded as ended:
        reply = ended.reply
    return {"reply": reply and {"id": reply.id, "content": reply["content"]}}, 201
