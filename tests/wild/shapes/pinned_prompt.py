"""The system prompt stays at index 0 while old messages are trimmed away, and its text is set anew with the persona."""

from typing import Any

from flask import Flask, jsonify, request

app = Flask(__name__)
histories: dict[str, list[Any]] = {}  # convstore: ConversationStore(app).sessions

KEEP = 12


def llm(text: str, messages: list[Any]) -> str:
    return f"reply to {text}"


def prompt(persona: str) -> dict[str, str]:
    return {"role": "system", "content": f"You are {persona}."}


def history_of(sid: str) -> list[Any]:
    return histories.setdefault(sid, [prompt("kind")])


def trim(history: list[Any]) -> None:
    if len(history) > KEEP + 1:
        del history[1 : len(history) - KEEP]


@app.post("/<sid>")
def chat(sid: str) -> Any:
    history = history_of(sid)
    text = request.json["text"]
    history.append({"role": "user", "content": text})
    trim(history)
    reply = llm(text, history)
    history.append({"role": "assistant", "content": reply})
    trim(history)
    return jsonify(reply=reply, prompt=history[0]["content"])


@app.put("/<sid>/persona")
def set_persona(sid: str) -> Any:
    history_of(sid)[0] = prompt(request.json["persona"])
    return jsonify(history_of(sid)[:1])


@app.get("/<sid>")
def show(sid: str) -> Any:
    return jsonify(histories.get(sid))


REQUESTS = [
    ("GET", "/a", None),
    ("PUT", "/a/persona", {"persona": "rude"}),
    *[("POST", "/a", {"text": f"text {number}"}) for number in range(8)],
    ("GET", "/a", None),
    ("PUT", "/a/persona", {"persona": "kind"}),
    ("POST", "/a", {"text": "last"}),
    ("GET", "/a", None),
]
BEFORE = [("POST", "/s", {"text": f"text {number}"}) for number in range(6)]
TOGETHER = [("POST", "/s", {"text": "one"}), ("POST", "/s", {"text": "two"})]
AFTER = [("GET", "/s", None)]
