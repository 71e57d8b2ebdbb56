"""A timer ends a session: whoever says goodbye has a moment to come back. A sweep removes what is left."""

import threading
from typing import Any

from flask import Flask, jsonify, request

app = Flask(__name__)
active_sessions: dict[str, Any] = {}  # convstore: ConversationStore(app).sessions


def llm(text: str) -> str:
    return f"reply to {text}"


def expire(sid: str) -> None:
    session = active_sessions.get(sid)
    if session and session["leaving"]:
        del active_sessions[sid]


def sweep() -> None:
    for sid, session in list(active_sessions.items()):
        if session["leaving"]:
            active_sessions.pop(sid, None)


def later(function: Any, *arguments: Any) -> None:
    timer = threading.Timer(0.05, function, arguments)
    timer.daemon = True
    timer.start()


@app.post("/<sid>")
def chat(sid: str) -> Any:
    text = request.json["text"]
    session = active_sessions.setdefault(sid, {"messages": [], "leaving": False})
    session["messages"].append(text)
    session["messages"].append(llm(text))
    session["leaving"] = text in ("bye", "ciao")
    if text == "bye":
        later(expire, sid)
    if text == "ciao":
        later(sweep)
    return jsonify(session["messages"][-1])


@app.get("/<sid>")
def show(sid: str) -> Any:
    return jsonify(active_sessions[sid]) if sid in active_sessions else ({"error": "gone"}, 404)


REQUESTS = [
    ("GET", "/a", None),
    ("POST", "/a", {"text": "hello"}),
    ("POST", "/b", {"text": "hi"}),
    ("POST", "/a", {"text": "bye"}),
    ("AWAIT", "/a", 404),
    ("GET", "/b", None),
    ("POST", "/a", {"text": "anew"}),
    ("POST", "/c", {"text": "ciao"}),
    ("AWAIT", "/c", 404),
    ("GET", "/a", None),
    ("GET", "/b", None),
]
BEFORE = [("POST", "/s", {"text": "hello"})]
TOGETHER = [("POST", "/s", {"text": "one"}), ("POST", "/s", {"text": "two"})]
AFTER = [("GET", "/s", None)]
