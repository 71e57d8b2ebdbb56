"""The figures of a store, and its last minutes."""

from __future__ import annotations

from collections.abc import Mapping

from ..domain.clock import now_ms
from ..domain.figures import MINUTE_MS, Figures, Minute, Sums, minute_from, minute_of
from ..domain.types import ANY, Owner
from ..domain.validation import check_name, check_whole
from ..stores.figures import KEPT_MS, FiguresStore

LONGEST = KEPT_MS // MINUTE_MS - 60
"""Minutes that can be asked for: a day."""


def figures(kept: FiguresStore, places: Mapping[str, str], owner: Owner) -> Figures:
    """Count the sessions of an owner, or all of them. For all, tell what has happened too."""
    if isinstance(owner, str):
        owner = check_name(owner, "owner")
    sums: Sums = kept.totals() if owner is ANY else {}  # first: who starts meanwhile has not expired
    counted = kept.count(places, owner)
    alive, messages, size = (sum(part) for part in zip(*counted.places.values(), strict=True))
    is_counted = "base" in sums
    started, deleted = sums.get("started", 0), sums.get("deleted", 0)
    expired = max(0, sums.get("base", 0) + started - deleted - alive)
    return Figures(
        alive=alive,
        started=started if is_counted else None,
        expired=expired if is_counted else None,
        deleted=deleted if is_counted else None,
        messages=messages,
        size=size,
        since_ms=sums.get("since_ms"),
        is_exact=counted.is_exact,
        error=counted.error,
        places=counted.places,
    )


def timeline(kept: FiguresStore, minutes: int) -> list[Minute]:
    """Read the last *minutes*, oldest first. The last one is not over yet."""
    check_whole(minutes, "minutes", 1, LONGEST)
    last = minute_of(now_ms())
    starts = [last - number * MINUTE_MS for number in reversed(range(minutes))]
    return [minute_from(start, sums) for start, sums in zip(starts, kept.minutes(starts), strict=True)]
