"""The judge of the world ``continue`` finds what it looks for, and a short run of it finds nothing."""

from __future__ import annotations

from http.client import HTTPMessage

import pytest

from .connection import Answer
from .continuing import Client, _of_finals, _of_reads, run
from .records import Attempt, Operation, text_of


def turn(client: str, number: int, began: float, ended: float) -> Operation:
    made = Operation(client, number, "turn", "s", "s", None, parts=1, has_reply=True, began=began, ended=ended)
    made.outcome = "ok"
    made.attempts.append(Attempt(began, ended, 201))
    return made


def texts(*turns: Operation) -> list[str]:
    return [text for one in turns for text in (text_of(one.marks()[0]), f"re: {text_of(one.marks()[0])}")]


ONE, TWO, OTHER = turn("a0", 1, 0, 1), turn("a1", 1, 2, 3), turn("b0", 1, 0, 1)


@pytest.mark.parametrize(
    ("found", "kinds"),
    [
        (texts(ONE, TWO, OTHER), []),
        (texts(OTHER, ONE, TWO), []),
        (texts(ONE, OTHER), ["lost", "lost"]),
        (texts(TWO, ONE, OTHER), ["reordered"]),
        ([*texts(ONE, TWO, OTHER), texts(ONE)[0]], ["duplicated", "torn", "reordered"]),
        ([*reversed(texts(ONE)), *texts(TWO, OTHER)], ["torn"]),
        ([*texts(ONE, TWO, OTHER), "x c0 1 1/1"], ["foreign"]),
    ],
)
def test_what_is_wrong_in_the_end_is_found(found: list[str], kinds: list[str]) -> None:
    findings = _of_finals([ONE, TWO, OTHER], {"s": found})
    assert sorted({finding.kind for finding in findings}) == sorted(set(kinds))


def answer(*names: str, history: tuple[str, ...] = (), status: int = 200) -> Answer:
    headers = HTTPMessage()
    for name in names:
        headers[name] = "x"
    return Answer(status, {"history": [{"content": text} for text in history]}, headers, 5, 6)


@pytest.mark.parametrize(
    ("read", "is_wrong"),
    [
        (answer(history=(texts(ONE)[0],)), False),
        (answer("Convstore-Degraded", "Convstore-Partial"), False),
        (answer("Convstore-Degraded"), True),
        (answer("Convstore-Partial"), True),
        (answer(), True),
    ],
)
def test_what_is_not_marked_is_found(read: Answer, is_wrong: bool) -> None:
    client = Client.__new__(Client)
    said = answer(status=201)._replace(began=0, ended=1)
    client.answers = [(ONE, said), (Operation("a0", 2, "get", "s", "s", None), read)]
    assert bool(list(_of_reads([client]))) == is_wrong


@pytest.mark.slow
@pytest.mark.chaos
@pytest.mark.server
def test_a_short_run_breaks_no_promise() -> None:
    result = run("continue", 15, 1)
    assert not result.findings
    assert sum(attempt.is_degraded for operation in result.operations for attempt in operation.attempts) > 100
