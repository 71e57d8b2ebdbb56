"""A survey of the servers behind a store: what each tells of itself, and how it does at this moment. For ``doctor``.

Each server is asked over a connection of its own. Nothing is asked that takes it long: no KEYS, and SCAN in a few steps.
"""

from __future__ import annotations

import contextlib
import re
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import redis
from redis import exceptions

from ...domain.clock import monotonic, wall_seconds
from .arguments import session_key, session_keys
from .cluster import LazyCluster
from .failures import as_ours
from .trials import Trial, lacking

_PINGS = 100
_SCANS, _SCANNED = 20, 1_000
"""Steps of a look for keys in another database, and keys of each."""
_CONFIG = ("save", "appendfsync", "maxclients")
_TRIES = 1_000
"""Scratch names after which a primary without slots is not looked for any more."""


@dataclass(frozen=True, kw_only=True)
class ServerFacts:
    """One server, as it describes itself.

    Attributes:
        name: Host and port, or the path of its socket.
        database: The number of the database that we use.
        info: The fields of INFO. Empty: it does not tell us.
        config: Some of its configuration. Empty: it does not tell us.
        ahead_ms: Milliseconds by which its clock is ahead of ours, less than the way there explains. None: not known.
        pings_ms: The times of some round trips, in milliseconds, sorted.
        lacking: Commands that it does not let us run.
        has_keys: Keys under our prefix were found in the database that we use.
        elsewhere: Other databases in which keys under our prefix were found.
    """

    name: str
    database: int
    info: Mapping[str, str]
    config: Mapping[str, str]
    ahead_ms: float | None
    pings_ms: tuple[float, ...]
    lacking: tuple[Trial, ...]
    has_keys: bool
    elsewhere: tuple[int, ...]


def survey(client: redis.Redis | LazyCluster, prefix: str, *others: str) -> list[ServerFacts]:
    """Ask each primary. The rights are tried for keys with *prefix*, and for those with *others*.

    Raises:
        StoreUnavailable: One does not answer.
        StoreMisconfigured: One refuses us.
    """
    try:
        return [_facts(name, pool, scratch, prefix, others) for name, pool, scratch in _primaries(client, prefix)]
    except exceptions.RedisError as error:
        raise as_ours(error, "the survey", writes=False) from error


def primaries(client: redis.Redis | LazyCluster) -> list[Any]:
    """Give the connection pool of each primary. A Cluster is asked which these are.

    Raises:
        RedisError: No node of the Cluster answers.
    """
    if not isinstance(client, LazyCluster):
        return [client.connection_pool]
    cluster, _ = client.get()
    nodes = sorted(cluster.get_primaries(), key=lambda node: node.name)
    return [cluster.get_redis_connection(node).connection_pool for node in nodes]


def _primaries(client: redis.Redis | LazyCluster, prefix: str) -> Iterator[tuple[str, Any, str]]:
    """Give each primary's name and pool, with the key of a scratch session that belongs to it."""
    if not isinstance(client, LazyCluster):
        pool = client.connection_pool
        yield name_of(pool), pool, _scratch(prefix)
        return
    cluster, _ = client.get()
    for node in sorted(cluster.get_primaries(), key=lambda node: node.name):
        keys = (_scratch(prefix) for _ in range(_TRIES))
        key = next((key for key in keys if cluster.get_node_from_key(key).name == node.name), None)
        if key:
            yield node.name, cluster.get_redis_connection(node).connection_pool, key


def _scratch(prefix: str) -> str:
    return session_key(prefix, f"doctor-{secrets.token_hex(8)}")


def name_of(pool: Any) -> str:
    """Name a server by host and port, or by the path of its socket, of which its pool knows."""
    known = pool.connection_kwargs
    if "path" in known:
        return str(known["path"])
    return str(getattr(pool, "service_name", None) or f"{known.get('host', 'localhost')}:{known.get('port', 6379)}")


@contextlib.contextmanager
def connected(pool: Any, **options: Any) -> Iterator[Any]:
    """Make a connection beside those of the pool, for the length of a block. *options* differ from the pool's."""
    connection = pool.connection_class(**{**pool.connection_kwargs, **options})
    try:
        connection.connect()
        yield connection
    finally:
        connection.disconnect()


def _facts(name: str, pool: Any, scratch: str, prefix: str, others: Sequence[str]) -> ServerFacts:
    with connected(pool) as connection:
        info = fields_of_info(connection)
        pings = tuple(sorted(_seconds_of(connection, "PING") * 1000 for _ in range(_PINGS)))
        database = int(pool.connection_kwargs.get("db") or 0)
        facts = ServerFacts(
            name=name,
            database=database,
            info=info,
            config=_config(connection),
            ahead_ms=_ahead_ms(connection),
            pings_ms=pings,
            has_keys=_has_keys(connection, prefix),
            elsewhere=tuple(_elsewhere(pool, info, database, prefix)),
            lacking=(),
        )
    found: dict[Trial, None] = {}
    for begin in (prefix, *others):
        with connected(pool) as connection:  # which is of no other use behind this
            found.update(dict.fromkeys(lacking(connection, begin + scratch[len(prefix) :])))
    return replace(facts, lacking=tuple(found))


def _asked(connection: Any, *command: str | int) -> Any:
    """Ask. None where the server refuses to tell."""
    connection.send_command(*command)
    try:
        return connection.read_response(disconnect_on_error=False)
    except exceptions.ResponseError:
        return None


def _seconds_of(connection: Any, *command: str) -> float:
    started = monotonic()
    _asked(connection, *command)
    return monotonic() - started


def fields_of_info(connection: Any) -> dict[str, str]:
    """Read the fields of INFO. Empty where the server refuses to tell."""
    told = _asked(connection, "INFO")
    lines = told.decode(errors="replace").splitlines() if told else ()
    return {name: value for name, _, value in (line.partition(":") for line in lines) if value}


def _config(connection: Any) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in _CONFIG:
        reply = _asked(connection, "CONFIG", "GET", name)
        parts = [part.decode(errors="replace") for part in reply or ()]
        found.update(zip(parts[::2], parts[1::2], strict=True))
    return found


def _ahead_ms(connection: Any) -> float | None:
    before = wall_seconds()
    reply = _asked(connection, "TIME")
    after = wall_seconds()
    if reply is None:
        return None
    theirs = int(reply[0]) + int(reply[1]) / 1e6
    return round(1000 * (theirs - min(max(theirs, before), after)), 3)


def escaped(prefix: str) -> str:
    """Write a prefix so that it stands for itself in a pattern."""
    return re.sub(r"([*?\[\]\\])", r"\\\1", prefix)


def _has_keys(connection: Any, prefix: str) -> bool:
    """Tell whether a few steps of a walk find a key of ours."""
    cursor: Any = 0
    for _ in range(_SCANS):
        reply = _asked(connection, "SCAN", cursor, "MATCH", f"{escaped(prefix)}*{{*}}", "COUNT", _SCANNED)
        if not reply or reply[1]:
            return bool(reply)
        cursor = int(reply[0])
        if not cursor:
            break
        time.sleep(0.001)
    return False


def _elsewhere(pool: Any, info: Mapping[str, str], database: int, prefix: str) -> Iterator[int]:
    """Find other databases with keys under our prefix."""
    for name in info:
        number = int(name[2:]) if re.fullmatch(r"db\d+", name) else database
        if number == database:
            continue
        with contextlib.suppress(exceptions.ResponseError), connected(pool, db=number) as connection:
            if _has_keys(connection, prefix):
                yield number


def forget_ended(client: redis.Redis | LazyCluster, prefix: str, session_id: str) -> None:
    """Remove what is kept of a deleted session, so that a late write is known. For scratch sessions.

    Raises:
        StoreUnavailable, StoreMisconfigured: The server does not answer, or refuses.
    """
    try:
        server: Any = client.get()[0] if isinstance(client, LazyCluster) else client
        server.unlink(*session_keys(prefix, session_id))
    except exceptions.RedisError as error:
        raise as_ours(error, session_key(prefix, session_id), writes=True) from error
