"""What each operation costs, against what people write by hand, as ratios of one run.

    python -m benchmarks.bench [--quick] [--report docs/performance.md] [--json FILE]

The exit status is 1 where a target is missed. The server is a Valkey without persistence on 127.0.0.1, reached by TCP.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import flask
import orjson
import redis

from flask_convstore import ConversationStore
from tests.servers import Server, programs
from tests.wire import Proxy

from .by_hand import Blob, Floor
from .http_bench import http_results
from .measure import Result, compare, table

SIZES = (10, 100, 1_000, 10_000)
USER = {"role": "user", "content": "u" * 200}
BOT = {"role": "assistant", "content": "a" * 800}
_MEMORY_TARGET = 1.2


def app_of(url: str, folder: str, **settings: Any) -> tuple[flask.Flask, ConversationStore]:
    app = flask.Flask("bench", instance_path=folder)
    app.config.update(CONVSTORE_URL=url, **{f"CONVSTORE_{name}": text for name, text in settings.items()})
    return app, ConversationStore(app)


def library_results(server: Server, sizes: tuple[int, ...], rounds: int) -> Iterator[Result]:
    """Every operation of the library at every size."""
    client = redis.Redis(port=server.port)
    floor, blob = Floor(client), Blob(client)
    with tempfile.TemporaryDirectory() as folder:
        app, store = app_of(server.url, folder, MAX_SESSIONS=0, MAX_HISTORY=10**7)
        with app.app_context():
            for size in sizes:
                yield from _at_size(store, floor, blob, client, size, rounds)


def _at_size(
    store: ConversationStore, floor: Floor, blob: Blob, client: Any, size: int, rounds: int
) -> Iterator[Result]:
    client.flushall()
    history = [USER, BOT] * (size // 2)
    for name in ("a", "t", "s", "m"):
        store.save_session(name, {"history": history, "topic": "x"}, ttl=3600)
        floor.append(name, *history)
    store.save_session("o", {"history": history}, owner="alice")
    measure = partial(compare, rounds=rounds)
    yield measure(
        "append", size, "floor", lambda: store.append("a", USER, BOT), lambda: floor.append("a", USER, BOT), 1.25
    )
    owned = partial(store.append, "o", USER, BOT, owner="alice")
    yield measure("append, with an owner", size, "floor", owned, lambda: floor.append("a", USER, BOT), 1.40)
    if size <= 1_000:
        name = blob.start()
        blob.append(name, *history)
        yield measure(
            "append", size, "blob", lambda: store.append("a", USER, BOT), lambda: blob.append(name, USER, BOT), calls=5
        )

    def turn() -> None:
        with store.turn("t", USER, last=20) as begun:
            begun.reply(BOT)

    yield measure("turn, last 20", size, "floor", turn, lambda: floor.turn("t", USER, BOT), 1.25)
    few = max(2, 2_000 // size)
    reading = partial(measure, calls=min(25, few))
    yield reading("read all", size, "pipeline", lambda: store.get_session("s"), lambda: floor.read("s"), 1.10)
    yield reading(
        "read the last 20", size, "pipeline", lambda: store.get_session("s", last=20), lambda: floor.read("s", 20)
    )
    yield reading("messages, a page of 50", size, "pipeline", lambda: store.messages("s"), lambda: floor.read("s", 50))
    session: Any = store.get_session("m")
    count = iter(range(10**9))

    def save() -> None:
        session["topic"] = str(next(count))
        store.save_session("m", session)

    yield reading("save a changed field", size, "floor's append", save, lambda: floor.append("m", USER))


def memory(server: Server, size: int = 1_000) -> float:
    """Bytes in the server for each byte of JSON, tokens included."""
    client: Any = server.client
    client.flushall()
    with tempfile.TemporaryDirectory() as folder:
        app, store = app_of(server.url, folder)
        with app.app_context():
            store.save_session("s", {"history": []})
            for _ in range(size // 2):
                store.append("s", USER, BOT)
        used = sum(client.memory_usage(key, samples=0) for key in client.scan_iter("*{s}*"))
    return float(used) / (size // 2 * (len(orjson.dumps(USER)) + len(orjson.dumps(BOT))))


def trips(server: Server) -> list[tuple[str, int, int, int]]:
    """Round trips and bytes, counted on the wire: exact."""
    counted = []
    with Proxy(("127.0.0.1", server.port)) as proxy, tempfile.TemporaryDirectory() as folder:
        app, store = app_of(proxy.url, folder)
        app.register_blueprint(store.blueprint)
        with app.app_context():
            store.save_session("s", {"history": [USER, BOT] * 500})

            def turn() -> None:
                with store.turn("s", USER, last=20) as begun:
                    begun.reply(BOT)

            for name, action in (
                ("append 2 messages to 1,000", lambda: store.append("s", USER, BOT)),
                ("turn, last 20 of 1,000", turn),
                ("read the last 20", lambda: store.get_session("s", last=20)),
                ("start a session", lambda: store.save_session("new", {"history": []})),
                ("start an owner's session", lambda: store.save_session("mine", {"history": []}, owner="alice")),
            ):
                for _ in range(2):
                    proxy.reset()
                    action()
                    time.sleep(0.01)
                counted.append((name, proxy.round_trips, proxy.sent, proxy.received))
            store.close()
    return counted


def import_ms() -> float:
    """What importing the package takes beside Flask and redis-py, which an app has anyway."""
    code = (
        "import flask, redis, redis.cluster, redis.sentinel, time; began = time.perf_counter(); "
        "import flask_convstore; print(time.perf_counter() - began)"
    )
    command = [sys.executable, "-c", code]
    times = [float(subprocess.run(command, capture_output=True, check=True).stdout) for _ in range(5)]
    return sorted(times)[2] * 1000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes, few rounds")
    parser.add_argument("--report", type=Path, help="write the figures into this Markdown file, between its marks")
    parser.add_argument("--json", type=Path, help="write the figures into this file")
    given = parser.parse_args()
    sizes, rounds = (SIZES[:2], 10) if given.quick else (SIZES, 40)
    server = Server(programs()["valkey"])
    try:
        results = list(library_results(server, sizes, rounds))
        results += http_results(server, seconds=1.0 if given.quick else 4.0)
        facts = [f"| {name} | {count} | {sent:,} | {received:,} |" for name, count, sent, received in trips(server)]
        used, loading = memory(server), import_ms()
        version = server.client.info("server").get("valkey_version")
    finally:
        server.stop()
    programs_used = f"Valkey {version}, Python {platform.python_version()}, redis-py {redis.__version__}"
    made = f"`make bench`, {date.today()}, {programs_used}"
    heads = ["| counted on the wire | round trips | bytes sent | bytes received |", "| --- | --- | --- | --- |"]
    is_small = used <= _MEMORY_TARGET
    rest = (
        f"Memory in the server: {used:.2f} x the JSON of messages of 200 and 800 characters, tokens included (target "
    )
    rest += f"{_MEMORY_TARGET:.2f}{'' if is_small else ', **missed**'}). Importing the package: {loading:.0f} ms."
    text = "\n".join([f"{made}, 2 shared cores:\n", table(results), "", *heads, *facts, "", rest])
    print(text)
    if given.json:
        given.json.write_text(json.dumps([found.as_dict() for found in results], indent=1))
    if given.report:
        before, _, rest = given.report.read_text("utf-8").partition("<!-- bench -->")
        after = rest.partition("<!-- /bench -->")[2]
        given.report.write_text(f"{before}<!-- bench -->\n{text}\n<!-- /bench -->{after}", "utf-8")
    return 0 if all(found.is_met for found in results) and is_small else 1


if __name__ == "__main__":
    sys.exit(main())
