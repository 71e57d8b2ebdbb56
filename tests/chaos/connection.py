"""JSON over one kept connection, in which a lost answer is a value."""

from __future__ import annotations

import http.client
import json
import time
from typing import Any, NamedTuple

from .checker import TIMEOUT


class Answer(NamedTuple):
    """An answer.

    Attributes:
        status: None if no answer came. 0 if nobody was there and nothing was sent.
        json: The body, {} where it is none of ours.
    """

    status: int | None
    json: dict[str, Any]
    headers: http.client.HTTPMessage | None
    began: float
    ended: float
    detail: str = ""


class Connection:
    """To the app on 127.0.0.1:*port*; made anew after each failure."""

    def __init__(self, port: int, timeout: float = 60) -> None:
        self._port = port
        self._timeout = timeout
        self._connection: http.client.HTTPConnection | None = None

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        began = time.monotonic()
        if self._connection is None:
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=self._timeout)
            try:
                connection.connect()
            except OSError as error:
                return Answer(0, {}, None, began, time.monotonic(), repr(error))
            self._connection = connection
        sent = None if body is None else json.dumps(body)
        try:
            self._connection.request(method, path, sent, {"Content-Type": "application/json", **headers})
            response = self._connection.getresponse()
            status, read = response.status, response.read()
        except TimeoutError:
            self.close()
            return Answer(None, {}, None, began, time.monotonic(), TIMEOUT)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            return Answer(None, {}, None, began, time.monotonic(), repr(error))
        if response.will_close:
            self.close()
        try:
            found = json.loads(read)
        except ValueError:
            found = {"detail": read[:500].decode(errors="replace")}
        return Answer(status, found if isinstance(found, dict) else {}, response.headers, began, time.monotonic())

    def once(self, method: str, path: str) -> Answer | None:
        """One call on a connection of its own, or None if no answer comes."""
        try:
            answer = self.call(method, path)
        finally:
            self.close()
        return answer if answer.status else None

    def close(self) -> None:
        if self._connection:
            self._connection.close()
            self._connection = None
