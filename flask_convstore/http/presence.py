"""The presence of a client that reads a stream. A worker would serve those that have left, until it next writes."""

from __future__ import annotations

import select
import socket
from collections.abc import Mapping
from typing import Any


def has_left(environ: Mapping[str, Any]) -> bool:
    """Tell whether the client of a request has closed its connection, as far as the server lets us know.

    gunicorn and Flask's own server show the connection. waitress tells by itself if it has ``channel_request_lookahead``.
    """
    told = environ.get("waitress.client_disconnected")
    if told is not None:
        return bool(told())
    connection = environ.get("gunicorn.socket") or environ.get("werkzeug.socket")
    if connection is None or not hasattr(select, "poll"):
        return False
    try:
        poll = select.poll()
        poll.register(connection, select.POLLIN)
        return bool(poll.poll(0)) and not connection.recv(1, socket.MSG_PEEK)
    except ValueError:  # TLS, where nothing can be seen without taking it
        return False
    except OSError:
        return True
