"""Reach of a server: a connection is opened and closed, without a word.

A command would need a password and a database, take a connection of the pool, and count as a round trip. Neither that nor a
TLS handshake is needed to learn that nobody is there, and a wrong password is told by the first call.
"""

from __future__ import annotations

import errno
import os
import selectors
import socket
from collections.abc import Callable, Sequence
from typing import Any

from redis import exceptions

from ...domain.clock import monotonic
from ...errors import ConvstoreError
from .failures import as_ours

Address = tuple[str, int] | str
"""Host and port, or the path of a socket."""

_SLICE = 0.02
"""Seconds between two looks whether the caller wants to go on."""

_UNDER_WAY = {errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EALREADY, errno.EINTR}


class Over(Exception):
    """The caller does not want to go on."""


def unreachable(addresses: Sequence[Address], seconds: float, is_over: Callable[[], bool]) -> ConvstoreError | None:
    """Connect to one server after the other, until one takes a connection. Return the error of the last if none does.

    Args:
        seconds: Limit for each server. The system's resolution of a name is not bounded.
        is_over: Asked while a connection is under way.

    Raises:
        Over: *is_over* has become true.
    """
    failed: ConvstoreError | None = None
    for address in addresses:
        try:
            _reach(address, seconds, is_over)
        except OSError as error:
            place = address if isinstance(address, str) else "{}:{}".format(*address)
            told = f"Error {error.errno} connecting to {place}. {error.strerror}."  # redis-py's words
            failed = as_ours(exceptions.ConnectionError(told), "", writes=False)
        else:
            return None
    return failed


def _reach(address: Address, seconds: float, is_over: Callable[[], bool]) -> None:
    if isinstance(address, str):
        _connect(socket.AF_UNIX, address, seconds, is_over)
        return
    found = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)
    for number, (family, *_, at) in enumerate(found, 1):
        try:
            _connect(family, at, seconds, is_over)
        except OSError:
            if number == len(found):
                raise
        else:
            return


def _connect(family: int, at: Any, seconds: float, is_over: Callable[[], bool]) -> None:
    """Open and close one connection.

    Raises:
        OSError: Nobody took it in time.
        Over: The caller does not want to go on.
    """
    until = monotonic() + seconds
    with socket.socket(family, socket.SOCK_STREAM) as one, selectors.DefaultSelector() as selector:
        one.setblocking(False)
        selector.register(one, selectors.EVENT_WRITE)
        code = one.connect_ex(at)
        if family == getattr(socket, "AF_UNIX", None) and code == errno.EAGAIN:
            return  # it is there, and has much to do
        while code in _UNDER_WAY:
            if is_over():
                raise Over
            if selector.select(_SLICE):
                code = one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            elif monotonic() > until:
                code = errno.ETIMEDOUT
    if code:
        raise OSError(code, os.strerror(code))
