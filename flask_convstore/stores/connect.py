"""Clients for URLs: a Redis client for every scheme but ``memory://``, or the app's own. It connects at the first command.

| URL                                         | server                                                            |
| ------------------------------------------- | ----------------------------------------------------------------- |
| redis://host:6379/0, rediss://… (TLS)       | one, also a proxy or a managed service                            |
| unix:///run/redis.sock                      | one, on this host                                                 |
| redis+sentinel://h1:26379,h2:26379/mymaster/0 | the primary that the Sentinels name, rediss+sentinel:// by TLS  |
| redis+cluster://h1:7000,h2:7001             | a Cluster, rediss+cluster:// by TLS                               |
| embedded:///folder                          | one of our own, see ``embedded``                                  |

After a ``?`` come options of redis-py's connections, such as ``ssl_ca_certs``, and of the Sentinels themselves
``sentinel_username`` and ``sentinel_password``: user and password before the hosts are the server's.
"""

from __future__ import annotations

import contextlib
import importlib.util
import ssl
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.cluster import REDIS_ALLOWED_KEYS, ClusterNode, RedisCluster
from redis.connection import Connection, SSLConnection, parse_url
from redis.retry import Retry

from ..config import Settings
from ..errors import ConfigurationError
from ..urls import is_cluster, masked
from .redis.calls import Patience
from .redis.cluster import LazyCluster
from .redis.connections import Pool, in_time, with_deadline
from .redis.reach import Address
from .redis.sentinel import client_by_sentinels


def client_of(
    settings: Settings, given: redis.Redis | RedisCluster | None, instance_path: Path
) -> redis.Redis | LazyCluster | None:
    """Choose the client that the app has *given*, or make one for the URL. None for ``memory://``.

    Raises:
        ConfigurationError: The client cannot be used.
    """
    fault = None if given is None else _fault_of(given)
    if fault:
        raise ConfigurationError([fault])
    if isinstance(given, RedisCluster):
        return LazyCluster(lambda: given)
    if given is not None or settings.url.startswith("memory:"):
        return given
    return connect_cluster(settings) if is_cluster(settings.url) else connect(settings, instance_path)


def _fault_of(client: Any) -> str | None:
    """Say why a client of the app's cannot be used, and what to do. None: it can, or it is not known that it cannot."""
    modules = {kind.__module__ for kind in type(client).__mro__}
    packages = {module.partition(".")[0] for module in modules}
    if any(module.startswith("redis.asyncio") for module in modules):
        return "the client is one of redis.asyncio. Make it with redis.Redis."
    if "valkey" in packages:
        return "the client is one of valkey-py. Make it with redis.Redis of redis-py, which serves Valkey too."
    if not hasattr(client, "get_encoder"):
        return f"client= takes a redis.Redis or a RedisCluster, not a {type(client).__name__}. A URL is CONVSTORE_URL."
    if client.get_encoder().decode_responses:
        return "the client decodes responses. Make it with decode_responses=False."
    if "fakeredis" in packages and importlib.util.find_spec("lupa") is None:
        return "fakeredis runs scripts with Lua only. Install fakeredis[lua]."
    return None


def _stated(settings: Settings) -> dict[str, Any]:
    """State every timeout and limit of a connection, since redis-py's own defaults contradict each other.

    redis-py retries nothing. That is done above it, within a budget.
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
    """Make a client of one server. A relative folder of an embedded server lies in *instance_path*."""
    options = _stated(settings)
    if settings.url.startswith("embedded:"):
        from .embedded import server  # brings ctypes

        client = server.connect(settings.url, instance_path, options)
    else:
        if not settings.url.startswith("unix:"):
            options["socket_keepalive"] = True
        is_sentinel = settings.url.partition(":")[0].endswith("+sentinel")
        with _explained(settings.url):
            client = _sentinel(settings.url, options) if is_sentinel else _client(settings.url, options)
            _check(client.connection_pool.connection_class, client.connection_pool.connection_kwargs)
    return _disconnecting(with_deadline(client))


@contextlib.contextmanager
def _explained(url: str) -> Iterator[None]:
    """Tell what redis-py or OpenSSL refuses of *url*, before anything connects."""
    try:
        yield
    except (ValueError, TypeError, OSError, redis.RedisError) as error:
        # The text before an @ may be the rest of a password, and redis-py would name it as an option.
        is_cut = "@" in url.partition("?")[2]
        reason = "a ? in a password is written %3F, an @ in an option %40" if is_cut else error
        raise ConfigurationError([f"URL {masked(url)} is refused: {reason}"]) from None


def _client(url: str, options: dict[str, Any]) -> redis.Redis:
    return redis.Redis.from_pool(Pool.from_url(url, **options))


def _check(kind: type[Any], options: dict[str, Any]) -> None:
    """Refuse options that a connection does not know, and certificates that cannot be read. Nothing connects."""
    if options.get("decode_responses"):
        raise ValueError("replies are bytes here: leave out decode_responses")
    made = kind(**{name: value for name, value in options.items() if name != "max_connections"})  # the pool's
    if isinstance(made, SSLConnection):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if made.ca_certs or made.ca_path or made.ca_data:
            context.load_verify_locations(made.ca_certs, made.ca_path, made.ca_data)
        if made.certfile or made.keyfile:
            context.load_cert_chain(made.certfile, made.keyfile, made.certificate_password or "")


_FIRST_PORT = {"cluster": 6379, "sentinel": 26379}


def _nodes(url: str, kind: str, options: dict[str, Any]) -> tuple[list[tuple[str, int]], str]:
    """Read the hosts and ports that *url* names, and its path. User, password and the query go into *options*."""
    rest, _, query = url.partition("://")[2].partition("?")
    location, _, path = rest.partition("/")
    credentials, _, hosts = location.rpartition("@")
    if credentials:
        user, _, password = credentials.partition(":")
        options.update(username=unquote(user) or None, password=unquote(password))
    options.update(parse_url(f"redis://?{query}"))  # type: ignore[no-untyped-call]
    parsed = [urlsplit(f"//{host}") for host in hosts.split(",") if host]
    nodes = [(one.hostname, one.port or _FIRST_PORT[kind]) for one in parsed if one.hostname]
    return nodes, path


def connect_cluster(settings: Settings) -> LazyCluster:
    """Make a client of a Cluster, for the URLs ``redis+cluster://…``."""
    stated = {**_stated(settings), "socket_keepalive": True}
    options = dict(stated)
    kind = SSLConnection if settings.url.startswith("rediss") else Connection
    with _explained(settings.url):
        nodes, _ = _nodes(settings.url, "cluster", options)
        _check(kind, options)
        if dropped := sorted(options.keys() - {*REDIS_ALLOWED_KEYS, *stated}):
            raise ValueError(f"redis-py has no option {dropped[0]!r} for a Cluster")

    def make() -> RedisCluster:
        (host, port), *others = nodes
        startup: list[Any] = [ClusterNode(*other) for other in others]  # type: ignore[no-untyped-call]
        # Where redis-py is given a URL, it lets us choose the class of the connections.
        first = f"redis://[{host}]:{port}" if ":" in host else f"redis://{host}:{port}"
        whole: Any = {"connection_class": in_time(kind), **options}
        return RedisCluster(url=first, startup_nodes=startup, require_full_coverage=False, **whole)

    return LazyCluster(make)


def _sentinel(url: str, options: dict[str, Any]) -> redis.Redis:
    nodes, path = _nodes(url, "sentinel", options)
    name, _, database = path.partition("/")
    options.setdefault("db", int(database or 0))
    return client_by_sentinels(nodes, name, options, is_secure=url.startswith("rediss"))


def addresses_of(url: str) -> list[Address]:
    """Find where the server of *url* is, or its Sentinels or nodes. None for a server that would be started, or is none."""
    scheme = url.partition(":")[0]
    if scheme in ("memory", "embedded"):
        return []
    if "+" in scheme:
        return list(_nodes(url, scheme.rpartition("+")[2], {})[0])
    found = parse_url(url)  # type: ignore[no-untyped-call]
    return [found["path"]] if scheme == "unix" else [(found.get("host", "localhost"), found.get("port", 6379))]


def patience_of(settings: Settings) -> Patience:
    """Read the time that calls may take from *settings*."""
    return Patience(settings.budget, settings.command_timeout, settings.retries)


def _disconnecting(client: redis.Redis) -> redis.Redis:
    """Let the connections of *client* be closed when it is dropped with its app.

    An app is garbage in circles, where a socket may be found before the object that would close it.
    """
    weakref.finalize(client, client.connection_pool.disconnect).atexit = False
    return client


def target_of(client: redis.Redis | RedisCluster) -> str:
    """Name the server of an app's own client, without a password."""
    if isinstance(client, RedisCluster):
        return f"a client of the cluster {' '.join(sorted(client.nodes_manager.startup_nodes))}"
    pool: Any = client.connection_pool
    manager = getattr(pool, "sentinel_manager", None)
    if manager:
        known = [one.connection_pool.connection_kwargs for one in manager.sentinels]
        nodes = " ".join(sorted(f"{found.get('host')}:{found.get('port')}" for found in known))
        return f"a client of {pool.service_name} by the sentinels {nodes}"
    known = pool.connection_kwargs
    return "a client of " + " ".join(
        f"{part}={known[part]}" for part in ("host", "port", "path", "db") if part in known
    )
