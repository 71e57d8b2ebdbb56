"""A real client of streamed replies: httpx-sse. It joins what comes, and connects again where it was cut."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from typing import Any

import httpx
from httpx_sse import ServerSentEvent, connect_sse

_UNUSED = ssl.create_default_context()
"""It takes long to make, and every client wants one."""


def client() -> httpx.Client:
    return httpx.Client(timeout=30, verify=_UNUSED)


class Reader:
    """One who reads a reply.

    Attributes:
        session_id: The session.
        turn: The id of the reply ("": the one in progress).
        text: The text that has come.
        events: The names of all events that have come.
        reply: The reply as it is stored (None: it has not come).
        status: The fate of the reply ("": it has not come to its end).
        last_id: The id of the newest event.
    """

    def __init__(self, session_id: str, turn: str = "", headers: dict[str, str] | None = None) -> None:
        self.session_id = session_id
        self.turn = turn
        self.text = ""
        self.events: list[str] = []
        self.reply: dict[str, Any] | None = None
        self.status = ""
        self.last_id = ""
        self._headers = headers or {}

    def say(self, url: str, token: str = "", **asked: Any) -> Iterator[ServerSentEvent]:
        """Begin a turn. Iterate over its events."""
        headers = {**self._headers, **({"Idempotency-Key": token} if token else {})}
        body = {"content": json.dumps(asked)}
        return self._read("POST", f"{url}/sessions/{self.session_id}/messages", headers, json=body)

    def follow(self, url: str) -> Iterator[ServerSentEvent]:
        """Read on behind what has come. Iterate over the events."""
        headers = {**self._headers, **({"Last-Event-ID": self.last_id} if self.last_id else {})}
        return self._read("GET", f"{url}/sessions/{self.session_id}/replies/{self.turn or 'current'}", headers)

    def _read(self, method: str, url: str, headers: dict[str, str], **options: Any) -> Iterator[ServerSentEvent]:
        with (
            client() as talking,
            connect_sse(talking, method, url, headers=headers, **options) as source,
        ):
            if source.response.status_code >= 300:
                source.response.read()
            source.response.raise_for_status()
            for event in source.iter_sse():
                self.take(event)
                yield event

    def take(self, event: ServerSentEvent) -> None:
        if event.event == "message" and not event.data:
            return  # a new waiting time only
        found = json.loads(event.data)
        self.events.append(event.event)
        self.last_id = event.id
        self.turn = found["turn"]
        if event.event == "reset":
            self.text, self.reply, self.status = "", None, ""
        elif event.event == "delta":
            self.text += found["content"]
        elif event.event == "reply":
            self.reply = found["reply"]
        elif event.event == "done":
            self.status = found["status"]


def start(url: str, headers: dict[str, str] | None = None) -> str:
    with client() as talking:
        answer = talking.post(f"{url}/sessions", json={}, headers=headers)
        return str(answer.raise_for_status().json()["session_id"])


def history(url: str, session_id: str, headers: dict[str, str] | None = None) -> list[dict[str, Any]]:
    with client() as talking:
        answer = talking.get(f"{url}/sessions/{session_id}", headers=headers)
        found: list[dict[str, Any]] = answer.raise_for_status().json()["history"]
        return found


def converse(url: str, session_id: str, headers: dict[str, str] | None = None, **asked: Any) -> httpx.Response:
    """Take a turn without a stream."""
    with client() as talking:
        path = f"{url}/sessions/{session_id}/messages"
        return talking.post(path, json={"content": json.dumps(asked)}, headers=headers)


def stop(url: str, session_id: str, turn: str = "current", headers: dict[str, str] | None = None) -> httpx.Response:
    with client() as talking:
        return talking.delete(f"{url}/sessions/{session_id}/replies/{turn}", headers=headers)
