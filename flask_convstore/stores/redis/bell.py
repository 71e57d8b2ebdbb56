"""The bell of a server: one subscribed connection for all the sessions to which this process listens.

A script that adds to a reply's stream publishes to the channel of its session. A write to a session that is watched does
too, and tells the channel of its owner's list. A bell may be lost, with the connection or where a user may not publish:
whoever listens looks by itself now and then.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection
from typing import Any

from redis import exceptions

from ...domain.clock import monotonic
from ...domain.results import Heard, Ring
from .failures import as_ours

_SUBSCRIBED_AT_ONCE = 500
_OUTSTANDING = 10_000
"""Most messages that are read in one go, so that a storm does not keep anybody waiting."""


class RedisBell:
    """A ``Bell``. See there for its methods. One thread uses it.

    Args:
        connect: Makes a connection.
        channel_of: Names the channel of a session, or of an owner's list.
        session_in: Finds the id in a session's key.
    """

    def __init__(
        self, connect: Callable[[], Any], channel_of: Callable[[Heard], str], session_in: Callable[[str], str]
    ) -> None:
        self._connect = connect
        self._channel_of = channel_of
        self._session_in = session_in
        self._connection: Any = None
        self._sources: set[Heard] = set()
        self._wanted: dict[str, Heard] = {}
        self._heard: set[str] = set()

    def listen(self, sources: Collection[Heard]) -> None:
        if set(sources) != self._sources:
            self._sources = set(sources)
            self._wanted = {self._channel_of(source): source for source in sources}

    def wait(self, seconds: float) -> list[Ring]:
        try:
            self._subscribe()
            if self._connection is None:
                return []
            return self._rung(seconds)
        except (exceptions.RedisError, OSError, ValueError, AttributeError) as error:
            self.close()
            failure = error if isinstance(error, exceptions.RedisError) else exceptions.ConnectionError(str(error))
            raise as_ours(failure, "SUBSCRIBE", writes=False) from error

    def _subscribe(self) -> None:
        """Tell the server which channels are wanted, and which are not any more."""
        if self._heard == self._wanted.keys():
            return
        new, old = self._wanted.keys() - self._heard, self._heard - self._wanted.keys()
        if self._connection is None and new:
            self._connection = self._connect()
            self._connection.connect()
        for word, channels in (("SUBSCRIBE", [*new]), ("UNSUBSCRIBE", [*old])):
            for start in range(0, len(channels), _SUBSCRIBED_AT_ONCE):
                self._connection.send_command(word, *channels[start : start + _SUBSCRIBED_AT_ONCE], check_health=False)
        self._heard = set(self._wanted)

    def _rung(self, seconds: float) -> list[Ring]:
        """Read until there is nothing more to read."""
        rung: dict[Ring, None] = {}
        until = monotonic() + seconds
        for _ in range(_OUTSTANDING):
            left = 0.0 if rung else max(0.0, until - monotonic())
            if not self._connection.can_read(timeout=left):
                break
            reply = self._connection.read_response(disconnect_on_error=False, push_request=True)
            if isinstance(reply, list) and len(reply) == 3 and reply[0] in (b"message", "message"):
                source = self._wanted.get(_text(reply[1]))
                if source:
                    rung[self._ring(source, _text(reply[2]))] = None
        return list(rung)

    def _ring(self, source: Heard, text: str) -> Ring:
        kind, _, rest = text.partition(" ")
        version, _, key = rest.partition(" ")
        if source[0] == "session" or not key:
            return Ring(source)
        return Ring(source, kind, int(version), self._session_in(key))

    def close(self) -> None:
        self._heard = set()
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(Exception):
                connection.disconnect()


def _text(told: bytes | str) -> str:
    return told.decode() if isinstance(told, bytes) else told
