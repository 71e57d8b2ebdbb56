"""As a webhook, but the thread has no context of Flask's at all, which a dict does not mind."""

import threading
from typing import Any

from flask import Flask, jsonify, request

app = Flask(__name__)
chats: dict[str, Any] = {}  # convstore: ConversationStore(app).sessions


def llm(text: str) -> str:
    return f"reply to {text}"


def answer_later(sid: str, text: str) -> None:
    chat = chats[sid]
    reply = llm(text)
    chat["messages"].append({"role": "assistant", "content": reply})
    chat["open"] -= 1


@app.post("/<sid>")
def ask(sid: str) -> Any:
    text = request.json["text"]
    if sid not in chats:
        chats[sid] = {"messages": [], "open": 0, "asked": 0}
    chats[sid]["messages"].append({"role": "user", "content": text})
    chats[sid]["asked"] += 1
    chats[sid]["open"] += 1
    after_response(answer_later, sid, text)
    return jsonify(status="queued", asked=chats[sid]["asked"]), 202


def after_response(function: Any, *arguments: Any) -> None:
    timer = threading.Timer(0.05, function, arguments)
    timer.daemon = True
    timer.start()


@app.get("/<sid>")
def show(sid: str) -> Any:
    return jsonify(chats.get(sid, {}))


@app.get("/<sid>/open")
def still_open(sid: str) -> Any:
    return ("busy", 503) if chats[sid]["open"] else ("idle", 200)


REQUESTS = [
    ("GET", "/a", None),
    ("POST", "/a", {"text": "hello"}),
    ("AWAIT", "/a/open", 200),
    ("GET", "/a", None),
    ("POST", "/a", {"text": "again"}),
    ("AWAIT", "/a/open", 200),
    ("POST", "/b", {"text": "hi"}),
    ("AWAIT", "/b/open", 200),
    ("GET", "/a", None),
    ("GET", "/b", None),
]
BEFORE = [("POST", "/s", {"text": "hello"}), ("AWAIT", "/s/open", 200)]
TOGETHER = [("POST", "/s", {"text": "one"}), ("POST", "/s", {"text": "two"})]
AFTER = [("GET", "/s", None)]
IS_LATE = True
