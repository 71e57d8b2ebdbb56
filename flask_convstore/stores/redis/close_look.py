"""A close look at sessions, for inspectors: facts that no list tells, and the keys behind one session."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import redis

from .arguments import session_key, session_keys
from .calls import Argument, Calls, Patience
from .cluster import ClusterCalls, LazyCluster

_FIELDS = ("history_bytes", "data_bytes", "turn_until", "moved_to")


class CloserFacts(NamedTuple):
    """Facts of a session beside its summary.

    Attributes:
        stored_bytes: Size of its messages and its data (None: it is gone, or not ours).
        turn_until_ms: End of the lease of its turn. 0, or a time that is over: there is no turn in progress.
        moved_to: The session in which the conversation goes on (None: it goes on here).
    """

    stored_bytes: int | None
    turn_until_ms: int
    moved_to: str | None


class RawKey(NamedTuple):
    """A key of a session, as the server has it.

    Attributes:
        name: The key.
        kind: Its type, as the server names it.
        lifetime_ms: The rest of its lifetime (None: it has none).
        memory_bytes: Memory that it uses (None: the server does not tell).
    """

    name: str
    kind: str
    lifetime_ms: int | None
    memory_bytes: int | None


class CloseLook:
    """Looks closely at the sessions under one prefix.

    Its methods raise ``StoreUnavailable`` and ``StoreMisconfigured``.
    """

    def __init__(self, client: redis.Redis | LazyCluster, prefix: str, patience: Patience) -> None:
        self._calls = ClusterCalls(client, patience) if isinstance(client, LazyCluster) else Calls(client, patience)
        self._prefix = prefix

    def facts(self, session_ids: Sequence[str]) -> list[CloserFacts]:
        """Read the facts of these sessions, in one round trip (in a Cluster one for each primary)."""
        if not session_ids:
            return []
        keys = [session_key(self._prefix, session_id) for session_id in session_ids]
        return [_facts(reply) for reply in self._calls.commands([("HMGET", key, *_FIELDS) for key in keys])]

    def keys(self, session_id: str) -> list[RawKey]:
        """List the keys that a session has, in two round trips. Of a deleted one the tombstone is left for a day."""
        names = self._names(session_id)
        commands: list[Sequence[Argument]] = [
            command for name in names for command in (("TYPE", name), ("PTTL", name), ("MEMORY", "USAGE", name))
        ]
        replies = self._calls.commands(commands)
        told = zip(names, replies[::3], replies[1::3], replies[2::3], strict=True)
        return [_raw(*one) for one in told if one[1] not in (b"none", "none")]

    def _names(self, session_id: str) -> list[str]:
        key, history, tokens = session_keys(self._prefix, session_id)
        (streams,) = self._calls.commands([("HGET", key, "streams")])
        replies = streams.decode(errors="replace").split() if isinstance(streams, bytes) else []
        return [key, history, f"{key}:receipts", tokens, f"{key}:events", *(f"{key}:reply:{name}" for name in replies)]


def _facts(reply: Any) -> CloserFacts:
    try:
        history, data, turn_until, moved_to = reply
        size = None if history is None else int(history) + int(data or 0)
        return CloserFacts(size, int(turn_until or 0), moved_to.decode() if moved_to else None)
    except (TypeError, ValueError):  # the key is of another type, or others have written into it
        return CloserFacts(None, 0, None)


def _raw(name: str, kind: Any, left: Any, used: Any) -> RawKey:
    """Make a key of the server's replies. An error stands in the place of a command that we may not run."""
    text = kind.decode() if isinstance(kind, bytes) else "unknown" if isinstance(kind, Exception) else str(kind)
    lifetime = left if isinstance(left, int) and left >= 0 else None
    return RawKey(name, text, lifetime, used if isinstance(used, int) else None)
