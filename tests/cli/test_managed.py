"""Conversations and ``doctor`` on a real Valkey whose user lacks what a managed service forbids by its published documents.

docs/managed.md has the same rows, with the pages that they were taken from. No service itself was tried.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import pytest
from flask import Flask

from flask_convstore import ConversationStore, StoreMisconfigured

from ..project.test_docs import TEXTS, do_everything
from ..servers import Server, running
from ..topologies import cluster, told
from .test_doctor import findings


class Service(NamedTuple):
    """The limits of a service.

    Attributes:
        policy: Its eviction policy by default ("": not found).
        forbids: Commands, separated by commas, that it forbids or lacks.
        is_cluster: It is a Cluster, or can be one that an app sees.
    """

    policy: str
    forbids: str
    is_cluster: bool = False


_ENTERPRISE = (
    "ACL DELUSER, ACL GENPASS, ACL LOAD, ACL LOG, ACL SAVE, ACL SETUSER, BGREWRITEAOF, BGSAVE, CLIENT CACHING, "
    "CLIENT GETREDIR, CLIENT NO-EVICT, CLIENT PAUSE, CLIENT REPLY, CLIENT TRACKING, CLIENT TRACKINGINFO, CLIENT UNPAUSE, "
    "CONFIG GET, CONFIG RESETSTAT, DEBUG, FAILOVER, LASTSAVE, LATENCY DOCTOR, LATENCY GRAPH, LATENCY HELP, LATENCY HISTORY, "
    "LATENCY LATEST, LATENCY RESET, MEMORY DOCTOR, MEMORY MALLOC-STATS, MEMORY PURGE, MEMORY STATS, MIGRATE, MODULE HELP, "
    "MODULE LOAD, MODULE LOADEX, MODULE UNLOAD, MOVE, PSYNC, REPLCONF, REPLICAOF, RESET, RESTORE-ASKING, ROLE, SAVE, "
    "SCRIPT DEBUG, SELECT, SHUTDOWN, SLAVEOF, SWAPDB, SYNC"
)
_ELASTICACHE = (
    "ACL DELUSER, ACL LOAD, ACL SAVE, ACL SETUSER, BGREWRITEAOF, BGSAVE, CLUSTER ADDSLOTS, CLUSTER ADDSLOTSRANGE, "
    "CLUSTER BUMPEPOCH, CLUSTER DELSLOTS, CLUSTER DELSLOTSRANGE, CLUSTER FAILOVER, CLUSTER FLUSHSLOTS, CLUSTER FORGET, "
    "CLUSTER LINKS, CLUSTER MEET, CLUSTER SETSLOT, CONFIG, DEBUG, MIGRATE, PSYNC, REPLICAOF, SAVE, SHUTDOWN, SLAVEOF, SYNC"
)
SERVICES = {
    "Upstash": Service(
        "noeviction",
        "ASKING, BGREWRITEAOF, BGSAVE, CLUSTER, CONFIG GET, DEBUG, FAILOVER, LASTSAVE, LATENCY, MIGRATE, MODULE, MOVE, "
        "OBJECT, PSYNC, PUBSUB, READONLY, READWRITE, REPLICAOF, ROLE, SAVE, SHUTDOWN, SLAVEOF, SLOWLOG, SORT, SPUBLISH, "
        "SSUBSCRIBE, SWAPDB, SYNC",
    ),
    "Redis Cloud": Service("volatile-lru", f"{_ENTERPRISE}, WAIT"),
    "ElastiCache": Service("volatile-lru", _ELASTICACHE),
    "ElastiCache Serverless": Service(
        "",
        f"{_ELASTICACHE}, ACL LOG, CLIENT CACHING, CLIENT GETREDIR, CLIENT ID, CLIENT INFO, CLIENT KILL, CLIENT LIST, "
        "CLIENT NO-EVICT, CLIENT PAUSE, CLIENT TRACKING, CLIENT TRACKINGINFO, CLIENT UNBLOCK, CLIENT UNPAUSE, "
        "CLUSTER COUNT-FAILURE-REPORTS, COMMANDLOG, FCALL, FCALL_RO, FUNCTION, KEYS, LASTSAVE, LATENCY, MEMORY, MONITOR, "
        "MOVE, OBJECT, PFDEBUG, PFSELFTEST, PSUBSCRIBE, PUBSUB NUMPAT, PUNSUBSCRIBE, SCRIPT KILL, SLOWLOG, SWAPDB, WAIT",
        is_cluster=True,
    ),
    "MemoryDB": Service(
        "",
        "ACL DELUSER, ACL LOAD, ACL SAVE, ACL SETUSER, BGREWRITEAOF, BGSAVE, CLUSTER ADDSLOTS, CLUSTER DELSLOTS, "
        "CLUSTER SETSLOT, CONFIG, DEBUG, MIGRATE, MODULE, PSYNC, REPLICAOF, SAVE, SHUTDOWN, SLAVEOF, SYNC",
        is_cluster=True,
    ),
    "Azure Cache for Redis": Service(
        "volatile-lru",
        "BGREWRITEAOF, BGSAVE, CLUSTER ADDSLOTS, CLUSTER ADDSLOTSRANGE, CLUSTER BUMPEPOCH, CLUSTER DELSLOTS, "
        "CLUSTER DELSLOTSRANGE, CLUSTER FAILOVER, CLUSTER FLUSHSLOTS, CLUSTER FORGET, CLUSTER MEET, CLUSTER REPLICATE, "
        "CLUSTER RESET, CLUSTER SAVECONFIG, CLUSTER SET-CONFIG-EPOCH, CLUSTER SETSLOT, CONFIG, DEBUG, MIGRATE, SAVE, "
        "SHUTDOWN, SLAVEOF",
    ),
    "Azure Managed Redis": Service("volatile-lru", _ENTERPRISE, is_cluster=True),
    "Memorystore for Redis": Service(
        "",
        "ACL CAT, ACL DELUSER, ACL GENPASS, ACL GETUSER, ACL HELP, ACL LIST, ACL LOAD, ACL LOG, ACL SAVE, ACL SETUSER, "
        "ACL USERS, ACL WHOAMI, BGREWRITEAOF, BGSAVE, CLIENT, CLUSTER, COMMAND, CONFIG, DEBUG, LASTSAVE, MIGRATE, MONITOR, "
        "OBJECT, REPLICAOF, SAVE, SHUTDOWN",
    ),
    "Memorystore for Valkey": Service(
        "volatile-lru",
        "ACL, BGREWRITEAOF, BGSAVE, CLIENT NO-EVICT, CLIENT NO-TOUCH, CLIENT PAUSE, CLIENT SETINFO, CLIENT UNBLOCK, "
        "CLIENT UNPAUSE, CONFIG GET, CONFIG RESETSTAT, CONFIG REWRITE, CONFIG SET, DEBUG, FAILOVER, LASTSAVE, MIGRATE, "
        "MODULE LIST, MODULE LOAD, MODULE LOADEX, MODULE UNLOAD, MOVE, PFDEBUG, PFSELFTEST, PSYNC, REPLCONF, REPLICAOF, "
        "RESTORE-ASKING, SAVE, SHUTDOWN, SLAVEOF, SLOWLOG GET, SLOWLOG LEN, SLOWLOG RESET, SWAPDB, SYNC, WAITAOF, XSETID",
        is_cluster=True,
    ),
    "Aiven for Valkey": Service(
        "noeviction",
        "ACL, BGREWRITEAOF, BGSAVE, CLUSTER, COMMAND, CONFIG, DEBUG, FAILOVER, LASTSAVE, MIGRATE, MONITOR, REPLICAOF, SAVE, "
        "SHUTDOWN, SLAVEOF",
    ),
}


def expected(service: Service) -> dict[str, str]:
    """The findings of ``doctor`` that are not ok: by default no service shows a log of writes, and some evict."""
    evicts = service.policy.startswith("volatile")
    return {"persistence": "warning", **({"eviction": "problem"} if evicts else {})}


def rules(service: Service) -> list[str]:
    """The service's limits as the rules of a user."""
    forbidden = [f"-{name.lower().replace(' ', '|')}" for name in service.forbids.split(", ")]
    return ["reset", "on", ">p", "~*", "&*", "+@all", *forbidden]


@contextlib.contextmanager
def like(service: Service) -> Iterator[tuple[Sequence[Server], str]]:
    """Servers with the limits of the service, and the URL of a user who has them."""
    if not service.is_cluster:
        options = ("--maxmemory", "1gb", "--maxmemory-policy", service.policy or "noeviction")
        with running("valkey", *options) as server:
            told(server, "ACL", "SETUSER", "u", *rules(service))
            yield [server], server.url.replace("://", "://u:p@")
        return
    with cluster() as found:
        for server in found.primaries:
            told(server, "CONFIG", "SET", "maxmemory", "1gb", "maxmemory-policy", service.policy or "noeviction")
            told(server, "ACL", "SETUSER", "u", *rules(service))
        yield found.primaries, found.url.replace("://", "://u:p@")


def refused(server: Server) -> set[str]:
    """The commands that the server has refused to its users."""
    entries: list[Any] = told(server, "ACL", "LOG")
    pairs = [entry if isinstance(entry, dict) else dict(zip(entry[::2], entry[1::2], strict=True)) for entry in entries]
    return {entry[b"object"].decode() for entry in pairs}


@pytest.mark.server
@pytest.mark.parametrize("name", SERVICES)
def test_everything_works_without_what_a_service_forbids(name: str) -> None:
    """Nothing that is forbidden is asked for, but by redis-py, which says who it is and does not mind a refusal."""
    with like(SERVICES[name]) as (servers, url):
        do_everything(url)
        assert set().union(*map(refused, servers)) <= {"client|setinfo"}


@pytest.mark.server
@pytest.mark.parametrize("name", SERVICES)
def test_doctor_says_what_the_page_says(name: str) -> None:
    with like(SERVICES[name]) as (_, url):
        states = expected(SERVICES[name])
        found = findings(url, 2 if "problem" in states.values() else 1)
    assert {about.partition(" of ")[0]: one["state"] for about, one in found.items()} == states


@pytest.mark.server
@pytest.mark.parametrize(("level", "command"), [("fsync", "config|get"), ("replicas:1", "wait")])
def test_a_level_that_cannot_be_confirmed_is_refused_before_the_first_write(
    level: str, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONVSTORE_DURABILITY", level)
    with like(SERVICES["Redis Cloud"]) as ([server], url):
        app = Flask("managed")
        app.config.update(CONVSTORE_URL=url, CONVSTORE_FALLBACK="none")
        store = ConversationStore(app)
        with app.app_context(), pytest.raises(StoreMisconfigured, match=re.escape(command)) as caught:
            store.save_session("a", {"history": []})
        assert caught.value.written is False
        assert not server.client.exists("chat:session:{a}")
        assert command in findings(url, 2)["append"]["text"]


@pytest.mark.server
def test_no_command_touches_two_slots_on_the_way_to_a_single_server() -> None:
    """A proxy in front of several shards would refuse it, as a Cluster of one node does."""
    with cluster(1) as found:
        do_everything(found.primaries[0].url)


def test_the_rows_of_the_page_are_those_that_are_tried() -> None:
    section = TEXTS["docs/managed.md"].partition("\n## What each forbids\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (\w.*?) \| (.*?) \| (`.*?) \| (.*?) \|$", section, re.MULTILINE)
    shown = {name: (policy.strip("`"), commands.replace("`", ""), told_by) for name, policy, commands, told_by in rows}
    tried = {
        name: (
            service.policy or "not found",
            service.forbids,
            ", ".join(f"{state}: {about}" for about, state in expected(service).items()),
        )
        for name, service in SERVICES.items()
    }
    assert shown == tried
