"""The first look at a server: told at once, once, and without a trace where it does not belong."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from flask import Flask

from flask_convstore import ConversationStore
from flask_convstore.app import first_look
from flask_convstore.stores.connect import addresses_of
from flask_convstore.stores.redis.reach import Over, unreachable

from ..clocks import least_seconds
from ..processes import wait_for
from ..servers import Server, free_port
from ..service import Service
from ..wire import Listener, Proxy

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _first_look(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The real one, at servers that this process has not seen."""
    monkeypatch.setattr(first_look._looker, "_seen", set())
    yield
    wait_for(lambda: not is_looking(), "a thread is left")


def is_looking() -> bool:
    return any(thread.name == "convstore-first-look" for thread in threading.enumerate())


def warnings(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """The warnings of an outage. The journal of a test before may be told of too."""
    return [record for record in caplog.records if "does not answer" in record.getMessage()]


def dead() -> str:
    return f"redis://someone:secret@127.0.0.1:{free_port()}/0"


@contextlib.contextmanager
def silent() -> Iterator[tuple[str, int]]:
    """An address where a connection gets no answer, since the queue is full."""
    with contextlib.ExitStack() as stack:
        busy = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(busy.getsockname())
        yield busy.getsockname()


@contextlib.contextmanager
def hearing(heard: list[bytes]) -> Iterator[int]:
    """The port of somebody who notes the first words of each connection."""

    def hear(client: socket.socket) -> None:
        with client:
            heard.append(client.recv(100))

    listener = Listener(hear)
    yield listener.port
    listener.close()


def test_nobody_there_is_told_before_any_request_and_once(caplog: pytest.LogCaptureFixture) -> None:
    service = Service(dead(), RETRIES=0)
    wait_for(lambda: warnings(caplog), "nobody tells it")
    for _ in range(3):
        service.start()
    with service.app.app_context():
        service.convstore.mapping("other")["x"] = {"a": 1}
        service.convstore.mapping("other").flush()
    (warning,) = warnings(caplog)
    told: Any = warning
    assert "does not answer: cannot reach the server (Error 111 connecting to 127.0.0.1" in warning.getMessage()
    assert "someone:***@127.0.0.1" in told.convstore_target
    assert told.convstore_fallback == "journal"
    assert "cannot reach" in told.convstore_reason
    assert "secret" not in caplog.text


def test_what_the_first_request_has_told_is_not_told_again(caplog: pytest.LogCaptureFixture) -> None:
    with silent() as (host, port):
        service = Service(f"redis://{host}:{port}/0", RETRIES=0, CONNECT_TIMEOUT=0.5, BUDGET=0.3)
        service.start()
        wait_for(lambda: not is_looking(), "it does not end")
    assert len(warnings(caplog)) == 1


def test_a_server_that_is_there_is_told_nothing(valkey: Server, caplog: pytest.LogCaptureFixture) -> None:
    heard: list[bytes] = []
    with hearing(heard) as port:
        Service(f"redis://127.0.0.1:{port}/0")
        wait_for(lambda: heard, "nobody looks")
    assert heard == [b""]
    with Proxy(("127.0.0.1", valkey.port)) as proxy:
        Service(proxy.url)
        wait_for(lambda: not is_looking(), "it does not end")
        assert (proxy.round_trips, proxy.sent) == (0, 0)
    assert not warnings(caplog)


def test_some_apps_are_not_looked_at(tmp_path: Path) -> None:
    Service("memory://")
    Service(f"embedded://{tmp_path}/data")
    app = Flask("tested")
    app.config.update(CONVSTORE_URL=dead(), TESTING=True)
    ConversationStore(app)
    ConversationStore(Flask("given"), client=redis.Redis(port=free_port()))
    assert not first_look._looker._seen
    assert not (tmp_path / "data").exists()


def test_an_app_that_is_in_testing_later_is_told_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with silent() as (host, port):  # the thread is busy with another app
        Service(f"redis://{host}:{port}/0", CONNECT_TIMEOUT=0.3)
        service = Service(dead())
        service.app.testing = True
        wait_for(lambda: not is_looking(), "it does not end")
    assert [f":{port}" in record.getMessage() for record in warnings(caplog)] == [True]


def test_a_thousand_apps_cost_one_connection() -> None:
    """Nor does the thread keep them."""
    heard: list[bytes] = []
    with hearing(heard) as port:
        states = []
        for _ in range(1000):
            app = Flask("one of many")
            app.config.update(CONVSTORE_URL=f"redis://127.0.0.1:{port}/0", CONVSTORE_FALLBACK="none")
            states.append(ConversationStore(app)._state_in(app))
        wait_for(lambda: heard and not is_looking(), "nobody looks")

        def look() -> None:
            for state in states:
                first_look.look(state)

        assert least_seconds(look) < 0.1
        assert not is_looking()
    assert heard == [b""]


# ---- forks and ends of processes


def in_child(is_right: Callable[[], bool]) -> int:
    """Fork, and tell how the child ended: 0 if *is_right*."""
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        try:
            os._exit(0 if is_right() else 1)
        except BaseException:
            os._exit(2)
    return os.waitpid(child, 0)[1]


def sockets() -> int:
    links = (Path("/proc/self/fd") / name for name in os.listdir("/proc/self/fd"))
    return len([link for link in links if link.is_symlink() and os.readlink(link).startswith("socket:")])


@pytest.mark.skipif(sys.platform != "linux", reason="it counts sockets in /proc")
def test_a_fork_takes_nothing_along_and_the_parent_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    with silent() as (host, port):
        open_before = sockets()
        service = Service(f"redis://{host}:{port}/0", RETRIES=0, CONNECT_TIMEOUT=1, BUDGET=0.3)
        wait_for(lambda: sockets() > open_before, "nobody looks")

        def is_alone() -> bool:
            alone = threading.active_count() == 1 and sockets() == open_before
            service.start()
            return alone and len(warnings(caplog)) == 1

        for _ in range(3):
            assert in_child(is_alone) == 0
        wait_for(lambda: warnings(caplog), "the parent does not look again")
        assert in_child(is_alone) == 0, "the child knows that it was told"
    assert len(warnings(caplog)) == 1


APP = """
import sys, time
from flask import Flask
from flask_convstore import ConversationStore

app = Flask("app", instance_path=sys.path[0] + "/instance")
app.config["CONVSTORE_URL"] = {url!r}
ConversationStore(app)


@app.cli.command()
def nap():
    time.sleep(0.5)
"""

SLOW = """
import logging, sys, threading, time

begun = threading.Event()

class Slow(logging.Handler):
    def emit(self, record):
        begun.set()
        for _ in range(40):
            sys.stderr.buffer.write(b".")
            sys.stderr.buffer.flush()
            time.sleep(0.002)

logging.getLogger("flask_convstore").addHandler(Slow())
import site_app
begun.wait(10)
"""


def ended(tmp_path: Path, url: str, *command: str) -> tuple[int, str, float]:
    """Status, stderr and seconds of a process that makes an app."""
    (tmp_path / "site_app.py").write_text(APP.format(url=url))
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}", "FLASK_APP": "site_app"}
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, *command],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return done.returncode, done.stderr, time.monotonic() - started


def test_a_line_of_the_log_is_whole_when_the_process_ends(tmp_path: Path) -> None:
    assert ended(tmp_path, dead(), "-c", SLOW)[:2] == (0, "." * 40)


@pytest.mark.slow
def test_a_process_that_ends_at_once_says_nothing_odd(tmp_path: Path) -> None:
    """The thread may be in the midst of a line of the log."""
    url = dead()
    for number in range(20):
        status, said, _ = ended(tmp_path, url, "-c", f"import site_app, time; time.sleep({number} / 5000)")
        assert status == 0
        assert not said or (said.startswith("the store at") and said.count("\n") == 1), said


def test_a_process_does_not_wait_for_the_look(tmp_path: Path) -> None:
    with silent() as (host, port):
        needed = min(ended(tmp_path, "memory://", "-c", "import site_app")[2] for _ in range(2))
        status, said, seconds = ended(
            tmp_path, f"redis://{host}:{port}/0", "-c", "import site_app, time; time.sleep(0.1)"
        )
    assert (status, said) == (0, "")
    assert seconds < needed + 1.2, "the limit of a connection is 2 s"


def test_a_command_does_not_look(tmp_path: Path) -> None:
    for command in ("--help", "routes", "nap"):
        status, said, _ = ended(tmp_path, dead(), "-m", "flask", command)
        assert (status, said) == (0, "")


def test_flask_run_looks(tmp_path: Path) -> None:
    (tmp_path / "site_app.py").write_text(APP.format(url=dead()))
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}", "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "flask", "--app", "site_app", "run", "--port", str(free_port())]
    log = tmp_path / "log"
    with log.open("w") as told:
        process = subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=told, stderr=told)
        try:
            wait_for(lambda: "does not answer" in log.read_text(), "nobody tells it")
        finally:
            process.terminate()
            process.wait(20)


# ---- addresses


@pytest.mark.parametrize(
    ("url", "addresses"),
    [
        ("redis://h", [("h", 6379)]),
        ("rediss://u:p@h:1/2?ssl_check_hostname=false", [("h", 1)]),
        ("redis://[::1]:7/0", [("::1", 7)]),
        ("unix:///run/a%20b.sock?db=1", ["/run/a b.sock"]),
        ("redis+sentinel://u:p@a:1,b/main/0?sentinel_password=x", [("a", 1), ("b", 26379)]),
        ("rediss+cluster://a:1,[::1]:2", [("a", 1), ("::1", 2)]),
        ("memory://", []),
        ("embedded:///x", []),
    ],
)
def test_addresses_of_urls(url: str, addresses: list[Any]) -> None:
    assert addresses_of(url) == addresses


def test_one_of_several_is_enough(valkey: Server) -> None:
    nobody = ("127.0.0.1", free_port())
    for addresses in ([nobody, ("127.0.0.1", valkey.port)], [("localhost", valkey.port)], [str(valkey.socket)], []):
        assert unreachable(addresses, 1, lambda: False) is None
    assert unreachable([nobody, nobody], 1, lambda: False)


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("/nowhere/s", "Error 2 connecting to /nowhere/s. No such file"),
        (("nowhere.invalid", 1), "connecting to nowhere.invalid:1."),
    ],
)
def test_what_is_wrong_with_an_address_is_told(address: Any, reason: str) -> None:
    assert reason in str(unreachable([address], 1, lambda: False))


def test_a_look_ends_in_time_and_when_it_is_called_off() -> None:
    with silent() as address:
        assert "timed out" in str(unreachable([address], 0.1, lambda: False))
        with pytest.raises(Over):
            unreachable([address], 60, lambda: True)
