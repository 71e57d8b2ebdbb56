"""Trials of a store on a scratch session, which is removed at the end: how long its calls take at this moment."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterator

from ..domain.clock import monotonic
from ..domain.commands import Append, Delete, Put
from ..domain.messages import join_element
from .access import Access

_TEXT = b'{"role":"user","content":"%b"}' % (b"x" * 200)
_LIFETIME_MS = 60_000

Forget = Callable[[str], None]
"""Removes what a store still keeps of a deleted session with that id."""


def timed(call: Callable[[], object], count: int) -> list[float]:
    """Call so many times. Return the times in milliseconds, sorted."""
    times = []
    for _ in range(count):
        started = monotonic()
        call()
        times.append(1000 * (monotonic() - started))
    return sorted(times)


@contextlib.contextmanager
def scratch(access: Access, forget: Forget) -> Iterator[str]:
    """Begin a session that nobody uses, of an owner that nobody is. At the end nothing of both is left."""
    owner = f"doctor-{secrets.token_hex(8)}"
    access.store.apply(
        Put(session_id=owner, owner=owner, mode="create", shape="full", ttl_ms=_LIFETIME_MS, counts=False)
    )
    try:
        yield owner
    finally:
        ended = access.store.apply(Delete(session_id=owner, owner=owner))
        access.store.forget_owner(owner, [(owner, ended.updated_at_ms)])
        forget(owner)


def append(access: Access, session_id: str) -> None:
    """Add a message of 200 characters to a scratch session."""
    element = join_element(1, _TEXT, {})
    access.store.apply(Append(session_id=session_id, owner=session_id, elements=(element,)))


def appends_ms(access: Access, forget: Forget, count: int = 50) -> list[float]:
    """Measure appends to a scratch session, in milliseconds, sorted."""
    with scratch(access, forget) as session_id:
        append(access, session_id)  # the server learns the script
        return timed(lambda: append(access, session_id), count)


def bench(access: Access, forget: Forget, count: int) -> Iterator[tuple[str, list[float]]]:
    """Measure round trips, appends, and reads of the whole session. Give the sorted times of each kind."""
    store = access.store
    with scratch(access, forget) as session_id:
        append(access, session_id)
        yield "round trip", timed(store.ping, count)
        yield "append", timed(lambda: append(access, session_id), count)
        yield f"read of {count + 1} messages", timed(lambda: store.load(session_id, session_id), count)
        yield "read of the last 20", timed(lambda: store.load(session_id, session_id, 20), count)
