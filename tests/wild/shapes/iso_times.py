"""Times are kept as ISO texts, since that is what JSON wants. They are read again to see how long a user was away."""

from datetime import UTC, datetime, timedelta
from typing import Any

from flask import Flask, jsonify, request

app = Flask(__name__)
memory: dict[str, Any] = {}  # convstore: ConversationStore(app).sessions


def llm(text: str) -> str:
    return f"reply to {text}"


def now() -> str:
    return datetime.now(UTC).isoformat()


def was_away(conversation: dict[str, Any]) -> bool:
    return datetime.now(UTC) - datetime.fromisoformat(conversation["last_seen"]) > timedelta(hours=1)


@app.post("/<sid>")
def chat(sid: str) -> Any:
    text = request.json["text"]
    conversation = memory.setdefault(sid, {"created": now(), "last_seen": now(), "visits": 1, "history": []})
    if was_away(conversation):
        conversation["visits"] += 1
    conversation["last_seen"] = now()
    conversation["history"].append({"role": "user", "content": text, "at": now()})
    reply = llm(text)
    conversation["history"].append({"role": "assistant", "content": reply, "at": now()})
    conversation["last_seen"] = now()
    return jsonify(reply=reply, visits=conversation["visits"])


@app.post("/<sid>/away")
def away(sid: str) -> Any:
    memory[sid]["last_seen"] = (datetime.now(UTC) - timedelta(hours=2)).isoformat()
    return jsonify(was_away(memory[sid]))


@app.get("/<sid>")
def show(sid: str) -> Any:
    conversation = memory.get(sid)
    if not conversation:
        return jsonify(error="unknown"), 404
    times = [datetime.fromisoformat(message["at"]) for message in conversation["history"]]
    return jsonify(
        texts=[message["content"] for message in conversation["history"]],
        is_later=datetime.fromisoformat(conversation["created"]) <= max(times),
        is_away=was_away(conversation),
        visits=conversation["visits"],
    )


REQUESTS = [
    ("GET", "/a", None),
    ("POST", "/a", {"text": "hello"}),
    ("POST", "/a/away", None),
    ("POST", "/a", {"text": "back"}),
    ("GET", "/a", None),
    ("POST", "/b", {"text": "hi"}),
    ("POST", "/b/away", None),
    ("GET", "/b", None),
]
BEFORE = [("POST", "/s", {"text": "hello"})]
TOGETHER = [("POST", "/s", {"text": "one"}), ("POST", "/s", {"text": "two"})]
AFTER = [("GET", "/s", None)]
