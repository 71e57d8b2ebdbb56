"""Supervisor of one embedded server, which lives while any process uses its folder.

``server`` runs this file as a script. It needs nothing but the standard library.

    python supervisor.py FOLDER IDLE_SECONDS SOCKET SERVER [OPTION ...]

The supervisor takes the server's lock, leaves its caller (exit 0: the server is being started, 3: another one lives), starts
the server, and stops it when the folder has had no user for a while. The server inherits the descriptor with the lock, which
is therefore held exactly while a server lives. If the supervisor itself dies, the kernel ends the server (Linux).
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable

START_LOCK = "start.lock"
"""Lock of a process that decides to start or to stop the server."""
SERVER_LOCK = "server.lock"
"""Lock that the server itself holds, exactly while it lives."""
USERS_LOCK = "users.lock"
"""Lock that every process that uses the folder shares."""

ANOTHER_LIVES = 3

SYNCED_WHILE_FULL = "everysec"
"""Value of ``appendfsync`` for a server that is started on a full disk."""
_LEAST_FREE = 16 * 1024 * 1024
_LOOK_EVERY = 0.2
_SECONDS_TO_STOP = 30.0
_SECONDS_TO_LISTEN = 5.0
_PR_SET_PDEATHSIG = 1


def open_lock(folder: str, name: str) -> int:
    """Open a lock file, not yet locked. Programs that are executed do not inherit the descriptor."""
    return os.open(os.path.join(folder, name), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def try_lock(descriptor: int, exclusive: bool) -> bool:
    """Lock at once or not at all."""
    import fcntl  # not on Windows, where this module is imported, but never used

    try:
        fcntl.flock(descriptor, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def unlock(descriptor: int) -> None:
    """Give up a lock, also for processes that were forked meanwhile and hold the same descriptor."""
    import fcntl

    fcntl.flock(descriptor, fcntl.LOCK_UN)


def is_full(folder: str) -> bool:
    """Tell whether the disk has so few bytes free that a write may fail."""
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize < _LEAST_FREE


def main(folder: str, idle_seconds: float, socket: str, command: list[str]) -> int:
    """Start the server and watch over it. It returns only in the caller's process."""
    # The process that started us may have blocked or ignored signals, which is inherited.
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    server_lock = open_lock(folder, SERVER_LOCK)
    if not try_lock(server_lock, exclusive=True):
        return ANOTHER_LIVES
    if os.fork():
        return 0
    server = _start(command, server_lock)
    os.close(server_lock)
    started_full = folder if SYNCED_WHILE_FULL in command else ""
    _watch(server, socket, open_lock(folder, START_LOCK), open_lock(folder, USERS_LOCK), idle_seconds, started_full)
    os._exit(0)


def _start(command: list[str], server_lock: int) -> int:
    supervisor = os.getpid()
    set_death_signal: Callable[..., object] | None = None
    if sys.platform == "linux":
        set_death_signal = ctypes.CDLL(None).prctl
    server = os.fork()
    if server:
        return server
    try:
        if set_death_signal:
            set_death_signal(_PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != supervisor:
                os._exit(1)  # the supervisor died before the kernel was told
        os.set_inheritable(server_lock, True)
        os.execv(command[0], command)  # noqa: S606  no shell is wanted
    except OSError as error:
        os.write(2, f"{command[0]} cannot be executed: {error}\n".encode())
    os._exit(127)


def _watch(server: int, socket: str, start_lock: int, users_lock: int, idle_seconds: float, started_full: str) -> None:
    """Return when the server is gone, by itself or stopped because no process has used the folder for so long.

    A server that was *started* on a *full* disk is stopped when there is room again. The next one syncs always.
    """
    last_use = started = time.monotonic()
    has_listened = False
    while not _has_ended(server):
        if os.path.exists(socket):
            has_listened = True
        elif has_listened or time.monotonic() - started > _SECONDS_TO_LISTEN:
            # The socket was removed. No process can reach this server any more.
            os.kill(server, signal.SIGTERM)
        if started_full and not is_full(started_full):
            os.kill(server, signal.SIGTERM)
        if not try_lock(users_lock, exclusive=True):
            last_use = time.monotonic()
        else:
            unlock(users_lock)
            if time.monotonic() - last_use >= idle_seconds and _stop_unused(server, start_lock, users_lock):
                return
        time.sleep(_LOOK_EVERY)


def _stop_unused(server: int, start_lock: int, users_lock: int) -> bool:
    """Stop the server, unless a user has just come. Both locks stay held until this process ends, so that others wait."""
    if not try_lock(start_lock, exclusive=True):
        return False
    if not try_lock(users_lock, exclusive=True):
        unlock(start_lock)
        return False
    os.kill(server, signal.SIGTERM)
    deadline = time.monotonic() + _SECONDS_TO_STOP
    while not _has_ended(server):
        if time.monotonic() > deadline:
            os.kill(server, signal.SIGKILL)
        time.sleep(0.01)
    return True


def _has_ended(server: int) -> bool:
    return os.waitpid(server, os.WNOHANG)[0] != 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], float(sys.argv[2]), sys.argv[3], sys.argv[4:]))
