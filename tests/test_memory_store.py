"""What only the memory store has: it forgets what has expired, so that the process does not grow."""

from __future__ import annotations

from flask_convstore.models import ANY

from .harness import MemoryHarness
from .test_store import save


def test_what_has_expired_is_forgotten() -> None:
    harness = MemoryHarness()
    for number in range(1_000):
        harness.store.apply(save(f"s{number}", b"m"))
    harness.age(3_600_000)
    assert harness.store.load("s5", ANY) is None
    harness.age(24 * 3_600_000 + 1)
    for number in range(2_000):
        harness.store.apply(save(f"t{number}"))
        harness.age(1)
    assert len(harness.store._sessions) == len(harness.store._tokens) == 2_000
    assert not any(name.startswith("s") for name in harness.store._sessions)


def test_little_traffic_forgets_too() -> None:
    harness = MemoryHarness()
    for number in range(30):
        harness.store.apply(save(f"s{number}"))
    harness.age(48 * 3_600_000)
    harness.store.apply(save("one"))
    assert list(harness.store._sessions) == list(harness.store._tokens) == ["one"]
