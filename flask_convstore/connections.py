"""Connections that take no longer than the call they are made for has left.

redis-py makes a connection inside ``pool.get_connection()``, asks Sentinels for the primary there, and reads a Cluster's
topology over connections of its own. The thread tells its deadline before, and they look at it: a connection that exists
costs nothing.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Iterator
from functools import cache
from typing import Any

from redis.connection import AbstractConnection

_SHORTEST = 0.001


class Deadline(threading.local):
    """When what this thread is doing must have ended, by ``time.monotonic``."""

    moment = math.inf

    @contextlib.contextmanager
    def of(self, moment: float) -> Iterator[None]:
        self.moment = moment
        try:
            yield
        finally:
            self.moment = math.inf

    def at_most(self, seconds: float | None) -> float | None:
        """*seconds*, or what is left."""
        left = self.moment - time.monotonic()
        if left == math.inf:
            return seconds
        return max(_SHORTEST, left if seconds is None else min(seconds, left))


DEADLINE = Deadline()

_STATED: Any = AbstractConnection.socket_connect_timeout


class _InTime:
    """Mixed into a class of connections of redis-py's."""

    _sock: Any
    socket_timeout: float | None

    @property
    def socket_connect_timeout(self) -> float | None:  # read for each of a host's addresses
        return DEADLINE.at_most(_STATED.fget(self))

    @socket_connect_timeout.setter
    def socket_connect_timeout(self, seconds: float | None) -> None:
        _STATED.fset(self, seconds)

    def _connect(self) -> Any:
        stated = self.socket_timeout
        self.socket_timeout = DEADLINE.at_most(stated)  # for the TLS handshake and the first words
        try:
            return super()._connect()  # type: ignore[misc]
        finally:
            self.socket_timeout = stated

    def on_connect_check_health(self, check_health: bool = True) -> None:
        super().on_connect_check_health(check_health)  # type: ignore[misc]
        self._sock.settimeout(self.socket_timeout)

    def send_command(self, *command: Any, **options: Any) -> None:
        """What redis-py asks by itself: where a primary is. ``Calls`` packs its commands, and does not come by here."""
        if self._sock:
            self._sock.settimeout(DEADLINE.at_most(self.socket_timeout))
        super().send_command(*command, **options)  # type: ignore[misc]


@cache
def in_time(kind: type[Any]) -> type[Any]:
    """The class of connections *kind*, whose connections look at the deadline."""
    return type(kind.__name__, (_InTime, kind), {})
