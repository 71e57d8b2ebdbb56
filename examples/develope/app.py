"""A product assistant: it asks until it knows the product, matches it against norms, and answers questions about them.

A session is a dict with ``history``, ``product_description``, ``complete``, ``matched_norms`` and ``all_norm_results``.
Every view takes the dict out of ``conversation_sessions`` and changes it in place.
"""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from flask import Flask, abort, request
from werkzeug.exceptions import HTTPException

from examples.develope import norms
from flask_convstore import ConversationStore, ConvstoreError, problem

QUESTIONS = {
    "type": "What kind of product is it?",
    "material": "What is it made of?",
    "users": "Who will use it?",
    "market": "Where will it be sold?",
}
"""The questions about a product, in the order of asking."""


def create_app() -> Flask:
    """The application."""
    app = Flask(__name__)
    conversation_sessions = ConversationStore(app).sessions
    app.register_error_handler(ConvstoreError, problem)

    def current_session() -> dict[str, Any]:
        session: dict[str, Any] | None = conversation_sessions.get(text("session_id"))
        return abort(404, "no such session, or it has expired") if session is None else session

    @app.post("/start")
    def start() -> Any:
        description = text("description", required=False)
        session_id = str(uuid4())
        session: dict[str, Any] = {"history": [], "product_description": {}, "complete": False}
        session.update(matched_norms=[], all_norm_results=[])
        conversation_sessions[session_id] = session
        if description:
            hear(session, description)
        return {"session_id": session_id, "message": ask_next(session)}, 201

    @app.post("/continue")
    def continue_session() -> Any:
        session, message = current_session(), text("message")
        if not missing(session):
            abort(409, "the description is complete: /analyze is next")
        hear(session, message)
        return {"message": ask_next(session), "missing": missing(session)}

    @app.post("/analyze")
    def analyze() -> Any:
        session = current_session()
        if missing(session):
            abort(409, f"not known yet: {', '.join(missing(session))}; /continue is next")
        found = norms.results(" ".join(session["product_description"].values()))
        session["all_norm_results"] = found
        session["matched_norms"] = [result for result in found if len(result["words"]) >= norms.ENOUGH]
        session["complete"] = True
        return {"matched_norms": session["matched_norms"], "considered": len(found)}

    @app.post("/ask")
    def ask() -> Any:
        session, question = current_session(), text("question")
        if not session["complete"]:
            abort(409, "there is no analysis yet: /analyze is next")
        answer = answer_from(session["matched_norms"], question)
        say(session, "user", question)
        return {"answer": say(session, "assistant", answer)}

    @app.get("/session/<session_id>")
    def get_session(session_id: str) -> Any:
        session = conversation_sessions.get(session_id)
        return abort(404, "no such session, or it has expired") if session is None else session

    @app.delete("/session/<session_id>")
    def delete_session(session_id: str) -> Any:
        if conversation_sessions.pop(session_id, None) is None:
            abort(404, "no such session, or it has expired")
        return {"status": "deleted"}

    @app.errorhandler(HTTPException)
    def as_json(error: HTTPException) -> Any:
        return {"error": error.description}, error.code or 500

    return app


def text(name: str, *, required: bool = True) -> str:
    """A text from the request's JSON."""
    body = request.get_json(silent=True)
    value = body.get(name, "") if isinstance(body, dict) else ""
    if not isinstance(value, str) or (required and not value.strip()):
        abort(400, f"{name} must be a text in a JSON object")
    return value.strip()


def say(session: dict[str, Any], role: str, content: str) -> str:
    session["history"].append({"role": role, "content": content})
    return content


def missing(session: dict[str, Any]) -> list[str]:
    return [aspect for aspect in QUESTIONS if aspect not in session["product_description"]]


def hear(session: dict[str, Any], message: str) -> None:
    """Take *message* as the answer to the first open question."""
    session["product_description"][missing(session)[0]] = message
    say(session, "user", message)


def ask_next(session: dict[str, Any]) -> str:
    left = missing(session)
    return say(session, "assistant", QUESTIONS[left[0]] if left else "Thank you, that is all I need to know.")


def answer_from(matched: list[dict[str, Any]], question: str) -> str:
    """Answer *question* from the matched norms, either those that it names or all of them."""
    named = [result for result in matched if result["norm"].lower() in question.lower()]
    if not matched:
        return "No norm of my list applies."
    if not named:
        return f"{len(matched)} apply: {', '.join(result['norm'] for result in matched)}."
    return " ".join(f"{one['norm']} ({one['title']}) applies because of: {', '.join(one['words'])}." for one in named)
