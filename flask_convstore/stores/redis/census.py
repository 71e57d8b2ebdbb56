"""A census of the keys under a prefix: how many there are of each kind, in a walk of bounded steps."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import redis
from redis import exceptions

from .cluster import LazyCluster
from .failures import as_ours
from .survey import connected, escaped, fields_of_info, name_of, primaries

_SCANNED = 1_000

_PLACE = re.compile(r"(?:map:[^{}:]+:|conversation:)?")
_KINDS = (
    ("figures", re.compile(r"figures:\{sums\}.*")),
    ("aliases", re.compile(r"alias:\{.*\}")),
    ("lists of owners", re.compile(r"owner:\{[^}]*\}")),
    ("facts of owners", re.compile(r"owner:\{[^}]*\}:.*")),
    ("sessions", re.compile(r"\{[^}]*\}")),
    ("histories", re.compile(r".*\{[^}]*\}:history")),
    ("receipts", re.compile(r".*\{[^}]*\}:receipts")),
    ("tombstones", re.compile(r".*\{[^}]*\}:tokens")),
    ("streams", re.compile(r".*\{[^}]*\}:(?:reply:.*|events)")),
)
"""Kinds of keys, by what stands behind the prefix and the name of the place."""


class Census(NamedTuple):
    """The keys under a prefix.

    Attributes:
        counts: Number of keys of each kind. A tombstone may be that of a session that has ended within the last day.
        keys: Number of all keys that were counted.
        is_whole: All keys were looked at.
        memory: Bytes that each server uses, for all that it holds.
    """

    counts: dict[str, int]
    keys: int
    is_whole: bool
    memory: dict[str, int]


def census(client: redis.Redis | LazyCluster, prefix: str, most: int) -> Census:
    """Count keys under *prefix*, in a walk that ends behind *most* keys.

    Raises:
        StoreUnavailable, StoreMisconfigured: A server does not answer, or refuses.
    """
    counts: Counter[str] = Counter()
    memory: dict[str, int] = {}
    try:
        for pool in primaries(client):
            with connected(pool) as connection:
                memory[name_of(pool)] = int(fields_of_info(connection).get("used_memory") or 0)
                for key in walk(connection, f"{escaped(prefix)}*"):
                    if counts.total() >= most:
                        return Census(dict(counts), counts.total(), is_whole=False, memory=memory)
                    counts[kind_of(key[len(prefix) :])] += 1
    except exceptions.RedisError as error:
        raise as_ours(error, "SCAN", writes=False) from error
    return Census(dict(counts), counts.total(), is_whole=True, memory=memory)


def kind_of(rest: str) -> str:
    """Name the kind of a key, from what stands behind the prefix."""
    place = _PLACE.match(rest)
    name = place[0] if place else ""
    kind = next((kind for kind, pattern in _KINDS if pattern.fullmatch(rest[len(name) :])), "others")
    if kind == "sessions" and name:
        return "chats" if name == "conversation:" else "values of mappings"
    return kind


def walk(connection: Any, pattern: str) -> Iterator[str]:
    """Walk through the keys of one server that fit *pattern*. One that moves meanwhile may come twice."""
    cursor: Any = 0
    while True:
        connection.send_command("SCAN", cursor, "MATCH", pattern, "COUNT", _SCANNED)
        reply, keys = connection.read_response()
        yield from (key.decode(errors="replace") for key in keys)
        cursor = int(reply)
        if not cursor:
            return


def mapping_names(client: redis.Redis | LazyCluster, prefix: str) -> list[str]:
    """Find the names of the mappings that hold a session, in a walk through the keys.

    Raises:
        StoreUnavailable, StoreMisconfigured: A server does not answer, or refuses.
    """
    found: set[str] = set()
    begin = f"{prefix}map:"
    try:
        for pool in primaries(client):
            with connected(pool) as connection:
                found.update(
                    key[len(begin) :].partition(":")[0] for key in walk(connection, f"{escaped(begin)}*:{{*}}")
                )
    except exceptions.RedisError as error:
        raise as_ours(error, "SCAN", writes=False) from error
    return sorted(found)
