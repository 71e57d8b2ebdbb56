"""An app under gunicorn, and a client that walks through it while its Redis is away."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx

from ..processes import children, kill, wait_for
from ..servers import Server, free_port

ROOT = Path(__file__).parents[2]

WORKERS = 2

_BEFORE = """
import os

from flask import Flask

Flask.auto_find_instance_path = lambda app: {instance!r}
"""

_BEHIND = """

def pending():
    health = [state.health() for state in app.extensions["convstore"].values()]
    is_whole = all(each.connected and each.circuit == "closed" and not each.pending for each in health)
    return {"worker": os.getpid(), "is_whole": is_whole}


app.add_url_rule("/pending", view_func=pending)
"""


class Site:
    """An app with two workers. Its requests go to one of them, as the kernel likes.

    Args:
        code: A module with the global ``app``.
    """

    def __init__(self, server: Server, folder: Path, code: str, **settings: str) -> None:
        (folder / "site_of_walk.py").write_text(_BEFORE.format(instance=str(folder / "instance")) + code + _BEHIND)
        port = free_port()
        self._log = folder / "gunicorn.log"
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "CONVSTORE_URL": server.url, "SECONDS_A_WORD": "0"}
        environment.update(settings)
        options = ("--workers", str(WORKERS), "--threads", "8", "--log-level", "warning", "--bind", f"127.0.0.1:{port}")
        command = [sys.executable, "-m", "gunicorn", *options, "site_of_walk:app"]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
        self._client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20)
        wait_for(self._answers, "the app does not come up")

    def _answers(self) -> bool:
        assert self._process.poll() is None, self._log.read_text()
        try:
            return self._client.get("/pending").status_code == 200
        except httpx.TransportError:
            return False

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
        """Ask on a connection of its own, so that any worker may have it."""
        return self._client.request(method, path, json=body, headers={"Connection": "close", **headers})

    def json(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        answer = self.call(method, path, body, **headers)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text} {self._log.read_text()}"
        return answer.json()

    def until_handed_over(self) -> None:
        """Wait until both workers see that Redis has all."""
        whole: set[int] = set()

        def is_done() -> bool:
            found = self.json("GET", "/pending")
            if found["is_whole"]:
                whole.add(found["worker"])
            else:
                whole.clear()
            return len(whole) == WORKERS

        wait_for(is_done, "nothing is handed over")

    def kill_a_worker(self) -> None:
        """End a worker as kill -9 does. Another one takes its place."""
        os.kill(children(self._process.pid)[0], signal.SIGKILL)

    @property
    def log(self) -> str:
        return self._log.read_text()

    def close(self) -> None:
        self._client.close()
        kill(self._process)
