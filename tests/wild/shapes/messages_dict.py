"""The commonest dict of all: a conversation is a dict with ``messages``, made when it is first asked for."""

from typing import Any

from flask import Flask, jsonify, request

app = Flask(__name__)
conversations: dict[str, Any] = {}  # convstore: ConversationStore(app).sessions


def llm(text: str, messages: list[Any]) -> str:
    return f"reply to {text}"


def get_conversation(sid: str) -> dict[str, Any]:
    if sid not in conversations:
        conversations[sid] = {"messages": [], "model": "small", "title": None}
    conversation: dict[str, Any] = conversations[sid]
    return conversation


@app.post("/chat/<sid>")
def chat(sid: str) -> Any:
    text = request.json["message"]
    conversation = get_conversation(sid)
    conversation["messages"].append({"role": "user", "content": text})
    if conversation["title"] is None:
        conversation["title"] = "A chat"
    reply = llm(text, conversation["messages"])
    conversation["messages"].append({"role": "assistant", "content": reply})
    return jsonify(reply=reply, count=len(conversation["messages"]))


@app.put("/chat/<sid>/model")
def choose(sid: str) -> Any:
    get_conversation(sid)["model"] = request.json["model"]
    return jsonify(get_conversation(sid))


@app.get("/chat/<sid>")
def show(sid: str) -> Any:
    return jsonify(conversations[sid]) if sid in conversations else ({"error": "unknown"}, 404)


@app.delete("/chat/<sid>")
def forget(sid: str) -> Any:
    return jsonify(forgotten=conversations.pop(sid, None) is not None)


REQUESTS = [
    ("GET", "/chat/a", None),
    ("POST", "/chat/a", {"message": "hello"}),
    ("POST", "/chat/a", {"message": "again"}),
    ("PUT", "/chat/b/model", {"model": "large"}),
    ("POST", "/chat/b", {"message": "hi"}),
    ("GET", "/chat/a", None),
    ("DELETE", "/chat/a", None),
    ("DELETE", "/chat/a", None),
    ("POST", "/chat/a", {"message": "anew"}),
    ("GET", "/chat/b", None),
]
BEFORE = [("POST", "/chat/s", {"message": "hello"})]
TOGETHER = [("POST", "/chat/s", {"message": "one"}), ("POST", "/chat/s", {"message": "two"})]
AFTER = [("GET", "/chat/s", None)]
