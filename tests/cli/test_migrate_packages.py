"""``migrate`` takes over what Flask-Session and langchain-community themselves have written, in environments of their own.

Packages come from the package index that pip is set up for. Without an index the test is skipped.
"""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from flask_convstore import ANY, ConversationStore

from ..servers import Server
from .commands import lines, run

FLASK_SESSION = """
import json, sys
import redis
from flask import Flask, session
from flask_session import Session

app = Flask("old")
app.config.update(SESSION_TYPE="redis", SESSION_REDIS=redis.from_url(sys.argv[1]))
Session(app)

@app.post("/")
def chat():
    session.setdefault("history", []).extend([{"role": "user", "content": f"é {len(session['history'])}"}, {"n": 2**40}])
    session["facts"] = {"a": [1.5, None, True], "b": -300}
    return dict(session)

for _ in range(20):
    client = app.test_client()
    for _ in range(20):
        answer = client.post("/").json
    sid = client.get_cookie("session").value
    print(json.dumps([sid, {name: value for name, value in answer.items() if not name.startswith("_")}]))
"""

LANGCHAIN = """
import json, sys
from langchain_community.chat_message_histories import RedisChatMessageHistory
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage

for number in range(20):
    history = RedisChatMessageHistory(f"chat {number}", url=sys.argv[1], ttl=600)
    history.add_message(SystemMessage("be kind"))
    history.add_user_message(f"é {number}")
    history.add_message(AIMessage("", tool_calls=[{"name": "f", "args": {"x": number}, "id": "c"}]))
    history.add_message(ToolMessage("42", tool_call_id="c"))
    history.add_ai_message("done")
    said = [[message.type, message.content] for message in history.messages]
    print(json.dumps([f"chat {number}", said]))
"""


def written_by(tmp_path: Path, code: str, url: str, *packages: str) -> list[Any]:
    """Run *code* where *packages* are installed. Give what it prints, a JSON value a line."""
    folder = tmp_path / "venv"
    venv.create(folder, with_pip=True)
    python = str(folder / "bin" / "python")
    install = [python, "-m", "pip", "install", "--quiet", "--retries", "0", "--timeout", "20", *packages]
    done = subprocess.run(install, check=False, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"the packages cannot be installed: {done.stderr.strip().splitlines()[-1]}")
    ran = subprocess.run(
        [python, "-W", "ignore", "-c", code, url], check=True, capture_output=True, text=True, cwd=tmp_path
    )
    return [json.loads(line) for line in ran.stdout.splitlines()]


def sessions(url: str, ids: list[str]) -> dict[str, Any]:
    app = Flask("new")
    app.config.update(CONVSTORE_URL=url, CONVSTORE_FALLBACK="none")
    store = ConversationStore(app)
    with app.app_context():
        return {name: store.get_session(name, owner=ANY) for name in ids}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="the folders of an environment have other names")
def test_sessions_that_flask_session_has_written(valkey: Server, tmp_path: Path) -> None:
    said = dict(written_by(tmp_path, FLASK_SESSION, valkey.url, "Flask-Session[redis]==0.8.0", "msgspec==0.23.0"))
    assert len(said) == 20
    assert lines(run(valkey.url, "migrate", "flask-session", "--json"))[0]["new"] == 20
    found = sessions(valkey.url, list(said))
    assert found == said
    assert all(len(session["history"]) == 40 for session in found.values())


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="the folders of an environment have other names")
def test_histories_that_langchain_community_has_written(valkey: Server, tmp_path: Path) -> None:
    packages = ("langchain-community==0.3.31", "langchain-core==0.3.86", "redis==6.4.0")
    said = dict(written_by(tmp_path, LANGCHAIN, valkey.url, *packages))
    assert len(said) == 20
    assert lines(run(valkey.url, "migrate", "langchain", "--json"))[0]["new"] == 20
    roles = {"human": "user", "ai": "assistant"}
    for name, session in sessions(valkey.url, list(said)).items():
        assert [[message["role"], message["content"]] for message in session["history"]] == [
            [roles.get(kind, kind), content] for kind, content in said[name]
        ]
        number = int(name.split()[1])
        assert json.loads(session["history"][2]["tool_calls"][0]["function"]["arguments"]) == {"x": number}
