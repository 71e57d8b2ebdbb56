"""Connections that keep to the deadline of their call, and that add little to the server's time.

redis-py makes a connection inside ``pool.get_connection()``, asks Sentinels for the primary there, and reads a Cluster's
topology over connections of its own. The thread states its deadline before, and a new connection looks at it. A connection
that exists costs nothing.

Around a small call redis-py's layers take more time than the server. Finding a server, TLS, logging in and parsing
replies are left to redis-py. Lending a connection and sending over it are done here. docs/performance.md has the
figures.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import select
import sys
import threading
from collections import deque
from functools import cache
from typing import Any

import redis
from redis import exceptions
from redis.connection import AbstractConnection, ConnectionPool

from ...domain.clock import monotonic
from ...domain.deadlines import CONNECTING

_SHORTEST = 0.001

_REFERENCES_OF_NOBODY = 4
"""References to a connection in use that only its pool knows: the pool, a list, a variable, an argument."""

_LONGEST_WAIT = 0.05
"""Seconds until the first caller in a line looks again. The app's own calls over its client wake nobody."""


_FLOWING_SECONDS = 0.5
"""Longest wait for the next part of an answer that was cut short by the deadline, and not by a server that hangs."""


_SLICE = 1_000_000
"""Bytes of a large request that are sent in one step."""


class CutShort(exceptions.TimeoutError):
    """The deadline came in the midst of an exchange that was going on."""


def at_connecting(error: Exception) -> Exception:
    """Mark *error* as the reply of a server to a new connection."""
    error.is_at_connecting = True  # type: ignore[attr-defined]
    return error


def is_at_connecting(error: Exception) -> bool:
    """Tell whether *error* is the reply of a server to a new connection."""
    return getattr(error, "is_at_connecting", False)


_STATED: Any = AbstractConnection.socket_connect_timeout


class _InTime:
    """Mixin for a class of redis-py's connections."""

    _sock: Any
    _parser: Any
    _poll: Any = None  # tells whether there is something to read, an unread reply or the end. None: that is not known
    socket_timeout: float | None

    @property
    def socket_connect_timeout(self) -> float | None:  # read for each of a host's addresses
        return CONNECTING.at_most(_STATED.fget(self))

    @socket_connect_timeout.setter
    def socket_connect_timeout(self, seconds: float | None) -> None:
        _STATED.fset(self, seconds)

    def _connect(self) -> Any:
        stated = self.socket_timeout
        self.socket_timeout = CONNECTING.at_most(stated)  # for the TLS handshake and the first words
        try:
            made = super()._connect()  # type: ignore[misc]
        finally:
            self.socket_timeout = stated
        self._poll = _poller(made)
        return made

    def on_connect_check_health(self, check_health: bool = True) -> None:
        super().on_connect_check_health(check_health)  # type: ignore[misc]
        self._sock.settimeout(self.socket_timeout)

    def read_response(self, *arguments: Any, **options: Any) -> Any:
        """Read a reply to a command of redis-py's own. It passes over refusals of some, and over this one's reason."""
        try:
            return super().read_response(*arguments, **options)  # type: ignore[misc]
        except exceptions.ResponseError as error:
            if str(error).startswith("DENIED"):  # the server has closed the connection
                raise exceptions.AuthenticationError(str(error)) from error
            raise

    def send_command(self, *command: Any, **options: Any) -> None:
        """Send a command of redis-py's own, such as the question for a primary. ``Calls`` packs its commands itself."""
        if self._sock:
            self._parser.is_flowing = False
            self._parser.until, self._parser.limit = CONNECTING.moment, CONNECTING.at_most(self.socket_timeout)
            self._sock.settimeout(self._parser.limit)
        super().send_command(*command, **options)  # type: ignore[misc]

    def set_parser(self, parser_class: Any) -> None:
        super().set_parser(_parser_in_time(parser_class))  # type: ignore[misc]

    def exchange(self, packed: bytes, count: int, seconds: float | None = None) -> list[Any]:
        """Send *packed* commands, and read so many replies. Errors of the server are values.

        Args:
            seconds: Limit of the whole exchange. None: each step has the stated limit.

        Raises:
            RedisError: No replies came. The connection must not be used again.
        """
        stated, parser = self.socket_timeout, self._parser
        try:
            parser.limit, parser.until, parser.is_flowing = stated, math.inf, False
            if seconds is not None:
                parser.until = monotonic() + seconds
                if stated is None or seconds < stated:
                    parser.limit = max(_SHORTEST, seconds)
                    self._sock.settimeout(parser.limit)
            if len(packed) > _SLICE:
                self._send_slowly(packed)
            else:
                self._sock.sendall(packed)
            parser.read_once()
            parser.is_flowing = True
            read = parser.read_response
            replies = [read()]
            for _ in range(1, count):
                parser.is_flowing = False  # the reply to WAIT comes later than the one before it, and is not large
                replies.append(read())
            if parser.limit != stated:
                self._sock.settimeout(stated)
            return replies
        except TimeoutError as error:
            raise exceptions.TimeoutError("Timeout writing to socket") from error
        except (OSError, AttributeError, ValueError) as error:  # AttributeError: another thread has closed it
            raise exceptions.ConnectionError(f"Connection lost: {error}") from error

    def _send_slowly(self, packed: bytes) -> None:
        """Send *packed* commands that may take longer than one step. Each slice is a step.

        Raises:
            CutShort: The deadline came while the server took slice after slice.
        """
        parser, left = self._parser, math.inf
        for start in range(0, len(packed), _SLICE):
            left = parser.until - monotonic()
            if left < (parser.limit or math.inf):
                parser.limit = max(_SHORTEST, left)
                self._sock.settimeout(parser.limit)
            try:
                self._sock.sendall(memoryview(packed)[start : start + _SLICE])
            except TimeoutError as error:
                if start and left < _FLOWING_SECONDS:
                    raise CutShort("Timeout writing to socket") from error
                raise


class _ParserInTime:
    """Mixin for redis-py's parser, which reads until a reply is whole. A peer that drips could make it read for ever.

    Attributes:
        until: Moment by ``monotonic`` at which the reading must have ended.
        limit: Limit of one step, to which the socket is set.
        is_flowing: A part of the answer has come.
    """

    _sock: Any
    until = math.inf
    limit: float | None = None
    is_flowing = False

    def read_from_socket(self, *arguments: Any, **options: Any) -> Any:
        left = self.until - monotonic()
        if left < (self.limit or math.inf):
            if left <= 0:
                raise self._ended()
            self.limit = max(_SHORTEST, left)
            self._sock.settimeout(self.limit)
        try:
            read = super().read_from_socket(*arguments, **options)  # type: ignore[misc]
        except (exceptions.TimeoutError, TimeoutError) as error:  # the socket's own in redis-py 7
            if left < _FLOWING_SECONDS:  # a part may have come just before
                raise self._ended() from error
            raise
        self.is_flowing = True
        return read

    def _ended(self) -> exceptions.TimeoutError:
        """Make the error of an answer that is not whole in time: it was cut short, or the server hangs."""
        return (CutShort if self.is_flowing else exceptions.TimeoutError)("Timeout reading from socket")


@cache
def _parser_in_time(kind: Any) -> type[Any]:
    once = getattr(kind, "read_from_socket", lambda _: None)  # the first reading is in time by the socket's limit
    return type(kind.__name__, (_ParserInTime, kind), {"read_once": once})


def _poller(sock: Any) -> Any:
    """Make a function that tells whether *sock* has something to read. None where the system alone cannot tell."""
    if not hasattr(select, "poll") or hasattr(sock, "pending"):
        return None
    poller = select.poll()
    poller.register(sock, select.POLLIN)
    return poller.poll


class Line:
    """The callers that wait for a connection of a pool, first come, first served.

    Attributes:
        waiting: An event for each of them.
    """

    def __init__(self) -> None:
        self.waiting: deque[threading.Event] = deque()
        self._pid = os.getpid()

    def lent(self, pool: Any, deadline: float) -> Any:
        """Lend a connection of *pool*, behind those who wait already.

        Raises:
            MaxConnectionsError: None was given back until *deadline*, by ``monotonic``.
        """
        if self._pid != os.getpid():  # the callers are the parent's
            self.waiting, self._pid = deque(), os.getpid()
        mine = threading.Event()
        self.waiting.append(mine)
        try:
            return self._lent_in_turn(pool, mine, deadline)
        finally:
            self.waiting.remove(mine)
            self.call_next()

    def _lent_in_turn(self, pool: Any, mine: threading.Event, deadline: float) -> Any:
        while True:
            left, longest = deadline - monotonic(), _LONGEST_WAIT if self.waiting[0] is mine else math.inf
            mine.clear()
            if self.waiting[0] is mine or left <= 0:
                try:
                    return pool.get_connection()
                except exceptions.MaxConnectionsError:
                    if left <= 0:
                        raise
            mine.wait(min(left, longest, threading.TIMEOUT_MAX))

    def is_waited_in(self) -> bool:
        """Tell whether somebody waits for a connection."""
        return bool(self.waiting)

    def call_next(self) -> None:
        """Tell the first caller that a connection was given back."""
        with contextlib.suppress(IndexError):
            self.waiting[0].set()


def line_of(pool: Any) -> Line:
    """Find or make the line of a pool. The stores of several namespaces share a pool."""
    if isinstance(pool, Pool):
        return pool.line
    line: Line | None = pool.__dict__.get("_convstore_line")
    return line or pool.__dict__.setdefault("_convstore_line", Line())


def lent(pool: Any, deadline: float) -> Any:
    """Lend a connection of *pool*. Wait until *deadline*, by ``monotonic``, if all are in use.

    Raises:
        MaxConnectionsError: None was given back in time.
        ResponseError: The server refuses a new connection, and ``is_at_connecting``.
    """
    connection = pool.ready() if isinstance(pool, Pool) and not pool.line.waiting else None
    return connection or _connected(pool, deadline)


def _connected(pool: Any, deadline: float) -> Any:
    """Lend a connection that must be opened, looked at, or waited for."""
    line = line_of(pool)
    try:
        with CONNECTING.of(deadline):
            if not line.waiting:
                try:
                    return pool.get_connection()
                except exceptions.MaxConnectionsError:
                    pass
            return line.lent(pool, deadline)
    except exceptions.ResponseError as error:
        at_connecting(error)
        raise


def give_back(pool: Any, connection: Any) -> None:
    """Give a connection back to *pool*, and tell the first caller who waits."""
    pool.release(connection)
    line = pool.line if isinstance(pool, Pool) else line_of(pool)
    if line.waiting:
        line.call_next()


class Pool(ConnectionPool):
    """A pool that lends connections of ``in_time`` on a short way. Unusual cases go redis-py's way.

    Attributes:
        line: The callers that wait for a connection.
    """

    def reset(self) -> None:
        # A thread of the parent may have held the lock when it forked, and would for ever.
        self._lock = threading.RLock()
        self.line = Line()
        super().reset()

    def get_connection(self, *names: Any, **options: Any) -> Any:
        return self.ready() or self._connected(*names, **options)

    def ready(self) -> Any:
        """Lend a connection that is open and has nothing to read. None if the next one is not known to be so."""
        connection = None
        try:
            if self.pid == os.getpid():  # else it is a forked process, and the connections are the parent's
                with self._lock:
                    if self._available_connections:
                        connection = self._available_connections.pop()
                        self._in_use_connections.add(connection)
            if connection is None:
                return None
            poll = connection._poll
            if connection._sock is not None and poll is not None and not poll(0):
                return connection
        except BaseException:  # a signal's, or a timeout of other code under gevent
            if connection is not None:
                self.release(connection)
            raise
        self.release(connection)
        return None

    def _connected(self, *names: Any, **options: Any) -> Any:
        """Lend a connection as redis-py does."""
        try:
            if len(self._in_use_connections) >= self.max_connections:
                self.reclaim()
            return super().get_connection(*names, **options)
        except (AttributeError, TypeError, OSError) as error:  # another thread has closed it meanwhile
            if isinstance(error, OSError) and error.errno != errno.EBADF:
                raise
            raise exceptions.ConnectionError(f"Connection lost: {error}") from error

    def reclaim(self) -> None:
        """Take back the connections that nobody has: an exception from elsewhere has cut their release short."""
        with self._lock:
            for connection in list(self._in_use_connections):
                if sys.getrefcount(connection) <= _REFERENCES_OF_NOBODY:
                    connection.disconnect()
                    self._in_use_connections.discard(connection)
                    self._available_connections.append(connection)

    def release(self, connection: Any) -> None:
        if self.pid != os.getpid() or connection.pid != self.pid or connection.should_reconnect():
            super().release(connection)
            return
        with self._lock:
            if connection in self._in_use_connections:
                self._in_use_connections.remove(connection)
                self._available_connections.append(connection)


@cache
def in_time(kind: type[Any]) -> type[Any]:
    """Make the class of connections like *kind* that look at the deadline."""
    return type(kind.__name__, (_InTime, kind), {})


def with_deadline(client: redis.Redis) -> redis.Redis:
    """Let the connections of *client* look at the deadline."""
    pool = client.connection_pool
    pool.connection_class = in_time(pool.connection_class)
    return client
