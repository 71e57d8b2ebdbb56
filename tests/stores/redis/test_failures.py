"""Every row of the table of failures, caused for real: its kind, what it says of the write, whether the server is down."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from flask_convstore.config import Settings, limits_of
from flask_convstore.domain.commands import Append, BeginTurn, Put
from flask_convstore.domain.deadlines import OPERATION
from flask_convstore.domain.messages import join_element
from flask_convstore.domain.types import ANY
from flask_convstore.errors import ConvstoreError, CorruptValue, StoreMisconfigured, StoreUnavailable, TooSlow
from flask_convstore.stores.connect import connect, connect_cluster, patience_of
from flask_convstore.stores.redis.connections import Line, line_of
from flask_convstore.stores.redis.failures import FAILURES, classify
from flask_convstore.stores.redis.store import RedisStore
from flask_convstore.urls import is_cluster

from ...clocks import least_seconds
from ...processes import wait_for
from ...servers import Server, free_port, programs, running
from ...topologies import cluster, sentinels, told
from ...wire import Proxy, speaking

pytestmark = pytest.mark.server

ELEMENT = join_element(1, b'"x"')


def store_at(url: str, **settings: Any) -> RedisStore:
    chosen = Settings(
        url=url, **{"retries": 0, "command_timeout": 0.5, "connect_timeout": 0.5, "budget": 2, **settings}
    )
    client = connect_cluster(chosen) if is_cluster(url) else connect(chosen, Path())
    store = RedisStore(client, chosen.prefix, limits_of(chosen), patience_of(chosen))
    store._calls._is_verified = "u:" not in url  # as if it had written before
    return store


def save(store: RedisStore, *elements: bytes) -> None:
    store.apply(Put(session_id="s", owner=ANY, mode="replace", shape="full", elements=elements))


@contextlib.contextmanager
def prepared(*options: str) -> Iterator[Server]:
    """A server with a session that knows all scripts."""
    with running("valkey", *options) as server:
        store = store_at(server.url)
        save(store, ELEMENT)
        store.apply(Append(session_id="s", owner=ANY, elements=(ELEMENT,)))
        store.load("s", ANY)
        yield server


@contextlib.contextmanager
def nobody_there() -> Iterator[RedisStore]:
    yield store_at(f"redis://127.0.0.1:{free_port()}/0")


@contextlib.contextmanager
def silent_address() -> Iterator[RedisStore]:
    """Asking for a connection gets no answer, since the queue is full."""
    with contextlib.ExitStack() as stack:
        busy = stack.enter_context(socket.socket())
        busy.bind(("127.0.0.1", 0))
        busy.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(busy.getsockname())
        yield store_at(f"redis://127.0.0.1:{busy.getsockname()[1]}/0")


@contextlib.contextmanager
def stopped() -> Iterator[RedisStore]:
    with prepared() as server:
        server.process.send_signal(signal.SIGSTOP)
        try:
            yield store_at(server.url)
        finally:
            server.process.send_signal(signal.SIGCONT)


@contextlib.contextmanager
def killed_in_between() -> Iterator[RedisStore]:
    with prepared() as server:
        store = store_at(server.url)
        store.load("s", ANY)
        server.process.kill()
        server.process.wait()
        yield store


def cut(*faults: Any) -> Callable[[], Any]:
    @contextlib.contextmanager
    def broken() -> Iterator[RedisStore]:
        with prepared() as server, Proxy(("127.0.0.1", server.port)) as proxy:
            store = store_at(proxy.url)
            store.load("s", ANY)
            proxy.faults = list(faults)
            yield store

    return broken


@contextlib.contextmanager
def loading() -> Iterator[RedisStore]:
    with prepared() as server:
        filler = server.client.pipeline()
        for number in range(3000):
            filler.set(f"filler:{number}", number, px=1_000_000)
        filler.execute()
        server.client.save()
        command = [str(programs()["valkey"]), "--bind", "127.0.0.1", "--port", str(free := free_port()), "--dir"]
        command += [str(server.folder), "--key-load-delay", "5000", "--loading-process-events-interval-bytes", "1024"]
        slow = subprocess.Popen([*command, "--save", "", "--logfile", str(server.folder / "slow")])
        client = redis.Redis(port=free, retry=Retry(NoBackoff(), 0))
        try:
            wait_for(lambda: says(client, redis.BusyLoadingError), "it does not load slowly")
            yield store_at(f"redis://127.0.0.1:{free}/0")
        finally:
            client.close()
            slow.kill()
            slow.wait()


def says(client: Any, error: type[Exception]) -> bool:
    try:
        client.get("x")
    except error:
        return True
    except redis.RedisError:
        return False
    return False


def configured(**settings: Any) -> Callable[[], Any]:
    @contextlib.contextmanager
    def refusing() -> Iterator[RedisStore]:
        with prepared() as server:
            for name, value in settings.items():
                server.client.config_set(name.replace("_", "-"), value)
            yield store_at(server.url)

    return refusing


@contextlib.contextmanager
def failing_disk() -> Iterator[RedisStore]:
    with prepared("--enable-protected-configs", "yes") as server:
        gone = server.folder / "gone"
        gone.mkdir()
        server.client.config_set("dir", str(gone))
        gone.rmdir()
        server.client.config_set("save", "3600 1")
        server.client.bgsave()
        wait_for(lambda: server.client.info("persistence")["rdb_last_bgsave_status"] == "err", "the disk does not fail")
        yield store_at(server.url)
        server.client.config_set("save", "")
        server.client.config_set("dir", str(server.folder))


@contextlib.contextmanager
def busy() -> Iterator[RedisStore]:
    with prepared("--busy-reply-threshold", "10") as server:
        runner = redis.Redis(port=server.port)

        def run() -> None:
            with contextlib.suppress(redis.ResponseError):
                runner.eval("while true do end", 0)

        thread = threading.Thread(target=run)
        thread.start()
        asking = redis.Redis(port=server.port)
        wait_for(lambda: says(asking, redis.ResponseError), "it is not busy")
        asking.close()
        yield store_at(server.url)
        server.client.script_kill()
        thread.join()
        runner.close()


@contextlib.contextmanager
def replica() -> Iterator[RedisStore]:
    with prepared() as primary, running("valkey") as server:
        server.client.replicaof("127.0.0.1", primary.port)
        wait_for(lambda: server.client.info("replication").get("master_link_status") == "up", "no replication")
        yield store_at(server.url)


@contextlib.contextmanager
def replica_without_primary() -> Iterator[RedisStore]:
    with prepared() as primary, running("valkey", "--replica-serve-stale-data", "no") as server:
        server.client.replicaof("127.0.0.1", primary.port)
        wait_for(lambda: server.client.info("replication").get("master_link_status") == "up", "no replication")
        primary.process.kill()
        primary.process.wait()
        wait_for(lambda: server.client.info("replication").get("master_link_status") == "down", "still linked")
        yield store_at(server.url)


@contextlib.contextmanager
def cluster_without_slots() -> Iterator[RedisStore]:
    with running("valkey", "--cluster-enabled", "yes", "--cluster-port", str(free_port())) as server:
        yield store_at(server.url)


@contextlib.contextmanager
def cluster_node() -> Iterator[RedisStore]:
    """The other node of two has all slots."""
    ports = [free_port(), free_port()]
    options = [("--cluster-enabled", "yes", "--cluster-port", str(port)) for port in ports]
    with running("valkey", *options[0]) as one, running("valkey", *options[1]) as other:
        told(one, "CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        told(other, "CLUSTER", "MEET", "127.0.0.1", one.port, ports[0])
        wait_for(lambda: says(other.client, redis.exceptions.MovedError), "they do not meet")
        yield store_at(other.url)


@contextlib.contextmanager
def half_moved_slot() -> Iterator[RedisStore]:
    """One key of a session is on the way's other end already."""
    with cluster(2) as found:
        source, target = found.primaries
        slot = told(source, "CLUSTER", "KEYSLOT", "chat:session:{s}")
        if found.primary_of(slot) is target:
            source, target = target, source
        moving = redis.cluster.RedisCluster(host="127.0.0.1", port=source.port)
        for name in ("", ":history", ":tokens"):
            moving.hset(f"chat:session:{{s}}{name}", "version", 1)
        moving.close()
        told(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", found.node_id(source))
        told(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", found.node_id(target))
        told(source, "MIGRATE", "127.0.0.1", target.port, "chat:session:{s}:history", 0, 5000)
        yield store_at(source.url)


@contextlib.contextmanager
def without_scripts() -> Iterator[RedisStore]:
    with running("valkey", "--rename-command", "EVALSHA", "", "--rename-command", "EVAL", "") as server:
        yield store_at(server.url)


def user(*rules: str, password: str = "p") -> Callable[[], Any]:
    @contextlib.contextmanager
    def unwelcome() -> Iterator[RedisStore]:
        with prepared() as server:
            told(server, "ACL", "SETUSER", "u", "on", ">p", "~*", "+@all", *rules)
            yield store_at(f"redis://u:{password}@127.0.0.1:{server.port}/0")

    return unwelcome


@contextlib.contextmanager
def without_password() -> Iterator[RedisStore]:
    with prepared() as server:
        server.client.config_set("requirepass", "secret")
        yield store_at(server.url)


@contextlib.contextmanager
def too_many_clients() -> Iterator[RedisStore]:
    with prepared() as server:
        server.client.config_set("maxclients", 1)
        server.client.client_kill_filter(skipme=True, _type="normal")
        yield store_at(server.url)


@contextlib.contextmanager
def exhausted_pool() -> Iterator[RedisStore]:
    with prepared() as server:
        store = store_at(server.url, max_connections=1, budget=0.3)
        held = store._calls._pool.get_connection()
        yield store
        store._calls._pool.release(held)


@contextlib.contextmanager
def small_output_buffer() -> Iterator[RedisStore]:
    with prepared() as server:
        large = join_element(1, b'"%b"' % (b"x" * 1_000_000))
        store = store_at(server.url)
        for _ in range(40):
            store.apply(Append(session_id="s", owner=ANY, elements=(large,)))
        server.client.config_set("client-output-buffer-limit", "normal 1000000 1000000 0")
        yield store


@contextlib.contextmanager
def slow_network() -> Iterator[RedisStore]:
    with prepared() as server, Proxy(("127.0.0.1", server.port)) as proxy:
        store = store_at(proxy.url)
        save(store, *[join_element(1, b'"%b"' % (b"x" * 1000))] * 200)
        proxy.drip = 1000, 0.05
        yield store


@contextlib.contextmanager
def slow_way() -> Iterator[RedisStore]:
    """Both ways carry a few MB/s, and the server answers."""
    with prepared() as server, Proxy(("127.0.0.1", server.port)) as proxy:
        large = join_element(1, b'"%b"' % (b"x" * 1_000_000))
        for _ in range(20):
            store_at(server.url).apply(Append(session_id="s", owner=ANY, elements=(large,)))
        store = store_at(proxy.url)
        store.load("s", ANY, 1)
        proxy.drip, proxy.upload = (20_000, 0.01), (50_000, 0.01)
        yield store


@contextlib.contextmanager
def no_redis() -> Iterator[RedisStore]:
    class Web(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            while self.request.recv(1 << 16):
                self.request.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Web) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield store_at(f"redis://127.0.0.1:{server.server_address[1]}/0")
        server.shutdown()


@contextlib.contextmanager
def without_database() -> Iterator[RedisStore]:
    with running("valkey", "--databases", "1") as server:
        yield store_at(server.url[:-1] + "1")


@contextlib.contextmanager
def without_hmget() -> Iterator[RedisStore]:
    with running("valkey", "--rename-command", "HMGET", "") as server:
        yield store_at(server.url)


@contextlib.contextmanager
def no_cluster() -> Iterator[RedisStore]:
    with prepared() as server:
        yield store_at(f"redis+cluster://127.0.0.1:{server.port}")


@contextlib.contextmanager
def no_such_primary() -> Iterator[RedisStore]:
    with sentinels() as found:
        yield store_at(found.url.replace("mymaster", "ourmaster"))


@contextlib.contextmanager
def protected() -> Iterator[RedisStore]:
    """The server sees another host's connection, which this machine may have no way to make."""
    with speaking(b"-DENIED Redis is running in protected mode because protected mode is enabled\r\n") as port:
        yield store_at(f"redis://127.0.0.1:{port}/0")


@contextlib.contextmanager
def proxy_before_nothing() -> Iterator[RedisStore]:
    """Envoy's words, when no server is there."""
    with speaking(answer=b"-no upstream host\r\n") as port:
        yield store_at(f"redis://127.0.0.1:{port}/0")


def append(store: RedisStore) -> None:
    store.apply(Append(session_id="s", owner=ANY, elements=(ELEMENT,)))


def append_much(store: RedisStore) -> None:
    save(store, *[join_element(1, b'"%b"' % (b"x" * 1_000_000))] * 20)


def load(store: RedisStore) -> None:
    store.load("s", ANY)


# cause, what is called, the row of the table, whether it was written, whether the server is down
CAUSES: dict[str, tuple[Callable[[], Any], Callable[[RedisStore], None], str, bool | None, bool]] = {
    "refused port": (nobody_there, append, "nobody there", False, True),
    "a silent address": (silent_address, append, "nobody there", False, True),
    "SIGSTOP": (stopped, append, "no answer", None, True),
    "SIGSTOP, a read": (stopped, load, "no answer", False, True),
    "a session too long for the way": (slow_way, load, "too slow", False, False),
    "a save too long for the way": (slow_way, append_much, "too slow", None, False),
    "kill -9": (killed_in_between, append, "nobody there", False, True),
    "black hole": (cut("black hole"), append, "no answer", None, True),
    "lost request": (cut("lost request"), append, "connection lost", None, True),
    "lost reply": (cut("lost reply"), append, "connection lost", None, True),
    "half reply": (cut("half reply"), append, "connection lost", None, True),
    "LOADING": (loading, append, "loading", False, True),
    "OOM": (configured(maxmemory="1mb", maxmemory_policy="noeviction"), append, "out of memory", False, False),
    "READONLY": (replica, append, "read only", False, False),
    "MASTERDOWN": (replica_without_primary, load, "no primary", False, True),
    "NOREPLICAS": (configured(min_replicas_to_write="1"), append, "no replicas", False, False),
    "MISCONF": (failing_disk, append, "disk is failing", False, False),
    "BUSY": (busy, append, "busy with a script", False, True),
    "CLUSTERDOWN": (cluster_without_slots, load, "cluster down", False, True),
    "MOVED": (cluster_node, load, "a Cluster", False, False),
    "TRYAGAIN": (half_moved_slot, append, "try again", False, False),
    "an old server": (without_scripts, append, "an old server", False, False),
    "NOAUTH": (without_password, append, "no password", False, False),
    "wrong password": (user(password="other"), append, "wrong password", False, False),
    "NOPERM": (user("-evalsha"), append, "no permission", False, False),
    "NOPERM in a script": (user("-hmget"), load, "no permission in a script", False, False),
    "maxclients": (too_many_clients, append, "too many clients", False, True),
    "pool exhausted": (exhausted_pool, append, "pool exhausted", False, False),
    "a slow network": (slow_network, load, "too slow", False, False),
    "output buffer limit": (small_output_buffer, load, "connection lost", False, True),
    "not a Redis": (no_redis, append, "no Redis at all", False, False),
    "a database that is not there": (without_database, append, "no such database", False, False),
    "a command that is not there": (without_hmget, append, "no command in a script", None, False),
    "no Cluster": (no_cluster, append, "no Cluster", False, False),
    "a primary that is not there": (no_such_primary, append, "no such primary", False, False),
    "protected mode": (protected, append, "protected mode", False, False),
    "a proxy before nothing": (proxy_before_nothing, append, "nobody behind a proxy", False, True),
}


@pytest.mark.parametrize("name", CAUSES)
def test_a_failure_is_what_the_table_says(name: str) -> None:
    cause, call, row, written, is_down = CAUSES[name]
    with cause() as store:
        started = time.monotonic()
        with pytest.raises(ConvstoreError) as caught:
            call(store)
        assert time.monotonic() - started < 10
        error = caught.value
        assert error.__cause__ is not None
        failure = classify(error.__cause__)  # type: ignore[arg-type]
        assert (failure.name, failure.is_down) == (row, is_down), error
        assert error.written is written
        if failure.kind == "misconfigured":
            assert isinstance(error, StoreMisconfigured)
        else:
            assert isinstance(error, StoreUnavailable)
            assert error.is_down is is_down
        for secret in ("other", "secret"):
            assert secret not in str(error)
        store.close()


BY_TLS = {"certificate refused", "our certificate refused", "no TLS there"}
"""Rows that test_tls.py causes."""


def test_every_row_is_caused() -> None:
    assert {failure.name for failure in FAILURES} == {row for _, _, row, _, _ in CAUSES.values()} | BY_TLS


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse what Linux leaves without an answer")
@pytest.mark.parametrize("budget", [0.2, 0.7])
def test_a_connection_takes_no_longer_than_the_budget(budget: float) -> None:
    with silent_address() as silent:
        store = store_at(f"redis://127.0.0.1:{silent._calls._pool.connection_kwargs['port']}", budget=budget, retries=9)

        def refused() -> None:
            with pytest.raises(StoreUnavailable):
                load(store)

        assert least_seconds(refused) < budget + 0.15


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse what Linux leaves without an answer")
def test_a_connection_that_had_little_time_does_not_tell_that_the_server_is_down() -> None:
    """Other trips of the operation took the time. Nobody else shall believe that there is an outage."""
    with silent_address() as silent:
        with OPERATION.within(0.1), pytest.raises(StoreUnavailable) as caught:
            load(silent)
        assert caught.value.is_down is None
        with pytest.raises(StoreUnavailable) as caught:
            load(silent)
        assert caught.value.is_down is True


def test_a_connection_made_in_a_hurry_has_its_whole_patience_later() -> None:
    """Its budget is nearly spent when it is made. The next call has a whole one."""
    with prepared() as server, Proxy(("127.0.0.1", server.port)) as proxy:
        store = store_at(proxy.url, command_timeout=1, budget=0.4)
        load(store)
        made = store._calls._pool._available_connections[0]
        assert made._sock.gettimeout() == made.socket_timeout == 1
        assert made.socket_connect_timeout == 0.5
        store.close()


def _waiting(pool: Any, count: int) -> bool:
    return len(line_of(pool).waiting) == count


def test_callers_wait_for_a_connection_first_come_first_served() -> None:
    """Within their budget, none is refused, and none is overtaken."""
    with prepared() as server:
        store = store_at(server.url, max_connections=1, budget=20)
        pool = store._calls._pool
        held = pool.get_connection()
        order: list[int] = []

        def call(number: int) -> None:
            load(store)
            order.append(number)

        threads = [threading.Thread(target=call, args=(number,)) for number in range(20)]
        for count, thread in enumerate(threads, 1):
            thread.start()
            wait_for(partial(_waiting, pool, count), "the call waits")
        pool.release(held)  # as the app's own call over the client does, which wakes nobody
        for thread in threads:
            thread.join()
        assert order == list(range(20))
        assert not line_of(pool).waiting
        store.close()


def test_many_threads_share_few_connections() -> None:
    """No call is refused while there is time left."""
    with prepared() as server:
        store = store_at(server.url, max_connections=2, budget=30)
        failures: list[Exception] = []

        def call() -> None:
            try:
                for _ in range(20):
                    load(store)
            except ConvstoreError as error:
                failures.append(error)

        threads = [threading.Thread(target=call) for _ in range(40)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert store._calls._pool._created_connections <= 2
        store.close()


GREENLETS = """
from gevent import monkey
monkey.patch_all()
import sys
import gevent
from flask_convstore import open_store

with open_store(sys.argv[1], max_connections=2) as store:
    for number in range(60):
        store.save_session(str(number), {"history": []})
    def turns(number):
        for _ in range(3):
            with store.turn(str(number), "hi") as turn:
                turn.reply("hello")
    gevent.joinall([gevent.spawn(turns, number) for number in range(60)], raise_error=True)
    print(sum(len(store.get_session(str(number))["history"]) for number in range(60)))
"""


def test_many_greenlets_share_few_connections() -> None:
    """Under gevent, whose greenlets all ask at once, no turn is lost either."""
    pytest.importorskip("gevent")
    with prepared() as server:
        command = [sys.executable, "-c", GREENLETS, server.url]
        ended = subprocess.run(command, timeout=60, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stderr
        assert int(ended.stdout) == 60 * 3 * 2


def test_a_caller_that_waited_in_vain_leaves_the_line() -> None:
    """The next one is served."""
    with prepared() as server:
        store = store_at(server.url, max_connections=1, budget=0.1)
        held = store._calls._pool.get_connection()
        with pytest.raises(StoreUnavailable, match="all connections of this process are in use") as caught:
            append(store)
        assert caught.value.written is False
        store._calls._pool.release(held)
        append(store)
        store.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_does_not_wait_behind_callers_of_its_parent() -> None:
    line = Line()
    line.waiting.append(threading.Event())
    line._pid = -1
    assert line.lent(SimpleNamespace(get_connection=lambda: "lent"), time.monotonic() + 1) == "lent"


def test_a_write_whose_reply_was_lost_before_a_refusal_may_be_done() -> None:
    with prepared() as server, Proxy(("127.0.0.1", server.port)) as proxy:
        told(server, "ACL", "SETUSER", "u", "on", ">p", "~*", "+@all")
        store = store_at(f"redis://u:p@127.0.0.1:{proxy.port}/0", retries=1)
        append(store)
        told(server, "ACL", "SETUSER", "u", "resetpass", ">another")
        proxy.faults = ["lost reply"]
        with pytest.raises(StoreMisconfigured) as caught:
            append(store)
        assert caught.value.written is None
        store.close()


def test_a_script_that_is_not_known_is_no_failure() -> None:
    with prepared() as server:
        store = store_at(server.url)
        server.client.script_flush()
        append(store)
        assert len(store.load("s", ANY).elements) == 3  # type: ignore[union-attr]
        store.close()


def test_a_key_of_another_type_is_a_corrupt_value() -> None:
    with prepared() as server:
        store = store_at(server.url)
        server.client.delete("chat:session:{s}")
        server.client.set("chat:session:{s}", "x", px=100_000)
        with pytest.raises(CorruptValue, match=r"chat:session:\{s\}"):
            append(store)
        store.close()


@pytest.mark.parametrize("fault", ["black hole", "lost reply"])
def test_no_call_outlasts_its_budget(fault: Any) -> None:
    with prepared() as server, Proxy(("127.0.0.1", server.port)) as proxy:
        store = store_at(proxy.url, retries=100, command_timeout=0.4, budget=1)
        load(store)
        proxy.faults = [fault] * 1000
        started = time.monotonic()
        with pytest.raises(StoreUnavailable):
            append(store)
        assert time.monotonic() - started < 3
        proxy.faults = []
        append(store)
        store.close()


def test_a_reply_that_drips_does_not_outlast_the_budget() -> None:
    """Something comes before each timeout, but never all of it. That is no outage, and would be so again."""
    with prepared() as server, Proxy(("127.0.0.1", server.port)) as proxy:
        store = store_at(proxy.url, retries=100, command_timeout=0.4, budget=1)
        save(store, *[join_element(1, b'"%b"' % (b"x" * 1000))] * 50)
        proxy.drip = 1000, 0.2
        started = time.monotonic()
        with pytest.raises(TooSlow) as caught:
            load(store)
        assert time.monotonic() - started < 2
        assert (caught.value.is_down, caught.value.written, caught.value.retry_after_ms) == (False, False, None)
        proxy.drip = None
        load(store)
        append(store)
        store.close()


@pytest.mark.parametrize("budget", [0.2, 0.4])
def test_a_server_that_hangs_is_down_also_where_little_time_is_left(budget: float) -> None:
    """Nothing of an answer has come, so that it was not too large."""
    with prepared() as server:
        store = store_at(server.url, budget=budget)
        server.process.send_signal(signal.SIGSTOP)
        with pytest.raises(StoreUnavailable) as caught:
            load(store)
        server.process.send_signal(signal.SIGCONT)
        assert (type(caught.value), caught.value.is_down) == (StoreUnavailable, True)
        store.close()


def test_a_timeout_of_the_url_does_not_outlast_the_budget() -> None:
    with prepared() as server, Proxy(("127.0.0.1", server.port)) as proxy:
        store = store_at(f"{proxy.url}?socket_timeout=30", command_timeout=0.4, budget=1)
        load(store)
        proxy.faults = ["black hole"] * 10
        started = time.monotonic()
        with pytest.raises(StoreUnavailable):
            load(store)
        assert time.monotonic() - started < 2
        store.close()


@pytest.mark.parametrize("call", [save, append, load])
def test_all_that_one_call_asks_for_has_one_budget(
    call: Callable[[RedisStore], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also the texts of scripts that a server has forgotten."""
    with prepared() as server:
        store = store_at(server.url)
        save(store)
        server.client.script_flush()
        deadlines = []
        exchange = store._calls._exchange

        def noting(commands: Any, deadline: float) -> Any:
            deadlines.append(deadline)
            return exchange(commands, deadline)

        monkeypatch.setattr(store._calls, "_exchange", noting)
        call(store)
        assert len(deadlines) > 1
        assert len(set(deadlines)) == 1
        store.close()


def test_a_failure_that_passes_is_waited_for() -> None:
    with prepared() as server:
        store = store_at(server.url, retries=20, budget=10)
        server.client.config_set("maxclients", 1)
        server.client.client_kill_filter(skipme=True, _type="normal")
        timer = threading.Timer(0.3, lambda: server.client.config_set("maxclients", 100))
        timer.start()
        append(store)
        timer.join()
        store.close()


def test_a_turn_waits_for_a_primary_too() -> None:
    """A refusal within a transaction may pass in a moment as well, and perhaps on another server."""
    with prepared() as server:
        store = store_at(server.url, retries=20, budget=10)
        begun = BeginTurn(session_id="s", owner=ANY, element=ELEMENT, lease_ms=60_000)
        store.begin(begun)
        connection = store._calls._pool._available_connections[0]
        before = connection._sock
        server.client.replicaof("127.0.0.1", "1")
        timer = threading.Timer(0.3, lambda: server.client.replicaof("NO", "ONE"))
        timer.start()
        again = BeginTurn(session_id="s", owner=ANY, element=ELEMENT, lease_ms=60_000, supersede=True)
        assert store.begin(again).receipt.first_seq == 5
        timer.join()
        assert connection._sock is not before, "it is asked anew who is the primary"
        store.close()


SIGNALLED = """
import contextlib, gc, random, signal, sys, redis
from flask_convstore.stores.redis.calls import Calls, Patience
from flask_convstore.stores.connect import connect
from flask_convstore.config import Settings
from pathlib import Path

class Late(BaseException):
    pass

def interrupt(*_):
    raise Late

signal.signal(signal.SIGALRM, interrupt)
settings = Settings(url=sys.argv[1])
calls = Calls(connect(settings, Path()), Patience(2, 1, 0))
command = ("LRANGE", "x", *[0, -1] * 2000)
for number in range(400):
    try:
        signal.setitimer(signal.ITIMER_REAL, random.uniform(0.0001, 0.002), 0.1)  # again where it was swallowed
        while True:
            with contextlib.suppress(Exception):
                calls.command(*command)
    except Late:
        pass
signal.setitimer(signal.ITIMER_REAL, 0)
with contextlib.suppress(Exception):  # its connection may have been left by the last signal
    calls.command("PING")
calls.command("PING")
gc.collect()  # an exception that was cut short may hold a connection
calls._pool.reclaim()
print(len(calls._pool._in_use_connections))
"""


def test_a_signal_that_raises_while_numbers_are_sent_kills_nothing(valkey: Server) -> None:
    command = [sys.executable, "-c", SIGNALLED, valkey.url]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (ended.returncode, ended.stdout) == (0, "0\n"), ended.stderr
