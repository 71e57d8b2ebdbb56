"""A stream within the request's context: the reply grows in the history while it is sent."""

from collections.abc import Iterator
from typing import Any

from flask import Flask, jsonify, request, stream_with_context

app = Flask(__name__)
history: dict[str, list[Any]] = {}  # convstore: convstore.mapping("history")
usage: dict[str, int] = {}  # convstore: convstore.mapping("usage")


def model(prompt: str) -> Iterator[str]:
    yield from (f"{letter}-" for letter in prompt.upper())


@app.post("/api/<chat_id>")
def api(chat_id: str) -> Any:
    prompt = request.get_json()["prompt"]
    if chat_id not in history:
        history[chat_id] = [{"role": "system", "content": "Spell."}]
    history[chat_id].append({"role": "user", "content": prompt})
    history[chat_id].append({"role": "assistant", "content": ""})

    def reply() -> Iterator[str]:
        for token in model(prompt):
            history[chat_id][-1]["content"] += token
            usage[chat_id] = usage.get(chat_id, 0) + 1
            yield token
        if len(history[chat_id]) > 5:
            history[chat_id] = history[chat_id][:1] + history[chat_id][-4:]
        yield f" [{request.get_json()['prompt']}]"

    return stream_with_context(reply()), {"Content-Type": "text/plain"}


@app.get("/api/<chat_id>")
def show(chat_id: str) -> Any:
    return jsonify(messages=history.get(chat_id, []), tokens=usage.get(chat_id, 0), chats=sorted(history))


REQUESTS = [
    ("GET", "/api/a", None),
    ("POST", "/api/a", {"prompt": "cat"}),
    ("GET", "/api/a", None),
    ("POST", "/api/a", {"prompt": "doggy"}),
    ("POST", "/api/b", {"prompt": "x"}),
    ("GET", "/api/a", None),
    ("POST", "/api/a", {"prompt": "emu"}),
    ("GET", "/api/a", None),
    ("POST", "/api/a", {"prompt": ""}),
    ("GET", "/api/a", None),
    ("POST", "/api/b", {"prompt": "y"}),
    ("GET", "/api/b", None),
]
