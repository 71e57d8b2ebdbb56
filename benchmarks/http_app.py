"""The routes that are compared: the blueprint's, the same by hand on the floor, and one that does nothing."""

from __future__ import annotations

import os
import uuid
from typing import Any

import redis
from flask import Flask, Response, jsonify, request
from webargs.flaskparser import FlaskParser

from flask_convstore import ConversationStore
from flask_convstore.config import Settings
from flask_convstore.http.schemas import continue_body

from .by_hand import Floor

convstore = ConversationStore()


@convstore.owner_loader
def owner() -> str | None:
    return request.headers.get("Owner")


@convstore.reply(last=20)
def reply(turn: Any) -> str:
    return "a" * 800


def create_app() -> Flask:
    """The app, on the store ``CONVSTORE_URL``, with the instance folder ``INSTANCE``."""
    app = Flask(__name__, instance_path=os.environ["INSTANCE"])
    convstore.init_app(app)
    app.register_blueprint(convstore.blueprint)
    floor = Floor(redis.Redis.from_url(os.environ["CONVSTORE_URL"]))
    schema = continue_body(Settings())

    @app.post("/by-hand")
    def start_by_hand() -> tuple[Response, int]:
        name = str(uuid.uuid4())
        floor.start(name, request.headers.get("Owner", ""))
        return jsonify(session_id=name, history=[]), 201

    @app.get("/by-hand")
    def list_by_hand() -> Response:
        return jsonify(sessions=floor.owned(request.headers["Owner"]))

    @app.get("/by-hand/<name>")
    def get_by_hand(name: str) -> Response:
        return jsonify(session_id=name, history=floor.read(name))

    @app.post("/by-hand/<name>/messages")
    def continue_by_hand(name: str) -> tuple[Response, int]:
        body = FlaskParser().parse(schema, request, location="json")
        message = {"role": body["role"], "content": body["content"]}
        answer = {"role": "assistant", "content": "a" * 800}
        floor.turn(name, message, answer)
        return jsonify(session_id=name, message=message, reply=answer), 201

    @app.post("/bare")
    def bare() -> Response:
        return jsonify(ok=True)

    return app
