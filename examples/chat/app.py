"""A web chat on flask-convstore: two lines for the conversations, one function for the replies, which come word by word.

The reply is rule-based and needs no network. With ``OPENAI_API_KEY`` or ``OPENAI_BASE_URL`` set, an OpenAI-compatible
endpoint replies instead (``OPENAI_MODEL`` names the model).
"""

from __future__ import annotations

import json
import os
import re
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

from flask import Flask

from flask_convstore import ConversationStore, Turn

convstore = ConversationStore()

SECONDS_A_WORD = 0.05
"""Pace of the rules, which would be too fast to be seen."""


def create_app(config: dict[str, Any] | None = None) -> Flask:
    """The application. ``CONVSTORE_URL`` names its store."""
    app = Flask(__name__)
    app.config.update(config or {})
    convstore.init_app(app)
    app.register_blueprint(convstore.blueprint)

    @app.get("/")
    def start_page() -> Any:
        return app.send_static_file("index.html")

    return app


@convstore.reply
def reply(turn: Turn) -> Iterator[str]:
    """Reply by a model if there is one, otherwise by rules."""
    if os.environ.get("OPENAI_API_KEY") or os.environ.get("OPENAI_BASE_URL"):
        yield from reply_by_model(turn.history)
        return
    for word in re.findall(r"\S+\s*", reply_by_rule(turn.history)):
        yield word
        time.sleep(SECONDS_A_WORD)


def reply_by_model(history: list[dict[str, Any]]) -> Iterator[str]:
    """The reply of an OpenAI-compatible endpoint, which takes the history unchanged."""
    base = os.environ.get("OPENAI_BASE_URL", "https://api.openai.com/v1").rstrip("/")
    asked = {"model": os.environ.get("OPENAI_MODEL", "gpt-4o-mini"), "messages": history, "stream": True}
    request = urllib.request.Request(
        f"{base}/chat/completions",
        json.dumps(asked).encode(),
        {"Authorization": f"Bearer {os.environ.get('OPENAI_API_KEY', '')}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        for line in response:
            kind, _, data = line.decode().strip().partition(": ")
            if kind == "data" and data != "[DONE]":
                for choice in json.loads(data)["choices"]:
                    yield choice["delta"].get("content") or ""


def reply_by_rule(history: list[dict[str, Any]]) -> str:
    """A small talk that shows the memory of the chat."""
    said = [
        message["content"] for message in history if message["role"] == "user" and isinstance(message["content"], str)
    ]
    text = said[-1] if said else ""
    names = [found[1] for line in said if (found := re.search(r"(?i)\b(?:my name is|i am|i'm|call me) (\w+)", line))]
    if re.search(r"(?i)\bwho am i\b|\bmy name\b.*\?|\bremember me\b", text):
        return f"You are {names[-1]}." if names else "You have not told me your name yet."
    if re.search(r"(?i)\b(?:my name is|i am|i'm|call me) \w+", text):
        return f"Nice to meet you, {names[-1]}. Reload the page, or restart the server, and ask me who you are."
    if re.search(r"(?i)\b(what|everything)\b.*\bsaid\b|\bfirst\b.*\bsay\b", text):
        return (
            "You said: " + "; ".join(f"“{line}”" for line in said[:-1]) + "." if said[:-1] else "Nothing before this."
        )
    if re.search(r"(?i)\b(hello|hi|hey|good (morning|evening|day))\b", text):
        return "Hello! What is your name?"
    if text.rstrip().endswith("?"):
        return "I am only a few rules. Tell me your name, or ask me what you said."
    return f"Noted; that was your message number {len(said)}."
