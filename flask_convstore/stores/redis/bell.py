"""The bell of a server: one subscribed connection for all the sessions to which this process listens.

A script that adds to a reply's stream publishes to the channel of its session. The message holds nothing worth reading. A
bell may be lost, with the connection or where a user may not publish: whoever listens looks by itself now and then.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection
from typing import Any

from redis import exceptions

from ...domain.clock import monotonic
from .failures import as_ours

_SUBSCRIBED_AT_ONCE = 500
_OUTSTANDING = 10_000
"""Most messages that are read in one go, so that a storm does not keep anybody waiting."""


class RedisBell:
    """A ``Bell``. See there for its methods. One thread uses it.

    Args:
        connect: Makes a connection.
        channel_of: Names the channel of a session.
    """

    def __init__(self, connect: Callable[[], Any], channel_of: Callable[[str], str]) -> None:
        self._connect = connect
        self._channel_of = channel_of
        self._connection: Any = None
        self._wanted: dict[str, str] = {}
        self._heard: set[str] = set()

    def listen(self, session_ids: Collection[str]) -> None:
        self._wanted = {self._channel_of(session_id): session_id for session_id in session_ids}

    def wait(self, seconds: float) -> set[str]:
        try:
            self._subscribe()
            if self._connection is None:
                return set()
            return self._rung(seconds)
        except (exceptions.RedisError, OSError, ValueError, AttributeError) as error:
            self.close()
            failure = error if isinstance(error, exceptions.RedisError) else exceptions.ConnectionError(str(error))
            raise as_ours(failure, "SUBSCRIBE", writes=False) from error

    def _subscribe(self) -> None:
        """Tell the server which channels are wanted, and which are not any more."""
        new, old = self._wanted.keys() - self._heard, self._heard - self._wanted.keys()
        if self._connection is None and new:
            self._connection = self._connect()
            self._connection.connect()
        for word, channels in (("SUBSCRIBE", [*new]), ("UNSUBSCRIBE", [*old])):
            for start in range(0, len(channels), _SUBSCRIBED_AT_ONCE):
                self._connection.send_command(word, *channels[start : start + _SUBSCRIBED_AT_ONCE], check_health=False)
        self._heard = set(self._wanted)

    def _rung(self, seconds: float) -> set[str]:
        """Read until there is nothing more to read."""
        rung: set[str] = set()
        until = monotonic() + seconds
        for _ in range(_OUTSTANDING):
            left = 0.0 if rung else max(0.0, until - monotonic())
            if not self._connection.can_read(timeout=left):
                break
            reply = self._connection.read_response(disconnect_on_error=False, push_request=True)
            if isinstance(reply, list) and len(reply) == 3 and reply[0] in (b"message", "message"):
                channel = reply[1].decode() if isinstance(reply[1], bytes) else reply[1]
                rung |= {self._wanted[channel]} if channel in self._wanted else set()
        return rung

    def close(self) -> None:
        self._heard = set()
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(Exception):
                connection.disconnect()
