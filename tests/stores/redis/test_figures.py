"""Figures of a server: exact where there are few keys, near enough where there are many, and at a cost that has a bound."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flask_convstore.config import Settings
from flask_convstore.domain.clock import now_ms
from flask_convstore.domain.figures import Counted, PlaceFigures, minute_of
from flask_convstore.domain.trips import TRIPS
from flask_convstore.domain.types import ANY
from flask_convstore.errors import StoreMisconfigured
from flask_convstore.stores.connect import client_of
from flask_convstore.stores.figures import FiguresStore, Portion
from flask_convstore.stores.memory_figures import MemoryFigures
from flask_convstore.stores.redis.calls import PATIENCE
from flask_convstore.stores.redis.cluster import LazyCluster
from flask_convstore.stores.redis.figures import RedisFigures

from ...conftest import SERVERS, server_of
from ...servers import Server
from ...topologies import Cluster, cluster, told

PREFIX = "chat:session:"
PLACES = {"sessions": PREFIX, "chats": f"{PREFIX}conversation:"}
LIFETIME_MS = 600_000


def figures_of(url: str) -> RedisFigures:
    client = client_of(Settings(url=url), None, Path())
    assert client is not None
    return RedisFigures(client, PREFIX, PATIENCE)


def fill(server: Server, first: int, count: int, place: str = PREFIX) -> PlaceFigures:
    """Write sessions as the scripts do, with what lies beside them, and other keys. Return their figures."""
    pipe: Any = server.client.pipeline(transaction=False)
    messages = size = 0
    for number in range(first, first + count):
        key, length = f"{place}{{s{number}}}", number % 40
        facts = {"version": 1, "count": length, "history_bytes": 50 * length, "data_bytes": 7, "owner": ""}
        pipe.hset(key, mapping=facts)
        pipe.set(f"{key}:tokens", 1)
        pipe.set(f"other:{place}{{{number}}}", 1)
        for name in (key, f"{key}:tokens", f"other:{place}{{{number}}}"):
            pipe.pexpire(name, LIFETIME_MS)
        messages, size = messages + length, size + 50 * length + 7
    pipe.execute()
    return PlaceFigures(count, messages, size)


def counted(figures: RedisFigures, owner: Any = ANY) -> tuple[Counted, int]:
    """Count, and tell in how many round trips."""
    before = TRIPS.count
    return figures.count(PLACES, owner), TRIPS.count - before


def test_few_keys_are_counted_exactly(server: Server) -> None:
    there = fill(server, 0, 500)
    chats = fill(server, 0, 20, f"{PREFIX}conversation:")
    notes = fill(server, 0, 30, f"{PREFIX}map:notes:")
    server.client.set(f"{PREFIX}{{no session}}", "text", px=LIFETIME_MS)
    server.client.hset(f"{PREFIX}{{damaged}}", "count", "many")
    server.client.pexpire(f"{PREFIX}{{damaged}}", LIFETIME_MS)
    found, trips = counted(figures_of(server.url))
    assert found == Counted({"sessions": there, "chats": chats, "mapping:notes": notes})
    assert trips <= 6  # the server chooses how many keys a step has


def test_many_keys_are_estimated_in_as_many_round_trips_however_many_they_are(server: Server) -> None:
    figures = figures_of(server.url)
    first = fill(server, 0, 5_000)
    near, trips = counted(figures)
    more = fill(server, 5_000, 15_000)
    whole = PlaceFigures(*(one + other for one, other in zip(first, more, strict=True)))
    far, trips_later = counted(figures)
    assert trips == trips_later == 6
    for found, true in ((near, first), (far, whole)):
        assert not found.is_exact
        assert 0.01 < found.error < 0.04
        told_of = found.places["sessions"]
        assert told_of.alive == pytest.approx(true.alive, rel=4 * found.error)
        # The number of messages of a session varies too, by 0.58 of the mean.
        assert told_of.messages == pytest.approx(true.messages, rel=6 * found.error)
        assert told_of.size == pytest.approx(true.size, rel=6 * found.error)
    server.client.flushall()  # to look at the lifetime of each key takes long


def test_a_sample_without_a_session_proves_nothing(server: Server) -> None:
    pipe: Any = server.client.pipeline(transaction=False)
    for number in range(5_000):
        pipe.set(f"other:{number}", 1, px=LIFETIME_MS)
    pipe.execute()
    found, _ = counted(figures_of(server.url))
    assert (found.places["sessions"], found.is_exact, found.error) == (PlaceFigures(), False, 1.0)


def test_an_owners_sessions_are_found_by_the_index(server: Server) -> None:
    fill(server, 0, 10)
    client: Any = server.client
    for number in range(5):
        client.hset(f"{PREFIX}{{s{number}}}", "owner", "=ada")
    index = f"{PREFIX}owner:{{ada}}"
    client.zadd(
        index, {f"s{number}": 1 for number in (0, 1, 2, 3, 4, 7, 99)}
    )  # another's session, and one that is gone
    client.pexpire(index, LIFETIME_MS)
    found, trips = counted(figures_of(server.url), "ada")
    assert found.places == {"sessions": PlaceFigures(5, 10, 535), "chats": PlaceFigures()}
    assert found.is_exact
    assert trips == 3


def test_an_owner_with_many_sessions_is_estimated(server: Server) -> None:
    client: Any = server.client
    fill(server, 0, 6_000)
    index = f"{PREFIX}owner:{{ada}}"
    pipe = client.pipeline(transaction=False)
    for number in range(6_000):
        pipe.hset(f"{PREFIX}{{s{number}}}", "owner", "=ada")
    pipe.execute()
    client.zadd(index, {f"s{number}": 1 for number in range(9_000)})  # a third of which is gone
    client.pexpire(index, LIFETIME_MS)
    found, trips = counted(figures_of(server.url), "ada")
    assert not found.is_exact
    assert found.places["sessions"].alive == pytest.approx(6_000, rel=4 * found.error)
    assert trips == 3
    client.flushall()  # as above


def test_a_server_that_refuses_is_named(server: Server) -> None:
    told(server, "ACL", "SETUSER", "u", "reset", "on", ">p", "~*", "&*", "+@all", "-dbsize")
    with pytest.raises(StoreMisconfigured, match="dbsize"):
        figures_of(f"redis://u:p@{server.host}:{server.port}/0").count(PLACES)


# ---- sums


@pytest.fixture(params=["memory", *SERVERS])
def kept(request: pytest.FixtureRequest, _servers: dict[str, Server]) -> Iterator[FiguresStore]:
    if request.param == "memory":
        yield MemoryFigures({})
        return
    for server in server_of(request.param, _servers):
        yield figures_of(server.url)


def portion(number: int, process: str = "p", first_ms: int | None = None, **sums: int) -> Portion:
    totals = {name: count for name, count in sums.items() if name in ("started", "deleted")}
    return Portion(process, number, {minute_of(now_ms()): sums}, totals, first_ms)


def test_a_portion_counts_once(kept: FiguresStore) -> None:
    assert kept.totals() == {}
    before = now_ms()
    assert kept.add(portion(1, started=2, ms3=4))
    assert not kept.add(portion(1, started=2, ms3=4))
    kept.note_alive({})
    assert not kept.add(portion(1, "q", started=3))
    assert not kept.add(portion(2, started=1))
    totals = dict(kept.totals())
    assert before - 10_000 < totals.pop("since_ms") < now_ms() + 10_000
    assert totals == {"started": 6, "base": 0}
    [sums] = kept.minutes([minute_of(now_ms())])
    assert {name: sums.get(name) for name in ("started", "ms3", "alive")} == {"started": 6, "ms3": 4, "alive": 0}
    assert kept.minutes([0]) == [{}]


@pytest.mark.parametrize("right", ["hincrby", "hset", "pexpire", "hdel"])
def test_a_portion_that_lacks_a_right_is_refused_whole(server: Server, right: str) -> None:
    """Else its number would be known, and its counts lost."""
    told(server, "ACL", "SETUSER", "u", "reset", "on", ">p", "~*", "&*", "+@all", f"-{right}")
    figures, first = figures_of(f"redis://u:p@{server.host}:{server.port}/0"), portion(1, started=2, first_ms=now_ms())
    with pytest.raises(StoreMisconfigured, match=f"{right.upper()}. Nothing was written"):
        figures.add(first)
    assert figures.totals() == {}
    told(server, "ACL", "SETUSER", "u", f"+{right}")
    figures.add(first)
    assert figures.totals()["started"] == 2


def figures_of_ten(server: Server) -> RedisFigures:
    """Write ten sessions, one created in each second since 1970."""
    fill(server, 0, 10)
    for number in range(10):
        server.client.hset(f"{PREFIX}{{s{number}}}", "created", str(1_000 * number))
    return figures_of(server.url)


def test_sessions_that_are_older_than_any_that_is_counted_are_the_base(server: Server) -> None:
    """Others may have started some of which they have not told yet."""
    figures = figures_of_ten(server)
    figures.add(portion(1, first_ms=7_000, started=2))
    figures.add(portion(1, "q", first_ms=6_000, started=1))
    figures.add(portion(2, "q", first_ms=9_000))
    figures.note_alive(PLACES)
    assert (figures.totals()["first_ms"], figures.totals()["base"]) == (6_000, 6)
    figures.add(portion(2, deleted=3))
    server.client.delete(f"{PREFIX}{{s0}}")
    figures.note_alive(PLACES)
    assert figures.totals()["base"] == 6


def test_who_tells_later_of_sessions_that_came_earlier_has_not_lost_them(server: Server) -> None:
    """They were taken for older than any that is counted, and would count as expired."""
    figures = figures_of_ten(server)
    assert figures.add(portion(1, first_ms=7_000, started=3))
    figures.note_alive(PLACES)
    assert figures.totals()["base"] == 7
    assert figures.add(portion(1, "q", first_ms=6_000, started=1)), "somebody looks again"
    figures.note_alive(PLACES)
    assert figures.totals()["base"] == 6
    assert not figures.add(portion(2, "q", first_ms=8_000, started=1))


def test_sessions_that_were_deleted_before_the_first_look_belong_to_the_base(server: Server) -> None:
    fill(server, 0, 5)
    figures = figures_of(server.url)
    figures.add(portion(1, started=2, deleted=4, first_ms=now_ms()))
    figures.note_alive(PLACES)
    assert figures.totals()["base"] == 7


# ---- a Cluster


@pytest.fixture(scope="module")
def clustered() -> Iterator[Cluster]:
    with cluster() as found:
        yield found


@pytest.mark.server
def test_a_cluster_is_counted_primary_by_primary(clustered: Cluster) -> None:
    figures = figures_of(clustered.url)
    assert isinstance(figures._client, LazyCluster)
    cluster_client = figures._client.get()[0]
    for number in range(300):
        cluster_client.hset(f"{PREFIX}{{s{number}}}", mapping={"count": 2, "history_bytes": 10, "owner": ""})
    found, trips = counted(figures)
    assert found.places["sessions"] == PlaceFigures(300, 600, 3_000)
    assert found.is_exact
    assert trips <= 3 * 4
    pipe = cluster_client.pipeline()
    for number in range(300, 6_000):
        pipe.hset(f"{PREFIX}{{s{number}}}", mapping={"count": 2, "history_bytes": 10, "owner": ""})
        pipe.set(f"other:{number}", 1)
    pipe.execute()
    found, trips = counted(figures)
    assert not found.is_exact
    assert found.places["sessions"].alive == pytest.approx(6_000, rel=4 * found.error)
    assert trips <= 3 * 5


@pytest.mark.server
def test_a_portion_counts_once_in_a_cluster(clustered: Cluster) -> None:
    figures = figures_of(clustered.url)
    assert figures.add(portion(1, started=2))
    figures.note_alive(PLACES)
    assert not figures.add(portion(1, started=2))
    assert figures.totals()["started"] == 2
