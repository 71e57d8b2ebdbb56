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
