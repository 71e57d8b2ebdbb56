"""The examples, run as a user runs them: real processes, real Valkey, real gunicorn."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from examples.chat import replies
from examples.chat.app import create_app

from ..processes import children, is_alive, servers, supervisors, wait_for
from ..servers import free_port

pytestmark = pytest.mark.server

ROOT = Path(__file__).parents[2]


def say(client: Any, session_id: str, text: str) -> str:
    response = client.post(f"/sessions/{session_id}/messages", json={"content": text})
    assert response.status_code == 201, response.text
    return str(response.json["reply"]["content"])


def test_the_chat_talks_and_remembers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replies, "SECONDS_A_WORD", 0)
    client = create_app({"CONVSTORE_URL": "memory://"}).test_client()
    with client.get("/") as page:
        assert page.mimetype == "text/html"
        assert b"<form" in page.data
    session_id = client.post("/sessions").get_json()["session_id"]
    assert "name" in say(client, session_id, "Hello there")
    assert "not told me" in say(client, session_id, "Who am I?")
    assert "Ada" in say(client, session_id, "My name is Ada")
    assert say(client, session_id, "Who am I?") == "You are Ada."
    assert "Hello there" in say(client, session_id, "What have I said so far?")
    assert "number 6" in say(client, session_id, "It rains.")
    assert "rules" in say(client, session_id, "Does it rain?")


@contextlib.contextmanager
def openai_endpoint() -> Iterator[tuple[str, list[Any]]]:
    """An OpenAI-compatible endpoint that keeps what it was asked."""
    asked: list[Any] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append((self.path, self.headers["Authorization"], body))
            self.send_response(200)
            self.end_headers()
            for delta in ({"role": "assistant"}, {"content": "from "}, {"content": "the model"}):
                self.wfile.write(b"data: %b\n\n" % json.dumps({"choices": [{"index": 0, "delta": delta}]}).encode())
            self.wfile.write(b'data: {"choices": [], "usage": {}}\n\ndata: [DONE]\n\n')

        def log_message(self, *arguments: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", asked
    finally:
        server.shutdown()
        server.server_close()


def test_the_chat_asks_a_model_if_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    client = create_app({"CONVSTORE_URL": "memory://"}).test_client()
    session_id = client.post("/sessions").get_json()["session_id"]
    with openai_endpoint() as (url, asked):
        monkeypatch.setenv("OPENAI_BASE_URL", url)
        monkeypatch.setenv("OPENAI_API_KEY", "key")
        assert say(client, session_id, "Hello") == "from the model"
    [(path, authorization, body)] = asked
    assert (path, authorization) == ("/v1/chat/completions", "Bearer key")
    assert body["messages"] == [{"role": "user", "content": "Hello"}]
    assert body["stream"] is True


# ---- the demo, as processes


class Demo:
    """A running ``make demo``, without make. All of them are visited by one browser."""

    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())

    def __init__(self, data: Path, *options: str) -> None:
        self.port = free_port()
        self.data = data
        command = [sys.executable, "-m", "gunicorn", "-c", "examples/gunicorn.py", *options]
        command.append("examples.chat.app:create_app()")
        environment = {**os.environ, "CONVSTORE_URL": f"embedded://{data}", "PORT": str(self.port), "QUIET": "1"}
        self.process = subprocess.Popen(command, cwd=ROOT, env=environment)
        wait_for(lambda: self.process.poll() is not None or self.answers(), "the demo does not come up")

    def answers(self) -> bool:
        with contextlib.suppress(OSError):
            return bool(self.call("GET", "/sessions/health")["connected"])
        return False

    def call(self, method: str, path: str, body: Any = None) -> Any:
        sent = None if body is None else json.dumps(body).encode()
        url = f"http://127.0.0.1:{self.port}{path}"
        asked = urllib.request.Request(url, sent, {"Content-Type": "application/json"}, method=method)
        with self.browser.open(asked, timeout=10) as answer:
            return json.load(answer)

    def end(self, number: int) -> None:
        workers = children(self.process.pid)
        self.process.send_signal(number)
        self.process.wait(20)
        wait_for(lambda: not any(map(is_alive, workers)), "a worker is left behind")

    def wait_until_nothing_is_left(self) -> None:
        wait_for(lambda: not servers(self.data) and not supervisors(self.data), "a process is left behind")


@pytest.mark.skipif(sys.platform != "linux", reason="processes are watched through /proc")
def test_conversations_survive_the_demo_and_no_process_does(tmp_path: Path) -> None:
    session_id = ""
    expected = 0
    for number in (signal.SIGTERM, signal.SIGKILL, signal.SIGINT):
        demo = Demo(tmp_path / "data")
        try:
            if session_id:
                assert demo.call("GET", f"/sessions/{session_id}")["message_count"] == expected
            else:
                session_id = demo.call("POST", "/sessions", {})["session_id"]
            for _ in range(3):
                demo.call("POST", f"/sessions/{session_id}/messages", {"content": "My name is Ada"})
            expected += 6
        finally:
            demo.end(number)
    demo.wait_until_nothing_is_left()


@pytest.mark.skipif(sys.platform != "linux", reason="processes are watched through /proc")
def test_two_demos_on_one_folder_share_it(tmp_path: Path) -> None:
    one, two = Demo(tmp_path / "data"), Demo(tmp_path / "data")
    session_id = one.call("POST", "/sessions", {})["session_id"]
    assert two.call("GET", f"/sessions/{session_id}")["session_id"] == session_id
    for demo in (one, two):
        demo.end(signal.SIGTERM)
    one.wait_until_nothing_is_left()


@pytest.mark.skipif(sys.platform != "linux", reason="processes are watched through /proc")
def test_the_demo_goes_with_what_started_it(tmp_path: Path) -> None:
    """kill -9 of make: the kernel ends gunicorn, and the server follows its last user."""
    port = free_port()
    command = f"CONVSTORE_URL=embedded://{tmp_path} PORT={port} {sys.executable} -m gunicorn -c examples/gunicorn.py"
    make = subprocess.Popen(["sh", "-c", f"{command} 'examples.chat.app:create_app()'; true"], cwd=ROOT)
    [gunicorn] = wait_for(lambda: children(make.pid), "gunicorn is not started")
    wait_for(lambda: len(children(gunicorn)) == 2, "the workers are not started")
    make.kill()
    make.wait()
    wait_for(lambda: not is_alive(gunicorn), "gunicorn is left behind")


# ---- the replay

RECORDED: list[dict[str, Any]] = [
    {
        "session_id": "a",
        "scenario": "plain",
        "history": [
            {"role": "user", "content": "hi", "tool_calls": [{"name": "f", "arguments": "{}"}]},
            {"role": "assistant", "content": "hello 🎉", "results": [1, None]},
            {"role": "user", "content": ""},
        ],
    },
    {
        "session_id": "a",
        "state": {"deep": {"n": 1.5}},
        "history": [
            {"role": "system", "content": "be kind"},
            {"role": "assistant", "content": "first", "id": "own", "metadata": {"x": 1}},
            {"role": "user", "content": "one"},
            {"role": "user", "content": "two"},
            {"role": "tool", "content": "three"},
            {"role": "assistant", "content": "four"},
        ],
    },
    {"session_id": "b", "history": []},
]


def replay(file: Path, data: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "examples.replay.run", "--data", str(data), *options, str(file)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False, env=os.environ)


def test_replay_finds_every_message_and_every_difference(tmp_path: Path) -> None:
    file, data = tmp_path / "recorded.jsonl", tmp_path / "data"
    file.write_text("".join(json.dumps(recorded) + "\n" for recorded in RECORDED))
    assert replay(file, data, "--check-only").returncode != 0, "nothing was played yet"
    for options in ((), ("--check-only",)):
        done = replay(file, data, *options)
        assert (done.returncode, done.stdout) == (0, "3 sessions, 9 messages, 0 differences\n"), done
    changed = json.loads(json.dumps(RECORDED))
    changed[0]["history"][1]["results"] = [1, 0]
    changed[1]["state"] = {}
    changed[2]["history"] = [{"role": "user", "content": "never played"}]
    file.write_text("".join(json.dumps(recorded) + "\n" for recorded in changed))
    done = replay(file, data, "--check-only")
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == "3 sessions, 9 messages, 3 differences"
