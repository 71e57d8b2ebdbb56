"""Backup: all sessions of all owners as JSON Lines in a stable order, and back.

A line is that of ``transfer``, with more: ``owner``, ``place`` where that is not the sessions, ``aliases`` and ``shared``
where there are any. It holds all that a session is, and nothing that is of one server only: no version, no end of its
lifetime, no receipts, no turn in progress. A session that is shared tells no time of its last change, since sharing it again
is a change.
So the same sessions make the same text, wherever they are.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from ..domain.commands import LinkAlias, NoteAlias, Put, Share
from ..domain.results import Receipt, Snapshot
from ..domain.types import ANY, TOMBSTONE_MS, Alias
from ..errors import ConvstoreError, CorruptValue, InvalidInput, SessionExists, StoreError
from . import transfer
from .access import Access, whole
from .owners import Watch

SESSIONS = "sessions"
_PAGE = 1_000
_READ_TOGETHER = 20
_TOGETHER, _BYTES_TOGETHER = 100, 2**23
"""Most sessions that are written in one round trip, and about so many bytes of text."""


class Saved(NamedTuple):
    """A session of a backup.

    Attributes:
        session_id: Its id.
        line: Its line. None: it is damaged, and cannot be read.
        problem: The damage ("": there is none).
    """

    session_id: str
    line: dict[str, Any] | None
    problem: str = ""


def ids_of(places: Mapping[str, Access]) -> list[tuple[str, str]]:
    """List the place and the id of every session, sorted."""
    found: set[tuple[str, str]] = set()
    for place, access in places.items():
        cursor: str | None = None
        while True:
            page = access.store.page(ANY, cursor, _PAGE)
            found.update((place, summary.session_id) for summary in page.sessions)
            found.update((place, session_id) for session_id in page.damaged)
            cursor = page.next
            if cursor is None:
                break
    return sorted(found, key=lambda one: (one[0] != SESSIONS, *one))


def saved(places: Mapping[str, Access], ids: Sequence[tuple[str, str]]) -> Iterator[Saved]:
    """Read sessions, in the order of *ids*. One that is gone meanwhile is left out."""
    for place, group in itertools.groupby(ids, key=lambda one: one[0]):
        access = places[place]
        ids_here = [session_id for _, session_id in group]
        for start in range(0, len(ids_here), _READ_TOGETHER):
            some = ids_here[start : start + _READ_TOGETHER]
            found = access.store.load_many(some, ANY, is_interaction=False)
            for session_id, snapshot in zip(some, found, strict=True):
                one = _saved(place, session_id, snapshot)
                if one:
                    yield one


def _saved(place: str, session_id: str, snapshot: Snapshot | ConvstoreError | None) -> Saved | None:
    if snapshot is None:
        return None
    if isinstance(snapshot, StoreError) and not isinstance(snapshot, CorruptValue):
        raise snapshot
    try:
        if isinstance(snapshot, ConvstoreError):
            raise snapshot
        return Saved(session_id, _line(place, whole(snapshot)))
    except (CorruptValue, ValueError, TypeError, LookupError) as error:
        return Saved(session_id, None, str(error))


def _line(place: str, snapshot: Snapshot) -> dict[str, Any]:
    line: dict[str, Any] = {} if place == SESSIONS else {"place": place}
    line |= {"session_id": snapshot.session_id, "owner": snapshot.owner}
    line |= transfer.line_of(snapshot, is_exact=True)
    line["data"] = dict(sorted(line["data"].items()))  # each server has an order of its own
    if snapshot.aliases:
        line["aliases"] = [list(alias) for alias in snapshot.aliases]
    if snapshot.shared:
        line["shared"] = dict(sorted(snapshot.shared.items()))
        del line["updated_at_ms"]
    return line


class Taken(NamedTuple):
    """The outcome of a line that is taken in.

    Attributes:
        number: The number of the line, from 1.
        session_id: The session ("": the line has none).
        outcome: ``new``, ``existing`` (it stays as it is) or ``failed``.
        problem: The reason of a failure.
    """

    number: int
    session_id: str
    outcome: str
    problem: str = ""


class _Wanted(NamedTuple):
    number: int
    access: Access
    put: Put
    aliases: tuple[Alias, ...]
    shared: Mapping[str, Any]


def take_in(
    places: Callable[[str], Access],
    lines: Iterable[tuple[int, Mapping[str, Any] | ConvstoreError]],
    *,
    owner: str | None = None,
    dry_run: bool = False,
) -> Iterator[Taken]:
    """Create the sessions of a backup, many in one round trip. Sessions that exist stay as they are.

    Taking in the same again does no harm, so that an interrupted import is simply repeated. Places of owners are not
    counted, and nothing is evicted.

    Args:
        places: Gives access to a place. LookupError: there is none of that name.
        owner: The owner of the sessions whose lines name none, as in the export of one owner.
        dry_run: Only read the lines, and look which sessions exist.

    Raises:
        StoreUnavailable, StoreMisconfigured: The server does not answer, or refuses. Repeat the import then.
    """
    watch = Watch(None)
    waiting: list[_Wanted] = []
    waiting_bytes = 0
    for number, line in lines:
        wanted = _wanted(places, number, line, owner, watch)
        if isinstance(wanted, Taken):
            yield wanted
            continue
        waiting.append(wanted)
        waiting_bytes += sum(map(len, wanted.put.elements))
        if len(waiting) >= _TOGETHER or waiting_bytes >= _BYTES_TOGETHER:
            yield from _taken(waiting, dry_run=dry_run)
            waiting, waiting_bytes = [], 0
    yield from _taken(waiting, dry_run=dry_run)


def _wanted(
    places: Callable[[str], Access],
    number: int,
    line: Mapping[str, Any] | ConvstoreError,
    owner: str | None,
    watch: Watch,
) -> _Wanted | Taken:
    session_id = ""
    try:
        if isinstance(line, ConvstoreError):
            raise line
        session_id = str(line.get("session_id") or "")
        access = places(line.get("place", SESSIONS)).of(line.get("owner", owner))
        put = replace(transfer.put_of(access, line, watch, is_exact="owner" in line), counts=False)
        aliases = tuple(Alias(*pair) for pair in line.get("aliases", ()))
        return _Wanted(number, access, put, aliases, dict(line.get("shared", {})))
    except ConvstoreError as error:
        return Taken(number, session_id, "failed", str(error))
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        return Taken(number, session_id, "failed", f"this is no line of an export ({error!r})")


def _taken(waiting: Sequence[_Wanted], *, dry_run: bool) -> Iterator[Taken]:
    for _, group in itertools.groupby(waiting, key=lambda wanted: id(wanted.access.backend)):
        some = list(group)
        if dry_run:
            yield from _looked_at(some)
            continue
        answers = some[0].access.store.apply_each([wanted.put for wanted in some])
        for wanted, answer in zip(some, answers, strict=True):
            yield _outcome(wanted, answer)


def _looked_at(some: Sequence[_Wanted]) -> Iterator[Taken]:
    for wanted in some:
        is_there = wanted.access.store.load(wanted.put.session_id, ANY, 0, is_interaction=False) is not None
        yield Taken(wanted.number, wanted.put.session_id, "existing" if is_there else "new")


def _outcome(wanted: _Wanted, answer: Receipt | ConvstoreError) -> Taken:
    put = wanted.put
    if isinstance(answer, StoreError):
        raise answer
    if isinstance(answer, ConvstoreError) and not isinstance(answer, SessionExists):
        return Taken(wanted.number, put.session_id, "failed", str(answer))
    is_new = isinstance(answer, Receipt)
    if wanted.aliases or wanted.shared:
        _lead_and_share(wanted, is_new=is_new)
    return Taken(wanted.number, put.session_id, "new" if is_new else "existing")


def _lead_and_share(wanted: _Wanted, *, is_new: bool) -> None:
    """Let the aliases lead to a session again, and share it. An import before may have died just before that."""
    access, put = wanted.access.of(ANY), wanted.put
    snapshot = access.load(put.session_id, 0, is_interaction=False)
    if snapshot is None or not (is_new or snapshot.version == 1 + len(snapshot.shared)):
        return  # it has gone on since
    life_ms = max(put.ttl_ms or 0, round(1000 * max(access.settings.ttl, access.settings.ttl_complete))) + TOMBSTONE_MS
    for alias in wanted.aliases:
        link = LinkAlias(alias=alias, session_id=put.session_id, expected=None, lifetime_ms=life_ms)
        if access.store.link(link) == put.session_id:
            access.apply(NoteAlias(session_id=put.session_id, owner=ANY, alias=alias, leads_here=True))
    for name, role in wanted.shared.items():
        access.apply(Share(session_id=put.session_id, owner=ANY, name=name, role=role))


def no_line(number: int, reason: str) -> InvalidInput:
    """Make the error for a line that is no JSON object."""
    return InvalidInput(f"this is no line of an export: {reason}", f"line {number}")
