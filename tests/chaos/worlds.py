"""Servers and workers, for the length of a block: one server behind a breakable network, Sentinels, a Cluster."""

from __future__ import annotations

import abc
import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import redis

from ..processes import wait_for
from ..servers import Server, free_port, programs
from ..topologies import Cluster, Watched, cluster, is_linked, is_primary, is_whole, sentinels
from .proxy import Proxy
from .reader import finals_of
from .records import Final, Kind
from .stream_checker import IDLE_SECONDS
from .workers import ROOT, Workers, environment

BUDGET_SECONDS = 5.0
TURN_WAIT_SECONDS = 2.0
_HANDLER_SECONDS = 0.5
_SCHEDULING_SECONDS = 1.0

_CALLS: Mapping[Kind, int] = {"start": 5, "turn": 5, "append": 1, "drop": 1, "get": 1, "stranger": 1, "delete": 1}
"""Most calls to the store of one request, each with a budget of its own. A turn: begin, poll, begin again, end, mark as
failed. A start with a message: create, begin, end, mark as failed, load."""

BOUNDS: dict[Kind, float] = {
    kind: calls * BUDGET_SECONDS
    + _SCHEDULING_SECONDS
    + (TURN_WAIT_SECONDS + _HANDLER_SECONDS if kind in ("turn", "start") else 0)
    for kind, calls in _CALLS.items()
}
"""The longest that a request may take inside the app."""

SETTINGS = {
    "CONVSTORE_BUDGET": f"{BUDGET_SECONDS:g}",
    "CONVSTORE_TURN_POLICY": "wait",
    "CONVSTORE_TURN_WAIT": f"{TURN_WAIT_SECONDS:g}",
    "CONVSTORE_TURN_LEASE": "2",
    "CONVSTORE_STREAM_IDLE": f"{IDLE_SECONDS:g}",
    "CONVSTORE_MAX_SESSIONS": "0",  # an owner has many, and none shall go
}

_HEALED_SECONDS = 60
_DOWN_AFTER_MS = 2000
"""Milliseconds of silence for Sentinels. On a busy machine a server is silent for a second, and one that comes back with
nothing on its disk would take over from the one that has all."""


class World(abc.ABC):
    """Servers, network and workers that nemesis breaks and heals.

    Attributes:
        is_durable: A fail-over loses nothing that a server has written.
        url: The URL of the servers themselves, without the network that may be broken.
    """

    name: str
    durability: str
    is_durable: bool

    def __init__(self, folder: Path, url_of_app: str, url: str) -> None:
        self.folder = folder
        self.url = url
        self._settings = {**SETTINGS, "CONVSTORE_DURABILITY": self.durability}
        self.workers = Workers(folder, {**self._settings, "CONVSTORE_URL": url_of_app})

    @abc.abstractmethod
    def servers(self) -> list[Server]:
        """The servers that hold sessions."""

    @abc.abstractmethod
    def heal(self) -> None:
        """Wait until the servers are as they were at first, or raise AssertionError."""

    def version(self) -> str:
        said: Any = self.servers()[0].client.info("server")
        return f"Valkey {said['valkey_version']}"

    def recover(self, seconds: float = 90) -> list[str]:
        """Wait until all is well and nothing is pending. The result is the problem that is left, if that takes too long."""
        try:
            self.heal()
        except (AssertionError, redis.RedisError) as error:
            return [f"the servers do not heal: {error!r}"]
        deadline = time.monotonic() + seconds
        while True:
            health = self.workers.health() or {}
            if health.get("connected") and health.get("pending") == 0:
                return []
            if time.monotonic() > deadline:
                return [f"the app is not well again after {seconds:g} s: {health}"]
            time.sleep(0.1)

    def read_directly(self, sessions: Mapping[str, tuple[str, str | None]]) -> list[Final]:
        """The sessions (label > id and owner) as a fresh process reads them, with no app between."""
        instance = self.folder / "reader"
        instance.mkdir(exist_ok=True)
        settings = environment(instance, {**self._settings, "CONVSTORE_URL": self.url})
        command = [sys.executable, "-m", "tests.chaos.reader"]
        asked = json.dumps(sessions).encode()
        done = subprocess.run(command, cwd=ROOT, env=settings, input=asked, stdout=subprocess.PIPE, check=True)
        return finals_of(done.stdout)


class SingleWorld(World):
    """One server, which has on its disk what it acknowledges, behind a network that can be broken."""

    name = "single"
    durability = "fsync"
    is_durable = True

    def __init__(self, folder: Path, server: Server, proxy: Proxy) -> None:
        super().__init__(folder, f"redis://127.0.0.1:{proxy.port}/0", server.url)
        self.server = server
        self.proxy = proxy

    def servers(self) -> list[Server]:
        return [self.server]

    def heal(self) -> None:
        self.proxy.tell("pass")
        wait_for(self.server.client.ping, "the server does not answer")


@contextlib.contextmanager
def single() -> Iterator[SingleWorld]:
    with contextlib.ExitStack() as stack:
        folder = _folder(stack)
        server = Server(programs()["valkey"], "--appendonly", "yes", "--appendfsync", "always")
        stack.callback(server.stop)
        proxy = Proxy(free_port(), server.port)
        stack.callback(proxy.stop)
        world = SingleWorld(folder, server, proxy)
        stack.callback(world.workers.kill_with_master)
        world.workers.start()
        yield world


class ReplicatedWorld(World):
    """Primaries with one replica each, which has all that is acknowledged: so that whoever takes over has it too.

    With more replicas than ``replicas:n`` waits for, one could take over that has not heard of it (docs/servers.md).
    """

    durability = "replicas:1"
    is_durable = False
    primaries: int

    @abc.abstractmethod
    def options_of_a_replica(self, primary: Server) -> tuple[str, ...]:
        """Options of a server that comes back to *primary*."""

    @abc.abstractmethod
    def replica_of(self, primary: Server) -> Server:
        """The server that takes over from *primary*."""

    def current_primaries(self) -> list[Server]:
        return [server for server in self.servers() if is_primary(server)]

    def heal(self) -> None:
        wait_for(self._is_whole, "not every primary has its replica again", _HEALED_SECONDS)

    def _is_whole(self) -> bool:
        try:
            roles = [is_primary(server) for server in self.servers()]
            linked = [is_linked(server) for server, primary in zip(self.servers(), roles, strict=True) if not primary]
            return roles.count(True) == self.primaries and all(linked) and self.agree()
        except redis.RedisError:
            return False

    @abc.abstractmethod
    def agree(self) -> bool:
        """True if the processes that decide about fail-overs agree."""


class SentinelWorld(ReplicatedWorld):
    """A primary and a replica, watched by three Sentinels."""

    name = "sentinel"
    primaries = 1

    def __init__(self, folder: Path, watched: Watched) -> None:
        super().__init__(folder, watched.url, watched.url)
        self._servers = [watched.primary, watched.replica]
        self._sentinels = [redis.Redis(port=port) for port in watched.ports]

    def servers(self) -> list[Server]:
        return self._servers

    def replica_of(self, primary: Server) -> Server:
        return next(server for server in self._servers if server is not primary)

    def options_of_a_replica(self, primary: Server) -> tuple[str, ...]:
        return "--replicaof", f"127.0.0.1 {primary.port}"

    def agree(self) -> bool:
        primaries = [str(server.port).encode() for server in self.current_primaries()]
        seen = [self.ask(number, "PRIMARY", "mymaster") for number in range(len(self._sentinels))]
        return all([one[b"port"]] == primaries and one[b"flags"] == b"master" for one in seen)

    def ask(self, number: int, *command: str) -> Any:
        """The answer of a Sentinel. A list of names and values becomes a dict."""
        client: Any = self._sentinels[number]
        said = client.execute_command("SENTINEL", *command)
        return dict(zip(said[::2], said[1::2], strict=True)) if isinstance(said, list) else said

    def close(self) -> None:
        for client in self._sentinels:
            client.close()


class ClusterWorld(ReplicatedWorld):
    """Three primaries with a replica each."""

    name = "cluster"
    primaries = 3

    def __init__(self, folder: Path, cluster: Cluster) -> None:
        super().__init__(folder, cluster.url, cluster.url)
        self.cluster = cluster

    def servers(self) -> list[Server]:
        return [*self.cluster.primaries, *self.cluster.replicas]

    def replica_of(self, primary: Server) -> Server:
        port = str(primary.port)
        replicas = (server for server in self.servers() if not is_primary(server))
        return next(one for one in replicas if str(one.client.info("replication")["master_port"]) == port)

    def options_of_a_replica(self, primary: Server) -> tuple[str, ...]:
        return ()  # its nodes.conf knows whom it belongs to, and the others tell it who has taken over

    def agree(self) -> bool:
        return is_whole(self.cluster)


@contextlib.contextmanager
def sentinel() -> Iterator[SentinelWorld]:
    with contextlib.ExitStack() as stack:
        folder = _folder(stack)
        world = SentinelWorld(folder, stack.enter_context(sentinels(down_after_ms=_DOWN_AFTER_MS)))
        stack.callback(world.close)
        stack.callback(world.workers.kill_with_master)
        world.workers.start()
        yield world


@contextlib.contextmanager
def clustered() -> Iterator[ClusterWorld]:
    with contextlib.ExitStack() as stack:
        folder = _folder(stack)
        world = ClusterWorld(folder, stack.enter_context(cluster(with_replicas=True)))
        stack.callback(world.workers.kill_with_master)
        world.workers.start()
        yield world


def _folder(stack: contextlib.ExitStack) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    return folder
