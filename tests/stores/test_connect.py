"""URL > client: every option is stated, nothing connects, bad URLs are refused without showing the password."""

from __future__ import annotations

import errno
import os
import signal
import socket
import threading
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import redis

from flask_convstore.config import Settings
from flask_convstore.errors import ConfigurationError, StoreUnavailable
from flask_convstore.stores.connect import connect, connect_cluster, patience_of
from flask_convstore.stores.redis.calls import Patience
from flask_convstore.urls import masked

from ..servers import Server, free_port, running
from ..service import Service
from ..topologies import cluster

HERE = Path()


def options(url: str, **settings: Any) -> dict[str, Any]:
    return dict(connect(Settings(url=url, **settings), HERE).connection_pool.connection_kwargs)


@pytest.mark.parametrize("url", ["redis://host", "rediss://host", "unix:///tmp/none"])
def test_timeouts_and_retries_are_stated(url: str) -> None:
    stated = options(url, connect_timeout=1.5, command_timeout=2.5, retries=7)
    assert stated["socket_connect_timeout"] == 1.5
    assert stated["socket_timeout"] == 2.5
    assert stated["retry"].get_retries() == 0  # Calls repeats, within a budget
    assert patience_of(Settings(budget=4, command_timeout=2.5, retries=7)) == Patience(4, 2.5, 7)
    assert stated["protocol"] == 2
    assert stated["decode_responses"] is False


def test_what_the_url_says_reaches_the_client() -> None:
    stated = options("redis://user:p%40w@host:7000/3")
    assert {key: stated[key] for key in ("host", "port", "db", "username", "password")} == {
        "host": "host",
        "port": 7000,
        "db": 3,
        "username": "user",
        "password": "p@w",
    }
    assert issubclass(
        connect(Settings(url="rediss://host"), HERE).connection_pool.connection_class, redis.SSLConnection
    )
    assert options("unix:///run/redis.sock?db=2")["path"] == "/run/redis.sock"


def test_a_url_that_redis_refuses_is_a_configuration_error() -> None:
    with pytest.raises(ConfigurationError) as caught:
        connect(Settings(url="redis://:hunter2@host/0?socket_timeout=soon"), HERE)
    assert "redis://:***@host/0" in str(caught.value)
    assert "hunter2" not in str(caught.value)
    with pytest.raises(ConfigurationError, match="nonsense"):
        connect(Settings(url="redis://host?nonsense=1"), HERE)
    with pytest.raises(ConfigurationError, match="decode_responses"):
        connect(Settings(url="redis://host?decode_responses=yes"), HERE)
    with pytest.raises(ConfigurationError, match="decode_responses"):
        connect_cluster(Settings(url="redis+cluster://host?decode_responses=yes"))


@pytest.mark.server
def test_a_unix_socket_and_a_password_work() -> None:
    with running("valkey", "--requirepass", "right") as server:
        assert connect(Settings(url=f"unix://:right@{server.socket}"), HERE).ping()
        assert connect(Settings(url=server.url.replace("//", "//:right@")), HERE).ping()


@pytest.mark.server
def test_a_unix_socket_with_a_password_a_database_and_a_path_with_a_space(tmp_path: Path) -> None:
    with running("valkey", "--requirepass", "p@w") as server:
        link = tmp_path / "a socket"
        link.symlink_to(server.socket)
        service = Service(f"unix://:p%40w@{quote(str(link))}?db=3")
        session_id = service.start()
        service.say(session_id)
        assert service.get(session_id)["message_count"] == 1
        with redis.Redis(unix_socket_path=str(server.socket), password="p@w") as client:
            assert list(client.info("keyspace")) == ["db3"]


@pytest.mark.server
def test_a_unix_socket_that_disappears_and_comes_back() -> None:
    """A connected client stays so. A new one is told that nothing was written. kill -9 leaves a file that nobody has."""
    with running("valkey") as server:
        service = Service(server.unix_url, BUDGET=0.5)
        with service.app.app_context():
            service.convstore.save_session("s", [])
            server.socket.rename(server.folder / "away")
            service.convstore.append("s", "connected")
            service.convstore.close()
            with pytest.raises(StoreUnavailable, match="No such file") as caught:
                service.convstore.append("s", "lost")
            assert (caught.value.written, caught.value.is_down) == (False, True)
            (server.folder / "away").rename(server.socket)
            service.convstore.append("s", "back")
            assert service.convstore.get_session("s") == ["connected", "back"]
            server.process.kill()
            server.process.wait()
            with pytest.raises(StoreUnavailable, match="refused") as caught:
                service.convstore.append("s", "lost")
            assert caught.value.written is False


@pytest.mark.parametrize(
    "url",
    [
        "redis+cluster://:pa?ss@h:7000",
        "redis+cluster://:pa/ss@h:7000",
        "redis+sentinel://:s@h/mymaster?ssl_password=ss",
    ],
)
def test_no_password_is_shown(url: str) -> None:
    """Not even one whose signs should have been percent-encoded, nor one among the options."""
    assert "ss" not in masked(url)


@pytest.mark.parametrize("url", ["redis://me:12?pass=word@h/0", "redis+sentinel://h/mymaster?pass=w@rd"])
def test_no_part_of_a_password_is_taken_for_an_option_and_shown(url: str) -> None:
    with pytest.raises(ConfigurationError, match="%3F") as caught:
        connect(Settings(url=url), HERE)
    assert "pass" not in str(caught.value).replace("password", "")


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_no_node_is_asked_but_those_that_the_url_names(host: str) -> None:
    ports = {free_port(), free_port()}
    url = "redis+cluster://" + ",".join(f"{host}:{port}" for port in ports)
    with pytest.MonkeyPatch.context() as patched, pytest.raises(redis.ConnectionError):
        asked = []
        resolve = socket.getaddrinfo

        def noting(*where: Any, **options: Any) -> Any:
            asked.append(where[:2])
            return resolve(*where, **options)

        patched.setattr(socket, "getaddrinfo", noting)
        connect_cluster(Settings(url=url)).get()
    assert {port for _, port in asked} == ports
    assert {address for address, _ in asked} == {host.strip("[]")}


@pytest.mark.server
def test_options_reach_the_connections_of_a_cluster_and_of_sentinels() -> None:
    sentinel = connect(Settings(url="redis+sentinel://h/mymaster?client_name=me&db=4"), HERE)
    stated = sentinel.connection_pool.connection_kwargs
    assert (stated["client_name"], stated["db"]) == ("me", 4)
    with cluster(1) as found:
        asked, _ = connect_cluster(Settings(url=f"{found.url}?client_name=me")).get()
        assert asked.get_random_node().redis_connection.connection_pool.connection_kwargs["client_name"] == "me"
        asked.close()


def test_a_connection_whose_look_is_interrupted_is_given_back(valkey: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under gevent looking is waiting: a timeout may end it there."""
    pool = connect(Settings(url=valkey.url, max_connections=1), HERE).connection_pool
    connection = pool.get_connection()
    pool.release(connection)

    def interrupted(_: int) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(connection, "_poll", interrupted)
        with pytest.raises(KeyboardInterrupt):
            pool.get_connection()
    assert pool.get_connection() is connection
    pool.release(connection)
    pool.disconnect()


def test_a_fork_while_a_thread_holds_the_pool(valkey: Server) -> None:
    pool = connect(Settings(url=valkey.url), HERE).connection_pool
    pool.release(pool.get_connection())
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with pool._lock:
            held.set()
            done.wait(30)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(5)  # ends it, if it hangs
        pool.get_connection()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    done.set()
    holder.join()
    pool.disconnect()
    assert status == 0


@pytest.mark.parametrize(
    "error", [AttributeError("no socket"), TypeError("no descriptor"), OSError(errno.EBADF, "closed")]
)
def test_a_connection_that_is_closed_while_it_is_made_is_lost(
    valkey: Server, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """By another thread, which gives up all connections."""
    pool = connect(Settings(url=valkey.url), HERE).connection_pool

    def closed(*_: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(pool.connection_class, "on_connect_check_health", closed)
        with pytest.raises(redis.ConnectionError, match="Connection lost"):
            pool.get_connection()
    pool.release(pool.get_connection())
    pool.disconnect()
