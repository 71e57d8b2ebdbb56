"""``repair`` and ``bench``."""

from __future__ import annotations

import click

from ..app.operator import Operator
from ..config import limits_of
from ..operations.diagnosis import percentile
from ..operations.trial import bench
from ..stores.connect import patience_of
from ..stores.redis.mending import Mending
from .frame import Output, access_in, command, place_option


@command("repair")
@click.option("--dry-run", is_flag=True, help="Only count.")
@place_option
def repair_command(operator: Operator, output: Output, *, dry_run: bool, place: str) -> None:
    """Mend what lies beside sessions: entries of owners' lists and quotas, and aliases that lead to nothing.

    Sessions are only read. The server walks through its keys, a few at a time.
    """
    client, settings = operator.state.client, access_in(operator, place).settings
    if client is None:
        output.note("The memory of a process needs no repair.")
        return
    mending = Mending(client, settings.prefix, limits_of(settings), patience_of(settings), dry_run=dry_run)
    found = mending.all()
    done = "would be " if dry_run else ""
    text = (
        f"{found.stale} entries of sessions that are gone {done or 'were '}removed from the lists of their owners,\n"
        f"{found.missing} sessions {done or 'were '}added to the lists of their owners,\n"
        f"{found.aliases} aliases that lead to nothing {done or 'were '}removed."
    )
    output.tell({**found._asdict(), "dry_run": dry_run}, text)


@command("bench")
@click.option("--count", type=click.IntRange(10, 10_000), default=200, show_default=True, help="Calls of each kind.")
def bench_command(operator: Operator, output: Output, *, count: int) -> None:
    """Measure this server: round trips, appends and reads, one after the other. A scratch session comes and goes."""
    for kind, times in bench(operator.directly(), operator.forget_ended, count):
        p50, p99 = percentile(times, 0.5), percentile(times, 0.99)
        rounded = {"p50_ms": round(p50, 3), "p99_ms": round(p99, 3), "max_ms": round(times[-1], 3)}
        output.tell({"kind": kind, "count": count, **rounded}, f"{kind:<22} p50 {p50:8.3f} ms   p99 {p99:8.3f} ms")
