"""Use of a server by sessions: memory, processor, network, disk. Measured on thousands that look like real ones."""

from __future__ import annotations

import math
import random
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson
import redis

from flask_convstore import ConversationStore
from tests.processes import wait_for
from tests.servers import running

from .library import app_with_store

TURNS = (2, 18)
"""From and to. Any number between them comes as often as any other."""
CHARACTERS = (200, 800)
"""Mean lengths of a message and of its reply."""
SPREAD = 0.6
"""Sigma of the lognormal distribution of these lengths, as in Taskmaster-4 and Schema-Guided Dialogue."""

_DATA = {"services": ["hotel", "train"], "state": {f"slot {number}": "a value of it" for number in range(8)}}
_WORDS = ["to", "have", "a", "reply", "one", "must", "first", "be", "asked", "something", "that", "somebody", "knows"]

Turns = list[tuple[dict[str, str], dict[str, str]]]


class Taken(NamedTuple):
    """Use of the server by one step: bytes, and microseconds of its processor."""

    memory: float
    server_us: float
    received: float
    sent: float
    logged: float


@dataclass(frozen=True)
class Footprint:
    """Measurements on one server.

    Attributes:
        program: Its name and version.
        taken: The use of each step.
        started, grown: Bytes of the keys of a session that has just begun, and of one with all its turns, by kind of key.
        turns: The number of turns of a session.
        text: Bytes of the JSON of a session's messages.
        left_behind: Bytes that an expired session leaves.
        nobodys_entry: Bytes of an entry in the one index of all sessions without an owner.
        connection: Bytes of an idle connection.
        copied: Bytes that a forked server copies for a turn.
    """

    program: str
    taken: dict[str, Taken]
    started: dict[str, float]
    grown: dict[str, float]
    turns: float
    text: float
    left_behind: float
    nobodys_entry: float
    connection: float
    copied: float


def footprint(kind: str, count: int) -> Footprint:
    """The footprint of so many sessions, on a server with an append-only file that is synced once a second."""
    chance = random.Random(7)
    owner_of = {f"{number:08}-0000-4000-8000-000000000000": f"user-{number // 10}" for number in range(count)}
    turns_of = {session_id: conversation(chance) for session_id in owner_of}
    options = ("--appendonly", "yes", "--auto-aof-rewrite-percentage", "0")
    with running(kind, *options) as server, app_with_store(server.url) as (_, store):
        client: Any = server.client
        taken: dict[str, Taken] = {}

        def each(what: str, action: Callable[[str, str], object], times: float = 1) -> None:
            """Do it with every session and note the use of one time. *action* does it so many *times*."""
            before = _counters(client)
            for session_id, owner in owner_of.items():
                action(session_id, owner)
            after = _counters(client)
            taken[what] = Taken(*((now - then) / times / count for now, then in zip(after, before, strict=True)))

        def converse(session_id: str, owner: str) -> None:
            _converse(store, session_id, owner, turns_of[session_id])

        _warm_up(store)
        client.flushall()
        turns = sum(map(len, turns_of.values())) / count
        each("start", lambda session_id, owner: store.save_session(session_id, {"history": []}, owner=owner))
        started = _key_bytes(client, count)
        each("turn", converse, turns)
        each("data fields", lambda session_id, owner: store.update_session(session_id, _DATA, owner=owner))
        grown = _key_bytes(client, count)
        each("read the last 20", lambda session_id, owner: store.get_session(session_id, last=20, owner=owner))
        _a_minute_later(client)
        each("read, a minute later", lambda session_id, owner: store.get_session(session_id, last=20, owner=owner))
        each("read all", lambda session_id, owner: store.get_session(session_id, owner=owner))
        each("list 10 sessions", lambda session_id, owner: store.list_sessions(owner=owner))
        each("alias", lambda session_id, owner: store.link(f"telegram:{session_id}", session_id, owner=owner))
        copied = _copied(store, client, owner_of)
        left_behind = _tombstone(client)
        client.flushall()
        each("start, no owner", lambda session_id, _: store.save_session(session_id, {"history": []}))
        each("append 2 messages", lambda session_id, _: store.append(session_id, *turns_of[session_id][0]))
        said = client.info("server")
        name = "valkey" if "valkey_version" in said else "redis"
        return Footprint(
            program=f"{name.capitalize()} {said[f'{name}_version']}",
            taken=taken,
            started=started,
            grown=grown,
            turns=turns,
            text=sum(len(orjson.dumps(body)) for turns in turns_of.values() for turn in turns for body in turn) / count,
            left_behind=left_behind,
            nobodys_entry=sum(client.memory_usage(key, samples=0) for key in client.scan_iter("*owner:{!*")) / count,
            connection=_connection(client, server.url),
            copied=copied,
        )


def conversation(chance: random.Random) -> Turns:
    """Messages and their replies."""

    def text(characters: int) -> str:
        length = round(chance.lognormvariate(math.log(characters) - SPREAD**2 / 2, SPREAD))
        return " ".join(chance.choices(_WORDS, k=1 + length // 4))[:length]

    count = chance.randint(*TURNS)
    roles = ("user", "assistant")
    bodies = [
        {"role": role, "content": text(n)} for _ in range(count) for role, n in zip(roles, CHARACTERS, strict=True)
    ]
    return list(zip(bodies[::2], bodies[1::2], strict=True))


def _converse(store: ConversationStore, session_id: str, owner: str | None, turns: Turns) -> None:
    for message, reply in turns:
        with store.turn(session_id, message, last=20, owner=owner) as turn:
            turn.reply(reply)


def _warm_up(store: ConversationStore) -> None:
    """Everything once, so that scripts are there, and connections."""
    hello = {"role": "user", "content": "hello"}
    store.save_session("first", {"history": []}, owner="first")
    _converse(store, "first", "first", [(hello, hello)] * 2)
    store.update_session("first", _DATA, owner="first")
    store.get_session("first", owner="first")
    store.link("telegram:first", "first", owner="first")
    store.append("first", hello, owner="first")
    store.list_sessions(owner="first")


def _a_minute_later(client: Any) -> None:
    """Since their owners' indexes heard of sessions: the next interaction tells them again."""
    for key in list(client.scan_iter(count=1000)):
        if _kind(key) == "session":
            client.hset(key, "indexed", 0)


def _counters(client: Any) -> Taken:
    """The counters of the server."""
    said = client.info()
    return Taken(
        memory=said["used_memory"],
        server_us=1e6 * (said["used_cpu_user"] + said["used_cpu_sys"]),
        received=said["total_net_input_bytes"],
        sent=said["total_net_output_bytes"],
        logged=said["aof_current_size"] + said["aof_buffer_length"],
    )


def _key_bytes(client: Any, count: int) -> dict[str, float]:
    """Bytes of each of so many sessions' keys, by kind."""
    found: dict[str, float] = defaultdict(float)
    for key in client.scan_iter(count=1000):
        found[_kind(key)] += client.memory_usage(key, samples=0) / count
    return dict(found)


def _kind(key: bytes) -> str:
    for kind in ("owner", "alias"):
        if f":{kind}:".encode() in key:
            return kind
    return key.rpartition(b"}")[2].decode().removeprefix(":") or "session"


def _tombstone(client: Any) -> float:
    """Bytes that an expired session leaves behind. The tombstones of all are put on the server, and nothing else."""
    tombstones = {key: client.dump(key) for key in client.scan_iter("*:tokens", count=1000)}
    client.flushall(asynchronous=False)
    wait_for(lambda: not client.info("memory")["lazyfree_pending_objects"], "it does not end")
    time.sleep(1)  # the server gives memory back in small steps
    empty = _counters(client).memory
    for key, dumped in tombstones.items():
        client.restore(key, 86_400_000, dumped)
    return (_counters(client).memory - empty) / len(tombstones)


def _copied(store: ConversationStore, client: Any, owner_of: dict[str, str]) -> float:
    """Bytes that the server copies for a turn while a forked process of it saves a snapshot."""
    some = list(owner_of.items())[:: max(1, len(owner_of) // 200)]
    hello = {"role": "user", "content": "hello"}

    def saved(action: Callable[[], object]) -> int:
        client.config_set("rdb-key-save-delay", 1_000_000 // client.dbsize())  # a second in all
        client.bgsave()
        action()
        wait_for(lambda: not client.info("persistence")["rdb_bgsave_in_progress"], "it does not end")
        return int(client.info("persistence")["rdb_last_cow_size"])

    def turns() -> None:
        for session_id, owner in some:
            _converse(store, session_id, owner, [(hello, hello)])

    untouched = saved(lambda: None)
    return (saved(turns) - untouched) / len(some)


def _connection(client: Any, url: str, count: int = 100) -> float:
    before = client.info("memory")["used_memory"]
    pool: Any = redis.ConnectionPool.from_url(url)
    opened = [pool.get_connection() for _ in range(count)]
    used = client.info("memory")["used_memory"] - before
    for connection in opened:
        connection.disconnect()
    return float(used) / count
