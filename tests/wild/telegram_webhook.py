"""A Telegram bot behind a webhook: chat ids are whole numbers, groups negative. A state stands beside the history."""

from typing import Any

from flask import Flask, jsonify, request

app = Flask(__name__)
user_history: dict[int, list[Any]] = {}  # convstore: convstore.mapping("user_history")
user_state: dict[int, Any] = {}  # convstore: convstore.mapping("user_state")


def handle(chat_id: int, text: str) -> str:
    if text == "/start":
        user_state[chat_id] = "awaiting_name"
        return "What is your name?"
    if text == "/reset":
        user_history.pop(chat_id, None)
        user_state.pop(chat_id, None)
        return "Forgotten."
    if user_state.get(chat_id) == "awaiting_name":
        user_state[chat_id] = {"name": text, "stage": "chatting"}
        return f"Hello {text}!"
    if chat_id not in user_state:
        return "Send /start first."
    history = user_history.get(chat_id, [])
    history.append({"role": "user", "content": text})
    reply = f"{user_state[chat_id]['name']}, that was number {len(history)}"
    history.append({"role": "assistant", "content": reply})
    user_history[chat_id] = history[-4:]
    return reply


@app.post("/webhook")
def webhook() -> Any:
    message = (request.get_json() or {}).get("message")
    if not message or "text" not in message:
        return "ok"
    chat_id = message["chat"]["id"]
    return jsonify(method="sendMessage", chat_id=chat_id, text=handle(chat_id, message["text"]))


@app.get("/admin")
def admin() -> Any:
    return jsonify(
        chats=sorted(user_history), total=sum(user_history), states=[user_state[i] for i in sorted(user_state)]
    )


def update(chat_id: int, text: str) -> tuple[str, str, Any]:
    return "POST", "/webhook", {"update_id": 1, "message": {"chat": {"id": chat_id}, "text": text}}


REQUESTS = [
    update(42, "hello"),
    update(42, "/start"),
    update(42, "Ann"),
    ("POST", "/webhook", {"edited_message": {}}),
    update(42, "one"),
    update(-1001234567890, "/start"),
    update(42, "two"),
    update(-1001234567890, "The group"),
    update(42, "three"),
    ("GET", "/admin", None),
    update(-1001234567890, "one"),
    update(42, "four"),
    update(0, "/start"),
    ("GET", "/admin", None),
    update(42, "/reset"),
    update(42, "five"),
    ("GET", "/admin", None),
]
