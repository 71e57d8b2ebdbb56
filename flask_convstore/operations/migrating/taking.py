"""Taking conversations of other code over into a store, again and again while that code still writes.

A session that is not there is created. One that is there, and has nothing but the beginning of what the other code has by
now, gets the rest. Any other one has gone on here, or is another one, and stays as it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from ...domain.commands import Append, Put
from ...domain.messages import bodies_of
from ...domain.results import Snapshot
from ...domain.types import ANY
from ...domain.validation import check_session_id
from ...errors import ConflictError, ConvstoreError, SessionExists, SessionNotFound, StoreError
from ...sessions import diff
from ..access import Access
from .formats import Format, Nothing, under

_TOGETHER = 100


class Source(NamedTuple):
    """The keys of a session in a server of other code: its id there, and their values."""

    session_id: str
    values: Sequence[bytes]


class Choice(NamedTuple):
    """The part of each session that is taken.

    Attributes:
        fields: The way to the conversation in a dict, by its keys. Empty: the whole dict.
        owner: The owner of all sessions. None: nobody.
        owner_field: The key of a dict that names the owner. "": none does.
        history_key: The key of the messages in a dict. "": as the settings say.
        is_bare: A list becomes a bare list of messages. Else it becomes the history of a dict.
    """

    fields: Sequence[str] = ()
    owner: str | None = None
    owner_field: str = ""
    history_key: str = ""
    is_bare: bool = False


class Moved(NamedTuple):
    """The outcome of a session: ``new``, ``extended``, ``existing``, ``empty``, or ``failed`` with its *problem*."""

    session_id: str
    outcome: str
    problem: str = ""


def take_over(
    access: Access, sources: Iterable[Source], form: Format, choice: Choice, *, dry_run: bool = False
) -> Iterator[Moved]:
    """Take sessions over, many in one round trip. Repeating it is harmless.

    Raises:
        StoreUnavailable, StoreMisconfigured: The server does not answer, or refuses. Repeat it then.
    """
    waiting: list[Put] = []
    for source in sources:
        made = _made(access, source, form, choice)
        if isinstance(made, Moved):
            yield made
            continue
        waiting.append(made)
        if len(waiting) >= _TOGETHER:
            yield from _taken(access, waiting, dry_run=dry_run)
            waiting = []
    yield from _taken(access, waiting, dry_run=dry_run)


def _made(access: Access, source: Source, form: Format, choice: Choice) -> Put | Moved:
    """Make the command that creates the session."""
    name = source.session_id
    try:
        check_session_id(name)
        content = form.read(source.values)
        owner = _owner_in(content, choice)
        content = under(content, choice.fields)
        limits = access.limits
        if choice.history_key:
            limits = replace(limits, history_key=choice.history_key, other_keys=())
        if isinstance(content, list) and not choice.is_bare:
            content = {limits.history_key: content}
        return replace(diff.whole(name, content, limits, access.of(owner).owner, None, "create"), counts=False)
    except Nothing:
        return Moved(name, "empty")
    except ConvstoreError as error:
        return Moved(name, "failed", str(error))
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        return Moved(name, "failed", f"its value is of another format: {error}")


def _owner_in(content: Any, choice: Choice) -> str | None:
    if not choice.owner_field:
        return choice.owner
    owner = content.get(choice.owner_field) if isinstance(content, Mapping) else None
    return choice.owner if owner is None else str(owner)


def _taken(access: Access, puts: Sequence[Put], *, dry_run: bool) -> Iterator[Moved]:
    if dry_run:
        answers: list[Any] = [_known_answer(access, put) for put in puts]
    else:
        answers = list(access.store.apply_each(puts))
    for put, answer in zip(puts, answers, strict=True):
        if isinstance(answer, StoreError):
            raise answer
        if isinstance(answer, SessionExists):
            yield Moved(put.session_id, _extended(access, put, dry_run=dry_run))
        elif isinstance(answer, SessionNotFound):  # it is another owner's
            yield Moved(put.session_id, "existing")
        elif isinstance(answer, ConvstoreError):
            yield Moved(put.session_id, "failed", str(answer))
        else:
            yield Moved(put.session_id, "new")


def _known_answer(access: Access, put: Put) -> SessionExists | None:
    is_there = access.store.load(put.session_id, ANY, 0, is_interaction=False) is not None
    return SessionExists(put.session_id) if is_there else None


def _extended(access: Access, put: Put, *, dry_run: bool) -> str:
    """Add to a session what it lacks at its end, and the fields that have changed. Name the outcome."""
    snapshot = access.store.load(put.session_id, ANY, is_interaction=False)
    if snapshot is None or snapshot.owner != put.owner or not _begins(snapshot, put):
        return "existing"
    changed = tuple((name, text) for name, text in put.fields if snapshot.fields.get(name) != text)
    if not dry_run:
        state = f"{snapshot.created_at_ms}-{snapshot.version}"
        rest = put.elements[len(snapshot.elements) :]
        command = Append(session_id=put.session_id, owner=ANY, elements=rest, fields=changed, expected=state)
        try:
            access.apply(command)
        except (ConflictError, SessionNotFound):
            return "existing"  # somebody has just gone on with it, or has deleted it
    return "extended"


def _begins(snapshot: Snapshot, put: Put) -> bool:
    """Tell whether a session has nothing but the beginning of the messages that it would get."""
    here, there = bodies_of(snapshot.elements), bodies_of(list(put.elements))
    return snapshot.shape == put.shape and len(here) < len(there) and there[: len(here)] == here


def counted(moved: Iterable[Moved], told: Callable[[Moved], None]) -> Counter[str]:
    """Count the outcomes. *told* is called with each."""
    counts: Counter[str] = Counter()
    for one in moved:
        counts[one.outcome] += 1
        told(one)
    return counts
