"""Cost of a page of an owner's sessions. Neither its time nor its round trips may grow with their number.

    python -m benchmarks.lists

Owners with more and more sessions are measured in turn, on one server. A proxy counts the round trips. The times are without
it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial

import redis

from flask_convstore.config import Settings, limits_of
from flask_convstore.domain.commands import Put
from flask_convstore.domain.results import Page
from flask_convstore.stores.redis.store import RedisStore
from tests.servers import Server, running
from tests.wire import Proxy

from .measure import Comparing, Result, table

OWNED = (100, 10_000, 100_000)
LIMIT = 50
ROUNDS = 60
_LIMITS = limits_of(Settings(max_sessions=0))


def list_results(server: Server, owned: tuple[int, ...], rounds: int) -> Iterator[Result]:
    """A page of those who own more, against the same page of who owns the least."""
    store = RedisStore(server.client, "b:", _LIMITS)
    compare = Comparing(server.client, rounds)
    places = {}
    for count in owned:
        fill(server.client, store, f"owner of {count}", count)
        places[count] = cursors(store, f"owner of {count}", count)
    least = owned[0]
    for count in owned[1:]:
        for part, cursor in places[count].items():
            ours = partial(page, store, f"owner of {count}", cursor)
            theirs = partial(page, store, f"owner of {least}", places[least][part])
            case, against = f"list: {part} page of {count:,}", f"of {least:,}"
            yield compare(case, 0, against, ours, theirs, 1.10, calls=5)


def fill(client: redis.Redis, store: RedisStore, owner: str, count: int) -> None:
    """Give *owner* so many sessions: one as the store makes it, then copies of its keys, an interaction a second."""
    save = Put(session_id=f"{owner} 0", owner=owner, mode="create", shape="full")
    store.apply(save)
    key = store._keys(f"{owner} 0")[0]
    known, index = client.dump(key), store._index._index(owner, "").active
    assert known is not None
    now = time.time_ns() // 1_000_000
    for start in range(0, count, 5000):
        with client.pipeline(transaction=False) as pipe:
            for number in range(start, min(start + 5000, count)):
                pipe.restore(store._keys(f"{owner} {number}")[0], 86_400_000, known, replace=True)
                pipe.zadd(index, {f"{owner} {number}": now - 1000 * number})
            pipe.execute()


def cursors(store: RedisStore, owner: str, count: int) -> dict[str, str | None]:
    """The cursors of the first, the middle and the last page of *owner*."""
    index = store._index._index(owner, "").active
    found: dict[str, str | None] = {"first": None}
    for part, rank in (("middle", count // 2), ("last", count - LIMIT)):
        (((_, score),),) = store._index._scored([("ZREVRANGE", index, rank - 1, rank - 1, "WITHSCORES")])
        found[part] = str(score)
    return found


def page(store: RedisStore, owner: str, cursor: str | None) -> Page:
    found = store.page(owner, cursor, LIMIT, newest_first=True)
    assert len(found.sessions) == LIMIT, len(found.sessions)
    return found


def main() -> None:
    with running("valkey") as server, Proxy(("127.0.0.1", server.port)) as proxy:
        print(f"pages of {LIMIT}, medians of {ROUNDS} rounds, interleaved\n")
        print(table(list(list_results(server, OWNED, ROUNDS))))
        counted = RedisStore(redis.Redis.from_url(proxy.url), "b:", _LIMITS)
        page(counted, f"owner of {OWNED[0]}", None)
        for count in OWNED:
            proxy.reset()
            page(counted, f"owner of {count}", None)
            print(f"{proxy.round_trips} round trips at {count:,}")


if __name__ == "__main__":
    main()
