"""A conversation is a tuple ``(model, messages, time)``, made anew in every turn."""

import time
from typing import Any

from flask import Flask, jsonify, request

app = Flask(__name__)
cache: dict[str, Any] = {}  # convstore: ConversationStore(app).mapping("cache")


def llm(text: str, model: str) -> str:
    return f"reply to {text}"


@app.post("/<sid>")
def chat(sid: str) -> Any:
    model, messages, _ = cache.get(sid, ("small", [], 0.0))
    text = request.json["text"]
    reply = llm(text, model)
    messages.append((text, reply))
    cache[sid] = (model, messages, time.time())
    return jsonify(reply=reply, turns=len(messages))


@app.put("/<sid>/model")
def choose(sid: str) -> Any:
    _, messages, last_used = cache.get(sid, ("small", [], 0.0))
    cache[sid] = (request.json["model"], messages, last_used)
    return jsonify(ok=True)


@app.get("/<sid>")
def show(sid: str) -> Any:
    if sid not in cache:
        return jsonify(error="unknown"), 404
    model, messages, last_used = cache[sid]
    return jsonify(model=model, messages=messages[-20:], is_used=last_used > 0)


REQUESTS = [
    ("GET", "/a", None),
    ("PUT", "/a/model", {"model": "large"}),
    ("GET", "/a", None),
    ("POST", "/a", {"text": "hello"}),
    ("POST", "/a", {"text": "again"}),
    ("GET", "/a", None),
    ("POST", "/b", {"text": "hi"}),
    ("GET", "/b", None),
]
BEFORE = [("POST", "/s", {"text": "hello"}), ("PUT", "/s/model", {"model": "large"})]
TOGETHER = [("POST", "/s", {"text": "one"}), ("POST", "/s", {"text": "two"})]
AFTER = [("GET", "/s", None)]
