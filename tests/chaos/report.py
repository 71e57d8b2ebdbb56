"""What a run says about itself, as a table for a terminal and as the document docs/chaos.md."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

from .checker import COUNTS, counted
from .run import Result
from .worlds import BOUNDS

_SHOWN = 20


def acknowledged(result: Result) -> int:
    """How many messages were acknowledged."""
    return sum(len(operation.marks()) for operation in result.operations if operation.is_acknowledged)


def as_table(result: Result) -> str:
    """For a terminal."""
    lines = [f"\n{name:<34}{value}" for name, value in _figures(result)]
    lines += [f"\nfault: {name:<27}{number}" for name, number in _faults(result)]
    lines += [f"\n{name:<34}{number}" for name, number in counted(result.findings).items()]
    lines += [f"\n  {finding.count}: {finding.what}" for finding in result.findings[:_SHOWN]]
    more = len(result.findings) - _SHOWN
    return "".join(lines)[1:] + (f"\n  and {more} more" if more > 0 else "") + "\n"


def _figures(result: Result) -> list[tuple[str, str]]:
    operations = Counter(operation.outcome for operation in result.operations)
    attempts = [attempt for operation in result.operations for attempt in operation.attempts]
    answered = [attempt for attempt in attempts if attempt.status]
    took = [attempt.ended - attempt.began for attempt in answered if attempt.status and attempt.status < 500]
    percentiles = statistics.quantiles(took, n=100) if len(took) > 1 else [0.0] * 99
    inside = {
        operation.kind: attempt.seconds_inside or 0
        for operation, attempt in sorted(
            ((operation, attempt) for operation in result.operations for attempt in operation.attempts),
            key=lambda pair: pair[1].seconds_inside or 0,
        )
    }
    longest = ", ".join(f"{kind} {inside[kind]:.1f} of {BOUNDS[kind]:g}" for kind in BOUNDS if kind in inside)
    fault_seconds = sum(struck.ended - struck.began for struck in result.struck)
    return [
        ("world", f"{result.world}, durability {result.durability}, {result.server}"),
        ("seconds, of which faults", f"{result.seconds:.0f}, {fault_seconds:.0f}"),
        ("acknowledged messages", f"{acknowledged(result):,}"),
        ("operations", f"{len(result.operations):,}"),
        ("… acknowledged, refused, unknown", f"{operations['ok']:,}, {operations['failed']:,}, {operations['unknown']:,}"),
        ("requests, answered", f"{len(attempts):,}, {len(answered):,}"),
        ("… from the fallback", f"{sum(attempt.is_degraded for attempt in answered):,}"),
        ("sessions read in the end", f"{len({final.label for final in result.finals}):,}"),
        ("request p50, p99, longest (s)", f"{percentiles[49]:.3f}, {percentiles[98]:.3f}, {max(took, default=0):.1f}"),
        ("longest inside the app (s)", longest),
        ("faults", f"{len(result.struck)}"),
    ]


def _faults(result: Result) -> list[tuple[str, int]]:
    return sorted(Counter(struck.name for struck in result.struck).items())


def as_markdown(results: Sequence[Result], command: str, seed: int) -> str:
    """docs/chaos.md: every figure in it is of these runs."""
    return f"{command} {seed} {len(results)} {datetime.now(UTC):%Y-%m-%d} {COUNTS}"
