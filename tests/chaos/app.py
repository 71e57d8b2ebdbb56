"""The app under test: the blueprint for nobody's sessions, and routes of its own for those of the owner in ``X-Owner``.

Settings come from the environment. ``CHAOS_INSTANCE`` is the instance folder, which all workers share.

| route                    | does                                                                       |
| ------------------------ | -------------------------------------------------------------------------- |
| POST   /own/<id>         | save_session of a plain dict                                               |
| POST   /own/<id>/append  | append with a token                                                        |
| POST   /own/<id>/turn    | a turn with a token, a repeat of one that has ended gets the same reply     |
| GET    /own/<id>?last=k  | get_session: seq and content of each message                               |
| DELETE /own/<id>         | delete_session                                                             |

Each answer says in ``Chaos-Seconds`` how long it took in here.
"""

from __future__ import annotations

import hashlib
import os
import time
import traceback
from typing import Any

from flask import Flask, Response, g, jsonify, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import InternalServerError

from flask_convstore import ConversationStore, Message, SessionNotFound, Turn, TurnEnded, problem
from flask_convstore.errors import ConvstoreError

convstore = ConversationStore()

PAUSES = ((200, 0.5), (10, 0.02))
"""Every so many handlers sleep so many seconds: by the message, so that a repeat does the same."""


@convstore.reply(last=4)
def reply(turn: Turn) -> str:
    """Echo, and now and then think about it."""
    text = str(turn.message["content"])
    number = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest())
    time.sleep(next((seconds for every, seconds in PAUSES if number % every == 0), 0))
    return f"re: {text}"


def create_app() -> Flask:
    """For gunicorn."""
    app = Flask(__name__, instance_path=os.environ["CHAOS_INSTANCE"])
    convstore.init_app(app)
    app.register_blueprint(convstore.blueprint)
    app.register_error_handler(ConvstoreError, problem)
    app.register_error_handler(InternalServerError, _crashed)
    app.before_request(_begin)
    app.after_request(_end)
    app.add_url_rule("/own/<session_id>", view_func=save, methods=["POST"])
    app.add_url_rule("/own/<session_id>/append", view_func=append, methods=["POST"])
    app.add_url_rule("/own/<session_id>/turn", view_func=turn, methods=["POST"])
    app.add_url_rule("/own/<session_id>", view_func=get)
    app.add_url_rule("/own/<session_id>", view_func=delete, methods=["DELETE"])
    return app


def save(session_id: str) -> ResponseReturnValue:
    history = [_message(text) for text in request.get_json()["messages"]]
    session = convstore.save_session(session_id, {"note": "chaos", "history": history}, owner=_owner())
    return _told({"session_id": session_id, "version": session.version}, session.fallback, 201)


def append(session_id: str) -> ResponseReturnValue:
    asked = request.get_json()
    messages = [_message(text) for text in asked["messages"]]
    receipt = convstore.append(session_id, *messages, token=asked["token"], owner=_owner())
    return _told({"session_id": session_id, "first_seq": receipt.first_seq}, receipt.fallback, 201)


def turn(session_id: str) -> ResponseReturnValue:
    asked = request.get_json()
    begun: Turn | None = None
    message: Message | None
    try:
        begun = convstore.turn(session_id, _message(asked["content"]), last=4, token=asked["token"], owner=_owner())
        with begun:
            message, replied = begun.message, begun.reply(reply(begun))
    except TurnEnded as ended:
        message, replied = ended.message, ended.reply
    except ConvstoreError as error:
        if begun:
            error.written = True  # the message is
        raise
    shown = [said and {"seq": said.seq, "content": said["content"]} for said in (message, replied)]
    return jsonify(session_id=session_id, message=shown[0], reply=shown[1]), 201


def get(session_id: str) -> ResponseReturnValue:
    session = convstore.get_session(session_id, last=request.args.get("last", type=int), owner=_owner())
    if session is None:
        raise SessionNotFound(session_id)
    history = [{"seq": message.seq, "content": message.get("content")} for message in session.messages]
    return _told({"session_id": session_id, "history": history}, session.fallback)


def delete(session_id: str) -> ResponseReturnValue:
    if not convstore.delete_session(session_id, owner=_owner()):
        raise SessionNotFound(session_id)
    return jsonify(status="deleted")


def _told(value: dict[str, Any], fallback: str | None, status: int = 200) -> ResponseReturnValue:
    """As the blueprint tells it."""
    return jsonify(value), status, {"Convstore-Degraded": fallback} if fallback else {}


def _owner() -> str | None:
    return request.headers.get("X-Owner")


def _message(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def _begin() -> None:
    g.began = time.monotonic()


def _end(response: Response) -> Response:
    response.headers["Chaos-Seconds"] = f"{time.monotonic() - g.began:.4f}"
    return response


def _crashed(error: InternalServerError) -> ResponseReturnValue:
    raised = error.original_exception or error
    return jsonify(detail="".join(traceback.format_exception(raised))), 500
