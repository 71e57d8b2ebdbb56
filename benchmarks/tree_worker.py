"""One side of ``benchmarks.trees``: runs operations of the package on its path, as often as it is told.

It is run as a file, and imports nothing of the project but the package, so that it runs with any checkout.
"""

from __future__ import annotations

import gc
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import flask
import redis

from flask_convstore import ConversationStore

USER = {"role": "user", "content": "u" * 200}
BOT = {"role": "assistant", "content": "a" * 800}


def operations(app: flask.Flask, store: Any, client: Any, size: int) -> dict[str, Callable[[], object]]:
    """The operations on sessions of *size* messages, by name. Each has a session of its own."""
    history = [USER, BOT] * (size // 2)
    for name in ("append", "turn", "read", "changed", "looked-at", "added-to"):
        store.save_session(f"{name}-{size}", {"history": history, "topic": "x"})
    session = store.get_session(f"changed-{size}")
    count: Iterator[int] = iter(range(10**9))
    http = app.test_client()

    def turn() -> None:
        with store.turn(f"turn-{size}", USER, last=20) as begun:
            begun.reply(BOT)

    def save() -> None:
        session["topic"] = str(next(count))
        store.save_session(f"changed-{size}", session)

    def look() -> None:
        with store.sessions.scope():
            assert store.sessions[f"looked-at-{size}"]["history"]

    def add() -> None:
        with store.sessions.scope():
            found = store.sessions[f"added-to-{size}"]["history"]
            found.append({**USER})
            if len(found) > size + 100:
                del found[:100]

    return {
        "redis-py: HGETALL, the same code on both sides": lambda: client.hgetall("control"),
        "append": lambda: store.append(f"append-{size}", USER, BOT),
        "turn, last 20": turn,
        "read all": lambda: store.get_session(f"read-{size}"),
        "read the last 20": lambda: store.get_session(f"read-{size}", last=20),
        "messages, a page of 50": lambda: store.messages(f"read-{size}"),
        "save a changed field": save,
        "mapping: read all": look,
        "mapping: read all, add one": add,
        "a request without a session": lambda: http.get("/"),
    }


def main(url: str, size: int) -> None:
    """Answer each line ``index calls`` with the microseconds of one call, by the clock and of this process."""
    with tempfile.TemporaryDirectory() as folder:
        app = flask.Flask("bench", instance_path=folder)
        app.config.update(CONVSTORE_URL=url, CONVSTORE_MAX_SESSIONS=0, CONVSTORE_MAX_HISTORY=10**7)
        app.add_url_rule("/", view_func=lambda: "done")
        store = ConversationStore(app)
        client = redis.Redis.from_url(url)
        client.hset("control", mapping={f"field-{number}": "x" * 20 for number in range(10)})
        with app.app_context():
            actions = operations(app, store, client, size)
        print("\n".join(actions), end="\n\n", flush=True)
        with app.app_context():
            _serve([*actions.values()])
            store.close()


def _serve(actions: list[Callable[[], object]]) -> None:
    gc.disable()
    for line in sys.stdin:
        index, calls = map(int, line.split())
        action = actions[index]
        gc.collect()
        used, started = time.process_time(), time.perf_counter()
        for _ in range(calls):
            action()
        elapsed, app = time.perf_counter() - started, time.process_time() - used
        print(elapsed * 1e6 / calls, app * 1e6 / calls, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
