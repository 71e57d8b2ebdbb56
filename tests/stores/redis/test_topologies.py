"""A Cluster and Sentinels: the same promises, and no error while a primary fails over or a slot moves."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis
from redis.cluster import RedisCluster

from flask_convstore import ANY, ConversationStore, Message, Receipt, StoreMisconfigured, StoreUnavailable
from flask_convstore.config import Settings, limits_of
from flask_convstore.domain.commands import Put
from flask_convstore.domain.deadlines import OPERATION
from flask_convstore.errors import ConfigurationError
from flask_convstore.stores.connect import connect_cluster, patience_of
from flask_convstore.stores.redis.cluster import ClusterCalls
from flask_convstore.stores.redis.store import RedisStore
from flask_convstore.urls import masked

from ...conftest import check_lifetimes
from ...processes import wait_for
from ...service import Service, problem
from ...topologies import cluster, is_whole, sentinels, told

pytestmark = pytest.mark.server


def used(service: Service) -> None:
    """Every kind of call."""
    store = service.convstore
    for number in range(12):  # of several slots
        session_id = f"s{number}"
        session: Any = store.save_session(session_id, {"n": 0, "history": ["a"]}, owner="alice" if number % 2 else None)
        store.append(session_id, Message("b"), data={"x": 1}, token="T")
        assert store.append(session_id, Message("b"), data={"x": 1}, token="T").repeated
        session["n"] = 1
        store.save_session(session_id, session)
        with store.turn(session_id, Message("c")) as turn:
            assert turn.history == ["a", "b", "c"]
            turn.reply("d")
        assert store.touch(session_id)
    assert {summary.session_id for summary in store.list_sessions(owner="alice").sessions} == {
        f"s{number}" for number in range(1, 12, 2)
    }
    found, cursor = set(), None
    while True:
        page = store.list_sessions(owner=ANY, cursor=cursor, limit=5)
        found |= {summary.session_id for summary in page.sessions}
        cursor = page.next
        if cursor is None:
            break
    assert found == {f"s{number}" for number in range(12)}
    assert set(store.sessions) == found
    resolved = store.resolve("telegram:1", create=True)
    new = store.compact(resolved.session_id, "sum")
    again = store.resolve("telegram:1")
    assert again is not None
    assert again.session_id == new.session_id
    store.save_message("ada", "user", "hi")
    assert len(store.get_conversation("ada")) == 1
    assert store.delete_session("s0")
    assert store.get_session("s0") is None
    assert store.health().connected


def test_a_cluster_does_what_one_server_does() -> None:
    with cluster() as found:
        service = Service(found.url)
        with service.app.app_context():
            used(service)
            for server in found.primaries:
                check_lifetimes(server.client)
                assert server.client.dbsize() > 0
                server.client.script_flush()
            service.convstore.append("s1", Message("still"))
            assert isinstance(service.convstore.client, RedisCluster)
            service.convstore.close()
            service.convstore.append("s1", Message("and still"))


@pytest.mark.parametrize(("owner", "trips_to_index"), [("ada", 1), (None, 3)])
def test_a_page_costs_a_trip_for_the_index_and_one_to_each_node(
    monkeypatch: pytest.MonkeyPatch, owner: str | None, trips_to_index: int
) -> None:
    with cluster() as found:
        service = Service(found.url)
        with service.app.app_context():
            for number in range(30):
                service.convstore.save_session(f"s{number}", {}, owner=owner)
            trips = []
            over = ClusterCalls._over

            def counted(calls: ClusterCalls, pool: Any, *given: Any) -> Any:
                trips.append(pool)
                return over(calls, pool, *given)

            service.convstore.list_sessions(owner=owner)  # which makes the list
            first = {f"s{number}": [Message("a")] for number in range(30)}
            service.convstore.append_many(first, owner=owner)  # which teaches the script
            monkeypatch.setattr(ClusterCalls, "_over", counted)
            assert len(service.convstore.list_sessions(limit=50, owner=owner).sessions) == 30
            assert len(trips) == trips_to_index + 3
            trips.clear()
            again = {f"s{number}": [Message("b")] for number in range(30)}
            landed = service.convstore.append_many(again, owner=owner)
            assert all(isinstance(answer, Receipt) for answer in landed.values())
            assert len(trips) == 3


def test_sessions_without_an_owner_are_spread_over_the_primaries() -> None:
    """Each primary has its third of the keys and of the scripts, to within a tenth. One index would be one primary's."""
    with cluster() as found:
        service = Service(found.url)
        with service.app.app_context():
            for number in range(1_000):
                service.convstore.save_session(f"chat {number}", {"history": []})
                service.convstore.append(f"chat {number}", Message("a"))
            keys = [server.client.dbsize() for server in found.primaries]
            told: list[Any] = [server.client.info("commandstats") for server in found.primaries]
            scripts = [sum(said[name]["calls"] for name in said if name.startswith("cmdstat_eval")) for said in told]
            for shares in (keys, scripts):
                assert all(abs(share / sum(shares) * 3 - 1) < 0.1 for share in shares), (keys, scripts)
            walked = [summary.session_id for page in pages(service) for summary in page]
            assert sorted(walked) == sorted(f"chat {number}" for number in range(1_000))


def pages(service: Service) -> Iterator[Any]:
    """All sessions without an owner, page by page."""
    cursor = None
    while True:
        page = service.convstore.list_sessions(cursor=cursor, owner=None, order="active")
        yield page.sessions
        cursor = page.next
        if cursor is None:
            return


def test_a_cluster_client_of_ones_own() -> None:
    from flask import Flask

    with cluster() as found:
        client = RedisCluster(host="127.0.0.1", port=found.primaries[0].port)
        app = Flask("own")
        convstore = ConversationStore(app, client=client)
        with app.app_context():
            convstore.save_session("s", {"n": 1})
            assert convstore.get_session("s") == {"n": 1}
        client.close()


class Load:
    """Writers that never stop, and what came of it."""

    def __init__(self, service: Service, sessions: int = 6) -> None:
        self._service = service
        self._go_on = True
        self.acknowledged: dict[str, list[str]] = {f"load{number}": [] for number in range(sessions)}
        self.errors: list[Exception] = []
        self._threads = [threading.Thread(target=self._write, args=(name,)) for name in self.acknowledged]

    def _write(self, session_id: str) -> None:
        with self._service.app.app_context():
            store = self._service.convstore
            number = 0
            while self._go_on:
                try:
                    store.append(session_id, Message(f"{number}"))
                    self.acknowledged[session_id].append(f"{number}")
                    number += 1
                    if number % 5 == 0:
                        store.get_session(session_id, last=3)
                        store.list_sessions(limit=5)
                        store.list_sessions(limit=5, owner=None)
                except Exception as error:
                    self.errors.append(error)
                    number += 1

    def during(self, what: Callable[[], None], more: int = 50) -> None:
        with self._service.app.app_context():
            for session_id in self.acknowledged:
                self._service.convstore.save_session(session_id, [])
        for thread in self._threads:
            thread.start()
        try:
            self._wait_for_more(20)
            what()
            self._wait_for_more(more)
        finally:
            self._go_on = False
            for thread in self._threads:
                thread.join()

    def _wait_for_more(self, count: int) -> None:
        before = {name: len(done) for name, done in self.acknowledged.items()}
        wait_for(
            lambda: self.errors or all(len(done) >= before[name] + count for name, done in self.acknowledged.items()),
            "the load does not go on",
            60,
        )
        assert self.errors == []

    def check(self) -> None:
        assert self.errors == []
        with self._service.app.app_context():
            for session_id, acknowledged in self.acknowledged.items():
                assert self._service.convstore.get_session(session_id) == acknowledged


@pytest.mark.parametrize("durability", ["primary", "replicas:1"])
def test_a_primary_that_is_killed_costs_no_error(durability: str) -> None:
    """kill -9 under load, node timeout 500 ms, default settings. What only the primary had may be lost, and is not here:
    the last write before it was killed is repeated with its token."""
    with cluster(with_replicas=True) as found:
        service = Service(found.url, DURABILITY=durability)
        load = Load(service)
        victim = found.primaries[1]

        def kill() -> None:
            victim.process.kill()
            victim.process.wait()

        if durability != "primary":
            # The killed primary's replica takes over, and has none itself.
            load.during(lambda: None)
            load.check()
            return
        load.during(kill)
        assert load.errors == []


def test_slots_that_move_under_load_cost_no_error() -> None:
    with cluster() as found:
        service = Service(found.url)
        load = Load(service)
        source, target = found.primaries[0], found.primaries[2]

        def move() -> None:
            keys = [key for server in found.primaries for key in server.client.scan_iter(match="*load*")]
            slots = sorted({told(source, "CLUSTER", "KEYSLOT", key) for key in keys})
            for slot in [slot for slot in slots if found.primary_of(slot) is source]:
                found.move(slot, source, target, found.primaries[1])

        load.during(move)
        load.check()


def test_a_fail_over_by_sentinels() -> None:
    with sentinels() as found:
        service = Service(found.url, BUDGET=15, RETRIES=100)
        load = Load(service, sessions=3)

        def kill() -> None:
            found.primary.process.kill()
            found.primary.process.wait()

        load.during(kill)
        assert load.errors == []
        assert found.replica.client.info("replication")["role"] == "master"


def test_sentinels_with_a_password() -> None:
    with sentinels("s/e:cret") as found:
        service = Service(f"{found.url}?sentinel_password=s%2Fe%3Acret")
        session_id = service.start()
        found.primary.client.config_set("requirepass", "its own")  # beside that of the Sentinels
        hosts = found.url.partition("://")[2]
        both = Service(f"redis+sentinel://:its%20own@{hosts}?sentinel_password=s%2Fe%3Acret")
        assert both.client.get(f"/sessions/{session_id}").status_code == 200
        for query in ("", "?sentinel_password=another"):
            with pytest.raises(StoreMisconfigured, match="sentinel_password") as caught:
                refused = Service(f"{found.url}{query}")
                with refused.app.app_context():
                    refused.convstore.save_session("s", {"history": []})
            assert "another" not in str(caught.value)


def test_a_primary_that_comes_back_empty_is_not_believed() -> None:
    """A replica by now, without its data yet, and the Sentinels have not heard of that: it knows of no session."""
    with sentinels() as found:
        service = Service(found.url, BUDGET=1, DURABILITY="replicas:1", FALLBACK="none")
        session_id = service.start()
        for port in found.ports:
            with redis.Redis(port=port) as sentinel:
                told: Any = sentinel
                told.execute_command("SENTINEL", "SET", "mymaster", "down-after-milliseconds", "60000")
        found.primary.kill()
        found.primary.start("--replicaof", f"127.0.0.1 {found.replica.port}")
        for answer in (
            service.client.get(f"/sessions/{session_id}"),
            service.client.post(f"/sessions/{session_id}/messages", json={"content": "hi"}),
        ):
            assert problem(answer, 503, "unavailable")["written"] is False


def test_a_silent_cluster_ends_with_the_budget() -> None:
    """Every node is stopped, also for those who wait until another thread has asked for the topology. What was sent to a
    node may be written, whoever answers afterwards."""
    with cluster() as found:
        service = Service(found.url, BUDGET=1, COMMAND_TIMEOUT=0.6)
        with service.app.app_context():
            for number in range(8):
                service.convstore.save_session(f"s{number}", [])
                service.convstore.list_sessions(limit=5, owner=None)

        def call(number: int) -> tuple[float, bool | None]:
            started = time.monotonic()
            with service.app.app_context(), pytest.raises(StoreUnavailable) as caught:
                service.convstore.append(f"s{number}", Message("a"))
            return time.monotonic() - started, caught.value.written

        for server in found.primaries:
            server.process.send_signal(signal.SIGSTOP)
        try:
            with ThreadPoolExecutor(8) as pool:
                ended = list(pool.map(call, range(8)))
            assert max(seconds for seconds, _ in ended) < 1.3
            assert {written for _, written in ended} == {None}
        finally:
            for server in found.primaries:
                server.process.send_signal(signal.SIGCONT)


def test_a_primary_that_stands_still_takes_no_time_from_the_others_of_a_batch() -> None:
    with cluster() as found:
        for server in found.primaries:
            told(server, "CONFIG", "SET", "cluster-require-full-coverage", "no")
        service = Service(found.url, BUDGET=2)
        names = [f"s{number}" for number in range(30)]
        with service.app.app_context():
            for name in names:
                service.convstore.save_session(name, [])
            service.convstore.append_many({name: [Message("a")] for name in names})
            place_of = service.convstore._access().store.place_of
        for stopped in found.primaries:
            stopped.process.send_signal(signal.SIGSTOP)
            try:
                with service.app.app_context():
                    landed = service.convstore.append_many({name: [Message("b")] for name in names})
            finally:
                stopped.process.send_signal(signal.SIGCONT)
            away = {name for name, answer in landed.items() if isinstance(answer, StoreUnavailable)}
            assert {place_of(name) for name in away} == {f"127.0.0.1:{stopped.port}"}
            wait_for(lambda: is_whole(found), "the cluster does not come up again")


def test_an_index_that_is_away_holds_up_the_sessions_of_its_owners_only() -> None:
    with cluster() as found:
        for server in found.primaries:
            told(server, "CONFIG", "SET", "cluster-require-full-coverage", "no")
        settings = Settings(url=found.url, budget=2, max_sessions=0)
        store = RedisStore(connect_cluster(settings), "c:", limits_of(settings), patience_of(settings))
        stopped = found.primaries[0]
        made = [
            Put(session_id=f"s{number}", owner=f"o{number}", mode="create", shape="full", token=f"{number}")
            for number in range(60)
        ]
        store.apply_each(made[:30])  # it knows the nodes then
        late = [one for one in made[30:] if store.place_of(one.session_id) == f"127.0.0.1:{found.primaries[1].port}"]
        stopped.process.send_signal(signal.SIGSTOP)
        try:
            with OPERATION.within(2):
                answers = store.apply_each(late)
        finally:
            stopped.process.send_signal(signal.SIGCONT)
        for one, answer in zip(late, answers, strict=True):
            index_place = store._calls.place_of(f"c:owner:{{{one.owner}}}")
            assert isinstance(answer, StoreUnavailable) == (index_place == f"127.0.0.1:{stopped.port}")
        assert {type(answer) for answer in answers} == {Receipt, StoreUnavailable}
        store.close()


def test_nobody_there() -> None:
    for url in ("redis+cluster://127.0.0.1:1,127.0.0.1:2", "redis+sentinel://127.0.0.1:1/mymaster"):
        service = Service(url, BUDGET=1)
        with service.app.app_context(), pytest.raises(StoreUnavailable) as caught:
            service.convstore.get_session("s")
        assert caught.value.is_down


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("redis+cluster://", "hosts and ports"),
        ("redis+cluster://h1:x", "hosts and ports"),
        ("redis+cluster://h1:7000/3", "one database"),
        ("redis+sentinel://h1:26379", "name of the primary"),
        ("redis+sentinel://h1:26379/mymaster/x", "name of the primary"),
    ],
)
def test_a_url_that_cannot_be_is_explained(url: str, problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        Settings(url=url)


def test_passwords_of_several_hosts_are_masked() -> None:
    url = "rediss+cluster://user:secret@h1:7000,h2:7001/0"
    assert masked(url) == "rediss+cluster://user:***@h1:7000,h2:7001/0"
    Settings(url="rediss+sentinel://:secret@h1,[::1]:26380/my-master/2")
