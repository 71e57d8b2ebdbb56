"""Server-sent events: the reply is streamed, and appended to the history at the end of the stream."""

import json
from collections.abc import Iterator
from typing import Any

from flask import Flask, Response, jsonify, request

app = Flask(__name__)
conversations: dict[str, list[Any]] = {}  # convstore: convstore.sessions


def tokens(messages: list[Any]) -> Iterator[str]:
    yield from (word + " " for word in f"reply {len(messages)} to {messages[-1]['content']}".split())


@app.post("/stream/<session_id>")
def stream(session_id: str) -> Any:
    history = conversations.setdefault(session_id, [])
    history.append({"role": "user", "content": request.json["message"]})

    def generate() -> Iterator[str]:
        full_response = ""
        for token in tokens(history):
            full_response += token
            yield f"data: {json.dumps({'token': token})}\n\n"
        history.append({"role": "assistant", "content": full_response.strip()})
        yield "data: [DONE]\n\n"

    return Response(generate(), mimetype="text/event-stream")


@app.get("/stream/<session_id>")
def messages(session_id: str) -> Any:
    if session_id not in conversations:
        return jsonify({"error": "not found"}), 404
    return jsonify({"messages": conversations[session_id], "count": len(conversations[session_id])})


@app.delete("/stream/<session_id>")
def delete(session_id: str) -> Any:
    if session_id in conversations:
        del conversations[session_id]
        return jsonify({"deleted": True})
    return jsonify({"deleted": False}), 404


REQUESTS = [
    ("GET", "/stream/s", None),
    ("POST", "/stream/s", {"message": "hello"}),
    ("GET", "/stream/s", None),
    ("POST", "/stream/s", {"message": "how are you"}),
    ("POST", "/stream/t", {"message": "other"}),
    ("GET", "/stream/s", None),
    ("POST", "/stream/s", {}),
    ("POST", "/stream/s", {"message": "more"}),
    ("GET", "/stream/s", None),
    ("DELETE", "/stream/t", None),
    ("DELETE", "/stream/t", None),
    ("POST", "/stream/t", {"message": "fresh"}),
    ("GET", "/stream/t", None),
]
