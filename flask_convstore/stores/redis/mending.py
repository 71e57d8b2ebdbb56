"""Mending of what lies beside sessions: entries of owners' indexes, which are their quota's places too, and aliases.

Sessions themselves are only read. An entry or an alias that is younger than a minute stays, since its session may be about
to be created.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar
from urllib.parse import unquote

import redis
from redis import exceptions

from ...domain.types import Limits
from .arguments import session_key
from .calls import Call, Calls, Patience
from .census import walk
from .cluster import ClusterCalls, LazyCluster
from .failures import as_ours
from .index_parts import index_of, indexes_of, owner_in
from .owner_index import RedisIndex
from .survey import connected, escaped, primaries

_T = TypeVar("_T")

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
        self._client = client
        self._calls = ClusterCalls(client, patience) if isinstance(client, LazyCluster) else Calls(client, patience)
        self._prefix = prefix
        self._limits = limits
        self._index = RedisIndex(self._calls, prefix, limits.max_age_ms)
        self._dry_run = dry_run

    def all(self) -> Mended:
        """Mend all."""
        return Mended(self._stale(), self._missing(), self._aliases())

    def _stale(self) -> int:
        owners = map(owner_in, self._inside(f"{self._prefix}owner:"))
        return sum(self._stale_of(owner) for owner in dict.fromkeys(owners))

    def _stale_of(self, owner: str | None) -> int:
        oldest_young = self._now_ms() - _GRACE_MS
        gone: list[tuple[str, int]] = []
        for entries in itertools.chain.from_iterable(
            self._entries(index.active) for index in indexes_of(self._prefix, owner)
        ):
            whose = self._owners([name for name, _ in entries])
            pairs = zip(entries, whose, strict=True)
            gone += [entry for entry, found in pairs if found != (owner or "") and entry[1] <= oldest_young]
        if not self._dry_run:
            for some in _batches(gone):
                self._index.removed_all(owner, some)
        return len(gone)

    def _entries(self, key: str) -> Iterator[list[tuple[str, int]]]:
        """Read the entries of a list, some at a time."""
        for start in itertools.count(0, _TOGETHER):
            flat = self._calls.command("ZRANGE", key, start, start + _TOGETHER - 1, "WITHSCORES")
            if not flat:
                return
            yield [(name.decode(), int(float(score))) for name, score in zip(flat[::2], flat[1::2], strict=True)]

    def _missing(self) -> int:
        """Let each session's index know of it. Its entry gets the time of now, since nobody knows its last activity."""
        count = 0
        for ids in _batches(self._inside(self._prefix)):
            unknown = self._unlisted([unquote(name) for name in ids])
            count += len(unknown)
            self._mend([self._entry(*one) for one in unknown])
        return count

    def _unlisted(self, names: Sequence[str]) -> list[tuple[str, str]]:
        """Select the sessions that their owner's list lacks, each with its owner."""
        owned = [(name, whose) for name, whose in zip(names, self._owners(names), strict=True) if whose is not None]
        lists = [index_of(self._prefix, whose or None, name).active for name, whose in owned]
        scores = self._asked([("ZSCORE", key, name) for key, (name, _) in zip(lists, owned, strict=True)])
        return [one for one, score in zip(owned, scores, strict=True) if score is None]

    def _entry(self, name: str, owner: str) -> Call:
        longest = max(self._limits.ttl_ms, self._limits.ttl_complete_ms) + self._limits.tombstone_ms
        return self._index.entry(owner or None, name, longest, keeps=True)._replace(writes=False)

    def _aliases(self) -> int:
        count, begin = 0, f"{self._prefix}alias:"
        for texts in _batches(self._inside(begin)):
            led = self._led([f"{begin}{{{text}}}" for text in texts])
            whose = self._owners([target for _, target in led])
            gone = [one for one, found in zip(led, whose, strict=True) if found is None]
            count += len(gone)
            self._mend([Call("link", (key,), (f"={target}", "", 1)) for key, target in gone])
        return count

    def _led(self, keys: Sequence[str]) -> list[tuple[str, str]]:
        """Find where aliases lead. Those that may be younger than a minute are left out."""
        young_ms = max(self._limits.ttl_ms, self._limits.ttl_complete_ms) + self._limits.tombstone_ms - _GRACE_MS
        targets = self._asked([("GET", key) for key in keys])
        lives = self._asked([("PTTL", key) for key in keys])
        known = zip(keys, targets, lives, strict=True)
        return [(key, target.decode()) for key, target, left in known if isinstance(target, bytes) and left < young_ms]

    def _asked(self, commands: Sequence[tuple[str, ...]]) -> list[Any]:
        return self._calls.commands(commands) if commands else []

    def _mend(self, calls: Sequence[Call]) -> None:
        if calls and not self._dry_run:
            for reply in self._calls.call_all(calls):
                if isinstance(reply, Exception):
                    raise reply

    def _owners(self, ids: Sequence[str]) -> list[str | None]:
        """Name the owner of each session, "" for nobody. None: there is no such session."""
        found: list[str | None] = []
        for reply in self._asked([("HMGET", session_key(self._prefix, name), "owner", "created") for name in ids]):
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


def _batches(items: Iterable[_T]) -> Iterator[list[_T]]:
    iterator = iter(items)
    while some := list(itertools.islice(iterator, _TOGETHER)):
        yield some
