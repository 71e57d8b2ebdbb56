"""An owner's list by last change: which entries of the index make a page, and where the next one begins.

The index hears of a change when the session is created, then once a minute of changes. So an entry is never later than the
last change of its session, and hardly more than two minutes earlier. A page is made of entries and of the sessions
themselves, which know their last change exactly. It takes in so many entries that no session that was left out can stand
before one that is shown.

A cursor tells the place of the last session shown, by last change and id, and the bound of the entries that were looked at.
Newest first that is the lowest score: a session above the place whose entry stands below the bound was not looked at, and is
still shown. Oldest first it is the lowest score of an entry that was looked at, and whose session was not shown.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import NamedTuple

from ...domain.results import Summary

SLACK_MS = 120_000
"""Longest time by which an entry is earlier than the last change of its session, unless the index could not be told."""
MOST_BESIDE = 500
"""Most entries that are looked at beside those of a page."""

Known = tuple[bool, Summary | None]
"""Existence of a session, and its summary, if it is ours."""


class PageEnd(NamedTuple):
    """The end of a page.

    Attributes:
        updated_at_ms, session_id: The last session that was shown. Without an id: all sessions from that time on.
        bound_ms: The bound of the entries that were looked at.
    """

    updated_at_ms: int
    session_id: str
    bound_ms: int

    def start(self, newest_first: bool) -> str:
        """Choose the score of the first entry of the next page."""
        if not newest_first:
            return str(self.bound_ms)
        return str(self.updated_at_ms) if self.session_id else f"({self.updated_at_ms}"

    def cursor(self) -> str:
        """Encode it for the caller."""
        return f"{self.updated_at_ms} {self.bound_ms} {self.session_id}"


class Entries(NamedTuple):
    """Entries of the index, in the order that was asked for.

    Attributes:
        entries: Ids and scores.
        asked: Number of entries that were asked for. Behind these stand those within ``SLACK_MS`` of the last one.
        is_cut: There are too many of those.
        more: Others follow.
    """

    entries: list[tuple[str, int]]
    asked: int
    is_cut: bool
    more: bool

    @property
    def edge(self) -> int:
        """The score of the last entry."""
        return self.entries[-1][1]

    @property
    def last_asked(self) -> int:
        """The score of the last one of those that were asked for."""
        return self.entries[min(self.asked, len(self.entries)) - 1][1]


class Listing(NamedTuple):
    """A page of a list by change.

    Attributes:
        shown: Its sessions.
        next: The cursor of the next one. None if there is none.
        wrong: Entries to correct, each as id, score and last change of the session.
    """

    shown: list[Summary]
    next: str | None
    wrong: list[tuple[str, int, int]]

    def is_enough(self, found: Entries, newest_first: bool) -> bool:
        """Tell whether the next page can go on from here, or more entries have to be looked at for this one."""
        goes_on = newest_first and found.is_cut and not self.wrong
        return bool(self.shown) or self.next is None or goes_on


def place_of(cursor: str | None) -> PageEnd | None:
    """Decode a cursor. One of another order, or of another store, tells a time alone."""
    if cursor is None:
        return None
    updated, bound, session_id = (*cursor.split(" ", 2), "", "")[:3]
    if not _BOUND.fullmatch(bound):
        bound, session_id = updated, ""
    return PageEnd(int(updated), session_id, int(bound))


_BOUND = re.compile("[0-9]{1,16}")


def wrong_entries(
    entries: Sequence[tuple[str, int]], known: Sequence[Known], but: Collection[str] = ()
) -> list[tuple[str, int, int]]:
    """List the entries that are not near the last change of their sessions, each as id, score and last change."""
    wrong = [(score, one) for score, one in _there(entries, known) if _is_wrong(score, one)]
    return [(one.session_id, score, one.updated_at_ms) for score, one in wrong if one.session_id not in but]


def listing(found: Entries, known: Sequence[Known], place: PageEnd | None, limit: int, newest_first: bool) -> Listing:
    """Make a page behind *place* of the entries that were *found*, and of what is *known* of their sessions."""
    if not found.entries:
        return Listing([], None, [])
    there = _there(found.entries, known)
    fresh = [(score, one) for score, one in there if not _was_shown(one, score, place, newest_first)]
    shown, end = (_newest if newest_first else _oldest)(found, fresh, place, limit)
    left = _without(fresh, shown)
    # An entry that is corrected before its session was shown may come to stand where nobody looks any more.
    late = {one.session_id for one in left if _is_behind(one, place, newest_first)}
    following = end.cursor() if found.more or left else None
    return Listing(shown, following, wrong_entries(found.entries, known, late))


def _newest(
    found: Entries, fresh: Sequence[tuple[int, Summary]], place: PageEnd | None, limit: int
) -> tuple[list[Summary], PageEnd]:
    """Choose sessions for a page, newest first, and the place where it ends.

    Sessions whose entries stand far too low come late, and do not move the place.
    """
    late = [(score, one) for score, one in fresh if _is_behind(one, place, newest_first=True)]
    shown, bound = _late(late, limit)
    bound = bound or (min(found.edge, place.bound_ms) if place else found.edge)
    others = sorted(_without(fresh, [one for _, one in late]), key=_order, reverse=True)
    on_time = _before_unseen(others, found)[: max(0, limit - len(shown))]
    if on_time:
        return [*shown, *on_time], PageEnd(*_order(on_time[-1]), bound)
    return shown, place._replace(bound_ms=bound) if shown and place else PageEnd(found.edge, "", bound)


def _late(late: list[tuple[int, Summary]], limit: int) -> tuple[list[Summary], int]:
    """Choose sessions that come late, in the order of their entries, and the bound of these where others are left, else 0.

    Entries of one millisecond are never parted.
    """
    late.sort(key=lambda pair: -pair[0])
    if len(late) <= limit:
        return [one for _, one in late], 0
    bound = late[limit - 1][0]
    return [one for score, one in late if score >= bound], bound


def _oldest(
    found: Entries, fresh: Sequence[tuple[int, Summary]], place: PageEnd | None, limit: int
) -> tuple[list[Summary], PageEnd]:
    """Choose sessions for a page, oldest first, and the place where it ends."""
    latest = found.edge if found.is_cut else found.last_asked + SLACK_MS
    ordered = sorted((one for _, one in fresh), key=_order)
    shown = [one for one in ordered if not found.more or one.updated_at_ms <= latest][:limit]
    names = {one.session_id for one in shown}
    bound = min([score for score, one in fresh if one.session_id not in names] + [found.edge])
    before = (place.updated_at_ms, place.session_id) if place else (0, "")
    return shown, PageEnd(*max([before, *map(_order, shown)]), bound)


def _before_unseen(fresh: Sequence[Summary], found: Entries) -> list[Summary]:
    """Select the sessions that stand before all whose entries were not looked at, newest first.

    Where too many entries are near, those that stand before the last one. One that was left out comes later.
    """
    if not found.more:
        return list(fresh)
    earliest = found.edge + SLACK_MS if found.is_cut else found.last_asked
    safe = [one for one in fresh if one.updated_at_ms >= earliest]
    if safe or not found.is_cut:
        return safe
    return [one for one in fresh if one.updated_at_ms >= found.edge]


def _without(fresh: Sequence[tuple[int, Summary]], others: Sequence[Summary]) -> list[Summary]:
    """List the sessions of *fresh* entries without *others*."""
    names = {one.session_id for one in others}
    return [one for _, one in fresh if one.session_id not in names]


def _there(entries: Sequence[tuple[str, int]], known: Sequence[Known]) -> list[tuple[int, Summary]]:
    """Pair the scores of entries with their sessions, as far as they are there."""
    return [(score, summary) for (_, score), (_, summary) in zip(entries, known, strict=True) if summary]


def _order(summary: Summary) -> tuple[int, str]:
    return summary.updated_at_ms, summary.session_id


def _is_wrong(score: int, summary: Summary) -> bool:
    return not summary.updated_at_ms - SLACK_MS <= score <= summary.updated_at_ms


def _is_behind(summary: Summary, place: PageEnd | None, newest_first: bool) -> bool:
    """Tell whether pages up to *place* have shown a session, if they could."""
    if place is None:
        return False
    there = place.updated_at_ms, place.session_id
    return _order(summary) >= there if newest_first else _order(summary) <= there


def _was_shown(summary: Summary, score: int, place: PageEnd | None, newest_first: bool) -> bool:
    """Tell whether an earlier page has shown a session. One whose entry was wrong may have been left out there."""
    if place is None or score > summary.updated_at_ms or not _is_behind(summary, place, newest_first):
        return False
    return not newest_first or score >= place.bound_ms
