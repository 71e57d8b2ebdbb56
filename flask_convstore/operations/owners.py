"""All that is kept of an owner, page by page. An interrupted operation goes on when it is called again."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple, TypeVar

from ..domain.clock import monotonic
from ..domain.commands import Delete, LinkAlias, Share
from ..domain.messages import Usage
from ..domain.results import Traces
from ..domain.types import ANY, Alias
from ..errors import ConvstoreError, CorruptValue, OwnerRequired, SessionNotFound, TooSlow
from ..sessions.session import AnySession
from . import aliases, sessions
from .access import Access, in_time

_T = TypeVar("_T")


def required(access: Access) -> str:
    """Name the owner of *access*.

    Raises:
        OwnerRequired: The call has no owner.
    """
    if not isinstance(access.owner, str):
        raise OwnerRequired
    return access.owner


@in_time
def current(access: Access, *, last: int | None = None) -> AnySession | None:
    """Load the owner's current session with its *last* messages, or all. None if there is none."""
    return aliases.current(access, required(access), last=last)


@in_time
def make_current(access: Access, session_id: str | None) -> None:
    """Make a session the owner's current one. None: the owner has none from now on."""
    aliases.make_current(access, required(access), session_id)


def usage(access: Access) -> Usage:
    """Add up the tokens of a model that all the owner's sessions have cost."""
    required(access)
    costs = [summary.usage for summary in sessions.summaries(access)]
    return Usage(sum(cost.input for cost in costs), sum(cost.output for cost in costs))


class OwnerContents(NamedTuple):
    """All that is kept of an owner.

    Attributes:
        sessions: Ids by their place: ``sessions``, ``chats``, and ``mapping:<name>`` for each mapping of this app.
        aliases: Names of the owner's aliases, wherever they lead.
        shared: Ids of other owners' sessions that the owner shares.
        journalled: Ids of sessions that wait in this host's journal.
        complete: False if the time was over before all was found.
    """

    sessions: dict[str, list[str]]
    aliases: list[str]
    shared: list[str]
    journalled: list[str]
    complete: bool


class Forgotten(int):
    """The number of sessions that were deleted, chats and values of mappings among them.

    Attributes:
        aliases, shares: Numbers of the aliases and shares that were removed.
        complete: False if the time was over before all was gone. Call again then.
    """

    aliases: int
    shares: int
    complete: bool


def contents(places: Mapping[str, Access], *, seconds: float | None = None) -> OwnerContents:
    """List all that is kept of an owner. *places* gives access to each namespace, the sessions first."""
    watch = Watch(seconds)
    found = OwnerContents({}, [], [], [], True)
    for name, access in places.items():
        owner = required(access)
        ids = list(itertools.takewhile(watch.is_running, sessions.ids(access)))
        found.journalled.extend(access.store.journalled(owner))
        for traces in itertools.takewhile(watch.is_running, _traces(access)):
            ids.extend(traces.own)
            found.aliases.extend(alias.name for alias in traces.aliases if not aliases.is_note(alias))
            found.shared.extend(traces.shared)
        found.sessions[name] = list(dict.fromkeys(ids))
    return found._replace(
        aliases=sorted(set(found.aliases)), shared=sorted(set(found.shared)), complete=watch.is_running()
    )


def forget(places: Mapping[str, Access], *, seconds: float | None = None) -> Forgotten:
    """Delete all that is kept of an owner. *places* as in ``contents``."""
    watch, count, led, shares = Watch(seconds), 0, 0, 0
    try:
        for access in places.values():
            access.store.note_forgotten(required(access))
            for _ in _taken_from_index(access, watch):
                count += 1
            for traces in itertools.takewhile(watch.is_running, _traces(access)):
                for _ in _deleted(access, watch, traces.own):
                    count += 1
                led += sum(not aliases.is_note(alias) for alias in traces.aliases)
                shares += len(traces.shared)
                _remove(access, traces)
        next(iter(places.values())).store.scrub()
    except ConvstoreError as error:
        error.written = True if count or led or shares else error.written
        raise
    forgotten = Forgotten(count)
    forgotten.aliases, forgotten.shares, forgotten.complete = led, shares, watch.is_running()
    return forgotten


_TOGETHER = 500
"""Deleted sessions that leave their owner's index together."""


_CHECKED = 1_000
"""Items that are read between two looks at the time."""


class Watch:
    """A time that runs out. None: it never does."""

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds or 0.0
        self._deadline = None if seconds is None else monotonic() + seconds

    def is_running(self, *_: object) -> bool:
        return self._deadline is None or monotonic() <= self._deadline

    def check_half(self) -> None:
        """Refuse to write what has taken more than half of the time to read. Writing takes about as long.

        Raises:
            TooSlow: Nothing was written.
        """
        if self._deadline is not None and monotonic() > self._deadline - self._seconds / 2:
            raise TooSlow(f"reading took more than half of the {self._seconds:g} s for all", written=False)

    def reading(self, items: Iterable[_T]) -> Iterator[_T]:
        """Give *items* that are read, such as the messages of a session, with a ``check_half`` now and then."""
        for number, item in enumerate(items):
            if number % _CHECKED == 0:
                self.check_half()
            yield item


def _traces(access: Access) -> Iterator[Traces]:
    """Walk through all keys for what an owner has."""
    cursor: str | None = None
    while True:
        traces = access.store.traces(required(access), cursor)
        yield traces
        cursor = traces.next
        if cursor is None:
            return


def _remove(access: Access, traces: Traces) -> None:
    if traces.aliases:
        access.store.link_all(
            [LinkAlias(alias=alias, session_id=None, expected=ANY, lifetime_ms=1) for alias in traces.aliases]
        )
    for session_id in traces.shared:
        with contextlib.suppress(SessionNotFound):
            access.apply(Share(session_id=session_id, owner=ANY, name=required(access), role=None))


def _aliases_of(access: Access, session_id: str) -> tuple[Alias, ...]:
    """List the aliases of a session, which may be damaged."""
    try:
        snapshot = access.load(session_id, 0, is_interaction=False)
    except CorruptValue:
        snapshot = access.salvage(session_id)
    return snapshot.aliases if snapshot else ()


def delete(access: Access, *, seconds: float | None = None) -> tuple[int, bool]:
    """Delete all sessions of the owner, and their aliases.

    Args:
        seconds: Time after which the deletion stops. None: no limit.

    Returns:
        The number of sessions deleted, and True if these were all.
    """
    watch, count = Watch(seconds), 0
    access.store.note_forgotten(required(access))
    try:
        for count, _ in enumerate(_deleted(access, watch, _indexed(access)), 1):  # noqa: B007  counted up to an error
            pass
        access.store.scrub()
    except ConvstoreError as error:
        error.written = True if count else error.written
        raise
    return count, watch.is_running()


def _taken_from_index(access: Access, watch: Watch) -> Iterator[str]:
    """Delete the sessions of an owner with their entries in the index. Give the id of each."""
    owner = required(access)
    ended: list[tuple[str, int]] = []
    for entry in _deleted(access, watch, _indexed(access)):
        yield entry[0]
        ended.append(entry)
        if len(ended) == _TOGETHER:
            access.store.forget_owner(owner, ended)
            ended = []
    access.store.forget_owner(owner, ended)


def _indexed(access: Access) -> Iterator[str]:
    """Walk through the ids of the owner's sessions, in the journal and in the index."""
    return itertools.chain(access.store.journalled(required(access)), sessions.ids(access))


def _deleted(access: Access, watch: Watch, ids: Iterable[str]) -> Iterator[tuple[str, int]]:
    """Delete sessions of the owner, with the aliases that they know of. Give the id and the end of each."""
    for session_id in itertools.takewhile(watch.is_running, ids):
        aliases.move(access, _aliases_of(access, session_id), session_id, None)
        try:
            receipt = access.apply(Delete(session_id=session_id, owner=required(access)))
        except SessionNotFound:
            continue
        yield session_id, receipt.updated_at_ms
