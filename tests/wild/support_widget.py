"""A support widget: setdefault and append, messages with timestamps, the oldest popped one by one."""

from typing import Any

from flask import Flask, jsonify, request

app = Flask(__name__)
MAX_LEN = 5
threads: dict[str, list[Any]] = {}  # convstore: convstore.sessions


def remember(sid: str, role: str, content: str, timestamp: float) -> None:
    threads.setdefault(sid, []).append({"role": role, "content": content, "timestamp": timestamp})
    while len(threads[sid]) > MAX_LEN:
        threads[sid].pop(0)


@app.post("/widget/<sid>/message")
def message(sid: str) -> Any:
    body = request.get_json(silent=True) or {}
    if not body.get("text"):
        return jsonify(error="text is required"), 400
    remember(sid, "user", body["text"], body["at"])
    remember(sid, "agent", f"Thanks, we look into {body['text']!r}.", body["at"] + 0.25)
    return jsonify(threads[sid][-1])


@app.get("/widget/<sid>/messages")
def messages(sid: str) -> Any:
    since = float(request.args.get("since", 0))
    return jsonify([m for m in threads.get(sid, []) if m["timestamp"] > since])


@app.post("/widget/<sid>/close")
def close(sid: str) -> Any:
    closed = threads.pop(sid)
    return {"closed": len(closed), "first": closed[0]["timestamp"], "open": sorted(threads)}


REQUESTS = [
    ("POST", "/widget/s-1/message", {"text": "login", "at": 1700000000.5}),
    ("POST", "/widget/s-1/message", {"text": "login", "at": 1700000010}),
    ("POST", "/widget/s-2/message", {"text": "invoice", "at": 1700000011.125}),
    ("POST", "/widget/s-1/message", {"at": 1700000011}),
    ("POST", "/widget/s-1/message", {"text": "", "at": 1700000011}),
    ("POST", "/widget/s-1/message", {"text": "still no login", "at": 1700000020}),
    ("GET", "/widget/s-1/messages", None),
    ("POST", "/widget/s-1/message", {"text": "login", "at": 1700000030}),
    ("GET", "/widget/s-1/messages?since=1700000020", None),
    ("GET", "/widget/s-1/messages", None),
    ("GET", "/widget/s-3/messages", None),
    ("POST", "/widget/s-1/close", None),
    ("POST", "/widget/s-1/close", None),
    ("POST", "/widget/s-1/message", {"text": "me again", "at": 1700000040}),
    ("GET", "/widget/s-1/messages", None),
    ("GET", "/widget/s-2/messages", None),
]
