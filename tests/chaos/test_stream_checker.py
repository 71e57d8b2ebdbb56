"""The checker of streamed replies finds each fault that it is there for, and nothing where there is none."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import islice
from typing import Any

import pytest

from .checker import counted
from .readers import Reading, Stored
from .scripts import Script, script_of
from .stream_checker import check_streams
from .streamers import SessionEnd, StreamedTurn, plan

SCRIPT = Script("r0.1", 3, 8, 10, "whole")
REPLY = Stored("msg-2", SCRIPT.text)


def reading(script: Script = SCRIPT, **more: Any) -> Reading:
    """One who has read all in a second."""
    told = {"text": script.text, "fate": "complete", "stored": Stored("msg-2", script.text), "turns": {"msg-2"}}
    return Reading(script, "reader 1", **{"began": 10.0, "ended": 11.0, "message_id": "msg-1", **told, **more})


def end(*replies: Stored, script: Script = SCRIPT, **more: Any) -> SessionEnd:
    messages: list[dict[str, Any]] = [{"role": "user", "id": "msg-1", "content": script.content}]
    messages += [
        {"role": "assistant", "id": one.id, "content": one.content, "status": one.status or None} for one in replies
    ]
    return SessionEnd("r0.1", **{"probe": (201, 0.1), "messages": messages, **more})


def turn(*readings: Reading, script: Script = SCRIPT, **more: Any) -> StreamedTurn:
    return StreamedTurn(script, "id", readings=list(readings), **more)


def counts(turns: list[StreamedTurn], ends: list[SessionEnd], *faults: tuple[float, float]) -> dict[str, int]:
    """The counts that are not zero."""
    return {count: number for count, number in counted(check_streams(turns, ends, faults)).items() if number}


def taken(pieces: list[str], script: Script = SCRIPT) -> Reading:
    found = reading(script, text="")
    for number, piece in enumerate(pieces, 1):
        found.take(f"{number}-1", "delta", {"turn": "msg-2", "content": piece})
    return found


def test_a_script_survives_its_text() -> None:
    assert script_of(SCRIPT.content) == SCRIPT
    assert script_of("hello") is script_of(None) is None
    assert "".join(SCRIPT.pieces()) == SCRIPT.text != SCRIPT._replace(number=4).text


def test_the_same_seed_reads_in_the_same_way() -> None:
    def steps(seed: int) -> list[object]:
        return list(islice(plan(random.Random(seed)), 100))

    assert steps(1) == steps(1) != steps(2)


def test_nothing_is_found_where_nothing_is_wrong() -> None:
    part = SCRIPT.pieces()[0]
    stopped = Stored("msg-2", part, "stopped")
    cut = reading(text=part, fate="stopped", stored=stopped)
    failed = reading(text="", fate="failed", stored=None)
    assert counts([turn(reading(), taken(SCRIPT.pieces()))], [end(REPLY)]) == {}
    assert counts([turn(cut, is_stop_asked=True, stopped=[("stopped", stopped)])], [end(stopped)]) == {}
    assert counts([turn(failed)], [end()]) == {}
    assert counts([turn(failed, reading())], [end(REPLY)]) == {}, "a later attempt may succeed"
    assert counts([turn(reading(ended=60.0))], [end(REPLY)], (12.0, 50.0)) == {}, "faults take their time"
    assert counts([turn(reading(fate=None), refusal="turn-lost")], [end(REPLY)]) == {}


WRONG: dict[str, tuple[Callable[[], tuple[list[StreamedTurn], list[SessionEnd]]], set[str]]] = {
    "text that is not stored": (lambda: ([turn(reading(text=""))], [end(REPLY)]), {"lost"}),
    "a reply that is not stored": (lambda: ([turn(reading())], [end()]), {"lost"}),
    "a message that is not stored": (lambda: ([turn(reading())], [end(messages=[])]), {"lost"}),
    "another fate": (lambda: ([turn(reading(fate="interrupted"))], [end(REPLY)]), {"lost"}),
    "a stop that was undone": (lambda: ([turn(reading(), stopped=[("stopped", None)])], [end(REPLY)]), {"lost"}),
    "a stop that nobody asked for": (
        lambda: (
            [turn(reading(fate="stopped", stored=REPLY._replace(status="stopped")))],
            [end(REPLY._replace(status="stopped"))],
        ),
        {"ghosts"},
    ),
    "a chunk twice": (lambda: ([turn(taken([SCRIPT.pieces()[0]] * 2))], [end(REPLY)]), {"torn", "lost"}),
    "a chunk left out": (lambda: ([turn(taken(SCRIPT.pieces()[1:]))], [end(REPLY)]), {"torn", "lost"}),
    "no beginning": (lambda: ([], [end(REPLY._replace(content="x"))]), {"torn"}),
    "a part that is marked as whole": (lambda: ([], [end(REPLY._replace(content=""))]), {"torn"}),
    "two replies": (lambda: ([], [end(REPLY, REPLY)]), {"duplicated"}),
    "another id": (lambda: ([turn(reading(turns={"msg-7"}))], [end(REPLY)]), {"foreign"}),
    "another's message": (lambda: ([], [end(script=SCRIPT._replace(label="r9.9"))]), {"foreign"}),
    "no end": (lambda: ([turn(reading(fate=None))], [end(REPLY)]), {"endless"}),
    "a late end": (lambda: ([turn(reading(ended=60.0))], [end(REPLY)]), {"endless"}),
    "a turn that is kept": (lambda: ([], [end(probe=(409, 2.0))]), {"kept"}),
    "a turn that begins late": (lambda: ([], [end(probe=(201, 2.0))]), {"kept"}),
    "a refusal": (lambda: ([turn(reading(refusals=["404"]))], [end(REPLY)]), {"errors"}),
    "a session that cannot be read": (lambda: ([], [end(messages=None)]), {"errors"}),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_found(name: str) -> None:
    make, kinds = WRONG[name]
    assert set(counts(*make())) == kinds


def test_a_reset_begins_anew() -> None:
    found = taken(SCRIPT.pieces()[:3])
    found.take("0-2", "reset", {"turn": "msg-2"})
    assert (found.text, found.last_id, found.resets) == ("", "0-2", 1)
