"""Operations that an exception from elsewhere cuts short at any line: the next call works, and nothing is there twice."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from flask_convstore import Message, StoreUnavailable, TurnInProgress

from ..servers import running
from ..service import Service
from .raising import Interrupted, Interruption

pytestmark = [pytest.mark.server, pytest.mark.slow]

EVERY = 5
"""Each so many lines of an operation, since the lines of a call are hundreds. The first one differs by operation."""


@pytest.fixture(scope="module", params=["valkey", "journal"])
def service(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running("valkey") as server:
        made = Service(server.url, BUDGET=2.0, RETRIES=0, TURN_LEASE=3600)
        with made.app.app_context():
            if request.param == "journal":
                server.kill()
                for _ in range(6):
                    with contextlib.suppress(StoreUnavailable):
                        made.convstore.get_session("x")
            yield made


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


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_next_call_works(service: Service, name: str) -> None:
    operate, left = OPERATIONS[name]
    client: Any = service.convstore.client
    moment = len(name) % EVERY
    while True:
        moment += EVERY
        session_id = f"{name}{moment}"
        service.convstore.save_session(session_id, {"history": []})
        interruption = Interruption(moment)
        with contextlib.suppress(Interrupted):
            interruption.call(lambda session_id=session_id: operate(service, session_id, "a"))  # type: ignore[misc]
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
        client.connection_pool.reclaim()
        assert not client.connection_pool._in_use_connections, interruption.where
    assert moment > 10 * EVERY
