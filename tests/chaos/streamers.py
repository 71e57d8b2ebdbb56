"""Clients that read streamed replies. They are cut at random places, read on at any worker, stop replies, and read in pairs.

The sessions are nobody's, and only one client takes turns in each. The plan of a client never depends on what comes of it.
"""

from __future__ import annotations

import json
import random
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .connection import Answer, Connection
from .readers import Answered, Cut, Reading, Request, Stored, read, stored_of
from .scripts import Ending, Script

STREAMERS = 4

PATIENCE_SECONDS = 90
"""Longest time that a reader goes on asking for the end of a reply."""

_PAUSE = 0.2
"""Seconds between two requests while there is no answer."""

_TURNS_IN_A_SESSION = 6
_ENDINGS: dict[Ending, int] = {"whole": 12, "raises": 1, "hangs": 1}
_EXPLAINED = {"unavailable", "turn-in-progress"}
"""Refusals that pass."""


class Step(NamedTuple):
    """A turn with a streamed reply.

    Attributes:
        is_detached: It is begun by ``turn.stream()`` of the app's own route, which answers with an id only.
        cuts: The bytes behind which the first reader is cut, one connection after the other. Then it is not cut any more.
        second_cuts: The same of a second reader (None: there is no second one).
        stop_behind: The number of events behind which the reply is stopped (None: it is not).
        says_current: It is stopped, and read by the second reader, as ``current``.
    """

    identity: uuid.UUID
    chunks: int
    pause_ms: int
    ending: Ending
    is_detached: bool
    cuts: tuple[int, ...]
    second_cuts: tuple[int, ...] | None
    stop_behind: int | None
    says_current: bool
    pause: float


def plan(chance: random.Random) -> Iterator[Step]:
    """The turns of a client, for ever."""
    endings, weights = list(_ENDINGS), list(_ENDINGS.values())

    def cuts() -> tuple[int, ...]:
        return tuple(int(2 ** chance.uniform(0, 13)) for _ in range(chance.choice((0, 1, 2, 4, 10))))

    while True:
        (ending,) = chance.choices(endings, weights)
        yield Step(
            identity=uuid.UUID(int=chance.getrandbits(128), version=4),
            chunks=chance.choice((0, 3, 20, 60, 150)),
            pause_ms=chance.choice((0, 2, 20, 50)),
            ending=ending,
            is_detached=chance.random() < 0.25,
            cuts=cuts(),
            second_cuts=cuts() if chance.random() < 0.3 else None,
            stop_behind=chance.randint(1, 20) if chance.random() < 0.15 or ending == "hangs" else None,
            says_current=chance.random() < 0.5,
            pause=chance.uniform(0, 0.3),
        )


@dataclass(slots=True)
class StreamedTurn:
    """One message, and what its readers got.

    Attributes:
        refusal: The answer that ended the turn for its client ("": none did).
        stopped: The replies that stopping was answered with, and their fates.
        is_stop_asked: Somebody wanted it to be stopped.
    """

    script: Script
    session_id: str
    began: float = 0.0
    readings: list[Reading] = field(default_factory=list)
    refusal: str = ""
    is_stop_asked: bool = False
    stopped: list[tuple[str, Stored | None]] = field(default_factory=list)


class Streamer:
    """One client.

    Args:
        stop: It ends after the turn that it is at.

    Attributes:
        sessions: The ids of its sessions, by their labels.
        turns: What it asked for.
        failure: What is wrong with this client itself.
    """

    def __init__(self, name: str, chance: random.Random, port: int, stop: threading.Event) -> None:
        self.name = name
        self.sessions: dict[str, str] = {}
        self.turns: list[StreamedTurn] = []
        self.failure: Exception | None = None
        self._plan = plan(chance)
        self._port = port
        self._stop_asked = stop
        self._label = ""
        self._turns_left = 0

    def run(self) -> None:
        try:
            for step in self._plan:
                if self._stop_asked.wait(step.pause):
                    break
                if self._turns_left == 0 and not self._start(step.identity):
                    continue
                self._turns_left -= 1
                self._take(step)
        except Exception as error:
            self.failure = error

    def _start(self, identity: uuid.UUID) -> bool:
        connection = Connection(self._port)
        key = {"Idempotency-Key": str(uuid.uuid5(identity, "start"))}
        answer = _insisted(connection, "POST", "/sessions", {"data": {"note": "streams"}}, key, self._stop_asked)
        connection.close()
        if answer.status != 201:
            return False
        self._label = f"{self.name}.{len(self.sessions) + 1}"
        self.sessions[self._label] = answer.json["session_id"]
        self._turns_left = _TURNS_IN_A_SESSION
        return True

    def _take(self, step: Step) -> None:
        script = Script(self._label, len(self.turns) + 1, step.chunks, step.pause_ms, step.ending)
        turn = StreamedTurn(script, self.sessions[self._label], time.monotonic())
        self.turns.append(turn)
        _Taken(self._port, turn, step).run()
        if turn.refusal:
            self._turns_left = 0


class _Taken:
    """A turn that is taken: its first reader in this thread, a second one in another."""

    def __init__(self, port: int, turn: StreamedTurn, step: Step) -> None:
        self._port = port
        self._turn = turn
        self._step = step
        self._path = f"/sessions/{turn.session_id}"
        self._second: threading.Thread | None = None
        self._events = 0

    def run(self) -> None:
        self._read(self._step.cuts, self._first_request(), self._heed)
        if self._turn.readings[0].fate == "failed":  # the same message may try again
            self._read((), self._first_request(), lambda _: None)
        if self._second:
            self._second.join()

    def _first_request(self) -> Request:
        content, key = self._turn.script.content, str(self._step.identity)
        if self._step.is_detached:
            return Request("POST", f"/streamed/{self._turn.session_id}", {"content": content, "token": key})
        return Request("POST", f"{self._path}/messages", {"content": content}, {"Idempotency-Key": key})

    def _read(self, cuts: tuple[int, ...], first: Request, heed: Any) -> None:
        """Read until the end, whatever comes between."""
        name = f"{self._turn.script.label} {self._turn.script.number} reader {len(self._turn.readings) + 1}"
        reading = Reading(self._turn.script, name, began=time.monotonic())
        self._turn.readings.append(reading)
        left = list(reversed(cuts))
        asked = first
        while not self._is_over(reading):
            cut = Cut(left.pop() if left else None)
            at, before = time.monotonic(), reading.last_id
            answered = read(self._port, asked, reading, cut, lambda: heed(reading))
            told = f"{at:.2f} {asked.method} {asked.path} {before} cut {cut.byte_count}: {answered} {reading.last_id}"
            reading.requests.append(told)
            if reading.fate is None:
                self._judge(reading, asked, answered)
                asked = self._next(reading, first, asked, answered)
        reading.ended = time.monotonic()

    def _is_over(self, reading: Reading) -> bool:
        is_late = time.monotonic() > reading.began + PATIENCE_SECONDS
        return reading.fate is not None or is_late or bool(self._turn.refusal)

    def _judge(self, reading: Reading, asked: Request, answered: Answered) -> None:
        """Note what was refused, and wait where there is no answer."""
        status = answered.status
        if status and status >= 400 and answered.slug not in _EXPLAINED:
            told = f"{asked.method} {asked.path}: {status} {answered.slug} {answered.detail}"
            if answered.slug == "turn-lost":
                self._turn.refusal = told
            else:
                reading.refusals.append(told)
        if not status or status >= 300:
            time.sleep(_PAUSE)

    def _next(self, reading: Reading, first: Request, asked: Request, answered: Answered) -> Request:
        """Read on behind what has come. A stream that is not resumable is begun anew by the same message."""
        if answered.status == 200 and answered.detail:
            told = json.loads(answered.detail)
            if not told["turn"]:
                reading.fate = "unknown"
                return asked
            reading.turns.add(told["turn"])
        if not reading.is_resumable:
            reading.begin_anew()
            return first
        is_known = bool(reading.turns) or first.method == "GET"  # another reader knows it
        return self._by_name(reading) if is_known else first

    def _by_name(self, reading: Reading) -> Request:
        turn = sorted(self._turn.readings[0].turns)[0]
        path = f"{self._path}/replies/{turn}"
        if not reading.last_id:
            return Request("GET", path)
        if self._step.says_current:
            return Request("GET", f"{path}?last_event_id={reading.last_id}")
        return Request("GET", path, None, {"Last-Event-ID": reading.last_id})

    def _heed(self, reading: Reading) -> None:
        """Do what is due behind an event of the first reader."""
        self._events += 1
        if self._step.second_cuts is not None and self._second is None and reading.is_resumable:
            first = Request("GET", f"{self._path}/replies/{self._name(reading)}")
            arguments = self._step.second_cuts, first, lambda _: None
            self._second = threading.Thread(target=self._read, args=arguments, daemon=True)
            self._second.start()
        if self._events == self._step.stop_behind and reading.is_resumable and reading.fate is None:
            self._stop(self._name(reading))

    def _name(self, reading: Reading) -> str:
        return "current" if self._step.says_current else sorted(reading.turns)[0]

    def _stop(self, name: str) -> None:
        self._turn.is_stop_asked = True
        connection = Connection(self._port)
        for _ in range(10):
            answer = connection.call("DELETE", f"{self._path}/replies/{name}")
            if answer.status == 200:
                reply = answer.json["reply"]
                self._turn.stopped.append((answer.json["status"], reply and stored_of(reply)))
            if answer.status and answer.status < 500:
                break
            time.sleep(_PAUSE)
        connection.close()


def _insisted(
    connection: Connection, method: str, path: str, body: Any, headers: dict[str, str], stop: threading.Event | None
) -> Answer:
    """Ask until it is answered, for a while, or until *stop*."""
    give_up = time.monotonic() + PATIENCE_SECONDS / 2
    while True:
        answer = connection.call(method, path, body, **headers)
        is_answered = bool(answer.status) and answer.status != 503
        if is_answered or time.monotonic() > give_up or (stop and stop.is_set()):
            return answer
        time.sleep(_PAUSE)


class Streams:
    """All of these clients of a world."""

    def __init__(self, seed: str, port: int) -> None:
        self._stop = threading.Event()
        self._port = port
        self._clients = [
            Streamer(f"r{number}", random.Random(f"{seed} streamer {number}"), port, self._stop)
            for number in range(STREAMERS)
        ]
        self._threads = [threading.Thread(target=client.run, daemon=True) for client in self._clients]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def ask_to_stop(self) -> None:
        self._stop.set()

    def stop(self) -> None:
        """Let each end what it is at."""
        self._stop.set()
        for thread in self._threads:
            if thread.ident:
                thread.join()

    @property
    def failures(self) -> list[Exception]:
        return [client.failure for client in self._clients if client.failure]

    @property
    def turns(self) -> list[StreamedTurn]:
        return [turn for client in self._clients for turn in client.turns]

    def ends(self) -> list[SessionEnd]:
        """Take another turn in each session, and read it."""
        connection = Connection(self._port)
        sessions = {label: session_id for client in self._clients for label, session_id in client.sessions.items()}
        try:
            return [_end_of(connection, label, session_id) for label, session_id in sessions.items()]
        finally:
            connection.close()


@dataclass(slots=True)
class SessionEnd:
    """A session when all was over.

    Attributes:
        probe: The answer to one more turn: its status, and the seconds that it took inside the app.
        messages: What is stored, without that turn. None if it could not be read.
        problem: The reason why.
    """

    label: str
    probe: tuple[int | None, float]
    messages: list[dict[str, Any]] | None
    problem: str = ""


def _end_of(connection: Connection, label: str, session_id: str) -> SessionEnd:
    path, key = f"/sessions/{session_id}", {"Idempotency-Key": str(uuid.uuid4())}
    probed = _insisted(connection, "POST", f"{path}/messages", {"content": _PROBE}, key, None)
    seconds = float(probed.headers.get("Chaos-Seconds", "0")) if probed.headers else 0.0
    answer = _insisted(connection, "GET", path, None, {}, None)
    probe = probed.status, seconds
    if answer.status != 200:
        return SessionEnd(label, probe, None, f"{answer.status} {answer.json or answer.detail}")
    found = [message for message in answer.json["history"] if _PROBE not in str(message.get("content"))]
    return SessionEnd(label, probe, found)


_PROBE = "is it free?"
