"""Workers of every kind that serve the app of these tests."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from ..processes import kill, wait_for
from ..servers import Server, free_port

ROOT = Path(__file__).parents[2]
APP = "tests.streaming.app:create_app()"

GUNICORN = ("gunicorn", "--log-level", "critical", "--workers", "1", "--bind", "127.0.0.1:{port}")
THREADS = ("--worker-class", "gthread", "--threads", "64")
KINDS = {
    "gthread": (*GUNICORN, *THREADS, APP),
    "gevent": (*GUNICORN, "--worker-class", "gevent", APP),
    "waitress": (
        "waitress",
        "--listen",
        "127.0.0.1:{port}",
        "--threads",
        "16",
        "--call",
        "tests.streaming.app:create_app",
    ),
    "flask run": ("flask", "--app", APP, "run", "--port={port}"),
    "sync": (*GUNICORN[:2], "warning", *GUNICORN[3:], "--worker-class", "sync", APP),
}


class Worker:
    """A server with one worker.

    Attributes:
        port: The port of 127.0.0.1 that it listens at.
        log: What it has written.
    """

    def __init__(self, kind: str, server: Server, folder: Path, *options: str, **settings: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = folder / f"log-{self.port}"
        environment = {**os.environ, "CONVSTORE_URL": server.url, "INSTANCE": str(folder / f"instance-{self.port}")}
        environment.update({f"CONVSTORE_{name}": value for name, value in settings.items()})
        *command, last = (word.format(port=self.port) for word in KINDS[kind])
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *command, *options, last], cwd=ROOT, env=environment, stdout=log, stderr=log
            )
        try:
            wait_for(lambda: self.process.poll() is not None or self._answers(), f"{kind} does not come up")
            assert self.process.poll() is None, self.log
            self.pid = int(httpx.get(f"{self.url}/pid").json()["pid"])
        except BaseException:
            self.kill()
            raise

    @property
    def log(self) -> str:
        return self._log.read_text()

    def _answers(self) -> bool:
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"{self.url}/pid").status_code == 200
        return False

    def kill(self) -> None:
        """End all of it as kill -9 does."""
        kill(self.process)

    def stop(self) -> None:
        """Ask it to end, and wait until it has ended."""
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(40)


@contextlib.contextmanager
def serving(kind: str, server: Server, folder: Path, *options: str, **settings: Any) -> Iterator[Worker]:
    worker = Worker(kind, server, folder, *options, **settings)
    try:
        yield worker
    finally:
        worker.kill()
