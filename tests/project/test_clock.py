"""One room for time: nobody reads a clock elsewhere."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
CLOCKS = re.compile(
    r"\btime\.(time|monotonic|perf_counter|clock_gettime|localtime|gmtime)(_ns)?\b"
    r"|\b(datetime|date)\.(now|today|utcnow)\(|\bfrom time import\b(?! sleep$)"
)
EXEMPT = ("domain/clock.py", "stores/embedded/supervisor.py")
"""The room itself, and a script that runs alone, without the package."""


def test_one_room_reads_the_clock() -> None:
    paths = [path for path in (ROOT / "flask_convstore").rglob("*.py") if not path.as_posix().endswith(EXEMPT)]
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in paths
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if CLOCKS.search(line)
    ]
    assert not found, "take now_ms, monotonic or wall_seconds of domain/clock.py"


def test_it_is_known_what_reads_a_clock() -> None:
    for line in (
        "time.time()",
        "x = time.time_ns() // 2",
        "datetime.now(UTC)",
        "time.monotonic()",
        "from time import time",
    ):
        assert CLOCKS.search(line), line
    for line in ("monotonic()", "time.sleep(1)", "from time import sleep", "datetime.timedelta(1)"):
        assert not CLOCKS.search(line), line
