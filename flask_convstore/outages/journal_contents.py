"""The content of a journal, for an operator: the sessions that wait, and the commands that were set aside."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from .journal import Journal, JournalledSession, Row

_PAGE = 100


class Waiting(NamedTuple):
    """A session that waits in a journal.

    Attributes:
        namespace: "" for the sessions.
        journalled: The journal's record of it.
        commands: Number of its commands that were not handed over.
        oldest_at_ms: Time of acceptance of the oldest of them. None: there is none.
    """

    namespace: str
    journalled: JournalledSession
    commands: int
    oldest_at_ms: int | None


class Aside(NamedTuple):
    """A command that could not be handed over, with the reason."""

    namespace: str
    session_id: str
    problem: str
    row: Row


def waiting(journal: Journal) -> Iterator[Waiting]:
    """List the sessions that wait, oldest first. It raises as the journal."""
    if not journal.exists():
        return
    for namespace in journal.namespaces():
        after = 0
        while some := journal.sessions(namespace, after, _PAGE):
            yield from (_waiting(journal, namespace, journalled) for journalled in some)
            after = some[-1].first


def waiting_of(journal: Journal, namespace: str, key: str) -> Waiting | None:
    """Find one session that waits, by its key in the journal. None if it is not here any more. It raises as the journal."""
    journalled = journal.find(namespace, key)
    return _waiting(journal, namespace, journalled) if journalled else None


def _waiting(journal: Journal, namespace: str, journalled: JournalledSession) -> Waiting:
    rows = journal.rows(namespace, journalled, journalled.replayed)
    return Waiting(namespace, journalled, len(rows), rows[0].at_ms if rows else None)


def aside(journal: Journal) -> list[Aside]:
    """List the commands that were set aside. It raises as the journal."""
    if not journal.exists():
        return []
    with journal.reading() as connection:
        query = "SELECT namespace, session_id, problem, number, at_ms, command FROM aside ORDER BY number"
        found = connection.execute(query).fetchall()
    return [Aside(namespace, key.partition("\n")[0], problem, Row(*row)) for namespace, key, problem, *row in found]


def drop(journal: Journal, session_id: str) -> int:
    """Drop all commands about a session that wait, or were set aside. Return their number. Nothing is handed over."""
    count = 0
    for one in list(waiting(journal)):
        if one.journalled.session_id == session_id:
            journal.end(one.namespace, one.journalled, ())
            count += one.commands
    numbers = [one.row.number for one in aside(journal) if one.session_id == session_id]
    journal.drop_aside(numbers)
    journal.unmark_if_empty()
    return count + len(numbers)
