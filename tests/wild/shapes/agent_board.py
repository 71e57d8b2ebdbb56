"""Agents share a board: nested dicts are merged by ``update`` and ``|=``, tasks are moved from one list to another."""

from typing import Any

from flask import Flask, jsonify, request

app = Flask(__name__)
boards: dict[str, Any] = {}  # convstore: ConversationStore(app).sessions


def llm(text: str) -> str:
    return f"reply to {text}"


def board_of(sid: str) -> dict[str, Any]:
    board: dict[str, Any] = boards.setdefault(sid, {"todo": [], "done": [], "facts": {"project": {}}, "log": []})
    return board


@app.post("/<sid>/tasks")
def add(sid: str) -> Any:
    board = board_of(sid)
    board["todo"] += [{"title": title} for title in request.json["titles"]]
    return jsonify(board["todo"])


@app.post("/<sid>/work")
def work(sid: str) -> Any:
    board = board_of(sid)
    title = request.json["text"]
    task = next((task for task in board["todo"] if task["title"] == title), None)
    if task is None:
        return jsonify(error="no such task"), 404
    result = llm(title)
    board["todo"].remove(task)
    board["done"].append({**task, "result": result})
    board["facts"]["project"] |= {title: result}
    board["log"] = [*board["log"], f"{title} is done"]
    return jsonify(done=len(board["done"]))


@app.get("/<sid>")
def show(sid: str) -> Any:
    return jsonify(boards.get(sid))


REQUESTS = [
    ("GET", "/a", None),
    ("POST", "/a/work", {"text": "paint"}),
    ("POST", "/a/tasks", {"titles": ["paint", "clean", "rest"]}),
    ("POST", "/a/work", {"text": "clean"}),
    ("POST", "/a/work", {"text": "clean"}),
    ("GET", "/a", None),
    ("POST", "/a/tasks", {"titles": ["more"]}),
    ("POST", "/a/work", {"text": "paint"}),
    ("GET", "/a", None),
]
BEFORE = [("POST", "/s/tasks", {"titles": ["one", "two", "three"]})]
TOGETHER = [("POST", "/s/work", {"text": "one"}), ("POST", "/s/work", {"text": "two"})]
AFTER = [("GET", "/s", None)]
ONLY_BEGUN = True
