"""The frames that ``benchmarks.frames`` counts."""

from __future__ import annotations

from functools import partial

import pytest

from benchmarks.frames import TARGETS, Frames, counted, frames_of, frames_table, listing, main
from flask_convstore.domain import json_text
from tests.servers import Server


def test_a_count_is_the_same_in_every_run(valkey: Server) -> None:
    first, second = counted(valkey), counted(valkey)
    assert first == second
    assert list(first) == list(TARGETS)
    assert all(frames.changes_of_room < len(frames) for frames in first.values())


MERGING = {"operations/merging", "sessions/merge", "sessions/three_way"}


@pytest.mark.parametrize("operation", ["mapping", "save"])
def test_merging_costs_nothing_where_nobody_else_wrote(valkey: Server, operation: str) -> None:
    """But for the loop of its attempts, a generator that is entered and left."""
    frames = counted(valkey)[operation]
    assert {frame.code.co_name for frame in frames if frame.room in MERGING} <= {"attempts"}
    assert sum(frame.room in MERGING for frame in frames) <= 2


def test_only_frames_of_the_package_count() -> None:
    assert frames_of(partial(sorted, [2, 1], key=lambda number: number)) == []
    (frame,) = frames_of(partial(json_text.encode, "Hello"))[:1]
    assert (frame.room, frame.code.co_name, frame.depth) == ("domain/json_text", "encode", 0)


def test_a_count_over_its_target_is_told() -> None:
    (frame,) = frames_of(partial(json_text.encode, "Hello"))[:1]
    shown = frames_table({"append": Frames([frame] * 46), "save": Frames([frame])})
    assert [line.split(" | ")[-1] for line in shown.splitlines()[2:]] == ["**missed** |", "met |"]


@pytest.mark.server
def test_frames_are_listed_in_the_order_of_their_calls(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--list", "append"])
    first, second = capsys.readouterr().out.splitlines()[:2]
    assert first.startswith("* ")
    assert first.endswith((" Conversations.append", " ConversationStore.append"))
    assert second.startswith(("* ", "  "))
    assert listing(Frames()) == ""
