"""The speed of streamed replies: from the handler to the client, for one reader and for many.

python -m benchmarks.streaming [--quick] [--report docs/performance.md]

All of it runs on one machine: the workers, the server, and the clients, which are one process.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import platform
import re
import resource
import selectors
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from tests.processes import children
from tests.servers import Server, free_port, running

from .measure import put

_APP = "benchmarks.streaming_app:create_app"
_GUNICORN = "gunicorn --workers 1 --log-level critical --timeout 120 --worker-connections 2500 --bind 127.0.0.1:{port}"
_WAITRESS = "waitress --listen 127.0.0.1:{port}"
WORKERS = {
    "gthread": f"{_GUNICORN} --worker-class gthread --threads 1100 {_APP}()",
    "gevent": f"{_GUNICORN} --worker-class gevent {_APP}()",
    "waitress": f"{_WAITRESS} --call {_APP}",
    "waitress --threads 200": f"{_WAITRESS} --threads 200 --call {_APP}",
    "waitress with room": (f"{_WAITRESS} --threads 1100 --connection-limit 2500 --asyncore-use-poll --call {_APP}"),
    "flask run": f"flask --app {_APP}() run --port {{port}}",
}
"""The commands that start a worker of each kind. gunicorn and the last waitress have room for a thousand followers."""
_TIME = re.compile(rb"(\d+\.\d{6}) ")


class Line(NamedTuple):
    """One figure.

    Attributes:
        target: The bound that the figure keeps, and True if it is the highest one allowed. None: it is only told.
    """

    what: str
    figure: float
    unit: str
    target: tuple[float, bool] | None = None

    @property
    def is_met(self) -> bool:
        if self.target is None:
            return True
        bound, is_highest = self.target
        return self.figure <= bound if is_highest else self.figure >= bound

    def shown(self) -> str:
        target = ""
        if self.target is not None:
            target = f"{'at most' if self.target[1] else 'at least'} {self.target[0]:g}"
        missed = "" if self.is_met else " **missed**"
        figure = f"{self.figure:,.0f}" if self.figure >= 100 else f"{self.figure:.3g}"
        return f"| {self.what} | {figure} {self.unit} | {target}{missed} |"


class App(NamedTuple):
    """A worker that serves the app."""

    port: int
    pid: int


@contextlib.contextmanager
def serving(server: Server, kind: str) -> Iterator[App]:
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "CONVSTORE_URL": server.url, "INSTANCE": folder}
        command = [sys.executable, "-m", *WORKERS[kind].format(port=port).split()]
        quiet = subprocess.DEVNULL  # some tell of each request
        process = subprocess.Popen(
            command, cwd=Path(__file__).parent.parent, env=environment, stdout=quiet, stderr=quiet
        )
        try:
            deadline = time.monotonic() + 20
            while True:
                with contextlib.suppress(OSError):
                    worker = asked(port, "GET", "/pid")["pid"]
                    break
                assert time.monotonic() < deadline, "the app does not come up"
                time.sleep(0.05)
            yield App(port, worker)
        finally:
            for pid in (process.pid, *children(process.pid)):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, 9)
            process.wait(20)


def asked(port: int, method: str, path: str, body: Any = None) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request(method, path, json.dumps(body), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    found = json.loads(answer.read())
    connection.close()
    assert answer.status in (200, 201), found
    return found


class Request(NamedTuple):
    """A request for a stream."""

    method: str
    path: str
    body: Any = None
    owner: str = ""

    def sent(self) -> bytes:
        body = b"" if self.body is None else json.dumps(self.body).encode()
        head = f"{self.method} {self.path} HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n"
        head += f"X-Owner: {self.owner}\r\n\r\n" if self.owner else "\r\n"
        return head.encode() + body


class Readers:
    """Many clients in one thread. They read as fast as bytes come.

    Attributes:
        latencies: Seconds from the time that a chunk holds to its arrival.
        begun: Number of clients that have got something.
    """

    def __init__(self, port: int, requests: Sequence[Request]) -> None:
        self.latencies: list[float] = []
        self.begun = 0
        self._selector = selectors.DefaultSelector()
        self._open = 0
        for request in requests:
            connection = socket.create_connection(("127.0.0.1", port))
            connection.sendall(request.sent())
            connection.setblocking(False)
            self._selector.register(connection, selectors.EVENT_READ, [b"", False])
            self._open += 1

    def read(self, seconds: float, *, until_begun: bool = False, since: float = 0.0) -> None:
        """Read for so long, or until all have ended, or have begun.

        Args:
            since: Chunks that were given before are not counted.
        """
        deadline = time.perf_counter() + seconds
        while self._open and time.perf_counter() < deadline:
            for key, _ in self._selector.select(0.05):
                self._read(key, since)
            if until_begun and self.begun >= self._open:
                return

    def _read(self, key: selectors.SelectorKey, since: float) -> None:
        connection: Any = key.fileobj
        piece = connection.recv(1 << 16)
        now = time.perf_counter()
        if not piece:
            self._selector.unregister(connection)
            connection.close()
            self._open -= 1
            return
        rest, has_begun = key.data
        if not has_begun and b"data: " in piece:
            key.data[1] = True
            self.begun += 1
        lines = rest + piece
        given = [float(text) for text in _TIME.findall(lines)]
        key.data[0] = lines[lines.rfind(b" ") + 1 :][-64:]
        self.latencies += [now - at for at in given if at > since]

    def close(self) -> None:
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
        self._selector.close()


def percentile(values: Sequence[float], part: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * part))]


def blocked(server: Server) -> int:
    """Number of subscribed connections."""
    return sum(1 for client in server.client.client_list() if int(client["sub"]) > 0)


def rss_kib(pid: int) -> int:
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1])  # type: ignore[index]


def delivery(server: Server, kind: str, followers: int, seconds: float, target: float | None) -> list[Line]:
    """Followers of as many streams that another worker makes, a thousand chunks a second in all."""
    pause = followers / 1000
    lines = []
    with serving(server, "gthread") as producing, serving(server, kind) as app:
        chunks = int((seconds + 6 + followers / 100) / pause)
        begun = asked(producing.port, "POST", "/begin", {"streams": followers, "chunks": chunks, "pause": pause})
        requests = [Request("GET", f"/sessions/{name}/replies/{turn}") for name, turn in begun]
        before = rss_kib(app.pid)
        readers = Readers(app.port, requests)
        readers.read(30, until_begun=True)
        assert readers.begun == followers, readers.begun
        readers.read(2)
        readers.latencies.clear()
        used = _seconds_of(app.pid)
        readers.read(seconds, since=time.perf_counter())
        used = _seconds_of(app.pid) - used
        here = blocked(server)
        found = readers.latencies
        memory = (rss_kib(app.pid) - before) / followers
        readers.close()
    name = f"{followers:,} followers of {followers:,} streams, {kind}"
    bound = (target, True) if target else None
    lines.append(Line(f"{name}: p95 from produced to delivered", percentile(found, 0.95) * 1000, "ms", bound))
    lines.append(Line(f"{name}: median", statistics.median(found) * 1000, "ms"))
    lines.append(Line(f"{name}: p99", percentile(found, 0.99) * 1000, "ms"))
    lines.append(Line(f"{name}: subscribed connections of both workers", here, "", (1, True)))
    lines.append(Line(f"{name}: chunks delivered", len(found) / seconds, "a second", (800, False)))
    lines.append(Line(f"{name}: processor of the worker", used / seconds * 100, "%"))
    lines.append(Line(f"{name}: memory for each", memory, "KiB"))
    return lines


def _seconds_of(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def same_worker(server: Server, kind: str, followers: int, seconds: float) -> list[Line]:
    """As many turns, whose replies are made by the worker that is asked."""
    pause = followers / 1000
    with serving(server, kind) as app:
        names = [asked(app.port, "POST", "/sessions", {})["session_id"] for _ in range(followers)]
        content = json.dumps({"chunks": int((seconds + 6) / pause), "pause": pause})
        readers = Readers(
            app.port, [Request("POST", f"/sessions/{name}/messages", {"content": content}) for name in names]
        )
        readers.read(30, until_begun=True)
        readers.read(2)
        readers.latencies.clear()
        readers.read(seconds, since=time.perf_counter())
        readers.close()
    p95 = percentile(readers.latencies, 0.95) * 1000
    return [Line(f"{followers:,} replies made and read in one worker, {kind}: p95", p95, "ms")]


def first_chunk(server: Server, rounds: int) -> list[Line]:
    """The first chunk of a reply, in turn with that of a bare generator: a busy machine slows down both."""
    asked_for = {"chunks": 2, "wait": 0.02, "pause": 0.2}
    with serving(server, "gthread") as app:
        ours: list[float] = []
        theirs: list[float] = []
        for _ in range(rounds):
            name = asked(app.port, "POST", "/sessions", {})["session_id"]
            request = Request("POST", f"/sessions/{name}/messages", {"content": json.dumps(asked_for)})
            for found, wanted in ((ours, request), (theirs, Request("POST", "/bare", asked_for))):
                readers = Readers(app.port, [wanted])
                readers.read(10)
                found.append(readers.latencies[0] * 1000)
    return [
        Line("first chunk, from the handler to the client: median", statistics.median(ours), "ms"),
        Line("first chunk: p95", percentile(ours, 0.95), "ms", (10, True)),
        Line("first chunk of a bare generator: median", statistics.median(theirs), "ms"),
        Line("first chunk of a bare generator: p95", percentile(theirs, 0.95), "ms"),
    ]


def throughput(server: Server, chunks: int, rounds: int) -> list[Line]:
    """One reader of one stream of many small chunks, in turn with a bare generator, and the trips that it took."""
    ours, theirs, trips = [], [], []
    asked_for = {"chunks": chunks, "text": "token "}
    with serving(server, "gthread") as app:
        for _ in range(rounds + 1):
            name = asked(app.port, "POST", "/sessions", {})["session_id"]
            body = {"content": json.dumps(asked_for)}
            before = _evals(server)
            ours.append(_read_all(app.port, Request("POST", f"/sessions/{name}/messages", body)))
            trips.append(_evals(server) - before)
            theirs.append(_read_all(app.port, Request("POST", "/bare", asked_for)))
    ratio = statistics.median(theirs[1:]) / statistics.median(ours[1:])
    return [
        Line(f"one stream of {chunks:,} chunks", chunks / statistics.median(ours[1:]), "chunks/s"),
        Line("the same chunks of a bare generator", chunks / statistics.median(theirs[1:]), "chunks/s"),
        Line("ratio of both", ratio, "", (0.8, False)),
        Line(f"round trips for {chunks:,} chunks", max(trips), "", (chunks / 10, True)),
    ]


def _evals(server: Server) -> int:
    return sum(
        found["calls"]
        for name, found in server.client.info("commandstats").items()
        if name.lower() in ("cmdstat_evalsha", "cmdstat_eval")
    )


def _read_all(port: int, request: Request) -> float:
    connection = socket.create_connection(("127.0.0.1", port))
    started = time.perf_counter()
    connection.sendall(request.sent())
    while connection.recv(1 << 16):
        pass
    connection.close()
    return time.perf_counter() - started


def with_sockets() -> None:
    """Allow this process, and those that it starts, as many sockets as a thousand followers take."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 8192)), hard))


def table(lines: list[Line]) -> str:
    return "\n".join(["| what | figure | target |", "| --- | --- | --- |", *(line.shown() for line in lines)])


def write(page: Path, mark: str, command: str, lines: list[Line]) -> None:
    """Write the figures into *page*, with the command that has found them."""
    programs = f"Python {platform.python_version()}, gunicorn {version('gunicorn')}, gevent {version('gevent')}"
    put(page, mark, f"`{command}`, {date.today()}, {programs}, 2 shared cores:\n\n{table(lines)}")


def main() -> int:
    parser = argparse.ArgumentParser(description="The speed of streamed replies.")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    parser.add_argument("--report", type=Path, help="a page that gets the figures")
    parser.add_argument("--only", default="", help="part of a name of what is measured")
    options = parser.parse_args()
    with_sockets()
    seconds, rounds = (4.0, 3) if options.quick else (15.0, 7)
    with running("valkey", "--maxclients", "5000") as server:
        parts: dict[str, Any] = {
            "first": lambda: first_chunk(server, 20 if options.quick else 100),
            "throughput": lambda: throughput(server, 20_000, rounds),
            "gthread-200": lambda: delivery(server, "gthread", 200, seconds, 15),
            "gthread-500": lambda: delivery(server, "gthread", 500, seconds, 40),
            "gevent-200": lambda: delivery(server, "gevent", 200, seconds, 15),
            "gevent-500": lambda: delivery(server, "gevent", 500, seconds, 40),
            "gevent-1000": lambda: delivery(server, "gevent", 1000, seconds, None),
            "gthread-1000": lambda: delivery(server, "gthread", 1000, seconds, None),
            "flask-200": lambda: delivery(server, "flask run", 200, seconds, None),
            "same-200": lambda: same_worker(server, "gthread", 200, seconds),
            "same-gevent-200": lambda: same_worker(server, "gevent", 200, seconds),
        }
        lines: list[Line] = []
        for name, measured in parts.items():
            if options.only in name:
                found = measured()
                print(*(line.shown() for line in found), sep="\n", flush=True)
                lines += found
                server.client.flushall()
    if options.report:
        write(options.report, "streaming", "python -m benchmarks.streaming", lines)
    return 0 if all(line.is_met for line in lines) else 1


if __name__ == "__main__":
    sys.exit(main())
