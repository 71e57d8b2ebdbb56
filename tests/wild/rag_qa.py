"""Questions on documents: turns of query and response, several chats in a dict for each user, ratings put in later."""

from typing import Any

from flask import Flask, jsonify, request

app = Flask(__name__)
users: dict[str, dict[str, list[Any]]] = {}  # convstore: convstore.mapping("users")


@app.post("/ask")
def ask() -> Any:
    user, chat, query = request.json["user"], request.json["chat"], request.json["query"]
    history = users.setdefault(user, {}).setdefault(chat, [])
    context = history[-1]["query"] if history else "nothing"
    response = f"{query}: see page {len(history) + 1} (before: {context})"
    history.append({"query": query, "response": response, "sources": [["a.pdf", len(history)]]})
    return jsonify({"answer": response, "chats": sorted(users[user])})


@app.post("/rate")
def rate() -> Any:
    body = request.json
    try:
        turn = users[body["user"]][body["chat"]][body["turn"]]
    except (KeyError, IndexError):
        return jsonify({"error": "no such turn"}), 404
    turn["rating"] = body["rating"]
    turn.setdefault("comments", {})[body["by"]] = body.get("comment")
    return jsonify(turn)


@app.get("/ratings")
def ratings() -> Any:
    found = [
        turn["rating"] for chats in users.values() for turns in chats.values() for turn in turns if "rating" in turn
    ]
    return jsonify(sorted(found))


@app.delete("/users/<user>/<chat>")
def delete(user: str, chat: str) -> Any:
    users[user].pop(chat)
    if not users[user]:
        del users[user]
    return jsonify({name: list(chats) for name, chats in sorted(users.items())})


REQUESTS = [
    ("POST", "/ask", {"user": "ann", "chat": "c1", "query": "tax"}),
    ("POST", "/ask", {"user": "ann", "chat": "c1", "query": "vat"}),
    ("POST", "/ask", {"user": "ann", "chat": "history", "query": "rome"}),
    ("POST", "/rate", {"user": "ann", "chat": "c1", "turn": 0, "rating": 5, "by": "ann"}),
    ("POST", "/rate", {"user": "ann", "chat": "c1", "turn": 2, "rating": 5, "by": "ann"}),
    ("POST", "/ask", {"user": "bob", "chat": "c1", "query": "tax"}),
    ("POST", "/rate", {"user": "bob", "chat": "c1", "turn": 0, "rating": 1, "by": "bob", "comment": "wrong"}),
    ("GET", "/ratings", None),
    ("POST", "/rate", {"user": "ann", "chat": "c1", "turn": 0, "rating": 4, "by": "eve", "comment": "hm"}),
    ("POST", "/rate", {"user": "eve", "chat": "c1", "turn": 0, "rating": 4, "by": "eve"}),
    ("POST", "/ask", {"user": "ann", "chat": "history", "query": "athens"}),
    ("POST", "/rate", {"user": "ann", "chat": "history", "turn": 0, "rating": 3, "by": "ann"}),
    ("GET", "/ratings", None),
    ("DELETE", "/users/ann/c1", None),
    ("DELETE", "/users/ann/c1", None),
    ("DELETE", "/users/bob/c1", None),
    ("POST", "/ask", {"user": "ann", "chat": "c1", "query": "new"}),
    ("GET", "/ratings", None),
]
