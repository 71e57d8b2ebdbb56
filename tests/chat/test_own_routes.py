"""Routes of an app's own on the same conversations."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from flask import Flask

from examples.chat.own_routes import create_app

ROOT = Path(__file__).parents[2]
ADA, BOB = {"X-User": "ada"}, {"X-User": "bob"}


@pytest.fixture
def app(url: str) -> Flask:
    return create_app({"CONVSTORE_URL": url})


def test_a_conversation_is_begun_read_and_deleted(app: Flask) -> None:
    client = app.test_client()
    begun = client.post("/api/conversations", json={"topic": "tea"}, headers=ADA)
    assert begun.status_code == 201
    path = f"/api/conversations/{begun.json['id']}"  # type: ignore[index]
    said = client.post(f"{path}/messages", json={"content": "My name is Ada"}, headers={**ADA, "Idempotency-Key": "1"})
    again = client.post(f"{path}/messages", json={"content": "My name is Ada"}, headers={**ADA, "Idempotency-Key": "1"})
    assert said.status_code == 201
    assert "Nice to meet you, Ada." in said.text
    assert again.json == said.json
    read = client.get(path, headers=ADA).get_json()
    assert [message["role"] for message in read["messages"]] == ["user", "assistant"]
    listed = client.get("/api/conversations", headers=ADA).get_json()
    assert listed == {"conversations": [{"id": begun.json["id"], "title": "My name is Ada"}], "next": None}  # type: ignore[index]
    assert client.delete(path, headers=BOB).status_code == 404
    assert client.delete(path, headers=ADA).status_code == 204
    assert client.get(path, headers=ADA).status_code == 404


def test_somebody_else_sees_nothing(app: Flask) -> None:
    client = app.test_client()
    path = f"/api/conversations/{client.post('/api/conversations', json={}, headers=ADA).get_json()['id']}"
    assert client.get(path, headers=BOB).status_code == 404
    said = client.post(f"{path}/messages", json={"content": "hi"}, headers=BOB)
    assert (said.status_code, said.mimetype) == (404, "application/problem+json")
    assert client.get("/api/conversations", headers=BOB).get_json()["conversations"] == []


def test_the_readme_shows_the_routes() -> None:
    readme = (ROOT / "examples" / "chat" / "README.md").read_text("utf-8")
    told = re.findall(r"^\| `(\w+ /api/[^`]*)` \|", readme, re.M)
    app = create_app({"CONVSTORE_URL": "memory://"})
    served = [
        f"{method} {rule.rule.replace('<session_id>', '<id>')}"
        for rule in app.url_map.iter_rules()
        if rule.rule.startswith("/api/")
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"})
    ]
    assert sorted(told) == sorted(served)
