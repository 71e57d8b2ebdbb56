"""A webhook must answer within a second: a thread in an app context asks the model, and sends the reply later."""

import threading
from typing import Any

from flask import Flask, jsonify, request

app = Flask(__name__)
conversations: dict[int, Any] = {}  # convstore: ConversationStore(app).sessions


def llm(text: str, history: list[Any]) -> str:
    return f"reply to {text}"


def work(chat_id: int, text: str) -> None:
    with app.app_context():
        history = conversations.setdefault(chat_id, [])
        history.append({"role": "user", "content": text})
        reply = llm(text, history)
        history.append({"role": "assistant", "content": reply})
        conversations[chat_id] = history[-20:]


@app.post("/webhook")
def webhook() -> Any:
    update = request.json
    if "text" not in update:
        return "ignored"
    threading.Thread(target=work, args=(update["chat"], update["text"])).start()
    return "ok"


@app.get("/chats/<int:chat_id>")
def show(chat_id: int) -> Any:
    return jsonify(conversations.get(chat_id))


@app.get("/chats/<int:chat_id>/replies/<text>")
def replied(chat_id: int, text: str) -> Any:
    said = [message["content"] for message in conversations.get(chat_id, [])]
    return ("yes", 200) if f"reply to {text}" in said else ("not yet", 404)


def update(chat: int, text: str) -> list[tuple[str, str, Any]]:
    return [
        ("POST", "/webhook", {"chat": chat, "text": text}),
        ("AWAIT", f"/chats/{chat}/replies/{text}", 200),
    ]


REQUESTS = [
    ("GET", "/chats/1", None),
    ("POST", "/webhook", {"edited": True}),
    *update(1, "hello"),
    *update(1, "again"),
    *update(2, "hi"),
    ("GET", "/chats/1/replies/never", None),
    ("GET", "/chats/1", None),
    ("GET", "/chats/2", None),
]
BEFORE = update(7, "hello")
TOGETHER = [("POST", "/webhook", {"chat": 7, "text": "one"}), ("POST", "/webhook", {"chat": 7, "text": "two"})]
AFTER = [("GET", "/chats/7", None)]
IS_LATE = True
