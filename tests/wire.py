"""A proxy between a client and a server: counts what goes over the wire, and breaks it where it is told to."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Literal

Fault = Literal["lost request", "lost reply", "half reply", "black hole", "another's error"]


class Listener:
    """Takes connections at a free port of 127.0.0.1, each in a thread of its own.

    Attributes:
        port: The port.
    """

    def __init__(self, take: Callable[[socket.socket], None]) -> None:
        self._take = take
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._take, args=(client,), daemon=True).start()

    def close(self) -> None:
        end(self._listener)  # accept() would wait on
        self._listener.close()


@contextlib.contextmanager
def speaking(banner: bytes = b"", answer: bytes = b"", pong: bytes = b"") -> Iterator[int]:
    """The port of something that is no Redis. It says the *banner*, and *answer* for each command.

    Without an *answer* it hangs up: at once behind a banner, else when it is asked.

    Args:
        pong: Answer to a PING, if another one.
    """

    def speak(client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            client.sendall(banner)
            if banner and not answer:
                return
            while (asked := client.recv(1 << 16)) and answer:
                for command in re.split(rb"(?m)^\*\d+\r\n", asked)[1:]:
                    client.sendall(pong if pong and b"PING" in command else answer)

    listener = Listener(speak)
    try:
        yield listener.port
    finally:
        listener.close()


def end(*sockets: socket.socket) -> None:
    """End connections for both sides."""
    for one in sockets:
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)


class Proxy:
    """Forwards 127.0.0.1:port to a server.

    Attributes:
        round_trips: The number of times that the client spoke after the server.
        sent, received: Bytes from and to the client.
        faults: The faults of the next calls of scripts, one after the other. A connection ends with a fault. Only a
            black hole keeps it, and never answers, and another's error comes once in the place of the reply.
        drip: Bytes and seconds. Replies come in pieces of so many bytes, with so much time between. None: as they are.
        delay: Seconds by which a round trip is longer.
        upload: As *drip*, for what the client sends.
    """

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._listener = Listener(self._link)
        self.port = self._listener.port
        self._sockets: list[socket.socket] = []
        self.faults: list[Fault] = []
        self.drip: tuple[int, float] | None = None
        self.delay = 0.0
        self.upload: tuple[int, float] | None = None
        self.reset()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def reset(self) -> None:
        self.round_trips = self.sent = self.received = 0
        self._server_spoke_last = True

    def _link(self, client: socket.socket) -> None:
        server = socket.create_connection(self._target)
        self._sockets += [client, server]
        Link(self, client, server)

    def __enter__(self) -> Proxy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.close()
        for one in self._sockets:
            one.close()


class Link:
    """One connection through the proxy."""

    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy = proxy
        self._client = client
        self._server = server
        self._fault: Fault | None = None
        self._is_asked = False
        for forward in (self._from_client, self._from_server):
            threading.Thread(target=forward, daemon=True).start()

    def _from_client(self) -> None:
        proxy = self._proxy
        for chunk in _chunks(self._client):
            proxy.round_trips += proxy._server_spoke_last
            proxy._server_spoke_last = False
            proxy.sent += len(chunk)
            if b"EVAL" in chunk and proxy.faults and not self._fault:
                self._fault = proxy.faults.pop(0)
            if self._fault == "lost request":
                break
            if self._fault != "black hole":
                self._is_asked = True
                try:
                    _send(self._server, chunk, proxy.upload)
                except OSError:
                    break
        self._end()

    def _from_server(self) -> None:
        proxy = self._proxy
        for chunk in _chunks(self._server):
            if self._is_asked:
                self._is_asked = False
                time.sleep(proxy.delay)
            if self._fault == "lost reply":
                break
            if self._fault == "another's error":
                self._fault = None
                self._client.sendall(b"-OOM command not allowed when used memory > 'maxmemory'.\r\n")
                continue
            if self._fault == "half reply":
                self._client.sendall(chunk[: len(chunk) // 2])
                break
            proxy._server_spoke_last = True
            proxy.received += len(chunk)
            try:
                _send(self._client, chunk, proxy.drip)
            except OSError:
                break
        self._end()

    def _end(self) -> None:
        for end in (self._client, self._server):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                end.close()


def _send(target: socket.socket, chunk: bytes, drip: tuple[int, float] | None) -> None:
    size, pause = drip or (len(chunk), 0)
    for start in range(0, len(chunk), size):
        target.sendall(chunk[start : start + size])
        time.sleep(pause)


def _chunks(source: socket.socket):  # type: ignore[no-untyped-def]
    while True:
        try:
            chunk = source.recv(1 << 20)
        except OSError:
            return
        if not chunk:
            return
        yield chunk
