"""Sessions that expire by age, with a second dict for the timestamps and a sweep before each request."""

from typing import Any

from flask import Flask, jsonify, request

app = Flask(__name__)
SESSION_TIMEOUT = 30
conversations: dict[str, list[Any]] = {}  # convstore: convstore.mapping("conversations")
last_active: dict[str, float] = {}  # convstore: convstore.mapping("last_active")


@app.before_request
def cleanup_old_sessions() -> None:
    now = request.args.get("now", type=float)
    if now is None:
        return
    for session_id in list(last_active):
        if now - last_active[session_id] > SESSION_TIMEOUT:
            conversations.pop(session_id, None)
            del last_active[session_id]


@app.post("/chat/<session_id>")
def chat(session_id: str) -> Any:
    is_new = session_id not in conversations
    if is_new:
        conversations[session_id] = []
    history = conversations[session_id]
    history.append(request.json["message"])
    last_active[session_id] = float(request.args["now"])
    return jsonify(new=is_new, history=history)


@app.get("/sessions")
def sessions() -> Any:
    return jsonify(
        {sid: {"messages": len(messages), "last": last_active[sid]} for sid, messages in conversations.items()}
    )


@app.get("/stats")
def stats() -> Any:
    newest = max(last_active.values(), default=0)
    oldest = min(last_active, key=lambda sid: last_active[sid]) if last_active else None
    return {"total": sum(len(history) for history in conversations.values()), "newest": newest, "oldest": oldest}


REQUESTS = [
    ("GET", "/stats", None),
    ("GET", "/sessions", None),
    ("POST", "/chat/a?now=100", {"message": "1"}),
    ("POST", "/chat/b?now=110.5", {"message": "2"}),
    ("POST", "/chat/a?now=120", {"message": "3"}),
    ("GET", "/stats", None),
    ("POST", "/chat/c?now=141", {"message": "4"}),
    ("GET", "/sessions", None),
    ("POST", "/chat/b?now=142", {"message": "5"}),
    ("GET", "/sessions?now=150", None),
    ("GET", "/stats", None),
    ("GET", "/sessions?now=171.5", None),
    ("POST", "/chat/c?now=173", {"message": "6"}),
    ("GET", "/sessions?now=173", None),
    ("GET", "/sessions?now=999", None),
    ("GET", "/stats?now=1000", None),
    ("POST", "/chat/a?now=1001", {"message": "7"}),
    ("GET", "/sessions", None),
]
