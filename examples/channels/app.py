"""One chat endpoint for Telegram, Slack and the like: the conversation of a channel is an alias that leads to a session.

``resolve`` gets or creates the session, also if the last one was deleted or has expired. A turn keeps a message and its
reply together. A message that is delivered again (the same ``message_id``) gets the first answer.
"""

from __future__ import annotations

import re
from typing import Any
from uuid import uuid4

from flask import Blueprint, Flask, abort, request
from werkzeug.exceptions import HTTPException

from flask_convstore import (
    ConversationStore,
    ConvstoreError,
    ListSession,
    Message,
    Session,
    SessionMoved,
    SessionNotFound,
    TurnLost,
    problem,
)

convstore = ConversationStore()
api = Blueprint("chat", __name__, url_prefix="/api/v1/chat")

SAID = "The user said before: "

WINDOW = 20
"""Number of messages that a reply is made from."""

IN_PART = "I cannot look back for the moment."


def create_app() -> Flask:
    """The application. ``CONVSTORE_URL`` names its store."""
    app = Flask(__name__)
    app.config["CONVSTORE_OUTAGE"] = "continue"  # the bot answers also while Redis is away
    convstore.init_app(app)
    app.register_blueprint(api)
    app.register_error_handler(ConvstoreError, problem)
    app.register_error_handler(HTTPException, as_problem)
    return app


@api.post("")
def chat() -> Any:
    """Answer a message, or 409 while another message of this conversation is in progress."""
    alias, token = named_conversation(), given("message_id", required=False) or uuid4().hex
    message = Message({"role": "user", "content": given("message")}, {"user_id": given("user_id")})
    for _ in range(3):
        session = convstore.resolve(alias, create=True)
        if first := first_answer(session, token):
            return answer_json(session.session_id, first)
        try:
            turn = convstore.turn(session.session_id, message, last=WINDOW, token=token)
        except (SessionMoved, SessionNotFound, TurnLost):
            continue  # compacted, deleted, or answered this very moment
        with turn:
            text = answer(turn.history, turn.data)
            if turn.partial:  # Redis is away, and knows the number
                text = re.sub(r" as number \d+", "", f"{text} {IN_PART}")
                del turn.data["heard"]
            reply = turn.reply(Message({"role": "assistant", "content": text}, {"reply_to": token}))
        return answer_json(turn.session_id, reply)
    return abort(409, "The conversation has gone on meanwhile. Send the message anew.")


@api.delete("")
def clear() -> Any:
    """Forget the conversation and say whether there was one."""
    return {"cleared": convstore.clear(named_conversation())}


@api.post("/compact")
def compact() -> Any:
    """Go on with a summary and the last messages. The others stay readable under the old id until it expires."""
    session = convstore.resolve(named_conversation())
    if session is None:
        abort(404, "There is no such conversation, or it has expired.")
    compacted = convstore.compact(session.session_id, summary, keep=4)
    return {"session_id": compacted.session_id, "before": session.session_id, "messages": compacted.message_count}


def answer(history: list[Any], data: dict[str, Any]) -> str:
    """Reply by a few rules. A model would get the *history*. Changes of *data* are kept too."""
    text = history[-1]["content"]
    data["heard"] = data.get("heard", 0) + 1
    if found := re.search(r"(?i)\bmy name is (\w+)", text):
        data["name"] = found[1]
        return f"Nice to meet you, {found[1]}."
    if re.search(r"(?i)\bwho am i\b", text):
        return f"You are {data['name']}." if "name" in data else "You have not told me your name."
    return f"Noted as number {data['heard']}."


def summary(left_out: list[Any]) -> str:
    """Summary of the messages that are left out. A model would write a better one."""
    said = [message["content"].removeprefix(SAID) for message in left_out if message["role"] in ("system", "user")]
    return SAID + "; ".join(said)


def first_answer(session: Session | ListSession, token: str) -> Message | None:
    """The answer to the first delivery of the message, or None."""
    return next((message for message in session.messages if (message.metadata or {}).get("reply_to") == token), None)


def answer_json(session_id: str, reply: Message | None) -> dict[str, Any]:
    return {"session_id": session_id, "reply": reply["content"] if reply else None}


def named_conversation() -> str:
    """The alias of the conversation that the request is about."""
    channel = given("channel")
    if not channel.isalnum():
        abort(400, "channel must be a word, such as telegram")
    return f"{channel}:{given('conversation_id')}"


def given(name: str, *, required: bool = True) -> str:
    """A text or a number from the request's JSON or its query, as a text."""
    body = request.get_json(silent=True)
    value = body.get(name, "") if isinstance(body, dict) else request.args.get(name, "")
    if isinstance(value, bool) or not isinstance(value, (str, int)) or (required and not str(value).strip()):
        abort(400, f"{name} must be a text")
    return str(value)


def as_problem(error: HTTPException) -> Any:
    """Give the app's own errors the shape of the store's errors (RFC 9457)."""
    body = {"title": error.name, "status": error.code, "detail": error.description}
    return body, error.code or 500, {"Content-Type": "application/problem+json"}
