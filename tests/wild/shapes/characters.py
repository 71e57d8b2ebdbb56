"""Characters of a game: nested defaultdicts by player and by character, inventories as lists, gold as a number."""

from collections import defaultdict
from typing import Any

from flask import Flask, jsonify, request

app = Flask(__name__)
players: Any = defaultdict(dict)  # convstore: ConversationStore(app).mapping("players", default=dict)


def llm(text: str, character: dict[str, Any]) -> str:
    return f"reply to {text}"


@app.post("/<player>/<name>")
def talk(player: str, name: str) -> Any:
    character = players[player].setdefault(name, {"mood": "calm", "gold": 10, "items": ["rope"], "memory": {}})
    text = request.json["text"]
    reply = llm(text, character)
    character["gold"] -= request.json.get("pay", 0)
    character["items"] += request.json.get("get", [])
    for item in request.json.get("lose", []):
        if item in character["items"]:
            character["items"].remove(item)
    character["memory"].setdefault(text[:1], []).append({"text": text, "reply": reply})
    return jsonify(reply=reply, gold=character["gold"] if text not in ("one", "two") else None)


@app.get("/<player>")
def show(player: str) -> Any:
    return jsonify(players[player])


REQUESTS = [
    ("GET", "/ada", None),
    ("POST", "/ada/elf", {"text": "hello", "pay": 3}),
    ("POST", "/ada/elf", {"text": "how are you", "get": ["sword", "map"]}),
    ("POST", "/ada/elf", {"text": "bye", "lose": ["rope", "crown"], "pay": 2}),
    ("POST", "/ada/orc", {"text": "hello"}),
    ("GET", "/ada", None),
    ("POST", "/bob/elf", {"text": "hello"}),
    ("GET", "/bob", None),
    ("GET", "/ada", None),
]
BEFORE = [("POST", "/s/elf", {"text": "hello", "get": ["sword"]})]
TOGETHER = [
    ("POST", "/s/elf", {"text": "one", "pay": 2, "get": ["map"], "lose": ["rope"]}),
    ("POST", "/s/elf", {"text": "two", "pay": 3, "get": ["key"], "lose": ["sword"]}),
]
AFTER = [("GET", "/s", None)]
