"""The worlds ``continue``: three hosts, each with a journal of its own, go on with the same sessions while Redis is away.

In the one each host has a network of its own, and the server dies. In the other one Sentinels let a replica take over.

Each message that was acknowledged stands in its session in the end, once, and behind those that its host had acknowledged
before it was sent. Each answer of a journal says that it is partial, and each other one has all that was acknowledged.
"""

from __future__ import annotations

import abc
import contextlib
import random
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..processes import wait_for
from ..servers import Server, free_port, programs
from ..topologies import sentinels
from .checker import Finding
from .connection import Answer, Connection
from .nemesis import Struck, kill_primary
from .proxy import Proxy
from .records import Attempt, Operation, mark_of, text_of
from .run import Result
from .workers import Workers
from .worlds import SETTINGS, SentinelWorld

_HOSTS = ("a", "b", "c")
_CLIENTS = 3
"""Clients of each host."""
_SESSIONS = 6
_PACE_SECONDS = 0.05
_TRIES = 20
_WELL_SECONDS = 120


class Host:
    """A gunicorn with a journal of its own."""

    def __init__(self, folder: Path, name: str, url: str, durability: str) -> None:
        self.name = name
        settings = {**SETTINGS, "CONVSTORE_OUTAGE": "continue", "CONVSTORE_BUDGET": "1", "CONVSTORE_URL": url}
        folder.mkdir()
        self.workers = Workers(folder, {**settings, "CONVSTORE_DURABILITY": durability})

    def is_well(self) -> bool:
        health = self.workers.health() or {}
        return bool(health.get("connected")) and health.get("pending") == 0


class Client(threading.Thread):
    """Sends messages to its host, one after the other, and reads now and then. A message is repeated until it is taken."""

    def __init__(self, host: Host, name: str, sessions: Sequence[str], chance: random.Random) -> None:
        super().__init__(name=name, daemon=True)
        self._host, self._sessions, self._chance = host, sessions, chance
        self.operations: list[Operation] = []
        self.answers: list[tuple[Operation, Answer]] = []
        self.ending = threading.Event()

    def run(self) -> None:
        connection = Connection(self._host.workers.port, timeout=30)
        number = 0
        while not self.ending.is_set():
            number += 1
            session_id = self._chance.choice(self._sessions)
            (self._read if self._chance.random() < 0.25 else self._say)(connection, session_id, number)
            time.sleep(_PACE_SECONDS)
        connection.close()

    def _say(self, connection: Connection, session_id: str, number: int) -> None:
        turn = Operation(self.name, number, "turn", session_id, session_id, None, parts=1, has_reply=True)
        text = text_of(turn.marks()[0])
        headers = {"Idempotency-Key": text[:50]}
        for _ in range(_TRIES):
            answer = self._ask(connection, turn, "POST", "/messages", {"content": text}, headers)
            if answer.status == 201:
                turn.outcome = "ok"
                return
            if answer.status not in (None, 0, 409, 429, 503):
                turn.outcome, turn.odd = "failed", f"{answer.status} {answer.json}"
                return
            time.sleep(0.3)

    def _read(self, connection: Connection, session_id: str, number: int) -> None:
        get = Operation(self.name, number, "get", session_id, session_id, None)
        answer = self._ask(connection, get, "GET")
        get.outcome = "ok" if answer.status == 200 else "failed"

    def _ask(
        self,
        connection: Connection,
        operation: Operation,
        method: str,
        path: str = "",
        body: Any = None,
        headers: Mapping[str, str] = {},
    ) -> Answer:
        answer = connection.call(method, f"/sessions/{operation.session_id}{path}", body, **headers)
        is_degraded = bool(answer.headers and answer.headers.get("Convstore-Degraded"))
        operation.attempts.append(Attempt(answer.began, answer.ended, answer.status, is_degraded=is_degraded))
        operation.began, operation.ended = operation.attempts[0].began, answer.ended
        if operation not in self.operations:
            self.operations.append(operation)
        self.answers.append((operation, answer))
        return answer


class World(abc.ABC):
    """Servers, and three hosts.

    Attributes:
        folder: A folder for the hosts.
        faults: What breaks them, by name.
    """

    name: str
    durability: str
    faults: Mapping[str, Callable[[Any, random.Random], None]]

    def __init__(self, stack: contextlib.ExitStack) -> None:
        temporary = tempfile.TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True)
        self.folder = Path(stack.enter_context(temporary))
        self.hosts = [Host(self.folder / name, name, self.url_for(stack, name), self.durability) for name in _HOSTS]
        for host in self.hosts:
            stack.callback(host.workers.kill_with_master)
            host.workers.start()

    @abc.abstractmethod
    def url_for(self, stack: contextlib.ExitStack, name: str) -> str:
        """Make what the host of that name needs to reach the servers."""

    @property
    @abc.abstractmethod
    def server(self) -> Server:
        """A server that leads."""

    @abc.abstractmethod
    def mend(self) -> None:
        """Let the servers be reached again."""

    def heal(self) -> None:
        """Wait until all is handed over, or raise AssertionError."""
        self.mend()
        for host in self.hosts:
            wait_for(host.is_well, f"host {host.name} is not well again", _WELL_SECONDS)


class CutWorld(World):
    """A server that has on its disk what it acknowledges. Each host is behind a network of its own."""

    name = "continue"
    durability = "fsync"

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self._server = Server(programs()["valkey"], "--appendonly", "yes", "--appendfsync", "always")
        stack.callback(self._server.stop)
        self.proxies: dict[str, Proxy] = {}
        self.faults = _OF_NETWORKS
        super().__init__(stack)

    def url_for(self, stack: contextlib.ExitStack, name: str) -> str:
        proxy = self.proxies[name] = Proxy(free_port(), self._server.port)
        stack.callback(proxy.stop)
        return f"redis://127.0.0.1:{proxy.port}/0"

    @property
    def server(self) -> Server:
        return self._server

    def tell(self, mode: str, **more: Any) -> None:
        """Tell all networks."""
        for proxy in self.proxies.values():
            proxy.tell(mode, **more)

    def mend(self) -> None:
        self.tell("pass")
        wait_for(self._server.client.ping, "the server does not answer")


class FailingOverWorld(World):
    """A primary and a replica, which has what is acknowledged, watched by three Sentinels."""

    name = "continue-sentinel"
    durability = "replicas:1"

    def __init__(self, stack: contextlib.ExitStack) -> None:
        watched = stack.enter_context(sentinels())
        self._url = watched.url
        self.faults = _OF_FAIL_OVERS
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True))
        self.servers = SentinelWorld(Path(folder), watched)
        stack.callback(self.servers.close)
        super().__init__(stack)

    def url_for(self, stack: contextlib.ExitStack, name: str) -> str:
        return self._url

    @property
    def server(self) -> Server:
        return self.servers.servers()[0]

    def mend(self) -> None:
        self.servers.heal()


# ---- faults


def _server_killed(world: CutWorld, chance: random.Random) -> None:
    world.server.kill()
    time.sleep(chance.uniform(2, 8))
    world.server.start()


def _one_host_cut_off(world: CutWorld, chance: random.Random) -> None:
    proxy = world.proxies[chance.choice(_HOSTS)]
    proxy.tell("cut")
    time.sleep(chance.uniform(2, 8))
    proxy.tell("pass")


def _flapping(world: CutWorld, chance: random.Random) -> None:
    for _ in range(12):
        for proxy in world.proxies.values():
            proxy.tell(chance.choice(("cut", "pass")))
        time.sleep(0.3)
    world.tell("pass")


@contextlib.contextmanager
def _slow_hand_over(world: CutWorld, chance: random.Random) -> Iterator[None]:
    """Let all hosts be cut off for a while. In the block they hand over, slowly."""
    world.tell("cut")
    time.sleep(chance.uniform(2, 6))
    world.tell("slow", delay=0.01)
    yield
    world.tell("pass")


def _killed_while_handing_over(world: CutWorld, chance: random.Random) -> None:
    with _slow_hand_over(world, chance):
        _kill_workers(world, chance)


def _kill_workers(world: World, chance: random.Random) -> None:
    for _ in range(4):
        time.sleep(chance.uniform(0.1, 0.6))
        chance.choice(world.hosts).workers.kill_all()


def _server_killed_while_handing_over(world: CutWorld, chance: random.Random) -> None:
    with _slow_hand_over(world, chance):
        time.sleep(chance.uniform(0.2, 1.5))
        world.server.kill()
        time.sleep(chance.uniform(0.5, 2))
        world.server.start()


def _replies_lost(world: CutWorld, chance: random.Random) -> None:
    proxy = world.proxies[chance.choice(_HOSTS)]
    proxy.tell("lossy", loss=0.7, seed=chance.random())
    time.sleep(chance.uniform(1, 4))
    proxy.tell("pass")


_OF_NETWORKS: Mapping[str, Callable[[CutWorld, random.Random], None]] = {
    "server killed": _server_killed,
    "one host cut off": _one_host_cut_off,
    "network flapping": _flapping,
    "workers killed while handing over": _killed_while_handing_over,
    "server killed while handing over": _server_killed_while_handing_over,
    "replies lost": _replies_lost,
}


@contextlib.contextmanager
def _all_stood_still(world: FailingOverWorld, chance: random.Random) -> Iterator[None]:
    """Let primary and replica stand still for a while. In the block they have gone on, and much is handed over."""
    for server in world.servers.servers():
        server.process.send_signal(signal.SIGSTOP)
    time.sleep(chance.uniform(2, 6))
    for server in world.servers.servers():
        server.process.send_signal(signal.SIGCONT)
    time.sleep(chance.uniform(0, 1))
    yield


def _frozen(world: FailingOverWorld, chance: random.Random) -> None:
    with _all_stood_still(world, chance):
        pass


def _failed_over_while_handing_over(world: FailingOverWorld, chance: random.Random) -> None:
    with _all_stood_still(world, chance):
        world.mend()
        kill_primary(world.servers, chance)


def _workers_killed_behind_a_freeze(world: FailingOverWorld, chance: random.Random) -> None:
    with _all_stood_still(world, chance):
        _kill_workers(world, chance)


def _primary_killed(world: FailingOverWorld, chance: random.Random) -> None:
    world.mend()
    kill_primary(world.servers, chance)


_OF_FAIL_OVERS: Mapping[str, Callable[[FailingOverWorld, random.Random], None]] = {
    "servers frozen": _frozen,
    "fail-over while handing over": _failed_over_while_handing_over,
    "workers killed while handing over": _workers_killed_behind_a_freeze,
    "primary killed": _primary_killed,
}

WORLDS: dict[str, type[World]] = {kind.name: kind for kind in (CutWorld, FailingOverWorld)}


# ---- a run


def run(name: str, seconds: float, seed: int) -> Result:
    """Load and faults for so many *seconds*, then the last reads."""
    chance = random.Random(f"{seed} {name}")
    struck: list[Struck] = []
    problems: list[str] = []
    with contextlib.ExitStack() as stack:
        world = WORLDS[name](stack)
        said: Any = world.server.client.info("server")
        sessions = [_started(world.hosts[0]) for _ in range(_SESSIONS)]
        clients = [
            Client(host, f"{host.name}{number}", sessions, random.Random(f"{seed} {host.name}{number}"))
            for host in world.hosts
            for number in range(_CLIENTS)
        ]
        began = time.monotonic()
        for client in clients:
            client.start()
        while time.monotonic() < began + seconds:
            fault = chance.choice(sorted(world.faults))
            at = time.monotonic()
            world.faults[fault](world, chance)
            struck.append(Struck(fault, at, time.monotonic()))
            time.sleep(chance.uniform(0.5, 3))
        took = time.monotonic() - began
        for client in clients:
            client.ending.set()
        try:
            world.heal()
        except AssertionError as error:
            problems.append(str(error))
        for client in clients:
            client.join(60)
        with contextlib.suppress(AssertionError):
            world.heal()
        finals = {session_id: _texts(world.hosts[-1], session_id) for session_id in sessions}
    operations = [operation for client in clients for operation in client.operations]
    result = Result(name, WORLDS[name].durability, f"Valkey {said['valkey_version']}", took, operations, [], struck)
    result.findings = [*_of_finals(operations, finals), *_of_reads(clients)]
    result.findings += [Finding("errors", problem) for problem in problems]
    result.findings += [Finding("errors", operation.odd) for operation in operations if operation.odd]
    return result


def _started(host: Host) -> str:
    connection = Connection(host.workers.port)
    answer = connection.call("POST", "/sessions", {})
    connection.close()
    return str(answer.json["session_id"])


def _texts(host: Host, session_id: str) -> list[str]:
    connection = Connection(host.workers.port, timeout=60)
    answer = connection.call("GET", f"/sessions/{session_id}")
    connection.close()
    return [message["content"] for message in answer.json.get("history", [])]


# ---- the judge


def _of_finals(operations: Sequence[Operation], finals: Mapping[str, list[str]]) -> Iterator[Finding]:
    for session_id, texts in finals.items():
        places = {text: place for place, text in enumerate(texts)}
        of_session = [one for one in operations if one.kind == "turn" and one.session_id == session_id]
        for text in set(texts):
            if texts.count(text) > 1:
                yield Finding("duplicated", f"{session_id}: {text}")
        for turn in of_session:
            if turn.is_acknowledged:
                yield from _of_turn(turn, places)
        known = {text_of(turn.marks()[0]) for turn in of_session}
        for text in places:
            mark = mark_of(text)
            if mark and not mark.is_reply and text not in known:
                yield Finding("foreign", f"{session_id}: {text}")
        yield from _of_order([turn for turn in of_session if turn.is_acknowledged], places)


def _of_turn(turn: Operation, places: Mapping[str, int]) -> Iterator[Finding]:
    message = text_of(turn.marks()[0])
    for text in (message, f"re: {message}"):
        if text not in places:
            yield Finding("lost", f"{turn.session_id}: {text}")
    if {message, f"re: {message}"} <= places.keys() and places[f"re: {message}"] < places[message]:
        yield Finding("torn", f"{turn.session_id}: {message} stands behind its reply")


def _of_order(turns: Sequence[Operation], places: Mapping[str, int]) -> Iterator[Finding]:
    """Compare what one host had acknowledged before it was asked for the next."""
    for host in {turn.client[0] for turn in turns}:
        own = sorted((turn for turn in turns if turn.client[0] == host), key=lambda turn: turn.attempts[-1].began)
        latest: tuple[int, str] = (-1, "")
        waiting = sorted(own, key=lambda turn: turn.ended)
        for turn in sorted(own, key=lambda turn: turn.began):
            while waiting and waiting[0].ended < turn.began:
                text = text_of(waiting.pop(0).marks()[0])
                latest = max(latest, (places.get(text, -1), text))
            text = text_of(turn.marks()[0])
            if text in places and places[text] < latest[0]:
                yield Finding("reordered", f"{turn.session_id}: {text} stands before {latest[1]} of the same host")


def _of_reads(clients: Sequence[Client]) -> Iterator[Finding]:
    """Look for partial answers that do not say so, and whole ones that say so or lack something."""
    told: dict[str, list[tuple[float, str]]] = {}
    for client in clients:
        for turn, answer in client.answers:
            if turn.kind == "turn" and answer.status == 201 and not _marks(answer)[0]:
                told.setdefault(str(turn.session_id), []).append((answer.ended, text_of(turn.marks()[0])))
    for client in clients:
        for operation, answer in client.answers:
            if answer.status not in (200, 201):
                continue
            is_degraded, is_partial = _marks(answer)
            if is_degraded != is_partial:
                yield Finding("unmarked", f"{operation.session_id}: degraded {is_degraded}, partial {is_partial}")
            if operation.kind == "get" and not is_partial:
                texts = {message["content"] for message in answer.json["history"]}
                for at, text in told.get(str(operation.session_id), ()):
                    if at < answer.began and text not in texts:
                        yield Finding("unmarked", f"{operation.session_id}: a whole answer lacks {text}")


def _marks(answer: Answer) -> tuple[bool, bool]:
    headers: Any = answer.headers or {}
    return headers.get("Convstore-Degraded") is not None, headers.get("Convstore-Partial") is not None
