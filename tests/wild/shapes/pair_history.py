"""A history is a list of pairs, ``(who, text)``, beside the text of the last question, in a dict of dicts by user."""

from collections import defaultdict
from typing import Any

from flask import Flask, jsonify, request

app = Flask(__name__)
talks: Any = defaultdict(dict)  # convstore: ConversationStore(app).mapping("talks", default=dict)


def llm(text: str, history: list[Any]) -> str:
    return f"reply to {text}"


@app.post("/<user>/<topic>")
def say(user: str, topic: str) -> Any:
    topics = talks[user]
    history = topics.setdefault(topic, [])
    text = request.json["text"]
    reply = llm(text, history)
    history.append(("user", text))
    history.append(("bot", reply))
    asked = [text for who, text in history if who == "user"]
    return jsonify(reply=reply, asked=len(asked) if text not in ("one", "two") else 0)


@app.get("/<user>")
def topics(user: str) -> Any:
    return jsonify({topic: [f"{who}: {text}" for who, text in history] for topic, history in talks[user].items()})


@app.delete("/<user>/<topic>")
def forget(user: str, topic: str) -> Any:
    return jsonify(forgotten=len(talks[user].pop(topic, [])))


REQUESTS = [
    ("GET", "/ada", None),
    ("POST", "/ada/tea", {"text": "hello"}),
    ("POST", "/ada/tea", {"text": "more"}),
    ("POST", "/ada/cake", {"text": "hello"}),
    ("POST", "/bob/tea", {"text": "hello"}),
    ("GET", "/ada", None),
    ("DELETE", "/ada/tea", None),
    ("DELETE", "/ada/none", None),
    ("GET", "/ada", None),
    ("GET", "/bob", None),
]
BEFORE = [("POST", "/s/tea", {"text": "hello"})]
TOGETHER = [("POST", "/s/tea", {"text": "one"}), ("POST", "/s/tea", {"text": "two"})]
AFTER = [("GET", "/s", None)]
