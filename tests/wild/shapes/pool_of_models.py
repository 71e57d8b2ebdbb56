"""Several models are asked at once, in a pool of threads inside the request. Each adds to the same conversation."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from flask import Flask, jsonify, request

app = Flask(__name__)
dialogs: dict[str, Any] = {}  # convstore: ConversationStore(app).sessions

MODELS = ("ant", "bee", "cat")


def llm(text: str, model: str) -> str:
    return f"{model} says: reply to {text}"


@app.post("/<sid>")
def ask(sid: str) -> Any:
    text = request.json["text"]
    dialog = dialogs.setdefault(sid, {"messages": [], "by_model": {}})
    dialog["messages"].append({"role": "user", "content": text})

    def ask_one(model: str) -> str:
        reply = llm(text, model)
        dialog["by_model"].setdefault(model, []).append(reply)
        return reply

    with ThreadPoolExecutor(len(MODELS)) as pool:
        replies = list(pool.map(ask_one, MODELS))
    dialog["messages"].append({"role": "assistant", "content": " | ".join(replies)})
    return jsonify(replies=replies, counts={model: len(dialog["by_model"][model]) for model in MODELS})


@app.get("/<sid>")
def show(sid: str) -> Any:
    return jsonify(dialogs.get(sid))


REQUESTS = [
    ("GET", "/a", None),
    ("POST", "/a", {"text": "hello"}),
    ("POST", "/a", {"text": "again"}),
    ("GET", "/a", None),
    ("POST", "/b", {"text": "hi"}),
    ("GET", "/b", None),
    ("POST", "/a", {"text": "last"}),
    ("GET", "/a", None),
]
BEFORE = [("POST", "/s", {"text": "hello"})]
TOGETHER = [("POST", "/s", {"text": "one"}), ("POST", "/s", {"text": "two"})]
AFTER = [("GET", "/s", None)]
