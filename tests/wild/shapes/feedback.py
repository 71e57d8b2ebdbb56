"""Messages have ids, feedback is written into a message that is there, and a reply can be made again."""

from typing import Any

from flask import Flask, jsonify, request

app = Flask(__name__)
chats: dict[str, dict[str, Any]] = {}  # convstore: ConversationStore(app).sessions


def llm(text: str, messages: list[Any]) -> str:
    return f"reply to {text}"


def chat_of(sid: str) -> dict[str, Any]:
    return chats.setdefault(sid, {"messages": [], "votes": {"up": 0, "down": 0}, "settings": {"tone": "kind"}})


@app.post("/chat/<sid>")
def say(sid: str) -> Any:
    chat = chat_of(sid)
    text = request.json["text"]
    reply = llm(text, chat["messages"])
    vote = request.json.get("vote")
    if vote is not None and chat["messages"]:
        chat["messages"][vote]["feedback"] = f"as {text} said"
        chat["votes"]["up"] += 1
    chat["messages"].append({"id": f"m-{text}", "text": text, "reply": reply, "feedback": None})
    chat["settings"].update(request.json.get("settings", {}))
    return jsonify(reply=reply)


@app.post("/chat/<sid>/again")
def again(sid: str) -> Any:
    last = chat_of(sid)["messages"].pop()
    last["reply"] = f"another {llm(last['text'], [])}"
    chat_of(sid)["messages"].append(last)
    return jsonify(reply=last["reply"])


@app.get("/chat/<sid>")
def show(sid: str) -> Any:
    return jsonify(chats.get(sid, {}))


REQUESTS = [
    ("GET", "/chat/a", None),
    ("POST", "/chat/a", {"text": "hello"}),
    ("POST", "/chat/a", {"text": "more", "vote": 0}),
    ("POST", "/chat/a", {"text": "short", "settings": {"length": 10}}),
    ("GET", "/chat/a", None),
    ("POST", "/chat/a/again", None),
    ("GET", "/chat/a", None),
    ("POST", "/chat/b", {"text": "hello", "settings": {"tone": "cool"}}),
    ("GET", "/chat/b", None),
]
BEFORE = [("POST", "/chat/s", {"text": "hello"}), ("POST", "/chat/s", {"text": "more"})]
TOGETHER = [
    ("POST", "/chat/s", {"text": "one", "vote": 0, "settings": {"length": 5}}),
    ("POST", "/chat/s", {"text": "two", "vote": 1, "settings": {"language": "de"}}),
]
ONLY_BEGUN = True
AFTER = [("GET", "/chat/s", None)]
