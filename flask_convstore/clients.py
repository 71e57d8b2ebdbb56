"""URL > client: a Redis client for every scheme but ``memory://``. It connects at the first command.

| URL                                         | server                                                            |
| ------------------------------------------- | ----------------------------------------------------------------- |
| redis://host:6379/0, rediss://… (TLS)       | one, also a proxy or a managed service                            |
| unix:///run/redis.sock                      | one, on this host                                                 |
| redis+sentinel://h1:26379,h2:26379/mymaster/0 | the primary that the Sentinels name, rediss+sentinel:// by TLS  |
| redis+cluster://h1:7000,h2:7001             | a Cluster, rediss+cluster:// by TLS                               |
| embedded:///folder                          | one of our own, see ``embedded``                                  |
"""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import redis
from redis import exceptions
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.connection import SSLConnection
from redis.retry import Retry
from redis.sentinel import Sentinel, SentinelManagedConnection

from . import embedded
from .config import Settings, masked
from .errors import ConfigurationError
from .redis_calls import Patience
from .redis_cluster import LazyCluster


def _stated(settings: Settings) -> dict[str, Any]:
    """Every timeout and limit of a connection: redis-py's own defaults contradict each other.

    It retries nothing: that is done above it, within a budget.
    """
    return {
        "decode_responses": False,
        "protocol": 2,  # RESP3 would turn on maintenance pushes, which switch off the pool's check for stale replies
        "socket_connect_timeout": settings.connect_timeout,
        "socket_timeout": settings.command_timeout,
        "health_check_interval": 0,
        "max_connections": settings.max_connections,
        "retry": Retry(NoBackoff(), 0),
    }


def connect(settings: Settings, instance_path: Path) -> redis.Redis:
    """A client of one server; a relative folder of an embedded one lies in *instance_path*."""
    options = _stated(settings)
    if settings.url.startswith("embedded:"):
        return _disconnecting(embedded.connect(settings.url, instance_path, options))
    if not settings.url.startswith("unix:"):
        options["socket_keepalive"] = True
    if settings.url.partition(":")[0].endswith("+sentinel"):
        return _disconnecting(_sentinel(settings.url, options))
    try:
        client = redis.Redis.from_url(settings.url, **options)
        pool = client.connection_pool
        pool.connection_class(**pool.connection_kwargs)  # it connects nowhere yet, but refuses unknown options
    except (ValueError, TypeError) as error:
        raise ConfigurationError([f"URL {masked(settings.url)} is refused by redis-py: {error}"]) from None
    return _disconnecting(client)


_FIRST_PORT = {"cluster": 6379, "sentinel": 26379}


def _nodes(url: str, kind: str, options: dict[str, Any]) -> tuple[list[tuple[str, int]], str]:
    """The hosts and ports that *url* names, and its path; user, password and TLS go into *options*."""
    secure, _, rest = url.partition("://")
    location, _, path = rest.partition("/")
    credentials, _, hosts = location.rpartition("@")
    if credentials:
        user, _, password = credentials.partition(":")
        options.update(username=unquote(user) or None, password=unquote(password))
    if secure.startswith("rediss"):
        options["ssl"] = True
    parsed = [urlsplit(f"//{host}") for host in hosts.split(",") if host]
    nodes = [(one.hostname, one.port or _FIRST_PORT[kind]) for one in parsed if one.hostname]
    return nodes, path


def connect_cluster(settings: Settings) -> LazyCluster:
    """A client of a Cluster, for the URLs ``redis+cluster://…``."""
    options = {**_stated(settings), "socket_keepalive": True}
    nodes, _ = _nodes(settings.url, "cluster", options)

    def make() -> RedisCluster:
        startup = [ClusterNode(host, port) for host, port in nodes]  # type: ignore[no-untyped-call]
        return RedisCluster(startup_nodes=startup, require_full_coverage=False, **options)

    return LazyCluster(make)


class _SentinelConnection(SentinelManagedConnection):
    """One that is never used again after a read that was interrupted: the next caller would get the reply."""

    def read_response(self, *arguments: Any, **options: Any) -> Any:
        try:
            return super().read_response(*arguments, **options)
        except exceptions.ResponseError:
            raise
        except BaseException:
            self.disconnect()  # type: ignore[no-untyped-call]
            raise


class _SentinelTlsConnection(_SentinelConnection, SSLConnection):
    """The same by TLS."""


def _sentinel(url: str, options: dict[str, Any]) -> redis.Redis:
    nodes, path = _nodes(url, "sentinel", options)
    name, _, database = path.partition("/")
    secure = options.pop("ssl", False)
    waits = {key: options[key] for key in ("socket_connect_timeout", "socket_timeout")}
    sentinel = Sentinel(nodes, sentinel_kwargs=waits)  # type: ignore[no-untyped-call]
    options.update(db=int(database or 0), connection_class=_SentinelTlsConnection if secure else _SentinelConnection)
    client: redis.Redis = sentinel.master_for(name, **options)  # type: ignore[no-untyped-call]
    return client


def patience_of(settings: Settings) -> Patience:
    """How long calls may take by *settings*."""
    return Patience(settings.budget, settings.command_timeout, settings.retries)


def _disconnecting(client: redis.Redis) -> redis.Redis:
    """*client*, whose connections are closed when it is dropped with its app.

    An app is garbage in circles, in which sockets may be found before those who would close them.
    """
    weakref.finalize(client, client.connection_pool.disconnect).atexit = False
    return client
