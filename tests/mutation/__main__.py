"""Change the code in a small place, and see whether a test notices. One room after the other, in a copy of the checkout.

python -m tests.mutation --room sessions [--sample 100] [--seed 1] [--report docs/mutation.md]
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..processes import end_all_in
from . import lua_room, python_rooms
from .findings import PAGE, row, unexplained, with_row
from .rooms import LUA, ROOMS, Room

ROOT = Path(__file__).parents[2]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--room", choices=["all", *ROOMS], default="all")
    parser.add_argument("--sample", type=int, default=0, help="how many mutants of each room; 0: all of them")
    parser.add_argument("--seed", type=int, default=1, help="of the sample")
    parser.add_argument("--report", type=Path, help="write the figures into this Markdown file, between its marks")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(2))  # nothing stays behind
    missed = 0
    for room in ROOMS.values() if given.room == "all" else [ROOMS[given.room]]:
        missed += tried(room, given.sample, given.seed, given.report)
    return 1 if missed else 0


def tried(room: Room, sample: int, seed: int, report: Path | None) -> int:
    """Try mutants of a room, and count the survivors that docs/mutation.md does not explain."""
    with copied() as (copy, environment):
        run = lua_room.mutants if room is LUA else python_rooms.mutants
        mutants, total = run(room, copy, sample, seed, environment)
    page = (report or PAGE).read_text("utf-8")
    command = f"make mutate ROOM={room.name}" + (f" SAMPLE={sample} SEED={seed}" if sample else "")
    line = row(room.name, mutants, total, command)
    missed = unexplained(mutants, page)
    print(line, *missed, sep="\n", flush=True)
    if report:
        report.write_text(with_row(page, line), "utf-8")
    return len(missed)


@contextmanager
def copied() -> Iterator[tuple[Path, dict[str, str]]]:
    """A copy of the checkout as it is, and the environment for it. Both go afterwards, with the processes in them."""
    folder = Path(tempfile.mkdtemp(prefix="mu-"))
    try:
        command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
        for name in filter(None, listed.split("\0")):
            if (ROOT / name).is_file():
                (folder / "copy" / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, folder / "copy" / name)
        (folder / "tmp").mkdir()
        yield folder / "copy", {**os.environ, "TMPDIR": str(folder / "tmp")}
    finally:
        end_all_in(folder)
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
