"""Pictures and text: the content of a message is a list of parts, and older pictures are taken out again."""

from typing import Any

from flask import Flask, jsonify, request

app = Flask(__name__)
conversations: dict[str, list[Any]] = {}  # convstore: convstore.mapping("conversations")


@app.post("/vision/<cid>")
def vision(cid: str) -> Any:
    parts: list[Any] = [{"type": "text", "text": request.json.get("text", "")}]
    for url in request.json.get("images", []):
        parts.append({"type": "image_url", "image_url": {"url": url, "detail": "low"}})
    history = conversations.get(cid)
    if history is None:
        history = conversations[cid] = []
    for message in history:
        if message["role"] == "user":
            message["content"] = [part for part in message["content"] if part["type"] == "text"]
    history.append({"role": "user", "content": parts})
    seen = sum(part["type"] == "image_url" for message in history for part in message["content"])
    history.append({"role": "assistant", "content": [{"type": "text", "text": f"I see {seen} pictures"}]})
    return jsonify(history)


@app.put("/vision/<cid>/detail")
def detail(cid: str) -> Any:
    changed = 0
    for message in conversations.get(cid, []):
        for part in message["content"]:
            if part["type"] == "image_url":
                part["image_url"]["detail"] = request.json["detail"]
                changed += 1
    return jsonify(changed=changed)


@app.get("/vision/<cid>/last")
def last(cid: str) -> Any:
    try:
        return jsonify(conversations[cid][-2:])
    except KeyError:
        return jsonify(error="conversation not found", id=cid), 404


DOT = "data:image/png;base64,iVBORw0KGgo="
REQUESTS: list[Any] = [
    ("POST", "/vision/v1", {"text": "what is this?", "images": [DOT]}),
    ("GET", "/vision/v1/last", None),
    ("PUT", "/vision/v1/detail", {"detail": "high"}),
    ("GET", "/vision/v1/last", None),
    ("POST", "/vision/v1", {"text": "and these?", "images": [DOT, "https://example.org/b.png"]}),
    ("GET", "/vision/v2/last", None),
    ("PUT", "/vision/v2/detail", {"detail": "high"}),
    ("PUT", "/vision/v1/detail", {"detail": "auto"}),
    ("GET", "/vision/v1/last", None),
    ("POST", "/vision/v1", {"text": "no picture"}),
    ("POST", "/vision/v2", {"images": []}),
    ("POST", "/vision/v2", {"text": "one", "images": [DOT]}),
    ("PUT", "/vision/v2/detail", {"detail": "high"}),
    ("GET", "/vision/v2/last", None),
]
