"""Chat by Socket.IO: the handlers of events share the dict with the views, and acknowledge with the reply."""

from typing import Any

from flask import Flask, jsonify
from flask_socketio import SocketIO, emit

app = Flask(__name__)
socketio = SocketIO(app, async_mode="threading")
rooms: dict[str, Any] = {}  # convstore: ConversationStore(app).sessions


def llm(text: str) -> str:
    return f"reply to {text}"


@socketio.on("join")
def on_join(data: dict[str, Any]) -> Any:
    room = rooms.setdefault(data["room"], {"users": [], "messages": []})
    if data["user"] not in room["users"]:
        room["users"].append(data["user"])
    emit("joined", {"user": data["user"]})
    return room["users"]


@socketio.on("message")
def on_message(data: dict[str, Any]) -> Any:
    if data["room"] not in rooms:
        return {"error": "join first"}
    room = rooms[data["room"]]
    room["messages"].append({"role": "user", "content": data["text"]})
    reply = llm(data["text"])
    room["messages"].append({"role": "assistant", "content": reply})
    emit("reply", {"content": reply})
    return {"count": len(room["messages"])}


@socketio.on("leave")
def on_leave(data: dict[str, Any]) -> Any:
    rooms[data["room"]]["users"].remove(data["user"])
    return rooms[data["room"]]["users"]


@app.get("/rooms/<room>")
def show(room: str) -> Any:
    return jsonify(rooms.get(room))


@app.delete("/rooms/<room>")
def close(room: str) -> Any:
    return jsonify(rooms.pop(room, None))


REQUESTS = [
    ("EMIT", "message", {"room": "r", "text": "early"}),
    ("EMIT", "join", {"room": "r", "user": "ann"}),
    ("EMIT", "join", {"room": "r", "user": "bob"}),
    ("EMIT", "message", {"room": "r", "text": "hello"}),
    ("GET", "/rooms/r", None),
    ("EMIT", "leave", {"room": "r", "user": "ann"}),
    ("EMIT", "message", {"room": "r", "text": "again"}),
    ("GET", "/rooms/r", None),
    ("DELETE", "/rooms/r", None),
    ("EMIT", "join", {"room": "r", "user": "cid"}),
    ("GET", "/rooms/r", None),
]
BEFORE = [("EMIT", "join", {"room": "s", "user": "ann"})]
TOGETHER = [
    ("EMIT", "message", {"room": "s", "text": "one"}),
    ("EMIT", "message", {"room": "s", "text": "two"}),
]
AFTER = [("GET", "/rooms/s", None)]
