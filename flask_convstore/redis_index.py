"""The owner's index in Redis: which sessions there are, by their last interaction.

| key                     | type | holds                                                                              |
| ----------------------- | ---- | ---------------------------------------------------------------------------------- |
| {prefix}owner:{<owner>} | zset | ids of the owner's sessions, nobody's under "", by their last activity in ms       |
| {prefix}owner:{<owner>}:bucket | hash | left, at: turns that the owner may begin (``spend.lua``)                      |

It is told before a session is created, in the same round trip, and once a minute of its activity: an entry may lack its
session, for a minute or longer, but no session its entry. A page takes out what is gone, and so do samples.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import unquote

from redis.exceptions import RedisError

from .errors import ConvstoreError, InvalidInput, TooManySessions
from .failures import as_ours
from .models import ANY, Owner, Page, Summary, Usage
from .redis_calls import Argument, Call, Calls

_log = logging.getLogger("flask_convstore")

_FIELDS = ("version", "created", "updated", "count", "owner", "title", "indexed", "tokens_in", "tokens_out")

_GRACE_MS = 60_000
"""A younger entry stays, though its session is not there: it may be about to be created."""
_SHOWN, _MOST_SHOWN = 10, 1_000
"""So many of the oldest are looked at where all places are taken; if none of them can go, so many."""
_ATTEMPTS = 100
"""How often a place is tried for: more often than all others can be faster by chance."""
_PRUNE_EVERY = 50
_PRUNE_SAMPLE = 100
"""Every so many creations so many entries are looked at: at half of them gone, as many leave an index as enter it."""


class RedisIndex:
    """The indexes of all owners under one prefix.

    Args:
        key_of: The key of a session's hash.
        in_key: How a name stands in a key.
    """

    def __init__(self, calls: Calls, prefix: str, key_of: Callable[[str], str], in_key: Callable[[str], str]) -> None:
        self._calls = calls
        self._prefix = prefix
        self._key_of = key_of
        self._in_key = in_key
        self._creations = 0

    def entry(self, owner: str | None, session_id: str, lifetime_ms: int, most: int = 0) -> Call:
        """Tells the owner's index of a session's activity. The index lives so long from now, unless it lives longer.

        With *most* it takes one of so many places, and the next one with ``take_place`` only.
        """
        return Call("index", (self._key(owner),), (session_id, lifetime_ms, most, _SHOWN))

    def take_place(self, entry: Call, owner: str, most: int, evict: Callable[[str], None] | None) -> None:
        """Take one of the owner's places for a session that is to be created; one round trip where one is free.

        Where none is, those whose session is gone are given back, then the oldest session goes, by *evict*.

        Raises:
            TooManySessions: All are taken, and *evict* is None; or by sessions that are just being created.
        """
        index, shown = entry.keys[0], _SHOWN
        for _ in range(_ATTEMPTS):
            reply = self._calls.call(entry._replace(arguments=(*entry.arguments[:-1], shown)))
            if reply[0] == b"ok":
                return
            oldest = _pairs(reply[2:])
            found = self._summaries([(name.decode(), active) for name, active in oldest])
            pairs = list(zip(oldest, found, strict=True))
            gone = [taken for taken, (exists, summary) in pairs if not exists or (summary and summary.owner != owner)]
            now = time.time_ns() // 1_000_000
            if any(active + _GRACE_MS < now for _, active in gone):
                self._unindex(index, gone)
                continue
            if evict is None:
                raise TooManySessions(most)
            oldest_own = next((taken for taken, (_, found) in pairs if found and found.owner == owner), None)
            if oldest_own:
                evict(oldest_own[0].decode())
                self._unindex(index, [oldest_own], grace_ms=0)
            elif shown >= _MOST_SHOWN:
                break
            shown = _SHOWN if oldest_own else _MOST_SHOWN
        raise TooManySessions(most)

    def removed(self, owner: str | None, session_id: str, at_ms: int) -> None:
        """Give back the place of a session that was deleted then. One that was created since has another one."""
        self._unindex(self._key(owner), [(session_id.encode(), at_ms - 1)], grace_ms=0)

    def create(self, entry: Call | None, call: Call) -> Any:
        """The reply of *call*, which may create a session, done behind its *entry* in the same round trip."""
        if entry is None:
            return self._calls.call(call)
        reply = self._calls.call_after(entry, call, is_first_known=self._creations > 0)
        self._creations += 1
        if self._creations % _PRUNE_EVERY == 0:
            self._prune(entry.keys[0])
        return reply

    def page(self, owner: Owner, cursor: str | None, limit: int, newest_first: bool) -> Page:
        """See ``Store.page``."""
        if cursor is not None and not (
            re.fullmatch(r"(\S+ )?\d{1,20}", cursor) if owner is ANY else cursor.isdecimal()
        ):
            raise InvalidInput("this is no cursor of ours", "cursor")
        if owner is ANY:
            return self._scanned(cursor, limit)
        index = self._key(owner)
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

    def _key(self, owner: str | None) -> str:
        return f"{self._prefix}owner:{{{self._in_key(owner or '')}}}"

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
        return _pairs(self._calls.command(*command))

    def _scanned(self, cursor: str | None, limit: int) -> Page:
        """All sessions there are: the server walks through its keys."""
        pattern = re.sub(r"([*?\[\]\\])", r"\\\1", self._prefix) + "{*}"
        following, keys = self._calls.scan(cursor, pattern, limit)
        start = len(self._prefix) + 1
        found = self._summaries([(unquote(key.decode()[start:-1]), None) for key in dict.fromkeys(keys)])
        return Page([summary for _, summary in found if summary], following)

    def _summaries(self, entries: Sequence[tuple[str, int | None]]) -> list[tuple[bool, Summary | None]]:
        """Whether each session exists, and what is known of it; None if it is gone, or none of ours."""
        if not entries:
            return []
        keys = [self._key_of(session_id) for session_id, _ in entries]
        commands: list[Sequence[Argument]] = [c for key in keys for c in (("HMGET", key, *_FIELDS), ("PTTL", key))]
        replies = self._calls.commands(commands)
        now = time.time_ns() // 1_000_000
        found: list[tuple[bool, Summary | None]] = []
        for (session_id, active), stored, left in zip(entries, replies[::2], replies[1::2], strict=True):
            for reply in (stored, left):
                if isinstance(reply, RedisError) and "WRONGTYPE" not in str(reply):
                    raise as_ours(reply, self._key_of(session_id), writes=False) from reply
            summary = None if isinstance(stored, Exception) else _summary(session_id, stored, now + left, active)
            found.append((left != -2, summary))
        return found

    def _prune(self, index: str) -> None:
        """Take what is gone out of a sample of an index. Done now and then, this keeps most of it alive."""
        try:
            sample = _pairs(self._calls.command("ZRANDMEMBER", index, _PRUNE_SAMPLE, "WITHSCORES"))
            found = self._summaries([(name.decode(), active) for name, active in sample])
            gone = [entry for entry, (exists, _) in zip(sample, found, strict=True) if not exists]
            if gone:
                self._unindex(index, gone)
        except ConvstoreError as error:
            _log.warning("the index %s was not pruned: %s", index, error)

    def _unindex(self, index: str, gone: Sequence[tuple[bytes, int]], grace_ms: int = _GRACE_MS) -> None:
        members = [part for entry in gone for part in entry]
        self._calls.call(Call("unindex", (index,), (grace_ms, *members)))


def _summary(session_id: str, stored: Sequence[bytes | None], expires_at_ms: int, active: int | None) -> Summary | None:
    """A session from its fields named ``_FIELDS``; None if it is gone, or none of ours."""
    *numbers, owner, title, indexed, tokens_in, tokens_out = stored
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
        usage=Usage(int(tokens_in or 0), int(tokens_out or 0)),
    )


def _pairs(replies: Sequence[Any]) -> list[tuple[bytes, int]]:
    """Members and scores, as the server sends them in RESP2 (one after the other) or RESP3 (in pairs)."""
    in_pairs = bool(replies) and isinstance(replies[0], list)
    pairs = replies if in_pairs else zip(replies[::2], replies[1::2], strict=True)
    return [(name, int(float(score))) for name, score in pairs]
