"""Figures in Redis: a count or an estimate of the sessions that are there, and the sums of what has happened.

| key                                  | type   | holds                                                             |
| ------------------------------------ | ------ | ----------------------------------------------------------------- |
| {prefix}figures:{sums}               | hash   | the sums since the first one, ``since_ms``, ``base``              |
| {prefix}figures:{sums}:<ms>          | hash   | the sums of the minute that begins then, see ``domain/figures.py`` |
| {prefix}figures:{sums}:of:<process>  | string | the number of the last portion of a process                       |

All of them stand in one slot of a Cluster, so that a portion is one script and counts once.

A server with few keys is walked through. Of one with many a sample is drawn: each primary has its share of it, by the number
of its keys. So the cost has a bound, whatever is there.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import redis
from redis import exceptions

from ...domain.clock import now_ms
from ...domain.deadlines import OPERATION
from ...domain.figures import MINUTE_MS, Counted, PlaceFigures, Sums, minute_of
from ...domain.types import ANY, Owner
from ...errors import StoreUnavailable
from ..figures import KEPT_MS, Portion
from .arguments import owner_argument, session_key
from .calls import Argument, Call, Calls, Patience, refusal_among
from .cluster import ClusterCalls, LazyCluster
from .failures import as_ours
from .index_parts import indexes_of

_T = TypeVar("_T")

_MOST = 4_000
"""Most keys of all primaries, or entries of an owner's index, that are looked at one by one. Of more, so many are drawn."""
_AT_ONCE = 1_000
"""Keys that are scanned, or drawn, in one round trip. A server takes about a millisecond for them."""
_STEPS = 32
"""Most steps of a walk. A server that has lost most of its keys may have more to look through than keys."""
_LEAST = 100
"""Least number of keys that are drawn from a primary that has any."""

_FACTS = ("count", "history_bytes", "data_bytes", "owner")
_TOTALS_MS = 365 * 24 * 60 * MINUTE_MS
"""Time for which the sums since the first one are kept, behind the last portion."""


class _Drawn(NamedTuple):
    """A part of all keys or entries.

    Attributes:
        size: Number of those that there are.
        looked_at: Number of those that were looked at.
        keys: Places and keys of the sessions among them.
        facts: The facts of each session. An error, or no count: it is gone, or no session.
    """

    size: int
    looked_at: int
    keys: Sequence[tuple[str, str]]
    facts: Sequence[Any] = ()

    @property
    def is_whole(self) -> bool:
        """All of them were looked at."""
        return self.size <= self.looked_at

    @property
    def weight(self) -> float:
        """Number of those for which each stands that was looked at."""
        return 1.0 if self.is_whole else self.size / self.looked_at

    def variance_of(self, found: int) -> float:
        """Estimate the variance of the number of sessions, of which so many were found."""
        share = found / max(1, self.looked_at)
        return 0.0 if self.is_whole else self.size**2 * share * (1 - share) / max(1, self.looked_at)

    def sessions(self) -> list[tuple[str, int, int, bytes]]:
        """Give place, messages, bytes and owner of each session that is there."""
        pairs = zip(self.keys, self.facts, strict=True)
        told = [(place, *one) for (place, _), one in pairs if isinstance(one, list) and one[0] is not None]
        return [
            (place, int(count), int(history or 0) + int(data or 0), owner or b"")
            for place, count, history, data, owner in told
        ]


class RedisFigures:
    """The ``FiguresStore`` on a client, for one prefix. See there for its methods."""

    def __init__(self, client: redis.Redis | LazyCluster, prefix: str, patience: Patience) -> None:
        self._client = client
        self._prefix = prefix
        self._patience = patience
        self._calls = ClusterCalls(client, patience) if isinstance(client, LazyCluster) else Calls(client, patience)
        self._key = f"{prefix}figures:{{sums}}"

    def count(self, places: Mapping[str, str], owner: Owner = ANY) -> Counted:
        if owner is ANY:
            parts = self._on_primaries(lambda servers: self._of_all(servers, places))
            return _counted(places, parts, lambda _: True)
        name = owner_argument(owner).encode()
        return _counted(places, self._of_owner(places, owner), lambda found: found == name)

    def add(self, portion: Portion) -> bool:
        now = minute_of(now_ms())
        groups: list[Sums] = [portion.totals, *portion.minutes.values(), {}]
        keys = [self._key, f"{self._key}:of:{portion.process}", *map(self._minute, (*portion.minutes, now))]
        sums: list[Argument] = []
        for group in groups:
            sums.append(len(group))
            sums += itertools.chain.from_iterable(group.items())
        lifetimes = (KEPT_MS, _TOTALS_MS)
        reply = self._calls.call(Call("count", tuple(keys), (portion.number, *lifetimes, *sums), writes=False))
        return bool(reply[2])

    def note_alive(self, alive: int) -> None:
        known, minute = self.totals(), self._minute(minute_of(now_ms()))
        commands: list[Sequence[Argument]] = [("HSET", minute, "alive", alive), ("PEXPIRE", minute, KEPT_MS)]
        if known and "base" not in known:
            base = alive - known.get("started", 0) + known.get("deleted", 0)
            commands.append(("HSET", self._key, "base", base))
        self._asked(*commands)

    def totals(self) -> Sums:
        return _sums(self._asked(("HGETALL", self._key))[0])

    def minutes(self, starts_ms: Sequence[int]) -> list[Sums]:
        return [_sums(reply) for reply in self._asked(*(("HGETALL", self._minute(start)) for start in starts_ms))]

    def _minute(self, start_ms: int) -> str:
        return f"{self._key}:{start_ms}"

    def _asked(self, *commands: Sequence[Argument]) -> list[Any]:
        """Send commands for our own keys. Return the replies.

        Raises:
            StoreUnavailable, StoreMisconfigured: The server refuses one.
        """
        replies = self._calls.commands(commands)
        refusal = refusal_among(replies)
        if refusal:
            raise as_ours(refusal, self._key, writes=False) from refusal
        return replies

    # ---- all sessions

    def _on_primaries(self, function: Callable[[list[Calls]], _T]) -> _T:
        """Call *function* with the calls to each primary, and again if one of these is none any more."""
        if not isinstance(self._client, LazyCluster):
            return function([self._calls])
        try:
            with contextlib.suppress(StoreUnavailable):
                return function(self._primaries(self._client))
            self._client.learn(self._client.get()[1], OPERATION.moment)
            return function(self._primaries(self._client))
        except exceptions.RedisError as error:
            raise as_ours(error, self._key, writes=False) from error

    def _primaries(self, client: LazyCluster) -> list[Calls]:
        cluster, _ = client.get()
        nodes = sorted(cluster.get_primaries(), key=lambda node: node.name)
        return [Calls(cluster.get_redis_connection(node), self._patience) for node in nodes]

    def _of_all(self, servers: list[Calls], places: Mapping[str, str]) -> list[_Drawn]:
        sizes = [int(server.command("DBSIZE")) for server in servers]
        walked = [_walked(server) for server in servers] if sum(sizes) <= _MOST else [None]
        found: Iterable[tuple[int, Sequence[bytes]]]
        if None in walked:
            found = [(size, _drawn(server, size, sum(sizes))) for server, size in zip(servers, sizes, strict=True)]
        else:
            found = [(len(keys), keys) for keys in walked if keys is not None]
        return [self._read(server, places, *one) for server, one in zip(servers, found, strict=True)]

    def _read(self, server: Calls, places: Mapping[str, str], size: int, keys: Sequence[bytes]) -> _Drawn:
        """Read the facts of the sessions among *keys*, in one round trip."""
        names = [key.decode(errors="replace") for key in keys]
        prefixes = {prefix: place for place, prefix in places.items()}
        ours = [(place, name) for name in names if (place := self._place_of(name, prefixes))]
        return _with_facts(server, _Drawn(size, len(keys), ours))

    def _place_of(self, key: str, prefixes: Mapping[str, str]) -> str | None:
        """Name the place of a session by its key. None: the key is no session's."""
        begin, _, rest = key.partition("{")
        if rest.find("}") != len(rest) - 1 or not rest:
            return None
        if begin in prefixes:
            return prefixes[begin]
        kind, _, name = begin.removeprefix(self._prefix).partition(":")
        is_mapping = begin.startswith(self._prefix) and kind == "map" and name.endswith(":") and name.count(":") == 1
        return f"mapping:{name[:-1]}" if is_mapping else None

    # ---- an owner's sessions

    def _of_owner(self, places: Mapping[str, str], owner: str | None) -> list[_Drawn]:
        """Look at the entries of an owner's index in each place, or at as many of them as are looked at."""
        indexes = [(place, index.active) for place, prefix in places.items() for index in indexes_of(prefix, owner)]
        most = _MOST // len(indexes)
        replies = self._asked(
            *(command for _, key in indexes for command in (("ZCARD", key), ("ZRANDMEMBER", key, most)))
        )
        found = []
        for (place, _), size, members in zip(indexes, replies[::2], replies[1::2], strict=True):
            keys = [(place, session_key(places[place], member.decode())) for member in members]
            found.append(_Drawn(int(size), len(keys), keys))
        together = _with_facts(self._calls, _Drawn(0, 0, [key for part in found for key in part.keys]))
        facts = iter(together.facts)
        return [part._replace(facts=list(itertools.islice(facts, len(part.keys)))) for part in found]


def _walked(server: Calls) -> list[bytes] | None:
    """List all keys of a server with few of them. None: the walk takes too many steps."""
    found: dict[bytes, None] = {}
    cursor: str | None = None
    for _ in range(_STEPS):
        cursor, keys = server.scan(cursor, "*", _AT_ONCE)
        found.update(dict.fromkeys(keys))
        if cursor is None:
            return list(found)
    return None


def _drawn(server: Calls, size: int, total: int) -> list[bytes]:
    """Draw keys of a server with so many of *total*, as many as are its share."""
    wanted = max(_LEAST, round(_MOST * size / total)) if size else 0
    found: list[bytes] = []
    for start in range(0, wanted, _AT_ONCE):
        replies = server.commands([("RANDOMKEY",)] * min(_AT_ONCE, wanted - start))
        refusal = refusal_among(replies)
        if refusal:
            raise as_ours(refusal, "RANDOMKEY", writes=False) from refusal
        found += [key for key in replies if key is not None]
    return found


def _with_facts(server: Calls, part: _Drawn) -> _Drawn:
    commands = [("HMGET", key, *_FACTS) for _, key in part.keys]
    return part._replace(facts=server.commands(commands)) if commands else part


def _counted(places: Mapping[str, str], parts: Sequence[_Drawn], is_theirs: Callable[[bytes], bool]) -> Counted:
    """Add up what was looked at, each session for as many as it stands for."""
    sums: dict[str, tuple[float, float, float]] = dict.fromkeys(places, (0, 0, 0))
    variance = 0.0
    for part in parts:
        found = [one for one in part.sessions() if is_theirs(one[3])]
        variance += part.variance_of(len(found))
        for place, messages, size, _ in found:
            alive, all_messages, all_size = sums.get(place, (0, 0, 0))
            weight = part.weight
            sums[place] = alive + weight, all_messages + weight * messages, all_size + weight * size
    total = sum(alive for alive, _, _ in sums.values())
    rounded = {place: PlaceFigures(*map(round, one)) for place, one in sums.items()}
    is_exact = all(part.is_whole for part in parts)
    return Counted(rounded, is_exact, math.sqrt(variance) / total if total else 0.0)


def _sums(reply: Any) -> Sums:
    """Read a hash of sums. A connection of the app's own client may give a dict."""
    pairs = reply.items() if isinstance(reply, dict) else zip(reply[::2], reply[1::2], strict=True)
    return {name.decode(): int(value) for name, value in pairs}
