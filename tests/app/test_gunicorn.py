"""Turns over HTTP under gunicorn, 2 workers with 8 threads. None is lost or torn, even if a worker is killed."""

from __future__ import annotations

import contextlib
import gc
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ..processes import wait_for
from ..servers import Server, free_port

ROOT = Path(__file__).parents[2]


class Client:
    """JSON over one connection."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        sent = None if body is None else json.dumps(body)
        self._connection.request(method, path, sent, {"Content-Type": "application/json", **headers})
        answer = self._connection.getresponse()
        return answer.status, json.loads(answer.read())

    def close(self) -> None:
        self._connection.close()


@contextlib.contextmanager
def serving(server: Server, **settings: str) -> Iterator[int]:
    port = free_port()
    environment = {**os.environ, "CONVSTORE_URL": server.url}
    environment.update({f"CONVSTORE_{name}": value for name, value in settings.items()})
    command = [sys.executable, "-m", "gunicorn", "--workers", "2", "--threads", "8", "--log-level", "critical"]
    command += ["--bind", f"127.0.0.1:{port}", "tests.turn_app:create_app()"]
    process = subprocess.Popen(command, cwd=ROOT, env=environment)
    try:
        wait_for(lambda: process.poll() is not None or _answers(port), "the app does not come up")
        yield port
    finally:
        process.terminate()
        process.wait(60)


def _answers(port: int) -> bool:
    client = Client(port)
    try:
        status, _ = client.call("GET", "/sessions/health")
    except OSError:
        return False
    finally:
        client.close()
    return status == 200


def start(port: int) -> str:
    client = Client(port)
    _, session = client.call("POST", "/sessions", {})
    client.close()
    return str(session["session_id"])


def _ignore(call: Any) -> None:
    """Make a call whose answer never comes. http.client leaves half of its socket to the collector then."""
    with contextlib.suppress(OSError, http.client.HTTPException):
        call()
    gc.collect()


unclosed = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.mark.parametrize("policy", ["wait", "reject"])
def test_eight_clients_take_fifty_turns_each(valkey: Server, policy: str) -> None:
    failures: list[Any] = []

    def work(name: str) -> None:
        client = Client(port)
        try:
            for number in range(50):
                while True:
                    key = {"Idempotency-Key": f"{name}-{number}"}
                    path = f"/sessions/{session_id}/messages"
                    status, answer = client.call("POST", path, {"content": f"{name}{number}"}, **key)
                    if status == 409 and policy == "reject":
                        continue
                    break
                if status != 201 or answer["reply"]["content"] != f"re: {name}{number}":
                    failures.append((status, answer))
        except Exception as error:
            failures.append(error)
        finally:
            client.close()

    with serving(valkey, TURN_POLICY=policy, TURN_WAIT="60") as port:
        session_id = start(port)
        clients = [threading.Thread(target=work, args=(name,)) for name in "abcdefgh"]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        assert failures == []
        reader = Client(port)
        _, session = reader.call("GET", f"/sessions/{session_id}")
        reader.close()
    texts = [message["content"] for message in session["history"]]
    assert len(texts) == 800
    assert [f"re: {text}" for text in texts[::2]] == texts[1::2], "torn"
    for name in "abcdefgh":
        assert [text for text in texts[::2] if text[0] == name] == [f"{name}{number}" for number in range(50)]


@unclosed
def test_a_worker_killed_inside_its_handler(valkey: Server) -> None:
    with serving(valkey, TURN_LEASE="1") as port:
        session_id = start(port)
        path = f"/sessions/{session_id}"
        key = f"chat:session:{{{session_id}}}"
        victim = Client(port)
        hanging = threading.Thread(
            target=lambda: _ignore(lambda: victim.call("POST", f"{path}/messages", {"content": "hang"}))
        )
        hanging.start()
        pid = int(wait_for(lambda: valkey.client.hget(key, "d:pid"), "the handler does not run"))
        client = Client(port)
        status, _ = client.call("POST", f"{path}/messages", {"content": "too early"})
        assert status == 409
        os.kill(pid, signal.SIGKILL)
        hanging.join()
        victim.close()
        client.close()
        client = Client(port)  # the old connection may have been the dead worker's

        def next_turn() -> Any:
            status, answer = client.call("POST", f"{path}/messages", {"content": "next"})
            assert status in (201, 409)
            return answer if status == 201 else None

        answer = wait_for(next_turn, "the lease does not end", seconds=10)
        assert (answer["previous"]["content"], answer["previous"]["status"]) == ("hang", "interrupted")
        assert answer["reply"]["content"] == "re: next"
        _, session = client.call("GET", path)
        client.close()
    history = [(message["content"], message.get("status")) for message in session["history"]]
    assert history == [("hang", "interrupted"), ("next", None), ("re: next", None)]


@unclosed
def test_a_repeat_after_the_kill_runs_the_handler_on_the_stored_message(valkey: Server) -> None:
    with serving(valkey, TURN_LEASE="1") as port:
        session_id = start(port)
        path = f"/sessions/{session_id}"
        key = f"chat:session:{{{session_id}}}"
        victim = Client(port)
        idempotent = {"Idempotency-Key": "once"}
        hanging = threading.Thread(
            target=lambda: _ignore(lambda: victim.call("POST", f"{path}/messages", {"content": "hang"}, **idempotent))
        )
        hanging.start()
        os.kill(int(wait_for(lambda: valkey.client.hget(key, "d:pid"), "the handler does not run")), signal.SIGKILL)
        hanging.join()
        victim.close()
        valkey.client.hdel(key, "d:pid")
        retrying = Client(port)

        def retry() -> None:
            while retrying.call("POST", f"{path}/messages", {"content": "hang"}, **idempotent)[0] == 409:
                pass

        again = threading.Thread(target=lambda: _ignore(retry))
        again.start()
        pid = int(wait_for(lambda: valkey.client.hget(key, "d:pid"), "the handler does not run again"))
        assert valkey.client.llen(f"{key}:history") == 1, "the message is there once"
        os.kill(pid, signal.SIGKILL)
        again.join()
        retrying.close()
