"""Compare this checkout with an earlier one: the same operations in two processes, in turn, each with a server of its own.

python -m benchmarks.trees TREE [--sizes 10 100 1000] [--rounds 40]

TREE is another checkout, such as one that ``git worktree add ../before COMMIT`` makes.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

from tests.servers import running

_HERE = Path(__file__).parents[1]


class _Side(NamedTuple):
    """A worker that runs the package of one checkout: its input, its output, and the names of its operations."""

    input: IO[str]
    output: IO[str]
    names: list[str]

    def measure(self, index: int, calls: int) -> tuple[float, float]:
        """Microseconds of one call, by the clock and of the worker."""
        print(index, calls, file=self.input, flush=True)
        clock, app = self.output.readline().split()
        return float(clock), float(app)


@contextlib.contextmanager
def _side(tree: Path, size: int) -> Iterator[_Side]:
    with running("valkey") as server:
        command = [sys.executable, str(_HERE / "benchmarks" / "tree_worker.py"), server.url, str(size)]
        environment = os.environ | {"PYTHONPATH": str(tree)}
        with subprocess.Popen(
            command, cwd=tree, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as process:
            assert process.stdin
            assert process.stdout
            names = [line.strip() for line in iter(process.stdout.readline, "\n")]
            yield _Side(process.stdin, process.stdout, names)
            process.stdin.close()


def compared(before: Path, size: int, rounds: int) -> Iterator[str]:
    """The rows of the table for sessions of so many messages."""
    with _side(before, size) as old, _side(_HERE, size) as new:
        calls = 25 if size <= 100 else 10
        for index, name in enumerate(new.names):
            for side in (old, new):
                side.measure(index, calls)
            pairs = []
            for number in range(rounds):
                sides = (old, new) if number % 2 else (new, old)
                costs = {side is new: side.measure(index, calls) for side in sides}
                pairs.append((*costs[False], *costs[True]))
            old_clock, old_app, new_clock, new_app = map(statistics.median, zip(*pairs, strict=True))
            figures = f"{old_clock:,.0f} | {new_clock:,.0f} | {new_clock / old_clock:.2f} | {new_app / old_app:.2f}"
            yield f"| {name} | {size:,} | {figures} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tree", type=Path)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10, 100, 1_000])
    parser.add_argument("--rounds", type=int, default=40)
    given = parser.parse_args()
    print("| what | messages | µs before | µs now | ratio | ratio of the app's own time |")
    print("| --- | --- | --- | --- | --- | --- |")
    for size in given.sizes:
        for row in compared(given.tree.resolve(), size, given.rounds):
            print(row, flush=True)


if __name__ == "__main__":
    main()
