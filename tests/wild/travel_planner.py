"""A planner that fills a profile: a dict for each session, changed in every way that a dict can be changed."""

from typing import Any

from flask import Flask, jsonify, request

app = Flask(__name__)
sessions: dict[str, dict[str, Any]] = {}  # convstore: convstore.sessions


def new_session() -> dict[str, Any]:
    return {"history": [], "profile": {"name": None, "likes": []}, "count": 0, "draft": None}


@app.post("/plan/<sid>")
def plan(sid: str) -> Any:
    session = sessions.setdefault(sid, new_session())
    text = request.json["text"]
    session["count"] += 1
    session["history"].append({"role": "user", "content": text})
    if text.startswith("I am "):
        sessions[sid]["profile"]["name"] = text.removeprefix("I am ")
    elif text.startswith("I like "):
        session["profile"].setdefault("likes", []).append(text.removeprefix("I like "))
    elif text.startswith("Go to "):
        session.update(draft={"to": text.removeprefix("Go to "), "days": [1, 2]}, stage="planning")
        session["draft"]["days"] += [3]
    elif text == "Book it":
        session |= {"booked": session["draft"], "stage": "booked"}
        del session["draft"]
    elif text == "Forget me":
        session["profile"].clear()
        sessions[sid].pop("booked", None)
    session["history"].append({"role": "assistant", "content": f"Noted ({session['count']})."})
    return jsonify(session)


@app.get("/plan/<sid>/profile")
def profile(sid: str) -> Any:
    if sid in sessions:
        return jsonify(sessions[sid]["profile"])
    return jsonify(error=f"no session {sid}"), 404


REQUESTS = [
    ("POST", "/plan/s1", {"text": "I am Ada"}),
    ("POST", "/plan/s1", {"text": "I like trains"}),
    ("POST", "/plan/s2", {"text": "I like hills"}),
    ("POST", "/plan/s1", {"text": "Go to Oslo"}),
    ("GET", "/plan/s1/profile", None),
    ("GET", "/plan/s3/profile", None),
    ("POST", "/plan/s1", {"text": "I like fjords"}),
    ("POST", "/plan/s1", {"text": "Book it"}),
    ("GET", "/plan/s1/profile", None),
    ("POST", "/plan/s2", {"text": "I am Bo"}),
    ("POST", "/plan/s1", {"text": "Forget me"}),
    ("POST", "/plan/s1", {"text": "I like quiet"}),
    ("GET", "/plan/s2/profile", None),
]
