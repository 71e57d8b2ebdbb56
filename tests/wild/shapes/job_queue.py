"""Questions wait in a bare list, under a lock, and answers are kept in a second dict. Retries of an update are left out."""

import threading
from typing import Any

from flask import Flask, jsonify, request

app = Flask(__name__)
lock = threading.Lock()
queues: dict[str, Any] = {}  # convstore: ConversationStore(app).mapping("queues")
answers: dict[str, Any] = {}  # convstore: app.extensions["convstore"]["convstore"].convstore.mapping("answers")


def llm(text: str) -> str:
    return f"reply to {text}"


@app.post("/ask/<name>")
def ask(name: str) -> Any:
    with lock:
        queue = queues.setdefault(name, [])
    llm(request.json["text"])
    with lock:
        queue.append({"id": request.json["id"], "text": request.json["text"]})
    return jsonify(waiting=True)


@app.post("/work/<name>")
def work(name: str) -> Any:
    with lock:
        queue = queues.get(name) or []
        job = queue.pop(0) if queue else None
    if job is None:
        return jsonify(done=False)
    answered = answers.setdefault(name, {"by_id": {}, "order": []})
    answered["by_id"][str(job["id"])] = llm(job["text"])
    answered["order"].append(job["id"])
    return jsonify(done=job["id"])


@app.get("/state/<name>")
def state(name: str) -> Any:
    return jsonify(queue=queues.get(name, []), answers=answers.get(name))


REQUESTS = [
    ("POST", "/work/a", None),
    ("POST", "/ask/a", {"text": "tea", "id": 1}),
    ("POST", "/ask/a", {"text": "cake", "id": 2}),
    ("GET", "/state/a", None),
    ("POST", "/work/a", None),
    ("GET", "/state/a", None),
    ("POST", "/work/a", None),
    ("POST", "/work/a", None),
    ("GET", "/state/a", None),
]
BEFORE = [
    ("POST", "/ask/s", {"text": "tea", "id": 1}),
    ("POST", "/ask/s", {"text": "cake", "id": 2}),
    ("POST", "/work/s", None),
]
TOGETHER = [("POST", "/ask/s", {"text": "one", "id": 3}), ("POST", "/ask/s", {"text": "two", "id": 4})]
AFTER = [("GET", "/state/s", None)]
