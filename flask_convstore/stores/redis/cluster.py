"""Calls to a Redis or Valkey Cluster. Each goes to the primary that has its slot, and follows the slot when it moves.

A session's keys lie in one slot, so that a call about it is the same as on one server. A call that concerns several slots, a
session and its owner's index, takes a round trip each. While a slot is moved or a primary fails over, calls are repeated
within their budget. The topology is read anew, and a migrating slot tells its next place.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from redis import exceptions
from redis.cluster import RedisCluster

from ...domain.clock import monotonic
from ...domain.deadlines import CONNECTING
from ...domain.forks import Forking, watch
from ...domain.hold import Hold, here
from ...domain.types import Limits
from ...errors import ConvstoreError
from .calls import PATIENCE, PRIMARY, Argument, Call, Calls, Durability, Patience, proving, refusal_among
from .connections import at_connecting
from .failures import as_ours, classify
from .scripts import Scripts

_RETRIES = 1000
"""Retries end with the budget, since a fail-over takes longer than a few of them."""

_HOPS = 16
"""Times that one attempt follows a slot, as many as in Redis's own clients."""


class LazyCluster(Forking):
    """A cluster client that is made and connects when it is first used."""

    def __init__(self, make: Callable[[], RedisCluster]) -> None:
        self._make = make
        self._hold = Hold()
        self._cluster: Any = None
        self._generation = 0
        watch(self)

    def in_child(self) -> None:
        self._hold = Hold()

    def get(self, deadline: float = math.inf) -> tuple[Any, int]:
        """Return the client and the number of its known topology.

        Raises:
            RedisError: No node answers.
        """
        if self._cluster is None:
            with self._asking(deadline):
                if self._cluster is None:
                    self._cluster = self._make()
        return self._cluster, self._generation

    def node_of(self, key: str) -> str:
        """Name the primary that has *key*, as far as that is known. Nothing is asked."""
        if self._cluster is None:
            return ""
        with contextlib.suppress(exceptions.RedisClusterException):
            return str(self._cluster.get_node_from_key(key).name)
        return ""

    def learn(self, seen: int, deadline: float) -> None:
        """Read the topology anew, unless another thread has read it since the one that was *seen*."""
        cluster, _ = self.get(deadline)
        with self._asking(deadline):
            if self._generation == seen:
                cluster.nodes_manager.initialize()
                self._generation += 1

    @contextlib.contextmanager
    def _asking(self, deadline: float) -> Iterator[None]:
        """Keep other threads from asking for the topology meanwhile, and end in time."""
        user = here()
        try:
            if not self._hold.take(user, deadline):
                raise exceptions.ConnectionError("Error connecting to any node of the cluster in time")
            with CONNECTING.of(deadline):
                yield
        except exceptions.RedisClusterException as error:
            # redis-py's error is no RedisError, whatever its cause.
            raise _refusal_of(error) or exceptions.ConnectionError(
                f"Error connecting to any node of the cluster ({error})"
            ) from error
        except (TypeError, IndexError) as error:  # redis-py reads the topology without a look at its form
            raise exceptions.InvalidResponse(f"a topology that cannot be read ({error})") from error
        finally:
            self._hold.give_back(user)

    def close(self) -> None:
        """Give up the connections."""
        with self._asking(math.inf):
            if self._cluster:
                self._cluster.close()


def _refusal_of(error: Exception) -> exceptions.RedisError | None:
    """Find out whether the last node that was asked refuses us for good. redis-py tells this in the words of an outage."""
    cause: Any = error.__cause__
    if isinstance(cause, exceptions.RedisClusterException):
        cause = cause.__context__  # the reply to the question for the topology
    if not isinstance(cause, exceptions.RedisError):
        return None
    if isinstance(cause, exceptions.ResponseError):
        at_connecting(cause)
    if classify(cause).kind != "misconfigured":
        return None
    found: exceptions.RedisError = copy.copy(cause)  # the error itself is a cause of this one
    return found


_ELSEWHERE = (exceptions.AskError, exceptions.TryAgainError, exceptions.ClusterDownError)
"""Refusals of a primary that has not the slot. In redis-py a MovedError is an AskError."""


class ClusterCalls(Calls):
    """``Calls`` on a cluster."""

    def __init__(
        self,
        cluster: LazyCluster,
        patience: Patience = PATIENCE,
        durability: Durability = PRIMARY,
        limits: Limits | None = None,
    ) -> None:
        self._scripts = Scripts(limits)
        self._replicas = durability.replicas
        self._is_on_disk = durability.level == "fsync"
        self._is_verified = False
        self._patience = replace(patience, retries=_RETRIES)
        self._lazy = cluster

    def connection(self) -> Any:
        cluster, _ = self._lazy.get(self._deadline())
        pool: Any = cluster.get_redis_connection(cluster.get_random_node()).connection_pool
        return pool.connection_class(**pool.connection_kwargs)

    def _has_room(self) -> bool:
        return True  # each primary has as many connections

    def commands(self, commands: Sequence[Sequence[Argument]]) -> list[Any]:
        """Send commands in one trip to each node. Those whose slot has moved are sent again, one by one."""
        found: dict[int, Any] = {}
        deadline = self._deadline()
        with contextlib.suppress(exceptions.RedisError):
            cluster, _ = self._lazy.get(deadline)
            nodes: dict[str, tuple[Any, list[int]]] = {}
            for number, command in enumerate(commands):
                node = cluster.get_node_from_key(_key_of([command]))
                nodes.setdefault(node.name, (node, []))[1].append(number)  # redis-py 7 cannot hash a node
            for node, numbers in nodes.values():
                pool = cluster.get_redis_connection(node).connection_pool
                asked, nonce = proving([commands[number] for number in numbers])
                replies = self._proved(self._over(pool, asked, deadline), nonce)
                found.update(zip(numbers, replies, strict=True))
        for number, command in enumerate(commands):
            if number not in found or isinstance(found[number], _ELSEWHERE):
                (found[number],) = self._acknowledged([command], str(command[0]), False, deadline)
        return [found[number] for number in range(len(commands))]

    def _told_all(self, commands: Sequence[Sequence[Argument]], deadline: float, *, writes: bool) -> list[Any]:
        """Send scripts in one trip to each primary. What a primary does not answer is sent again, one by one.

        The first trips share half of the time, so that a primary that stands still leaves time for the others.
        """
        nodes: dict[str, list[int]] = {}
        with contextlib.suppress(exceptions.RedisError):
            cluster, _ = self._lazy.get(deadline)
            for number, command in enumerate(commands):
                nodes.setdefault(cluster.get_node_from_key(str(command[3])).name, []).append(number)
        found: dict[int, Any] = {}
        share = (deadline - monotonic()) / 2 / max(1, len(nodes))
        for numbers in nodes.values():
            with contextlib.suppress(exceptions.RedisError, ConvstoreError):
                asked = [commands[number] for number in numbers]
                replies = self._acknowledged(asked, "", writes, min(deadline, monotonic() + share))
                found.update(zip(numbers, replies, strict=True))
        self._tell_again(commands, found, deadline, writes=writes)
        return [found[number] for number in range(len(commands))]

    def _tell_again(
        self, commands: Sequence[Sequence[Argument]], found: dict[int, Any], deadline: float, *, writes: bool
    ) -> None:
        """Send those of *commands* one by one that are not answered. When the time is over, they get the last error."""
        last: ConvstoreError | None = None
        for number, command in enumerate(commands):
            if number in found and not isinstance(found[number], _ELSEWHERE):
                continue
            if last and monotonic() >= deadline:
                found[number] = copy.copy(last)
                continue
            try:
                (found[number],) = self._acknowledged([command], "", writes, deadline)
            except ConvstoreError as error:
                found[number] = last = error

    def place_of(self, key: str) -> str:
        return self._lazy.node_of(key)

    def call_after(self, first: Call, call: Call, *, is_first_known: bool) -> Any:
        self.call(first)
        return self.call(call)

    def read_each(
        self, asked: Sequence[tuple[Call, Sequence[Sequence[Argument]], str | None]]
    ) -> list[list[Any] | ConvstoreError]:
        """Run reading scripts one after the other, since each is of another slot."""
        return [self._read_alone(*one) for one in asked]

    def scan(self, cursor: str | None, pattern: str, count: int) -> tuple[str | None, list[bytes]]:
        """Scan one primary after the other. The cursor names the primary and the place in it. A lost primary begins anew."""
        deadline = self._deadline()
        for attempt in itertools.count():
            try:
                return self._scan(cursor, ("MATCH", pattern, "COUNT", count), deadline)
            except exceptions.RedisError as error:
                failure = classify(error)
                pause = self._pause(attempt, failure)
                if not failure.passes or monotonic() + pause >= deadline:
                    raise as_ours(error, "SCAN", writes=False) from error
                time.sleep(pause)
        raise AssertionError

    def close(self) -> None:
        self._lazy.close()

    def _scan(self, cursor: str | None, options: Sequence[Argument], deadline: float) -> tuple[str | None, list[bytes]]:
        """Scan once, without a retry."""
        name, _, position = (cursor or " 0").rpartition(" ")
        cluster, seen = self._lazy.get(deadline)
        nodes = sorted(cluster.get_primaries(), key=lambda node: node.name)
        here = next((number for number, node in enumerate(nodes) if node.name == name), None)
        node, *following = nodes[here or 0 :]
        pool = cluster.get_redis_connection(node).connection_pool
        try:
            command = ("SCAN", "0" if here is None else position, *options)
            asked, nonce = proving([command])
            replies = self._over(pool, asked, deadline)
        except (exceptions.ConnectionError, exceptions.TimeoutError):
            self._lazy.learn(seen, deadline)
            raise
        refusal = refusal_among(replies)
        if refusal:
            raise refusal
        ((found, keys),) = self._proved(replies, nonce)
        if int(found):
            return f"{node.name} {int(found)}", keys
        return (f"{following[0].name} 0" if following else None), keys

    def _exchange(self, commands: Sequence[Sequence[Argument]], deadline: float) -> list[Any]:
        key = _key_of(commands)
        cluster, seen = self._lazy.get(deadline)
        asked: Any = None
        for _ in range(_HOPS):
            node = asked or (cluster.get_node_from_key(key) if key else cluster.get_random_node())
            if node is None:
                self._lazy.learn(seen, deadline)
                raise exceptions.ClusterDownError("no primary has this slot")
            pool = cluster.get_redis_connection(node).connection_pool
            try:
                replies = self._over(pool, [("ASKING",), *commands] if asked else commands, deadline)
            except (exceptions.ConnectionError, exceptions.TimeoutError):
                # The primary may have failed over. The caller repeats the commands, which may have been done.
                with contextlib.suppress(exceptions.RedisError):
                    self._lazy.learn(seen, deadline)
                raise
            replies = replies[1:] if asked else replies
            asked = None
            refusal = refusal_among(replies)
            if isinstance(refusal, exceptions.MovedError):
                self._lazy.learn(seen, deadline)
                cluster, seen = self._lazy.get(deadline)
                continue
            if not isinstance(refusal, exceptions.AskError):
                return replies
            asked = cluster.get_node(host=refusal.host, port=refusal.port)
            if asked is None or len(commands) > 1:  # in a transaction each command needs its own ASKING
                raise exceptions.TryAgainError("the slot is being moved")
        raise exceptions.TryAgainError("the slot moves on and on")

    def _over(self, pool: Any, commands: Sequence[Sequence[Argument]], deadline: float) -> list[Any]:
        try:
            return super()._over(pool, commands, deadline)
        except (OSError, ValueError, AttributeError) as error:
            # redis-py 7 closes connections that others use when it reads the topology anew.
            raise exceptions.ConnectionError(f"the connection was closed meanwhile ({error})") from error


def _key_of(commands: Sequence[Sequence[Argument]]) -> str | None:
    """Find the first key of *commands*, all of which belong to one slot. None if there is no key."""
    for command in commands:
        if command[0] in ("EVALSHA", "EVAL"):
            return str(command[3])
        if command[0] == "MEMORY":
            return str(command[2])
        if command[0] not in ("MULTI", "EXEC", "ECHO", "PING", "TIME", "WAIT", "CONFIG", "INFO"):
            return str(command[1])
    return None
