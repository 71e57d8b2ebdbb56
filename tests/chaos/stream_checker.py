"""The judge of streamed replies: a pure function of what readers got, of the faults, and of what is stored in the end.

The counts are those of ``checker``, and these:

| count     | must never be                                                                                        |
| --------- | ---------------------------------------------------------------------------------------------------- |
| endless   | a reader that does not see the end of a reply in time, once the time of faults is left out           |
| kept      | a session in which the next turn does not begin at once, though nobody is at one                     |
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from .checker import Finding
from .readers import Reading, Stored, stored_of
from .scripts import script_of
from .streamers import SessionEnd, StreamedTurn

END_SECONDS = 20.0
"""Longest time, without that of faults, between the end of a script and the last event: 5 s for the death of the producer,
and what circuits, retries and fail-overs take on top, several times in a row."""

IDLE_SECONDS = 5.0
"""Time after which a model that hangs is given up."""

AT_ONCE_SECONDS = 1.5

_STORED_FATES = ("complete", "stopped", "interrupted")


def check_streams(
    turns: Iterable[StreamedTurn], ends: Sequence[SessionEnd], faults: Sequence[tuple[float, float]]
) -> list[Finding]:
    """Every broken promise, once.

    Args:
        faults: The times in which the world was broken.
    """
    stored = {end.label: _by_message(end.messages) for end in ends if end.messages is not None}
    found: dict[Finding, None] = {}
    for end in ends:
        found.update(dict.fromkeys(_of_end(end)))
    for turn in turns:
        found.update(dict.fromkeys(_of_turn(turn, stored.get(turn.script.label), faults)))
    return list(found)


def _by_message(messages: Iterable[dict[str, Any]]) -> dict[str, tuple[str, list[Stored]]]:
    """The id and the replies of each message, by its content."""
    found: dict[str, tuple[str, list[Stored]]] = {}
    newest = ""
    for message in messages:
        if message["role"] == "user":
            newest = str(message["content"])
            found[newest] = message["id"], []
        elif newest in found:
            found[newest][1].append(stored_of(message))
    return found


def _of_end(end: SessionEnd) -> Iterator[Finding]:
    status, seconds = end.probe
    if status != 201 or seconds > AT_ONCE_SECONDS:
        yield Finding("kept", f"{end.label}: the next turn was answered {status} after {seconds:.1f} s")
    if end.messages is None:
        yield Finding("errors", f"{end.label} cannot be read: {end.problem}")
        return
    said = [message["content"] for message in end.messages if message["role"] == "user"]
    for content in {content for content in said if said.count(content) > 1}:
        yield Finding("duplicated", f"{end.label}: {content}")
    for content, (_, replies) in _by_message(end.messages).items():
        yield from _of_replies(end.label, content, replies)


def _of_replies(label: str, content: str, replies: Sequence[Stored]) -> Iterator[Finding]:
    script = script_of(content)
    if script is None or script.label != label:
        yield Finding("foreign", f"{label}: {content[:200]!r} is in it")
        return
    if len(replies) > 1:
        yield Finding("duplicated", f"{label} {script.number}: {len(replies)} replies")
    for reply in replies:
        if not script.text.startswith(reply.content):
            yield Finding("torn", f"{label} {script.number}: {reply.content[-200:]!r} is no beginning of the reply")
        elif not reply.status and (reply.content != script.text or script.ending != "whole"):
            yield Finding("torn", f"{label} {script.number}: {len(reply.content)} characters are marked as whole")


def _of_turn(
    turn: StreamedTurn,
    stored: dict[str, tuple[str, list[Stored]]] | None,
    faults: Sequence[tuple[float, float]],
) -> Iterator[Finding]:
    message_id, replies = (stored or {}).get(turn.script.content, ("", []))
    reply = replies[0] if replies else None
    announced = set().union(*(reading.turns for reading in turn.readings))
    name = f"{turn.script.label} {turn.script.number}"
    if len(announced) > 1:
        yield Finding("foreign", f"{name}: it was announced as {sorted(announced)}")
    if reply and announced and reply.id not in announced:
        yield Finding("foreign", f"{name}: {reply.id} was announced as {sorted(announced)}")
    if reply and reply.status == "stopped" and not turn.is_stop_asked:
        yield Finding("ghosts", f"{name}: nobody has stopped it")
    for reading in turn.readings:
        yield from _of_reading(turn, reading, faults)
        if stored is not None:
            yield from _compared(reading, message_id, reply)
    for fate, told in turn.stopped if stored is not None else ():
        if told != reply or (reply and (reply.status or "complete") != fate):
            yield Finding("lost", f"{name}: {_short(told)} was stopped as {fate}, and {_short(reply)} is stored")


def _of_reading(turn: StreamedTurn, reading: Reading, faults: Sequence[tuple[float, float]]) -> Iterator[Finding]:
    for place in reading.breaks:
        yield Finding("torn", f"{reading.name}: {place}")
    for refusal in reading.refusals:
        yield Finding("errors", f"{reading.name}: {refusal}")
    if turn.refusal:
        return
    calm = reading.ended - reading.began - _in_faults(reading.began, reading.ended, faults)
    bound = turn.script.seconds + END_SECONDS + (IDLE_SECONDS if turn.script.ending == "hangs" else 0)
    if reading.fate is None or calm > bound:
        yield Finding("endless", f"{reading.name}: {reading.fate} after {calm:.1f} s of calm, {bound:.1f} s at most")


def _in_faults(began: float, ended: float, faults: Sequence[tuple[float, float]]) -> float:
    return sum(max(0.0, min(ended, to) - max(began, at)) for at, to in faults)


def _compared(reading: Reading, message_id: str, reply: Stored | None) -> Iterator[Finding]:
    """Compare what a reader was told with what is stored."""
    if reading.message_id and reading.message_id != message_id:
        kind = "foreign" if message_id else "lost"
        yield Finding(kind, f"{reading.name}: the message was {reading.message_id}, and is {message_id!r}")
    if reading.fate not in _STORED_FATES:
        return
    if reply is None:
        if reading.text:
            yield Finding("lost", f"{reading.name}: it was told {reading.fate}, and no reply is stored")
        return
    if reading.text != reply.content:
        texts = f"{len(reading.text)} characters, and {len(reply.content)} are stored"
        yield Finding("lost", f"{reading.name}: it has {texts} ({reading.fate}, {reply.status or 'complete'})")
    if reading.stored != reply or reading.fate != (reply.status or "complete"):
        yield Finding("lost", f"{reading.name}: {reading.fate} {_short(reading.stored)} is stored as {_short(reply)}")


def _short(stored: Stored | None) -> str:
    return f"{stored.id} ({len(stored.content)} characters, {stored.status or 'complete'})" if stored else "nothing"
