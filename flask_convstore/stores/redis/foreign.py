"""Keys that other code has written: those of a pattern and a type, with their values, in a walk through all servers."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import redis
from redis import exceptions

from .census import kind_of, walk
from .cluster import LazyCluster
from .failures import as_ours
from .survey import connected, escaped, primaries

_TOGETHER = 50
_READ: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "string": (("GET",), ()),
    "list": (("LRANGE",), ("0", "-1")),
    "ReJSON-RL": (("JSON.GET",), ()),
}
"""The command that reads a key of a type, before and behind the key."""


class ForeignKey(NamedTuple):
    """A key of other code: the part of its name for which the asterisk stands, and its values."""

    name: str
    values: tuple[bytes, ...]


def foreign_keys(
    client: redis.Redis | LazyCluster, pattern: tuple[str, str], kind: str, prefix: str
) -> Iterator[ForeignKey]:
    """Read the keys of that type whose names have *pattern* around an asterisk. Keys of ours under *prefix* are left out.

    Where a walk shows a key twice, it comes once.

    Raises:
        StoreUnavailable, StoreMisconfigured: A server does not answer, or refuses.
    """
    seen: set[str] = set()
    try:
        for pool in primaries(client):
            with connected(pool) as walking, connected(pool) as reading:
                keys = (key for key in _keys(walking, pattern, prefix) if key not in seen)
                for some in _batches(keys):
                    fresh = list(dict.fromkeys(some))
                    seen.update(fresh)
                    yield from _read(reading, fresh, pattern, kind)
    except exceptions.RedisError as error:
        raise as_ours(error, "SCAN", writes=False) from error


def _keys(connection: Any, pattern: tuple[str, str], prefix: str) -> Iterator[str]:
    before, behind = pattern
    for key in walk(connection, f"{escaped(before)}*{escaped(behind)}"):
        is_ours = key.startswith(prefix) and kind_of(key[len(prefix) :]) != "others"
        if not is_ours and len(key) > len(before) + len(behind):
            yield key


def _read(connection: Any, keys: Sequence[str], pattern: tuple[str, str], kind: str) -> Iterator[ForeignKey]:
    kinds = _asked(connection, [("TYPE", key) for key in keys])
    wanted = [key for key, found in zip(keys, kinds, strict=True) if found == kind.encode()]
    before, behind = _READ[kind]
    values = _asked(connection, [(*before, key, *behind) for key in wanted])
    for key, value in zip(wanted, values, strict=True):
        if isinstance(value, exceptions.RedisError):
            raise value
        if value:  # else it is gone meanwhile
            name = key[len(pattern[0]) : len(key) - len(pattern[1])]
            yield ForeignKey(name, tuple(value) if isinstance(value, list) else (value,))


def _asked(connection: Any, commands: Sequence[tuple[str, ...]]) -> list[Any]:
    """Send commands in one round trip. An error is a value."""
    if not commands:
        return []
    connection.send_packed_command(connection.pack_commands(commands))
    replies: list[Any] = []
    for _ in commands:
        try:
            replies.append(connection.read_response(disconnect_on_error=False))
        except exceptions.ResponseError as error:
            replies.append(error)
    return replies


def _batches(keys: Iterable[str]) -> Iterator[list[str]]:
    iterator = iter(keys)
    while some := list(itertools.islice(iterator, _TOGETHER)):
        yield some
