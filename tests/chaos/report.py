"""Reports of runs: a table for a terminal, and the document docs/chaos.md."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from .checker import counted
from .clients import CLIENTS
from .nemesis import Struck
from .records import Final, Kind, Operation
from .run import Result
from .stream_checker import AT_ONCE_SECONDS, END_SECONDS
from .streamers import STREAMERS, StreamedTurn
from .workers import WORKERS
from .worlds import BOUNDS

_TEMPLATE = Path(__file__).with_suffix(".md")
_SHOWN = 20


def as_table(result: Result) -> str:
    """For a terminal."""
    lines = [f"{name:<36}{value}" for name, value in _figures(result).items()]
    lines += [f"fault: {name:<29}{number}" for name, number in _faults(result).items()]
    lines += [f"{name:<36}{number}" for name, number in counted(result.findings).items()]
    lines += [f"  {finding.kind}: {finding.what}" for finding in result.findings[:_SHOWN]]
    if len(result.findings) > _SHOWN:
        lines.append(f"  and {len(result.findings) - _SHOWN} more")
    return "\n".join([*lines, ""])


def acknowledged(result: Result) -> int:
    """The number of acknowledged messages."""
    return sum(len(operation.marks()) for operation in result.operations if operation.is_acknowledged)


def _figures(result: Result) -> dict[str, str]:
    outcomes = Counter(operation.outcome for operation in result.operations)
    attempts = [attempt for operation in result.operations for attempt in operation.attempts]
    took = [attempt.ended - attempt.began for attempt in attempts if attempt.status]
    percentiles = statistics.quantiles(took, n=100) if len(took) > 1 else [0.0] * 99
    in_faults = sum(struck.ended - struck.began for struck in result.struck)
    return {
        "world": f"{result.world}: {result.server}, durability {result.durability}",
        "seconds of load; of faults": f"{result.seconds:.0f}; {in_faults:.0f}",
        "acknowledged messages": f"{acknowledged(result):,}",
        "operations": f"{len(result.operations):,}",
        "acknowledged; refused; unknown": f"{outcomes['ok']:,}; {outcomes['failed']:,}; {outcomes['unknown']:,}",
        "requests; without an answer": f"{len(attempts):,}; {len(attempts) - len(took):,}",
        "answers from the fallback": f"{sum(attempt.is_degraded for attempt in attempts):,}",
        "sessions read in the end": f"{len({final.label for final in result.finals}):,}",
        "answer p50; p99; longest (s)": f"{percentiles[49]:.3f}; {percentiles[98]:.3f}; {max(took, default=0):.1f}",
        "longest inside the app (s)": "; ".join(f"{kind} {seconds:.1f}" for kind, seconds in _longest(result).items()),
        **_of_streams(result),
        "faults": f"{len(result.struck)}",
    }


def _of_streams(result: Result) -> dict[str, str]:
    readings = [reading for turn in result.streamed for reading in turn.readings]
    fates = Counter(reading.fate or "none" for reading in readings)
    told = (f"{fate} {number:,}" for fate, number in sorted(fates.items()))
    resumed = sum(max(0, reading.connections - 1) for reading in readings)
    return {
        "streamed replies; readers": f"{len(result.streamed):,}; {len(readings):,}",
        "chunks read": f"{sum(reading.chunks for reading in readings):,}",
        "streams read on; told to begin anew": f"{resumed:,}; {sum(reading.resets for reading in readings):,}",
        "ends that readers saw": "; ".join(told),
    }


def _longest(result: Result) -> Mapping[Kind, float]:
    longest = dict.fromkeys(BOUNDS, 0.0)
    for operation in result.operations:
        for attempt in operation.attempts:
            longest[operation.kind] = max(longest[operation.kind], attempt.seconds_inside or 0)
    return longest


def _faults(result: Result) -> dict[str, int]:
    return dict(sorted(Counter(struck.name for struck in result.struck).items()))


def write_log(result: Result, file: Path) -> None:
    """Everything that was noted, in the order in which it began."""
    noted: list[Operation | Struck | StreamedTurn] = [*result.operations, *result.struck, *result.streamed]
    noted.sort(key=lambda one: one.began)
    with file.open("w") as lines:
        everything: list[Operation | Struck | StreamedTurn | Final] = [*noted, *result.finals]
        for one in everything:
            print(json.dumps({type(one).__name__: asdict(one)}, default=sorted), file=lines)


def as_markdown(results: Sequence[Result], command: str) -> str:
    """The text of docs/chaos.md, with the figures of these runs only."""
    shown = [_figures(result) for result in results]
    rows = [[name, *(figures[name] for figures in shown)] for name in shown[0]]
    counts = [counted(result.findings) for result in results]
    rows += [[f"**{name}**", *(f"**{count[name]}**" for count in counts)] for name in counts[0]]
    faults = [_faults(result) for result in results]
    for name in sorted(set().union(*faults)):
        rows.append([f"fault: {name}", *(str(fault.get(name, "")) for fault in faults)])
    head = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    python, gunicorn = platform.python_version(), version("gunicorn")
    return _TEMPLATE.read_text("utf-8").format(
        command=command,
        date=f"{datetime.now(UTC):%Y-%m-%d}",
        machine=f"{os.cpu_count()} cores, Python {python}, redis-py {version('redis')}, gunicorn {gunicorn}",
        results="".join(f"| {' | '.join(row)} |\n" for row in head),
        bounds=", ".join(f"{kind} {seconds:g} s" for kind, seconds in BOUNDS.items()),
        clients=CLIENTS,
        workers=WORKERS,
        streamers=STREAMERS,
        end_seconds=f"{END_SECONDS:g}",
        at_once_seconds=f"{AT_ONCE_SECONDS:g}",
    )
