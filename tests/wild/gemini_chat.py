"""Gemini's messages in a defaultdict, cut to the last few at the end of every turn."""

from collections import defaultdict
from typing import Any

from flask import Flask, abort, jsonify, request

app = Flask(__name__)
HISTORY_LIMIT = 6
chats: dict[str, list[Any]] = defaultdict(list)  # convstore: convstore.mapping("chats", default=list)


def generate(contents: list[Any]) -> str:
    return " | ".join(part["text"] for content in contents for part in content["parts"] if content["role"] == "user")


@app.post("/send/<user_id>")
def send(user_id: str) -> Any:
    chats[user_id].append({"role": "user", "parts": [{"text": request.json["text"]}]})
    answer = generate(chats[user_id])
    chats[user_id].append({"role": "model", "parts": [{"text": answer}]})
    chats[user_id] = chats[user_id][-HISTORY_LIMIT:]
    return jsonify(answer=answer, kept=len(chats[user_id]))


@app.get("/transcript/<user_id>")
def transcript(user_id: str) -> Any:
    if user_id not in chats:
        abort(404)
    return {"contents": chats[user_id]}


@app.get("/peek/<user_id>")
def peek(user_id: str) -> Any:
    return {"messages": len(chats[user_id]), "known": user_id in chats}


@app.delete("/transcript/<user_id>")
def forget(user_id: str) -> Any:
    del chats[user_id]
    return {"left": sorted(chats.keys())}


REQUESTS = [
    ("POST", "/send/ann", {"text": "hi"}),
    ("POST", "/send/ann", {"text": "hi"}),
    ("POST", "/send/bob", {"text": "1"}),
    ("POST", "/send/ann", {"text": "hi"}),
    ("POST", "/send/ann", {"text": "hi"}),
    ("POST", "/send/ann", {"text": "hi"}),
    ("GET", "/transcript/cid", None),
    ("GET", "/peek/cid", None),
    ("POST", "/send/ann", {"text": "what now?"}),
    ("GET", "/transcript/cid", None),
    ("POST", "/send/ann", {"text": "hi"}),
    ("GET", "/transcript/ann", None),
    ("POST", "/send/bob", {"text": "2"}),
    ("GET", "/transcript/bob", None),
    ("DELETE", "/transcript/bob", None),
    ("DELETE", "/transcript/bob", None),
    ("GET", "/peek/bob", None),
    ("POST", "/send/health", {"text": "ok?"}),
    ("GET", "/transcript/health", None),
]
