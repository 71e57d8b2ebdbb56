"""Run chaos and print the counts. The exit status is 1 if a promise was broken.

python -m tests.chaos --minutes 10 --seed 1 [--world single] [--report docs/chaos.md]
"""

from __future__ import annotations

import argparse
import logging
import random
import signal
import sys
from pathlib import Path
from typing import Any

from . import continuing
from .report import as_markdown, as_table, write_log
from .run import run

_SHARES = {"single": 0.4, "continue": 0.1, "continue-sentinel": 0.1, "sentinel": 0.2, "cluster": 0.2}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10, help="of load, over all worlds")
    parser.add_argument(
        "--seed", type=int, help="the same seed brings the same faults and operations in the same order"
    )
    parser.add_argument("--world", choices=[*_SHARES, "all"], default="all")
    parser.add_argument("--report", type=Path, help="a file of Markdown to write")
    parser.add_argument("--log", type=Path, help="a folder for what was asked, answered and read: a line of JSON each")
    given = parser.parse_args()
    seed = random.randrange(1 << 31) if given.seed is None else given.seed
    command = f"python -m tests.chaos --minutes {given.minutes:g} --seed {seed} --world {given.world}"
    for end in (signal.SIGINT, signal.SIGTERM):
        signal.signal(end, _interrupt)
    logging.getLogger("flask_convstore").addHandler(logging.NullHandler())  # small worlds are in this process
    shares = _SHARES if given.world == "all" else {given.world: 1.0}
    outcomes = []
    for world, share in shares.items():
        print(f"{world}: {given.minutes * share:.1f} minutes, seed {seed}", flush=True)
        seconds = given.minutes * 60 * share
        outcomes.append((continuing.run if world in continuing.WORLDS else run)(world, seconds, seed))
        print(as_table(outcomes[-1]), flush=True)
        if given.log:
            given.log.mkdir(parents=True, exist_ok=True)
            write_log(outcomes[-1], given.log / f"{world}.jsonl")
    print(f"again: {command}")
    if given.report:
        given.report.write_text(as_markdown(outcomes, command))
    return 1 if any(outcome.findings for outcome in outcomes) else 0


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("stopped; nothing is left behind")
