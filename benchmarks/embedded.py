"""Cost of ``embedded://``: the first answer of a cold start, the first of a warm one, and later calls.

    python -m benchmarks.embedded

Warm and later calls are compared with the same server reached as ``unix://``, measured in turn.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from flask_convstore.config import Settings
from flask_convstore.stores.connect import connect

RUNS = 20
CALLS = 2_000


def seconds(action: Callable[[], object]) -> float:
    """Time of *action*."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def first_answer(url: str) -> float:
    """The time to the first answer of a new client, which is given up again."""
    client = connect(Settings(url=url), Path())
    elapsed = seconds(client.ping)
    client.connection_pool.disconnect()
    return elapsed


def main() -> None:
    cold = []
    for _ in range(RUNS):
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            cold.append(first_answer(f"embedded://{folder}/data?idle=0"))
    print(
        f"cold start, first answer: median {statistics.median(cold) * 1000:.0f} ms, longest {max(cold) * 1000:.0f} ms"
    )

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        embedded, unix = f"embedded://{folder}?idle=0", f"unix://{folder}/valkey.sock"
        keeper = connect(Settings(url=embedded), Path())
        keeper.ping()
        pairs = [(first_answer(embedded), first_answer(unix)) for _ in range(RUNS * 10)]
        more = statistics.median(warm - direct for warm, direct in pairs)
        direct = statistics.median(direct for _, direct in pairs)
        other = connect(Settings(url=unix), Path())
        later = [seconds(keeper.ping) / seconds(other.ping) for _ in range(CALLS)]
        print(f"warm start, first answer: {more * 1000:.2f} ms more than the {direct * 1000:.2f} ms of unix://")
        print(f"later calls: {statistics.median(later):.2f} x unix://")
        keeper.connection_pool.disconnect()
        other.connection_pool.disconnect()


if __name__ == "__main__":
    main()
