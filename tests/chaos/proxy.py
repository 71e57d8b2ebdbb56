"""A network between app and server that breaks on command. It is a process of its own and costs the load nothing.

    python -m tests.chaos.proxy PORT TARGET_PORT

A line of JSON on stdin sets what it does from now on, and is answered by a line:

| mode  | effect                                                                                                |
| ----- | ----------------------------------------------------------------------------------------------------- |
| pass  | none, and held data are delivered now, however late                                                   |
| cut   | all connections are reset, new ones refused                                                           |
| hole  | nothing arrives any more in either direction, but connections can be made                             |
| slow  | every piece takes ``delay`` seconds longer, each way                                                  |
| swap  | with the chance ``loss`` (by ``seed``) two connections get each other's replies                      |
| lossy | with the chance ``loss`` (by ``seed``) a reply is lost, and its connection with it, but not the request|

It ends with stdin.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import socket
import struct
import subprocess
import sys
from typing import Any

_SHORT_BYTES = 4096
_SWAP_SECONDS = 0.2
"""Longest time that a reply waits for another one to be swapped with."""

_RESET = struct.pack("ii", 1, 0)


class Proxy:
    """A proxy in its own process, for who tells it what to do."""

    def __init__(self, port: int, target_port: int) -> None:
        self.port = port
        command = [sys.executable, "-m", "tests.chaos.proxy", str(port), str(target_port)]
        pipe = subprocess.PIPE
        # Not of our process group: Ctrl-C is ours to handle.
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, start_new_session=True)
        self.tell("pass")

    def tell(self, mode: str, **more: Any) -> None:
        """Set the mode, which holds when this returns."""
        assert self._process.stdin
        assert self._process.stdout
        print(json.dumps({"mode": mode, **more}), file=self._process.stdin, flush=True)
        assert self._process.stdout.readline() == "done\n", "the proxy has died"

    def stop(self) -> None:
        self._process.kill()
        self._process.communicate()


class _Network:
    def __init__(self, port: int, target_port: int) -> None:
        self._port = port
        self._target_port = target_port
        self._mode: dict[str, Any] = {}
        self._flows = asyncio.Event()
        self._listener: asyncio.Server | None = None
        self._ends: set[asyncio.StreamWriter] = set()
        self._links: set[asyncio.Task[None]] = set()
        self._chance = random.Random()
        self._offered: tuple[asyncio.Future[bytes], bytes] | None = None

    async def obey(self, mode: dict[str, Any]) -> None:
        self._mode = mode
        self._chance = random.Random(mode.get("seed"))
        if mode["mode"] == "hole":
            self._flows.clear()
        else:
            self._flows.set()
        if mode["mode"] == "cut":
            if self._listener:
                self._listener.close()
                self._listener = None
            for end in self._ends:
                _reset(end)
        elif self._listener is None:
            self._listener = await asyncio.start_server(self._accept, "127.0.0.1", self._port)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._ends.add(writer)
        try:
            await self._flows.wait()
            await self._link(reader, writer)
        except OSError:
            _reset(writer)
        finally:
            self._ends.discard(writer)
            writer.close()

    async def _link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._target_port)
        self._ends.add(back)
        try:
            await asyncio.gather(self._forward(reader, back), self._forward(there, writer, is_reply=True))
        finally:
            self._ends.discard(back)
            back.close()

    async def _forward(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, *, is_reply: bool = False
    ) -> None:
        while chunk := await source.read(1 << 16):
            if delay := self._mode.get("delay"):
                await asyncio.sleep(delay)
            await self._flows.wait()
            if is_reply and self._chance.random() < self._mode.get("loss", 0):
                if self._mode["mode"] != "swap":
                    raise ConnectionResetError
                chunk = await self._swapped(chunk)
            target.write(chunk)
            await target.drain()
        await self._flows.wait()
        with contextlib.suppress(OSError):
            target.write_eof()

    async def _swapped(self, reply: bytes) -> bytes:
        """The next reply of another connection, which gets this one. A piece of a long reply is left alone."""
        if len(reply) > _SHORT_BYTES or not reply.endswith(b"\r\n"):
            return reply
        if self._offered is None or self._offered[0].done():
            mine: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
            self._offered = mine, reply
            with contextlib.suppress(TimeoutError):
                return await asyncio.wait_for(mine, _SWAP_SECONDS)
            return reply
        (theirs, other), self._offered = self._offered, None
        theirs.set_result(reply)
        return other


def _reset(end: asyncio.StreamWriter) -> None:
    found: Any = end.get_extra_info("socket")
    with contextlib.suppress(OSError, AttributeError):
        found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    end.transport.abort()


async def _main(port: int, target_port: int) -> None:
    network = _Network(port, target_port)
    orders = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    while line := await orders.readline():
        await network.obey(json.loads(line))
        print("done", flush=True)


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1]), int(sys.argv[2])))
