"""A live feed: a stream of server-sent events waits until others have said something, and looks again."""

import json
import time
from collections.abc import Iterator
from typing import Any

from flask import Flask, Response, jsonify, request

app = Flask(__name__)
feeds: dict[str, Any] = {}  # convstore: ConversationStore(app).sessions


def llm(text: str) -> str:
    return f"reply to {text}"


@app.post("/rooms/<room>")
def say(room: str) -> Any:
    text = request.json["text"]
    if room not in feeds:
        feeds[room] = {"events": []}
    reply = llm(text)
    feeds[room]["events"].append({"you": text, "bot": reply})
    return jsonify(reply)


@app.get("/rooms/<room>/feed")
def feed(room: str) -> Any:
    seen = int(request.args.get("after", 0))
    end = seen + int(request.args["count"])
    if room not in feeds:
        return jsonify(error="unknown"), 404

    def events(seen: int) -> Iterator[str]:
        while seen < end:
            state = feeds[room]  # convstore: feeds.refresh(room)
            for event in state["events"][seen:end]:
                yield f"id: {seen}\ndata: {json.dumps(event, sort_keys=True)}\n\n"
                seen += 1
            time.sleep(0.02)

    return Response(events(seen), mimetype="text/event-stream")


@app.get("/rooms/<room>")
def show(room: str) -> Any:
    return jsonify(feeds.get(room))


REQUESTS = [
    ("GET", "/rooms/r", None),
    ("GET", "/rooms/r/feed?count=1", None),
    ("POST", "/rooms/r", {"text": "hello"}),
    ("GET", "/rooms/r/feed?count=1", None),
    ("POST", "/rooms/r", {"text": "again"}),
    ("GET", "/rooms/r/feed?count=2", None),
    ("GET", "/rooms/r/feed?count=1&after=1", None),
    ("GET", "/rooms/r", None),
]
BEFORE = [("POST", "/rooms/s", {"text": "hello"})]
TOGETHER = [("POST", "/rooms/s", {"text": "one"}), ("POST", "/rooms/s", {"text": "two"})]
FOLLOWER = ("GET", "/rooms/s/feed?count=3", None)
AFTER = [("GET", "/rooms/s", None)]
