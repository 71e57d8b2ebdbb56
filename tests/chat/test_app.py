"""The chat's own routes: the page, signing in, and the key of its cookies."""

from __future__ import annotations

import multiprocessing
import os
import stat
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from examples.chat.app import convstore, create_app, secret_key
from flask_convstore import ANY


@pytest.fixture
def client(tmp_path: Path) -> FlaskClient:
    return create_app({"CONVSTORE_URL": "memory://"}, str(tmp_path)).test_client()


def test_every_conversation_has_the_same_page(client: FlaskClient) -> None:
    one, other = client.get("/"), client.get("/c/0b9f")
    assert one.data == other.data
    assert b"<script>" not in one.data
    assert b"style=" not in one.data
    assert b" onclick" not in one.data
    assert one.headers["Cache-Control"] == "no-cache"


@pytest.mark.parametrize("name", ["", "   "])
def test_without_a_name_the_page_comes_again(client: FlaskClient, name: str) -> None:
    answer = client.post("/login", data={"name": name})
    assert (answer.status_code, answer.location) == (302, "/")
    assert b'data-name=""' in client.get("/").data


@pytest.mark.parametrize("path", ["/login", "/logout"])
def test_another_site_signs_nobody_in_or_out(client: FlaskClient, path: str) -> None:
    foreign = client.post(path, data={"name": "Eve"}, headers={"Sec-Fetch-Site": "cross-site"})
    assert foreign.status_code == 400
    assert "Set-Cookie" not in foreign.headers


def test_a_name_is_another_owner_than_the_browser(client: FlaskClient) -> None:
    session_id = client.post("/sessions", json={}).get_json()["session_id"]
    client.post("/login", data={"name": "  Ada   Lovelace "})
    assert b'data-name="Ada Lovelace"' in client.get("/").data
    assert client.get(f"/sessions/{session_id}").status_code == 404
    client.post("/logout")
    assert client.get(f"/sessions/{session_id}").status_code == 200


def test_the_lease_is_told_to_the_owner(client: FlaskClient) -> None:
    session_id = client.post("/sessions", json={}).get_json()["session_id"]
    assert client.get(f"/lease/{session_id}").get_json() == {}
    with convstore.on(client.application).turn(session_id, "Hello", owner=ANY) as turn:
        told = client.get(f"/lease/{session_id}").get_json()
        assert set(told) == {"holder", "remaining_ms"}
        turn.reply("Hi")
    assert client.get(f"/lease/{session_id}").get_json() == {}
    client.post("/login", data={"name": "Eve"})
    answer = client.get(f"/lease/{session_id}")
    assert (answer.status_code, answer.mimetype) == (404, "application/problem+json")


def test_a_name_is_shown_as_text(client: FlaskClient) -> None:
    client.post("/login", data={"name": '"><script>alert(1)</script>'})
    assert b"<script>alert" not in client.get("/").data


def test_the_key_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SECRET_KEY", raising=False)
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        keys = set(pool.map(secret_key, [tmp_path] * 8))
    assert len(keys) == 1
    assert len(keys.pop()) == 64
    assert [file.name for file in tmp_path.iterdir()] == ["secret_key"]
    assert stat.S_IMODE(os.stat(tmp_path / "secret_key").st_mode) == 0o600
    monkeypatch.setenv("SECRET_KEY", "told")
    assert secret_key(tmp_path) == "told"
