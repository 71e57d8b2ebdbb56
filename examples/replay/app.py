"""An app that repeats recorded replies: to each user message the recorded message behind it, if that was a reply."""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path
from typing import Any

from flask import Flask

from flask_convstore import ConversationStore, Message, Turn

convstore = ConversationStore()

RECORDING = "replay_of"
"""Data field with the number of the recorded conversation, which is its line in the file from 0."""


def create_app() -> Flask:
    """The application. ``REPLAY_FILE`` names the JSON Lines file."""
    app = Flask(__name__)
    roles = ("user", "assistant", "system", "tool")
    # The client writes every message that is no reply. The sessions stay for a week, to be read back later.
    app.config.update(CONVSTORE_CLIENT_ROLES=roles, CONVSTORE_VISIBLE_ROLES=roles, CONVSTORE_TTL=7 * 86_400)
    convstore.init_app(app)
    app.register_blueprint(convstore.blueprint)
    recordings()
    return app


@cache
def recordings() -> list[dict[str, Any]]:
    """The recorded conversations, in the order of the file."""
    return read(Path(os.environ["REPLAY_FILE"]))


def read(file: Path) -> list[dict[str, Any]]:
    """The conversations in a JSON Lines file."""
    return [json.loads(line) for line in file.read_text("utf-8").splitlines() if line.strip()]


def is_reply(history: list[dict[str, Any]], index: int) -> bool:
    """Tell whether the message at *index* is the recorded reply to the one before it."""
    return 0 < index < len(history) and history[index - 1]["role"] == "user" and history[index]["role"] != "user"


@convstore.reply
def recorded_reply(turn: Turn) -> Message | None:
    """The recorded reply to the newest message, or None."""
    history = recordings()[turn.data[RECORDING]]["history"]
    index = len(turn.history)
    return enveloped(history[index]) if is_reply(history, index) else None


def enveloped(recorded: dict[str, Any]) -> Message:
    """Split a recorded message. Role and content are the body, other fields are metadata, as in the client's requests."""
    rest = {key: value for key, value in recorded.items() if key not in ("role", "content")}
    return Message({"role": recorded["role"], "content": recorded["content"]}, rest or None)
