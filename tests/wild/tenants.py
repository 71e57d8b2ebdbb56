"""Several chats for each user: tuple keys, lists of a user's own by comprehension."""

from typing import Any

from flask import Flask, abort, jsonify, request

app = Flask(__name__)
store: dict[tuple[str, str], dict[str, Any]] = {}  # convstore: convstore.sessions


@app.post("/users/<user_id>/chats/<session_id>")
def post(user_id: str, session_id: str) -> Any:
    key = (user_id, session_id)
    if key not in store:
        store[key] = {"title": request.json["text"][:12], "messages": []}
    store[key]["messages"].append({"role": "user", "content": request.json["text"]})
    store[key]["messages"].append({"role": "assistant", "content": request.json["text"].upper()})
    return jsonify(store[key]), 201


@app.get("/users/<user_id>/chats")
def index(user_id: str) -> Any:
    own = {sid: chat["title"] for (uid, sid), chat in store.items() if uid == user_id}
    return jsonify(own) if own else (jsonify(error="no chats"), 404)


@app.patch("/users/<user_id>/chats/<session_id>")
def rename(user_id: str, session_id: str) -> Any:
    if (user_id, session_id) not in store:
        abort(404)
    store[user_id, session_id]["title"] = request.json["title"]
    return jsonify(sorted(store))


@app.delete("/users/<user_id>")
def delete_user(user_id: str) -> Any:
    keys = [key for key in store if key[0] == user_id]
    for key in keys:
        del store[key]
    return jsonify(deleted=sorted(sid for _, sid in keys), left=len(store))


REQUESTS = [
    ("GET", "/users/ann/chats", None),
    ("POST", "/users/ann/chats/default", {"text": "hello"}),
    ("POST", "/users/ann/chats/work", {"text": "a rather long first message"}),
    ("POST", "/users/bob/chats/default", {"text": "hi"}),
    ("POST", "/users/ann/chats/default", {"text": "more"}),
    ("GET", "/users/ann/chats", None),
    ("PATCH", "/users/bob/chats/work", {"title": "none"}),
    ("PATCH", "/users/bob/chats/default", {"title": 'Bob\'s "first"'}),
    ("POST", "/users/bob/chats/default", {"text": "again"}),
    ("GET", "/users/bob/chats", None),
    ("DELETE", "/users/ann", None),
    ("DELETE", "/users/ann", None),
    ("GET", "/users/ann/chats", None),
    ("POST", "/users/ann/chats/default", {"text": "back"}),
    ("GET", "/users/ann/chats", None),
    ("PATCH", "/users/ann/chats/default", {"title": "b"}),
]
