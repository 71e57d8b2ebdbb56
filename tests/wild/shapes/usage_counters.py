"""Tokens are counted in nested dicts, by model too, and the cost is a decimal number."""

from typing import Any

from flask import Flask, jsonify, request

app = Flask(__name__)
chats: dict[str, Any] = {}  # convstore: ConversationStore(app).sessions

PRICES = {"small": 0.1, "large": 0.7}


def llm(text: str, model: str) -> tuple[str, dict[str, int]]:
    return f"reply to {text}", {"prompt": len(text), "completion": 10 + len(text)}


def new_chat() -> dict[str, Any]:
    return {"messages": [], "usage": {"total": {"prompt": 0, "completion": 0}, "by_model": {}}, "cost": 0.0}


@app.post("/chat/<sid>")
def chat(sid: str) -> Any:
    if sid not in chats:
        chats[sid] = new_chat()
    state = chats[sid]
    text, model = request.json["text"], request.json.get("model", "small")
    reply, used = llm(text, model)
    for kind, count in used.items():
        state["usage"]["total"][kind] += count
    by_model = state["usage"]["by_model"]
    by_model[model] = by_model.get(model, 0) + 1
    state["cost"] += PRICES[model]
    state["messages"].extend([text, reply])
    if state["cost"] > 2:
        return jsonify(error="over budget"), 402
    return jsonify(reply=reply)


@app.get("/chat/<sid>/usage")
def usage(sid: str) -> Any:
    state = chats.get(sid, new_chat())
    return jsonify({**state, "cost": round(state["cost"], 6)})


REQUESTS = [
    ("GET", "/chat/a/usage", None),
    ("POST", "/chat/a", {"text": "hello"}),
    ("POST", "/chat/a", {"text": "hello again", "model": "large"}),
    ("GET", "/chat/a/usage", None),
    ("POST", "/chat/a", {"text": "more", "model": "large"}),
    ("POST", "/chat/a", {"text": "too much", "model": "large"}),
    ("POST", "/chat/b", {"text": "hello"}),
    ("GET", "/chat/a/usage", None),
    ("GET", "/chat/b/usage", None),
]
BEFORE = [("POST", "/chat/s", {"text": "hello"})]
TOGETHER = [("POST", "/chat/s", {"text": "one"}), ("POST", "/chat/s", {"text": "two"})]
AFTER = [("GET", "/chat/s/usage", None)]
