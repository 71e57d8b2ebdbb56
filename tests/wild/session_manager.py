"""Object-oriented: a manager holds the sessions, which are objects of a plain class that knows its JSON."""

from typing import Any

from flask import Flask, jsonify, request

app = Flask(__name__)


class Chat:
    def __init__(self, user: str) -> None:
        self.user = user
        self.messages: list[Any] = []
        self.facts: dict[str, str] = {}

    @classmethod
    def load(cls, data: dict[str, Any]) -> "Chat":
        chat = cls(data["user"])
        chat.__dict__.update(data)
        return chat

    def dump(self) -> dict[str, Any]:
        return {"user": self.user, "messages": self.messages, "facts": self.facts}


class SessionManager:
    def __init__(self) -> None:
        self.sessions: dict[str, Chat] = {}  # convstore: convstore.mapping("sessions", load=Chat.load, dump=Chat.dump)

    def get(self, sid: str) -> Chat:
        if sid not in self.sessions:
            self.sessions[sid] = Chat(user=f"user of {sid}")
        return self.sessions[sid]


manager = SessionManager()


@app.post("/sessions/<sid>/messages")
def post(sid: str) -> Any:
    session = manager.get(sid)
    text = request.json["text"]
    session.messages.append({"role": "user", "content": text})
    if " is " in text:
        subject, _, value = text.partition(" is ")
        session.facts[subject] = value
    session.messages.append({"role": "assistant", "content": f"I know {len(session.facts)} facts"})
    manager.get(sid).messages = manager.get(sid).messages[-4:]
    return jsonify(session.dump())


@app.put("/sessions/<sid>/user")
def rename(sid: str) -> Any:
    manager.get(sid).user = request.json["user"]
    return jsonify({sid: session.user for sid, session in manager.sessions.items()})


@app.delete("/sessions/<sid>")
def delete(sid: str) -> Any:
    session = manager.sessions.pop(sid, None)
    return (session.dump(), 200) if session else ({"error": "unknown"}, 404)


REQUESTS = [
    ("POST", "/sessions/a/messages", {"text": "the sky is blue"}),
    ("POST", "/sessions/a/messages", {"text": "the sea is deep"}),
    ("PUT", "/sessions/a/user", {"user": "Ann"}),
    ("PUT", "/sessions/b/user", {"user": "Bob"}),
    ("DELETE", "/sessions/c", None),
    ("POST", "/sessions/a/messages", {"text": "the sky is grey"}),
    ("POST", "/sessions/b/messages", {"text": "hello"}),
    ("POST", "/sessions/a/messages", {"text": "well"}),
    ("DELETE", "/sessions/a", None),
    ("DELETE", "/sessions/a", None),
    ("POST", "/sessions/a/messages", {"text": "new"}),
    ("PUT", "/sessions/b/user", {"user": "Bea"}),
]
