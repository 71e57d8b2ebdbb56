"""Conversations are objects of a class of the app's own, which hold other objects."""

from typing import Any

from flask import Flask, jsonify, request

app = Flask(__name__)


class Profile:
    def __init__(self, name: str) -> None:
        self.name = name
        self.likes: list[str] = []


class Conversation:
    profile: Profile

    def __init__(self, name: str) -> None:
        self.profile = Profile(name)
        self.messages: list[dict[str, str]] = []
        self.turns = 0

    def add(self, role: str, content: str) -> None:
        self.messages.append({"role": role, "content": content})


conversations: dict[str, Conversation] = {}  # convstore: ConversationStore(app).mapping("own", load=Conversation)


def llm(text: str, conversation: Conversation) -> str:
    return f"reply to {text}"


def conversation_of(sid: str) -> Conversation:
    if sid not in conversations:
        conversations[sid] = Conversation(name=sid.title())
    return conversations[sid]


@app.post("/<sid>")
def chat(sid: str) -> Any:
    text = request.json["text"]
    conversation = conversation_of(sid)
    conversation.add("user", text)
    reply = llm(text, conversation)
    conversation.add("assistant", reply)
    conversation.turns += 1
    return jsonify(reply=reply, name=conversation.profile.name, turns=conversation.turns)


@app.post("/<sid>/likes")
def like(sid: str) -> Any:
    profile = conversation_of(sid).profile
    profile.likes.append(request.json["what"])
    return jsonify(vars(profile))


@app.get("/<sid>")
def show(sid: str) -> Any:
    conversation = conversations.get(sid)
    if conversation is None:
        return jsonify(error="unknown"), 404
    return jsonify({**vars(conversation), "profile": vars(conversation.profile)})


REQUESTS = [
    ("GET", "/a", None),
    ("POST", "/a", {"text": "hello"}),
    ("POST", "/a", {"text": "again"}),
    ("POST", "/a/likes", {"what": "tea"}),
    ("POST", "/b/likes", {"what": "rain"}),
    ("POST", "/a/likes", {"what": "snow"}),
    ("GET", "/a", None),
    ("GET", "/b", None),
]
BEFORE = [("POST", "/s", {"text": "hello"})]
TOGETHER = [("POST", "/s", {"text": "one"}), ("POST", "/s", {"text": "two"})]
AFTER = [("GET", "/s", None)]
