"""A conversation is a record ``[model, messages, time]``, whose places are set by number."""

import time
from typing import Any

from flask import Flask, jsonify, request

app = Flask(__name__)
state: dict[str, list[Any]] = {}  # convstore: ConversationStore(app).sessions

MODEL, MESSAGES, LAST_USED = range(3)


def llm(text: str, model: str) -> str:
    return f"reply to {text}"


@app.post("/<sid>")
def chat(sid: str) -> Any:
    if sid not in state:
        state[sid] = ["small", [], time.time()]
    record = state[sid]
    record[LAST_USED] = time.time()
    text = request.json["text"]
    reply = llm(text, record[MODEL])
    record[MESSAGES].append({"user": text, "bot": reply})
    record[LAST_USED] = time.time()
    return jsonify(reply=reply, by=record[MODEL], turns=len(record[MESSAGES]))


@app.put("/<sid>/model")
def choose(sid: str) -> Any:
    if sid not in state:
        return jsonify(error="unknown"), 404
    state[sid][MODEL] = request.json["model"]
    return jsonify(ok=True)


@app.get("/<sid>")
def show(sid: str) -> Any:
    model, messages, last_used = state.get(sid, ["none", [], 0])
    return jsonify(model=model, messages=messages, is_recent=time.time() - last_used < 3600)


REQUESTS = [
    ("GET", "/a", None),
    ("PUT", "/a/model", {"model": "large"}),
    ("POST", "/a", {"text": "hello"}),
    ("PUT", "/a/model", {"model": "large"}),
    ("POST", "/a", {"text": "again"}),
    ("GET", "/a", None),
    ("POST", "/b", {"text": "hi"}),
    ("GET", "/b", None),
]
BEFORE = [("POST", "/s", {"text": "hello"}), ("PUT", "/s/model", {"model": "large"})]
TOGETHER = [("POST", "/s", {"text": "one"}), ("POST", "/s", {"text": "two"})]
AFTER = [("GET", "/s", None)]
