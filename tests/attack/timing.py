"""The time of an answer to what is not yours, against that to what does not exist.

Both are asked in turn, so that whatever slows the machine slows both. A stranger who measures must not learn which ids
exist, nor how long a conversation is.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from flask.testing import FlaskClient

from ..servers import running
from ..service import OwnedService

MOST_APART = 0.05
"""Most that the medians of the two times may differ, as a part of the lower one."""

_MEGABYTES = (0, 1, 10, 60)
_MESSAGE = "x" * 1_000_000
_ROUNDS, _SECONDS = 400, 20
"""Most rounds and seconds of a comparison."""
_TRIES = 3
"""Comparisons until one is close enough. Noise passes, a difference stays."""

_HELLO = {"content": "hello"}
_STRANGER = {"X-Owner": "mallory"}

READS: dict[str, Callable[[FlaskClient, str], object]] = {
    "get": lambda client, session_id: client.get(f"/sessions/{session_id}", headers=_STRANGER),
    "last": lambda client, session_id: client.get(f"/sessions/{session_id}?last=50", headers=_STRANGER),
    "page": lambda client, session_id: client.get(f"/sessions/{session_id}/messages", headers=_STRANGER),
    "continue": lambda client, session_id: client.post(
        f"/sessions/{session_id}/messages", json=_HELLO, headers=_STRANGER
    ),
    "fork": lambda client, session_id: client.post(f"/sessions/{session_id}/fork", json={}, headers=_STRANGER),
    "delete": lambda client, session_id: client.delete(f"/sessions/{session_id}", headers=_STRANGER),
}


@contextmanager
def service() -> Iterator[OwnedService]:
    """Serve owners with sessions up to 64 MB on a real Valkey."""
    with running("valkey") as server:
        served = OwnedService(server.url, FALLBACK="none")
        served.convstore.reply(lambda turn: str(len(turn.history)))
        yield served


def start(service: OwnedService, session_id: str, megabytes: int) -> None:
    """Start a session of Ada's."""
    service.convstore.save_session(session_id, {"history": []}, owner="ada")
    for _ in range(megabytes):
        service.convstore.append(session_id, {"role": "user", "content": _MESSAGE}, owner="ada")


def apart(client: FlaskClient, read: Callable[[FlaskClient, str], object], there: str, none: str) -> float:
    """Compare the medians of two reads. 0.05: that of what is there takes 5 % longer."""
    times: dict[str, list[float]] = {there: [], none: []}
    until = time.monotonic() + _SECONDS
    for number in range(_ROUNDS):
        if time.monotonic() > until:
            break
        for session_id in (there, none) if number % 2 else (none, there):
            started = time.perf_counter()
            read(client, session_id)
            times[session_id].append(time.perf_counter() - started)
    first, second = (statistics.median(times[session_id]) for session_id in (there, none))
    return first / second - 1


def run() -> list[str]:
    """Compare every read, for conversations of several sizes."""
    failures = []
    with service() as served:
        with served.app.app_context():
            for megabytes in _MEGABYTES:
                start(served, f"of-{megabytes}-mb", megabytes)
        for name, read in READS.items():
            for megabytes in _MEGABYTES:
                found: list[float] = []
                while len(found) < _TRIES and (not found or abs(found[-1]) > MOST_APART):
                    found.append(apart(served.client, read, f"of-{megabytes}-mb", f"no-{megabytes}-mb"))
                print(f"{name:8} {megabytes:3} MB  {' '.join(f'{one:+.1%}' for one in found)}", flush=True)
                if abs(found[-1]) > MOST_APART:
                    failures.append(f"{name} of {megabytes} MB: {found[-1]:+.1%} apart")
    return failures
