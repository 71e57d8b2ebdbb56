"""One SQLite database that all processes of a host share. It is opened when needed, flushed at each commit, and bounded.

SQLite knows of threads and of processes, but not of forks. A child must find nothing open, so the connection is closed
before a fork. The locks of a process end when it closes any descriptor of the file, so nothing but SQLite may open the
file.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import math
import os
import sqlite3
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

from ..domain.clock import monotonic, now_ms
from ..domain.forks import Forking, watch
from ..domain.hold import Hold, User, here
from ..errors import StoreUnavailable
from ..stores.private_folder import file_problem_of, make_private, problem_of

_log = logging.getLogger("flask_convstore")

_PAGE = 4096
_PAUSE = 0.0003
"""Seconds until the second try to begin a transaction. Another process's transaction takes about as long."""

_LONGEST_PAUSE = 0.005
"""Seconds between two tries while another process is in the way for long."""

_LONGEST_WAIT = 1.0
"""Seconds that SQLite waits by itself, such as for a process that makes the file whole after a crash."""

_SCRUB_SECONDS = 1.0
"""Seconds to wait for a moment in which nobody reads."""

_BLOCKED = (
    "the journal is in use by another thread or process of this host. If that stands still, end it or let it go on"
)


class JournalFile(Forking):
    """A database in a folder that only this user can read. Without a folder it lies in memory.

    Args:
        schema: The statements that make its tables. One of them is ``about (name PRIMARY KEY, value)``.
        application: SQLite's application_id. A file with another one, or with another *version*, is not ours.
        target: Name of the store that the content is for. The file of another store is set aside.
        max_bytes: Greatest size.
        timeout: Seconds to wait for other threads and processes, in all.

    Attributes:
        opened: Number of times that this process has opened it. Knowledge of it from before may be of another file.
        problem: The last problem that was logged. None if there was none.
    """

    def __init__(
        self,
        folder: Path | None,
        schema: str,
        application: int,
        version: int,
        target: str,
        max_bytes: int,
        timeout: float,
    ) -> None:
        self.folder = folder
        self.opened = 0
        self.problem: str | None = None
        self._path = folder / "journal.sqlite" if folder else None
        self._schema = schema
        self._identity = application, version
        self._target = target
        self._max_pages = max(16, max_bytes // _PAGE)
        self._timeout = timeout
        self._wait_ms = round(1000 * min(timeout, _LONGEST_WAIT))
        self._hold = Hold()
        self._forks = User(None)
        self._connection: sqlite3.Connection | None = None
        self._closing: Callable[[], object] = lambda: None
        self._inode = 0
        self._descriptors: set[int] = set()
        watch(self)

    def exists(self) -> bool:
        """Tell whether there is a file, or may be one in a folder that cannot be looked into."""
        if self._connection is not None:
            return True
        try:
            return bool(self._path and _inode_of(self._path))
        except OSError:
            return True

    @contextlib.contextmanager
    def reading(self, timeout: float = math.inf) -> Iterator[sqlite3.Connection]:
        """A connection, for this thread alone in this process.

        Args:
            timeout: Seconds to wait for others, if that is shorter than for anything else.
        """
        with self._explained(), self._ready(self._open, min(timeout, self._timeout)) as connection:
            yield connection

    @contextlib.contextmanager
    def writing(self, timeout: float = math.inf) -> Iterator[sqlite3.Connection]:
        """A transaction, alone among all threads and processes. At its end all of it is on the disk, or nothing.

        Args:
            timeout: As for ``reading``.
        """
        with self._explained(), self._ready(self._begun, min(timeout, self._timeout)) as connection:
            try:
                yield connection
                connection.execute("COMMIT")
            except GeneratorExit:
                raise  # closed as garbage, perhaps within another's transaction. Who comes next rolls back what is left
            except BaseException:
                _roll_back(connection)
                raise

    @contextlib.contextmanager
    def exclusive(self, name: str) -> Iterator[bool]:
        """Tell whether this process may do *name*, which one process at a time does. The right ends with the process."""
        if not self.folder:
            yield True
            return
        import fcntl

        with self._explained():
            lock = self._descriptor(name)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True
        finally:
            self._give_up(lock)

    def scrub(self) -> None:
        """Have removed content leave the file and its log. A failure is logged."""
        try:
            with self._explained(), self._ready(self._scrubbed, _SCRUB_SECONDS):
                pass
        except StoreUnavailable as error:
            _log.warning("removed text may be left in the journal for now: %s", error)

    def close(self) -> None:
        """Give up the connection. The next call opens a new one. What is in memory stays."""
        with self._alone(math.inf):
            if self._path:
                self._close()

    # ---- forks

    def before_fork(self) -> None:
        self._forks = User(None)
        self._hold.take(self._forks, math.inf)
        if self._path:
            self._close()

    def after_fork(self) -> None:
        self._hold.give_back(self._forks)

    def in_child(self) -> None:
        """Begin anew in a forked child. A database in memory stays the parent's."""
        self._hold = Hold()
        self._close()
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors.clear()

    # ---- opening

    @contextlib.contextmanager
    def _ready(self, readied: Callable[[], sqlite3.Connection], timeout: float) -> Iterator[sqlite3.Connection]:
        """The connection as *readied* returns it, for this thread alone.

        While another process is in the way, it is left to the other threads. That process may stand still.
        """
        deadline, pause = monotonic() + timeout, _PAUSE
        while True:
            with self._alone(deadline):
                connection = self._unblocked(readied, deadline)
                if connection:
                    yield connection
                    return
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _unblocked(self, readied: Callable[[], sqlite3.Connection], deadline: float) -> sqlite3.Connection | None:
        """Call *readied*. None if another process is in the way, and there is time left."""
        try:
            return readied()
        except BlockingIOError as error:
            blocked: Exception = error
        except sqlite3.OperationalError as error:
            if _code(error) != sqlite3.SQLITE_BUSY:
                raise
            blocked = error
        if monotonic() > deadline:
            raise StoreUnavailable(_BLOCKED, written=False) from blocked
        return None

    @contextlib.contextmanager
    def _alone(self, deadline: float) -> Iterator[None]:
        if self._hold.is_mine():
            yield  # within the block that has the lock
            return
        user = here()
        try:
            if not self._hold.take(user, deadline):
                raise StoreUnavailable(_BLOCKED, written=False)
            if self._connection:
                _roll_back(self._connection)  # what an exception from elsewhere, such as a signal's, has left open
            yield
        finally:
            self._hold.give_back(user)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn errors of the file into ours. A file that cannot be used is set aside."""
        try:
            yield
        except sqlite3.Error as error:
            code = _code(error)
            if code in _SPOILED:
                self._set_aside(str(error))
            reason = _BLOCKED if code == sqlite3.SQLITE_BUSY else f"the journal cannot be used ({error})"
            if code == sqlite3.SQLITE_FULL:
                reason = "the journal is full, or its disk: see CONVSTORE_JOURNAL_MAX_BYTES"
            raise StoreUnavailable(reason, written=False) from error
        except OSError as error:
            self.warn(f"the journal's folder cannot be used ({error}). No session is started while the store is away.")
            raise StoreUnavailable(f"the journal cannot be used ({error.strerror})", written=False) from error

    def warn(self, problem: str) -> None:
        """Log a problem, once."""
        if problem != self.problem:
            self.problem = problem
            _log.error("%s", problem)

    def _begun(self) -> sqlite3.Connection:
        """Begin a transaction."""
        connection = self._open()
        with _without_waiting(connection, self._wait_ms):
            connection.execute("BEGIN IMMEDIATE")
        return connection

    def _scrubbed(self) -> sqlite3.Connection:
        """Move the log into the file, which others must not be reading meanwhile."""
        connection = self._open()
        with _without_waiting(connection, self._wait_ms):
            ((is_busy, *_),) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        if is_busy:
            raise BlockingIOError
        return connection

    def _open(self) -> sqlite3.Connection:
        if self._connection and self._path and not self._connection.in_transaction and not self._is_ours():
            self.close()  # another process has set the file aside, or removed it
        if not self._connection:
            self._connection = self._opened_file() if self._path else self._prepared(self._connect(None))
            # The connection is closed also where nobody does it, as the journal is dropped with its app.
            closing = weakref.finalize(self, self._connection.close)
            closing.atexit = False  # a thread may be using it
            self._closing = closing
            self.opened += 1
        return self._connection

    def _close(self) -> None:
        self._connection = None
        self._closing()

    def _is_ours(self) -> bool:
        assert self._path
        return _inode_of(self._path) == self._inode

    def _opened_file(self) -> sqlite3.Connection:
        assert self.folder
        assert self._path
        self._check_place(self.folder)
        found = self._found_file(self._path)
        if found:
            return found
        with self._one_opens():
            for _ in range(2):
                if not self._path.exists():
                    os.close(os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
                connection = self._connect(self._path)
                try:
                    problem = self._check(connection)
                except sqlite3.DatabaseError as error:
                    if _code(error) not in _SPOILED:
                        connection.close()
                        raise
                    problem = str(error)
                if not problem:
                    self._inode = os.stat(self._path).st_ino
                    flush(self.folder)
                    return self._prepared(connection)
                connection.close()
                self._move_aside(problem)
        raise AssertionError("a new journal is none")

    def _found_file(self, path: Path) -> sqlite3.Connection | None:
        """Open a file that is there and sound, even if a process that makes one or sets one aside stands still."""
        self._inode = _inode_of(path)
        if not self._inode:
            return None
        connection = self._connect(path)
        try:
            is_sound = _has_tables(connection) and not self._check(connection)
        except sqlite3.DatabaseError as error:
            is_sound = False
            if _code(error) not in _SPOILED:
                connection.close()
                raise
        if is_sound and self._is_ours():
            return self._prepared(connection)
        connection.close()
        return None

    def _check_place(self, folder: Path) -> None:
        """Make the folder if it is missing.

        Raises:
            PermissionError: It cannot be trusted with data, or a file in it.
        """
        make_private(folder)
        files = [folder / f"journal.sqlite{ending}" for ending in ("", "-wal", "-shm")]
        problem = problem_of(folder) or next(filter(None, map(file_problem_of, files)), None)
        if problem:
            raise PermissionError(errno.EPERM, problem)

    @contextlib.contextmanager
    def _one_opens(self) -> Iterator[None]:
        """Keep others from making the file, or setting it aside. Raises BlockingIOError while another process does that."""
        import fcntl

        lock = self._descriptor("opening")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        finally:
            self._give_up(lock)

    def _descriptor(self, name: str) -> int:
        assert self.folder
        descriptor = os.open(self.folder / name, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        self._descriptors.add(descriptor)
        return descriptor

    def _give_up(self, descriptor: int) -> None:
        """Unlock and close a file that this process has opened. A child has closed those of its parent already."""
        import fcntl

        if descriptor in self._descriptors:
            self._descriptors.discard(descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_UN)  # closing is not enough where a child has the lock too
            os.close(descriptor)

    def _connect(self, path: Path | None) -> sqlite3.Connection:
        """Connect to a file that is there, or to one in memory."""
        name = f"file:{quote(str(path))}?mode=rw" if path else ":memory:"
        wait = self._wait_ms / 1000
        return sqlite3.connect(name, timeout=wait, isolation_level=None, check_same_thread=False, uri=True)

    def _check(self, connection: sqlite3.Connection) -> str | None:
        """Explain why the file cannot be used as this journal. None if it can."""
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        if application in (0, self._identity[0]) and not _has_tables(connection):
            return None
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if (application, version) != self._identity:
            return "it is no journal of flask-convstore, or it is one of another version"
        (target,) = connection.execute("SELECT value FROM about WHERE name = 'target'").fetchone() or (None,)
        if target != self._target:
            return f"it is the journal of another store, {target}"
        (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        return None if found == "ok" else str(found)

    def _prepared(self, connection: sqlite3.Connection) -> sqlite3.Connection:
        try:
            if self._path:
                connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA secure_delete = ON")  # a removed command is overwritten
            connection.execute(f"PRAGMA max_page_count = {self._max_pages}")
            if not _has_tables(connection):
                self._make_tables(connection)
            for statement in self._schema.split(";"):
                if "IF NOT EXISTS" in statement:  # an earlier version made the file
                    connection.execute(statement)
        except BaseException:
            connection.close()
            raise
        return connection

    def _make_tables(self, connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")
        for statement in self._schema.split(";"):
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {self._identity[0]}")
        connection.execute(f"PRAGMA user_version = {self._identity[1]}")
        connection.execute("INSERT INTO about VALUES ('target', ?)", (self._target,))
        connection.execute("COMMIT")

    def _set_aside(self, problem: str) -> None:
        """Set aside a file that turns out to be spoiled while it is used."""
        if not self._path:
            return
        with contextlib.suppress(OSError), self._one_opens():
            self.close()
            if self._is_ours():
                self._move_aside(problem)

    def _move_aside(self, problem: str) -> None:
        assert self._path
        name = f"set-aside-{now_ms()}.sqlite"
        for ending in ("", "-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                os.rename(f"{self._path}{ending}", f"{self._path.with_name(name)}{ending}")
        self.warn(
            f"the journal {self._path} was set aside as {name}: {problem}. The writes that waited in it are not replayed."
        )


def _inode_of(path: Path) -> int:
    """The number by which a file keeps its identity when it is renamed. 0 if there is none."""
    try:
        return os.stat(path).st_ino
    except (FileNotFoundError, NotADirectoryError):
        return 0


def _has_tables(connection: sqlite3.Connection) -> bool:
    return bool(connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0])


@contextlib.contextmanager
def _without_waiting(connection: sqlite3.Connection, wait_ms: int) -> Iterator[None]:
    """Let SQLite raise at once where another process is in the way. It would wait with the connection in its hand."""
    connection.execute("PRAGMA busy_timeout = 0")
    try:
        yield
    finally:
        connection.execute(f"PRAGMA busy_timeout = {wait_ms}")


def _roll_back(connection: sqlite3.Connection) -> None:
    if not connection.in_transaction:
        return
    try:
        connection.execute("ROLLBACK")
    except sqlite3.OperationalError:
        if connection.in_transaction:  # else whoever was cut short has ended it meanwhile
            raise


_SPOILED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _code(error: sqlite3.Error) -> int:
    """SQLite's primary result code."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def flush(folder: Path) -> None:
    """Flush a folder, so that the names in it survive a power cut."""
    opened = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
