"""What a page of an owner's sessions costs: its time must not grow with their number, nor its round trips.

    python -m benchmarks.lists

Owners with more and more sessions are measured in turn, on one server; round trips are counted by a proxy, and the times are
without it.
"""

from __future__ import annotations

import statistics
import time

import redis

from flask_convstore.config import Settings
from flask_convstore.conversations import limits_of
from flask_convstore.models import Page, Rewrite, Save
from flask_convstore.redis_store import RedisStore
from tests.servers import running
from tests.wire import Proxy

OWNED = (100, 10_000, 100_000)
LIMIT = 50
ROUNDS = 300
_PARTS = ("first", "middle", "last")


def fill(client: redis.Redis, store: RedisStore, owner: str, count: int) -> None:
    """Give *owner* so many sessions: one as the store makes it, then copies of its keys, an interaction a second."""
    save = Save(session_id=f"{owner} 0", owner=owner, mode="create", shape="full", fields=(), history=Rewrite(0, ()))
    store.apply(save)
    key = store._keys(f"{owner} 0")[0]
    known, index = client.dump(key), store._index._key(owner)
    assert known is not None
    now = time.time_ns() // 1_000_000
    for start in range(0, count, 5000):
        with client.pipeline(transaction=False) as pipe:
            for number in range(start, min(start + 5000, count)):
                pipe.restore(store._keys(f"{owner} {number}")[0], 86_400_000, known, replace=True)
                pipe.zadd(index, {f"{owner} {number}": now - 1000 * number})
            pipe.execute()


def cursors(store: RedisStore, owner: str, count: int) -> dict[str, str | None]:
    """Where the first, the middle and the last page of *owner* begin."""
    index = store._index._key(owner)
    found: dict[str, str | None] = {"first": None}
    for part, rank in (("middle", count // 2), ("last", count - LIMIT)):
        ((_, score),) = store._index._scored("ZREVRANGE", index, rank - 1, rank - 1, "WITHSCORES")
        found[part] = str(score)
    return found


def page(store: RedisStore, owner: str, cursor: str | None) -> Page:
    found = store.page(owner, cursor, LIMIT, newest_first=True)
    assert len(found.sessions) == LIMIT, len(found.sessions)
    return found


def main() -> None:
    limits = limits_of(Settings(max_sessions=0))
    with running("valkey") as server, Proxy(("127.0.0.1", server.port)) as proxy:
        store = RedisStore(server.client, "b:", limits)
        counted = RedisStore(redis.Redis.from_url(proxy.url), "b:", limits)
        places = {}
        for count in OWNED:
            owner = f"owner of {count}"
            fill(server.client, store, owner, count)
            places[count] = cursors(store, owner, count)
        taken: dict[tuple[int, str], list[float]] = {(count, part): [] for count in OWNED for part in _PARTS}
        for _ in range(ROUNDS):
            for (count, part), times in taken.items():
                started = time.perf_counter()
                page(store, f"owner of {count}", places[count][part])
                times.append(time.perf_counter() - started)
        print(
            f"a page of {LIMIT}, medians of {ROUNDS}, interleaved; in brackets as a multiple of {OWNED[0]} sessions\n"
        )
        print("| sessions | round trips | " + " | ".join(f"{part} page" for part in _PARTS) + " |")
        print("| --- | --- | " + "--- | " * len(_PARTS))
        for count in OWNED:
            page(counted, f"owner of {count}", None)
            proxy.reset()
            page(counted, f"owner of {count}", places[count]["middle"])
            cells = []
            for part in _PARTS:
                median = statistics.median(taken[count, part])
                ratio = median / statistics.median(taken[OWNED[0], part])
                cells.append(f"{median * 1000:.2f} ms ({ratio:.2f})")
            print(f"| {count:,} | {proxy.round_trips} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
