"""Scalars: a counter for each client, the current session of each user, and the first message of each as its title."""

from collections import defaultdict
from typing import Any

from flask import Flask, Response, jsonify, request

app = Flask(__name__)
LIMIT = 5
hits: dict[str, int] = defaultdict(int)  # convstore: convstore.mapping("hits", default=int)
current: dict[str, str] = {}  # convstore: convstore.mapping("current")
logs: dict[str, list[Any]] = defaultdict(list)  # convstore: convstore.mapping("logs", default=list)
flags: dict[str, bool | None] = {}  # convstore: convstore.mapping("flags")


@app.before_request
def limit() -> Any:
    user = request.headers.get("X-User") or request.args["user"]
    hits[user] += 1
    if hits[user] > LIMIT and flags.get(user) is not True:
        return jsonify(error="slow down", hits=hits[user]), 429
    return None


@app.after_request
def count(response: Response) -> Response:
    hits["total"] += response.status_code < 400
    return response


@app.post("/session/<sid>")
def switch(sid: str) -> Any:
    before = current.get(request.args["user"])
    current[request.args["user"]] = sid
    return jsonify(before=before, now=current[request.args["user"]])


@app.post("/chat")
def chat() -> Any:
    if request.args["user"] not in current:
        return jsonify(error="choose a session"), 400
    log = logs[current[request.args["user"]]]
    log += [{"role": "user", "content": request.json["text"]}]
    log.extend([{"role": "assistant", "content": str(len(log))}])
    return jsonify(log)


@app.post("/premium")
def premium() -> Any:
    flags.update({request.args["user"]: request.json["on"]})
    return jsonify(flags={user: on for user, on in flags.items() if on is not None}, hits={k: hits[k] for k in hits})


REQUESTS = [
    ("POST", "/chat?user=ann", {"text": "hi"}),
    ("POST", "/session/s1?user=ann", None),
    ("POST", "/chat?user=ann", {"text": "hi"}),
    ("POST", "/session/s2?user=ann", None),
    ("POST", "/chat?user=ann", {"text": "there"}),
    ("POST", "/chat?user=ann", {"text": "too many"}),
    ("POST", "/premium?user=bob", {"on": None}),
    ("POST", "/premium?user=bob", {"on": True}),
    ("POST", "/session/s1?user=bob", None),
    ("POST", "/chat?user=bob", {"text": "in the same session"}),
    ("POST", "/chat?user=bob", {"text": "four"}),
    ("POST", "/premium?user=ann", {"on": True}),
    ("POST", "/chat?user=bob", {"text": "six, but premium"}),
    ("POST", "/premium?user=bob", {"on": False}),
    ("POST", "/chat?user=bob", {"text": "no more"}),
    ("POST", "/premium?user=cid", {"on": True}),
]
