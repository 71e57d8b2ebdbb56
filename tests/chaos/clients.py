"""The load: clients that do what their seed says, repeat what they cannot know, and note what they were told.

A client belongs to an owner or to nobody. It works on two sessions of its own and one that it shares with its partner. Its
plan never depends on what comes of it: the same seed asks for the same things in the same order, of those sessions that
there are.
"""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from .connection import Answer, Connection
from .records import NOT_FOUND, Attempt, Operation, Read, Seen, id_of, text_of

CLIENTS = 12

PATIENCE_SECONDS = 20
"""Longest time that an operation with an unknown outcome is repeated."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 0.5
_AFTER_REFUSAL = 0.1
"""Seconds: an open circuit refuses at once, and would be asked for nothing else but that."""
_PROBLEM = "urn:convstore:"
_SHARED = 2
"""The number of the slot of the session that a client shares with its partner."""

Act = Literal["start", "append", "many", "drop", "turn", "get", "stranger", "delete", "afterwards"]

_WEIGHTS: dict[Act, int] = {
    "start": 4,
    "append": 40,
    "many": 6,
    "drop": 6,
    "turn": 20,
    "get": 20,
    "stranger": 4,
    "delete": 2,
    "afterwards": 3,
}


class Step(NamedTuple):
    """The next operation of a client.

    Attributes:
        slot: The number of its session among the client's.
        size: The number of messages.
        variant: Chooses among the ways to do it.
        pause: Seconds before it.
    """

    act: Act
    slot: int
    size: int
    variant: int
    identity: uuid.UUID
    pause: float


def plan(chance: random.Random, pace: float) -> Iterator[Step]:
    """The operations of a client, for ever, with a mean pause of *pace* seconds."""
    acts, weights = list(_WEIGHTS), list(_WEIGHTS.values())
    while True:
        (act,) = chance.choices(acts, weights)
        identity = uuid.UUID(int=chance.getrandbits(128), version=4)
        size = chance.randint(1, 8)
        yield Step(act, chance.randrange(3), size, chance.randrange(1 << 16), identity, chance.uniform(0, 2 * pace))


class Target(NamedTuple):
    """A session that was started."""

    label: str
    session_id: str
    owner: str | None
    ttl_ms: int | None = None


@dataclass(slots=True)
class Slot:
    """The current session of a client, or of two. *is_refused*: the server was away at the last request for it."""

    target: Target | None = None
    is_refused: bool = False


class Client:
    """One of them.

    Args:
        stop: It ends after the operation that it is at.
        is_durable: What a server has written cannot be lost by a fail-over.

    Attributes:
        failure: What is wrong with this client itself.
    """

    def __init__(
        self,
        name: str,
        chance: random.Random,
        port: int,
        owner: str | None,
        shared: Slot,
        stop: threading.Event,
        *,
        pace: float,
        is_durable: bool,
    ) -> None:
        self.name = name
        self.operations: list[Operation] = []
        self.failure: Exception | None = None
        self._plan = plan(chance, pace)
        self._connection = Connection(port)
        self._owner = owner
        self._slots = (Slot(), Slot(), shared)
        self._deleted: Target | None = None
        self._stop_asked = stop
        self._is_durable = is_durable
        self._labels_given = 0
        self._asked: dict[str, list[Operation]] = {}

    def run(self) -> None:
        try:
            for step in self._plan:
                if self._stop_asked.wait(step.pause):
                    break
                self._take(step)
        except Exception as error:
            self.failure = error
        finally:
            self._connection.close()

    def _take(self, step: Step) -> None:
        slot = self._slots[step.slot]
        if step.act == "afterwards":
            if self._deleted:
                (self._get if step.variant % 2 else self._append)(self._deleted, step)
            return
        # Who cannot go on with a conversation begins another one, now and then.
        gives_up = slot.is_refused and step.variant % 4 == 0
        if step.act == "start" or slot.target is None or gives_up:
            slot.target = self._start(step) or slot.target
        target = slot.target
        if target is None:
            return
        if step.act == "append":
            self._append(target, step)
        elif step.act == "many":
            self._append_many(step)
        elif step.act == "drop":
            self._drop(target, step, is_shared=step.slot == _SHARED)
        elif step.act == "turn":
            self._turn(target, step)
        elif step.act == "get":
            self._get(target, step)
        elif step.act == "stranger":
            self._visit(target, step)
        elif step.act == "delete":
            self._delete(target)
            slot.target, self._deleted = None, target
            self._get(target, step)
        slot.is_refused = self.operations[-1].attempts[-1].slug == "unavailable"

    # ---- operations

    def _start(self, step: Step) -> Target | None:
        self._labels_given += 1
        label = f"{self.name}.{self._labels_given}"
        if self._owner:
            return self._create(label, step) if step.variant & 1 else self._save(label, step)
        keyed, with_message = step.variant & 1, step.variant & 2
        operation = self._operation("start", label, None)
        operation.parts, operation.has_reply = (1, True) if with_message else (0, False)
        texts = [text_of(mark) for mark in operation.marks()]
        body: dict[str, Any] = {"data": {"note": "chaos"}}
        if with_message:
            body["message"] = {"content": texts[0]}
        headers = {"Idempotency-Key": str(step.identity)} if keyed else {}

        def understand(answer: dict[str, Any]) -> None:
            operation.session_id = str(answer["session_id"])
            said = [(message["seq"], message["content"]) for message in answer["history"]]
            if said != list(enumerate(texts, 1)):
                operation.odd = f"the new session has {said}"
            operation.first_seq, operation.reply_seq = (1, 2) if texts else (None, None)

        send = self._sender("POST", "/sessions", body, headers)
        self._perform(operation, send, understand, is_repeatable=bool(keyed))
        if operation.outcome != "ok" or operation.session_id is None:
            return None
        return Target(label, operation.session_id, None)

    def _save(self, label: str, step: Step) -> Target | None:
        """A plain dict has no token and replaces what is there: it is not repeated."""
        session_id = str(step.identity)
        operation = self._operation("start", label, session_id)
        operation.parts = step.size - 1
        texts = [text_of(mark) for mark in operation.marks()]
        send = self._sender("POST", f"/own/{session_id}", {"messages": texts})

        def understand(answer: dict[str, Any]) -> None:
            self._check_id(operation, answer)
            operation.first_seq = 1 if texts else None

        self._perform(operation, send, understand, is_repeatable=False)
        return Target(label, session_id, self._owner) if operation.outcome == "ok" else None

    def _create(self, label: str, step: Step) -> Target | None:
        """Append to a session that is not there, with a lifetime of its own."""
        session_id, ttl = str(step.identity), 3600 + step.size
        operation = self._operation("start", label, session_id)
        operation.parts = step.size
        body = {"messages": [text_of(mark) for mark in operation.marks()], "token": f"create {label}", "ttl": ttl}
        send = self._sender("POST", f"/own/{session_id}/create", body)
        self._perform(operation, send, self._as_appended(operation))
        return Target(label, session_id, self._owner, ttl * 1000) if operation.outcome == "ok" else None

    def _as_appended(self, operation: Operation) -> Callable[[dict[str, Any]], None]:
        def understand(answer: dict[str, Any]) -> None:
            self._check_id(operation, answer)
            operation.first_seq = answer["first_seq"]

        return understand

    def _append(self, target: Target, step: Step) -> None:
        operation, send, _ = self._appending(target, step)
        self._perform(operation, send, self._as_appended(operation))

    def _appending(
        self, target: Target, step: Step, *, has_ids: bool = False
    ) -> tuple[Operation, Callable[[], Answer], dict[str, Any]]:
        operation = self._operation("append", target.label, target.session_id)
        operation.parts, operation.has_ids = step.size, has_ids or bool(step.variant & 4)
        texts = [text_of(mark) for mark in operation.marks()]
        token = f"{step.identity} {target.label}"
        body = {"messages": texts, "token": token, "has_ids": operation.has_ids}
        return operation, self._sender("POST", f"/own/{target.session_id}/append", body), body

    def _append_many(self, step: Step) -> None:
        """Append to all its sessions in one request. What that leaves open is repeated for each by itself."""
        targets = [slot.target for slot in self._slots if slot.target]
        plain = step._replace(variant=0)
        asked = [(target, *self._appending(target, plain)) for target in targets]
        body = {
            "messages": {target.session_id: one["messages"] for target, _, _, one in asked},
            "tokens": {target.session_id: one["token"] for target, _, _, one in asked},
        }
        began = time.monotonic()
        answer = self._sender("POST", "/own-many", body)()
        for target, operation, send, _ in asked:
            first = answer
            if answer.status and 200 <= answer.status < 300:
                told = answer.json[target.session_id]
                first = answer._replace(status=told["status"], json=told["json"])
            self._perform(operation, _first(first, send), self._as_appended(operation), began=began)

    def _drop(self, target: Target, step: Step, *, is_shared: bool) -> None:
        """Take out a message of its own, or in a session that nobody else writes to, all behind one of its own."""
        asked = self._asked.get(target.label, [])
        touched = {mark for operation in asked for mark in operation.dropped}
        open_ones = [one for one in asked if one.kind == "append" and one.is_acknowledged]
        candidates = [mark for one in open_ones for mark in one.marks() if mark not in touched]
        if not candidates:
            self._append(target, step)
            return
        mark = candidates[step.variant % len(candidates)]
        written = next(one for one in asked if one.number == mark.number)
        assert written.first_seq is not None
        has_id = written.has_ids and step.variant & 8
        name = id_of(text_of(mark)) if has_id else written.first_seq + mark.part - 1
        is_after = not is_shared and step.variant & 2
        dropped = [mark]
        if is_after:
            behind = [one for one in asked if one.number > mark.number or one.outcome != "ok"]
            dropped = [*written.marks()[mark.part :], *(other for one in behind for other in one.marks())]
        operation = self._operation("drop", target.label, target.session_id)
        operation.dropped = tuple(dropped)
        body = {"after" if is_after else "message": name, "token": str(step.identity)}
        send = self._sender("POST", f"/own/{target.session_id}/drop", body)
        self._perform(operation, send, lambda answer: self._check_id(operation, answer))

    def _turn(self, target: Target, step: Step) -> None:
        operation = self._operation("turn", target.label, target.session_id)
        operation.parts, operation.has_reply = 1, True
        text, reply = (text_of(mark) for mark in operation.marks())
        token = str(step.identity)
        if self._owner:
            send = self._sender("POST", f"/own/{target.session_id}/turn", {"content": text, "token": token})
        else:
            path = f"/sessions/{target.session_id}/messages"
            send = self._sender("POST", path, {"content": text}, {"Idempotency-Key": token})

        def understand(answer: dict[str, Any]) -> None:
            self._check_id(operation, answer)
            said = answer["message"] or {}, answer["reply"] or {}
            if [one.get("content") for one in said] != [text, reply]:
                operation.odd = f"it was asked {text!r}, and answered {said}"
            operation.first_seq, operation.reply_seq = (one.get("seq") for one in said)

        self._perform(operation, send, understand)

    def _get(self, target: Target, step: Step) -> None:
        operation = self._operation("get", target.label, target.session_id)
        last = None if step.variant % 8 == 0 else 1 + step.variant % 24
        path = f"{self._door}/{target.session_id}" + ("" if last is None else f"?last={last}")

        def understand(answer: dict[str, Any]) -> None:
            self._check_id(operation, answer)
            operation.seen = read_of(answer["history"], last)
            if answer.get("ttl_ms") != target.ttl_ms:
                operation.odd = f"it lives for {answer.get('ttl_ms')} ms, and {target.ttl_ms} was asked"

        self._perform(operation, self._sender("GET", path), understand, is_repeatable=False)

    def _visit(self, target: Target, step: Step) -> None:
        """A stranger's, or where there is an owner also nobody's: by the one door or the other."""
        operation = self._operation("stranger", target.label, target.session_id)
        door = "/sessions" if target.owner and step.variant % 2 else "/own"
        send = self._sender("GET", f"{door}/{target.session_id}?last=3", None, {"X-Owner": "stranger"})

        def understand(answer: dict[str, Any]) -> None:
            operation.seen = read_of(answer["history"], 3)

        self._perform(operation, send, understand, is_repeatable=False)

    def _delete(self, target: Target) -> None:
        operation = self._operation("delete", target.label, target.session_id)
        self._perform(operation, self._sender("DELETE", f"{self._door}/{target.session_id}"), lambda _: None)
        # It has no token: one that cannot be known is known when a repeat finds nothing, unless it is only a primary that
        # finds nothing, and that may be deposed.
        if self._is_durable and operation.outcome == "unknown" and operation.attempts[-1].status == NOT_FOUND:
            operation.outcome = "ok"

    # ---- what they have in common

    @property
    def _door(self) -> str:
        return "/own" if self._owner else "/sessions"

    def _operation(self, kind: Any, label: str, session_id: str | None) -> Operation:
        operation = Operation(self.name, len(self.operations) + 1, kind, label, session_id, self._owner)
        self.operations.append(operation)
        self._asked.setdefault(label, []).append(operation)
        return operation

    def _sender(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> Callable[[], Answer]:
        whole = {**({"X-Owner": self._owner} if self._owner else {}), **(headers or {})}
        return lambda: self._connection.call(method, path, body, **whole)

    @staticmethod
    def _check_id(operation: Operation, answer: dict[str, Any]) -> None:
        if answer["session_id"] != operation.session_id:
            operation.odd = f"it asked for {operation.session_id}, and got {answer['session_id']}"

    def _perform(
        self,
        operation: Operation,
        send: Callable[[], Answer],
        understand: Callable[[dict[str, Any]], None],
        *,
        is_repeatable: bool = True,
        began: float | None = None,
    ) -> None:
        """Ask until it is acknowledged, refused for sure, or cannot be known."""
        operation.began = time.monotonic() if began is None else began
        give_up = operation.began + PATIENCE_SECONDS
        pause, is_unsure = _FIRST_PAUSE, False
        while True:
            answer = send()
            attempt = _attempt(answer)
            operation.attempts.append(attempt)
            operation.ended = attempt.ended
            if answer.status and 200 <= answer.status < 300:
                operation.outcome = "ok"
                understand(answer.json)
                return
            never_sent = answer.status == 0
            is_refused = never_sent or attempt.written is False
            is_unsure = is_unsure or not is_refused
            self._note_what_is_left(operation, attempt)
            may_pass = attempt.status is None or attempt.slug in ("unavailable", "turn-in-progress")
            is_over = attempt.ended > give_up or not may_pass or (is_refused and not is_unsure)
            if not never_sent and (is_over or not is_repeatable):
                break
            if never_sent and attempt.ended > give_up:
                break
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
        operation.outcome = "unknown" if is_unsure else "failed"
        if attempt.slug == "unavailable":
            time.sleep(_AFTER_REFUSAL)

    def _note_what_is_left(self, operation: Operation, attempt: Attempt) -> None:
        """An error of a turn may say that its message is stored."""
        if operation.kind == "turn" and attempt.written:
            operation.left = operation.left or attempt.slug == "turn-lost" or self._is_durable


def _first(answer: Answer, send: Callable[[], Answer]) -> Callable[[], Answer]:
    """Give *answer* the first time, and ask from then on."""
    given = [answer]
    return lambda: given.pop() if given else send()


def _attempt(answer: Answer) -> Attempt:
    attempt = Attempt(answer.began, answer.ended, answer.status, detail=answer.detail)
    if answer.headers:
        inside = answer.headers.get("Chaos-Seconds")
        attempt.seconds_inside = float(inside) if inside else None
        attempt.is_degraded = "Convstore-Degraded" in answer.headers
    if answer.status and answer.status >= 400:
        attempt.written = answer.json.get("written")
        attempt.slug = str(answer.json.get("type", "")).removeprefix(_PROBLEM)
        attempt.detail = str(answer.json.get("detail", ""))
    return attempt


def read_of(history: list[dict[str, Any]], last: int | None) -> Read:
    """A history as HTTP shows it."""
    return Read(tuple(Seen(message["seq"], str(message["content"])) for message in history), last)


class Load:
    """All clients of a world."""

    def __init__(self, seed: str, port: int, *, pace: float, is_durable: bool) -> None:
        self._stop = threading.Event()
        self._clients = []
        for number in range(CLIENTS):
            pair = number // 2
            if number % 2 == 0:
                shared = Slot()
            owner = None if pair % 2 == 0 else f"owner{pair}"
            chance = random.Random(f"{seed} client {number}")
            self._clients.append(
                Client(f"c{number}", chance, port, owner, shared, self._stop, pace=pace, is_durable=is_durable)
            )

        self._threads = [threading.Thread(target=client.run, daemon=True) for client in self._clients]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

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
    def operations(self) -> list[Operation]:
        return [operation for client in self._clients for operation in client.operations]
