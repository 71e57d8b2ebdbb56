"""Figures in Redis: a count or an estimate of the sessions that are there, and the sums of what has happened.

| key                                  | type   | holds                                                              |
| ------------------------------------ | ------ | ------------------------------------------------------------------ |
| {prefix}figures:{sums}               | hash   | the sums since the first one, since_ms, first_ms and base          |
| {prefix}figures:{sums}:<ms>          | hash   | the sums of the minute that begins then, see ``domain/figures.py`` |
| {prefix}figures:{sums}:of:<process>  | string | the number of the last portion of a process                        |

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
from ...domain.figures import MINUTE_MS, Counted, PlaceFigures, Sums, base_of, minute_of
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
"""Keys that are scanned, or drawn, in one round trip. A server takes some milliseconds for them."""
_STEPS = 32
"""Most steps of a walk. A server that has lost most of its keys may have more to look through than keys."""
_LEAST = 100
"""Least number of keys that are drawn from a primary that has any."""

_FACTS = ("count", "history_bytes", "data_bytes", "owner", "created")
_TOTALS_MS = 365 * 24 * 60 * MINUTE_MS
"""Time for which the sums since the first one are kept, behind the last portion."""


class _CountedSession(NamedTuple):
    """A session that is there."""

    place: str
    messages: int
    size: int
    owner: bytes
    created_ms: int


class _Drawn(NamedTuple):
    """A part of all keys or entries.

    Attributes:
        size: Number of those that there are.
        looked_at: Number of those that were looked at.
        keys: Places and keys of the sessions among them.
        sessions: Those of them that are there.
    """

    size: int
    looked_at: int
    keys: Sequence[tuple[str, str]]
    sessions: Sequence[_CountedSession] = ()

    @property
    def is_whole(self) -> bool:
        """All of them were looked at."""
        return self.size <= self.looked_at

    @property
    def weight(self) -> float:
        """Number of those for which each stands that was looked at."""
        return 1.0 if self.is_whole else self.size / self.looked_at

    @property
    def variance(self) -> float:
        """Variance of the number of sessions, as far as the sample tells."""
        if self.is_whole:
            return 0.0
        share = len(self.sessions) / max(1, self.looked_at)
        return self.size**2 * share * (1 - share) / max(1, self.looked_at)

    def with_sessions(self, facts: Iterable[Any]) -> _Drawn:
        """Add the sessions, from the facts of each."""
        found = (_found(place, one) for (place, _), one in zip(self.keys, facts, strict=True))
        return self._replace(sessions=[one for one in found if one])


def _found(place: str, facts: Any) -> _CountedSession | None:
    """Read the fields of a session named ``_FACTS``. None: it is gone, or no session of ours."""
    try:
        count, history, data, owner, created = facts
        return _CountedSession(place, int(count), int(history or 0) + int(data or 0), owner or b"", int(created or 0))
    except (TypeError, ValueError):  # an error, or what others have written there
        return None


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
            return _counted(places, self._all(places))
        return _counted(places, self._of_owner(places, owner))

    def add(self, portion: Portion) -> bool:
        now = minute_of(now_ms())
        groups: list[Sums] = [portion.totals, *portion.minutes.values(), {}]
        keys = [self._key, f"{self._key}:of:{portion.process}", *map(self._minute, (*portion.minutes, now))]
        sums: list[Argument] = []
        for group in groups:
            sums.append(len(group))
            sums += itertools.chain.from_iterable(group.items())
        lifetimes = (KEPT_MS, _TOTALS_MS)
        first = "" if portion.first_ms is None else portion.first_ms
        reply = self._calls.call(Call("count", tuple(keys), (portion.number, *lifetimes, first, *sums), writes=False))
        return bool(reply[2])

    def note_alive(self, places: Mapping[str, str]) -> None:
        totals, minute = self.totals(), self._minute(minute_of(now_ms()))
        parts = self._all(places)
        alive = _counted(places, parts).alive
        commands: list[Sequence[Argument]] = [("HSET", minute, "alive", alive), ("PEXPIRE", minute, KEPT_MS)]
        if totals and "base" not in totals:
            first_ms = totals.get("first_ms", math.inf)
            older = sum(part.weight * sum(one.created_ms < first_ms for one in part.sessions) for part in parts)
            commands.append(("HSET", self._key, "base", base_of(alive, round(older), totals)))
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

    def _all(self, places: Mapping[str, str]) -> list[_Drawn]:
        return self._on_primaries(lambda servers: self._of_all(servers, places))

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
        return _Drawn(size, len(keys), ours).with_sessions(_facts(server, ours))

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
        """Read the sessions of an owner in each place, or as many of them as are looked at."""
        parts = self._entries(places, owner)
        facts = iter(_facts(self._calls, [key for part in parts for key in part.keys]))
        told = [part.with_sessions(itertools.islice(facts, len(part.keys))) for part in parts]
        name = owner_argument(owner).encode()  # an entry may be older than its session, which is another owner's now
        return [part._replace(sessions=[one for one in part.sessions if one.owner == name]) for part in told]

    def _entries(self, places: Mapping[str, str], owner: str | None) -> list[_Drawn]:
        """Read the entries of an owner's index in each place, or draw as many of them as are looked at."""
        indexes = [(place, index.active) for place, prefix in places.items() for index in indexes_of(prefix, owner)]
        sizes = [int(size) for size in self._asked(*(("ZCARD", key) for _, key in indexes))]
        share = _MOST / max(_MOST, sum(sizes))
        wanted = [math.ceil(share * size) for size in sizes]
        drawn = self._asked(*(("ZRANDMEMBER", key, count) for (_, key), count in zip(indexes, wanted, strict=True)))
        found = []
        for (place, _), size, members in zip(indexes, sizes, drawn, strict=True):
            keys = [(place, session_key(places[place], member.decode())) for member in members]
            found.append(_Drawn(size, len(keys), keys))
        return found


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


def _facts(server: Calls, keys: Sequence[tuple[str, str]]) -> list[Any]:
    return server.commands([("HMGET", key, *_FACTS) for _, key in keys]) if keys else []


def _counted(places: Mapping[str, str], parts: Sequence[_Drawn]) -> Counted:
    """Add up the sessions that were found, each for as many as it stands for."""
    sums: dict[str, tuple[float, float, float]] = dict.fromkeys(places, (0, 0, 0))
    for part in parts:
        weight = part.weight
        for one in part.sessions:
            alive, messages, size = sums.get(one.place, (0, 0, 0))
            sums[one.place] = alive + weight, messages + weight * one.messages, size + weight * one.size
    rounded = {place: PlaceFigures(*map(round, one)) for place, one in sums.items()}
    if all(part.is_whole for part in parts):
        return Counted(rounded)
    total, variance = sum(one[0] for one in sums.values()), sum(part.variance for part in parts)
    return Counted(rounded, is_exact=False, error=math.sqrt(variance) / total if total else 1.0)


def _sums(reply: Any) -> Sums:
    """Read a hash of sums. A connection of the app's own client may give a dict."""
    pairs = reply.items() if isinstance(reply, dict) else zip(reply[::2], reply[1::2], strict=True)
    return {name.decode(): int(value) for name, value in pairs}
