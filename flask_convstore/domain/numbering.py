"""The numbers of a session's messages, and the ids that are made of them.

Messages are numbered from 1 on, and no number is used twice. A message keeps its number when others are taken out. So the
numbers of a history rise by one but for its *gaps*: numbers between the oldest message and the next one that no message
has. The scripts mirror these rules in ``_next_seq.lua``, ``_place.lua`` and ``_gap.lua``.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from itertools import chain

Gaps = tuple[tuple[int, int], ...]
"""The first and the last number of each gap, in rising order. There is a message between any two gaps."""

_OWN_ID = re.compile(r"msg-([1-9][0-9]{0,15})")


id_of: Callable[[int], str] = "msg-{}".format
"""Makes the id of a message that was given none. Without a frame of Python, since each message that is read has one."""


def id_away(session_id: str, token: str, place: int) -> str:
    """Make the id of a message that is written while the store is away, the one at *place* in the write of *token*.

    There the message may get another number, behind those of others. So the id is made of none.
    """
    text = "\n".join((session_id, str(place), token))
    return f"msg-j{hashlib.blake2b(text.encode(), digest_size=8).hexdigest()}"


def seq_in(message_id: str) -> int | None:
    """Read the number in an id of ours. None: it is another's."""
    found = _OWN_ID.fullmatch(message_id)
    return int(found[1]) if found else None


def next_seq(first: int, count: int, gaps: Gaps) -> int:
    """Tell the number of the next message.

    Args:
        first: The number of the oldest message. Where there is none, the number of the next.
        count: Number of messages.
    """
    return first + count + sum(end - begin + 1 for begin, end in gaps) if gaps else first + count


def seqs_of(first: int, count: int, gaps: Gaps, newest: int | None = None) -> Sequence[int]:
    """List the numbers of all messages, or of the *newest* so many. Older messages cost nothing."""
    left = count if newest is None else newest
    end = next_seq(first, count, gaps)
    runs: list[range] = []
    for begin, last in reversed(gaps):
        if last + 1 < end:
            runs.append(range(max(last + 1, end - left), end))
            left -= len(runs[-1])
            if not left:
                break
        end = begin
    if left or not runs:
        runs.append(range(end - left, end))
    return runs[0] if len(runs) == 1 else [*chain.from_iterable(reversed(runs))]


def index_of(seq: int, first: int, count: int, gaps: Gaps) -> int | None:
    """Find the place of the message with that number, 0 for the oldest. None: there is no such message."""
    is_gap = any(begin <= seq <= end for begin, end in gaps)
    return None if is_gap or not first <= seq < next_seq(first, count, gaps) else behind(seq, first, count, gaps) - 1


def behind(seq: int, first: int, count: int, gaps: Gaps) -> int:
    """Count the messages up to that number, this one included."""
    missing = sum(min(end, seq) - begin + 1 for begin, end in gaps if begin <= seq)
    return max(0, min(count, seq - first + 1 - missing))


def with_gap(gaps: Gaps, begin: int, end: int) -> Gaps:
    """Add a gap to *gaps*. Where it touches others they become one."""
    apart = []
    for other in gaps:
        if other[1] + 1 < begin or end + 1 < other[0]:
            apart.append(other)
        else:
            begin, end = min(begin, other[0]), max(end, other[1])
    return tuple(sorted([*apart, (begin, end)]))


def gaps_between(seqs: Iterable[int], following: int) -> Gaps:
    """Find the gaps between rising numbers, and between the last one and the *following* one."""
    gaps: list[tuple[int, int]] = []
    before: int | None = None
    for seq in (*seqs, following):
        if before is not None and seq > before + 1:
            gaps.append((before + 1, seq - 1))
        before = seq
    return tuple(gaps)


def text_of(gaps: Gaps) -> str:
    """Write *gaps* as a store holds them: ``3 3-4 9-9``. The number of seqs in all comes first. "": there are none."""
    apart = [f"{begin}-{end}" for begin, end in gaps]
    return " ".join([f"{sum(end - begin + 1 for begin, end in gaps)}", *apart]) if gaps else ""


def gaps_in(text: str) -> Gaps:
    """Read what ``text_of`` has written.

    Raises:
        ValueError: It is none of ours.
    """
    if not text:
        return ()
    numbers = [*map(int, text.replace("-", " ").split())]
    begins, ends = numbers[1::2], numbers[2::2]
    if numbers[:1] not in ([], [sum(ends) - sum(begins) + len(begins)]):
        raise ValueError("the number of seqs in these gaps is another one")
    return tuple(zip(begins, ends, strict=True))
