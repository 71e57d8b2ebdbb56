"""Time of an append by layer: the same write from each layer downwards, in turn, in one run.

python -m benchmarks.layers [--report docs/performance.md]
"""

from __future__ import annotations

import argparse
import gc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import hiredis
import redis

from flask_convstore.domain.commands import Append, new_token
from flask_convstore.stores.redis.calls import Calls
from flask_convstore.stores.redis.store import RedisStore
from tests.servers import Server, programs

from .by_hand import Floor
from .library import BOT, USER, app_with_store
from .measure import Action, Cost, cost, median, put

_ROUNDS, _CALLS = 60, 40


def layers(server: Server) -> dict[str, Cost]:
    """Cost of an append of two messages from each layer, the floor first, then the lowest layer."""
    client: Any = redis.Redis(port=server.port)
    floor = Floor(client)
    with app_with_store(server.url, MAX_SESSIONS=0, MAX_HISTORY=10**7) as (_, store):
        store.save_session("s", {"history": [USER, BOT] * 5})
        stores = [store._access().backend.store]
        while hasattr(stores[-1], "_store"):
            stores.append(stores[-1]._store)
        redis_store = stores[-1]
        assert isinstance(redis_store, RedisStore)
        command, call, packet = _seen(redis_store, lambda: store.append("s", USER, BOT))
        calls, token = redis_store._calls, call.arguments.index(command.token)
        pool = calls._pool
        connection = pool.get_connection()
        reader = hiredis.Reader()

        def packed() -> bytes:
            parts = list(packet)
            parts[packet.index(command.token)] = new_token()
            return bytes(_pack(tuple(parts)))

        def by_socket() -> Any:
            connection._sock.sendall(packed())
            while True:
                reader.feed(connection._sock.recv(65536))
                reply = reader.gets()
                if reply is not False:
                    return reply

        def by_calls() -> Any:
            arguments = (*call.arguments[:token], new_token(), *call.arguments[token + 1 :])
            return calls.call(call._replace(arguments=arguments))

        actions: dict[str, Action] = {
            "the floor, by redis-py": lambda: floor.append("f", USER, BOT),
            "our script, over a bare socket": by_socket,
            "… over a connection (`connections`)": lambda: connection.exchange(packed(), 1),
            "… by a call: pool, budget, nonce, retries (`redis_calls`)": by_calls,
            "… as a command (`redis_store`)": lambda: redis_store.apply(replace(command, token=new_token())),
            "… through the stores around it": lambda: stores[0].apply(replace(command, token=new_token())),
            "`convstore.append`": lambda: store.append("s", USER, BOT),
        }
        found = dict(_measured(server, actions))
        pool.release(connection)
    client.close()
    return found


_pack: Any = hiredis.pack_command  # says itself that it takes one argument only


def _seen(store: RedisStore, append: Action) -> tuple[Append, Any, tuple[Any, ...]]:
    """The command, the call and the packet that an append becomes."""
    append()  # connects, and brings the script
    seen: dict[str, Any] = {}
    apply, call, over = RedisStore.apply, Calls.call, Calls._over

    def apply_seen(self: RedisStore, command: Any) -> Any:
        seen["command"] = command
        return apply(self, command)

    def call_seen(self: Calls, found: Any, *queries: Any) -> Any:
        seen["call"] = found
        return call(self, found, *queries)

    def over_seen(self: Calls, pool: Any, commands: Any, deadline: float) -> Any:
        seen["packet"] = tuple(commands[0])
        return over(self, pool, commands, deadline)

    with (
        patch.object(RedisStore, "apply", apply_seen),
        patch.object(Calls, "call", call_seen),
        patch.object(Calls, "_over", over_seen),
    ):
        append()
    return seen["command"], seen["call"], seen["packet"]


def _measured(server: Server, actions: dict[str, Action]) -> Iterator[tuple[str, Cost]]:
    costs: dict[str, list[Cost]] = {name: [] for name in actions}
    for action in actions.values():
        for _ in range(_CALLS):
            action()
    gc.collect()
    gc.disable()
    try:
        for _ in range(_ROUNDS):
            for name, action in actions.items():
                costs[name].append(cost(server.client, action, _CALLS))
    finally:
        gc.enable()
    for name, found in costs.items():
        yield name, median(tuple(found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--report", type=Path, help="write the figures into this Markdown file, between its marks")
    given = parser.parse_args()
    server = Server(programs()["valkey"])
    try:
        found = layers(server)
    finally:
        server.stop()
    lines = ["| an append of two messages | µs | x floor | app + server |", "| --- | --- | --- | --- |"]
    whole = next(iter(found.values())).clock
    lines += [
        f"| {name} | {cost.clock:.0f} | {cost.clock / whole:.2f} | {cost.app:.0f} + {cost.server:.0f} |"
        for name, cost in found.items()
    ]
    text = "\n".join(lines)
    print(text)
    if given.report:
        put(given.report, "layers", text)


if __name__ == "__main__":
    main()
