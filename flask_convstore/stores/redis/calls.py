"""Calls to a Redis server: scripts with a nonce, reads with them, retries, and Redis's errors as ours."""

from __future__ import annotations

import copy
import itertools
import os
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import hiredis
import redis
from redis import exceptions

from ...domain.clock import monotonic
from ...domain.deadlines import OPERATION
from ...domain.trips import TRIPS
from ...domain.types import Limits
from ...errors import ConvstoreError, StoreMisconfigured, StoreUnavailable
from ..store import UNTOLD_PAUSE
from .connections import give_back, lent, line_of
from .failures import Failure, as_ours, classify
from .scripts import Scripts

Argument = bytes | str | int


class Call(NamedTuple):
    """A script with its keys, and its arguments after the nonce.

    Attributes:
        writes: The script may write app data. A script that only moves a lifetime or a lease does not.
    """

    name: str
    keys: tuple[str, ...]
    arguments: tuple[Argument, ...]
    writes: bool = True


class AfterLoss(list[Any]):
    """The reply to a write that was sent before without an answer. That try may have been done too."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Patience:
    """Time limits of a call in seconds, and the number of its retries when a failure may pass.

    Attributes:
        budget: Limit of the whole call by the wall clock, whatever happens.
        timeout: Limit for each answer.
    """

    budget: float = 5.0
    timeout: float = 3.0
    retries: int = 3


@dataclass(frozen=True, slots=True)
class Durability:
    """The worth of an acknowledged write.

    ``primary``: the server has it. ``fsync``: its disk has it too. ``replicas:n``: so many replicas have it too.
    docs/servers.md says what each level survives.
    """

    level: str = "primary"

    @property
    def replicas(self) -> int:
        """Number of replicas that must have confirmed a write."""
        kind, _, count = self.level.partition(":")
        return int(count) if kind == "replicas" else 0


_DISK = ("CONFIG", "GET", "append*")
"""The question whether the server puts each write on its disk before it answers."""

_NO_WAIT = ("WAIT", 0, 1)
"""The question whether the server lets us wait for replicas. It waits for none."""

_GRANT = "docs/security.md has the rights that a user needs."

_PLAIN = Call("commands", (), (), writes=False)

_pack: Any = hiredis.pack_command  # its signature says that it takes one argument only


PATIENCE = Patience()
PRIMARY = Durability()

_VALUES = frozenset({list, bytes, int, float, str, dict, bool, type(None)})
"""Types of replies that are no errors."""

_jitter = random.SystemRandom()  # without a state that forked workers would share, or that the app relies on
_SHORTEST_WAIT = 0.001
"""Seconds. 0 would wait for ever."""

_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 1.0


class Calls:
    """Calls over the connections of a redis-py client that gives back bytes. It connects when it is first used.

    redis-py's command layer is left out, since it takes as long as the server does. A call is packed, sent, read and
    repeated here, within a budget. Repeating writes is safe, because each carries a token that its script checks.

    Args:
        limits: The constants of the scripts (None: those that are called have none).
    """

    def __init__(
        self,
        client: redis.Redis,
        patience: Patience = PATIENCE,
        durability: Durability = PRIMARY,
        limits: Limits | None = None,
    ) -> None:
        self._scripts = Scripts(limits)
        self._replicas = durability.replicas
        self._is_on_disk = durability.level == "fsync"
        self._is_verified = False
        self._client = client  # held, since a client of ours is disconnected when it is garbage
        self._pool: Any = client.connection_pool
        self._patience = patience

    @property
    def waits_for_replicas(self) -> bool:
        """True if a write is acknowledged when replicas have it."""
        return bool(self._replicas)

    def _by_digest(self, call: Call, nonce: bytes) -> tuple[Argument, ...]:
        digest = self._scripts[call.name].digest
        return ("EVALSHA", digest, f"{len(call.keys)}", *call.keys, nonce, *call.arguments)

    def _by_text(self, call: Call, nonce: bytes) -> tuple[Argument, ...]:
        text = self._scripts[call.name].text
        return ("EVAL", text, f"{len(call.keys)}", *call.keys, nonce, *call.arguments)

    def command(self, *command: Argument) -> Any:
        """Send one plain command. Return its reply."""
        (reply,) = self.commands([command])
        return _raised(reply, str(command[0]), writes=False)

    def commands(self, commands: Sequence[Sequence[Argument]]) -> list[Any]:
        """Send several plain commands in one round trip, not at one moment. Return the replies, with errors as values."""
        asked, nonce = proving(commands)
        return self._proved(self._acknowledged(asked, str(commands[0][0]), False, self._deadline()), nonce)

    def scan(self, cursor: str | None, pattern: str, count: int) -> tuple[str | None, list[bytes]]:
        """Find some of the keys that fit *pattern*. Return them behind the next cursor (None: there are no more)."""
        position, keys = self.command("SCAN", cursor or 0, "MATCH", pattern, "COUNT", count)
        return (str(int(position)) if int(position) else None), keys

    def wait(self, key: str, seconds: float) -> bool:
        """Wait until something is pushed to the list *key*, *seconds* at most, and a quarter of what a call may take.

        True if something was.

        Those who wait leave half of the connections to others. The rest of them pause for a moment instead.
        """
        longest = min(self._patience.timeout, self._deadline() - monotonic()) / 4
        try:
            if self._has_room():
                return self.command("BLPOP", key, f"{max(_SHORTEST_WAIT, min(seconds, longest)):.3f}") is not None
        except StoreMisconfigured:
            pass  # this user may not wait there
        time.sleep(min(seconds, UNTOLD_PAUSE))
        return False

    def connection(self) -> Any:
        """Make a connection beside those of the pool, for one who listens."""
        return self._pool.connection_class(**self._pool.connection_kwargs)

    def _has_room(self) -> bool:
        """Tell whether less than half of the connections are in use, and nobody waits for one."""
        pool = self._pool
        waiting = getattr(pool, "pool", None)  # of a BlockingConnectionPool, with a place for each that is not in use
        used = pool.max_connections - waiting.qsize() if waiting else len(pool._in_use_connections)
        return bool(used < pool.max_connections // 2 and not line_of(pool).is_waited_in())

    def close(self) -> None:
        """Give up the connections. The next call opens new ones."""
        self._pool.disconnect()

    def call(self, call: Call) -> Any:
        """Run a script in one round trip. Return its reply.

        A server that does not know the script yet is sent its text. The nonce shows that the reply belongs to this call.
        """
        return self.read(call, (), None)[0]

    def read(self, call: Call, queries: Sequence[Sequence[Argument]], gate: str | None) -> list[Any]:
        """Run a script, and *queries* behind it, in one round trip.

        Args:
            gate: A key of the script. Where the script changes it, the server runs no query. Those that run are of one
                moment. None: they run in any case, each at a moment of its own.

        Return the reply of the script, followed by those to the queries if they ran. A full server may refuse to run queries
        behind a gate.
        """
        nonce, deadline = os.urandom(8), self._deadline()
        if call.writes and not self._is_verified:
            self._verify(call, deadline)
        if gate:
            replies = self._behind_gate(call, self._by_digest(call, nonce), queries, gate, deadline)
        else:
            asked = [self._by_digest(call, nonce), *queries]
            replies = self._acknowledged(asked, call.keys[0], call.writes, deadline)
        if not _VALUES.issuperset(map(type, replies)):
            if isinstance(replies[0], exceptions.NoScriptError):
                replies = self._taught(call, nonce, queries, gate, deadline)
            self._refuse_errors(call, replies)
        first = replies[0]
        if not isinstance(first, list) or len(first) < 2 or first[1] != nonce:
            raise self._mixed_up(written=None if call.writes else False)
        return replies

    def _refuse_errors(self, call: Call, replies: Sequence[Any]) -> None:
        """Refuse *replies* with an error of the server among them."""
        refusal = refusal_among(replies)
        if refusal:
            self._is_verified = False  # a right may have been taken away
            error = as_ours(refusal, call.keys[0], writes=call.writes)
            error.written = True if call.writes and _wrote(replies) else error.written
            raise error from refusal

    def _taught(
        self, call: Call, nonce: bytes, queries: Sequence[Sequence[Argument]], gate: str | None, deadline: float
    ) -> list[Any]:
        """Run a script by its text, which the server does not know."""
        command = self._by_text(call, nonce)
        if gate:
            return self._behind_gate(call, command, queries, gate, deadline)
        return self._acknowledged([command, *queries], call.keys[0], call.writes, deadline)

    def _behind_gate(
        self,
        call: Call,
        command: Sequence[Argument],
        queries: Sequence[Sequence[Argument]],
        gate: str,
        deadline: float,
    ) -> list[Any]:
        """Run a script, and *queries* behind its *gate*."""
        replies = self._acknowledged(_behind_gate(command, queries, gate), call.keys[0], call.writes, deadline)
        if not _VALUES.issuperset(map(type, replies)):
            self._refuse_unpermitted(call, replies)
        return _from_behind_gate(replies)

    def read_each(
        self, asked: Sequence[tuple[Call, Sequence[Sequence[Argument]], str | None]]
    ) -> list[list[Any] | ConvstoreError]:
        """Run several reading scripts, each with its queries as in ``read``, in one round trip for all.

        Return for each the list of its replies, or an error.
        """
        nonces = [os.urandom(8) for _ in asked]
        groups = [
            _behind_gate(self._by_digest(call, nonce), queries, gate)
            if gate
            else [self._by_digest(call, nonce), *queries]
            for (call, queries, gate), nonce in zip(asked, nonces, strict=True)
        ]
        commands = [command for group in groups for command in group]
        answers = iter(self._acknowledged(commands, "", False, self._deadline()) if asked else ())
        found: list[list[Any] | ConvstoreError] = []
        for (call, queries, gate), nonce, group in zip(asked, nonces, groups, strict=True):
            replies = list(itertools.islice(answers, len(group)))
            replies = _from_behind_gate(replies) if gate else replies
            if refusal_among(replies):  # the script was unknown, or it failed
                found.append(self._read_alone(call, queries, gate))
                continue
            self._check_nonce(call, nonce, replies[0])
            found.append(replies)
        return found

    def _read_alone(
        self, call: Call, queries: Sequence[Sequence[Argument]], gate: str | None
    ) -> list[Any] | ConvstoreError:
        """Read as ``read``. An error about this one session is a value."""
        try:
            return self.read(call, queries, gate)
        except StoreUnavailable:
            raise
        except ConvstoreError as error:
            return error

    def call_after(self, first: Call, call: Call, *, is_first_known: bool) -> Any:
        """Run *call* behind *first*, in the same round trip. Return the reply of *call*.

        Unless *is_first_known* to the server, the text of *first* is sent. An unknown script would run later than *call*.
        """
        nonce = os.urandom(8)
        told = self._by_digest(first, nonce) if is_first_known else self._by_text(first, nonce)
        deadline = self._deadline()
        if not self._is_verified:
            self._verify(call, deadline)
        before, reply = self._acknowledged([told, self._by_digest(call, nonce)], call.keys[0], True, deadline)
        if isinstance(before, exceptions.NoScriptError):
            (before,) = self._retried([self._by_text(first, nonce)], first.keys[0], True, deadline)
        if isinstance(reply, exceptions.NoScriptError):
            (reply,) = self._acknowledged([self._by_text(call, nonce)], call.keys[0], True, deadline)
        self._is_verified = self._is_verified and not isinstance(reply, Exception)
        _raised(reply, call.keys[0], call.writes)
        self._check_nonce(call, nonce, reply)
        if isinstance(before, exceptions.RedisError):
            error = as_ours(before, first.keys[0], writes=True)
            error.written = True  # *call* is done
            raise error from before
        return reply

    def call_all(self, calls: Sequence[Call]) -> list[Any]:
        """Run scripts that may be repeated, in one round trip. Return the replies, with errors of ours as values.

        Where writes must be on a disk or on replicas, each call that writes is a round trip.
        """
        if self._must_wait(calls):
            return [self._alone(call) for call in calls]
        return self._all_of(calls)

    def write_all(self, calls: Sequence[Call]) -> list[Any]:
        """Run scripts that write, in one round trip. Return the replies, with errors of ours as values."""
        try:
            if calls and not self._is_verified:
                self._verify(calls[0], self._deadline())
            return self._all_of(calls)
        except ConvstoreError as error:
            return [copy.copy(error) for _ in calls]

    def _all_of(self, calls: Sequence[Call]) -> list[Any]:
        if not calls:
            return []
        answers = self._known_all(calls)
        unknown = [number for number, answer in enumerate(answers) if answer is None]
        if unknown:  # the text of the first is sent, and the server knows the script for the others then
            again = [self._alone(calls[unknown[0]]), *self._all_of([calls[number] for number in unknown[1:]])]
            for number, answer in zip(unknown, again, strict=True):
                answers[number] = answer
        return answers

    def _alone(self, call: Call) -> Any:
        try:
            return self.call(call)
        except ConvstoreError as error:
            return error

    def _must_wait(self, calls: Sequence[Call]) -> bool:
        """Tell whether one of *calls* is a write that must be on a disk or on replicas."""
        return bool(self._replicas or self._is_on_disk) and any(call.writes for call in calls)

    def _known_all(self, calls: Sequence[Call]) -> list[Any]:
        """Run those scripts that the server knows. The answer to any other is None."""
        nonces = [os.urandom(8) for _ in calls]
        told = [self._by_digest(call, nonce) for call, nonce in zip(calls, nonces, strict=True)]
        replies = self._told_all(told, self._deadline(), writes=any(call.writes for call in calls))
        return [self._known(*one) for one in zip(calls, nonces, replies, strict=True)]

    def _known(self, call: Call, nonce: bytes, reply: Any) -> Any:
        """Return the *reply* to one of several scripts, or an error of ours. None: the server does not know the script."""
        if isinstance(reply, (ConvstoreError, exceptions.NoScriptError)):
            return reply if isinstance(reply, ConvstoreError) else None
        try:
            self._is_verified = self._is_verified and not isinstance(reply, Exception)
            _raised(reply, call.keys[0], call.writes)
            self._check_nonce(call, nonce, reply)
        except ConvstoreError as error:
            return error
        return reply

    def _told_all(self, commands: Sequence[Sequence[Argument]], deadline: float, *, writes: bool) -> list[Any]:
        return self._acknowledged(commands, "", writes, deadline)

    def place_of(self, key: str) -> str:
        """Name the server that has *key*, as far as that is known."""
        return ""

    def _deadline(self) -> float:
        """Compute the moment at which a call that begins now must have ended.

        Raises:
            StoreUnavailable: The time of the operation around it is over. Nothing was written.
        """
        now = monotonic()
        deadline = OPERATION.earliest(now + self._patience.budget)
        if deadline <= now:
            reason = "the earlier round trips of this operation have taken all its time (CONVSTORE_BUDGET)"
            raise StoreUnavailable(reason, written=False, is_down=None)
        return deadline

    def _proved(self, replies: Sequence[Any], nonce: bytes) -> list[Any]:
        """Take the echoes off that show that *replies* belong to their commands."""
        before, *found, after = replies
        for echo in (before, after):
            _raised(echo, "ECHO", writes=False)
            self._check_nonce(_PLAIN, nonce, [b"ok", echo])
        return found

    def _check_nonce(self, call: Call, nonce: bytes, reply: Any) -> None:
        if not isinstance(reply, list) or len(reply) < 2 or reply[1] != nonce:
            raise self._mixed_up(written=None if call.writes else False)

    def _mixed_up(self, *, written: bool | None) -> StoreUnavailable:
        """Close the connections, of which one has given another call's reply. Return the error that tells so."""
        self.close()
        reason = "the server's reply belongs to another call, and the connections were closed"
        return StoreUnavailable(reason, written=written)

    def _verify(self, call: Call, deadline: float) -> None:
        """Check before the first write, and after each refusal, that the server lets us do all that sessions need.

        With ``fsync`` that it does what this promises too, and with ``replicas:n`` that it lets us wait for replicas.
        """
        if self._is_on_disk:
            (reply,) = self._acknowledged([_DISK], "CONFIG", False, deadline)
            self._check_disk(reply, written=False)
        is_about_session = len(call.keys) > 2
        if is_about_session:
            self._check_rights(Call("rights", call.keys[:3], (), writes=False), deadline)
            self._is_verified = True

    def _check_rights(self, asked: Call, deadline: float) -> None:
        nonce = os.urandom(8)
        commands = [self._by_text(asked, nonce), *([_NO_WAIT] if self._replicas else [])]
        reply, *waited = self._acknowledged(commands, asked.keys[0], False, deadline)
        _raised(reply, asked.keys[0], writes=False)
        self._check_nonce(asked, nonce, reply)
        if len(reply) > 2:
            lacking = ", ".join(sorted({name.decode() for name in reply[2:]}))
            error = StoreMisconfigured(
                f"the server does not let this user run {lacking}. Nothing was written. {_GRANT}"
            )
            error.written = False
            raise error
        for one in waited:
            self._waited(one, written=False)

    def _refuse_unpermitted(self, call: Call, replies: Sequence[Any]) -> None:
        """Refuse replies of which a part is not permitted. The script may have run all the same."""
        refusals = (one for one in replies if isinstance(one, exceptions.RedisError) and _is_unpermitted(one))
        refusal = next(refusals, None)
        if refusal and not isinstance(replies[1], exceptions.NoScriptError):
            self._is_verified = False
            error = as_ours(refusal, call.keys[0], writes=call.writes)
            error.written = _wrote(replies)
            raise error from refusal

    def _check_disk(self, reply: Any, *, written: bool) -> None:
        """Check what the server says of its disk. It says so with each write, since server and settings may change."""
        try:
            found = _raised(reply, "CONFIG", writes=False)
        except StoreMisconfigured as error:
            reason = (
                f"CONVSTORE_DURABILITY=fsync cannot be verified: the server does not show its configuration ({error})"
            )
            raise self._misconfigured(reason, written) from error
        shown = _settings_in(found)
        if shown is None:
            raise self._mixed_up(written=None if written else False)
        if (shown.get(b"appendonly"), shown.get(b"appendfsync")) != (b"yes", b"always"):
            reason = "CONVSTORE_DURABILITY=fsync needs a server with appendonly yes and appendfsync always"
            raise self._misconfigured(reason, written)

    def _waited(self, reply: Any, *, written: bool) -> int:
        """Read the number of replicas from the answer to WAIT, which some managed services forbid."""
        try:
            return int(_raised(reply, "WAIT", writes=written))
        except StoreMisconfigured as error:
            reason = f"CONVSTORE_DURABILITY=replicas:{self._replicas} cannot be confirmed ({error})"
            raise self._misconfigured(reason, written) from error

    def _misconfigured(self, reason: str, written: bool) -> StoreMisconfigured:
        """Make the error. The next write is refused before it is done."""
        self._is_verified = False
        done = "The write is done, but a crash of the server may undo it" if written else "Nothing was written"
        error = StoreMisconfigured(f"{reason}. {done}")
        error.written = written
        return error

    def _acknowledged(
        self, commands: Sequence[Sequence[Argument]], key: str, writes: bool, deadline: float
    ) -> list[Any]:
        """Send commands as ``_retried``. Where a write must be on replicas, wait for them on the connection that wrote.

        Where a write must be on the disk, ask the server on the same way whether it puts writes there.
        """
        if writes and self._is_on_disk:
            *replies, disk = self._retried([*commands, _DISK], key, writes, deadline)
            self._check_written(replies, disk)
            return replies
        if writes and self._replicas:
            waiting = ("WAIT", self._replicas, int(500 * self._patience.timeout))
            *replies, confirmed = self._retried([*commands, waiting], key, writes, deadline)
            self._check_confirmed(replies, confirmed)
            return replies
        return self._retried(commands, key, writes, deadline)

    def _check_written(self, replies: Sequence[Any], disk: Any) -> None:
        is_sent_again = any(isinstance(reply, exceptions.NoScriptError) for reply in replies)
        if _wrote(replies) and not is_sent_again:
            self._check_disk(disk, written=True)

    def _check_confirmed(self, replies: Sequence[Any], confirmed: Any) -> None:
        if any(isinstance(reply, Exception) for reply in replies):
            return
        is_written = _wrote(replies)
        count = self._waited(confirmed, written=is_written)
        if count < self._replicas and is_written:
            reason = f"only {count} of {self._replicas} replicas have confirmed it in time"
            raise StoreUnavailable(reason, written=True)

    def _retried(self, commands: Sequence[Sequence[Argument]], key: str, writes: bool, deadline: float) -> list[Any]:
        """Send commands as ``_exchange``, again and again while failures may pass and time is left."""
        lost = is_down = False
        for attempt in itertools.count():
            replies, error = self._tried(commands, key, writes, deadline)
            if error is None:
                return _after_loss(replies) if lost and writes else replies
            failure = classify(error)
            lost = lost or failure.kind == "ambiguous"
            is_down = is_down or (failure.is_down and not getattr(error, "came_late", False))
            pause = self._pause(attempt, failure)
            out_of_time = monotonic() + pause >= deadline
            if not failure.passes or attempt >= self._patience.retries or out_of_time:
                ours = as_ours(error, key, writes=writes)
                written = None if lost and writes else ours.written
                raise _in_the_end(ours, written, is_down=is_down) from error
            time.sleep(pause)
        raise AssertionError

    def _tried(
        self, commands: Sequence[Sequence[Argument]], key: str, writes: bool, deadline: float
    ) -> tuple[list[Any], exceptions.RedisError | None]:
        """Send commands once. Return an error that may pass as a value.

        An error that the caller caught itself, and kept, would keep caller and connection until garbage is collected.
        """
        try:
            replies = self._exchange(commands, deadline)
            if _VALUES.issuperset(map(type, replies)):
                return replies, None
            refusal = refusal_among(replies)
            if refusal and _is_unproven(commands, replies) and not (writes and _may_be_half(refusal, key)):
                replies = self._exchange_proved(commands, writes, deadline)
                refusal = refusal_among(replies)
            return replies, refusal if refusal and _passes(refusal) else None
        except exceptions.RedisError as error:
            return [], error

    def _exchange_proved(self, commands: Sequence[Sequence[Argument]], writes: bool, deadline: float) -> list[Any]:
        """Send *commands* again, since an error carries no nonce and may be the reply to another call.

        Between two echoes it is believed, and where the server refuses the echoes for the same reason.
        """
        asked, nonce = proving(commands)
        before, *replies, after = self._exchange(asked, deadline)
        refusal = refusal_among(replies)
        is_refused_all = refusal is not None and all(
            isinstance(echo, exceptions.RedisError) and classify(echo) == classify(refusal) for echo in (before, after)
        )
        if (before, after) != (nonce, nonce) and not is_refused_all:
            raise self._mixed_up(written=None if writes else False)
        return replies

    def _pause(self, attempt: int, failure: Failure) -> float:
        """Compute the next pause: exponential, with jitter. There is none after a dead connection, as the next may live."""
        if attempt == 0 and failure.name == "connection lost":
            return 0.0
        longest: float = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**attempt)
        return _jitter.uniform(0.5, 1) * longest

    def _exchange(self, commands: Sequence[Sequence[Argument]], deadline: float) -> list[Any]:
        """Send *commands* once. Return the replies, with errors of the server as values."""
        return self._over(self._pool, commands, deadline)

    def _over(self, pool: Any, commands: Sequence[Sequence[Argument]], deadline: float) -> list[Any]:
        """Send *commands* over one connection of *pool*.

        Whatever goes wrong, a connection with unread replies is not used again.
        """
        left, connection, is_read = deadline - monotonic(), None, False
        TRIPS.count += 1
        try:
            connection = lent(pool, deadline)
            packed = _packed(commands[0]) if len(commands) == 1 else b"".join(map(_packed, commands))
            left = deadline - monotonic()
            # A connection of the app's own client has only the methods of redis-py.
            exchange = getattr(connection, "exchange", None) or partial(_exchange_by, connection)
            replies: list[Any] = exchange(packed, len(commands), left)
            if exceptions.ReadOnlyError in map(type, replies):
                connection.disconnect()  # another server is the primary now
            is_read = True
            return replies
        except exceptions.TimeoutError as error:
            # Earlier round trips have left too little time to say that the server does not answer.
            error.came_late = left < 0.9 * min(self._patience.budget, self._patience.timeout)  # type: ignore[attr-defined]
            raise
        finally:
            if connection is not None:
                if not is_read:  # a signal may raise here too: then the connection is not given back
                    connection.disconnect()
                give_back(pool, connection)


def _after_loss(replies: Sequence[Any]) -> list[Any]:
    return [AfterLoss(reply) if isinstance(reply, list) else reply for reply in replies]


def _in_the_end(error: ConvstoreError, written: bool | None, *, is_down: bool) -> ConvstoreError:
    """Tell of all attempts what *error* tells of the last one."""
    if not isinstance(error, StoreUnavailable):
        error.written = written
        return error
    told = type(error)(error.reason, written=written, is_down=None if error.is_down and not is_down else error.is_down)
    told.is_unexplained = error.is_unexplained
    return told


def _packed(command: Sequence[Argument]) -> bytes:
    """Pack a command. hiredis 3.5 kills the process where a signal's handler raises while it writes a number."""
    if int in map(type, command):
        command = [str(part) if isinstance(part, int) else part for part in command]
    return _pack(tuple(command))  # type: ignore[no-any-return]


def proving(commands: Sequence[Sequence[Argument]]) -> tuple[list[Sequence[Argument]], bytes]:
    """Put plain *commands* between two that echo a nonce. Return them, and the nonce."""
    nonce = os.urandom(8)
    return [("ECHO", nonce), *commands, ("ECHO", nonce)], nonce


def refusal_among(replies: Sequence[Any]) -> exceptions.RedisError | None:
    """Find the first error among *replies*."""
    for reply in replies:
        if isinstance(reply, exceptions.RedisError):
            return reply
    return None


def _is_unproven(commands: Sequence[Sequence[Argument]], replies: Sequence[Any]) -> bool:
    """Tell whether there is an error among *replies*, and nothing that shows to which call they belong.

    A script that is unknown is sent as text, whose reply is looked at then.
    """
    pairs = list(zip(commands, replies, strict=True))
    if all(_is_unknown(*pair) for pair in pairs if isinstance(pair[1], exceptions.RedisError)):
        return False
    return not any(_has_nonce(*pair) for pair in pairs)


def _may_be_half(refusal: exceptions.RedisError, key: str) -> bool:
    """Tell whether a script may have written before it failed. Its token is not known then, and it must not run again.

    Such an error says so whether it belongs to this call or not.
    """
    return as_ours(refusal, key, writes=True).written is None


def _is_unknown(command: Sequence[Argument], reply: Any) -> bool:
    return command[0] == "EVALSHA" and isinstance(reply, exceptions.NoScriptError)


def _has_nonce(command: Sequence[Argument], reply: Any) -> bool:
    """Tell whether *reply* tells the nonce of a script, or of an echo."""
    if command[0] in ("EVALSHA", "EVAL"):
        return isinstance(reply, list) and command[3 + int(command[2])] in reply[1:2]
    return command[0] == "ECHO" and bool(command[1] == reply)


def _passes(refusal: exceptions.RedisError) -> bool:
    """Tell whether a refusal may pass in a moment. An unknown script does not, as its text has to be sent."""
    return not isinstance(refusal, exceptions.NoScriptError) and classify(refusal).passes


def _exchange_by(connection: Any, packed: bytes, count: int, seconds: float) -> list[Any]:
    """Send commands over a connection that is not ours, as ``connections`` does over ours."""
    # Connections of fakeredis and of redis-py's cache have no such socket.
    stated: Any = connection.socket_timeout
    sock: Any = getattr(connection, "_sock", None)
    is_short = hasattr(sock, "settimeout") and (stated is None or seconds < stated)
    if is_short:
        sock.settimeout(max(0.001, seconds))
    connection.send_packed_command((packed,), check_health=False)
    replies = [_read(connection) for _ in range(count)]
    if is_short:
        sock.settimeout(stated)
    return replies


def _read(connection: Any) -> Any:
    """Read the next reply. An error of the server is a value."""
    try:
        return connection.read_response(disconnect_on_error=False)
    except exceptions.ResponseError as error:
        return error
    except (exceptions.ConnectionError, exceptions.TimeoutError):
        raise
    except exceptions.RedisError as error:
        return error


def _is_unpermitted(error: exceptions.RedisError) -> bool:
    """Tell whether the user may not run a command, or the end of a transaction."""
    return isinstance(error, exceptions.NoPermissionError) or "NOPERM" in str(error)


def _wrote(replies: Sequence[Any]) -> bool:
    """Tell whether a script among *replies* has written, now or the first time."""
    return any(isinstance(reply, list) and _tells_of_a_write(reply) for reply in replies)


def _tells_of_a_write(reply: list[Any]) -> bool:
    """Tell whether *reply* says that something is stored. A turn that is refused may say so of its message."""
    if reply[:1] in ([b"busy"], [b"lost"]):
        return bool(reply[-1] == 1)
    return reply[:1] in ([b"ok"], [b"repeated"], [b"resumed"])


def _settings_in(reply: Any) -> dict[Any, Any] | None:
    """Take the settings from the answer to ``_DISK``. None if it is the answer to something else."""
    if isinstance(reply, dict):
        return reply
    if not isinstance(reply, list) or not all(str(name).startswith("b'append") for name in reply[::2]):
        return None
    return dict(zip(reply[::2], reply[1::2], strict=True))


def _raised(reply: Any, key: str, writes: bool) -> Any:
    """Return *reply*. Raise it if it is an error."""
    if isinstance(reply, exceptions.RedisError):
        raise as_ours(reply, key, writes=writes) from reply
    return reply


def _behind_gate(
    command: Sequence[Argument], queries: Sequence[Sequence[Argument]], gate: str
) -> list[Sequence[Argument]]:
    """Put *queries* into a transaction behind a script, which calls them off where it changes the *gate*."""
    return [("WATCH", gate), command, ("MULTI",), *queries, ("EXEC",)]


def _from_behind_gate(replies: Sequence[Any]) -> list[Any]:
    """Take the reply of the script, and those to the queries if they ran. An error stands for them if there is any."""
    watching, reply, *queued, found = replies
    is_fine = _VALUES.issuperset(map(type, replies))
    refused = None if is_fine else refusal_among((watching, *queued, found))
    # A full Redis 7 refuses every command within a transaction, a full Valkey none that reads.
    if found is None or isinstance(refused, exceptions.OutOfMemoryError):
        return [reply]
    return [reply, refused] if refused else [reply, *(found if isinstance(found, list) else [found])]
