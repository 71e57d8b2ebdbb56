"""The app under test: the blueprint for nobody's sessions, and routes of its own for those of the owner in ``X-Owner``.

Settings come from the environment. ``CHAOS_INSTANCE`` is the instance folder, which all workers share.

| route                    | does                                                                       |
| ------------------------ | -------------------------------------------------------------------------- |
| POST   /own/<id>         | save_session of a plain dict                                               |
| POST   /own/<id>/create  | append(create=True) with a token and a lifetime                            |
| POST   /own/<id>/append  | append with a token, with ids or without                                   |
| POST   /own-many         | append_many with tokens: an answer for each session                        |
| POST   /own/<id>/drop    | drop of a message, or of all behind one, with a token                      |
| POST   /own/<id>/turn    | a turn with a token, a repeat of one that has ended gets the same reply     |
| GET    /own/<id>?last=k  | get_session: seq and content of each message, and the session's lifetime   |
| DELETE /own/<id>         | delete_session                                                             |
| POST   /streamed/<id>    | ``turn.stream()`` for nobody's session, followed by other requests only    |

Handlers fork now and then. While a file ``interrupting`` is in the instance folder, exceptions come out of nowhere in the
threads of requests. ``CHAOS_CLOCK_MS`` puts the clock of the host wrong by so many
milliseconds. With ``CHAOS_SAVES_EARLY`` a session is saved when the app is made, by ``--preload`` before the workers
are forked.

Each answer says in ``Chaos-Seconds`` how long it took in here.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import random
import signal
import sys
import threading
import time
import traceback
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flask import Flask, Response, g, jsonify, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import InternalServerError

from flask_convstore import ANY, ConversationStore, Message, SessionNotFound, Turn, TurnEnded, problem
from flask_convstore.errors import ConvstoreError
from flask_convstore.sessions.session import base_of

from .records import id_of
from .scripts import Script, script_of

convstore = ConversationStore()

INTERRUPTING = "interrupting"
"""Name of the file that asks for exceptions in the threads of requests."""

_EVERY_FORK = 97
"""Every so many handlers fork, by the message."""

_FORKED_SECONDS = 10

_HANGS_SECONDS = 20

PAUSES = ((200, 0.5), (10, 0.02))
"""Every so many handlers sleep so many seconds: by the message, so that a repeat does the same."""


@convstore.reply(last=4)
def reply(turn: Turn) -> str | Iterator[str]:
    """Stream what a script asks for. Echo anything else."""
    script = script_of(turn.message["content"])
    return _played(script) if script else _echoed(str(turn.message["content"]))


def _played(script: Script) -> Iterator[str]:
    for piece in script.pieces():
        yield piece
        time.sleep(script.pause_ms / 1000)
    if script.ending == "raises":
        raise RuntimeError("the script ends so")
    if script.ending == "hangs":
        time.sleep(_HANGS_SECONDS)


def _echoed(text: str) -> str:
    """Echo, and now and then think about it."""
    number = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest())
    if number % _EVERY_FORK == 0:
        _fork()
    time.sleep(next((seconds for every, seconds in PAUSES if number % every == 0), 0))
    return f"re: {text}"


def create_app() -> Flask:
    """For gunicorn."""
    clock: Any = sys.modules["flask_convstore.domain.clock"]
    if hasattr(clock, "_Offset"):
        clock._Offset.ms += int(os.environ.get("CHAOS_CLOCK_MS", "0"))
    app = Flask(__name__, instance_path=os.environ["CHAOS_INSTANCE"])
    convstore.init_app(app)
    app.register_blueprint(convstore.blueprint)
    app.register_error_handler(ConvstoreError, problem)
    app.register_error_handler(InternalServerError, _crashed)
    app.before_request(_begin)
    app.teardown_request(_leave)
    app.after_request(_end)
    app.add_url_rule("/own/<session_id>", view_func=save, methods=["POST"])
    app.add_url_rule("/own/<session_id>/create", view_func=create, methods=["POST"])
    app.add_url_rule("/own/<session_id>/append", view_func=append, methods=["POST"])
    app.add_url_rule("/own-many", view_func=append_many, methods=["POST"])
    app.add_url_rule("/own/<session_id>/drop", view_func=drop, methods=["POST"])
    app.add_url_rule("/own/<session_id>/turn", view_func=turn, methods=["POST"])
    app.add_url_rule("/streamed/<session_id>", view_func=stream, methods=["POST"])
    app.add_url_rule("/own/<session_id>", view_func=get)
    app.add_url_rule("/own/<session_id>", view_func=delete, methods=["DELETE"])
    if os.environ.get("CHAOS_SAVES_EARLY"):
        with app.app_context(), contextlib.suppress(ConvstoreError):
            convstore.save_session(str(uuid.uuid4()), {"note": "early"})
    return app


def save(session_id: str) -> ResponseReturnValue:
    history = [_message(text) for text in request.get_json()["messages"]]
    session = convstore.save_session(session_id, {"note": "chaos", "history": history}, owner=_owner())
    return _told({"session_id": session_id, "version": session.version}, session.fallback, 201)


def create(session_id: str) -> ResponseReturnValue:
    asked = request.get_json()
    messages = [_message(text) for text in asked["messages"]]
    more = {"create": True, "ttl": asked["ttl"], "owner": _owner()}
    receipt = convstore.append(session_id, *messages, token=asked["token"], **more)
    return _told({"session_id": session_id, "first_seq": receipt.first_seq}, receipt.fallback, 201)


def append_many() -> ResponseReturnValue:
    asked = request.get_json()
    messages = {session_id: list(map(_message, texts)) for session_id, texts in asked["messages"].items()}
    found = convstore.append_many(messages, tokens=asked["tokens"], owner=_owner())
    told: dict[str, Any] = {}
    for session_id, one in found.items():
        if isinstance(one, ConvstoreError):
            refused = problem(one)
            told[session_id] = {"status": refused.status_code, "json": refused.get_json()}
        else:
            shown = {"session_id": session_id, "first_seq": one.first_seq}
            told[session_id] = {"status": 201, "json": shown, "degraded": bool(one.fallback)}
    return jsonify(told)


def drop(session_id: str) -> ResponseReturnValue:
    receipt = convstore.drop(session_id, **request.get_json(), owner=_owner())
    return _told({"session_id": session_id, "first_seq": receipt.first_seq}, receipt.fallback)


def append(session_id: str) -> ResponseReturnValue:
    asked = request.get_json()
    messages: list[Any] = [_message(text) for text in asked["messages"]]
    if asked["has_ids"]:
        messages = [Message(body, id=id_of(body["content"])) for body in messages]
    receipt = convstore.append(session_id, *messages, token=asked["token"], owner=_owner())
    return _told({"session_id": session_id, "first_seq": receipt.first_seq}, receipt.fallback, 201)


def turn(session_id: str) -> ResponseReturnValue:
    asked = request.get_json()
    begun: Turn | None = None
    message: Message | None
    try:
        begun = convstore.turn(session_id, _message(asked["content"]), last=4, token=asked["token"], owner=_owner())
        with begun:
            message, replied = begun.message, begun.reply(_echoed(str(begun.message["content"])))
    except TurnEnded as ended:
        message, replied = ended.message, ended.reply
    except ConvstoreError as error:
        if begun:
            error.written = True  # the message is
        raise
    shown = [said and {"seq": said.seq, "content": said["content"]} for said in (message, replied)]
    return jsonify(session_id=session_id, message=shown[0], reply=shown[1]), 201


def stream(session_id: str) -> ResponseReturnValue:
    """Begin a streamed reply that nobody of this process need follow. A repeat gets the id of the same reply."""
    asked = request.get_json()
    try:
        with convstore.turn(session_id, _message(asked["content"]), last=4, token=asked["token"]) as begun:
            streamed = begun.stream(reply(begun))
    except TurnEnded as ended:
        return _told({"turn": ended.reply.id if ended.reply else ""}, None)
    return _told({"turn": streamed.id}, None if streamed.is_resumable else "journal")


def get(session_id: str) -> ResponseReturnValue:
    session = convstore.get_session(session_id, last=request.args.get("last", type=int), owner=_owner())
    if session is None:
        raise SessionNotFound(session_id)
    for message in session.messages:
        if not message.id.startswith("msg-") and message.id != id_of(message["content"]):
            raise RuntimeError(f"{message} has another's id")
    history = [{"seq": message.seq, "content": message.get("content")} for message in session.messages]
    ttl_ms = base_of(session).snapshot.own_ttl_ms
    return _told({"session_id": session_id, "history": history, "ttl_ms": ttl_ms}, session.fallback)


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


def _fork() -> None:
    """Fork a child that looks at the store, as a task of a handler does, and wait for it."""
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(_FORKED_SECONDS)
        with contextlib.suppress(BaseException):
            with contextlib.suppress(ConvstoreError):
                convstore.get_session("of nobody", owner=ANY)
            os._exit(0)
        os._exit(1)
    if os.waitpid(child, 0)[1]:
        raise RuntimeError("a forked child hangs, or has died")


class Cut(BaseException):
    """An exception from elsewhere, such as a time limit's."""


class _Interrupter:
    """Raises in the threads of requests, from a thread of its own, while it is asked to."""

    def __init__(self) -> None:
        self.threads: set[int] = set()
        self._pid = 0
        self._chance = random.Random()

    def watch(self, folder: str) -> None:
        self.threads.add(threading.get_ident())
        if self._pid != os.getpid():
            self._pid = os.getpid()
            threading.Thread(target=self._run, args=(Path(folder, INTERRUPTING),), daemon=True).start()

    def _run(self, sign: Path) -> None:
        while True:
            time.sleep(self._chance.uniform(0.01, 0.06))
            threads = list(self.threads)
            if threads and sign.exists():
                ident = ctypes.c_ulong(self._chance.choice(threads))
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, ctypes.py_object(Cut))


_interrupter = _Interrupter()


def _begin() -> None:
    _interrupter.watch(os.environ["CHAOS_INSTANCE"])
    g.began = time.monotonic()


def _leave(_: BaseException | None) -> None:
    _interrupter.threads.discard(threading.get_ident())


def _end(response: Response) -> Response:
    response.headers["Chaos-Seconds"] = f"{time.monotonic() - g.began:.4f}"
    return response


def _crashed(error: InternalServerError) -> ResponseReturnValue:
    raised = error.original_exception or error
    return jsonify(detail="".join(traceback.format_exception(raised))), 500
