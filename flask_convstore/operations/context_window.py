"""Context window: the part of a history that a model is shown.

The newest messages that fit are chosen, and messages that belong together stay together, as ``domain/pairs.py`` has it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Sequence
from typing import Any

from ..domain.messages import own_id
from ..domain.numbering import seq_in
from ..domain.pairs import Group, groups, is_prompt, joined, whole
from ..domain.validation import check_whole
from ..errors import InvalidInput

Count = Callable[[Any], int]
"""A function from a message's body to its number of tokens."""


def window(
    history: Sequence[Any], *, last: int | None = None, tokens: int | None = None, count: Count | None = None
) -> list[Any]:
    """Choose the newest messages of *history*: *last* messages at most, and *tokens* as *count* counts them. Oldest first.

    System messages at the beginning are always chosen, and count. A call of tools and its answers are chosen together or
    not at all, and half of such a pair is left out. The newest message, with the messages that belong to it, is chosen even
    if it is too long.

    Raises:
        InvalidInput: A limit is no whole number, or *tokens* is given without *count*.
    """
    for name, limit in (("last", last), ("tokens", tokens)):
        if limit is not None:
            check_whole(limit, name)
    if tokens is not None and count is None:
        raise InvalidInput(
            "tokens= needs a function from a message's body to its number of tokens: pass count=", "count"
        )
    prompts = list(itertools.takewhile(is_prompt, history))
    budget = _Budget(last, tokens, count)
    budget.spend(prompts)
    return prompts + joined(_chosen(groups(history[len(prompts) :]), budget))


def holes(elements: Sequence[bytes], seqs: Sequence[int], bodies: Sequence[Any]) -> list[int]:
    """Find the places of messages before which others were taken out. A seq that was kept for a reply is no hole.

    Args:
        elements, seqs, bodies: The messages, one in each.
    """
    gaps = [place for place in range(1, len(seqs)) if seqs[place] > seqs[place - 1] + 1]
    kept, last_named = _names(elements) if gaps else (set(), 0)

    def is_kept(place: int) -> bool:
        """Tell whether the reply of a turn never came, came behind other messages, or has the app's own id."""
        seq = seqs[place - 1] + 1
        has_failed = b'"status"' in elements[place - 1].partition(b"\n")[0]
        return seqs[place] == seq + 1 and (has_failed or seq in kept or place <= last_named)

    return [place for place in gaps if is_prompt(bodies[place - 1]) or not is_kept(place)]


def _names(elements: Sequence[bytes]) -> tuple[set[int | None], int]:
    """Collect the seqs in the own ids of messages, and find the last message with an id of the app's own."""
    seqs = [seq_in(name) if name else 0 for name in map(own_id, elements)]
    return set(seqs), max((place for place, seq in enumerate(seqs) if seq is None), default=0)


def shown(history: Sequence[Any], last: int | None, orphans: str, cuts: Collection[int] = ()) -> list[Any]:
    """Choose the *last* messages that a turn shows, all for None. Arguments as ``pairs.groups``.

    System messages at the beginning count, and take the places that the newest message leaves.
    """
    if last is None:
        return whole(history, orphans, cuts)
    prompts = list(itertools.takewhile(is_prompt, history))
    found = groups(history[len(prompts) :], orphans, [max(0, place - len(prompts)) for place in cuts])
    newest = len(found[-1].messages) if found else 0
    prompts = prompts[: max(0, last - newest)]
    return prompts + joined(_chosen(found, _Budget(last - len(prompts), None, None)))


def newest(history: Sequence[Any], last: int | None) -> list[Any]:
    """Choose messages as ``shown`` does, where each stands for itself (``pairs.are_plain``)."""
    if last is None:
        return list(history)
    prompts = list(itertools.takewhile(is_prompt, history))
    others = history[len(prompts) :]
    prompts = prompts[: max(0, last - bool(others))]
    return [*prompts, *others[-max(1, last - len(prompts)) :]]


def _chosen(found: list[Group], budget: _Budget) -> list[Group]:
    """Choose the newest groups that fit, and the newest one in any case. Oldest first."""
    chosen: list[Group] = []
    for group in reversed(found):
        budget.spend(group.messages)
        if chosen and budget.is_overdrawn():
            break
        chosen.append(group)
    return chosen[::-1]


class _Budget:
    """The messages and the tokens that a window may still take."""

    def __init__(self, messages: int | None, tokens: int | None, count: Count | None) -> None:
        self._messages = math.inf if messages is None else messages
        self._tokens = math.inf if tokens is None else tokens
        self._count = None if tokens is None else count  # counting may be slow

    def spend(self, messages: Sequence[Any]) -> None:
        """Take *messages* into the window."""
        self._messages -= len(messages)
        if self._count:
            self._tokens -= sum(map(self._count, messages))

    def is_overdrawn(self) -> bool:
        """Tell whether the window has taken too much."""
        return self._messages < 0 or self._tokens < 0
