"""The judge: a pure function of the answers that the clients got and of the sessions that were read in the end.

| count         | must never be                                                                                    |
| ------------- | ------------------------------------------------------------------------------------------------ |
| lost          | an acknowledged message is absent from a session that nobody asked to be deleted                 |
| duplicated    | a message stands in a session twice                                                              |
| reordered     | not where its acknowledgement says, a gap, or before one that was acknowledged before it began   |
| torn          | a reply without its message or with another turn between, an append not whole or not in one      |
| foreign       | another session's message, a stranger's success, an answer to somebody else's request            |
| revived       | a session is there, or takes a write, after its deletion was acknowledged. A dropped message too |
| false absence | 404, or a history without what was acknowledged before, while the session exists                 |
| ghosts        | something of an operation that was refused for sure                                              |
| late          | a request took longer inside the app than its calls may, or was never answered by a living app   |
| errors        | an answer that nobody expects, or a session that cannot be read in the end                       |

``stream_checker`` judges streamed replies, and has two counts more. A fault that several reads show counts once.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from .records import NOT_FOUND, Attempt, Final, Kind, Mark, Operation, Read, mark_of, text_of

COUNTS = (
    "lost",
    "duplicated",
    "reordered",
    "torn",
    "foreign",
    "revived",
    "false absence",
    "ghosts",
    "late",
    "errors",
    "endless",
    "unmarked",
    "kept",
)

TIMEOUT = "timeout"
"""The detail of an attempt that the client gave up while the app was alive."""

_EXPECTED = {"not-found", "turn-in-progress", "turn-lost", "unavailable"}


class Finding(NamedTuple):
    """One broken promise."""

    kind: str
    what: str


def counted(findings: Iterable[Finding]) -> dict[str, int]:
    """The number of faults of each kind, zeros included."""
    found = Counter(finding.kind for finding in findings)
    return {count: found[count] for count in COUNTS}


def check(operations: Iterable[Operation], finals: Iterable[Final], bounds: Mapping[Kind, float]) -> list[Finding]:
    """Every broken promise, once.

    Args:
        bounds: The longest that a request of each kind may take inside the app, in seconds.
    """
    sessions: dict[str, _Session] = defaultdict(_Session)
    for operation in operations:
        sessions[operation.label].add(operation)
    found: dict[Finding, None] = {}
    for label, session in sessions.items():
        found.update(dict.fromkeys(_of_session(label, session, bounds)))
    for final in finals:
        found.update(dict.fromkeys(_of_final(final, sessions[final.label])))
    return list(found)


@dataclass(slots=True)
class _Session:
    """The facts about a session that its operations tell."""

    start: Operation | None = None
    operations: dict[tuple[str, int], Operation] = field(default_factory=dict)
    acknowledged: dict[Mark, tuple[float, int | None]] = field(default_factory=dict)
    deletes: list[Operation] = field(default_factory=list)
    drops: list[Operation] = field(default_factory=list)

    def add(self, operation: Operation) -> None:
        self.operations[operation.client, operation.number] = operation
        if operation.kind == "start":
            self.start = operation
        if operation.kind == "delete" and operation.outcome != "failed":
            self.deletes.append(operation)
        if operation.kind == "drop" and operation.outcome != "failed":
            self.drops.append(operation)
        if operation.is_acknowledged or operation.left:
            for mark in operation.marks():
                if operation.is_acknowledged or not mark.is_reply:
                    self.acknowledged[mark] = operation.ended, _acknowledged_seq(operation, mark)

    def exists_from(self) -> float:
        """When its start was acknowledged."""
        return self.start.ended if self.start and self.start.is_acknowledged else math.inf

    def is_deleted_from(self) -> float:
        """When a deletion was acknowledged."""
        return min((delete.ended for delete in self.deletes if delete.is_acknowledged), default=math.inf)

    def may_be_dropped_at(self, time: float) -> set[Mark]:
        """The messages that a drop was asked to take out before that."""
        return {mark for drop in self.drops if drop.began < time for mark in drop.dropped}

    def is_dropped_at(self, time: float) -> set[Mark]:
        """The messages whose own acknowledgement, and then that of a drop, came before that."""
        done = [drop for drop in self.drops if drop.is_acknowledged and drop.ended <= time]
        return {mark for drop in done for mark in drop.dropped if self._was_there(mark, drop.began)}

    def _was_there(self, mark: Mark, time: float) -> bool:
        operation = self.operations.get((mark.client, mark.number))
        return bool(operation and operation.is_acknowledged and operation.ended <= time)

    def may_be_deleted_at(self, time: float) -> bool:
        """True if a deletion was asked for before that."""
        return any(delete.began < time for delete in self.deletes)


def _acknowledged_seq(operation: Operation, mark: Mark) -> int | None:
    if mark.is_reply:
        return operation.reply_seq
    return None if operation.first_seq is None else operation.first_seq + mark.part - 1


def _of_session(label: str, session: _Session, bounds: Mapping[Kind, float]) -> Iterator[Finding]:
    for operation in session.operations.values():
        name = f"{label}: {operation.kind} {operation.number} of {operation.client}"
        yield from _of_attempts(name, session, operation, bounds[operation.kind])
        if operation.odd:
            yield Finding("foreign", f"{name}: {operation.odd}")
        if operation.kind == "stranger" and operation.seen is not None:
            yield Finding("foreign", f"{name}: a stranger has read it")
        is_answered = operation.kind in ("get", "append", "drop", "turn") and operation.is_acknowledged
        if is_answered and operation.began > session.is_deleted_from():
            yield Finding("revived", f"{name} was answered after the deletion")
        if operation.kind == "get" and operation.seen is not None:
            yield from _of_read(label, session, operation.seen)
            yield from _undropped(name, session, operation.seen, operation.began)
            if not session.may_be_deleted_at(operation.ended):
                dropped = session.may_be_dropped_at(operation.ended)
                for mark in _absent(session, operation.seen, operation.began, dropped):
                    source = "the fallback" if operation.is_degraded else "the server"
                    yield Finding("false absence", f"{name} did not see {text_of(mark)} by an answer of {source}")


def _of_attempts(name: str, session: _Session, operation: Operation, bound: float) -> Iterator[Finding]:
    for number, attempt in enumerate(operation.attempts):
        if attempt.detail == TIMEOUT:
            yield Finding("late", f"{name}: no answer in {attempt.ended - attempt.began:.1f} s")
        if attempt.seconds_inside is not None and attempt.seconds_inside > bound:
            yield Finding("late", f"{name}: {attempt.seconds_inside:.1f} s inside the app, {bound:.1f} s at most")
        if not _is_expected(attempt):
            yield Finding("errors", f"{name}: {attempt.status} {attempt.slug} {attempt.detail}")
        if attempt.status == NOT_FOUND and operation.kind not in ("start", "stranger"):
            others = (delete for delete in session.deletes if delete is not operation)
            asked = any(delete.began < attempt.ended for delete in others)
            itself = operation.kind == "delete" and number > 0
            if session.exists_from() <= attempt.began and not asked and not itself:
                yield Finding("false absence", f"{name}: 404")


def _is_expected(attempt: Attempt) -> bool:
    if not attempt.status or 200 <= attempt.status < 300:
        return True
    return attempt.slug in _EXPECTED


def _of_final(final: Final, session: _Session) -> Iterator[Finding]:
    name = f"{final.label} ({final.session_id})"
    if final.problem:
        yield Finding("errors", f"{name} cannot be read by {final.door}: {final.problem}")
    elif final.read is None:
        if session.exists_from() < math.inf and not session.deletes:
            yield Finding("false absence", f"{name} is not there in the end")
            yield from (Finding("lost", f"{name}: {text_of(mark)}") for mark in session.acknowledged)
    else:
        yield from _of_read(final.label, session, final.read)
        if session.start and session.start.outcome == "failed":
            yield Finding("ghosts", f"{name} is there, and its start was refused")
        if session.is_deleted_from() < math.inf:
            yield Finding("revived", f"{name} is there in the end")
        yield from _undropped(name, session, final.read, math.inf)
        if not session.deletes:
            dropped = session.may_be_dropped_at(math.inf)
            missing = _absent(session, final.read, math.inf, dropped)
            yield from (Finding("lost", f"{name}: {text_of(mark)}") for mark in missing)


def _undropped(name: str, session: _Session, read: Read, before: float) -> Iterator[Finding]:
    """The messages that a read shows, although their drop was acknowledged *before*."""
    dropped = session.is_dropped_at(before)
    for seen in read.messages if dropped else ():
        if mark_of(seen.text) in dropped:
            yield Finding("revived", f"{name}: {seen.text!r} was dropped")


def _absent(session: _Session, read: Read, before: float, dropped: set[Mark]) -> Iterator[Mark]:
    """The messages that were acknowledged *before* and are missing from a read that should have them.

    Those that may be *dropped* need not be there.
    """
    present = {mark_of(seen.text) for seen in read.messages}
    for mark, (ended, seq) in session.acknowledged.items():
        is_in_window = read.is_from_the_first or (seq is not None and seq >= read.messages[0].seq)
        if ended < before and mark not in present and mark not in dropped and is_in_window:
            yield mark


def _of_read(label: str, session: _Session, read: Read) -> Iterator[Finding]:
    """The faults that one read alone can show."""
    places: dict[Mark, int] = {}
    latest_beginning, previous_seq = -math.inf, read.messages[0].seq - 1 if read.messages else 0
    kept = 0
    may_have_gaps = bool(session.drops)
    if read.is_from_the_first and previous_seq > 0 and not may_have_gaps:
        yield Finding("reordered", f"{label}: it begins with seq {previous_seq + 1}")
    for place, (seq, text) in enumerate(read.messages):
        mark = mark_of(text)
        operation = session.operations.get((mark.client, mark.number)) if mark else None
        if not previous_seq < seq <= (math.inf if may_have_gaps else previous_seq + 1 + kept):
            yield Finding("reordered", f"{label}: seq {seq} comes behind {previous_seq}")
        previous_seq = seq
        kept = int(bool(mark and operation and operation.has_reply and not mark.is_reply))  # a seq, for the reply
        if mark is None or operation is None or mark not in operation.marks():
            yield Finding("foreign", f"{label}: {text[:200]!r} is in it")
            continue
        if mark in places:
            yield Finding("duplicated", f"{label}: {text_of(mark)}")
            continue
        places[mark] = place
        if operation.outcome == "failed":
            yield Finding("ghosts", f"{label}: {text_of(mark)}")
        ended, acknowledged_seq = session.acknowledged.get(mark, (math.inf, None))
        if acknowledged_seq is not None and not _is_at(seq, acknowledged_seq, operation):
            yield Finding("reordered", f"{label}: {text!r} was acknowledged as {acknowledged_seq} and is {seq}")
        elif ended < latest_beginning:
            yield Finding("reordered", f"{label}: {text!r} stands behind one that began after its end")
        latest_beginning = max(latest_beginning, operation.began)
    yield from _torn(label, session, places, read)


def _is_at(seq: int, acknowledged_seq: int, operation: Operation) -> bool:
    """True if a message stands where it was acknowledged. The journal counts on what was seen last.

    A fail-over may take back what the server had, and nobody was told to be stored. What waits moves forward then.
    """
    return seq == acknowledged_seq or (operation.is_degraded and seq < acknowledged_seq)


def _torn(label: str, session: _Session, places: Mapping[Mark, int], read: Read) -> Iterator[Finding]:
    turns = {place for mark, place in places.items() if session.operations[mark.client, mark.number].kind != "append"}
    dropped = session.may_be_dropped_at(math.inf)
    for key in {(mark.client, mark.number): None for mark in places}:
        operation = session.operations[key]
        if not dropped.isdisjoint(operation.marks()):
            continue
        found = {number: places[mark] for number, mark in enumerate(operation.marks()) if mark in places}
        if not _is_whole(operation, found, turns, is_cut=not read.is_from_the_first):
            name = f"{operation.kind} {operation.number} of {operation.client}"
            yield Finding("torn", f"{label}: {name} stands at {sorted(found.values())}")


def _is_whole(operation: Operation, found: Mapping[int, int], turns: set[int], *, is_cut: bool) -> bool:
    """True if the parts *found* (part > its place) stand as they should. With *is_cut* a window may begin in the midst.

    A reply may still be made, or never be. Appends are not turns and are not held up by them (docs/turns.md): they may
    stand between a message and its reply.
    """
    places = list(found.values())
    if operation.has_reply and operation.kind == "turn":
        if 0 not in found:
            return is_cut and not any(place < places[0] for place in turns)
        return len(found) == 1 or (places[0] < places[1] and not any(places[0] < at < places[1] for at in turns))
    first, last = min(found), max(found)
    is_headless = first > 0 and not (is_cut and found[first] == 0)
    is_short = last < operation.parts - 1
    is_parted = any(place - found[first] != number - first for number, place in found.items())
    return not (is_headless or is_short or is_parted or len(found) != last - first + 1)
