"""A journal of commands in a folder of this host, shared by its processes: SQLite in WAL mode, flushed at each commit.

A folder holds ``journal.sqlite`` and, while commands wait in it, an empty file ``pending``: whether there is anything to
look for costs a call one microsecond. Folder and files are this user's only. Without a folder it is this process's memory.

What it holds are sessions, whole: each with its commands since it was started, oldest first. They stay until all of them
have been replayed, so that any process can tell the session from them.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from .errors import StoreUnavailable
from .models import now_ms

_log = logging.getLogger("flask_convstore")

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
_PAGE = 4096
_PAUSE = 0.0003
"""Seconds between two looks whether another process has ended its transaction, which takes about as long."""
_STARTS_MS = 24 * 3600 * 1000
"""How long the token of a start leads to its session: as long as a store knows a token behind its session's end."""


class Entry(NamedTuple):
    """A session in the journal.

    Attributes:
        owner: Whose it is; None: nobody's.
        first, last: The numbers of its commands.
        replayed: The number of the last one that has been replayed.
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
        problem: What is wrong with the journal itself; None if nothing is.
    """

    pending: int = 0
    oldest_at_ms: int | None = None
    dropped: int = 0
    aside: int = 0
    problem: str | None = None


class Journal:
    """The journal of one store on this host. Opens nothing before it is needed; each process has a connection of its own.

    Args:
        folder: Where it lies; None: in memory.
        target: Names the store whose commands these are; another one's are set aside.
        max_bytes: How large it may get.
        timeout: Seconds to wait for other processes.

    Every method raises ``StoreUnavailable`` when it cannot do what it should; nothing was written then.
    """

    def __init__(self, folder: Path | None, target: str, max_bytes: int, timeout: float) -> None:
        self._folder = folder
        self._target = target
        self._max_pages = max(16, max_bytes // _PAGE)
        self._timeout = timeout
        self._marker = str(folder / "pending") if folder else ""
        self._is_marked = False
        self._problem: str | None = None
        self.reset()
        reset_after_fork(self)

    @property
    def kind(self) -> str:
        """``journal`` or ``memory``: what is acknowledged here survives the process, or does not."""
        return "journal" if self._folder else "memory"

    def reset(self) -> None:
        """Begin anew in a child process: what the parent has opened stays the parent's."""
        self._lock = threading.RLock()
        connection: sqlite3.Connection | None = getattr(self, "_connection", None)
        if connection:
            _inherited.append(connection)
        self._connection: sqlite3.Connection | None = None
        self._inode = 0
        self._is_learned = self._folder is None

    # ---- whether there is anything

    def may_hold(self) -> bool:
        """Whether commands may wait here. Costs next to nothing."""
        if not self._is_learned:
            self._learn()
        return os.access(self._marker, os.F_OK) if self._folder else self._is_marked

    def exists(self) -> bool:
        """Whether there is a journal at all."""
        return self._connection is not None or bool(self._folder and self._file.exists())

    def _learn(self) -> None:
        """Once in each process: the marker is a hint that a power cut may have taken away."""
        self._is_learned = True
        with contextlib.suppress(StoreUnavailable, OSError):
            if self._file.exists() and self.status().pending:
                self._mark()

    def _mark(self) -> None:
        self._is_marked = True
        if self._folder and not os.access(self._marker, os.F_OK):
            os.close(os.open(self._marker, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
            _flush(self._folder)

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
        with self._reading() as connection:
            query = _SELECT + "WHERE namespace = ? AND session_id = ?"
            found = connection.execute(query, (namespace, session_id)).fetchone()
            return Entry(*found) if found else None

    def rows(self, namespace: str, entry: Entry, after: int, limit: int = -1) -> list[Row]:
        """The commands of a session behind number *after*, oldest first."""
        with self._reading() as connection:
            query = (
                "SELECT number, at_ms, command FROM commands "
                "WHERE namespace = ? AND session_id = ? AND number > ? AND number <= ? ORDER BY number LIMIT ?"
            )
            where = (namespace, entry.session_id, max(after, entry.first - 1), entry.last, limit)
            return [Row(*row) for row in connection.execute(query, where)]

    def sessions(self, namespace: str, after: int, limit: int) -> list[Entry]:
        """Sessions that were started here behind command *after*, oldest first."""
        with self._reading() as connection:
            query = _SELECT + "WHERE namespace = ? AND first > ? ORDER BY first LIMIT ?"
            return [Entry(*row) for row in connection.execute(query, (namespace, after, limit))]

    def started_with(self, namespace: str, token: str) -> str | None:
        """The session that was started here with *token* within the last day."""
        with self._reading() as connection:
            query = "SELECT session_id FROM starts WHERE namespace = ? AND token = ?"
            found = connection.execute(query, (namespace, token)).fetchone()
            return found[0] if found else None

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction, alone among all threads and processes. What it does is on the disk at its end, or not done."""
        with self._lock, self._explained():
            connection = self._opened()
            self._begin(connection)
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def add(self, namespace: str, entry: Entry, at_ms: int, text: bytes, start_token: str | None = None) -> Entry:
        """Add a command to a session that has *entry* now, in a transaction of ``writing``; its entry then.

        *entry* has the session's owner and end as they are after it; of one that is new here ``first`` is 0. With
        *start_token* the token leads to the session for a day.
        """
        connection = self._opened()
        self._mark()
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

    @contextlib.contextmanager
    def replaying(self) -> Iterator[bool]:
        """Whether this process may replay: one at a time does. The lock ends with the process."""
        if not self._folder:
            yield True
            return
        import fcntl

        with self._explained():
            lock = os.open(self._folder / "replaying", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True
        finally:
            os.close(lock)

    def replayed(self, namespace: str, entry: Entry, dropped: int) -> Entry | None:
        """Note how far a session was replayed, all but *dropped* commands; its entry then. None: it is not here any more."""
        with self.writing() as connection:
            self._count_dropped(connection, dropped)
            found = self.find(namespace, entry.session_id)
            if not found or found.first != entry.first:
                return None
            where = (namespace, entry.session_id)
            if found.last == entry.replayed:
                self._forget(connection, where)
                return None
            query = "UPDATE sessions SET replayed = ?, created_here_ms = ?, created_there_ms = ? "
            values = (entry.replayed, entry.created_here_ms, entry.created_there_ms)
            connection.execute(query + "WHERE namespace = ? AND session_id = ?", (*values, *where))
            return entry._replace(last=found.last)

    def drop_expired(self, namespace: str) -> int:
        """Forget sessions that have expired; how many commands that were."""
        with self.writing() as connection:
            now = now_ms()
            query = "SELECT session_id FROM sessions WHERE namespace = ? AND expires_at_ms <= ?"
            dropped = 0
            for (session_id,) in connection.execute(query, (namespace, now)).fetchall():
                dropped += self._forget(connection, (namespace, session_id))
            self._count_dropped(connection, dropped)
            return dropped

    def set_aside(self, namespace: str, entry: Entry, problem: str) -> None:
        """Keep the commands of a session that have not been replayed, and cannot be, for somebody to look at."""
        with self.writing() as connection:
            connection.execute(
                "INSERT INTO aside SELECT number, namespace, session_id, at_ms, command, ? FROM commands "
                "WHERE namespace = ? AND session_id = ? AND number > ?",
                (problem, namespace, entry.session_id, entry.replayed),
            )
            self._forget(connection, (namespace, entry.session_id))

    def status(self) -> Status:
        """What waits here, and what has become of the rest."""
        if not self.exists():
            return Status(problem=self._problem)
        with self._reading() as connection:
            pending, oldest = connection.execute("SELECT count(*), min(at_ms) FROM commands").fetchone()
            (aside,) = connection.execute("SELECT count(*) FROM aside").fetchone()
            dropped = connection.execute("SELECT value FROM about WHERE name = 'dropped'").fetchone()
            return Status(pending, oldest, dropped[0] if dropped else 0, aside, self._problem)

    def is_usable(self) -> bool:
        """Whether it can be written to."""
        try:
            with self.writing() as connection:
                connection.execute("INSERT OR REPLACE INTO about VALUES ('checked', ?)", (now_ms(),))
        except StoreUnavailable:
            return False
        return True

    def close(self) -> None:
        """Give up the connection; the next call opens a new one. A journal in memory stays."""
        with self._lock:
            if self._folder and self._connection:
                self._connection.close()
                self._connection = None

    # ---- the file

    @property
    def _file(self) -> Path:
        assert self._folder
        return self._folder / "journal.sqlite"

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._explained():
            yield self._opened()

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """What goes wrong with the file as an error of ours; a file that cannot be used is set aside."""
        try:
            yield
        except sqlite3.Error as error:
            code = _code(error)
            if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                self._set_file_aside(str(error))
            reason = f"the journal cannot be used ({error})"
            if code == sqlite3.SQLITE_FULL:
                reason = "the journal is full, or its disk: see CONVSTORE_JOURNAL_MAX_BYTES"
            raise StoreUnavailable(reason, written=False) from error
        except OSError as error:
            self._warn(f"the journal's folder cannot be used ({error}): nothing is served while the store is away")
            raise StoreUnavailable(f"the journal cannot be used ({error.strerror})", written=False) from error

    def _begin(self, connection: sqlite3.Connection) -> None:
        """Begin a transaction when the other processes have ended theirs. SQLite itself would look too seldom."""
        deadline = time.monotonic() + self._timeout
        connection.execute("PRAGMA busy_timeout = 0")
        while True:
            try:
                connection.execute("BEGIN IMMEDIATE")
                break
            except sqlite3.OperationalError as error:
                if _code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
            time.sleep(_PAUSE)
        connection.execute(f"PRAGMA busy_timeout = {round(self._timeout * 1000)}")

    def _warn(self, problem: str) -> None:
        if problem != self._problem:
            self._problem = problem
            _log.error("%s", problem)

    def _opened(self) -> sqlite3.Connection:
        if self._connection and self._folder:
            try:
                is_ours = os.stat(self._file).st_ino == self._inode
            except FileNotFoundError:
                is_ours = False
            if not is_ours and not self._connection.in_transaction:
                self._connection.close()  # somebody has set it aside, or taken it away
                self._connection = None
        if not self._connection:
            self._connection = self._open()
        return self._connection

    def _open(self) -> sqlite3.Connection:
        if not self._folder:
            return self._prepared(_connect(":memory:", self._timeout))
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _alone(self._folder / "opening"):
            for _ in range(2):
                os.close(os.open(self._file, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
                connection = _connect(str(self._file), self._timeout)
                try:
                    problem = self._check(connection)
                except sqlite3.DatabaseError as error:
                    if _code(error) not in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                        connection.close()
                        raise
                    problem = str(error)
                if not problem:
                    self._inode = os.stat(self._file).st_ino
                    _flush(self._folder)
                    return self._prepared(connection)
                connection.close()
                self._move_aside(problem)
        raise AssertionError("a new journal is none")

    def _check(self, connection: sqlite3.Connection) -> str | None:
        """What keeps the file from being this store's journal."""
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if not tables and application in (0, _APPLICATION):
            return None
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if (application, version) != (_APPLICATION, _VERSION):
            return "it is no journal of flask-convstore, or one of another version"
        (target,) = connection.execute("SELECT value FROM about WHERE name = 'target'").fetchone() or (None,)
        if target != self._target:
            return f"it is the journal of another store, {target}"
        (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        return None if found == "ok" else str(found)

    def _prepared(self, connection: sqlite3.Connection) -> sqlite3.Connection:
        if self._folder:
            connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA max_page_count = {self._max_pages}")
        self._begin(connection)
        if not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            for statement in _SCHEMA.split(";"):
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {_APPLICATION}")
            connection.execute(f"PRAGMA user_version = {_VERSION}")
            connection.execute("INSERT INTO about VALUES ('target', ?)", (self._target,))
        connection.execute("COMMIT")
        return connection

    def _set_file_aside(self, problem: str) -> None:
        """A file that turns out to be spoiled while it is used."""
        if not self._folder:
            return
        with contextlib.suppress(OSError), _alone(self._folder / "opening"):
            if self._connection:
                self._connection.close()
                self._connection = None
            if os.stat(self._file).st_ino == self._inode:
                self._move_aside(problem)

    def _move_aside(self, problem: str) -> None:
        name = f"set-aside-{now_ms()}.sqlite"
        for ending in ("", "-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                os.rename(f"{self._file}{ending}", f"{self._file.with_name(name)}{ending}")
        self._warn(f"the journal {self._file} was set aside as {name}: {problem}. What waited in it is not replayed")

    def _forget(self, connection: sqlite3.Connection, where: tuple[str, str]) -> int:
        connection.execute("DELETE FROM sessions WHERE namespace = ? AND session_id = ?", where)
        return connection.execute("DELETE FROM commands WHERE namespace = ? AND session_id = ?", where).rowcount

    def _count_dropped(self, connection: sqlite3.Connection, dropped: int) -> None:
        if dropped:
            query = "INSERT INTO about VALUES ('dropped', ?1) ON CONFLICT (name) DO UPDATE SET value = value + ?1"
            connection.execute(query, (dropped,))


_SELECT = (
    "SELECT session_id, owner, first, last, replayed, expires_at_ms, created_here_ms, created_there_ms FROM sessions "
)

_inherited: list[sqlite3.Connection] = []
"""Connections that a parent process has opened. To use or to close them here would spoil them there."""

_of_this_process: weakref.WeakSet[Any] = weakref.WeakSet()


def reset_after_fork(thing: Any) -> None:
    """Let its method ``reset`` be called in every child process, before anything else."""
    _of_this_process.add(thing)


def _reset() -> None:
    for thing in list(_of_this_process):
        thing.reset()


if hasattr(os, "register_at_fork"):  # where processes can fork
    os.register_at_fork(after_in_child=_reset)


def _connect(file: str, timeout: float) -> sqlite3.Connection:
    return sqlite3.connect(file, timeout, isolation_level=None, check_same_thread=False)


def _code(error: sqlite3.Error) -> int:
    """SQLite's primary result code."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


@contextlib.contextmanager
def _alone(file: Path) -> Iterator[None]:
    """One process at a time."""
    import fcntl

    lock = os.open(file, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _flush(folder: Path) -> None:
    """Let the names in a folder survive a power cut."""
    opened = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
