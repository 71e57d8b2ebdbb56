"""Play a JSON Lines file of conversations through the HTTP endpoints, read every session back, compare everything.

Each line is an object with ``history`` (messages with ``role`` and ``content``) and any other fields. The app runs under
gunicorn with 2 workers on a real Valkey, several conversations at a time. Prints counts, and exits with 1 on any difference.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote

import click

from ..gunicorn import die_with_parent
from .app import RECORDING, is_reply, read

T = TypeVar("T")

AT_A_TIME = 8
SECONDS_TO_START = 20
_ENVELOPE = ("id", "seq", "created_at", "metadata", "status")


class Client:
    """JSON over HTTP, one kept connection per thread."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._kept = threading.local()

    def call(self, method: str, path: str, body: object = None) -> Any:
        """Give the answer's JSON, or raise RuntimeError if its status is no success."""
        if not hasattr(self._kept, "connection"):
            self._kept.connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        connection: http.client.HTTPConnection = self._kept.connection
        sent = None if body is None else json.dumps(body)
        connection.request(method, path, sent, {"Content-Type": "application/json"} if sent else {})
        answer = connection.getresponse()
        text = answer.read()
        if answer.status >= 300:
            raise RuntimeError(f"{method} {path}: {answer.status} {text.decode(errors='replace')[:300]}")
        return json.loads(text)


def play(client: Client, line: int, recorded: dict[str, Any]) -> str:
    """Start a session for a recorded conversation, write all messages that are no replies, and give its id."""
    session_id: str = client.call("POST", "/sessions", {"data": {RECORDING: line, **fields_of(recorded)}})["session_id"]
    history = recorded["history"]
    for index, message in enumerate(history):
        if is_reply(history, index):
            continue
        metadata = {key: value for key, value in message.items() if key not in ("role", "content")}
        body = {"role": message["role"], "content": message["content"], **({"metadata": metadata} if metadata else {})}
        reply = client.call("POST", f"/sessions/{session_id}/messages", body)["reply"]
        if (reply is not None) != is_reply(history, index + 1):
            raise RuntimeError(f"message {index} got {'a' if reply else 'no'} reply")
    return session_id


def fields_of(recorded: dict[str, Any]) -> dict[str, Any]:
    """The data fields of a recorded conversation."""
    return {key: value for key, value in recorded.items() if key not in ("session_id", "history")}


class Compared(NamedTuple):
    """The number of messages of a session, and each difference as a sentence."""

    messages: int
    differences: list[str]


def compare(client: Client, line: int, recorded: dict[str, Any], session_id: str) -> Compared:
    """Pairs of stored and recorded values, field by field and message by message."""
    stored = client.call("GET", f"/sessions/{session_id}")
    differences = []
    if stored["data"] != {RECORDING: line, **fields_of(recorded)}:
        differences.append(f"line {line}: the data fields differ")
    if len(stored["history"]) != len(recorded["history"]) or stored["message_count"] != len(recorded["history"]):
        differences.append(f"line {line}: {len(stored['history'])} messages, {len(recorded['history'])} were recorded")
    for index, (message, original) in enumerate(zip(stored["history"], recorded["history"], strict=False)):
        body = {key: value for key, value in message.items() if key not in _ENVELOPE}
        if {**body, **message.get("metadata", {})} != original or message["seq"] != index + 1:
            differences.append(f"line {line}: message {index} differs")
    return Compared(len(stored["history"]), differences)


@contextlib.contextmanager
def service(file: Path, data: Path) -> Iterator[Client]:
    """A client of the app, which runs under gunicorn on an embedded Valkey in the folder *data*."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"embedded://{quote(str(data.resolve()))}"
    environment = {
        **os.environ,
        "CONVSTORE_URL": url,
        "REPLAY_FILE": str(file.resolve()),
        "PORT": str(port),
        "QUIET": "1",
    }
    command = [sys.executable, "-m", "gunicorn", "-c", "examples/gunicorn.py", "examples.replay.app:create_app()"]
    server = subprocess.Popen(command, env=environment, preexec_fn=die_with_parent, start_new_session=True)
    try:
        _wait_until_open(port, server)
        yield Client(port)
    finally:
        server.terminate()
        server.wait()


def _wait_until_open(port: int, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + SECONDS_TO_START
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            if server.poll() is not None or time.monotonic() > deadline:
                sys.exit("the app does not come up; see above")
            time.sleep(0.05)


def run(label: str, jobs: Sequence[Callable[[], T]]) -> list[T | Exception]:
    """Run *jobs*, several at a time, with a progress bar. Give their results in order, or the exception of a failed job."""
    results: list[T | Exception] = []
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        futures = [pool.submit(job) for job in jobs]
        with click.progressbar(as_completed(futures), length=len(futures), label=label, file=sys.stderr) as done:
            for _ in done:
                pass
    for future in futures:
        error = future.exception()
        results.append(error if isinstance(error, Exception) else future.result())
    return results


def replay(client: Client, recordings: list[dict[str, Any]], kept: Path) -> list[str]:
    """Play all conversations and keep their sessions' ids in the file *kept*. Give each fault as a sentence."""
    jobs = [partial(play, client, line, recorded) for line, recorded in enumerate(recordings)]
    results = run(f"{'playing':10}", jobs)
    kept.write_text(json.dumps([None if isinstance(result, Exception) else result for result in results]))
    return [f"line {line}: {result}" for line, result in enumerate(results) if isinstance(result, Exception)]


def read_back(
    client: Client, recordings: list[dict[str, Any]], session_ids: list[str | None]
) -> tuple[int, int, list[str]]:
    """The number of stored sessions and messages, and the differences from the recordings."""
    pairs = zip(recordings, session_ids, strict=True)
    jobs = [partial(compare, client, line, recorded, sid) for line, (recorded, sid) in enumerate(pairs) if sid]
    results = run(f"{'comparing':10}", jobs)
    compared = [result for result in results if isinstance(result, Compared)]
    differences = [difference for result in compared for difference in result.differences]
    differences += [str(result) for result in results if isinstance(result, Exception)]
    return len(compared), sum(result.messages for result in compared), differences


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--check-only", action="store_true", help="read back what an earlier run left")
    parser.add_argument("--data", type=Path, default=Path(".replay"), help="the folder for the sessions (.replay)")
    arguments = parser.parse_args()
    recordings = read(arguments.file)
    kept = arguments.data / f"{arguments.file.stem}.sessions.json"
    if arguments.check_only and not kept.exists():
        sys.exit(f"{kept} is not there: play the file first, without --check-only")
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # as Ctrl-C: end the app first
    arguments.data.mkdir(parents=True, exist_ok=True)
    with service(arguments.file, arguments.data / "valkey") as client:
        differences = [] if arguments.check_only else replay(client, recordings, kept)
        sessions, messages, found = read_back(client, recordings, json.loads(kept.read_text()))
    differences += found
    for difference in differences[:20]:
        print(difference)
    print(f"{sessions:,} sessions, {messages:,} messages, {len(differences):,} differences")
    sys.exit(1 if differences or sessions != len(recordings) else 0)


if __name__ == "__main__":
    main()
