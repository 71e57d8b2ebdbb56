"""The chat under gunicorn, and a proxy before it that breaks what a test wants broken."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import httpx

from ..processes import children, kill, wait_for
from ..servers import Server, free_port
from ..wire import Listener, end

ROOT = Path(__file__).parents[2]

GUNICORN = ("gunicorn", "--log-level", "critical", "--workers", "1", "--worker-class", "gthread", "--threads", "200")


class Site:
    """The chat. It can be ended and started again at the same place.

    Attributes:
        url: The address for browsers, behind the proxy.
    """

    def __init__(self, valkey: Server, folder: Path, seconds_a_word: float = 0.015, **settings: str) -> None:
        self._port = free_port()
        self._log = folder / "gunicorn.log"
        self._environment = {**os.environ, "CONVSTORE_URL": valkey.url, "SECONDS_A_WORD": str(seconds_a_word)}
        self._environment.update({f"CONVSTORE_{name}": value for name, value in settings.items()})
        app = f"examples.chat.app:create_app(instance_path={str(folder / 'instance')!r})"
        self._command = [sys.executable, "-m", *GUNICORN, "--bind", f"127.0.0.1:{self._port}", app]
        self.start()
        self.proxy = Proxy(self._port)
        self.url = f"http://127.0.0.1:{self.proxy.port}"

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, cwd=ROOT, env=self._environment, stdout=log, stderr=log)
        wait_for(lambda: self._process.poll() is not None or self._answers(), "the chat does not come up")
        assert self._process.poll() is None, self._log.read_text()

    def _answers(self) -> bool:
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"http://127.0.0.1:{self._port}/sessions/health").status_code == 200
        return False

    def kill(self) -> None:
        """End it as kill -9 does."""
        kill(self._process)

    def kill_workers(self) -> None:
        """End what serves, but not what starts it anew."""
        for worker in children(self._process.pid):
            os.kill(worker, signal.SIGKILL)

    def restore(self) -> None:
        """Have it as it was at first, whatever a test has left."""
        self.proxy.lost = self.proxy.bad = 0
        if self._process.poll() is not None:
            self.start()

    def close(self) -> None:
        self.proxy.close()
        self.kill()


class Proxy:
    """Passes connections on.

    Attributes:
        lost: Number of messages whose answers will be lost: the server gets the message, and the browser no answer.
        bad: Number of messages that get a 502 in the place of the server.
    """

    def __init__(self, port: int) -> None:
        self.lost = self.bad = 0
        self._target = port
        self._open: set[socket.socket] = set()
        self._listener = Listener(self._pass)
        self.port = self._listener.port

    def _pass(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(("127.0.0.1", self._target))
        except OSError:
            client.close()
            return
        self._open |= {client, server}
        loses = threading.Event()
        with client, server, contextlib.suppress(OSError):
            threading.Thread(target=self._ask, args=(client, server, loses), daemon=True).start()
            while (piece := server.recv(65536)) and not loses.is_set():
                client.sendall(piece)
            end(client, server)
        self._open -= {client, server}

    def _ask(self, client: socket.socket, server: socket.socket, loses: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while piece := client.recv(65536):
                is_message = piece.startswith(b"POST ") and b"/messages " in piece.partition(b"\r\n")[0]
                if is_message and self.bad:
                    self.bad -= 1
                    client.sendall(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbad")
                    break
                if is_message and self.lost:
                    self.lost -= 1
                    loses.set()
                server.sendall(piece)
            end(client, server)

    def cut(self) -> None:
        """Cut all connections that are open."""
        end(*self._open)

    def close(self) -> None:
        self._listener.close()
        self.cut()
