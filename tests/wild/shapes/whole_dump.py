"""A page for admins gives out the whole dict as JSON. Backups are loaded by ``update``."""

import json
from typing import Any

from flask import Flask, jsonify, request

app = Flask(__name__)
conversation_sessions: dict[str, Any] = {}  # convstore: ConversationStore(app).sessions
conversation_sessions.update(welcome={"messages": ["Welcome!"], "tags": {}})


def llm(text: str) -> str:
    return f"reply to {text}"


@app.post("/chat/<sid>")
def chat(sid: str) -> Any:
    text = request.json["text"]
    session = conversation_sessions.get(sid)
    if session is None:
        session = conversation_sessions[sid] = {"messages": [], "tags": {}}
    session["messages"].append(text)
    reply = llm(text)
    session["tags"][text] = len(text)
    session["messages"].append(reply)
    return jsonify(reply)


@app.get("/admin/sessions")
def everything() -> Any:
    return jsonify(conversation_sessions)


@app.get("/admin/pairs")
def pairs() -> Any:
    return jsonify(sessions=conversation_sessions, ids=sorted(conversation_sessions), count=len(conversation_sessions))


@app.get("/admin/backup")
def backup() -> Any:
    return json.dumps(dict(sorted(conversation_sessions.items())), sort_keys=True)


@app.post("/admin/restore")
def restore() -> Any:
    conversation_sessions.update(request.json)
    return jsonify(len(conversation_sessions))


REQUESTS = [
    ("GET", "/admin/sessions", None),
    ("POST", "/chat/a", {"text": "hello"}),
    ("POST", "/chat/b", {"text": "hi"}),
    ("GET", "/admin/sessions", None),
    ("POST", "/admin/restore", {"c": {"messages": ["old"], "tags": {"t": 1}}, "a": {"messages": [], "tags": {}}}),
    ("POST", "/chat/a", {"text": "again"}),
    ("GET", "/admin/pairs", None),
    ("GET", "/admin/backup", None),
]
BEFORE = [("POST", "/chat/s", {"text": "hello"})]
TOGETHER = [("POST", "/chat/s", {"text": "one"}), ("POST", "/chat/s", {"text": "two"})]
AFTER = [("GET", "/admin/sessions", None)]
