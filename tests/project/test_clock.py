"""One room for time: nobody reads the clock of the host elsewhere, which is set now and then."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
CLOCKS = re.compile(
    r"\btime\.(time|time_ns|perf_counter|perf_counter_ns|clock_gettime|clock_gettime_ns|localtime|gmtime)\b"
    r"|\b(datetime|date)\.(now|today|utcnow)\(|\bfrom time import\b(?! (monotonic|sleep)$)"
)


def test_one_room_reads_the_clock() -> None:
    paths = [path for path in (ROOT / "flask_convstore").rglob("*.py") if path.parts[-2:] != ("domain", "clock.py")]
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in paths
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if CLOCKS.search(line)
    ]
    assert not found, "take now_ms, monotonic or wall_seconds of domain/clock.py"


def test_it_is_known_what_reads_a_clock() -> None:
    for line in ("time.time()", "x = time.time_ns() // 2", "datetime.now(UTC)", "from time import time"):
        assert CLOCKS.search(line), line
    for line in ("time.monotonic()", "from time import monotonic", "datetime.timedelta(1)"):
        assert not CLOCKS.search(line), line
