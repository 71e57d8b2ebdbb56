"""Typed: a conversation is a dataclass with a list of messages, which are dataclasses too."""

from dataclasses import asdict, dataclass, field
from typing import Any

from flask import Flask, abort, jsonify, request

app = Flask(__name__)


@dataclass
class Message:
    role: str
    content: str
    tokens: int = 0


@dataclass
class Conversation:
    id: str
    messages: list[Message] = field(default_factory=list)
    context: dict[str, Any] = field(default_factory=dict)
    summary: Message | None = None

    def add(self, role: str, content: str) -> None:
        self.messages.append(Message(role, content, len(content.split())))
        if len(self.messages) > 4:
            self.summary = Message("system", f"{self.messages[0].content}, {self.messages[1].content}")
            self.messages = self.messages[2:]


conversations: dict[str, Conversation] = {}  # convstore: convstore.mapping("conversations", load=Conversation)


@app.post("/conversations/<cid>")
def say(cid: str) -> Any:
    if cid not in conversations:
        conversations[cid] = Conversation(cid)
    conversation = conversations[cid]
    conversation.add("user", request.json["text"])
    conversation.context.update(request.json.get("context", {}))
    conversation.add("assistant", f"{conversation.messages[-1].tokens} words, {len(conversation.context)} facts")
    return jsonify(asdict(conversation))


@app.get("/conversations/<cid>")
def show(cid: str) -> Any:
    conversation = conversations.get(cid) or abort(404, "no conversation " + cid)
    return jsonify(asdict(conversation))


@app.get("/conversations")
def total() -> Any:
    return {cid: sum(message.tokens for message in c.messages) for cid, c in sorted(conversations.items())}


REQUESTS = [
    ("GET", "/conversations/a", None),
    ("POST", "/conversations/a", {"text": "good morning", "context": {"lang": "en"}}),
    ("POST", "/conversations/a", {"text": "my cat is called Tom", "context": {"pet": {"name": "Tom"}}}),
    ("POST", "/conversations/b", {"text": "hi"}),
    ("GET", "/conversations/a", None),
    ("POST", "/conversations/a", {"text": "what is he called"}),
    ("GET", "/conversations", None),
    ("POST", "/conversations/a", {"text": "and now", "context": {"lang": "de"}}),
    ("GET", "/conversations/a", None),
    ("POST", "/conversations/b", {"text": "hi"}),
    ("GET", "/conversations/b", None),
    ("GET", "/conversations/c", None),
    ("GET", "/conversations", None),
]
