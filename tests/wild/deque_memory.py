"""A window of the last messages that slides by itself: the values are deques with a maxlen."""

from collections import defaultdict, deque
from typing import Any

from flask import Flask, jsonify, request

app = Flask(__name__)


def last4(items: Any = ()) -> deque[Any]:
    return deque(items, maxlen=4)


memories: dict[str, Any] = defaultdict(last4)  # convstore: convstore.mapping("m", default=last4, load=last4, dump=list)


@app.post("/remember/<agent>")
def remember(agent: str) -> Any:
    memories[agent].append({"role": "user", "content": request.json["text"]})
    memories[agent].append({"role": "assistant", "content": f"{len(memories[agent])} in mind"})
    return jsonify(list(memories[agent]))


@app.post("/forget/<agent>")
def forget(agent: str) -> Any:
    if not memories[agent]:
        return jsonify(error="nothing in mind"), 409
    forgotten = memories[agent].popleft()
    return jsonify(forgotten=forgotten, left=len(memories[agent]))


@app.post("/blank/<agent>")
def blank(agent: str) -> Any:
    memories[agent].clear()
    return jsonify({name: len(memory) for name, memory in memories.items()})


@app.post("/share")
def share() -> Any:
    for agent, memory in memories.items():
        memory.appendleft({"role": "system", "content": f"{request.json['text']} for {agent}"})
    return jsonify(sorted(message["content"] for memory in memories.values() for message in memory))


REQUESTS = [
    ("POST", "/remember/a", {"text": "one"}),
    ("POST", "/remember/a", {"text": "two"}),
    ("POST", "/forget/b", None),
    ("POST", "/remember/a", {"text": "three"}),
    ("POST", "/forget/a", None),
    ("POST", "/share", {"text": "note"}),
    ("POST", "/remember/a", {"text": "four"}),
    ("POST", "/remember/b", {"text": "hi"}),
    ("POST", "/share", {"text": "memo"}),
    ("POST", "/blank/a", None),
    ("POST", "/forget/a", None),
    ("POST", "/remember/a", {"text": "five"}),
    ("POST", "/forget/b", None),
]
