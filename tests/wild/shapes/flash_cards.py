"""Cards move from one list to another, points are kept in a list of ``[name, points]``, the best one is found by it."""

from typing import Any

from flask import Flask, jsonify, request

app = Flask(__name__)
decks: dict[str, dict[str, Any]] = {}  # convstore: ConversationStore(app).sessions


def llm(text: str) -> str:
    return f"reply to {text}"


@app.post("/<deck>")
def answer(deck: str) -> Any:
    state = decks.setdefault(deck, {"left": ["a", "b", "c", "d"], "done": [], "board": [], "best": None, "log": []})
    text, card = request.json["text"], request.json["card"]
    reply = llm(text)
    if card in state["left"]:
        state["left"].remove(card)
        state["done"].append(card)
        state["board"].append([text, len(text)])
    best = max(state["board"], key=lambda row: row[1], default=None)
    state["best"] = best and best[0]
    state["log"].insert(0, {"card": card, "text": text, "reply": reply})
    return jsonify(reply=reply)


@app.get("/<deck>")
def show(deck: str) -> Any:
    return jsonify(decks.get(deck))


REQUESTS = [
    ("GET", "/a", None),
    ("POST", "/a", {"text": "x", "card": "a"}),
    ("POST", "/a", {"text": "long", "card": "c"}),
    ("POST", "/a", {"text": "again", "card": "a"}),
    ("GET", "/a", None),
    ("POST", "/b", {"text": "x", "card": "d"}),
    ("POST", "/a", {"text": "xy", "card": "b"}),
    ("GET", "/a", None),
    ("GET", "/b", None),
]
BEFORE = [("POST", "/s", {"text": "hello there", "card": "a"})]
TOGETHER = [("POST", "/s", {"text": "one", "card": "b"}), ("POST", "/s", {"text": "two", "card": "c"})]
AFTER = [("GET", "/s", None)]
