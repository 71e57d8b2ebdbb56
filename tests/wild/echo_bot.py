"""The first chat app of everybody: a dict of lists, ids of the client's choice."""

from typing import Any

from flask import Flask, jsonify, request

app = Flask(__name__)
conversations: dict[str, list[Any]] = {}  # convstore: convstore.sessions


@app.post("/chat")
def chat() -> Any:
    data = request.get_json()
    session_id = data.get("session_id", "default")
    if session_id not in conversations:
        conversations[session_id] = []
    conversations[session_id].append({"role": "user", "content": data["message"]})
    reply = f"You said: {data['message']}"
    conversations[session_id].append({"role": "assistant", "content": reply})
    return jsonify({"response": reply, "turns": len(conversations[session_id]) // 2})


@app.get("/history/<session_id>")
def history(session_id: str) -> Any:
    if session_id not in conversations:
        return jsonify({"error": "Session not found"}), 404
    return jsonify(conversations[session_id])


@app.post("/reset")
def reset() -> Any:
    session_id = request.get_json().get("session_id", "default")
    conversations[session_id] = []
    return jsonify({"status": "reset"})


@app.get("/health")
def health() -> Any:
    return {"status": "ok", "active_sessions": len(conversations), "sessions": sorted(conversations)}


REQUESTS = [
    ("GET", "/history/default", None),
    ("POST", "/chat", {"message": "hi"}),
    ("POST", "/chat", {"message": "hi"}),
    ("POST", "/chat", {"message": "are you up?", "session_id": "health"}),
    ("POST", "/chat", {"message": "héllo ☃", "session_id": "Zoë's phone / 2"}),
    ("POST", "/chat", {"message": "", "session_id": ""}),
    ("GET", "/health", None),
    ("POST", "/chat", {"message": "hi"}),
    ("GET", "/history/default", None),
    ("GET", "/history/health", None),
    ("POST", "/reset", {}),
    ("GET", "/history/default", None),
    ("POST", "/chat", {"message": "again"}),
    ("POST", "/reset", {"session_id": "never seen"}),
    ("GET", "/history/never seen", None),
    ("GET", "/history/default", None),
    ("GET", "/history/nobody", None),
    ("GET", "/health", None),
]
