"""Real clusters and Sentinels on 127.0.0.1, for the length of a block."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import redis

from .processes import wait_for
from .servers import Server, free_port, programs


def told(server: Server, *command: Any) -> Any:
    client: Any = server.client
    return client.execute_command(*command)


@dataclass
class Cluster:
    """Primaries with a third of the slots each, and a replica for each if so asked."""

    primaries: list[Server]
    replicas: list[Server]

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{server.port}" for server in self.primaries)

    def node_id(self, server: Server) -> str:
        return str(told(server, "CLUSTER", "MYID").decode())

    def primary_of(self, slot: int) -> Server:
        """The primary that had the slot at first."""
        return self.primaries[min(slot * len(self.primaries) // 16384, len(self.primaries) - 1)]

    def move(self, slot: int, source: Server, target: Server, *others: Server) -> None:
        """Move a slot with its keys. *others* are the primaries that have no part in it."""
        source_id, target_id = self.node_id(source), self.node_id(target)
        told(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", source_id)
        told(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", target_id)
        while moving := told(source, "CLUSTER", "GETKEYSINSLOT", slot, 10):
            told(source, "MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *moving)
        for server in (target, source, *others):
            told(server, "CLUSTER", "SETSLOT", slot, "NODE", target_id)


@contextlib.contextmanager
def cluster(primaries: int = 3, *, with_replicas: bool = False) -> Iterator[Cluster]:
    with contextlib.ExitStack() as stack:
        buses = [free_port() for _ in range(primaries * (2 if with_replicas else 1))]
        servers = []
        for bus in buses:
            server = Server(
                programs()["valkey"],
                *("--cluster-enabled", "yes", "--cluster-port", str(bus), "--cluster-node-timeout", "500"),
                *("--repl-diskless-sync-delay", "0"),
            )
            stack.callback(server.stop)
            servers.append(server)
        found = Cluster(servers[:primaries], servers[primaries:])
        for number, server in enumerate(found.primaries):
            first, last = (16384 * part // primaries for part in (number, number + 1))
            told(server, "CLUSTER", "ADDSLOTSRANGE", first, last - 1)
            told(server, "CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for server, bus in zip(servers[1:], buses[1:], strict=True):
            told(servers[0], "CLUSTER", "MEET", "127.0.0.1", server.port, bus)
        wait_for(partial(_all_know, servers), "the nodes do not meet")
        for primary, replica in zip(found.primaries, found.replicas, strict=False):
            told(replica, "CLUSTER", "REPLICATE", found.node_id(primary))
        wait_for(partial(_all_up, servers, found.replicas), "the cluster does not come up")
        yield found


def _all_know(servers: list[Server]) -> bool:
    return all(int(_info(server)["cluster_known_nodes"]) == len(servers) for server in servers)


def _all_up(servers: list[Server], replicas: list[Server]) -> bool:
    is_ok = all(_info(server)["cluster_state"] == "ok" for server in servers)
    return is_ok and all(is_linked(replica) for replica in replicas)


def is_linked(replica: Server) -> bool:
    """True if it is a replica and has everything that its primary has."""
    return bool(replica.client.info("replication").get("master_link_status") == "up")


def is_primary(server: Server) -> bool:
    return bool(server.client.info("replication")["role"] == "master")


def is_whole(cluster: Cluster) -> bool:
    """True if all nodes say that all is well and none suspects another."""
    servers = [*cluster.primaries, *cluster.replicas]
    return all(
        _info(server)["cluster_state"] == "ok" and b"fail" not in told(server, "CLUSTER", "NODES") for server in servers
    )


def _info(server: Server) -> dict[str, str]:
    shown = told(server, "CLUSTER", "INFO")
    if isinstance(shown, dict):
        return shown
    return dict(line.split(":", 1) for line in shown.decode().split("\r\n") if ":" in line)


@dataclass
class Watched:
    """A primary with a replica, watched by three Sentinels."""

    primary: Server
    replica: Server
    ports: list[int]
    host: str = "127.0.0.1"

    @property
    def url(self) -> str:
        return "redis+sentinel://" + ",".join(f"{self.host}:{port}" for port in self.ports) + "/mymaster/0"


@contextlib.contextmanager
def sentinels(password: str | None = None, down_after_ms: int = 500) -> Iterator[Watched]:
    with contextlib.ExitStack() as stack:
        primary, replica = (Server(programs()["valkey"], "--repl-diskless-sync-delay", "0") for _ in range(2))
        for server in (primary, replica):
            stack.callback(server.stop)
        with watched(primary, [replica], password, down_after_ms) as found:
            yield found


@contextlib.contextmanager
def watched(
    primary: Server, replicas: list[Server], password: str | None = None, down_after_ms: int = 500
) -> Iterator[Watched]:
    """The *replicas* follow the *primary*, and three Sentinels beside them watch it. They may want a *password*."""
    host, within = replicas[0].host, replicas[0].within
    with contextlib.ExitStack() as stack:
        for replica in replicas:
            replica.client.replicaof(primary.host, primary.port)
            wait_for(partial(is_linked, replica), "no replication")
        ports: list[int] = []
        secret = f"requirepass {password}\nsentinel sentinel-pass {password}\n" if password else ""
        for _ in range(3):
            file = Path(primary.folder, f"sentinel{len(ports)}.conf")
            file.write_text(
                f"sentinel monitor mymaster {primary.host} {primary.port} 2\n"
                f"sentinel down-after-milliseconds mymaster {down_after_ms}\n"
                f"sentinel failover-timeout mymaster 2000\n{secret}"
            )
            ports.append(_sentinel(stack, file, host, within))
        clients = [redis.Redis(host, port, password=password) for port in ports]
        wait_for(
            lambda: all(_sees_all(client, len(replicas)) for client in clients), "the sentinels do not see each other"
        )
        for client in clients:
            client.close()
        yield Watched(primary, replicas[0], ports, host)


def _sentinel(stack: contextlib.ExitStack, file: Path, host: str, within: tuple[str, ...]) -> int:
    import subprocess

    port = free_port()
    command = [*within, str(programs()["valkey"]), str(file), "--sentinel", "--port", str(port), "--bind", host]
    command += ["--protected-mode", "no"]
    process = subprocess.Popen([*command, "--logfile", str(file.with_suffix(".log"))], start_new_session=True)

    def stop() -> None:
        process.terminate()
        process.wait(10)

    stack.callback(stop)
    return port


def _sees_all(client: Any, count: int) -> bool:
    try:
        others, replicas = (client.execute_command("SENTINEL", what, "mymaster") for what in ("SENTINELS", "REPLICAS"))
    except redis.RedisError:
        return False
    return len(others) == 2 and len(replicas) == count
