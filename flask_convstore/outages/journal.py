"""A journal of commands in a folder of this host, shared by its processes.

The folder holds ``journal.sqlite``. While commands wait there, it also holds an empty file ``pending``, which a call looks
for in one microsecond. Without a folder the journal lies in the memory of this process.

The journal holds whole sessions: each with its commands since it was started, oldest first. They stay until all of them have
been replayed, so that any process can fold them into the session.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

from ..domain.clock import boot, now_ms, ticks_ms
from ..domain.types import TOMBSTONE_MS
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
CREATE TABLE IF NOT EXISTS aliases (
    namespace TEXT, owner TEXT, name TEXT, session_id TEXT, expected TEXT, lifetime_ms INTEGER,
    PRIMARY KEY (namespace, owner, name)
) WITHOUT ROWID;
"""
_SELECT = (
    "SELECT session_id, owner, first, last, replayed, expires_at_ms, created_here_ms, created_there_ms FROM sessions "
)
_STARTS_MS = TOMBSTONE_MS
"""Time for which the token of a start leads to its session. A store knows a token as long after its session's end."""

_SIZE = (
    "SELECT (page_count - freelist_count) * page_size FROM pragma_page_count, pragma_freelist_count, pragma_page_size"
)

_GLANCE_SECONDS = 0.5
"""Time to wait for a look at the journal that only tells of its state."""

NEVER_MS = 2**53
"""The end of a session that waits for the store however long that takes."""

AGELESS_MS = NEVER_MS - 1
"""The end of a continuation, whose lifetime is the session's."""

UNBORN_MS = -1
"""A time of creation that no session has."""


class JournalledSession(NamedTuple):
    """A session in the journal, or the continuation of one that is not known whole.

    Attributes:
        key: The id of the session. Of a continuation as ``continuation.key_of`` makes it.
        owner: The owner's name (None: nobody).
        first, last: Numbers of its first and last command (0: it has none yet).
        replayed: Number of the last command that has been replayed.
        expires_at_ms: End of its lifetime. ``NEVER_MS`` if the session has ended, and only the store has to hear of that.
        created_here_ms, created_there_ms: Time of creation as its commands have it, and as the store has it, once the start
            was replayed there.
    """

    key: str
    owner: str | None = None
    first: int = 0
    last: int = 0
    replayed: int = 0
    expires_at_ms: int = 0
    created_here_ms: int = 0
    created_there_ms: int = 0

    @property
    def session_id(self) -> str:
        """The id of the session."""
        return self.key.partition("\n")[0]

    @property
    def is_continuation(self) -> bool:
        """It began with what was remembered of the session, or with nothing."""
        return "\n" in self.key


class Row(NamedTuple):
    """A command as text, with its number and its time of acceptance."""

    number: int
    at_ms: int
    text: bytes


class Status(NamedTuple):
    """Counts of the commands in a journal, and of those that it has got rid of.

    Attributes:
        pending: Commands that wait.
        oldest_at_ms: Time of acceptance of the oldest of them.
        dropped: Commands that were not replayed, because their session had been deleted or had expired meanwhile.
        aside: Commands that could not be replayed, or not wholly, and are kept for an operator to look at.
        problem: Problem of the journal itself, or of another one of this store (None: there is none).
        size_bytes: Size of all that it holds.
    """

    pending: int = 0
    oldest_at_ms: int | None = None
    dropped: int = 0
    aside: int = 0
    problem: str | None = None
    size_bytes: int = 0


class Journal:
    """The journal of one store on this host. It opens nothing before it is needed. Each process has its own connection.

    Args:
        folder: The folder of the journal (None: it lies in memory). Journals of the same store name for other targets lie
            beside it.
        target: Names the store whose commands these are. The file of another target is set aside.
        max_bytes: Greatest size.
        timeout: Seconds to wait for other threads and processes, in all.

    Every method raises ``StoreUnavailable`` when it fails. Nothing was written then.
    """

    def __init__(self, folder: Path | None, target: str, max_bytes: int, timeout: float) -> None:
        self._file = JournalFile(folder, _SCHEMA, _APPLICATION, _VERSION, target, max_bytes, timeout)
        self._folder = folder
        self._marker = str(folder / "pending") if folder else ""
        self._is_marked = False
        self._learned_by = 0

    @property
    def folder(self) -> Path | None:
        """The folder. None: it lies in memory."""
        return self._folder

    @property
    def kind(self) -> str:
        """``journal`` if acknowledged commands survive the process, else ``memory``."""
        return "journal" if self._folder else "memory"

    @property
    def opened(self) -> int:
        """Number of times that this process has opened it. Knowledge of an earlier file may not hold any more."""
        return self._file.opened

    def reading(self) -> AbstractContextManager[sqlite3.Connection]:
        """A connection for this thread alone in this process. Other processes may write meanwhile."""
        return self._file.reading()

    def writing(self) -> AbstractContextManager[sqlite3.Connection]:
        """A transaction, alone among all threads and processes. At its end all of it is on the disk, or nothing."""
        return self._file.writing()

    def close(self) -> None:
        """Give up the connection. The next call opens a new one. A journal in memory stays."""
        self._file.close()

    def warn(self, problem: str) -> None:
        """Log a problem, and show it in the status."""
        self._file.warn(problem)

    def scrub(self) -> None:
        """Have removed commands leave the disk."""
        self._file.scrub()

    # ---- its time

    def now_ms(self) -> int:
        """Milliseconds since 1970, the same in all processes of the host.

        While commands wait, nobody can set that time, and after a boot it goes on from the last command. Where it differs
        from the store's is for the replay to see.
        """
        if not self._file.exists():
            return now_ms()
        with self.reading() as connection:
            offset = _offset_in(connection)
        return now_ms() if offset is None else ticks_ms() + offset

    def _go_on(self) -> None:
        """Go on from the last command where the host was booted since."""
        with self.writing() as connection:
            (last,) = connection.execute("SELECT max(at_ms) FROM commands").fetchone()
            if last is not None and self.now_ms() < last:
                connection.execute("DELETE FROM about WHERE name = 'clock'")
            if last is not None and _offset_in(connection) is None:
                _keep_offset(connection, last - ticks_ms())

    # ---- the marker

    def may_hold(self) -> bool:
        """Tell whether commands may wait here. That costs next to nothing."""
        if not self._folder:
            return self._is_marked
        if self._learned_by != os.getpid():
            self._learn()
        is_there = os.access(self._marker, os.F_OK)
        if self._is_marked and not is_there:
            self._look_again()
            is_there = os.access(self._marker, os.F_OK)
        return is_there

    def exists(self) -> bool:
        """Tell whether there is a journal at all."""
        return self._file.exists()

    def _learn(self) -> None:
        """Look into the journal once in each process. The marker is a hint that a power cut may have taken away."""
        self._learned_by = os.getpid()
        with contextlib.suppress(StoreUnavailable, OSError):
            if self.exists() and self.status().pending:
                self.mark()
                self._go_on()
        assert self._folder
        name = self._folder.name.rpartition("-")[0]
        for other in self._folder.parent.glob(f"{name}-*/pending"):
            if other.parent != self._folder and other.parent.name.rpartition("-")[0] == name:
                self._file.warn(
                    f"writes wait in {other.parent} for a store that is not this one any more. "
                    "Start an app with the URL and prefix of that store to hand them over, or remove the folder."
                )

    def _look_again(self) -> None:
        """Look whether another process has handed all over, or somebody has removed the marker or the whole journal."""
        assert self._folder
        self._is_marked = False
        if not (self._folder / "journal.sqlite").exists():
            self._file.warn(
                f"the journal in {self._folder} was removed while writes may have waited in it. They are lost, unless the "
                "folder is put back and the app started again."
            )
            return
        with contextlib.suppress(StoreUnavailable, OSError):
            if self.status().pending:
                self.mark()
                self._file.warn(f"the file {self._marker} was removed while writes waited. It was made again.")

    def mark(self) -> None:
        """Let ``may_hold`` be true in all processes."""
        self._is_marked = True
        if self._folder and not os.access(self._marker, os.F_OK):
            os.close(os.open(self._marker, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
            flush(self._folder)

    def unmark_if_empty(self) -> bool:
        """Remove the marker if nothing waits any more, so that the next calls need not look. False if something waits."""
        with self.writing() as connection:
            if connection.execute("SELECT 1 FROM sessions UNION ALL SELECT 1 FROM aliases LIMIT 1").fetchone():
                return False
            connection.execute("DELETE FROM starts WHERE at_ms < ?", (self.now_ms() - _STARTS_MS,))
            if not connection.execute("SELECT 1 FROM starts LIMIT 1").fetchone():
                connection.execute("DELETE FROM about WHERE name = 'clock'")
            self._is_marked = False
            if self._folder:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self._marker)
        self.scrub()
        return True

    # ---- sessions and their commands

    def find(self, namespace: str, key: str) -> JournalledSession | None:
        """The session or continuation with that key, or None if it is not here."""
        with self.reading() as connection:
            return _find(connection, namespace, key)

    def keys(self, namespace: str, session_id: str, continuations: tuple[str, str]) -> list[str]:
        """The keys under which a session is here: its own first, then those between the two of *continuations*."""
        with self.reading() as connection:
            # An OR would walk through all sessions, at each call.
            query = (
                "SELECT session_id FROM sessions WHERE namespace = ? AND session_id = ? UNION ALL "
                "SELECT session_id FROM sessions WHERE namespace = ? AND session_id BETWEEN ? AND ? ORDER BY session_id"
            )
            where = (namespace, session_id, namespace, *continuations)
            return [key for (key,) in connection.execute(query, where)]

    def rows(self, namespace: str, journalled: JournalledSession, after: int, limit: int = -1) -> list[Row]:
        """Commands of a session behind number *after*, oldest first."""
        with self.reading() as connection:
            return list(_rows(connection, namespace, journalled, after, limit))

    def next_rows(
        self, namespace: str, sessions: Sequence[JournalledSession], limit: int, most_bytes: int
    ) -> list[list[Row]]:
        """The next commands of each of these sessions that were not replayed, so many at most.

        Where those of a session come to *most_bytes* of text, no further one of it is read.
        """
        with self.reading() as connection:
            return [
                _within(_rows(connection, namespace, journalled, journalled.replayed, limit), most_bytes)
                for journalled in sessions
            ]

    def sessions(self, namespace: str, after: int, limit: int) -> list[JournalledSession]:
        """Sessions that were started here behind the command number *after*, oldest first."""
        with self.reading() as connection:
            query = _SELECT + "WHERE namespace = ? AND first > ? ORDER BY first LIMIT ?"
            return [JournalledSession(*row) for row in connection.execute(query, (namespace, after, limit))]

    def expired(self, namespace: str, limit: int) -> list[JournalledSession]:
        """Sessions whose lifetime is over."""
        with self.reading() as connection:
            query = _SELECT + "WHERE namespace = ? AND expires_at_ms <= ? LIMIT ?"
            return [JournalledSession(*row) for row in connection.execute(query, (namespace, self.now_ms(), limit))]

    def owned(self, namespace: str, owner: str) -> list[JournalledSession]:
        """Sessions of *owner*."""
        with self.reading() as connection:
            query = _SELECT + "WHERE namespace = ? AND owner = ?"
            return [JournalledSession(*row) for row in connection.execute(query, (namespace, owner))]

    def set_aside_rows(self, namespace: str) -> list[Row]:
        """The commands that were set aside."""
        with self.reading() as connection:
            query = "SELECT number, at_ms, command FROM aside WHERE namespace = ?"
            return [Row(*row) for row in connection.execute(query, (namespace,))]

    def rewrite(self, rows: Sequence[Row], *, aside: bool = False) -> None:
        """Put other texts in the place of those of commands, by their numbers, in a transaction of ``writing``."""
        query = f"UPDATE {'aside' if aside else 'commands'} SET command = ? WHERE number = ?"  # noqa: S608  ours
        with self.reading() as connection:
            connection.executemany(query, [(row.text, row.number) for row in rows])

    def drop_aside(self, numbers: Sequence[int]) -> None:
        """Drop commands that were set aside, by their numbers."""
        with self.writing() as connection:
            connection.executemany("DELETE FROM aside WHERE number = ?", [(number,) for number in numbers])

    def started_with(self, namespace: str, token: str) -> str | None:
        """The id of the session that was started here with *token* within the last day (None: there is none)."""
        with self.reading() as connection:
            query = "SELECT session_id FROM starts WHERE namespace = ? AND token = ?"
            found = connection.execute(query, (namespace, token)).fetchone()
            return found[0] if found else None

    def namespaces(self) -> list[str]:
        """Namespaces whose commands wait."""
        with self.reading() as connection:
            return [name for (name,) in connection.execute("SELECT DISTINCT namespace FROM sessions")]

    def add(
        self, namespace: str, journalled: JournalledSession, at_ms: int, text: bytes, start_token: str | None = None
    ) -> JournalledSession:
        """Add a command to a session, in a transaction of ``writing``. Return the session as it is then.

        *journalled* has the owner and the end as they are after the command. A *start_token* leads to the session for a day.
        """
        self.mark()
        with self.reading() as connection:
            if _offset_in(connection) is None:
                _keep_offset(connection, now_ms() - ticks_ms())
            query = "INSERT INTO commands (namespace, session_id, at_ms, command) VALUES (?, ?, ?, ?)"
            number = connection.execute(query, (namespace, journalled.key, at_ms, text)).lastrowid or 0
            journalled = journalled._replace(first=journalled.first or number, last=number)
            query = "INSERT OR REPLACE INTO sessions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
            connection.execute(query, (namespace, *journalled))
            if start_token:
                values = (namespace, start_token, journalled.session_id, at_ms)
                connection.execute("INSERT OR REPLACE INTO starts VALUES (?, ?, ?, ?)", values)
        return journalled

    # ---- replaying

    def replaying(self) -> AbstractContextManager[bool]:
        """Tell whether this process may replay, which one process at a time does. The right ends with the process."""
        return self._file.exclusive("replaying")

    def replayed(self, namespace: str, journalled: JournalledSession, dropped: int) -> JournalledSession | None:
        """Note how far a session was replayed, all but *dropped* commands.

        Return the session as it is then, or None if all of it was replayed, or it is not here any more.
        """
        with self.writing() as connection:
            _count_dropped(connection, dropped)
            return _noted(connection, namespace, journalled)

    def all_replayed(self, namespace: str, sessions: Sequence[JournalledSession]) -> list[JournalledSession | None]:
        """Note how far each of these sessions was replayed, in one transaction. Return for each as ``replayed``."""
        with self.writing() as connection:
            return [_noted(connection, namespace, journalled) for journalled in sessions]

    def end(self, namespace: str, journalled: JournalledSession, instead: Sequence[tuple[int, bytes]]) -> None:
        """Put other commands, *instead* (time and text), in the place of those that were not replayed yet.

        The last of them ends the session. Without any the session is gone from here. Does nothing if others have added to
        the session meanwhile.
        """
        with self.writing() as connection:
            where = (namespace, journalled.key)
            if self.find(*where) != journalled:
                return
            query = "DELETE FROM commands WHERE namespace = ? AND session_id = ? AND number > ?"
            gone = connection.execute(query, (*where, journalled.replayed)).rowcount
            _forget(connection, where)
            _count_dropped(connection, gone - max(0, len(instead) - 1))  # the last one of those is nobody's
            here = journalled._replace(first=0, replayed=0, expires_at_ms=NEVER_MS)
            for at_ms, text in instead:
                here = self.add(namespace, here, at_ms, text)

    def set_aside(self, namespace: str, journalled: JournalledSession, problem: str) -> None:
        """Keep commands that cannot be replayed for an operator to look at."""
        with self.writing() as connection:
            rows = self.rows(namespace, journalled, journalled.replayed)
            _forget(connection, (namespace, journalled.key))  # first: a full journal has room for them then
            for row in rows:
                values = (row.number, namespace, journalled.key, row.at_ms, row.text, problem)
                connection.execute("INSERT INTO aside VALUES (?, ?, ?, ?, ?, ?)", values)

    def keep_aside(self, namespace: str, session_id: str, row: Row, problem: str) -> None:
        """Keep a copy of one command, of which a part could not be replayed."""
        with self.writing() as connection:
            values = (row.number, namespace, session_id, row.at_ms, row.text, problem)
            connection.execute("INSERT OR REPLACE INTO aside VALUES (?, ?, ?, ?, ?, ?)", values)

    def status(self) -> Status:
        """Count the commands."""
        if not self.exists():
            return Status(problem=self._file.problem)
        with self._file.reading(_GLANCE_SECONDS) as connection:
            pending, oldest = connection.execute("SELECT count(*), min(at_ms) FROM commands").fetchone()
            (aside,) = connection.execute("SELECT count(*) FROM aside").fetchone()
            dropped = connection.execute("SELECT value FROM about WHERE name = 'dropped'").fetchone()
            (size,) = connection.execute(_SIZE).fetchone()
            return Status(pending, oldest, dropped[0] if dropped else 0, aside, self._file.problem, size)

    def is_usable(self) -> bool:
        """Tell whether the journal could be written to.

        Nothing reaches the disk, since everybody may ask, and as often as they like.
        """
        try:
            with contextlib.suppress(_Undone), self._file.writing(_GLANCE_SECONDS) as connection:
                connection.execute("INSERT OR REPLACE INTO about VALUES ('checked', zeroblob(10000))")
                raise _Undone
        except StoreUnavailable:
            return False
        return self._folder is None or _has_room(self._folder)


class _Undone(Exception):
    """The transaction was a trial."""


_ROOM_BYTES = 2**16
"""Free bytes of a disk on which a session can be started."""


def _has_room(folder: Path) -> bool:
    try:
        disk = os.statvfs(folder)
    except OSError:
        return False
    return disk.f_bavail * disk.f_frsize >= _ROOM_BYTES and not disk.f_flag & os.ST_RDONLY


def _offset_in(connection: sqlite3.Connection) -> int | None:
    """Read the milliseconds from ``ticks_ms`` to the journal's time. None where they are of another boot, or not there."""
    found = connection.execute("SELECT value FROM about WHERE name = 'clock'").fetchone()
    of_boot, _, offset = found[0].rpartition(" ") if found else ("", "", "")
    return int(offset) if found and of_boot == boot() else None


def _keep_offset(connection: sqlite3.Connection, offset: int) -> None:
    connection.execute("INSERT OR REPLACE INTO about VALUES ('clock', ?)", (f"{boot()} {offset}",))


def _find(connection: sqlite3.Connection, namespace: str, key: str) -> JournalledSession | None:
    found = connection.execute(_SELECT + "WHERE namespace = ? AND session_id = ?", (namespace, key)).fetchone()
    return JournalledSession(*found) if found else None


def _rows(
    connection: sqlite3.Connection, namespace: str, journalled: JournalledSession, after: int, limit: int
) -> Iterator[Row]:
    query = (
        "SELECT number, at_ms, command FROM commands "
        "WHERE namespace = ? AND session_id = ? AND number > ? AND number <= ? ORDER BY number LIMIT ?"
    )
    where = (namespace, journalled.key, max(after, journalled.first - 1), journalled.last, limit)
    return (Row(*row) for row in connection.execute(query, where))


def _within(rows: Iterable[Row], most_bytes: int) -> list[Row]:
    """Take *rows* until they come to *most_bytes* of text."""
    found: list[Row] = []
    for row in rows:
        found.append(row)
        most_bytes -= len(row.text)
        if most_bytes <= 0:
            break
    return found


def _noted(connection: sqlite3.Connection, namespace: str, journalled: JournalledSession) -> JournalledSession | None:
    """Note how far a session was replayed. Return it as ``Journal.replayed``."""
    found = _find(connection, namespace, journalled.key)
    if not found or found.first != journalled.first:
        return None
    where = (namespace, journalled.key)
    if found.last == journalled.replayed:
        _forget(connection, where)
        return None
    query = "UPDATE sessions SET replayed = ?, created_here_ms = ?, created_there_ms = ? "
    values = (journalled.replayed, journalled.created_here_ms, journalled.created_there_ms)
    connection.execute(query + "WHERE namespace = ? AND session_id = ?", (*values, *where))
    return journalled._replace(last=found.last)


def _forget(connection: sqlite3.Connection, where: tuple[str, str]) -> None:
    connection.execute("DELETE FROM sessions WHERE namespace = ? AND session_id = ?", where)
    connection.execute("DELETE FROM commands WHERE namespace = ? AND session_id = ?", where)


def _count_dropped(connection: sqlite3.Connection, dropped: int) -> None:
    if dropped > 0:
        query = (
            "INSERT INTO about VALUES ('dropped', ?) ON CONFLICT (name) DO UPDATE SET value = value + excluded.value"
        )
        connection.execute(query, (dropped,))
