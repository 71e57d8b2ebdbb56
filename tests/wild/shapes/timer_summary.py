"""A timer of each conversation makes a summary of the messages, and puts it in their place."""

import threading
from typing import Any

from flask import Flask, jsonify, request

app = Flask(__name__)
rooms: dict[str, dict[str, Any]] = {}  # convstore: ConversationStore(app).sessions


def llm(text: str) -> str:
    return f"reply to {text}"


def summarise(room: str) -> None:
    with app.app_context():
        state = rooms[room]
        if len(state["messages"]) > 4:
            old = state["messages"][:-2]
            state["messages"][:-2] = []
            state["summaries"].append(f"{len(old)} messages, from {old[0]['text']}")
            state["is_due"] = False


@app.post("/<room>")
def say(room: str) -> Any:
    state = rooms.setdefault(room, {"messages": [], "summaries": [], "is_due": False})
    text = request.json["text"]
    state["messages"].append({"text": text, "reply": llm(text)})
    state["is_due"] = len(state["messages"]) > 4
    return jsonify(is_due=state["is_due"])


@app.post("/<room>/tick")
def tick(room: str) -> Any:
    timer = threading.Timer(0.0, summarise, [room])
    timer.start()
    timer.join()
    return jsonify(started=True)


@app.get("/<room>")
def show(room: str) -> Any:
    return jsonify(rooms.get(room))


REQUESTS = [
    ("GET", "/a", None),
    ("POST", "/a", {"text": "1"}),
    ("POST", "/a", {"text": "2"}),
    ("POST", "/a/tick", None),
    ("POST", "/a", {"text": "3"}),
    ("POST", "/a", {"text": "4"}),
    ("POST", "/a", {"text": "5"}),
    ("GET", "/a", None),
    ("POST", "/a/tick", None),
    ("GET", "/a", None),
]
BEFORE = [("POST", "/s", {"text": str(number)}) for number in range(3)]
TOGETHER = [("POST", "/s", {"text": "one"}), ("POST", "/s", {"text": "two"})]
AFTER = [("POST", "/s/tick", None), ("GET", "/s", None)]
