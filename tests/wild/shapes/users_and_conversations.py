"""Three levels: a user has conversations, and a conversation has messages."""

from typing import Any

from flask import Flask, jsonify, request

app = Flask(__name__)
users: dict[str, Any] = {}  # convstore: ConversationStore(app).mapping("users")


def llm(text: str) -> str:
    return f"reply to {text}"


@app.post("/<user>/<conversation_id>")
def send(user: str, conversation_id: str) -> Any:
    text = request.json["text"]
    if user not in users:
        users[user] = {"name": user.title(), "conversations": {}}
    conversations = users[user]["conversations"]
    if conversation_id not in conversations:
        conversations[conversation_id] = {"title": f"Chat {conversation_id}", "messages": []}
    messages = conversations[conversation_id]["messages"]
    messages.append({"role": "user", "content": text})
    messages.append({"role": "assistant", "content": llm(text)})
    return jsonify(messages[-1])


@app.patch("/<user>/<conversation_id>")
def rename(user: str, conversation_id: str) -> Any:
    try:
        users[user]["conversations"][conversation_id]["title"] = request.json["title"]
    except KeyError:
        return jsonify(error="not found"), 404
    return jsonify(ok=True)


@app.delete("/<user>/<conversation_id>")
def delete(user: str, conversation_id: str) -> Any:
    removed = users.get(user, {}).get("conversations", {}).pop(conversation_id, None)
    return jsonify(removed=bool(removed))


@app.get("/<user>")
def overview(user: str) -> Any:
    return jsonify(users.get(user))


REQUESTS = [
    ("GET", "/ann", None),
    ("POST", "/ann/1", {"text": "hello"}),
    ("POST", "/ann/2", {"text": "other"}),
    ("POST", "/ann/1", {"text": "again"}),
    ("PATCH", "/ann/1", {"title": "First"}),
    ("PATCH", "/bob/1", {"title": "First"}),
    ("POST", "/bob/1", {"text": "hi"}),
    ("DELETE", "/ann/2", None),
    ("DELETE", "/ann/2", None),
    ("GET", "/ann", None),
    ("GET", "/bob", None),
]
BEFORE = [("POST", "/sue/1", {"text": "hello"}), ("POST", "/sue/2", {"text": "hello"})]
TOGETHER = [("POST", "/sue/1", {"text": "one"}), ("POST", "/sue/3", {"text": "two"})]
AFTER = [("GET", "/sue", None)]
