"""An onboarding agent: it asks for name, role and goals, resumes after a restart, and forgets when it knows everything.

The state is a dataclass in a mapping with keys and a lifetime of its own. Changes of a view are written when the request
ends. Of two answers to one question at the same time, one is taken and the other one gets a 409.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from flask import Flask, abort, request
from werkzeug.exceptions import HTTPException

from flask_convstore import ConversationStore, ConvstoreError, SessionMapping, problem

QUESTIONS = {
    "name": "What is your name?",
    "role": "What is your role?",
    "goals": "What do you want to achieve? Separate your goals by commas.",
}

CANNOT_LOOK_BACK = "I cannot look back for the moment. What you tell me is added to what you have told me before."


@dataclass
class State:
    """The answers of a user so far, None where there is no answer yet."""

    name: str | None = None
    role: str | None = None
    goals: list[str] | None = None

    def missing(self) -> str | None:
        """The next topic, or None after the last one."""
        return next((topic for topic in QUESTIONS if getattr(self, topic) is None), None)


class OnboardingAgent:
    """Asks questions and keeps the answers in *states*, which are in *store*."""

    def __init__(self, states: SessionMapping, store: ConversationStore) -> None:
        self._states = states
        self._store = store

    def begin(self, user_id: str) -> dict[str, Any]:
        """The first question, or the question that was open when the user left."""
        is_known = user_id in self._states
        asked = self._next(self._states.setdefault(user_id, State()))
        return asked if is_known or not self._is_away() else {**asked, "note": CANNOT_LOOK_BACK}

    def resume(self, user_id: str) -> dict[str, Any] | None:
        """The open question, or None for a user who has not begun or is done."""
        state: State | None = self._states.get(user_id)
        return self._anew(user_id) if state is None else self._next(state)

    def _anew(self, user_id: str) -> dict[str, Any] | None:
        """While Redis is away, nobody knows what a user has told: begin anew, and say so. Else nothing is asked: None."""
        return self.begin(user_id) if self._is_away() else None

    def _is_away(self) -> bool:
        return not self._store.health(brief=True).connected

    def hear(self, user_id: str, answer: str) -> dict[str, Any] | None:
        """Take an answer to the open question. Give the next question, or the profile after the last one."""
        state: State | None = self._states.get(user_id)
        if state is None:
            return self._anew(user_id)
        topic = state.missing()
        if topic == "goals":
            state.goals = [goal.strip() for goal in answer.split(",") if goal.strip()]
        elif topic:
            setattr(state, topic, answer)
        if state.missing():
            return self._next(state)
        self._states.flush()  # of two last answers at once, one stops here with a 409
        del self._states[user_id]
        return self._next(state)

    def _next(self, state: State) -> dict[str, Any]:
        topic = state.missing()
        return {"complete": topic is None, "question": QUESTIONS[topic] if topic else None, "profile": asdict(state)}


convstore = ConversationStore()
agent = OnboardingAgent(convstore.mapping("onboarding", load=State, ttl=7 * 86_400), convstore)


def create_app() -> Flask:
    """The application. ``CONVSTORE_URL`` names its store."""
    app = Flask(__name__)
    app.config["CONVSTORE_CONFLICT"] = "raise"
    app.config["CONVSTORE_OUTAGE"] = "continue"  # the agent asks on also while Redis is away
    convstore.init_app(app)
    app.register_error_handler(ConvstoreError, problem)
    app.register_error_handler(HTTPException, as_problem)
    app.add_url_rule("/onboarding", view_func=begin, methods=["POST"])
    app.add_url_rule("/onboarding/<user_id>", view_func=resume)
    app.add_url_rule("/onboarding/<user_id>", view_func=hear, methods=["POST"])
    return app


def begin() -> Any:
    return agent.begin(text("user_id"))


def resume(user_id: str) -> Any:
    return agent.resume(user_id) or abort(404, "nothing is asked of this user")


def hear(user_id: str) -> Any:
    return agent.hear(user_id, text("answer")) or abort(404, "nothing is asked of this user")


def text(name: str) -> str:
    """A text from the request's JSON."""
    body = request.get_json(silent=True)
    value = body.get(name) if isinstance(body, dict) else None
    if not isinstance(value, str) or not value.strip(" ,"):
        abort(400, f"{name} must be a text in a JSON object")
    return value.strip()


def as_problem(error: HTTPException) -> Any:
    """Give the app's own errors the shape of the store's errors (RFC 9457)."""
    body = {"title": error.name, "status": error.code, "detail": error.description}
    return body, error.code or 500, {"Content-Type": "application/problem+json"}
