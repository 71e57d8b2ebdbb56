"""A reply is streamed by a generator, which appends it to the history when all of it has been sent."""

from collections.abc import Iterator
from typing import Any

from flask import Flask, Response, jsonify, request, stream_with_context

app = Flask(__name__)
conversation_history: dict[str, list[Any]] = {}  # convstore: ConversationStore(app).sessions


def llm(text: str, history: list[Any]) -> list[str]:
    return ["reply", " to", f" {text}"]


@app.post("/chat/<sid>")
def chat(sid: str) -> Any:
    text = request.json["text"]
    if sid not in conversation_history:
        conversation_history[sid] = []
    history = conversation_history[sid]
    history.append({"role": "user", "content": text})

    def generate() -> Iterator[str]:
        full = ""
        for chunk in llm(text, history):
            full += chunk
            yield chunk
        history.append({"role": "assistant", "content": full})

    return Response(generate(), mimetype="text/plain")


@app.post("/context/<sid>")
def chat_in_context(sid: str) -> Any:
    history = conversation_history.setdefault(sid, [])

    def generate() -> Iterator[str]:
        text = request.json["text"]
        history.append({"role": "user", "content": text})
        full = "".join(llm(text, history))
        yield full
        conversation_history[sid].append({"role": "assistant", "content": full})
        conversation_history[sid] = conversation_history[sid][-20:]

    return Response(stream_with_context(generate()), mimetype="text/plain")


@app.get("/chat/<sid>")
def show(sid: str) -> Any:
    return jsonify(conversation_history.get(sid, []))


REQUESTS = [
    ("GET", "/chat/a", None),
    ("POST", "/chat/a", {"text": "hello"}),
    ("GET", "/chat/a", None),
    ("POST", "/context/a", {"text": "again"}),
    ("GET", "/chat/a", None),
    ("POST", "/context/b", {"text": "hi"}),
    ("POST", "/chat/b", {"text": "and more"}),
    ("GET", "/chat/b", None),
]
BEFORE = [("POST", "/chat/s", {"text": "hello"})]
TOGETHER = [("POST", "/chat/s", {"text": "one"}), ("POST", "/context/s", {"text": "two"})]
AFTER = [("GET", "/chat/s", None)]
