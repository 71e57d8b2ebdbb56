"""One handle on every kind of store, so that what all of them promise is tested once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

import pytest
import redis

from flask_convstore.config import Settings, limits_of
from flask_convstore.domain.types import ANY, CALLER, Limits, Owner, Scope
from flask_convstore.errors import StoreUnavailable
from flask_convstore.operations.access import Access, Backend
from flask_convstore.operations.conversations import Conversations
from flask_convstore.stores.connect import patience_of
from flask_convstore.stores.memory import MemoryStore
from flask_convstore.stores.redis.store import RedisStore
from flask_convstore.stores.store import Store, StoreAround

from .clocks import Clock, Moment, server_time

in_memory = pytest.mark.parametrize("harness", ["memory"], indirect=True)
"""Runs a test on the memory store alone: no store has a part in it."""

SETTINGS = Settings(max_tokens=20)
TTL = 3_600_000


def limits_for(settings: Settings) -> Limits:
    """The limits by which only the last receipts are kept, however young others are."""
    return replace(limits_of(settings), receipt_ms=0)


TTL_COMPLETE = 86_400_000


class Harness(Protocol):
    """A store, and the world's way to what it keeps."""

    @property
    def store(self) -> Store: ...

    def expire(self, session_id: str) -> None:
        """Let the session's lifetime end, as time would."""
        ...

    def ends(self, session_id: str) -> list[int]:
        """The times in milliseconds at which the session's keys end, without its tombstone."""
        ...

    def moment(self) -> Moment:
        """The time that a block takes, by the store's clock."""
        ...

    def age(self, milliseconds: int) -> None:
        """Let so much time go by for all that is stored."""
        ...


class MemoryHarness:
    """MemoryStore with a clock."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.store = MemoryStore(limits_for(SETTINGS), self.clock)

    def expire(self, session_id: str) -> None:
        self.store._sessions[session_id].expires_at_ms = self.clock.now
        self.store._tokens[session_id].receipts_end = self.clock.now

    def ends(self, session_id: str) -> list[int]:
        session = self.store._sessions.get(session_id)
        return [session.expires_at_ms] if session else []

    def moment(self) -> Moment:
        return Moment(self.clock)

    def age(self, milliseconds: int) -> None:
        self.clock.now += milliseconds


class RedisHarness:
    """RedisStore on any server. Time goes by through the server's own commands."""

    def __init__(self, client: redis.Redis, settings: Settings = SETTINGS) -> None:
        self.client = client
        self.store = RedisStore(client, settings.prefix, limits_for(settings), patience_of(settings))

    def keys(self, session_id: str) -> tuple[str, str, str]:
        return self.store._keys(session_id)

    def own_keys(self, session_id: str) -> tuple[str, str, str]:
        """Keys of the session that end with it."""
        session, history, _ = self.keys(session_id)
        return session, history, f"{session}:receipts"

    def expire(self, session_id: str) -> None:
        self.client.delete(*self.own_keys(session_id))

    def ends(self, session_id: str) -> list[int]:
        client: Any = self.client
        return [end for key in self.own_keys(session_id) if (end := client.pexpiretime(key)) > 0]

    def moment(self) -> Moment:
        return Moment(lambda: server_time(self.client))

    def age(self, milliseconds: int) -> None:
        client: Any = self.client
        for key in client.scan_iter():
            client.pexpireat(key, client.pexpiretime(key) - milliseconds)
            told = client.hget(key, "indexed") if client.type(key) == b"hash" else None
            if told:
                client.hset(key, "indexed", int(told) - milliseconds)


class AwayAfter(StoreAround):
    """A store that is away after so many *writes*; what comes then says that it was *written*, or not, or perhaps (None)."""

    def __init__(self, store: Store, writes: int, written: bool | None = False) -> None:
        super().__init__(store)
        self.writes, self.written = writes, written

    def _call(self, method: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        if method.__name__ in ("apply", "link", "link_all"):
            if not self.writes:
                raise StoreUnavailable("no answer in time", written=self.written)
            self.writes -= 1
        return super()._call(method, *arguments, **options)


class PlainConversations(Conversations):
    """The operations on a store, without an application."""

    def __init__(self, store: Store, settings: Settings = SETTINGS, owner: Owner = ANY) -> None:
        self.backend = Backend(settings, store)
        self._caller = owner

    def _access(self, owner: Owner | Scope = CALLER) -> Access:
        return Access(self.backend, self._caller if owner is CALLER else owner)

    _chats = access = _access
