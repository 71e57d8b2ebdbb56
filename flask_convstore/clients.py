"""URL > client: a Redis client for every scheme but ``memory://``. It connects at the first command."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from . import embedded
from .config import Settings, masked
from .errors import ConfigurationError
from .redis_calls import Patience


def connect(settings: Settings, instance_path: Path) -> redis.Redis:
    """A client with every timeout and limit stated: redis-py's own defaults contradict each other.

    It retries nothing: that is done above it, within a budget. A relative folder of an embedded server lies in
    *instance_path*.
    """
    options: dict[str, Any] = {
        "decode_responses": False,
        "protocol": 2,  # RESP3 would turn on maintenance pushes, which switch off the pool's check for stale replies
        "socket_connect_timeout": settings.connect_timeout,
        "socket_timeout": settings.command_timeout,
        "health_check_interval": 0,
        "max_connections": settings.max_connections,
        "retry": Retry(NoBackoff(), 0),
    }
    if settings.url.startswith("embedded:"):
        return _disconnecting(embedded.connect(settings.url, instance_path, options))
    if not settings.url.startswith("unix:"):
        options["socket_keepalive"] = True
    try:
        client = redis.Redis.from_url(settings.url, **options)
        pool = client.connection_pool
        pool.connection_class(**pool.connection_kwargs)  # it connects nowhere yet, but refuses unknown options
    except (ValueError, TypeError) as error:
        raise ConfigurationError([f"URL {masked(settings.url)} is refused by redis-py: {error}"]) from None
    return _disconnecting(client)


def patience_of(settings: Settings) -> Patience:
    """How long calls may take by *settings*."""
    return Patience(settings.budget, settings.command_timeout, settings.retries)


def _disconnecting(client: redis.Redis) -> redis.Redis:
    """*client*, whose connections are closed when it is dropped with its app.

    An app is garbage in circles, in which sockets may be found before those who would close them.
    """
    weakref.finalize(client, client.connection_pool.disconnect).atexit = False
    return client
