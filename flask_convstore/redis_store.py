"""Sessions in Redis or Valkey: keys, bytes <> values, Redis errors > ours.

| key                    | type | holds                                                                                     |
| ---------------------- | ---- | ----------------------------------------------------------------------------------------- |
| {prefix}{<id>}         | hash | version, history_version, count, first (seq), shape, created, updated, owner, title, ttl; |
|                        |      | history_bytes, data_bytes; turn (whose attempt has it), turn_until, turn_seq;             |
|                        |      | d:<field> = JSON text of a data field                                                     |
| {prefix}{<id>}:history | list | elements, oldest first: version byte, envelope, newline, body; seq = first + index        |
| {prefix}{<id>}:tokens  | hash | t:<token> = receipt; outlives the session as its tombstone                                |

``history_version`` is the version at the last change of the messages. The id stands in braces in the real key: one session
is one Cluster slot. It is percent-encoded there, so that no id reaches into another's keys.

A write is one script, one round trip. A read is one MULTI/EXEC of the touch script, HGETALL and LRANGE, one round trip
too: a list is sent as it is instead of being converted twice by Lua.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable, Sequence
from functools import cache
from importlib import resources
from typing import Any
from urllib.parse import quote

import redis
from redis import exceptions

from .errors import (
    ConflictError,
    ConvstoreError,
    CorruptValue,
    SessionExists,
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
    Append,
    BeginTurn,
    Begun,
    Command,
    CommitTurn,
    Delete,
    Extend,
    FieldChange,
    Limits,
    Owner,
    Receipt,
    RenewTurn,
    Rewrite,
    Save,
    Snapshot,
    Touch,
)

Argument = bytes | str | int

_NUMBERS = (b"version", b"created", b"updated", b"count", b"first", b"history_version")

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

    def apply(self, command: Command) -> Receipt:
        keys = self._keys(command.session_id)
        if isinstance(command, (Touch, RenewTurn)):
            name, arguments = _keeping(command)
            reply = self._call(name, keys, command.owner, [*self._times, *arguments])
            _refuse(command, reply, keys)
            version, created, updated, expires, lifetime = reply[2:7]
            return Receipt(version, None, False, "primary", created, updated, expires, lifetime, None)
        name, arguments = _writing(command)
        reply = self._call(name, keys, command.owner, self._head(command) + arguments)
        _refuse(command, reply, keys)
        return _receipt(reply) if reply[0] == b"ok" else _first_receipt(reply, reply[2], keys[2])

    def begin(self, command: BeginTurn) -> Begun:
        keys = self._keys(command.session_id)
        arguments: list[Argument] = [command.expected, command.lease_ms, int(command.supersede), command.attempt]
        queries = _reading(keys, command.last)
        reply, *found = self._call(
            "begin_turn", keys, command.owner, [*self._head(command), *arguments, command.element], queries
        )
        _refuse(command, reply, keys)
        if reply[0] == b"ok":
            now_begun = _snapshot(command.session_id, keys, found, command.last, reply[6])
            return Begun(_receipt(reply), now_begun)
        receipt = _first_receipt(reply, reply[2], keys[2])
        ended = _first_receipt(reply, reply[6], keys[2]) if len(reply) > 6 and reply[6] else None
        gone = not receipt.expires_at_ms
        return Begun(
            receipt,
            snapshot=None if gone else _snapshot(command.session_id, keys, found, command.last, reply[5]),
            reply=ended,
        )

    def load(self, session_id: str, owner: Owner, last: int | None = None) -> Snapshot | None:
        keys = self._keys(session_id)
        reply, *found = self._call("touch", keys, owner, [*self._times, "", ""], _reading(keys, last))
        if reply[0] == b"missing":
            return None
        _refuse(None, reply, keys)
        return _snapshot(session_id, keys, found, last, reply[5])

    def turn_remaining_ms(self, session_id: str, owner: Owner) -> int:
        reply = self._call("turn_state", self._keys(session_id), owner, ())
        if reply[0] == b"missing":
            raise SessionNotFound(session_id)
        return int(reply[2])

    def ping(self) -> float:
        started = time.perf_counter()
        try:
            self._execute("PING")
        except exceptions.RedisError as error:
            raise _translated(error, "PING", writes=False) from error
        return (time.perf_counter() - started) * 1000

    def close(self) -> None:
        self._client.close()
        self._client.connection_pool.disconnect()

    def _keys(self, session_id: str) -> tuple[str, str, str]:
        key = f"{self._prefix}{{{_in_key(session_id)}}}"
        return key, f"{key}:history", f"{key}:tokens"

    def _head(self, command: Save | Append | Delete | BeginTurn | CommitTurn) -> list[Argument]:
        """The arguments that every write has, after nonce and owner."""
        return [*self._times, command.token, command.digest, *self._bounds]

    def _call(
        self,
        name: str,
        keys: tuple[str, str, str],
        owner: Owner,
        arguments: Sequence[Argument],
        queries: Sequence[Sequence[Argument]] = (),
    ) -> Any:
        """The reply of script *name*, followed by those of *queries*, all in one round trip.

        A server that does not know the script yet is sent its text. The nonce tells that the reply is that of this call.
        """
        nonce = os.urandom(8)
        writes = name not in ("touch", "renew_turn", "turn_state")
        script, digest = _script(name)
        rest = (3, *keys, nonce, _owner_argument(owner), *arguments)
        try:
            try:
                replies = self._send(("EVALSHA", digest, *rest), queries)
            except exceptions.NoScriptError:
                replies = self._send(("EVAL", script, *rest), queries)
        except exceptions.RedisError as error:
            raise _translated(error, keys[0], writes) from error
        reply = replies[0] if queries else replies
        if not isinstance(reply, list) or len(reply) < 2 or reply[1] != nonce:
            self._client.connection_pool.disconnect()
            reason = "the server's reply belongs to another call; the connections were closed"
            raise StoreUnavailable(reason, written=None if writes else False)
        return replies

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


def _reading(keys: tuple[str, str, str], last: int | None) -> list[Sequence[Argument]]:
    """What is read of a session, besides what its script replies."""
    if last == 0:  # LRANGE -0 -1 would be everything
        return [("HGETALL", keys[0])]
    return [("HGETALL", keys[0]), ("LRANGE", keys[1], 0 if last is None else -last, -1)]


def _keeping(command: Touch | RenewTurn) -> tuple[str, list[Argument]]:
    """The script that only keeps something alive, and what it gets after the lifetimes."""
    if isinstance(command, Touch):
        return "touch", [command.created_at_ms or "", command.ttl_ms or ""]
    return "renew_turn", [command.turn, command.lease_ms]


def _writing(command: Save | Append | Delete | CommitTurn) -> tuple[str, list[Argument]]:
    """The script for a write, and what it gets after the arguments that every write has."""
    if isinstance(command, Append):
        pairs = [part for name, value in command.fields for part in (name, value or b"")]
        created = command.created_at_ms or ""
        return "append", [created, command.expected, len(command.fields), *pairs, *command.elements]
    if isinstance(command, CommitTurn):
        fields = _triples(command.fields)
        return "commit_turn", [command.turn, command.status, len(command.fields), *fields, *command.elements]
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
    except (KeyError, ValueError) as error:
        raise CorruptValue(keys[0], f"it is not a session of flask-convstore ({error!r})") from None
    if shape not in ("full", "data", "list") or not 0 < created < _LATEST_MS > updated:
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
    )


def _owner_argument(owner: Owner) -> str:
    return "*" if owner is ANY else "" if owner is None else f"={owner}"


_PLAIN = re.compile(r"[A-Za-z0-9_.~:/@+=,-]+").fullmatch


def _in_key(name: str) -> str:
    return name if _PLAIN(name) else quote(name, safe=":/@+=,")


_INCLUDE = re.compile(r"^[ \t]*--#include (\S+)$", re.MULTILINE)


@cache
def _script(name: str) -> tuple[str, str]:
    """A script's text, with what it includes, and its SHA-1."""

    def text_of(file: str) -> str:
        text = resources.files(__package__).joinpath("lua", file).read_text("utf-8")
        return _INCLUDE.sub(lambda include: text_of(include[1]), text)

    text = text_of(f"{name}.lua")
    return text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


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
