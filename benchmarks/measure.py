"""Comparison of two ways to do the same, in turn and in one run: a busy machine slows down both."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

Action = Callable[[], object]


class Cost(NamedTuple):
    """Microseconds of one call: by the clock, and of the processors of the app and of the server."""

    clock: float
    app: float
    server: float


@dataclass(frozen=True)
class Result:
    """One comparison: medians of both.

    Attributes:
        case: The operation.
        size: The number of messages before it.
        target: The highest ratio, or None for one that is only told.
    """

    case: str
    size: int
    against: str
    ours: Cost
    theirs: Cost
    target: float | None = None

    @property
    def ratio(self) -> float:
        """The ratio of the times by the clock."""
        return self.ours.clock / self.theirs.clock

    @property
    def is_met(self) -> bool:
        return self.target is None or self.ratio <= self.target

    def as_dict(self) -> dict[str, object]:
        return {**asdict(self), "ours": self.ours._asdict(), "theirs": self.theirs._asdict(), "ratio": self.ratio}


class Comparing:
    """Compares on one server.

    Args:
        client: Asks the server for its processor time. It is not the client that is measured.
        rounds: The number of times that the one is measured, then the other.
    """

    def __init__(self, client: Any, rounds: int) -> None:
        self._client = client
        self._rounds = rounds

    def __call__(
        self,
        case: str,
        size: int,
        against: str,
        ours: Action,
        theirs: Action,
        target: float | None = None,
        *,
        calls: int = 25,
        prepare: Action = lambda: None,
    ) -> Result:
        """In each round, so many calls of *ours* and of *theirs*; *prepare* comes before it, and is not measured.

        Each side begins every other round, since the first calls behind *prepare* find its data in the processor's caches.
        """
        prepare()
        for action in (ours, theirs):
            for _ in range(calls):
                action()
        gc.collect()
        gc.disable()
        pairs = []
        try:
            for number in range(self._rounds):
                prepare()
                sides = (ours, theirs) if number % 2 else (theirs, ours)
                found = {side: cost(self._client, side, calls) for side in sides}
                pairs.append((found[ours], found[theirs]))
        finally:
            gc.enable()
        mine, others = (median(column) for column in zip(*pairs, strict=True))
        return Result(case, size, against, mine, others, target)


def cost(client: Any, action: Action, calls: int) -> Cost:
    """Mean cost of so many calls. *client* asks the server for its processor time."""
    before = server_seconds(client)
    used, started = time.process_time(), time.perf_counter()
    for _ in range(calls):
        action()
    elapsed, app = time.perf_counter() - started, time.process_time() - used
    server = server_seconds(client) - before
    return Cost(*(seconds * 1e6 / calls for seconds in (elapsed, app, server)))


def median(costs: tuple[Cost, ...]) -> Cost:
    """The median of each part for itself."""
    return Cost(*(round(statistics.median(part), 1) for part in zip(*costs, strict=True)))


def server_seconds(client: Any) -> float:
    """The processor time that the server has had so far."""
    used = client.info("cpu")
    return float(used["used_cpu_user"] + used["used_cpu_sys"])


def table(results: list[Result]) -> str:
    """The results as Markdown."""
    lines = ["| what | messages | against | µs | µs | ratio | target | app + server | app + server |"]
    lines.append("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for found in results:
        target = "" if found.target is None else f"{found.target:.2f}{'' if found.is_met else ' **missed**'}"
        size = f"{found.size:,}" if found.size else ""
        clock = f"{_shown(found.ours.clock)} | {_shown(found.theirs.clock)} | {found.ratio:.2f} | {target}"
        used = " | ".join(f"{_shown(cost.app)} + {_shown(cost.server)}" for cost in (found.ours, found.theirs))
        lines.append(f"| {found.case} | {size} | {found.against} | {clock} | {used} |")
    return "\n".join(lines)


def _shown(microseconds: float) -> str:
    return f"{microseconds:,.0f}" if microseconds >= 10 else f"{microseconds:.1f}"


def put(page: Path, mark: str, text: str) -> None:
    """Write *text* into a page, between ``<!-- mark -->`` and ``<!-- /mark -->``."""
    before, _, rest = page.read_text("utf-8").partition(f"<!-- {mark} -->")
    _, ended, after = rest.partition(f"<!-- /{mark} -->")
    assert ended, f"{page} has no marks for {mark}"
    page.write_text(f"{before}<!-- {mark} -->\n{text}\n<!-- /{mark} -->{after}", "utf-8")
