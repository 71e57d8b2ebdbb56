"""The times of a user's calls are kept in a list which loses the old ones, beside strikes, and the ids of updates."""

import time
from typing import Any

from flask import Flask, jsonify, request

app = Flask(__name__)
limits: dict[str, dict[str, Any]] = {}  # convstore: ConversationStore(app).sessions


def llm(text: str) -> str:
    return f"reply to {text}"


@app.post("/<user>")
def call(user: str) -> Any:
    state = limits.setdefault(user, {"calls": [], "strikes": 0, "seen": [], "said": []})
    if request.json["update"] in state["seen"]:
        return jsonify(repeated=True)
    text = request.json["text"]
    reply = llm(text)
    now = time.time()
    state["calls"] = [called for called in state["calls"] if now - called < 60]
    if len(state["calls"]) >= 4:
        state["strikes"] += 1
        return jsonify(error="slower"), 429
    state["calls"].append(now)
    state["seen"].append(request.json["update"])
    state["said"].append({"text": text, "reply": reply})
    return jsonify(reply=reply)


@app.get("/<user>")
def show(user: str) -> Any:
    state = limits.get(user, {})
    return jsonify({**state, "calls": len(state.get("calls", []))})


REQUESTS = [
    ("GET", "/a", None),
    ("POST", "/a", {"text": "hello", "update": 11}),
    ("POST", "/a", {"text": "hello", "update": 11}),
    ("POST", "/a", {"text": "more", "update": 12}),
    ("POST", "/a", {"text": "and more", "update": 13}),
    ("POST", "/a", {"text": "yet more", "update": 14}),
    ("POST", "/a", {"text": "too much", "update": 15}),
    ("GET", "/a", None),
    ("POST", "/b", {"text": "hello", "update": 11}),
    ("GET", "/b", None),
]
BEFORE = [("POST", "/s", {"text": "hello", "update": 1})]
TOGETHER = [("POST", "/s", {"text": "one", "update": 2}), ("POST", "/s", {"text": "two", "update": 3})]
AFTER = [("GET", "/s", None)]
