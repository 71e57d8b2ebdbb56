"""A partition: packets vanish, and no connection is closed or refused. Every call ends in its budget, nothing is lost."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Literal

import pytest
import redis

from flask_convstore import Message, StoreUnavailable
from flask_convstore.domain.commands import new_token

from ...namespaces import Island, island, missing
from ...processes import is_alive, wait_for
from ...servers import Server, running
from ...service import Service
from ...topologies import watched

pytestmark = [
    pytest.mark.server,
    pytest.mark.skipif(bool(missing()), reason=missing() or "never"),
]

SLACK = 0.75
"""Seconds that a call may take over its budget, since threads wait for each other's Python."""


@pytest.fixture
def cut_off() -> Iterator[Island]:
    with island() as found:
        yield found


@pytest.fixture
def server(cut_off: Island) -> Iterator[Server]:
    with running("valkey", "--protected-mode", "no", host=cut_off.there, within=cut_off.within) as found:
        yield found


@pytest.mark.parametrize(
    "url",
    [
        "redis://{0}:7000",
        "rediss://{0}:7000",
        "redis+sentinel://{0}:7000,{0}:7001,{0}:7002/mymaster",
        "redis+cluster://{0}:7000,{0}:7001,{0}:7002",
    ],
)
@pytest.mark.parametrize("budget", [0.3, 1, 2.5])
def test_a_black_hole_ends_with_the_budget(cut_off: Island, url: str, budget: float) -> None:
    """The SYN is dropped, and a connection may take 2 s: it takes what is left."""
    cut_off.cut()
    service = Service(url.format(cut_off.there), FALLBACK="none", BUDGET=budget, CONNECT_TIMEOUT=2)
    started = time.monotonic()
    with service.app.app_context(), pytest.raises(StoreUnavailable, match="cannot reach") as caught:
        service.convstore.append("s", Message("a"))
    assert budget - 0.25 < time.monotonic() - started < budget + SLACK
    assert (caught.value.written, caught.value.is_down) == (False, True)


class Load:
    """Threads that append, each to its own session. A message is repeated until it is acknowledged."""

    def __init__(self, service: Service, threads: int = 6) -> None:
        self._service = service
        self._go_on = True
        self.acknowledged: dict[str, list[str]] = {f"load{number}": [] for number in range(threads)}
        self.longest = 0.0
        self.refused = 0
        self.surprises: list[Exception] = []
        self._threads = [threading.Thread(target=self._write, args=(name,)) for name in self.acknowledged]

    def __enter__(self) -> Load:
        with self._service.app.app_context():
            for session_id in self.acknowledged:
                self._service.convstore.save_session(session_id, [])
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._go_on = False
        for thread in self._threads:
            thread.join()

    def _write(self, session_id: str) -> None:
        with self._service.app.app_context():
            done = self.acknowledged[session_id]
            while self._go_on:
                token = new_token()
                while True:
                    started = time.monotonic()
                    try:
                        self._service.convstore.append(session_id, Message(str(len(done))), token=token)
                        done.append(str(len(done)))
                        break
                    except StoreUnavailable as error:
                        self.refused += 1
                        time.sleep(0.01 if error.written is None else 0.001)
                    except Exception as error:
                        self.surprises.append(error)
                        return
                    finally:
                        self.longest = max(self.longest, time.monotonic() - started)

    def waited_for(self, count: int, seconds: float = 20) -> None:
        """All threads have so much more acknowledged."""
        before = {name: len(done) for name, done in self.acknowledged.items()}
        wait_for(
            lambda: (
                self.surprises or all(len(done) >= before[name] + count for name, done in self.acknowledged.items())
            ),
            "the load does not go on",
            seconds,
        )
        assert self.surprises == []


@pytest.mark.parametrize("how", ["cut", "lose_replies"])
def test_a_partition_under_load(cut_off: Island, server: Server, how: Literal["cut", "lose_replies"]) -> None:
    """Also one in which our writes arrive and their answers do not: they are there once."""
    service = Service(server.url, FALLBACK="none", BUDGET=1.5, COMMAND_TIMEOUT=0.5, CONNECT_TIMEOUT=1)
    with Load(service) as load:
        load.waited_for(20)
        getattr(cut_off, how)()
        wait_for(lambda: load.refused > 20, "nothing is refused")
        began = {name: len(done) for name, done in load.acknowledged.items()}
        time.sleep(1)
        assert began == {name: len(done) for name, done in load.acknowledged.items()}
        cut_off.heal()
        healed = time.monotonic()
        load.waited_for(1, 8)
        assert time.monotonic() - healed < 5
        load.waited_for(20)
    assert load.longest < 1.5 + SLACK
    with service.app.app_context():
        for session_id, acknowledged in load.acknowledged.items():
            assert service.convstore.get_session(session_id) == acknowledged


def test_silent_sentinels_end_with_the_budget(cut_off: Island, server: Server) -> None:
    """Those that we are connected to already: each would be waited for."""
    with (
        running("valkey", "--protected-mode", "no", host=cut_off.there, within=cut_off.within) as replica,
        watched(server, [replica]) as found,
    ):
        service = Service(found.url, FALLBACK="none", BUDGET=1, COMMAND_TIMEOUT=0.8)
        with service.app.app_context():
            service.convstore.save_session("s", [])
            cut_off.cut()
            for _ in range(3):
                started = time.monotonic()
                with pytest.raises(StoreUnavailable):
                    service.convstore.append("s", Message("a"), token="T")
                assert time.monotonic() - started < 1 + SLACK
            cut_off.heal()
            wait_for(lambda: _says(service, "s", "a", "T"), "it does not come back")
            assert service.convstore.get_session("s") == ["a"]


def _says(service: Service, session_id: str, text: str, token: str) -> bool:
    try:
        service.convstore.append(session_id, Message(text), token=token)
    except StoreUnavailable:
        return False
    return True


def test_a_turn_that_a_partition_interrupts_is_finished_once(cut_off: Island, server: Server) -> None:
    service = Service(server.url, FALLBACK="none", BUDGET=0.5, COMMAND_TIMEOUT=0.5)
    with service.app.app_context():
        service.convstore.save_session("s", [])
        with service.convstore.turn("s", Message("question")) as turn:
            cut_off.lose_replies()
            with pytest.raises(StoreUnavailable) as caught:
                turn.reply("answer")
            assert caught.value.written is None
            cut_off.heal()
            turn.reply("answer")
        assert service.convstore.get_session("s") == ["question", {"role": "assistant", "content": "answer"}]


def _is_replica(server: Server) -> bool:
    with contextlib.suppress(redis.ConnectionError):  # a Sentinel closes the connections of who was a primary
        return bool(server.client.info("replication")["role"] == "slave")
    return False


def test_what_a_minority_acknowledges(cut_off: Island, server: Server) -> None:
    """The primary is cut off with some of its clients, who reach it by its socket. The Sentinels make another.

    With ``replicas:1`` it acknowledges nothing that is lost. Without, it does: hence the level.
    """
    options = ("--protected-mode", "no", "--repl-diskless-sync-delay", "0")
    with (
        running("valkey", *options, host=cut_off.here) as replica,
        running("valkey", *options, host=cut_off.here) as another,
        watched(server, [replica, another]) as found,
    ):
        outside = Service(found.url, DURABILITY="replicas:1", COMMAND_TIMEOUT=1, BUDGET=15, RETRIES=100)
        careless, careful = (
            Service(server.unix_url, DURABILITY=level, COMMAND_TIMEOUT=1, RETRIES=0)
            for level in ("primary", "replicas:1")
        )
        said: dict[str, list[str]] = {"outside": [], "careless": [], "careful": []}

        def say(service: Service, name: str, text: str) -> None:
            with service.app.app_context():
                service.convstore.append(name, Message(text))
                said[name].append(text)

        with outside.app.app_context():
            for name in said:
                outside.convstore.save_session(name, [])
        for service, name in ((outside, "outside"), (careless, "careless"), (careful, "careful")):
            say(service, name, "before")
        cut_off.cut()
        for number in range(5):
            say(careless, "careless", f"lost {number}")
            with pytest.raises(StoreUnavailable, match="0 of 1 replicas") as caught:
                say(careful, "careful", f"never told {number}")
            assert caught.value.written is True
        say(outside, "outside", "meanwhile")
        cut_off.heal()
        wait_for(lambda: _is_replica(server), "it does not give in", 40)
        for name in said:
            say(outside, name, "after")
        with outside.app.app_context():
            assert outside.convstore.get_session("outside") == said["outside"]
            assert outside.convstore.get_session("careful") == said["careful"]
            assert outside.convstore.get_session("careless") == ["before", "after"] != said["careless"]


def test_nothing_of_a_network_stays() -> None:
    """Nor after Ctrl-C."""
    with pytest.raises(KeyboardInterrupt), island() as found:
        assert found.name in shown("netns", "list")
        assert found.here in shown("address")
        raise KeyboardInterrupt
    assert found.name not in shown("netns", "list")
    assert found.here not in shown("address")


def test_nothing_stays_of_a_process_that_is_killed() -> None:
    code = "import os; from tests.namespaces import *; from tests.servers import *\n"
    code += "with island() as found, running('valkey', host=found.there, within=found.within) as server:\n"
    code += "    print(found.name, server.process.pid, server.folder, flush=True); os.kill(os.getpid(), 9)"
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    name, pid, folder = done.stdout.split()
    wait_for(lambda: name not in shown("netns", "list") and not is_alive(int(pid)), "it stays", 5)
    shutil.rmtree(folder)


def shown(*what: str) -> str:
    return subprocess.run(["ip", *what], check=True, capture_output=True, text=True).stdout
