"""Shares of a request under gunicorn: of gunicorn, Flask, redis-py and each room of ours, by samples and by instructions.

    python -m benchmarks.profile [--seconds 10] [--report docs/performance.md]

Samples are taken by py-spy, 500 times a second, of the thread that handles requests. Instructions are those of Python's own
machine, counted by ``sys.settrace`` in one request. They do not depend on the machine's speed, and do not show work in C. A
frame of the standard library belongs to whoever called it. The worker is gunicorn's ``sync``, and has one client.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date
from pathlib import Path
from types import FrameType
from typing import Any

from gunicorn.workers.sync import SyncWorker  # type: ignore[import-untyped]

from tests.servers import Server, running

from .http_bench import MESSAGE, Ask, asked, serving
from .measure import put

_RATE = 500
_WARM_UP = 20
"""Requests of each kind before those that are measured."""
_NOTES = "PROFILE_NOTES"
"""Environment variable: the file in which a worker notes the instructions of each request, a line each."""

_HANDLING = "SyncWorker.handle "
_WAITING = ("_HiredisParser.read_from_socket", "_RESP2Parser.read_from_socket")
_OURS = "flask_convstore"
_FOLDERS = {
    "gunicorn": ("gunicorn",),
    "Flask and Werkzeug": ("flask", "werkzeug", "blinker", "itsdangerous", "markupsafe"),
    "redis-py": ("redis", "hiredis"),
    "marshmallow": ("marshmallow", "apispec"),
    "the app": ("benchmarks",),
}
"""Folders of code by those whose they are."""
_WHOSE = {folder: whose for whose, folders in _FOLDERS.items() for folder in folders}


def owner_of(path: str) -> str | None:
    """Name whose a file of code is, with the room of ours. None: it belongs to whoever called it."""
    folders = path.split("/")
    for folder, inner in zip(folders, [*folders[1:], ""], strict=True):
        if folder == _OURS:
            return f"ours: `{inner.removesuffix('.py')}`"
        if folder in _WHOSE:
            return _WHOSE[folder]
    return None


class CountingWorker(SyncWorker):  # type: ignore[misc]
    """A sync worker of gunicorn that notes the instructions of each request, by whose code they are."""

    def handle(self, *arguments: Any) -> None:
        counts: Counter[str] = Counter()
        sys.settrace(_counting(counts, "gunicorn"))
        try:
            super().handle(*arguments)
        finally:
            sys.settrace(None)
        with open(os.environ[_NOTES], "a") as notes:
            notes.write(f"{json.dumps(counts)}\n")


def _counting(counts: Counter[str], caller: str) -> Callable[[FrameType, str, Any], Any]:
    """Make a trace function that counts the instructions of a frame, and of those that it calls."""

    def enter(frame: FrameType, _event: str, _argument: Any) -> Any:
        whose = caller_of(frame, caller)
        frame.f_trace_lines, frame.f_trace_opcodes = False, True

        def count(_frame: FrameType, event: str, _argument: Any) -> Any:
            counts[whose] += event == "opcode"
            return count

        return count

    return enter


def caller_of(frame: FrameType | None, otherwise: str) -> str:
    """Name whose the nearest frame is that belongs to somebody."""
    while frame is not None:
        whose = owner_of(frame.f_code.co_filename)
        if whose:
            return whose
        frame = frame.f_back
    return otherwise


def instructions(server: Server) -> list[Counter[str]]:
    """Count the instructions of one request of each kind."""
    with tempfile.NamedTemporaryFile() as notes:
        options = ["--worker-class", "benchmarks.profile.CountingWorker"]
        with serving(server, options, **{_NOTES: notes.name}) as (port, _):
            for ask in _asks(port):
                for _ in range(_WARM_UP):
                    asked(port, ask)
        lines = Path(notes.name).read_text().splitlines()
    return [Counter(json.loads(line)) for line in (lines[-_WARM_UP - 1], lines[-1])]


def samples(server: Server, seconds: int) -> list[Counter[str]]:
    """Take samples of a worker for so many seconds of requests of each kind."""
    with serving(server, ["--worker-class", "sync"]) as (port, worker):
        return [_sampled(port, worker, ask, seconds) for ask in _asks(port)]


def _sampled(port: int, worker: int, ask: Ask, seconds: int) -> Counter[str]:
    for _ in range(_WARM_UP):
        asked(port, ask)
    is_over = threading.Event()

    def go_on() -> None:
        while not is_over.is_set():
            asked(port, ask)

    client = threading.Thread(target=go_on)
    client.start()
    try:
        with tempfile.NamedTemporaryFile() as found:
            command = ["py-spy", "record", "--pid", str(worker), "--rate", str(_RATE), "--duration", str(seconds)]
            command += ["--format", "raw", "--full-filenames", "--output", found.name]
            subprocess.run(
                [str(Path(sys.executable).with_name(command[0])), *command[1:]], check=True, capture_output=True
            )
            return _counted(Path(found.name).read_text().splitlines())
    finally:
        is_over.set()
        client.join()


def _counted(stacks: Iterable[str]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for line in stacks:
        frames, _, count = line.rpartition(" ")
        if _HANDLING in frames:
            counts[_whose(frames.split(";"))] += int(count)
    return counts


def _whose(frames: list[str]) -> str:
    """Name whose a sample is, whose *frames* are written as ``name (path:line)``, the outermost first."""
    if frames[-1].startswith(_WAITING):
        return "waiting for the server"
    files = (frame.rpartition("(")[2].partition(":")[0] for frame in reversed(frames))
    return next(filter(None, map(owner_of, files)), "others")


def _asks(port: int) -> Iterator[Ask]:
    """A turn, then a read of the last 20 messages, of a session that has more."""
    name = asked(port, Ask("POST", ["/sessions"], "{}"))["session_id"]
    yield Ask("POST", [f"/sessions/{name}/messages"], MESSAGE)
    yield Ask("GET", [f"/sessions/{name}?last=20"])


def table(found: Mapping[str, Counter[str]]) -> str:
    """The shares of each column, those with the most instructions or samples first."""
    whole = {name: counts.total() for name, counts in found.items()}
    shares = {
        whose: [100 * found[name][whose] / whole[name] for name in found] for whose in set().union(*found.values())
    }
    lines = ["| whose | " + " | ".join(found) + " |", "| --- |" + " --- |" * len(found)]
    for whose, row in sorted(shares.items(), key=lambda item: (item[0].startswith("ours"), -sum(item[1]))):
        lines.append(f"| {whose} | " + " | ".join(f"{share:.1f} %" for share in row) + " |")
    ours = [
        sum(row[column] for whose, row in shares.items() if whose.startswith("ours")) for column in range(len(found))
    ]
    lines.append("| **all that is ours** | " + " | ".join(f"**{share:.1f} %**" for share in ours) + " |")
    lines.append("| in all | " + " | ".join(f"{count:,}" for count in whole.values()) + " |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=10, help="of samples, for each kind of request")
    parser.add_argument("--report", type=Path, help="write the table into this Markdown file, between its marks")
    given = parser.parse_args()
    with running("valkey") as server:
        counted, sampled = instructions(server), samples(server, given.seconds)
        version = server.client.info("server").get("valkey_version")
    kinds = ("`POST …/messages`", "`GET …?last=20`")
    columns = [f"{kind}, {by}" for by in ("samples", "instructions") for kind in kinds]
    found = dict(zip(columns, [*sampled, *counted], strict=True))
    programs = f"Valkey {version}, Python {platform.python_version()}"
    made = f"`make profile`, {date.today()}, {programs}, a sync worker of gunicorn, 2 shared cores:"
    text = f"{made}\n\n{table(found)}"
    print(text)
    if given.report:
        put(given.report, "profile", text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
