"""A window of the newest messages is a deque that is trimmed by hand, in an object with a set of the topics."""

from __future__ import annotations

from collections import deque
from typing import Any

from flask import Flask, jsonify, request

app = Flask(__name__)


class Window:
    lines: deque[str]
    topics: set[str]

    def __init__(self) -> None:
        self.lines = deque()
        self.topics = set()
        self.total = 0

    def add(self, line: str) -> None:
        self.lines.append(line)
        self.topics |= {word for word in line.split() if word.startswith("#")}
        self.total += 1
        while len(self.lines) > 6:
            self.lines.popleft()


windows: dict[str, Window] = {}  # convstore: ConversationStore(app).mapping("windows", load=Window)


def llm(text: str, window: Window) -> str:
    return f"reply to {text}"


@app.post("/chat/<sid>")
def chat(sid: str) -> Any:
    if sid not in windows:
        windows[sid] = Window()
    window = windows[sid]
    text = request.json["text"]
    reply = llm(text, window)
    window.add(f"user: {text} #{text.split()[0]}")
    window.add(f"bot: {reply}")
    return jsonify(reply=reply)


@app.get("/chat/<sid>")
def show(sid: str) -> Any:
    window = windows.get(sid) or Window()
    return jsonify(lines=list(window.lines), topics=sorted(window.topics), total=window.total)


REQUESTS = [
    ("GET", "/chat/a", None),
    ("POST", "/chat/a", {"text": "tea please"}),
    ("POST", "/chat/a", {"text": "tea again"}),
    ("POST", "/chat/a", {"text": "cake"}),
    ("GET", "/chat/a", None),
    ("POST", "/chat/a", {"text": "milk"}),
    ("POST", "/chat/b", {"text": "tea"}),
    ("GET", "/chat/a", None),
    ("GET", "/chat/b", None),
]
BEFORE = [("POST", "/chat/s", {"text": "hello"})]
TOGETHER = [("POST", "/chat/s", {"text": "one"}), ("POST", "/chat/s", {"text": "two"})]
AFTER = [("GET", "/chat/s", None)]
