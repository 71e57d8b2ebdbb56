"""Mending of what lies beside sessions: entries of owners' indexes, which are their quota's places too, and aliases.

Sessions themselves are only read. An entry or an alias that is younger than a minute stays, since its session may be about
to be created.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple
from urllib.parse import unquote

import redis
from redis import exceptions

from ...domain.types import Limits
from .arguments import in_key, session_key
from .calls import Call, Calls, Patience
from .census import escaped, walk
from .cluster import ClusterCalls, LazyCluster
from .failures import as_ours
from .owner_index import RedisIndex
from .survey import connected, primaries

_TOGETHER = 500
_GRACE_MS = 60_000


class Mended(NamedTuple):
    """Numbers of what was wrong.

    Attributes:
        stale: Entries of an owner's index whose session is gone, or another owner's.
        missing: Sessions that their owner's index does not know.
        aliases: Aliases that lead to sessions that are gone.
    """

    stale: int
    missing: int
    aliases: int


class Mending:
    """Looks through all keys under a prefix, and mends unless it is a *dry_run*.

    Its methods raise ``StoreUnavailable`` and ``StoreMisconfigured``. Repeating them is harmless.
    """

    def __init__(
        self, client: redis.Redis | LazyCluster, prefix: str, limits: Limits, patience: Patience, *, dry_run: bool
    ) -> None:
        is_cluster = isinstance(client, LazyCluster)
        self._client = client
        self._calls = ClusterCalls(client, patience) if isinstance(client, LazyCluster) else Calls(client, patience)
        assert is_cluster == isinstance(self._calls, ClusterCalls)
        self._prefix = prefix
        self._limits = limits
        self._index = RedisIndex(self._calls, prefix, limits.max_age_ms)
        self._dry_run = dry_run

    def all(self) -> Mended:
        """Mend all."""
        return Mended(self._stale(), self._missing(), self._aliases())

    def _stale(self) -> int:
        owners = (unquote(key) for key in self._inside(f"{self._prefix}owner:"))
        return sum(self._stale_of(owner) for owner in dict.fromkeys(owners))

    def _stale_of(self, owner: str) -> int:
        key = f"{self._prefix}owner:{{{in_key(owner)}}}"
        gone: list[tuple[bytes, int]] = []
        for start in itertools.count(0, _TOGETHER):
            flat = self._calls.command("ZRANGE", key, start, start + _TOGETHER - 1, "WITHSCORES")
            entries = [(name, int(float(score))) for name, score in zip(flat[::2], flat[1::2], strict=True)]
            if not entries:
                break
            whose = self._owners([name.decode() for name, _ in entries])
            gone += [entry for entry, found in zip(entries, whose, strict=True) if found != owner]
        now = self._now_ms()
        old = [entry for entry in gone if entry[1] + _GRACE_MS <= now]
        if old and not self._dry_run:
            for start in range(0, len(old), _TOGETHER):
                self._index.removed_all(owner, [(name.decode(), at) for name, at in old[start : start + _TOGETHER]])
        return len(old)

    def _missing(self) -> int:
        """Let each session's index know of it. Its entry gets the time of now, since nobody knows its last activity."""
        count = 0
        for ids in _batches(self._inside(self._prefix)):
            names = [unquote(name) for name in ids]
            owned = [(name, whose) for name, whose in zip(names, self._owners(names), strict=True) if whose is not None]
            asked = [("ZSCORE", f"{self._prefix}owner:{{{in_key(whose)}}}", name) for name, whose in owned]
            scores = self._calls.commands(asked) if asked else []
            unknown = [one for one, score in zip(owned, scores, strict=True) if score is None]
            count += len(unknown)
            if unknown and not self._dry_run:
                self._raised(self._calls.call_all([self._entry(*one) for one in unknown]))
        return count

    def _entry(self, name: str, owner: str) -> Call:
        longest = max(self._limits.ttl_ms, self._limits.ttl_complete_ms) + self._limits.tombstone_ms
        return self._index.entry(owner or None, name, longest, keeps=True)._replace(writes=False)

    def _aliases(self) -> int:
        count, begin = 0, f"{self._prefix}alias:"
        young_ms = max(self._limits.ttl_ms, self._limits.ttl_complete_ms) + self._limits.tombstone_ms - _GRACE_MS
        for texts in _batches(self._inside(begin)):
            keys = [f"{begin}{{{text}}}" for text in texts]
            replies = self._calls.commands([command for key in keys for command in (("GET", key), ("PTTL", key))])
            led = [
                (key, target)
                for key, target, left in zip(keys, replies[::2], replies[1::2], strict=True)
                if isinstance(target, bytes) and left < young_ms
            ]
            whose = self._owners([target.decode() for _, target in led])
            gone = [one for one, found in zip(led, whose, strict=True) if found is None]
            count += len(gone)
            if gone and not self._dry_run:
                calls = [Call("link", (key,), (f"={target.decode()}", "", 1)) for key, target in gone]
                self._raised(self._calls.call_all(calls))
        return count

    def _owners(self, ids: Sequence[str]) -> list[str | None]:
        """Name the owner of each session, "" for nobody. None: there is no such session."""
        commands = [("HMGET", session_key(self._prefix, name), "owner", "created") for name in ids]
        found: list[str | None] = []
        for reply in self._calls.commands(commands) if commands else ():
            if isinstance(reply, exceptions.RedisError):  # not ours: it is there, and is left alone
                found.append("")
                continue
            owner, created = reply
            found.append(None if created is None else (owner or b"").decode()[1:])
        return found

    def _inside(self, begin: str) -> Iterator[str]:
        """Walk through the keys that are *begin* and a name in braces. Give what stands in the braces."""
        try:
            for pool in primaries(self._client):
                with connected(pool) as connection:
                    for key in walk(connection, f"{escaped(begin)}{{*}}"):
                        yield key[len(begin) + 1 : -1]
        except exceptions.RedisError as error:
            raise as_ours(error, "SCAN", writes=False) from error

    def _now_ms(self) -> int:
        with connected(primaries(self._client)[0]) as connection:
            connection.send_command("TIME")
            seconds, _ = connection.read_response()
        return int(seconds) * 1000

    def _raised(self, replies: Sequence[Any]) -> None:
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply


def _batches(names: Iterable[str]) -> Iterator[list[str]]:
    iterator = iter(names)
    while some := list(itertools.islice(iterator, _TOGETHER)):
        yield some
