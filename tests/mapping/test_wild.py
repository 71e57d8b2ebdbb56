"""Twenty chat apps give the same answers on convstore as on dicts, also from two workers and after a restart.

The apps are in ``wild/``. Each is run as written, and again with other lines where its dicts are made. Such a line assigns
what its comment ``# convstore: …`` says. One more line after ``app = Flask(…)`` makes the ``ConversationStore``, with a
prefix for each app. See ``wild/__init__.py``.
"""

from __future__ import annotations

import contextlib
import difflib
import http.client
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest

from ..processes import wait_for
from ..servers import Server, free_port
from ..wild import NAMES, SETUP, module_of, moved, source_of

ROOT = Path(__file__).parents[2]
CLIENTS = 4

Request = tuple[str, str, Any]


class Answer(NamedTuple):
    """An answer as a client sees it. JSON is parsed, since the order of keys does not count."""

    status: int
    body: Any


def answer_of(status: int, content_type: str, body: bytes) -> Answer:
    return Answer(status, json.loads(body) if content_type == "application/json" else body.decode())


def requests_of(name: str) -> list[Request]:
    requests: list[Request] = module_of(name).REQUESTS
    return requests


def in_process(name: str, url: str | None = None, source: str | None = None) -> list[Answer]:
    """Send the requests of an app through the test client."""
    module = module_of(name, url, source)
    client = module.app.test_client()
    answers = []
    for method, path, body in module.REQUESTS:
        with client.open(path, method=method, json=body) as response:
            answers.append(answer_of(response.status_code, response.content_type, response.get_data()))
    return answers


def differences(name: str, expected: list[Answer], found: list[Answer]) -> list[str]:
    """Describe each request with another answer."""
    return [
        f"{name} request {number} {request}: on a dict {was}, on convstore {now}"
        for number, (request, was, now) in enumerate(zip(requests_of(name), expected, found, strict=True))
        if was != now
    ]


# ---- the apps


def test_there_are_twenty() -> None:
    assert len(NAMES) == 20


@pytest.mark.parametrize("name", NAMES)
def test_only_the_lines_that_make_dicts_differ(name: str) -> None:
    source = source_of(name)
    marked = [line for line in source.splitlines() if "# convstore: " in line]
    compared = list(difflib.ndiff(source.splitlines(), moved(source).splitlines()))
    assert [line[2:] for line in compared if line[0] == "-"] == marked
    replaced = [f"{line.split(' = ')[0]} = {line.split('# convstore: ')[1]}" for line in marked]
    added = [line[2:] for line in compared if line[0] == "+"]
    assert [line.strip() for line in added if line not in replaced] == [SETUP]
    assert len(added) == len(replaced) + 1
    assert marked
    assert sum("convstore" in line for line in source.splitlines()) == len(marked)


@pytest.mark.parametrize("name", NAMES)
def test_requests_are_a_good_exercise(name: str) -> None:
    """There are 8 to 20. A second run on dicts gives the same answers, so nothing depends on time or chance."""
    answers = in_process(name)
    assert 8 <= len(answers) <= 20
    assert any(answer.status < 300 for answer in answers)
    assert in_process(name) == answers


# ---- in this process


@pytest.mark.parametrize("name", NAMES)
def test_the_same_answers(name: str) -> None:
    assert differences(name, in_process(name), in_process(name, "memory://")) == []


# ---- from two workers, with a restart in the middle


class Workers:
    """gunicorn with two workers, and the processes that have answered so far."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.seen: set[str] = set()

    def call(self, method: str, path: str, body: Any = None) -> Answer:
        """Send a request over a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        headers = {} if body is None else {"Content-Type": "application/json"}
        try:
            sent = None if body is None else json.dumps(body)
            connection.request(method, quote(path, safe="/?=&"), sent, {**headers, "Connection": "close"})
            response = connection.getresponse()
            answer = answer_of(response.status, response.getheader("Content-Type", ""), response.read())
            self.seen.add(response.headers["X-Worker"])
            return answer
        finally:
            connection.close()

    def play(self, name: str, requests: list[Request]) -> list[Answer]:
        return [self.call(method, f"/{name}{path}", body) for method, path, body in requests]

    def are_ready(self) -> bool:
        with contextlib.suppress(OSError):
            self.call("GET", "/")
        return len(self.seen) == 2


@contextlib.contextmanager
def serving(server: Server, apps: str = "tests.wild:create_app()") -> Iterator[Workers]:
    """Serve *apps* by gunicorn. Both workers answer already."""
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "--workers", "2", "--log-level", "critical"]
    command += ["--bind", f"127.0.0.1:{port}", apps]
    process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "CONVSTORE_URL": server.url})
    workers = Workers(port)
    try:
        wait_for(lambda: process.poll() is not None or workers.are_ready(), "the apps do not come up")
        workers.seen.clear()
        yield workers
    finally:
        process.terminate()
        process.wait(60)


def test_the_same_answers_from_two_workers_and_after_a_restart(valkey: Server) -> None:
    answers: dict[str, list[Answer]] = {name: [] for name in NAMES}
    asked = {name: requests_of(name) for name in NAMES}  # one after another: CPython 3.11 parses in one thread only
    for half in range(2):
        with serving(valkey) as workers, ThreadPoolExecutor(CLIENTS) as clients:

            def play(name: str, half: int = half, workers: Workers = workers) -> None:
                requests = asked[name]
                middle = len(requests) // 2
                answers[name] += workers.play(name, requests[middle:] if half else requests[:middle])

            list(clients.map(play, NAMES))
        assert len(workers.seen) == 2
    different = [line for name in NAMES for line in differences(name, in_process(name), answers[name])]
    assert different == [], "\n".join(different)


# ---- earlier differences, in the fewest lines that show them

CHANGED_SHAPE = """
from flask import Flask, jsonify, request

app = Flask(__name__)
sessions = {}  # convstore: convstore.sessions


@app.post("/<sid>")
def put(sid):
    before = sessions.get(sid)
    sessions[sid] = request.json
    return jsonify(before)


REQUESTS = [("POST", "/a", ["hi"]), ("POST", "/a", {"history": ["hi"]}), ("POST", "/a", ["hi"]), ("POST", "/a", [])]
"""
"""A list becomes the history of a dict as it is, or the other way round. Only the shape differs."""

PLAIN_STREAM = """
from flask import Flask, jsonify

app = Flask(__name__)
sessions = {}  # convstore: convstore.sessions


@app.post("/<sid>")
def say(sid):
    sessions[sid] = ["user"]

    def generate():
        yield "reply"
        sessions[sid].append("reply")

    return generate()


@app.get("/<sid>")
def show(sid):
    return jsonify(sessions[sid])


REQUESTS = [("POST", "/a", None), ("GET", "/a", None)]
"""
"""A generator without ``stream_with_context`` reads the mapping, not a list that the view has taken from it."""

STREAMED_END = PLAIN_STREAM.replace("    def generate", "    history = sessions[sid]\n\n    def generate").replace(
    'sessions[sid].append("reply")', 'history.append("reply")'
)
"""The same with a list. The reply is written when the response is closed, after its last byte."""


@pytest.mark.parametrize("source", [CHANGED_SHAPE, PLAIN_STREAM], ids=["shape", "stream"])
def test_a_little_app_gets_the_same_answers(source: str) -> None:
    assert in_process("little", "memory://", source) == in_process("little", source=source)


@pytest.mark.parametrize("url", [None, "memory://"])
def test_a_client_that_has_read_a_stream_finds_the_reply(url: str | None) -> None:
    """A client may go on at the last byte, before the server has closed the response, by another worker."""
    app = module_of("little", url, STREAMED_END).app
    with app.test_client().post("/a") as response:
        assert b"".join(response.response) == b"reply"
        assert app.test_client().get("/a").json == ["user", "reply"]
