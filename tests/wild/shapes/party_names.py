"""A room with many people: a list of names is used as a set, and a dict says who types."""

from typing import Any

from flask import Flask, jsonify, request

app = Flask(__name__)
rooms: dict[str, Any] = {}  # convstore: ConversationStore(app).sessions


def llm(text: str) -> str:
    return f"reply to {text}"


@app.post("/rooms/<room_id>/join")
def join(room_id: str) -> Any:
    room = rooms.setdefault(room_id, {"members": [], "typing": {}, "messages": []})
    name = request.json["name"]
    if name not in room["members"]:
        room["members"].append(name)
    return jsonify(sorted(room["members"]))


@app.post("/rooms/<room_id>/leave")
def leave(room_id: str) -> Any:
    room = rooms.get(room_id)
    if not room or request.json["name"] not in room["members"]:
        return jsonify(error="not here"), 404
    room["members"].remove(request.json["name"])
    room["typing"].pop(request.json["name"], None)
    if not room["members"]:
        del rooms[room_id]
    return jsonify(ok=True)


@app.post("/rooms/<room_id>/say")
def say(room_id: str) -> Any:
    room = rooms.setdefault(room_id, {"members": [], "typing": {}, "messages": []})
    name, text = request.json["name"], request.json["text"]
    if name not in room["members"]:
        room["members"].append(name)
    room["typing"][name] = True
    reply = llm(text)
    room["messages"].append({"by": name, "text": text})
    room["messages"].append({"by": "bot", "text": reply})
    room["typing"][name] = False
    return jsonify(reply)


@app.get("/rooms/<room_id>")
def show(room_id: str) -> Any:
    room = rooms.get(room_id)
    return jsonify(room and {**room, "members": sorted(room["members"])})


REQUESTS = [
    ("GET", "/rooms/r", None),
    ("POST", "/rooms/r/join", {"name": "ann"}),
    ("POST", "/rooms/r/join", {"name": "bob"}),
    ("POST", "/rooms/r/join", {"name": "ann"}),
    ("POST", "/rooms/r/say", {"name": "ann", "text": "hello"}),
    ("POST", "/rooms/r/say", {"name": "cid", "text": "hi"}),
    ("POST", "/rooms/r/leave", {"name": "bob"}),
    ("POST", "/rooms/r/leave", {"name": "bob"}),
    ("GET", "/rooms/r", None),
    ("POST", "/rooms/r/leave", {"name": "ann"}),
    ("POST", "/rooms/r/leave", {"name": "cid"}),
    ("GET", "/rooms/r", None),
]
BEFORE = [("POST", "/rooms/s/say", {"name": "zoe", "text": "hello"})]
TOGETHER = [
    ("POST", "/rooms/s/say", {"name": "ann", "text": "one"}),
    ("POST", "/rooms/s/say", {"name": "bob", "text": "two"}),
]
AFTER = [("GET", "/rooms/s", None)]
