"""Small worlds of their own, beside the large one: several hosts, servers that forget or evict or are full, many turns.

Each scene makes its servers and apps, breaks them by chance, and returns what it found: a broken promise each.
"""

from __future__ import annotations

import contextlib
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from flask import Flask

from flask_convstore import (
    ConversationStore,
    ConvstoreError,
    Message,
    SessionNotFound,
    StoreUnavailable,
    Turn,
    TurnInProgress,
)

from ..processes import wait_for
from ..servers import Server, free_port, programs, running
from .checker import Finding
from .proxy import Proxy

_APPENDS = 12

_TURNS = 1000
_LEASE_SECONDS = 4.0


class Host:
    """An app with a journal of its own, whose server is behind a network of its own.

    Attributes:
        told: The messages that were acknowledged, by session, in the order in which that happened.
        unknown: Those of which nobody knows.
    """

    def __init__(self, stack: contextlib.ExitStack, server: Server, **settings: Any) -> None:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True))
        self.proxy = Proxy(free_port(), server.port)
        stack.callback(self.proxy.stop)
        self.app = Flask("scene", instance_path=folder)
        self.app.config.update(CONVSTORE_URL=f"redis://127.0.0.1:{self.proxy.port}/0", CONVSTORE_BUDGET=1.0)
        self.app.config.update({f"CONVSTORE_{name}": value for name, value in settings.items()})
        self.convstore = ConversationStore(self.app)
        self.told: dict[str, list[str]] = {}
        self.unknown: set[str] = set()
        stack.callback(self._close)

    def _close(self) -> None:
        with self.app.app_context():
            self.convstore.close()

    def save(self, session_id: str, text: str) -> bool:
        """Save a plain dict with one message, whatever is there. True if that was acknowledged."""
        return self._note(session_id, text, lambda: self.convstore.save_session(session_id, {"history": [text]}))

    def append(self, session_id: str, text: str) -> bool:
        """Append a message, with its text as token. True if that was acknowledged."""
        return self._note(session_id, text, lambda: self.convstore.append(session_id, Message(text), token=text[:50]))

    def _note(self, session_id: str, text: str, write: Callable[[], Any]) -> bool:
        try:
            with self.app.app_context():
                write()
        except (StoreUnavailable, SessionNotFound) as error:
            if error.written is not False:
                self.unknown.add(text)
            return False
        self.told.setdefault(session_id, []).append(text)
        self.unknown.discard(text)
        return True

    def read(self, session_id: str) -> list[str] | None:
        with self.app.app_context():
            session = self.convstore.get_session(session_id)
            return None if session is None else list(session["history"])

    def lose_the_server(self) -> None:
        """Cut the network, and wait until the circuit is open, so that what follows goes to the journal at once."""
        self.proxy.tell("cut")
        for _ in range(5):
            self._note("", "", lambda: self.convstore.get_session("none"))
        self.unknown.discard("")

    def is_well(self) -> bool:
        with self.app.app_context():
            health = self.convstore.health()
        return health.connected and health.pending == 0


def _compared(name: str, found: list[str] | None, told: list[str], unknown: set[str]) -> Iterator[Finding]:
    """Compare a session with what was acknowledged of it by one host, and with what may be there besides."""
    there = found or []
    for text in told:
        if text not in there:
            yield Finding("lost", f"{name}: {text}")
    for text in set(there):
        if there.count(text) > 1:
            yield Finding("duplicated", f"{name}: {text}")
        if text not in told and text not in unknown:
            yield Finding("foreign", f"{name}: {text}")
    known = [text for text in there if text in told]
    if known != [text for text in told if text in there] and len(set(known)) == len(known):
        yield Finding("reordered", f"{name}: {known}, and {told} was acknowledged")


def several_hosts(chance: random.Random) -> list[Finding]:
    """Two hosts save plain dicts under the same ids, and append. One of them loses the server for a while."""
    with running("valkey") as server, contextlib.ExitStack() as stack:
        there, away = Host(stack, server), Host(stack, server)
        if chance.random() < 0.5:
            away.lose_the_server()
        else:
            away.proxy.tell("lossy", loss=1, seed=chance.random())  # what it asks for lands, and it never hears of that
        ids = [f"s{number}" for number in range(4)]
        for number in range(_APPENDS):
            for session_id in ids:
                for name, host in chance.sample([("a", away), ("t", there)], 2):
                    text = f"{session_id} {name}{number}"
                    is_begun = session_id in host.told
                    (host.append if is_begun else host.save)(session_id, text)
        away.proxy.tell("pass")
        wait_for(away.is_well, "the journal is not handed over", 60)
        for session_id in ids:  # repeats
            for text in away.told.get(session_id, [])[1:]:
                away.append(session_id, text) and away.told[session_id].pop()
        return [finding for one in ids for finding in _of_hosts(one, there, away)]


def _of_hosts(session_id: str, there: Host, away: Host) -> Iterator[Finding]:
    found = there.read(session_id) or []
    unknown = there.unknown | away.unknown
    for name, host in (("t", there), ("a", away)):
        own = [text for text in found if text.split(" ")[1].startswith(name)]
        yield from _compared(f"{session_id} of host {name}", own, host.told.get(session_id, []), unknown)


def forgetful_server(chance: random.Random) -> list[Finding]:
    """A server without persistence dies while a journal is handed over to it, and begins anew with nothing."""
    with running("valkey") as server, contextlib.ExitStack() as stack:
        host = Host(stack, server)
        host.lose_the_server()
        ids = [f"s{number}" for number in range(6)]
        for session_id in ids:
            for number in range(_APPENDS):
                (host.append if number else host.save)(session_id, f"{session_id} {number}")
        host.proxy.tell("slow", delay=0.005)
        time.sleep(chance.uniform(0.2, 1.5))
        server.kill()
        time.sleep(chance.uniform(0, 0.5))
        server.start()
        host.proxy.tell("pass")
        wait_for(host.is_well, "the journal is not handed over", 60)
        # What was handed over whole before the server died was the server's, and is gone with it.
        gone = {session_id for session_id in ids if host.read(session_id) is None}
        return [
            finding
            for one in ids
            if one not in gone
            for finding in _compared(one, host.read(one), host.told[one], host.unknown)
        ]


def evicting_server(chance: random.Random) -> list[Finding]:
    """A server that evicts keys, against all advice. Each session is there whole, or gone whole."""
    policy = chance.choice(("allkeys-lru", "allkeys-random", "volatile-ttl"))
    with (
        running("valkey", "--maxmemory", "6mb", "--maxmemory-policy", policy) as server,
        contextlib.ExitStack() as stack,
    ):
        host = Host(stack, server, FALLBACK="none")
        ids = [f"s{number}" for number in range(120)]
        filler = "x" * 3000
        for number in range(8):
            for session_id in ids:
                text = f"{session_id} {number} {filler}"
                if not (number and host.append(session_id, text)):
                    host.told[session_id] = []  # it is gone, and begins anew
                    host.save(session_id, text)
        return [finding for one in ids for finding in _of_evicted(host, one)]


def _of_evicted(host: Host, session_id: str) -> Iterator[Finding]:
    try:
        found = host.read(session_id)
        if found is not None:
            told = host.told[session_id]
            shown = [text[:12] for text in found]
            yield from _compared(session_id, shown, [text[:12] for text in told], set())
        host.save(session_id, "again")
        if host.read(session_id) != ["again"]:
            yield Finding("errors", f"{session_id} cannot begin anew: {host.read(session_id)}")
    except ConvstoreError as error:
        yield Finding("errors", f"{session_id} of an evicting server: {error!r}")


def full_server(chance: random.Random) -> list[Finding]:
    """A server without memory reads and deletes, and refuses to write. It is a Redis where there is one."""
    kind = chance.choice(sorted(programs()))
    with running(kind) as server, contextlib.ExitStack() as stack:
        host = Host(stack, server, FALLBACK="none", RETRIES=0)
        found: list[Finding] = []
        for session_id in ("s", "t"):
            host.save(session_id, "a")
        with host.app.app_context():
            host.convstore.save_session("of ada", [], owner="ada")
        server.client.config_set("maxmemory", 1)
        if host.append("s", "b") or host.unknown:
            found.append(Finding("ghosts", f"a full {kind} takes a message"))
        for name, ask in _reads(host).items():
            try:
                with host.app.app_context():
                    ask()
            except ConvstoreError as error:
                found.append(Finding("errors", f"a full {kind} does not {name}: {error!r}"))
        server.client.config_set("maxmemory", 0)
        return [*found, *_compared("s", host.read("s"), host.told["s"], set())]


def _reads(host: Host) -> dict[str, Callable[[], Any]]:
    convstore = host.convstore
    return {
        "get": lambda: convstore.get_session("s"),
        "list": lambda: convstore.list_sessions(owner="ada"),
        "export": lambda: list(convstore.export_owner(owner="ada")),
        "delete": lambda: convstore.delete_session("t"),
    }


def many_turns(chance: random.Random) -> list[Finding]:
    """Many turns are in progress, each for longer than its lease, on a slow network. None of them may be taken over."""
    with running("valkey") as server, contextlib.ExitStack() as stack, ThreadPoolExecutor(32) as pool:
        settings: dict[str, Any] = {"FALLBACK": "none", "TURN_LEASE": _LEASE_SECONDS, "BUDGET": 5.0}
        host, other = Host(stack, server, **settings), Host(stack, server, **settings)
        turns = list(pool.map(partial(_begun, host), (f"s{number}" for number in range(_TURNS))))
        host.proxy.tell("slow", delay=0.02)
        time.sleep(_LEASE_SECONDS * chance.uniform(1.1, 1.5))
        taken = [one for one in pool.map(partial(_taken_over, other), turns) if one]
        lost = [one for one in pool.map(partial(_lost, host), turns) if one]
        return [*taken, *lost]


def _begun(host: Host, session_id: str) -> Turn:
    with host.app.app_context():
        host.convstore.save_session(session_id, {"history": []})
        return host.convstore.turn(session_id, "a").__enter__()


def _taken_over(other: Host, turn: Turn) -> Finding | None:
    with other.app.app_context(), contextlib.suppress(TurnInProgress), other.convstore.turn(turn.session_id, "c"):
        return Finding("torn", f"the turn in {turn.session_id} is in progress, and was taken over")
    return None


def _lost(host: Host, turn: Turn) -> Finding | None:
    with host.app.app_context():
        try:
            turn.reply("b")
        except ConvstoreError as error:
            return Finding("lost", f"the reply of {turn.session_id}: {error!r}")
        finally:
            with contextlib.suppress(ConvstoreError):
                turn.__exit__(None, None, None)
    return None


SCENES: dict[str, Callable[[random.Random], list[Finding]]] = {
    "several hosts save the same ids": several_hosts,
    "server forgets during a hand-over": forgetful_server,
    "server evicts": evicting_server,
    "server full, Redis or Valkey": full_server,
    "a thousand turns in progress": many_turns,
}
