"""A proxy between a client and a server that counts what goes over the wire."""

from __future__ import annotations

import socket
import threading
from types import TracebackType


class CountingProxy:
    """Forwards 127.0.0.1:port to a server, and counts.

    Attributes:
        round_trips: How often the client spoke after the server had spoken last.
        sent, received: Bytes from and to the client.
    """

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._sockets: list[socket.socket] = []
        self.reset()
        threading.Thread(target=self._accept, daemon=True).start()

    def reset(self) -> None:
        self.round_trips = self.sent = self.received = 0
        self._server_spoke_last = True

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._target)
            self._sockets += [client, server]
            for source, sink, from_client in ((client, server, True), (server, client, False)):
                threading.Thread(target=self._forward, args=(source, sink, from_client), daemon=True).start()

    def _forward(self, source: socket.socket, sink: socket.socket, from_client: bool) -> None:
        while True:
            try:
                chunk = source.recv(1 << 20)
            except OSError:
                chunk = b""
            if not chunk:
                sink.close()
                return
            if from_client:
                self.round_trips += self._server_spoke_last
                self._server_spoke_last = False
                self.sent += len(chunk)
            else:
                self._server_spoke_last = True
                self.received += len(chunk)
            sink.sendall(chunk)

    def __enter__(self) -> CountingProxy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.close()
        for end in self._sockets:
            end.close()
