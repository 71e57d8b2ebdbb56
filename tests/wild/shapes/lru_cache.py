"""An ``OrderedDict`` keeps the conversations that were used last, and evicts the oldest."""

from collections import OrderedDict
from typing import Any

from flask import Flask, jsonify, request

app = Flask(__name__)
recent: Any = OrderedDict()  # convstore: ConversationStore(app).sessions

MOST = 3


def llm(text: str) -> str:
    return f"reply to {text}"


def touch(sid: str) -> list[Any]:
    if sid in recent:
        recent.move_to_end(sid)
    else:
        while len(recent) >= MOST:
            recent.popitem(last=False)
        recent[sid] = []
    history: list[Any] = recent[sid]
    return history


@app.post("/<sid>")
def chat(sid: str) -> Any:
    text = request.json["text"]
    history = touch(sid)
    history.append({"role": "user", "content": text})
    reply = llm(text)
    history.append({"role": "assistant", "content": reply})
    return jsonify(reply=reply, kept=len(recent))


@app.get("/")
def index() -> Any:
    return jsonify({sid: len(history) for sid, history in sorted(recent.items())})


@app.get("/<sid>")
def show(sid: str) -> Any:
    return jsonify(recent[sid]) if sid in recent else ({"error": "evicted"}, 404)


REQUESTS = [
    ("GET", "/", None),
    ("POST", "/a", {"text": "hello"}),
    ("POST", "/a", {"text": "again"}),
    ("POST", "/b", {"text": "hello"}),
    ("POST", "/c", {"text": "hello"}),
    ("GET", "/", None),
    ("POST", "/d", {"text": "hello"}),
    ("GET", "/a", None),
    ("GET", "/d", None),
    ("GET", "/", None),
]
BEFORE = [("POST", "/s", {"text": "hello"}), ("POST", "/t", {"text": "hello"})]
TOGETHER = [("POST", "/s", {"text": "one"}), ("POST", "/t", {"text": "two"})]
AFTER = [("GET", "/s", None), ("GET", "/t", None), ("GET", "/", None)]
