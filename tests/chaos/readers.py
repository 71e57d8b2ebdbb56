"""A reader of one streamed reply: it joins what comes, is cut, and reads on behind the last event that it has."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .scripts import Script

_SILENCE_SECONDS = 25
"""Longest silence of a stream. A heartbeat comes after 15 s."""


class Request(NamedTuple):
    """A request whose answer is to be a stream."""

    method: str
    path: str
    body: Any = None
    headers: dict[str, str] = {}  # noqa: RUF012  # never changed


class Answered(NamedTuple):
    """The end of one request: its status (None: no answer, 0: it never left), and what an error says."""

    status: int | None
    slug: str = ""
    detail: str = ""


class Stored(NamedTuple):
    """A reply as it is stored."""

    id: str
    content: str
    status: str = ""


@dataclass(slots=True)
class Reading:
    """One reader of one reply.

    Attributes:
        text: The text that it has. A ``reset`` empties it.
        fate: The fate of the reply (None: it has not come to the end).
        stored: The reply, as the stream tells that it is stored.
        turns: The ids that the events have announced.
        last_id: The id of the newest event.
        is_resumable: False: the stream is made while the store is away.
        chunks, connections, resets: How many there were.
        breaks: Places where the text did not go on as the script does: what came is lost or doubled there.
        refusals: Answers that are none of those which an outage explains.
        requests: What was asked, with the id of the last event before, what was answered, and the id of the last event then.
    """

    script: Script
    name: str
    began: float = 0.0
    ended: float = 0.0
    text: str = ""
    fate: str | None = None
    stored: Stored | None = None
    error: str = ""
    turns: set[str] = field(default_factory=set)
    message_id: str = ""
    last_id: str = ""
    is_resumable: bool = True
    chunks: int = 0
    connections: int = 0
    resets: int = 0
    breaks: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def begin_anew(self) -> None:
        """Forget what has come."""
        self.text, self.fate, self.stored, self.error, self.last_id = "", None, None, "", ""

    def take(self, event_id: str, name: str, data: dict[str, Any]) -> None:
        """Take an event."""
        self.last_id = event_id
        self.turns.add(data["turn"])
        if name == "message":
            self.message_id = data["message"]["id"]
            self.is_resumable = data.get("resumable", True)
        elif name == "delta":
            self._join(data["content"])
        elif name == "reset":
            self.resets += 1
            self.begin_anew()
            self.last_id = event_id
        elif name == "reply" and data["reply"]:
            self.stored = stored_of(data["reply"])
        elif name == "error":
            self.error = data["detail"]
        elif name == "done":
            self.fate = data["status"]

    def _join(self, piece: str) -> None:
        if not self.script.text.startswith(self.text + piece):
            self.breaks.append(f"{piece[:80]!r} came behind {self.text[-80:]!r}")
        self.text += piece
        self.chunks += 1


def stored_of(message: dict[str, Any]) -> Stored:
    """A reply as HTTP shows it."""
    return Stored(message["id"], str(message.get("content") or ""), message.get("status") or "")


class Cut(NamedTuple):
    """The place where a reader is cut: behind so many bytes (None: it is not)."""

    byte_count: int | None


def read(port: int, asked: Request, reading: Reading, cut: Cut, heed: Callable[[], None]) -> Answered:
    """Send one request, and give *reading* the events that are answered, until they end or the reader is cut.

    Args:
        heed: Is called behind each event.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_SILENCE_SECONDS)
    try:
        try:
            connection.connect()
        except OSError as error:
            return Answered(0, detail=repr(error))
        sent = None if asked.body is None else json.dumps(asked.body)
        accept = {"Accept": "text/event-stream", "Content-Type": "application/json"}
        connection.request(asked.method, asked.path, sent, {**accept, **asked.headers})
        response = connection.getresponse()
        if response.status < 300:
            reading.is_resumable = "Convstore-Degraded" not in response.headers
        if "event-stream" not in response.headers.get("Content-Type", ""):
            return _refused(response)
        reading.connections += 1
        for event in _events_of(response, cut):
            reading.take(*event)
            heed()
        return Answered(response.status)
    except (OSError, http.client.HTTPException) as error:
        return Answered(None, detail=repr(error))
    finally:
        _hang_up(connection)


def _refused(response: http.client.HTTPResponse) -> Answered:
    text = response.read()
    try:
        told = json.loads(text or "{}")
    except ValueError:
        told = {"detail": text[:500].decode(errors="replace")}
    if response.status < 300:
        return Answered(response.status, detail=json.dumps(told))
    return Answered(response.status, str(told.get("type", "")).removeprefix("urn:convstore:"), str(told.get("detail")))


def _hang_up(connection: http.client.HTTPConnection) -> None:
    if connection.sock:
        with suppress(OSError):
            connection.sock.shutdown(socket.SHUT_RDWR)
    connection.close()


def _events_of(response: http.client.HTTPResponse, cut: Cut) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Read the events that come whole before the cut."""
    held, left = b"", cut.byte_count
    while left is None or left > 0:
        read = response.read1(4096 if left is None else min(left, 4096))
        if not read:
            return
        left = None if left is None else left - len(read)
        *whole, held = (held + read).split(b"\n\n")
        for block in whole:
            event = _event_in(block)
            if event:
                yield event


def _event_in(block: bytes) -> tuple[str, str, dict[str, Any]] | None:
    fields = dict(line.split(b": ", 1) for line in block.split(b"\n") if not line.startswith(b":"))
    if b"data" not in fields:
        return None
    return fields[b"id"].decode(), fields[b"event"].decode(), json.loads(fields[b"data"])
