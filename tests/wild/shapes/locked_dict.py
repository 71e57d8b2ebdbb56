"""Somebody has read about threads: a lock stands around each use of the dict, but not around the slow call."""

import threading
from typing import Any

from flask import Flask, jsonify, request

app = Flask(__name__)
sessions: dict[str, Any] = {}  # convstore: ConversationStore(app).sessions
lock = threading.Lock()


def llm(text: str, messages: list[Any]) -> str:
    return f"reply to {text}"


def add_message(sid: str, role: str, content: str) -> list[Any]:
    with lock:
        session = sessions.setdefault(sid, {"messages": [], "count": 0})
        session["messages"].append({"role": role, "content": content})
        session["count"] += 1
        return list(session["messages"])


@app.post("/chat")
def chat() -> Any:
    sid, text = request.json["sid"], request.json["text"]
    messages = add_message(sid, "user", text)
    reply = llm(text, messages)
    add_message(sid, "assistant", reply)
    return jsonify(reply=reply)


@app.get("/chat/<sid>")
def show(sid: str) -> Any:
    with lock:
        return jsonify(sessions.get(sid, {"messages": [], "count": 0}))


@app.post("/clear/<sid>")
def clear(sid: str) -> Any:
    with lock:
        if sid in sessions:
            sessions[sid]["messages"].clear()
            sessions[sid]["count"] = 0
    return jsonify(ok=True)


REQUESTS = [
    ("GET", "/chat/a", None),
    ("POST", "/clear/a", None),
    ("POST", "/chat", {"sid": "a", "text": "hello"}),
    ("POST", "/chat", {"sid": "a", "text": "again"}),
    ("POST", "/chat", {"sid": "b", "text": "hi"}),
    ("GET", "/chat/a", None),
    ("POST", "/clear/a", None),
    ("GET", "/chat/a", None),
    ("POST", "/chat", {"sid": "a", "text": "anew"}),
    ("GET", "/chat/a", None),
]
BEFORE = [("POST", "/chat", {"sid": "s", "text": "hello"})]
TOGETHER = [("POST", "/chat", {"sid": "s", "text": "one"}), ("POST", "/chat", {"sid": "s", "text": "two"})]
AFTER = [("GET", "/chat/s", None)]
