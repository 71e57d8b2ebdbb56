"""Faults of a world, one after the other by a seed. Each is healed before the next begins."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import redis

from ..processes import wait_for
from ..servers import Server
from ..topologies import is_primary, told
from .checker import Finding
from .scenes import SCENES
from .worlds import BUDGET_SECONDS, ClusterWorld, ReplicatedWorld, SentinelWorld, SingleWorld, World

_W = TypeVar("_W", bound=World)

_CALM_SECONDS = (1.5, 3.5)


@dataclass(frozen=True, slots=True)
class Fault(Generic[_W]):
    """*strike* breaks a world and mends it again. A small world of its own gives back what it found."""

    name: str
    strike: Callable[[_W, random.Random], Sequence[Finding] | None]


@dataclass(frozen=True, slots=True)
class Struck:
    """A fault that happened."""

    name: str
    began: float
    ended: float


def schedule(faults: Sequence[Fault[Any]], seed: str) -> Iterator[tuple[float, Fault[Any], random.Random]]:
    """Calm, fault and source of chance, for ever. Each fault comes once before any comes again."""
    chance = random.Random(f"{seed} nemesis")
    while True:
        for fault in chance.sample(faults, len(faults)):
            # A generator for each, so that what a fault draws changes nothing for the next.
            yield chance.uniform(*_CALM_SECONDS), fault, random.Random(chance.random())


class Nemesis:
    """Strikes until it is told to stop.

    Attributes:
        struck: What happened.
        findings: The broken promises of small worlds beside this one.
        failure: Why it gave up: a world that could not be healed.
    """

    def __init__(self, world: Any, faults: Sequence[Fault[Any]], seed: str, stop: threading.Event) -> None:
        self._world = world
        self._faults = faults
        self._seed = seed
        self._stop_asked = stop
        self.struck: list[Struck] = []
        self.findings: list[Finding] = []
        self.failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="nemesis", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def join(self, seconds: float | None = None) -> None:
        """Wait until it gives up, or for so long."""
        if self._thread.ident:
            self._thread.join(seconds)

    def _run(self) -> None:
        try:
            for calm, fault, chance in schedule(self._faults, self._seed):
                if self._stop_asked.wait(calm):
                    break
                self._strike(fault, chance)
        except Exception as error:
            self.failure = error

    def _strike(self, fault: Fault[Any], chance: random.Random) -> None:
        began = time.monotonic()
        try:
            found = fault.strike(self._world, chance) or ()
            self.findings += [finding._replace(what=f"{fault.name}: {finding.what}") for finding in found]
        finally:
            self._world.heal()
            self.struck.append(Struck(fault.name, began, time.monotonic()))


def kill_one_worker(world: World, chance: random.Random) -> None:
    world.workers.kill_one(chance.randrange(2))


def kill_all_workers(world: World, chance: random.Random) -> None:
    world.workers.kill_all()


def kill_workers_in_turn(world: World, chance: random.Random) -> None:
    """A reader that comes back finds its next worker killed too."""
    for which in range(chance.randint(3, 5)):
        world.workers.kill_one(which)
        time.sleep(chance.uniform(0.2, 1.2))


def kill_gunicorn(world: World, chance: random.Random) -> None:
    world.workers.kill_with_master()
    time.sleep(chance.uniform(0, 1))
    world.workers.start()


def flush_scripts(world: World, chance: random.Random) -> None:
    for server in world.servers():
        server.client.script_flush()


def interrupt(world: World, chance: random.Random) -> None:
    """Exceptions out of nowhere. They may end threads of gunicorn too, so that its workers are replaced."""
    with world.workers.interrupted():
        time.sleep(chance.uniform(0.5, 2))
    world.workers.kill_all()


ANYWHERE: list[Fault[Any]] = [
    Fault("one worker killed", kill_one_worker),
    Fault("all workers killed", kill_all_workers),
    Fault("workers killed in turn", kill_workers_in_turn),
    Fault("gunicorn killed", kill_gunicorn),
    Fault("scripts flushed", flush_scripts),
    Fault("exceptions from elsewhere", interrupt),
]


# ---- one server behind a network


def _cut(world: SingleWorld, chance: random.Random) -> None:
    world.proxy.tell("cut")
    time.sleep(chance.uniform(0.2, 5))


def _hole(world: SingleWorld, chance: random.Random) -> None:
    world.proxy.tell("hole")
    time.sleep(chance.uniform(1, 6))


def _slow(world: SingleWorld, chance: random.Random) -> None:
    world.proxy.tell("slow", delay=chance.uniform(0.05, 0.3))
    time.sleep(chance.uniform(1, 3))


def _lossy(world: SingleWorld, chance: random.Random) -> None:
    world.proxy.tell("lossy", loss=chance.uniform(0.1, 0.5), seed=chance.random())
    time.sleep(chance.uniform(1, 3))


def _freeze(world: SingleWorld, chance: random.Random) -> None:
    world.server.process.send_signal(signal.SIGSTOP)
    try:
        time.sleep(chance.uniform(1, 6))
    finally:
        world.server.process.send_signal(signal.SIGCONT)


def _freeze_past_the_budget(world: SingleWorld, chance: random.Random) -> None:
    """Its callers give up a little before it goes on and does what they have asked for."""
    world.server.process.send_signal(signal.SIGSTOP)
    try:
        time.sleep(BUDGET_SECONDS + chance.uniform(0.2, 0.8))
    finally:
        world.server.process.send_signal(signal.SIGCONT)


def _swap_replies(world: SingleWorld, chance: random.Random) -> None:
    world.proxy.tell("swap", loss=chance.uniform(0.05, 1), seed=chance.random())
    time.sleep(chance.uniform(1, 3))


def _stop_a_worker_in_its_journal(world: SingleWorld, chance: random.Random) -> None:
    """A worker stands still now and then while it journals, and while it hands over."""
    for mode in ("cut", "pass"):
        world.proxy.tell(mode)
        for _ in range(chance.randint(4, 8)):
            with world.workers.one_stands_still(chance.randrange(2)):
                time.sleep(chance.uniform(0.02, 0.2))
            time.sleep(chance.uniform(0.01, 0.1))


def _preload_in_outage(world: SingleWorld, chance: random.Random) -> None:
    """The app is made, and saves a session, before its workers are forked, while the server does not answer."""
    world.proxy.tell(chance.choice(("cut", "hole")))
    world.workers.kill_with_master()
    world.workers.start("--preload", CHAOS_SAVES_EARLY="1")
    time.sleep(chance.uniform(0, 2))


def _wrong_clock(world: SingleWorld, chance: random.Random) -> None:
    """The app begins in an outage, while the clock of its host is two hours ahead, or an hour behind."""
    world.proxy.tell("cut")
    shift = chance.choice((2 * 3_600_000, -3_600_000))
    world.workers.kill_with_master()
    world.workers.start(CHAOS_CLOCK_MS=str(shift))
    time.sleep(chance.uniform(0.5, 2))
    if chance.random() < 0.5:
        kill_gunicorn(world, chance)  # the clock is right again, and the server still away
        time.sleep(chance.uniform(0.2, 1))
    world.proxy.tell("pass")
    time.sleep(chance.uniform(0.5, 2))
    kill_gunicorn(world, chance)


def _interrupt_in_outage(world: SingleWorld, chance: random.Random) -> None:
    world.proxy.tell("cut")
    time.sleep(chance.uniform(0.2, 1))
    with world.workers.interrupted():
        time.sleep(chance.uniform(0.5, 1.5))
        world.proxy.tell("pass")
        time.sleep(chance.uniform(0, 0.5))
    world.workers.kill_all()


def _kill_server(world: SingleWorld, chance: random.Random) -> None:
    """A server that is gone refuses connections, and so does the network meanwhile."""
    world.server.kill()
    world.proxy.tell("cut")
    try:
        time.sleep(chance.uniform(0.5, 6))
    finally:
        world.server.start()
    world.proxy.tell("pass")


def _kill_replayer(world: SingleWorld, chance: random.Random) -> None:
    """The workers die while they hand over the journal, which takes long. Their successors die too."""
    _kill_server(world, chance)
    world.proxy.tell("slow", delay=chance.uniform(0.005, 0.05))
    for longest in (3, 2):
        time.sleep(chance.uniform(0, longest))
        world.workers.kill_all()


def _flap(world: SingleWorld, chance: random.Random) -> None:
    """It is back for so short a time that nothing is brought home whole."""
    for _ in range(chance.randint(3, 5)):
        world.proxy.tell("cut")
        time.sleep(chance.uniform(0.3, 1.5))
        world.proxy.tell("pass")
        time.sleep(chance.uniform(0.1, 1.5))


def _lose_replies_behind_an_outage(world: SingleWorld, chance: random.Random) -> None:
    world.proxy.tell("cut")
    time.sleep(chance.uniform(1, 3))
    world.proxy.tell("lossy", loss=chance.uniform(0.1, 0.4), seed=chance.random())
    time.sleep(chance.uniform(1, 4))


def _kill_gunicorn_in_outage(world: SingleWorld, chance: random.Random) -> None:
    world.proxy.tell("cut")
    time.sleep(chance.uniform(1, 3))
    kill_gunicorn(world, chance)
    time.sleep(chance.uniform(0, 2))


def _kill_workers_in_outage(world: SingleWorld, chance: random.Random) -> None:
    world.proxy.tell("cut" if chance.random() < 0.5 else "hole")
    time.sleep(chance.uniform(1, 3))
    world.workers.kill_all()
    time.sleep(chance.uniform(1, 3))


def _fill(world: SingleWorld, chance: random.Random) -> None:
    world.server.client.config_set("maxmemory", 1)
    try:
        time.sleep(chance.uniform(1, 3))
    finally:
        world.server.client.config_set("maxmemory", 0)


def _kill_clients(world: SingleWorld, chance: random.Random) -> None:
    client: Any = world.server.client
    client.execute_command("CLIENT", "KILL", "TYPE", "normal")


def _beside(scene: Callable[[random.Random], list[Finding]]) -> Callable[[World, random.Random], list[Finding]]:
    """Play a scene in a small world of its own, while the load goes on."""
    return lambda _, chance: scene(chance)


BESIDE: list[Fault[Any]] = [Fault(name, _beside(scene)) for name, scene in SCENES.items()]

SINGLE: list[Fault[SingleWorld]] = [
    *ANYWHERE,
    *BESIDE,
    Fault("connections cut", _cut),
    Fault("black hole", _hole),
    Fault("slow network", _slow),
    Fault("lost replies", _lossy),
    Fault("server frozen", _freeze),
    Fault("server frozen past the budget", _freeze_past_the_budget),
    Fault("server killed", _kill_server),
    Fault("replies swapped", _swap_replies),
    Fault("worker stands still in its journal", _stop_a_worker_in_its_journal),
    Fault("preloaded in an outage", _preload_in_outage),
    Fault("clock wrong in an outage", _wrong_clock),
    Fault("exceptions from elsewhere in an outage", _interrupt_in_outage),
    Fault("replayer killed", _kill_replayer),
    Fault("workers killed in an outage", _kill_workers_in_outage),
    Fault("gunicorn killed in an outage", _kill_gunicorn_in_outage),
    Fault("network flapping", _flap),
    Fault("lost replies behind an outage", _lose_replies_behind_an_outage),
    Fault("memory full", _fill),
    Fault("clients killed", _kill_clients),
]


# ---- primaries with a replica each


def _leads(server: Server) -> bool:
    """True if it is a primary. Connections are killed when it becomes one."""
    try:
        return is_primary(server)
    except redis.RedisError:
        return False


def _come_back(world: ReplicatedWorld, server: Server, primary: Server) -> None:
    server.start(*world.options_of_a_replica(primary))


def kill_primary(world: ReplicatedWorld, chance: random.Random) -> None:
    """It comes back when its replica has taken over, often at once, when not everybody knows yet.

    Not before: what has nothing on its disk must not lead again.
    """
    primaries = world.current_primaries()
    victim = primaries[chance.randrange(len(primaries))]
    heir = world.replica_of(victim)
    victim.kill()
    try:
        time.sleep(chance.choice((0, chance.uniform(0.5, 3))))
        wait_for(lambda: _leads(heir), "the replica does not take over", 30)
    finally:
        _come_back(world, victim, heir)


def _freeze_primary(world: ReplicatedWorld, chance: random.Random) -> None:
    """One primary hangs. In a Cluster the others go on. Its replica may take over meanwhile."""
    primaries = world.current_primaries()
    victim = primaries[chance.randrange(len(primaries))]
    victim.process.send_signal(signal.SIGSTOP)
    try:
        time.sleep(chance.uniform(0.3, 4))
    finally:
        victim.process.send_signal(signal.SIGCONT)


def _kill_replica(world: ReplicatedWorld, chance: random.Random) -> None:
    primaries = world.current_primaries()
    primary = primaries[chance.randrange(len(primaries))]
    victim = world.replica_of(primary)
    victim.kill()
    time.sleep(chance.uniform(0.5, 3))
    _come_back(world, victim, primary)


def _fail_over(world: SentinelWorld, chance: random.Random) -> None:
    _hand_over(world, chance)


def _fail_over_coordinated(world: SentinelWorld, chance: random.Random) -> None:
    _hand_over(world, chance, "COORDINATED")


def _hand_over(world: SentinelWorld, chance: random.Random, *how: str) -> None:
    (primary,) = world.current_primaries()
    heir = world.replica_of(primary)
    world.ask(chance.randrange(3), "FAILOVER", "mymaster", *how)
    wait_for(lambda: _leads(heir), "the replica does not take over", 30)


def _move_slots(world: ClusterWorld, chance: random.Random) -> None:
    """Up to 12 slots whose sessions are in use, with their keys."""
    primaries = world.current_primaries()
    chance.shuffle(primaries)
    source, target, *others = primaries
    keys = [key for key in source.client.scan_iter(match="*:history", count=1000) if _is_in_use(source, key)]
    slots = sorted({told(source, "CLUSTER", "KEYSLOT", key) for key in keys})
    for slot in chance.sample(slots, min(12, len(slots))):
        world.cluster.move(slot, source, target, *others)
    told(target, "WAIT", 1, 5000)


def _is_in_use(server: Server, key: bytes) -> bool:
    idle = told(server, "OBJECT", "IDLETIME", key)
    return idle is not None and idle <= 1


SENTINEL: list[Fault[SentinelWorld]] = [
    *ANYWHERE,
    Fault("primary killed", kill_primary),
    Fault("primary hung", _freeze_primary),
    Fault("replica killed", _kill_replica),
    Fault("fail-over", _fail_over),
    Fault("coordinated fail-over", _fail_over_coordinated),
]

CLUSTER: list[Fault[ClusterWorld]] = [
    *ANYWHERE,
    Fault("primary killed", kill_primary),
    Fault("primary hung", _freeze_primary),
    Fault("replica killed", _kill_replica),
    Fault("slots moved", _move_slots),
    Fault("slots moved", _move_slots),
]
