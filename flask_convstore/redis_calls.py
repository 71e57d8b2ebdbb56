"""Calls to a Redis server: scripts with a nonce, what is read with them, Redis's errors as ours. Knows no session."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

import redis
from redis import exceptions

from .errors import ConvstoreError, CorruptValue, StoreMisconfigured, StoreUnavailable

Argument = bytes | str | int

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


_READING = ("touch", "renew_turn", "turn_state", "follow")
"""Scripts that write nothing of the app's."""


class Call(NamedTuple):
    """A script with its keys, and its arguments after the nonce."""

    name: str
    keys: tuple[str, ...]
    arguments: tuple[Argument, ...]

    @property
    def writes(self) -> bool:
        return self.name not in _READING

    def by_digest(self, nonce: bytes) -> tuple[Argument, ...]:
        return ("EVALSHA", script(self.name)[1], len(self.keys), *self.keys, nonce, *self.arguments)

    def by_text(self, nonce: bytes) -> tuple[Argument, ...]:
        return ("EVAL", script(self.name)[0], len(self.keys), *self.keys, nonce, *self.arguments)


class Calls:
    """Calls on a redis-py client that gives back bytes. It connects when it is first used."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._execute: Callable[..., Any] = client.execute_command

    def command(self, *command: Argument, **options: Any) -> Any:
        """The reply of one plain command."""
        with our_errors(str(command[0]), writes=False):
            return self._execute(*command, **options)

    def commands(self, commands: Sequence[Sequence[Argument]]) -> list[Any]:
        """The replies of several plain commands, in one round trip but not at one moment; errors as values."""
        pipeline = self._client.pipeline(transaction=False)
        queue: Callable[..., Any] = pipeline.execute_command
        for command in commands:
            queue(*command)
        with our_errors(str(commands[0][0]), writes=False):
            return pipeline.execute(raise_on_error=False)

    def close(self) -> None:
        """Give up the connections."""
        self._client.close()
        self._client.connection_pool.disconnect()

    def call(self, call: Call, queries: Sequence[Sequence[Argument]] = ()) -> Any:
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
            raise as_ours(error, call.keys[0], writes=call.writes) from error
        self._check_nonce(call, nonce, replies[0] if queries else replies)
        return replies

    def call_after(self, first: Call, call: Call, *, is_first_known: bool) -> Any:
        """The reply of *call*, which the server does behind *first*, in the same round trip.

        Unless *is_first_known* to the server, it is sent the text of *first*: were it not known, it would be done later.
        """
        nonce = os.urandom(8)
        with our_errors(call.keys[0], call.writes):
            pipeline = self._client.pipeline(transaction=False)
            queue: Callable[..., Any] = pipeline.execute_command
            queue(*(first.by_digest(nonce) if is_first_known else first.by_text(nonce)))
            queue(*call.by_digest(nonce))
            before, reply = pipeline.execute(raise_on_error=False)
            if isinstance(before, exceptions.NoScriptError):
                before = self._execute(*first.by_text(nonce))
            if isinstance(reply, exceptions.NoScriptError):
                reply = self._execute(*call.by_text(nonce))
            if isinstance(reply, Exception):
                raise reply
        self._check_nonce(call, nonce, reply)
        if isinstance(before, exceptions.RedisError):
            error = as_ours(before, first.keys[0], writes=True)
            error.written = True  # but not told
            raise error from before
        return reply

    def _check_nonce(self, call: Call, nonce: bytes, reply: Any) -> None:
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


_INCLUDE = re.compile(r"^[ \t]*--#include (\S+)$", re.MULTILINE)


@cache
def script(name: str) -> tuple[str, str]:
    """A script's text, with what it includes, and its SHA-1."""

    def text_of(file: str) -> str:
        text = resources.files(__package__).joinpath("lua", file).read_text("utf-8")
        return _INCLUDE.sub(lambda include: text_of(include[1]), text)

    text = text_of(f"{name}.lua")
    return text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


@contextlib.contextmanager
def our_errors(key: str, writes: bool) -> Iterator[None]:
    """Redis's errors as ours; *key* is what the call is about."""
    try:
        yield
    except exceptions.RedisError as error:
        raise as_ours(error, key, writes=writes) from error


def as_ours(error: exceptions.RedisError, key: str, *, writes: bool) -> ConvstoreError:
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
