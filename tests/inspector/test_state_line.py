"""The line on top: all is well, or what is wrong, in words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flask_convstore.domain.results import Health
from flask_convstore.inspector.state_line import state_line

WELL = Health(connected=True, latency_ms=0.31, server="valkey", version="9.1.2", role="primary")


def test_all_is_well() -> None:
    assert state_line(WELL) == ("ok", ["All is well. Valkey 9.1.2 answers in 0.3 ms."])


@pytest.mark.parametrize(
    ("changes", "state", "words"),
    [
        ({"connected": False, "latency_ms": None, "can_start": True}, "problem", "kept in this host's journal"),
        ({"connected": False, "latency_ms": None}, "problem", "Nothing can be written"),
        ({"role": "replica"}, "problem", "takes no writes"),
        ({"pending": None}, "problem", "cannot be read"),
        ({"set_aside": 2}, "problem", "2 writes lie aside"),
        ({"problem": "the disk is full."}, "problem", "The disk is full."),
        (
            {"pending": 3, "pending_age_s": 70.0, "degraded": True},
            "warning",
            "3 writes wait in this host's journal, the oldest for 1 min 10 s.",
        ),
        ({"degraded": True}, "warning", "Not all is stored on the server"),
        ({"evicts": "allkeys-lru"}, "warning", "allkeys-lru"),
    ],
)
def test_it_is_told(changes: dict[str, object], state: str, words: str) -> None:
    line = state_line(replace(WELL, **changes))  # type: ignore[arg-type]
    assert line.state == state
    assert words in " ".join(line.sentences)


def test_problems_stand_before_warnings() -> None:
    line = state_line(replace(WELL, evicts="allkeys-lru", set_aside=1))
    assert line.state == "problem"
    assert "1 write lies aside" in line.sentences[0]
    assert "allkeys-lru" in line.sentences[-1]
