"""How two ways to do the same compare: measured in turn, in one run, so that what slows the machine down slows down both."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

Action = Callable[[], object]


@dataclass(frozen=True)
class Result:
    """One comparison.

    Attributes:
        case, size: What was compared, with so many messages before.
        ours_us, theirs_us: Median microseconds of one call.
        ratio: Of the medians.
        target: What the ratio may be; None: it is only told.
    """

    case: str
    size: int
    against: str
    ours_us: float
    theirs_us: float
    ratio: float
    target: float | None

    @property
    def is_met(self) -> bool:
        return self.target is None or self.ratio <= self.target

    def as_dict(self) -> dict[str, object]:
        return {**asdict(self), "is_met": self.is_met}


def compare(
    case: str,
    size: int,
    against: str,
    ours: Action,
    theirs: Action,
    target: float | None = None,
    *,
    rounds: int = 40,
    calls: int = 25,
) -> Result:
    """The medians of both over so many rounds; in each, so many calls of the one, then of the other."""
    for action in (ours, theirs):
        for _ in range(calls):
            action()
    gc.collect()
    gc.disable()
    try:
        pairs = [(_seconds(ours, calls), _seconds(theirs, calls)) for _ in range(rounds)]
    finally:
        gc.enable()
    mine, others = (statistics.median(column) * 1e6 / calls for column in zip(*pairs, strict=True))
    return Result(case, size, against, round(mine, 1), round(others, 1), round(mine / others, 3), target)


def _seconds(action: Action, calls: int) -> float:
    started = time.perf_counter()
    for _ in range(calls):
        action()
    return time.perf_counter() - started


def table(results: list[Result]) -> str:
    """The results as Markdown."""
    lines = ["| what | messages | against | µs | µs | ratio | target |", "| --- | --- | --- | --- | --- | --- | --- |"]
    for found in results:
        target = "" if found.target is None else f"{found.target:.2f}{'' if found.is_met else ' **missed**'}"
        numbers = f"{found.ours_us:,.0f} | {found.theirs_us:,.0f} | {found.ratio:.2f} | {target}"
        lines.append(f"| {found.case} | {found.size:,} | {found.against} | {numbers} |")
    return "\n".join(lines)
