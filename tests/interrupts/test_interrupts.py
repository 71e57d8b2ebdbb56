"""Operations that an exception from elsewhere cuts short at any line: the next call works, and nothing is there twice."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from flask_convstore import Message, StoreUnavailable, TurnInProgress
from flask_convstore.mapping.late_writer import late_writer

from ..processes import wait_for
from ..servers import running
from ..service import Service
from .forking import fork
from .raising import Interruption

pytestmark = [pytest.mark.server, pytest.mark.slow]

EVERY = int(os.environ.get("INTERRUPTS_EVERY", "7"))
"""Each so many lines of an operation, since a call has hundreds. The first one differs by operation. ``make interrupts``
takes each."""


class OneService(Service):
    is_there: bool


@pytest.fixture(params=["valkey", "journal"])
def service(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OneService]:
    with running("valkey") as server:
        made = OneService(server.url, BUDGET=2.0, RETRIES=0, TURN_LEASE=3600)
        made.is_there = request.param == "valkey"
        with made.app.app_context():
            if request.param == "journal":
                server.kill()
                for _ in range(6):
                    with contextlib.suppress(StoreUnavailable):
                        made.convstore.get_session("x")
            yield made
            late_writer._watched.clear()  # what was cut short holds values of a server that is gone


def append(service: Service, session_id: str, text: str) -> None:
    service.convstore.append(session_id, {"content": text}, token=text)


def turn(service: Service, session_id: str, text: str) -> None:
    with service.convstore.turn(session_id, Message({"content": text}), token=text) as begun:
        begun.reply({"content": f"re {text}"})


def save(service: Service, session_id: str, text: str) -> None:
    session = service.convstore.get_session(session_id)
    assert session
    session["history"].append({"content": text})
    service.convstore.save_session(session_id, session)


def change(service: Service, session_id: str, text: str) -> None:
    with service.convstore.sessions.scope():
        service.convstore.sessions[session_id]["history"].append({"content": text})


def texts(service: Service, session_id: str) -> list[str]:
    session = service.convstore.get_session(session_id)
    assert session
    return [message["content"] for message in session["history"]]


OPERATIONS: dict[str, tuple[Callable[[Service, str, str], None], list[str]]] = {
    "append": (append, ["b"]),
    "turn": (turn, ["b", "re b"]),
    "save": (save, ["b"]),
    "mapping": (change, ["b"]),
}


def is_on_its_way(where: str) -> bool:
    """Tell whether a turn was lost between two lines: begun, and not yet in the hands of a ``with``."""
    return where.endswith(("conversations.py turn", "turns.py __enter__", "contextlib.py __exit__"))


def are_all_back(client: Any) -> bool:
    """Tell whether no call has a connection. The late writer may have one for a moment."""
    client.connection_pool.reclaim()
    return not client.connection_pool._in_use_connections


@pytest.mark.parametrize("spares_nothing", [False, True], ids=["", "in what clears up too"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_the_next_call_works(service: OneService, name: str, *, spares_nothing: bool) -> None:
    operate, left = OPERATIONS[name]
    moment = len(name) % EVERY
    while True:
        moment += EVERY
        session_id = f"{name}{moment}"
        service.convstore.save_session(session_id, {"history": []})
        interruption = Interruption(moment, spares_nothing=spares_nothing)
        interruption.call(partial(operate, service, session_id, "a"))
        if not interruption.is_raised:
            break
        try:
            operate(service, session_id, "b")
        except TurnInProgress:
            assert is_on_its_way(interruption.where), interruption.where
            continue
        found = texts(service, session_id)
        assert found[len(found) - len(left) :] == left, interruption.where
        assert found[: len(found) - len(left)] in ([], ["a"], ["a", "re a"]), interruption.where
        interruption.raised = None
        if service.is_there:  # else the replay has a connection now and then
            wait_for(partial(are_all_back, service.convstore.client), f"a connection is out: {interruption.where}")
    assert moment > 10 * EVERY


def test_threads_that_fork_do_not_hang() -> None:
    """``make interrupts`` forks 10,000 times."""
    assert fork(int(os.environ.get("INTERRUPTS_FORKS", "50")), threads=8) == ""
