"""The log of collisions names session and path, never a value, and is bounded in rate."""

from __future__ import annotations

import pytest

from flask_convstore.telemetry.collisions import CollisionLog


def test_a_storm_of_collisions_is_logged_once_in_ten_seconds(caplog: pytest.LogCaptureFixture) -> None:
    now = [100.0]
    collisions = CollisionLog(lambda: now[0])
    for _ in range(3):
        collisions.tell("s1", ["prefs.color"])
    now[0] += 10
    collisions.tell("s2", [f"f{number}" for number in range(7)])
    first, second = caplog.messages
    assert "session 's1': two writers changed prefs.color at once" in first
    assert "f3, f4 and 2 more" in second
    assert "2 collisions before this one were not logged" in second


def test_a_key_that_a_client_has_chosen_forges_no_line_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    CollisionLog().tell("s1", ["prefs.x\nERROR all is lost\x1b[31m", "k" * 10_000])
    text = caplog.records[0].getMessage()
    assert "\n" not in text
    assert "\x1b" not in text
    assert len(text) < 1000
    assert r"prefs.x\nERROR" in text
