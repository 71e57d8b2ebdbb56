"""Sessions in Redis or Valkey: keys, bytes <> values, Redis errors > ours.

| key                    | type | holds                                                                                     |
| ---------------------- | ---- | ----------------------------------------------------------------------------------------- |
| {prefix}{<id>}         | hash | version, history_version, count, first (seq), shape, created, updated, owner, title, ttl; |
|                        |      | history_bytes, data_bytes; turn (whose attempt has it), turn_until, turn_seq;             |
|                        |      | d:<field> = JSON text of a data field; indexed (when its index heard of it last);         |
|                        |      | a:<owner>:<alias> where one was led here; moved_to (the session where it goes on)         |
| {prefix}{<id>}:history | list | elements, oldest first: version byte, envelope, newline, body; seq = first + index        |
| {prefix}{<id>}:tokens  | hash | t:<token> = receipt; outlives the session as its tombstone                                |
| {prefix}owner:{<owner>}         | zset   | ids of the owner's sessions, nobody's under "", by their last activity in ms   |
| {prefix}alias:{<owner>:<alias>} | string | the id of the session that it leads to                                         |

``history_version`` is the version at the last change of the messages. The id stands in braces in the real key: one session
is one Cluster slot. It is percent-encoded there, so that no id reaches into another's keys.

An index is told before a session is created, in the same round trip, and once a minute of its activity: an entry may lack
its session, for a minute or longer, but no session its entry. A page takes out what is gone, and so do samples.

A write is one script, one round trip. A read is one MULTI/EXEC of the touch script, HGETALL and LRANGE, one round trip
too: a list is sent as it is instead of being converted twice by Lua.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from importlib import resources
from typing import Any, NamedTuple, get_args
from urllib.parse import quote, unquote

import redis
from redis import exceptions

from .errors import (
    ConflictError,
    ConvstoreError,
    CorruptValue,
    InvalidInput,
    SessionExists,
    SessionMoved,
    SessionNotFound,
    StoreMisconfigured,
    StoreUnavailable,
    TokenReused,
    TooLarge,
    TurnInProgress,
    TurnLost,
)
from .models import (
    ANY,
    Alias,
    Append,
    BeginTurn,
    Begun,
    Command,
    CommitTurn,
    Delete,
    Extend,
    FieldChange,
    Limits,
    LinkAlias,
    Owner,
    Page,
    Receipt,
    RenewTurn,
    Rewrite,
    Save,
    Scope,
    Shape,
    Snapshot,
    Summary,
    Touch,
)

_log = logging.getLogger("flask_convstore")

Argument = bytes | str | int

_NUMBERS = (b"version", b"created", b"updated", b"count", b"first", b"history_version")
_SUMMARY = ("version", "created", "updated", "count", "owner", "title", "indexed")

_INDEX_GRACE_MS = 60_000
"""A younger entry of an index stays, though its session is not there: it may be about to be created."""
_PRUNE_EVERY = 50
_PRUNE_SAMPLE = 100
"""Every so many creations so many entries are looked at: at half of them gone, as many leave an index as enter it."""

_LATEST_MS = 253_402_300_799_000
"""The year 9999: what datetime can hold."""

# redis-py has classes for some of the server's errors, and cuts off their first word; the others are known by theirs.
_MISCONFIGURED = (
    exceptions.AuthenticationError,
    exceptions.AuthorizationError,
    exceptions.AuthenticationWrongNumberOfArgsError,
    exceptions.NoPermissionError,
)
_MISCONFIGURED_WORDS = ("The user executing the script", "ACL failure in script")  # Redis's and Valkey's
_REFUSED = (
    exceptions.OutOfMemoryError,
    exceptions.ReadOnlyError,
    exceptions.BusyLoadingError,
    exceptions.ClusterDownError,
    exceptions.TryAgainError,
)
_REFUSED_WORDS = ("MISCONF", "NOREPLICAS", "BUSY")


class RedisStore:
    """A ``Store`` on a redis-py client that gives back bytes; its methods are those of ``Store``.

    Args:
        client: Connects when it is first used.
        prefix: What every key begins with.
        limits: How long sessions live, and how large they may get.
    """

    def __init__(self, client: redis.Redis, prefix: str, limits: Limits) -> None:
        self._client = client
        self._execute: Callable[..., Any] = client.execute_command
        self._prefix = prefix
        self._times = (limits.ttl_ms, limits.ttl_complete_ms, limits.max_age_ms, limits.tombstone_ms)
        self._bounds = (
            limits.max_tokens,
            limits.max_history,
            int(limits.trim),
            limits.max_data_bytes,
            limits.max_session_bytes,
        )
        self._creations = 0

    def apply(self, command: Command) -> Receipt:
        keys = self._keys(command.session_id)
        if isinstance(command, (Touch, RenewTurn)):
            name, arguments = _keeping(command)
            reply = self._call(_Call(name, keys, (_owner_argument(command.owner), *self._times, *arguments)))
            _refuse(command, reply, keys)
            version, created, updated, expires, lifetime = reply[2:7]
            self._spread(command.session_id, lifetime, reply[7:8])
            return Receipt(version, None, False, "primary", created, updated, expires, lifetime, None)
        name, arguments = _writing(command)
        call = _Call(name, keys, (*self._head(command), *arguments))
        first = self._entry(command) if isinstance(command, Save) and command.mode != "merge" else None
        reply = self._call_after(first, call) if first else self._call(call)
        _refuse(command, reply, keys)
        if reply[0] != b"ok":
            return _first_receipt(reply, reply[2], keys[2])
        receipt = _receipt(reply)
        self._spread(command.session_id, receipt.lifetime_ms, reply[8:9])
        return receipt

    def begin(self, command: BeginTurn) -> Begun:
        keys = self._keys(command.session_id)
        arguments: list[Argument] = [command.expected, command.lease_ms, int(command.supersede), command.attempt]
        arguments += [command.element] if command.element else []
        queries = _reading(keys, command.last)
        reply, *found = self._call(_Call("begin_turn", keys, (*self._head(command), *arguments)), queries)
        _refuse(command, reply, keys)
        if reply[0] == b"ok":
            now_begun = _snapshot(command.session_id, keys, found, command.last, reply[6])
            receipt = _receipt(reply)
            self._spread(command.session_id, receipt.lifetime_ms, reply[8:9])
            return Begun(receipt, now_begun)
        receipt = _first_receipt(reply, reply[2], keys[2])
        ended = _first_receipt(reply, reply[6], keys[2]) if len(reply) > 6 and reply[6] else None
        gone = not receipt.expires_at_ms
        return Begun(
            receipt,
            snapshot=None if gone else _snapshot(command.session_id, keys, found, command.last, reply[5]),
            reply=ended,
        )

    def load(
        self, session_id: str, owner: Owner, last: int | None = None, *, is_interaction: bool = True
    ) -> Snapshot | None:
        keys = self._keys(session_id)
        arguments = (_owner_argument(owner), *self._times, "", "", int(not is_interaction), "", "")
        reply, *found = self._call(_Call("touch", keys, arguments), _reading(keys, last))
        if reply[0] == b"missing":
            return None
        _refuse(None, reply, keys)
        snapshot = _snapshot(session_id, keys, found, last, reply[5])
        self._spread(session_id, reply[6], reply[7:8])
        return snapshot

    def turn_remaining_ms(self, session_id: str, owner: Owner) -> int:
        reply = self._call(_Call("turn_state", self._keys(session_id)[:1], (_owner_argument(owner),)))
        if reply[0] == b"missing":
            raise SessionNotFound(session_id)
        return int(reply[2])

    def page(self, owner: Owner, cursor: str | None = None, limit: int = 100, *, newest_first: bool = False) -> Page:
        if cursor is not None and not cursor.isdecimal():
            raise InvalidInput("this is no cursor of ours", "cursor")
        with _our_errors(self._prefix, writes=False):
            if owner is ANY:
                return self._scanned(cursor, limit)
            index = self._index(owner)
            entries, following = self._indexed(index, cursor, limit, newest_first)
            found = self._summaries([(name.decode(), active) for name, active in entries])
            # An entry may be older than its session, which is another owner's now.
            gone = [
                entry
                for entry, (exists, summary) in zip(entries, found, strict=True)
                if not exists or (summary and summary.owner != owner)
            ]
            if gone:
                self._unindex(index, gone)
        return Page([summary for _, summary in found if summary and summary.owner == owner], following)

    def link(self, command: LinkAlias) -> str | None:
        expected = "*" if command.expected is ANY else "" if command.expected is None else f"={command.expected}"
        arguments = (expected, command.session_id or "", command.lifetime_ms)
        reply = self._call(_Call("link", (self._alias(_alias_text(command.alias)),), arguments))
        return reply[2].decode() or None

    def follow(self, alias: Alias, lifetime_ms: int) -> str | None:
        reply = self._call(_Call("follow", (self._alias(_alias_text(alias)),), (lifetime_ms,)))
        return reply[2].decode() or None

    def ping(self) -> float:
        started = time.perf_counter()
        with _our_errors("PING", writes=False):
            self._execute("PING")
        return (time.perf_counter() - started) * 1000

    def close(self) -> None:
        self._client.close()
        self._client.connection_pool.disconnect()

    # ---- keys and arguments

    def _keys(self, session_id: str) -> tuple[str, str, str]:
        key = f"{self._prefix}{{{_in_key(session_id)}}}"
        return key, f"{key}:history", f"{key}:tokens"

    def _index(self, owner: str | None) -> str:
        return f"{self._prefix}owner:{{{_in_key(owner or '')}}}"

    def _alias(self, text: str) -> str:
        return f"{self._prefix}alias:{{{text}}}"

    def _head(self, command: Save | Append | Delete | BeginTurn | CommitTurn) -> list[Argument]:
        """The arguments that every write has, after the nonce."""
        return [_owner_argument(command.owner), *self._times, command.token, command.digest, *self._bounds]

    # ---- the owner's index

    def _entry(self, command: Save) -> _Call:
        """The entry of a session that *command* may create."""
        lifetime = max(command.ttl_ms or 0, *self._times[:2]) + self._times[3]
        owner = None if isinstance(command.owner, Scope) else command.owner
        return _Call("index", (self._index(owner),), (command.session_id, lifetime))

    def _spread(self, session_id: str, lifetime: int, due: Sequence[Sequence[bytes]]) -> None:
        """Tell the owner's index and the aliases of an interaction, if a script says that it is due.

        What was asked for is done already: a failure is logged, and made good a minute later.
        """
        if not due or not due[0]:
            return
        owner, *aliases = due[0]
        longer = max(0, lifetime) + self._times[3]
        try:
            index = self._index(owner.decode()[1:] or None)
            self._call(_Call("index", (index,), (session_id, longer)))
            for alias in aliases:
                self._call(_Call("follow", (self._alias(alias.decode()),), (longer,)))
        except ConvstoreError as error:
            _log.warning("the index of %s was not told of an interaction: %s", self._keys(session_id)[0], error)

    def _indexed(
        self, index: str, cursor: str | None, limit: int, newest_first: bool
    ) -> tuple[list[tuple[bytes, int]], str | None]:
        """Entries of an index, and the cursor of the next ones. Those of one millisecond are never parted."""
        command, last = ("ZREVRANGEBYSCORE", "-inf") if newest_first else ("ZRANGEBYSCORE", "+inf")
        first = ("+inf" if newest_first else "-inf") if cursor is None else f"({cursor}"
        found = self._scored(command, index, first, last, "WITHSCORES", "LIMIT", 0, limit + 1)
        if len(found) <= limit:
            return found, None
        beyond = found[limit][1]
        whole = [entry for entry in found if entry[1] != beyond]
        if not whole:
            whole = self._scored("ZRANGEBYSCORE", index, beyond, beyond, "WITHSCORES")
        return whole, str(whole[-1][1])

    def _scored(self, *command: Argument) -> list[tuple[bytes, int]]:
        return [(name, int(score)) for name, score in self._execute(*command, withscores=True)]

    def _scanned(self, cursor: str | None, limit: int) -> Page:
        """All sessions there are: the server walks through its keys."""
        pattern = re.sub(r"([*?\[\]\\])", r"\\\1", self._prefix) + "{*}"
        following, keys = self._execute("SCAN", cursor or 0, "MATCH", pattern, "COUNT", limit)
        start = len(self._prefix) + 1
        found = self._summaries([(unquote(key.decode()[start:-1]), None) for key in dict.fromkeys(keys)])
        return Page([summary for _, summary in found if summary], str(following) if following else None)

    def _summaries(self, entries: Sequence[tuple[str, int | None]]) -> list[tuple[bool, Summary | None]]:
        """Whether each session exists, and what is known of it; None if it is gone, or none of ours."""
        if not entries:
            return []
        pipeline = self._client.pipeline(transaction=False)
        queue: Callable[..., Any] = pipeline.execute_command
        for session_id, _ in entries:
            key = self._keys(session_id)[0]
            queue("HMGET", key, *_SUMMARY)
            queue("PTTL", key)
        replies = pipeline.execute(raise_on_error=False)
        now = time.time_ns() // 1_000_000
        found: list[tuple[bool, Summary | None]] = []
        for (session_id, active), stored, left in zip(entries, replies[::2], replies[1::2], strict=True):
            summary = None if isinstance(stored, Exception) else _summary(session_id, stored, now + left, active)
            found.append((left != -2, summary))
        return found

    def _prune(self, index: str) -> None:
        """Take what is gone out of a sample of an index. Done now and then, this keeps most of it alive."""
        try:
            with _our_errors(index, writes=False):
                sample = [(name, int(score)) for name, score in self._sample(index)]
                found = self._summaries([(name.decode(), active) for name, active in sample])
                gone = [entry for entry, (exists, _) in zip(sample, found, strict=True) if not exists]
                if gone:
                    self._unindex(index, gone)
        except ConvstoreError as error:
            _log.warning("the index %s was not pruned: %s", index, error)

    def _sample(self, index: str) -> list[tuple[bytes, float]]:
        flat = self._execute("ZRANDMEMBER", index, _PRUNE_SAMPLE, "WITHSCORES")
        if flat and isinstance(flat[0], (list, tuple)):
            return [(name, float(score)) for name, score in flat]
        return [(name, float(score)) for name, score in zip(flat[::2], flat[1::2], strict=True)]

    def _unindex(self, index: str, gone: Sequence[tuple[bytes, int]]) -> None:
        members = [part for entry in gone for part in entry]
        self._call(_Call("unindex", (index,), (_INDEX_GRACE_MS, *members)))

    # ---- calls

    def _call(self, call: _Call, queries: Sequence[Sequence[Argument]] = ()) -> Any:
        """The reply of a script, followed by those of *queries*, all in one round trip.

        A server that does not know the script yet is sent its text. The nonce tells that the reply is that of this call.
        """
        nonce = os.urandom(8)
        try:
            try:
                replies = self._send(call.by_digest(nonce), queries)
            except exceptions.NoScriptError:
                replies = self._send(call.by_text(nonce), queries)
        except exceptions.RedisError as error:
            raise _translated(error, call.keys[0], call.writes) from error
        self._check_nonce(call, nonce, replies[0] if queries else replies)
        return replies

    def _call_after(self, first: _Call, call: _Call) -> Any:
        """The reply of *call*, which the server does behind *first*, in the same round trip."""
        nonce = os.urandom(8)
        with _our_errors(call.keys[0], call.writes):
            pipeline = self._client.pipeline(transaction=False)
            queue: Callable[..., Any] = pipeline.execute_command
            # Were its script not known, it would be done after the other one.
            queue(*(first.by_digest(nonce) if self._creations else first.by_text(nonce)))
            queue(*call.by_digest(nonce))
            before, reply = pipeline.execute(raise_on_error=False)
            if isinstance(before, exceptions.NoScriptError):
                before = self._execute(*first.by_text(nonce))
            if isinstance(reply, exceptions.NoScriptError):
                reply = self._execute(*call.by_text(nonce))
            for answer in (reply, before):
                if isinstance(answer, Exception):
                    raise answer
        self._check_nonce(call, nonce, reply)
        self._creations += 1
        if self._creations % _PRUNE_EVERY == 0:
            self._prune(first.keys[0])
        return reply

    def _check_nonce(self, call: _Call, nonce: bytes, reply: Any) -> None:
        if not isinstance(reply, list) or len(reply) < 2 or reply[1] != nonce:
            self._client.connection_pool.disconnect()
            reason = "the server's reply belongs to another call; the connections were closed"
            raise StoreUnavailable(reason, written=None if call.writes else False)

    def _send(self, call: Sequence[Argument], queries: Sequence[Sequence[Argument]]) -> Any:
        if not queries:
            return self._execute(*call)
        transaction = self._client.pipeline(transaction=True)
        queue: Callable[..., Any] = transaction.execute_command
        for command in (call, *queries):
            queue(*command)
        # redis-py would add the arguments of the command to the text of its error.
        replies = transaction.execute(raise_on_error=False)
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return replies


_READING = ("touch", "renew_turn", "turn_state", "follow")
"""Scripts that write nothing of the app's."""


class _Call(NamedTuple):
    """A script with its keys, and its arguments after the nonce."""

    name: str
    keys: tuple[str, ...]
    arguments: tuple[Argument, ...]

    @property
    def writes(self) -> bool:
        return self.name not in _READING

    def by_digest(self, nonce: bytes) -> tuple[Argument, ...]:
        return ("EVALSHA", _script(self.name)[1], len(self.keys), *self.keys, nonce, *self.arguments)

    def by_text(self, nonce: bytes) -> tuple[Argument, ...]:
        return ("EVAL", _script(self.name)[0], len(self.keys), *self.keys, nonce, *self.arguments)


def _reading(keys: tuple[str, str, str], last: int | None) -> list[Sequence[Argument]]:
    """What is read of a session, besides what its script replies."""
    if last == 0:  # LRANGE -0 -1 would be everything
        return [("HGETALL", keys[0])]
    return [("HGETALL", keys[0]), ("LRANGE", keys[1], 0 if last is None else -last, -1)]


def _keeping(command: Touch | RenewTurn) -> tuple[str, list[Argument]]:
    """The script that only keeps something alive, and what it gets after the lifetimes."""
    if isinstance(command, Touch):
        led_by, left_by = ((alias and _alias_text(alias)) or "" for alias in (command.led_by, command.left_by))
        return "touch", [command.created_at_ms or "", command.ttl_ms or "", 0, led_by, left_by]
    return "renew_turn", [command.turn, command.lease_ms]


def _writing(command: Save | Append | Delete | CommitTurn) -> tuple[str, list[Argument]]:
    """The script for a write, and what it gets after the arguments that every write has."""
    if isinstance(command, Append):
        pairs = [part for name, value in command.fields for part in (name, value or b"")]
        created = command.created_at_ms or ""
        return "append", [created, command.expected, len(command.fields), *pairs, *command.elements]
    if isinstance(command, CommitTurn):
        fields = _triples(command.fields)
        moved_to, count = command.moved_to, len(command.fields)
        return "commit_turn", [command.turn, command.status, moved_to, count, *fields, *command.elements]
    if isinstance(command, Save):
        change, bound, elements = _history_arguments(command.history)
        head = [command.mode, command.created_at_ms or "", command.shape or "", command.ttl_ms or "", change, bound]
        return "save", [*head, len(command.fields), *_triples(command.fields), *elements]
    return "delete", [command.expected]


def _triples(fields: Sequence[FieldChange]) -> list[Argument]:
    return [part for name, loaded, value in fields for part in (name, loaded or b"", value or b"")]


def _history_arguments(change: Extend | Rewrite | None) -> tuple[str, int, tuple[bytes, ...]]:
    if change is None:
        return "keep", 0, ()
    if isinstance(change, Extend):
        return "extend", change.drop_below, change.elements
    if change.elements is None:
        return "remove", change.history_version, ()
    return "rewrite", change.history_version, change.elements


def _receipt(reply: list[Any]) -> Receipt:
    version, first_seq, created, updated, expires, history_version = reply[2:8]
    lifetime = expires - updated
    return Receipt(version, first_seq or None, False, "primary", created, updated, expires, lifetime, history_version)


def _first_receipt(reply: list[Any], kept: bytes, key: str) -> Receipt:
    """The receipt *kept* under a token: ``version first_seq at history_version_before lifetime digest``."""
    try:
        version, first_seq, at, history_version, lifetime = map(int, kept.split(b" ", 5)[:5])
    except ValueError:
        raise CorruptValue(key, "it holds a receipt that is not ours") from None
    created, _, expires = reply[3:6]
    return Receipt(version, first_seq or None, True, "primary", created, at, expires, lifetime, history_version)


_TOO_LARGE = {
    b"history": "the session would have too many messages",
    b"data": "the data would be too large in bytes of JSON",
    b"session": "the session would be too large in bytes of JSON",
}


def _refuse(command: Command | BeginTurn | None, reply: list[Any], keys: tuple[str, str, str]) -> None:
    """Raise what a script's *reply* to *command* refuses."""
    word = reply[0]
    if word in (b"ok", b"repeated", b"resumed"):
        return
    if word == b"corrupt" and reply[2] == b"history":
        raise CorruptValue(keys[1], f"it does not hold the number of messages that {keys[0]} counts")
    if word == b"corrupt" and reply[2] == b"tokens":
        raise CorruptValue(keys[2], "it holds a receipt that is not ours")
    if word == b"corrupt" or command is None:
        raise CorruptValue(keys[0], "it is not a session of flask-convstore")
    if word == b"conflict":
        raise _conflict(command, reply)
    if word == b"reused" and isinstance(command, CommitTurn):
        raise TurnLost(command.session_id)  # another attempt has ended this turn
    if word == b"reused":
        raise TokenReused("this token came before with another request; nothing was written", "token")
    if word == b"too_large":
        raise TooLarge(_TOO_LARGE[reply[2]], limit=reply[3], size=reply[4])
    if word == b"busy":
        raise TurnInProgress(command.session_id, reply[2])
    if word == b"moved":
        raise SessionMoved(command.session_id, reply[2].decode())
    raise {b"missing": SessionNotFound, b"exists": SessionExists, b"lost": TurnLost}[word](command.session_id)


def _conflict(command: Command | BeginTurn, reply: list[Any]) -> ConflictError:
    expected = getattr(command, "loaded_version", None)
    if isinstance(command, (Append, Delete, BeginTurn)):
        expected = int(command.expected.rpartition("-")[2])
    what = reply[3].decode()
    field = what.removeprefix("d:") if what.startswith("d:") else None
    return ConflictError(
        command.session_id, field or what, expected=expected, actual=reply[2], is_field=field is not None
    )


def _snapshot(
    session_id: str, keys: tuple[str, str, str], found: list[Any], last: int | None, expires_at_ms: int
) -> Snapshot:
    """A session from the replies to ``_reading``."""
    flat, *lists = found
    elements = lists[0] if lists else []
    # A pipeline gives a dict, unless its reply came through a connection with other callbacks.
    stored = flat if isinstance(flat, dict) else dict(zip(flat[::2], flat[1::2], strict=True))
    try:
        version, created, updated, count, first, history_version = (int(stored[name]) for name in _NUMBERS)
        shape = stored[b"shape"].decode()
        title = stored[b"title"].decode() if b"title" in stored else None
        fields = {name[2:].decode(): text for name, text in stored.items() if name.startswith(b"d:")}
        aliases = [_alias_of(name[2:].decode()) for name in stored if name.startswith(b"a:")]
        own_ttl = stored.get(b"ttl", b"")
    except (KeyError, ValueError) as error:
        raise CorruptValue(keys[0], f"it is not a session of flask-convstore ({error!r})") from None
    if shape not in get_args(Shape) or not 0 < created < _LATEST_MS > updated:
        raise CorruptValue(keys[0], "its shape or one of its times is none of ours")
    if len(elements) != (count if last is None else min(count, last)):
        raise CorruptValue(keys[1], f"it does not hold the number of messages that {keys[0]} counts")
    return Snapshot(
        session_id=session_id,
        version=version,
        shape=shape,
        created_at_ms=created,
        updated_at_ms=updated,
        expires_at_ms=expires_at_ms,
        title=title,
        fields=fields,
        elements=elements,
        next_seq=first + count,
        count=count,
        history_version=history_version,
        key=keys[0],
        history_key=keys[1],
        owner=stored[b"owner"].decode()[1:] if b"owner" in stored else None,
        own_ttl_ms=int(own_ttl) if own_ttl.isdigit() else None,
        moved_to=stored[b"moved_to"].decode() if b"moved_to" in stored else None,
        aliases=tuple(sorted(aliases, key=Alias.sort_key)),
    )


def _summary(session_id: str, stored: Sequence[bytes | None], expires_at_ms: int, active: int | None) -> Summary | None:
    """A session from its fields named ``_SUMMARY``; None if it is gone, or none of ours."""
    *numbers, owner, title, indexed = stored
    try:
        version, created, updated, count = (int(number or "") for number in numbers)
        last_active = int(indexed or updated) if active is None else active
    except ValueError:
        return None
    return Summary(
        session_id=session_id,
        owner=owner.decode()[1:] if owner else None,
        version=version,
        created_at_ms=created,
        updated_at_ms=updated,
        expires_at_ms=expires_at_ms,
        active_at_ms=max(last_active, updated),
        message_count=count,
        title=title.decode() if title else None,
    )


def _owner_argument(owner: Owner) -> str:
    return "*" if owner is ANY else "" if owner is None else f"={owner}"


_PLAIN = re.compile(r"[A-Za-z0-9_.~:/@+=,-]+").fullmatch


def _in_key(name: str) -> str:
    return name if _PLAIN(name) else quote(name, safe=":/@+=,")


def _alias_text(alias: Alias) -> str:
    """An alias as keys have it: the first colon parts its owner from its name."""
    return f"{quote(alias.owner or '', safe='')}:{_in_key(alias.name)}"


def _alias_of(text: str) -> Alias:
    owner, _, name = text.partition(":")
    return Alias(unquote(owner) or None, unquote(name))


_INCLUDE = re.compile(r"^[ \t]*--#include (\S+)$", re.MULTILINE)


@cache
def _script(name: str) -> tuple[str, str]:
    """A script's text, with what it includes, and its SHA-1."""

    def text_of(file: str) -> str:
        text = resources.files(__package__).joinpath("lua", file).read_text("utf-8")
        return _INCLUDE.sub(lambda include: text_of(include[1]), text)

    text = text_of(f"{name}.lua")
    return text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


@contextlib.contextmanager
def _our_errors(key: str, writes: bool) -> Iterator[None]:
    """Redis's errors as ours; *key* is what the call is about."""
    try:
        yield
    except exceptions.RedisError as error:
        raise _translated(error, key, writes) from error


def _translated(error: exceptions.RedisError, key: str, writes: bool) -> ConvstoreError:
    """Redis's error as ours."""
    text = str(error).rpartition("caused error: ")[2]  # without the command's arguments
    if "WRONGTYPE" in text:
        return CorruptValue(key, "it, or the key of its history or tokens, is of another type")
    if isinstance(error, _MISCONFIGURED) or text.startswith(_MISCONFIGURED_WORDS):
        refused = StoreMisconfigured(
            f"the server refuses us ({text}): check the password and the permissions in the URL"
        )
        if writes and text.startswith(_MISCONFIGURED_WORDS):
            refused.written = None  # what the script did before the command that is not permitted stays done
        return refused
    # A refusal comes before the first write of a script, and after the check of its token: it was not done before either.
    if isinstance(error, _REFUSED) or (isinstance(error, exceptions.ResponseError) and text.startswith(_REFUSED_WORDS)):
        return StoreUnavailable(f"the server refuses work for now ({text})", written=False)
    reason = f"no answer from the server ({text})"
    if isinstance(error, exceptions.ConnectionError) and "connecting to" in text:
        reason = f"cannot reach the server ({text}): is it running, and is the URL right? (memory:// needs no server)"
    return StoreUnavailable(reason, written=None if writes else False)
