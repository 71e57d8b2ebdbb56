"""The parts of an index: an owner's is one key, nobody's is divided by a hash of the session's id.

An app without owners has all its sessions in nobody's index. One key would be one primary's of a Cluster, which cannot be
relieved. Each part stands for a block of the Cluster's slots. So a session and its entry lie on the same primary, but where
a block is divided, and every primary has its share of the parts.
"""

from __future__ import annotations

from binascii import crc_hqx
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import count
from typing import NamedTuple, TypeVar

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
    return next(tag for number in count() if _block(tag := f"!{number}") == part)


def _named(prefix: str, tag: str) -> Index:
    key = f"{prefix}owner:{{{tag}}}"
    return Index(key, f"{key}:changed")


def index_of(prefix: str, owner: str | None, session_id: str) -> Index:
    """Name the index in which a session stands."""
    return _named(prefix, in_key(owner) if owner is not None else _tag(_block(in_key(session_id))))


def indexes_of(prefix: str, owner: str | None) -> list[Index]:
    """Name all parts of an owner's index, or of nobody's."""
    return [_named(prefix, tag) for tag in ([in_key(owner)] if owner is not None else map(_tag, range(PARTS)))]


def in_order(entries: Iterable[_E], newest_first: bool) -> list[_E]:
    """Sort entries as one index would have them: by score, then by id."""
    return sorted(entries, key=lambda entry: (entry[1], entry[0]), reverse=newest_first)


def first_of(
    parts: Sequence[Sequence[Entry]], asked: Sequence[int], newest_first: bool
) -> tuple[list[Entry], list[int]]:
    """Merge what was read of each part, up to where a part that has more was read.

    Args:
        parts: Entries of each, in order.
        asked: Number that was asked for of each. A part that has given so many may have more.

    Return also the numbers of the parts that have more.
    """
    cut = [number for number, entries in enumerate(parts) if len(entries) >= asked[number]]
    ends = [parts[number][-1][1] for number in cut]
    whole = [entry for entries in parts for entry in entries]
    if ends and newest_first:
        whole = [entry for entry in whole if entry[1] > max(ends)]
    elif ends:
        whole = [entry for entry in whole if entry[1] < min(ends)]
    return in_order(whole, newest_first), cut


def merged(parts: Sequence[Entries], wanted: int, newest_first: bool) -> Entries:
    """Merge what was read of each part of a list by change, up to where a part that has more was read.

    No more than *wanted* entries are those that were asked for, and those within ``SLACK_MS`` of the last one follow.
    """
    sign = -1 if newest_first else 1
    lacking = [part for part in parts if part.more]
    everything = in_order((entry for part in parts for entry in part.entries), newest_first)
    asked_to = [sign * part.last_asked for part in lacking] + [
        sign * at_ms for _, at_ms in everything[wanted - 1 : wanted]
    ]
    if not asked_to:
        return Entries(everything, wanted, False, False)
    ends = [sign * part.edge for part in lacking if part.is_cut]
    end = min([*ends, min(asked_to) + SLACK_MS])
    shown = [entry for entry in everything if sign * entry[1] <= end]
    asked = sum(sign * at_ms <= min(asked_to) for _, at_ms in shown)
    return Entries(shown, max(1, asked), bool(ends), bool(lacking) or len(shown) < len(everything))
