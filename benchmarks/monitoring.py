"""Cost of metrics, traces and figures: a turn in an app that has them, against one in an app that has not.

python -m benchmarks.monitoring [--rounds 60]

Without these settings nothing stands around a store: ``python -m benchmarks.frames`` counts the frames.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
from typing import Any

from flask import Flask

from flask_convstore import ConversationStore
from tests.servers import running

from .library import USER, app_with_store
from .measure import Action, Comparing, table

_KINDS: dict[str, dict[str, Any]] = {
    "no setting, twice": {},
    "`METRICS`": {"METRICS": True},
    "`TRACING`, and no provider": {"TRACING": True},
    "`FIGURES`": {"FIGURES": True},
    "metrics and traces": {"METRICS": True, "TRACING": True},
}
_TURNS_OF_A_SESSION = 20


def _turn(app: Flask, store: ConversationStore) -> Action:
    """A turn over HTTP, in a new session now and then."""
    store.reply(lambda turn: "Hello yourself")
    client, numbers = app.test_client(), itertools.count()
    session_id = ""

    def act() -> None:
        nonlocal session_id
        if next(numbers) % _TURNS_OF_A_SESSION == 0:
            session_id = client.post("/sessions", json={}).get_json()["session_id"]
        answered = client.post(f"/sessions/{session_id}/messages", json={"content": USER["content"]})
        assert answered.status_code == 201, answered.text

    return act


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=60)
    rounds = parser.parse_args().rounds
    with running("valkey") as server, contextlib.ExitStack() as apps:
        compare = Comparing(server.client, rounds)
        plain = _turn(*apps.enter_context(app_with_store(server.url)))
        results = [
            compare("a turn", 0, name, _turn(*apps.enter_context(app_with_store(server.url, **settings))), plain)
            for name, settings in _KINDS.items()
        ]
    print(table(results))


if __name__ == "__main__":
    main()
