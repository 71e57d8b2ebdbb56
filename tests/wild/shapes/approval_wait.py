"""A tool call waits until a human has approved it: a long poll in one request, the answer in another."""

import time
from typing import Any

from flask import Flask, jsonify, request

app = Flask(__name__)
runs: dict[str, Any] = {}  # convstore: ConversationStore(app).sessions


def llm(text: str) -> str:
    return f"reply to {text}"


@app.post("/runs/<run_id>/steps")
def step(run_id: str) -> Any:
    text = request.json["text"]
    run = runs.setdefault(run_id, {"messages": [], "approved": {}})
    run["messages"].append({"role": "user", "content": text})
    run["messages"].append({"role": "assistant", "content": llm(text)})
    return jsonify(run["messages"][-1])


@app.post("/runs/<run_id>/approve/<tool>")
def approve(run_id: str, tool: str) -> Any:
    if run_id not in runs:
        return jsonify(error="unknown"), 404
    runs[run_id]["approved"][tool] = request.json["by"]
    return jsonify(runs[run_id]["approved"])


@app.get("/runs/<run_id>/wait/<tool>")
def wait(run_id: str, tool: str) -> Any:
    deadline = time.time() + float(request.args.get("seconds", 5))
    while time.time() < deadline:
        run = runs.get(run_id)  # convstore: runs.refresh(run_id) if run_id in runs else None
        if run and tool in run["approved"]:
            return jsonify(approved_by=run["approved"][tool])
        time.sleep(0.02)
    return jsonify(error="nobody approved"), 408


@app.get("/runs/<run_id>")
def show(run_id: str) -> Any:
    return jsonify(runs.get(run_id))


REQUESTS = [
    ("GET", "/runs/a", None),
    ("POST", "/runs/a/approve/shell", {"by": "ann"}),
    ("GET", "/runs/a/wait/shell?seconds=0.1", None),
    ("POST", "/runs/a/steps", {"text": "hello"}),
    ("GET", "/runs/a/wait/shell?seconds=0.1", None),
    ("POST", "/runs/a/approve/shell", {"by": "ann"}),
    ("GET", "/runs/a/wait/shell?seconds=5", None),
    ("POST", "/runs/a/approve/mail", {"by": "bob"}),
    ("GET", "/runs/a", None),
]
BEFORE = [("POST", "/runs/s/steps", {"text": "hello"}), ("POST", "/runs/s/approve/shell", {"by": "ann"})]
TOGETHER = [("POST", "/runs/s/steps", {"text": "one"}), ("POST", "/runs/s/steps", {"text": "two"})]
AFTER = [("GET", "/runs/s", None)]
