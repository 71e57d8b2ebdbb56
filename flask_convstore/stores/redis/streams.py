"""Streams of replies, logs of what happens to sessions, and the bells that tell of both, in Redis or Valkey.

``store`` has the keys. A chunk is no write that anybody has acknowledged: it is the end of the turn that stores the reply.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote

from ...domain.commands import EventPosition, FeedReply, ReplyPosition, TakeReply
from ...domain.results import Heard, ReplyParts, SessionEvents
from ...errors import ConvstoreError, SessionNotFound, StoreError, StoreUnavailable
from ..store import Bell
from .arguments import feeding, in_key, owner_argument, session_key, session_keys
from .bell import RedisBell
from .calls import Argument, Call, Calls
from .replies import each_of, events_in, parts_in, refuse, refuse_moved


class RedisStreams:
    """The part of a ``Store`` that streams and tells. See there for its methods."""

    def __init__(self, calls: Calls, prefix: str) -> None:
        self._calls = calls
        self._prefix = prefix

    def feed(self, commands: Sequence[FeedReply]) -> list[int | ConvstoreError]:
        return each_of(commands, self._calls.call_all([*map(self._feeding, commands)]), self._fed)

    def _fed(self, command: FeedReply, reply: Any) -> int:
        refuse(command, reply, session_keys(self._prefix, command.session_id))
        return int(reply[8])

    def _feeding(self, command: FeedReply) -> Call:
        keys = session_keys(self._prefix, command.session_id)
        head: tuple[Argument, ...] = (owner_argument(command.owner),)
        return Call("feed_reply", keys, head + tuple(feeding(command)), writes=False)

    def take_reply(self, command: TakeReply) -> ReplyParts:
        keys = session_keys(self._prefix, command.session_id)
        asked: tuple[Argument, ...] = (owner_argument(command.owner), command.reply, command.turn)
        taking = Call("take_reply", keys, (*asked, f"{command.lease_ms}", f"{command.is_over:d}"), writes=True)
        reply = self._on_replicas(taking)
        refuse(command, reply, keys)
        epoch, parts = parts_in(reply[2])
        return ReplyParts(command.reply, epoch, parts)

    def reply_parts(self, asked: Sequence[ReplyPosition]) -> list[ReplyParts | ConvstoreError]:
        found = each_of(asked, self._calls.call_all([*map(self._reading_on, asked)]), self._parts)
        return self._confirmed(asked, found)

    def _confirmed(
        self, asked: Sequence[ReplyPosition], found: list[ReplyParts | ConvstoreError]
    ) -> list[ReplyParts | ConvstoreError]:
        """Tell no end of a reply that replicas lack, where writes must be on replicas: a fail-over would take it back."""
        if not self._calls.waits_for_replicas:
            return found
        doubts: dict[str, ConvstoreError | None] = {}
        for index, (position, page) in enumerate(zip(asked, found, strict=True)):
            if isinstance(page, ReplyParts) and any(part.version for part in page.parts):
                keys = session_keys(self._prefix, position.session_id)
                place = self._calls.place_of(keys[0])
                if place not in doubts:
                    doubts[place] = self._doubt(keys)
                found[index] = doubts[place] or page
        return found

    def _doubt(self, keys: tuple[str, str, str]) -> ConvstoreError | None:
        try:
            self._on_replicas(Call("confirm", keys, (), writes=True))
        except ConvstoreError as error:
            return error
        return None

    def _on_replicas(self, call: Call) -> Any:
        """Run a script that writes nothing that anybody has sent, and wait for replicas as a write does."""
        try:
            return self._calls.call(call)
        except StoreUnavailable as error:
            raise StoreUnavailable(error.reason, written=False, is_down=error.is_down) from error

    def _parts(self, position: ReplyPosition, reply: Any) -> ReplyParts:
        self._refuse_reader(position, reply)
        epoch, parts = parts_in(reply[5])
        remaining = None if reply[3] < 0 else reply[3]
        return ReplyParts(reply[2].decode(), epoch, parts, bool(reply[4]), remaining)

    def _refuse_reader(self, position: ReplyPosition | EventPosition, reply: Any) -> None:
        """Raise the error for somebody who may not read from that position."""
        if reply[0] == b"missing":
            raise SessionNotFound(position.session_id)
        if reply[0] != b"ok":
            refuse_moved(position.session_id, reply)
            refuse(None, reply, session_keys(self._prefix, position.session_id))

    def _reading_on(self, position: ReplyPosition) -> Call:
        after = "-".join(map(str, position.after)) if position.after else ""
        asked = (owner_argument(position.owner), position.reply, after, f"{position.limit}")
        return Call("reply_parts", (session_key(self._prefix, position.session_id),), asked, writes=False)

    def bell(self) -> Bell:
        return RedisBell(self._calls.connection, self._channel, self._session_in)

    def _channel(self, source: Heard) -> str:
        kind, name = source
        return f"{session_key(self._prefix, name)}:bell" if kind == "session" else f"{self._prefix}owner:={name}:bell"

    def _session_in(self, key: str) -> str:
        return unquote(key[len(self._prefix) + 1 : -1])

    def session_events(self, asked: Sequence[EventPosition]) -> list[SessionEvents | ConvstoreError]:
        return each_of(asked, self._calls.call_all([*map(self._reading_events, asked)]), self._events)

    def _events(self, position: EventPosition, reply: Any) -> SessionEvents:
        self._refuse_reader(position, reply)
        version, created, updated, count, is_whole, events = reply[2:]
        return SessionEvents(version, created, updated, count, bool(is_whole), events_in(events))

    def _reading_events(self, position: EventPosition) -> Call:
        created, version = position.after or ("", 0)
        asked = (owner_argument(position.owner), created, version, position.watched_ms)
        return Call("session_events", (session_key(self._prefix, position.session_id),), asked, writes=False)

    def watch_list(self, owner: str, session_ids: Sequence[str], watched_ms: int) -> None:
        flag = f"{self._prefix}owner:{{{in_key(owner)}}}:watched"
        calls = [Call("watch_index", (flag,), (self._channel(("owner", owner)), watched_ms), writes=False)]
        sessions = [(session_key(self._prefix, session_id),) for session_id in session_ids]
        calls += [Call("watch_owned", keys, (watched_ms,), writes=False) for keys in sessions]
        for reply in self._calls.call_all(calls):
            if isinstance(reply, StoreError):
                raise reply
