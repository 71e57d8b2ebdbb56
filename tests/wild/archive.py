"""An application factory. Chats are forked, renamed and moved to an archive, and a failed turn is taken back."""

import copy
from typing import Any

from flask import Flask, jsonify, request


def llm(messages: list[Any]) -> str:
    if messages[-1]["content"] == "crash":
        raise TimeoutError("the model does not answer")
    return f"answer {len(messages)}"


def create_app() -> Flask:
    app = Flask(__name__)
    chats: dict[str, list[Any]] = {}  # convstore: convstore.mapping("chats")
    archive: dict[str, Any] = {}  # convstore: convstore.mapping("archive")

    @app.post("/chats/<name>")
    def say(name: str) -> Any:
        chats[name] = [*chats.get(name, []), {"role": "user", "content": request.json["text"]}]
        try:
            reply = llm(chats[name])
        except TimeoutError as error:
            chats[name].pop()
            return jsonify(error=str(error), messages=len(chats[name])), 502
        chats[name] = chats[name] + [{"role": "assistant", "content": reply}]
        return jsonify(chats[name])

    @app.post("/chats/<name>/<action>/<other>")
    def act(name: str, action: str, other: str) -> Any:
        if name not in chats:
            return jsonify(error=f"no chat {name}"), 404
        if action == "fork":
            chats[other] = copy.deepcopy(chats[name])
            chats[other][0]["content"] += " (fork)"
        elif action == "copy":
            chats[other] = chats[name].copy()
        elif action == "rename":
            chats[other] = chats.pop(name)
        elif action == "archive":
            archive[other] = {"was": name, "history": chats.pop(name)}
        return jsonify(chats=sorted(chats), archive=sorted(archive))

    @app.post("/archive/<name>/restore")
    def restore(name: str) -> Any:
        if name not in archive:
            return jsonify(error="not archived"), 404
        found = archive.pop(name)
        chats.setdefault(found["was"], []).extend(found["history"])
        return jsonify(chats[found["was"]])

    return app


app = create_app()

REQUESTS = [
    ("POST", "/chats/a", {"text": "hi"}),
    ("POST", "/chats/a", {"text": "crash"}),
    ("POST", "/chats/a/fork/b", None),
    ("POST", "/chats/b", {"text": "in the fork"}),
    ("POST", "/chats/a", {"text": "not in the fork"}),
    ("POST", "/chats/a/copy/c", None),
    ("POST", "/chats/c", {"text": "in the copy"}),
    ("POST", "/chats/z/rename/y", None),
    ("POST", "/chats/b/rename/d", None),
    ("POST", "/chats/d", {"text": "renamed"}),
    ("POST", "/chats/new", {"text": "crash"}),
    ("POST", "/chats/a/archive/old", None),
    ("POST", "/chats/c/archive/older", None),
    ("POST", "/chats/c", {"text": "fresh"}),
    ("POST", "/archive/older/restore", None),
    ("POST", "/archive/older/restore", None),
    ("POST", "/archive/old/restore", None),
    ("POST", "/chats/a", {"text": "back again"}),
]
