"""Users have conversations, which have messages: dataclasses in dataclasses, with times, counts of words, and a method."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from flask import Flask, jsonify, request

app = Flask(__name__)


@dataclass
class Message:
    role: str
    text: str
    at: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass
class Conversation:
    messages: list[Message] = field(default_factory=list)
    words: Counter[str] = field(default_factory=Counter)
    open: bool = True

    def add(self, role: str, text: str) -> None:
        self.messages.append(Message(role, text))
        self.words.update(text.split())


@dataclass
class User:
    name: str
    conversations: dict[str, Conversation] = field(default_factory=dict)
    seen: datetime | None = None


users: dict[str, User] = {}  # convstore: ConversationStore(app).mapping("users", load=User)


def llm(text: str, conversation: Conversation) -> str:
    return f"reply to {text}"


@app.post("/<name>/<topic>")
def say(name: str, topic: str) -> Any:
    user = users.setdefault(name, User(name))
    conversation = user.conversations.setdefault(topic, Conversation())
    text = request.json["text"]
    reply = llm(text, conversation)
    conversation.add("user", text)
    conversation.add("assistant", reply)
    user.seen = max(message.at for message in conversation.messages)
    return jsonify(reply=reply)


@app.get("/<name>")
def show(name: str) -> Any:
    user = users.get(name)
    if user is None:
        return jsonify(error="nobody"), 404
    topics = {
        topic: {
            "messages": [f"{one.role}: {one.text}" for one in conversation.messages],
            "words": conversation.words,
            "open": conversation.open,
        }
        for topic, conversation in user.conversations.items()
    }
    return jsonify(
        name=user.name, is_seen=user.seen is not None and user.seen <= datetime.now(UTC), conversations=topics
    )


@app.post("/<name>/<topic>/close")
def close(name: str, topic: str) -> Any:
    users[name].conversations[topic].open = False
    return jsonify(most=users[name].conversations[topic].words.most_common(1))


REQUESTS = [
    ("GET", "/ada", None),
    ("POST", "/ada/tea", {"text": "tea tea please"}),
    ("POST", "/ada/tea", {"text": "more tea"}),
    ("POST", "/ada/cake", {"text": "cake"}),
    ("GET", "/ada", None),
    ("POST", "/ada/tea/close", None),
    ("POST", "/bob/tea", {"text": "hello"}),
    ("GET", "/ada", None),
    ("GET", "/bob", None),
]
BEFORE = [("POST", "/s/tea", {"text": "hello"})]
TOGETHER = [("POST", "/s/tea", {"text": "one"}), ("POST", "/s/tea", {"text": "two"})]
AFTER = [("GET", "/s", None)]
