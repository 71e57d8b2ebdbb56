"""The owner's index in Redis: the sessions of an owner, by their last interaction.

| key                     | type | holds                                                                              |
| ----------------------- | ---- | ---------------------------------------------------------------------------------- |
| {prefix}owner:{<owner>} | zset | ids of the owner's sessions, by their last activity in ms                     |
| {prefix}owner:{!<number>} | zset | the same of a part of the sessions that nobody has (``index_parts``)             |
| {prefix}owner:{<owner>}:changed | zset | the same by their last change, for who has asked for that (``change_order``) |
| {prefix}owner:{<owner>}:bucket | hash | left, at: turns that the owner may begin (``spend.lua``)                      |
| {prefix}owner:{<owner>}:watched | string | channel of those who follow the owner's list                    |
| {prefix}owner:{<owner>}:forgotten | string | time of the last deletion of all sessions, in ms, for journals     |

An entry is written before its session is created, in the same round trip, and again once a minute of activity. So an
entry may lack its session for a minute or longer, but no session lacks its entry. Pages and samples take out entries of
gone sessions.
"""

from __future__ import annotations

import itertools
import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple
from urllib.parse import unquote

from redis.exceptions import RedisError

from ...domain.clock import LATEST_MS, now_ms
from ...domain.deadlines import OPERATION
from ...domain.messages import Usage
from ...domain.results import Page, Summary
from ...domain.types import ANY, Order, Owner
from ...errors import ConvstoreError, InvalidInput, TooManySessions
from .arguments import session_key
from .calls import Argument, Call, Calls
from .change_order import MOST_BESIDE, SLACK_MS, Entries, PageEnd, listing, place_of, wrong_entries
from .failures import as_ours
from .index_parts import Index, first_entries, index_of, indexes_of, merged, share

_log = logging.getLogger("flask_convstore")

_FIELDS = ("version", "created", "updated", "count", "owner", "title", "indexed", "tokens_in", "tokens_out", "began")

_GRACE_MS = 60_000
"""A younger entry stays without its session, which may be about to be created."""
_SHOWN, _MOST_SHOWN = 10, 1_000
"""Number of the oldest entries that are looked at where all places are taken, at first and if none of these can go."""
_ATTEMPTS = 100
"""Tries for a place: more than other callers can be faster by chance."""
_PATIENT_ATTEMPTS = 3
_ANY_TIME_MS = 2**53 - 1
"""An activity that is later than any. Whoever reads an index by change does not know the activity of its entries."""
_CORRECTED = 1_000
"""Entries of a list that is made of which the sessions are asked for their last change."""
_FROM_ALL = {True: "+inf", False: "-inf"}
"""The bound of a range that begins with the first entry, by whether that is the newest one."""
_PRUNE_EVERY = 50
_PRUNE_SAMPLE = 100
"""Every so many creations so many entries are looked at. With half of them gone, as many leave an index as enter it."""


Evict = Callable[[Sequence[Summary]], list[Call | None]]
"""Makes the calls that delete sessions as they are, or None for one that must stay."""

_LOOKED_AT = 5
"""Sessions that are asked about beside those that have to go, since some must stay."""


class QuotaPlace(NamedTuple):
    """One of the *most* places of an owner, for a session, as ``entry`` takes it."""

    owner: str
    session_id: str
    lifetime_ms: int
    most: int
    keeps: bool = False


_WALK = re.compile(r"(\S+ )?[0-9]{1,20}")
_TIME = re.compile("[0-9]{1,20}( .*)?", re.DOTALL)
"""Cursors: of a walk through all keys, and a time of an owner's index, with whatever another store adds to it."""


class RedisIndex:
    """The indexes of all owners under one prefix.

    Args:
        max_age_ms: Longest life of a session from its creation.
    """

    def __init__(self, calls: Calls, prefix: str, max_age_ms: int) -> None:
        self._calls = calls
        self._prefix = prefix
        self._max_age_ms = max_age_ms
        self._creations = 0

    def entry(
        self,
        owner: str | None,
        session_id: str,
        lifetime_ms: int,
        most: int = 0,
        keeps: bool = False,
        shown: int = _SHOWN,
        updated_at_ms: int | None = None,
    ) -> Call:
        """Make the call that tells the owner's index of a session's activity. The index lives at least so long from now.

        With *most* it takes one of so many places, if one is free. Else so many of the oldest are *shown*. With *keeps* an
        entry that is there stays as it is. *updated_at_ms* is the session's last change (None: it is about to be created).
        """
        arguments = (session_id, lifetime_ms, most, shown, int(keeps), "" if updated_at_ms is None else updated_at_ms)
        return Call("index", self._index(owner, session_id), arguments)

    def create_in_place(self, place: QuotaPlace, call: Call, unplaced: Call, evict: Evict | None) -> Any:
        """Run *call*, which may create a session, once it has its *place*: two round trips where a place is free.

        Where none is free, *unplaced* does the same if no session has to be created. Else the places of gone sessions
        are given back, then the oldest sessions are evicted.

        Raises:
            TooManySessions: All places are taken, and nothing can be evicted. Nothing was written.
        """
        index, shown = self._index(place.owner, place.session_id), _SHOWN
        for attempt in range(_ATTEMPTS):
            placed = self._calls.call(self.entry(*place, shown))
            if placed[0] == b"ok":
                reply = self._calls.call(call)
                is_there = reply[0] == b"ok" or (reply[0] == b"repeated" and reply[5])
                if placed[2] and not is_there:  # the place was taken for nothing
                    self._unindex(place.owner, [(place.session_id.encode(), placed[2])], grace_ms=0)
                return reply
            reply = self._calls.call(unplaced)
            if reply[0] != b"new":
                return reply
            surplus, is_patient = placed[2], attempt < _PATIENT_ATTEMPTS
            freed = self._make_room(index, _pairs(placed[3:]), surplus, place, evict, is_patient=is_patient)
            if freed is None and (evict is None or shown == _MOST_SHOWN):
                break
            shown = _SHOWN if freed or (is_patient and freed is not None) else _MOST_SHOWN
        raise TooManySessions(place.most)

    def _make_room(
        self,
        index: Index,
        oldest: Sequence[tuple[bytes, int]],
        surplus: int,
        place: QuotaPlace,
        evict: Evict | None,
        *,
        is_patient: bool,
    ) -> int | None:
        """Give back places of the *oldest* entries of an index. Return their number, or None if there will never be any.

        A session that was written since it was looked at stays, as where a turn has just begun, and its entry is put back.

        A caller that *is_patient* evicts nothing while an older session has just gone, since others may have made room
        already.
        """
        found = self._summaries([(name.decode(), active) for name, active in oldest])
        pairs = list(zip(oldest, found, strict=True))
        anothers = [taken for taken, (_, summary) in pairs if summary and summary.owner != place.owner]
        now = now_ms()
        gone = [taken for taken, (exists, _) in pairs if not exists and taken[1] + _GRACE_MS < now]
        if anothers or gone:
            self._unindex(place.owner, anothers, grace_ms=0)
            self._unindex(place.owner, gone)
            return len(anothers) + len(gone)
        if evict is None:
            return None
        victims = _victims(pairs, surplus, evict, is_patient=is_patient)
        if victims:  # in one round trip, so that none keeps its place
            entries = [entry for entry, _ in victims]
            replies = _sound(self._calls.call_all([*(call for _, call in victims), _unindexing(index, entries, 0)]))
            pairs_of_victims = zip(entries, replies, strict=False)
            stayed = [name.decode() for (name, _), reply in pairs_of_victims if reply[0] == b"conflict"]
            _sound(self._calls.call_all([self.entry(place.owner, name, place.lifetime_ms) for name in stayed]))
            return len(victims) - len(stayed)
        is_settled = all(exists for exists, _ in found)  # else some are about to be created
        return None if is_settled else 0

    def removed(self, owner: str, session_id: str, until_ms: int) -> None:
        """Give back the place of a deleted session, unless a successor was active after *until_ms*."""
        self._unindex(owner, [(session_id.encode(), until_ms)], grace_ms=0)

    def removed_all(self, owner: str | None, ended: Sequence[tuple[str, int]]) -> None:
        """Take deleted sessions out of the index, each with the time of its end, as ``removed``."""
        self._unindex(owner, [(name.encode(), at_ms) for name, at_ms in ended], grace_ms=0)

    def date(self, owner: str | None, session_id: str, active_ms: int) -> None:
        """Move the entry of a session that was imported down to its last activity. Until then it stood as a new one."""
        try:
            self._calls.command("ZADD", self._index(owner, session_id).active, "LT", active_ms, session_id)
        except ConvstoreError as error:
            _log.warning("an imported session is listed as a new one: %s", error)

    def create(self, entry: Call, call: Call) -> Any:
        """Run *call*, which may create a session, behind its *entry* in the same round trip."""
        reply = self._calls.call_after(entry, call, is_first_known=self._creations > 0)
        self.created([entry])
        return reply

    def created(self, entries: Sequence[Call]) -> None:
        """Note that sessions were created behind these *entries*. Now and then an index is pruned."""
        before, self._creations = self._creations, self._creations + len(entries)
        if before // _PRUNE_EVERY < self._creations // _PRUNE_EVERY:
            self._prune(Index(*entries[-1].keys))

    def enter(self, entries: Sequence[Call]) -> list[ConvstoreError | None]:
        """Write *entries* of sessions that are about to be created, in one round trip. Return an error or None for each."""
        with OPERATION.sparing(0.5):  # a primary that is away may have the indexes of a few
            replies = self._calls.call_all([entry._replace(writes=False) for entry in entries])
        return [reply if isinstance(reply, ConvstoreError) else None for reply in replies]

    def page(self, owner: Owner, cursor: str | None, limit: int, newest_first: bool, order: Order) -> Page:
        """List sessions, as ``Store.page``."""
        form = _WALK if owner is ANY else _TIME
        if cursor is not None and not form.fullmatch(cursor):
            raise InvalidInput("this is no cursor of ours", "cursor")
        if owner is ANY:
            return self._scanned(cursor, limit)
        if order == "updated" and (cursor is None or " " in cursor):  # a page by activity is continued as such
            return self._by_change(owner, cursor, limit, newest_first)
        entries, following = self._indexed(owner, cursor, limit, newest_first)
        found = self._summaries([(name.decode(), active) for name, active in entries])
        # An entry may be older than its session, which is another owner's now.
        gone = [
            entry
            for entry, (exists, summary) in zip(entries, found, strict=True)
            if not exists or (summary and summary.owner != owner)
        ]
        self._unindex(owner, gone)
        return Page(self._shown(found, owner), following, _damaged([name.decode() for name, _ in entries], found))

    def _by_change(self, owner: str | None, cursor: str | None, limit: int, newest_first: bool) -> Page:
        """List sessions by their last change, in two round trips. Others correct the entries, where they are wrong."""
        place, count = place_of(cursor), limit + 1
        while True:
            found = self._entries(owner, place, count, newest_first)
            if found is None:  # the server takes no writes
                return self.page(owner, cursor, limit, newest_first, "active")
            known = self._known(found.entries, owner)
            page = listing(found, known, place, limit, newest_first)
            if not self._correct(owner, page.wrong):
                return self.page(owner, cursor, limit, newest_first, "active")
            if page.is_enough(found, newest_first):
                break
            count *= 2  # whatever was looked at was shown before, or stood where others belong
        ids = [name for name, _ in found.entries]
        return Page(self._shown([(True, one) for one in page.shown], owner), page.next, _damaged(ids, known))

    def _entries(self, owner: str | None, place: PageEnd | None, count: int, newest_first: bool) -> Entries | None:
        """Read entries of the list by change, from the one on with which a page behind *place* begins.

        None if there is no such list, and none can be made.
        """
        indexes = indexes_of(self._prefix, owner)
        asked = share(count, len(indexes))
        most = asked + MOST_BESIDE
        start = place.start(newest_first) if place else _FROM_ALL[newest_first]
        arguments = (int(newest_first), start, asked, SLACK_MS, most)
        calls = [Call("changed", index, arguments, writes=False) for index in indexes]
        replies = _sound(self._calls.call_all(calls))
        made = [index for index, reply in zip(indexes, replies, strict=True) if reply[2] == b"made"]
        if made:
            self._correct_newest(owner, made)
            replies = _sound(self._calls.call_all(calls))
        if b"refused" in [reply[2] for reply in replies]:
            return None
        parts = [_part_of(reply, asked, most) for reply in replies]
        return merged(parts, count, newest_first) if owner is None else parts[0]

    def _correct_newest(self, owner: str | None, indexes: Sequence[Index]) -> None:
        """Correct lists that were just made from the index. Entries beyond the newest are corrected when they are read."""
        asked = [("ZREVRANGE", index.changed, 0, _CORRECTED - 1, "WITHSCORES") for index in indexes]
        named = [(name.decode(), at_ms) for found in self._scored(asked) for name, at_ms in found]
        known = self._summaries([(name, None) for name, _ in named])
        self._correct(owner, wrong_entries(named, known))

    def _known(self, entries: Sequence[tuple[str, int]], owner: str | None) -> list[tuple[bool, Summary | None]]:
        """Read the sessions of entries. Entries of those that are gone, or another owner's, go if they are a minute old."""
        known = self._summaries([(name, None) for name, _ in entries])
        pairs = zip(entries, known, strict=True)
        gone = [name for (name, _), (exists, one) in pairs if not exists or (one and one.owner != owner)]
        self._unindex(owner, [(name.encode(), _ANY_TIME_MS) for name in gone])
        return known

    def _correct(self, owner: str | None, wrong: Sequence[tuple[str, int, int]]) -> bool:
        """Correct entries of the list by change, each given as id, score and last change. False if that is refused."""
        by_index: dict[Index, list[Argument]] = {}
        for entry in wrong:
            by_index.setdefault(self._index(owner, entry[0]), []).extend(entry)
        calls = [Call("correct", (index.changed,), tuple(parts), writes=False) for index, parts in by_index.items()]
        try:
            _sound(self._calls.call_all(calls))
        except ConvstoreError as error:
            _log.warning("the list %s was not corrected: %s", calls[0].keys[0], error)
            return False
        return True

    def _index(self, owner: str | None, session_id: str) -> Index:
        return index_of(self._prefix, owner, session_id)

    def _indexed(
        self, owner: str | None, cursor: str | None, limit: int, newest_first: bool
    ) -> tuple[list[tuple[bytes, int]], str | None]:
        """Read entries of an index, and the cursor of the next ones. Entries of one millisecond are never parted."""
        command, last = ("ZREVRANGEBYSCORE", "-inf") if newest_first else ("ZRANGEBYSCORE", "+inf")
        first = _FROM_ALL[newest_first] if cursor is None else f"({cursor.partition(' ')[0]}"

        def read(keys: Sequence[str], count: int) -> list[list[tuple[bytes, int]]]:
            return self._scored([(command, key, first, last, "WITHSCORES", "LIMIT", 0, count) for key in keys])

        indexes = [index.active for index in indexes_of(self._prefix, owner)]
        found = first_entries(indexes, read, limit + 1, newest_first)
        if len(found) <= limit:
            return found, None
        beyond = found[limit][1]
        whole = [entry for entry in found[:limit] if entry[1] != beyond]
        if not whole:
            alike = self._scored([("ZRANGEBYSCORE", key, beyond, beyond, "WITHSCORES") for key in indexes])
            whole = [*itertools.chain.from_iterable(alike)]
        return whole, str(whole[-1][1])

    def _scored(self, commands: Sequence[Sequence[Argument]]) -> list[list[tuple[bytes, int]]]:
        """Read entries by several commands, in one round trip."""
        return [
            _pairs(_raised(reply, str(command[1])))
            for command, reply in zip(commands, self._calls.commands(commands), strict=True)
        ]

    def _scanned(self, cursor: str | None, limit: int) -> Page:
        """List all sessions. The server walks through its keys."""
        pattern = re.sub(r"([*?\[\]\\])", r"\\\1", self._prefix) + "{*}"
        following, keys = self._calls.scan(cursor, pattern, limit)
        start = len(self._prefix) + 1
        ids = [unquote(key.decode()[start:-1]) for key in dict.fromkeys(keys)]
        found = self._summaries([(session_id, None) for session_id in ids])
        return Page(self._shown(found, ANY), following, _damaged(ids, found))

    def _shown(self, found: Sequence[tuple[bool, Summary | None]], owner: Owner) -> list[Summary]:
        """Select the sessions of *owner*, without those past their greatest age that the server has not removed yet."""
        born_after = now_ms() - self._max_age_ms
        theirs = [summary for _, summary in found if summary and owner in (ANY, summary.owner)]
        return [one for one in theirs if one.created_at_ms > born_after and not one.is_damaged]

    def _summaries(self, entries: Sequence[tuple[str, int | None]]) -> list[tuple[bool, Summary | None]]:
        """Tell whether each session exists, with its summary. The summary is None if the session is gone, or not ours."""
        if not entries:
            return []
        keys = [session_key(self._prefix, session_id) for session_id, _ in entries]
        commands: list[Sequence[Argument]] = [
            command for key in keys for command in (("HMGET", key, *_FIELDS), ("PTTL", key), ("TYPE", f"{key}:history"))
        ]
        replies = self._calls.commands(commands)
        now = now_ms()
        found: list[tuple[bool, Summary | None]] = []
        parts = replies[::3], replies[1::3], replies[2::3]
        for (session_id, active), stored, left, kind in zip(entries, *parts, strict=True):
            _raise_refusal((stored, left, kind), session_key(self._prefix, session_id))
            summary = None if isinstance(stored, Exception) else _summary(session_id, stored, now + left, active)
            found.append((left != -2, _checked(summary, kind)))
        return found

    def _prune(self, index: Index) -> None:
        """Take entries of gone sessions out of a sample of an index. Done now and then, this keeps most of it alive."""
        try:
            sample = _pairs(self._calls.command("ZRANDMEMBER", index.active, _PRUNE_SAMPLE, "WITHSCORES"))
            found = self._summaries([(name.decode(), active) for name, active in sample])
            gone = [entry for entry, (exists, _) in zip(sample, found, strict=True) if not exists]
            if gone:
                self._calls.call(_unindexing(index, gone, _GRACE_MS))
        except ConvstoreError as error:
            _log.warning("the index %s was not pruned: %s", index.active, error)

    def _unindex(self, owner: str | None, gone: Sequence[tuple[bytes, int]], grace_ms: int = _GRACE_MS) -> None:
        """Take entries out of an owner's index, or of the parts of nobody's, in one round trip."""
        by_index: dict[Index, list[tuple[bytes, int]]] = {}
        for entry in gone:
            by_index.setdefault(self._index(owner, entry[0].decode()), []).append(entry)
        _sound(self._calls.call_all([_unindexing(index, entries, grace_ms) for index, entries in by_index.items()]))


def _damaged(ids: Sequence[str], found: Sequence[tuple[bool, Summary | None]]) -> tuple[str, ...]:
    """Select the ids of sessions that are there, and are not ours as they are, or have lost their messages."""
    pairs = zip(ids, found, strict=True)
    return tuple(name for name, (exists, one) in pairs if exists and (one is None or one.is_damaged))


def _part_of(reply: Any, asked: int, most: int) -> Entries:
    """Read what ``changed.lua`` tells of one part."""
    _, _, _, more, pairs = reply
    entries = [(name.decode(), at_ms) for name, at_ms in _pairs(pairs)]
    return Entries(entries, asked, len(entries) >= most, bool(more))


def _raised(reply: Any, key: str) -> Any:
    """Return the *reply* to a read of an index. Raise it if it is an error."""
    if isinstance(reply, RedisError):
        raise as_ours(reply, key, writes=False) from reply
    return reply


def _unindexing(index: Index, gone: Sequence[tuple[bytes, int]], grace_ms: int) -> Call:
    return Call("unindex", index, (grace_ms, *(part for entry in gone for part in entry)))


def _sound(replies: Sequence[Any]) -> Sequence[Any]:
    """Return *replies*. Raise the first error among them."""
    for reply in replies:
        if isinstance(reply, ConvstoreError):
            raise reply
    return replies


def _victims(
    pairs: Sequence[tuple[tuple[bytes, int], tuple[bool, Summary | None]]],
    surplus: int,
    evict: Evict,
    *,
    is_patient: bool,
) -> list[tuple[tuple[bytes, int], Call]]:
    """Choose so many of the oldest sessions as are *surplus*. Return their entries, with the calls that delete them."""
    there = itertools.takewhile(lambda pair: pair[1][0] or not is_patient, pairs)  # none behind one that has just gone
    candidates = [(entry, summary) for entry, (_, summary) in there if summary]
    victims: list[tuple[tuple[bytes, int], Call]] = []
    for start in range(0, len(candidates), surplus + _LOOKED_AT):
        asked = candidates[start : start + surplus + _LOOKED_AT]
        calls = zip(asked, evict([summary for _, summary in asked]), strict=True)
        victims += [(entry, call) for (entry, _), call in calls if call]
        if len(victims) >= surplus:
            break
    return victims[:surplus]


def _summary(session_id: str, stored: Sequence[bytes | None], expires_at_ms: int, active: int | None) -> Summary | None:
    """Make a summary from the fields named ``_FIELDS``. None if the session is gone, or not ours."""
    try:
        one = _read(session_id, stored, expires_at_ms, active)
    except ValueError:
        return None
    times = one.created_at_ms, one.updated_at_ms, one.active_at_ms, one.began_at_ms or one.created_at_ms
    return one if all(0 < time < LATEST_MS for time in times) else None


def _read(session_id: str, stored: Sequence[bytes | None], expires_at_ms: int, active: int | None) -> Summary:
    *numbers, owner, title, indexed, tokens_in, tokens_out, began = stored
    version, created, updated, count = (int(number or "") for number in numbers)
    last_active = int(indexed or updated) if active is None else active
    return Summary(
        session_id=session_id,
        owner=owner.decode()[1:] if owner else None,
        version=version,
        created_at_ms=created,
        updated_at_ms=updated,
        expires_at_ms=max(expires_at_ms, updated),  # the clock of who wrote may be ahead of this one
        active_at_ms=max(last_active, updated),
        message_count=count,
        title=title.decode() if title else None,
        usage=Usage(*map(_number, (tokens_in, tokens_out))),
        began_at_ms=_number(began) or None,
    )


def _raise_refusal(replies: Sequence[Any], key: str) -> None:
    """Raise the error of a server that refuses to tell of a session. A key of another type is no such error."""
    for reply in replies:
        if isinstance(reply, RedisError) and "WRONGTYPE" not in str(reply):
            raise as_ours(reply, key, writes=False) from reply


def _checked(summary: Summary | None, kind: bytes | str) -> Summary | None:
    """Mark the summary of a session that has lost its messages. *kind* is the type of their key."""
    if summary and summary.message_count and kind not in (b"list", "list"):
        return replace(summary, is_damaged=True)
    return summary


def _number(text: bytes | None) -> int:
    """Read a number that not every session has, 0 where there is none."""
    return int(text or 0)


def _pairs(replies: Sequence[Any]) -> list[tuple[bytes, int]]:
    """Pair members and scores, which the server sends one after the other (RESP2) or in pairs (RESP3)."""
    in_pairs = bool(replies) and isinstance(replies[0], list)
    pairs = replies if in_pairs else zip(replies[::2], replies[1::2], strict=True)
    return [(name, int(float(score))) for name, score in pairs]
