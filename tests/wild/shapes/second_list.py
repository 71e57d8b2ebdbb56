"""Answers from documents: a list of sources and a list of votes grow beside ``history``."""

from typing import Any

from flask import Flask, abort, jsonify, request

app = Flask(__name__)
sessions: dict[str, Any] = {}  # convstore: ConversationStore(app).sessions


def llm(text: str) -> str:
    return f"reply to {text}"


def search(text: str) -> list[Any]:
    return [{"title": f"About {word}", "score": len(word)} for word in text.split()]


@app.post("/ask/<sid>")
def ask(sid: str) -> Any:
    question = request.json["question"]
    session = sessions.setdefault(sid, {"history": [], "sources": [], "votes": []})
    found = search(question)
    session["sources"].extend(found)
    answer = llm(question)
    session["history"] += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return jsonify(answer=answer, sources=found)


@app.post("/vote/<sid>/<int:number>")
def vote(sid: str, number: int) -> Any:
    session = sessions.get(sid) or abort(404)
    if number >= len(session["history"]):
        return jsonify(error="no such message"), 422
    session["votes"].append([number, request.json["vote"]])
    return jsonify(session["votes"])


@app.get("/ask/<sid>")
def show(sid: str) -> Any:
    return jsonify(sessions.get(sid, {}))


REQUESTS = [
    ("GET", "/ask/a", None),
    ("POST", "/vote/a/0", {"vote": "up"}),
    ("POST", "/ask/a", {"question": "red apples"}),
    ("POST", "/vote/a/1", {"vote": "up"}),
    ("POST", "/ask/a", {"question": "green"}),
    ("POST", "/vote/a/9", {"vote": "up"}),
    ("POST", "/vote/a/3", {"vote": "down"}),
    ("POST", "/ask/b", {"question": "red apples"}),
    ("GET", "/ask/a", None),
    ("GET", "/ask/b", None),
]
BEFORE = [("POST", "/ask/s", {"question": "hello"}), ("POST", "/vote/s/0", {"vote": "up"})]
TOGETHER = [("POST", "/ask/s", {"question": "one"}), ("POST", "/ask/s", {"question": "two"})]
AFTER = [("GET", "/ask/s", None)]
