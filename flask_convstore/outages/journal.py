"""A journal of commands in a folder of this host, shared by its processes.

A folder holds ``journal.sqlite`` and, while commands wait in it, an empty file ``pending``: whether there is anything to
look for costs a call one microsecond. Without a folder it is this process's memory.

What it holds are sessions, whole: each with its commands since it was started, oldest first. They stay until all of them
have been replayed, so that any process can tell the session from them.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

from ..domain.clock import now_ms
from ..domain.results import TOMBSTONE_MS
from ..errors import StoreUnavailable
from .sqlite_file import JournalFile, flush

_APPLICATION = 0x43_56_53_4A
_VERSION = 1
_SCHEMA = """
CREATE TABLE about (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE sessions (
    namespace TEXT, session_id TEXT, owner TEXT, first INTEGER, last INTEGER, replayed INTEGER, expires_at_ms INTEGER,
    created_here_ms INTEGER, created_there_ms INTEGER,
    PRIMARY KEY (namespace, session_id)
) WITHOUT ROWID;
CREATE TABLE commands (
    number INTEGER PRIMARY KEY AUTOINCREMENT, namespace TEXT, session_id TEXT, at_ms INTEGER, command BLOB
);
CREATE INDEX of_session ON commands (namespace, session_id, number);
CREATE TABLE aside (number INTEGER PRIMARY KEY, namespace TEXT, session_id TEXT, at_ms INTEGER, command BLOB, problem TEXT);
CREATE TABLE starts (
    namespace TEXT, token TEXT, session_id TEXT, at_ms INTEGER, PRIMARY KEY (namespace, token)
) WITHOUT ROWID;
"""
_SELECT = (
    "SELECT session_id, owner, first, last, replayed, expires_at_ms, created_here_ms, created_there_ms FROM sessions "
)
_STARTS_MS = TOMBSTONE_MS
"""How long the token of a start leads to its session: as long as a store knows a token behind its session's end."""

NEVER_MS = 2**53
"""The end of an entry that waits for the store however long that takes."""


class Entry(NamedTuple):
    """A session in the journal.

    Attributes:
        owner: Whose it is; None: nobody's.
        first, last: The numbers of its commands.
        replayed: The number of the last one that has been replayed.
        expires_at_ms: When its lifetime is over; ``NEVER_MS`` if it has ended, and only the store has to hear of that.
        created_here_ms, created_there_ms: The session's time of creation as its commands have it, and as the store has it,
            once its start was replayed there.
    """

    session_id: str
    owner: str | None
    first: int
    last: int
    replayed: int
    expires_at_ms: int
    created_here_ms: int = 0
    created_there_ms: int = 0


class Row(NamedTuple):
    """A command, as text, and when it was accepted."""

    number: int
    at_ms: int
    text: bytes


class Status(NamedTuple):
    """What waits in a journal, and what has become of the rest.

    Attributes:
        pending: Commands that wait.
        oldest_at_ms: When the oldest of them was accepted.
        dropped: Commands that were not replayed, because their session had been deleted or had expired meanwhile.
        aside: Commands that could not be replayed, and are kept for somebody to look at.
        problem: What is wrong with the journal itself, or with another one of this store; None if nothing is.
    """

    pending: int = 0
    oldest_at_ms: int | None = None
    dropped: int = 0
    aside: int = 0
    problem: str | None = None


class Journal:
    """The journal of one store on this host. Opens nothing before it is needed; each process has a connection of its own.

    Args:
        folder: Where it lies; None: in memory. Journals of the same store name for other targets lie beside it.
        target: Names the store whose commands these are; another one's are set aside.
        max_bytes: How large it may get.
        timeout: Seconds to wait for other threads and processes, in all.

    Every method raises ``StoreUnavailable`` when it cannot do what it should; nothing was written then.
    """

    def __init__(self, folder: Path | None, target: str, max_bytes: int, timeout: float) -> None:
        self._file = JournalFile(folder, _SCHEMA, _APPLICATION, _VERSION, target, max_bytes, timeout)
        self._folder = folder
        self._marker = str(folder / "pending") if folder else ""
        self._is_marked = False
        self._learned_by = 0

    @property
    def kind(self) -> str:
        """``journal`` or ``memory``: what is acknowledged here survives the process, or does not."""
        return "journal" if self._folder else "memory"

    @property
    def opened(self) -> int:
        """How often it was opened by this process: what was known of it before may not hold any more."""
        return self._file.opened

    def reading(self) -> AbstractContextManager[sqlite3.Connection]:
        """A connection, for this thread alone in this process; other processes may write meanwhile."""
        return self._file.reading()

    def writing(self) -> AbstractContextManager[sqlite3.Connection]:
        """A transaction, alone among all threads and processes. What it does is on the disk at its end, or not done."""
        return self._file.writing()

    def close(self) -> None:
        """Give up the connection; the next call opens a new one. A journal in memory stays."""
        self._file.close()

    def warn(self, problem: str) -> None:
        """Log a problem, and tell it with the status."""
        self._file.warn(problem)

    # ---- whether there is anything

    def may_hold(self) -> bool:
        """Whether commands may wait here. Costs next to nothing."""
        if not self._folder:
            return self._is_marked
        if self._learned_by != os.getpid():
            self._learn()
        return os.access(self._marker, os.F_OK)

    def exists(self) -> bool:
        """Whether there is a journal at all."""
        return self._file.exists()

    def _learn(self) -> None:
        """Once in each process: the marker is a hint that a power cut may have taken away."""
        self._learned_by = os.getpid()
        with contextlib.suppress(StoreUnavailable, OSError):
            if self.exists() and self.status().pending:
                self._mark()
        assert self._folder
        name = self._folder.name.rpartition("-")[0]
        for other in self._folder.parent.glob(f"{name}-*/pending"):
            if other.parent != self._folder and other.parent.name.rpartition("-")[0] == name:
                self._file.warn(
                    f"writes wait in {other.parent} for a store that is not this one any more: start an app with that one's "
                    "URL and prefix to hand them over, or remove the folder"
                )

    def _mark(self) -> None:
        self._is_marked = True
        if self._folder and not os.access(self._marker, os.F_OK):
            os.close(os.open(self._marker, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
            flush(self._folder)

    def unmark_if_empty(self) -> bool:
        """Whether nothing waits any more; then the next calls need not look."""
        with self.writing() as connection:
            if connection.execute("SELECT 1 FROM sessions LIMIT 1").fetchone():
                return False
            connection.execute("DELETE FROM starts WHERE at_ms < ?", (now_ms() - _STARTS_MS,))
            self._is_marked = False
            if self._folder:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self._marker)
            return True

    # ---- sessions and their commands

    def find(self, namespace: str, session_id: str) -> Entry | None:
        """The session, if it is here."""
        with self.reading() as connection:
            query = _SELECT + "WHERE namespace = ? AND session_id = ?"
            found = connection.execute(query, (namespace, session_id)).fetchone()
            return Entry(*found) if found else None

    def rows(self, namespace: str, entry: Entry, after: int, limit: int = -1) -> list[Row]:
        """The commands of a session behind number *after*, oldest first."""
        with self.reading() as connection:
            query = (
                "SELECT number, at_ms, command FROM commands "
                "WHERE namespace = ? AND session_id = ? AND number > ? AND number <= ? ORDER BY number LIMIT ?"
            )
            where = (namespace, entry.session_id, max(after, entry.first - 1), entry.last, limit)
            return [Row(*row) for row in connection.execute(query, where)]

    def sessions(self, namespace: str, after: int, limit: int) -> list[Entry]:
        """Sessions that were started here behind command *after*, oldest first."""
        with self.reading() as connection:
            query = _SELECT + "WHERE namespace = ? AND first > ? ORDER BY first LIMIT ?"
            return [Entry(*row) for row in connection.execute(query, (namespace, after, limit))]

    def expired(self, namespace: str, limit: int) -> list[Entry]:
        """Sessions whose lifetime is over."""
        with self.reading() as connection:
            query = _SELECT + "WHERE namespace = ? AND expires_at_ms <= ? LIMIT ?"
            return [Entry(*row) for row in connection.execute(query, (namespace, now_ms(), limit))]

    def started_with(self, namespace: str, token: str) -> str | None:
        """The session that was started here with *token* within the last day."""
        with self.reading() as connection:
            query = "SELECT session_id FROM starts WHERE namespace = ? AND token = ?"
            found = connection.execute(query, (namespace, token)).fetchone()
            return found[0] if found else None

    def namespaces(self) -> list[str]:
        """Whose commands wait."""
        with self.reading() as connection:
            return [name for (name,) in connection.execute("SELECT DISTINCT namespace FROM sessions")]

    def add(self, namespace: str, entry: Entry, at_ms: int, text: bytes, start_token: str | None = None) -> Entry:
        """Add a command to a session that has *entry* now, in a transaction of ``writing``; its entry then.

        *entry* has the session's owner and end as they are after it; of one that is new here ``first`` is 0. With
        *start_token* the token leads to the session for a day.
        """
        self._mark()
        with self.reading() as connection:
            query = "INSERT INTO commands (namespace, session_id, at_ms, command) VALUES (?, ?, ?, ?)"
            number = connection.execute(query, (namespace, entry.session_id, at_ms, text)).lastrowid or 0
            entry = entry._replace(first=entry.first or number, last=number)
            query = "INSERT OR REPLACE INTO sessions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
            connection.execute(query, (namespace, *entry))
            if start_token:
                values = (namespace, start_token, entry.session_id, at_ms)
                connection.execute("INSERT OR REPLACE INTO starts VALUES (?, ?, ?, ?)", values)
        return entry

    # ---- replaying

    def replaying(self) -> AbstractContextManager[bool]:
        """Whether this process may replay: one at a time does. It ends with the process."""
        return self._file.exclusive("replaying")

    def replayed(self, namespace: str, entry: Entry, dropped: int) -> Entry | None:
        """Note how far a session was replayed, all but *dropped* commands; its entry then. None: it is not here any more."""
        with self.writing() as connection:
            _count_dropped(connection, dropped)
            found = self.find(namespace, entry.session_id)
            if not found or found.first != entry.first:
                return None
            where = (namespace, entry.session_id)
            if found.last == entry.replayed:
                _forget(connection, where)
                return None
            query = "UPDATE sessions SET replayed = ?, created_here_ms = ?, created_there_ms = ? "
            values = (entry.replayed, entry.created_here_ms, entry.created_there_ms)
            connection.execute(query + "WHERE namespace = ? AND session_id = ?", (*values, *where))
            return entry._replace(last=found.last)

    def end(self, namespace: str, entry: Entry, instead: Sequence[tuple[int, bytes]]) -> None:
        """Put other commands, *instead* (time and text), in the place of those of a session that were not replayed.

        The last one ends the session. Nothing if others have added to it meanwhile.
        """
        with self.writing() as connection:
            where = (namespace, entry.session_id)
            if self.find(*where) != entry:
                return
            query = "DELETE FROM commands WHERE namespace = ? AND session_id = ? AND number > ?"
            gone = connection.execute(query, (*where, entry.replayed)).rowcount
            _forget(connection, where)
            _count_dropped(connection, gone - len(instead) + 1)  # the last one of those is nobody's
            here = entry._replace(first=0, replayed=0, expires_at_ms=NEVER_MS)
            for at_ms, text in instead:
                here = self.add(namespace, here, at_ms, text)

    def set_aside(self, namespace: str, entry: Entry, problem: str) -> None:
        """Keep the commands of a session that have not been replayed, and cannot be, for somebody to look at."""
        with self.writing() as connection:
            rows = self.rows(namespace, entry, entry.replayed)
            _forget(connection, (namespace, entry.session_id))  # first: a full journal has room for them then
            for row in rows:
                values = (row.number, namespace, entry.session_id, row.at_ms, row.text, problem)
                connection.execute("INSERT INTO aside VALUES (?, ?, ?, ?, ?, ?)", values)

    def status(self) -> Status:
        """What waits here, and what has become of the rest."""
        if not self.exists():
            return Status(problem=self._file.problem)
        with self.reading() as connection:
            pending, oldest = connection.execute("SELECT count(*), min(at_ms) FROM commands").fetchone()
            (aside,) = connection.execute("SELECT count(*) FROM aside").fetchone()
            dropped = connection.execute("SELECT value FROM about WHERE name = 'dropped'").fetchone()
            return Status(pending, oldest, dropped[0] if dropped else 0, aside, self._file.problem)

    def is_usable(self) -> bool:
        """Whether it can be written to."""
        try:
            with self.writing() as connection:
                connection.execute("INSERT OR REPLACE INTO about VALUES ('checked', zeroblob(10000))")
                connection.execute("UPDATE about SET value = '' WHERE name = 'checked'")
        except StoreUnavailable:
            return False
        return True


def _forget(connection: sqlite3.Connection, where: tuple[str, str]) -> None:
    connection.execute("DELETE FROM sessions WHERE namespace = ? AND session_id = ?", where)
    connection.execute("DELETE FROM commands WHERE namespace = ? AND session_id = ?", where)


def _count_dropped(connection: sqlite3.Connection, dropped: int) -> None:
    if dropped > 0:
        query = (
            "INSERT INTO about VALUES ('dropped', ?) ON CONFLICT (name) DO UPDATE SET value = value + excluded.value"
        )
        connection.execute(query, (dropped,))
