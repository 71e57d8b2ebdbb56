"""The parts of an index: an owner's is one key, nobody's is divided by a hash of the session's id.

An app without owners has all its sessions in nobody's index. One key would be one primary's of a Cluster, which cannot be
relieved. Each part stands for a block of the Cluster's slots. So a session and its entry lie on the same primary, but where
a block is divided, and every primary has its share of the parts.
"""

from __future__ import annotations

from binascii import crc_hqx
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from itertools import chain, takewhile
from itertools import count as numbers
from typing import NamedTuple, TypeVar
from urllib.parse import unquote

from .arguments import in_key
from .change_order import SLACK_MS, Entries

PARTS = 64
"""Parts of nobody's index. A walk reads some of each in one round trip. Of 100 million sessions a part has 1.6 million."""
SLOTS = 16_384
"""Slots of a Cluster. A key belongs to the one that the CRC16 of its hashed part names."""

Entry = tuple[bytes, int]
_E = TypeVar("_E", bound=tuple[bytes | str, int])


class Index(NamedTuple):
    """The keys of one part: its sessions by their last activity, and by their last change."""

    active: str
    changed: str


def _block(name: str) -> int:
    return crc_hqx(name.encode(), 0) % SLOTS * PARTS // SLOTS


@cache
def _tag(part: int) -> str:
    """Make a name in the slots of *part*. No owner's name looks like it in a key, where a ``!`` is encoded."""
    return next(tag for number in numbers() if _block(tag := f"!{number}") == part)


def _named(prefix: str, tag: str) -> Index:
    key = f"{prefix}owner:{{{tag}}}"
    return Index(key, f"{key}:changed")


def index_of(prefix: str, owner: str | None, session_id: str) -> Index:
    """Name the index in which a session stands."""
    return _named(prefix, in_key(owner) if owner is not None else _tag(_block(in_key(session_id))))


def owner_in(tag: str) -> str | None:
    """Decode the owner that the key of an index holds as *tag*. None: it is a part of nobody's."""
    return None if tag.startswith("!") else unquote(tag)


def indexes_of(prefix: str, owner: str | None) -> list[Index]:
    """Name all parts of an owner's index, or of nobody's."""
    return [_named(prefix, tag) for tag in ([in_key(owner)] if owner is not None else map(_tag, range(PARTS)))]


def in_order(entries: Iterable[_E], newest_first: bool) -> list[_E]:
    """Sort entries as one index would have them: by score, then by id."""
    return sorted(entries, key=lambda entry: (entry[1], entry[0]), reverse=newest_first)


def share(count: int, parts: int) -> int:
    """Number of entries to read of each of so many parts, where *count* are wanted of all. Few parts have more than that."""
    return count if parts == 1 else min(count, 2 * count // parts + 8)


def first_entries(
    indexes: Sequence[str], read: Callable[[Sequence[str], int], list[list[Entry]]], wanted: int, newest_first: bool
) -> list[Entry]:
    """Read the first *wanted* entries, or a few more, or all there are.

    Args:
        read: Reads so many entries of each of several parts, in their order.
    """
    count = share(wanted, len(indexes))
    found = dict(zip(indexes, read(indexes, count), strict=True))
    if len(indexes) == 1:
        return found[indexes[0]]
    while True:
        lacking = [index for index in indexes if len(found[index]) >= count]
        entries = in_order(chain.from_iterable(found.values()), newest_first)
        known = _before(entries, [found[index][-1][1] for index in lacking], newest_first)
        if len(known) >= wanted or not lacking:
            return known
        count *= 4
        found.update(zip(lacking, read(lacking, count), strict=True))


def _before(entries: list[Entry], ends: list[int], newest_first: bool) -> list[Entry]:
    """Cut *entries* off where the first part ends that has more."""
    if not ends:
        return entries
    end = max(ends) if newest_first else min(ends)
    return list(takewhile(lambda entry: entry[1] != end, entries))


def merged(parts: Sequence[Entries], wanted: int, newest_first: bool) -> Entries:
    """Merge what was read of each part of a list by change, up to where a part that has more was read.

    No more than *wanted* entries are those that were asked for, and those within ``SLACK_MS`` of the last one follow.
    """
    lacking = [part for part in parts if part.more]
    everything = in_order(chain.from_iterable(part.entries for part in parts), newest_first)
    shown = [part.last_asked for part in lacking]
    shown += map(_score, everything[wanted - 1 : wanted])
    if not shown:
        return Entries(everything, wanted, is_cut=False, more=False)
    cut = [part.edge for part in lacking if part.is_cut]
    earliest, sign = (max, -1) if newest_first else (min, 1)
    last = earliest(shown)
    end = earliest([*cut, last + sign * SLACK_MS])
    kept = _up_to(everything, end, sign)
    asked = max(1, len(_up_to(kept, last, sign)))
    return Entries(kept, asked, is_cut=bool(cut), more=bool(lacking or kept != everything))


def _score(entry: tuple[str, int]) -> int:
    return entry[1]


def _up_to(entries: list[tuple[str, int]], end: int, sign: int) -> list[tuple[str, int]]:
    return [entry for entry in entries if sign * entry[1] <= sign * end]
