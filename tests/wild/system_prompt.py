"""A proxy before a completions API: the system prompt stays at index 0, the last messages after it."""

from typing import Any

from flask import Flask, jsonify, request

MAX_MESSAGES = 4
SYSTEM_PROMPT = {"role": "system", "content": "You are a helpful assistant."}

app = Flask(__name__)
chat_histories: dict[str, list[Any]] = {}  # convstore: convstore.mapping("chat_histories")


def complete(messages: list[Any]) -> str:
    return f"{len(messages)} messages, the first says {messages[0]['content']!r}, the last {messages[-1]['content']!r}"


@app.post("/api/chat")
def chat() -> Any:
    session_id = request.json.get("sessionId") or "anonymous"
    messages = chat_histories.get(session_id, [SYSTEM_PROMPT])
    messages.append({"role": "user", "content": request.json["message"]})
    reply = complete(messages)
    messages.append({"role": "assistant", "content": reply})
    if len(messages) > MAX_MESSAGES + 1:
        messages = [messages[0], *messages[-MAX_MESSAGES:]]
    chat_histories[session_id] = messages
    return jsonify(reply=reply, history=chat_histories[session_id][1:])


@app.put("/api/chat/<session_id>/persona")
def persona(session_id: str) -> Any:
    if session_id not in chat_histories:
        return jsonify(error="unknown session"), 404
    chat_histories[session_id][0] = {"role": "system", "content": request.json["prompt"]}
    return "", 204


@app.post("/api/clear")
def clear() -> Any:
    removed = chat_histories.pop(request.json["sessionId"], None)
    return jsonify(cleared=removed is not None, messages=len(removed or []))


REQUESTS = [
    ("POST", "/api/chat", {"sessionId": "a", "message": "one"}),
    ("POST", "/api/chat", {"sessionId": "a", "message": "two"}),
    ("POST", "/api/chat", {"sessionId": None, "message": "who am I?"}),
    ("POST", "/api/chat", {"sessionId": "a", "message": "three"}),
    ("PUT", "/api/chat/a/persona", {"prompt": "You are a pirate."}),
    ("PUT", "/api/chat/b/persona", {"prompt": "You are a pirate."}),
    ("POST", "/api/chat", {"sessionId": "a", "message": "four"}),
    ("POST", "/api/chat", {"sessionId": "a", "message": "five"}),
    ("POST", "/api/chat", {"message": "still me"}),
    ("POST", "/api/chat", {"sessionId": "a"}),
    ("POST", "/api/chat", {"sessionId": "a", "message": "six"}),
    ("POST", "/api/clear", {"sessionId": "a"}),
    ("POST", "/api/clear", {"sessionId": "a"}),
    ("POST", "/api/chat", {"sessionId": "a", "message": "seven"}),
]
