"""The app whose replies are measured. Each chunk holds the time at which it was given, by a clock of all processes."""

from __future__ import annotations

import json
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from flask import Flask, Response, jsonify, request

from flask_convstore import BoundStore, ConversationStore, Turn

convstore = ConversationStore()
convstore.owner_loader(lambda: request.headers.get("X-Owner"))


def create_app() -> Flask:
    """The app, on the store ``CONVSTORE_URL``, with the instance folder ``INSTANCE``."""
    app = Flask(__name__, instance_path=os.environ["INSTANCE"])
    convstore.init_app(app)
    app.register_blueprint(convstore.blueprint)

    @app.get("/pid")
    def pid() -> Response:
        return jsonify(pid=os.getpid())

    @app.post("/begin")
    def begin() -> Response:
        """Begin so many turns of new sessions, whose replies are made here, and name them."""
        asked: dict[str, Any] = request.get_json()
        streams = asked.pop("streams")
        return jsonify([_begun(asked) for _ in range(streams)])

    @app.post("/changes")
    def changes() -> Response:
        """Save so many sessions of an owner in pauses, each under the time at which it is saved."""
        asked: dict[str, Any] = request.get_json()
        threading.Thread(target=_saved, args=(convstore.on(app, owner=asked.pop("owner")),), kwargs=asked).start()
        return jsonify({})

    @app.post("/bare")
    def bare() -> Response:
        """Give the chunks without any store."""
        return Response(_bare(_chunks(**request.get_json())), content_type="text/event-stream")

    return app


def _saved(store: BoundStore, changes: int, pause: float) -> None:
    for _ in range(changes):
        store.save_session(f"{time.perf_counter():.6f} ", {})
        time.sleep(pause)


def _begun(asked: dict[str, Any]) -> list[str]:
    session_id = str(uuid.uuid4())
    convstore.save_session(session_id, {})
    with convstore.turn(session_id, json.dumps(asked)) as turn:
        turn.stream(_answer(turn))
        return [session_id, turn.reply_id]


@convstore.reply(last=1)
def reply(turn: Turn) -> Iterator[str]:
    return _answer(turn)


def _answer(turn: Turn) -> Iterator[str]:
    return _chunks(**json.loads(turn.message.body if isinstance(turn.message.body, str) else turn.message["content"]))


def _chunks(chunks: int, pause: float = 0.0, wait: float = 0.0, text: str = "") -> Iterator[str]:
    time.sleep(wait)
    if text:
        yield from (text for _ in range(chunks))
        return
    due = time.perf_counter()
    for _ in range(chunks):
        yield f"{time.perf_counter():.6f} "
        due += pause
        time.sleep(max(0.0, due - time.perf_counter()))


def _bare(chunks: Iterator[str]) -> Iterator[str]:
    dump: Callable[[Any], str] = json.dumps
    for number, chunk in enumerate(chunks, 1):
        yield f"id: {number}\nevent: delta\ndata: {dump({'content': chunk})}\n\n"
