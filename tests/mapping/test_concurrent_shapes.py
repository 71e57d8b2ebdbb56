"""Overlapping requests on the shapes that real dicts have: nothing is lost, and a collision is never silent."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from ..servers import Server
from ..service import Service
from ..telemetry.test_signals import heard

THREADS, REQUESTS = 8, 25

Make = Callable[[], Any]
Change = Callable[[Any, str], Any]
Count = Callable[[Any], int]


def say(value: Any, who: str) -> None:
    value["messages"].append({"role": "user", "content": who})
    value["messages"].append({"role": "assistant", "content": f"to {who}"})


def in_three_levels(value: Any, who: str) -> None:
    user, _, number = who.partition("-")
    value.setdefault(user, {}).setdefault(f"conversation {number}", []).append({"content": who})


def once(value: Any, who: str) -> None:
    if who not in value["names"]:
        value["names"].append(who)


def add_to_log(value: Any, who: str) -> None:
    value["log"].append({"by": who})


def count_deep(value: Any, who: str) -> None:
    value["a"]["b"]["n"] += 1


def spend(value: Any, who: str) -> None:
    value["cost"] += 0.1


SHAPES: dict[str, tuple[Make, Change, Count]] = {
    "a dict with messages": (lambda: {"messages": []}, say, lambda v: len(v["messages"]) // 2),
    "a second list": (lambda: {"history": [], "log": [{}]}, add_to_log, lambda v: len(v["log"]) - 1),
    "a nested counter": (lambda: {"a": {"b": {"n": 0}}}, count_deep, lambda v: v["a"]["b"]["n"]),
    "a decimal counter": (lambda: {"cost": 0.0}, spend, lambda v: round(v["cost"] * 10)),
    "a set of names": (lambda: {"names": []}, once, lambda v: len(v["names"])),
    "three levels": (dict, in_three_levels, lambda v: sum(len(said) for user in v.values() for said in user.values())),
    "keys of a nested dict": (lambda: {"seen": {}}, lambda v, w: v["seen"].update({w: True}), lambda v: len(v["seen"])),
    "a bare list": (list, lambda v, w: v.append(w), len),
    "a record": (lambda: ["now", []], lambda v, w: v[1].append({"by": w}), lambda v: len(v[1])),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_overlapping_requests_lose_nothing(server: Server, shape: str) -> None:
    make, change, count = SHAPES[shape]
    service = Service(server.url, BUDGET=30)
    app, sessions = service.app, service.convstore.sessions
    numbers = itertools.count()

    @app.post("/turn")
    def turn() -> str:
        change(sessions["s"], f"{threading.get_ident()}-{next(numbers)}")
        return "ok"

    def client(_: int) -> list[int]:
        with app.test_client() as browser:
            return [browser.post("/turn").status_code for _ in range(REQUESTS)]

    with app.app_context():
        sessions["s"] = make()
    with heard(service) as told, ThreadPoolExecutor(THREADS) as pool:
        statuses = [status for answers in pool.map(client, range(THREADS)) for status in answers]
    assert statuses == [200] * (THREADS * REQUESTS)
    with app.app_context():
        assert count(sessions["s"]) == THREADS * REQUESTS
    assert "changes-overwritten" not in [name for name, _ in told]


def test_the_same_shapes_on_a_dict() -> None:
    """The changes count the same on a dict, one after another."""
    for make, change, count in SHAPES.values():
        value = make()
        for number in range(5):
            change(value, f"1-{number}")
        assert count(value) == 5
