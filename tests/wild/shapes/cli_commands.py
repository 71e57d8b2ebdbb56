"""Commands of Flask's prune, count and import conversations, beside the views."""

from typing import Any

import click
from flask import Flask, jsonify, request

app = Flask(__name__)
chat_sessions: dict[str, Any] = {}  # convstore: ConversationStore(app).sessions


def llm(text: str) -> str:
    return f"reply to {text}"


@app.post("/<sid>")
def chat(sid: str) -> Any:
    text = request.json["text"]
    session = chat_sessions.setdefault(sid, {"history": [], "flags": []})
    session["history"].append({"role": "user", "content": text})
    session["history"].append({"role": "assistant", "content": llm(text)})
    return jsonify(session["history"][-1])


@app.get("/<sid>")
def show(sid: str) -> Any:
    return jsonify(chat_sessions.get(sid))


@app.cli.command("flag")
@click.argument("sid")
@click.argument("text")
def flag(sid: str, text: str) -> None:
    session = chat_sessions[sid]
    session["history"].append({"role": "system", "content": llm(text)})
    session["flags"].append(text)
    click.echo(f"{len(session['flags'])} flags")


@app.cli.command("prune")
@click.option("--longer-than", type=int, required=True)
def prune(longer_than: int) -> None:
    for sid, session in sorted(chat_sessions.items()):
        if len(session["history"]) > longer_than:
            del chat_sessions[sid]
            click.echo(f"removed {sid}")
    click.echo(f"{len(chat_sessions)} left")


@app.cli.command("fail")
def fail() -> None:
    raise click.ClickException("no such thing")


REQUESTS = [
    ("RUN", "prune --longer-than 0", None),
    ("POST", "/a", {"text": "hello"}),
    ("POST", "/a", {"text": "again"}),
    ("POST", "/b", {"text": "hello"}),
    ("RUN", "flag b rude", None),
    ("RUN", "fail", None),
    ("GET", "/b", None),
    ("RUN", "prune --longer-than 3", None),
    ("GET", "/a", None),
    ("GET", "/b", None),
]
BEFORE = [("POST", "/s", {"text": "hello"})]
TOGETHER = [("POST", "/s", {"text": "one"}), ("RUN", "flag s two", None)]
AFTER = [("GET", "/s", None)]
ONLY_BEGUN = True
