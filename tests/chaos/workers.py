"""The app in gunicorn, 2 workers with 16 threads in a process group of its own, and ways to kill it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from ..processes import children, wait_for
from ..servers import free_port
from .app import INTERRUPTING
from .connection import Connection

ROOT = Path(__file__).parents[2]

WORKERS = 2


class Workers:
    """A gunicorn that can be started again, on the same port, with the same instance folder.

    Args:
        folder: Its instance folder and its log.
        settings: Environment variables.
    """

    def __init__(self, folder: Path, settings: Mapping[str, str]) -> None:
        self.port = free_port()
        self._log = folder / "gunicorn.log"
        instance = folder / "instance"
        instance.mkdir()
        self._instance = instance
        self._environment = environment(instance, settings)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str, **more: str) -> None:
        """Start it and wait until it answers. *options* are gunicorn's, *more* are environment variables."""
        command = [sys.executable, "-m", "gunicorn", "--workers", str(WORKERS), "--threads", "16", "--keep-alive", "60"]
        command += ["--worker-class", "gthread", "--graceful-timeout", "2", "--log-level", "warning"]
        command += ["--bind", f"127.0.0.1:{self.port}", *options, "tests.chaos.app:create_app()"]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=ROOT, env={**self._environment, **more}, stdout=log, stderr=log, start_new_session=True
            )
        wait_for(lambda: self.health() is not None, f"the app does not come up: {self._log}")

    def health(self) -> dict[str, object] | None:
        """The answer of ``/sessions/health``, or None if nobody answers."""
        answer = Connection(self.port, timeout=15).once("GET", "/sessions/health")
        return answer.json if answer else None

    def kill_one(self, which: int) -> None:
        """kill -9 of one worker."""
        living = self._living()
        if living:
            _send(living[which % len(living)], signal.SIGKILL)

    def kill_all(self) -> None:
        """kill -9 of all workers. The master starts new ones."""
        for pid in self._living():
            _send(pid, signal.SIGKILL)

    @contextlib.contextmanager
    def one_stands_still(self, which: int) -> Iterator[None]:
        """One worker stands still, for the length of a block."""
        living = self._living()
        frozen = living[which % len(living)] if living else 0
        _send(frozen, signal.SIGSTOP)
        try:
            yield
        finally:
            _send(frozen, signal.SIGCONT)

    @contextlib.contextmanager
    def interrupted(self) -> Iterator[None]:
        """Exceptions come out of nowhere in requests, for the length of a block."""
        sign = self._instance / INTERRUPTING
        sign.touch()
        try:
            yield
        finally:
            sign.unlink()

    def kill_with_master(self) -> None:
        """kill -9 of all processes. ``start`` begins anew."""
        if self._process:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def _living(self) -> list[int]:
        return sorted(children(self._process.pid)) if self._process else []


def environment(instance: Path, settings: Mapping[str, str]) -> dict[str, str]:
    """The environment of the app. None of our settings comes from outside."""
    outside = {name: value for name, value in os.environ.items() if not name.startswith(("CONVSTORE_", "REDIS_"))}
    return {**outside, **settings, "CHAOS_INSTANCE": str(instance)}


def _send(pid: int, number: signal.Signals) -> None:
    if pid:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
