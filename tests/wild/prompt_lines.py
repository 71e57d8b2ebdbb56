"""From the days of completion models: the history is lines of text, joined into the prompt."""

from typing import Any

from flask import Flask, request

app = Flask(__name__)
memory: dict[str, list[str]] = {}  # convstore: convstore.sessions


def llm(prompt: str) -> str:
    return f"I read {len(prompt.splitlines())} lines"


@app.route("/bot/<name>", methods=["POST"])
def bot(name: str) -> Any:
    if name not in memory:
        memory[name] = ["The following is a friendly conversation."]
    lines = memory[name]
    lines += ["User: " + request.json["say"]]
    lines.append("AI: " + llm("\n".join(lines)))
    if len(lines) > 7:
        del lines[1:3]
    return "\n".join(memory[name])


@app.post("/bot/<name>/undo")
def undo(name: str) -> Any:
    if name not in memory or len(memory[name]) < 3:
        return "Nothing to undo", 409
    del memory[name][-2:]
    return "\n".join(memory[name])


@app.post("/bot/<name>/retry")
def retry(name: str) -> Any:
    memory[name].pop()
    memory[name].append("AI: let me think again, " + llm("\n".join(memory[name])))
    return memory[name][-1]


@app.post("/bot/<name>/summary")
def summary(name: str) -> Any:
    memory[name] = [f"Summary: {len(memory[name])} lines", *memory[name][-2:]]
    return " / ".join(reversed(memory[name]))


REQUESTS = [
    ("POST", "/bot/default", {"say": "hi"}),
    ("POST", "/bot/default", {"say": "hi"}),
    ("POST", "/bot/default", {"say": "hi"}),
    ("POST", "/bot/default", {"say": "hi"}),
    ("POST", "/bot/default/undo", None),
    ("POST", "/bot/other/undo", None),
    ("POST", "/bot/default/retry", None),
    ("POST", "/bot/other/retry", None),
    ("POST", "/bot/default", {"say": "two\nlines"}),
    ("POST", "/bot/default/retry", None),
    ("POST", "/bot/default/summary", None),
    ("POST", "/bot/default/undo", None),
    ("POST", "/bot/default/undo", None),
    ("POST", "/bot/default", {"say": "bye"}),
    ("POST", "/bot/other", {"say": "hello"}),
]
