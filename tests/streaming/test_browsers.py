"""The fetch and the EventSource of browsers, as Node has them, over connections that are cut at random bytes."""

from __future__ import annotations

import contextlib
import json
import random
import socket
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from ..javascript import NODE
from ..wire import Listener, end
from .chunks import hard_chunks, joined
from .conftest import Start
from .reader import history, start

pytestmark = pytest.mark.slow


class CuttingProxy:
    """Passes connections on, and cuts the first ones at a random byte of the answer."""

    def __init__(self, port: int, cuts: int, seed: int) -> None:
        self._target = port
        self._chance = random.Random(seed)
        self._cuts = cuts
        self._listener = Listener(self._pass)
        self.port = self._listener.port

    def _pass(self, client: socket.socket) -> None:
        left = 10**9
        if self._cuts:
            self._cuts -= 1
            left = self._chance.randint(600, 5000)  # behind the headers
        with client, socket.create_connection(("127.0.0.1", self._target)) as server, contextlib.suppress(OSError):
            threading.Thread(target=_copy, args=(client, server), daemon=True).start()
            while left > 0 and (piece := server.recv(min(left, 4096))):
                client.sendall(piece)
                left -= len(piece)
            end(client, server)

    def close(self) -> None:
        self._listener.close()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):  # the other direction may have ended
        while piece := source.recv(4096):
            target.sendall(piece)


@pytest.mark.parametrize("way", ["fetch", "EventSource"])
def test_a_browser_has_what_is_stored(started: Start, way: str) -> None:
    worker = started()
    session_id = start(worker.url)
    proxy = CuttingProxy(worker.port, 5, seed=7)
    asked = json.dumps({"kind": "hard", "seed": 77, "chunks": 900, "pause": 0.005})
    url = f"http://127.0.0.1:{proxy.port}/sessions/{session_id}"
    try:
        ended = subprocess.run(
            [NODE, "--experimental-eventsource", Path(__file__).with_name("client.mjs"), way, url, asked],
            timeout=60,
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        proxy.close()
    assert ended.returncode == 0, ended.stderr
    found: Any = json.loads(ended.stdout)
    stored = history(worker.url, session_id)[-1]["content"]
    assert (found["status"], found["resets"]) == ("complete", 0)
    assert found["connections"] > 3, "it was not cut"
    assert found["text"].encode() == stored.encode() == joined(hard_chunks(77, 900)).encode()
