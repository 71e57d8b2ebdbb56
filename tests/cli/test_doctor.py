"""``doctor`` names each fault of servers that are set up badly on purpose, and finds none on a good one."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from flask_convstore import ConversationStore
from flask_convstore.config import Settings
from flask_convstore.stores.connect import client_of
from flask_convstore.stores.redis import scripts, survey
from flask_convstore.stores.redis.trials import TRIALS

from ..processes import wait_for
from ..project.test_docs import TEXTS, do_everything
from ..servers import Server, programs, running
from ..topologies import cluster, is_linked, told
from .commands import lines, run, run_in

GOOD = ("--appendonly", "yes", "--appendfsync", "everysec", "--maxmemory", "1gb")


def findings(url: str, status: int, *words: str) -> dict[str, dict[str, str]]:
    """All findings but those that are ok, by what they are about."""
    return {
        one["about"]: one for one in lines(run(url, *words, "doctor", "--json", status=status)) if one["state"] != "ok"
    }


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine of the tests is busy. What it takes is judged elsewhere."""
    monkeypatch.setattr("flask_convstore.operations.diagnosis._SLOW_MS", 1000)
    monkeypatch.setattr("flask_convstore.operations.diagnosis._SLOWEST_MS", 10_000)


@pytest.mark.server
@pytest.mark.parametrize("kind", sorted(programs()))
def test_a_good_server_is_all_ok_and_nothing_is_left_on_it(kind: str) -> None:
    with running(kind, *GOOD) as server:
        done = run(server.url, "doctor", "--json")
        assert {one["state"] for one in lines(done)} == {"ok"}
        assert {one["cure"] for one in lines(done)} == {""}
        assert server.client.keys() == []
        assert run(server.url, "doctor").stdout.count("ok ") == len(lines(done))


@pytest.mark.server
@pytest.mark.parametrize(
    ("options", "about", "state", "words"),
    [
        (("--maxmemory", "1gb"), "persistence", "problem", ("restart", "appendonly")),
        (("--save", "3600 1"), "persistence", "warning", ("snapshots only", "appendonly")),
        ((*GOOD, "--appendfsync", "no"), "persistence", "warning", ("everysec",)),
        ((*GOOD, "--maxmemory-policy", "allkeys-lru"), "eviction", "problem", ("allkeys-lru", "noeviction")),
        ((*GOOD[:4], "--maxmemory-policy", "volatile-ttl"), "eviction", "warning", ("volatile-ttl", "noeviction")),
        ((*GOOD[:4], "--maxmemory", "16mb"), "memory", "problem", ("16 MB", "CONVSTORE_MAX_SESSION_BYTES")),
    ],
)
def test_each_fault_of_a_server_is_named(
    options: tuple[str, ...], about: str, state: str, words: tuple[str, ...]
) -> None:
    with running("valkey", *options) as server:
        found = findings(server.unix_url, {"warning": 1, "problem": 2}[state])
        assert found.keys() == {about}
        assert found[about]["state"] == state
        for word in words:
            assert word in found[about]["text"] + found[about]["cure"]
        assert found[about]["cure"]


@pytest.mark.server
def test_connections_that_are_left_open_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with running("valkey", *GOOD, "--maxclients", "20") as server:
        idle = [socket.create_connection((server.host, server.port)) for _ in range(16)]
        found = findings(server.url, 2)
        assert re.search("1[6-9] of 20 connections of the server are in use", found["connections"]["text"])
        for one in idle:
            one.close()
        wait_for(lambda: server.client.info("clients")["connected_clients"] < 5, "they are open still")
        monkeypatch.setenv("CONVSTORE_MAX_CONNECTIONS", "8")
        monkeypatch.setenv("WEB_CONCURRENCY", "3")
        found = findings(server.url, 1)
        assert "3 workers may open 8 connections each, and the server takes 20" in found["connections"]["text"]


@pytest.mark.server
def test_a_full_server_is_named() -> None:
    with running("valkey", *GOOD) as server:
        server.client.set("ballast", "x" * 5_000_000)
        server.client.config_set("maxmemory", 5_500_000)
        server.client.config_set("maxmemory-policy", "noeviction")
        found = findings(server.url, 2)
        assert "nearly full" in found["memory"]["text"]


@pytest.mark.server
def test_a_snapshot_that_failed_is_named() -> None:
    with running("valkey", *GOOD, "--enable-protected-configs", "yes") as server:
        server.folder.joinpath("away").mkdir()
        server.client.config_set("dir", str(server.folder / "away"))
        server.folder.joinpath("away").rmdir()
        server.client.bgsave()
        wait_for(lambda: server.client.info("persistence")["rdb_last_bgsave_status"] == "err", "the snapshot succeeds")
        found = findings(server.url, 2)
        assert "snapshot of the server has failed" in found["saving"]["text"]


@pytest.mark.server
def test_another_database_is_named() -> None:
    with running("valkey", *GOOD) as server:
        app = Flask("app")
        app.config.update(CONVSTORE_URL=server.url, CONVSTORE_FALLBACK="none")
        store = ConversationStore(app)
        with app.app_context():
            store.save_session("a", [])
        wrong = server.url.removesuffix("0") + "3"
        found = findings(wrong, 2)
        assert found.keys() == {"database"}
        assert "in database 0, and the URL names database 3" in found["database"]["text"]
        assert found["database"]["cure"].endswith("/0.")
        assert findings(server.url, 0) == {}


@pytest.mark.server
def test_too_few_replicas_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVSTORE_DURABILITY", "replicas:1")
    with running("valkey", *GOOD) as server:
        found = findings(server.url, 2)
        assert "0 replicas are online" in found["replication"]["text"]
        assert "CONVSTORE_DURABILITY" in found["replication"]["cure"]
        with running("valkey", *GOOD, "--replicaof", f"{server.host} {server.port}") as replica:
            wait_for(lambda: is_linked(replica), "the replica is not linked")
            assert findings(server.url, 0) == {}
            assert "is a replica" in findings(replica.url, 2)["role"]["text"]


@pytest.mark.server
def test_an_fsync_that_the_server_does_not_do_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVSTORE_DURABILITY", "fsync")
    with running("valkey", *GOOD) as server:
        assert "appendfsync to always" in findings(server.url, 2)["durability"]["cure"]
        server.client.config_set("appendfsync", "always")
        assert findings(server.url, 0) == {}


# ---- rights


def user(server: Server, *rule: str) -> str:
    told(server, "ACL", "SETUSER", "u", "reset", "on", ">p", *rule)
    return f"redis://u:p@{server.host}:{server.port}/0"


@pytest.mark.server
@pytest.mark.parametrize("kind", sorted(programs()))
def test_each_missing_right_is_named(kind: str) -> None:
    with running(kind, *GOOD) as server:
        client: Any = client_of(Settings(url=user(server, "~*", "&*", "+@all")), None, Path())
        for name in sorted({trial.name for trial in TRIALS}):
            user(server, "~*", "&*", "+@all", f"-{name}")
            client.connection_pool.disconnect()
            (facts,) = survey.survey(client, "chat:session:")
            assert {trial.name for trial in facts.lacking} == {name}, name
        assert [key for key in told(server, "KEYS", "*") if server.client.pttl(key) == -1] == []


@pytest.mark.server
def test_a_missing_right_is_told_with_its_cure() -> None:
    with running("valkey", *GOOD) as server:
        found = findings(user(server, "~*", "&*", "+@all", "-hset"), 2)
        assert "may not run HSET" in found["rights"]["text"]
        assert "ACL SETUSER" in found["rights"]["cure"]
        found = findings(user(server, "~*", "&*", "+@all", "-xadd"), 1)
        assert "without XADD streamed replies" in found["rights"]["text"].lower().replace("xadd", "XADD")
        found = findings(user(server, "~elsewhere:*", "&*", "+@all"), 2)
        assert "HSET" in found["rights"]["text"]


@pytest.mark.server
def test_rights_for_the_other_prefix_are_tried_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVSTORE_CONVERSATION_PREFIX", "chats:")
    with running("valkey", *GOOD) as server:
        assert "HSET" in findings(user(server, "~chat:session:*", "&*", "+@all"), 2)["rights"]["text"]
        assert findings(user(server, "~chat:session:*", "~chats:*", "&*", "+@all"), 0) == {}


@pytest.mark.server
def test_the_documented_rights_are_enough_and_what_is_not_known_is_said() -> None:
    (rule,) = re.findall(r"^ACL SETUSER convstore on >a-long-password (.*)$", TEXTS["docs/security.md"], re.MULTILINE)
    with running("valkey", *GOOD) as server:
        assert findings(user(server, *rule.split()), 0) == {}
        found = findings(user(server, *rule.split(), "-info"), 1)
        assert found.keys() == {"server", "rights"}
        server.client.config_set("appendonly", "no")
        assert "does not show" in findings(user(server, *rule.split()), 1)["persistence"]["text"]


@pytest.mark.server
def test_the_rights_that_are_tried_are_those_that_sessions_need() -> None:
    """Those of the scripts, and those of everything that can be done, as the server sees it."""
    of_scripts = set()
    for path in Path(str(scripts.__file__)).with_name("lua").glob("*.lua"):
        of_scripts |= set(re.findall(r'redis\.p?call\("(\w+)"', path.read_text("utf-8")))
    seen: set[str] = set()
    with running("valkey") as server:
        threading.Thread(target=watch, args=(server, seen), daemon=True).start()
        wait_for(lambda: any(client["cmd"] == "monitor" for client in server.client.client_list()), "nobody watches")
        seen.clear()
        do_everything(f"redis://{server.host}:{server.port}/0")
        server.client.set("the end", 1)
        wait_for(lambda: "THE END" in seen, "the end is not seen")
    tried = {trial.name for trial in TRIALS}
    of_connections = {"CLIENT", "CONFIG", "THE END", "HELLO", "SELECT"}
    assert of_scripts | (seen - of_connections) <= tried
    lists = {"ZREVRANGE", "ZREVRANGEBYSCORE"}
    # A turn that waits, the fiftieth session, the end of a listener, thousands of sessions.
    rare = {"BLPOP", "ZRANDMEMBER", "UNSUBSCRIBE", "RANDOMKEY"}
    assert tried <= of_scripts | seen | lists | rare


def watch(server: Server, seen: set[str]) -> None:
    with socket.create_connection((server.host, server.port)) as connection, connection.makefile("rb") as told_lines:
        connection.sendall(b"MONITOR\r\n")
        for line in told_lines:
            words = re.findall(rb'"((?:[^"\\]|\\.)*)"', line)
            if words:
                seen.add(words[0].decode().upper())
                if words[1:2] == [b"the end"]:
                    seen.add("THE END")


# ---- clocks


class WrongClock:
    """Forwards to a server whose clock seems to be some seconds ahead."""

    def __init__(self, server: Server, seconds: int) -> None:
        self._target, self._seconds = (server.host, server.port), seconds
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._target)
            threading.Thread(target=self._forward, args=(client, server, None), daemon=True).start()
            threading.Thread(target=self._forward, args=(server, client, self._seconds), daemon=True).start()

    def _forward(self, source: socket.socket, target: socket.socket, seconds: int | None) -> None:
        for chunk in iter(lambda: _received(source), b""):
            told_time = re.fullmatch(rb"\*2\r\n\$10\r\n(\d{10})\r\n(\$\d\r\n\d+\r\n)", chunk)
            if told_time and seconds is not None:
                target.sendall(b"*2\r\n$10\r\n%d\r\n%b" % (int(told_time[1]) + seconds, told_time[2]))
            else:
                target.sendall(chunk)
        for one in (source, target):
            one.close()

    def close(self) -> None:
        self._listener.close()


def _received(source: socket.socket) -> bytes:
    try:
        return source.recv(1 << 16)
    except OSError:
        return b""


@pytest.mark.server
@pytest.mark.parametrize(
    ("seconds", "state", "words"),
    [
        (3600, "problem", "3600 seconds ahead of"),
        (-3600, "problem", "3600 seconds behind"),
        (20, "warning", "20 seconds"),
    ],
)
def test_a_wrong_clock_is_named(seconds: int, state: str, words: str) -> None:
    with running("valkey", *GOOD) as server:
        proxy = WrongClock(server, seconds)
        found = findings(proxy.url, {"warning": 1, "problem": 2}[state])
        proxy.close()
        assert found.keys() == {"clock"}
        assert words in found["clock"]["text"]
        assert "NTP" in found["clock"]["cure"]


# ---- the rest


def test_a_server_that_is_away_is_a_problem() -> None:
    found = findings("redis://127.0.0.1:1/0", 2)
    assert "cannot reach the server" in found["connection"]["text"]


@pytest.mark.server
def test_each_primary_of_a_cluster_is_looked_at() -> None:
    with cluster() as found:
        told(found.primaries[1], "CONFIG", "SET", "appendonly", "yes")
        faults = findings(found.url, 2)
        names = {f"persistence of 127.0.0.1:{found.primaries[number].port}" for number in (0, 2)}
        assert faults.keys() == names
        assert all(server.client.keys() == [] for server in found.primaries)


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Flask]:
    with running("valkey", *GOOD) as server:
        app = Flask("app", instance_path=str(tmp_path / "inst"))
        app.config.update(CONVSTORE_URL=server.url, CONVSTORE_ANONYMOUS_OWNER=True)
        app.register_blueprint(ConversationStore(app).blueprint)
        app.extensions["server"] = server
        yield app


def in_app(app: Flask, status: int) -> dict[str, dict[str, str]]:
    return {one["about"]: one for one in lines(run_in(app, "doctor", "--json", status=status)) if one["state"] != "ok"}


@pytest.mark.server
def test_an_app_without_a_secret_key_is_told(app: Flask) -> None:
    assert "no SECRET_KEY" in in_app(app, 2)["secret key"]["text"]
    app.config["SECRET_KEY"] = "abc"
    assert "short" in in_app(app, 1)["secret key"]["text"]
    app.config["SECRET_KEY"] = "0123456789abcdef"
    assert in_app(app, 0) == {}


@pytest.mark.server
def test_the_journal_is_looked_at(app: Flask) -> None:
    app.config["SECRET_KEY"] = "0123456789abcdef"
    state = app.extensions["convstore"]["convstore"]
    server: Server = app.extensions["server"]
    server.kill()
    assert app.test_client().post("/sessions", json={"data": {}}).status_code == 201
    folder = state.journal.folder
    state.journal.close()
    with contextlib.ExitStack() as held:
        wait_for(lambda: held.enter_context(state.journal.replaying()), "another one hands over all the time")
        server.start()  # and nobody hands over meanwhile
        found = in_app(app, 1)["journal"]
    assert "1 write waits in" in found["text"]
    assert "journal drain" in found["cure"]
    folder.chmod(0o777)
    assert "others can write into" in in_app(app, 2)["journal"]["text"]


CODE = """
from flask import Flask
from flask_convstore import ConversationStore

app = Flask(__name__)
app.config["CONVSTORE_URL"] = "memory://"
convstore = ConversationStore(app)
chats = convstore.mapping("chats", default=dict)
other = {}

def reset():
    global chats, other
    other = {}
    chats = {}

def local():
    chats = {}
    return chats
"""


def test_code_that_replaces_a_mapping_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "replacing_app.py").write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path)
    import replacing_app  # type: ignore[import-not-found]

    found = in_app(replacing_app.app, 2)
    assert found["globals"]["text"].startswith("replacing_app, line 14, replaces the mapping chats")
    assert "chats.clear(confirm=True)" in found["globals"]["cure"]
